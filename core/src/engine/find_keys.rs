//! Commands whose keys only the servers' code can find [K17]: any primary is asked by `COMMAND GETKEYS`, then the command goes where they
//! are. Its session waits meanwhile [O7]. Nothing is remembered: where the keys are may depend on the values.

use super::group::{Assembly, Group, NewPart, keyless};
use super::{Engine, RequestKey};
use crate::command::id;
use crate::metrics::Outcome;
use crate::resp::{Length, Value, parse_value, read_length, write};
use crate::router::{KeyHash, place};
use crate::slot::Slot;

/// What a server says of a call in which it finds no key: by itself, it would run that, or word the error, wherever it came [K4].
const NO_KEYS: [&[u8]; 3] = [
    b"-ERR The command has no key arguments",
    b"-ERR Invalid arguments specified for command",
    b"-ERR Invalid command specified",
];
/// The client's command was not sent; the question was, and its answer is lost.
const NOT_FOUND: &[u8] =
    b"ERR proxy: connection lost while a node was asked for the keys, command not executed";

/// What became of the question.
enum Found {
    /// The keys are in this slot.
    Keys(Slot, Vec<KeyHash>),
    /// There are none.
    None,
    /// They are in several slots.
    Apart,
    /// A node refused to tell.
    Refused,
    /// The reply is no answer.
    Nonsense,
}

impl Engine {
    /// Asks any primary for the keys of the command `raw`.
    pub(super) fn find_keys(&mut self, parent: RequestKey, raw: &[u8]) {
        let slot = self.slot_of_any_primary(parent);
        let write = |_: &NewPart<'_>, out: &mut Vec<u8>| write_question(raw, out);
        let assembly = Assembly::Keys(raw.into());
        let group = self.make_group(parent, vec![keyless(slot)], &write, 0, assembly);
        for part in self.groups[group.index()].parts.clone() {
            // The question may be asked again whatever the command does.
            self.requests[part].shape.spec = id::COMMAND_GETKEYS.spec();
        }
        self.dispatch_parts(group);
    }

    fn slot_of_any_primary(&self, request: RequestKey) -> Slot {
        let session = self.requests[request].session;
        session.map_or_else(|| Slot::of_key(b""), |session| self.any_slot(session))
    }

    /// The question of `group` is answered: sends the command `raw` where its keys are, or ends it.
    pub(super) fn route_by_keys(&mut self, group: &Group, raw: &[u8]) {
        let parent = group.parent;
        let Some(part) = group.parts.first().copied() else {
            return;
        };
        let reply = std::mem::take(&mut self.requests[part].reply);
        let outcome = self.requests[part].outcome;
        self.recount_reply(part, 0);
        self.requests.remove(part);
        if outcome == Outcome::Uncertain {
            return self.fail_parent(parent, |out| write::error(out, NOT_FOUND));
        }
        match found(&reply) {
            Found::Keys(slot, keys) => self.send_found(parent, raw, slot, keys),
            Found::None => {
                let slot = self.slot_of_any_primary(parent);
                self.send_found(parent, raw, slot, Vec::new());
            }
            Found::Refused => self.complete(parent, &reply, outcome, false),
            Found::Apart => self.fail_parent(parent, |out| {
                write::error(
                    out,
                    b"CROSSSLOT Keys in request don't hash to the same slot",
                );
            }),
            Found::Nonsense => self.fail_parent(parent, |out| {
                write::error(out, b"ERR proxy: unexpected reply of a node");
            }),
        }
    }

    /// Makes of the parent a request for the owner of `slot`, which is sent as soon as the order of its session is looked at.
    fn send_found(&mut self, key: RequestKey, raw: &[u8], slot: Slot, keys: Vec<KeyHash>) {
        let request = &mut self.requests[key];
        let shape = &mut request.shape;
        shape.slot = slot;
        shape.keyed = !keys.is_empty();
        shape.launch = super::request::Launch::Direct;
        let joined = keys.iter().copied().reduce(KeyHash::with);
        shape.key = joined.unwrap_or(KeyHash::ALL);
        if keys.len() > 1 {
            request.several_keys = keys;
        }
        let session = request.session;
        self.count_request(key, raw.len());
        self.expect_reply(key);
        self.hold(key, Some(raw));
        if let Some(session) = session {
            self.mark_unsettled(session);
        }
    }
}

/// `COMMAND GETKEYS` before the words of `raw`, a whole request in RESP.
fn write_question(raw: &[u8], out: &mut Vec<u8>) {
    let words = raw.get(1..).unwrap_or_default();
    if let Length::Known { value, next } = read_length(words, 0)
        && let Ok(count) = usize::try_from(value)
    {
        write::array(out, count + 2);
        write::bulk(out, b"COMMAND");
        write::bulk(out, b"GETKEYS");
        out.extend_from_slice(words.get(next..).unwrap_or_default());
    }
}

fn found(reply: &[u8]) -> Found {
    let keys = match parse_value(reply) {
        Ok(Some((Value::Array(keys), _))) => keys,
        Ok(Some((Value::Error(_), _))) if NO_KEYS.iter().any(|text| reply.starts_with(text)) => {
            return Found::None;
        }
        Ok(Some((Value::Error(_) | Value::BulkError(_), _))) => return Found::Refused,
        _ => return Found::Nonsense,
    };
    let mut slot = None;
    let mut hashes = Vec::with_capacity(keys.len());
    for key in keys {
        let Value::Bulk(key) = key else {
            return Found::Nonsense;
        };
        let (own, hash) = place(key);
        if *slot.get_or_insert(own) != own {
            return Found::Apart;
        }
        hashes.push(hash);
    }
    slot.map_or(Found::None, |slot| Found::Keys(slot, hashes))
}

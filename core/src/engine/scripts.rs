//! Scripts that nodes have forgotten or never heard of: EVALSHA that a node answers with NOSCRIPT, of which nothing was executed, is
//! sent again as EVAL with the body, if a client has sent that before [X1].
//!
//! Bodies are learned from EVAL by the worker that sees it, and from SCRIPT LOAD by all workers. Those of EVAL are not hashed before
//! some node does not know a script: most never are.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;

use super::request::{Retry, State};
use super::{Action, Engine, LinkKey, NodeKey, RequestKey, SessionKey};
use crate::backend::InFlight;
use crate::command::{CommandId, Spec, id};
use crate::local::sha1::hex_digest;
use crate::metrics::{Outcome, RetryReason};
use crate::resp::{Args, DecodeStep, RequestDecoder, RequestLimits, write};
use crate::router;

/// Bytes of bodies with a digest that one worker remembers, and of the longest body.
const MOST_BYTES: usize = 8 << 20;
const LONGEST: usize = 1 << 20;
/// Bytes of bodies that wait to be hashed. A program that makes a script for each call has no use for their hashes.
const MOST_UNHASHED: usize = 1 << 20;

/// What every server says of a script it does not know; some of them say more after it.
const NOSCRIPT: &[u8] = b"-NOSCRIPT No matching script.";

/// Hexadecimal digits of the name of a script.
const DIGEST_LEN: usize = 40;

/// What one worker tells the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptNews {
    /// SCRIPT LOAD of this body.
    Loaded(Arc<[u8]>),
    /// SCRIPT FLUSH.
    Flushed,
}

/// The bodies that one worker remembers. Of those with a digest, when they are too many, the ones go first that were not used again
/// for the longest time; of those without, the oldest.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    bodies: HashMap<Arc<[u8]>, Body>,
    digests: HashMap<String, Arc<[u8]>>,
    /// Bodies with a digest, in the order in which they got it or were last spared.
    hashed: VecDeque<Arc<[u8]>>,
    hashed_bytes: usize,
    /// Bodies without one, in the order in which they came.
    unhashed: VecDeque<Arc<[u8]>>,
    unhashed_bytes: usize,
    /// Whoever sends a script sends it again.
    latest: Option<Arc<[u8]>>,
}

#[derive(Debug, Default)]
struct Body {
    /// Used again since it came, or since it was last spared.
    used: Cell<bool>,
    digest: Option<String>,
}

impl Scripts {
    /// A body of EVAL. Costs a comparison if it is that of the last one, a look-up if it is known.
    fn note(&mut self, body: &[u8]) {
        if self.latest.as_deref() == Some(body) || body.len() > LONGEST {
            return;
        }
        let body = match self.bodies.get_key_value(body) {
            Some((body, known)) => {
                known.used.set(true);
                Arc::clone(body)
            }
            None => self.add(body.into()),
        };
        self.latest = Some(body);
    }

    fn add(&mut self, body: Arc<[u8]>) -> Arc<[u8]> {
        self.bodies.insert(Arc::clone(&body), Body::default());
        self.unhashed_bytes += body.len();
        self.unhashed.push_back(Arc::clone(&body));
        while self.unhashed_bytes > MOST_UNHASHED {
            let Some(oldest) = self.next_unhashed() else {
                break;
            };
            self.remove(&oldest);
        }
        body
    }

    /// A body of SCRIPT LOAD, whose digest its client is about to use.
    fn load(&mut self, body: Arc<[u8]>) {
        if body.len() <= LONGEST {
            if !self.bodies.contains_key(&body) {
                self.add(body);
            }
            self.hash_all();
        }
    }

    /// The body with this digest, as a client writes it.
    fn find(&mut self, digest: &[u8]) -> Option<Arc<[u8]>> {
        let digest = std::str::from_utf8(digest).ok()?.to_ascii_lowercase();
        if digest.len() != DIGEST_LEN {
            return None;
        }
        self.hash_all();
        let body = self.digests.get(&digest)?;
        if let Some(entry) = self.bodies.get(body) {
            entry.used.set(true);
        }
        Some(Arc::clone(body))
    }

    fn hash_all(&mut self) {
        while let Some(body) = self.next_unhashed() {
            let digest = hex_digest(&body);
            if let Some(entry) = self.bodies.get_mut(&body) {
                entry.digest = Some(digest.clone());
            }
            self.digests.insert(digest, Arc::clone(&body));
            self.hashed_bytes += body.len();
            self.hashed.push_back(body);
        }
        while self.hashed_bytes > MOST_BYTES {
            let Some(oldest) = self.hashed.pop_front() else {
                break;
            };
            let is_used = |entry: &Body| entry.used.replace(false);
            if self.bodies.get(&oldest).is_some_and(is_used) {
                self.hashed.push_back(oldest);
            } else {
                self.hashed_bytes -= oldest.len();
                self.remove(&oldest);
            }
        }
    }

    fn next_unhashed(&mut self) -> Option<Arc<[u8]>> {
        let body = self.unhashed.pop_front()?;
        self.unhashed_bytes -= body.len();
        Some(body)
    }

    /// Forgets a body that is in neither queue any more.
    fn remove(&mut self, body: &Arc<[u8]>) {
        let entry = self.bodies.remove(body);
        if let Some(digest) = entry.and_then(|entry| entry.digest) {
            self.digests.remove(&digest);
        }
        if self.latest.as_ref() == Some(body) {
            self.latest = None;
        }
    }

    fn forget_all(&mut self) {
        *self = Self::default();
    }
}

impl Engine {
    /// Another worker has seen a script loaded, or all of them flushed.
    pub fn on_script_news(&mut self, news: ScriptNews) {
        match news {
            ScriptNews::Loaded(body) => self.scripts.load(body),
            ScriptNews::Flushed => self.scripts.forget_all(),
        }
    }

    /// Remembers the body of a command that has one.
    pub(super) fn note_script(&mut self, spec: &Spec, args: Args<'_>) {
        if router::has_body(spec)
            && let Some(body) = args.get(1)
        {
            self.scripts.note(body);
        }
    }

    /// SCRIPT LOAD and SCRIPT FLUSH, on their way to all primaries. Every worker knows of them before their client has its reply.
    pub(super) fn note_script_command(&mut self, spec: &Spec, raw: &[u8]) {
        if !matches!(spec.id, id::SCRIPT_LOAD | id::SCRIPT_FLUSH) {
            return;
        }
        let mut decoder = RequestDecoder::default();
        let Some(args) = arguments(raw, &mut decoder) else {
            return;
        };
        let news = match (spec.id, args.get(2)) {
            (id::SCRIPT_LOAD, Some(body)) if body.len() <= LONGEST => {
                ScriptNews::Loaded(body.into())
            }
            (id::SCRIPT_FLUSH, how) if how.is_none_or(is_way_to_flush) => ScriptNews::Flushed,
            _ => return,
        };
        self.on_script_news(news.clone());
        self.actions.push_back(Action::Script(news));
    }

    /// A node does not know the script of `request`: EVAL does the same, at the same place in the order of the session, if the body
    /// is known here. In a transaction it is too late for that [X2]. A replica does not get scripts from its primary, which may know it.
    pub(super) fn on_unknown_script(
        &mut self,
        key: LinkKey,
        request: RequestKey,
        entry: InFlight,
        reply: &[u8],
    ) {
        self.count_answer(key, request, &entry, reply.len());
        let link = &mut self.links[key.index()];
        link.release_answered();
        link.take_body(&entry, &mut self.requests[request].body);
        link.pop();
        link.release_answered();
        let node = link.node;
        let spec = self.requests[request].shape.spec;
        let (Some(session), Some((with_body, body))) = (
            self.requests[request].session,
            with_body(spec, &self.requests[request].body, &mut self.scripts),
        ) else {
            return self.ask_owner_for_script(request, node, reply);
        };
        let again = &mut self.requests[request];
        again.shape.spec = with_body.spec();
        again.body = body;
        self.ask_again(session, request, Retry::Route, reply);
    }

    /// A script is known neither here nor at `node`: what the owner of the slot says counts, if that is another node.
    fn ask_owner_for_script(&mut self, key: RequestKey, node: NodeKey, reply: &[u8]) {
        let request = &self.requests[key];
        let owner = self.nodes.owner(&self.snapshot, request.shape.slot);
        let session = request.session.filter(|_| self.nodes[node].is_reader());
        let (Some(session), Some(node), true) = (session, owner, self.may_wait(key)) else {
            return self.fail(key, reply, Outcome::NodeError, true);
        };
        let asking = false;
        self.ask_again(session, key, Retry::At { node, asking }, reply);
    }

    fn ask_again(&mut self, session: SessionKey, key: RequestKey, how: Retry, reply: &[u8]) {
        let bytes = self.requests[key].body.len();
        self.count_request(key, bytes);
        let request = &mut self.requests[key];
        // What is said if a conflicting request behind it was executed meanwhile: it is true.
        request.reply.clear();
        request.reply.extend_from_slice(reply);
        request.state = State::Refused(how);
        self.metrics.retries[RetryReason::Script.index()] += 1;
        self.disturb(key);
        self.mark_unsettled(session);
    }
}

/// Whether this error says that the node does not know the script of an EVALSHA, so that nothing was executed. A script can make
/// these words its own result; one that does so and writes must be prepared to run twice.
pub(super) fn is_unknown_script(spec: &Spec, reply: &[u8]) -> bool {
    matches!(spec.id, id::EVALSHA | id::EVALSHA_RO) && reply.starts_with(NOSCRIPT)
}

/// The same call with the body instead of its name; `None` if that is not known.
fn with_body(spec: &Spec, raw: &[u8], scripts: &mut Scripts) -> Option<(CommandId, BytesMut)> {
    let (command, name): (_, &[u8]) = match spec.id {
        id::EVALSHA => (id::EVAL, b"EVAL"),
        id::EVALSHA_RO => (id::EVAL_RO, b"EVAL_RO"),
        _ => return None,
    };
    let mut decoder = RequestDecoder::default();
    let args = arguments(raw, &mut decoder)?;
    let body = scripts.find(args.get(1)?)?;
    let mut words = vec![name, &body];
    words.extend(args.iter().skip(2));
    let mut call = Vec::new();
    write::command(&mut call, &words);
    Some((command, BytesMut::from(call.as_slice())))
}

fn is_way_to_flush(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"SYNC") || word.eq_ignore_ascii_case(b"ASYNC")
}

/// The arguments of a request that is whole.
fn arguments<'a>(raw: &'a [u8], decoder: &'a mut RequestDecoder) -> Option<Args<'a>> {
    match decoder.decode(raw, &RequestLimits::DEFAULT) {
        Ok(DecodeStep::Command { .. }) => Some(Args::new(raw, decoder.ranges())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, MOST_BYTES, MOST_UNHASHED, Scripts, hex_digest};

    /// Bodies of this length, all different.
    fn body(n: usize, length: usize) -> Vec<u8> {
        let mut body = format!("return {n} --").into_bytes();
        body.resize(length, b'x');
        body
    }

    fn knows(scripts: &mut Scripts, body: &[u8]) -> bool {
        let found = scripts.find(hex_digest(body).as_bytes());
        assert!(found.as_deref().is_none_or(|found| found == body));
        found.is_some()
    }

    /// What is remembered, after a look at the books.
    fn bytes(scripts: &Scripts) -> usize {
        let queued = scripts.hashed.iter().chain(&scripts.unhashed);
        let bytes = scripts.hashed_bytes + scripts.unhashed_bytes;
        assert_eq!(bytes, queued.map(|body| body.len()).sum::<usize>());
        assert_eq!(
            bytes,
            scripts.bodies.keys().map(|body| body.len()).sum::<usize>()
        );
        assert_eq!(scripts.digests.len(), scripts.hashed.len());
        bytes
    }

    #[test]
    fn a_body_is_found_by_its_digest_in_any_case() {
        let mut scripts = Scripts::default();
        scripts.load(b"return 2".as_slice().into());
        scripts.note(b"return 1");
        scripts.note(b"return 1");
        assert_eq!(scripts.digests.len(), 1, "not hashed before it is needed");
        let digest = hex_digest(b"return 1").to_uppercase();
        let found = scripts.find(digest.as_bytes());
        assert_eq!(found.as_deref(), Some(b"return 1".as_slice()));
        assert!(knows(&mut scripts, b"return 2"));
        assert!(!knows(&mut scripts, b"return 3"));
        assert!(scripts.find(b"\xff").is_none() && scripts.find(b"short").is_none());
        scripts.forget_all();
        assert!(!knows(&mut scripts, b"return 1") && !knows(&mut scripts, b"return 2"));
        scripts.note(b"return 1");
        assert!(knows(&mut scripts, b"return 1"));
    }

    #[test]
    fn bodies_take_so_much_and_no_more() {
        let mut scripts = Scripts::default();
        let length = 64 << 10;
        for n in 0..3 * MOST_BYTES / length {
            // What is used again and again stays.
            scripts.note(b"return 'often'");
            scripts.note(&body(n, length));
            assert!(n % 5 != 0 || knows(&mut scripts, &body(n, length)));
            assert!(bytes(&scripts) <= MOST_BYTES + MOST_UNHASHED);
        }
        assert!(knows(&mut scripts, b"return 'often'"));
        assert!(!knows(&mut scripts, &body(0, length)));
        scripts.note(&body(1, LONGEST + 1));
        assert!(!knows(&mut scripts, &body(1, LONGEST + 1)));
    }

    #[test]
    fn scripts_made_for_each_call_are_never_hashed() {
        let mut scripts = Scripts::default();
        scripts.load(b"return 'loaded'".as_slice().into());
        for n in 0..100 {
            scripts.note(&body(n, LONGEST / 10));
        }
        assert_eq!(scripts.digests.len(), 1);
        assert!(bytes(&scripts) <= MOST_UNHASHED + 100);
        assert!(knows(&mut scripts, b"return 'loaded'"));
    }
}

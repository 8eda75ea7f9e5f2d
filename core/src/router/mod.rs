//! From a command to the plan of where it goes. Pure: the topology is not consulted, only the command table and the keys.

mod key_hash;

pub use key_hash::KeyHash;

use crate::command::{Class, KeyList, KeyOutcome, Spec, effective_class, extract_keys, id};
use crate::resp::Args;
use crate::slot::Slot;

/// Where a command goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// The proxy answers it itself.
    Local,
    /// To the owner of one slot, unchanged.
    Single {
        /// The slot of all its keys.
        slot: Slot,
        /// What its keys are, for the order of conflicting requests [O2].
        key: KeyHash,
    },
    /// As `Single`, and its body is worth remembering: EVAL, EVAL_RO [X1].
    Script {
        /// The slot of all its keys.
        slot: Slot,
        /// What its keys are.
        key: KeyHash,
    },
    /// One part per slot; the keys are in the caller's list [P1].
    Split,
    /// To every primary, merged [Q1].
    FanOut,
    /// To every primary: how many replicas have what was written [A4].
    Acks,
    /// Keyless: to any one primary, unchanged [K4] [K6].
    AnyPrimary,
    /// To the primary that owns the slot, though the command has no key.
    Keyless {
        /// The slot that picks the node.
        slot: Slot,
    },
    /// SCAN over all primaries.
    Scan,
    /// Over a connection of its own, on which it may wait [B1].
    Blocking {
        /// The slot of all its keys; `None` if they cannot be made out, which is for any server to say [K4].
        slot: Option<Slot>,
    },
    /// The proxy answers it, when what it subscribes to is subscribed to.
    Subscription,
    /// To the owner of its keys, which a node tells [K17].
    FindKeys,
    /// Not sent anywhere.
    Reject(Reject),
}

/// Why a command is not sent anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// Wrong number of arguments [K8].
    Arity,
    /// Its keys are in several slots and it cannot be split [K7].
    CrossSlot,
    /// More keys than a split command may have [P8].
    TooManyKeys,
    /// Never offered through the proxy.
    NotSupported,
    /// Keeps state on its connection, which is not offered yet.
    NotYet,
    /// CLUSTER COUNTKEYSINSLOT and GETKEYSINSLOT with a bad slot number.
    InvalidSlot,
}

/// What a plan depends on besides the command itself.
#[derive(Debug, Clone, Copy)]
pub struct Keyspace {
    /// Keys of one split command [P8].
    pub split_max_keys: usize,
    /// One server has all keys: no command is split, fanned out or refused for its keys' slots [H7].
    pub undivided: bool,
}

/// Where the command `spec` with `args` goes. `keys` is overwritten with the argument indexes of its keys.
///
/// Outcomes: local; rejected; one slot; split over slots; all primaries; any primary; the owner of a keyless slot; SCAN; a connection
/// of its own.
#[must_use]
pub fn plan(spec: &Spec, args: Args<'_>, keys: &mut KeyList, space: &Keyspace) -> Plan {
    if !spec.arity_ok(args.len()) {
        return Plan::Reject(Reject::Arity);
    }
    match effective_class(spec, args) {
        Class::Single => keyed(spec, args, keys, space),
        Class::SameSlot => match keyed(spec, args, keys, space) {
            Plan::Single { slot, key } if has_body(spec) => Plan::Script { slot, key },
            other => other,
        },
        // Every node counts its own connections, whoever owns the slot.
        Class::Split if spec.id == id::PUBSUB_SHARDNUMSUB => everywhere(space),
        Class::Split => match keyed(spec, args, keys, space) {
            Plan::Reject(Reject::CrossSlot) if keys.as_slice().len() > space.split_max_keys => {
                Plan::Reject(Reject::TooManyKeys)
            }
            uneven @ Plan::Reject(Reject::CrossSlot) if !has_whole_groups(spec, args, keys) => {
                uneven
            }
            Plan::Reject(Reject::CrossSlot) => Plan::Split,
            other => other,
        },
        Class::FanMasters if is_wait(spec) => Plan::Acks,
        Class::FanMasters => everywhere(space),
        Class::FanOne => fan_one(spec, args, space),
        // The server's own cursor, as it is.
        Class::Scan if spec.name == "scan" && space.undivided => Plan::AnyPrimary,
        Class::Scan if spec.name == "scan" => Plan::Scan,
        // CLUSTERSCAN: its cursor routes as a key does, tag and all, though it is none [S12].
        Class::Scan => match keyed(spec, args, keys, space) {
            Plan::Single { slot, .. } => Plan::Single {
                slot,
                key: KeyHash::ALL,
            },
            other => other,
        },
        Class::Local => Plan::Local,
        Class::Blocking => match keyed(spec, args, keys, space) {
            Plan::Single { slot, .. } => Plan::Blocking { slot: Some(slot) },
            Plan::AnyPrimary => Plan::Blocking { slot: None },
            other => other,
        },
        Class::PubSub | Class::ShardedPubSub => Plan::Subscription,
        Class::Transaction => Plan::Reject(Reject::NotYet),
        Class::Container | Class::Forbidden => Plan::Reject(Reject::NotSupported),
    }
}

/// As [`plan`], for WATCH: one slot, or why not [W1].
#[must_use]
pub fn plan_watch(spec: &Spec, args: Args<'_>, keys: &mut KeyList, space: &Keyspace) -> Plan {
    keyed(spec, args, keys, space)
}

/// As [`plan`], in a transaction.
#[must_use]
pub fn plan_queued(spec: &Spec, args: Args<'_>, keys: &mut KeyList, space: &Keyspace) -> Plan {
    let plan = plan(spec, args, keys, space);
    if plan == Plan::Reject(Reject::Arity) && spec.arity_ok(args.len()) {
        return odd_pairs(args, space);
    }
    plan
}

/// MSET and MSETNX without the last value are queued by the servers, and fail alone at EXEC.
fn odd_pairs(args: Args<'_>, space: &Keyspace) -> Plan {
    let mut slots = args.iter().skip(1).step_by(2).map(place);
    let Some((slot, key)) = slots.next() else {
        return Plan::AnyPrimary;
    };
    if !space.undivided && slots.any(|(other, _)| other != slot) {
        return Plan::Reject(Reject::CrossSlot);
    }
    Plan::Single { slot, key }
}

/// The slot that [`plan`] will give for a command of which only the first arguments are there, if they settle it.
#[must_use]
pub fn slot_known_early(spec: &Spec, args: Args<'_>) -> Option<Slot> {
    let is_plain = matches!(effective_class(spec, args), Class::Single | Class::SameSlot);
    let index = usize::from(spec.fixed_key);
    (is_plain && index != 0).then_some(())?;
    Some(Slot::of_key(args.get(index)?))
}

/// The slot of key `key`, and what it is for the order rules.
#[must_use]
pub fn place(key: &[u8]) -> (Slot, KeyHash) {
    (Slot::of_key(key), KeyHash::of(key))
}

#[inline]
fn keyed(spec: &Spec, args: Args<'_>, keys: &mut KeyList, space: &Keyspace) -> Plan {
    if spec.fixed_key != 0
        && let Some(key) = args.get(usize::from(spec.fixed_key))
    {
        let (slot, key) = place(key);
        return Plan::Single { slot, key };
    }
    match extract_keys(spec, args, keys) {
        KeyOutcome::Keys => one_slot(args, keys, space),
        KeyOutcome::OddArguments => Plan::Reject(Reject::Arity),
        KeyOutcome::NoKeys if is_by_slot_number(spec) => by_slot_number(args),
        KeyOutcome::AskServer if !space.undivided => Plan::FindKeys,
        KeyOutcome::NoKeys | KeyOutcome::Verbatim | KeyOutcome::AskServer => Plan::AnyPrimary,
    }
}

/// Whether each key of a command that is split is followed by all that belongs to it. Of a command of the table it is.
fn has_whole_groups(spec: &Spec, args: Args<'_>, keys: &KeyList) -> bool {
    if !spec.is_learned() {
        return true;
    }
    let step = usize::from(spec.key_step);
    let last = keys.as_slice().last().map_or(0, |last| *last as usize);
    step == 1 || last + step == args.len()
}

/// To the owner of all the keys; of an undivided keyspace that is the one of any of them.
fn one_slot(args: Args<'_>, keys: &KeyList, space: &Keyspace) -> Plan {
    let mut indexes = keys
        .as_slice()
        .iter()
        .filter_map(|index| args.get(*index as usize));
    let Some(first) = indexes.next() else {
        return Plan::AnyPrimary;
    };
    let (slot, mut key) = place(first);
    for other in indexes {
        if !space.undivided && Slot::of_key(other) != slot {
            return Plan::Reject(Reject::CrossSlot);
        }
        key = key.with(KeyHash::of(other));
    }
    Plan::Single { slot, key }
}

/// A command that concerns every primary.
fn everywhere(space: &Keyspace) -> Plan {
    if space.undivided {
        Plan::AnyPrimary
    } else {
        Plan::FanOut
    }
}

fn fan_one(spec: &Spec, args: Args<'_>, space: &Keyspace) -> Plan {
    match spec.name {
        // A stable node per channel keeps each publisher's order [Q9].
        "publish" => args
            .get(1)
            .map_or(Plan::AnyPrimary, |channel| Plan::Keyless {
                slot: Slot::of_key(channel),
            }),
        "randomkey" => everywhere(space),
        _ => Plan::AnyPrimary,
    }
}

/// Commands whose slot is an argument, not a key's [H6].
fn is_by_slot_number(spec: &Spec) -> bool {
    matches!(
        spec.name,
        "cluster|countkeysinslot" | "cluster|getkeysinslot"
    )
}

fn by_slot_number(args: Args<'_>) -> Plan {
    let number = args
        .get(2)
        .and_then(|text| std::str::from_utf8(text).ok())
        .and_then(|text| text.parse::<u16>().ok());
    match number.and_then(Slot::new) {
        Some(slot) => Plan::Keyless { slot },
        None => Plan::Reject(Reject::InvalidSlot),
    }
}

/// WAIT and WAITAOF count the acknowledgements of one connection's writes; on a shared connection the number would be false [A1].
fn is_wait(spec: &Spec) -> bool {
    matches!(spec.name, "wait" | "waitaof")
}

/// Whether the first argument is a script.
#[must_use]
pub fn has_body(spec: &Spec) -> bool {
    matches!(spec.id, id::EVAL | id::EVAL_RO)
}

/// Whether an error of the command may be any text, so that only the servers' own sentences are refusals [E2].
#[must_use]
pub fn may_say_anything(spec: &Spec) -> bool {
    runs_code(spec) || spec.is_learned()
}

/// Whether the command runs code of users, which takes what time it takes and can return any text as an error.
#[must_use]
pub fn runs_code(spec: &Spec) -> bool {
    spec.name.starts_with("eval") || spec.name.starts_with("fcall")
}

#[cfg(test)]
mod tests;

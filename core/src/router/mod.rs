//! From a command to the plan of where it goes. Pure: the topology is not consulted, only the command table and the keys.

mod key_hash;

pub use key_hash::KeyHash;

use crate::command::{Class, KeyList, KeyOutcome, Spec, effective_class, extract_keys};
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
    /// One part per slot; the keys are in the caller's list [P1].
    Split,
    /// To every primary, merged [Q1].
    FanOut,
    /// Keyless: to any one primary, unchanged [K4] [K6].
    AnyPrimary,
    /// To the primary that owns the slot, though the command has no key.
    Keyless {
        /// The slot that picks the node.
        slot: Slot,
    },
    /// SCAN over all primaries.
    Scan,
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

/// Where the command `spec` with `args` goes. `keys` is overwritten with the argument indexes of its keys.
///
/// Outcomes: local; rejected; one slot; split over slots; all primaries; any primary; the owner of a keyless slot; SCAN.
#[must_use]
pub fn plan(spec: &Spec, args: Args<'_>, keys: &mut KeyList, split_max_keys: usize) -> Plan {
    if !spec.arity_ok(args.len()) {
        return Plan::Reject(Reject::Arity);
    }
    match effective_class(spec, args) {
        Class::Single | Class::SameSlot => keyed(spec, args, keys),
        Class::Split => match keyed(spec, args, keys) {
            Plan::Reject(Reject::CrossSlot) if keys.as_slice().len() > split_max_keys => {
                Plan::Reject(Reject::TooManyKeys)
            }
            Plan::Reject(Reject::CrossSlot) => Plan::Split,
            other => other,
        },
        Class::FanMasters if is_wait(spec) => Plan::Reject(Reject::NotYet),
        Class::FanMasters => Plan::FanOut,
        Class::FanOne => fan_one(spec, args),
        Class::Scan if spec.name == "scan" => Plan::Scan,
        Class::Local => Plan::Local,
        Class::Scan
        | Class::Transaction
        | Class::Blocking
        | Class::PubSub
        | Class::ShardedPubSub => Plan::Reject(Reject::NotYet),
        Class::Container | Class::Forbidden => Plan::Reject(Reject::NotSupported),
    }
}

/// As [`plan`], in a transaction: what blocks elsewhere does not there [M9].
#[must_use]
pub fn plan_queued(spec: &Spec, args: Args<'_>, keys: &mut KeyList, split_max_keys: usize) -> Plan {
    match effective_class(spec, args) {
        Class::Blocking => keyed(spec, args, keys),
        _ => plan(spec, args, keys, split_max_keys),
    }
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
fn keyed(spec: &Spec, args: Args<'_>, keys: &mut KeyList) -> Plan {
    if spec.fixed_key != 0
        && let Some(key) = args.get(usize::from(spec.fixed_key))
    {
        let (slot, key) = place(key);
        return Plan::Single { slot, key };
    }
    match extract_keys(spec, args, keys) {
        KeyOutcome::Keys => one_slot(args, keys),
        KeyOutcome::OddArguments => Plan::Reject(Reject::Arity),
        KeyOutcome::NoKeys if is_by_slot_number(spec) => by_slot_number(args),
        KeyOutcome::NoKeys | KeyOutcome::Verbatim => Plan::AnyPrimary,
    }
}

fn one_slot(args: Args<'_>, keys: &KeyList) -> Plan {
    let mut indexes = keys
        .as_slice()
        .iter()
        .filter_map(|index| args.get(*index as usize));
    let Some(first) = indexes.next() else {
        return Plan::AnyPrimary;
    };
    let (slot, mut key) = place(first);
    for other in indexes {
        if Slot::of_key(other) != slot {
            return Plan::Reject(Reject::CrossSlot);
        }
        key = key.with(KeyHash::of(other));
    }
    Plan::Single { slot, key }
}

fn fan_one(spec: &Spec, args: Args<'_>) -> Plan {
    match spec.name {
        // A stable node per channel keeps each publisher's order [Q9].
        "publish" => args
            .get(1)
            .map_or(Plan::AnyPrimary, |channel| Plan::Keyless {
                slot: Slot::of_key(channel),
            }),
        "randomkey" => Plan::FanOut,
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

/// Whether the command runs code that can return any text as an error, so that only the servers' own sentences are refusals [E2].
#[must_use]
pub fn runs_code(spec: &Spec) -> bool {
    spec.name.starts_with("eval") || spec.name.starts_with("fcall")
}

#[cfg(test)]
mod tests;

//! How a learned command is routed, by its key specifications, its flags and its tips [K12] [K16] [O13].

use crate::command::key_spec::{BeginSearch, FindKeys, KeyFlags, KeySpec};
use crate::command::{Categories, Class, Flags, KeyRule, Spec};

/// How the replies of several shards become one: the tip `response_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The reply of any shard, if none failed.
    AllSucceeded,
    /// The first reply that is no error.
    OneSucceeded,
    /// The sum of integers.
    Sum,
    /// The least integer.
    Min,
    /// The greatest integer.
    Max,
    /// 1 where all integers are not 0.
    And,
    /// 1 where an integer is not 0.
    Or,
    /// One array with the elements in the order of the keys: what holds for commands with keys that say nothing.
    InKeyOrder,
}

/// The policy of a learned command; none for `special` and for what is not known.
#[must_use]
pub fn response_policy(spec: &Spec) -> Option<Policy> {
    match tip(spec, "response_policy:") {
        None => (!spec.keys.is_empty()).then_some(Policy::InKeyOrder),
        Some("all_succeeded") => Some(Policy::AllSucceeded),
        Some("one_succeeded") => Some(Policy::OneSucceeded),
        Some("agg_sum") => Some(Policy::Sum),
        Some("agg_min") => Some(Policy::Min),
        Some("agg_max") => Some(Policy::Max),
        Some("agg_logical_and") => Some(Policy::And),
        Some("agg_logical_or") => Some(Policy::Or),
        Some(_) => None,
    }
}

fn tip(spec: &Spec, name: &str) -> Option<&'static str> {
    spec.tips.iter().find_map(|tip| tip.strip_prefix(name))
}

/// Why a learned command is not offered; the end of a sentence. None for one that is.
pub(in crate::command) fn objection(spec: &Spec) -> Option<&'static str> {
    let has = |flag| spec.flags.contains(flag);
    if spec.subcommands > 0 {
        return None;
    }
    if has(Flags::BLOCKING) {
        return Some("it may block");
    }
    if has(Flags::PUBSUB) {
        return Some("it is about channels, which need a connection of its own");
    }
    // Such as a WATCH that was renamed.
    if !has(Flags::MODULE) && !has(Flags::WRITE) && !has(Flags::READONLY) {
        return Some("it neither reads nor writes, so it may change what its connection is");
    }
    if !spec.keys.is_empty() || spec.rule == KeyRule::AskServer {
        return None;
    }
    if has(Flags::ADMIN) || spec.categories.contains(Categories::ADMIN) {
        return Some("it has no key and is for administrators");
    }
    if has(Flags::NOSCRIPT) && has(Flags::NO_MULTI) {
        return Some("it has no key and may change what its connection is");
    }
    match tip(spec, "request_policy:") {
        Some("all_shards" | "all_nodes") if response_policy(spec).is_some() => None,
        Some("all_shards" | "all_nodes") => {
            Some("it has no key, and no response_policy that says how replies are merged")
        }
        _ => Some("it has no key, and no request_policy that says which nodes it is for"),
    }
}

/// How its keys are found: by specifications, unless they say less than the module's own code, which then is what servers ask.
pub(super) fn rule(spec: &Spec) -> KeyRule {
    let is_blind = |key: &KeySpec| {
        key.begin == BeginSearch::Unknown
            || key.find == FindKeys::Unknown
            || (spec.flags.contains(Flags::MOVABLE_KEYS)
                && (key.flags.contains(KeyFlags::VARIABLE)
                    || key.flags.contains(KeyFlags::INCOMPLETE)))
    };
    let has_none = spec.keys.is_empty() && spec.flags.contains(Flags::MOVABLE_KEYS);
    if has_none || spec.keys.iter().any(is_blind) {
        KeyRule::AskServer
    } else {
        KeyRule::Specs
    }
}

pub(super) fn class(spec: &Spec) -> Class {
    if spec.subcommands > 0 {
        Class::Container
    } else if objection(spec).is_some() {
        Class::Forbidden
    } else if spec.rule == KeyRule::AskServer {
        Class::SameSlot
    } else if spec.keys.is_empty() {
        Class::FanMasters
    } else if is_split(spec) {
        Class::Split
    } else if fixed_key(spec) != 0 {
        Class::Single
    } else {
        Class::SameSlot
    }
}

/// The only key of every call, if there is one such; else 0.
pub(super) fn fixed_key(spec: &Spec) -> u8 {
    match spec.keys {
        [
            KeySpec {
                begin: BeginSearch::Index(index),
                find: FindKeys::Range { last: 0, .. },
                ..
            },
        ] if spec.rule == KeyRule::Specs => *index,
        _ => 0,
    }
}

/// Whether the replies of several shards make that of the whole, and it is plain what belongs to each key: `step` arguments, the
/// key the first of them, from the first key to the end, or keys alone and then what belongs to all of them.
fn is_split(spec: &Spec) -> bool {
    let is_regular = match spec.keys {
        [
            KeySpec {
                begin: BeginSearch::Index(_),
                find: FindKeys::Range { last, step, limit },
                ..
            },
        ] => *last < 0 && *limit <= 1 && (*step == 1 || *last == -1),
        _ => false,
    };
    is_regular
        && tip(spec, "request_policy:") == Some("multi_shard")
        && response_policy(spec).is_some()
}

/// Distance between keys of a command that is split.
pub(super) fn key_step(spec: &Spec) -> u8 {
    match (spec.class, spec.keys) {
        (
            Class::Split,
            [
                KeySpec {
                    find: FindKeys::Range { step, .. },
                    ..
                },
            ],
        ) => *step,
        _ => 1,
    }
}

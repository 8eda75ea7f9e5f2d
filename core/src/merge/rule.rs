//! Which command is merged how.

use crate::command::Spec;
use crate::command::learned::{Policy, response_policy};

/// How the replies of the parts are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Combine {
    /// Sum of integers.
    Sum,
    /// `+OK` if all parts say so.
    AllOk,
    /// One array, the elements of the parts at their positions.
    Elements,
    /// One array, the parts one behind the other, without keys of slots the answering node does not own.
    Keys,
    /// Arrays of 0 and 1 of equal length, or one such number: 1 where all say 1.
    And,
    /// One array, the elements of all parts, each once.
    Union,
    /// Arrays of names and numbers, with the same names: the sum of each number.
    Counts,
    /// The greatest of integers.
    Greatest,
    /// The same: 1 where one says so.
    Or,
    /// The least integer.
    Min,
    /// Arrays of integers of equal length: the least of each.
    LeastOfEach,
    /// The first reply, if no part failed.
    First,
    /// The first reply that is no error.
    FirstGood,
    /// The reply all parts agree on.
    Same,
    /// OK if one part says so; else the error that says most.
    AnyOk,
    /// The first reply that is not nil.
    FirstNonNil,
    /// The reply of the part that runs a script, else the first.
    Busiest,
}

/// What is said when some parts failed and others did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The first error alone: nothing was changed.
    Bare,
    /// `PARTIAL proxy: n of m parts applied, ...`.
    PartsApplied,
    /// `PARTIAL proxy: flushed n of m masters, ...`.
    Flushed,
}

/// How a split or fanned-out command is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub(super) combine: Combine,
    pub(super) failure: Failure,
}

impl Rule {
    /// `+OK` if all parts say so, else the first error.
    pub const ALL_OK: Self = Self {
        combine: Combine::AllOk,
        failure: Failure::Bare,
    };

    /// The rule of a command; `None` for a command that is never split or fanned out (or not yet).
    #[must_use]
    pub fn for_spec(spec: &Spec) -> Option<Self> {
        if spec.is_learned() {
            return Self::for_learned(spec);
        }
        Self::for_name(spec.name)
    }

    /// By the tips of its servers [K16].
    fn for_learned(spec: &Spec) -> Option<Self> {
        let combine = match response_policy(spec)? {
            Policy::AllSucceeded => Combine::First,
            Policy::OneSucceeded => Combine::FirstGood,
            Policy::Sum => Combine::Sum,
            Policy::Min => Combine::Min,
            Policy::Max => Combine::Greatest,
            Policy::And => Combine::And,
            Policy::Or => Combine::Or,
            Policy::InKeyOrder => Combine::Elements,
        };
        let failure = if spec.readonly {
            Failure::Bare
        } else {
            Failure::PartsApplied
        };
        Some(Self { combine, failure })
    }

    /// As [`Self::for_spec`], by the name in the command table (`dbsize`, `script|load`).
    #[must_use]
    pub fn for_name(name: &str) -> Option<Self> {
        let (combine, failure) = match name {
            "exists" | "dbsize" => (Combine::Sum, Failure::Bare),
            "del" | "unlink" | "touch" => (Combine::Sum, Failure::PartsApplied),
            "mset" | "script|flush" | "function|delete" | "function|flush" | "function|restore" => {
                (Combine::AllOk, Failure::PartsApplied)
            }
            "flushall" | "flushdb" => (Combine::AllOk, Failure::Flushed),
            "wait" => (Combine::Min, Failure::Bare),
            "waitaof" => (Combine::LeastOfEach, Failure::Bare),
            "mget" => (Combine::Elements, Failure::Bare),
            "keys" => (Combine::Keys, Failure::Bare),
            "script|exists" => (Combine::And, Failure::Bare),
            "pubsub|channels" | "pubsub|shardchannels" => (Combine::Union, Failure::Bare),
            "pubsub|numsub" | "pubsub|shardnumsub" => (Combine::Counts, Failure::Bare),
            "pubsub|numpat" => (Combine::Greatest, Failure::Bare),
            "script|load" | "function|load" => (Combine::Same, Failure::PartsApplied),
            "script|kill" | "function|kill" => (Combine::AnyOk, Failure::Bare),
            "randomkey" => (Combine::FirstNonNil, Failure::Bare),
            "function|stats" => (Combine::Busiest, Failure::Bare),
            _ => return None,
        };
        Some(Self { combine, failure })
    }

    /// Whether the command reads and its reply is made of those of all parts, so that one without some of them is incomplete but
    /// not wrong [Q2].
    #[must_use]
    pub fn reads_every_part(self) -> bool {
        let of_all = match self.combine {
            Combine::Sum
            | Combine::Elements
            | Combine::Keys
            | Combine::And
            | Combine::Union
            | Combine::Counts
            | Combine::Greatest
            | Combine::Or
            | Combine::Min
            | Combine::LeastOfEach => true,
            Combine::AllOk
            | Combine::First
            | Combine::FirstGood
            | Combine::Same
            | Combine::AnyOk
            | Combine::FirstNonNil
            | Combine::Busiest => false,
        };
        of_all && self.failure == Failure::Bare
    }
}

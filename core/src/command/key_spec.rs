//! Key specifications as Redis 7.0 introduced them: where a group of keys begins, and how to go on from there [K3].

use crate::resp::Args;

/// One group of keys of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpec {
    /// Where the group begins.
    pub begin: BeginSearch,
    /// Which arguments from there on are keys.
    pub find: FindKeys,
    /// What happens to the keys.
    pub flags: KeyFlags,
}

/// Where a group of keys begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginSearch {
    /// At this argument.
    Index(u8),
    /// After a keyword.
    Keyword {
        /// The keyword, compared without case.
        word: &'static str,
        /// The argument to begin at, upwards; if negative, counted from the end, downwards.
        from: i8,
    },
    /// The specification cannot say; a [`super::KeyRule`] does.
    Unknown,
}

/// Which arguments of a group are keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FindKeys {
    /// All up to a last one.
    Range {
        /// Counted from the begin; if negative, from the end of the arguments.
        last: i8,
        /// Distance between keys.
        step: u8,
        /// With `last` -1: only the first 1/`limit` of what is left; 0 and 1 = all.
        limit: u8,
    },
    /// As many as an argument says.
    KeyNum {
        /// Where the number stands, counted from the begin.
        count_at: u8,
        /// Where the first key stands, counted from the begin.
        first: u8,
        /// Distance between keys.
        step: u8,
    },
    /// The specification cannot say.
    Unknown,
}

/// What a command does with the keys of a group: one bit for each name of [`KeyFlags::NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyFlags(pub(super) u16);

impl KeyFlags {
    /// The servers' names in bit order.
    pub const NAMES: [&'static str; 11] = [
        "RO",
        "RW",
        "OW",
        "RM",
        "access",
        "update",
        "insert",
        "delete",
        "not_key",
        "incomplete",
        "variable_flags",
    ];
    pub(super) const NOT_KEY: Self = Self(1 << 8);
    pub(super) const INCOMPLETE: Self = Self(1 << 9);
    pub(super) const VARIABLE: Self = Self(1 << 10);
    pub(super) const RO_ACCESS: Self = Self(1 | 1 << 4);
    pub(super) const RW_ACCESS_UPDATE: Self = Self(1 << 1 | 1 << 4 | 1 << 5);
    pub(super) const OW_UPDATE: Self = Self(1 << 2 | 1 << 5);
    pub(super) const RM_DELETE: Self = Self(1 << 3 | 1 << 7);
    pub(super) const RW_DELETE: Self = Self(1 << 1 | 1 << 7);

    /// The names of the flags set, in bit order.
    pub fn names(self) -> impl Iterator<Item = &'static str> + Clone {
        Self::NAMES
            .into_iter()
            .enumerate()
            .filter_map(move |(bit, name)| (self.0 & 1 << bit != 0).then_some(name))
    }

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The arguments of one group: `first`, `first + step`, ... up to and including `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyRange {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) step: usize,
}

/// What one specification finds in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Keys(KeyRange),
    Nothing,
    /// The call does not fit the specification, so the server will refuse it [K4].
    Misfit,
}

impl KeySpec {
    /// The keys of this group in a call; every index of the range is below `args.len()`.
    #[inline]
    pub(super) fn evaluate(&self, args: Args<'_>) -> Found {
        let argc = args.len();
        let begin = match self.begin {
            BeginSearch::Index(index) => usize::from(index),
            BeginSearch::Keyword { word, from } => match after_keyword(args, word, from) {
                Some(begin) => begin,
                None => return Found::Nothing,
            },
            BeginSearch::Unknown => return Found::Nothing,
        };
        match self.find {
            FindKeys::Range { last, step, limit } => range(begin, argc, last, step, limit),
            FindKeys::KeyNum {
                count_at,
                first,
                step,
            } => {
                let count = args
                    .get(begin + usize::from(count_at))
                    .and_then(parse_integer);
                counted(count, begin + usize::from(first), argc, step)
            }
            FindKeys::Unknown => Found::Nothing,
        }
    }
}

fn range(begin: usize, argc: usize, last: i8, step: u8, limit: u8) -> Found {
    let distance = usize::from(last.unsigned_abs());
    let last_key = if last >= 0 {
        begin + distance
    } else if begin >= argc {
        // "The rest of the arguments", and there is no rest: PFMERGE with a destination only, SUNSUBSCRIBE.
        return Found::Nothing;
    } else if limit > 1 {
        match ((argc - begin) / usize::from(limit)).checked_sub(distance) {
            Some(offset) => begin + offset,
            None => return Found::Misfit,
        }
    } else {
        match argc.checked_sub(distance) {
            Some(last_key) => last_key,
            None => return Found::Misfit,
        }
    };
    if last_key >= argc || last_key < begin {
        return Found::Misfit;
    }
    Found::Keys(KeyRange {
        first: begin,
        last: last_key,
        step: usize::from(step.max(1)),
    })
}

/// Keys announced by a number: `count` of them from `first` on. A count that is no integer, is negative, or leads past the end
/// of the arguments is for the server to word [K4].
fn counted(count: Option<i64>, first: usize, argc: usize, step: u8) -> Found {
    let step = usize::from(step.max(1));
    match count.and_then(|count| usize::try_from(count).ok()) {
        Some(0) => Found::Nothing,
        Some(count) => match (count - 1)
            .checked_mul(step)
            .and_then(|span| first.checked_add(span))
        {
            Some(last) if last < argc => Found::Keys(KeyRange { first, last, step }),
            _ => Found::Misfit,
        },
        None => Found::Misfit,
    }
}

/// The argument after `word`, searched upwards from `from`, or downwards from the end if that is negative.
pub(super) fn after_keyword(args: Args<'_>, word: &str, from: i8) -> Option<usize> {
    let is_word = |index: &usize| {
        args.get(*index)
            .is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    };
    let distance = usize::from(from.unsigned_abs());
    let at = if from >= 0 {
        (distance..args.len()).find(is_word)
    } else {
        (1..=args.len().checked_sub(distance)?).rev().find(is_word)
    };
    at.map(|at| at + 1)
}

/// A decimal 64-bit integer exactly as servers accept one (`string2ll`): an optional minus, no plus, no blanks, no leading
/// zeros, not empty.
pub(super) fn parse_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        [b'0'] => return (digits.len() == text.len()).then_some(0),
        [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => {}
        _ => return None,
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

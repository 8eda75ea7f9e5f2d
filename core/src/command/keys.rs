//! From the arguments of a call to the positions of its keys. Total: any arguments give keys, no keys, or the advice to let
//! the server word the error [K9].

use super::key_spec::{Found, KeyFlags, KeyRange};
use super::{Class, KeyRule, Spec};
use crate::resp::Args;

/// What [`extract_keys`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOutcome {
    /// At least one key; the list holds the argument indexes.
    Keys,
    /// The call has no keys: any node may run it [K6].
    NoKeys,
    /// The call is malformed: forward it unchanged to any primary, which words the error [K4].
    Verbatim,
    /// Only a server can tell, by `COMMAND GETKEYS` [K17].
    AskServer,
    /// Keys and values do not come in pairs: an arity error, [`super::write_arity_error`].
    OddArguments,
}

/// Argument indexes of keys, in the order the key specifications give them. Meant to be reused, so that it stops allocating
/// once it has seen the largest call.
#[derive(Debug, Default, Clone)]
pub struct KeyList(Vec<u32>);

impl KeyList {
    /// An empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The argument indexes found last.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }

    /// Forgets the indexes, keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn push(&mut self, index: usize) {
        self.extend(KeyRange {
            first: index,
            last: index,
            step: 1,
        });
    }

    fn extend(&mut self, range: KeyRange) {
        // A request has at most `RequestLimits::max_args` arguments, a u32, so no index is lost here.
        if let (Ok(first), Ok(last)) = (u32::try_from(range.first), u32::try_from(range.last)) {
            self.0.extend((first..last + 1).step_by(range.step));
        }
    }

    fn outcome(&self) -> KeyOutcome {
        if self.0.is_empty() {
            KeyOutcome::NoKeys
        } else {
            KeyOutcome::Keys
        }
    }
}

/// Finds the keys of a call; `out` is cleared first. Every index is above 0 and below `args.len()`.
///
/// Meant to be called after the arity check, but any arguments are safe. Channels of sharded pub/sub count as keys: they
/// route like keys [K5].
#[inline]
pub fn extract_keys(spec: &Spec, args: Args<'_>, out: &mut KeyList) -> KeyOutcome {
    out.clear();
    if spec.fixed_key != 0 {
        let index = usize::from(spec.fixed_key);
        if index >= args.len() {
            return KeyOutcome::Verbatim;
        }
        out.push(index);
        return KeyOutcome::Keys;
    }
    let outcome = by_rule(spec, args, out);
    if outcome != KeyOutcome::Keys {
        out.clear();
    }
    outcome
}

fn by_rule(spec: &Spec, args: Args<'_>, out: &mut KeyList) -> KeyOutcome {
    match spec.rule {
        KeyRule::Pairs if args.len() < 3 || args.len().is_multiple_of(2) => {
            KeyOutcome::OddArguments
        }
        KeyRule::Specs | KeyRule::Pairs => by_specs(spec, args, out),
        KeyRule::Streams => streams(args, out),
        KeyRule::Sort => sort(args, out),
        KeyRule::FirstOnly => first_and(args, None, out),
        KeyRule::GeoStore(from) => first_and(args, geo_store(args, usize::from(from)), out),
        KeyRule::Migrate => migrate(args, out),
        KeyRule::Stralgo => stralgo(spec, args, out),
        // Of a name alone servers do not answer the question.
        KeyRule::AskServer if args.len() < 2 => KeyOutcome::NoKeys,
        KeyRule::AskServer => KeyOutcome::AskServer,
    }
}

/// The union of all specifications [K5].
pub(super) fn by_specs(spec: &Spec, args: Args<'_>, out: &mut KeyList) -> KeyOutcome {
    for key_spec in spec.keys {
        match key_spec.evaluate(args) {
            Found::Keys(range) => out.extend(range),
            Found::Nothing => {}
            Found::Misfit => return KeyOutcome::Verbatim,
        }
    }
    out.outcome()
}

fn is_word(arg: &[u8], word: &[u8]) -> bool {
    arg.eq_ignore_ascii_case(word)
}

/// What stands before the keys of `XREAD` and `XREADGROUP`.
struct StreamOptions {
    /// Position of `STREAMS`, if the options lead to it.
    streams: Option<usize>,
    /// Position of what follows the last `BLOCK`, if that is among the options.
    block: Option<usize>,
}

/// Walks the options, so that a group, a consumer or a stream may be called `STREAMS` or `BLOCK`. Both commands take the same
/// walk, as in the servers' `xreadGetKeys`; the option the command does not have is then refused by the server that owns the
/// keys.
fn stream_options(args: Args<'_>) -> StreamOptions {
    let mut block = None;
    let mut at = 1;
    while let Some(arg) = args.get(at) {
        if is_word(arg, b"STREAMS") {
            return StreamOptions {
                streams: Some(at),
                block,
            };
        }
        at += if is_word(arg, b"COUNT") || is_word(arg, b"CLAIM") {
            2
        } else if is_word(arg, b"BLOCK") {
            block = Some(at + 1);
            2
        } else if is_word(arg, b"GROUP") {
            3
        } else if is_word(arg, b"NOACK") {
            1
        } else {
            break;
        };
    }
    StreamOptions {
        streams: None,
        block,
    }
}

/// Position of the argument that says how long `XREAD` or `XREADGROUP` blocks; of several the last one counts.
pub(super) fn block_at(args: Args<'_>) -> Option<usize> {
    stream_options(args).block
}

/// N keys and N ids follow `STREAMS`; anything else is a syntax error for the server to word.
fn streams(args: Args<'_>, out: &mut KeyList) -> KeyOutcome {
    let Some(at) = stream_options(args).streams else {
        return KeyOutcome::Verbatim;
    };
    let rest = args.len() - at - 1;
    if rest == 0 || !rest.is_multiple_of(2) {
        return KeyOutcome::Verbatim;
    }
    out.extend(KeyRange {
        first: at + 1,
        last: at + rest / 2,
        step: 1,
    });
    KeyOutcome::Keys
}

fn first_and(args: Args<'_>, second: Option<usize>, out: &mut KeyList) -> KeyOutcome {
    if args.len() < 2 {
        return KeyOutcome::Verbatim;
    }
    out.push(1);
    if let Some(second) = second {
        out.push(second);
    }
    KeyOutcome::Keys
}

/// The destination is what follows the last `STORE`. As in the servers' `sortGetKeys`, which decides on their `MOVED` and
/// `CROSSSLOT`, the word after `STORE` is looked at again: `STORE limit` skips two words.
fn sort(args: Args<'_>, out: &mut KeyList) -> KeyOutcome {
    let mut store = None;
    let mut at = 2;
    while let Some(arg) = args.get(at) {
        if is_word(arg, b"LIMIT") {
            at += 2;
        } else if is_word(arg, b"GET") || is_word(arg, b"BY") {
            at += 1;
        } else if is_word(arg, b"STORE") && at + 1 < args.len() {
            store = Some(at + 1);
        }
        at += 1;
    }
    first_and(args, store, out)
}

/// The destination of `GEORADIUS`: `STORE` and `STOREDIST` are one option, and the last one wins.
fn geo_store(args: Args<'_>, from: usize) -> Option<usize> {
    let mut store = None;
    let mut at = from;
    while at + 1 < args.len() {
        if args
            .get(at)
            .is_some_and(|arg| is_word(arg, b"STORE") || is_word(arg, b"STOREDIST"))
        {
            at += 1;
            store = Some(at);
        }
        at += 1;
    }
    store
}

/// One key at 3, or an empty argument there and the keys at the end after `KEYS`.
fn migrate(args: Args<'_>, out: &mut KeyList) -> KeyOutcome {
    let Some(key) = args.get(3) else {
        return KeyOutcome::Verbatim;
    };
    let mut at = 6;
    while let Some(arg) = args.get(at) {
        if is_word(arg, b"KEYS") {
            if !key.is_empty() || at + 1 >= args.len() {
                return KeyOutcome::Verbatim;
            }
            out.extend(KeyRange {
                first: at + 1,
                last: args.len() - 1,
                step: 1,
            });
            return KeyOutcome::Keys;
        }
        at += if is_word(arg, b"AUTH") {
            2
        } else if is_word(arg, b"AUTH2") {
            3
        } else {
            1
        };
    }
    if key.is_empty() {
        return KeyOutcome::NoKeys;
    }
    out.push(3);
    KeyOutcome::Keys
}

/// `STRALGO LCS ... STRINGS a b` compares literals, which may be any word, even `KEYS`.
fn stralgo(spec: &Spec, args: Args<'_>, out: &mut KeyList) -> KeyOutcome {
    let word_at = (2..args.len()).find(|&at| {
        args.get(at)
            .is_some_and(|arg| is_word(arg, b"KEYS") || is_word(arg, b"STRINGS"))
    });
    match word_at.and_then(|at| args.get(at)) {
        Some(word) if is_word(word, b"KEYS") => by_specs(spec, args, out),
        _ => KeyOutcome::NoKeys,
    }
}

/// The class of this call: [`Spec::class`], but blocking for a call of `XREAD` or `XREADGROUP` with `BLOCK`.
#[inline]
#[must_use]
pub fn effective_class(spec: &Spec, args: Args<'_>) -> Class {
    if spec.blocks_if_block && stream_options(args).block.is_some() {
        Class::Blocking
    } else {
        spec.class
    }
}

/// Whether this call, run twice in a row, leaves the same state and gives the same reply as run once. Options of `SET` that look at
/// what was there before do not.
#[must_use]
pub fn is_idempotent(spec: &Spec, args: Args<'_>) -> bool {
    spec.idempotent && (spec.id != super::id::SET || set_ignores_the_past(args))
}

fn set_ignores_the_past(args: Args<'_>) -> bool {
    let mut options = (3..args.len()).filter_map(|at| args.get(at));
    while let Some(option) = options.next() {
        if [b"EX".as_slice(), b"PX", b"EXAT", b"PXAT"]
            .iter()
            .any(|word| is_word(option, word))
        {
            options.next();
        } else if !is_word(option, b"XX") && !is_word(option, b"KEEPTTL") {
            return false;
        }
    }
    true
}

/// The flags of the keys of this call in one group, for the commands whose options decide: `VARIABLE_FLAGS` of the
/// specification means "the getkeys function knows better".
pub(super) fn key_flags(spec: &Spec, group: usize, args: Args<'_>) -> KeyFlags {
    use super::id;
    let Some(key_spec) = spec.keys.get(group) else {
        return KeyFlags::RW_ACCESS_UPDATE;
    };
    if !key_spec.flags.contains(KeyFlags::VARIABLE) {
        return key_spec.flags;
    }
    let has = |from: usize, word: &[u8]| {
        (from..args.len()).any(|at| args.get(at).is_some_and(|arg| is_word(arg, word)))
    };
    match spec.id {
        id::SET if has(3, b"GET") => KeyFlags::RW_ACCESS_UPDATE,
        id::SET | id::GEORADIUS | id::GEORADIUSBYMEMBER => KeyFlags::OW_UPDATE,
        id::BITFIELD if bitfield_only_reads(args) => KeyFlags::RO_ACCESS,
        id::DELEX if args.len() > 2 => KeyFlags::RW_DELETE,
        id::DELEX => KeyFlags::RM_DELETE,
        _ => KeyFlags::RW_ACCESS_UPDATE,
    }
}

/// Only complete `GET`s, and the `OVERFLOW`s between them; anything else may write.
fn bitfield_only_reads(args: Args<'_>) -> bool {
    let mut at = 2;
    while let Some(arg) = args.get(at) {
        let rest = args.len() - at - 1;
        if is_word(arg, b"GET") && rest >= 2 {
            at += 3;
        } else if is_word(arg, b"OVERFLOW") && rest >= 1 {
            at += 2;
        } else {
            return false;
        }
    }
    true
}

/// Calls `visit` with the argument index and the flags of each key, in the order of [`extract_keys`].
pub(super) fn each_key(
    spec: &Spec,
    args: Args<'_>,
    keys: &KeyList,
    mut visit: impl FnMut(usize, KeyFlags),
) {
    let indexes = keys.as_slice().iter().map(|&index| index as usize);
    if matches!(spec.rule, KeyRule::Specs | KeyRule::Pairs) {
        let mut rest = indexes;
        for (group, key_spec) in spec.keys.iter().enumerate() {
            if let Found::Keys(range) = key_spec.evaluate(args) {
                let count = (range.last - range.first) / range.step + 1;
                rest.by_ref()
                    .take(count)
                    .for_each(|index| visit(index, key_flags(spec, group, args)));
            }
        }
        return;
    }
    // The hand rules: the first key belongs to the first group, a second one (the destination) to the last.
    let is_list = matches!(
        spec.rule,
        KeyRule::Streams | KeyRule::Migrate | KeyRule::Stralgo
    );
    for (position, index) in indexes.enumerate() {
        let group = if is_list || position == 0 {
            0
        } else {
            spec.keys.len() - 1
        };
        visit(index, key_flags(spec, group, args));
    }
}

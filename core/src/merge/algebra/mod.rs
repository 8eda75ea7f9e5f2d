//! Set algebra over slots: what is asked of each slot, and how the answer is made of what the slots say.
//!
//! Unions, intersections and differences of plain sets are made at the node as far as its slot goes. ZUNION and ZINTER ask for every
//! key by itself: sums of floating point numbers depend on their order, which is that of the sizes of all sets. Weights are
//! multiplied, and scores printed, by the nodes wherever that is possible. PFCOUNT gets the sketches. Options the servers would
//! refuse are sent to them for their error.

mod double;
mod hyperloglog;
mod options;
mod scores;
mod sets;
#[cfg(test)]
mod tests;

pub use double::DoubleFormat;
use hyperloglog::Registers;
use options::{Options, extreme};

use super::{Part, Unexpected, Verdict};
use crate::command::{Spec, id};
use crate::resp::{Protocol, Value, write};

/// The commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
    InterCard,
    ZUnion,
    ZInter,
    ZDiff,
    ZInterCard,
    PfCount,
}

impl Operation {
    fn of(spec: &Spec) -> Option<Self> {
        Some(match spec.id {
            id::SUNION => Self::Union,
            id::SINTER => Self::Inter,
            id::SDIFF => Self::Diff,
            id::SINTERCARD => Self::InterCard,
            id::ZUNION => Self::ZUnion,
            id::ZINTER => Self::ZInter,
            id::ZDIFF => Self::ZDiff,
            id::ZINTERCARD => Self::ZInterCard,
            id::PFCOUNT => Self::PfCount,
            _ => return None,
        })
    }
}

/// Whether the command can be made of parts for several slots.
#[must_use]
pub fn is_algebra(spec: &Spec) -> bool {
    Operation::of(spec).is_some()
}

/// What putting a member together takes besides its bytes: its place in the parsed reply, in the list of members and in a hash table.
const MEMBER_BYTES: usize = 96;

/// Bytes of memory that the reply of a part takes until the whole is made of it.
#[must_use]
pub fn memory_of(reply: &[u8]) -> usize {
    let members = match reply.split_first() {
        Some((b'*' | b'~', count)) => {
            let digits = count.iter().take_while(|byte| byte.is_ascii_digit());
            digits.fold(0, |sum: usize, digit| {
                sum.saturating_mul(10).saturating_add((digit & 15).into())
            })
        }
        _ => 0,
    };
    reply
        .len()
        .saturating_add(members.saturating_mul(MEMBER_BYTES))
}

/// One command.
#[derive(Debug)]
pub struct Algebra {
    operation: Operation,
    options: Options,
}

impl Algebra {
    /// The command `spec` with so many keys, and the words behind them; `None` if it is none of these.
    #[must_use]
    pub fn new(spec: &Spec, keys: usize, words: &[&[u8]]) -> Option<Self> {
        let operation = Operation::of(spec)?;
        let options = Options::read(operation, words, keys);
        Some(Self { operation, options })
    }

    /// Whether all keys of a slot are asked for at once; else each by itself.
    #[must_use]
    pub fn is_by_slot(&self) -> bool {
        !matches!(
            self.operation,
            Operation::ZUnion | Operation::ZInter | Operation::PfCount
        )
    }

    /// What is sent for `keys`, the first of which is key number `position` of all.
    pub fn write_part(&self, position: usize, keys: &[&[u8]], out: &mut Vec<u8>) {
        let options = &self.options;
        let count = keys.len().to_string();
        let mut words: Vec<&[u8]> = Vec::with_capacity(keys.len() + 5);
        let (name, is_counted): (&[u8], bool) = match self.operation {
            Operation::Diff if position == 0 => (b"SDIFF", false),
            Operation::Union | Operation::Diff => (b"SUNION", false),
            Operation::InterCard if options.refused => (b"SINTERCARD", true),
            Operation::Inter | Operation::InterCard => (b"SINTER", false),
            Operation::ZDiff if position == 0 => (b"ZDIFF", true),
            Operation::ZUnion | Operation::ZInter | Operation::ZDiff => (b"ZUNION", true),
            Operation::ZInterCard if options.refused => (b"ZINTERCARD", true),
            Operation::ZInterCard => (b"ZINTER", true),
            Operation::PfCount => (b"GET", false),
        };
        words.push(name);
        if is_counted {
            words.push(count.as_bytes());
        }
        words.extend_from_slice(keys);
        self.push_options(position, &mut words);
        write::command(out, &words);
    }

    fn push_options<'a>(&'a self, position: usize, words: &mut Vec<&'a [u8]>) {
        let options = &self.options;
        match self.operation {
            Operation::InterCard | Operation::ZInterCard => {
                words.extend(options.tail.iter().map(AsRef::<[u8]>::as_ref));
                return;
            }
            Operation::ZUnion | Operation::ZInter | Operation::ZDiff => {}
            Operation::Union | Operation::Inter | Operation::Diff | Operation::PfCount => return,
        }
        for weights in &options.weights {
            let weight = weights.get(position).map_or(&b"1"[..], AsRef::as_ref);
            let is_ours = self.operation == Operation::ZInter && extreme(weight).is_some();
            words.extend([&b"WEIGHTS"[..], if is_ours { b"1" } else { weight }]);
        }
        if options.refused {
            // A word that is no option: the servers' syntax error, unless they refuse something before.
            words.push(b"?");
        } else if self.operation != Operation::ZDiff || position == 0 {
            words.push(b"WITHSCORES");
        }
    }

    /// Merges the replies of the parts, in the order of their first keys, into one appended to `out`.
    pub fn merge(
        &self,
        parts: &[Part<'_>],
        format: DoubleFormat,
        protocol: Protocol,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        let verdicts: Vec<Verdict<'_>> = parts.iter().map(Verdict::of).collect();
        let merged = if self.operation == Operation::PfCount {
            count_sketches(&verdicts, out)
        } else if let Some(error) = worst(&verdicts) {
            write::error(out, error);
            Ok(())
        } else {
            let replies: Vec<&[u8]> = super::good(&verdicts).collect();
            self.combine(&replies, parts, format, protocol, out)
        };
        if merged.is_err() {
            out.truncate(start);
            write::error(out, b"ERR proxy: unexpected reply of a node");
        }
    }

    /// Merges replies none of which is an error.
    fn combine(
        &self,
        replies: &[&[u8]],
        parts: &[Part<'_>],
        format: DoubleFormat,
        protocol: Protocol,
        out: &mut Vec<u8>,
    ) -> Result<(), Unexpected> {
        match self.operation {
            Operation::ZDiff => return self.z_diff(replies, format, protocol, out),
            Operation::ZUnion | Operation::ZInter => {
                return self.z_join(replies, parts, format, protocol, out);
            }
            _ => {}
        }
        let members = replies.iter().map(|reply| sets::members(reply));
        let members = members.collect::<Result<Vec<Vec<&[u8]>>, Unexpected>>()?;
        let whole = match self.operation {
            Operation::Union => sets::union(&members),
            Operation::Diff => {
                let others = sets::others(&members);
                let first = members.first().ok_or(Unexpected)?.iter().copied();
                first.filter(|member| !others.contains(member)).collect()
            }
            _ => sets::intersection(&members),
        };
        if matches!(self.operation, Operation::InterCard | Operation::ZInterCard) {
            let limit = match self.options.limit {
                0 => usize::MAX,
                limit => limit,
            };
            let count = i64::try_from(whole.len().min(limit)).map_err(|_odd| Unexpected)?;
            write::integer(out, count);
            return Ok(());
        }
        write::set(out, whole.len(), protocol);
        whole.iter().for_each(|member| write::bulk(out, member));
        Ok(())
    }

    fn z_diff(
        &self,
        replies: &[&[u8]],
        format: DoubleFormat,
        protocol: Protocol,
        out: &mut Vec<u8>,
    ) -> Result<(), Unexpected> {
        let (first, others) = replies.split_first().ok_or(Unexpected)?;
        let mut kept = scores::scored(first)?;
        for other in others {
            let other: std::collections::HashSet<&[u8]> =
                sets::members(other)?.into_iter().collect();
            kept.retain(|(member, _)| !other.contains(member));
        }
        scores::sort(&mut kept);
        scores::write_scored(&kept, self.options.with_scores, format, protocol, out);
        Ok(())
    }

    fn z_join(
        &self,
        replies: &[&[u8]],
        parts: &[Part<'_>],
        format: DoubleFormat,
        protocol: Protocol,
        out: &mut Vec<u8>,
    ) -> Result<(), Unexpected> {
        let mut sources = Vec::with_capacity(replies.len());
        for (reply, part) in replies.iter().zip(parts) {
            let position = part.positions.first().ok_or(Unexpected)?;
            let position = usize::try_from(*position).map_err(|_odd| Unexpected)?;
            let factor = match self.operation {
                Operation::ZInter => self.options.extreme_weight(position),
                _ => None,
            };
            sources.push((scores::scored(reply)?, factor));
        }
        scores::by_size(&mut sources);
        let how = self.options.aggregate;
        let mut whole = match self.operation {
            Operation::ZUnion => scores::union(&sources, how),
            _ => scores::intersection(&sources, how),
        };
        scores::sort(&mut whole);
        scores::write_scored(&whole, self.options.with_scores, format, protocol, out);
        Ok(())
    }
}

/// The error that a server would give: it looks at the types of all keys, then at the weights, then at what is behind. Errors of other
/// kinds come in the order of the keys.
fn worst<'a>(verdicts: &[Verdict<'a>]) -> Option<&'a [u8]> {
    let rank = |text: &[u8]| match text {
        text if text.starts_with(b"WRONGTYPE") => 0,
        text if text.starts_with(b"ERR weight") => 1,
        text if text.starts_with(b"ERR syntax") => 3,
        _ => 2,
    };
    let errors = super::failed(verdicts).map(|(text, _)| text);
    errors.min_by_key(|text| rank(text))
}

/// PFCOUNT: the first key with something wrong decides.
fn count_sketches(verdicts: &[Verdict<'_>], out: &mut Vec<u8>) -> Result<(), Unexpected> {
    let mut registers = Registers::default();
    for verdict in verdicts {
        let reply = match verdict {
            Verdict::Good(reply) => reply,
            Verdict::Failed { text, .. } => {
                write::error(out, text);
                return Ok(());
            }
        };
        match sets::whole(reply)? {
            Value::Null => {}
            Value::Bulk(string) => {
                if let Err(fault) = registers.merge(string) {
                    write::error(out, fault.text());
                    return Ok(());
                }
            }
            _ => return Err(Unexpected),
        }
    }
    write::integer(out, registers.count());
    Ok(())
}

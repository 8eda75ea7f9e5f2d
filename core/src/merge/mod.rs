//! How the parts of a split or fanned-out command become one reply [P3]-[P7] [Q2]-[Q7] [Q12].
//!
//! Pure functions: reply bytes of the parts in, one reply out. A part whose reply has not the shape its command promises makes
//! an honest error, never a panic and never a mixed reply. Parts are taken in the order given, which is the order of their
//! first keys [P7] or, for a fan-out, ascending by the lowest slot of their primary [Q12].

pub mod algebra;
mod elements;
mod pubsub;
mod rule;
pub mod scan;

#[cfg(test)]
mod tests;

use elements::{Elements, elements, is_one_value, without_attributes};
use pubsub::{counts, greatest, union};
pub use rule::Rule;
use rule::{Combine, Failure};

use crate::resp::{Value, parse_value, write};
use crate::slot::Slot;

/// How a part ended, after its own redirects and retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartOutcome {
    /// A node answered; the answer may be an error.
    Answered,
    /// Certainly not executed; the reply is the error to show.
    NotExecuted,
    /// Sent, and the connection was lost before the answer: it may or may not have been executed. The reply is the error to
    /// show.
    Uncertain,
}

/// One part of a split or fanned-out command.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// One complete reply in the session's protocol version, or the error to show.
    pub reply: &'a [u8],
    /// MGET: for every element of this part's reply its index in the whole reply; empty for other commands.
    pub positions: &'a [u32],
    /// How the part ended.
    pub outcome: PartOutcome,
}

/// A reply has not the shape its command promises.
struct Unexpected;

/// What a part came to.
enum Verdict<'a> {
    /// A reply that is no error, behind its attributes.
    Good(&'a [u8]),
    /// An error, without the dash.
    Failed { text: &'a [u8], uncertain: bool },
}

impl<'a> Verdict<'a> {
    fn of(part: &Part<'a>) -> Self {
        let uncertain = part.outcome == PartOutcome::Uncertain;
        let Some(body) = without_attributes(part.reply) else {
            return Self::Good(part.reply);
        };
        if !matches!(body.first(), Some(b'-' | b'!')) {
            return Self::Good(body);
        }
        match parse_value(body) {
            Ok(Some((Value::Error(text) | Value::BulkError(text), _))) => {
                Self::Failed { text, uncertain }
            }
            _ => Self::Good(body),
        }
    }
}

/// Merges the replies of the parts of a command with rule `rule` into one reply, appended to `out`.
///
/// `total` is the number of elements of the whole reply and is read for MGET only. `owns(part, slot)` says whether the node
/// that answered part number `part` owns `slot`; it is asked for KEYS only, whose orphaned keys are left out [Q3]. The parts
/// are in one protocol version, and so is the result.
pub fn merge(
    rule: Rule,
    parts: &[Part<'_>],
    total: usize,
    owns: &dyn Fn(usize, Slot) -> bool,
    out: &mut Vec<u8>,
) {
    let verdicts: Vec<Verdict<'_>> = parts.iter().map(Verdict::of).collect();
    let start = out.len();
    let merged = match rule.combine {
        // These can succeed although some parts failed.
        Combine::AnyOk => any_ok(&verdicts, out),
        Combine::FirstGood => first_where(&verdicts, |_| true, out),
        Combine::FirstNonNil => first_where(&verdicts, |value| *value != Value::Null, out),
        Combine::Busiest => first_where(&verdicts, runs_a_script, out),
        _ => match write_failure(rule.failure, &verdicts, out) {
            true => return,
            false => combine(rule.combine, &verdicts, parts, total, owns, out),
        },
    };
    if merged.is_err() {
        out.truncate(start);
        write_unexpected(rule.failure, out);
    }
}

/// Merges replies none of which is an error.
fn combine(
    combine: Combine,
    verdicts: &[Verdict<'_>],
    parts: &[Part<'_>],
    total: usize,
    owns: &dyn Fn(usize, Slot) -> bool,
    out: &mut Vec<u8>,
) -> Result<(), Unexpected> {
    let mut replies: Vec<&[u8]> = Vec::with_capacity(verdicts.len());
    replies.extend(good(verdicts));
    match combine {
        Combine::Sum => sum(&replies, out),
        Combine::AllOk => all_ok(&replies, out),
        Combine::Elements => spread(&replies, parts, total, out),
        Combine::Keys => keys(&replies, owns, out),
        Combine::And => logical(&replies, |all, one| all && one, out),
        Combine::Or => logical(&replies, |any, one| any || one, out),
        Combine::Min => least(&replies, out),
        Combine::LeastOfEach => least_of_each(&replies, out),
        Combine::First => first(&replies, out),
        Combine::Same => same(&replies, out),
        Combine::Union => union(&replies, out),
        Combine::Counts => counts(&replies, out),
        Combine::Greatest => greatest(&replies, out),
        Combine::AnyOk | Combine::FirstGood | Combine::FirstNonNil | Combine::Busiest => {
            Err(Unexpected)
        }
    }
}

fn good<'a>(verdicts: &[Verdict<'a>]) -> impl Iterator<Item = &'a [u8]> {
    verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Good(reply) => Some(*reply),
        Verdict::Failed { .. } => None,
    })
}

fn failed<'a>(verdicts: &[Verdict<'a>]) -> impl Iterator<Item = (&'a [u8], bool)> {
    verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Failed { text, uncertain } => Some((*text, *uncertain)),
        Verdict::Good(_) => None,
    })
}

// === Errors ===

/// The error of the whole, if a part failed [P7] [Q4] [Q7]. False if none did.
fn write_failure(failure: Failure, verdicts: &[Verdict<'_>], out: &mut Vec<u8>) -> bool {
    let Some((first, _)) = failed(verdicts).next() else {
        return false;
    };
    let applied = good(verdicts).count();
    let uncertain = failed(verdicts).filter(|(_, uncertain)| *uncertain).count();
    let total = verdicts.len();
    if failure == Failure::Bare || total == 1 || (applied == 0 && uncertain == 0) {
        write::error(out, first);
        return true;
    }
    let code = if uncertain > 0 {
        "UNCERTAIN"
    } else {
        "PARTIAL"
    };
    let mut text = match failure {
        Failure::Flushed => format!("{code} proxy: flushed {applied} of {total} masters, "),
        Failure::Bare | Failure::PartsApplied => {
            format!("{code} proxy: {applied} of {total} parts applied, ")
        }
    };
    if uncertain > 0 {
        text.push_str(&format!("{uncertain} may or may not have been executed, "));
    }
    text.push_str("first error: ");
    write::error(out, &[text.as_bytes(), first].concat());
    true
}

/// What was changed cannot be told from a reply that was not understood.
fn write_unexpected(failure: Failure, out: &mut Vec<u8>) {
    let text: &[u8] = match failure {
        Failure::Bare => b"ERR proxy: unexpected reply of a node",
        Failure::PartsApplied | Failure::Flushed => {
            b"UNCERTAIN proxy: unexpected reply of a node, the command may or may not have been executed"
        }
    };
    write::error(out, text);
}

// === Combinations ===

/// [P4]; DBSIZE [Q3].
fn sum(replies: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Unexpected> {
    let mut sum = 0_i64;
    for reply in replies {
        sum = sum.checked_add(integer(reply)?).ok_or(Unexpected)?;
    }
    write::integer(out, sum);
    Ok(())
}

/// [P5] [Q4].
fn all_ok(replies: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Unexpected> {
    if replies.iter().any(|reply| !is_ok(reply)) {
        return Err(Unexpected);
    }
    out.extend_from_slice(crate::resp::OK);
    Ok(())
}

/// [P3]: every element at the place of its argument; its bytes are copied as they came, nil included.
fn spread(
    replies: &[&[u8]],
    parts: &[Part<'_>],
    total: usize,
    out: &mut Vec<u8>,
) -> Result<(), Unexpected> {
    let mut places: Vec<Option<&[u8]>> = vec![None; total];
    for (reply, part) in replies.iter().zip(parts) {
        let elements = elements(reply).ok_or(Unexpected)?;
        if elements.len() != part.positions.len() {
            return Err(Unexpected);
        }
        for (element, position) in elements.into_iter().zip(part.positions) {
            let place = usize::try_from(*position)
                .ok()
                .and_then(|position| places.get_mut(position));
            *place.ok_or(Unexpected)? = Some(element);
        }
    }
    write::array(out, total);
    for place in places {
        out.extend_from_slice(place.ok_or(Unexpected)?);
    }
    Ok(())
}

/// [Q3].
fn keys(
    replies: &[&[u8]],
    owns: &dyn Fn(usize, Slot) -> bool,
    out: &mut Vec<u8>,
) -> Result<(), Unexpected> {
    let mut kept = Vec::new();
    for (part, reply) in replies.iter().enumerate() {
        for element in elements(reply).ok_or(Unexpected)? {
            let Ok(Some((Value::Bulk(key), _))) = parse_value(element) else {
                return Err(Unexpected);
            };
            if owns(part, Slot::of_key(key)) {
                kept.push(element);
            }
        }
    }
    write::array(out, kept.len());
    out.reserve(kept.iter().map(|element| element.len()).sum());
    kept.into_iter()
        .for_each(|element| out.extend_from_slice(element));
    Ok(())
}

/// SCRIPT EXISTS [Q6]; of learned commands also single integers [K16].
fn logical(
    replies: &[&[u8]],
    join: impl Fn(bool, bool) -> bool,
    out: &mut Vec<u8>,
) -> Result<(), Unexpected> {
    let is_one = replies.iter().all(|reply| reply.starts_with(b":"));
    let mut whole: Option<Vec<bool>> = None;
    for reply in replies {
        let flags = if is_one {
            Elements::from_slice(&[reply])
        } else {
            elements(reply).ok_or(Unexpected)?
        };
        let flags = flags
            .into_iter()
            .map(|flag| integer(flag).map(|flag| flag != 0));
        let flags = flags.collect::<Result<Vec<bool>, Unexpected>>()?;
        whole = Some(match whole {
            None => flags,
            Some(whole) if whole.len() == flags.len() => whole
                .iter()
                .zip(flags)
                .map(|(whole, flag)| join(*whole, flag))
                .collect(),
            Some(_) => return Err(Unexpected),
        });
    }
    let whole = whole.ok_or(Unexpected)?;
    if !is_one {
        write::array(out, whole.len());
    }
    whole
        .into_iter()
        .for_each(|flag| write::integer(out, i64::from(flag)));
    Ok(())
}

/// [K16].
fn least(replies: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Unexpected> {
    let numbers = replies.iter().map(|reply| integer(reply));
    let numbers = numbers.collect::<Result<Vec<i64>, Unexpected>>()?;
    write::integer(out, numbers.into_iter().min().ok_or(Unexpected)?);
    Ok(())
}

/// WAITAOF [A4].
fn least_of_each(replies: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Unexpected> {
    let mut whole: Option<Vec<i64>> = None;
    for reply in replies {
        let numbers = elements(reply).ok_or(Unexpected)?.into_iter().map(integer);
        let numbers = numbers.collect::<Result<Vec<i64>, Unexpected>>()?;
        whole = Some(match whole {
            None => numbers,
            Some(whole) if whole.len() == numbers.len() => whole
                .into_iter()
                .zip(numbers)
                .map(|(one, other)| one.min(other))
                .collect(),
            Some(_) => return Err(Unexpected),
        });
    }
    let whole = whole.ok_or(Unexpected)?;
    write::array(out, whole.len());
    whole
        .into_iter()
        .for_each(|number| write::integer(out, number));
    Ok(())
}

/// [K16].
fn first(replies: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Unexpected> {
    let first = replies.first().filter(|first| is_one_value(first));
    out.extend_from_slice(first.ok_or(Unexpected)?);
    Ok(())
}

/// SCRIPT LOAD, FUNCTION LOAD [Q6] [Q7].
fn same(replies: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Unexpected> {
    let (first, others) = replies.split_first().ok_or(Unexpected)?;
    if !is_one_value(first) || others.iter().any(|reply| reply != first) {
        return Err(Unexpected);
    }
    out.extend_from_slice(first);
    Ok(())
}

/// SCRIPT KILL, FUNCTION KILL [Q6]: without an OK, a script that cannot be killed says most, then a node that could not be
/// asked, then that nothing runs.
fn any_ok(verdicts: &[Verdict<'_>], out: &mut Vec<u8>) -> Result<(), Unexpected> {
    if good(verdicts).any(is_ok) {
        out.extend_from_slice(crate::resp::OK);
        return Ok(());
    }
    if good(verdicts).next().is_some() {
        return Err(Unexpected);
    }
    let rank = |text: &[u8]| match text {
        text if text.starts_with(b"UNKILLABLE") => 0,
        text if text.starts_with(b"NOTBUSY") => 2,
        _ => 1,
    };
    let (text, _) = failed(verdicts)
        .min_by_key(|(text, _)| rank(text))
        .ok_or(Unexpected)?;
    write::error(out, text);
    Ok(())
}

/// The first reply that is `wanted`; if there is none the first error, and if there is no error the first reply.
fn first_where(
    verdicts: &[Verdict<'_>],
    wanted: impl Fn(&Value<'_>) -> bool,
    out: &mut Vec<u8>,
) -> Result<(), Unexpected> {
    for reply in good(verdicts) {
        let value = match parse_value(reply) {
            Ok(Some((value, end))) if end == reply.len() => value,
            _ => return Err(Unexpected),
        };
        if wanted(&value) {
            out.extend_from_slice(reply);
            return Ok(());
        }
    }
    if !write_failure(Failure::Bare, verdicts, out) {
        out.extend_from_slice(good(verdicts).next().ok_or(Unexpected)?);
    }
    Ok(())
}

/// FUNCTION STATS [Q7]: a map, or an array of names and values in RESP2, whose `running_script` is not nil.
fn runs_a_script(value: &Value<'_>) -> bool {
    let is_name = |name: &Value<'_>| *name == Value::Bulk(b"running_script");
    match value {
        Value::Map(pairs) => pairs
            .iter()
            .any(|(name, value)| is_name(name) && *value != Value::Null),
        Value::Array(items) => items
            .chunks_exact(2)
            .any(|pair| is_name(&pair[0]) && pair[1] != Value::Null),
        _ => false,
    }
}

fn integer(reply: &[u8]) -> Result<i64, Unexpected> {
    match parse_value(reply) {
        Ok(Some((Value::Integer(number), end))) if end == reply.len() => Ok(number),
        _ => Err(Unexpected),
    }
}

fn is_ok(reply: &[u8]) -> bool {
    reply == crate::resp::OK
}

//! Where the elements of an array reply lie, so that they can be copied as they are.

use smallvec::SmallVec;

use crate::resp::{Length, ReplyScanner, read_length};

/// The elements of one part: one or few, as a rule.
pub(super) type Elements<'a> = SmallVec<[&'a [u8]; 4]>;

/// The reply behind its attributes; `None` if it is not a reply.
pub(super) fn without_attributes(mut reply: &[u8]) -> Option<&[u8]> {
    while let Some(after) = reply.strip_prefix(b"|") {
        let (pairs, mut rest) = read_count(after)?;
        for _ in 0..pairs.checked_mul(2)? {
            rest = next_value(rest)?.1;
        }
        reply = rest;
    }
    (!reply.is_empty()).then_some(reply)
}

/// The elements of an array or set, each with its attributes if it has any; `None` for anything else, and for bytes behind
/// it. `reply` has no attributes of its own.
pub(super) fn elements(reply: &[u8]) -> Option<Elements<'_>> {
    let (kind, after) = reply.split_first()?;
    if !matches!(kind, b'*' | b'~') {
        return None;
    }
    let (count, mut rest) = read_count(after)?;
    // An element takes at least three bytes: a count from the wire must not reserve more than is there.
    let mut elements = Elements::with_capacity(count.min(rest.len() / 3));
    for _ in 0..count {
        let (element, behind) = next_value(rest)?;
        elements.push(element);
        rest = behind;
    }
    rest.is_empty().then_some(elements)
}

/// Whether this is one complete value and nothing else.
pub(super) fn is_one_value(bytes: &[u8]) -> bool {
    next_value(bytes).is_some_and(|(_, rest)| rest.is_empty())
}

/// One complete value and what is behind it.
fn next_value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = ReplyScanner::new().scan(bytes).ok()??;
    bytes.split_at_checked(end)
}

/// The count of a header line, from behind its type byte; nothing for `-1` and `?`.
fn read_count(line: &[u8]) -> Option<(usize, &[u8])> {
    let Length::Known { value, next } = read_length(line, 0) else {
        return None;
    };
    Some((value.try_into().ok()?, line.get(next..)?))
}

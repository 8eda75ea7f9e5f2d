//! Unions, intersections and differences of members.

use std::collections::HashSet;

use super::super::Unexpected;
use crate::resp::{Value, parse_value};

/// The members in the reply of a part, which may be an array or a set.
pub(super) fn members(reply: &[u8]) -> Result<Vec<&[u8]>, Unexpected> {
    let (Value::Array(items) | Value::Set(items)) = whole(reply)? else {
        return Err(Unexpected);
    };
    items.into_iter().map(text).collect()
}

/// The reply, if it is one value and nothing else.
pub(super) fn whole(reply: &[u8]) -> Result<Value<'_>, Unexpected> {
    match parse_value(reply) {
        Ok(Some((value, end))) if end == reply.len() => Ok(value),
        _ => Err(Unexpected),
    }
}

pub(super) fn text(value: Value<'_>) -> Result<&[u8], Unexpected> {
    match value {
        Value::Bulk(text) => Ok(text),
        _ => Err(Unexpected),
    }
}

/// Each member once, in the order of the parts.
pub(super) fn union<'a>(parts: &[Vec<&'a [u8]>]) -> Vec<&'a [u8]> {
    let mut seen = HashSet::new();
    let all = parts.iter().flatten().copied();
    all.filter(|member| seen.insert(*member)).collect()
}

/// Members of all parts, in the order of the smallest.
pub(super) fn intersection<'a>(parts: &[Vec<&'a [u8]>]) -> Vec<&'a [u8]> {
    let Some((smallest, least)) = parts.iter().enumerate().min_by_key(|(_, part)| part.len())
    else {
        return Vec::new();
    };
    let mut kept = least.clone();
    for (number, part) in parts.iter().enumerate() {
        if number != smallest && !kept.is_empty() {
            let part: HashSet<&[u8]> = part.iter().copied().collect();
            kept.retain(|member| part.contains(member));
        }
    }
    kept
}

/// Those of the members of `parts` behind the first one.
pub(super) fn others<'a>(parts: &[Vec<&'a [u8]>]) -> HashSet<&'a [u8]> {
    parts.iter().skip(1).flatten().copied().collect()
}

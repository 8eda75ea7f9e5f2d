//! PUBSUB CHANNELS, NUMSUB, NUMPAT and their sharded likes [Q10] [P6].
//!
//! A server knows the subscriptions of its own connections only, and a worker of a proxy is one connection, however many clients have
//! subscribed through it. So the numbers are those of connections at all primaries: 0 if and only if nobody is subscribed.

use std::collections::HashSet;

use super::elements::elements;
use super::{Unexpected, integer};
use crate::resp::{Value, parse_value, write};

/// Every channel once, in the order of the parts.
pub(super) fn union(replies: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Unexpected> {
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for reply in replies {
        for element in elements(reply).ok_or(Unexpected)? {
            let Ok(Some((Value::Bulk(_), _))) = parse_value(element) else {
                return Err(Unexpected);
            };
            if seen.insert(element) {
                kept.push(element);
            }
        }
    }
    write::array(out, kept.len());
    kept.into_iter()
        .for_each(|element| out.extend_from_slice(element));
    Ok(())
}

/// Names and numbers in turn, the names as they were asked for.
pub(super) fn counts(replies: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Unexpected> {
    let mut total: Option<Vec<(&[u8], i64)>> = None;
    for reply in replies {
        let elements = elements(reply).ok_or(Unexpected)?;
        let pairs = elements.chunks(2).map(|pair| match pair {
            [name, number] => integer(number).map(|number| (*name, number)),
            _ => Err(Unexpected),
        });
        let pairs = pairs.collect::<Result<Vec<(&[u8], i64)>, Unexpected>>()?;
        let Some(total) = &mut total else {
            total = Some(pairs);
            continue;
        };
        if total.len() != pairs.len() {
            return Err(Unexpected);
        }
        for ((name, sum), (other, number)) in total.iter_mut().zip(pairs) {
            if *name != other {
                return Err(Unexpected);
            }
            *sum = sum.checked_add(number).ok_or(Unexpected)?;
        }
    }
    let total = total.ok_or(Unexpected)?;
    write::array(out, total.len() * 2);
    for (name, sum) in total {
        out.extend_from_slice(name);
        write::integer(out, sum);
    }
    Ok(())
}

/// How many patterns there are at least: which those of a node are it does not tell.
pub(super) fn greatest(replies: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Unexpected> {
    let numbers = replies.iter().map(|reply| integer(reply));
    let numbers = numbers.collect::<Result<Vec<i64>, Unexpected>>()?;
    write::integer(out, numbers.into_iter().max().ok_or(Unexpected)?);
    Ok(())
}

//! Members with scores: read from the replies of parts, put together by the servers' rules, sorted and printed.

use std::collections::HashMap;

use super::super::Unexpected;
use super::double::DoubleFormat;
use super::sets::{text, whole};
use crate::resp::{Protocol, Value, write};

/// AGGREGATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    Min,
    Max,
}

/// A score, with the text of the node that sent it as long as nothing was computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Score<'a> {
    pub(super) value: f64,
    text: Option<&'a [u8]>,
}

pub(super) type Scored<'a> = (&'a [u8], Score<'a>);

impl Score<'_> {
    /// This many times as much; it may be NaN.
    fn times(self, factor: f64) -> Self {
        Self {
            value: self.value * factor,
            text: None,
        }
    }

    /// The first score of a member that has several.
    fn begun(self) -> Self {
        if self.value.is_nan() {
            return Self {
                value: 0.0,
                text: None,
            };
        }
        self
    }

    /// The servers' `zunionInterAggregate`: infinities of both signs give 0, and what is NaN is neither less nor more.
    fn join(self, other: Self, how: Aggregate) -> Self {
        match how {
            Aggregate::Sum => Self {
                value: self.value + other.value,
                text: None,
            }
            .begun(),
            Aggregate::Min if other.value < self.value => other,
            Aggregate::Max if other.value > self.value => other,
            Aggregate::Min | Aggregate::Max => self,
        }
    }
}

/// The members and scores of a part: in RESP2 in turn, in RESP3 in pairs.
pub(super) fn scored(reply: &[u8]) -> Result<Vec<Scored<'_>>, Unexpected> {
    let Value::Array(items) = whole(reply)? else {
        return Err(Unexpected);
    };
    let mut items = items.into_iter();
    let mut scored = Vec::with_capacity(items.len());
    while let Some(item) = items.next() {
        let (member, score) = match item {
            Value::Array(pair) => {
                let [member, score] =
                    <[Value<'_>; 2]>::try_from(pair).map_err(|_odd| Unexpected)?;
                (text(member)?, score)
            }
            member => (text(member)?, items.next().ok_or(Unexpected)?),
        };
        let (Value::Bulk(digits) | Value::Double(digits)) = score else {
            return Err(Unexpected);
        };
        let value = std::str::from_utf8(digits)
            .ok()
            .and_then(|it| it.parse().ok());
        let value: f64 = value.filter(|it: &f64| !it.is_nan()).ok_or(Unexpected)?;
        scored.push((
            member,
            Score {
                value,
                text: Some(digits),
            },
        ));
    }
    Ok(scored)
}

/// Sums are not the same in another order: servers take the smallest set first, equal ones as they were given.
pub(super) fn by_size(parts: &mut [(Vec<Scored<'_>>, Option<f64>)]) {
    parts.sort_by_key(|(part, _)| part.len());
}

/// Every member of a part.
pub(super) fn union<'a>(
    parts: &[(Vec<Scored<'a>>, Option<f64>)],
    how: Aggregate,
) -> Vec<Scored<'a>> {
    let mut places: HashMap<&[u8], usize> = HashMap::new();
    let mut all: Vec<Scored<'a>> = Vec::new();
    for (member, score) in parts.iter().flat_map(|(part, _)| part) {
        let place = *places.entry(member).or_insert(all.len());
        match all.get_mut(place) {
            Some((_, sum)) => *sum = sum.join(*score, how),
            None => all.push((member, score.begun())),
        }
    }
    all
}

/// The members of all parts. The number beside a part is what its scores have still to be multiplied by.
pub(super) fn intersection<'a>(
    parts: &[(Vec<Scored<'a>>, Option<f64>)],
    how: Aggregate,
) -> Vec<Scored<'a>> {
    let weighted = |(member, score): &Scored<'a>, factor: Option<f64>| {
        (*member, factor.map_or(*score, |factor| score.times(factor)))
    };
    let Some(((first, factor), others)) = parts.split_first() else {
        return Vec::new();
    };
    let first = first.iter().map(|entry| weighted(entry, *factor));
    let mut kept: Vec<Scored<'a>> = first
        .map(|(member, score)| (member, score.begun()))
        .collect();
    for (part, factor) in others {
        if kept.is_empty() {
            break;
        }
        let part = part.iter().map(|entry| weighted(entry, *factor));
        let part: HashMap<&[u8], Score<'a>> = part.collect();
        kept.retain_mut(|(member, sum)| {
            let other = part.get(member);
            if let Some(other) = other {
                *sum = sum.join(*other, how);
            }
            other.is_some()
        });
    }
    kept
}

/// By score, then by member.
pub(super) fn sort(all: &mut [Scored<'_>]) {
    all.sort_unstable_by(|(member, score), (other, limit)| {
        let order = score.value.partial_cmp(&limit.value);
        order
            .unwrap_or(std::cmp::Ordering::Equal)
            .then_with(|| member.cmp(other))
    });
}

/// The reply with `all` in their order.
pub(super) fn write_scored(
    all: &[Scored<'_>],
    with_scores: bool,
    format: DoubleFormat,
    protocol: Protocol,
    out: &mut Vec<u8>,
) {
    let in_turn = with_scores && protocol == Protocol::Resp2;
    write::array(out, all.len() << usize::from(in_turn));
    for (member, score) in all {
        if with_scores && !in_turn {
            write::array(out, 2);
        }
        write::bulk(out, member);
        if !with_scores {
            continue;
        }
        let printed = match score.text {
            Some(text) => text.to_vec(),
            None => format.text(score.value).into_bytes(),
        };
        if in_turn {
            write::bulk(out, &printed);
        } else {
            out.push(b',');
            out.extend_from_slice(&printed);
            out.extend_from_slice(b"\r\n");
        }
    }
}

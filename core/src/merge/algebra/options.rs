//! What stands behind the keys: WEIGHTS, AGGREGATE, WITHSCORES, LIMIT. Read as the servers read it; what they would refuse is sent to
//! them, so that the error is theirs.

use super::Operation;
use super::scores::Aggregate;

/// The options of one command.
#[derive(Debug)]
pub(super) struct Options {
    /// Every WEIGHTS, of which the last one counts.
    pub(super) weights: Vec<Vec<Box<[u8]>>>,
    pub(super) aggregate: Aggregate,
    pub(super) with_scores: bool,
    /// 0 is none.
    pub(super) limit: usize,
    /// There is something the servers refuse, behind what was read.
    pub(super) refused: bool,
    /// All of it as it came, if it is refused.
    pub(super) tail: Vec<Box<[u8]>>,
}

impl Options {
    /// Reads `words`, behind `keys` keys.
    pub(super) fn read(operation: Operation, words: &[&[u8]], keys: usize) -> Self {
        let mut options = Self {
            weights: Vec::new(),
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: 0,
            refused: false,
            tail: Vec::new(),
        };
        let mut rest = words;
        while !rest.is_empty() {
            match options.read_one(operation, rest, keys) {
                Some(behind) => rest = behind,
                None => {
                    options.refused = true;
                    options.tail = words.iter().map(|word| Box::from(*word)).collect();
                    break;
                }
            }
        }
        options
    }

    /// Reads the option at the head of `words`; what is behind it, or `None` if servers refuse it.
    fn read_one<'w, 'a>(
        &mut self,
        operation: Operation,
        words: &'w [&'a [u8]],
        keys: usize,
    ) -> Option<&'w [&'a [u8]]> {
        let (name, values) = words.split_first()?;
        let is = |option: &str| name.eq_ignore_ascii_case(option.as_bytes());
        let is_joined = matches!(operation, Operation::ZUnion | Operation::ZInter);
        if is_joined && is("weights") && values.len() >= keys {
            let (weights, behind) = values.split_at_checked(keys)?;
            let weights = weights.iter().map(|weight| Box::from(*weight));
            self.weights.push(weights.collect());
            return Some(behind);
        }
        if is_joined && is("aggregate") {
            let (how, behind) = values.split_first()?;
            self.aggregate = match how.to_ascii_lowercase().as_slice() {
                b"sum" => Aggregate::Sum,
                b"min" => Aggregate::Min,
                b"max" => Aggregate::Max,
                _ => return None,
            };
            return Some(behind);
        }
        if (is_joined || operation == Operation::ZDiff) && is("withscores") {
            self.with_scores = true;
            return Some(values);
        }
        let is_counted = matches!(operation, Operation::InterCard | Operation::ZInterCard);
        if is_counted && is("limit") {
            let (limit, behind) = values.split_first()?;
            self.limit = read_limit(limit)?;
            return Some(behind);
        }
        None
    }

    /// The last weight of key number `position`, if it is plainly zero or infinite: times an infinity or zero it gives NaN, of which
    /// ZINTER makes different things, so that the product has to be known here, not only what a node makes of it.
    pub(super) fn extreme_weight(&self, position: usize) -> Option<f64> {
        extreme(self.weights.last()?.get(position)?)
    }
}

/// The value of a weight that is plainly zero or infinite.
pub(super) fn extreme(weight: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(weight).ok()?;
    let value: f64 = text.parse().ok()?;
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    // What only underflows or overflows is for the servers to refuse.
    let is_zero = !mantissa.contains(|digit: char| digit.is_ascii_digit() && digit != '0');
    let is_infinite = !text.contains(|digit: char| digit.is_ascii_digit());
    ((value == 0.0 && is_zero) || (value.is_infinite() && is_infinite)).then_some(value)
}

/// As the servers' `string2ll`: one way to write a number.
fn read_limit(text: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(text).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(())?;
    usize::try_from(number).ok()
}

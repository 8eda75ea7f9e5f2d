//! Tests of the command table, by rule.

mod introspection;
mod key_extraction;
mod names;

use super::{CommandId, KeyList, KeyOutcome, Lookup, Spec, extract_keys, lookup};
use crate::resp::{ArgRange, Args};

/// A request and the ranges of its arguments.
pub(super) struct Request {
    bytes: Vec<u8>,
    ranges: Vec<ArgRange>,
}

impl Request {
    pub(super) fn new<T: AsRef<[u8]>>(words: impl IntoIterator<Item = T>) -> Self {
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        for word in words {
            let word = word.as_ref();
            ranges.push(ArgRange {
                start: u32::try_from(bytes.len()).unwrap(),
                len: u32::try_from(word.len()).unwrap(),
            });
            bytes.extend_from_slice(word);
        }
        Self { bytes, ranges }
    }

    /// Words between blanks; `''` stands for an empty one.
    pub(super) fn of(line: &str) -> Self {
        Self::new(
            line.split(' ')
                .map(|word| if word == "''" { "" } else { word }),
        )
    }

    pub(super) fn args(&self) -> Args<'_> {
        Args::new(&self.bytes, &self.ranges)
    }
}

pub(super) fn known(line: &str) -> &'static Spec {
    match lookup(Request::of(line).args()) {
        Lookup::Known(spec) => spec,
        other => panic!("{line}: {other:?}"),
    }
}

pub(super) fn keys_of(line: &str) -> (KeyOutcome, Vec<u32>) {
    let request = Request::of(line);
    let mut keys = KeyList::new();
    let outcome = extract_keys(known(line), request.args(), &mut keys);
    (outcome, keys.as_slice().to_vec())
}

/// Runs a writer and gives what it wrote as text.
pub(super) fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

pub(super) fn is(line: &str, id: CommandId) -> bool {
    known(line).id == id
}

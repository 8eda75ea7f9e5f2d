//! Words of a request without the RESP around them, and replies as whole values.

use slotway_core::resp::{ArgRange, Args, parse_value};

/// Words laid out as the arguments of a request are.
#[derive(Debug, Default)]
pub(crate) struct Words {
    bytes: Vec<u8>,
    ranges: Vec<ArgRange>,
}

impl Words {
    pub(crate) fn new(words: &[&[u8]]) -> Self {
        let mut all = Self::default();
        words.iter().for_each(|word| all.push(word));
        all
    }

    pub(crate) fn push(&mut self, word: &[u8]) {
        let offset = |length| u32::try_from(length).expect("fuzz inputs are small");
        self.ranges.push(ArgRange {
            start: offset(self.bytes.len()),
            len: offset(word.len()),
        });
        self.bytes.extend_from_slice(word);
    }

    pub(crate) fn args(&self) -> Args<'_> {
        Args::new(&self.bytes, &self.ranges)
    }
}

/// `reply` is one well-formed value and nothing else.
pub(crate) fn assert_one_value(reply: &[u8]) {
    match parse_value(reply) {
        Ok(Some((_, end))) if end == reply.len() => {}
        other => panic!(
            "{:?} is read as {other:?}",
            reply.escape_ascii().to_string()
        ),
    }
}

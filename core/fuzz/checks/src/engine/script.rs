//! An input of the engine's targets: bytes as they are, and between them things that happen.
//!
//! A byte ff begins an event, named by the byte behind it; `ff ff` is a byte ff. That byte is in no valid RESP header and in no
//! UTF-8 text, so an input without it is what a peer sends, and a mutated one still mostly is.

/// A piece of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// Bytes that arrive together.
    Bytes(&'a [u8]),
    /// Something happens.
    Event(u8),
}

/// The steps of `input`, no two bytes further apart than `piece` in one of them; 0 for no limit.
pub(crate) fn steps(input: &[u8], piece: u8) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0xff);
        let (bytes, behind) = rest.split_at(end.unwrap_or(rest.len()));
        let most = match piece {
            0 => bytes.len().max(1),
            piece => usize::from(piece),
        };
        steps.extend(bytes.chunks(most).map(Step::Bytes));
        rest = match behind {
            [0xff, 0xff, ..] => {
                steps.push(Step::Bytes(&behind[..1]));
                &behind[2..]
            }
            [_, event, after @ ..] => {
                steps.push(Step::Event(*event));
                after
            }
            _ => &[],
        };
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_cut_and_events_are_found() {
        let cut = steps(b"abc\xfftd\xff\xffe\xff", 2);
        let expected = [
            Step::Bytes(b"ab"),
            Step::Bytes(b"c"),
            Step::Event(b't'),
            Step::Bytes(b"d"),
            Step::Bytes(b"\xff"),
            Step::Bytes(b"e"),
        ];
        assert_eq!(cut, expected);
        assert_eq!(steps(b"abc", 0), [Step::Bytes(b"abc")]);
    }
}

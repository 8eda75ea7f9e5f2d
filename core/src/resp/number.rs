//! The decimal numbers of header lines.

/// Longest number [`read_length`] takes: more than any length that passes the limits, less than overflows.
const MAX_LENGTH_DIGITS: usize = 12;

/// What follows the type byte of a header line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// An ordinary length line, complete.
    Known {
        /// The number.
        value: u64,
        /// Index of the first byte after the line.
        next: usize,
    },
    /// The line is ordinary so far but has not ended.
    More,
    /// Anything else: a sign, a leading zero, no digit, too many digits, another byte. The caller looks closer.
    Irregular,
}

/// Reads the digits that begin at `buf[at]` up to and with the line's CRLF. Looks at no more than 14 bytes, so a caller may
/// simply call again from the same place when more bytes have come.
#[inline]
pub(crate) fn read_length(buf: &[u8], at: usize) -> Length {
    let line = buf.get(at..).unwrap_or_default();
    match line {
        [digit @ b'0'..=b'9', b'\r', b'\n', ..] => Length::Known {
            value: u64::from(digit - b'0'),
            next: at + 3,
        },
        [tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', b'\n', ..] => Length::Known {
            value: u64::from(tens - b'0') * 10 + u64::from(ones - b'0'),
            next: at + 4,
        },
        _ => read_long_length(line, at),
    }
}

/// [`read_length`] for what is not a number of one or two digits; `line` starts at index `at`.
fn read_long_length(line: &[u8], at: usize) -> Length {
    let mut value = 0_u64;
    for (i, &byte) in line.iter().take(MAX_LENGTH_DIGITS + 1).enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            // A zero can only be the whole number: servers reject `$03`.
            if i == 1 && value == 0 {
                return Length::Irregular;
            }
            value = value * 10 + u64::from(digit);
        } else if byte == b'\r' && i > 0 {
            return match line.get(i + 1) {
                Some(b'\n') => Length::Known {
                    value,
                    next: at + i + 2,
                },
                Some(_) => Length::Irregular,
                None => Length::More,
            };
        } else {
            return Length::Irregular;
        }
    }
    if line.len() <= MAX_LENGTH_DIGITS {
        Length::More
    } else {
        Length::Irregular
    }
}

/// A decimal integer as the servers' `string2ll` takes it: an optional minus, no plus, no leading zero, no minus zero, within 64
/// bits, nothing around it.
pub(super) fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        b"0" => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if !matches!(digits.first(), Some(b'1'..=b'9')) {
        return None;
    }
    let mut value = 0_i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        let digit = i64::from(digit);
        let shifted = value.checked_mul(10)?;
        value = if negative {
            shifted.checked_sub(digit)?
        } else {
            shifted.checked_add(digit)?
        };
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_lengths_are_read_with_their_line_end() {
        for (line, value) in [
            ("0\r\n", 0),
            ("7\r\n", 7),
            ("10\r\nrest", 10),
            ("999999999999\r\n", 999_999_999_999),
        ] {
            let next = line.find('\n').unwrap() + 1;
            assert_eq!(
                read_length(line.as_bytes(), 0),
                Length::Known { value, next },
                "{line:?}"
            );
            for cut in 0..next {
                assert_eq!(
                    read_length(&line.as_bytes()[..cut], 0),
                    Length::More,
                    "{line:?} cut at {cut}"
                );
            }
        }
        assert_eq!(
            read_length(b"$3\r\n", 1),
            Length::Known { value: 3, next: 4 }
        );
        assert_eq!(read_length(b"$", 9), Length::More);
    }

    #[test]
    fn everything_else_is_irregular() {
        for line in [
            "\r\n",
            "-1\r\n",
            "+1\r\n",
            "01\r\n",
            "00",
            " 1\r\n",
            "1 \r\n",
            "1\n",
            "1\rx",
            "?\r\n",
            "1234567890123",
            "x",
        ] {
            assert_eq!(
                read_length(line.as_bytes(), 0),
                Length::Irregular,
                "{line:?}"
            );
        }
    }

    #[test]
    fn integers_are_those_string2ll_takes() {
        let min = i64::MIN.to_string();
        let max = i64::MAX.to_string();
        for (text, value) in [
            ("0", 0),
            ("7", 7),
            ("-1", -1),
            ("100", 100),
            (min.as_str(), i64::MIN),
            (max.as_str(), i64::MAX),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), Some(value), "{text}");
        }
        for text in [
            "",
            "-",
            "+1",
            "-0",
            "00",
            "01",
            "-01",
            " 1",
            "1 ",
            "1a",
            "9223372036854775808",
            "-9223372036854775809",
        ] {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text}");
        }
    }
}

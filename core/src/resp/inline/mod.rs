//! Inline requests: a line of words as typed into a terminal, turned into an ordinary request [Y6].

use super::request::RequestError;
use super::write;

#[cfg(test)]
mod tests;

/// Splits `line` as the servers' `sdssplitargs` does and appends the request it means, in canonical form, to `out`. Returns the
/// number of arguments; for 0 nothing is appended.
///
/// Words are separated by white space. In double quotes `\n`, `\r`, `\t`, `\b`, `\a` and `\xHH` are the bytes they name and a
/// backslash before anything else is dropped; in single quotes only `\'` is special. A closing quote must be followed by white
/// space or the end. A NUL ends the line.
///
/// # Errors
/// [`RequestError::UnbalancedQuotes`]; `out` is as it was.
pub fn inline_to_resp(line: &[u8], out: &mut Vec<u8>) -> Result<usize, RequestError> {
    let line = line.split(|&byte| byte == 0).next().unwrap_or_default();
    let mut words = Words {
        rest: line,
        text: Vec::with_capacity(line.len()),
        ends: Vec::new(),
    };
    while words.take_word()? {}
    if words.ends.is_empty() {
        return Ok(0);
    }
    write::array(out, words.ends.len());
    let mut start = 0;
    for &end in &words.ends {
        write::bulk(out, words.text.get(start..end).unwrap_or_default());
        start = end;
    }
    Ok(words.ends.len())
}

/// The words found so far, one after the other in `text`, and the line after them.
struct Words<'a> {
    rest: &'a [u8],
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Words<'_> {
    /// Takes the next word off the line; `false` if there is none.
    fn take_word(&mut self) -> Result<bool, RequestError> {
        while let [byte, rest @ ..] = self.rest
            && is_space(*byte)
        {
            self.rest = rest;
        }
        if self.rest.is_empty() {
            return Ok(false);
        }
        // Vertical tab and form feed separate words but do not end one: so it is in `sdssplitargs`.
        while let [byte, rest @ ..] = self.rest
            && !matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
        {
            self.rest = rest;
            match byte {
                b'"' => {
                    self.take_double_quoted()?;
                    break;
                }
                b'\'' => {
                    self.take_single_quoted()?;
                    break;
                }
                byte => self.text.push(*byte),
            }
        }
        self.ends.push(self.text.len());
        Ok(true)
    }

    fn take_double_quoted(&mut self) -> Result<(), RequestError> {
        loop {
            match self.rest {
                [b'\\', b'x', high, low, rest @ ..]
                    if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
                {
                    self.text.push(hex_digit(*high) << 4 | hex_digit(*low));
                    self.rest = rest;
                }
                [b'\\', escaped, rest @ ..] => {
                    self.text.push(unescape(*escaped));
                    self.rest = rest;
                }
                [b'"', rest @ ..] => return self.close_quote(rest.len()),
                [byte, rest @ ..] => {
                    self.text.push(*byte);
                    self.rest = rest;
                }
                [] => return Err(RequestError::UnbalancedQuotes),
            }
        }
    }

    fn take_single_quoted(&mut self) -> Result<(), RequestError> {
        loop {
            match self.rest {
                [b'\\', b'\'', rest @ ..] => {
                    self.text.push(b'\'');
                    self.rest = rest;
                }
                [b'\'', rest @ ..] => return self.close_quote(rest.len()),
                [byte, rest @ ..] => {
                    self.text.push(*byte);
                    self.rest = rest;
                }
                [] => return Err(RequestError::UnbalancedQuotes),
            }
        }
    }

    /// Ends the word at a closing quote with `after` bytes behind it.
    fn close_quote(&mut self, after: usize) -> Result<(), RequestError> {
        let rest = self.rest.get(self.rest.len() - after..).unwrap_or_default();
        if rest.first().is_some_and(|byte| !is_space(*byte)) {
            return Err(RequestError::UnbalancedQuotes);
        }
        self.rest = rest;
        Ok(())
    }
}

/// C's `isspace` in the locale the servers run in.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

const fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => byte.wrapping_sub(b'A').wrapping_add(10),
    }
}

const fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

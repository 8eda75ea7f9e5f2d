//! The pieces replies are made of, each read at a given place: what [`super::ReplyScanner`] and [`super::parse_value`] share.

use super::number::{Length, parse_integer, read_length};
use super::scanner::ReplyError;
use memchr::memchr;

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The bytes end here.
    More,
    /// The bytes are not a reply.
    Fail(ReplyError),
}

impl From<ReplyError> for Stop {
    fn from(error: ReplyError) -> Self {
        Self::Fail(error)
    }
}

/// The line that announces a string or an aggregate, without its type byte; `next` is the index after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// So many bytes, elements or pairs.
    Length { value: u64, next: usize },
    /// The null of RESP2.
    MinusOne { next: usize },
    /// `?`: what follows has an end of its own.
    Streamed { next: usize },
}

/// Reads the announcement whose type byte is before `buf[at]`. Looks at a bounded number of bytes.
pub(super) fn read_header(buf: &[u8], at: usize) -> Result<Header, Stop> {
    match read_length(buf, at) {
        Length::Known { value, next } => Ok(Header::Length { value, next }),
        Length::More => Err(Stop::More),
        Length::Irregular => {
            let rest = buf.get(at..).unwrap_or_default();
            if read_literal(rest, b"-1\r\n")? {
                Ok(Header::MinusOne { next: at + 4 })
            } else if read_literal(rest, b"?\r\n")? {
                Ok(Header::Streamed { next: at + 3 })
            } else {
                Err(ReplyError::InvalidLength.into())
            }
        }
    }
}

/// Reads `;<length>` at `at`: the length of the chunk, 0 after the last one, and the index after the line.
pub(super) fn read_chunk_header(buf: &[u8], at: usize) -> Result<(usize, usize), Stop> {
    match buf.get(at) {
        None => return Err(Stop::More),
        Some(b';') => {}
        Some(_) => return Err(ReplyError::BrokenStream.into()),
    }
    match read_length(buf, at + 1) {
        Length::Known { value, next } => Ok((body_len(value)?, next)),
        Length::More => Err(Stop::More),
        Length::Irregular => Err(ReplyError::InvalidLength.into()),
    }
}

/// Reads the end of a streamed aggregate, whose dot is at `at`: the index after it.
pub(super) fn read_stream_end(buf: &[u8], at: usize) -> Result<usize, Stop> {
    if read_literal(buf.get(at..).unwrap_or_default(), b".\r\n")? {
        Ok(at + 3)
    } else {
        Err(ReplyError::BrokenStream.into())
    }
}

/// Reads the string of `len` bytes at `at` and the CRLF after it: the string, and the index after both.
pub(super) fn read_body(buf: &[u8], at: usize, len: usize) -> Result<(&[u8], usize), Stop> {
    let end = at + len;
    match (buf.get(at..end), buf.get(end..end + 2)) {
        (Some(body), Some(b"\r\n")) => Ok((body, end + 2)),
        (Some(_), Some(_)) => Err(ReplyError::MissingTerminator.into()),
        _ => Err(Stop::More),
    }
}

/// A length from the wire as an index.
pub(super) fn body_len(value: u64) -> Result<usize, ReplyError> {
    // The conversion fails only where a `usize` is narrower than the twelve digits `read_length` takes.
    usize::try_from(value).ok().ok_or(ReplyError::InvalidLength)
}

/// The text of a verbatim string, whose bytes begin with three letters and a colon.
pub(super) fn verbatim_text(body: &[u8]) -> Result<&[u8], ReplyError> {
    match body {
        [_, _, _, b':', text @ ..] => Ok(text),
        _ => Err(ReplyError::InvalidValue),
    }
}

/// The number of a `:` line. The protocol allows a plus that servers do not send.
pub(super) fn integer_of(text: &[u8]) -> Result<i64, ReplyError> {
    let unsigned = text
        .strip_prefix(b"+")
        .filter(|digits| !digits.starts_with(b"-"));
    parse_integer(unsigned.unwrap_or(text)).ok_or(ReplyError::InvalidValue)
}

/// The value of a `#` line.
pub(super) fn boolean_of(text: &[u8]) -> Result<bool, ReplyError> {
    match text {
        b"t" => Ok(true),
        b"f" => Ok(false),
        _ => Err(ReplyError::InvalidValue),
    }
}

/// Whether `text` may follow the type byte `kind` in a line. Doubles and big numbers are passed on as they are.
pub(super) fn check_line(kind: u8, text: &[u8]) -> Result<(), ReplyError> {
    match kind {
        b':' => integer_of(text).map(drop),
        b'#' => boolean_of(text).map(drop),
        b'_' if !text.is_empty() => Err(ReplyError::InvalidValue),
        _ => Ok(()),
    }
}

/// The index of the first CRLF at or after `from`. A CR alone is text, as client libraries take it.
pub(super) fn find_crlf(buf: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr(b'\r', buf.get(at..)?)?;
        if buf.get(at + 1) == Some(&b'\n') {
            return Some(at);
        }
        at += 1;
    }
}

/// Whether `literal` stands at the head of `rest`; more bytes are needed while that is still open.
fn read_literal(rest: &[u8], literal: &[u8]) -> Result<bool, Stop> {
    match rest.get(..literal.len()) {
        Some(head) => Ok(head == literal),
        None if literal.starts_with(rest) => Err(Stop::More),
        None => Ok(false),
    }
}

//! Where a node's reply ends.
//!
//! An aggregate is not descended into: it only raises the number of elements still to come, so nesting costs neither stack nor
//! memory however deep it is. Only a streamed aggregate (`*?`), whose length is not known beforehand, needs an entry on a stack,
//! and those are bounded. No server in use sends one today [Y5].

use super::OK;
use super::number::{Length, read_length};
use super::value::MAX_VALUE_DEPTH;
use super::wire::{
    Header, Stop, body_len, check_line, find_crlf, read_body, read_chunk_header, read_header,
    read_stream_end, verbatim_text,
};
use thiserror::Error;

#[cfg(test)]
mod tests;

/// Streamed aggregates open at the same time; the parser has no use for more.
const MAX_OPEN_STREAMS: usize = MAX_VALUE_DEPTH;

/// Elements still to come at the same time: above what any node has memory for, below what could overflow.
const MAX_OUTSTANDING: u64 = 1 << 48;

/// The head of an array with one element.
const ARRAY_OF_ONE: &[u8] = b"*1\r\n";

/// Bytes that are not a reply. The connection they came from cannot be used further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReplyError {
    /// A type byte no version of the protocol has.
    #[error("unknown reply type {0:#04x}")]
    UnknownType(u8),
    /// A length that is not one.
    #[error("invalid length in a reply")]
    InvalidLength,
    /// An integer, null, boolean or verbatim string of another form than its type has.
    #[error("invalid value in a reply")]
    InvalidValue,
    /// The bytes of a string are not followed by CRLF.
    #[error("a string in a reply is longer than announced")]
    MissingTerminator,
    /// A `.` or `;` outside a streamed value, an attribute without a value, or half a pair in a streamed map.
    #[error("a streamed value in a reply ends where it cannot")]
    BrokenStream,
    /// More levels than this proxy follows.
    #[error("a reply is nested too deeply")]
    TooDeep,
}

impl ReplyError {
    /// A name for this kind of error, from a fixed set.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::UnknownType(_) => "unknown_type",
            Self::InvalidLength => "invalid_length",
            Self::InvalidValue => "invalid_value",
            Self::MissingTerminator => "missing_terminator",
            Self::BrokenStream => "broken_stream",
            Self::TooDeep => "too_deep",
        }
    }
}

/// A streamed aggregate that has not ended.
#[derive(Debug, Clone, Copy)]
struct OpenStream {
    /// Elements that come after it in what it is part of.
    outstanding_after: u64,
    /// Its elements come in pairs.
    pairs: bool,
    /// Whether an odd number of elements has begun.
    odd: bool,
}

/// Finds the end of one reply after another.
#[derive(Debug)]
pub struct ReplyScanner {
    /// Everything before this byte is understood.
    pos: usize,
    /// In a text line: everything before this byte holds no line end.
    searched: usize,
    /// The string that begins at `pos`, if its header has been read: its length, and whether it is verbatim.
    body: Option<(usize, bool)>,
    /// Elements still to come, in the innermost stream if there is one.
    outstanding: u64,
    /// `pos` is in a streamed string, before a `;`.
    in_chunks: bool,
    streams: Vec<OpenStream>,
}

impl Default for ReplyScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplyScanner {
    /// A scanner at the start of a reply.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            pos: 0,
            searched: 0,
            body: None,
            outstanding: 1,
            in_chunks: false,
            streams: Vec::new(),
        }
    }

    /// Forgets the reply it is in, if any.
    pub fn reset(&mut self) {
        self.pos = 0;
        self.searched = 0;
        self.body = None;
        self.outstanding = 1;
        self.in_chunks = false;
        self.streams.clear();
    }

    /// Inside a string: how long the buffer has to be to hold all of it. The number comes from the wire and is not bounded.
    #[must_use]
    pub fn expected_len(&self) -> Option<usize> {
        self.body.map(|(len, _)| self.pos + len + 2)
    }

    /// As [`Self::expected_len`], if the reply is nothing but this string, of a kind whose bytes mean nothing to the protocol.
    #[must_use]
    pub fn lone_string_len(&self) -> Option<usize> {
        let alone = self.outstanding == 1 && self.streams.is_empty() && !self.in_chunks;
        match self.body {
            Some((_, false)) if alone => self.expected_len(),
            _ => None,
        }
    }

    /// Looks for the end of the reply that starts at `buf[0]`: the index after its last byte.
    ///
    /// On `None` the caller calls again with the same bytes and more. After `Some` the next call starts with the next reply. An
    /// attribute belongs to the reply that follows it.
    ///
    /// # Errors
    /// A [`ReplyError`] for bytes that no reply begins with.
    #[inline]
    pub fn scan(&mut self, buf: &[u8]) -> Result<Option<usize>, ReplyError> {
        if self.pos == 0
            && let Some(end) = whole_scalar(buf)
        {
            // Nothing of this reply has been taken before, so there is nothing but `searched` to reset.
            self.searched = 0;
            return Ok(Some(end));
        }
        self.resume(buf)
    }

    fn resume(&mut self, buf: &[u8]) -> Result<Option<usize>, ReplyError> {
        // What the parts of most split commands are answered with.
        if self.pos == 0
            && let Some(element) = buf.strip_prefix(ARRAY_OF_ONE)
            && let Some(len) = whole_scalar(element)
        {
            self.searched = 0;
            return Ok(Some(ARRAY_OF_ONE.len() + len));
        }
        loop {
            // At the very beginning there is none, or it would have been taken at once.
            if self.pos > 0 {
                self.take_whole_scalars(buf);
            }
            if self.outstanding == 0 && self.streams.is_empty() {
                break;
            }
            match self.step(buf) {
                Ok(()) => {}
                Err(Stop::More) => return Ok(None),
                Err(Stop::Fail(error)) => return Err(error),
            }
        }
        let end = self.pos;
        self.reset();
        Ok(Some(end))
    }

    /// Takes the elements at `pos` that [`whole_scalar`] finds: nearly all there are.
    #[inline]
    fn take_whole_scalars(&mut self, buf: &[u8]) {
        if self.body.is_some() || self.in_chunks {
            return;
        }
        while self.outstanding > 0
            && let Some(len) = buf.get(self.pos..).and_then(whole_scalar)
        {
            self.pos += len;
            self.outstanding -= 1;
        }
    }

    /// Takes one element, one header or one chunk.
    fn step(&mut self, buf: &[u8]) -> Result<(), Stop> {
        if let Some((len, verbatim)) = self.body {
            return self.take_body(buf, len, verbatim);
        }
        let kind = *buf.get(self.pos).ok_or(Stop::More)?;
        if self.in_chunks {
            return self.take_chunk_header(buf);
        }
        match kind {
            b'$' | b'!' | b'=' => self.take_string_header(buf, kind),
            b'+' | b'-' | b':' | b',' | b'(' | b'_' | b'#' => self.take_line(buf, kind),
            b'*' | b'~' | b'>' | b'%' | b'|' => self.take_aggregate_header(buf, kind),
            b'.' => self.take_stream_end(buf),
            b';' => Err(ReplyError::BrokenStream.into()),
            other => Err(ReplyError::UnknownType(other).into()),
        }
    }

    /// Counts the element whose first bytes have just been read as begun. Directly in a stream elements are not counted
    /// beforehand.
    fn begin_element(&mut self) {
        if self.outstanding == 0 {
            self.outstanding = 1;
            if let Some(stream) = self.streams.last_mut() {
                stream.odd = !stream.odd;
            }
        }
    }

    fn end_element(&mut self, next: usize) {
        self.begin_element();
        self.outstanding -= 1;
        self.pos = next;
    }

    fn take_line(&mut self, buf: &[u8], kind: u8) -> Result<(), Stop> {
        let end = self.find_line_end(buf).ok_or(Stop::More)?;
        check_line(kind, buf.get(self.pos + 1..end).unwrap_or_default())?;
        self.end_element(end + 2);
        Ok(())
    }

    fn take_string_header(&mut self, buf: &[u8], kind: u8) -> Result<(), Stop> {
        match read_header(buf, self.pos + 1)? {
            Header::Length { value, next } => {
                self.pos = next;
                self.body = Some((body_len(value)?, kind == b'='));
            }
            Header::MinusOne { next } if kind == b'$' => self.end_element(next),
            Header::Streamed { next } if kind == b'$' => {
                self.in_chunks = true;
                self.pos = next;
            }
            Header::MinusOne { .. } | Header::Streamed { .. } => {
                return Err(ReplyError::InvalidLength.into());
            }
        }
        Ok(())
    }

    fn take_body(&mut self, buf: &[u8], len: usize, verbatim: bool) -> Result<(), Stop> {
        let (body, next) = read_body(buf, self.pos, len)?;
        if verbatim {
            verbatim_text(body)?;
        }
        self.body = None;
        if self.in_chunks {
            self.pos = next;
        } else {
            self.end_element(next);
        }
        Ok(())
    }

    fn take_chunk_header(&mut self, buf: &[u8]) -> Result<(), Stop> {
        match read_chunk_header(buf, self.pos)? {
            (0, next) => {
                self.in_chunks = false;
                self.end_element(next);
            }
            (len, next) => {
                self.body = Some((len, false));
                self.pos = next;
            }
        }
        Ok(())
    }

    fn take_aggregate_header(&mut self, buf: &[u8], kind: u8) -> Result<(), Stop> {
        match read_header(buf, self.pos + 1)? {
            Header::Length { value, next } => {
                self.begin_element();
                let elements = if matches!(kind, b'%' | b'|') {
                    value * 2
                } else {
                    value
                };
                // An attribute comes in addition to the element it belongs to; any other aggregate is an element itself.
                self.outstanding = self.outstanding - u64::from(kind != b'|') + elements;
                if self.outstanding > MAX_OUTSTANDING {
                    return Err(ReplyError::InvalidLength.into());
                }
                self.pos = next;
            }
            Header::MinusOne { next } if kind == b'*' => self.end_element(next),
            Header::Streamed { next } if matches!(kind, b'*' | b'~' | b'%') => {
                if self.streams.len() == MAX_OPEN_STREAMS {
                    return Err(ReplyError::TooDeep.into());
                }
                self.begin_element();
                self.streams.push(OpenStream {
                    outstanding_after: self.outstanding - 1,
                    pairs: kind == b'%',
                    odd: false,
                });
                self.outstanding = 0;
                self.pos = next;
            }
            Header::MinusOne { .. } | Header::Streamed { .. } => {
                return Err(ReplyError::InvalidLength.into());
            }
        }
        Ok(())
    }

    fn take_stream_end(&mut self, buf: &[u8]) -> Result<(), Stop> {
        let may_end = |stream: &&OpenStream| self.outstanding == 0 && !(stream.pairs && stream.odd);
        let stream = *self
            .streams
            .last()
            .filter(may_end)
            .ok_or(ReplyError::BrokenStream)?;
        self.pos = read_stream_end(buf, self.pos)?;
        self.outstanding = stream.outstanding_after;
        self.streams.pop();
        Ok(())
    }

    /// The CR of the line at `pos`, looking at each byte once however often it is called.
    fn find_line_end(&mut self, buf: &[u8]) -> Option<usize> {
        let found = find_crlf(buf, self.pos.max(self.searched));
        // A CR at the very end may be the first half of the line's end.
        self.searched = found.unwrap_or_else(|| {
            buf.len()
                .saturating_sub(usize::from(buf.last() == Some(&b'\r')))
        });
        found
    }
}

/// The end of the reply at the head of `buf`, if it is one of the few kinds nearly all replies are of and is there as a whole.
#[inline]
fn whole_scalar(buf: &[u8]) -> Option<usize> {
    match buf {
        [b'$', b'-', b'1', b'\r', b'\n', ..] => Some(5),
        [b'$', ..] => {
            let Length::Known { value, next } = read_length(buf, 1) else {
                return None;
            };
            let end = next + usize::try_from(value).ok()?;
            (buf.get(end..end + 2)? == b"\r\n").then_some(end + 2)
        }
        [b'+', b'O', b'K', b'\r', b'\n', ..] => Some(OK.len()),
        [b'_', b'\r', b'\n', ..] => Some(3),
        [b':', ..] => match read_length(buf, 1) {
            Length::Known { next, .. } => Some(next),
            Length::More | Length::Irregular => None,
        },
        _ => None,
    }
}

//! Where a client's request ends and where its arguments are.
//!
//! The rules and the texts are those of the servers' `processMultibulkBuffer` and `processInlineBuffer`, with one deviation: the
//! servers take any two bytes after an argument and any byte after the CR of a header line, this decoder insists on CRLF. The
//! bytes of a request are forwarded as they came over a connection shared by many clients, so its boundaries must not depend on
//! how forgiving the node's parser is.

use super::args::ArgRange;
use super::number::{Length, parse_integer, read_length};
use memchr::memchr;

mod error;
mod limits;
#[cfg(test)]
mod tests;

pub use self::error::RequestError;
pub use self::limits::RequestLimits;

/// A vector of ranges above this capacity is given back before the next request: one huge command must not hold its memory for
/// the life of an idle connection.
const KEPT_RANGES: usize = 1024;

/// What stands at the head of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeStep {
    /// A part of a request: call again with the same bytes and more.
    Incomplete,
    /// Nothing to execute and nothing to answer: an empty line, or an array with no elements or a negative count [Y7].
    Skip {
        /// Bytes to drop.
        len: usize,
    },
    /// An inline request: the line is `buf[..line_len]`, for [`super::inline_to_resp`].
    Inline {
        /// Length of the line without its end.
        line_len: usize,
        /// Bytes of the request, the line's end included.
        len: usize,
    },
    /// A request; [`RequestDecoder::ranges`] tells where its arguments are.
    Command {
        /// Bytes of the request.
        len: usize,
    },
}

/// What the byte at the decoder's position belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first byte of a request.
    Start,
    /// An inline request.
    Inline,
    /// The `*` line.
    Count,
    /// The `$` line of the next argument.
    BulkLength,
    /// An argument of this many bytes.
    Body(u32),
}

/// Finds the end and the arguments of one request after another.
#[derive(Debug)]
pub struct RequestDecoder {
    ranges: Vec<ArgRange>,
    state: State,
    /// Everything before this byte is understood.
    pos: usize,
    /// In a line of unusual form: everything before this byte holds no line end.
    searched: usize,
    /// Arguments still to come, the one at `pos` included.
    missing: u32,
}

impl Default for RequestDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestDecoder {
    /// A decoder at the start of a request.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ranges: Vec::new(),
            state: State::Start,
            pos: 0,
            searched: 0,
            missing: 0,
        }
    }

    /// Forgets the request it is in, if any.
    pub fn reset(&mut self) {
        self.ranges.clear();
        self.restart();
    }

    /// The arguments of the request that [`DecodeStep::Command`] reported, until the next call to [`Self::decode`].
    #[must_use]
    pub fn ranges(&self) -> &[ArgRange] {
        &self.ranges
    }

    /// Inside an argument: how long the buffer has to be to hold all of it, which is never above
    /// [`RequestLimits::max_request_bytes`]. A caller may use it to make room at once.
    #[must_use]
    pub fn expected_len(&self) -> Option<usize> {
        match self.state {
            State::Body(len) => Some(self.pos + len as usize + 2),
            State::Start | State::Inline | State::Count | State::BulkLength => None,
        }
    }

    /// Looks for the end of the request that starts at `buf[0]`.
    ///
    /// On [`DecodeStep::Incomplete`] the caller calls again with the same bytes and more. After any other step it drops `len`
    /// bytes, and the next call starts with the next request.
    ///
    /// # Errors
    /// A [`RequestError`] for bytes that no request begins with. The connection cannot be used further.
    #[inline]
    pub fn decode(
        &mut self,
        buf: &[u8],
        limits: &RequestLimits,
    ) -> Result<DecodeStep, RequestError> {
        let step = self.advance(buf, limits)?;
        if step != DecodeStep::Incomplete {
            self.restart();
        }
        Ok(step)
    }

    fn restart(&mut self) {
        self.state = State::Start;
        self.pos = 0;
        self.searched = 0;
        self.missing = 0;
    }

    #[inline]
    fn advance(&mut self, buf: &[u8], limits: &RequestLimits) -> Result<DecodeStep, RequestError> {
        if self.state == State::Start {
            self.ranges.clear();
            if self.ranges.capacity() > KEPT_RANGES {
                self.ranges = Vec::new();
            }
            match buf.first() {
                None => return Ok(DecodeStep::Incomplete),
                Some(b'*') => self.state = State::Count,
                Some(_) => self.state = State::Inline,
            }
        }
        match self.state {
            State::Inline => return self.inline_line(buf, limits),
            State::Count => match self.read_count(buf, limits)? {
                None => return Ok(DecodeStep::Incomplete),
                Some(0) => return Ok(DecodeStep::Skip { len: self.pos }),
                Some(count) => {
                    self.missing = count;
                    self.state = State::BulkLength;
                }
            },
            State::Start | State::BulkLength | State::Body(_) => {}
        }
        self.read_arguments(buf, limits)
    }

    #[inline]
    fn read_arguments(
        &mut self,
        buf: &[u8],
        limits: &RequestLimits,
    ) -> Result<DecodeStep, RequestError> {
        loop {
            if self.state == State::BulkLength {
                self.take_whole_arguments(buf, limits);
            }
            if self.missing == 0 {
                return Ok(DecodeStep::Command { len: self.pos });
            }
            if !self.take_argument(buf, limits)? {
                return Ok(DecodeStep::Incomplete);
            }
        }
    }

    /// Takes the arguments from `pos` on that are there as a whole and as they should be: nearly all there are. Anything else
    /// is left to [`Self::take_argument`], so that the position stays in registers here.
    #[inline]
    fn take_whole_arguments(&mut self, buf: &[u8], limits: &RequestLimits) {
        let (mut pos, mut missing) = (self.pos, self.missing);
        while missing > 0
            && let Some((range, next)) = whole_argument(buf, pos, limits)
        {
            self.ranges.push(range);
            pos = next;
            missing -= 1;
        }
        self.pos = pos;
        self.missing = missing;
    }

    /// Takes the argument whose header, or whose first byte in [`State::Body`], is at `pos`; `false` if it is not there yet.
    fn take_argument(&mut self, buf: &[u8], limits: &RequestLimits) -> Result<bool, RequestError> {
        let len = match self.state {
            State::Body(len) => len,
            _ => match self.read_bulk_length(buf, limits)? {
                Some(len) => len,
                None => return Ok(false),
            },
        };
        let end = self.pos + len as usize;
        match buf.get(end..end + 2) {
            Some(b"\r\n") => {}
            Some(_) => return Err(RequestError::InvalidBulkLength),
            None => {
                self.state = State::Body(len);
                return Ok(false);
            }
        }
        // `read_bulk_length` has checked that the argument ends below `max_request_bytes`, which is a `u32`.
        let Ok(start) = u32::try_from(self.pos) else {
            return Err(RequestError::TooBigRequest);
        };
        self.ranges.push(ArgRange { start, len });
        self.pos = end + 2;
        self.state = State::BulkLength;
        self.missing -= 1;
        Ok(true)
    }

    /// Reads the `*` line and moves past it; 0 for a request to skip.
    #[inline]
    fn read_count(
        &mut self,
        buf: &[u8],
        limits: &RequestLimits,
    ) -> Result<Option<u32>, RequestError> {
        let (value, next) = match read_length(buf, self.pos + 1) {
            Length::Known { value, next } => (value, next),
            Length::More => return Ok(None),
            Length::Irregular => {
                match self.irregular_line(buf, limits, RequestError::TooBigMultibulkLine)? {
                    None => return Ok(None),
                    Some((line, next)) => {
                        let value = line
                            .get(1..)
                            .and_then(parse_integer)
                            .ok_or(RequestError::InvalidMultibulkLength)?;
                        if !line_ends_well(buf, next) {
                            return Err(RequestError::InvalidMultibulkLength);
                        }
                        (u64::try_from(value).unwrap_or(0), next)
                    }
                }
            }
        };
        self.pos = next;
        match u32::try_from(value) {
            Ok(count) if count <= limits.max_args => Ok(Some(count)),
            Ok(count) if !limits.authenticated && i32::try_from(count).is_ok() => {
                Err(RequestError::UnauthenticatedMultibulk)
            }
            _ => Err(RequestError::InvalidMultibulkLength),
        }
    }

    /// Reads the `$` line and moves past it.
    #[inline]
    fn read_bulk_length(
        &mut self,
        buf: &[u8],
        limits: &RequestLimits,
    ) -> Result<Option<u32>, RequestError> {
        let first = match buf.get(self.pos) {
            Some(&byte) => byte,
            None => return Ok(None),
        };
        let length = if first == b'$' {
            read_length(buf, self.pos + 1)
        } else {
            Length::Irregular
        };
        let (value, next) = match length {
            Length::Known { value, next } => (value, next),
            Length::More => return Ok(None),
            Length::Irregular => return self.irregular_bulk_length(buf, limits, first),
        };
        let len = match u32::try_from(value) {
            Ok(len) if len <= limits.max_bulk_bytes => len,
            Ok(len) if !limits.authenticated && len <= RequestLimits::DEFAULT.max_bulk_bytes => {
                return Err(RequestError::UnauthenticatedBulk);
            }
            _ => return Err(RequestError::InvalidBulkLength),
        };
        if next + len as usize + 2 > limits.max_request_bytes as usize {
            return Err(RequestError::TooBigRequest);
        }
        self.pos = next;
        Ok(Some(len))
    }

    /// A line where a `$` line should be that is not of the ordinary form. It can only be an error, but servers find that out
    /// when the line is complete.
    #[cold]
    fn irregular_bulk_length(
        &mut self,
        buf: &[u8],
        limits: &RequestLimits,
        first: u8,
    ) -> Result<Option<u32>, RequestError> {
        match self.irregular_line(buf, limits, RequestError::TooBigBulkLine)? {
            None => Ok(None),
            Some(_) if first == b'$' => Err(RequestError::InvalidBulkLength),
            Some(_) => Err(RequestError::ExpectedBulk(first)),
        }
    }

    /// The line at `pos` up to its CR, and the index after the two bytes that end it, once both are there.
    #[cold]
    fn irregular_line<'a>(
        &mut self,
        buf: &'a [u8],
        limits: &RequestLimits,
        too_big: RequestError,
    ) -> Result<Option<(&'a [u8], usize)>, RequestError> {
        let Some(cr) = self.find(b'\r', buf) else {
            return if buf.len().saturating_sub(self.pos) > limits.max_inline_bytes as usize {
                Err(too_big)
            } else {
                Ok(None)
            };
        };
        if cr - self.pos > limits.max_inline_bytes as usize {
            return Err(too_big);
        }
        if buf.len() < cr + 2 {
            return Ok(None);
        }
        Ok(buf.get(self.pos..cr).map(|line| (line, cr + 2)))
    }

    fn inline_line(
        &mut self,
        buf: &[u8],
        limits: &RequestLimits,
    ) -> Result<DecodeStep, RequestError> {
        let found = self.find(b'\n', buf);
        if found.unwrap_or(buf.len()) > limits.max_inline_bytes as usize {
            return Err(RequestError::TooBigInline);
        }
        let Some(newline) = found else {
            return Ok(DecodeStep::Incomplete);
        };
        let line = buf.get(..newline).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let len = newline + 1;
        Ok(if line.is_empty() {
            DecodeStep::Skip { len }
        } else {
            DecodeStep::Inline {
                line_len: line.len(),
                len,
            }
        })
    }

    /// The first `needle` at or after `pos`, looking at each byte once however often it is called.
    fn find(&mut self, needle: u8, buf: &[u8]) -> Option<usize> {
        let from = self.pos.max(self.searched);
        let found = memchr(needle, buf.get(from..).unwrap_or_default()).map(|i| from + i);
        self.searched = found.unwrap_or(buf.len());
        found
    }
}

/// The argument whose header is at `pos`, and the index after it, if all of it is there and within the limits.
#[inline]
fn whole_argument(buf: &[u8], pos: usize, limits: &RequestLimits) -> Option<(ArgRange, usize)> {
    if *buf.get(pos)? != b'$' {
        return None;
    }
    let Length::Known { value, next } = read_length(buf, pos + 1) else {
        return None;
    };
    let len = u32::try_from(value)
        .ok()
        .filter(|len| *len <= limits.max_bulk_bytes)?;
    let end = next + len as usize;
    let whole = buf.get(end..end + 2)? == b"\r\n" && end + 2 <= limits.max_request_bytes as usize;
    let start = u32::try_from(next).ok().filter(|_| whole)?;
    Some((ArgRange { start, len }, end + 2))
}

/// Whether the line that ends before `next` ends in CRLF.
fn line_ends_well(buf: &[u8], next: usize) -> bool {
    buf.get(next.saturating_sub(2)..next) == Some(b"\r\n")
}

//! A reply as a tree, for the few the proxy reads itself: topology, handshakes, replies to merge. Not for the request path.

use super::scanner::ReplyError;
use super::wire::{
    Header, Stop, body_len, boolean_of, check_line, find_crlf, integer_of, read_body,
    read_chunk_header, read_header, read_stream_end, verbatim_text,
};

#[cfg(test)]
mod tests;

/// Levels of aggregates [`parse_value`] follows. The deepest reply the proxy reads, `COMMAND`, has seven.
pub const MAX_VALUE_DEPTH: usize = 64;

/// A reply, its strings borrowed from the bytes it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// `+`
    Simple(&'a [u8]),
    /// `-`, without the dash
    Error(&'a [u8]),
    /// `:`
    Integer(i64),
    /// `$`
    Bulk(&'a [u8]),
    /// `$?`: the chunks of a streamed string in order
    Chunked(Vec<&'a [u8]>),
    /// `_`, `$-1` and `*-1`
    Null,
    /// `*`
    Array(Vec<Value<'a>>),
    /// `%`
    Map(Vec<(Value<'a>, Value<'a>)>),
    /// `~`
    Set(Vec<Value<'a>>),
    /// `>`
    Push(Vec<Value<'a>>),
    /// `,`, as sent
    Double(&'a [u8]),
    /// `#`
    Boolean(bool),
    /// `(`, as sent
    BigNumber(&'a [u8]),
    /// `=`, without the format
    Verbatim(&'a [u8]),
    /// `!`
    BulkError(&'a [u8]),
}

/// Reads the reply at the head of `buf`: its value and the index after its last byte, or `None` if more bytes are needed. The
/// attributes in it are read and dropped.
///
/// # Errors
/// A [`ReplyError`] for bytes no reply begins with, and for a reply of more than [`MAX_VALUE_DEPTH`] levels.
pub fn parse_value(buf: &[u8]) -> Result<Option<(Value<'_>, usize)>, ReplyError> {
    let mut parser = Parser { buf, pos: 0 };
    match parser.value(0) {
        Ok(value) => Ok(Some((value, parser.pos))),
        Err(Stop::More) => Ok(None),
        Err(Stop::Fail(error)) => Err(error),
    }
}

struct Parser<'a> {
    buf: &'a [u8],
    pos: usize,
}

impl<'a> Parser<'a> {
    /// The value at `pos`, inside `depth` aggregates.
    fn value(&mut self, depth: usize) -> Result<Value<'a>, Stop> {
        loop {
            let kind = *self.buf.get(self.pos).ok_or(Stop::More)?;
            return match kind {
                b'$' | b'!' | b'=' => self.string(kind),
                b'+' | b'-' | b':' | b',' | b'(' | b'_' | b'#' => self.line(kind),
                b'*' | b'~' | b'>' | b'%' | b'|' if depth == MAX_VALUE_DEPTH => {
                    Err(ReplyError::TooDeep.into())
                }
                b'*' | b'~' | b'>' => self.elements(kind, depth),
                b'%' => self.pairs(depth).map(Value::Map),
                b'|' => {
                    self.pairs(depth)?;
                    continue;
                }
                b'.' | b';' => Err(ReplyError::BrokenStream.into()),
                other => Err(ReplyError::UnknownType(other).into()),
            };
        }
    }

    fn line(&mut self, kind: u8) -> Result<Value<'a>, Stop> {
        let end = find_crlf(self.buf, self.pos).ok_or(Stop::More)?;
        let text = self.buf.get(self.pos + 1..end).unwrap_or_default();
        self.pos = end + 2;
        Ok(match kind {
            b'+' => Value::Simple(text),
            b'-' => Value::Error(text),
            b':' => Value::Integer(integer_of(text)?),
            b',' => Value::Double(text),
            b'(' => Value::BigNumber(text),
            b'#' => Value::Boolean(boolean_of(text)?),
            _ => {
                check_line(kind, text)?;
                Value::Null
            }
        })
    }

    fn string(&mut self, kind: u8) -> Result<Value<'a>, Stop> {
        match read_header(self.buf, self.pos + 1)? {
            Header::Length { value, next } => {
                let (body, next) = read_body(self.buf, next, body_len(value)?)?;
                self.pos = next;
                Ok(match kind {
                    b'$' => Value::Bulk(body),
                    b'!' => Value::BulkError(body),
                    _ => Value::Verbatim(verbatim_text(body)?),
                })
            }
            Header::MinusOne { next } if kind == b'$' => {
                self.pos = next;
                Ok(Value::Null)
            }
            Header::Streamed { next } if kind == b'$' => {
                self.pos = next;
                self.chunks().map(Value::Chunked)
            }
            Header::MinusOne { .. } | Header::Streamed { .. } => {
                Err(ReplyError::InvalidLength.into())
            }
        }
    }

    fn chunks(&mut self) -> Result<Vec<&'a [u8]>, Stop> {
        let mut chunks = Vec::new();
        loop {
            let (len, next) = read_chunk_header(self.buf, self.pos)?;
            self.pos = next;
            if len == 0 {
                return Ok(chunks);
            }
            let (chunk, next) = read_body(self.buf, next, len)?;
            chunks.push(chunk);
            self.pos = next;
        }
    }

    fn elements(&mut self, kind: u8, depth: usize) -> Result<Value<'a>, Stop> {
        let elements = match read_header(self.buf, self.pos + 1)? {
            Header::Length { value, next } => {
                self.pos = next;
                let mut elements = Vec::with_capacity(self.plausible_count(value));
                for _ in 0..value {
                    elements.push(self.value(depth + 1)?);
                }
                elements
            }
            Header::MinusOne { next } if kind == b'*' => {
                self.pos = next;
                return Ok(Value::Null);
            }
            Header::Streamed { next } if kind != b'>' => {
                self.pos = next;
                let mut elements = Vec::new();
                while !self.stream_ended()? {
                    elements.push(self.value(depth + 1)?);
                }
                elements
            }
            Header::MinusOne { .. } | Header::Streamed { .. } => {
                return Err(ReplyError::InvalidLength.into());
            }
        };
        Ok(match kind {
            b'*' => Value::Array(elements),
            b'~' => Value::Set(elements),
            _ => Value::Push(elements),
        })
    }

    /// The pairs of a map or an attribute.
    fn pairs(&mut self, depth: usize) -> Result<Vec<(Value<'a>, Value<'a>)>, Stop> {
        let is_map = self.buf.get(self.pos) == Some(&b'%');
        let mut pairs = Vec::new();
        match read_header(self.buf, self.pos + 1)? {
            Header::Length { value, next } => {
                self.pos = next;
                pairs.reserve(self.plausible_count(value.saturating_mul(2)) / 2);
                for _ in 0..value {
                    pairs.push((self.value(depth + 1)?, self.value(depth + 1)?));
                }
            }
            Header::Streamed { next } if is_map => {
                self.pos = next;
                while !self.stream_ended()? {
                    pairs.push((self.value(depth + 1)?, self.value(depth + 1)?));
                }
            }
            Header::MinusOne { .. } | Header::Streamed { .. } => {
                return Err(ReplyError::InvalidLength.into());
            }
        }
        Ok(pairs)
    }

    /// Steps over the dot that ends a streamed aggregate, if it is next.
    fn stream_ended(&mut self) -> Result<bool, Stop> {
        if *self.buf.get(self.pos).ok_or(Stop::More)? != b'.' {
            return Ok(false);
        }
        self.pos = read_stream_end(self.buf, self.pos)?;
        Ok(true)
    }

    /// `announced` elements, but no more than the bytes at hand can hold: the announcement alone must not allocate.
    fn plausible_count(&self, announced: u64) -> usize {
        const SHORTEST_VALUE: usize = 3;
        let possible = self.buf.len().saturating_sub(self.pos) / SHORTEST_VALUE;
        usize::try_from(announced).map_or(possible, |announced| announced.min(possible))
    }
}

//! What a node replies to SCAN, and what a client gets.

use super::ScanError;
use crate::merge::elements::{Elements, elements, without_attributes};
use crate::resp::{Value, parse_value, write};

/// Cursor and keys of a node.
pub(super) struct Page<'a> {
    pub(super) cursor: u64,
    /// As they came.
    pub(super) keys: Elements<'a>,
}

impl<'a> Page<'a> {
    pub(super) fn read(reply: &'a [u8]) -> Result<Self, ScanError> {
        let (cursor, keys) = split(reply)?;
        let keys = without_attributes(keys).and_then(elements);
        Ok(Self {
            cursor,
            keys: keys.ok_or(ScanError::UnexpectedReply)?,
        })
    }
}

/// The node's cursor, which takes all 64 bits, and its keys as they came.
pub(super) fn split(reply: &[u8]) -> Result<(u64, &[u8]), ScanError> {
    let items = without_attributes(reply).and_then(elements);
    let items = items.ok_or(ScanError::UnexpectedReply)?;
    let [cursor, keys] = items[..] else {
        return Err(ScanError::UnexpectedReply);
    };
    let cursor = text(cursor)
        .and_then(|cursor| std::str::from_utf8(cursor).ok())
        .and_then(|digits| digits.parse().ok());
    Ok((cursor.ok_or(ScanError::UnexpectedReply)?, keys))
}

/// A string.
pub(super) fn text(reply: &[u8]) -> Option<&[u8]> {
    match parse_value(reply) {
        Ok(Some((Value::Bulk(text) | Value::Verbatim(text), _))) => Some(text),
        _ => None,
    }
}

/// Appends the head of a reply of SCAN: its keys are to follow, as an array.
pub(super) fn write_head(cursor: u64, out: &mut Vec<u8>) {
    write::array(out, 2);
    write::bulk(out, itoa::Buffer::new().format(cursor).as_bytes());
}

/// Appends a reply of SCAN with these keys, as they came.
pub(super) fn write_page(cursor: u64, keys: &[&[u8]], out: &mut Vec<u8>) {
    write_head(cursor, out);
    write::array(out, keys.len());
    keys.iter().for_each(|key| out.extend_from_slice(key));
}

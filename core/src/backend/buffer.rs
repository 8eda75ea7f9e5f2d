//! Bytes that are appended at one end and taken off at the other.

use bytes::{Buf, BytesMut};

/// Takes `count` bytes off the front of a buffer, or all if there are fewer. If nothing is left, what is appended next begins where
/// the buffer does, and nothing has to be moved there first.
pub fn take_off(buffer: &mut BytesMut, count: usize) {
    if count < buffer.len() {
        buffer.advance(count);
    } else {
        buffer.clear();
    }
}

/// Gives back the room of an empty buffer if it is more than `kept`. Its capacity alone does not tell: what was taken off the
/// front is still allocated, for use by the next bytes.
pub fn give_back(buffer: &mut BytesMut, kept: usize) {
    if buffer.is_empty() && buffer.try_reclaim(kept + 1) {
        *buffer = BytesMut::new();
    }
}

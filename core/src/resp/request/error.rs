//! What is wrong with a request, and how servers say it.

use super::super::write;
use thiserror::Error;

/// Bytes that are not a request. Each is answered with [`RequestError::write_reply`] and the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The number after `*` is not one, or above the limit.
    #[error("invalid multibulk length")]
    InvalidMultibulkLength,
    /// The number after `$` is not one, negative, above the limit, or contradicted by the bytes that follow.
    #[error("invalid bulk length")]
    InvalidBulkLength,
    /// An argument does not begin with `$` but with this byte.
    #[error("expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    /// An inline request without an end.
    #[error("too big inline request")]
    TooBigInline,
    /// A `*` line without an end.
    #[error("too big mbulk count string")]
    TooBigMultibulkLine,
    /// A `$` line without an end.
    #[error("too big bulk count string")]
    TooBigBulkLine,
    /// More arguments than a client may send before it has authenticated.
    #[error("unauthenticated multibulk length")]
    UnauthenticatedMultibulk,
    /// A longer argument than a client may send before it has authenticated.
    #[error("unauthenticated bulk length")]
    UnauthenticatedBulk,
    /// An inline request with an open quote, or one closed in the middle of a word.
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
    /// The whole request is above [`RequestLimits::max_request_bytes`]. Servers close without a word at their
    /// `client-query-buffer-limit`; a reason costs nothing.
    #[error("too big request")]
    TooBigRequest,
}

impl RequestError {
    /// Appends the reply the servers give.
    pub fn write_reply(&self, out: &mut Vec<u8>) {
        let mut text = b"ERR Protocol error: ".to_vec();
        match self {
            // The byte as it is, not as text: it need not be ASCII.
            Self::ExpectedBulk(byte) => {
                text.extend_from_slice(b"expected '$', got '");
                text.extend_from_slice(&[*byte, b'\'']);
            }
            other => text.extend_from_slice(other.to_string().as_bytes()),
        }
        write::error(out, &text);
    }

    /// A name for this kind of error, from a fixed set.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::InvalidMultibulkLength => "invalid_multibulk_length",
            Self::InvalidBulkLength => "invalid_bulk_length",
            Self::ExpectedBulk(_) => "expected_bulk",
            Self::TooBigInline => "too_big_inline",
            Self::TooBigMultibulkLine => "too_big_multibulk_line",
            Self::TooBigBulkLine => "too_big_bulk_line",
            Self::UnauthenticatedMultibulk => "unauthenticated_multibulk",
            Self::UnauthenticatedBulk => "unauthenticated_bulk",
            Self::UnbalancedQuotes => "unbalanced_quotes",
            Self::TooBigRequest => "too_big_request",
        }
    }
}

//! RESP2 and RESP3: bytes to frame boundaries, and values to bytes.
//!
//! The request path needs only boundaries: [`RequestDecoder`] and [`ReplyScanner`] find where a request or a reply ends and leave
//! the bytes where they are, so a proxied value is never copied into a tree. [`parse_value`] builds that tree for the few
//! replies the proxy reads itself (topology, handshakes). Nothing here knows a command's name or meaning.
//!
//! Both scanners are fed a buffer that starts at the current frame and grows between calls; they remember how far they have
//! come, so feeding a frame byte by byte costs no more than its length.
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod args;
mod inline;
mod number;
mod request;
mod scanner;
mod value;
mod wire;
pub mod write;

pub use args::{ArgRange, Args};
pub use inline::inline_to_resp;
pub(crate) use number::{Length, read_length};
pub use request::{DecodeStep, RequestDecoder, RequestError, RequestLimits};
pub use scanner::{ReplyError, ReplyScanner};
pub use value::{MAX_VALUE_DEPTH, Value, parse_value};

/// The reply of a command that has nothing else to say.
pub const OK: &[u8] = b"+OK\r\n";
/// The reply to `PING` without an argument, outside subscribe mode.
pub const PONG: &[u8] = b"+PONG\r\n";
/// The reply to a command accepted inside `MULTI`.
pub const QUEUED: &[u8] = b"+QUEUED\r\n";
/// The integer 0.
pub const ZERO: &[u8] = b":0\r\n";
/// The integer 1.
pub const ONE: &[u8] = b":1\r\n";
/// An array without elements.
pub const EMPTY_ARRAY: &[u8] = b"*0\r\n";

/// The version of the protocol a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// RESP2: what every connection starts with.
    #[default]
    Resp2,
    /// RESP3: what `HELLO 3` switches to.
    Resp3,
}

impl Protocol {
    /// The number `HELLO` uses for this version.
    #[must_use]
    pub const fn version(self) -> u8 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }

    /// 0 or 1: the place of this version in a table with one entry for each.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Resp2 => 0,
            Self::Resp3 => 1,
        }
    }
}

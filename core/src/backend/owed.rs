//! What a node owes on a link.

use crate::engine::RequestKey;

/// What a reply owed by the node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owed {
    /// The reply of a request.
    Request(RequestKey),
    /// The reply of a request whose client has been told that it takes too long: swallowed [D8].
    Orphan(RequestKey),
    /// The reply to EXEC, of a request that is a transaction.
    Unit(RequestKey),
    /// The reply to MULTI, or to a command of a transaction before its EXEC: swallowed.
    Queued {
        /// How many replies later that to EXEC comes.
        behind: u32,
    },
    /// The `+OK` of the ASKING before the next request: swallowed.
    Asking,
    /// The reply to a PING that shows whether the node is alive [HL2].
    Probe,
    /// The reply to the CLIENT KILL of a connection that was given up: swallowed [D9].
    Fence,
}

/// One reply owed by the node.
#[derive(Debug, Clone, Copy)]
pub struct InFlight {
    /// What for.
    pub owed: Owed,
    /// Log position of the first byte of the request.
    pub start: u64,
    /// Log position after the last byte of the request.
    pub end: u64,
}

/// A string of a reply that is passed on while it arrives.
#[derive(Debug)]
pub struct Passage {
    /// Bytes of the reply.
    pub length: usize,
    /// Bytes of it still to come, at least one.
    pub left: usize,
}

impl Passage {
    /// Takes the next bytes, at most [`Self::left`]; whether they end as a string has to, if it ends in them.
    pub fn take(&mut self, piece: &[u8]) -> bool {
        self.left -= piece.len();
        // Of the two bytes at the end of the whole, those that are in this piece.
        let end = b"\r\n".get(..2_usize.saturating_sub(self.left));
        let expected = end.unwrap_or_default();
        let last = piece.len().min(expected.len());
        piece.ends_with(expected.get(expected.len() - last..).unwrap_or_default())
    }
}

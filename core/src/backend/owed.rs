//! What a node owes on a link.

use crate::engine::{RequestKey, TopicKey};

/// What a reply owed by the node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owed {
    /// The reply of a request.
    Request(RequestKey),
    /// The reply of a request whose client has been told that it takes too long: swallowed [D8].
    Orphan(RequestKey),
    /// The reply to EXEC, of a request that is a transaction.
    Unit(RequestKey),
    /// The reply of a request that waits at the node for as long as it takes [B12].
    Blocked(RequestKey),
    /// The reply to a WATCH.
    Watch(RequestKey),
    /// The reply to a SELECT, over the private link of a session that has keys watched.
    Select(RequestKey),
    /// The reply to an UNWATCH or CLIENT UNBLOCK of the proxy's own: swallowed [W4] [B9].
    Nobody,
    /// The reply to MULTI, or to a command of a transaction before its EXEC: swallowed.
    Queued {
        /// How many replies later that to EXEC comes.
        behind: u32,
    },
    /// The `+OK` of the ASKING before the next request: swallowed.
    Asking,
    /// The reply to a PING that shows whether the node is alive [HL2].
    Probe,
    /// On a feed: what is said to the subscription of a topic.
    Subscribe(TopicKey),
    /// On a feed: the same to its end; for a sharded channel, and to the PING behind it.
    Unsubscribe(TopicKey),
    /// The reply to the CLIENT KILL of a connection that was given up: swallowed [D9].
    Fence,
}

impl Owed {
    /// The request that it answers, if a client waits for it.
    #[must_use]
    pub const fn request(self) -> Option<RequestKey> {
        match self {
            Self::Request(request)
            | Self::Unit(request)
            | Self::Blocked(request)
            | Self::Watch(request)
            | Self::Select(request) => Some(request),
            Self::Orphan(_)
            | Self::Nobody
            | Self::Queued { .. }
            | Self::Asking
            | Self::Probe
            | Self::Subscribe(_)
            | Self::Unsubscribe(_)
            | Self::Fence => None,
        }
    }
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

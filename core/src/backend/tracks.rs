//! A connection of a session that tracks keys.

use crate::engine::SessionKey;

/// What such a connection is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracks {
    /// Whose it is.
    pub session: SessionKey,
    /// What is said on it behind the introduction, so that the node remembers what is read over it; `None` if it only gets what the
    /// node has to say about what is read over another one, in RESP2.
    pub command: Option<Vec<u8>>,
}

//! A connection that carries the commands of one session at a time: such as wait at the node, or change what the connection is.

use crate::engine::SessionKey;
use crate::router::KeyHash;
use crate::time::Timestamp;

/// What a private link is lent for, and whether it can be lent again.
#[derive(Debug, Default)]
pub struct Private {
    /// Nobody has it.
    pub idle: bool,
    /// The session that has keys watched over it, and may yet execute a transaction [W1].
    pub pinned: Option<SessionKey>,
    /// Those keys were watched with ASKING.
    pub asking: bool,
    /// Which they are, if so.
    pub asked_for: Vec<KeyHash>,
    /// Since when its node is no primary any more, if a client waits over it [B11].
    pub demoted_at: Option<Timestamp>,
    /// Keys are watched over it that nobody has unwatched.
    pub watches: bool,
    /// It is not lent again, for another reason: the node is about to close it, or should have killed another one first.
    pub used_up: bool,
}

//! What a client has watched since its last transaction [W1].

use crate::engine::LinkKey;
use crate::slot::Slot;

/// The keys that a client has watched: as of the commands taken, and as of those carried out. Commands that are taken may have to wait.
#[derive(Debug, Default)]
pub struct Watch {
    /// The slot of the keys of WATCH that no EXEC, DISCARD or UNWATCH taken since has ended.
    pub slot: Option<Slot>,
    /// What the next EXEC that is carried out will find.
    pub pin: Pin,
}

/// Whether a node watches keys for a session.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// No.
    #[default]
    None,
    /// It does, over this private link.
    Over {
        /// Kept for the session until its transaction.
        link: LinkKey,
        /// Of the keys.
        slot: Slot,
    },
    /// It did: nobody knows whether a key has changed, so the transaction is not executed [W5].
    Broken,
}

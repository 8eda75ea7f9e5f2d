//! What workers tell discovery: evidence that the snapshot is out of date.

use super::{Address, NodeId};
use crate::slot::Slot;

/// Evidence met on the data path. Addresses are those after `address_map` [T19].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// Node `from` answered `-MOVED slot target` [T6].
    Moved {
        /// The slot that moved.
        slot: Slot,
        /// The node named by the reply.
        target: Address,
        /// The node that gave the reply.
        from: NodeId,
    },
    /// A node answered `-ASK slot target`: the slot is open. It never changes the table [E6].
    Ask {
        /// The open slot.
        slot: Slot,
        /// The importing node.
        target: Address,
    },
    /// The table should be read again.
    Refresh {
        /// What was seen.
        reason: RefreshReason,
        /// The node it was seen on; it is asked first.
        node: Option<NodeId>,
    },
}

/// Why the table is read again [T7].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefreshReason {
    /// The process started.
    Start,
    /// `-MOVED`.
    Moved,
    /// `-READONLY`: a node believed primary was demoted.
    Readonly,
    /// `-CLUSTERDOWN`.
    ClusterDown,
    /// `-MASTERDOWN` from a node believed primary.
    MasterDown,
    /// A connection to a primary broke or went silent.
    LinkLost,
    /// A primary owes replies and has been silent for a while; its connection is kept for now [HL2].
    NodeSilent,
    /// A connection to a primary could not be opened.
    ConnectFailed,
    /// The node at an address is not the one the table names [T13].
    IdentityMismatch,
    /// `-TRYAGAIN` did not pass.
    TryAgain,
    /// A Sentinel has published something about the service [N14].
    Sentinel,
    /// The periodic refresh.
    Timer,
    /// Asked for by the operator.
    Admin,
}

impl RefreshReason {
    /// Every reason, in the order of [`Self::index`].
    pub const ALL: [Self; 13] = [
        Self::Start,
        Self::Moved,
        Self::Readonly,
        Self::ClusterDown,
        Self::MasterDown,
        Self::LinkLost,
        Self::NodeSilent,
        Self::ConnectFailed,
        Self::IdentityMismatch,
        Self::TryAgain,
        Self::Sentinel,
        Self::Timer,
        Self::Admin,
    ];

    /// The value of the metric label `reason`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Moved => "moved",
            Self::Readonly => "readonly",
            Self::ClusterDown => "clusterdown",
            Self::MasterDown => "masterdown",
            Self::LinkLost => "link_lost",
            Self::NodeSilent => "node_silent",
            Self::ConnectFailed => "connect_failed",
            Self::IdentityMismatch => "identity_mismatch",
            Self::TryAgain => "tryagain",
            Self::Sentinel => "sentinel",
            Self::Timer => "timer",
            Self::Admin => "admin",
        }
    }

    /// Position in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::RefreshReason;

    #[test]
    fn all_lists_every_reason_at_its_index_with_its_own_label() {
        let mut labels = std::collections::HashSet::new();
        for (position, reason) in RefreshReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), position);
            assert!(labels.insert(reason.label()));
        }
    }
}

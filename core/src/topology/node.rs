//! One server process of the cluster.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::Address;

/// The cluster's own name of a node, 40 hexadecimal digits on real servers. It outlives address changes, so it, and never the
/// address, says whether two nodes are the same [T14].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// A node id as a server wrote it.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self(Arc::from(id))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for NodeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a node takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Owns slots, or could own some.
    Primary,
    /// Follows a primary.
    Replica,
}

/// What the cluster says about the health of a node; greater is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeState {
    /// No complaint.
    Ok,
    /// Some node cannot reach it (`fail?`), or the views disagree.
    Suspect,
    /// The cluster agreed that it is down (`fail`).
    Failed,
}

/// One node of a [`Snapshot`](super::Snapshot).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The cluster's name of the node.
    pub id: NodeId,
    /// Where clients, and so the proxy, reach it; after `address_map`.
    pub address: Address,
    /// Announced host name, if any.
    pub hostname: Option<Arc<str>>,
    /// Primary or replica.
    pub role: Role,
    /// The primary a replica follows; `None` for primaries and for replicas that follow nobody yet.
    pub primary_id: Option<NodeId>,
    /// What the cluster says about its health.
    pub state: NodeState,
    /// Whether the other nodes have a cluster bus link to it.
    pub link_connected: bool,
    /// Configuration epoch (of the primary, if this is a replica); 0 if the source does not tell it.
    pub config_epoch: u64,
}

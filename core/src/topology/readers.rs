//! Replicas that may be read from, as those who watch them found them [T21].

use std::time::Duration;

use super::{Address, NodeId};

/// A replica whose data is as new as it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// In a cluster its node id; otherwise the run id of the process.
    pub id: NodeId,
    /// Where it is connected to.
    pub address: Address,
    /// The primary whose data it has, by the same kind of id.
    pub primary: NodeId,
    /// It is in the proxy's own zone.
    pub near: bool,
    /// When the replicas were looked at, it had everything that its primary had written so long before.
    pub behind: Duration,
}

/// All replicas of an upstream that may be read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readers {
    /// The replicas, in an order that stays.
    pub replicas: Vec<Reader>,
    /// Primaries in the proxy's own zone.
    pub near_primaries: Vec<NodeId>,
}

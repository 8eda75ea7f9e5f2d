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
    /// How long a question takes there, on the average of the last ones.
    pub latency: Duration,
    /// When the replicas were looked at, it had everything that its primary had written so long before.
    pub behind: Duration,
}

/// A primary, as one of those that may be read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadPrimary {
    /// As [`Reader::primary`].
    pub id: NodeId,
    /// It is in the proxy's own zone.
    pub near: bool,
    /// As [`Reader::latency`].
    pub latency: Duration,
}

/// All replicas of an upstream that may be read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readers {
    /// The replicas, in an order that stays.
    pub replicas: Vec<Reader>,
    /// The primaries, as far as they are known.
    pub primaries: Vec<ReadPrimary>,
}

//! The kinds of faults, in what order they come, and what clients may notice of each.

use fastrand::Rng;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `CLUSTER FAILOVER` at a replica
    Failover,
    /// Some hundred slots with their data to another primary, and back
    Reshard,
    /// A new primary joins and gets slots of every shard
    NodeAdd,
    /// The slots go back, the new primary is forgotten and ends
    NodeRemove,
    /// A replica ends and starts again
    ReplicaRestart,
    /// SIGTERM to the proxy with most clients, then a new one in its place
    Drain,
    /// Clients that are gone in the middle of their pipelines
    Churn,
    /// `kill -9` of a primary, which comes back after its replica's promotion
    Kill,
    /// A primary hangs for less than it takes the cluster to notice
    ShortFreeze,
    /// A primary hangs until its replica is promoted, then goes on
    LongFreeze,
    /// `kill -9` of a primary, which comes back at another IP
    AddressChange,
    /// Every server ends in order, then all start again
    FullRestart,
}

/// What errors clients may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    Nothing,
    /// `UNCERTAIN` for writes that were already sent to a primary that was hit
    Uncertain,
}

impl Fault {
    /// Every kind, in the order of the short form. Slots move last: a node of Redis 7.0 that has once heard of a slot's owner without
    /// its claim (an older message, overtaken) lets the next one that claims it have it, even a former primary that comes back with an
    /// old table. Such a slot is nobody's in the end, and the cluster does not recover by itself.
    pub const ALL: [Self; 12] = [
        Self::Failover,
        Self::ReplicaRestart,
        Self::Drain,
        Self::Churn,
        Self::Kill,
        Self::ShortFreeze,
        Self::LongFreeze,
        Self::AddressChange,
        Self::Reshard,
        Self::NodeAdd,
        Self::NodeRemove,
        Self::FullRestart,
    ];

    /// The name in the report and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Reshard => "reshard",
            Self::NodeAdd => "node-add",
            Self::NodeRemove => "node-remove",
            Self::ReplicaRestart => "replica-restart",
            Self::Drain => "proxy-drain",
            Self::Churn => "client-churn",
            Self::Kill => "kill-9",
            Self::ShortFreeze => "freeze-short",
            Self::LongFreeze => "freeze-long",
            Self::AddressChange => "ip-change",
            Self::FullRestart => "full-restart",
        }
    }

    /// The fault of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    pub(super) fn allowed(self) -> Allowed {
        match self {
            Self::Failover
            | Self::Reshard
            | Self::NodeAdd
            | Self::NodeRemove
            | Self::ReplicaRestart
            | Self::Drain
            | Self::Churn
            | Self::ShortFreeze => Allowed::Nothing,
            Self::Kill | Self::LongFreeze | Self::AddressChange | Self::FullRestart => {
                Allowed::Uncertain
            }
        }
    }
}

/// All faults in random order, again and again; a node that joins leaves right after.
pub(super) fn draw_round(rng: &mut Rng) -> Vec<Fault> {
    let mut round: Vec<Fault> = Fault::ALL
        .into_iter()
        .filter(|fault| *fault != Fault::NodeRemove)
        .collect();
    rng.shuffle(&mut round);
    let joins = round.iter().position(|fault| *fault == Fault::NodeAdd);
    round.insert(joins.map_or(0, |at| at + 1), Fault::NodeRemove);
    round
}

/// Whether a fault is wanted when only one kind is: a node can only leave after it joined, and must.
pub(super) fn belongs(fault: Fault, only: Fault) -> bool {
    let joining = |fault| matches!(fault, Fault::NodeAdd | Fault::NodeRemove);
    fault == only || (joining(fault) && joining(only))
}

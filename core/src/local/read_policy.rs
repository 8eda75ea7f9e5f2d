//! Which nodes answer the reads of a client.

/// Which nodes answer the reads of a client: commands that the table calls read-only, with keys, outside of transactions [K10]. Writes,
/// and all else, are for primaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadPolicy {
    /// The primary.
    #[default]
    Primary,
    /// The primary; a replica while that cannot be reached.
    PreferPrimary,
    /// A replica. Without one that may be read from, reads wait.
    Replica,
    /// A replica; the primary where there is none that may be read from.
    PreferReplica,
    /// Any node of the shard.
    Any,
    /// Whichever answers soonest.
    Nearest,
}

impl ReadPolicy {
    /// Every policy, with the word for it in the configuration.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Primary, "primary"),
        (Self::PreferPrimary, "prefer-primary"),
        (Self::Replica, "replica"),
        (Self::PreferReplica, "prefer-replica"),
        (Self::Any, "any"),
        (Self::Nearest, "nearest"),
    ];
}

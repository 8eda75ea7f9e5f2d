//! The cluster as the proxy knows it: immutable snapshots, the replies they are made from, and how views are merged.
//!
//! Everything here is pure: bytes and the time go in, a new [`Snapshot`] comes out. Who asks which node when, and who swaps the
//! snapshot that workers read, is the shell's affair (`proxy::discovery`). Parsers are strict: a reply with one bad row is
//! rejected as a whole with a reason, because a table with a hole in it sends requests to the wrong node without a trace.
#![warn(clippy::indexing_slicing)]

mod address;
mod address_map;
mod address_pattern;
mod diff;
#[cfg(test)]
mod fixtures;
mod guard;
mod hint;
mod merge;
mod node;
mod patch;
mod readers;
mod snapshot;
mod view;
mod zones;

pub mod cluster_info;
pub mod cluster_nodes;
pub mod cluster_slots;
pub mod redirect;
pub mod replication;
pub mod sentinel;

pub use address::{Address, AddressError};
pub use address_map::{AddressMap, AddressRule, AddressRuleError};
pub use address_pattern::AddressPattern;
pub use diff::Change;
pub use guard::{CONFIRM_AFTER, Guard, Verdict};
pub use hint::{Hint, RefreshReason};
pub use merge::{Merged, Unfit, UnfitReason, merge};
pub use node::{Node, NodeId, NodeState, Role};
pub use readers::{ReadPrimary, Reader, Readers};
pub use snapshot::{
    MAX_NODES, NodeIndex, OpenSlot, Promotion, Shard, ShardIndex, Snapshot, SnapshotBuilder,
    TooManyNodes,
};
pub use view::{RowProblem, View, ViewError, ViewNode};
pub use zones::Zones;

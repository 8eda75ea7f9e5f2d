//! The cluster as the proxy knows it: immutable snapshots, the replies they are made from, and how views are merged.
//!
//! Everything here is pure: bytes and the time go in, a new [`Snapshot`] comes out. Who asks which node when, and who swaps the
//! snapshot that workers read, is the shell's affair (`proxy::discovery`). Parsers are strict: a reply with one bad row is
//! rejected as a whole with a reason, because a table with a hole in it sends requests to the wrong node without a trace.
#![warn(clippy::indexing_slicing)]

mod address;
mod diff;
#[cfg(test)]
mod fixtures;
mod hint;
mod node;
mod patch;
mod snapshot;

pub mod redirect;

pub use address::{Address, AddressError};
pub use diff::Change;
pub use hint::{Hint, RefreshReason};
pub use node::{Node, NodeId, NodeState, Role};
pub use snapshot::{
    MAX_NODES, NodeIndex, OpenSlot, Shard, ShardIndex, Snapshot, SnapshotBuilder, TooManyNodes,
};

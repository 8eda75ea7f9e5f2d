//! Small clusters for the tests of this module tree.

use super::{Address, Node, NodeId, NodeState, Role, Snapshot, SnapshotBuilder};
use crate::slot::Slot;

/// The slot with this number.
pub(super) fn slot(number: u16) -> Slot {
    Slot::new(number).unwrap()
}

/// A node id of 40 digits.
pub(super) fn id(number: u16) -> NodeId {
    NodeId::new(&format!("{number:04x}").repeat(10))
}

/// The address of the node with that number.
pub(super) fn address(number: u16) -> Address {
    Address::new("10.0.0.1", 7000 + number)
}

/// A healthy node with the epoch of its number.
pub(super) fn node(number: u16, role: Role, primary: Option<u16>) -> Node {
    Node {
        id: id(number),
        address: address(number),
        hostname: None,
        role,
        primary_id: primary.map(id),
        state: NodeState::Ok,
        link_connected: true,
        config_epoch: u64::from(primary.unwrap_or(number)),
    }
}

/// Primaries 1 to 3 with a third of the slots each, replicas 4 to 6; generation 7.
pub(super) fn three_shards() -> Snapshot {
    let mut builder = SnapshotBuilder::new();
    for (number, first, last) in [(1, 0, 5460), (2, 5461, 10922), (3, 10923, 16383)] {
        let primary = builder.add_node(node(number, Role::Primary, None)).unwrap();
        for owned in first..=last {
            builder.assign(slot(owned), primary);
        }
    }
    for number in 4..=6 {
        builder
            .add_node(node(number, Role::Replica, Some(number - 3)))
            .unwrap();
    }
    builder.build(7)
}

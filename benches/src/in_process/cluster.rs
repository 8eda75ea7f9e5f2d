//! A cluster of three primaries that own a third of the slots each.

use slotway_core::slot::{SLOT_COUNT, Slot};
use slotway_core::topology::{Address, Node, NodeId, NodeState, Role, Snapshot, SnapshotBuilder};

/// Primaries of the cluster.
const NODES: u16 = 3;

/// Node `n` listens on this port plus `n`.
const FIRST_PORT: u16 = 7000;

/// The cluster, as discovery would have seen it.
///
/// # Panics
/// Never: three nodes are not too many.
#[must_use]
pub fn three_nodes() -> Snapshot {
    let mut builder = SnapshotBuilder::new();
    let mut nodes = Vec::new();
    for number in 0..NODES {
        let port = FIRST_PORT + number;
        let added = builder.add_node(Node {
            id: NodeId::new(&id_at(port)),
            address: Address::new("127.0.0.1", port),
            hostname: None,
            role: Role::Primary,
            primary_id: None,
            state: NodeState::Ok,
            link_connected: true,
            config_epoch: u64::from(number) + 1,
        });
        nodes.extend(added);
    }
    let share = SLOT_COUNT / NODES + 1;
    for slot in (0..SLOT_COUNT).filter_map(Slot::new) {
        builder.assign(slot, nodes[usize::from(slot.get() / share)]);
    }
    builder.build(1)
}

/// The id of the node that listens on `port`.
pub(super) fn id_at(port: u16) -> String {
    format!("{port:0<40}")
}

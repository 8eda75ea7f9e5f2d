//! What changed between two snapshots, for the log.

use std::collections::BTreeMap;
use std::fmt;

use super::{Address, NodeId, NodeState, Role, Snapshot};
use crate::slot::{SLOT_COUNT, Slot};

/// One difference between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A node that was not there before.
    NodeAdded {
        /// Its id.
        id: NodeId,
        /// Its address.
        address: Address,
    },
    /// A node that is gone.
    NodeRemoved {
        /// Its id.
        id: NodeId,
        /// Its last address.
        address: Address,
    },
    /// A node with a new address [T14].
    AddressChanged {
        /// Its id.
        id: NodeId,
        /// The address before.
        from: Address,
        /// The address now.
        to: Address,
    },
    /// A node that was promoted or demoted.
    RoleChanged {
        /// Its id.
        id: NodeId,
        /// Its address.
        address: Address,
        /// The role now.
        to: Role,
    },
    /// A node whose health changed.
    StateChanged {
        /// Its id.
        id: NodeId,
        /// Its address.
        address: Address,
        /// The state before.
        from: NodeState,
        /// The state now.
        to: NodeState,
    },
    /// Slots that went from one owner to another.
    SlotsMoved {
        /// The owner before; `None` if nobody owned them.
        from: Option<NodeId>,
        /// The owner now; `None` if nobody owns them.
        to: Option<NodeId>,
        /// How many slots.
        count: u16,
        /// The lowest of them.
        first: Slot,
    },
}

impl Snapshot {
    /// What is different in `newer`: first nodes, in its order, then slots by owner before and now.
    #[must_use]
    pub fn diff(&self, newer: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        node_changes(self, newer, &mut changes);
        slot_changes(self, newer, &mut changes);
        changes
    }
}

fn node_changes(older: &Snapshot, newer: &Snapshot, changes: &mut Vec<Change>) {
    for node in newer.nodes() {
        let (id, address) = (node.id.clone(), node.address.clone());
        let Some(before) = older.node_by_id(&node.id) else {
            changes.push(Change::NodeAdded { id, address });
            continue;
        };
        if before.address != node.address {
            let from = before.address.clone();
            changes.push(Change::AddressChanged {
                id: id.clone(),
                from,
                to: address.clone(),
            });
        }
        if before.role != node.role {
            changes.push(Change::RoleChanged {
                id: id.clone(),
                address: address.clone(),
                to: node.role,
            });
        }
        if before.state != node.state {
            changes.push(Change::StateChanged {
                id,
                address,
                from: before.state,
                to: node.state,
            });
        }
    }
    let gone = older
        .nodes()
        .iter()
        .filter(|node| newer.node_by_id(&node.id).is_none());
    changes.extend(gone.map(|node| Change::NodeRemoved {
        id: node.id.clone(),
        address: node.address.clone(),
    }));
}

fn slot_changes(older: &Snapshot, newer: &Snapshot, changes: &mut Vec<Change>) {
    type FromTo<'a> = (Option<&'a NodeId>, Option<&'a NodeId>);
    let mut moved: BTreeMap<FromTo<'_>, (u16, Slot)> = BTreeMap::new();
    for slot in (0..SLOT_COUNT).filter_map(Slot::new) {
        let from = older.primary_of(slot).map(|node| &node.id);
        let to = newer.primary_of(slot).map(|node| &node.id);
        if from != to {
            moved.entry((from, to)).or_insert((0, slot)).0 += 1;
        }
    }
    changes.extend(
        moved
            .into_iter()
            .map(|((from, to), (count, first))| Change::SlotsMoved {
                from: from.cloned(),
                to: to.cloned(),
                count,
                first,
            }),
    );
}

/// Enough of an id to find it in a log: the cluster's own logs print it whole.
struct Short<'a>(Option<&'a NodeId>);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => f.write_str(id.as_str().get(..8).unwrap_or(id.as_str())),
            None => f.write_str("nobody"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeAdded { id, address } => write!(f, "{} at {address} joined", Short(Some(id))),
            Self::NodeRemoved { id, address } => write!(f, "{} at {address} left", Short(Some(id))),
            Self::AddressChanged { id, from, to } => {
                write!(f, "{} went from {from} to {to}", Short(Some(id)))
            }
            Self::RoleChanged { id, address, to } => {
                let role = match to {
                    Role::Primary => "primary",
                    Role::Replica => "replica",
                };
                write!(f, "{} at {address} is now {role}", Short(Some(id)))
            }
            Self::StateChanged {
                id,
                address,
                from: _,
                to,
            } => {
                let state = match to {
                    NodeState::Ok => "ok",
                    NodeState::Suspect => "suspect",
                    NodeState::Failed => "failed",
                };
                write!(f, "{} at {address} is now {state}", Short(Some(id)))
            }
            Self::SlotsMoved {
                from,
                to,
                count,
                first,
            } => {
                let (from, to) = (Short(from.as_ref()), Short(to.as_ref()));
                write!(
                    f,
                    "{count} slots from {} on went from {from} to {to}",
                    first.get()
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::fixtures::{address, id, node, slot, three_shards};

    #[test]
    fn equal_snapshots_have_no_difference() {
        assert_eq!(three_shards().diff(&three_shards()), []);
    }

    #[test]
    fn every_kind_of_change_is_named() {
        let older = three_shards();
        let mut builder = older
            .with_moved_slots(&[(slot(9), address(2)), (slot(8), address(2))])
            .unwrap()
            .to_builder();
        let index = older.index_of(&id(6)).unwrap();
        builder.node_mut(index).unwrap().address = address(60);
        builder.node_mut(index).unwrap().state = NodeState::Failed;
        builder
            .node_mut(older.index_of(&id(5)).unwrap())
            .unwrap()
            .role = Role::Primary;
        builder.add_node(node(7, Role::Primary, None)).unwrap();
        let newer = builder.build(8);
        let shown: Vec<String> = older.diff(&newer).iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "00050005 at 10.0.0.1:7005 is now primary",
                "00060006 went from 10.0.0.1:7006 to 10.0.0.1:7060",
                "00060006 at 10.0.0.1:7060 is now failed",
                "00070007 at 10.0.0.1:7007 joined",
                "2 slots from 8 on went from 00010001 to 00020002",
            ]
        );
        let back = newer.diff(&older);
        assert!(back.contains(&Change::NodeRemoved {
            id: id(7),
            address: address(7)
        }));
        let gone = older.diff(&Snapshot::empty());
        assert!(gone.contains(&Change::SlotsMoved {
            from: Some(id(1)),
            to: None,
            count: 5461,
            first: slot(0)
        }));
    }
}

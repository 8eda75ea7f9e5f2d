//! The server that is used, as the only node of a snapshot.

use slotway_core::slot::{SLOT_COUNT, Slot};
use slotway_core::topology::sentinel::Choice;
use slotway_core::topology::{
    Address, AddressMap, Node, NodeState, Role, Snapshot, SnapshotBuilder, TooManyNodes,
};

use super::probe::Probe;

/// Whether the Sentinels' choice is another server than the one in use: neither where that is, nor that process by another name [N19].
pub(super) fn is_replaced(in_use: &Node, choice: &Choice, map: &AddressMap) -> bool {
    let is_process = |run_id: &String| in_use.id.as_str() == run_id;
    map.apply(choice.primary.clone()) != in_use.address
        && !choice.run_id.as_ref().is_some_and(is_process)
}

/// Which of these to use: the one in use, at the address in use if it has several. In what order a name server gives them changes
/// with every answer.
pub(super) fn best(primaries: &[Node], in_use: Option<&Node>) -> usize {
    let find = |is_it: &dyn Fn(&Node, &Node) -> bool| {
        let in_use = in_use?;
        primaries.iter().position(|node| is_it(node, in_use))
    };
    find(&|node, in_use| node.id == in_use.id && node.address == in_use.address)
        .or_else(|| find(&|node, in_use| node.id == in_use.id))
        .unwrap_or(0)
}

/// A server as a node: its run id is its name, so that what was known of it ends with it.
pub(super) fn node(address: Address, probe: &Probe) -> Node {
    Node {
        id: probe.node_id(&address),
        address,
        hostname: None,
        role: Role::Primary,
        primary_id: None,
        state: NodeState::Ok,
        link_connected: true,
        config_epoch: 0,
    }
}

/// A snapshot of one shard with every slot.
pub(super) fn whole(node: Node, generation: u64) -> Result<Snapshot, TooManyNodes> {
    let mut builder = SnapshotBuilder::new();
    let index = builder.add_node(node)?;
    for slot in (0..SLOT_COUNT).filter_map(Slot::new) {
        builder.assign(slot, index);
    }
    Ok(builder.build(generation))
}

#[cfg(test)]
mod tests {
    use super::super::probe::Standing;
    use super::*;

    fn server(address: &str, run_id: &str) -> Node {
        let probe = Probe {
            run_id: Some(run_id.to_owned()),
            standing: Standing::Primary,
            replicas: Vec::new(),
        };
        node(address.parse().unwrap(), &probe)
    }

    #[test]
    fn a_server_with_two_addresses_stays_at_the_one_in_use() {
        let (a, b) = (server("10.0.0.1:1", "x"), server("10.0.0.2:1", "x"));
        let other = server("10.0.0.3:1", "y");
        let in_use = Some(&a);
        assert_eq!(best(&[b.clone(), a.clone()], in_use), 1);
        assert_eq!(best(&[a.clone(), b.clone()], in_use), 0);
        assert_eq!(best(&[other.clone(), b.clone()], in_use), 1);
        assert_eq!(best(&[other, b], None), 0);
    }

    #[test]
    fn a_server_that_is_called_otherwise_is_not_replaced_n19() {
        let in_use = server("10.0.0.1:1", "x");
        let is_replaced = |primary: &str, run_id: Option<&str>| {
            let choice = Choice {
                primary: primary.parse().unwrap(),
                run_id: run_id.map(str::to_owned),
                config_epoch: 1,
                votes: 2,
                is_quorum: true,
            };
            is_replaced(&in_use, &choice, &AddressMap::default())
        };
        assert!(!is_replaced("server-1:1", Some("x")));
        assert!(!is_replaced("10.0.0.1:1", None));
        // Started anew there: it may be full of what it was written before.
        assert!(!is_replaced("10.0.0.1:1", Some("y")));
        assert!(is_replaced("server-2:1", Some("y")));
        assert!(is_replaced("server-2:1", None));
    }
}

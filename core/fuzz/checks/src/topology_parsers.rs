//! Any bytes as `CLUSTER NODES`, `CLUSTER SLOTS`, `CLUSTER INFO`, a redirection, an address or an address rule: no panic. A view
//! that is accepted names only its own nodes as owners and can be merged; merging it again changes nothing.
//!
//! Input: two halves separated by a byte 0; each is read as a view of its own.

use slotway_core::resp::parse_value;
use slotway_core::slot::{SLOT_COUNT, Slot};
use slotway_core::topology::{
    Address, AddressMap, AddressRule, NodeId, Snapshot, View, cluster_info, cluster_nodes,
    cluster_slots, merge, redirect,
};

fn views(bytes: &[u8], link: &Address) -> Vec<View> {
    let map = AddressMap::default();
    let mut views: Vec<View> = cluster_nodes::parse(bytes, link, &map)
        .into_iter()
        .collect();
    if let Ok(Some((value, _))) = parse_value(bytes) {
        let myself = NodeId::new("a");
        views.extend(cluster_slots::parse(&value, link, Some(&myself), &map));
    }
    views
}

/// The check of this target.
pub fn check(data: &[u8]) {
    let _ = cluster_info::cluster_ok(data);
    if let Some(redirect) = redirect::parse(data) {
        assert!(redirect.slot.get() < SLOT_COUNT);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(address) = Address::parse(text) {
            assert_eq!(Address::parse(&address.to_string()), Ok(address));
        }
        if let Some((from, to)) = text.split_once(' ') {
            let _ = AddressRule::parse(from, to);
        }
    }
    let mut halves = data.splitn(2, |&byte| byte == 0);
    let mut all = Vec::new();
    for (number, half) in (1u16..).zip(&mut halves) {
        all.extend(views(half, &Address::new("192.0.2.1", number)));
    }
    for view in &all {
        let owned = (0..SLOT_COUNT)
            .filter_map(Slot::new)
            .filter(|slot| view.owner(*slot).is_some())
            .count();
        assert_eq!(owned, view.covered_slots());
    }
    if let Some(first) = merge(&Snapshot::empty(), &all).snapshot {
        assert_eq!(first.generation, 1);
        let owners = |snapshot: &Snapshot| {
            let slots = (0..SLOT_COUNT).filter_map(Slot::new);
            slots
                .map(|slot| snapshot.primary_of(slot).map(|node| node.id.clone()))
                .collect::<Vec<_>>()
        };
        if let Some(second) = merge(&first, &all).snapshot {
            assert_eq!(owners(&first), owners(&second));
            let _ = first.diff(&second);
        }
    }
}

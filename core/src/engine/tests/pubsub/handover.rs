//! Topics that pass from one node to another, and what may happen meanwhile [U6] [U9].

use std::sync::Arc;

use super::*;
use crate::engine::LinkLoss;
use crate::slot::{SLOT_COUNT, Slot};
use crate::topology::{Address, Node, NodeId, NodeState, Role, Snapshot, SnapshotBuilder};

use super::super::driver::node_id;

/// Nodes 7003 and 7004 have taken over what 7001 and 7002 had, which follow them; the first one is at this port.
fn failed_over(generation: u64, port_of_7003: u16) -> Snapshot {
    let mut builder = SnapshotBuilder::new();
    let nodes = [7000, 7003, 7004, 7001, 7002].map(|port: u16| {
        let followed = matches!(port, 7001 | 7002).then_some(port + 2);
        let node = Node {
            id: NodeId::new(&node_id(port)),
            address: Address::new("127.0.0.1", if port == 7003 { port_of_7003 } else { port }),
            hostname: None,
            role: followed.map_or(Role::Primary, |_| Role::Replica),
            primary_id: followed.map(|port| NodeId::new(&node_id(port))),
            state: NodeState::Ok,
            link_connected: true,
            config_epoch: u64::from(port),
        };
        builder.add_node(node).unwrap()
    });
    for slot in (0..SLOT_COUNT).filter_map(Slot::new) {
        let shard = usize::from(slot.get() / (SLOT_COUNT / 3 + 1));
        builder.assign(slot, nodes[shard]);
    }
    builder.build(generation)
}

/// What all primaries tell of.
const SETS: &str = "__keyevent@0__:set";

/// A client that is told of what all primaries tell.
fn keyspace_client() -> (Driver, SessionKey) {
    let mut driver = Driver::new();
    let client = driver.client();
    subscribe(&mut driver, client, &format!("SUBSCRIBE {SETS}"));
    (driver, client)
}

#[test]
fn a_node_and_the_one_that_it_follows_now_do_not_both_tell_of_a_key_u9() {
    let (mut driver, client) = keyspace_client();
    driver.engine.set_snapshot(Arc::new(failed_over(2, 7003)));
    driver.settle();
    let event = message(SETS, "k");
    driver.say(7001, event.as_bytes());
    assert_eq!(driver.output(client), event, "its successor is asked");
    // The other one is not there yet: so all stay where they are.
    driver.say(7003, ack("subscribe", SETS, 1).as_bytes());
    for port in [7001, 7003, 7002] {
        driver.say(port, event.as_bytes());
    }
    assert_eq!(driver.output(client), event.repeat(2), "each shard once");
}

/// As [`failed_over`] as far as a `MOVED` of 7001 tells: 7003 has one of its slots, and it has the others.
fn half_promoted(generation: u64) -> Snapshot {
    let mut nodes: Vec<Node> = failed_over(1, 7003).nodes().to_vec();
    for node in &mut nodes {
        let port = node.address.port;
        let followed = matches!(port, 7003 | 7004).then_some(port - 2);
        node.role = followed.map_or(Role::Primary, |_| Role::Replica);
        node.primary_id = followed.map(|port| NodeId::new(&node_id(port)));
    }
    let mut builder = SnapshotBuilder::new();
    let nodes: Vec<_> = nodes
        .into_iter()
        .map(|node| builder.add_node(node).unwrap())
        .collect();
    for slot in (0..SLOT_COUNT).filter_map(Slot::new) {
        let shard = usize::from(slot.get() / (SLOT_COUNT / 3 + 1));
        builder.assign(slot, nodes[[0, 3, 4][shard]]);
    }
    let moved = (
        Slot::new(SLOT_COUNT / 2).unwrap(),
        Address::new("127.0.0.1", 7003),
    );
    let before = builder.build(generation - 1);
    before.with_moved_slots(&[moved]).unwrap()
}

#[test]
fn a_node_that_moved_names_in_place_of_its_primary_does_not_tell_of_a_key_again_u9() {
    let (mut driver, client) = keyspace_client();
    let event = message(SETS, "k");
    driver.engine.set_snapshot(Arc::new(half_promoted(3)));
    driver.settle();
    agree(&mut driver);
    assert_eq!(driver.feeds(), [7000, 7001, 7002, 7003], "at once");
    for port in [7003, 7001] {
        driver.say(port, event.as_bytes());
    }
    assert_eq!(driver.output(client), event, "7001 follows 7003 by now");
    // What 7001 has not got when the topology is known as a whole still comes once.
    driver.say(7003, event.as_bytes());
    driver.engine.set_snapshot(Arc::new(failed_over(4, 7003)));
    for _ in 0..20 {
        driver.pass(SECOND / 10);
        agree(&mut driver);
    }
    assert_eq!(driver.output(client), event);
    assert_eq!(driver.feeds(), [7000, 7003, 7004]);
}

#[test]
fn two_primaries_of_which_moved_spoke_as_one_each_tell_of_their_keys_u9() {
    let (mut driver, client) = keyspace_client();
    driver.engine.set_snapshot(Arc::new(half_promoted(3)));
    driver.settle();
    agree(&mut driver);
    let events = ["a", "b"].map(|key| message(SETS, key));
    driver.say(7003, events[0].as_bytes());
    let mut whole = half_promoted(4);
    whole.promotions.clear();
    driver.engine.set_snapshot(Arc::new(whole));
    driver.settle();
    assert_eq!(driver.output(client), events[0], "it is not the other's");
    for port in [7001, 7003] {
        driver.say(port, events[1].as_bytes());
    }
    assert_eq!(driver.output(client), events[1].repeat(2));
}

#[test]
fn what_only_a_node_told_that_is_lost_before_it_counts_is_a_gap_u9() {
    for tells in [false, true] {
        let (mut driver, client) = keyspace_client();
        driver.engine.set_snapshot(Arc::new(failed_over(2, 7003)));
        driver.settle();
        agree(&mut driver);
        if tells {
            driver.say(7003, message(SETS, "k").as_bytes());
        }
        driver.lose(driver.feed(7003), LinkLoss::Closed);
        let expected = tells.then_some(CloseReason::SubscriptionLost);
        assert_eq!(closes(&driver, client), expected);
    }
}

#[test]
fn a_node_that_is_replaced_again_before_it_counts_is_told_the_end_u9() {
    let (mut driver, _client) = keyspace_client();
    driver.engine.set_snapshot(Arc::new(failed_over(2, 7003)));
    driver.settle();
    agree(&mut driver);
    // All is as before.
    driver.adopt(3, &[]);
    driver.settle();
    for port in [7003, 7004] {
        let asked = driver.asked_on_feed(port);
        assert_eq!(asked, [format!("unsubscribe {SETS}")], "of {port}");
    }
}

#[test]
fn a_node_that_takes_over_and_changes_its_address_tells_of_a_key_once_u9() {
    let (mut driver, client) = keyspace_client();
    driver.engine.set_snapshot(Arc::new(failed_over(2, 7003)));
    driver.settle();
    agree_at(&mut driver, 7003);
    driver.moved = Some((7003, 7005));
    driver.engine.set_snapshot(Arc::new(failed_over(3, 7005)));
    driver.settle();
    agree_at(&mut driver, 7005);
    let event = message(SETS, "k");
    for port in [7005, 7003, 7001] {
        driver.say(port, event.as_bytes());
    }
    assert_eq!(driver.output(client), event, "by the one that counts yet");
    for _ in 0..20 {
        driver.pass(SECOND / 10);
        agree(&mut driver);
    }
    assert_eq!(driver.output(client), "");
    assert_eq!(driver.feeds(), [7000, 7004, 7005]);
    driver.say(7005, event.as_bytes());
    assert_eq!(driver.output(client), event);
    assert_eq!(closes(&driver, client), None);
}

/// A client that has channel `a`, which passes from the first node to the second, which has said that it has it.
fn passing(driver: &mut Driver) -> (SessionKey, u16, u16) {
    let client = driver.client();
    subscribe(driver, client, "SUBSCRIBE a");
    let old = home(driver);
    driver.take_over(2, old, if old == 7000 { 7001 } else { 7000 });
    let new = *driver.feeds().iter().find(|port| **port != old).unwrap();
    driver.asked_on_feed(new);
    driver.say(new, ack("subscribe", "a", 1).as_bytes());
    (client, old, new)
}

#[test]
fn a_new_node_that_is_lost_before_it_counts_is_no_gap_u6() {
    let mut driver = Driver::new();
    let (client, old, new) = passing(&mut driver);
    let feed = driver.feed(new);
    driver.lose(feed, LinkLoss::Closed);
    driver.say(old, message("a", "1").as_bytes());
    assert_eq!(driver.output(client), message("a", "1"));
    for _ in 0..20 {
        driver.pass(SECOND / 10);
        agree(&mut driver);
    }
    assert_eq!(closes(&driver, client), None);
    assert!(!driver.feeds().contains(&old), "it has passed on after all");
}

#[test]
fn what_is_too_much_to_keep_is_a_gap_that_is_told_u6() {
    let mut driver = Driver::new();
    let (client, _, new) = passing(&mut driver);
    let big = "x".repeat(1 << 20);
    for number in 0..16 {
        assert_eq!(closes(&driver, client), None, "after {number} MiB");
        driver.say(new, message("a", &format!("{number}{big}")).as_bytes());
    }
    assert_eq!(closes(&driver, client), Some(CloseReason::SubscriptionLost));
    driver.leave(client);
    for _ in 0..20 {
        driver.pass(SECOND / 10);
        agree(&mut driver);
    }
    driver.engine.check_nothing_left();
}

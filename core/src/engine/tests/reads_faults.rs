//! Reads that replicas do not answer: refused, lost, hanging, on their way elsewhere.

use std::sync::Arc;
use std::time::Duration;

use super::driver::{bulk, node_id};
use super::reads::{asked, driver_with, only, reader, reading, replica_of};
use crate::local::ReadPolicy;
use crate::slot::Slot;
use crate::topology::{Address, Hint, NodeId, Reader, RefreshReason};

#[test]
fn a_replica_answers_while_the_preferred_primary_cannot_be_reached() {
    let (mut driver, owner) = driver_with(1);
    driver.open = false;
    let client = reading(&mut driver, ReadPolicy::PreferPrimary);
    driver.send(client, "GET k");
    driver.refuse_pending();
    driver.connect_pending(0);
    assert_eq!(asked(&driver, replica_of(owner, 1)), ["GET k"]);
    driver.reply(replica_of(owner, 1), &bulk("old"));
    assert_eq!(driver.output(client), bulk("old"));
}

#[test]
fn without_a_replica_a_read_that_is_for_one_waits_and_says_so() {
    let (mut driver, owner) = driver_with(0);
    let client = reading(&mut driver, ReadPolicy::Replica);
    driver.send(client, "GET k");
    assert_eq!(driver.output(client), "");
    driver.set_readers(&only(vec![reader(owner, 1)]));
    driver.pass(Duration::from_millis(50));
    assert_eq!(asked(&driver, replica_of(owner, 1)), ["GET k"]);
    driver.reply(replica_of(owner, 1), &bulk("v"));
    assert_eq!(driver.output(client), bulk("v"));

    driver.set_readers(&only(Vec::new()));
    driver.send(client, "GET k");
    driver.pass(Duration::from_secs(11));
    assert_eq!(
        driver.output(client),
        format!(
            "-CLUSTERDOWN proxy: no replica that may be read from for slot {} within 10000 ms\r\n",
            Slot::of_key(b"k").get()
        )
    );
    assert!(driver.requests(owner).is_empty());
}

#[test]
fn reads_that_wait_for_a_replica_are_looked_at_when_there_may_be_one() {
    const MILLISECOND: Duration = Duration::from_millis(1);
    let (mut driver, owner) = driver_with(0);
    let replica = replica_of(owner, 1);
    let client = reading(&mut driver, ReadPolicy::Replica);
    driver.send(client, "GET {k}a");
    for _ in 0..300 {
        driver.pass(10 * MILLISECOND);
        let report = driver.engine.report();
        assert_eq!((report.metrics.parked, report.parked_now), (1, 1));
    }
    assert!(
        driver.engine.released <= 3,
        "once a second, not {} times in three",
        driver.engine.released
    );
    driver.set_readers(&only(vec![
        reader(7000, 1),
        reader(7001, 1),
        reader(7002, 1),
    ]));
    driver.pass(MILLISECOND);
    assert_eq!(asked(&driver, replica), ["GET {k}a"]);

    // One that refused it may answer again after a second.
    driver.reply(
        replica,
        "-LOADING Redis is loading the dataset in memory\r\n",
    );
    driver.pass(600 * MILLISECOND);
    driver.send(client, "GET {k}b");
    driver.set_readers(&only(vec![reader(owner, 1)]));
    driver.pass(390 * MILLISECOND);
    assert_eq!(asked(&driver, replica).len(), 1);
    driver.pass(20 * MILLISECOND);
    assert_eq!(asked(&driver, replica)[1..], ["GET {k}a", "GET {k}b"]);

    // One that was lost, as soon as there is a connection.
    driver.open = false;
    driver.cut(replica);
    driver.pass(100 * MILLISECOND);
    driver.set_readers(&only(vec![reader(owner, 1)]));
    driver.pass(100 * MILLISECOND);
    let before = driver.engine.released;
    driver.connect_pending(0);
    driver.pass(MILLISECOND);
    assert_eq!(asked(&driver, replica), ["GET {k}a", "GET {k}b"]);
    assert_eq!(driver.engine.released, before + 2);
    driver.reply(replica, "+a\r\n+b\r\n");
    assert_eq!(driver.output(client), "+a\r\n+b\r\n");
}

#[test]
fn a_read_that_waits_for_a_replica_that_was_slow_goes_there_as_soon_as_it_answers() {
    let (mut driver, owner) = driver_with(1);
    let replica = replica_of(owner, 1);
    let client = reading(&mut driver, ReadPolicy::Replica);
    driver.send(client, "GET {k}a");
    driver.pass(Duration::from_millis(1500));
    driver.send(client, "GET {k}b");
    driver.pass(Duration::from_millis(100));
    assert_eq!(asked(&driver, replica), ["GET {k}a"]);
    driver.reply(replica, &bulk("a"));
    driver.pass(Duration::from_millis(1));
    assert_eq!(asked(&driver, replica), ["GET {k}a", "GET {k}b"]);
}

#[test]
fn a_replica_that_points_elsewhere_is_left_for_the_owner_e10() {
    let (mut driver, owner) = driver_with(2);
    let client = reading(&mut driver, ReadPolicy::Replica);
    driver.send(client, "GET k");
    let replicas = [replica_of(owner, 1), replica_of(owner, 2)];
    let [asked_one] = replicas
        .map(|port| (port, asked(&driver, port).len()))
        .into_iter()
        .filter(|(_, count)| *count == 1)
        .collect::<Vec<_>>()[..]
    else {
        panic!("one is asked")
    };
    let slot = Slot::of_key(b"k").get();
    driver.reply(asked_one.0, &format!("-MOVED {slot} 127.0.0.1:7009\r\n"));
    assert_eq!(
        driver.requests(owner),
        ["GET k"],
        "whatever the replica believes"
    );
    driver.reply(owner, &bulk("v"));
    assert_eq!(driver.output(client), bulk("v"));
    let refreshes = |hint: &Hint| {
        matches!(
            hint,
            Hint::Refresh {
                reason: RefreshReason::Moved,
                ..
            }
        )
    };
    assert!(driver.hints.iter().any(refreshes));
    assert!(
        !driver
            .hints
            .iter()
            .any(|hint| matches!(hint, Hint::Moved { .. }))
    );
    driver.send(client, "GET k");
    let other = replicas.iter().find(|port| **port != asked_one.0).unwrap();
    assert_eq!(
        asked(&driver, *other),
        ["GET k"],
        "the other one for a while"
    );
}

#[test]
fn a_replica_that_loads_or_has_lost_its_primary_is_left_at_once() {
    for refusal in [
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
        "-CLUSTERDOWN The cluster is down\r\n",
    ] {
        let (mut driver, owner) = driver_with(1);
        let client = reading(&mut driver, ReadPolicy::PreferReplica);
        driver.send(client, "GET k");
        driver.reply(replica_of(owner, 1), refusal);
        assert_eq!(driver.requests(owner), ["GET k"], "{refusal}");
        driver.reply(owner, &bulk("v"));
        assert_eq!(driver.output(client), bulk("v"));
        driver.send(client, "GET k");
        assert_eq!(
            driver.requests(owner).len(),
            2,
            "it is not asked again so soon"
        );
        driver.reply(owner, &bulk("v"));
        driver.output(client);
        driver.pass(Duration::from_secs(2));
        driver.send(client, "GET k");
        assert_eq!(asked(&driver, replica_of(owner, 1)).len(), 2);
    }
}

#[test]
fn what_a_lost_replica_owes_another_one_answers_d3() {
    let (mut driver, owner) = driver_with(2);
    let replicas = [replica_of(owner, 1), replica_of(owner, 2)];
    let client = reading(&mut driver, ReadPolicy::Replica);
    driver.send(client, "GET {k}a");
    driver.send(client, "GET {k}b");
    let first = replicas
        .into_iter()
        .find(|port| asked(&driver, *port).len() == 2);
    let first = first.expect("a session stays with one");
    let second = replicas.into_iter().find(|port| *port != first).unwrap();
    driver.open = true;
    driver.cut(first);
    assert_eq!(asked(&driver, second), ["GET {k}a", "GET {k}b"]);
    driver.reply(second, "+a\r\n+b\r\n");
    assert_eq!(driver.output(client), "+a\r\n+b\r\n");
    assert!(driver.requests(owner).is_empty());
}

#[test]
fn a_replica_that_is_silent_gets_no_more_and_then_is_given_up() {
    let (mut driver, owner) = driver_with(1);
    let client = reading(&mut driver, ReadPolicy::PreferReplica);
    driver.send(client, "GET {k}a");
    driver.mute = true;
    driver.pass(Duration::from_millis(1500));
    driver.mute = false;
    driver.send(client, "GET {k}b");
    assert_eq!(driver.requests(owner), ["GET {k}b"]);
    driver.mute = true;
    driver.pass(Duration::from_secs(2));
    driver.mute = false;
    driver.send(client, "GET {k}c");
    assert_eq!(driver.requests(owner), ["GET {k}b", "GET {k}a", "GET {k}c"]);
    driver.reply(owner, "+b\r\n+a\r\n+c\r\n");
    assert_eq!(driver.output(client), "+a\r\n+b\r\n+c\r\n");
}

#[test]
fn a_slot_on_its_way_is_read_at_its_owner() {
    let (mut driver, owner) = driver_with(1);
    let other = if owner == 7000 { 7001 } else { 7000 };
    let client = reading(&mut driver, ReadPolicy::Replica);
    driver
        .engine
        .set_snapshot(Arc::new(snapshot_with_open_slot("k", owner, other)));
    driver.settle();
    driver.send(client, "GET k");
    assert_eq!(driver.requests(owner), ["GET k"]);
    let slot = Slot::of_key(b"k").get();
    driver.reply(owner, &format!("-ASK {slot} 127.0.0.1:{other}\r\n"));
    assert_eq!(driver.requests(other), ["ASKING", "GET k"]);
    driver.reply(other, "+OK\r\n+v\r\n");
    assert_eq!(driver.output(client), "+v\r\n");
}

fn snapshot_with_open_slot(key: &str, from: u16, to: u16) -> crate::topology::Snapshot {
    super::driver::snapshot_opening(2, Slot::of_key(key.as_bytes()), from, to)
}

#[test]
fn a_replica_that_is_not_listed_any_more_is_left_and_its_connection_closed() {
    let (mut driver, owner) = driver_with(1);
    let replica = replica_of(owner, 1);
    let client = reading(&mut driver, ReadPolicy::PreferReplica);
    driver.send(client, "GET {k}a");
    driver.set_readers(&only(Vec::new()));
    driver.send(client, "GET {k}b");
    assert_eq!(driver.requests(owner), ["GET {k}b"]);
    driver.reply(replica, "+a\r\n");
    driver.reply(owner, "+b\r\n");
    assert_eq!(driver.output(client), "+a\r\n+b\r\n");
    driver.set_readers(&only(Vec::new()));
    assert!(!driver.is_connected(replica));
    driver.adopt(3, &[]);
    driver.engine.check_nothing_left();
}

#[test]
fn a_replica_that_was_made_the_primary_gets_writes_over_links_of_their_own() {
    let (mut driver, owner) = driver_with(0);
    let promoted = if owner == 7000 { 7001 } else { 7000 };
    let as_replica = Reader {
        id: NodeId::new(&node_id(promoted)),
        address: Address::new("127.0.0.1", promoted),
        ..reader(owner, 1)
    };
    driver.set_readers(&only(vec![as_replica]));
    let client = reading(&mut driver, ReadPolicy::Replica);
    driver.send(client, "GET k");
    assert_eq!(driver.all_requests(promoted), ["READONLY", "GET k"]);
    driver.reply(promoted, "+v\r\n");
    driver.take_over(2, owner, promoted);
    driver.send(client, "SET k v");
    assert_eq!(driver.links_to(promoted).len(), 2);
    driver.send(client, "READWRITE");
    driver.send(client, "GET k");
    let over_own = driver
        .links_to(promoted)
        .into_iter()
        .map(|link| driver.sent_over(link));
    let over_own: Vec<_> = over_own
        .filter(|sent| sent.first().is_none_or(|first| first != "READONLY"))
        .collect();
    assert_eq!(over_own, [["SET k v", "GET k"]]);
}

#[test]
fn a_replica_of_which_one_connection_was_lost_is_read_from_again() {
    let (mut driver, owner) = driver_with(1);
    let replica = replica_of(owner, 1);
    let (first, second) = (
        reading(&mut driver, ReadPolicy::Replica),
        reading(&mut driver, ReadPolicy::Replica),
    );
    driver.send(second, "HELLO 3");
    driver.send(first, "GET k");
    driver.send(second, "GET k");
    driver.reply_resp3(replica, "+v\r\n");
    driver.cut(replica);
    driver.pass(Duration::from_secs(1));
    driver.set_readers(&only(vec![reader(owner, 1)]));
    driver.pass(Duration::from_secs(1));
    assert_eq!(
        asked(&driver, replica),
        ["GET k", "GET k"],
        "over the other one, and over a new one"
    );
}

#[test]
fn a_replica_that_nobody_watches_any_more_is_not_read_from() {
    let (mut driver, owner) = driver_with(1);
    driver.pass(Duration::from_millis(5_100));
    let client = reading(&mut driver, ReadPolicy::PreferReplica);
    driver.send(client, "GET k");
    assert_eq!(driver.requests(owner), ["GET k"]);
}

#[test]
fn a_slot_that_has_moved_is_read_at_its_new_owner_until_the_replicas_there_have_its_keys() {
    let (mut driver, owner) = driver_with(0);
    let other = if owner == 7000 { 7001 } else { 7000 };
    driver.set_readers(&only(vec![reader(other, 1)]));
    driver.pass(Duration::from_millis(100));
    driver.adopt(2, &[("k", other)]);
    let client = reading(&mut driver, ReadPolicy::Replica);
    driver.send(client, "GET k");
    assert_eq!(driver.requests(other), ["GET k"]);
    driver.set_readers(&only(vec![reader(other, 1)]));
    driver.send(client, "GET k");
    assert_eq!(asked(&driver, replica_of(other, 1)), ["GET k"]);
}

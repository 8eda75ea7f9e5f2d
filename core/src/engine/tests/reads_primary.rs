//! When a primary that reads prefer counts as being there, and how they come back to it.

use std::time::Duration;

use super::driver::{Driver, bulk, node_id};
use super::reads::{asked, driver_with, reader, reading, replica_of};
use crate::engine::{LinkKey, SessionKey};
use crate::local::ReadPolicy;
use crate::topology::{NodeId, ReadPrimary, Readers};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const LOADING: &str = "-LOADING Redis is loading the dataset in memory\r\n";

/// The policies by which a primary answers that is nearer than its replica.
const FOR_PRIMARY: [ReadPolicy; 3] = [
    ReadPolicy::PreferPrimary,
    ReadPolicy::Any,
    ReadPolicy::Nearest,
];

/// Those who watch the nodes have seen all of them, the primary being nearer.
fn see(driver: &mut Driver, owner: u16) {
    driver.set_readers(&Readers {
        replicas: vec![reader(owner, 1)],
        primaries: vec![ReadPrimary {
            id: NodeId::new(&node_id(owner)),
            near: true,
            latency: Duration::ZERO,
        }],
    });
}

/// Time passes, and every second they look.
fn pass(driver: &mut Driver, owner: u16, time: Duration) {
    let mut left = time;
    while left > SECOND {
        driver.pass(SECOND);
        see(driver, owner);
        left -= SECOND;
    }
    driver.pass(left);
    see(driver, owner);
}

/// Whether the primary gets a read of the client, which is answered wherever it goes.
fn is_read_at_primary(driver: &mut Driver, client: SessionKey, owner: u16) -> bool {
    let count = |driver: &Driver, port| {
        let asked = asked(driver, port).into_iter();
        asked.filter(|it| it == "GET k").count()
    };
    let replica = replica_of(owner, 1);
    let before = count(driver, owner);
    driver.send(client, "GET k");
    let at_primary = count(driver, owner) > before;
    let mut links = driver
        .links_to(if at_primary { owner } else { replica })
        .into_iter();
    let is_last = |link: &LinkKey| {
        driver
            .sent_over(*link)
            .last()
            .is_some_and(|it| it == "GET k")
    };
    let link = links.find(is_last).expect("it is asked");
    driver.reply_on(link, &bulk("v"));
    assert_eq!(driver.output(client), bulk("v"));
    at_primary
}

/// A client that has read at the primary of `k`, and nobody else.
fn reading_at_primary(policy: ReadPolicy) -> (Driver, u16, SessionKey) {
    let (mut driver, owner) = driver_with(1);
    see(&mut driver, owner);
    let client = reading(&mut driver, policy);
    assert!(is_read_at_primary(&mut driver, client, owner), "{policy:?}");
    (driver, owner, client)
}

#[test]
fn a_client_that_waits_at_the_primary_does_not_send_reads_away_from_it_b12() {
    for policy in FOR_PRIMARY {
        let (mut driver, owner, client) = reading_at_primary(policy);
        let waiting = driver.client();
        driver.send(waiting, "BLPOP {k}queue 0");
        for _ in 0..20 {
            pass(&mut driver, owner, 700 * MILLISECOND);
            assert!(is_read_at_primary(&mut driver, client, owner), "{policy:?}");
        }
        pass(&mut driver, owner, 3 * SECOND);
        assert_eq!(driver.connections_to(owner), 3, "it is asked all the time");
        assert!(is_read_at_primary(&mut driver, client, owner), "{policy:?}");
    }
}

#[test]
fn a_primary_that_hangs_while_a_client_waits_there_is_left() {
    for policy in FOR_PRIMARY {
        let (mut driver, owner, client) = reading_at_primary(policy);
        let waiting = driver.client();
        driver.send(waiting, "BLPOP {k}queue 0");
        pass(&mut driver, owner, 3 * SECOND);
        driver.mute = true;
        pass(&mut driver, owner, 2500 * MILLISECOND);
        driver.mute = false;
        assert!(
            !is_read_at_primary(&mut driver, client, owner),
            "{policy:?}: it does not answer who asks"
        );
    }
}

#[test]
fn a_primary_that_owes_others_a_reply_while_a_client_waits_there_is_left() {
    for policy in FOR_PRIMARY {
        let (mut driver, owner, client) = reading_at_primary(policy);
        let waiting = driver.client();
        driver.send(waiting, "BLPOP {k}queue 0");
        pass(&mut driver, owner, 3 * SECOND);
        let other = driver.client();
        driver.send(other, "SET {k}x 1");
        pass(&mut driver, owner, 1500 * MILLISECOND);
        assert!(
            !is_read_at_primary(&mut driver, client, owner),
            "{policy:?}: it may hang, whatever the probe hears"
        );
    }
}

#[test]
fn a_primary_that_lost_a_connection_is_read_from_again() {
    for policy in FOR_PRIMARY {
        let (mut driver, owner, client) = reading_at_primary(policy);
        driver.cut(owner);
        assert!(!is_read_at_primary(&mut driver, client, owner));
        pass(&mut driver, owner, SECOND);
        assert!(is_read_at_primary(&mut driver, client, owner), "{policy:?}");
    }
}

#[test]
fn a_primary_with_a_connection_left_is_read_from_again_once_it_has_answered_there() {
    let (mut driver, owner, client) = reading_at_primary(ReadPolicy::PreferPrimary);
    let other = driver.client();
    driver.send(other, "HELLO 3");
    driver.send(other, "GET {k}other");
    driver.reply_resp3(owner, "_\r\n");
    driver.cut(owner);
    assert!(!is_read_at_primary(&mut driver, client, owner));
    for _ in 0..4 {
        pass(&mut driver, owner, 200 * MILLISECOND);
        assert!(
            !is_read_at_primary(&mut driver, client, owner),
            "what is idle may be dead"
        );
    }
    assert_eq!(
        driver.resp3_requests(owner),
        ["GET {k}other", "PING"],
        "it is asked once"
    );
    driver.reply_resp3(owner, "+PONG\r\n");
    see(&mut driver, owner);
    assert!(is_read_at_primary(&mut driver, client, owner));
}

#[test]
fn a_primary_that_is_gone_is_tried_no_more_often_than_any_node_hl3() {
    let (mut driver, owner, client) = reading_at_primary(ReadPolicy::PreferPrimary);
    let other = reading(&mut driver, ReadPolicy::Replica);
    assert!(!is_read_at_primary(&mut driver, other, owner));
    driver.cut(owner);
    driver.open = false;
    let mut attempts = 0;
    for _ in 0..1000 {
        pass(&mut driver, owner, 20 * MILLISECOND);
        assert!(!is_read_at_primary(&mut driver, client, owner));
        assert!(driver.pending.len() <= 1);
        attempts += driver.pending.len();
        driver.refuse_pending();
    }
    assert!((8..=18).contains(&attempts), "{attempts} in 20 s");
    driver.open = true;
    pass(&mut driver, owner, 3 * SECOND);
    assert!(is_read_at_primary(&mut driver, client, owner));
}

#[test]
fn a_primary_that_no_read_was_for_is_not_tried() {
    let (mut driver, owner) = driver_with(1);
    let plain = driver.client();
    driver.send(plain, "GET k");
    driver.cut(owner);
    driver.leave(plain);
    let client = reading(&mut driver, ReadPolicy::PreferReplica);
    for _ in 0..5 {
        pass(&mut driver, owner, SECOND);
        assert!(!is_read_at_primary(&mut driver, client, owner));
    }
    assert!(!driver.is_connected(owner));
}

#[test]
fn a_primary_that_loads_is_asked_from_time_to_time_and_a_replica_answers_meanwhile() {
    for policy in FOR_PRIMARY {
        let (mut driver, owner, client) = reading_at_primary(policy);
        let replica = replica_of(owner, 1);
        let mut refused = 0;
        for _ in 0..100 {
            driver.pass(10 * MILLISECOND);
            see(&mut driver, owner);
            driver.send(client, "GET {k}x");
            if driver.all_requests(owner).len() > 1 + refused {
                refused += 1;
                driver.reply(owner, LOADING);
            }
            driver.reply(replica, &bulk("old"));
            assert_eq!(driver.output(client), bulk("old"), "at once, {policy:?}");
        }
        assert!((8..=30).contains(&refused), "{refused} in a second");
        driver.pass(130 * MILLISECOND);
        for _ in 0..3 {
            assert!(is_read_at_primary(&mut driver, client, owner), "{policy:?}");
        }
    }
}

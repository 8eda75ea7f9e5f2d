//! Silent nodes: gone, hanging, or busy [HL1] [HL2] [D9].

use std::time::Duration;

use super::driver::{Driver, bulk};
use super::failures::UNCERTAIN;
use crate::topology::{Hint, RefreshReason};

#[test]
fn a_silent_node_is_given_up_and_others_are_not_touched_hl1() {
    let mut driver = Driver::new();
    let (stuck, other) = (driver.client(), driver.client());
    let (first, second) = driver.two_keys_on_two_nodes();
    let healthy = driver.owner(&second);
    driver.send(stuck, &format!("INCR {first}"));
    driver.send(other, &format!("GET {second}"));
    driver.mute = true;
    driver.reply(healthy, &bulk("v"));
    assert_eq!(driver.output(other), bulk("v"));
    for _ in 0..40 {
        driver.pass(Duration::from_millis(100));
        driver.send(other, &format!("GET {second}"));
        driver.reply(healthy, &bulk("v"));
        assert_eq!(driver.output(other), bulk("v"));
    }
    assert_eq!(driver.output(stuck), "");
    driver.pass(Duration::from_millis(1100));
    assert_eq!(driver.output(stuck), UNCERTAIN);
}

#[test]
fn a_worker_that_was_held_up_itself_blames_no_node() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "SET k 1");
    driver.stall(Duration::from_secs(60));
    assert_eq!(
        driver.output(client),
        "",
        "the reply may be waiting in the socket"
    );
    driver.reply(node, "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n");
}

#[test]
fn a_connection_that_was_given_up_is_dead_before_the_next_one_is_used_d9() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "SET k 1");
    driver.mute = true;
    driver.pass(Duration::from_secs(6));
    driver.mute = false;
    assert_eq!(driver.output(client), UNCERTAIN);
    driver.send(client, "SET k 2");
    driver.pass(Duration::from_secs(1));
    assert_eq!(
        driver.requests(node),
        ["CLIENT KILL ID 100", "SET k 2"],
        "the first write is not executed after the second"
    );
    driver.cut(node);
    driver.send(client, "SET k 3");
    driver.pass(Duration::from_secs(1));
    assert_eq!(
        driver.requests(node),
        ["SET k 3"],
        "once is enough, and who closes the connection itself has nothing left to execute"
    );
}

/// The node was started anew without a word: what it calls 100 now may be anybody's connection.
#[test]
fn a_connection_of_a_process_that_has_ended_is_not_killed_at_the_next_d9() {
    for (tells_addresses, expected) in [
        (false, &["SET k 2"][..]),
        // Nobody else has that number and that address.
        (true, &["SET k 2", "CLIENT KILL ID 100 ADDR 10.0.0.1:100"]),
    ] {
        let mut driver = Driver::new();
        driver.tells_addresses = tells_addresses;
        let (old, new) = (driver.client(), driver.client());
        let node = driver.owner("k");
        driver.send(old, "SET k 1");
        let lost = driver.links_to(node)[0];
        driver.next_client_id = 3;
        driver.pass(Duration::from_millis(10));
        driver.send(new, "HELLO 3");
        driver.output(new);
        driver.send(new, "SET k 2");
        driver.engine.on_link_read(lost, b"?no reply\r\n");
        driver.settle();
        assert_eq!(driver.output(old), UNCERTAIN);
        let requests = driver.all_requests(node);
        assert_eq!(requests[requests.len() - expected.len()..], *expected);
        assert!(!requests.contains(&"CLIENT KILL ID 100".to_owned()));
    }
}

/// Requests wait for their replies as long as their connections live.
fn patient() -> Driver {
    Driver::with(|limits| limits.request_timeout = Duration::MAX)
}

/// Servers pause writes around a manual failover; their other connections work.
#[test]
fn a_node_that_answers_on_another_connection_is_busy_hl2() {
    let mut driver = patient();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "SET k 1");
    driver.pass(Duration::from_secs(40));
    assert_eq!(driver.output(client), "");
    assert_eq!(driver.connections_to(node), 2);
    driver.reply(node, "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n");
    driver.pass(Duration::from_millis(100));
    assert_eq!(
        driver.connections_to(node),
        1,
        "nothing is left to ask about"
    );
}

#[test]
fn a_busy_node_becomes_a_dead_one_when_it_stops_answering_hl2() {
    let mut driver = patient();
    let client = driver.client();
    driver.send(client, "SET k 1");
    driver.pass(Duration::from_secs(20));
    driver.mute = true;
    driver.pass(Duration::from_secs(4));
    assert_eq!(driver.output(client), "");
    driver.pass(Duration::from_secs(2));
    assert_eq!(driver.output(client), UNCERTAIN);
}

#[test]
fn a_connection_that_is_silent_for_very_long_is_given_up_hl2() {
    let mut driver = patient();
    let client = driver.client();
    driver.send(client, "SET k 1");
    driver.pass(Duration::from_secs(59));
    assert_eq!(driver.output(client), "");
    driver.pass(Duration::from_secs(2));
    assert_eq!(driver.output(client), UNCERTAIN, "its bytes are lost");
}

/// The machine lost power and is back at once: nothing told of the end of the old connection.
#[test]
fn a_node_that_started_anew_answers_for_itself_only_hl2() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "SET k 1");
    driver.next_client_id = 3;
    driver.pass(Duration::from_millis(1500));
    assert_eq!(driver.output(client), UNCERTAIN);
    driver.send(client, "GET k");
    driver.pass(Duration::from_millis(200));
    assert_eq!(driver.requests(node), ["GET k"]);
}

/// The node numbers the probe, then a connection that is used before the probe is through its handshake.
#[test]
fn a_connection_opened_beside_a_probe_is_not_taken_for_an_orphan_hl2() {
    let mut driver = Driver::new();
    let (stuck, other) = (driver.client(), driver.client());
    driver.send(stuck, "SET k 1");
    driver.open = false;
    driver.pass(Duration::from_millis(1100));
    assert_eq!(driver.pending.len(), 1, "the probe");
    driver.send(other, "HELLO 3");
    driver.output(other);
    driver.send(other, "SET k 2");
    driver.next_client_id = 102;
    driver.connect_pending(1);
    driver.next_client_id = 101;
    driver.connect_pending(0);
    assert_eq!(driver.output(other), "");
    driver.reply_resp3(driver.owner("k"), "+OK\r\n");
    assert_eq!(driver.output(other), "+OK\r\n");
}

#[test]
fn discovery_is_told_of_silence_long_before_the_node_is_given_up() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "SET k 1");
    driver.hints.clear();
    driver.pass(Duration::from_millis(900));
    assert_eq!(driver.hints, []);
    driver.pass(Duration::from_millis(1100));
    assert!(
        matches!(
            driver.hints[..],
            [Hint::Refresh {
                reason: RefreshReason::NodeSilent,
                node: Some(_)
            }]
        ),
        "{:?}",
        driver.hints
    );
}

/// A probe that fails says nothing about the connection it was to explain.
#[test]
fn failed_probes_leave_the_node_as_it_was() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "SET k 1");
    driver.open = false;
    for _ in 0..3 {
        driver.pass(Duration::from_millis(1100));
        assert_eq!(driver.pending.len(), 1);
        driver.refuse_pending();
    }
    driver.reply(node, "+OK\r\n");
    driver.send(client, "GET k");
    assert_eq!(driver.requests(node), ["SET k 1", "GET k"]);
}

#[test]
fn very_many_links_are_not_looked_at_in_each_tick() {
    let mut driver = Driver::new();
    for _ in 0..300 {
        let client = driver.client();
        driver.send(client, "BLPOP k 0");
    }
    let looks = driver.engine.looks;
    for _ in 0..200 {
        driver.pass(Duration::from_millis(5));
    }
    let looks = driver.engine.looks - looks;
    assert!((15..=30).contains(&looks), "{looks} in a second");
}

#[test]
fn a_silent_node_is_given_up_in_time_among_very_many_links_hl1() {
    let mut driver = Driver::new();
    let (waiting, stuck) = (driver.owner("k"), driver.client());
    for _ in 0..300 {
        let client = driver.client();
        driver.send(client, "BLPOP k 0");
    }
    let (first, second) = driver.two_keys_on_two_nodes();
    let key = if driver.owner(&first) == waiting {
        second
    } else {
        first
    };
    driver.send(stuck, &format!("INCR {key}"));
    driver.mute = true;
    for _ in 0..4_900 / 100 {
        driver.pass(Duration::from_millis(100));
    }
    assert_eq!(driver.output(stuck), "");
    driver.pass(Duration::from_millis(250));
    assert_eq!(driver.output(stuck), UNCERTAIN);
}

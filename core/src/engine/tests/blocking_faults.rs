//! Clients that wait at a node, while something goes wrong there [B3]-[B12].

use std::time::Duration;

use super::driver::{Driver, bulk, encode};
use super::failures::UNCERTAIN;
use crate::engine::{LinkKey, LinkLoss, SessionKey};

const NIL: &str = "*-1\r\n";
const FORCED: &str = "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n";
const FULL: &str = "-ERR max number of clients reached\r\n";

/// A client that waits with `command`, which is for `k`.
fn blocked(driver: &mut Driver, command: &str) -> SessionKey {
    let client = driver.client();
    driver.send(client, command);
    assert_eq!(driver.output(client), "");
    client
}

/// What BLPOP of `k` is answered.
fn popped(element: &str) -> String {
    ["*2\r\n", &bulk("k"), &bulk(element)].concat()
}

/// It has no room, or another password by now.
#[test]
fn a_node_that_refuses_new_connections_keeps_those_that_wait_b12() {
    for refusal in [FULL, "-NOAUTH Authentication required.\r\n"] {
        let mut driver = Driver::new();
        let node = driver.owner("k");
        let client = blocked(&mut driver, "BLPOP k 0");
        driver.turns_away = Some(refusal);
        driver.pass(Duration::from_secs(60));
        assert_eq!(driver.output(client), "");
        driver.reply_where_asked(node, &popped("e"));
        assert_eq!(driver.output(client), popped("e"));
    }
}

/// A client that waits, the connection it waits over, and one for all.
fn waiting_beside_a_shared_link(driver: &mut Driver, command: &str) -> (SessionKey, [LinkKey; 2]) {
    let node = driver.owner("k");
    let client = blocked(driver, command);
    let other = driver.client();
    driver.send(other, "GET k");
    let links = [0, 1].map(|at| driver.links_to_in_order(node)[at]);
    driver.reply_on(links[1], &bulk("v"));
    driver.output(other);
    (client, links)
}

/// The node may get it when what was to be unblocked is over.
#[test]
fn a_late_unblock_hits_nobody_else_b9() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let (client, [private, _]) = waiting_beside_a_shared_link(&mut driver, "BLPOP k 0");
    driver.engine.unblock(client, false);
    driver.reply_on(private, &popped("e"));
    assert_eq!(driver.output(client), popped("e"));
    assert!(!driver.links_to(node).contains(&private), "it is not lent");
}

#[test]
fn one_to_be_unblocked_may_have_popped_something_that_was_lost_b8() {
    for (command, reply) in [("BLPOP k 0", UNCERTAIN), ("XREAD BLOCK 0 STREAMS k 0", NIL)] {
        let mut driver = Driver::new();
        let (client, [private, shared]) = waiting_beside_a_shared_link(&mut driver, command);
        driver.engine.unblock(client, false);
        driver.settle();
        driver.lose(private, LinkLoss::Closed);
        driver.reply_on(shared, ":0\r\n");
        assert_eq!(driver.output(client), reply);
        driver.engine.check_nothing_left();
    }
}

/// A planned failover: the node redirects writes, and takes them until it does.
#[test]
fn one_that_waits_no_longer_holds_up_no_writes_b5() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    blocked(&mut driver, "BLPOP k 0");
    driver.pass(Duration::from_secs(2));
    driver.reply_where_asked(node, FORCED);
    let other = driver.client();
    driver.send(other, "SET k 1");
    driver.reply_where_asked(node, "+OK\r\n");
    assert_eq!(driver.output(other), "+OK\r\n");
}

#[test]
fn nothing_is_sent_to_wait_when_the_proxy_is_being_shut_down_d12() {
    let mut driver = Driver::new();
    let (here, there) = driver.two_keys_on_two_nodes();
    let client = driver.client();
    let commands = [
        format!("GET {here}"),
        format!("BLPOP {there} 0"),
        "QUIT".to_owned(),
    ];
    let bytes: Vec<u8> = commands.iter().flat_map(|text| encode(text)).collect();
    driver.send_raw(client, &bytes);
    driver.engine.drain();
    driver.reply(driver.owner(&here), &bulk("v"));
    assert!(driver.engine.must_close(client).is_some());
    assert!(driver.all_requests(driver.owner(&there)).is_empty());
    driver.leave(client);

    // Its link is ready in the turn in which it is cut off.
    let mut driver = Driver::new();
    driver.open = false;
    let client = blocked(&mut driver, "BLPOP k 0");
    driver.engine.drain();
    driver.connect_pending(0);
    assert!(driver.all_requests(driver.owner("k")).is_empty());
    assert!(driver.engine.must_close(client).is_some());
    driver.leave(client);
    driver.engine.check_nothing_left();
}

/// It has room for no more of those that wait, but serves.
#[test]
fn a_full_node_is_no_lost_one_b3() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    driver.turns_away = Some(FULL);
    for (command, refusal) in [
        ("BLPOP k 0", "-ERR proxy: too many blocked clients\r\n"),
        ("WATCH k", "-ERR proxy: too many pinned sessions\r\n"),
    ] {
        let client = driver.client();
        driver.send(client, command);
        assert_eq!(driver.output(client), refusal);
    }
    driver.turns_away = None;
    let client = driver.client();
    driver.send(client, "GET k");
    assert_eq!(driver.all_requests(node), ["GET k"], "at once");
    assert!(driver.hints.is_empty());
}

/// What is sent behind a call that waits is taken already, so that the end of the client is noticed; it has not waited yet.
#[test]
fn what_is_behind_one_that_waits_has_all_its_patience_pk1() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = driver.client();
    driver.send(client, "BLPOP k 0");
    driver.send(client, "GET k");
    driver.pass(Duration::from_secs(60));
    driver.reply_where_asked(node, &popped("e"));
    assert_eq!(driver.output(client), popped("e"));
    driver.reply_where_asked(node, "-LOADING Redis is loading the dataset in memory\r\n");
    assert_eq!(driver.output(client), "", "it waits for the node");
    driver.pass(Duration::from_millis(50));
    driver.reply_where_asked(node, &bulk("v"));
    assert_eq!(driver.output(client), bulk("v"));
}

/// Its process goes on with what waits there.
#[test]
fn a_node_with_another_address_is_not_demoted_b11() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = blocked(&mut driver, "BLPOP k 0");
    driver.change_port(2, node, 7010);
    driver.pass(Duration::from_secs(5));
    assert_eq!(driver.output(client), "");
    driver.reply_where_asked(node, &popped("e"));
    assert_eq!(driver.output(client), popped("e"));
}

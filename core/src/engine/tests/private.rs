//! Connections that carry the commands of one session at a time.

use std::time::Duration;

use super::driver::{Driver, bulk};
use crate::engine::{LinkLoss, SessionKey};

const NIL: &str = "*-1\r\n";

/// A client that has waited for nothing over a private link of its own.
fn served(driver: &mut Driver) -> SessionKey {
    let client = driver.client();
    driver.send(client, "BLPOP k 1");
    driver.reply_where_asked(driver.owner("k"), NIL);
    assert_eq!(driver.output(client), NIL);
    client
}

#[test]
fn a_private_link_is_lent_again() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    for _ in 0..3 {
        served(&mut driver);
    }
    assert_eq!(driver.connections_to(node), 1);
    assert_eq!(driver.all_requests(node).len(), 3);
}

#[test]
fn nothing_of_everybody_goes_over_a_private_link() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = served(&mut driver);
    driver.send(client, "GET k");
    assert_eq!(driver.connections_to(node), 2);
    driver.reply_where_asked(node, &bulk("v"));
    assert_eq!(driver.output(client), bulk("v"));
}

#[test]
fn each_resp_version_has_its_own() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    served(&mut driver);
    let client = driver.client();
    driver.send(client, "HELLO 3");
    driver.output(client);
    driver.send(client, "BLPOP k 1");
    assert_eq!(driver.resp3_requests(node), ["BLPOP k 1"]);
    driver.reply_resp3(node, "_\r\n");
    assert_eq!(driver.output(client), "_\r\n");
    driver.engine.check_nothing_left();
}

#[test]
fn an_idle_one_is_closed_after_a_while() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    served(&mut driver);
    driver.pass(Duration::from_secs(29));
    assert_eq!(driver.connections_to(node), 1);
    driver.pass(Duration::from_secs(2));
    assert_eq!(driver.connections_to(node), 0);
}

#[test]
fn one_that_the_node_closes_while_it_is_idle_harms_nobody() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    served(&mut driver);
    driver.cut(node);
    driver.pass(Duration::from_secs(1));
    served(&mut driver);
    assert_eq!(driver.connections_to(node), 1);
}

/// Whoever comes later than the bound for one RESP version takes the place of an idle one of the other.
#[test]
fn the_bound_is_for_both_resp_versions() {
    let mut driver = Driver::with(|limits| limits.private_links = 1);
    let node = driver.owner("k");
    served(&mut driver);
    let client = driver.client();
    driver.send(client, "HELLO 3");
    driver.send(client, "BLPOP k 1");
    assert_eq!(driver.connections_to(node), 1);
    assert_eq!(driver.resp3_requests(node), ["BLPOP k 1"]);
}

/// All that were lost with a node come back at once.
#[test]
fn few_are_opened_at_the_same_time() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    driver.open = false;
    for _ in 0..200 {
        let client = driver.client();
        driver.send(client, "BLPOP k 0");
    }
    assert_eq!(driver.pending.len(), 64);
    while !driver.pending.is_empty() {
        driver.connect_pending(0);
        driver.pass(Duration::from_millis(11));
    }
    assert_eq!(driver.connections_to(node), 200);
}

#[test]
fn one_connection_finds_out_whether_a_node_is_back_hl3() {
    let mut driver = Driver::new();
    driver.open = false;
    for _ in 0..10 {
        let client = driver.client();
        driver.send(client, "BLPOP k 0");
    }
    driver.refuse_pending();
    driver.pass(Duration::from_millis(200));
    assert_eq!(driver.pending.len(), 1);
    let getter = driver.client();
    driver.send(getter, "GET k");
    assert_eq!(driver.pending.len(), 1);
    driver.open = true;
    driver.connect_pending(0);
    driver.open = true;
    driver.pass(Duration::from_secs(1));
    assert_eq!(driver.connections_to(driver.owner("k")), 11);
}

/// What was given up might be executed after what goes over one that is open already [D9].
#[test]
fn none_that_was_open_is_used_after_another_was_given_up_d9() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = served(&mut driver);
    driver.send(client, "SET k 1");
    let private = driver.links_to_in_order(node)[0];
    let shared = driver.links_to_in_order(node)[1];
    driver.engine.on_link_read(shared, b"?no reply\r\n");
    driver.settle();
    assert!(!driver.links_to(node).contains(&private));
    driver.output(client);
    driver.pass(Duration::from_secs(1));
    driver.send(client, "BLPOP k 1");
    let requests = driver.all_requests(node);
    assert_eq!(requests, ["CLIENT KILL ID 101", "BLPOP k 1"]);
    driver.reply_where_asked(node, NIL);
    assert_eq!(driver.output(client), NIL);
}

#[test]
fn the_links_of_a_node_that_leaves_are_closed() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    served(&mut driver);
    let link = driver.links_to(node)[0];
    driver.lose(link, LinkLoss::Closed);
    assert_eq!(driver.connections_to(node), 0);
    driver.engine.check_nothing_left();
}

//! Nodes that say they take no requests for a while, and topologies that change meanwhile.

use std::time::Duration;

use super::driver::{Driver, bulk};
use crate::slot::Slot;

const LOADING: &str = "-LOADING Redis is loading the dataset in memory\r\n";
const DOWN: &str = "-CLUSTERDOWN The cluster is down\r\n";
const MILLISECOND: Duration = Duration::from_millis(1);

/// Answers everything at `port` with `reply` for so many milliseconds; gives the number of answers.
fn refuse_for(driver: &mut Driver, port: u16, reply: &str, milliseconds: u32) -> usize {
    (0..milliseconds)
        .map(|_| {
            driver.stall(MILLISECOND);
            driver.answer_all(port, reply)
        })
        .sum()
}

#[test]
fn a_backlog_does_not_storm_a_node_that_loads_pk7() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let clients: Vec<_> = (0..100).map(|_| driver.client()).collect();
    for client in &clients {
        driver.send(*client, "SET k v");
    }
    assert_eq!(driver.answer_all(node, LOADING), 100);
    let tries = refuse_for(&mut driver, node, LOADING, 1000);
    assert!((8..=30).contains(&tries), "{tries} in a second");
    // It is there again: the one that tries is told, and all others go at once.
    while driver.answer_all(node, "+OK\r\n") == 0 {
        driver.stall(MILLISECOND);
    }
    driver.stall(MILLISECOND);
    assert_eq!(driver.answer_all(node, "+OK\r\n"), 99);
    for client in clients {
        assert_eq!(driver.output(client), "+OK\r\n");
    }
}

#[test]
fn new_topologies_do_not_send_a_backlog_to_the_node_that_just_refused_it() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let clients: Vec<_> = (0..100).map(|_| driver.client()).collect();
    for client in &clients {
        driver.send(*client, "SET k v");
    }
    driver.answer_all(node, DOWN);
    let mut tries = 0;
    for generation in 2..12 {
        driver.adopt(generation, &[]);
        driver.stall(MILLISECOND);
        tries += driver.answer_all(node, DOWN);
    }
    assert!(tries <= 2, "{tries} in ten topologies");
}

#[test]
fn a_new_owner_gets_the_backlog_at_once() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    let other = if node == 7000 { 7001 } else { 7000 };
    driver.send(client, "SET k v");
    driver.reply(node, LOADING);
    driver.adopt(2, &[("k", other)]);
    assert_eq!(driver.requests(other), ["SET k v"]);
}

#[test]
fn reads_go_on_where_only_writes_are_refused() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let (writer, reader) = (driver.client(), driver.client());
    driver.send(writer, "SET k v");
    driver.reply(
        node,
        "-CLUSTERDOWN The cluster is down and only accepts read commands\r\n",
    );
    driver.send(reader, "GET k");
    driver.reply(node, &bulk("v"));
    assert_eq!(driver.output(reader), bulk("v"));
    // That a read is served says nothing about writes.
    driver.send(reader, "SET k w");
    assert_eq!(driver.requests(node).len(), 2);
}

#[test]
fn an_unserved_slot_says_nothing_about_others_of_the_node() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let other = (0..).map(|n| format!("k{n}"));
    let other = other.filter(|key| Slot::of_key(key.as_bytes()) != Slot::of_key(b"k"));
    let other = other.into_iter().find(|key| driver.owner(key) == node);
    let other = other.unwrap_or_default();
    let (one, two) = (driver.client(), driver.client());
    driver.send(one, "SET k v");
    driver.reply(node, "-CLUSTERDOWN Hash slot not served\r\n");
    driver.send(two, &format!("SET {other} v"));
    driver.reply(node, "+OK\r\n");
    assert_eq!(driver.output(two), "+OK\r\n");
}

#[test]
fn who_never_gets_to_try_is_told_what_the_node_says() {
    let mut driver = Driver::with(|limits| limits.park_timeout = Duration::from_secs(1));
    let node = driver.owner("k");
    let clients: Vec<_> = (0..50).map(|_| driver.client()).collect();
    driver.send(clients[0], "SET k v");
    driver.reply(node, LOADING);
    for client in &clients[1..] {
        driver.send(*client, "SET k v");
    }
    refuse_for(&mut driver, node, LOADING, 1100);
    for client in clients {
        assert_eq!(driver.output(client), LOADING);
    }
}

#[test]
fn who_was_sent_by_moved_waits_for_its_connection_until_the_topology_names_a_third_node_e4() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    let others: Vec<u16> = (7000..7003).filter(|port| *port != node).collect();
    driver.send(client, "SET k v");
    driver.open = false;
    let slot = Slot::of_key(b"k").get();
    driver.reply(node, &format!("-MOVED {slot} 127.0.0.1:{}\r\n", others[0]));
    // Topologies from before the move, or that know of it: more of them than a request may have redirections.
    for generation in 2..20 {
        driver.adopt(generation, &[]);
        driver.adopt(generation + 20, &[("k", others[0])]);
    }
    assert_eq!(driver.requests(node).len(), 1);
    driver.adopt(50, &[("k", others[1])]);
    driver.connect_pending(1);
    assert_eq!(driver.requests(others[1]), ["SET k v"]);
    driver.reply(others[1], "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n");
}

#[test]
fn who_was_sent_by_ask_waits_for_its_connection_whoever_owns_the_slot_e6() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    let other = if node == 7000 { 7001 } else { 7000 };
    driver.send(client, "SET k v");
    driver.open = false;
    let slot = Slot::of_key(b"k").get();
    driver.reply(node, &format!("-ASK {slot} 127.0.0.1:{other}\r\n"));
    for generation in 2..30 {
        driver.adopt(generation, &[]);
    }
    driver.connect_pending(0);
    assert_eq!(driver.requests(other), ["ASKING", "SET k v"]);
}

//! Lost links, missing nodes and the fate of each request [D1]-[D4] [PK1]-[PK5].

use std::time::Duration;

use super::driver::{Driver, bulk};
use crate::engine::Action;
use crate::resp::Protocol;
use crate::topology::Hint;

pub(super) const UNCERTAIN: &str = "-UNCERTAIN proxy: backend connection lost after the command was sent, it may or may not have been executed\r\n";

#[test]
fn a_written_write_is_uncertain_and_never_sent_again_d4() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "INCR k");
    driver.cut(node);
    assert_eq!(driver.output(client), UNCERTAIN);
    driver.pass(Duration::from_millis(100));
    driver.send(client, "GET k");
    driver.pass(Duration::from_millis(100));
    assert_eq!(driver.requests(node), ["GET k"]);
}

#[test]
fn a_written_read_is_sent_again_twice_at_most_d3() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "GET k");
    for _ in 0..2 {
        driver.cut(node);
        assert_eq!(driver.output(client), "");
        driver.pass(Duration::from_millis(200));
        assert_eq!(driver.requests(node), ["GET k"]);
    }
    driver.cut(node);
    assert_eq!(driver.output(client), UNCERTAIN);
}

#[test]
fn an_unwritten_write_is_sent_again_d2() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "PING");
    driver.send(client, "GET k");
    driver.reply(node, &bulk("v"));
    driver.output(client);
    driver.send_with_slow_node(client, "SET k 1", 5);
    driver.cut(node);
    assert_eq!(
        driver.output(client),
        "",
        "not executed: a node runs only whole commands"
    );
    driver.pass(Duration::from_millis(200));
    assert_eq!(driver.requests(node), ["SET k 1"]);
    driver.reply(node, "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n");
}

#[test]
fn a_read_is_not_repeated_behind_a_write_that_may_have_run_o4() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "GET k");
    driver.send(client, "SET k 1");
    driver.cut(node);
    assert_eq!(driver.output(client), format!("{UNCERTAIN}{UNCERTAIN}"));
}

#[test]
fn requests_wait_for_a_link_and_for_a_topology_r55() {
    let mut driver = Driver::without_topology(|_| {});
    let client = driver.client();
    driver.send(client, "SET k 1");
    driver.send(client, "GET k");
    driver.send(client, "DBSIZE");
    driver.send(client, "PING");
    assert!(
        driver
            .hints
            .iter()
            .any(|hint| matches!(hint, Hint::Refresh { .. }))
    );
    driver.adopt(1, &[]);
    let node = driver.owner("k");
    assert_eq!(driver.requests(node)[..1], ["SET k 1"]);
    driver.reply(node, "+OK\r\n");
    driver.reply(node, &bulk("1"));
    for port in 7000..7003 {
        driver.reply(port, ":1\r\n");
    }
    assert_eq!(
        driver.output(client),
        format!("+OK\r\n{}:3\r\n+PONG\r\n", bulk("1"))
    );
}

#[test]
fn a_node_that_refuses_connections_is_tried_again_with_pauses_hl3() {
    let mut driver = Driver::new();
    driver.open = false;
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "SET k 1");
    let mut attempts = 0;
    for _ in 0..100 {
        attempts += driver.pending.len();
        driver.refuse_pending();
        driver.pass(Duration::from_millis(10));
    }
    assert!(
        (3..=12).contains(&attempts),
        "{attempts} attempts in a second"
    );
    driver.open = true;
    driver.refuse_pending();
    driver.pass(Duration::from_secs(3));
    assert_eq!(driver.requests(node), ["SET k 1"]);
}

#[test]
fn a_request_without_a_node_ends_at_its_deadline_pk2() {
    let mut driver =
        Driver::without_topology(|limits| limits.park_timeout = Duration::from_secs(1));
    let client = driver.client();
    driver.send(client, "GET k");
    driver.pass(Duration::from_millis(900));
    assert_eq!(driver.output(client), "");
    driver.pass(Duration::from_millis(200));
    assert_eq!(
        driver.output(client),
        "-CLUSTERDOWN proxy: no master for slot 7629 within 1000 ms\r\n"
    );
}

#[test]
fn parked_requests_are_bounded_pk1() {
    let mut driver = Driver::without_topology(|limits| limits.park_max_requests = 2);
    let client = driver.client();
    for key in ["a", "b", "c"] {
        driver.send(client, &format!("GET {key}"));
    }
    driver.pass(Duration::from_secs(20));
    let output = driver.output(client);
    assert!(
        output.ends_with("-ERR proxy: overloaded, command not executed\r\n"),
        "{output}"
    );
}

#[test]
fn a_parked_request_of_a_client_that_left_is_dropped_pk5() {
    let mut driver = Driver::without_topology(|_| {});
    let (leaver, stayer) = (driver.client(), driver.client());
    driver.send(leaver, "SET k left");
    driver.send(stayer, "SET k stayed");
    driver.leave(leaver);
    driver.adopt(1, &[]);
    let node = driver.owner("k");
    assert_eq!(driver.requests(node), ["SET k stayed"]);
}

#[test]
fn garbage_from_a_node_costs_its_link_only_z3() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "SET k 1");
    driver.reply(node, "garbage\r\n");
    assert_eq!(driver.output(client), UNCERTAIN);
    assert!(!driver.is_connected(node));
    driver.pass(Duration::from_millis(200));
    driver.send(client, "GET k");
    driver.reply(node, &bulk("v"));
    assert_eq!(driver.output(client), bulk("v"));
}

#[test]
fn a_reply_nobody_asked_for_costs_the_link_z3() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "GET k");
    driver.reply(node, &(bulk("v") + "+EXTRA\r\n"));
    assert_eq!(driver.output(client), bulk("v"));
    assert!(!driver.is_connected(node));
}

#[test]
fn a_connection_is_given_up_once() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "SET k 1");
    let link = driver.link(node, Protocol::Resp2);
    driver.engine.on_link_read(link, b"garbage\r\n");
    driver.engine.on_link_read(link, b"more of it\r\n");
    let closings = std::iter::from_fn(|| driver.engine.next_action())
        .filter(|action| *action == Action::CloseLink(link));
    assert_eq!(
        closings.count(),
        1,
        "the key may belong to another link soon"
    );
}

#[test]
fn refused_credentials_are_told_at_once() {
    let mut driver = Driver::without_topology(|_| {});
    let client = driver.client();
    driver.send(client, "GET k");
    driver.engine.set_login_refused(true);
    driver.pass(Duration::from_millis(1));
    driver.send(client, "GET k");
    let refused = "-ERR proxy: backend authentication failed\r\n";
    assert_eq!(driver.output(client), format!("{refused}{refused}"));
    driver.adopt(1, &[]);
    driver.send(client, "GET k");
    assert_eq!(
        driver.requests(driver.owner("k")),
        ["GET k"],
        "with a topology each link finds out for itself"
    );
}

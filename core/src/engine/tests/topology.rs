//! Redirections, unknown nodes and new topologies while requests are under way.

use std::time::Duration;

use super::driver::{Driver, bulk};
use crate::engine::nodes::Nodes;
use crate::engine::{Action, LinkKey};
use crate::slot::Slot;
use crate::time::Timestamp;
use crate::topology::{Address, Node, NodeId, NodeState, Role, SnapshotBuilder};

/// A port of no node of the topology.
const STRANGER: u16 = 7900;

fn moved(key: &str, port: u16) -> String {
    format!(
        "-MOVED {} 127.0.0.1:{port}\r\n",
        Slot::of_key(key.as_bytes()).get()
    )
}

/// The link that the engine wants opened.
fn connecting(driver: &mut Driver) -> LinkKey {
    loop {
        match driver.engine.next_action() {
            Some(Action::Connect { link, .. }) => return link,
            Some(_) => {}
            None => panic!("no connection is asked for"),
        }
    }
}

fn closing(driver: &mut Driver, link: LinkKey) -> bool {
    std::iter::from_fn(|| driver.engine.next_action())
        .any(|action| action == Action::CloseLink(link))
}

#[test]
fn a_node_a_refused_request_was_pointed_to_is_not_forgotten_e7() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "SET k 1");
    driver.send(client, "GET k");
    driver.reply(node, &moved("k", STRANGER));
    // The write waits for the fate of the read [O4] while the topology changes.
    driver.adopt(2, &[]);
    driver.reply(node, &moved("k", STRANGER + 1));
    assert_eq!(driver.requests(STRANGER), ["SET k 1"]);
    driver.reply(STRANGER, "+OK\r\n");
    assert_eq!(driver.requests(STRANGER + 1), ["GET k"]);
}

#[test]
fn requests_that_wait_for_a_link_are_not_refused_by_a_new_topology() {
    let mut driver = Driver::with(|limits| limits.park_max_requests = 2);
    driver.open = false;
    let clients: Vec<_> = (0..5).map(|_| driver.client()).collect();
    for client in &clients {
        driver.send(*client, "SET k 1");
    }
    driver.adopt(2, &[]);
    for client in clients {
        assert_eq!(driver.output(client), "");
    }
}

#[test]
fn a_redirection_to_a_node_that_cannot_be_reached_holds_for_one_attempt() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "SET k 1");
    driver.open = false;
    driver.reply(node, &moved("k", STRANGER));
    let mut answered = 1;
    for _ in 0..90 {
        driver.refuse_pending();
        if driver.requests(node).len() > answered {
            driver.reply(node, &moved("k", STRANGER));
            answered += 1;
        }
        driver.pass(Duration::from_millis(100));
        assert_eq!(
            driver.output(client),
            "",
            "what could not be followed is not counted"
        );
    }
    assert!((8..30).contains(&answered), "asked {answered} times");
    assert!(
        driver
            .requests(node)
            .iter()
            .all(|request| request == "SET k 1")
    );
}

#[test]
fn a_link_given_up_before_it_was_connected_is_closed_when_it_is() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "SET k 1");
    driver.open = false;
    driver.reply(node, &moved("k", STRANGER));
    let (link, _) = driver.pending.remove(0);
    let third = if node == 7000 { 7001 } else { 7000 };
    driver.adopt(2, &[("k", third)]);
    for step in 1..=240 {
        driver
            .engine
            .set_now(Timestamp::from_micros(step * 250_000));
        driver.engine.tick();
    }
    assert!(
        closing(&mut driver, link),
        "nothing is sent to a node that no topology names"
    );
    driver.engine.on_link_connected(link);
    assert!(
        closing(&mut driver, link),
        "now there is something to close"
    );
}

#[test]
fn a_node_known_from_redirections_only_is_left_when_it_is_idle() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "SET k 1");
    driver.reply(node, &moved("k", STRANGER));
    driver.reply(STRANGER, "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n");
    driver.pass(Duration::from_secs(1));
    assert!(
        driver.is_connected(STRANGER),
        "the next redirection may come at once"
    );
    driver.pass(Duration::from_secs(5));
    assert!(!driver.is_connected(STRANGER));
    assert!(driver.is_connected(node));
}

#[test]
fn replies_to_a_handshake_that_was_not_written_cost_the_link_z3() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver
        .engine
        .on_client(client, &super::driver::encode("GET k"));
    let link = connecting(&mut driver);
    driver.engine.on_link_connected(link);
    driver.engine.on_link_written(link, 5);
    let id = super::driver::node_id(driver.owner("k"));
    let replies = format!("+OK\r\n{}:9\r\n-ERR Unknown subcommand\r\n", bulk(&id));
    driver.engine.on_link_read(link, replies.as_bytes());
    assert!(
        closing(&mut driver, link),
        "replies of the rest would pass for those of requests"
    );
}

#[test]
fn parts_count_their_time_from_the_arrival_of_the_whole_pk1() {
    let mut driver = Driver::with(|limits| limits.park_timeout = Duration::from_secs(1));
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "GET k");
    driver.send(client, "DBSIZE");
    driver.pass(Duration::from_millis(900));
    driver.reply(node, &bulk("v"));
    for port in 7000..7003 {
        driver.reply(port, "-LOADING Redis is loading the dataset in memory\r\n");
    }
    driver.pass(Duration::from_millis(200));
    assert_eq!(
        driver.output(client),
        bulk("v") + "-LOADING Redis is loading the dataset in memory\r\n"
    );
}

#[test]
fn of_two_nodes_that_name_one_address_the_healthy_one_is_there() {
    let address = Address::new("127.0.0.1", 7000);
    let node = |id: &str, state| Node {
        id: NodeId::new(id),
        address: address.clone(),
        hostname: None,
        role: Role::Primary,
        primary_id: None,
        state,
        link_connected: state == NodeState::Ok,
        config_epoch: 1,
    };
    let (dead, alive) = (
        node("dead", NodeState::Failed),
        node("alive", NodeState::Ok),
    );
    for order in [[&dead, &alive], [&alive, &dead]] {
        let mut builder = SnapshotBuilder::new();
        for node in order {
            builder.add_node(node.clone()).unwrap();
        }
        let mut nodes = Nodes::default();
        nodes.adopt(&builder.build(1));
        let there = nodes.at(&address);
        assert_eq!(nodes[there].id, Some(alive.id.clone()));
    }
}

#[test]
fn keys_that_are_nowhere_yet_wait_for_the_end_of_the_move_e8() {
    let mut driver = Driver::new();
    let client = driver.client();
    let (source, target) = (
        driver.owner("{k}1"),
        if driver.owner("{k}1") == 7000 {
            7001
        } else {
            7000
        },
    );
    let slot = Slot::of_key(b"k").get();
    driver.send(client, "EVAL script 2 {k}1 {k}2");
    // The source has neither key and points to the target, which has not both and says to try again: not once around, but until all is moved.
    for _ in 0..10 {
        driver.reply(source, &format!("-ASK {slot} 127.0.0.1:{target}\r\n"));
        driver.reply(
            target,
            "+OK\r\n-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
        );
        assert_eq!(driver.output(client), "");
        driver.pass(Duration::from_millis(170));
    }
    driver.reply(source, ":1\r\n");
    assert_eq!(driver.output(client), ":1\r\n");
}

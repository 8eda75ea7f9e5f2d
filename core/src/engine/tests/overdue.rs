//! Requests that are not answered in time while their connection lives [D8].

use std::time::Duration;

use super::driver::{Driver, bulk};
use crate::slot::Slot;

const UNCERTAIN: &str = "-UNCERTAIN proxy: timeout, no reply within 1000 ms, the command may or may not have been executed\r\n";
const TIMEOUT: &str = "-ERR proxy: timeout, no reply within 1000 ms\r\n";
const SECOND: Duration = Duration::from_secs(1);

fn driver() -> Driver {
    Driver::with(|limits| {
        limits.request_timeout = SECOND;
        limits.node_timeout = Duration::from_secs(3600);
        limits.busy_timeout = Duration::from_secs(3600);
    })
}

#[test]
fn a_late_request_leaves_its_neighbours_alone_d8() {
    let mut driver = driver();
    let (writer, reader, later) = (driver.client(), driver.client(), driver.client());
    let node = driver.owner("k");
    driver.send(writer, "SET k 1");
    driver.send(reader, "GET k");
    driver.pass(SECOND / 2);
    driver.send(later, "GET k");
    driver.pass(SECOND / 2);
    assert_eq!(driver.output(writer), UNCERTAIN);
    assert_eq!(driver.output(reader), TIMEOUT);
    assert_eq!(driver.output(later), "");
    driver.send(writer, "GET k");
    // The node comes round: late replies are nobody's, the others reach whom they are for.
    driver.reply(node, &("+OK\r\n".to_owned() + &bulk("1") + &bulk("2")));
    assert_eq!(driver.output(later), bulk("2"));
    driver.reply(node, &bulk("3"));
    assert_eq!(driver.output(writer), bulk("3"));
    assert_eq!(driver.output(reader), "");
}

#[test]
fn what_is_under_way_after_the_error_is_watched_in_turn() {
    let mut driver = driver();
    let client = driver.client();
    let node = driver.owner("k");
    for round in 0..5 {
        driver.send(client, "GET k");
        driver.pass(SECOND);
        assert_eq!(driver.output(client), TIMEOUT, "{round}");
    }
    assert_eq!(driver.answer_all(node, &bulk("old")), 5);
    driver.send(client, "GET k");
    driver.reply(node, &bulk("new"));
    assert_eq!(driver.output(client), bulk("new"));
}

#[test]
fn a_write_that_may_yet_run_is_not_overtaken_on_another_node_g2() {
    let mut driver = driver();
    let client = driver.client();
    let node = driver.owner("k");
    let other = if node == 7000 { 7001 } else { 7000 };
    driver.send(client, "SET k 1");
    driver.pass(SECOND);
    assert_eq!(driver.output(client), UNCERTAIN);
    driver.adopt(2, &[("k", other)]);
    driver.send(client, "SET k 2");
    assert_eq!(driver.requests(other), [""; 0]);
    let slot = Slot::of_key(b"k").get();
    driver.reply(node, &format!("-MOVED {slot} 127.0.0.1:{other}\r\n"));
    assert_eq!(driver.requests(other), ["SET k 2"]);
    driver.reply(other, "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n");
}

#[test]
fn the_loss_of_its_connection_decides_the_fate_of_a_late_write_too() {
    let mut driver = driver();
    let client = driver.client();
    let node = driver.owner("k");
    let other = if node == 7000 { 7001 } else { 7000 };
    driver.send(client, "SET k 1");
    driver.pass(SECOND);
    assert_eq!(driver.output(client), UNCERTAIN);
    driver.adopt(2, &[("k", other)]);
    driver.send(client, "SET k 2");
    driver.cut(node);
    assert_eq!(driver.requests(other), ["SET k 2"]);
}

#[test]
fn a_late_flush_holds_back_only_what_it_may_yet_delete() {
    let mut driver = driver();
    let client = driver.client();
    let (first, second) = driver.two_keys_on_two_nodes();
    let (node, other) = (driver.owner(&first), driver.owner(&second));
    driver.send(client, "FLUSHALL");
    for port in [7000, 7001, 7002] {
        if port != node {
            driver.reply(port, "+OK\r\n");
        }
    }
    driver.pass(SECOND);
    assert!(driver.output(client).starts_with("-UNCERTAIN "));
    // In this protocol version there is another connection to the node.
    driver.send(client, "HELLO 3");
    driver.output(client);
    driver.send(client, &format!("SET {second} 1"));
    assert_eq!(driver.resp3_requests(other).len(), 1);
    driver.send(client, &format!("SET {first} 1"));
    assert_eq!(driver.resp3_requests(node).len(), 0);
    driver.reply(node, "+OK\r\n");
    assert_eq!(driver.resp3_requests(node).len(), 1);
}

#[test]
fn scripts_take_what_time_they_take() {
    let mut driver = driver();
    let (scripter, neighbour) = (driver.client(), driver.client());
    let node = driver.owner("k");
    driver.send(scripter, "EVAL x 1 k");
    driver.send(neighbour, "GET k");
    driver.pass(10 * SECOND);
    assert_eq!(driver.output(scripter), "");
    assert_eq!(driver.output(neighbour), TIMEOUT);
    driver.reply(node, &(":1\r\n".to_owned() + &bulk("v")));
    assert_eq!(driver.output(scripter), ":1\r\n");
    assert_eq!(driver.output(neighbour), "");
}

#[test]
fn a_reply_that_has_begun_to_arrive_is_not_late() {
    let mut driver = driver();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "LRANGE k 0 -1");
    driver.reply(node, "*2\r\n$1\r\na\r\n");
    driver.pass(3 * SECOND);
    assert_eq!(driver.output(client), "");
    driver.reply(node, "$1\r\nb\r\n");
    assert_eq!(driver.output(client), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
}

#[test]
fn a_part_that_is_late_makes_the_whole_uncertain() {
    let mut driver = driver();
    let client = driver.client();
    let (first, second) = driver.two_keys_on_two_nodes();
    driver.send(client, &format!("MSET {first} 1 {second} 2"));
    driver.reply(driver.owner(&first), "+OK\r\n");
    driver.pass(SECOND);
    let output = driver.output(client);
    assert!(output.starts_with("-UNCERTAIN "), "{output}");
    driver.reply(driver.owner(&second), "+OK\r\n");
    assert_eq!(driver.output(client), "");
}

#[test]
fn a_client_that_leaves_takes_its_late_requests_along() {
    let mut driver = driver();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "SET k 1");
    driver.send(client, "GET k");
    driver.pass(SECOND);
    driver.leave(client);
    driver.reply(node, &("+OK\r\n".to_owned() + &bulk("1")));
    driver.adopt(2, &[]);
    driver.pass(SECOND);
    driver.engine.check_nothing_left();
}

#[test]
fn a_worker_that_was_held_up_itself_blames_no_request() {
    let mut driver = driver();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "GET k");
    driver.stall(10 * SECOND);
    assert_eq!(driver.output(client), "");
    driver.reply(node, &bulk("v"));
    assert_eq!(driver.output(client), bulk("v"));
}

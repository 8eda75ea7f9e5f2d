//! Big requests that are sent on while they arrive, and everything that may happen until they are whole.

use super::driver::{Driver, bulk, encode};
use crate::engine::{LinkLoss, SessionKey};
use crate::topology::Hint;

/// Requests are big from here on.
const BIG: usize = 200;

fn driver() -> Driver {
    Driver::with(|limits| limits.upload_bytes = BIG)
}

/// `SET k <value>`, and a place in the middle of the value.
fn set(key: &str) -> (String, Vec<u8>, usize) {
    let value = "abcdefghijklmnopqrstuvw".repeat(3 * BIG / 23);
    let command = format!("SET {key} {value}");
    let bytes = encode(&command);
    let middle = bytes.len() - BIG;
    (command, bytes, middle)
}

/// A client in the middle of `SET k <value>`, the rest of it, and the command.
fn begun(driver: &mut Driver) -> (SessionKey, Vec<u8>, String) {
    let client = driver.client();
    let (command, bytes, middle) = set("k");
    // The first read tells that it is big.
    driver.send_raw(client, &bytes[..50]);
    driver.send_raw(client, &bytes[50..middle]);
    let sent = driver.part_of_request(driver.owner("k"));
    assert_eq!(sent.as_bytes(), &bytes[..middle], "it is sent on");
    (client, bytes[middle..].to_vec(), command)
}

#[test]
fn a_big_request_is_sent_on_while_it_arrives() {
    let mut driver = driver();
    let node = driver.owner("k");
    let (client, rest, command) = begun(&mut driver);
    driver.send_raw(client, &rest[..10]);
    assert!(driver.all_requests(node).is_empty());
    driver.send_raw(client, &rest[10..]);
    assert_eq!(driver.all_requests(node), [command]);
    driver.reply_where_asked(node, "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n");
    assert_eq!(driver.connections_to(node), 0, "it was opened for this");
    driver.send(client, "GET k");
    driver.reply(node, &bulk("v"));
    assert_eq!(driver.output(client), bulk("v"));
}

#[test]
fn the_end_of_an_argument_is_kept_back_until_the_request_is_whole() {
    let mut driver = driver();
    let node = driver.owner("k");
    let (client, rest, command) = begun(&mut driver);
    for byte in &rest[..rest.len() - 1] {
        driver.send_raw(client, &[*byte]);
        assert!(
            driver.all_requests(node).is_empty(),
            "nothing can be executed [D1]"
        );
    }
    let (_, bytes, _) = set("k");
    let sent = driver.part_of_request(node);
    assert!(bytes[..bytes.len() - 2].starts_with(sent.as_bytes()));
    driver.send_raw(client, &rest[rest.len() - 1..]);
    assert_eq!(driver.all_requests(node), [command]);
}

#[test]
fn what_follows_a_big_argument_is_sent_with_the_end() {
    let mut driver = driver();
    let node = driver.owner("k");
    let client = driver.client();
    let command = format!("SET k {} EX 100", "v".repeat(BIG));
    for byte in encode(&command) {
        driver.send_raw(client, &[byte]);
    }
    driver.send(client, "GET other");
    assert_eq!(driver.all_requests(node).first(), Some(&command));
    driver.reply_where_asked(node, "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n");
}

#[test]
fn what_was_sent_on_of_a_refused_request_is_not_the_beginning_of_the_next_one() {
    let mut driver = driver();
    let client = driver.client();
    driver.send(client, "SUBSCRIBE a");
    let home = driver.feeds()[0];
    driver.say(home, b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    driver.output(client);
    let elsewhere = |key: &&str| driver.owner(key) != home;
    let key = ["k", "l", "m", "n"].into_iter().find(elsewhere).unwrap();
    let node = driver.owner(key);
    let (_, bytes, middle) = set(key);
    driver.send_raw(client, &bytes[..50]);
    driver.send_raw(client, &bytes[50..middle]);
    assert!(!driver.part_of_request(node).is_empty(), "it is sent on");
    // Refused, as its client has a subscription; the next one is as long, and is not.
    let next = format!("SET {key} {}", "x".repeat(3 * BIG / 23 * 23));
    let mut rest = bytes[middle..].to_vec();
    rest.extend(encode("UNSUBSCRIBE"));
    rest.extend(encode(&next));
    driver.send_raw(client, &rest);
    let sent = driver.all_requests(node);
    assert!(sent.contains(&next), "{sent:?}");
    driver.reply_where_asked(node, "+OK\r\n");
    let output = driver.output(client);
    assert!(output.ends_with(":0\r\n+OK\r\n"), "{output}");
}

#[test]
fn a_request_on_the_same_key_waits_for_it_on_the_other_link() {
    let mut driver = driver();
    let node = driver.owner("k");
    let (client, mut rest, command) = begun(&mut driver);
    rest.extend(encode("GET k"));
    driver.send_raw(client, &rest);
    assert_eq!(driver.all_requests(node), [command], "[O2]");
    driver.reply_where_asked(node, "+OK\r\n");
    assert_eq!(driver.all_requests(node), ["GET k"]);
    driver.reply_where_asked(node, &bulk("v"));
    assert_eq!(driver.output(client), format!("+OK\r\n{}", bulk("v")));
}

#[test]
fn a_request_whose_link_is_lost_half_way_is_collected_and_sent_once() {
    let mut driver = driver();
    let node = driver.owner("k");
    let (client, rest, command) = begun(&mut driver);
    let link = driver.links_to(node)[0];
    driver.lose(link, LinkLoss::Closed);
    driver.send_raw(client, &rest[..20]);
    assert_eq!(driver.part_of_request(node), "", "not tried again");
    driver.send_raw(client, &rest[20..]);
    driver.pass(std::time::Duration::from_secs(1));
    assert_eq!(driver.all_requests(node), [command]);
    driver.reply_where_asked(node, "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n");
    let (_, bytes, middle) = set("k");
    driver.send_raw(client, &bytes[..middle]);
    driver.send_raw(client, &bytes[middle..middle + 1]);
    assert!(!driver.part_of_request(node).is_empty(), "the next one is");
}

/// A node that does not want it says so before it has it, and closes.
#[test]
fn a_node_that_answers_half_a_request_gets_the_whole_one_as_any_other() {
    let mut driver = driver();
    let node = driver.owner("k");
    let (client, rest, command) = begun(&mut driver);
    let link = driver.links_to(node)[0];
    driver
        .engine
        .on_link_read(link, b"-ERR Protocol error: invalid bulk length\r\n");
    driver.settle();
    assert_eq!(driver.connections_to(node), 0);
    driver.send_raw(client, &rest);
    driver.pass(std::time::Duration::from_secs(1));
    assert_eq!(driver.all_requests(node), [command]);
    driver.reply_where_asked(node, "-ERR too big\r\n");
    assert_eq!(driver.output(client), "-ERR too big\r\n");
}

#[test]
fn a_request_whose_slot_moves_half_way_goes_to_the_new_owner_only() {
    let mut driver = driver();
    let node = driver.owner("k");
    let other = if node == 7000 { 7001 } else { 7000 };
    let (client, rest, command) = begun(&mut driver);
    driver.adopt(2, &[("k", other)]);
    driver.send_raw(client, &rest);
    assert_eq!(driver.all_requests(other), [command]);
    assert!(driver.all_requests(node).is_empty());
    assert_eq!(
        driver.connections_to(node),
        0,
        "half a request is dropped there"
    );
    driver.reply_where_asked(other, "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n");
}

#[test]
fn a_request_that_was_sent_on_follows_a_redirection() {
    let mut driver = driver();
    let node = driver.owner("k");
    let other = if node == 7000 { 7001 } else { 7000 };
    let (client, rest, command) = begun(&mut driver);
    driver.send_raw(client, &rest);
    let slot = crate::slot::Slot::of_key(b"k").get();
    driver.reply_where_asked(node, &format!("-MOVED {slot} 127.0.0.1:{other}\r\n"));
    assert_eq!(driver.all_requests(other), [command]);
    driver.reply_where_asked(other, "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n");
    assert!(
        driver
            .hints
            .iter()
            .any(|hint| matches!(hint, Hint::Moved { .. }))
    );
}

#[test]
fn a_written_one_whose_link_is_lost_is_uncertain() {
    let mut driver = driver();
    let node = driver.owner("k");
    let (client, rest, _) = begun(&mut driver);
    driver.send_raw(client, &rest);
    let link = driver.links_to(node)[0];
    driver.lose(link, LinkLoss::Closed);
    assert!(driver.output(client).starts_with("-UNCERTAIN"), "[D4]");
}

#[test]
fn a_client_that_leaves_half_way_takes_its_link_with_it() {
    let mut driver = driver();
    let node = driver.owner("k");
    let (client, ..) = begun(&mut driver);
    driver.leave(client);
    assert_eq!(driver.connections_to(node), 0);
    driver.engine.check_nothing_left();
}

#[test]
fn a_fault_of_the_client_ends_it_before_the_node_has_it() {
    let mut driver = driver();
    let node = driver.owner("k");
    let (client, rest, _) = begun(&mut driver);
    driver.send_raw(client, &rest[..rest.len() - 2]);
    driver.send_raw(client, b"xx");
    let error = "-ERR Protocol error: invalid bulk length\r\n";
    assert_eq!(driver.output(client), error);
    assert!(driver.all_requests(node).is_empty());
    assert_eq!(driver.connections_to(node), 0);
}

#[test]
fn only_what_is_certain_is_sent_on() {
    let long = "v".repeat(2 * BIG);
    let uncertain = [
        format!("MSET k {long} l v"),
        format!("EVAL {long} 1 k"),
        format!("PUBLISH k {long}"),
        format!("ECHO {long}"),
        format!("NOSUCH k {long}"),
        format!("SET {long} v"),
    ];
    for command in uncertain {
        let mut driver = driver();
        let client = driver.client();
        let bytes = encode(&command);
        driver.send_raw(client, &bytes[..40]);
        driver.send_raw(client, &bytes[40..100]);
        for node in 7000..7003 {
            assert_eq!(driver.connections_to(node), 0, "{command}");
        }
    }
}

#[test]
fn nothing_is_sent_on_beside_other_requests_or_without_a_password() {
    let mut driver = driver();
    let node = driver.owner("k");
    let (_, bytes, middle) = set("k");
    let client = driver.client();
    driver.send(client, "GET k");
    driver.send_raw(client, &bytes[..50]);
    driver.send_raw(client, &bytes[50..middle]);
    assert_eq!(driver.part_of_request(node), "");
    driver.reply_where_asked(node, &bulk("v"));
    assert_eq!(driver.part_of_request(node).len(), middle, "now it is");

    let client = driver.client_with_password("secret");
    driver.send_raw(client, &bytes[..50]);
    driver.send_raw(client, &bytes[50..middle]);
    assert_eq!(driver.part_of_request(node).len(), middle);
}

/// More than the worker has connections for are collected.
#[test]
fn the_number_of_requests_that_are_sent_on_is_bounded() {
    let mut driver = driver();
    let node = driver.owner("k");
    let (command, bytes, middle) = set("k");
    let clients: Vec<SessionKey> = (0..40).map(|_| driver.client()).collect();
    for client in &clients {
        driver.send_raw(*client, &bytes[..50]);
        driver.send_raw(*client, &bytes[50..middle]);
    }
    assert_eq!(driver.connections_to(node), 32);
    for client in &clients {
        driver.send_raw(*client, &bytes[middle..]);
    }
    assert_eq!(driver.all_requests(node).len(), 40);
    assert!(driver.all_requests(node).iter().all(|got| *got == command));
    driver.answer_all(node, "+OK\r\n");
    for client in clients {
        assert_eq!(driver.output(client), "+OK\r\n");
    }
}

/// The session goes on over a link that was open before: what the other one may still do must not come behind that.
#[test]
fn a_link_given_up_is_killed_at_the_node_before_the_session_goes_on_d9() {
    let mut driver = driver();
    let node = driver.owner("k");
    let client = driver.client();
    driver.send(client, "GET k");
    driver.reply_where_asked(node, &bulk("v"));
    assert_eq!(driver.output(client), bulk("v"));
    let open = driver.links_to(node)[0];
    let (command, bytes, middle) = set("k");
    driver.send_raw(client, &bytes[..50]);
    driver.send_raw(client, &bytes[50..middle]);
    driver.send_raw(client, &bytes[middle..]);
    assert!(driver.all_requests(node).contains(&command));
    let links = driver.links_to(node);
    let upload = links.into_iter().find(|link| *link != open).unwrap();
    driver.engine.on_link_read(upload, b"?no reply\r\n");
    driver.settle();
    assert!(driver.output(client).starts_with("-UNCERTAIN"));
    driver.send(client, "SET k w");
    let requests = driver.all_requests(node);
    assert_eq!(requests[1..], ["CLIENT KILL ID 101", "SET k w"]);
    driver.reply_where_asked(node, "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n");
}

#[test]
fn nothing_of_a_transaction_is_sent_on_before_exec_m1() {
    let mut driver = driver();
    let node = driver.owner("k");
    let client = driver.client();
    driver.send(client, "MULTI");
    let (command, bytes, middle) = set("k");
    for piece in [&bytes[..50], &bytes[50..middle], &bytes[middle..]] {
        driver.send_raw(client, piece);
        assert_eq!(driver.connections_to(node), 0);
    }
    driver.send(client, "EXEC");
    assert_eq!(driver.all_requests(node), ["MULTI", &command, "EXEC"]);
    driver.reply_where_asked(node, "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n");
}

//! MULTI, EXEC, DISCARD: one request for one node, executed as a whole or not at all [M1]-[M9].

use super::driver::{Driver, bulk};
use crate::engine::SessionKey;
use crate::resp::Protocol;

pub(super) const OK: &str = "+OK\r\n";
pub(super) const QUEUED: &str = "+QUEUED\r\n";
pub(super) const UNIT: [&str; 4] = ["MULTI", "SET k 1", "GET k", "EXEC"];
pub(super) const BROKEN: &str = "-EXECABORT Transaction discarded because of previous errors.\r\n";

/// What `command` is answered with at once.
fn ask(driver: &mut Driver, client: SessionKey, command: &str) -> String {
    driver.send(client, command);
    driver.output(client)
}

/// SET and GET of `k` in a transaction, up to EXEC.
pub(super) fn transaction(driver: &mut Driver) -> SessionKey {
    let client = driver.client();
    assert_eq!(ask(driver, client, "MULTI"), OK);
    assert_eq!(ask(driver, client, "SET k 1"), QUEUED);
    assert_eq!(ask(driver, client, "GET k"), QUEUED);
    client
}

/// What a node says to [`UNIT`] when it executes it.
pub(super) fn executed() -> String {
    [OK, QUEUED, QUEUED, "*2\r\n", OK, &bulk("1")].concat()
}

/// What a node says to [`UNIT`] when it has `error` against each of its commands.
pub(super) fn aborted(error: &str) -> String {
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    [OK, error, error, aborted].concat()
}

#[test]
fn a_transaction_is_sent_in_one_piece_at_exec_m1() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = transaction(&mut driver);
    assert_eq!(driver.connections_to(node), 0, "no node knows of it yet");
    driver.send(client, "EXEC");
    assert_eq!(driver.all_requests(node), UNIT);
    driver.reply(node, &executed());
    assert_eq!(driver.output(client), "*2\r\n+OK\r\n$1\r\n1\r\n");
    assert_eq!(
        ask(&mut driver, client, "EXEC"),
        "-ERR EXEC without MULTI\r\n"
    );
    driver.engine.check_nothing_left();
}

#[test]
fn replies_of_a_transaction_come_in_any_pieces_m1() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = transaction(&mut driver);
    driver.send(client, "EXEC");
    driver.send(client, "GET k");
    for byte in executed().chars() {
        driver.reply(node, &byte.to_string());
    }
    assert_eq!(driver.output(client), "*2\r\n+OK\r\n$1\r\n1\r\n");
    driver.reply(node, &bulk("1"));
    assert_eq!(driver.output(client), bulk("1"));
}

#[test]
fn a_refused_command_breaks_the_transaction_m2() {
    let (here, there) = Driver::new().two_keys_on_two_nodes();
    let cross = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";
    for (command, error) in [
        (
            "FOO".to_owned(),
            "-ERR unknown command 'FOO', with args beginning with: \r\n",
        ),
        (
            "GET".to_owned(),
            "-ERR wrong number of arguments for 'get' command\r\n",
        ),
        (format!("GET {there}"), cross),
        (format!("MGET {here} {there}"), cross),
        (
            "CONFIG SET a b".to_owned(),
            "-ERR proxy: command 'config|set' is not supported through this proxy\r\n",
        ),
        (
            "DBSIZE".to_owned(),
            "-ERR proxy: command 'dbsize' is not allowed in a transaction\r\n",
        ),
        (
            "SCAN 0".to_owned(),
            "-ERR proxy: command 'scan' is not allowed in a transaction\r\n",
        ),
        (
            "CLIENT REPLY SKIP".to_owned(),
            "-ERR proxy: command 'client|reply' is not allowed in a transaction\r\n",
        ),
        (
            "HELLO 3".to_owned(),
            "-ERR proxy: command 'hello' is not allowed in a transaction\r\n",
        ),
    ] {
        let mut driver = Driver::new();
        let client = driver.client();
        ask(&mut driver, client, "MULTI");
        assert_eq!(ask(&mut driver, client, &format!("SET {here} 1")), QUEUED);
        assert_eq!(ask(&mut driver, client, &command), error);
        assert_eq!(ask(&mut driver, client, &format!("SET {here} 2")), QUEUED);
        assert_eq!(ask(&mut driver, client, "EXEC"), BROKEN);
        assert_eq!(driver.connections_to(driver.owner(&here)), 0);
        assert_eq!(
            ask(&mut driver, client, "DISCARD"),
            "-ERR DISCARD without MULTI\r\n"
        );
        driver.engine.check_nothing_left();
    }
}

#[test]
fn exec_with_arguments_is_the_end_of_the_transaction() {
    let mut driver = Driver::new();
    let client = transaction(&mut driver);
    let aborted = "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n";
    assert_eq!(ask(&mut driver, client, "EXEC now"), aborted);
    assert_eq!(
        ask(&mut driver, client, "EXEC"),
        "-ERR EXEC without MULTI\r\n"
    );
    // The servers say the same where there is none.
    assert_eq!(ask(&mut driver, client, "EXEC now"), aborted);
}

#[test]
fn what_is_out_of_place_does_no_harm_m3() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = transaction(&mut driver);
    for (command, error) in [
        ("MULTI", "-ERR MULTI calls can not be nested\r\n"),
        ("WATCH k", "-ERR WATCH inside MULTI is not allowed\r\n"),
    ] {
        assert_eq!(ask(&mut driver, client, command), error);
    }
    driver.send(client, "EXEC");
    driver.reply(node, &executed());
    assert_eq!(driver.output(client), "*2\r\n+OK\r\n$1\r\n1\r\n");
}

#[test]
fn discard_and_reset_forget_the_transaction() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    for (command, reply) in [("DISCARD", OK), ("RESET", "+RESET\r\n")] {
        let client = transaction(&mut driver);
        assert_eq!(ask(&mut driver, client, command), reply);
        assert_eq!(
            ask(&mut driver, client, "EXEC"),
            "-ERR EXEC without MULTI\r\n"
        );
    }
    assert_eq!(driver.connections_to(node), 0);
    driver.engine.check_nothing_left();
}

#[test]
fn commands_of_the_proxy_have_their_places_in_the_reply_m4() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = driver.client();
    for command in ["MULTI", "PING a", "SET k 1", "ECHO b", "GET k", "PING"] {
        ask(&mut driver, client, command);
    }
    driver.send(client, "EXEC");
    assert_eq!(driver.all_requests(node), UNIT);
    driver.reply(node, &executed());
    let expected = [
        "*5\r\n",
        &bulk("a"),
        OK,
        &bulk("b"),
        &bulk("1"),
        "+PONG\r\n",
    ];
    assert_eq!(driver.output(client), expected.concat());
}

#[test]
fn without_a_command_for_a_node_none_is_asked_m4() {
    let mut driver = Driver::new();
    let client = driver.client();
    ask(&mut driver, client, "MULTI");
    assert_eq!(ask(&mut driver, client, "EXEC"), "*0\r\n");
    for command in ["MULTI", "PING", "ECHO b"] {
        ask(&mut driver, client, command);
    }
    assert_eq!(
        ask(&mut driver, client, "EXEC"),
        "*2\r\n+PONG\r\n$1\r\nb\r\n"
    );
}

#[test]
fn a_transaction_without_keys_goes_to_some_primary_m7() {
    let mut driver = Driver::new();
    let client = driver.client();
    for command in ["MULTI", "PUBLISH c m"] {
        ask(&mut driver, client, command);
    }
    driver.send(client, "EXEC");
    let nodes: Vec<u16> = (7000..7003)
        .filter(|node| driver.connections_to(*node) > 0)
        .collect();
    assert_eq!(nodes.len(), 1);
    driver.reply(nodes[0], "+OK\r\n+QUEUED\r\n*1\r\n:0\r\n");
    assert_eq!(driver.output(client), "*1\r\n:0\r\n");
}

#[test]
fn a_client_that_leaves_takes_its_transaction_along() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = transaction(&mut driver);
    driver.leave(client);
    driver.engine.check_nothing_left();
    let client = transaction(&mut driver);
    driver.send(client, "EXEC");
    driver.leave(client);
    driver.reply(node, &executed());
    driver.engine.check_nothing_left();
}

#[test]
fn a_transaction_is_bounded_m2() {
    let mut driver = Driver::new();
    let client = driver.client();
    ask(&mut driver, client, "MULTI");
    let big = format!("SET k {}", "v".repeat(6 << 20));
    assert_eq!(ask(&mut driver, client, &big), QUEUED);
    assert_eq!(ask(&mut driver, client, &big), QUEUED);
    assert!(driver.engine.report().request_bytes > 12 << 20);
    let error = "-ERR proxy: transaction queue too large\r\n";
    assert_eq!(ask(&mut driver, client, &big), error);
    assert_eq!(driver.engine.report().request_bytes, 0);
    assert_eq!(ask(&mut driver, client, "EXEC"), BROKEN);
}

#[test]
fn a_transaction_is_finished_before_the_proxy_stops_d12() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = transaction(&mut driver);
    driver.engine.drain();
    assert_eq!(driver.engine.must_close(client), None);
    assert!(driver.engine.wants_input(client));
    driver.send(client, "EXEC");
    assert!(!driver.engine.wants_input(client));
    driver.reply(node, &executed());
    assert_eq!(driver.output(client), "*2\r\n+OK\r\n$1\r\n1\r\n");
    assert!(driver.engine.must_close(client).is_some());
}

#[test]
fn the_protocol_of_the_client_is_that_of_its_transactions_m7() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = driver.client();
    driver.send(client, "HELLO 3");
    driver.output(client);
    for command in ["MULTI", "SET k 1", "GET k"] {
        ask(&mut driver, client, command);
    }
    driver.send(client, "EXEC");
    assert!(
        driver
            .links_to(node)
            .contains(&driver.link(node, Protocol::Resp3))
    );
    driver.reply_resp3(node, &[OK, QUEUED, QUEUED, "_\r\n"].concat());
    assert_eq!(driver.output(client), "_\r\n");
}

#[test]
fn what_follows_the_commands_of_the_proxy_comes_after_them_m4() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = driver.client();
    let commands = [
        "MULTI",
        "CLIENT SETNAME a",
        "SET k 1",
        "EXEC",
        "CLIENT GETNAME",
        "CLIENT SETNAME b",
        "GET k",
        "CLIENT GETNAME",
    ];
    driver.send_raw(client, &commands.map(super::driver::encode).concat());
    driver.reply(node, &[OK, QUEUED, "*1\r\n", OK].concat());
    driver.reply(node, &bulk("1"));
    let expected = [
        OK,
        QUEUED,
        QUEUED,
        "*2\r\n",
        OK,
        OK,
        "$1\r\na\r\n",
        OK,
        "$1\r\n1\r\n",
        "$1\r\nb\r\n",
    ];
    assert_eq!(driver.output(client), expected.concat());
}

#[test]
fn what_the_proxy_answers_in_a_transaction_is_bounded_m4() {
    let mut driver = Driver::with(|limits| limits.output_max_bytes = 10_000);
    let client = driver.client();
    ask(&mut driver, client, "MULTI");
    for _ in 0..1000 {
        assert_eq!(ask(&mut driver, client, "COMMAND INFO get"), QUEUED);
    }
    let full = "-ERR proxy: transaction queue too large\r\n";
    assert_eq!(ask(&mut driver, client, "PING"), full);
    assert_eq!(ask(&mut driver, client, "EXEC"), BROKEN);
    ask(&mut driver, client, "MULTI");
    let long = format!("ECHO {}", "x".repeat(70_000));
    assert_eq!(ask(&mut driver, client, &long), full);
    ask(&mut driver, client, "DISCARD");
    ask(&mut driver, client, "MULTI");
    for _ in 0..1000 {
        ask(&mut driver, client, "COMMAND INFO get");
    }
    driver
        .engine
        .on_client(client, &super::driver::encode("EXEC"));
    let length = driver.engine.session_output(client).len();
    assert!((10_000..20_000).contains(&length), "{length}");
    let reason = driver.engine.must_close(client);
    assert_eq!(reason, Some(crate::metrics::CloseReason::OutputLimit));
}

#[test]
fn a_slot_by_number_is_the_slot_of_the_transaction() {
    let mut driver = Driver::new();
    let slot = crate::slot::Slot::of_key(b"k").get();
    let client = driver.client();
    ask(&mut driver, client, "MULTI");
    let here = format!("CLUSTER COUNTKEYSINSLOT {slot}");
    assert_eq!(ask(&mut driver, client, &here), QUEUED);
    assert_eq!(ask(&mut driver, client, "GET k"), QUEUED);
    let there = format!("CLUSTER COUNTKEYSINSLOT {}", slot ^ 1);
    assert!(ask(&mut driver, client, &there).starts_with("-CROSSSLOT"));
}

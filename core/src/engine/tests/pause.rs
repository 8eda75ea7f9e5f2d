//! CLIENT PAUSE [U15], and writes held for another primary: which commands wait, in what order they go on, and when.

use std::time::Duration;

use super::driver::{Driver, encode};
use crate::engine::SessionKey;
use crate::local::{ListenerSettings, Pause};
use crate::metrics::CloseReason;
use crate::time::Timestamp;

const MILLISECOND: Duration = Duration::from_millis(1);

fn admin(driver: &mut Driver) -> SessionKey {
    driver.client_of(ListenerSettings {
        admin_commands: true,
        ..ListenerSettings::default()
    })
}

fn pause(driver: &mut Driver, millis: u32, writes_only: bool) {
    let until = Timestamp::ZERO.after(MILLISECOND * millis);
    let pause = Pause { until, writes_only };
    driver.engine.change_pause(Some(pause));
}

#[test]
fn u15_all_commands_wait_and_go_on_in_order() {
    let mut driver = Driver::new();
    let (client, node) = (driver.client(), driver.owner("k"));
    pause(&mut driver, 100, false);
    assert!(!driver.engine.wants_input(client), "it is not read");
    driver.send(client, "PING");
    driver.send(client, "SET k v");
    driver.send(client, "GET k");
    driver.pass(99 * MILLISECOND);
    assert_eq!(driver.output(client), "");
    driver.pass(MILLISECOND);
    assert_eq!(driver.output(client), "+PONG\r\n");
    assert_eq!(driver.requests(node), ["SET k v", "GET k"]);
    assert!(driver.engine.wants_input(client));
}

#[test]
fn u15_what_writes_waits_and_what_is_behind_it() {
    let mut driver = Driver::new();
    let (writer, reader) = (driver.client(), driver.client());
    let node = driver.owner("k");
    pause(&mut driver, 100, true);
    driver.send(reader, "GET k");
    driver.send_raw(
        writer,
        &[encode("GET k"), encode("SET k v"), encode("PING")].concat(),
    );
    assert_eq!(driver.requests(node), ["GET k", "GET k"]);
    assert!(!driver.engine.wants_input(writer) && driver.engine.wants_input(reader));
    driver.answer_all(node, "$-1\r\n");
    assert_eq!(driver.output(writer), "$-1\r\n");
    assert_eq!(driver.output(reader), "$-1\r\n");
    driver.send(reader, "GET x y");
    assert!(driver.output(reader).starts_with("-ERR wrong number"));
    driver.send(reader, "SET k");
    assert!(
        driver.output(reader).starts_with("-ERR wrong number"),
        "what is refused does not wait"
    );
    driver.engine.change_pause(None);
    driver.settle();
    assert_eq!(driver.requests(node), ["GET k", "GET k", "SET k v"]);
    driver.answer_all(node, "+OK\r\n");
    assert_eq!(driver.output(writer), "+OK\r\n+PONG\r\n");
}

#[test]
fn u15_writes_are_those_of_the_servers() {
    for (command, waits) in [
        ("PUBLISH a b", true),
        ("SPUBLISH a b", true),
        ("PFCOUNT a", true),
        ("EVAL s 0", true),
        ("EVALSHA s 1 a", true),
        ("EVAL_RO s 0", false),
        ("FCALL f 1 a", true),
        ("FCALL_RO f 1 a", false),
        ("SORT a", true),
        ("SORT_RO a", false),
        ("BLPOP a 1", true),
        ("FLUSHALL", true),
        ("SUBSCRIBE a", false),
        ("WATCH a", false),
        ("SCRIPT LOAD s", false),
        ("FUNCTION FLUSH", true),
        ("SCAN 0", false),
        ("set a b\r\n", true),
        ("get a\r\n", false),
    ] {
        let mut driver = Driver::new();
        let client = driver.client();
        pause(&mut driver, 100, true);
        if command.ends_with('\n') {
            driver.send_raw(client, command.as_bytes());
        } else {
            driver.send(client, command);
        }
        let session = driver.engine.session(client).unwrap();
        assert_eq!(session.input.is_some(), waits, "{command}");
        driver.engine.change_pause(None);
        let session = driver.engine.session(client).unwrap();
        assert!(session.input.is_none(), "{command} goes on");
    }
}

#[test]
fn u15_a_transaction_that_writes_waits_at_its_exec() {
    let mut driver = Driver::new();
    let (writer, reader) = (driver.client(), driver.client());
    let node = driver.owner("k");
    for (client, command) in [(writer, "SET k v"), (reader, "GET k")] {
        driver.send(client, "MULTI");
        driver.send(client, command);
        assert_eq!(driver.output(client), "+OK\r\n+QUEUED\r\n");
    }
    pause(&mut driver, 100, true);
    driver.send(writer, "EXEC");
    driver.send(reader, "EXEC");
    assert_eq!(driver.requests(node), ["MULTI", "GET k", "EXEC"]);
    driver.send(reader, "MULTI");
    driver.send(reader, "SET k v");
    driver.answer_all(node, "+OK\r\n");
    driver.pass(100 * MILLISECOND);
    let executed = ["MULTI", "SET k v", "EXEC"];
    assert!(driver.requests(node).ends_with(&executed.map(String::from)));
}

#[test]
fn u15_a_command_behind_client_pause_waits_too() {
    let mut driver = Driver::new();
    let (client, node) = (admin(&mut driver), driver.owner("k"));
    let commands = ["CLIENT PAUSE 100 WRITE", "GET k", "SET k v", "PING"];
    driver.send_raw(client, &commands.map(encode).concat());
    assert_eq!(driver.requests(node), ["GET k"]);
    driver.answer_all(node, "$-1\r\n");
    assert_eq!(driver.output(client), "+OK\r\n$-1\r\n");
    driver.pass(100 * MILLISECOND);
    assert_eq!(driver.requests(node), ["GET k", "SET k v"]);
    let commands = ["CLIENT PAUSE 1000", "CLIENT UNPAUSE"];
    driver.answer_all(node, "+OK\r\n");
    driver.output(client);
    driver.send_raw(client, &commands.map(encode).concat());
    assert_eq!(driver.output(client), "+OK\r\n", "as on servers");
    driver.pass(1000 * MILLISECOND);
    assert_eq!(driver.output(client), "+OK\r\n");
}

#[test]
fn u15_a_command_behind_client_pause_in_a_transaction_waits_too() {
    let mut driver = Driver::new();
    let (client, node) = (admin(&mut driver), driver.owner("k"));
    let commands = ["MULTI", "CLIENT PAUSE 100 WRITE", "EXEC", "SET k v"];
    driver.send_raw(client, &commands.map(encode).concat());
    assert!(driver.requests(node).is_empty());
    driver.pass(100 * MILLISECOND);
    assert_eq!(driver.requests(node), ["SET k v"]);
}

#[test]
fn u15_what_a_paused_client_sends_takes_no_more_memory_than_one_read() {
    let mut driver = Driver::new();
    let client = driver.client();
    pause(&mut driver, 100, true);
    driver.send(client, "SET k v");
    assert!(!driver.engine.wants_input(client));
    pause(&mut driver, 100, false);
    assert!(!driver.engine.wants_input(client));
    driver.leave(client);
    driver.pass(100 * MILLISECOND);
    driver.engine.check_nothing_left();
}

#[test]
fn u15_a_shutdown_ends_it() {
    let mut driver = Driver::new();
    let (client, node) = (driver.client(), driver.owner("k"));
    pause(&mut driver, 100_000, true);
    driver.send(client, "SET k v");
    driver.engine.drain();
    driver.settle();
    assert_eq!(driver.requests(node), ["SET k v"]);
    driver.answer_all(node, "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n");
    pause(&mut driver, 100_000, false);
    assert_eq!(driver.engine.paused_until(), None);
}

#[test]
fn n16_writes_wait_for_another_primary_and_reads_do_not() {
    let mut driver = Driver::new();
    let (client, node) = (driver.client(), driver.owner("k"));
    let until = |millis: u32| Timestamp::ZERO.after(MILLISECOND * millis);
    driver.engine.hold_writes(Some(until(100)));
    driver.send(client, "GET k");
    driver.send(client, "SET k v");
    assert_eq!(driver.requests(node), ["GET k"]);
    driver.engine.hold_writes(Some(until(200)));
    driver.pass(150 * MILLISECOND);
    assert_eq!(driver.requests(node), ["GET k"], "it has become longer");
    driver.engine.hold_writes(None);
    driver.settle();
    assert_eq!(driver.requests(node), ["GET k", "SET k v"]);
    driver.engine.hold_writes(Some(until(200)));
    driver.send(client, "SET k w");
    driver.pass(50 * MILLISECOND);
    assert_eq!(driver.requests(node)[2..], ["SET k w"], "ends by itself");
}

/// Or the former primary would acknowledge what it loses when it follows the new one.
#[test]
fn n16_a_shutdown_waits_for_another_primary_d12() {
    let mut driver = Driver::new();
    let (writer, reader) = (driver.client(), driver.client());
    let node = driver.owner("k");
    let until = |millis: u32| Timestamp::ZERO.after(MILLISECOND * millis);
    driver.engine.hold_writes(Some(until(200)));
    driver.send(writer, "SET k v");
    driver.engine.drain();
    driver.settle();
    assert_eq!(driver.requests(node).len(), 0);
    assert_eq!(driver.engine.must_close(writer), None);
    assert_eq!(
        driver.engine.must_close(reader),
        Some(CloseReason::Shutdown)
    );
    driver.engine.hold_writes(None);
    driver.settle();
    assert_eq!(driver.requests(node), ["SET k v"]);
    assert_eq!(driver.engine.must_close(writer), None);
    driver.answer_all(node, "+OK\r\n");
    assert_eq!(driver.output(writer), "+OK\r\n");
    assert_eq!(
        driver.engine.must_close(writer),
        Some(CloseReason::Shutdown)
    );

    // It ends by itself as well.
    let mut driver = Driver::new();
    let writer = driver.client();
    driver.engine.hold_writes(Some(until(100)));
    driver.send(writer, "SET k v");
    driver.engine.drain();
    driver.pass(50 * MILLISECOND);
    assert_eq!(driver.requests(node).len(), 0);
    driver.pass(50 * MILLISECOND);
    assert_eq!(driver.requests(node), ["SET k v"]);
}

#[test]
fn n16_u15_of_a_hold_and_a_pause_each_ends_at_its_time() {
    let hold = |driver: &mut Driver, millis: u32| {
        let until = Timestamp::ZERO.after(MILLISECOND * millis);
        driver.engine.hold_writes(Some(until));
    };
    // What came of a read and a write by then.
    let mut driver = Driver::new();
    let (reader, writer) = (driver.client(), driver.client());
    let node = driver.owner("k");
    hold(&mut driver, 100);
    pause(&mut driver, 50, false);
    driver.send(reader, "GET k");
    driver.send(writer, "SET k v");
    assert_eq!(driver.requests(node).len(), 0);
    driver.pass(50 * MILLISECOND);
    assert_eq!(driver.requests(node), ["GET k"]);
    driver.pass(50 * MILLISECOND);
    assert_eq!(driver.requests(node), ["GET k", "SET k v"]);

    hold(&mut driver, 150);
    pause(&mut driver, 200, false);
    driver.send(reader, "GET k");
    driver.pass(50 * MILLISECOND);
    driver.engine.hold_writes(None);
    driver.settle();
    assert_eq!(driver.requests(node).len(), 2, "clients have asked for it");
    driver.engine.change_pause(None);
    driver.settle();
    assert_eq!(driver.requests(node).len(), 3);
}

//! A transaction at its nodes: redirected, refused, late, lost [M5] [M6] [M8].

use std::time::Duration;

use super::driver::{Driver, bulk};
use super::failures::UNCERTAIN;
use super::transaction::{BROKEN, OK, QUEUED, UNIT, aborted, executed, transaction};

#[test]
fn a_transaction_for_a_slot_that_has_moved_is_sent_there_whole_m5() {
    for at_exec in [false, true] {
        let mut driver = Driver::new();
        let node = driver.owner("k");
        let target = if node == 7000 { 7001 } else { 7000 };
        let slot = crate::slot::Slot::of_key(b"k").get();
        let client = transaction(&mut driver);
        driver.send(client, "EXEC");
        let moved = format!("-MOVED {slot} 127.0.0.1:{target}\r\n");
        let said = if at_exec {
            [OK, QUEUED, QUEUED, &moved].concat()
        } else {
            aborted(&moved)
        };
        driver.reply(node, &said);
        assert_eq!(driver.output(client), "");
        assert_eq!(driver.all_requests(target), UNIT);
        driver.reply(target, &executed());
        assert_eq!(driver.output(client), "*2\r\n+OK\r\n$1\r\n1\r\n");
        driver.engine.check_invariants();
    }
}

#[test]
fn a_transaction_in_a_slot_that_moves_is_asked_for_m5() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let target = if node == 7000 { 7001 } else { 7000 };
    let slot = crate::slot::Slot::of_key(b"k").get();
    let client = transaction(&mut driver);
    driver.send(client, "EXEC");
    driver.reply(
        node,
        &aborted(&format!("-ASK {slot} 127.0.0.1:{target}\r\n")),
    );
    let expected = [&["ASKING"][..], &UNIT].concat();
    assert_eq!(driver.all_requests(target), expected);
    driver.reply(target, &[OK, &executed()].concat());
    assert_eq!(driver.output(client), "*2\r\n+OK\r\n$1\r\n1\r\n");
}

#[test]
fn what_a_node_has_against_a_command_is_said_at_exec_m5() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = transaction(&mut driver);
    driver.send(client, "EXEC");
    let slot = crate::slot::Slot::of_key(b"k").get();
    let moved = format!("-MOVED {slot} 127.0.0.1:7000\r\n");
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    driver.reply(node, &[OK, &moved, oom, BROKEN].concat());
    let expected = "-EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.\r\n";
    assert_eq!(driver.output(client), expected);
    assert_eq!(driver.all_requests(7000), Vec::<String>::new());
}

#[test]
fn a_transaction_that_was_not_written_whole_is_sent_again_m6() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let other = driver.client();
    driver.send(other, "GET k");
    driver.reply(node, &bulk("v"));
    let client = transaction(&mut driver);
    let whole = UNIT.map(super::driver::encode).concat();
    driver.mute = true;
    driver.send_with_slow_node(client, "EXEC", whole.len() - 1);
    driver.mute = false;
    driver.cut(node);
    assert_eq!(driver.output(client), "");
    driver.pass(Duration::from_millis(200));
    assert_eq!(driver.all_requests(node), UNIT);
    driver.cut(node);
    assert_eq!(driver.output(client), UNCERTAIN);
}

#[test]
fn a_transaction_follows_what_came_before_and_holds_what_comes_behind_m8() {
    let mut driver = Driver::new();
    let (here, there) = driver.two_keys_on_two_nodes();
    let (first, second) = (driver.owner(&here), driver.owner(&there));
    let client = driver.client();
    for command in [
        format!("GET {here}"),
        "MULTI".to_owned(),
        format!("SET {there} 1"),
        "EXEC".to_owned(),
        format!("GET {here}"),
    ] {
        driver.send(client, &command);
    }
    assert_eq!(driver.requests(first), [format!("GET {here}")]);
    assert_eq!(driver.connections_to(second), 0);
    driver.reply(first, &bulk("v"));
    assert_eq!(driver.all_requests(second).len(), 3);
    assert_eq!(driver.requests(first).len(), 1, "what is behind it waits");
    driver.reply(second, &[OK, QUEUED, "*1\r\n", OK].concat());
    driver.reply(first, &bulk("w"));
    let expected = [&bulk("v"), OK, QUEUED, "*1\r\n", OK, &bulk("w")].concat();
    assert_eq!(driver.output(client), expected);
}

#[test]
fn a_late_transaction_is_uncertain_and_its_replies_are_nobody_elses_d8() {
    let mut driver = Driver::with(|limits| limits.request_timeout = Duration::from_secs(1));
    let node = driver.owner("k");
    let client = transaction(&mut driver);
    driver.send(client, "EXEC");
    driver.pass(Duration::from_millis(1500));
    assert!(
        driver
            .output(client)
            .starts_with("-UNCERTAIN proxy: timeout")
    );
    driver.send(client, "GET k");
    driver.reply_where_asked(node, &[&executed(), &bulk("2")[..]].concat());
    assert_eq!(driver.output(client), bulk("2"));
    driver.engine.check_invariants();
}

/// Simulation: what a node had against a transaction that nobody waited for any more was taken for said of the next one.
#[test]
fn what_is_said_of_a_late_transaction_is_not_said_of_the_next_one_d8() {
    let mut driver = Driver::with(|limits| limits.request_timeout = Duration::from_secs(1));
    let node = driver.owner("k");
    let late = transaction(&mut driver);
    driver.send(late, "EXEC");
    driver.pass(Duration::from_millis(1500));
    let next = transaction(&mut driver);
    driver.send(next, "EXEC");
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    let unsaid = [OK, QUEUED, QUEUED, BROKEN].concat();
    driver.reply_where_asked(node, &[aborted(oom), unsaid].concat());
    assert_eq!(driver.output(next), BROKEN);
}

#[test]
fn a_long_transaction_is_refused_as_one_m5() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = driver.client();
    let count = 2_000;
    let whole = [vec!["MULTI"], vec!["INCR k"; count], vec!["EXEC"]].concat();
    let bytes: Vec<u8> = whole.into_iter().flat_map(super::driver::encode).collect();
    driver.send_raw(client, &bytes);
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    driver.reply(node, &[OK, &oom.repeat(count), BROKEN].concat());
    let because = ["because of: ", &oom[1..]].concat();
    assert!(driver.output(client).ends_with(&because));
}

#[test]
fn a_node_that_refuses_multi_makes_the_fate_uncertain() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = transaction(&mut driver);
    driver.send(client, "EXEC");
    let refused = "-NOPERM this user has no permissions to run the 'multi' command\r\n";
    let replies = [refused, OK, &bulk("1"), "-ERR EXEC without MULTI\r\n"].concat();
    driver.reply(node, &replies);
    let said = driver.output(client);
    assert!(said.starts_with("-UNCERTAIN proxy: the node refused MULTI"));
}

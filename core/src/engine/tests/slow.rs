//! The slow log: who waited, for what, where, and how long.

use std::time::Duration;

use super::driver::{Driver, bulk};
use crate::engine::SessionKey;
use crate::resp::{Value, parse_value};
use crate::slot::Slot;

const MILLISECOND: Duration = Duration::from_millis(1);

/// Arguments and course of each entry that a client is shown, newest first.
fn entries(driver: &mut Driver, client: SessionKey) -> Vec<(String, String)> {
    driver.send(client, "SLOWLOG GET -1");
    let reply = driver.output(client);
    let Some((Value::Array(entries), _)) = parse_value(reply.as_bytes()).unwrap() else {
        panic!("{reply}");
    };
    entries.iter().map(entry).collect()
}

fn entry(value: &Value<'_>) -> (String, String) {
    let Value::Array(fields) = value else {
        panic!("{value:?}");
    };
    let Value::Array(args) = &fields[3] else {
        panic!("{fields:?}");
    };
    let args: Vec<String> = args.iter().map(text).collect();
    (args.join(" "), text(&fields[6]))
}

fn text(value: &Value<'_>) -> String {
    match value {
        Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_took_long_is_noted_with_where_it_was() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "GET k");
    driver.send(client, "SET k v");
    driver.pass(12 * MILLISECOND);
    driver.reply(node, &bulk("old"));
    driver.reply(node, "-ERR not today\r\n");
    driver.send(client, "GET k");
    driver.pass(9 * MILLISECOND);
    driver.reply(node, &bulk("v"));
    driver.output(client);
    let course = format!("node=127.0.0.1:{node} redirects=0 resends=0 node_us=12000 proxy_us=0");
    let noted = [("SET k v", &course), ("GET k", &course)];
    assert_eq!(
        entries(&mut driver, client),
        noted.map(|(args, course)| (args.to_owned(), course.clone()))
    );
}

#[test]
fn time_on_the_way_to_the_node_is_the_proxys() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    let other = if node == 7000 { 7001 } else { 7000 };
    driver.send(client, "GET k");
    driver.pass(4 * MILLISECOND);
    let slot = Slot::of_key(b"k").get();
    driver.reply(node, &format!("-MOVED {slot} 127.0.0.1:{other}\r\n"));
    driver.pass(8 * MILLISECOND);
    driver.reply(other, &bulk("v"));
    driver.output(client);
    let course = format!("node=127.0.0.1:{other} redirects=1 resends=0 node_us=8000 proxy_us=4000");
    assert_eq!(entries(&mut driver, client), [("GET k".to_owned(), course)]);
}

#[test]
fn parts_and_transactions_are_noted_as_they_were_sent() {
    let mut driver = Driver::new();
    let client = driver.client();
    let (here, there) = driver.two_keys_on_two_nodes();
    driver.send(client, &format!("MGET {here} {there}"));
    driver.pass(10 * MILLISECOND);
    let (first, second) = (driver.owner(&here), driver.owner(&there));
    driver.reply(first, "*1\r\n$1\r\na\r\n");
    driver.reply(second, "*1\r\n$1\r\nb\r\n");
    for command in ["MULTI", "SET k 1", "EXEC"] {
        driver.send(client, command);
    }
    driver.pass(10 * MILLISECOND);
    driver.reply(driver.owner("k"), "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n");
    driver.output(client);
    let shown: Vec<String> = entries(&mut driver, client)
        .into_iter()
        .map(|(args, _)| args)
        .collect();
    assert_eq!(
        shown,
        [
            "EXEC ... (56 bytes from MULTI to EXEC)".to_owned(),
            format!("MGET {there}"),
            format!("MGET {here}"),
        ]
    );
}

#[test]
fn big_replies_are_noted_when_their_end_has_come() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "GET k");
    let reply = bulk(&"x".repeat(300_000));
    let (begin, end) = reply.split_at(200_000);
    driver.reply(node, begin);
    driver.pass(20 * MILLISECOND);
    driver.reply(node, end);
    assert_eq!(driver.output(client).len(), reply.len());
    let noted = entries(&mut driver, client);
    assert_eq!(noted.len(), 1);
    assert_eq!(noted[0].0, "GET k");
}

#[test]
fn what_is_given_up_is_noted_at_once_and_only_once_d8() {
    let mut driver = Driver::with(|limits| {
        limits.request_timeout = 50 * MILLISECOND;
    });
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "SET k 1");
    driver.pass(50 * MILLISECOND);
    assert!(driver.output(client).starts_with("-UNCERTAIN"));
    let course = format!("node=127.0.0.1:{node} redirects=0 resends=0 node_us=50000 proxy_us=0");
    let noted = [("SET k 1".to_owned(), course)];
    assert_eq!(entries(&mut driver, client), noted);
    driver.pass(20 * MILLISECOND);
    driver.reply(node, "+OK\r\n");
    assert_eq!(entries(&mut driver, client), noted);
}

#[test]
fn many_at_once_do_not_displace_each_other() {
    let mut driver = Driver::with(|limits| {
        // Nobody knows how big replies will be: all that may be expected, fits.
        limits.output_pause_bytes = 1 << 30;
    });
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "GET k");
    driver.reply(node, &bulk("v"));
    for _ in 0..200 {
        driver.send(client, "GET k");
    }
    driver.pass(10 * MILLISECOND);
    assert_eq!(driver.answer_all(node, &bulk("v")), 200);
    driver.output(client);
    assert_eq!(entries(&mut driver, client).len(), 128);
    driver.pass(MILLISECOND);
    driver.send(client, "GET k");
    driver.pass(10 * MILLISECOND);
    driver.reply(node, &bulk("v"));
    driver.output(client);
    driver.send(client, "SLOWLOG GET 1");
    // The log keeps 128: the newest one has the number 128, and the first one is gone.
    assert!(driver.output(client).starts_with("*1\r\n*7\r\n:128\r\n"));
}

#[test]
fn nothing_is_noted_where_it_is_off() {
    let mut driver = Driver::with(|limits| limits.slow_micros = u64::MAX);
    let client = driver.client();
    driver.send(client, "GET k");
    driver.pass(Duration::from_secs(3));
    driver.reply(driver.owner("k"), &bulk("v"));
    driver.output(client);
    assert_eq!(entries(&mut driver, client), []);
}

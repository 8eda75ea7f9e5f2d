//! MONITOR [U15]: what is shown, to whom, and when not.

use super::driver::{Driver, bulk, encode};
use crate::engine::SessionKey;
use crate::local::{Databases, ListenerSettings};
use crate::metrics::CloseReason;

/// A client that monitors, and has been told so.
fn monitor(driver: &mut Driver) -> SessionKey {
    let client = driver.client_of(ListenerSettings {
        monitor: true,
        ..ListenerSettings::default()
    });
    driver.send(client, "MONITOR");
    assert_eq!(driver.output(client), "+OK\r\n");
    client
}

/// The commands a client was shown, each line behind what says when and where.
fn shown(driver: &mut Driver, client: SessionKey) -> Vec<String> {
    let output = driver.output(client);
    let lines = output.split_terminator("\r\n");
    let origin = "+1700000000.000042 [0 127.0.0.1:6379] ";
    lines
        .map(|line| line.strip_prefix(origin).unwrap_or(line).replace('"', ""))
        .collect()
}

#[test]
fn u15_it_is_refused_unless_the_listener_allows_it() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "MONITOR");
    let refusal = "-NOPERM proxy: MONITOR is disabled on this listener\r\n";
    assert_eq!(driver.output(client), refusal);
    assert!(!driver.engine.is_monitor(client));
}

#[test]
fn u15_what_is_executed_is_shown_when_it_comes() {
    let mut driver = Driver::new();
    let (watcher, client) = (monitor(&mut driver), driver.client());
    for command in [
        "GET k",
        "CLIENT SETNAME n",
        "AUTH secret",
        "HELLO 3 AUTH default secret",
        "INFO server",
        "SUBSCRIBE c",
    ] {
        driver.send(client, command);
    }
    for command in [
        "NOSUCH",
        "GET",
        "CLIENT LIST",
        "SLOWLOG LEN",
        "CONFIG GET x",
    ] {
        driver.send(client, command);
    }
    assert_eq!(
        shown(&mut driver, watcher),
        [
            "GET k",
            "CLIENT SETNAME n",
            "AUTH (redacted)",
            "HELLO 3 AUTH (redacted) (redacted)",
            "INFO server",
            "SUBSCRIBE c"
        ]
    );
}

#[test]
fn u15_a_transaction_is_shown_at_its_exec() {
    let mut driver = Driver::new();
    let (watcher, client) = (monitor(&mut driver), driver.client());
    for command in ["MULTI", "SET k v", "PING", "GET k"] {
        driver.send(client, command);
    }
    assert_eq!(shown(&mut driver, watcher), ["MULTI"]);
    driver.send(client, "EXEC");
    let executed = ["SET k v", "PING", "GET k", "EXEC"];
    assert_eq!(shown(&mut driver, watcher), executed);
    let client = driver.client();
    for command in ["MULTI", "SET k v", "DISCARD", "MULTI", "GET", "EXEC"] {
        driver.send(client, command);
    }
    let ended = ["MULTI", "DISCARD", "MULTI", "EXEC"];
    assert_eq!(shown(&mut driver, watcher), ended);
}

#[test]
fn u15_nothing_comes_before_replies_that_are_owed() {
    let mut driver = Driver::new();
    let (watcher, client) = (monitor(&mut driver), driver.client());
    let late = driver.client_of(ListenerSettings {
        monitor: true,
        ..ListenerSettings::default()
    });
    let node = driver.owner("k");
    driver.send(late, "GET k");
    driver.send(late, "MONITOR");
    driver.send(client, "ECHO one");
    assert_eq!(driver.output(late), "");
    driver.reply(node, &bulk("v"));
    driver.send(client, "ECHO two");
    let lines = shown(&mut driver, late);
    assert_eq!(lines, ["$1", "v", "+OK", "ECHO two"]);
    assert_eq!(
        shown(&mut driver, watcher),
        ["GET k", "ECHO one", "ECHO two"]
    );
}

#[test]
fn u15_one_that_monitors_keeps_off_the_keys_until_reset() {
    let mut driver = Driver::new();
    let watcher = monitor(&mut driver);
    driver.send(watcher, "GET k");
    let refusal = "-ERR Replica can't interact with the keyspace\r\n";
    assert_eq!(driver.output(watcher), refusal);
    driver.send(watcher, "MONITOR");
    assert_eq!(driver.output(watcher), "", "servers ignore it");
    driver.send(watcher, "PING");
    assert_eq!(shown(&mut driver, watcher), ["+PONG", "PING"]);
    driver.send(watcher, "RESET");
    assert_eq!(shown(&mut driver, watcher), ["+RESET"]);
    driver.send(watcher, "GET k");
    let node = driver.owner("k");
    driver.reply(node, &bulk("v"));
    assert_eq!(driver.output(watcher), bulk("v"));
    assert!(!driver.engine.is_monitor(watcher));
}

#[test]
fn u15_what_is_in_one_read_with_monitor_keeps_off_the_keys_too() {
    let mut driver = Driver::new();
    let client = driver.client_of(ListenerSettings {
        monitor: true,
        ..ListenerSettings::default()
    });
    let node = driver.owner("k");
    driver.send_raw(
        client,
        &[encode("MONITOR"), encode("GET k"), encode("PING")].concat(),
    );
    assert!(driver.all_requests(node).is_empty());
    let output = driver.output(client);
    let expected = "+OK\r\n-ERR Replica can't interact with the keyspace\r\n+PONG\r\n";
    let lines = output.split_inclusive("\r\n");
    let replies: String = lines.filter(|line| !line.starts_with("+17")).collect();
    assert_eq!(replies, expected, "{output}");
}

#[test]
fn u15_one_that_does_not_read_its_lines_is_disconnected() {
    let mut driver = Driver::with(|limits| limits.pubsub_output_bytes = 4096);
    let (watcher, client) = (monitor(&mut driver), driver.client());
    for _ in 0..200 {
        driver.send(client, "ECHO 0123456789");
    }
    let reason = driver.engine.must_close(watcher);
    assert_eq!(reason, Some(CloseReason::OutputLimit));
    driver.leave(watcher);
    driver.send(client, "PING");
    assert!(driver.output(client).ends_with("+PONG\r\n"));
}

#[test]
fn u15_lines_of_other_workers_are_shown_and_a_gap_is_not_hidden() {
    let mut driver = Driver::new();
    let watcher = monitor(&mut driver);
    driver
        .engine
        .show_monitor_lines(b"+1.000000 [0 h:1] \"x\"\r\n");
    assert_eq!(driver.output(watcher), "+1.000000 [0 h:1] \"x\"\r\n");
    driver.engine.disconnect_monitors();
    let reason = driver.engine.must_close(watcher);
    assert_eq!(reason, Some(CloseReason::OutputLimit));
}

#[test]
fn u15_the_database_of_the_client_is_shown() {
    let mut driver = Driver::new();
    let databases = Databases {
        count: 16,
        refusal: "ERR DB index is out of range".into(),
    };
    let watcher = monitor(&mut driver);
    let (client, _) = driver.client_choosing(Some(databases));
    for command in ["SELECT 3", "GET k"] {
        driver.send(client, command);
    }
    let output = driver.output(watcher);
    let ends = [
        r#" [0 127.0.0.1:6379] "SELECT" "3""#,
        r#" [3 127.0.0.1:6379] "GET" "k""#,
    ];
    for (line, end) in output.split_terminator("\r\n").zip(ends) {
        assert!(line.ends_with(end), "{line}");
    }
}

//! Reads that no replica may answer, whatever the policy says, and those that one may after all.

use std::time::Duration;

use super::driver::{Driver, bulk};
use super::failures::UNCERTAIN;
use super::reads::{asked, driver_with, only, reader, reading, replica_of};
use super::watch::{OK, ask};
use crate::engine::SessionKey;
use crate::local::{ListenerSettings, ReadPolicy};
use crate::topology::Reader;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const NOSCRIPT: &str = "-NOSCRIPT No matching script. Please use EVAL.\r\n";

fn reading_its_writes(driver: &mut Driver) -> SessionKey {
    driver.client_of(ListenerSettings {
        reads: ReadPolicy::PreferReplica,
        read_your_writes: true,
        ..ListenerSettings::default()
    })
}

fn find_behind(driver: &mut Driver, owner: u16, behind: Duration) {
    let found = Reader {
        behind,
        ..reader(owner, 1)
    };
    driver.set_readers(&only(vec![found]));
}

#[test]
fn who_watches_keys_reads_them_where_they_are_watched_w2() {
    let (mut driver, owner) = driver_with(1);
    let client = reading(&mut driver, ReadPolicy::PreferReplica);
    driver.send(client, "WATCH k");
    driver.send(client, "GET k");
    let watching = *driver.links_to_in_order(owner).last().unwrap();
    driver.reply_on(watching, OK);
    driver.reply_where_asked(owner, &bulk("2"));
    assert_eq!(driver.output(client), format!("{OK}{}", bulk("2")));
    assert!(asked(&driver, replica_of(owner, 1)).is_empty());
    for command in ["MULTI", "SET k 3", "DISCARD"] {
        ask(&mut driver, client, command);
    }
    driver.send(client, "GET k");
    assert_eq!(asked(&driver, replica_of(owner, 1)), ["GET k"]);
}

#[test]
fn a_cursor_is_taken_to_the_node_that_it_is_of_s11() {
    let (mut driver, owner) = driver_with(1);
    let client = reading(&mut driver, ReadPolicy::Replica);
    for command in ["HSCAN k 0", "SSCAN k 5", "ZSCAN k 0 COUNT 1"] {
        driver.send(client, command);
        assert_eq!(
            driver.requests(owner).last().map(String::as_str),
            Some(command)
        );
        driver.reply(owner, "*2\r\n$1\r\n0\r\n*0\r\n");
    }
    assert!(asked(&driver, replica_of(owner, 1)).is_empty());
}

#[test]
fn a_client_that_never_wrote_is_answered_by_a_replica_at_once() {
    let (mut driver, owner) = driver_with(1);
    driver.pass(10 * SECOND);
    find_behind(&mut driver, owner, SECOND);
    let client = reading_its_writes(&mut driver);
    driver.send(client, "GET k");
    assert_eq!(asked(&driver, replica_of(owner, 1)), ["GET k"]);
}

#[test]
fn a_write_of_long_ago_is_known_to_be_at_a_replica_that_is_far_behind() {
    let (mut driver, owner) = driver_with(1);
    let client = reading_its_writes(&mut driver);
    driver.pass(SECOND);
    driver.send(client, "SET k v");
    driver.reply(owner, OK);
    for _ in 0..1_800 {
        driver.pass(100 * MILLISECOND);
    }
    find_behind(&mut driver, owner, 60 * SECOND);
    driver.output(client);
    driver.send(client, "GET k");
    assert_eq!(asked(&driver, replica_of(owner, 1)), ["GET k"]);
}

#[test]
fn a_script_that_only_the_primary_knows_is_run_there_x1() {
    let (mut driver, owner) = driver_with(1);
    let replica = replica_of(owner, 1);
    let client = reading(&mut driver, ReadPolicy::Replica);
    let command = format!("EVALSHA_RO {} 1 k", "a".repeat(40));
    driver.send(client, &command);
    assert_eq!(asked(&driver, replica), std::slice::from_ref(&command));
    driver.reply(replica, NOSCRIPT);
    assert_eq!(driver.output(client), "");
    assert_eq!(driver.requests(owner), std::slice::from_ref(&command));
    driver.reply(owner, "+v\r\n");
    assert_eq!(driver.output(client), "+v\r\n");
    // The primary does not know it, either.
    driver.send(client, &command);
    driver.reply(replica, NOSCRIPT);
    driver.reply(owner, NOSCRIPT);
    assert_eq!(driver.output(client), NOSCRIPT);
    driver.engine.check_nothing_left();
}

#[test]
fn what_a_client_says_of_its_reads_in_a_transaction_holds_after_it_y10() {
    let (mut driver, owner) = driver_with(1);
    let client = reading(&mut driver, ReadPolicy::Replica);
    for (word, port) in [("READWRITE", owner), ("READONLY", replica_of(owner, 1))] {
        for command in ["MULTI", word] {
            driver.send(client, command);
        }
        driver.send(client, "EXEC");
        assert!(driver.output(client).ends_with("*1\r\n+OK\r\n"));
        let before = asked(&driver, port).len();
        driver.send(client, "GET k");
        assert_eq!(asked(&driver, port).len(), before + 1, "after {word}");
        driver.reply(port, "+v\r\n");
        driver.output(client);
    }
}

#[test]
fn what_may_yet_be_executed_is_not_read_around_d9() {
    let (mut driver, owner) = driver_with(1);
    let replica = replica_of(owner, 1);
    let client = reading_its_writes(&mut driver);
    driver.send(client, "SET k new");
    driver.mute = true;
    for _ in 0..60 {
        driver.pass(100 * MILLISECOND);
    }
    assert_eq!(driver.output(client), UNCERTAIN);
    find_behind(&mut driver, owner, Duration::ZERO);
    driver.pass(SECOND);
    find_behind(&mut driver, owner, Duration::ZERO);
    driver.send(client, "GET k");
    assert!(
        asked(&driver, replica).is_empty(),
        "the node may execute it now"
    );
    // It is there again, and has been told not to.
    driver.mute = false;
    driver.cut(owner);
    for _ in 0..40 {
        driver.pass(100 * MILLISECOND);
    }
    driver.reply_where_asked(owner, &bulk("new"));
    assert_eq!(driver.output(client), bulk("new"));
    driver.pass(SECOND);
    find_behind(&mut driver, owner, Duration::ZERO);
    driver.send(client, "GET k");
    assert_eq!(asked(&driver, replica), ["GET k"]);
}

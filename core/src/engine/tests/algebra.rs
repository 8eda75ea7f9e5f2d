//! Set algebra with keys in several slots: what is sent where, what becomes of parts that fail, and how much is held.

use std::time::Duration;

use super::driver::{Driver, bulk};
use super::parts::three_keys;
use crate::engine::SessionKey;
use crate::local::ListenerSettings;

const CROSSSLOT: &str = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";

fn client(driver: &mut Driver) -> SessionKey {
    driver.client_of(ListenerSettings {
        cross_slot_reads: true,
        ..ListenerSettings::default()
    })
}

#[test]
fn each_slot_is_asked_once_for_sets() {
    let mut driver = Driver::new();
    let client = client(&mut driver);
    let [a, b, c] = three_keys(&driver);
    driver.send(client, &format!("SDIFF {b} {a} {{{a}}}2 {{{b}}}2 {c}"));
    assert_eq!(driver.requests(7000), [format!("SUNION {a} {{{a}}}2")]);
    assert_eq!(driver.requests(7001), [format!("SDIFF {b} {{{b}}}2")]);
    assert_eq!(driver.requests(7002), [format!("SUNION {c}")]);
    driver.reply(7000, &format!("*1\r\n{}", bulk("x")));
    driver.reply(7001, &format!("*2\r\n{}{}", bulk("x"), bulk("y")));
    assert_eq!(driver.output(client), "");
    driver.reply(7002, "*0\r\n");
    assert_eq!(driver.output(client), format!("*1\r\n{}", bulk("y")));
}

#[test]
fn sorted_sets_are_asked_for_with_their_own_weight() {
    let mut driver = Driver::new();
    let client = client(&mut driver);
    let [a, b, _] = three_keys(&driver);
    driver.send(
        client,
        &format!("ZINTER 2 {b} {a} weights 3 0 AGGREGATE max"),
    );
    // Zero times an infinity is for the proxy.
    let asked = format!("ZUNION 1 {a} WEIGHTS 1 WITHSCORES");
    assert_eq!(driver.requests(7000), [asked]);
    let asked = format!("ZUNION 1 {b} WEIGHTS 3 WITHSCORES");
    assert_eq!(driver.requests(7001), [asked]);
}

#[test]
fn a_part_whose_connection_is_lost_is_asked_again() {
    let mut driver = Driver::new();
    let client = client(&mut driver);
    let [a, b, _] = three_keys(&driver);
    driver.send(client, &format!("PFCOUNT {a} {b}"));
    assert_eq!(driver.requests(7000), [format!("GET {a}")]);
    driver.reply(7000, "$-1\r\n");
    driver.cut(7001);
    driver.pass(Duration::from_millis(200));
    assert_eq!(driver.requests(7001), [format!("GET {b}")]);
    driver.reply(7001, "$-1\r\n");
    assert_eq!(driver.output(client), ":0\r\n");
}

#[test]
fn beyond_the_bound_what_is_held_is_dropped() {
    let mut driver = Driver::with(|limits| limits.cross_slot_bytes = 220);
    let client = client(&mut driver);
    let [a, b, c] = three_keys(&driver);
    driver.send(client, &format!("SUNION {a} {b} {c}"));
    driver.reply(7000, &format!("*1\r\n{}", bulk("0123456789")));
    driver.reply(7001, &format!("*1\r\n{}", bulk("0123456789")));
    driver.reply(7002, "*0\r\n");
    let output = driver.output(client);
    assert!(
        output.starts_with("-ERR proxy: ") && output.contains("limits.cross_slot_bytes"),
        "{output}"
    );
}

#[test]
fn tiny_members_count_what_they_take() {
    let mut driver = Driver::with(|limits| limits.cross_slot_bytes = 10_000);
    let client = client(&mut driver);
    let [a, b, _] = three_keys(&driver);
    driver.send(client, &format!("SUNION {a} {b}"));
    let hundred: String = (0..100).map(|n| bulk(&n.to_string())).collect();
    driver.reply(7000, &format!("*100\r\n{hundred}"));
    driver.reply(7001, "*0\r\n");
    let output = driver.output(client);
    assert!(output.starts_with("-ERR proxy: "), "{output}");
}

#[test]
fn without_the_switch_and_in_transactions_it_is_refused() {
    let mut driver = Driver::new();
    let [a, b, _] = three_keys(&driver);
    let plain = driver.client();
    driver.send(plain, &format!("SINTER {a} {b}"));
    assert_eq!(driver.output(plain), CROSSSLOT);
    let client = client(&mut driver);
    driver.send(client, "MULTI");
    driver.send(client, &format!("SINTER {a} {b}"));
    assert_eq!(driver.output(client), format!("+OK\r\n{CROSSSLOT}"));
    driver.send(client, "DISCARD");
    driver.send(client, &format!("SINTERSTORE {a} {b}"));
    assert_eq!(driver.output(client), format!("+OK\r\n{CROSSSLOT}"));
}

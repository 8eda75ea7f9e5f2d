//! Split and fanned-out commands [P1]-[P9] [Q1]-[Q7] and SCAN.

use std::sync::Arc;
use std::time::Duration;

use super::driver::{Driver, bulk, node_id, snapshot};
use crate::slot::Slot;
use crate::topology::{Hint, NodeId, Promotion};

/// Three keys, one on each node.
pub(super) fn three_keys(driver: &Driver) -> [String; 3] {
    [7000, 7001, 7002].map(|port| {
        (0..200)
            .map(|number| format!("k{number}"))
            .find(|key| driver.owner(key) == port)
            .unwrap()
    })
}

#[test]
fn mget_is_split_and_put_together_in_argument_order_p3() {
    let mut driver = Driver::new();
    let client = driver.client();
    let [a, b, c] = three_keys(&driver);
    driver.send(client, &format!("MGET {c} {a} {b} {a}"));
    assert_eq!(driver.requests(7000), [format!("MGET {a} {a}")]);
    assert_eq!(driver.requests(7001), [format!("MGET {b}")]);
    driver.reply(7001, &format!("*1\r\n{}", bulk("B")));
    driver.reply(7002, "*1\r\n$-1\r\n");
    assert_eq!(driver.output(client), "");
    driver.reply(7000, &format!("*2\r\n{}{}", bulk("A"), bulk("A")));
    assert_eq!(
        driver.output(client),
        format!("*4\r\n$-1\r\n{}{}{}", bulk("A"), bulk("B"), bulk("A"))
    );
}

#[test]
fn mset_and_del_are_split_p4_p5() {
    let mut driver = Driver::new();
    let client = driver.client();
    let [a, b, _] = three_keys(&driver);
    driver.send(client, &format!("MSET {a} 1 {b} 2"));
    assert_eq!(driver.requests(7000), [format!("MSET {a} 1")]);
    assert_eq!(driver.requests(7001), [format!("MSET {b} 2")]);
    driver.reply(7000, "+OK\r\n");
    driver.reply(7001, "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n");
    driver.send(client, &format!("DEL {a} {b}"));
    driver.reply(7000, ":1\r\n");
    driver.reply(7001, ":1\r\n");
    assert_eq!(driver.output(client), ":2\r\n");
}

#[test]
fn a_part_that_fails_is_told_p7() {
    let mut driver = Driver::new();
    let client = driver.client();
    let [a, b, c] = three_keys(&driver);
    driver.send(client, &format!("MSET {a} 1 {b} 2 {c} 3"));
    driver.reply(7000, "+OK\r\n");
    driver.reply(
        7001,
        "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    );
    driver.reply(7002, "+OK\r\n");
    let expected = "-PARTIAL proxy: 2 of 3 parts applied, first error: OOM command not allowed when used memory > 'maxmemory'.\r\n";
    assert_eq!(driver.output(client), expected);
    driver.send(client, &format!("MSET {a} 1 {b} 2 {c} 3"));
    driver.reply(7000, "+OK\r\n");
    driver.cut(7001);
    driver.reply(7002, "+OK\r\n");
    assert!(driver.output(client).starts_with("-UNCERTAIN proxy: "));
}

#[test]
fn a_part_is_redirected_alone_p8() {
    let mut driver = Driver::new();
    let client = driver.client();
    let [a, b, _] = three_keys(&driver);
    driver.send(client, &format!("MGET {a} {b}"));
    driver.reply(7000, &format!("*1\r\n{}", bulk("A")));
    let slot = crate::slot::Slot::of_key(b.as_bytes()).get();
    driver.reply(7001, &format!("-ASK {slot} 127.0.0.1:7002\r\n"));
    assert_eq!(
        driver.requests(7002),
        ["ASKING".to_owned(), format!("MGET {b}")]
    );
    driver.reply(7002, &format!("+OK\r\n*1\r\n{}", bulk("B")));
    assert_eq!(
        driver.output(client),
        format!("*2\r\n{}{}", bulk("A"), bulk("B"))
    );
    assert_eq!(driver.requests(7000).len(), 1);
}

#[test]
fn order_holds_between_a_split_command_and_its_keys_o10() {
    let mut driver = Driver::new();
    let client = driver.client();
    let [a, b, _] = three_keys(&driver);
    driver.send(client, &format!("MSET {a} 1 {b} 1"));
    let slot = crate::slot::Slot::of_key(b.as_bytes()).get();
    driver.reply(7001, &format!("-ASK {slot} 127.0.0.1:7002\r\n"));
    driver.send(client, &format!("SET {b} 2"));
    assert_eq!(
        driver.requests(7001).len(),
        1,
        "held until the part is through"
    );
    driver.reply(7002, "+OK\r\n+OK\r\n");
    assert_eq!(
        driver.requests(7001),
        [format!("MSET {b} 1"), format!("SET {b} 2")]
    );
    driver.reply(7000, "+OK\r\n");
    driver.reply(7001, "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n+OK\r\n");
}

#[test]
fn dbsize_keys_and_scripts_go_to_every_primary_q1() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "DBSIZE");
    for port in 7000..7003 {
        driver.reply(port, ":5\r\n");
    }
    assert_eq!(driver.output(client), ":15\r\n");
    driver.send(client, "KEYS *");
    let keys = three_keys(&driver);
    for (port, key) in (7000..7003).zip(&keys) {
        // The second key is another node's: a left-over of a migration [Q3].
        let orphan = &keys[usize::from((port - 7000 + 1) % 3)];
        driver.reply(port, &format!("*2\r\n{}{}", bulk(key), bulk(orphan)));
    }
    assert_eq!(
        driver.output(client),
        format!(
            "*3\r\n{}{}{}",
            bulk(&keys[0]),
            bulk(&keys[1]),
            bulk(&keys[2])
        )
    );
    driver.send(client, "SCRIPT LOAD x");
    for port in 7000..7003 {
        driver.reply(port, &bulk("sha"));
    }
    assert_eq!(driver.output(client), bulk("sha"));
}

#[test]
fn a_client_that_leaves_a_split_command_leaves_nothing_behind() {
    let mut driver = Driver::new();
    let client = driver.client();
    let [a, b, c] = three_keys(&driver);
    driver.send(client, &format!("MGET {a} {b} {c}"));
    driver.reply(7000, &format!("*1\r\n{}", bulk("A")));
    driver.leave(client);
    driver.reply(7001, &format!("*1\r\n{}", bulk("B")));
    driver.reply(7002, &format!("*1\r\n{}", bulk("C")));
    driver.pass(Duration::from_secs(1));
    assert_eq!(driver.engine.report().in_flight, 0);
}

/// A promoted replica that has only the slots of the patch, while its former primary has the others.
#[test]
fn a_fan_out_waits_for_the_whole_of_a_failover_q1() {
    let mut driver = Driver::new();
    let client = driver.client();
    let [key, ..] = three_keys(&driver);
    let asked = |driver: &Driver| {
        [7000, 7001, 7002].map(|port| driver.requests(port).concat().matches("DBSIZE").count())
    };
    let half = |driver: &mut Driver, generation| {
        let moved = [(Slot::of_key(key.as_bytes()), 7001)];
        let mut half = snapshot(generation, &moved);
        half.promotions.push(Promotion {
            from: NodeId::new(&node_id(7000)),
            to: NodeId::new(&node_id(7001)),
        });
        driver.engine.set_snapshot(Arc::new(half));
        driver.settle();
    };
    half(&mut driver, 2);
    driver.send(client, "DBSIZE");
    assert_eq!(asked(&driver), [0; 3]);
    let is_refresh = |hint: &Hint| matches!(hint, Hint::Refresh { .. });
    assert!(driver.hints.iter().any(is_refresh));
    driver.adopt(3, &[]);
    driver.pass(Duration::from_millis(30));
    assert_eq!(asked(&driver), [1; 3]);
    for port in 7000..7003 {
        driver.reply(port, ":1\r\n");
    }
    assert_eq!(driver.output(client), ":3\r\n");
    // Nobody can say more: what is known has to do.
    half(&mut driver, 4);
    driver.send(client, "DBSIZE");
    driver.pass(Duration::from_millis(900));
    assert_eq!(asked(&driver), [1; 3]);
    driver.pass(Duration::from_millis(200));
    assert_eq!(asked(&driver), [2; 3]);
    for port in 7000..7003 {
        driver.reply(port, ":1\r\n");
    }
    assert_eq!(driver.output(client), ":3\r\n");
    driver.engine.check_nothing_left();
}

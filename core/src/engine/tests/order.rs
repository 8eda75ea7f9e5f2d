//! Redirections, refusals and the order of one session's requests: the wire traces of SEMANTICS appendix C.

use std::time::Duration;

use super::driver::{Driver, bulk};
use crate::slot::Slot;
use crate::topology::Hint;

fn slot(key: &str) -> u16 {
    Slot::of_key(key.as_bytes()).get()
}

/// A key, the node that owns its slot, and another node.
fn setting(driver: &Driver) -> (&'static str, u16, u16) {
    let owner = driver.owner("k");
    (("k"), owner, if owner == 7000 { 7001 } else { 7000 })
}

#[test]
fn moved_is_followed_and_reported_t6() {
    let mut driver = Driver::new();
    let client = driver.client();
    let (key, owner, other) = setting(&driver);
    driver.send(client, "GET k");
    driver.reply(
        owner,
        &format!("-MOVED {} 127.0.0.1:{other}\r\n", slot(key)),
    );
    assert_eq!(driver.requests(other), ["GET k"]);
    driver.reply(other, &bulk("v"));
    assert_eq!(driver.output(client), bulk("v"));
    assert!(
        driver
            .hints
            .iter()
            .any(|hint| matches!(hint, Hint::Moved { target, .. } if target.port == other))
    );
}

#[test]
fn ask_goes_with_asking_and_leaves_the_table_e6() {
    let mut driver = Driver::new();
    let client = driver.client();
    let (key, owner, other) = setting(&driver);
    driver.send(client, "GET k");
    driver.reply(owner, &format!("-ASK {} 127.0.0.1:{other}\r\n", slot(key)));
    assert_eq!(driver.requests(other), ["ASKING", "GET k"]);
    driver.reply(other, &format!("+OK\r\n{}", bulk("v")));
    assert_eq!(driver.output(client), bulk("v"));
    driver.send(client, "GET k");
    assert_eq!(
        driver.requests(owner),
        ["GET k", "GET k"],
        "the next request asks the owner again"
    );
}

#[test]
fn both_moved_requests_keep_their_order_c2() {
    let mut driver = Driver::new();
    let client = driver.client();
    let (key, owner, other) = setting(&driver);
    driver.send(client, "APPEND k 1");
    driver.send(client, "APPEND k 2");
    let moved = format!("-MOVED {} 127.0.0.1:{other}\r\n", slot(key));
    driver.reply(owner, &moved);
    assert!(
        driver.requests(other).is_empty(),
        "the fate of the second is not known yet [O4]"
    );
    driver.reply(owner, &moved);
    assert_eq!(driver.requests(other), ["APPEND k 1", "APPEND k 2"]);
    driver.reply(other, ":1\r\n:2\r\n");
    assert_eq!(driver.output(client), ":1\r\n:2\r\n");
}

#[test]
fn a_table_swap_between_two_writes_of_one_key_holds_the_second_c3() {
    let mut driver = Driver::new();
    let client = driver.client();
    let (key, owner, other) = setting(&driver);
    driver.send(client, "SET k 1");
    driver.adopt(2, &[(key, other)]);
    driver.send(client, "SET k 2");
    assert!(driver.requests(other).is_empty(), "held [O2]");
    driver.reply(
        owner,
        &format!("-MOVED {} 127.0.0.1:{other}\r\n", slot(key)),
    );
    assert_eq!(driver.requests(other), ["SET k 1", "SET k 2"]);
    driver.reply(other, "+OK\r\n+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n+OK\r\n");
}

#[test]
fn a_refusal_that_was_overtaken_is_shown_c4() {
    let mut driver = Driver::new();
    let client = driver.client();
    let owner = driver.owner("{t}a");
    driver.send(client, "MSET {t}a 1 {t}b 1");
    driver.send(client, "SET {t}a 2");
    let refusal = "-TRYAGAIN Multiple keys request during rehashing of slot\r\n";
    driver.reply(owner, &format!("{refusal}+OK\r\n"));
    assert_eq!(driver.output(client), format!("{refusal}+OK\r\n"));
    assert_eq!(
        driver.requests(owner).len(),
        2,
        "nothing is sent again: it would undo the second write"
    );
}

#[test]
fn a_read_behind_a_refused_write_is_sent_again_behind_it_o4() {
    let mut driver = Driver::new();
    let client = driver.client();
    let owner = driver.owner("{t}a");
    driver.send(client, "MSET {t}a 1 {t}b 1");
    driver.send(client, "GET {t}a");
    driver.send(client, "STRLEN {t}a");
    let refusal = "-TRYAGAIN Multiple keys request during rehashing of slot\r\n";
    driver.reply(owner, &format!("{refusal}{}", bulk("0")));
    assert_eq!(
        driver.requests(owner).len(),
        3,
        "the fate of STRLEN is open"
    );
    driver.reply(owner, ":1\r\n");
    driver.pass(Duration::from_millis(5));
    assert_eq!(
        driver.requests(owner)[3..],
        ["MSET {t}a 1 {t}b 1", "GET {t}a", "STRLEN {t}a"]
    );
    driver.reply(owner, &format!("+OK\r\n{}:1\r\n", bulk("1")));
    let expected = format!("+OK\r\n{}:1\r\n", bulk("1"));
    assert_eq!(driver.output(client), expected);
}

#[test]
fn a_read_between_a_refused_write_and_an_executed_one_keeps_its_answer_o4() {
    let mut driver = Driver::new();
    let client = driver.client();
    let owner = driver.owner("{t}a");
    driver.send(client, "MSET {t}a 1 {t}b 1");
    driver.send(client, "GET {t}a");
    driver.send(client, "SET {t}a 2");
    let refusal = "-TRYAGAIN Multiple keys request during rehashing of slot\r\n";
    let replies = format!("{refusal}{}+OK\r\n", bulk("0"));
    driver.reply(owner, &replies);
    assert_eq!(driver.output(client), replies);
    assert_eq!(driver.requests(owner).len(), 3, "nothing is sent again");
}

#[test]
fn requests_on_other_keys_do_not_wait() {
    let mut driver = Driver::new();
    let client = driver.client();
    let owner = driver.owner("{t}a");
    driver.send(client, "MSET {t}a 1 {t}b 1");
    driver.reply(
        owner,
        "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
    );
    let (_, elsewhere) = driver.two_keys_on_two_nodes();
    driver.send(client, &format!("SET {elsewhere} 1"));
    driver.send(client, "SET {t}a 2");
    let node = driver.owner(&elsewhere);
    assert!(
        driver
            .requests(node)
            .contains(&format!("SET {elsewhere} 1"))
    );
    assert!(
        !driver.requests(owner).contains(&"SET {t}a 2".to_owned()),
        "conflicts with the one that is refused"
    );
}

#[test]
fn try_again_is_retried_and_then_shown() {
    let mut driver = Driver::new();
    let client = driver.client();
    let owner = driver.owner("{t}a");
    let refusal = "-TRYAGAIN Multiple keys request during rehashing of slot\r\n";
    driver.send(client, "MGET {t}a {t}b");
    let mut tries = 1;
    while driver.output(client).is_empty() {
        driver.reply(owner, refusal);
        for _ in 0..200 {
            if driver.requests(owner).len() > tries {
                break;
            }
            driver.pass(Duration::from_millis(1));
        }
        if driver.requests(owner).len() == tries {
            break;
        }
        tries += 1;
        assert!(tries < 60, "it ends");
    }
    assert!(tries > 10, "{tries}");
    assert!(
        driver
            .requests(owner)
            .iter()
            .all(|request| request == "MGET {t}a {t}b")
    );
}

#[test]
fn moved_without_a_host_waits_for_the_table_t4() {
    let mut driver = Driver::new();
    let client = driver.client();
    let (key, owner, other) = setting(&driver);
    driver.send(client, "GET k");
    for tries in 1..10 {
        assert_eq!(driver.requests(owner).len(), tries);
        driver.reply(owner, &format!("-MOVED {} ?:{other}\r\n", slot(key)));
        if tries < 9 {
            driver.pass(Duration::from_millis(700));
        }
    }
    driver.adopt(2, &[(key, other)]);
    assert_eq!(driver.requests(other), ["GET k"]);
}

#[test]
fn redirections_in_a_circle_end_e4() {
    let mut driver = Driver::new();
    let client = driver.client();
    let (key, owner, other) = setting(&driver);
    driver.send(client, "GET k");
    let moved = |to: u16| format!("-MOVED {} 127.0.0.1:{to}\r\n", slot(key));
    driver.reply(owner, &moved(other));
    driver.reply(other, &moved(owner));
    // From here on with pauses: the two may be about to agree.
    for tries in 2..7 {
        assert_eq!(driver.output(client), "");
        driver.pass(Duration::from_millis(250));
        assert_eq!(driver.requests(owner).len(), tries);
        driver.reply(owner, &moved(other));
    }
    let expected = format!(
        "-CLUSTERDOWN proxy: too many redirections for slot {}\r\n",
        slot(key)
    );
    assert_eq!(driver.output(client), expected);
}

#[test]
fn a_barrier_waits_and_is_waited_for_o7() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "SET k 1");
    driver.send(client, "FLUSHALL");
    driver.send(client, "SET k 2");
    assert_eq!(driver.requests(node), ["SET k 1"]);
    driver.reply(node, "+OK\r\n");
    for port in 7000..7003 {
        assert_eq!(
            driver.requests(port).last().map(String::as_str),
            Some("FLUSHALL")
        );
        driver.reply(port, "+OK\r\n");
    }
    assert_eq!(driver.requests(node), ["SET k 1", "FLUSHALL", "SET k 2"]);
    driver.reply(node, "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n+OK\r\n+OK\r\n");
}

#[test]
fn clusterdown_waits_for_a_new_table() {
    let mut driver = Driver::new();
    let client = driver.client();
    let (key, owner, other) = setting(&driver);
    driver.send(client, "SET k 1");
    driver.reply(owner, "-CLUSTERDOWN Hash slot not served\r\n");
    assert_eq!(driver.output(client), "");
    driver.adopt(2, &[(key, other)]);
    assert_eq!(driver.requests(other), ["SET k 1"]);
    driver.reply(other, "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n");
}

#[test]
fn a_refusal_that_lasts_is_shown_in_the_end_pk2() {
    let mut driver = Driver::new();
    let client = driver.client();
    let owner = driver.owner("k");
    let refusal = "-LOADING Redis is loading the dataset in memory\r\n";
    driver.send(client, "GET k");
    for _ in 0..200 {
        driver.pass(Duration::from_millis(100));
        let asked = driver.requests(owner).len() as u64;
        if driver.engine.metrics().redirects.iter().sum::<u64>() < asked {
            driver.reply(owner, refusal);
        }
    }
    assert_eq!(driver.output(client), refusal);
}

#[test]
fn a_write_is_not_repeated_behind_a_split_write_that_was_executed_and_is_over_o4() {
    let mut driver = Driver::new();
    let client = driver.client();
    let (key, other) = driver.two_keys_on_two_nodes();
    let (node, far) = (driver.owner(&key), driver.owner(&other));
    driver.send(client, &format!("SET {key} 1"));
    driver.send(client, &format!("MSET {key} 2 {other} 2"));
    driver.reply(far, "+OK\r\n");
    driver.reply(
        node,
        "-TRYAGAIN Multiple keys request during rehashing of slot\r\n+OK\r\n",
    );
    driver.pass(Duration::from_secs(1));
    assert_eq!(driver.requests(node).len(), 2, "the later value stays");
    assert_eq!(
        driver.output(client),
        "-TRYAGAIN Multiple keys request during rehashing of slot\r\n+OK\r\n"
    );
}

#[test]
fn a_redirection_is_never_shown() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "SET k 1");
    driver.send(client, "INCR k");
    driver.reply(node, "-ASK 7629 127.0.0.1:7001\r\n:2\r\n");
    assert_eq!(
        driver.output(client),
        "-TRYAGAIN proxy: slot 7629 is moving, command not executed\r\n:2\r\n"
    );
}

/// A key of slot 0, which is also the slot of no key at all.
fn key_in_slot_0() -> String {
    (0..)
        .map(|number| format!("z{number}"))
        .find(|key| slot(key) == 0)
        .unwrap()
}

#[test]
fn a_finished_split_command_overtakes_nothing_but_its_own_keys_o10() {
    let mut driver = Driver::new();
    let client = driver.client();
    let key = key_in_slot_0();
    let on = |port: u16| {
        (0..)
            .map(|n| format!("b{n}"))
            .find(|key| driver.owner(key) == port)
    };
    let (a, b) = (on(7001).unwrap(), on(7002).unwrap());
    driver.open = false;
    driver.send(client, &format!("SET {key} 1"));
    assert_eq!(
        driver.pending.len(),
        1,
        "the node of slot 0 is being connected to"
    );
    driver.open = true;
    driver.send(client, &format!("MGET {a} {b}"));
    for node in [7001, 7002] {
        driver.reply(node, &format!("*1\r\n{}", bulk("v")));
    }
    driver.refuse_pending();
    driver.pass(Duration::from_millis(500));
    assert_eq!(driver.requests(7000), [format!("SET {key} 1")]);
    driver.reply(7000, "+OK\r\n");
    let values = format!("*2\r\n{}{}", bulk("v"), bulk("v"));
    assert_eq!(driver.output(client), format!("+OK\r\n{values}"));
}

#[test]
fn requests_on_several_keys_conflict_by_each_key_only() {
    let mut driver = Driver::new();
    let client = driver.client();
    let owner = driver.owner("{t}1");
    driver.send(client, "GET {t}1");
    driver.reply(owner, "$-1\r\n");
    driver.output(client);
    driver.send(client, "SET {t}1 v");
    for first in (2..40).step_by(4) {
        driver.send(
            client,
            &format!(
                "MGET {{t}}{first} {{t}}{} {{t}}{} {{t}}{}",
                first + 1,
                first + 2,
                first + 3
            ),
        );
    }
    let other = if owner == 7000 { 7001 } else { 7000 };
    let asked = format!("-ASK {} 127.0.0.1:{other}\r\n", slot("{t}1"));
    let values = format!("*4\r\n{}", "$-1\r\n".repeat(4));
    driver.reply(owner, &(asked + &values.repeat(10)));
    assert_eq!(
        driver.requests(other),
        ["ASKING", "SET {t}1 v"],
        "none of them has its key"
    );
    driver.reply(other, "+OK\r\n+OK\r\n");
    assert_eq!(
        driver.output(client),
        format!("+OK\r\n{}", values.repeat(10))
    );
}

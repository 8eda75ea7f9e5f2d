//! What operators may choose where there is no answer that is right for everybody: splitting [P2], fan-outs of a part [Q2] [T12],
//! sending writes again [D5], what an unknown fate looks like [D6], and waiting for slots that nobody owns [T11].

use std::time::Duration;

use super::driver::{Driver, NOBODY, bulk, encode};
use super::failures::UNCERTAIN;
use super::parts::three_keys;
use crate::engine::SessionKey;
use crate::local::{ListenerSettings, OnUncertain};
use crate::metrics::{CloseReason, Outcome};

const CROSSSLOT: &str = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";

fn client_with(driver: &mut Driver, change: impl FnOnce(&mut ListenerSettings)) -> SessionKey {
    let mut listener = ListenerSettings::default();
    change(&mut listener);
    driver.client_of(listener)
}

// === split [P2] ===

#[test]
fn without_splitting_keys_of_several_slots_are_refused_p2() {
    let mut driver = Driver::with(|limits| limits.split_max_keys = 3);
    let client = client_with(&mut driver, |listener| listener.split = false);
    let [a, b, c] = three_keys(&driver);
    for command in [
        format!("MGET {a} {b}"),
        format!("MSET {a} 1 {b} 2"),
        format!("DEL {a} {b} {c}"),
        format!("EXISTS {a} {b} {c} {a}"),
    ] {
        driver.send(client, &command);
        assert_eq!(driver.output(client), CROSSSLOT, "{command}");
    }
    for port in 7000..7003 {
        assert_eq!(driver.requests(port), Vec::<String>::new());
    }
    driver.send(client, &format!("MGET {{{a}}}1 {{{a}}}2"));
    assert_eq!(
        driver.requests(7000),
        [format!("MGET {{{a}}}1 {{{a}}}2")],
        "one slot needs no splitting"
    );
}

// === resend_idempotent_writes [D5] ===

fn resending() -> Driver {
    Driver::with(|limits| limits.resend_idempotent_writes = true)
}

#[test]
fn idempotent_writes_are_sent_again_if_that_was_chosen_d5() {
    for command in [
        "SET k 1",
        "SET k 1 XX EX 10",
        "setrange k 0 x",
        "HMSET k f v",
        "MSET k 1 {k}2 2",
    ] {
        let mut driver = resending();
        let client = driver.client();
        let node = driver.owner("k");
        driver.send(client, command);
        driver.cut(node);
        driver.pass(Duration::from_millis(200));
        assert_eq!(driver.requests(node), [command]);
        driver.reply(node, "+OK\r\n");
        assert_eq!(driver.output(client), "+OK\r\n");
    }
}

#[test]
fn writes_that_show_when_repeated_are_not_sent_again_d5() {
    for command in [
        "INCR k",
        "SET k 1 NX",
        "SET k 1 GET",
        "SET k 1 EX 10 IFEQ 0",
        "SETNX k 1",
        "APPEND k x",
    ] {
        let mut driver = resending();
        let client = driver.client();
        driver.send(client, command);
        driver.cut(driver.owner("k"));
        assert_eq!(driver.output(client), UNCERTAIN, "{command}");
    }
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "SET k 1");
    driver.cut(driver.owner("k"));
    assert_eq!(driver.output(client), UNCERTAIN, "not by default");
}

#[test]
fn a_write_that_was_sent_again_stays_in_doubt_until_it_succeeds_d5() {
    let mut driver = resending();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "SET k 1");
    driver.cut(node);
    driver.pass(Duration::from_millis(200));
    driver.reply(
        node,
        "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    );
    assert_eq!(
        driver.output(client),
        UNCERTAIN,
        "the first time it may have been executed"
    );
    driver.send(client, "SET k 2");
    driver.open = false;
    driver.cut(node);
    for _ in 0..110 {
        driver.refuse_pending();
        driver.pass(Duration::from_millis(100));
    }
    assert_eq!(
        driver.output(client),
        UNCERTAIN,
        "no node took it the second time"
    );
}

#[test]
fn nothing_refused_is_sent_behind_a_write_in_doubt_o4() {
    let mut driver = resending();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "APPEND k 1");
    driver.send(client, "SET k 2");
    driver.reply(
        node,
        "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
    );
    driver.cut(node);
    driver.pass(Duration::from_millis(500));
    assert_eq!(driver.requests(node), ["SET k 2"]);
    driver.reply(node, "+OK\r\n");
    let output = driver.output(client);
    assert!(
        output.starts_with("-TRYAGAIN ") && output.ends_with("\r\n+OK\r\n"),
        "{output}"
    );
}

// === on_uncertain [D6] ===

#[test]
fn an_unknown_fate_is_a_closed_connection_if_that_was_chosen_d6() {
    let mut driver = Driver::new();
    let client = client_with(&mut driver, |listener| {
        listener.on_uncertain = OnUncertain::Close;
    });
    let usual = driver.client();
    let (earlier, later) = driver.two_keys_on_two_nodes();
    let (owed, lost) = (driver.owner(&earlier), driver.owner(&later));
    driver.send(client, &format!("GET {earlier}"));
    driver.send(client, &format!("INCR {later}"));
    driver.send(client, &format!("GET {earlier}"));
    driver.send(usual, &format!("INCR {later}"));
    driver.cut(lost);
    assert_eq!(driver.output(usual), UNCERTAIN);
    assert_eq!(driver.engine.must_close(usual), None);
    assert_eq!(
        driver.engine.must_close(client),
        None,
        "a reply is owed before"
    );
    driver.send_raw(client, &encode(&format!("SET {earlier} late")));
    driver.reply(owed, &(bulk("x") + &bulk("y")));
    assert_eq!(driver.output(client), bulk("x"), "and nothing behind it");
    assert_eq!(
        driver.engine.must_close(client),
        Some(CloseReason::Uncertain)
    );
    assert_eq!(driver.requests(owed).len(), 2, "what came late is not sent");
    driver.leave(client);
    let metrics = driver.engine.metrics();
    assert_eq!(metrics.closed[CloseReason::Uncertain.index()], 1);
    let counted = |name: &[u8]| {
        let spec = crate::command::find(name).unwrap();
        metrics.commands[spec.id.index()].outcomes[Outcome::Uncertain.index()]
    };
    assert_eq!(counted(b"incr"), 2);
}

#[test]
fn an_unknown_part_closes_too_and_a_client_without_replies_as_well_d6() {
    let mut driver = Driver::new();
    let closing = |listener: &mut ListenerSettings| listener.on_uncertain = OnUncertain::Close;
    let (splitter, silent) = (
        client_with(&mut driver, closing),
        client_with(&mut driver, closing),
    );
    let [a, b, _] = three_keys(&driver);
    driver.send(splitter, &format!("MSET {a} 1 {b} 2"));
    driver.send(silent, "CLIENT REPLY OFF");
    driver.send(silent, &format!("SET {b} 3"));
    driver.reply(7000, "+OK\r\n");
    driver.cut(7001);
    for client in [splitter, silent] {
        assert_eq!(driver.output(client), "");
        let reason = driver.engine.must_close(client);
        assert_eq!(reason, Some(CloseReason::Uncertain));
    }
}

// === fan-outs of a part [T12] [Q2] ===

#[test]
fn fan_outs_over_a_part_of_the_slots_are_refused_unless_chosen_t12() {
    let mut driver = Driver::new();
    let strict = driver.client();
    let lenient = client_with(&mut driver, |listener| {
        listener.fanout_requires_full_coverage = false;
    });
    driver.adopt(2, &[("k", NOBODY)]);
    driver.send(strict, "DBSIZE");
    assert_eq!(
        driver.output(strict),
        "-CLUSTERDOWN proxy: 1 slots not covered\r\n"
    );
    driver.send(lenient, "DBSIZE");
    for port in 7000..7003 {
        driver.reply(port, ":2\r\n");
    }
    assert_eq!(driver.output(lenient), ":6\r\n");
}

/// What DBSIZE is answered while node 7001 cannot be reached.
fn dbsize_without_7001(change: impl FnOnce(&mut ListenerSettings)) -> (Driver, String) {
    let mut driver = Driver::new();
    let client = client_with(&mut driver, change);
    driver.send(client, "DBSIZE");
    driver.open = false;
    driver.cut(7001);
    driver.reply(7000, ":2\r\n");
    driver.reply(7002, ":3\r\n");
    assert_eq!(driver.output(client), "", "it may come back");
    for _ in 0..110 {
        driver.refuse_pending();
        driver.pass(Duration::from_millis(100));
    }
    let output = driver.output(client);
    (driver, output)
}

#[test]
fn a_fan_out_without_a_shard_is_an_error_unless_chosen_q2() {
    let (_, output) = dbsize_without_7001(|_| {});
    assert_eq!(
        output,
        "-CLUSTERDOWN proxy: shard 70010000 unreachable, reply incomplete\r\n"
    );
    let (driver, output) = dbsize_without_7001(|listener| listener.fanout_partial = true);
    assert_eq!(output, ":5\r\n");
    let spec = crate::command::find(b"dbsize").unwrap();
    let outcomes = driver.engine.metrics().commands[spec.id.index()].outcomes;
    assert_eq!(outcomes[Outcome::Partial.index()], 1);
}

#[test]
fn what_changes_data_is_never_answered_for_a_part_q4() {
    let mut driver = Driver::new();
    let client = client_with(&mut driver, |listener| listener.fanout_partial = true);
    driver.send(client, "FLUSHALL");
    driver.cut(7001);
    driver.reply(7000, "+OK\r\n");
    driver.reply(7002, "+OK\r\n");
    let output = driver.output(client);
    assert!(
        output.starts_with("-UNCERTAIN proxy: flushed 2 of 3 masters"),
        "{output}"
    );
}

// === fast_fail_uncovered [T11] ===

#[test]
fn a_slot_that_certainly_nobody_owns_is_refused_at_once_t11() {
    const PAUSE: Duration = Duration::from_millis(150);
    let mut driver = Driver::new();
    let client = driver.client();
    driver.adopt(2, &[("k", NOBODY)]);
    driver.confirm_uncovered(2);
    driver.pass(PAUSE);
    driver.send(client, "GET k");
    driver.pass(PAUSE);
    assert_eq!(driver.output(client), "", "made sure before it came");
    driver.confirm_uncovered(1);
    driver.pass(PAUSE);
    assert_eq!(driver.output(client), "", "made sure of another topology");
    driver.confirm_uncovered(2);
    driver.pass(PAUSE);
    let refused = "-CLUSTERDOWN Hash slot not served\r\n";
    assert_eq!(driver.output(client), refused);
    driver.send(client, "SET k 1");
    driver.adopt(3, &[]);
    driver.confirm_uncovered(3);
    assert_eq!(
        driver.requests(driver.owner("k")),
        ["SET k 1"],
        "somebody owns it now"
    );
}

#[test]
fn a_slot_that_nobody_owns_is_waited_for_if_that_was_chosen_t11() {
    let mut driver = Driver::with(|limits| limits.fast_fail_uncovered = false);
    let client = driver.client();
    driver.adopt(2, &[("k", NOBODY)]);
    driver.send(client, "GET k");
    driver.pass(Duration::from_secs(9));
    driver.confirm_uncovered(2);
    driver.pass(Duration::from_millis(500));
    assert_eq!(driver.output(client), "");
    driver.pass(Duration::from_secs(1));
    let output = driver.output(client);
    assert!(
        output.starts_with("-CLUSTERDOWN proxy: no master for slot "),
        "{output}"
    );
}

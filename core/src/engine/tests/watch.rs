//! WATCH, UNWATCH, and the transactions that depend on them [W1]-[W7].

use std::time::Duration;

use super::driver::{Driver, bulk, encode};
use super::failures::UNCERTAIN;
use crate::engine::{LinkKey, SessionKey};
use crate::slot::Slot;

pub(super) const OK: &str = "+OK\r\n";
const QUEUED: &str = "+QUEUED\r\n";
pub(super) const NIL: &str = "*-1\r\n";
/// What a node says to the transaction of [`queue`] when it executes it, and when a watched key has changed.
const EXECUTED: &str = "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n";
const CHANGED: &str = "+OK\r\n+QUEUED\r\n*-1\r\n";

/// What `command` is answered with at once.
pub(super) fn ask(driver: &mut Driver, client: SessionKey, command: &str) -> String {
    driver.send(client, command);
    driver.output(client)
}

/// A client that watches `k`, and the connection that it watches it over.
pub(super) fn watching(driver: &mut Driver) -> (SessionKey, LinkKey) {
    let client = driver.client();
    driver.send(client, "WATCH k");
    let node = driver.owner("k");
    assert!(driver.all_requests(node).contains(&"WATCH k".to_owned()));
    let link = *driver.links_to_in_order(node).last().unwrap();
    driver.reply_on(link, OK);
    assert_eq!(driver.output(client), OK);
    (client, link)
}

pub(super) fn queue(driver: &mut Driver, client: SessionKey) {
    assert_eq!(ask(driver, client, "MULTI"), OK);
    assert_eq!(ask(driver, client, "SET k 1"), QUEUED);
}

pub(super) fn another(driver: &Driver) -> u16 {
    if driver.owner("k") == 7000 {
        7001
    } else {
        7000
    }
}

#[test]
fn a_transaction_goes_over_the_connection_that_watches_w3() {
    for (answer, reply) in [(EXECUTED, "*1\r\n+OK\r\n"), (CHANGED, NIL)] {
        let mut driver = Driver::new();
        let node = driver.owner("k");
        let (client, link) = watching(&mut driver);
        driver.send(client, "GET k");
        driver.reply_where_asked(node, &bulk("0"));
        assert_eq!(driver.output(client), bulk("0"));
        assert_eq!(
            driver.connections_to(node),
            2,
            "what else it asks goes its way"
        );
        queue(&mut driver, client);
        driver.send(client, "EXEC");
        driver.reply_on(link, answer);
        assert_eq!(driver.output(client), reply);
        // The connection is as new.
        driver.send(client, "BLPOP k 0");
        assert_eq!(driver.connections_to(node), 2);
        driver.reply_on(link, NIL);
        assert_eq!(driver.output(client), NIL);
        driver.engine.check_nothing_left();
    }
}

#[test]
fn all_watched_keys_and_those_of_the_transaction_share_a_slot_w1_w3() {
    let mut driver = Driver::new();
    let crossed = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";
    let (client, link) = watching(&mut driver);
    assert_eq!(ask(&mut driver, client, "WATCH a"), crossed);
    assert_eq!(ask(&mut driver, client, "WATCH k a"), crossed);
    driver.send(client, "WATCH {k}2");
    driver.reply_on(link, OK);
    assert_eq!(driver.output(client), OK);
    assert_eq!(ask(&mut driver, client, "MULTI"), OK);
    assert_eq!(ask(&mut driver, client, "SET a 1"), crossed);
    let broken = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    assert_eq!(ask(&mut driver, client, "EXEC"), broken);
    // That was the end of watching.
    let node = driver.owner("k");
    assert_eq!(
        driver.all_requests(node),
        ["WATCH k", "WATCH {k}2", "UNWATCH"]
    );
    driver.reply_on(link, OK);
    driver.send(client, "WATCH a");
    driver.reply_where_asked(driver.owner("a"), OK);
    assert_eq!(driver.output(client), OK);
}

#[test]
fn everything_in_one_pipeline_w1() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = driver.client();
    let (a, b) = driver.two_keys_on_two_nodes();
    let other = if driver.owner(&a) == node { b } else { a };
    let there = driver.owner(&other);
    let watch_other = format!("WATCH {other}");
    let commands = [
        "SET k 0",
        "WATCH k",
        "GET k",
        "MULTI",
        "SET k 1",
        "EXEC",
        &watch_other,
        "UNWATCH",
        "GET k",
    ];
    let bytes: Vec<u8> = commands.iter().flat_map(|text| encode(text)).collect();
    driver.send_raw(client, &bytes);
    for (asked, reply) in [("SET k 0", OK), ("WATCH k", OK), ("GET k", "$1\r\n0\r\n")] {
        assert!(
            driver.all_requests(node).contains(&asked.to_owned()),
            "{asked}"
        );
        driver.reply_where_asked(node, reply);
    }
    driver.reply_where_asked(node, EXECUTED);
    driver.reply_where_asked(there, OK);
    driver.reply_where_asked(node, "$1\r\n1\r\n");
    let expected =
        "+OK\r\n+OK\r\n$1\r\n0\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n+OK\r\n+OK\r\n$1\r\n1\r\n";
    assert_eq!(driver.output(client), expected);
    driver.reply_where_asked(there, OK);
    driver.engine.check_nothing_left();
}

#[test]
fn what_ends_watching_gives_the_connection_back_w4() {
    for (commands, replies) in [
        (&["UNWATCH"][..], &[OK][..]),
        (&["MULTI", "DISCARD"], &[OK, OK]),
        (
            &["MULTI", "EXEC now"],
            &[
                OK,
                "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n",
            ],
        ),
        (&["RESET"], &["+RESET\r\n"]),
    ] {
        let mut driver = Driver::new();
        let node = driver.owner("k");
        let (client, link) = watching(&mut driver);
        for (command, reply) in commands.iter().zip(replies) {
            assert_eq!(ask(&mut driver, client, command), *reply);
        }
        assert_eq!(driver.all_requests(node), ["WATCH k", "UNWATCH"]);
        driver.reply_on(link, OK);
        assert_eq!(
            ask(&mut driver, client, "UNWATCH"),
            OK,
            "nothing is watched"
        );
        assert_eq!(driver.all_requests(node).len(), 2);
        let (_, again) = watching(&mut driver);
        assert_eq!(link, again);
        driver.engine.check_nothing_left();
    }
}

/// Nothing is lent twice: the next one that watches gets another connection, as long as the first is not as new.
#[test]
fn a_connection_is_given_back_when_the_node_has_unwatched_w4() {
    let mut driver = Driver::new();
    let (client, link) = watching(&mut driver);
    assert_eq!(ask(&mut driver, client, "UNWATCH"), OK);
    let (_, other) = watching(&mut driver);
    assert_ne!(link, other);
}

#[test]
fn a_transaction_without_commands_asks_the_node_too_w3() {
    let mut driver = Driver::new();
    let (client, link) = watching(&mut driver);
    assert_eq!(ask(&mut driver, client, "MULTI"), OK);
    assert_eq!(ask(&mut driver, client, "PING"), QUEUED);
    driver.send(client, "EXEC");
    driver.reply_on(link, "+OK\r\n*0\r\n");
    assert_eq!(driver.output(client), "*1\r\n+PONG\r\n");

    let (client, link) = watching(&mut driver);
    assert_eq!(ask(&mut driver, client, "MULTI"), OK);
    assert_eq!(ask(&mut driver, client, "PING"), QUEUED);
    driver.send(client, "EXEC");
    driver.reply_on(link, "+OK\r\n*-1\r\n");
    assert_eq!(driver.output(client), NIL);
}

#[test]
fn a_lost_connection_is_a_change_that_nobody_knows_of_w5() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let (client, _) = watching(&mut driver);
    driver.cut(node);
    driver.pass(Duration::from_secs(1));
    // Another key is watched in vain.
    assert_eq!(ask(&mut driver, client, "WATCH {k}2"), OK);
    queue(&mut driver, client);
    assert_eq!(ask(&mut driver, client, "EXEC"), NIL);
    assert_eq!(driver.connections_to(node), 0, "nothing was executed");
    // The next time is a new one.
    let (client_again, link) = (client, {
        driver.send(client, "WATCH k");
        driver.links_to(node)[0]
    });
    driver.reply_on(link, OK);
    assert_eq!(driver.output(client_again), OK);
    queue(&mut driver, client_again);
    driver.send(client_again, "EXEC");
    driver.reply_on(link, EXECUTED);
    assert_eq!(driver.output(client_again), "*1\r\n+OK\r\n");
    driver.engine.check_nothing_left();
}

#[test]
fn the_reply_of_a_broken_watch_is_of_the_clients_resp_version_w5() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "HELLO 3");
    driver.output(client);
    driver.send(client, "WATCH k");
    driver.reply_resp3(driver.owner("k"), OK);
    assert_eq!(driver.output(client), OK);
    driver.adopt(2, &[("k", another(&driver))]);
    queue(&mut driver, client);
    assert_eq!(ask(&mut driver, client, "EXEC"), "_\r\n");
}

#[test]
fn another_owner_of_the_slot_is_a_change_w5() {
    let mut driver = Driver::new();
    let (client, link) = watching(&mut driver);
    driver.adopt(2, &[("a", 7001)]);
    assert_eq!(
        driver.all_requests(driver.owner("k")),
        ["WATCH k"],
        "not for others"
    );
    let new = another(&driver);
    driver.adopt(3, &[("k", new)]);
    assert_eq!(
        driver.all_requests(driver.owner("k")),
        ["WATCH k", "UNWATCH"]
    );
    driver.reply_on(link, OK);
    queue(&mut driver, client);
    assert_eq!(ask(&mut driver, client, "EXEC"), NIL);
    assert!(driver.all_requests(new).is_empty());
    driver.engine.check_nothing_left();
}

#[test]
fn a_transaction_that_is_refused_was_not_executed_w6() {
    let slot = Slot::of_key(b"k").get();
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    for answer in [
        format!("+OK\r\n-MOVED {slot} 127.0.0.1:7009\r\n{aborted}"),
        format!("+OK\r\n-ASK {slot} 127.0.0.1:7009\r\n{aborted}"),
        format!("+OK\r\n-TRYAGAIN Multiple keys request during rehashing of slot\r\n{aborted}"),
        format!("+OK\r\n-READONLY You can't write against a read only replica.\r\n{aborted}"),
        format!("+OK\r\n+QUEUED\r\n-MOVED {slot} 127.0.0.1:7009\r\n"),
    ] {
        let mut driver = Driver::new();
        let (client, link) = watching(&mut driver);
        queue(&mut driver, client);
        driver.send(client, "EXEC");
        driver.reply_on(link, &answer);
        assert_eq!(driver.output(client), NIL, "{answer}");
        assert!(!driver.is_connected(7009));
        driver.engine.check_nothing_left();
    }
}

#[test]
fn other_errors_of_a_transaction_are_shown_w6() {
    let mut driver = Driver::new();
    let (client, link) = watching(&mut driver);
    queue(&mut driver, client);
    driver.send(client, "EXEC");
    driver.reply_on(
        link,
        "+OK\r\n-OOM no memory\r\n-EXECABORT Transaction discarded because of previous errors.\r\n",
    );
    let shown = "-EXECABORT Transaction discarded because of: OOM no memory\r\n";
    assert_eq!(driver.output(client), shown);
}

#[test]
fn a_transaction_whose_connection_is_lost_is_uncertain_if_it_was_sent_w6() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let (client, _) = watching(&mut driver);
    queue(&mut driver, client);
    driver.send(client, "EXEC");
    driver.cut(node);
    assert_eq!(driver.output(client), UNCERTAIN);

    driver.pass(Duration::from_secs(1));
    let (client, _) = watching(&mut driver);
    queue(&mut driver, client);
    driver.send_with_slow_node(client, "EXEC", 10);
    driver.cut(node);
    assert_eq!(driver.output(client), NIL, "and was not executed if not");
    driver.engine.check_nothing_left();
}

#[test]
fn a_watch_follows_redirections_w1() {
    let mut driver = Driver::new();
    let (old, new) = (driver.owner("k"), another(&driver));
    let slot = Slot::of_key(b"k").get();
    let client = driver.client();
    driver.send(client, "WATCH k");
    driver.reply(old, &format!("-ASK {slot} 127.0.0.1:{new}\r\n"));
    assert_eq!(driver.all_requests(new), ["ASKING", "WATCH k"]);
    driver.reply(new, "+OK\r\n+OK\r\n");
    assert_eq!(driver.output(client), OK);
    // Where the slot is going to be: a topology that says so changes nothing.
    driver.adopt(2, &[("k", new)]);
    queue(&mut driver, client);
    driver.send(client, "EXEC");
    let unit = ["ASKING", "MULTI", "SET k 1", "EXEC"];
    assert_eq!(driver.all_requests(new)[2..], unit);
    driver.reply(new, &format!("+OK\r\n{EXECUTED}"));
    assert_eq!(driver.output(client), "*1\r\n+OK\r\n");
    // The old connection has watched nothing.
    driver.adopt(3, &[]);
    driver.send(client, "BLPOP k 0");
    assert_eq!(driver.connections_to(old), 1);
    driver.engine.check_invariants();
}

/// Of one key a node that is getting a slot does not say that it has not got it yet: it may be, and change, where it was.
#[test]
fn a_further_watch_where_the_slot_is_going_to_be_breaks_it_w1() {
    let mut driver = Driver::new();
    let (old, new) = (driver.owner("k"), another(&driver));
    let client = driver.client();
    driver.send(client, "WATCH k");
    let slot = Slot::of_key(b"k").get();
    driver.reply(old, &format!("-ASK {slot} 127.0.0.1:{new}\r\n"));
    driver.reply(new, "+OK\r\n+OK\r\n");
    assert_eq!(driver.output(client), OK);
    assert_eq!(ask(&mut driver, client, "WATCH {k}2"), OK);
    assert_eq!(driver.all_requests(new), ["ASKING", "WATCH k", "UNWATCH"]);
    queue(&mut driver, client);
    assert_eq!(ask(&mut driver, client, "EXEC"), NIL);
}

#[test]
fn a_second_watch_that_is_refused_breaks_the_first_w5() {
    let mut driver = Driver::new();
    let (client, link) = watching(&mut driver);
    driver.send(client, "WATCH {k}2");
    let slot = Slot::of_key(b"k").get();
    driver.reply_on(link, &format!("-MOVED {slot} 127.0.0.1:7009\r\n"));
    assert_eq!(driver.output(client), OK);
    queue(&mut driver, client);
    assert_eq!(ask(&mut driver, client, "EXEC"), NIL);
    driver.reply_on(link, OK);
    driver.engine.check_nothing_left();
}

#[test]
fn a_watch_whose_connection_is_lost_is_sent_again_w1() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = driver.client();
    driver.send(client, "WATCH k");
    driver.cut(node);
    driver.pass(Duration::from_secs(1));
    assert_eq!(driver.output(client), "");
    driver.reply_where_asked(node, OK);
    assert_eq!(driver.output(client), OK);
    // But not for ever.
    let client = driver.client();
    driver.send(client, "WATCH k");
    for _ in 0..7 {
        let link = driver.link_where_asked(node);
        driver.lose(link, crate::engine::LinkLoss::Closed);
        driver.pass(Duration::from_millis(500));
    }
    let lost = "-ERR proxy: backend connection lost, command not executed\r\n";
    assert_eq!(driver.output(client), lost);
}

#[test]
fn a_watch_that_the_node_refuses_is_none_w1() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = driver.client();
    driver.send(client, "WATCH k");
    let error = "-NOPERM this user has no permissions to run the 'watch' command\r\n";
    driver.reply_where_asked(node, error);
    assert_eq!(driver.output(client), error);
    queue(&mut driver, client);
    driver.send(client, "EXEC");
    assert_eq!(driver.connections_to(node), 2, "an ordinary transaction");
    driver.reply_where_asked(node, EXECUTED);
    assert_eq!(driver.output(client), "*1\r\n+OK\r\n");
    driver.engine.check_nothing_left();
}

#[test]
fn a_client_that_leaves_takes_its_watch_along_w4() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let (client, _) = watching(&mut driver);
    driver.leave(client);
    assert_eq!(driver.connections_to(node), 0);
    let client = driver.client();
    driver.send(client, "WATCH k");
    driver.leave(client);
    driver.reply_where_asked(node, OK);
    assert_eq!(driver.connections_to(node), 0, "nobody will unwatch");
    driver.engine.check_nothing_left();
}

#[test]
fn a_watch_that_nobody_uses_is_given_up_w7() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let (client, _) = watching(&mut driver);
    driver.pass(Duration::from_secs(299));
    assert_eq!(driver.connections_to(node), 1);
    driver.pass(Duration::from_secs(2));
    assert_eq!(driver.connections_to(node), 0);
    queue(&mut driver, client);
    assert_eq!(ask(&mut driver, client, "EXEC"), NIL);
}

#[test]
fn there_is_a_bound_to_those_that_watch_w7() {
    let mut driver = Driver::with(|limits| limits.private_links = 1);
    let (first, link) = watching(&mut driver);
    let second = driver.client();
    driver.send(second, "WATCH k");
    driver.pass(Duration::from_millis(50));
    assert_eq!(driver.output(second), "");
    assert_eq!(ask(&mut driver, first, "UNWATCH"), OK);
    driver.reply_on(link, OK);
    driver.pass(Duration::from_millis(11));
    driver.reply_on(link, OK);
    assert_eq!(driver.output(second), OK);
    driver.send(first, "WATCH k");
    driver.pass(Duration::from_millis(150));
    assert_eq!(
        driver.output(first),
        "-ERR proxy: too many pinned sessions\r\n"
    );
}

#[test]
fn a_session_that_changes_its_resp_version_has_watched_nothing_w5() {
    let mut driver = Driver::new();
    let (client, link) = watching(&mut driver);
    driver.send(client, "HELLO 3");
    driver.output(client);
    queue(&mut driver, client);
    assert_eq!(ask(&mut driver, client, "EXEC"), "_\r\n");
    driver.reply_on(link, OK);
    driver.engine.check_nothing_left();
}

#[test]
fn a_late_watch_leaves_no_trace_d8() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = driver.client();
    driver.send(client, "WATCH k");
    driver.pass(Duration::from_secs(16));
    assert!(
        driver
            .output(client)
            .starts_with("-UNCERTAIN proxy: timeout")
    );
    driver.reply_where_asked(node, OK);
    driver.pass(Duration::from_secs(1));
    assert_eq!(driver.connections_to(node), 0);
    driver.engine.check_nothing_left();
}

#[test]
fn draining_does_not_wait_for_those_that_watch_d12() {
    let mut driver = Driver::new();
    let (idle, _) = watching(&mut driver);
    let (busy, _) = watching(&mut driver);
    queue(&mut driver, busy);
    driver.engine.drain();
    assert!(driver.engine.must_close(idle).is_some());
    assert!(
        driver.engine.must_close(busy).is_none(),
        "its transaction goes on"
    );
}

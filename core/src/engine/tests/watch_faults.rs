//! WATCH, while something goes wrong at its node [W1]-[W7].

use std::time::Duration;

use super::driver::Driver;
use super::watch::{NIL, OK, another, ask, queue, watching};
use crate::slot::Slot;
use crate::topology::Hint;

#[test]
fn a_watch_that_has_failed_binds_its_client_to_no_slot_w1() {
    let error = "-NOPERM this user has no permissions to run the 'watch' command\r\n";
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = driver.client();
    let (a, b) = driver.two_keys_on_two_nodes();
    let other = if driver.owner(&a) == node { b } else { a };
    driver.send(client, "WATCH k");
    driver.reply_where_asked(node, error);
    assert_eq!(driver.output(client), error);
    driver.send(client, &format!("WATCH {other}"));
    driver.reply_where_asked(driver.owner(&other), error);
    assert_eq!(driver.output(client), error);
    queue(&mut driver, client);
    driver.send(client, "EXEC");
    driver.reply_where_asked(node, "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n");
    assert_eq!(driver.output(client), "*1\r\n+OK\r\n");
    driver.engine.check_nothing_left();
}

/// A client that tries again when a watched key has changed would do so without a pause.
#[test]
fn a_node_that_is_not_available_says_so_w6() {
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    let loading = "-LOADING Redis is loading the dataset in memory\r\n";
    let down = "-CLUSTERDOWN The cluster is down\r\n";
    for (answer, shown) in [
        (format!("+OK\r\n{loading}{aborted}"), loading),
        (format!("+OK\r\n+QUEUED\r\n{down}"), down),
    ] {
        let mut driver = Driver::new();
        let (client, link) = watching(&mut driver);
        queue(&mut driver, client);
        driver.send(client, "EXEC");
        driver.reply_on(link, &answer);
        assert_eq!(driver.output(client), shown);
        driver.engine.check_nothing_left();
    }
}

#[test]
fn a_redirected_transaction_tells_where_the_slot_is_w6() {
    let mut driver = Driver::new();
    let (client, link) = watching(&mut driver);
    queue(&mut driver, client);
    driver.send(client, "EXEC");
    let slot = Slot::of_key(b"k").get();
    driver.reply_on(
        link,
        &format!("+OK\r\n+QUEUED\r\n-MOVED {slot} 127.0.0.1:7009\r\n"),
    );
    assert_eq!(driver.output(client), "*-1\r\n");
    let is_told = |hint: &Hint| matches!(hint, Hint::Moved { target, .. } if target.port == 7009);
    assert!(driver.hints.iter().any(is_told));
}

/// Servers let clients watch while they load their data.
#[test]
fn a_watch_does_not_send_what_waits_to_a_node_that_loads_pk7() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let (watcher, link) = watching(&mut driver);
    for _ in 0..20 {
        let client = driver.client();
        driver.send(client, "GET k");
    }
    let loading = "-LOADING Redis is loading the dataset in memory\r\n";
    assert_eq!(driver.answer_all(node, loading), 20);
    driver.send(watcher, "WATCH {k}2");
    driver.reply_on(link, OK);
    assert_eq!(driver.output(watcher), OK);
    driver.stall(Duration::from_millis(1));
    assert_eq!(driver.answer_all(node, loading), 0);
    driver.pass(Duration::from_millis(40));
    assert_eq!(driver.answer_all(node, loading), 1, "one tries");
}

#[test]
fn a_connection_that_watches_still_is_not_lent_again_w4() {
    let mut driver = Driver::new();
    let (client, link) = watching(&mut driver);
    assert_eq!(ask(&mut driver, client, "UNWATCH"), OK);
    driver.reply_on(
        link,
        "-NOPERM this user has no permissions to run the 'unwatch' command\r\n",
    );
    assert!(!driver.links_to(driver.owner("k")).contains(&link));

    let (client, link) = watching(&mut driver);
    queue(&mut driver, client);
    driver.send(client, "EXEC");
    let error = "-NOPERM this user has no permissions to run the 'exec' command\r\n";
    driver.reply_on(link, &format!("+OK\r\n+QUEUED\r\n{error}"));
    assert_eq!(driver.output(client), error);
    assert!(!driver.links_to(driver.owner("k")).contains(&link));
    driver.engine.check_nothing_left();
}

/// What was given up might be executed after what goes over a link that was open before.
#[test]
fn a_watch_on_its_way_is_sent_again_behind_a_fence_d9() {
    let mut driver = Driver::new();
    let getter = driver.client();
    let node = driver.owner("k");
    driver.send(getter, "SET k 1");
    let shared = driver.links_to(node)[0];
    let client = driver.client();
    driver.send(client, "WATCH k");
    let watch = driver.links_to_in_order(node)[1];
    let slot = Slot::of_key(b"k").get();
    driver.reply_on(watch, &format!("-ASK {slot} 127.0.0.1:{node}\r\n"));
    assert!(driver.all_requests(node).contains(&"ASKING".to_owned()));
    driver.engine.on_link_read(shared, b"?no reply\r\n");
    driver.settle();
    assert!(!driver.links_to(node).contains(&watch));
}

#[test]
fn those_that_watch_leave_room_for_those_that_wait_w7() {
    let mut driver = Driver::with(|limits| limits.watching_links = 2);
    let node = driver.owner("k");
    let (first, link) = watching(&mut driver);
    watching(&mut driver);
    let third = driver.client();
    driver.send(third, "WATCH k");
    driver.pass(Duration::from_millis(150));
    assert_eq!(
        driver.output(third),
        "-ERR proxy: too many pinned sessions\r\n"
    );
    let waiting = driver.client();
    driver.send(waiting, "BLPOP k 0");
    assert_eq!(driver.connections_to(node), 3);
    assert_eq!(ask(&mut driver, first, "UNWATCH"), OK);
    driver.reply_on(link, OK);
    driver.send(third, "WATCH k");
    assert_eq!(driver.connections_to(node), 3, "it has the idle one");
    driver.reply_on(link, OK);
    assert_eq!(driver.output(third), OK);
}

/// Simulation, seed 7001076: a key that its owner still had was written where its slot was going to be.
#[test]
fn a_transaction_follows_only_the_keys_that_were_asked_for_w3() {
    for (command, is_sent) in [("SET k 1", true), ("SET {k}2 1", false), ("PING", true)] {
        let mut driver = Driver::new();
        let (old, new) = (driver.owner("k"), another(&driver));
        let client = driver.client();
        driver.send(client, "WATCH k");
        let slot = Slot::of_key(b"k").get();
        driver.reply(old, &format!("-ASK {slot} 127.0.0.1:{new}\r\n"));
        driver.reply(new, "+OK\r\n+OK\r\n");
        driver.output(client);
        for command in ["MULTI", command] {
            driver.send(client, command);
        }
        driver.output(client);
        driver.send(client, "EXEC");
        let asked = driver.all_requests(new);
        assert_eq!(
            asked.contains(&"EXEC".to_owned()),
            is_sent,
            "{command}: {asked:?}"
        );
        if !is_sent {
            assert_eq!(driver.output(client), NIL);
        }
    }
}

//! Numbered databases: SELECT in a session, and over which connection what is sent [N21] [N22] [M4].

use std::time::Duration;

use super::driver::{Driver, bulk, encode};
use super::watch::{NIL, OK, ask};
use crate::engine::{LinkKey, SessionKey};
use crate::local::Databases;

const OUT_OF_RANGE: &str = "-ERR DB index is out of range\r\n";
const QUEUED: &str = "+QUEUED\r\n";

fn sixteen() -> Option<Databases> {
    Some(Databases {
        count: 16,
        refusal: "ERR DB index is out of range".into(),
    })
}

fn client(driver: &mut Driver) -> SessionKey {
    driver.client_choosing(sixteen()).0
}

/// The one connection to the node of `k` in `database`, and what was sent over it.
#[track_caller]
fn only(driver: &Driver, database: u16) -> (LinkKey, Vec<String>) {
    let mut there = driver.in_database(driver.owner("k"), database);
    assert_eq!(there.len(), 1, "database {database}: {there:?}");
    there.remove(0)
}

#[track_caller]
fn reply_in(driver: &mut Driver, database: u16, reply: &str) {
    let (link, _) = only(driver, database);
    driver.reply_on(link, reply);
}

fn pipeline(driver: &mut Driver, client: SessionKey, commands: &[&str]) {
    let bytes: Vec<u8> = commands
        .iter()
        .flat_map(|command| encode(command))
        .collect();
    driver.send_raw(client, &bytes);
}

#[test]
fn each_database_has_its_connection_which_sessions_share_n21() {
    let mut driver = Driver::new();
    let clients = [0, 1, 2, 1].map(|database| {
        let client = client(&mut driver);
        assert_eq!(ask(&mut driver, client, &format!("SELECT {database}")), OK);
        driver.send(client, "GET k");
        client
    });
    for (database, asked) in [(0, 1), (1, 2), (2, 1)] {
        let (link, sent) = only(&driver, database);
        assert_eq!(sent, vec!["GET k"; asked]);
        driver.reply_on(link, &bulk(&database.to_string()).repeat(asked));
    }
    for (client, database) in clients.into_iter().zip(["0", "1", "2", "1"]) {
        assert_eq!(driver.output(client), bulk(database));
    }
    let client = clients[0];
    assert_eq!(ask(&mut driver, client, "SELECT 16"), OUT_OF_RANGE);
    assert_eq!(ask(&mut driver, client, "SELECT 1"), OK);
    assert_eq!(ask(&mut driver, client, "RESET"), "+RESET\r\n");
    driver.send(client, "GET k");
    reply_in(&mut driver, 0, &bulk("0"));
    assert_eq!(driver.output(client), bulk("0"));
    driver.engine.check_nothing_left();
}

#[test]
fn a_select_concerns_what_is_behind_it_only_and_is_answered_at_its_turn() {
    let mut driver = Driver::new();
    let client = client(&mut driver);
    driver.send(client, "SELECT 1");
    driver.send(client, "GET k");
    reply_in(&mut driver, 1, &bulk("1"));
    driver.send(client, "SELECT 0");
    driver.output(client);
    pipeline(
        &mut driver,
        client,
        &["SET k a", "SELECT 1", "SET other b", "SELECT 77"],
    );
    assert_eq!(only(&driver, 0).1, ["SET k a"]);
    assert_eq!(driver.output(client), "");
    reply_in(&mut driver, 0, OK);
    assert_eq!(driver.output(client), format!("{OK}{OK}"));
    let node = driver.owner("other");
    let (link, sent) = driver.in_database(node, 1).remove(0);
    assert_eq!(sent.last().unwrap(), "SET other b");
    driver.reply_on(link, OK);
    assert_eq!(driver.output(client), format!("{OK}{OUT_OF_RANGE}"));
    driver.engine.check_nothing_left();
}

#[test]
fn the_same_key_in_another_database_waits_for_what_may_move_it_there_g2() {
    let mut driver = Driver::new();
    let client = client(&mut driver);
    pipeline(&mut driver, client, &["SELECT 1", "GET k"]);
    reply_in(&mut driver, 1, &bulk("old"));
    driver.send(client, "SELECT 0");
    driver.output(client);
    pipeline(&mut driver, client, &["MOVE k 1", "SELECT 1", "GET k"]);
    assert_eq!(only(&driver, 0).1, ["MOVE k 1"]);
    assert_eq!(only(&driver, 1).1, ["GET k"], "only the earlier one");
    reply_in(&mut driver, 0, ":1\r\n");
    assert_eq!(only(&driver, 1).1, ["GET k", "GET k"]);
    reply_in(&mut driver, 1, &bulk("new"));
    assert_eq!(driver.output(client), format!(":1\r\n{OK}{}", bulk("new")));
    driver.engine.check_nothing_left();
}

#[test]
fn what_concerns_every_primary_does_so_in_the_database_of_the_session() {
    let mut driver = Driver::new();
    let client = client(&mut driver);
    pipeline(&mut driver, client, &["SELECT 3", "DBSIZE"]);
    for port in 7000..7003 {
        let (link, sent) = driver.in_database(port, 3).remove(0);
        assert_eq!(sent, ["DBSIZE"]);
        driver.reply_on(link, ":2\r\n");
    }
    assert_eq!(driver.output(client), format!("{OK}:6\r\n"));
    driver.engine.check_nothing_left();
}

#[test]
fn what_is_redirected_stays_in_its_database() {
    let mut driver = Driver::new();
    let client = client(&mut driver);
    pipeline(&mut driver, client, &["SELECT 2", "INCR k"]);
    let slot = crate::slot::Slot::of_key(b"k").get();
    let other = super::watch::another(&driver);
    reply_in(
        &mut driver,
        2,
        &format!("-ASK {slot} 127.0.0.1:{other}\r\n"),
    );
    let (link, sent) = driver.in_database(other, 2).remove(0);
    assert_eq!(sent, ["ASKING", "INCR k"]);
    driver.reply_on(link, "+OK\r\n:1\r\n");
    assert_eq!(driver.output(client), format!("{OK}:1\r\n"));
    driver.engine.check_nothing_left();
}

#[test]
fn a_node_without_the_database_says_so_and_is_used_on() {
    let mut driver = Driver::new();
    driver.databases = 2;
    let client = client(&mut driver);
    pipeline(&mut driver, client, &["SELECT 2", "GET k", "SET k 1"]);
    let expected = format!("{OK}{OUT_OF_RANGE}{OUT_OF_RANGE}");
    assert_eq!(driver.output(client), expected);
    assert_eq!(driver.connections_to(driver.owner("k")), 0);
    // It is no failure of the node: nothing waits for it.
    pipeline(&mut driver, client, &["SELECT 1", "GET k"]);
    reply_in(&mut driver, 1, &bulk("1"));
    assert_eq!(driver.output(client), format!("{OK}{}", bulk("1")));
    driver.engine.check_nothing_left();
}

#[test]
fn while_nobody_knows_how_many_there_are_select_waits_and_what_is_behind_it() {
    let mut driver = Driver::new();
    let (client, env) = driver.client_choosing(None);
    pipeline(&mut driver, client, &["SELECT 0", "SELECT 1", "GET k"]);
    driver.pass(Duration::from_millis(100));
    assert_eq!(driver.output(client), "");
    assert_eq!(driver.connections_to(driver.owner("k")), 0);
    *env.databases.borrow_mut() = sixteen();
    driver.pass(Duration::from_millis(20));
    assert_eq!(only(&driver, 1).1, ["GET k"]);
    reply_in(&mut driver, 1, &bulk("1"));
    assert_eq!(driver.output(client), format!("{OK}{OK}{}", bulk("1")));
    *env.databases.borrow_mut() = None;
    driver.send(client, "SELECT 2");
    driver.pass(Duration::from_secs(11));
    assert!(
        driver
            .output(client)
            .starts_with("-CLUSTERDOWN proxy: the servers have not told")
    );
    driver.engine.check_nothing_left();
}

#[test]
fn links_of_rarely_used_databases_are_closed_and_there_are_not_too_many() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let many = Databases {
        count: 1000,
        ..sixteen().unwrap()
    };
    driver.databases = 1000;
    let (client, _) = driver.client_choosing(Some(many.clone()));
    for database in 0..100 {
        pipeline(
            &mut driver,
            client,
            &[&format!("SELECT {database}"), "GET k"],
        );
        reply_in(&mut driver, database, &bulk("x"));
    }
    assert_eq!(driver.connections_to(node), 65, "64, and one in database 0");
    driver.output(client);
    driver.pass(Duration::from_secs(61));
    assert_eq!(driver.connections_to(node), 1);
    // All of them are in use: others wait, and are told if that takes long.
    let clients: Vec<SessionKey> = (1..=66)
        .map(|database| {
            let (client, _) = driver.client_choosing(Some(many.clone()));
            pipeline(
                &mut driver,
                client,
                &[&format!("SELECT {database}"), "GET k"],
            );
            assert_eq!(driver.output(client), OK);
            client
        })
        .collect();
    assert_eq!(driver.connections_to(node), 65);
    reply_in(&mut driver, 7, &bulk("7"));
    assert_eq!(driver.output(clients[6]), bulk("7"));
    driver.pass(Duration::from_millis(20));
    assert!(driver.in_database(node, 7).is_empty());
    reply_in(&mut driver, 65, &bulk("65"));
    driver.send(clients[64], "GET k");
    assert_eq!(driver.output(clients[64]), bulk("65"));
    driver.pass(Duration::from_millis(20));
    let next = driver.output(clients[65]);
    assert_eq!(next, "", "the link is in use again");
    for (client, database) in clients.iter().zip(1..=65) {
        if database != 7 {
            reply_in(&mut driver, database, &bulk("x"));
            assert_eq!(driver.output(*client), bulk("x"));
        }
    }
    driver.pass(Duration::from_millis(20));
    reply_in(&mut driver, 66, &bulk("66"));
    assert_eq!(driver.output(clients[65]), bulk("66"));
    driver.engine.check_nothing_left();
}

#[test]
fn who_waits_does_so_in_the_database_and_over_a_link_that_was_in_it() {
    let mut driver = Driver::new();
    let client = client(&mut driver);
    for database in [0, 1, 0, 1] {
        pipeline(
            &mut driver,
            client,
            &[&format!("SELECT {database}"), "BLPOP k 0"],
        );
        let (link, sent) = only(&driver, database);
        assert_eq!(sent.last().unwrap(), "BLPOP k 0");
        driver.reply_on(link, NIL);
        assert_eq!(driver.output(client), format!("{OK}{NIL}"));
    }
    assert_eq!(driver.connections_to(driver.owner("k")), 2);
    driver.engine.check_nothing_left();
}

#[test]
fn a_transaction_with_select_has_a_link_to_itself_and_the_session_follows_it_m4() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = client(&mut driver);
    pipeline(
        &mut driver,
        client,
        &[
            "MULTI",
            "SET k 0",
            "SELECT 1",
            "SELECT 99",
            "PING",
            "SELECT 2",
            "SET k 1",
            "EXEC",
            "GET k",
        ],
    );
    let (link, sent) = only(&driver, 0);
    let unit = [
        "MULTI", "SET k 0", "SELECT 1", "SELECT 2", "SET k 1", "EXEC",
    ];
    assert_eq!(sent, unit);
    let replies = format!("{OK}{}*4\r\n{OK}{OK}{OK}{OK}", QUEUED.repeat(4));
    driver.reply_on(link, &replies);
    assert_eq!(
        driver.connections_to(node),
        1,
        "closed, and another one in 2"
    );
    assert_eq!(only(&driver, 2).1, ["GET k"]);
    reply_in(&mut driver, 2, &bulk("1"));
    let queued = QUEUED.repeat(6);
    let executed = format!("*6\r\n{OK}{OK}{OUT_OF_RANGE}+PONG\r\n{OK}{OK}");
    let expected = format!("{OK}{queued}{executed}{}", bulk("1"));
    assert_eq!(driver.output(client), expected);
    driver.engine.check_nothing_left();
}

#[test]
fn a_transaction_that_was_not_executed_changes_no_database() {
    for (reply, shown) in [
        (
            format!(
                "{OK}-OOM command not allowed\r\n{QUEUED}-EXECABORT Transaction discarded because of previous errors.\r\n"
            ),
            "-EXECABORT Transaction discarded because of: OOM command not allowed\r\n".to_owned(),
        ),
        (
            format!("{OK}{QUEUED}{QUEUED}*2\r\n{OK}{OUT_OF_RANGE}"),
            format!("*2\r\n{OK}{OUT_OF_RANGE}"),
        ),
    ] {
        let mut driver = Driver::new();
        let client = client(&mut driver);
        pipeline(
            &mut driver,
            client,
            &["MULTI", "SET k 0", "SELECT 1", "EXEC", "GET k"],
        );
        reply_in(&mut driver, 0, &reply);
        assert_eq!(only(&driver, 0).1, ["GET k"], "over a new link");
        reply_in(&mut driver, 0, &bulk("0"));
        let expected = format!("{OK}{QUEUED}{QUEUED}{shown}{}", bulk("0"));
        assert_eq!(driver.output(client), expected);
        driver.engine.check_nothing_left();
    }
}

#[test]
fn where_there_is_one_database_a_transaction_goes_its_usual_way() {
    let mut driver = Driver::new();
    let client = driver.client();
    pipeline(
        &mut driver,
        client,
        &["MULTI", "SELECT 0", "SELECT 1", "SET k 0", "EXEC"],
    );
    reply_in(&mut driver, 0, &format!("{OK}{QUEUED}*1\r\n{OK}"));
    let refused = "-ERR SELECT is not allowed in cluster mode\r\n";
    let expected = format!("{OK}{}*3\r\n{OK}{refused}{OK}", QUEUED.repeat(3));
    assert_eq!(driver.output(client), expected);
    assert_eq!(driver.connections_to(driver.owner("k")), 1);
    driver.engine.check_nothing_left();
}

#[test]
fn watched_keys_stay_watched_when_the_database_changes() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = client(&mut driver);
    pipeline(
        &mut driver,
        client,
        &[
            "WATCH k", "SELECT 1", "GET k", "WATCH k", "MULTI", "SET k 1", "SELECT 2", "EXEC",
            "GET k",
        ],
    );
    let (link, _) = only(&driver, 0);
    driver.reply_on(link, OK);
    assert_eq!(driver.output(client), OK);
    assert_eq!(only(&driver, 0).1, ["WATCH k", "SELECT 1"]);
    driver.reply_on(link, OK);
    assert_eq!(driver.output(client), OK);
    reply_in(&mut driver, 1, &bulk("one"));
    driver.reply_on(link, OK);
    let expected = ["MULTI", "SET k 1", "SELECT 2", "EXEC"];
    assert!(only(&driver, 0).1.ends_with(&expected.map(str::to_owned)));
    driver.reply_on(link, &format!("{OK}{QUEUED}{QUEUED}*2\r\n{OK}{OK}"));
    assert!(driver.in_database(node, 0).is_empty(), "it is closed");
    reply_in(&mut driver, 2, &bulk("two"));
    let expected = format!(
        "{}{OK}{OK}{QUEUED}{QUEUED}*2\r\n{OK}{OK}{}",
        bulk("one"),
        bulk("two")
    );
    assert_eq!(driver.output(client), expected);
    driver.engine.check_nothing_left();
}

#[test]
fn a_select_over_a_watching_link_that_is_lost_is_carried_out_here() {
    let mut driver = Driver::new();
    let client = client(&mut driver);
    driver.send(client, "WATCH k");
    reply_in(&mut driver, 0, OK);
    driver.send(client, "SELECT 1");
    let (link, _) = only(&driver, 0);
    driver.lose(link, crate::engine::LinkLoss::Closed);
    assert_eq!(driver.output(client), format!("{OK}{OK}"));
    pipeline(&mut driver, client, &["MULTI", "SET k 1", "EXEC"]);
    assert_eq!(driver.output(client), format!("{OK}{QUEUED}{NIL}"));
    driver.send(client, "GET k");
    driver.pass(Duration::from_millis(200));
    assert_eq!(only(&driver, 1).1, ["GET k"]);
    reply_in(&mut driver, 1, &bulk("1"));
    assert_eq!(driver.output(client), bulk("1"));
    driver.engine.check_nothing_left();
}

#[test]
fn a_big_request_is_sent_on_in_its_database() {
    let mut driver = Driver::new();
    let client = client(&mut driver);
    assert_eq!(ask(&mut driver, client, "SELECT 5"), OK);
    let request = encode(&format!("SET k {}", "x".repeat(5 << 20)));
    for piece in request.chunks(1 << 20) {
        driver.send_raw(client, piece);
    }
    let (link, sent) = only(&driver, 5);
    assert_eq!(sent.len(), 1);
    driver.reply_on(link, OK);
    assert_eq!(driver.output(client), OK);
    driver.engine.check_nothing_left();
}

//! CLIENT TRACKING: whose links are used, and what a client is told when [N2].

use std::time::Duration;

use super::driver::{Driver, bulk, encode};
use crate::engine::{LinkLoss, SessionKey};
use crate::local::{Databases, ListenerSettings};
use crate::resp::Protocol;
use crate::slot::Slot;

const OK: &str = "+OK\r\n";
const ALL: &str = ">2\r\n$10\r\ninvalidate\r\n_\r\n";

/// What a node or the proxy says of a key.
fn changed(key: &str) -> String {
    format!(">2\r\n$10\r\ninvalidate\r\n*1\r\n{}", bulk(key))
}

fn client(driver: &mut Driver) -> SessionKey {
    driver.client_of(ListenerSettings {
        tracking: true,
        ..ListenerSettings::default()
    })
}

/// A client in RESP3 that has asked for this.
fn tracking(driver: &mut Driver, options: &str) -> SessionKey {
    let client = client(driver);
    driver.send(client, "HELLO 3");
    driver.output(client);
    driver.send(client, &format!("CLIENT TRACKING ON{options}"));
    assert_eq!(driver.output(client), OK);
    client
}

#[test]
fn a_client_that_tracks_keys_has_links_of_its_own_n2() {
    let mut driver = Driver::new();
    let other = driver.client();
    let client = tracking(&mut driver, " NOLOOP");
    let node = driver.owner("k");
    assert!(!driver.is_connected(node), "when it reads");
    driver.send(other, "GET k");
    driver.send(client, "GET k");
    driver.send(client, "SET k 1");
    let asked = ["CLIENT TRACKING ON NOLOOP", "GET k", "SET k 1"];
    assert_eq!(driver.resp3_requests(node), asked);
    assert_eq!(driver.requests(node), ["GET k"]);
    driver.reply_resp3(node, &format!("{}{}{OK}", bulk("0"), changed("k")));
    let expected = format!("{}{}{OK}", bulk("0"), changed("k"));
    assert_eq!(driver.output(client), expected);
    driver.reply(node, &bulk("1"));
    assert_eq!(driver.output(other), bulk("1"));
    driver.send(client, "CLIENT TRACKING OFF");
    assert_eq!(driver.output(client), OK);
    assert_eq!(driver.connections_to(node), 1, "its own is closed");
    driver.engine.check_nothing_left();
}

#[test]
fn nothing_is_told_before_the_reply_that_it_is_about_n2() {
    let mut driver = Driver::new();
    let client = tracking(&mut driver, "");
    let (first, second) = driver.two_keys_on_two_nodes();
    driver.send(client, &format!("GET {first}"));
    driver.send(client, &format!("GET {second}"));
    let (slow, fast) = (driver.owner(&first), driver.owner(&second));
    driver.reply_resp3(fast, &(bulk("2") + &changed(&second)));
    assert_eq!(driver.output(client), "");
    driver.reply_resp3(slow, &bulk("1"));
    let expected = bulk("1") + &bulk("2") + &changed(&second);
    assert_eq!(driver.output(client), expected);

    driver.send(client, &format!("MGET {first} {second}"));
    driver.reply_resp3(
        fast,
        &("*1\r\n".to_owned() + &bulk("3") + &changed(&second)),
    );
    assert_eq!(driver.output(client), "");
    driver.reply_resp3(slow, &("*1\r\n".to_owned() + &bulk("4")));
    let expected = "*2\r\n".to_owned() + &bulk("4") + &bulk("3") + &changed(&second);
    assert_eq!(driver.output(client), expected);

    // What waits at a node, and is no answer yet, holds nothing.
    driver.send(client, &format!("BLPOP {first} 0"));
    driver.reply_resp3(fast, &changed(&second));
    assert_eq!(driver.output(client), changed(&second));
    driver.leave(client);
}

#[test]
fn what_is_passed_on_is_not_interrupted_n2() {
    let mut driver = Driver::with(|limits| limits.pass_on_bytes = 16);
    let client = tracking(&mut driver, "");
    let (big, other) = driver.two_keys_on_two_nodes();
    driver.send(client, &format!("GET {other}"));
    driver.reply_resp3(driver.owner(&other), &bulk("x"));
    driver.send(client, &format!("GET {big}"));
    let node = driver.owner(&big);
    driver.reply_resp3(node, "$40\r\n0123456789");
    driver.reply_resp3(driver.owner(&other), &changed(&other));
    assert_eq!(driver.output(client), bulk("x") + "$40\r\n0123456789");
    driver.reply_resp3(node, &("0123456789".repeat(3) + "\r\n"));
    let expected = "0123456789".repeat(3) + "\r\n" + &changed(&other);
    assert_eq!(driver.output(client), expected);
}

#[test]
fn a_lost_link_and_a_slot_that_moves_make_everything_forgotten_n2() {
    let mut driver = Driver::new();
    let client = tracking(&mut driver, "");
    let node = driver.owner("k");
    driver.send(client, "GET k");
    driver.reply_resp3(node, &bulk("1"));
    driver.output(client);
    let link = driver.link(node, Protocol::Resp3);
    driver.lose(link, LinkLoss::Closed);
    assert_eq!(driver.output(client), ALL);
    driver.pass(Duration::from_secs(1));
    driver.send(client, "GET k");
    assert_eq!(driver.resp3_requests(node), ["CLIENT TRACKING ON", "GET k"]);
    driver.reply_resp3(node, &bulk("2"));
    assert_eq!(driver.output(client), bulk("2"));

    // A reply that is under way is to be forgotten, too.
    let there = if node == 7000 { 7001 } else { 7000 };
    driver.send(client, "GET k");
    driver.adopt(2, &[("k", there)]);
    assert_eq!(driver.output(client), ALL);
    driver.reply_resp3(node, &bulk("3"));
    assert_eq!(driver.output(client), bulk("3") + ALL);
    driver.send(client, "GET k");
    assert_eq!(
        driver.resp3_requests(there),
        ["CLIENT TRACKING ON", "GET k"]
    );
    driver.reply_resp3(there, &bulk("4"));
    assert_eq!(driver.output(client), bulk("4"));
    driver.adopt(3, &[("k", there)]);
    assert_eq!(driver.output(client), "", "nothing has moved");
}

#[test]
fn caching_goes_before_its_command_in_one_piece_n2() {
    let mut driver = Driver::new();
    let client = tracking(&mut driver, " OPTIN");
    let node = driver.owner("k");
    let commands = [
        "GET k",
        "CLIENT CACHING YES",
        "CLIENT ID",
        "GET k",
        "CLIENT CACHING YES",
        "MULTI",
        "GET k",
        "EXEC",
        "CLIENT CACHING YES",
        "PING",
        "GET k",
    ];
    for command in commands {
        driver.send(client, command);
    }
    let first = "CLIENT TRACKING ON OPTIN|GET k|CLIENT CACHING YES|GET k";
    assert_eq!(driver.resp3_requests(node).join("|"), first);
    driver.reply_resp3(node, &(bulk("1") + OK + &bulk("2")));
    let unit = "|CLIENT CACHING YES|MULTI|GET k|EXEC";
    assert_eq!(
        driver.resp3_requests(node).join("|"),
        format!("{first}{unit}")
    );
    let executed = "*1\r\n".to_owned() + &bulk("3");
    driver.reply_resp3(node, &(OK.to_owned() + OK + "+QUEUED\r\n" + &executed));
    assert_eq!(
        driver.resp3_requests(node).join("|"),
        format!("{first}{unit}|GET k")
    );
    driver.reply_resp3(node, &bulk("4"));
    let output = driver.output(client);
    assert!(
        output.ends_with(&bulk("4")) || output.ends_with(ALL),
        "{output}"
    );
    assert!(output.contains(&executed) && output.contains("+PONG\r\n"));

    // With ASKING a node does not take it: what is read there is to be forgotten at once.
    driver.send(client, "CLIENT CACHING YES");
    driver.send(client, "GET k");
    driver.output(client);
    let there = if node == 7000 { 7001 } else { 7000 };
    let slot = Slot::of_key(b"k").get();
    driver.reply_resp3(node, &format!("{OK}-ASK {slot} 127.0.0.1:{there}\r\n"));
    let asked = ["CLIENT TRACKING ON OPTIN", "ASKING", "GET k"];
    assert_eq!(driver.resp3_requests(there), asked);
    driver.reply_resp3(there, &(OK.to_owned() + &bulk("5")));
    assert_eq!(driver.output(client), bulk("5") + ALL);
}

#[test]
fn caching_is_for_each_part_of_a_command_n2() {
    let mut driver = Driver::new();
    let client = tracking(&mut driver, " OPTOUT");
    let (first, second) = driver.two_keys_on_two_nodes();
    driver.send(client, "CLIENT CACHING NO");
    driver.send(client, &format!("MGET {first} {second}"));
    for key in [&first, &second] {
        let node = driver.owner(key);
        let expected = [
            "CLIENT TRACKING ON OPTOUT".to_owned(),
            "CLIENT CACHING NO".to_owned(),
            format!("MGET {key}"),
        ];
        assert_eq!(driver.resp3_requests(node), expected);
        driver.reply_resp3(node, &(OK.to_owned() + "*1\r\n" + &bulk("x")));
    }
    let both = "*2\r\n".to_owned() + &bulk("x") + &bulk("x");
    assert_eq!(driver.output(client), OK.to_owned() + &both);
}

#[test]
fn all_primaries_tell_of_all_keys_n2() {
    let mut driver = Driver::new();
    let client = client(&mut driver);
    driver.send(client, "HELLO 3");
    driver.output(client);
    driver.send(client, "CLIENT TRACKING ON BCAST PREFIX a");
    for node in 7000..7003 {
        assert_eq!(driver.output(client), "", "{node} does not know yet");
        let asked = ["CLIENT TRACKING ON BCAST PREFIX a", "CLIENT REPLY ON"];
        assert_eq!(driver.resp3_requests(node), asked);
        driver.reply_resp3(node, OK);
    }
    assert_eq!(driver.output(client), OK);
    driver.reply_resp3(7001, &changed("ab"));
    assert_eq!(driver.output(client), changed("ab"));
    let link = driver.link(7001, Protocol::Resp3);
    driver.lose(link, LinkLoss::Closed);
    assert_eq!(driver.output(client), ALL);
    driver.pass(Duration::from_millis(500));
    assert!(driver.is_connected(7001), "though nothing is asked");
    assert_eq!(
        driver.output(client),
        ALL,
        "what has happened since is missed"
    );
}

#[test]
fn in_resp2_another_connection_hears_n2() {
    let mut driver = Driver::new();
    let client = client(&mut driver);
    let node = driver.owner("k");
    driver.send(client, "CLIENT TRACKING ON");
    driver.send(client, "GET k");
    driver.pass(Duration::from_millis(10));
    let receiver = driver.link(node, Protocol::Resp3);
    assert_eq!(driver.connections_to(node), 2);
    let asked = driver.all_requests(node);
    assert!(
        asked[0].starts_with("CLIENT TRACKING ON REDIRECT "),
        "{asked:?}"
    );
    assert_eq!(asked[1], "GET k");
    driver.reply_where_asked(node, &bulk("1"));
    driver.reply_on(receiver, &changed("k"));
    assert_eq!(driver.output(client), OK.to_owned() + &bulk("1"));
    // Without it nobody is told: the other one is of no use any more.
    driver.lose(receiver, LinkLoss::Closed);
    assert_eq!(driver.connections_to(node), 0);
    driver.engine.check_nothing_left();
}

#[test]
fn what_another_client_tracks_is_told_in_either_version_n2() {
    let mut driver = Driver::new();
    let client = client(&mut driver);
    driver.engine.on_redirected(client, b"*1\r\n$1\r\nk\r\n");
    assert_eq!(driver.output(client), "", "it has no way to be told");
    driver.send(client, "HELLO 3");
    driver.output(client);
    driver.engine.on_redirected(client, b"*1\r\n$1\r\nk\r\n");
    driver.engine.on_redirected(client, b"_\r\n");
    assert_eq!(driver.output(client), changed("k") + ALL);
}

#[test]
fn their_links_are_bounded_n2() {
    let mut driver = Driver::with(|limits| limits.private_links = 2);
    let clients = [0; 3].map(|_| tracking(&mut driver, ""));
    let node = driver.owner("k");
    for client in clients {
        driver.engine.on_client(client, &encode("GET k"));
        driver.settle();
    }
    let refused = "-ERR proxy: too many tracking sessions\r\n";
    assert_eq!(driver.output(clients[2]), refused);
    driver.leave(clients[0]);
    driver.answer_all(node, &bulk("x"));
    driver.send(clients[2], "GET k");
    driver.answer_all(node, &bulk("x"));
    assert_eq!(driver.output(clients[2]), bulk("x"));
}

/// [N21]
#[test]
fn links_are_in_the_database_of_the_session_n2() {
    let mut driver = Driver::with(|limits| limits.private_links = 8);
    let node = driver.owner("k");
    let sent = |driver: &Driver, database| -> Vec<String> {
        let links = driver.in_database(node, database).into_iter();
        links.flat_map(|(_, sent)| sent).collect()
    };
    let client = client_in_databases(&mut driver);
    driver.send(client, "HELLO 3");
    driver.send(client, "CLIENT TRACKING ON");
    driver.send(client, "GET k");
    driver.reply_resp3(node, &bulk("0"));
    driver.output(client);
    driver.send(client, "GET k");
    driver.send(client, "SELECT 3");
    driver.pass(Duration::from_millis(1));
    driver.send(client, "GET k");
    assert_eq!(sent(&driver, 0), ["CLIENT TRACKING ON", "GET k", "GET k"]);
    assert_eq!(sent(&driver, 3), ["CLIENT TRACKING ON", "GET k"]);
    let (first, _) = driver.in_database(node, 0).remove(0);
    driver.reply_on(first, &bulk("1"));
    // What is under way is to be forgotten, too.
    assert_eq!(driver.output(client), bulk("1") + OK + ALL + ALL);
    assert!(
        driver.in_database(node, 0).is_empty(),
        "the first one is closed"
    );
    let (second, _) = driver.in_database(node, 3).remove(0);
    driver.reply_on(second, &(bulk("2") + &changed("k")));
    assert_eq!(driver.output(client), bulk("2") + &changed("k"));

    // It is not closed as one of many that are rarely used.
    let mut answered = 0;
    for _ in 0..90 {
        driver.pass(Duration::from_secs(1));
        let (link, sent) = driver.in_database(node, 3).remove(0);
        let asked = sent.iter().filter(|command| *command == "PING").count();
        driver.reply_on(link, &"+PONG\r\n".repeat(asked - answered));
        answered = asked;
    }
    assert!(answered > 10);
    driver.send(client, "SELECT 3");
    assert_eq!(driver.output(client), OK, "nothing has changed");
    driver.send(client, "HELLO 2");
    driver.output(client);
    driver.send(client, "GET k");
    driver.pass(Duration::from_secs(1));
    let receivers = driver.in_database(node, 0);
    assert_eq!(receivers.len(), 1, "it is in database 0");
    let asked = sent(&driver, 3);
    assert!(
        asked[0].starts_with("CLIENT TRACKING ON REDIRECT "),
        "{asked:?}"
    );
    let (third, _) = driver.in_database(node, 3).remove(0);
    driver.reply_on(third, &bulk("3"));
    assert_eq!(driver.output(client), bulk("3"));
    // Without a receiver it is of no use.
    driver.lose(receivers[0].0, LinkLoss::Closed);
    assert!(driver.in_database(node, 3).is_empty());
    driver.leave(client);
    driver.engine.check_nothing_left();
}

fn client_in_databases(driver: &mut Driver) -> SessionKey {
    let listener = ListenerSettings {
        tracking: true,
        ..ListenerSettings::default()
    };
    let databases = Databases {
        count: 16,
        refusal: "ERR DB index is out of range".into(),
    };
    driver.client_of_choosing(listener, Some(databases)).0
}

//! Big strings on their way through: given while they arrive, held back for a slow client, cut off with their node.

use std::time::Duration;

use super::driver::{Driver, bulk};
use crate::metrics::CloseReason;
use crate::resp::Protocol;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A value and the reply with it, of many different bytes.
fn value(length: usize) -> String {
    let text: String = (0..length)
        .map(|n| char::from(b"abcdefghijklmnopqrstuvw"[n % 23]))
        .collect();
    bulk(&text)
}

#[test]
fn a_big_string_is_given_while_it_arrives() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "GET k");
    driver.send(client, "GET l");
    let reply = value(MIB / 2);
    let mut got = String::new();
    for piece in reply.as_bytes().chunks(10_007) {
        driver.reply(node, std::str::from_utf8(piece).unwrap());
        got += &driver.output(client);
    }
    assert_eq!(got, reply);
    assert!(driver.peak_output < 200 * KIB, "{}", driver.peak_output);
    let other = driver.owner("l");
    driver.reply(other, &bulk("v"));
    assert_eq!(
        driver.output(client),
        bulk("v"),
        "what is behind it is read as ever"
    );
}

#[test]
fn a_big_string_may_be_cut_anywhere_by_the_network() {
    for length in [128 * KIB, 200 * KIB] {
        let reply = value(length);
        for end in [reply.len() - 3, reply.len() - 2, reply.len() - 1] {
            let mut driver = Driver::new();
            let client = driver.client();
            let node = driver.owner("k");
            driver.send(client, "GET k");
            driver.send(client, "GET k");
            driver.reply(node, &reply[..70 * KIB]);
            driver.reply(node, &reply[70 * KIB..end]);
            driver.reply(node, &format!("{}{}", &reply[end..], bulk("next")));
            assert_eq!(driver.output(client), format!("{reply}{}", bulk("next")));
        }
    }
}

#[test]
fn a_string_longer_than_announced_costs_its_client_and_its_link() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "GET k");
    let reply = value(200 * KIB);
    driver.reply(node, &reply[..reply.len() - 2]);
    driver.reply(node, "xy");
    assert_eq!(driver.engine.must_close(client), Some(CloseReason::Error));
    assert!(!driver.is_connected(node));
}

/// What the client has got already cannot be taken back; a server that dies closes the connection, too.
#[test]
fn a_client_in_the_middle_of_a_string_is_disconnected_when_the_node_dies() {
    let mut driver = Driver::new();
    let (client, other) = (driver.client(), driver.client());
    let node = driver.owner("k");
    driver.send(client, "GET k");
    driver.send(other, "GET k");
    let reply = value(MIB);
    driver.reply(node, &reply[..500 * KIB]);
    driver.cut(node);
    driver.pass(Duration::from_millis(200));
    assert_eq!(driver.engine.must_close(client), Some(CloseReason::Error));
    assert_eq!(
        driver.output(client),
        reply[..500 * KIB],
        "nothing wrong is written"
    );
    driver.leave(client);
    driver.pass(Duration::from_millis(200));
    driver.reply(node, &bulk("v").repeat(driver.requests(node).len()));
    assert_eq!(driver.output(other), bulk("v"), "a read is sent again [D3]");
}

/// Its client is disconnected and would not get the reply.
#[test]
fn a_read_that_was_cut_off_is_not_sent_again() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "GET k");
    driver.send(client, "GET k");
    driver.reply(node, &value(MIB)[..500 * KIB]);
    driver.cut(node);
    driver.pass(Duration::from_millis(200));
    assert!(!driver.is_connected(node), "there is nothing to ask");
    assert_eq!(driver.engine.metrics().retries.iter().sum::<u64>(), 0);
    assert_eq!(driver.engine.must_close(client), Some(CloseReason::Error));
    driver.leave(client);
    driver.engine.check_nothing_left();
}

#[test]
fn a_string_waits_for_the_replies_before_it() {
    let mut driver = Driver::new();
    let client = driver.client();
    let (first, second) = driver.two_keys_on_two_nodes();
    driver.send(client, &format!("GET {first}"));
    driver.send(client, &format!("GET {second}"));
    let reply = value(300 * KIB);
    let (slow, fast) = (driver.owner(&first), driver.owner(&second));
    driver.reply(fast, &reply[..200 * KIB]);
    assert_eq!(driver.output(client), "");
    driver.reply(slow, &bulk("1"));
    driver.reply(fast, &reply[200 * KIB..]);
    assert_eq!(driver.output(client), format!("{}{reply}", bulk("1")));
}

#[test]
fn a_link_waits_for_a_slow_client_and_others_use_another_one() {
    let mut driver = Driver::new();
    let (slow, other) = (driver.client(), driver.client());
    let node = driver.owner("k");
    driver.send(slow, "GET k");
    let reply = value(8 * MIB);
    let link = driver.link(node, Protocol::Resp2);
    let mut sent = 0;
    while driver.engine.wants_link_input(link) {
        driver.reply(node, &reply[sent..sent + 64 * KIB]);
        sent += 64 * KIB;
    }
    assert!(
        sent < 2 * MIB,
        "{sent} bytes taken for a client that reads none"
    );
    driver.send(other, "GET k");
    driver.reply_where_asked(node, &bulk("v"));
    assert_eq!(
        driver.output(other),
        bulk("v"),
        "nobody waits for the slow one"
    );
    driver.pass(Duration::from_secs(30));
    let mut got = driver.output(slow);
    assert!(driver.engine.wants_link_input(link));
    driver.engine.on_link_read(link, &reply.as_bytes()[sent..]);
    driver.settle();
    got += &driver.output(slow);
    assert!(got == reply);
    driver.pass(Duration::from_millis(10));
    assert_eq!(
        driver.connections_to(node),
        1,
        "the link has served its turn"
    );
}

#[test]
fn a_client_that_reads_nothing_of_a_string_is_disconnected_in_the_end() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "GET k");
    driver.reply(node, &value(8 * MIB)[..3 * MIB]);
    driver.pass(Duration::from_secs(59));
    assert_eq!(driver.engine.must_close(client), None);
    driver.pass(Duration::from_secs(2));
    assert_eq!(driver.engine.must_close(client), Some(CloseReason::Error));
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_string_frees_its_link() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "GET k");
    driver.reply(node, &value(8 * MIB)[..3 * MIB]);
    driver.leave(client);
    assert!(!driver.is_connected(node));
}

#[test]
fn sessions_with_big_values_have_links_of_their_own_and_keep_their_order() {
    let mut driver = Driver::new();
    let (big, small) = (driver.client(), driver.client());
    let node = driver.owner("k");
    driver.send(small, "GET k");
    driver.send(big, "SET k 1");
    driver.send(big, &format!("SET k {}", "v".repeat(100 * KIB)));
    assert_eq!(
        driver.requests(node),
        ["GET k", "SET k 1"],
        "the second write waits: it goes over another link"
    );
    driver.reply(node, &(bulk("0") + "+OK\r\n"));
    assert_eq!(driver.connections_to(node), 2);
    driver.send(small, "GET k");
    assert_eq!(driver.requests(node), ["GET k", "SET k 1", "GET k"]);
    driver.reply(node, &bulk("1"));
    driver.reply_where_asked(node, "+OK\r\n");
    assert_eq!(driver.output(big), "+OK\r\n+OK\r\n");
    for _ in 0..20 {
        driver.send(big, "GET k");
        driver.reply_where_asked(node, &bulk("x"));
        assert_eq!(driver.output(big), bulk("x"));
    }
    driver.pass(Duration::from_secs(11));
    assert_eq!(driver.connections_to(node), 1, "no use for a second one");
}

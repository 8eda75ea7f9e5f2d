//! Tests of the engine against nodes played by the test: what is sent where, and what each client gets.

mod acks;
mod algebra;
mod blocking;
mod blocking_faults;
mod choices;
mod databases;
mod driver;
mod failures;
mod learned;
mod monitor;
mod order;
mod outage;
mod overdue;
mod parts;
mod passage;
mod pause;
mod private;
mod pubsub;
mod reads;
mod reads_faults;
mod reads_primary;
mod reads_rules;
mod reconnect;
mod reply_memory;
mod request_memory;
mod scan;
mod scripts;
mod silence;
mod slow;
mod soft_limit;
mod topology;
mod tracking;
mod tracking_faults;
mod transaction;
mod unit;
mod upload;
mod watch;
mod watch_faults;

use driver::{Driver, bulk};

#[test]
fn a_request_goes_to_the_owner_of_its_slot_and_its_reply_back() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "GET a1");
    let node = driver.owner("a1");
    assert_eq!(driver.requests(node), ["GET a1"]);
    driver.reply(node, &bulk("x"));
    assert_eq!(driver.output(client), "$1\r\nx\r\n");
}

#[test]
fn replies_come_in_request_order_whatever_node_is_faster_g1() {
    let mut driver = Driver::new();
    let client = driver.client();
    let (first, second) = driver.two_keys_on_two_nodes();
    driver.send(client, &format!("GET {first}"));
    driver.send(client, &format!("GET {second}"));
    driver.send(client, "PING");
    let (slow, fast) = (driver.owner(&first), driver.owner(&second));
    driver.reply(fast, &bulk("second"));
    assert_eq!(driver.output(client), "", "the first reply is still owed");
    driver.reply(slow, &bulk("first"));
    assert_eq!(
        driver.output(client),
        format!("{}{}+PONG\r\n", bulk("first"), bulk("second"))
    );
}

#[test]
fn clients_of_one_node_share_one_link() {
    let mut driver = Driver::new();
    let clients = [driver.client(), driver.client(), driver.client()];
    for client in clients {
        driver.send(client, "INCR n");
    }
    let node = driver.owner("n");
    assert_eq!(driver.requests(node), ["INCR n", "INCR n", "INCR n"]);
    driver.reply(node, ":1\r\n:2\r\n:3\r\n");
    for (client, expected) in clients.into_iter().zip([":1\r\n", ":2\r\n", ":3\r\n"]) {
        assert_eq!(driver.output(client), expected);
    }
}

#[test]
fn requests_and_replies_split_at_any_byte() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    for byte in driver::encode("SET k value").chunks(1) {
        driver.send_raw(client, byte);
    }
    assert_eq!(driver.requests(node), ["SET k value"]);
    for byte in "+OK\r\n".as_bytes().chunks(1) {
        driver.reply(node, std::str::from_utf8(byte).unwrap());
    }
    assert_eq!(driver.output(client), "+OK\r\n");
}

#[test]
fn a_client_beyond_the_in_flight_cap_waits_and_loses_nothing() {
    let mut driver = Driver::with(|limits| limits.session_in_flight = 4);
    let client = driver.client();
    let node = driver.owner("k");
    let ten: Vec<u8> = (0..10).flat_map(|_| driver::encode("INCR k")).collect();
    driver.send_raw(client, &ten);
    assert!(!driver.engine.wants_input(client));
    assert_eq!(driver.requests(node).len(), 4);
    let mut expected = String::new();
    for number in 1..=10 {
        driver.reply(node, &format!(":{number}\r\n"));
        expected += &format!(":{number}\r\n");
    }
    assert_eq!(driver.requests(node).len(), 10);
    assert_eq!(driver.output(client), expected);
    assert!(driver.engine.wants_input(client));
}

#[test]
fn bad_bytes_of_a_client_end_it_after_its_replies_y6() {
    let mut driver = Driver::new();
    let (bad, good) = (driver.client(), driver.client());
    let node = driver.owner("k");
    driver.send(good, "GET k");
    driver.send(bad, "GET k");
    driver.send_raw(bad, b"*1\r\nx\r\n");
    assert_eq!(driver.engine.must_close(bad), None, "a reply is still owed");
    driver.reply(node, &(bulk("1") + &bulk("2")));
    assert_eq!(
        driver.output(bad),
        bulk("2") + "-ERR Protocol error: expected '$', got 'x'\r\n"
    );
    assert!(driver.engine.must_close(bad).is_some());
    assert_eq!(driver.output(good), bulk("1"));
    assert_eq!(driver.engine.must_close(good), None);
}

#[test]
fn bad_bytes_of_a_client_leave_no_trace_for_the_next_one() {
    let mut driver = Driver::new();
    let (bad, good) = (driver.client(), driver.client());
    driver.send_raw(bad, b"*3\r\n$3\r\nSET\r\nx\r\n");
    driver.send(good, "ECHO abc");
    assert_eq!(driver.output(good), bulk("abc"));
}

#[test]
fn resp3_sessions_use_resp3_links_y3() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "SET k 1");
    driver.send(client, "HELLO 3");
    driver.send(client, "GET k");
    let node = driver.owner("k");
    // The read waits for the write: they go over two links [O2].
    assert_eq!(driver.requests(node), ["SET k 1"]);
    driver.reply(node, "+OK\r\n");
    assert_eq!(driver.resp3_requests(node), ["GET k"]);
    driver.reply_resp3(node, "_\r\n");
    let output = driver.output(client);
    assert!(output.starts_with("+OK\r\n%7\r\n"), "{output}");
    assert!(output.ends_with("_\r\n"), "{output}");
}

#[test]
fn client_reply_off_and_skip_hide_replies_l1() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    for command in [
        "CLIENT REPLY SKIP",
        "SET k 1",
        "GET k",
        "CLIENT REPLY OFF",
        "SET k 2",
        "PING",
        "CLIENT REPLY ON",
    ] {
        driver.send(client, command);
    }
    driver.reply(node, &format!("+OK\r\n{}+OK\r\n", bulk("1")));
    assert_eq!(driver.output(client), bulk("1") + "+OK\r\n");
}

#[test]
fn a_client_that_leaves_takes_no_reply_of_another() {
    let mut driver = Driver::new();
    let (leaver, stayer) = (driver.client(), driver.client());
    let node = driver.owner("k");
    driver.send(leaver, "GET k");
    driver.send(stayer, "GET k");
    driver.leave(leaver);
    let newcomer = driver.client();
    driver.send(newcomer, "GET k");
    driver.reply(node, &(bulk("old") + &bulk("stayer") + &bulk("new")));
    assert_eq!(driver.output(stayer), bulk("stayer"));
    assert_eq!(driver.output(newcomer), bulk("new"));
}

#[test]
fn nothing_is_sent_before_the_password() {
    let mut driver = Driver::new();
    let client = driver.client_with_password("secret");
    driver.send(client, "GET k");
    driver.send(client, "AUTH wrong");
    driver.send(client, "AUTH secret");
    driver.send(client, "GET k");
    let node = driver.owner("k");
    assert_eq!(driver.requests(node), ["GET k"]);
    driver.reply(node, &bulk("v"));
    let output = driver.output(client);
    assert!(
        output.starts_with("-NOAUTH Authentication required.\r\n-WRONGPASS"),
        "{output}"
    );
    assert!(
        output.ends_with(&("+OK\r\n".to_owned() + &bulk("v"))),
        "{output}"
    );
}

#[test]
fn draining_answers_what_was_taken_and_then_ends_d12() {
    let mut driver = Driver::new();
    let (busy, idle) = (driver.client(), driver.client());
    let node = driver.owner("k");
    driver.send(busy, "GET k");
    driver.engine.drain();
    assert!(driver.engine.must_close(idle).is_some());
    assert_eq!(driver.engine.must_close(busy), None);
    driver.reply(node, &bulk("v"));
    assert_eq!(driver.output(busy), bulk("v"));
    assert!(driver.engine.must_close(busy).is_some());
}

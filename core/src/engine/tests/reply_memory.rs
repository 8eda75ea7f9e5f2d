//! Replies that are big, many, or not read: memory is bounded, nothing is lost and nobody waits for ever [D13].

use std::time::Duration;

use super::driver::{Driver, bulk, encode};
use crate::engine::SessionKey;
use crate::metrics::CloseReason;

const KIB: usize = 1 << 10;

/// Sends `count` requests in one piece.
fn burst(driver: &mut Driver, client: SessionKey, count: usize) {
    let bytes: Vec<u8> = (0..count).flat_map(|_| encode("GET k")).collect();
    driver.send_raw(client, &bytes);
}

/// The node answers what it has got of `k` with values of `length`; how much that was.
fn answer(driver: &mut Driver, answered: &mut usize, length: usize) -> usize {
    let node = driver.owner("k");
    let count = driver.answer_all(node, &bulk(&"v".repeat(length)));
    *answered += count;
    count
}

#[test]
fn replies_of_unknown_size_are_asked_for_with_care() {
    let mut driver = Driver::with(|limits| limits.output_pause_bytes = 512 * KIB);
    let client = driver.client();
    let mut answered = 0;
    burst(&mut driver, client, 100);
    assert_eq!(answer(&mut driver, &mut answered, 3), 4);
    let next = answer(&mut driver, &mut answered, 3);
    assert!(
        (8..40).contains(&next),
        "{next} when 4 small ones were seen"
    );
    driver.output(client);
    while answered < 100 {
        assert!(answer(&mut driver, &mut answered, 3) > 0);
        driver.output(client);
    }
    burst(&mut driver, client, 200);
    assert_eq!(answer(&mut driver, &mut answered, 3), 200);
}

#[test]
fn a_session_that_gets_only_errors_is_known_too() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    burst(&mut driver, client, 4);
    assert_eq!(driver.answer_all(node, wrong), 4);
    driver.output(client);
    burst(&mut driver, client, 40);
    assert_eq!(driver.answer_all(node, wrong), 40);
}

#[test]
fn a_new_session_does_not_pass_for_one_like_the_others() {
    let mut driver = Driver::with(|limits| limits.output_pause_bytes = 400 * KIB);
    let (usual, greedy) = (driver.client(), driver.client());
    let mut answered = 0;
    let mut small_ones = |driver: &mut Driver| {
        burst(driver, usual, 200);
        while answer(driver, &mut answered, 3) > 0 {
            driver.output(usual);
        }
        burst(driver, usual, 200);
        assert_eq!(
            answer(driver, &mut answered, 3),
            200,
            "GET is known as small"
        );
        driver.output(usual);
    };
    small_ones(&mut driver);
    burst(&mut driver, greedy, 100);
    let mut big_ones = 0;
    assert_eq!(answer(&mut driver, &mut big_ones, 100 * KIB), 4);
    small_ones(&mut driver);
    while big_ones < 100 {
        driver.output(greedy);
        let next = answer(&mut driver, &mut big_ones, 100 * KIB);
        assert!(
            (1..=4).contains(&next),
            "{next}, though its replies are big"
        );
    }
}

#[test]
fn a_session_with_its_share_outstanding_waits_until_its_client_has_read() {
    let mut driver = Driver::with(|limits| {
        limits.output_pause_bytes = 300 * KIB;
        limits.input_ahead_bytes = KIB;
    });
    let client = driver.client();
    let (mut answered, mut got) = (0, 0);
    burst(&mut driver, client, 20);
    while answer(&mut driver, &mut answered, 100 * KIB) > 0 {}
    assert!(
        answered < 10,
        "{answered} replies for a client that reads none"
    );
    assert!(
        driver.engine.wants_input(client),
        "it may read only when it has sent all"
    );
    burst(&mut driver, client, 40);
    assert!(!driver.engine.wants_input(client), "but not without end");
    for _ in 0..100 {
        got += driver.output(client).len();
        answer(&mut driver, &mut answered, 100 * KIB);
    }
    assert_eq!(got, 60 * bulk(&"v".repeat(100 * KIB)).len());
    assert_eq!(answered, 60);
    assert!(driver.engine.wants_input(client));
}

#[test]
fn sessions_share_what_a_worker_has_for_replies() {
    let mut driver = Driver::with(|limits| {
        limits.reply_bytes = 256 * KIB;
        limits.output_pause_bytes = 256 * KIB;
    });
    let clients: Vec<SessionKey> = (0..10).map(|_| driver.client()).collect();
    for client in &clients {
        burst(&mut driver, *client, 10);
    }
    let node = driver.owner("k");
    assert_eq!(
        driver.requests(node).len(),
        4 + 9,
        "the first used up what there is; each of the others gets one"
    );
    let mut answered = 0;
    while answer(&mut driver, &mut answered, 10 * KIB) > 0 {
        for client in &clients {
            driver.output(*client);
        }
    }
    assert_eq!(answered, 100);
}

#[test]
fn what_was_sent_before_the_end_of_a_client_is_executed() {
    let mut driver = Driver::with(|limits| limits.output_pause_bytes = 64 * KIB);
    let client = driver.client();
    burst(&mut driver, client, 5);
    driver.engine.end_session(client, CloseReason::Client);
    let mut answered = 0;
    while answered < 5 {
        assert_eq!(driver.engine.must_close(client), None);
        assert!(answer(&mut driver, &mut answered, 3) > 0);
        driver.output(client);
    }
    assert_eq!(driver.engine.must_close(client), Some(CloseReason::Client));
}

#[test]
fn what_a_client_that_left_had_outstanding_is_free_for_others() {
    let mut driver = Driver::with(|limits| limits.reply_bytes = 64 * KIB);
    let (leaver, stayer) = (driver.client(), driver.client());
    burst(&mut driver, leaver, 1);
    driver.leave(leaver);
    burst(&mut driver, stayer, 3);
    let node = driver.owner("k");
    assert_eq!(driver.requests(node).len(), 2);
    driver.reply(node, &bulk("v").repeat(2));
    driver.output(stayer);
    assert_eq!(driver.requests(node).len(), 4);
}

/// Simulation, seed 91013804: room that others made let one request in at each read, and all that was read behind it piled up.
#[test]
fn a_client_whose_requests_wait_for_room_is_not_read_for_more_d13() {
    let mut driver = Driver::with(|limits| {
        limits.output_pause_bytes = 1024 * KIB;
        limits.reply_bytes = 400 * KIB;
    });
    let (other, client) = (driver.client(), driver.client());
    let (here, there) = driver.two_keys_on_two_nodes();
    driver.send(other, &format!("GET {there}"));
    let two = [
        encode(&format!("GET {here}")),
        encode(&format!("GET {here}")),
    ]
    .concat();
    driver.send_raw(client, &two);
    assert_eq!(driver.all_requests(driver.owner(&here)).len(), 1);
    driver.reply(driver.owner(&there), &bulk("v"));
    assert_eq!(driver.output(other), bulk("v"));
    assert!(
        !driver.engine.wants_input(client),
        "one of its requests waits"
    );
    driver.pass(Duration::from_millis(100));
    assert_eq!(driver.all_requests(driver.owner(&here)).len(), 2);
    driver.reply(driver.owner(&here), &bulk("v").repeat(2));
    assert_eq!(driver.output(client), bulk("v").repeat(2));
    assert!(driver.engine.wants_input(client));
}

//! The soft limit of unread replies: how much a client may leave unread for how long [D13].

use std::time::Duration;

use super::driver::{Driver, bulk, encode};
use crate::engine::SessionKey;
use crate::local::OutputLimits;
use crate::metrics::CloseReason;

const KIB: usize = 1 << 10;
const SECOND: Duration = Duration::from_secs(1);

/// A client with a soft limit of 64 KiB for 10 s.
fn with_soft_limit() -> (Driver, SessionKey) {
    let mut driver = Driver::with(|limits| {
        limits.output_soft_bytes = 64 * KIB;
        limits.output_soft_time = 10 * SECOND;
    });
    let client = driver.client();
    (driver, client)
}

/// The client gets a reply of `length` bytes more to read.
fn give(driver: &mut Driver, client: SessionKey, length: usize) {
    driver.send(client, "GET k");
    let node = driver.owner("k");
    driver.reply_where_asked(node, &bulk(&"v".repeat(length)));
}

/// Time passes, and the driver looks at the client every second.
fn watch(driver: &mut Driver, client: SessionKey, seconds: u32) -> Option<CloseReason> {
    for _ in 0..seconds {
        driver.engine.watch_output(client);
        driver.pass(SECOND);
        if driver.engine.must_close(client).is_some() {
            break;
        }
    }
    driver.engine.must_close(client)
}

#[test]
fn replies_above_the_soft_limit_for_too_long_end_the_session_d13() {
    let (mut driver, client) = with_soft_limit();
    give(&mut driver, client, 64 * KIB);
    assert_eq!(watch(&mut driver, client, 10), None);
    assert_eq!(
        watch(&mut driver, client, 2),
        Some(CloseReason::OutputSoftLimit)
    );
}

#[test]
fn replies_below_the_soft_limit_may_stay_unread_d13() {
    let (mut driver, client) = with_soft_limit();
    give(&mut driver, client, 60 * KIB);
    assert_eq!(watch(&mut driver, client, 100), None);
}

#[test]
fn a_client_that_gets_below_the_soft_limit_has_all_the_time_again_d13() {
    let (mut driver, client) = with_soft_limit();
    for _ in 0..5 {
        give(&mut driver, client, 100 * KIB);
        assert_eq!(watch(&mut driver, client, 9), None);
        let unread = driver.engine.session_output(client).len();
        driver.engine.on_session_written(client, unread - 30 * KIB);
        driver.engine.watch_output(client);
    }
    give(&mut driver, client, 100 * KIB);
    assert_eq!(
        watch(&mut driver, client, 12),
        Some(CloseReason::OutputSoftLimit)
    );
}

#[test]
fn a_soft_limit_of_nothing_is_none_and_can_be_set_later_d13() {
    let mut driver = Driver::with(|limits| limits.output_soft_bytes = 0);
    let client = driver.client();
    give(&mut driver, client, 100 * KIB);
    assert_eq!(watch(&mut driver, client, 100), None);
    let mut limits = OutputLimits {
        hard_bytes: 256 * KIB,
        soft_bytes: KIB,
        soft_time: SECOND,
        pause_bytes: KIB,
        pubsub_hard_bytes: KIB,
        pubsub_soft_bytes: KIB,
    };
    driver.engine.set_output_limits(limits);
    assert_eq!(
        watch(&mut driver, client, 3),
        Some(CloseReason::OutputSoftLimit)
    );
    limits.hard_bytes = 50 * KIB;
    driver.engine.set_output_limits(limits);
    assert_eq!(
        driver.engine.must_close(client),
        Some(CloseReason::OutputLimit)
    );
}

#[test]
fn bytes_that_wait_for_the_session_are_not_unread_replies_d13() {
    let (mut driver, client) = with_soft_limit();
    driver.send_raw(client, &encode("GET k").repeat(3));
    assert_eq!(watch(&mut driver, client, 4), None);
}

/// By default both bounds are the same: further requests wait from there on, and that must not keep the client just below it.
#[test]
fn a_client_whose_requests_wait_is_above_a_soft_limit_of_the_same_size_d13() {
    let mut driver = Driver::with(|limits| {
        limits.output_pause_bytes = 300 * KIB;
        limits.output_soft_bytes = 300 * KIB;
        limits.output_soft_time = 10 * SECOND;
    });
    let client = driver.client();
    driver.send_raw(client, &encode("GET k").repeat(100));
    let node = driver.owner("k");
    let (mut answered, mut count) = (0, 1);
    while count > 0 {
        // Never what was expected.
        let length = [90, 7, 40][answered % 3] * KIB;
        count = driver.answer_all(node, &bulk(&"v".repeat(length)));
        answered += count;
    }
    assert!(answered < 100, "the others wait");
    assert_eq!(
        watch(&mut driver, client, 12),
        Some(CloseReason::OutputSoftLimit)
    );
}

//! How often, and by how many connections, a node that is gone is tried again [HL3].

use std::time::Duration;

use super::driver::Driver;
use crate::engine::{LinkLoss, SessionKey};

/// Times between attempts to connect to a node that refuses them, in milliseconds.
fn pauses(driver: &mut Driver, count: usize) -> Vec<u64> {
    driver.open = false;
    let client = driver.client();
    driver.send(client, "GET k");
    let (mut pauses, mut waited) = (Vec::new(), 0);
    while pauses.len() < count {
        if driver.pending.is_empty() {
            driver.stall(Duration::from_millis(1));
            waited += 1;
        } else {
            driver.refuse_pending();
            pauses.push(std::mem::take(&mut waited));
        }
    }
    pauses
}

#[test]
fn pauses_between_attempts_double_with_jitter_up_to_two_seconds_hl3() {
    let mut driver = Driver::with(|limits| limits.park_timeout = Duration::from_secs(3600));
    let pauses = pauses(&mut driver, 40);
    let expected = |attempt: usize| (50_u64 << attempt.min(16)).min(2000);
    for (attempt, pause) in pauses[1..].iter().enumerate() {
        let middle = expected(attempt);
        // The next tick notices, at least every 250 ms in a worker; here every millisecond.
        let range = middle * 3 / 4..=middle * 5 / 4 + 2;
        assert!(range.contains(pause), "attempt {attempt}: {pauses:?}");
    }
    let longest = &pauses[8..];
    let mut different = longest.to_vec();
    different.sort_unstable();
    different.dedup();
    assert!(
        different.len() > longest.len() / 2,
        "workers that lost a node together do not come back together: {pauses:?}"
    );
}

#[test]
fn one_connection_finds_out_whether_a_node_is_back_hl3() {
    let mut driver = Driver::with(|limits| limits.links_per_node = 4);
    let clients: Vec<SessionKey> = (0..8).map(|_| driver.client()).collect();
    driver.open = false;
    for client in &clients {
        driver.send(*client, "GET k");
    }
    assert_eq!(driver.pending.len(), 4, "nothing is known of it yet");
    driver.refuse_pending();
    for _ in 0..200 {
        driver.pass(Duration::from_millis(20));
        assert!(driver.pending.len() <= 1);
        driver.refuse_pending();
    }
    driver.open = true;
    driver.pass(Duration::from_secs(3));
    let node = driver.owner("k");
    // There may be one more that asks why it does not answer.
    assert!(driver.connections_to(node) >= 4, "all of them, once it is");
}

#[test]
fn links_lost_together_are_one_failure_hl3() {
    let mut driver = Driver::with(|limits| limits.links_per_node = 8);
    let clients: Vec<SessionKey> = (0..8).map(|_| driver.client()).collect();
    for client in &clients {
        driver.send(*client, "GET k");
    }
    let node = driver.owner("k");
    assert_eq!(driver.connections_to(node), 8);
    for link in driver.links_to(node) {
        driver.lose(link, LinkLoss::Closed);
    }
    assert_eq!(driver.connections_to(node), 0);
    driver.pass(Duration::from_millis(70));
    driver.pass(Duration::from_millis(20));
    assert_eq!(
        driver.connections_to(node),
        8,
        "the first pause is some 50 ms, however many there were"
    );
}

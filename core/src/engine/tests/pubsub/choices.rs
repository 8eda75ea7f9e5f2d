//! What operators may choose about subscriptions: channels of several slots [U12], what a gap looks like [U6], and moves [U13].

use super::*;
use crate::local::{ListenerSettings, PubSubGap, ShardMove};

fn client_with(driver: &mut Driver, change: impl FnOnce(&mut ListenerSettings)) -> SessionKey {
    let mut listener = ListenerSettings::default();
    change(&mut listener);
    driver.client_of(listener)
}

fn silent(listener: &mut ListenerSettings) {
    listener.pubsub_gap = PubSubGap::Silent;
}

fn forward(listener: &mut ListenerSettings) {
    listener.ssub_move = ShardMove::Forward;
}

#[test]
fn u12_sharded_channels_of_several_slots_may_be_refused() {
    let mut driver = Driver::new();
    let client = client_with(&mut driver, |listener| {
        listener.ssubscribe_cross_slot = false;
    });
    for command in ["SSUBSCRIBE a b", "SUNSUBSCRIBE a b"] {
        driver.send(client, command);
        let refusal = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";
        assert_eq!(driver.output(client), refusal);
    }
    assert!(driver.feeds().is_empty());
    subscribe(&mut driver, client, "SSUBSCRIBE {t}1 {t}2");
    subscribe(&mut driver, client, "SUBSCRIBE a b");
    let session = driver.engine.session(client).unwrap();
    let subscriber = session.subscriber.as_ref().unwrap();
    assert_eq!(subscriber.counts(), [2, 0, 2]);
}

#[test]
fn u6_a_gap_may_be_silent() {
    let mut driver = Driver::new();
    let quiet = client_with(&mut driver, silent);
    let told = driver.client();
    for client in [quiet, told] {
        subscribe(&mut driver, client, "SUBSCRIBE c");
    }
    let old = home(&driver);
    let feed = driver.feed(old);
    driver.lose(feed, crate::engine::LinkLoss::Closed);
    let lost = Some(CloseReason::SubscriptionLost);
    assert_eq!(driver.engine.must_close(told), lost);
    assert_eq!(driver.engine.must_close(quiet), None);
    driver.leave(told);
    driver.pass(SECOND);
    agree(&mut driver);
    let new = home(&driver);
    driver.say(new, message("c", "m").as_bytes());
    assert_eq!(driver.output(quiet), message("c", "m"));
}

#[test]
fn u6_a_silent_gap_lasts_no_longer_than_requests_wait() {
    let mut driver = Driver::with(|limits| limits.park_timeout = 2 * SECOND);
    let client = client_with(&mut driver, silent);
    subscribe(&mut driver, client, "SUBSCRIBE c");
    let old = home(&driver);
    let feed = driver.feed(old);
    driver.open = false;
    driver.lose(feed, crate::engine::LinkLoss::Closed);
    driver.pass(SECOND);
    assert_eq!(driver.engine.must_close(client), None);
    driver.pass(2 * SECOND);
    let lost = Some(CloseReason::SubscriptionLost);
    assert_eq!(driver.engine.must_close(client), lost);
}

#[test]
fn u13_a_move_may_be_told() {
    let mut driver = Driver::new();
    let told = client_with(&mut driver, forward);
    let (quiet, modern) = (driver.client(), client_with(&mut driver, forward));
    driver.send(modern, "HELLO 3");
    driver.output(modern);
    subscribe(&mut driver, modern, "SSUBSCRIBE c");
    subscribe(&mut driver, told, "SSUBSCRIBE c {c}2");
    subscribe(&mut driver, quiet, "SSUBSCRIBE c");
    let old = driver.owner("c");
    driver.say(old, ack("sunsubscribe", "c", 1).as_bytes());
    assert_eq!(driver.output(told), ack("sunsubscribe", "c", 1));
    let pushed = driver.output(modern);
    assert_eq!(pushed, push(&ack("sunsubscribe", "c", 0)));
    assert_eq!(driver.output(quiet), "");
    let session = driver.engine.session(modern).unwrap();
    assert!(session.subscriber.is_none());
    agree(&mut driver);
    driver.say(old, array(&["smessage", "c", "m"]).as_bytes());
    assert_eq!(driver.output(quiet), array(&["smessage", "c", "m"]));
    assert_eq!(driver.output(told), "");
}

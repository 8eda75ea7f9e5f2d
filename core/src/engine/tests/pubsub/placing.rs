//! Subscriptions that are at every primary, and those that follow a slot.

use super::*;
use crate::engine::LinkLoss;
use crate::slot::Slot;
use crate::topology::Hint;

#[test]
fn keyspace_notifications_come_from_every_primary_u9() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "PSUBSCRIBE *");
    assert_eq!(driver.feeds(), [7000, 7001, 7002]);
    for port in [7000, 7001] {
        driver.say(port, ack("psubscribe", "*", 1).as_bytes());
    }
    assert_eq!(driver.output(client), "", "one is missing");
    driver.say(7002, ack("psubscribe", "*", 1).as_bytes());
    assert_eq!(driver.output(client), ack("psubscribe", "*", 1));
    let event = array(&["pmessage", "*", "__keyevent@0__:set", "k"]);
    let ordinary = array(&["pmessage", "*", "news", "m"]);
    for port in [7000, 7001, 7002] {
        driver.say(port, (event.clone() + &ordinary).as_bytes());
    }
    let output = driver.output(client);
    assert_eq!(output.matches("__keyevent").count(), 3, "each has its own");
    assert_eq!(output.matches("news").count(), 1, "all have the same");
    let feed = driver.feed(7001);
    driver.lose(feed, LinkLoss::Closed);
    assert_eq!(closes(&driver, client), Some(CloseReason::SubscriptionLost));
}

#[test]
fn keyspace_notifications_follow_the_topology_u9() {
    let mut driver = Driver::new();
    let client = driver.client();
    subscribe(&mut driver, client, "SUBSCRIBE __keyevent@0__:del");
    assert_eq!(driver.feeds(), [7000, 7001, 7002]);
    driver.take_over(2, 7002, 7001);
    assert_eq!(
        driver.asked_on_feed(7002),
        ["unsubscribe __keyevent@0__:del"]
    );
    driver.say(7002, ack("unsubscribe", "__keyevent@0__:del", 0).as_bytes());
    driver.pass(SECOND / 4);
    assert_eq!(driver.feeds(), [7000, 7001]);
    driver.take_over(3, 7000, 7001);
    driver.adopt(4, &[]);
    assert_eq!(driver.feeds(), [7000, 7001, 7002]);
    let event = message("__keyevent@0__:del", "k");
    driver.say(7001, event.as_bytes());
    agree(&mut driver);
    driver.say(7002, event.as_bytes());
    assert_eq!(driver.output(client), event.repeat(2));
    assert_eq!(closes(&driver, client), None);
}

#[test]
fn a_sharded_channel_is_at_the_owner_of_its_slot_u12() {
    let mut driver = Driver::new();
    let client = driver.client();
    let (first, second) = driver.two_keys_on_two_nodes();
    driver.send(client, &format!("SSUBSCRIBE {first} {second}"));
    let (one, two) = (driver.owner(&first), driver.owner(&second));
    assert_eq!(driver.asked_on_feed(one), [format!("ssubscribe {first}")]);
    assert_eq!(driver.asked_on_feed(two), [format!("ssubscribe {second}")]);
    driver.say(two, ack("ssubscribe", &second, 1).as_bytes());
    driver.say(one, ack("ssubscribe", &first, 1).as_bytes());
    let acks = ack("ssubscribe", &first, 1) + &ack("ssubscribe", &second, 2);
    assert_eq!(driver.output(client), acks);
    let said = array(&["smessage", &first, "m"]);
    driver.say(one, said.as_bytes());
    assert_eq!(driver.output(client), said);
}

/// A client that has the sharded channel `c`; its node and another one.
fn sharded(driver: &mut Driver) -> (SessionKey, u16, u16) {
    let client = driver.client();
    subscribe(driver, client, "SSUBSCRIBE c");
    let old = driver.owner("c");
    (client, old, if old == 7000 { 7001 } else { 7000 })
}

#[test]
fn a_sharded_channel_moves_with_its_slot_u13() {
    let mut driver = Driver::new();
    let (client, old, new) = sharded(&mut driver);
    driver.adopt(2, &[("c", new)]);
    assert_eq!(driver.asked_on_feed(new), ["ssubscribe c"]);
    let said = |payload: &str| array(&["smessage", "c", payload]);
    driver.say(old, said("1").as_bytes());
    driver.say(new, (ack("ssubscribe", "c", 1) + &said("2")).as_bytes());
    assert_eq!(driver.asked_on_feed(old), ["sunsubscribe c", "PING"]);
    driver.say(old, said("2").as_bytes());
    assert_eq!(
        driver.output(client),
        said("1") + &said("2"),
        "each once [U14]"
    );
    driver.say(old, (ack("sunsubscribe", "c", 0) + "+PONG\r\n").as_bytes());
    assert_eq!(closes(&driver, client), None);
}

#[test]
fn the_word_of_a_node_that_a_slot_has_left_is_not_passed_on_u13() {
    let mut driver = Driver::new();
    let (client, old, new) = sharded(&mut driver);
    driver.say(old, ack("sunsubscribe", "c", 0).as_bytes());
    // By the topology it is there still; the node knows better.
    assert_eq!(driver.asked_on_feed(old), ["ssubscribe c"]);
    let slot = Slot::of_key(b"c").get();
    driver.say(old, format!("-MOVED {slot} 127.0.0.1:{new}\r\n").as_bytes());
    let moved = |hint: &Hint| matches!(hint, Hint::Moved { .. });
    assert!(driver.hints.iter().any(moved));
    driver.adopt(2, &[("c", new)]);
    agree(&mut driver);
    let said = array(&["smessage", "c", "m"]);
    driver.say(new, said.as_bytes());
    assert_eq!(driver.output(client), said);
    assert_eq!(closes(&driver, client), None);
}

#[test]
fn the_end_of_a_sharded_channel_and_the_move_of_its_slot_may_cross() {
    let slot = Slot::of_key(b"c").get();
    let gone = ack("sunsubscribe", "c", 0);
    let moved = format!("-MOVED {slot} 127.0.0.1:7001\r\n");
    let busy = "-BUSY Redis is busy running a script.\r\n".to_owned();
    let pong = || "*2\r\n$4\r\npong\r\n$0\r\n\r\n".to_owned();
    let histories = [
        vec![gone.clone(), "+PONG\r\n".to_owned()],
        vec![gone.clone(), moved.clone(), "+PONG\r\n".to_owned()],
        vec![moved, pong()],
        vec![gone, busy.clone()],
        vec![busy.clone(), busy.clone()],
        vec![busy, pong()],
    ];
    for history in histories {
        let mut driver = Driver::new();
        let (client, old, _) = sharded(&mut driver);
        driver.send(client, "SUNSUBSCRIBE");
        let other = driver.client();
        driver.pass(SECOND * 3 / 2);
        assert_eq!(driver.asked_on_feed(old), ["sunsubscribe c", "PING"]);
        for reply in &history {
            driver.say(old, reply.as_bytes());
        }
        // Whatever it was, what comes next is understood.
        driver.send(other, "SSUBSCRIBE c");
        for _ in 0..3 {
            driver.pass(SECOND / 10);
            agree(&mut driver);
        }
        assert_eq!(
            driver.output(other),
            ack("ssubscribe", "c", 1),
            "{history:?}"
        );
        assert_eq!(closes(&driver, other), None);
    }
}

#[test]
fn a_sharded_channel_that_no_node_takes_does_not_stay_without_a_word() {
    let mut driver = Driver::new();
    let (client, old, new) = sharded(&mut driver);
    driver.say(old, ack("sunsubscribe", "c", 0).as_bytes());
    let slot = Slot::of_key(b"c").get();
    let moved = format!("-MOVED {slot} 127.0.0.1:{new}\r\n");
    for quarter in 0..44 {
        let expected = (quarter >= 40).then_some(CloseReason::SubscriptionLost);
        assert_eq!(
            closes(&driver, client),
            expected,
            "after {quarter} quarters of a second"
        );
        for asked in driver.asked_on_feed(old) {
            let reply = if asked == "PING" { "+PONG\r\n" } else { &moved };
            driver.say(old, reply.as_bytes());
        }
        driver.pass(SECOND / 4);
    }
}

#[test]
fn a_topic_that_the_topology_makes_whole_is_acknowledged() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "PSUBSCRIBE *");
    for port in [7000, 7001] {
        driver.say(port, ack("psubscribe", "*", 1).as_bytes());
    }
    assert_eq!(driver.output(client), "");
    driver.take_over(2, 7002, 7001);
    assert_eq!(driver.output(client), ack("psubscribe", "*", 1));
}

#[test]
fn a_sharded_channel_whose_slot_comes_back_is_acknowledged() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "SSUBSCRIBE c");
    let old = driver.owner("c");
    let new = if old == 7000 { 7001 } else { 7000 };
    driver.adopt(2, &[("c", new)]);
    driver.say(old, ack("ssubscribe", "c", 1).as_bytes());
    driver.adopt(3, &[]);
    assert_eq!(driver.output(client), ack("ssubscribe", "c", 1));
}

#[test]
fn a_topology_in_which_only_slots_have_moved_concerns_no_channel_u1() {
    let mut driver = Driver::new();
    let client = driver.client();
    subscribe(&mut driver, client, "SUBSCRIBE a b __keyspace@0__:k");
    subscribe(&mut driver, client, "PSUBSCRIBE *");
    let before = driver.engine.subscriptions.placings;
    driver.adopt(2, &[("c", 7001)]);
    driver.pass(SECOND);
    assert_eq!(driver.engine.subscriptions.placings, before);
    driver.take_over(3, 7002, 7001);
    assert!(driver.engine.subscriptions.placings > before);
}

#[test]
fn topics_that_nobody_has_are_looked_at_when_their_time_has_come_u2() {
    let mut driver = Driver::new();
    let (client, other) = (driver.client(), driver.client());
    subscribe(&mut driver, client, "SUBSCRIBE a b c d e");
    subscribe(&mut driver, other, "SUBSCRIBE f");
    driver.send(client, "UNSUBSCRIBE");
    let before = driver.engine.subscriptions.placings;
    driver.pass(SECOND * 3 / 4);
    assert_eq!(driver.engine.subscriptions.placings, before);
    driver.pass(SECOND / 4);
    assert_eq!(driver.engine.subscriptions.placings, before + 5);
    driver.pass(SECOND);
    assert_eq!(
        driver.engine.subscriptions.placings,
        before + 5,
        "their ends are awaited"
    );
    agree(&mut driver);
    driver.pass(SECOND);
    driver.send(other, "UNSUBSCRIBE");
    driver.pass(SECOND * 2);
    agree(&mut driver);
    driver.pass(SECOND);
    assert!(driver.feeds().is_empty());
}

#[test]
fn a_sharded_channel_whose_new_node_is_lost_before_it_agrees_is_a_gap_u6() {
    let mut driver = Driver::new();
    let (client, old, new) = sharded(&mut driver);
    driver.adopt(2, &[("c", new)]);
    driver.asked_on_feed(new);
    let feed = driver.feed(new);
    driver.lose(feed, LinkLoss::Closed);
    assert_eq!(closes(&driver, client), None, "the old one has it still");
    driver.pass(SECOND / 4);
    driver.asked_on_feed(new);
    driver.say(old, ack("sunsubscribe", "c", 0).as_bytes());
    assert_eq!(closes(&driver, client), None, "the new one is asked");
    let feed = driver.feed(new);
    driver.lose(feed, LinkLoss::Closed);
    assert_eq!(closes(&driver, client), Some(CloseReason::SubscriptionLost));
}

#[test]
fn the_end_of_a_sharded_channel_may_be_refused_before_the_kernel_takes_what_is_behind_it() {
    let slot = Slot::of_key(b"c").get();
    let moved = format!("-MOVED {slot} 127.0.0.1:7001\r\n");
    let end = "*2\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n";
    for reply in [&moved, "-BUSY Redis is busy running a script.\r\n"] {
        let mut driver = Driver::new();
        let (client, old, _) = sharded(&mut driver);
        driver.send(client, "SUNSUBSCRIBE");
        driver.output(client);
        let later = driver.engine.now.after(SECOND);
        driver.engine.set_now(later);
        driver.engine.tick();
        driver.mute = true;
        driver.send_with_slow_node(client, "PING", end.len() + 3);
        driver.say(old, reply.as_bytes());
        driver.mute = false;
        assert_eq!(driver.feeds(), [old], "{reply}");
        driver.send(client, "SSUBSCRIBE {c}");
        assert_eq!(
            driver.asked_on_feed(old),
            ["sunsubscribe c", "PING", "ssubscribe {c}"]
        );
        let replies = "+PONG\r\n".to_owned() + &ack("ssubscribe", "{c}", 1);
        driver.say(old, replies.as_bytes());
        assert!(
            driver
                .output(client)
                .ends_with(&ack("ssubscribe", "{c}", 1))
        );
    }
}

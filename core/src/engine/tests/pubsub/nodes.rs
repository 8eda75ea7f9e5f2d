//! What becomes of subscriptions when a node, or a client that does not read, is lost.

use super::*;
use crate::engine::LinkLoss;
use crate::topology::{Address, Hint, RefreshReason};

#[test]
fn a_lost_feed_ends_the_sessions_that_have_something_of_it_u6() {
    let mut driver = Driver::new();
    let (client, other) = (driver.client(), driver.client());
    subscribe(&mut driver, client, "SUBSCRIBE a");
    let node = home(&driver);
    let feed = driver.feed(node);
    driver.lose(feed, LinkLoss::Closed);
    assert_eq!(closes(&driver, client), Some(CloseReason::SubscriptionLost));
    assert_eq!(closes(&driver, other), None);
    driver.leave(client);
    // Whoever comes back finds another node at once.
    let client = driver.client();
    driver.send(client, "SUBSCRIBE a");
    assert_ne!(home(&driver), node);
    agree(&mut driver);
    assert_eq!(driver.output(client), ack("subscribe", "a", 1));
}

#[test]
fn a_lost_feed_delays_what_was_not_acknowledged() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "SUBSCRIBE a b");
    let node = home(&driver);
    driver.say(node, ack("subscribe", "a", 1).as_bytes());
    let feed = driver.feed(node);
    driver.lose(feed, LinkLoss::Closed);
    assert_eq!(closes(&driver, client), None);
    let other = home(&driver);
    assert_ne!(other, node);
    assert_eq!(driver.asked_on_feed(other).len(), 2);
    driver.say(other, ack("subscribe", "a", 1).as_bytes());
    assert_eq!(driver.output(client), "");
    driver.say(other, ack("subscribe", "b", 2).as_bytes());
    assert_eq!(
        driver.output(client),
        ack("subscribe", "a", 1) + &ack("subscribe", "b", 2)
    );
}

#[test]
fn what_was_had_and_is_lost_before_the_acknowledgement_is_to_be_had_again() {
    let mut driver = Driver::new();
    let client = driver.client();
    let (first, second) = driver.two_keys_on_two_nodes();
    let (one, two) = (driver.owner(&first), driver.owner(&second));
    driver.send(client, &format!("SSUBSCRIBE {first} {second}"));
    driver.asked_on_feed(two);
    driver.say(one, ack("ssubscribe", &first, 1).as_bytes());
    let feed = driver.feed(one);
    driver.lose(feed, LinkLoss::Closed);
    driver.say(two, ack("ssubscribe", &second, 1).as_bytes());
    assert_eq!(driver.output(client), "");
    driver.pass(SECOND / 4);
    agree(&mut driver);
    let acks = ack("ssubscribe", &first, 1) + &ack("ssubscribe", &second, 2);
    assert_eq!(driver.output(client), acks);
}

#[test]
fn a_session_that_ends_for_a_lost_feed_waits_for_nothing() {
    let mut driver = Driver::new();
    let client = driver.client();
    subscribe(&mut driver, client, "SUBSCRIBE a");
    let feed = driver.feed(home(&driver));
    driver.send(client, "SUBSCRIBE b");
    driver.lose(feed, LinkLoss::Closed);
    let output = driver.output(client);
    assert!(
        output.starts_with("-CLUSTERDOWN proxy: the connection for subscriptions was lost"),
        "{output}"
    );
    assert_eq!(closes(&driver, client), Some(CloseReason::SubscriptionLost));
}

/// It would go on waiting, and believe that it has its subscriptions.
#[test]
fn a_session_that_waits_at_a_node_ends_for_a_lost_feed_too_u6() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "HELLO 3");
    driver.output(client);
    subscribe(&mut driver, client, "SUBSCRIBE a");
    let feed = driver.feed(home(&driver));
    driver.send(client, "BLPOP k 0");
    assert_eq!(closes(&driver, client), None);
    driver.lose(feed, LinkLoss::Closed);
    assert_eq!(closes(&driver, client), Some(CloseReason::SubscriptionLost));
}

#[test]
fn a_silent_feed_is_noticed_though_nothing_is_owed_on_it() {
    let mut driver = Driver::new();
    let client = driver.client();
    subscribe(&mut driver, client, "SUBSCRIBE a");
    let node = home(&driver);
    for _ in 0..20 {
        driver.pass(SECOND);
        agree(&mut driver);
    }
    assert_eq!(closes(&driver, client), None, "it has answered every PING");
    driver.pass(SECOND * 3);
    assert_eq!(driver.asked_on_feed(node), ["PING"]);
    assert_eq!(closes(&driver, client), None);
    driver.pass(SECOND * 5);
    assert_eq!(closes(&driver, client), Some(CloseReason::SubscriptionLost));
    let lost = |hint: &Hint| {
        matches!(
            hint,
            Hint::Refresh {
                reason: RefreshReason::LinkLost,
                ..
            }
        )
    };
    assert!(driver.hints.iter().any(lost));
}

#[test]
fn a_primary_that_becomes_none_is_left_without_a_gap_u6() {
    let mut driver = Driver::new();
    let client = driver.client();
    subscribe(&mut driver, client, "SUBSCRIBE a");
    let old = home(&driver);
    let other = if old == 7000 { 7001 } else { 7000 };
    driver.take_over(2, old, other);
    let feeds = driver.feeds();
    assert_eq!(feeds.len(), 2, "made before it is broken");
    let new = *feeds.iter().find(|port| **port != old).unwrap();
    assert_eq!(driver.asked_on_feed(new), ["subscribe a"]);
    driver.say(old, message("a", "1").as_bytes());
    driver.say(new, ack("subscribe", "a", 1).as_bytes());
    driver.say(new, message("a", "1").as_bytes());
    driver.say(new, message("a", "2").as_bytes());
    driver.say(old, message("a", "2").as_bytes());
    assert_eq!(
        driver.output(client),
        message("a", "1") + &message("a", "2"),
        "each once"
    );
    driver.pass(SECOND / 4);
    assert_eq!(driver.asked_on_feed(new), ["subscribe a"], "its mark");
    driver.say(new, ack("subscribe", "a", 1).as_bytes());
    driver.say(new, message("a", "3").as_bytes());
    driver.pass(SECOND / 4);
    assert_eq!(driver.asked_on_feed(old), ["subscribe a"], "its mark");
    assert_eq!(driver.output(client), "", "the old one may bring it yet");
    driver.say(old, ack("subscribe", "a", 1).as_bytes());
    assert_eq!(driver.output(client), message("a", "3"));
    assert_eq!(driver.asked_on_feed(old), ["unsubscribe a"]);
    driver.say(old, message("a", "4").as_bytes());
    driver.say(new, message("a", "4").as_bytes());
    assert_eq!(driver.output(client), message("a", "4"), "from one");
    driver.say(old, ack("unsubscribe", "a", 0).as_bytes());
    driver.pass(SECOND);
    agree(&mut driver);
    assert_eq!(driver.feeds(), [new]);
    assert_eq!(closes(&driver, client), None);
}

#[test]
fn a_primary_that_was_dead_when_it_was_replaced_is_a_gap_u6() {
    let mut driver = Driver::new();
    let client = driver.client();
    subscribe(&mut driver, client, "SUBSCRIBE a");
    let old = home(&driver);
    driver.take_over(2, old, if old == 7000 { 7001 } else { 7000 });
    let new = *driver.feeds().iter().find(|port| **port != old).unwrap();
    driver.asked_on_feed(new);
    driver.say(new, ack("subscribe", "a", 1).as_bytes());
    // Nobody can tell since when it has said nothing.
    for _ in 0..12 {
        driver.pass(SECOND / 4);
        agree_at(&mut driver, new);
    }
    assert_eq!(closes(&driver, client), Some(CloseReason::SubscriptionLost));
}

#[test]
fn a_node_that_cannot_be_reached_delays_the_acknowledgement_but_not_for_ever() {
    let mut driver = Driver::new();
    driver.open = false;
    let client = driver.client();
    driver.send(client, "SUBSCRIBE a");
    for _ in 0..30 {
        driver.refuse_pending();
        driver.pass(SECOND / 4);
    }
    assert_eq!(driver.output(client), "");
    for _ in 0..12 {
        driver.refuse_pending();
        driver.pass(SECOND / 4);
    }
    assert_eq!(
        driver.output(client),
        "-CLUSTERDOWN proxy: no master for subscriptions\r\n"
    );
    driver.send(client, "PING");
    assert_eq!(driver.output(client), "+PONG\r\n");
}

#[test]
fn a_client_that_leaves_while_it_subscribes_leaves_nothing() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "SUBSCRIBE a");
    driver.leave(client);
    agree(&mut driver);
    driver.pass(SECOND * 2);
    agree(&mut driver);
    driver.pass(SECOND);
    assert!(driver.feeds().is_empty());
    driver.engine.check_nothing_left();
}

#[test]
fn what_a_node_refuses_the_client_is_told() {
    let mut driver = Driver::new();
    let (client, other) = (driver.client(), driver.client());
    driver.send(client, "SUBSCRIBE a b");
    driver.send(other, "SUBSCRIBE b");
    let node = home(&driver);
    let error = "-NOPERM No permissions to access a channel\r\n";
    driver.say(
        node,
        format!("{error}{}", ack("subscribe", "b", 1)).as_bytes(),
    );
    assert_eq!(driver.output(client), error, "it has subscribed to nothing");
    assert_eq!(driver.output(other), ack("subscribe", "b", 1));
    driver.say(node, message("b", "m").as_bytes());
    assert_eq!(driver.output(client), "");
}

#[test]
fn a_node_that_is_busy_is_asked_again() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "SUBSCRIBE a");
    let node = home(&driver);
    driver.asked_on_feed(node);
    driver.say(node, b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n");
    assert_eq!(driver.output(client), "");
    driver.pass(SECOND / 10);
    agree(&mut driver);
    assert_eq!(driver.output(client), ack("subscribe", "a", 1));
    driver.send(client, "UNSUBSCRIBE");
    driver.pass(SECOND * 3 / 2);
    assert_eq!(driver.asked_on_feed(node), ["unsubscribe a"]);
    driver.say(node, b"-BUSY Redis is busy running a script.\r\n");
    driver.pass(SECOND / 10);
    assert_eq!(driver.asked_on_feed(node), ["unsubscribe a"]);
}

#[test]
fn what_does_not_belong_on_a_feed_ends_it() {
    for bytes in [
        "+OK\r\n",
        "*3\r\n$9\r\nsubscribe\r\n$1\r\nz\r\n:1\r\n",
        "!bad\r\n",
        "*2\r\n$4\r\npong\r\n$0\r\n\r\n",
    ] {
        let mut driver = Driver::new();
        let client = driver.client();
        subscribe(&mut driver, client, "SUBSCRIBE a");
        let node = home(&driver);
        driver.say(node, bytes.as_bytes());
        assert!(driver.feeds().is_empty(), "{bytes}");
        assert_eq!(closes(&driver, client), Some(CloseReason::SubscriptionLost));
    }
}

#[test]
fn a_client_that_does_not_read_is_disconnected_and_others_go_on_u8() {
    let mut driver = Driver::with(|limits| limits.pubsub_output_bytes = 1100);
    let (slow, other) = (driver.client(), driver.client());
    driver.send(slow, "SUBSCRIBE a");
    subscribe(&mut driver, other, "SUBSCRIBE a");
    let node = home(&driver);
    let long = message("a", &"x".repeat(300));
    for number in 0..10 {
        driver.say(node, long.as_bytes());
        assert_eq!(driver.output(other), long);
        let expected = (number > 2).then_some(CloseReason::OutputLimit);
        assert_eq!(closes(&driver, slow), expected, "{number}");
        if number > 2 {
            assert!(driver.engine.session_output(slow).len() <= 1100);
        }
    }
    assert_eq!(closes(&driver, other), None);
}

#[test]
fn a_client_that_is_behind_for_long_is_disconnected_u8() {
    let mut driver = Driver::with(|limits| limits.pubsub_output_soft_bytes = 1000);
    let client = driver.client();
    subscribe(&mut driver, client, "SUBSCRIBE a");
    let node = home(&driver);
    driver.say(node, message("a", &"x".repeat(2000)).as_bytes());
    for _ in 0..59 {
        driver.engine.watch_output(client);
        driver.pass(SECOND);
        agree(&mut driver);
        assert_eq!(closes(&driver, client), None);
    }
    driver.pass(SECOND * 2);
    assert_eq!(closes(&driver, client), Some(CloseReason::OutputSoftLimit));
}

#[test]
fn when_all_memory_for_replies_is_used_those_behind_go() {
    let mut driver = Driver::with(|limits| limits.reply_bytes = 360_000);
    let clients: Vec<SessionKey> = (0..5).map(|_| driver.client()).collect();
    for client in &clients {
        driver.send(*client, "SUBSCRIBE a");
    }
    agree(&mut driver);
    let node = home(&driver);
    let long = message("a", &"x".repeat(70_000));
    driver.output(clients[4]);
    driver.say(node, long.as_bytes());
    driver.output(clients[4]);
    driver.say(node, long.as_bytes());
    assert!(
        clients[..4]
            .iter()
            .any(|client| closes(&driver, *client) == Some(CloseReason::OutputLimit))
    );
    assert_eq!(closes(&driver, clients[4]), None);
    assert_eq!(driver.output(clients[4]), long);
}

#[test]
fn one_big_message_for_many_stays_within_the_memory_for_replies() {
    let mut driver = Driver::with(|limits| limits.reply_bytes = 300_000);
    let clients: Vec<SessionKey> = (0..20).map(|_| driver.client()).collect();
    for client in &clients {
        driver.send(*client, "SUBSCRIBE a");
    }
    agree(&mut driver);
    for client in &clients {
        driver.output(*client);
    }
    let node = home(&driver);
    let long = message("a", &"x".repeat(70_000));
    driver.say(node, long.as_bytes());
    let unread = |client: &SessionKey| driver.engine.session_output(*client).len();
    assert!(clients.iter().map(unread).sum::<usize>() <= 300_000);
    let has_it = |client: &&SessionKey| closes(&driver, **client).is_none();
    assert_eq!(clients.iter().filter(has_it).count(), 300_000 / long.len());
}

#[test]
fn nobody_is_disconnected_for_replies_that_are_yet_to_come() {
    let mut driver = Driver::with(|limits| limits.reply_bytes = 300_000);
    let (client, other) = (driver.client(), driver.client());
    subscribe(&mut driver, client, "SUBSCRIBE a");
    // Much is expected of the first replies of a client.
    driver.send(other, "GET k");
    let node = home(&driver);
    let long = message("a", &"x".repeat(70_000));
    for _ in 0..2 {
        driver.say(node, long.as_bytes());
    }
    assert_eq!(closes(&driver, client), None);
    assert_eq!(driver.output(client), long.repeat(2));
}

#[test]
fn a_primary_that_stays_dead_is_not_chosen_for_ever_u1() {
    for dead in 7000..7003 {
        let mut driver = Driver::new();
        driver.open = false;
        let client = driver.client();
        driver.send(client, "SUBSCRIBE a");
        // All are away for a moment.
        for _ in 0..3 {
            driver.refuse_pending();
        }
        for _ in 0..20 {
            let others = |(_, address): &(_, Address)| address.port != dead;
            while let Some(index) = driver.pending.iter().position(others) {
                driver.connect_pending(index);
            }
            driver.refuse_pending();
            agree(&mut driver);
            driver.pass(SECOND / 4);
        }
        let output = driver.output(client);
        assert_eq!(output, ack("subscribe", "a", 1), "without {dead}");
    }
}

#[test]
fn the_time_for_subscribing_begins_when_its_turn_comes_pk1() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "BLPOP k 0");
    driver.send(client, "SUBSCRIBE a");
    driver.pass(SECOND * 11);
    driver.reply_where_asked(driver.owner("k"), "*-1\r\n");
    assert_eq!(driver.output(client), "*-1\r\n");
    driver.pass(SECOND);
    assert_eq!(driver.output(client), "", "it is being asked for");
    agree(&mut driver);
    assert_eq!(driver.output(client), ack("subscribe", "a", 1));
}

#[test]
fn a_node_that_refuses_what_a_waiting_request_had_is_not_asked_without_a_pause() {
    let mut driver = Driver::new();
    let client = driver.client();
    let (first, second) = driver.two_keys_on_two_nodes();
    let one = driver.owner(&first);
    driver.send(client, &format!("SSUBSCRIBE {first} {second}"));
    driver.asked_on_feed(one);
    driver.say(one, ack("ssubscribe", &first, 1).as_bytes());
    // It is lost again before the other one is there, and permitted no more.
    driver.say(one, ack("sunsubscribe", &first, 0).as_bytes());
    assert_eq!(driver.asked_on_feed(one).len(), 1);
    driver.say(one, b"-NOPERM No permissions to access a channel\r\n");
    assert!(driver.asked_on_feed(one).is_empty());
    driver.pass(SECOND / 4);
    assert_eq!(driver.asked_on_feed(one).len(), 1);
}

//! Commands that may wait at the node [B1]-[B8] [B11]-[B13].

use std::time::Duration;

use super::driver::{Driver, NOBODY, bulk, encode};
use super::failures::UNCERTAIN;
use crate::engine::{Action, SessionKey};
use crate::local::ListenerSettings;
use crate::metrics::CloseReason;
use crate::slot::Slot;
use crate::topology::{Hint, RefreshReason};

const NIL: &str = "*-1\r\n";
const FORCED: &str = "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n";

/// What BLPOP of `k` is answered.
fn popped(element: &str) -> String {
    ["*2\r\n", &bulk("k"), &bulk(element)].concat()
}

fn moved(key: &str, port: u16) -> String {
    let slot = Slot::of_key(key.as_bytes()).get();
    format!("-MOVED {slot} 127.0.0.1:{port}\r\n")
}

/// A node that is not the owner of `key`.
fn another(driver: &Driver, key: &str) -> u16 {
    let owner = driver.owner(key);
    if owner == 7000 { 7001 } else { 7000 }
}

/// A client that waits with `command`, which is for `k`.
fn blocked(driver: &mut Driver, command: &str) -> SessionKey {
    let client = driver.client();
    driver.send(client, command);
    assert_eq!(driver.output(client), "");
    client
}

#[test]
fn one_that_waits_holds_up_nobody_else_b1() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let waiting = blocked(&mut driver, "BLPOP k 0");
    let other = driver.client();
    driver.send(other, "GET k");
    assert_eq!(driver.connections_to(node), 2);
    let [blpop, get] = [0, 1].map(|at| driver.links_to_in_order(node)[at]);
    driver.reply_on(get, &bulk("v"));
    assert_eq!(driver.output(other), bulk("v"));
    driver.reply_on(blpop, &popped("e"));
    assert_eq!(driver.output(waiting), popped("e"));
    driver.engine.check_nothing_left();
}

#[test]
fn two_that_wait_for_one_key_have_a_connection_each_b1() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let first = blocked(&mut driver, "BLPOP k 0");
    let second = blocked(&mut driver, "BLPOP k 0");
    let [one, two] = [0, 1].map(|at| driver.links_to_in_order(node)[at]);
    driver.reply_on(one, &popped("1"));
    assert_eq!(driver.output(first), popped("1"));
    assert_eq!(driver.output(second), "");
    driver.reply_on(two, &popped("2"));
    assert_eq!(driver.output(second), popped("2"));
}

#[test]
fn what_is_pipelined_behind_one_that_waits_comes_after_it_b13() {
    let mut driver = Driver::new();
    let client = driver.client();
    let (here, there) = driver.two_keys_on_two_nodes();
    let node = driver.owner(&here);
    let commands = [
        format!("SET {here} 1"),
        format!("BLPOP {here} 0"),
        format!("GET {there}"),
        "PING".to_owned(),
    ];
    let bytes: Vec<u8> = commands.iter().flat_map(|text| encode(text)).collect();
    driver.send_raw(client, &bytes);
    assert_eq!(driver.all_requests(node), [commands[0].clone()]);
    driver.reply_where_asked(node, "+OK\r\n");
    assert_eq!(driver.all_requests(driver.owner(&there)).len(), 0);
    driver.reply_where_asked(node, NIL);
    assert_eq!(driver.output(client), format!("+OK\r\n{NIL}"));
    driver.reply_where_asked(driver.owner(&there), &bulk("v"));
    assert_eq!(driver.output(client), bulk("v") + "+PONG\r\n");
    driver.engine.check_nothing_left();
}

#[test]
fn keys_in_several_slots_are_refused_b1() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "BLPOP a b 0");
    let crossed = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";
    assert_eq!(driver.output(client), crossed);
}

#[test]
fn the_time_that_a_request_may_take_is_not_for_those_that_wait_b12() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = blocked(&mut driver, "BLPOP k 0");
    driver.pass(Duration::from_secs(3600));
    assert_eq!(driver.output(client), "");
    assert_eq!(driver.connections_to(node), 2, "its own, and the probe");
    let hinted = driver.hints.iter().any(|hint| {
        matches!(
            hint,
            Hint::Refresh {
                reason: RefreshReason::NodeSilent,
                ..
            }
        )
    });
    assert!(!hinted, "nobody expects it to say anything");
    driver.reply_where_asked(node, &popped("e"));
    assert_eq!(driver.output(client), popped("e"));
}

#[test]
fn a_node_that_dies_without_a_word_is_found_by_the_probe_b12() {
    let mut driver = Driver::new();
    let client = blocked(&mut driver, "BLPOP k 0");
    let reader = blocked(&mut driver, "XREAD BLOCK 0 STREAMS k 0");
    driver.pass(Duration::from_secs(600));
    driver.mute = true;
    driver.pass(Duration::from_secs(8));
    assert_eq!(driver.output(client), UNCERTAIN);
    assert_eq!(driver.output(reader), "");
    driver.mute = false;
    driver.pass(Duration::from_secs(6));
    let requests = driver.all_requests(driver.owner("k"));
    let sent_again = requests.iter().filter(|text| text.starts_with("XREAD"));
    assert_eq!(sent_again.count(), 1);
    assert!(requests.iter().any(|text| text.starts_with("CLIENT KILL")));
}

#[test]
fn a_refusal_sends_it_again_with_the_time_it_has_left_b4_b5() {
    for (command, again) in [
        ("BLPOP k 30", "BLPOP k 10.000"),
        ("BLPOP k 0", "BLPOP k 0"),
        (
            "XREAD BLOCK 30000 STREAMS k $",
            "XREAD BLOCK 10000 STREAMS k $",
        ),
    ] {
        let mut driver = Driver::new();
        let (old, new) = (driver.owner("k"), another(&driver, "k"));
        let client = blocked(&mut driver, command);
        driver.pass(Duration::from_secs(20));
        driver.reply_where_asked(old, &moved("k", new));
        assert_eq!(driver.all_requests(new), [again]);
        driver.reply_where_asked(new, NIL);
        assert_eq!(driver.output(client), NIL);
        driver.pass(Duration::from_millis(10));
        driver.engine.check_nothing_left();
    }
}

#[test]
fn a_call_whose_connection_takes_no_time_is_sent_as_it_is_b4() {
    let mut driver = Driver::new();
    blocked(&mut driver, "BLPOP k 1e1");
    assert_eq!(driver.all_requests(driver.owner("k")), ["BLPOP k 1e1"]);
}

#[test]
fn ask_goes_before_it_in_one_piece_b5() {
    let mut driver = Driver::new();
    let (old, new) = (driver.owner("k"), another(&driver, "k"));
    let client = blocked(&mut driver, "BLPOP k 0");
    let slot = Slot::of_key(b"k").get();
    driver.reply_where_asked(old, &format!("-ASK {slot} 127.0.0.1:{new}\r\n"));
    assert_eq!(driver.all_requests(new), ["ASKING", "BLPOP k 0"]);
    driver.reply_where_asked(new, &format!("+OK\r\n{}", popped("e")));
    assert_eq!(driver.output(client), popped("e"));
}

#[test]
fn a_node_that_is_demoted_says_so_and_closes_b5() {
    let mut driver = Driver::new();
    let (old, new) = (driver.owner("k"), another(&driver, "k"));
    let client = blocked(&mut driver, "BLPOP k 0");
    driver.pass(Duration::from_secs(100));
    driver.reply_where_asked(old, FORCED);
    assert_eq!(driver.output(client), "");
    driver.adopt(2, &[("k", new)]);
    assert_eq!(driver.all_requests(new), ["BLPOP k 0"]);
    // Nothing else is sent to where the old node is about to close.
    assert!(driver.all_requests(old).is_empty());
    driver.reply_where_asked(new, &popped("e"));
    assert_eq!(driver.output(client), popped("e"));
}

#[test]
fn the_node_is_asked_to_unblock_over_another_connection_b9() {
    for (is_error, reason, reply) in [
        (false, "TIMEOUT", NIL),
        (
            true,
            "ERROR",
            "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n",
        ),
    ] {
        let mut driver = Driver::new();
        let node = driver.owner("k");
        let client = blocked(&mut driver, "BLPOP k 0");
        let other = driver.client();
        driver.send(other, "GET k");
        let [blpop, shared] = [0, 1].map(|at| driver.links_to_in_order(node)[at]);
        driver.reply_on(shared, &bulk("v"));
        driver.output(other);
        driver.engine.unblock(client, is_error);
        driver.settle();
        let command = format!("CLIENT UNBLOCK 100 {reason}");
        assert!(driver.all_requests(node).contains(&command));
        driver.reply_on(shared, ":1\r\n");
        assert_eq!(driver.output(client), "", "the node answers");
        driver.reply_on(blpop, reply);
        assert_eq!(driver.output(client), reply);
        driver.engine.unblock(client, is_error);
        driver.settle();
        driver.engine.check_nothing_left();
    }
}

/// The node does not let the proxy, or there is no other connection, or no node at all.
#[test]
fn a_client_is_unblocked_in_any_case_b9() {
    let error = "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n";
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = blocked(&mut driver, "BLPOP k 0");
    driver.engine.unblock(client, true);
    driver.settle();
    assert_eq!(driver.output(client), error);
    assert_eq!(driver.connections_to(node), 0, "nothing is popped for it");

    let other = driver.client();
    driver.send(other, "GET k");
    driver.reply(node, &bulk("v"));
    driver.send(client, "BLPOP k 0");
    driver.engine.unblock(client, true);
    driver.settle();
    driver.pass(Duration::from_millis(900));
    assert_eq!(driver.output(client), "");
    driver.pass(Duration::from_millis(200));
    assert_eq!(driver.output(client), error);

    driver.adopt(2, &[("k", NOBODY)]);
    driver.send(client, "BLPOP k 0");
    driver.engine.unblock(client, false);
    driver.settle();
    assert_eq!(driver.output(client), NIL);

    driver.open = false;
    driver.adopt(3, &[("k", another(&driver, "k"))]);
    driver.send(client, "BLPOP k 0");
    driver.engine.unblock(client, false);
    driver.settle();
    assert_eq!(driver.output(client), NIL);

    driver.send(client, "GET a");
    driver.engine.unblock(client, false);
    driver.settle();
    assert_eq!(driver.output(client), "", "it does not wait");
}

/// From an operator's hand, or another client's: it is the reply.
#[test]
fn what_the_node_says_to_one_unblocked_by_others_is_the_reply_b9() {
    let mut driver = Driver::new();
    let client = blocked(&mut driver, "BLPOP k 0");
    let error = "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n";
    driver.reply_where_asked(driver.owner("k"), error);
    assert_eq!(driver.output(client), error);
}

#[test]
fn without_an_owner_it_waits_for_one_as_long_as_its_time_b5() {
    let mut driver = Driver::new();
    let new = another(&driver, "k");
    driver.adopt(2, &[("k", NOBODY)]);
    let client = blocked(&mut driver, "BLPOP k 30");
    driver.pass(Duration::from_secs(20));
    assert_eq!(driver.output(client), "", "longer than others");
    driver.adopt(3, &[("k", new)]);
    assert_eq!(driver.all_requests(new), ["BLPOP k 10.000"]);
    driver.reply_where_asked(new, NIL);
    assert_eq!(driver.output(client), NIL);

    driver.adopt(4, &[("k", NOBODY)]);
    let client = blocked(&mut driver, "BLPOP k 5");
    driver.pass(Duration::from_millis(4900));
    assert_eq!(driver.output(client), "");
    driver.pass(Duration::from_millis(200));
    assert_eq!(driver.output(client), NIL, "as if nothing had come");

    let client = blocked(&mut driver, "BLPOP k 0");
    driver.pass(Duration::from_secs(61));
    let slot = Slot::of_key(b"k").get();
    let unowned = format!("-CLUSTERDOWN proxy: no master for slot {slot} within 60000 ms\r\n");
    assert_eq!(driver.output(client), unowned);
    driver.engine.check_nothing_left();
}

/// The time ran out while its connection was opened: what the node has against it then is nothing to its client.
#[test]
fn a_refusal_after_its_time_is_not_shown_b4() {
    for refusal in [
        "-CLUSTERDOWN The cluster is down\r\n",
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
    ] {
        let mut driver = Driver::new();
        let node = driver.owner("k");
        let client = blocked(&mut driver, "BLPOP k 2");
        driver.pass(Duration::from_millis(2100));
        driver.reply_where_asked(node, refusal);
        driver.pass(Duration::from_millis(200));
        assert_eq!(driver.output(client), NIL, "{refusal}");
        driver.engine.check_nothing_left();
    }
}

/// It has waited for long: what it may wait for a node counts from then on.
#[test]
fn a_refusal_after_a_long_time_is_the_first_one_b5() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = blocked(&mut driver, "BLPOP k 0");
    for _ in 0..10 {
        driver.pass(Duration::from_secs(600));
        driver.reply_where_asked(
            node,
            "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
        );
        driver.pass(Duration::from_millis(10));
        assert_eq!(driver.output(client), "");
    }
    // One that comes at once is not.
    for _ in 0..100 {
        if driver.answer_all(
            node,
            "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
        ) == 0
        {
            driver.pass(Duration::from_millis(50));
        }
    }
    assert!(driver.output(client).starts_with("-TRYAGAIN"));
}

#[test]
fn a_lost_connection_is_uncertain_but_for_xread_b8() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    for command in [
        "BLPOP k 0",
        "BLMOVE k k LEFT LEFT 0",
        "XREADGROUP GROUP g c BLOCK 0 STREAMS k >",
    ] {
        let client = blocked(&mut driver, command);
        driver.pass(Duration::from_millis(10));
        driver.cut(node);
        assert_eq!(driver.output(client), UNCERTAIN, "{command}");
        driver.pass(Duration::from_secs(1));
    }
    let client = blocked(&mut driver, "XREAD BLOCK 0 STREAMS k 0");
    for _ in 0..5 {
        driver.pass(Duration::from_secs(100));
        driver.cut(node);
        assert_eq!(driver.output(client), "");
        driver.pass(Duration::from_secs(1));
        assert_eq!(driver.all_requests(node), ["XREAD BLOCK 0 STREAMS k 0"]);
    }
}

#[test]
fn a_request_that_was_not_wholly_written_is_sent_again_b8() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = blocked(&mut driver, "BLPOP k 0");
    driver.reply_where_asked(node, NIL);
    driver.output(client);
    driver.send_with_slow_node(client, "BLPOP k 7", 5);
    driver.cut(node);
    driver.pass(Duration::from_secs(1));
    let requests = driver.all_requests(node);
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].starts_with("BLPOP k 6."), "{requests:?}");
}

#[test]
fn a_client_that_leaves_takes_its_connection_along_at_once_b6() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = blocked(&mut driver, "BLPOP k 0");
    let link = driver.links_to(node)[0];
    driver.engine.remove_session(client, CloseReason::Client);
    assert_eq!(
        driver.engine.next_action(),
        Some(Action::CloseLink(link)),
        "before anything else"
    );
    driver.lose(link, crate::engine::LinkLoss::Closed);
    assert_eq!(driver.connections_to(node), 0);
    assert!(driver.hints.is_empty(), "no fault of the node");
    driver.engine.check_nothing_left();
    blocked(&mut driver, "BLPOP k 0");
    assert_eq!(driver.all_requests(node), ["BLPOP k 0"]);
}

#[test]
fn a_client_that_leaves_before_its_connection_is_there_waits_for_nothing_b6() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    driver.open = false;
    let client = blocked(&mut driver, "BLPOP k 0");
    driver.leave(client);
    driver.connect_pending(0);
    assert!(driver.all_requests(node).is_empty());
    driver.engine.check_nothing_left();
    driver.open = true;
    blocked(&mut driver, "BLPOP k 1");
    assert_eq!(driver.all_requests(node), ["BLPOP k 1"], "it is as new");
    assert_eq!(driver.connections_to(node), 1);
}

/// A server frees a client that waits when it sends nothing more, though that client may read on.
#[test]
fn one_that_waits_is_gone_when_it_sends_nothing_more_b6() {
    let mut driver = Driver::new();
    let client = blocked(&mut driver, "BLPOP k 0");
    assert_eq!(driver.engine.must_close(client), None);
    driver.engine.end_session(client, CloseReason::Client);
    assert_eq!(driver.engine.must_close(client), Some(CloseReason::Client));

    // The same when the shell does not read it.
    let client = blocked(&mut driver, "BLPOP k 0");
    driver.engine.note_hang_up(client);
    assert_eq!(driver.engine.must_close(client), Some(CloseReason::Client));
}

/// Its end comes behind what it has sent before: that is taken in, though there is no room for more requests.
#[test]
fn one_that_waits_is_read_on_b6() {
    let mut driver = Driver::with(|limits| {
        limits.session_in_flight = 4;
        limits.input_ahead_bytes = 1000;
    });
    let node = driver.owner("k");
    let client = blocked(&mut driver, "BLPOP k 0");
    let get = encode("GET k");
    let room = 1000usize.div_ceil(get.len());
    for _ in 0..3 + room {
        assert!(driver.engine.wants_input(client));
        driver.send_raw(client, &get);
    }
    assert!(!driver.engine.wants_input(client), "there is a bound");
    driver.reply_where_asked(node, NIL);
    let mut answered = 0;
    while answered < 3 + room {
        answered += driver.answer_all(node, &bulk("v"));
    }
    assert_eq!(
        driver.output(client),
        NIL.to_owned() + &bulk("v").repeat(answered)
    );
    driver.engine.check_nothing_left();
}

#[test]
fn nothing_waits_for_a_client_that_sends_nothing_more_b6() {
    let mut driver = Driver::new();
    let (here, there) = driver.two_keys_on_two_nodes();
    for end in [
        (|driver, client| driver.engine.end_session(client, CloseReason::Client))
            as fn(&mut Driver, SessionKey),
        |driver, client| driver.engine.note_hang_up(client),
        |driver, _| driver.engine.drain(),
    ] {
        let client = driver.client();
        driver.send(client, &format!("GET {here}"));
        driver.send(client, &format!("BLPOP {there} 0"));
        end(&mut driver, client);
        assert_eq!(driver.engine.must_close(client), None, "a reply is owed");
        driver.reply(driver.owner(&here), &bulk("v"));
        assert!(driver.engine.must_close(client).is_some());
        assert_eq!(driver.output(client), bulk("v"));
        assert_eq!(driver.connections_to(driver.owner(&there)), 0);
        driver.leave(client);
    }
    driver.engine.check_nothing_left();
}

/// It might wait for ever, and has lost nothing.
#[test]
fn draining_does_not_wait_for_one_that_waits_d12() {
    let mut driver = Driver::new();
    let client = blocked(&mut driver, "BLPOP k 0");
    driver.engine.drain();
    assert_eq!(
        driver.engine.must_close(client),
        Some(CloseReason::Shutdown)
    );
    driver.leave(client);
    assert_eq!(driver.connections_to(driver.owner("k")), 0);
}

#[test]
fn at_a_node_that_is_no_primary_nobody_waits_for_long_b11() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let new = another(&driver, "k");
    let popper = blocked(&mut driver, "BLPOP k 0");
    let reader = blocked(&mut driver, "XREAD BLOCK 0 STREAMS k 0");
    driver.pass(Duration::from_secs(100));
    driver.take_over(2, node, new);
    driver.pass(Duration::from_millis(1500));
    assert_eq!(driver.output(popper), "", "it may tell them itself");
    driver.pass(Duration::from_millis(1000));
    assert_eq!(driver.output(popper), UNCERTAIN);
    assert_eq!(driver.output(reader), "");
    assert_eq!(driver.all_requests(new), ["XREAD BLOCK 0 STREAMS k 0"]);
}

/// One tries whether it takes requests again: that it is let wait is the answer.
#[test]
fn a_node_that_lets_one_wait_takes_the_others_pk7() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    for _ in 0..20 {
        blocked(&mut driver, "BLPOP k 0");
    }
    let loading = "-LOADING Valkey is loading the dataset in memory\r\n";
    assert_eq!(driver.answer_all(node, loading), 20);
    driver.pass(Duration::from_millis(40));
    assert_eq!(driver.answer_all(node, loading), 1, "one tries");
    driver.pass(Duration::from_millis(60));
    driver.pass(Duration::from_millis(110));
    driver.pass(Duration::from_millis(10));
    assert_eq!(driver.answer_all(node, NIL), 20);
}

#[test]
fn there_is_a_bound_to_those_that_wait_b3() {
    let mut driver = Driver::with(|limits| limits.private_links = 2);
    let node = driver.owner("k");
    let first = blocked(&mut driver, "BLPOP k 0");
    blocked(&mut driver, "BLPOP k 0");
    let third = driver.client();
    driver.send(third, "BLPOP k 0");
    assert_eq!(
        driver.output(third),
        "-ERR proxy: too many blocked clients\r\n"
    );
    driver.reply_on(driver.links_to_in_order(node)[0], NIL);
    assert_eq!(driver.output(first), NIL);
    driver.send(third, "BLPOP k 0");
    assert_eq!(driver.output(third), "");
}

/// They would otherwise take all the memory that there is for replies.
#[test]
fn those_that_wait_take_no_room_for_replies() {
    let mut driver = Driver::with(|limits| limits.reply_bytes = 1 << 20);
    for _ in 0..100 {
        blocked(&mut driver, "BLPOP k 0");
    }
    assert_eq!(driver.engine.report().reply_bytes, 0);
}

#[test]
fn what_nobody_can_make_out_is_refused_by_a_node_k4() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "BLMPOP 0 many k LEFT");
    let node = (7000..7003)
        .find(|node| !driver.all_requests(*node).is_empty())
        .unwrap();
    let error = "-ERR numkeys should be greater than 0\r\n";
    driver.reply_where_asked(node, error);
    assert_eq!(driver.output(client), error);
}

#[test]
fn a_reply_of_any_size_and_in_any_pieces() {
    let mut driver = Driver::new();
    let node = driver.owner("k");
    let client = blocked(&mut driver, "BLMOVE k k LEFT LEFT 0");
    let link = driver.links_to(node)[0];
    let big = bulk(&"x".repeat(300 << 10));
    for piece in big.as_bytes().chunks(64 << 10) {
        driver.reply_on(link, std::str::from_utf8(piece).unwrap());
    }
    assert_eq!(driver.output(client), big);
    driver.engine.check_nothing_left();
}

#[test]
fn a_client_may_be_closed_instead_of_told_that_nobody_knows_d6() {
    let mut driver = Driver::new();
    let client = driver.client_of(ListenerSettings {
        on_uncertain: crate::local::OnUncertain::Close,
        ..ListenerSettings::default()
    });
    driver.send(client, "BLPOP k 0");
    driver.cut(driver.owner("k"));
    assert_eq!(
        driver.engine.must_close(client),
        Some(CloseReason::Uncertain)
    );
}

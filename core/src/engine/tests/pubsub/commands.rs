//! What clients are answered, and when: acknowledgements, messages, what else they may do.

use super::*;
use crate::engine::tests::driver::encode;

#[test]
fn the_acknowledgement_waits_for_that_of_the_node_u2() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "SUBSCRIBE a b");
    let node = home(&driver);
    assert_eq!(driver.asked_on_feed(node), ["subscribe a", "subscribe b"]);
    driver.say(node, ack("subscribe", "a", 1).as_bytes());
    driver.say(node, message("a", "too early").as_bytes());
    assert_eq!(driver.output(client), "");
    driver.say(node, ack("subscribe", "b", 2).as_bytes());
    let acks = ack("subscribe", "a", 1) + &ack("subscribe", "b", 2);
    assert_eq!(driver.output(client), acks);
    driver.say(node, message("a", "m").as_bytes());
    assert_eq!(driver.output(client), message("a", "m"));
}

#[test]
fn one_subscription_at_the_node_serves_all_u1() {
    let mut driver = Driver::new();
    let clients: Vec<SessionKey> = (0..50).map(|_| driver.client()).collect();
    driver.send(clients[7], "HELLO 3");
    driver.output(clients[7]);
    for client in &clients {
        driver.send(*client, "SUBSCRIBE a");
    }
    let node = home(&driver);
    assert_eq!(driver.asked_on_feed(node), ["subscribe a"]);
    driver.say(node, ack("subscribe", "a", 1).as_bytes());
    let late = driver.client();
    driver.send(late, "SUBSCRIBE a");
    assert_eq!(
        driver.output(late),
        ack("subscribe", "a", 1),
        "from memory [U2]"
    );
    driver.say(node, (message("a", "1") + &message("a", "2")).as_bytes());
    let both = message("a", "1") + &message("a", "2");
    for (number, client) in clients.iter().enumerate() {
        let ack = ack("subscribe", "a", 1);
        let expected = match number {
            7 => push(&ack) + &push(&message("a", "1")) + &push(&message("a", "2")),
            _ => ack + &both,
        };
        assert_eq!(driver.output(*client), expected);
    }
    assert_eq!(driver.output(late), both);
    assert_eq!(driver.engine.metrics().messages, 102);
}

#[test]
fn counts_are_the_sessions_own_u3() {
    let mut driver = Driver::new();
    let (client, other) = (driver.client(), driver.client());
    subscribe(&mut driver, other, "SUBSCRIBE x y z");
    driver.send(client, "SUBSCRIBE a b a");
    driver.send(client, "PSUBSCRIBE p*");
    driver.send(client, "SSUBSCRIBE {t}s");
    for _ in 0..3 {
        agree(&mut driver);
    }
    let expected = [
        ack("subscribe", "a", 1),
        ack("subscribe", "b", 2),
        ack("subscribe", "a", 2),
        ack("psubscribe", "p*", 3),
        ack("ssubscribe", "{t}s", 1),
    ];
    assert_eq!(driver.output(client), expected.concat());
    for command in [
        "SUBSCRIBE b",
        "UNSUBSCRIBE nope",
        "PUNSUBSCRIBE",
        "SUNSUBSCRIBE",
        "UNSUBSCRIBE",
    ] {
        driver.send(client, command);
    }
    let expected = [
        ack("subscribe", "b", 3),
        ack("unsubscribe", "nope", 3),
        ack("punsubscribe", "p*", 2),
        ack("sunsubscribe", "{t}s", 0),
        ack("unsubscribe", "a", 1),
        ack("unsubscribe", "b", 0),
    ];
    assert_eq!(driver.output(client), expected.concat());
    for command in ["UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"] {
        driver.send(client, command);
        let word = bulk(&command.to_lowercase());
        assert_eq!(driver.output(client), format!("*3\r\n{word}$-1\r\n:0\r\n"));
    }
    driver.send(client, "HELLO 3");
    driver.output(client);
    driver.send(client, "UNSUBSCRIBE");
    assert_eq!(
        driver.output(client),
        ">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n"
    );
}

#[test]
fn an_acknowledgement_is_where_the_reply_would_be() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "HELLO 3");
    driver.output(client);
    let pipeline = [
        "GET k",
        "SUBSCRIBE a",
        "PING",
        "GET k",
        "UNSUBSCRIBE a",
        "PING",
    ];
    let bytes: Vec<u8> = pipeline
        .iter()
        .flat_map(|command| encode(command))
        .collect();
    driver.send_raw(client, &bytes);
    let owner = driver.owner("k");
    assert!(driver.feeds().is_empty(), "its turn has not come");
    driver.reply_resp3(owner, &bulk("1"));
    let node = home(&driver);
    assert_eq!(driver.output(client), bulk("1"));
    agree(&mut driver);
    assert_eq!(
        driver.output(client),
        push(&ack("subscribe", "a", 1)) + "+PONG\r\n"
    );
    driver.say(node, message("a", "m").as_bytes());
    assert_eq!(
        driver.output(client),
        push(&message("a", "m")),
        "between two replies"
    );
    driver.reply_resp3(owner, &bulk("2"));
    driver.say(node, message("a", "late").as_bytes());
    let end = bulk("2") + &push(&ack("unsubscribe", "a", 0)) + "+PONG\r\n";
    assert_eq!(driver.output(client), end);
}

#[test]
fn in_resp2_a_subscriber_may_do_little_else_u4() {
    let mut driver = Driver::new();
    let client = driver.client();
    let mut bytes = encode("SUBSCRIBE a");
    for command in [
        "PING",
        "PING x",
        "GET k",
        "CLIENT LIST",
        "MULTI",
        "GET",
        "PING a b",
        "NOPE",
        "ECHO x",
    ] {
        bytes.extend(encode(command));
    }
    driver.send_raw(client, &bytes);
    agree(&mut driver);
    let only = |name: &str| {
        format!(
            "-ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n"
        )
    };
    let expected = [
        ack("subscribe", "a", 1),
        array(&["pong", ""]),
        array(&["pong", "x"]),
        only("get"),
        only("client|list"),
        only("multi"),
        "-ERR wrong number of arguments for 'get' command\r\n".to_owned(),
        "-ERR wrong number of arguments for 'ping' command\r\n".to_owned(),
        "-ERR unknown command 'NOPE', with args beginning with: \r\n".to_owned(),
        only("echo"),
    ];
    assert_eq!(driver.output(client), expected.concat());
    driver.send(client, "UNSUBSCRIBE");
    driver.send(client, "PING");
    driver.send(client, "MULTI");
    driver.send(client, "DISCARD");
    let expected = ack("unsubscribe", "a", 0) + "+PONG\r\n+OK\r\n+OK\r\n";
    assert_eq!(driver.output(client), expected);
}

#[test]
fn a_transaction_cannot_subscribe() {
    let mut driver = Driver::new();
    let client = driver.client();
    for command in ["MULTI", "SUBSCRIBE a", "EXEC"] {
        driver.send(client, command);
    }
    let output = driver.output(client);
    assert!(
        output.contains("-ERR proxy: command 'subscribe' is not allowed in a transaction"),
        "{output}"
    );
    assert!(
        output.ends_with("-EXECABORT Transaction discarded because of previous errors.\r\n"),
        "{output}"
    );
    assert!(driver.feeds().is_empty());
}

#[test]
fn reset_quit_and_a_disconnect_end_subscriptions_u11() {
    let mut driver = Driver::new();
    let clients = [
        driver.client(),
        driver.client(),
        driver.client(),
        driver.client(),
    ];
    for client in clients {
        driver.send(client, "SUBSCRIBE a");
    }
    let node = home(&driver);
    agree(&mut driver);
    for client in clients {
        driver.output(client);
    }
    driver.send(clients[0], "RESET");
    driver.send(clients[1], "QUIT");
    driver.leave(clients[2]);
    driver.say(node, message("a", "m").as_bytes());
    assert_eq!(driver.output(clients[0]), "+RESET\r\n");
    assert_eq!(driver.output(clients[1]), "+OK\r\n");
    assert_eq!(closes(&driver, clients[1]), Some(CloseReason::Quit));
    assert_eq!(driver.output(clients[3]), message("a", "m"));
    driver.send(clients[0], "PING");
    assert_eq!(driver.output(clients[0]), "+PONG\r\n");
}

#[test]
fn what_nobody_has_any_more_is_kept_for_a_second_u2() {
    let mut driver = Driver::new();
    let client = driver.client();
    subscribe(&mut driver, client, "SUBSCRIBE a");
    let node = home(&driver);
    driver.send(client, "UNSUBSCRIBE");
    driver.pass(SECOND / 2);
    driver.output(client);
    driver.send(client, "SUBSCRIBE a");
    assert_eq!(
        driver.output(client),
        ack("subscribe", "a", 1),
        "from memory"
    );
    driver.send(client, "UNSUBSCRIBE");
    driver.pass(SECOND / 2);
    assert_eq!(
        driver.asked_on_feed(node),
        ["PING"],
        "it was quiet for a second"
    );
    driver.say(node, b"+PONG\r\n");
    driver.pass(SECOND);
    assert_eq!(driver.asked_on_feed(node), ["unsubscribe a"]);
    driver.output(client);
    // Before the node has said so, somebody wants it again.
    driver.send(client, "SUBSCRIBE a");
    assert_eq!(driver.asked_on_feed(node), ["subscribe a"]);
    driver.say(node, ack("unsubscribe", "a", 0).as_bytes());
    assert_eq!(driver.output(client), "");
    driver.say(node, ack("subscribe", "a", 1).as_bytes());
    assert_eq!(driver.output(client), ack("subscribe", "a", 1));
    driver.leave(client);
    driver.pass(SECOND * 2);
    agree(&mut driver);
    driver.pass(SECOND);
    assert!(
        driver.feeds().is_empty(),
        "a feed without subscriptions is closed"
    );
}

#[test]
fn channels_are_any_bytes() {
    let mut driver = Driver::new();
    let client = driver.client();
    let name = b"\x00\r\n*\xff $3";
    let mut request = Vec::new();
    crate::resp::write::command(&mut request, &[b"SUBSCRIBE", name]);
    driver.send_raw(client, &request);
    let node = home(&driver);
    let mut reply = Vec::new();
    crate::pubsub::write_ack(
        &mut reply,
        "subscribe",
        Some(name),
        1,
        crate::resp::Protocol::Resp2,
    );
    driver.say(node, &reply);
    let mut frame = Vec::new();
    crate::resp::write::command(&mut frame, &[b"message", name, name]);
    driver.say(node, &frame);
    assert_eq!(
        driver.engine.session_output(client),
        [reply, frame].concat()
    );
}

#[test]
fn client_reply_hides_replies_but_not_messages_l1() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "CLIENT REPLY OFF");
    driver.send(client, "SUBSCRIBE a");
    agree(&mut driver);
    let node = home(&driver);
    driver.send(client, "PING");
    driver.send(client, "GET k");
    driver.say(node, message("a", "m").as_bytes());
    let expected = ack("subscribe", "a", 1) + &message("a", "m");
    assert_eq!(driver.output(client), expected);
}

#[test]
fn a_message_to_channel_and_pattern_comes_twice_in_the_nodes_order_u5() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "SUBSCRIBE news");
    agree(&mut driver);
    driver.send(client, "PSUBSCRIBE n* ?ews");
    agree(&mut driver);
    driver.output(client);
    let node = home(&driver);
    let said = [
        message("news", "m"),
        array(&["pmessage", "?ews", "news", "m"]),
        array(&["pmessage", "n*", "news", "m"]),
    ];
    driver.say(node, said.concat().as_bytes());
    assert_eq!(driver.output(client), said.concat());
}

#[test]
fn no_message_comes_inside_a_reply() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "HELLO 3");
    subscribe(&mut driver, client, "SUBSCRIBE a");
    let node = home(&driver);
    let owner = driver.owner("k");
    driver.send(client, "GET k");
    driver.send(client, "HELLO 2");
    driver.send(client, "PING");
    let reply = bulk(&"x".repeat(300 << 10));
    let (first, second) = reply.split_at(200 << 10);
    driver.reply_resp3(owner, first);
    assert_eq!(
        driver.output(client),
        first,
        "it is passed on while it arrives"
    );
    driver.say(node, message("a", "m").as_bytes());
    assert_eq!(driver.output(client), "");
    driver.reply_resp3(owner, second);
    let output = driver.output(client);
    let expected = second.to_owned() + &push(&message("a", "m")) + "*14\r\n";
    assert!(
        output.starts_with(&expected),
        "in the version of before HELLO"
    );
    assert!(
        output.ends_with(&array(&["pong", ""])),
        "in that of after it"
    );
    driver.say(node, message("a", "m").as_bytes());
    assert_eq!(driver.output(client), message("a", "m"));
}

#[test]
fn subscriptions_are_bounded() {
    let mut driver = Driver::with(|limits| limits.subscription_bytes = 2000);
    let client = driver.client();
    subscribe(&mut driver, client, "SUBSCRIBE a b c d e");
    driver.send(client, "SUBSCRIBE f g h");
    assert_eq!(
        driver.output(client),
        "-ERR proxy: too many subscriptions\r\n"
    );
    driver.send(client, "UNSUBSCRIBE");
    driver.output(client);
    driver.pass(SECOND * 2);
    agree(&mut driver);
    driver.send(client, "SUBSCRIBE f g h");
    agree(&mut driver);
    assert!(driver.output(client).ends_with(":3\r\n"));
}

#[test]
fn what_others_have_costs_a_client_little() {
    let mut driver = Driver::with(|limits| limits.subscription_bytes = 1500);
    let (client, other) = (driver.client(), driver.client());
    subscribe(&mut driver, client, "SUBSCRIBE a b c d e");
    driver.send(other, "SUBSCRIBE a b c d e");
    assert!(driver.output(other).ends_with(":5\r\n"));
    driver.send(other, "SUBSCRIBE f");
    assert_eq!(
        driver.output(other),
        "-ERR proxy: too many subscriptions\r\n"
    );
}

#[test]
fn subscriptions_at_every_primary_cost_more() {
    for (limit, is_taken) in [(650, false), (700, true)] {
        let mut driver = Driver::with(|limits| limits.subscription_bytes = limit);
        let client = driver.client();
        driver.send(client, "SUBSCRIBE __key1 __key2");
        agree(&mut driver);
        assert_eq!(driver.output(client).ends_with(":2\r\n"), is_taken);
        let bytes = driver.engine.subscriptions.registry.bytes();
        assert_eq!(bytes, if is_taken { 684 } else { 0 });
    }
}

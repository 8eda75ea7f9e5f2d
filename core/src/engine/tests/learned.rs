//! Commands the servers told of [K14]-[K18]: those of the module in `tests/data/module`, by a captured reply to `COMMAND INFO`.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::driver::{Driver, bulk};
use super::parts::three_keys;
use crate::command::CommandId;
use crate::command::learned::{LearnedTable, Learner, Told};
use crate::engine::SessionKey;
use crate::local::testing::TestEnvironment;
use crate::metrics::Outcome;
use crate::session::client_state::ClientState;

const TOLD: &[u8] = include_bytes!("../../command/learned/testdata/redis-7.0.resp2");

fn table() -> LearnedTable {
    let told = Told::parse(TOLD).unwrap();
    let (learned, _) = Learner::default().learn(told.entries);
    LearnedTable::union([learned.as_slice()]).0
}

/// A client whose proxy has learned nothing yet, and what it sees.
fn client(driver: &mut Driver) -> (SessionKey, Rc<TestEnvironment>) {
    let env = Rc::new(TestEnvironment::default());
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 6379));
    let state = ClientState::new(1, address, address, false);
    (driver.engine.add_session(state, Rc::clone(&env) as _), env)
}

/// A client whose proxy has learned the module's commands.
fn informed(driver: &mut Driver) -> SessionKey {
    let (client, env) = client(driver);
    *env.learned.borrow_mut() = Arc::new(table());
    client
}

fn counted(driver: &Driver, outcome: Outcome) -> u64 {
    driver.engine.metrics().commands[CommandId::LEARNED.index()].outcomes[outcome.index()]
}

#[test]
fn an_unknown_name_is_refused_and_asked_for_until_it_is_learned_k15() {
    let mut driver = Driver::new();
    let (client, env) = client(&mut driver);
    driver.send(client, "SLOT.GET k");
    assert_eq!(
        driver.output(client),
        "-ERR unknown command 'SLOT.GET', with args beginning with: 'k' \r\n"
    );
    assert_eq!(env.commands_wanted.get(), 1);
    assert_eq!(driver.engine.metrics().unknown_commands, 1);
    *env.learned.borrow_mut() = Arc::new(table());
    driver.send(client, "SLOT.GET k");
    let node = driver.owner("k");
    assert_eq!(driver.requests(node), ["SLOT.GET k"]);
    driver.reply(node, &bulk("v"));
    assert_eq!(driver.output(client), bulk("v"));
    assert_eq!(env.commands_wanted.get(), 1);
    assert_eq!(counted(&driver, Outcome::Ok), 1);
}

#[test]
fn nobody_without_the_password_learns_what_there_is() {
    let mut driver = Driver::new();
    let env = Rc::new(TestEnvironment::default());
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 6379));
    let state = ClientState::new(1, address, address, true);
    let client = driver.engine.add_session(state, Rc::clone(&env) as _);
    driver.send(client, "SLOT.GET k");
    assert_eq!(
        driver.output(client),
        "-NOAUTH Authentication required.\r\n"
    );
    assert_eq!(env.commands_wanted.get(), 0);
}

#[test]
fn wrong_calls_are_refused_as_by_a_server_k8_k20() {
    let mut driver = Driver::new();
    let client = informed(&mut driver);
    for (call, error) in [
        (
            "slot.get",
            "wrong number of arguments for 'Slot.Get' command",
        ),
        (
            "slot.box",
            "wrong number of arguments for 'slot.box' command",
        ),
        (
            "slot.box nOne",
            "unknown subcommand 'nOne'. Try SLOT.BOX HELP.",
        ),
        (
            "slot.wait k",
            "proxy: command 'slot.wait' is not supported through this proxy: it may block",
        ),
    ] {
        driver.send(client, call);
        assert_eq!(driver.output(client), format!("-ERR {error}\r\n"), "{call}");
    }
}

#[test]
fn keys_of_several_slots_are_refused_or_split_by_the_tips_k7_k16() {
    let mut driver = Driver::new();
    let client = informed(&mut driver);
    let [a, b, c] = three_keys(&driver);
    driver.send(client, &format!("slot.count {a} {b}"));
    assert!(driver.output(client).starts_with("-CROSSSLOT"));
    driver.send(client, &format!("slot.mset {a} 1 {b} 2 {a} 3"));
    assert_eq!(driver.requests(7000), [format!("slot.mset {a} 1 {a} 3")]);
    assert_eq!(driver.requests(7001), [format!("slot.mset {b} 2")]);
    driver.reply(7000, "+OK\r\n");
    driver.reply(7001, "+OK\r\n");
    assert_eq!(driver.output(client), "+OK\r\n");
    // A key without a value cannot be told from a value.
    driver.send(client, &format!("slot.mset {a} 1 {b}"));
    assert!(driver.output(client).starts_with("-CROSSSLOT"));
    // What stands behind the keys goes to everybody, and replies are in key order.
    driver.send(client, &format!("slot.mget {c} {a} {c} path"));
    assert_eq!(driver.requests(7002), [format!("slot.mget {c} {c} path")]);
    assert_eq!(
        driver.requests(7000).last(),
        Some(&format!("slot.mget {a} path"))
    );
    driver.reply(7000, &format!("*1\r\n{}", bulk("A")));
    driver.reply(7002, "*2\r\n:1\r\n:2\r\n");
    assert_eq!(
        driver.output(client),
        format!("*3\r\n:1\r\n{}:2\r\n", bulk("A"))
    );
}

#[test]
fn a_part_of_a_write_that_fails_is_told_p7() {
    let mut driver = Driver::new();
    let client = informed(&mut driver);
    let [a, b, _] = three_keys(&driver);
    driver.send(client, &format!("slot.mset {a} 1 {b} 2"));
    driver.reply(7000, "+OK\r\n");
    driver.reply(7001, "-ERR no\r\n");
    assert_eq!(
        driver.output(client),
        "-PARTIAL proxy: 1 of 2 parts applied, first error: ERR no\r\n"
    );
}

#[test]
fn a_keyless_command_with_a_policy_asks_every_primary_k16() {
    let mut driver = Driver::new();
    let client = informed(&mut driver);
    driver.send(client, "slot.total");
    for (port, count) in [(7000, 2), (7001, 0), (7002, 5)] {
        assert_eq!(driver.requests(port), ["slot.total"]);
        driver.reply(port, &format!(":{count}\r\n"));
    }
    assert_eq!(driver.output(client), ":7\r\n");
}

#[test]
fn reads_are_sent_again_and_writes_are_not_d4() {
    let mut driver = Driver::new();
    let client = informed(&mut driver);
    let node = driver.owner("k");
    driver.send(client, "slot.get k");
    driver.cut(node);
    driver.pass(Duration::from_millis(200));
    assert_eq!(driver.requests(node), ["slot.get k"]);
    driver.reply(node, &bulk("v"));
    assert_eq!(driver.output(client), bulk("v"));
    driver.send(client, "slot.box put k v");
    driver.cut(node);
    assert!(driver.output(client).starts_with("-UNCERTAIN"));
}

#[test]
fn what_a_module_says_is_no_refusal_of_a_server_e2() {
    let mut driver = Driver::new();
    let client = informed(&mut driver);
    let node = driver.owner("k");
    for error in [
        "-TRYAGAIN says the module\r\n",
        "-LOADING the index\r\n",
        "-CLUSTERDOWN of another kind\r\n",
    ] {
        driver.send(client, "slot.box put k v");
        driver.reply(node, error);
        assert_eq!(driver.output(client), error);
    }
}

#[test]
fn transactions_take_learned_commands_m2() {
    let mut driver = Driver::new();
    let client = informed(&mut driver);
    for command in ["MULTI", "slot.mset k 1", "slot.get k", "EXEC"] {
        driver.send(client, command);
    }
    let node = driver.owner("k");
    assert_eq!(
        driver.requests(node),
        ["MULTI", "slot.mset k 1", "slot.get k", "EXEC"]
    );
    driver.reply(node, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:1\r\n");
    assert_eq!(
        driver.output(client),
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:1\r\n"
    );
    for command in ["MULTI", "slot.total"] {
        driver.send(client, command);
    }
    assert!(
        driver
            .output(client)
            .contains("is not allowed in a transaction")
    );
    driver.send(client, "EXEC");
    assert!(driver.output(client).starts_with("-EXECABORT"));
}

#[test]
fn command_shows_what_was_learned() {
    let mut driver = Driver::new();
    let client = informed(&mut driver);
    driver.send(client, "COMMAND GETKEYS slot.mget a b path");
    assert_eq!(
        driver.output(client),
        format!("*2\r\n{}{}", bulk("a"), bulk("b"))
    );
}

/// Sends a command whose keys only a server knows; the node that is asked for them.
fn ask_for_keys(driver: &mut Driver, client: SessionKey) -> u16 {
    driver.send(client, "slot.movable w k");
    let asked = [7000, 7001, 7002].into_iter().find(|port| {
        let requests = driver.requests(*port);
        requests.last().map(String::as_str) == Some("COMMAND GETKEYS slot.movable w k")
    });
    asked.expect("a node is asked")
}

#[test]
fn a_node_tells_the_keys_and_the_session_waits_k17() {
    let mut driver = Driver::new();
    let client = informed(&mut driver);
    let node = driver.owner("k");
    let asked = ask_for_keys(&mut driver, client);
    driver.send(client, "GET k");
    assert!(!driver.requests(node).contains(&"GET k".to_owned()));
    driver.reply(asked, &format!("*1\r\n{}", bulk("k")));
    assert_eq!(
        driver.requests(node).last().map(String::as_str),
        Some("slot.movable w k")
    );
    driver.reply(node, &bulk("first"));
    assert_eq!(driver.output(client), bulk("first"));
    assert_eq!(
        driver.requests(node).last().map(String::as_str),
        Some("GET k")
    );
    driver.reply(node, &bulk("second"));
    assert_eq!(driver.output(client), bulk("second"));
    assert_eq!(counted(&driver, Outcome::Ok), 1);
}

#[test]
fn what_nodes_say_of_keys_decides_k17() {
    let [a, b, _] = three_keys(&Driver::new());
    let apart = format!("*2\r\n{}{}", bulk(&a), bulk(&b));
    let cases = [
        ("-NOPERM no permissions\r\n", "-NOPERM no permissions\r\n"),
        (
            apart.as_str(),
            "-CROSSSLOT Keys in request don't hash to the same slot\r\n",
        ),
        (":1\r\n", "-ERR proxy: unexpected reply of a node\r\n"),
    ];
    for (said, shown) in cases {
        let mut driver = Driver::new();
        let client = informed(&mut driver);
        let asked = ask_for_keys(&mut driver, client);
        driver.reply(asked, said);
        assert_eq!(driver.output(client), shown);
    }
    for none in [
        "The command has no key arguments",
        "Invalid arguments specified for command",
    ] {
        let mut driver = Driver::new();
        let client = informed(&mut driver);
        let asked = ask_for_keys(&mut driver, client);
        driver.reply(asked, &format!("-ERR {none}\r\n"));
        let requests = driver.requests(asked);
        assert_eq!(
            requests.last().map(String::as_str),
            Some("slot.movable w k")
        );
        driver.reply(asked, "-ERR no\r\n");
        assert_eq!(driver.output(client), "-ERR no\r\n");
    }
}

#[test]
fn the_question_is_asked_again_and_may_be_left_alone_k17() {
    let mut driver = Driver::new();
    let client = informed(&mut driver);
    let node = driver.owner("k");
    let asked = ask_for_keys(&mut driver, client);
    driver.cut(asked);
    driver.pass(Duration::from_millis(200));
    let question = driver.requests(asked);
    assert_eq!(
        question.last().map(String::as_str),
        Some("COMMAND GETKEYS slot.movable w k")
    );
    driver.reply(asked, &format!("*1\r\n{}", bulk("k")));
    let slot = crate::slot::Slot::of_key(b"k").get();
    let other = if node == 7000 { 7001 } else { 7000 };
    driver.reply(node, &format!("-MOVED {slot} 127.0.0.1:{other}\r\n"));
    assert_eq!(
        driver.requests(other).last().map(String::as_str),
        Some("slot.movable w k")
    );
    driver.reply(other, &bulk("v"));
    assert_eq!(driver.output(client), bulk("v"));
    ask_for_keys(&mut driver, client);
    driver.leave(client);
}

#[test]
fn a_transaction_cannot_ask_for_keys_m2() {
    let mut driver = Driver::new();
    let client = informed(&mut driver);
    for command in ["MULTI", "slot.movable w k"] {
        driver.send(client, command);
    }
    assert!(
        driver
            .output(client)
            .contains("is not allowed in a transaction")
    );
}

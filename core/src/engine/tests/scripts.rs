//! EVALSHA that a node does not know, while a client has sent the body before [X1].

use super::driver::{Driver, bulk, encode};
use crate::engine::{ScriptNews, SessionKey};
use crate::local::sha1::hex_digest;
use crate::metrics::RetryReason;
use crate::resp::write;
use crate::slot::Slot;

const NOSCRIPT: &str = "-NOSCRIPT No matching script. Please use EVAL.\r\n";
const BODY: &str = "return KEYS[1]";

/// Sends a command whose words may have blanks in them.
fn send(driver: &mut Driver, client: SessionKey, words: &[&str]) {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let mut raw = Vec::new();
    write::command(&mut raw, &words);
    driver.send_raw(client, &raw);
}

/// A client, and the owner of `k`, to which another client has sent [`BODY`].
fn setting(driver: &mut Driver) -> (SessionKey, u16) {
    let other = driver.client();
    let node = driver.owner("k");
    send(driver, other, &["EVAL", BODY, "1", "k"]);
    driver.reply(node, &bulk("k"));
    assert_eq!(driver.output(other), bulk("k"));
    (driver.client(), node)
}

fn evalsha(driver: &mut Driver, client: SessionKey) {
    driver.send(
        client,
        &format!("EVALSHA {} 1 k a", hex_digest(BODY.as_bytes())),
    );
}

fn again() -> String {
    format!("EVAL {BODY} 1 k a")
}

#[test]
fn a_script_the_node_does_not_know_is_sent_with_its_body_x1() {
    let mut driver = Driver::new();
    let (client, node) = setting(&mut driver);
    evalsha(&mut driver, client);
    driver.reply(node, NOSCRIPT);
    assert_eq!(driver.output(client), "");
    assert_eq!(driver.requests(node).last(), Some(&again()));
    driver.reply(node, &bulk("k"));
    assert_eq!(driver.output(client), bulk("k"));
    let retries = driver.engine.metrics().retries;
    assert_eq!(retries[RetryReason::Script.index()], 1);
    // Valkey says less.
    driver.send(
        client,
        &format!(
            "evalsha_ro {} 0",
            hex_digest(BODY.as_bytes()).to_uppercase()
        ),
    );
    let asked = (7000..7003).find(|port| {
        let last = driver.requests(*port).pop();
        last.is_some_and(|last| last.starts_with("evalsha_ro"))
    });
    let asked = asked.expect("one node was asked");
    driver.reply(asked, "-NOSCRIPT No matching script.\r\n");
    assert_eq!(
        driver.requests(asked).pop(),
        Some(format!("EVAL_RO {BODY} 0"))
    );
    driver.reply(asked, ":1\r\n");
    assert_eq!(driver.output(client), ":1\r\n");
    driver.engine.check_nothing_left();
}

#[test]
fn an_unknown_script_is_for_the_client_x1() {
    let mut driver = Driver::new();
    let (client, node) = setting(&mut driver);
    let before = driver.requests(node).len();
    driver.send(client, &format!("EVALSHA {} 1 k", "f".repeat(40)));
    driver.reply(node, NOSCRIPT);
    assert_eq!(driver.output(client), NOSCRIPT);
    // What EVAL itself says is its own.
    send(&mut driver, client, &["EVAL", "return ...", "1", "k"]);
    driver.reply(node, NOSCRIPT);
    assert_eq!(driver.output(client), NOSCRIPT);
    assert_eq!(driver.requests(node).len(), before + 2);
    driver.engine.check_nothing_left();
}

#[test]
fn all_of_a_pipeline_keep_their_order_x1() {
    let mut driver = Driver::new();
    let (client, node) = setting(&mut driver);
    let before = driver.requests(node).len();
    for _ in 0..3 {
        evalsha(&mut driver, client);
    }
    driver.reply(node, NOSCRIPT);
    assert_eq!(
        driver.requests(node).len(),
        before + 3,
        "the fate of the others is not known"
    );
    driver.reply(node, &NOSCRIPT.repeat(2));
    assert_eq!(
        driver.requests(node)[before + 3..],
        [again(), again(), again()]
    );
    driver.reply(node, ":1\r\n:2\r\n:3\r\n");
    assert_eq!(driver.output(client), ":1\r\n:2\r\n:3\r\n");
    driver.engine.check_nothing_left();
}

/// [O4]: sent now it would run behind the INCR that came after it.
#[test]
fn an_overtaken_script_is_not_sent_again_x1() {
    let mut driver = Driver::new();
    let (client, node) = setting(&mut driver);
    evalsha(&mut driver, client);
    driver.send(client, "INCR k");
    driver.send(client, "GET {k}2");
    let before = driver.requests(node).len();
    driver.reply(node, &[NOSCRIPT, ":1\r\n", &bulk("2")].concat());
    assert_eq!(
        driver.output(client),
        [NOSCRIPT, ":1\r\n", &bulk("2")].concat()
    );
    assert_eq!(driver.requests(node).len(), before);
    driver.engine.check_nothing_left();
}

#[test]
fn the_body_is_redirected_like_any_request_x1() {
    let mut driver = Driver::new();
    let (client, node) = setting(&mut driver);
    let other = if node == 7000 { 7001 } else { 7000 };
    let ask = format!("-ASK {} 127.0.0.1:{other}\r\n", Slot::of_key(b"k").get());
    evalsha(&mut driver, client);
    driver.reply(node, &ask);
    driver.reply(other, &["+OK\r\n", NOSCRIPT].concat());
    driver.reply(node, &ask);
    let asked = driver.requests(other);
    assert_eq!(asked[asked.len() - 2..], ["ASKING".to_owned(), again()]);
    driver.reply(other, "+OK\r\n:1\r\n");
    assert_eq!(driver.output(client), ":1\r\n");
    driver.engine.check_nothing_left();
}

#[test]
fn what_is_loaded_or_flushed_concerns_all_workers_q6() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    send(&mut driver, client, &["SCRIPT", "LOAD", BODY]);
    let loaded = ScriptNews::Loaded(BODY.as_bytes().into());
    assert_eq!(driver.script_news, std::slice::from_ref(&loaded));
    for port in 7000..7003 {
        driver.reply(port, &bulk(&hex_digest(BODY.as_bytes())));
    }
    driver.output(client);

    let mut elsewhere = Driver::new();
    let other = elsewhere.client();
    elsewhere.engine.on_script_news(loaded);
    evalsha(&mut elsewhere, other);
    elsewhere.reply(node, NOSCRIPT);
    assert_eq!(elsewhere.requests(node).last(), Some(&again()));
    elsewhere.reply(node, ":1\r\n");
    assert_eq!(elsewhere.output(other), ":1\r\n");
    assert!(elsewhere.script_news.is_empty());

    driver.script_news.clear();
    for (command, is_news) in [("SCRIPT FLUSH NOW", false), ("SCRIPT FLUSH sync", true)] {
        driver.send(client, command);
        assert_eq!(driver.script_news.len(), usize::from(is_news), "{command}");
        for port in 7000..7003 {
            driver.reply(port, "+OK\r\n");
        }
        driver.output(client);
    }
    assert_eq!(driver.script_news, [ScriptNews::Flushed]);
    elsewhere.engine.on_script_news(ScriptNews::Flushed);
    for (driver, client) in [(&mut driver, client), (&mut elsewhere, other)] {
        evalsha(driver, client);
        driver.reply(node, NOSCRIPT);
        assert_eq!(driver.output(client), NOSCRIPT);
        driver.engine.check_nothing_left();
    }
}

#[test]
fn bodies_of_transactions_are_learned_but_not_used_there_x2() {
    let mut driver = Driver::new();
    let client = driver.client();
    let node = driver.owner("k");
    driver.send(client, "MULTI");
    send(&mut driver, client, &["EVAL", BODY, "1", "k"]);
    evalsha(&mut driver, client);
    driver.send(client, "EXEC");
    driver.output(client);
    let replies = ["+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n", NOSCRIPT].concat();
    driver.reply(node, &replies);
    assert_eq!(driver.output(client), ["*2\r\n:1\r\n", NOSCRIPT].concat());
    evalsha(&mut driver, client);
    driver.reply(node, NOSCRIPT);
    assert_eq!(driver.requests(node).last(), Some(&again()));
    driver.reply(node, ":1\r\n");
    assert_eq!(driver.output(client), ":1\r\n");
    driver.engine.check_nothing_left();
}

#[test]
fn a_client_that_leaves_takes_its_script_with_it() {
    let mut driver = Driver::new();
    let (client, node) = setting(&mut driver);
    let before = driver.requests(node).len();
    driver.send_raw(
        client,
        &encode(&format!("EVALSHA {} 1 k", hex_digest(BODY.as_bytes()))),
    );
    driver.leave(client);
    driver.reply(node, NOSCRIPT);
    assert_eq!(driver.requests(node).len(), before + 1);
    driver.engine.check_nothing_left();
}

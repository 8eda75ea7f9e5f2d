//! Subscriptions: what nodes are asked, what clients are told, and what is done when a node or a client is lost [U1]-[U14].

mod choices;
mod commands;
mod handover;
mod nodes;
mod placing;
mod random;

use std::time::Duration;

use super::driver::{Driver, bulk};
use crate::engine::SessionKey;
use crate::metrics::CloseReason;

const SECOND: Duration = Duration::from_secs(1);

/// An array of strings, as everything on a feed is, but for the number at the end of an acknowledgement.
fn array(words: &[&str]) -> String {
    let words: String = words.iter().map(|word| bulk(word)).collect();
    let count = words.matches('$').count();
    format!("*{count}\r\n{words}")
}

fn ack(word: &str, topic: &str, count: usize) -> String {
    format!("*3\r\n{}{}:{count}\r\n", bulk(word), bulk(topic))
}

fn message(channel: &str, payload: &str) -> String {
    array(&["message", channel, payload])
}

fn push(array: &str) -> String {
    array.replacen('*', ">", 1)
}

/// The one node with subscriptions.
fn home(driver: &Driver) -> u16 {
    let feeds = driver.feeds();
    assert_eq!(feeds.len(), 1, "{feeds:?}");
    feeds[0]
}

/// The client subscribes, and all nodes that are asked agree.
fn subscribe(driver: &mut Driver, client: SessionKey, command: &str) {
    driver.send(client, command);
    agree(driver);
    driver.output(client);
}

/// Every node does what it was asked on its feed.
fn agree(driver: &mut Driver) {
    for port in driver.feeds() {
        agree_at(driver, port);
    }
}

fn agree_at(driver: &mut Driver, port: u16) {
    for asked in driver.asked_on_feed(port) {
        let reply = match asked.split_once(' ') {
            Some((word, topic)) => ack(&word.to_lowercase(), topic, 1),
            None => array(&["pong", ""]),
        };
        driver.say(port, reply.as_bytes());
    }
}

fn closes(driver: &Driver, client: SessionKey) -> Option<CloseReason> {
    driver.engine.must_close(client)
}

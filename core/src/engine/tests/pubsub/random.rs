//! Anything at any time: clients come, subscribe and go, nodes take their time, are lost, become primaries and cease to be. Whoever has
//! been told that it has a channel gets each message once until it is told otherwise, or is disconnected.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::engine::LinkLoss;
use crate::engine::tests::driver::NODES;
use crate::resp::{Value, parse_value};

const NAMES: [&str; 4] = ["a", "b", "ab", "__keyx"];
const PATTERNS: [&str; 3] = ["a*", "*", "b"];
const SHARDED: [&str; 2] = ["s", "t"];

/// A client as it sees itself.
struct Client {
    key: SessionKey,
    /// What it was told that it has: the word of the message, and the channel or pattern.
    has: BTreeSet<(String, String)>,
    /// Messages that came since the last look: of what.
    got: Vec<(String, String)>,
    /// Commands sent, each with as many answers as it has names, that are not answered.
    asked: usize,
}

struct World {
    driver: Driver,
    rng: fastrand::Rng,
    clients: Vec<Client>,
    /// What each node has for the worker.
    nodes: BTreeMap<u16, BTreeSet<(String, String)>>,
    /// Who owns the slot of each sharded channel, whatever the topology says.
    owners: [u16; 2],
    generation: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let driver = Driver::new();
        let mut world = Self {
            owners: SHARDED.map(|channel| driver.owner(channel)),
            driver,
            rng: fastrand::Rng::with_seed(seed),
            clients: Vec::new(),
            nodes: BTreeMap::new(),
            generation: 1,
        };
        for _ in 0..5 {
            world.connect();
        }
        world
    }

    fn connect(&mut self) {
        let key = self.driver.client();
        if self.rng.bool() {
            self.driver.send(key, "HELLO 3");
            self.driver.output(key);
        }
        self.clients.push(Client {
            key,
            has: BTreeSet::new(),
            got: Vec::new(),
            asked: 0,
        });
    }

    fn step(&mut self) {
        match self.rng.u32(..100) {
            0..25 => self.command(),
            25..60 => self.answer(),
            60..78 => self.publish(),
            78..83 => self.publish_sharded(false),
            83..85 => self.move_slot(),
            85..88 => self.lose(),
            88..91 => self.leave(),
            91..95 => self.change_primaries(),
            _ => self.driver.pass(SECOND * self.rng.u32(1..6) / 4),
        }
        self.look();
    }

    fn command(&mut self) {
        let client = self.rng.usize(..self.clients.len());
        let (word, names) = match self.rng.u32(..6) {
            0 => ("SUBSCRIBE", &NAMES[..]),
            1 => ("UNSUBSCRIBE", &NAMES[..]),
            2 => ("PSUBSCRIBE", &PATTERNS[..]),
            3 => ("SSUBSCRIBE", &SHARDED[..]),
            4 => ("SUNSUBSCRIBE", &SHARDED[..]),
            _ => ("PUNSUBSCRIBE", &PATTERNS[..]),
        };
        let count = self.rng.usize(1..3);
        let chosen: Vec<&str> = (0..count)
            .map(|_| names[self.rng.usize(..names.len())])
            .collect();
        self.clients[client].asked += count;
        let key = self.clients[client].key;
        self.driver
            .send(key, &format!("{word} {}", chosen.join(" ")));
    }

    /// A node does one of the things that it was asked.
    fn answer(&mut self) {
        let feeds = self.driver.feeds();
        if feeds.is_empty() {
            return;
        }
        let port = feeds[self.rng.usize(..feeds.len())];
        let Some(asked) = self.driver.next_asked_on_feed(port) else {
            return;
        };
        let has = self.nodes.entry(port).or_default();
        let Some((word, topic)) = asked.split_once(' ') else {
            return self.driver.say(port, array(&["pong", ""]).as_bytes());
        };
        let message = message_of(word);
        if let Some(owner) = owner_of(&self.owners, message, topic)
            && owner != port
        {
            let slot = crate::slot::Slot::of_key(topic.as_bytes()).get();
            let moved = format!("-MOVED {slot} 127.0.0.1:{owner}\r\n");
            return self.driver.say(port, moved.as_bytes());
        }
        let subscription = (message.to_owned(), topic.to_owned());
        if word.contains("un") {
            has.remove(&subscription);
        } else {
            has.insert(subscription);
        }
        self.driver.say(port, ack(word, topic, 1).as_bytes());
    }

    /// An ordinary message: every node has it, and tells it.
    fn publish(&mut self) {
        self.look();
        let channel = ["a", "b", "ab", "c"][self.rng.usize(..4)];
        let matches = |pattern: &str| match pattern {
            "a*" => channel.starts_with('a'),
            "*" => true,
            _ => channel == pattern,
        };
        for port in self.driver.feeds() {
            let has = self.nodes.entry(port).or_default().clone();
            for (word, topic) in has {
                if word == "message" && topic == channel {
                    self.driver.say(port, message(channel, "m").as_bytes());
                } else if word == "pmessage" && matches(&topic) {
                    let said = array(&["pmessage", &topic, channel, "m"]);
                    self.driver.say(port, said.as_bytes());
                }
            }
        }
        self.hear();
        for client in &mut self.clients {
            let due = |(word, topic): &&(String, String)| match word.as_str() {
                "message" => topic == channel,
                "pmessage" => matches(topic),
                _ => false,
            };
            let expected: Vec<_> = client.has.iter().filter(due).cloned().collect();
            client.got.sort();
            assert_eq!(client.got, expected, "{channel}");
            client.got.clear();
        }
    }

    /// A message of a sharded channel: its owner has it. While a slot moves, messages of its channels may be lost.
    fn publish_sharded(&mut self, is_settled: bool) {
        self.look();
        let number = self.rng.usize(..SHARDED.len());
        let (channel, port) = (SHARDED[number], self.owners[number]);
        let subscription = ("smessage".to_owned(), channel.to_owned());
        let has = self.nodes.get(&port);
        let is_there = has.is_some_and(|has| has.contains(&subscription));
        let is_wanted = self
            .clients
            .iter()
            .any(|client| client.has.contains(&subscription));
        assert!(is_there || !is_wanted || !is_settled, "{channel}");
        if is_there {
            let said = array(&["smessage", channel, "m"]);
            self.driver.say(port, said.as_bytes());
        }
        self.hear();
        for client in &mut self.clients {
            let expected = is_there && client.has.contains(&subscription);
            let count = usize::from(expected);
            assert!(client.got.len() <= count, "{channel}");
            assert!(client.got.len() == count || !is_settled, "{channel}");
            client.got.clear();
        }
    }

    /// The slot of a sharded channel moves; the node that it leaves says so, and the topology does not show it yet.
    fn move_slot(&mut self) {
        let number = self.rng.usize(..SHARDED.len());
        let old = std::mem::replace(&mut self.owners[number], 7000 + self.rng.u16(..NODES));
        let subscription = ("smessage".to_owned(), SHARDED[number].to_owned());
        let is_gone = old != self.owners[number];
        if is_gone
            && let Some(has) = self.nodes.get_mut(&old)
            && has.remove(&subscription)
        {
            let gone = ack("sunsubscribe", SHARDED[number], 0);
            self.driver.say(old, gone.as_bytes());
        }
    }

    fn lose(&mut self) {
        let feeds = self.driver.feeds();
        if !feeds.is_empty() {
            let port = feeds[self.rng.usize(..feeds.len())];
            let feed = self.driver.feed(port);
            self.nodes.remove(&port);
            self.driver.lose(feed, LinkLoss::Closed);
        }
    }

    fn leave(&mut self) {
        let client = self.rng.usize(..self.clients.len());
        let client = self.clients.swap_remove(client);
        self.driver.leave(client.key);
        self.connect();
    }

    /// The topology is as it is, and the nodes do what they are asked.
    fn calm_down(&mut self) {
        self.adopt_truth();
        for _ in 0..20 {
            for _ in 0..20 {
                self.answer();
            }
            self.driver.pass(SECOND / 4);
            self.look();
        }
    }

    fn adopt_truth(&mut self) {
        self.generation += 1;
        let moves = [0, 1].map(|number| (SHARDED[number], self.owners[number]));
        self.driver.adopt(self.generation, &moves);
    }

    fn change_primaries(&mut self) {
        self.generation += 1;
        let from = 7000 + self.rng.u16(..NODES);
        let to = 7000 + (from - 7000 + 1) % NODES;
        if self.rng.bool() {
            self.driver.take_over(self.generation, from, to);
        } else {
            self.adopt_truth();
        }
    }

    /// Clients read; those that are disconnected come back.
    fn look(&mut self) {
        let open = self.driver.feeds();
        self.nodes.retain(|port, _| open.contains(port));
        self.hear();
        for client in &mut self.clients {
            assert_eq!(client.got, [], "nothing was published");
        }
        for index in (0..self.clients.len()).rev() {
            if closes(&self.driver, self.clients[index].key).is_some() {
                let client = self.clients.swap_remove(index);
                self.driver.leave(client.key);
                self.connect();
            }
        }
    }

    fn hear(&mut self) {
        for client in &mut self.clients {
            let output = self.driver.output(client.key);
            let mut rest = output.as_bytes();
            while !rest.is_empty() {
                let (value, end) = parse_value(rest).unwrap().expect("whole replies");
                client.take(&value);
                rest = &rest[end..];
            }
        }
    }
}

impl Client {
    fn take(&mut self, value: &Value<'_>) {
        let (Value::Array(items) | Value::Push(items)) = value else {
            assert!(
                matches!(value, Value::Error(text) if text.starts_with(b"CLUSTERDOWN proxy")),
                "{value:?}"
            );
            return;
        };
        let text = |index: usize| match items[index] {
            Value::Bulk(text) => String::from_utf8(text.to_vec()).unwrap(),
            _ => panic!("{value:?}"),
        };
        let (word, topic) = (text(0), text(1));
        if word.ends_with("message") {
            assert!(
                self.has.contains(&(word.clone(), topic.clone())),
                "it has not: {value:?}"
            );
            self.got.push((word, topic));
            return;
        }
        self.asked -= 1;
        let subscription = (message_of(&word).to_owned(), topic);
        if word.contains("un") {
            self.has.remove(&subscription);
        } else {
            self.has.insert(subscription);
        }
        let is_sharded = |word: &str| word.starts_with('s') && !word.starts_with("sub");
        let same_count = |held: &&(String, String)| (held.0 == "smessage") == is_sharded(&word);
        let count = self.has.iter().filter(same_count).count();
        assert_eq!(items[2], Value::Integer(i64::try_from(count).unwrap()));
    }
}

/// The word of the messages that a command is about.
fn message_of(word: &str) -> &'static str {
    match word {
        "psubscribe" | "punsubscribe" => "pmessage",
        "ssubscribe" | "sunsubscribe" => "smessage",
        _ => "message",
    }
}

/// Who owns the channel, if it is a sharded one.
fn owner_of(owners: &[u16; 2], message: &str, topic: &str) -> Option<u16> {
    let number = SHARDED.iter().position(|channel| *channel == topic)?;
    (message == "smessage").then_some(owners[number])
}

#[test]
fn whatever_happens_messages_come_once_to_those_that_have_the_channel() {
    for seed in 0..30 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step();
        }
        world.calm_down();
        for _ in 0..5 {
            world.publish();
            world.publish_sharded(true);
        }
        // Nothing is left when everybody has gone.
        for client in std::mem::take(&mut world.clients) {
            world.driver.leave(client.key);
        }
        world.calm_down();
        assert!(world.driver.feeds().is_empty(), "seed {seed}");
        world.driver.engine.check_nothing_left();
    }
}

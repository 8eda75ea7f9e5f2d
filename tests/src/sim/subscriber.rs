//! What played clients subscribe to, and what they may be told of it [U2]-[U6] [U11].

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use slotway_core::engine::SessionKey;
use slotway_core::metrics::CloseReason;

use super::bus::{Published, Reach};
use super::clients::Client;
use super::model::{Kind, Model, Record, Told, Violation, printable};
use super::profile::{HOT_SLOTS, KEYS_PER_SLOT, pick};
use super::topics::{self, CHANNELS, Topic};
use super::wire::number;
use super::world::World;

/// What a client is told whose other subscriptions end while it waits for one.
const LOST: &[u8] = b"-CLUSTERDOWN proxy: the connection for subscriptions was lost\r\n";

/// What a client asks for, of its subscriptions.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    kind: topics::Kind,
    begins: bool,
    names: Vec<String>,
}

/// A subscription that a client was told of.
#[derive(Debug, Default)]
struct Held {
    /// How many messages there were by then.
    since: usize,
    seen: BTreeSet<usize>,
    /// The newest message from each node: of what all nodes have, and of its own.
    newest: BTreeMap<(usize, Reach), usize>,
}

/// The subscriptions of a client, as it was told.
#[derive(Debug, Default)]
pub(super) struct Subscriber {
    has: BTreeMap<Topic, Held>,
    /// Acknowledgements of its oldest request that have come.
    acked: usize,
    /// How many that is to be, if the request does not say.
    all: Option<usize>,
    resp3: bool,
}

impl Subscriber {
    pub(super) fn has_sharded(&self) -> bool {
        self.has
            .keys()
            .any(|(kind, _)| *kind == topics::Kind::Shard)
    }

    fn count(&self, kind: topics::Kind) -> usize {
        let is_sharded = kind == topics::Kind::Shard;
        let has = self.has.keys();
        has.filter(|(kind, _)| (*kind == topics::Kind::Shard) == is_sharded)
            .count()
    }

    fn only_subscribes(&self) -> bool {
        !self.resp3 && !self.has.is_empty()
    }

    /// A message came, if that is what `reply` is.
    fn take_message(&mut self, reply: &[u8], model: &mut Model) -> Result<bool, Violation> {
        let words = words(reply);
        let kind = words
            .first()
            .and_then(|word| topics::Kind::of_message(word));
        let (Some(kind), Some(topic), Some(payload)) = (kind, words.get(1), words.last()) else {
            return Ok(false);
        };
        let fault = |what: &str| Err(format!("{what}: {}", printable(reply)));
        if reply[0] != if self.resp3 { b'>' } else { b'*' } {
            return fault("a message in the other version of RESP");
        }
        let published = &mut model.published;
        let payload = payload.strip_prefix(b"m").and_then(number::<usize>);
        let Some(found) = payload.filter(|number| *number < published.messages.len()) else {
            return fault("a message that nobody published");
        };
        let message = &published.messages[found];
        let topic = (kind, String::from_utf8_lossy(topic).into_owned());
        let is_it = topics::is_for(&topic, &message.channel, message.reach == Reach::Node);
        if !is_it || (kind == topics::Kind::Pattern && words[2] != message.channel.as_bytes()) {
            return fault("a message of another channel");
        }
        let is_after_pattern = kind == topics::Kind::Channel
            && published.is_ordered(found, model.now)
            && self.has.iter().any(|((other, _), held)| {
                *other == topics::Kind::Pattern && held.seen.contains(&found)
            });
        if is_after_pattern {
            return fault("a message after that of a pattern [U5]");
        }
        let Some(held) = self.has.get_mut(&topic) else {
            return fault("a message of what the client has not subscribed to [U2]");
        };
        // By old topologies the engine sees nodes change their roles to and fro.
        let may_repeat = message.reach == Reach::Shard && published.stale;
        if !held.seen.insert(found) && !may_repeat {
            return fault("a message comes twice [U6]");
        }
        // While a replica learns that it is one, it tells late what its primary has told.
        let is_ordered = message.reach == Reach::Cluster || published.is_ordered(found, model.now);
        let newest = held.newest.insert((message.origin, message.reach), found);
        if is_ordered && newest.is_some_and(|newest| newest > found) {
            return fault("a message after later ones of the same node [U7]");
        }
        published.delivered += 1;
        Ok(true)
    }

    /// The next acknowledgement of a request; whether it is the last one.
    fn take_ack(&mut self, asked: &Asking, reply: &[u8], next: usize) -> Result<bool, Violation> {
        let Asking {
            kind,
            begins,
            names,
        } = asked;
        let own: Vec<&String> = self
            .has
            .keys()
            .filter(|(of, _)| of == kind)
            .map(|topic| &topic.1)
            .collect();
        let all = match self.all {
            Some(all) => all,
            None if names.is_empty() => own.len().max(1),
            None => names.len(),
        };
        let name = match names.get(self.acked) {
            Some(name) => Some(name.clone()),
            None if own.is_empty() => None,
            None => {
                let said = words(reply);
                let said = said.get(1).map(|name| String::from_utf8_lossy(name));
                let found = own
                    .iter()
                    .find(|name| said.as_deref() == Some(name.as_str()));
                found.map(|name| (**name).clone())
            }
        };
        let word = match begins {
            true => kind.subscribe(),
            false => kind.unsubscribe(),
        };
        if let Some(name) = &name {
            let topic = (*kind, name.clone());
            if *begins {
                self.has.entry(topic).or_insert_with(|| Held {
                    since: next,
                    ..Held::default()
                });
            } else {
                self.has.remove(&topic);
            }
        }
        let mut expected = topics::ack(word, name.as_deref(), self.count(*kind));
        if self.resp3 {
            expected[0] = b'>';
            if name.is_none() {
                let text = String::from_utf8_lossy(&expected).replace("$-1\r\n", "_\r\n");
                expected = text.into_bytes();
            }
        }
        if reply != expected {
            return Err(format!(
                "got {} instead of {} [U3]",
                printable(reply),
                printable(&expected)
            ));
        }
        self.acked += 1;
        self.all = Some(all);
        let is_last = self.acked == all;
        if is_last {
            (self.acked, self.all) = (0, None);
        }
        Ok(is_last)
    }

    /// Whoever has a subscription has got all messages that have come since.
    fn check_gaps(&self, published: &Published) -> Result<(), Violation> {
        for (topic, held) in &self.has {
            for number in held.since..published.messages.len() {
                if published.is_due(topic, number) && !held.seen.contains(&number) {
                    return Err(format!(
                        "m{number} never came to those that have {topic:?} [U6]"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Client {
    /// A request that has to do with subscriptions, or publishes.
    pub(super) fn pubsub(&mut self, model: &mut Model, rng: &mut Rng) {
        let id = model.records.len();
        let kind = *pick(rng, &topics::Kind::ALL);
        match rng.u32(..16) {
            0..=5 => self.change_subscriptions(kind, true, 1, model, rng),
            6..=8 => self.change_subscriptions(kind, false, 1, model, rng),
            9 => self.change_subscriptions(kind, false, 0, model, rng),
            10 => self.send(
                Record::new(self.number, Kind::Ping),
                &["PING".to_owned()],
                model,
            ),
            11 if rng.bool() => {
                let mut record = Record::new(self.number, Kind::Local);
                record.reply = b"+RESET\r\n".to_vec();
                record.ends_subscriptions = true;
                self.resp3 = false;
                self.send(record, &["RESET".to_owned()], model);
            }
            11..=13 => {
                let mut record = Record::new(self.number, Kind::Plain);
                (record.write, record.barrier) = (true, true);
                let channel = *pick(rng, &CHANNELS);
                let words = ["PUBLISH", channel, &id.to_string()].map(str::to_owned);
                self.send(record, &words, model);
            }
            _ => {
                let hot = rng.usize(..HOT_SLOTS);
                let mut record = Record::new(self.number, Kind::Plain);
                record.write = true;
                record.keys = vec![hot * KEYS_PER_SLOT];
                let words = ["SPUBLISH".to_owned(), topics::sharded(hot), id.to_string()];
                self.send(record, &words, model);
            }
        }
    }

    fn change_subscriptions(
        &mut self,
        kind: topics::Kind,
        begins: bool,
        least: usize,
        model: &mut Model,
        rng: &mut Rng,
    ) {
        let all = topics::names(kind);
        let count = if least == 0 { 0 } else { rng.usize(1..=3) };
        let names: Vec<String> = (0..count).map(|_| pick(rng, &all).clone()).collect();
        let word = match begins {
            true => kind.subscribe(),
            false => kind.unsubscribe(),
        };
        let mut words = vec![word.to_uppercase()];
        words.extend(names.iter().cloned());
        let mut record = Record::new(self.number, Kind::Subscription);
        record.asking = Some(Asking {
            kind,
            begins,
            names,
        });
        self.send(record, &words, model);
    }

    /// Takes what comes to a client: whether it is dealt with, and its request is owed no more of it.
    pub(super) fn take_pubsub(
        &mut self,
        reply: &[u8],
        model: &mut Model,
    ) -> Result<bool, Violation> {
        let told = self.take_frame(reply, model);
        told.map_err(|what| format!("client {}: {what}", self.number))
    }

    fn take_frame(&mut self, reply: &[u8], model: &mut Model) -> Result<bool, Violation> {
        if self.subscriber.take_message(reply, model)? {
            return Ok(true);
        }
        let Some(request) = self.expected.front().copied() else {
            return Ok(false);
        };
        let record = &model.records[request];
        if record.kind == Kind::Subscription {
            let asking = record.asking.clone();
            let asked = record.asked;
            let is_over = match asking {
                _ if reply.starts_with(b"-") => {
                    model.check_not_subscribed(reply, asked)?;
                    true
                }
                Some(asking) => {
                    let next = model.published.messages.len();
                    self.subscriber.take_ack(&asking, reply, next)?
                }
                None => false,
            };
            if is_over {
                model.answered += 1;
                model.records[request].told = Told::Executed;
                self.expected.pop_front();
            }
            return Ok(true);
        }
        let is_refusal = reply.starts_with(b"-ERR Can't execute '");
        let is_free = record.kind == Kind::Ping || record.ends_subscriptions;
        if self.subscriber.only_subscribes() && !is_free && record.kind != Kind::Nonsense {
            if !is_refusal || (record.write && !record.executions.is_empty()) {
                let reply = printable(reply);
                return Err(format!(
                    "request {request} of a subscriber is carried out: {reply} [U4]"
                ));
            }
            model.records[request].told = Told::NotExecuted;
            self.expected.pop_front();
            return Ok(true);
        }
        if is_refusal {
            return Err(format!(
                "request {request} is refused for subscriptions [U4]"
            ));
        }
        self.note_state(request, reply, model)
    }

    /// What replies tell of the state of the session.
    fn note_state(
        &mut self,
        request: usize,
        reply: &[u8],
        model: &mut Model,
    ) -> Result<bool, Violation> {
        let record = &model.records[request];
        if record.kind == Kind::Ping {
            let expected: &[u8] = match self.subscriber.only_subscribes() {
                true => b"*2\r\n$4\r\npong\r\n$0\r\n\r\n",
                false => b"+PONG\r\n",
            };
            if reply != expected {
                return Err(format!("PING is answered with {} [U4]", printable(reply)));
            }
            self.expected.pop_front();
            return Ok(true);
        }
        if record.ends_subscriptions && reply == b"+RESET\r\n" {
            self.subscriber = Subscriber::default();
        } else if record.kind == Kind::Hello && !reply.starts_with(b"-") {
            self.subscriber.resp3 = record.resp3;
        }
        Ok(false)
    }
}

impl Model {
    /// A request that subscribes to nothing for an error: true, and not before its time is over [PK1].
    fn check_not_subscribed(&self, reply: &[u8], asked: u64) -> Result<(), Violation> {
        let is_late = self.now - asked >= self.rules.park_timeout;
        let is_lost = reply == LOST && self.published.harm;
        let is_unserved = reply.starts_with(b"-CLUSTERDOWN ") && reply != LOST && is_late;
        if self.rules.gentle || !(is_lost || is_unserved) {
            return Err(format!("is not subscribed: {}", printable(reply)));
        }
        Ok(())
    }
}

impl World {
    /// Whether a client may be disconnected for `reason`, which has to do with its subscriptions.
    pub(super) fn check_ended_subscriber(
        &self,
        index: usize,
        reason: CloseReason,
    ) -> Result<bool, Violation> {
        let is_small = self.profile.limits.pubsub_output_bytes < 1 << 20;
        match reason {
            CloseReason::SubscriptionLost => {
                let may_lack_an_owner = !self.profile.gentle
                    && (self.clients[index].subscriber.has_sharded()
                        || self.profile.limits.park_timeout.as_secs() < 10);
                if !self.model.published.harm && !may_lack_an_owner {
                    return Err(
                        "a subscriber is disconnected though no node was lost [U6]".to_owned()
                    );
                }
                Ok(true)
            }
            CloseReason::OutputLimit => Ok(is_small && self.profile.pubsub > 0),
            _ => Ok(false),
        }
    }

    pub(super) fn has_lost_subscriptions(&self, session: SessionKey) -> bool {
        let session = self.engine.session(session);
        session.is_some_and(|session| session.closing == Some(CloseReason::SubscriptionLost))
    }

    /// All is quiet: what is published now reaches everybody who has subscribed to it, and so did all before.
    pub(super) fn check_subscribers(&mut self) -> Result<(), Violation> {
        if self.profile.pubsub == 0 {
            return Ok(());
        }
        self.wait_for_messages()?;
        let published = &mut self.model.published;
        published.calm_since = Some(published.messages.len());
        for channel in CHANNELS {
            let node = self.rng.usize(..self.cluster.peers.len());
            let published = &mut self.model.published;
            published.publish(node, channel.to_owned(), Reach::Cluster, true, self.now);
        }
        for hot in 0..HOT_SLOTS {
            self.publish_sharded(hot);
            self.change_key(hot * KEYS_PER_SLOT);
        }
        self.wait_for_messages()?;
        for client in &self.clients {
            let gaps = client.subscriber.check_gaps(&self.model.published);
            gaps.map_err(|what| {
                format!("client {} ({:?}): {what}", client.number, client.session)
            })?;
        }
        Ok(())
    }

    /// Longer than nodes that could not be reached are left alone.
    fn wait_for_messages(&mut self) -> Result<(), Violation> {
        for _ in 0..60 {
            self.pass(100_000)?;
            self.calm_turn()?;
        }
        Ok(())
    }
}

/// The strings of an array.
fn words(reply: &[u8]) -> Vec<&[u8]> {
    let mut words = Vec::new();
    let Some(mut rest) = reply
        .strip_prefix(b"*")
        .or_else(|| reply.strip_prefix(b">"))
    else {
        return words;
    };
    let line = |rest: &mut &[u8]| -> Option<usize> {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let digits = rest.get(..end)?;
        let value = number(digits.strip_prefix(b"$").unwrap_or(digits))?;
        *rest = rest.get(end + 2..)?;
        Some(value)
    };
    let count = line(&mut rest).unwrap_or(0);
    for _ in 0..count {
        let Some(length) = (rest.first() == Some(&b'$'))
            .then(|| line(&mut rest))
            .flatten()
        else {
            break;
        };
        let Some(word) = rest.get(..length) else {
            break;
        };
        words.push(word);
        rest = rest.get(length + 2..).unwrap_or_default();
    }
    words
}

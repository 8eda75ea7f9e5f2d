//! The topics of one worker: who has subscribed to each, and at which nodes it is placed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

use slab::Slab;
use smallvec::SmallVec;

use super::{Handover, Kind, Source, concerns_keyspace};
use crate::engine::{NodeKey, RequestKey, SessionKey, TopicKey};
use crate::slot::Slot;
use crate::time::Timestamp;

/// What a topic takes besides its name, with one place; what each further place takes, and one subscription of a session: about, for
/// the bound.
const TOPIC_BYTES: usize = 256;
const PLACE_BYTES: usize = 32;
const SUBSCRIPTION_BYTES: usize = 16;

/// How far the subscription of a topic at one node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceState {
    /// To be asked for, not before this time.
    Wanted(Timestamp),
    /// Asked for.
    Asked,
    /// It holds.
    On,
    /// Its end is asked for.
    Leaving,
}

/// One topic at one node.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The node.
    pub node: NodeKey,
    /// How far it is.
    pub state: PlaceState,
    /// Answers owed by the node about it.
    pub owed: u32,
    /// Of two answers to one request, the first has come.
    pub heard: bool,
    /// The node could not end it.
    pub refused: bool,
}

/// What sessions have subscribed to: once, however many they are.
#[derive(Debug)]
pub struct Topic {
    /// A channel, a pattern, or a sharded channel.
    pub kind: Kind,
    /// Which.
    pub name: Rc<[u8]>,
    /// The slot of its name, which a sharded channel lives in.
    pub slot: Slot,
    /// Every primary has messages of its own for it [U9].
    pub everywhere: bool,
    /// The node whose messages are handed on, the others having the same [U6].
    pub source: Option<NodeKey>,
    /// Since when those that have it have been without; [`Timestamp::NEVER`] if they are not.
    pub unserved_since: Timestamp,
    /// Requests that wait until it is served.
    pub waiters: Vec<RequestKey>,
    /// Where it passes from one node to another.
    pub handovers: Vec<Handover>,
    /// Sessions that have it, in the order of their keys.
    subscribers: Vec<SessionKey>,
    /// How many times unfinished requests name it.
    holds: u32,
    places: SmallVec<[Place; 1]>,
    unused_since: Timestamp,
}

impl Topic {
    /// Whether somebody has it, or is about to.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.holds > 0 || !self.subscribers.is_empty()
    }

    /// Since when nobody has it; [`Timestamp::NEVER`] if somebody does.
    #[must_use]
    pub const fn unused_since(&self) -> Timestamp {
        self.unused_since
    }

    /// The sessions that have it.
    #[must_use]
    pub fn subscribers(&self) -> &[SessionKey] {
        &self.subscribers
    }

    /// Times unfinished requests name it.
    #[must_use]
    pub const fn holds(&self) -> u32 {
        self.holds
    }

    /// Where it is placed.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Where it is placed at `node`.
    #[must_use]
    pub fn place(&self, node: NodeKey) -> Option<&Place> {
        self.places.iter().find(|place| place.node == node)
    }

    /// As [`Self::place`], to be changed.
    pub fn place_mut(&mut self, node: NodeKey) -> Option<&mut Place> {
        self.places.iter_mut().find(|place| place.node == node)
    }

    /// Whether the subscription holds at `node`.
    #[must_use]
    pub fn is_on(&self, node: NodeKey) -> bool {
        self.place(node)
            .is_some_and(|place| place.state == PlaceState::On)
    }

    /// Where messages of this kind pass from `from` to another node.
    #[must_use]
    pub fn handover(&self, source: Source, from: NodeKey) -> Option<&Handover> {
        let mut handovers = self.handovers.iter();
        handovers.find(|handover| handover.source == source && handover.from == from)
    }

    /// Whether messages come from `node` that are about to come from another one.
    #[must_use]
    pub fn is_handed_over_by(&self, node: NodeKey) -> bool {
        let mut handovers = self.handovers.iter();
        handovers.any(|handover| handover.from == node && !handover.is_over())
    }

    fn bytes(&self) -> usize {
        let further = self.places.len().saturating_sub(1);
        TOPIC_BYTES + self.name.len() + further * PLACE_BYTES
    }
}

/// All topics of one worker.
#[derive(Debug, Default)]
pub struct Registry {
    topics: Slab<Topic>,
    by_name: [HashMap<Rc<[u8]>, TopicKey>; 3],
    /// How many topics are placed at each node.
    placed: BTreeMap<NodeKey, usize>,
    /// Those that nobody uses, by since when, as long as nobody has asked for them with [`Self::take_unused`].
    lingering: BTreeSet<(Timestamp, TopicKey)>,
    bytes: usize,
}

impl Registry {
    /// Number of topics.
    #[must_use]
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether there is no topic.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// About how much memory all of it takes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What subscribing one session to the topic of this name takes, at most, with so many primaries.
    #[must_use]
    pub fn cost(&self, kind: Kind, name: &[u8], primaries: usize) -> usize {
        if self.find(kind, name).is_some() {
            return SUBSCRIPTION_BYTES;
        }
        let places = match concerns_keyspace(kind, name) {
            true => primaries.saturating_sub(1) * PLACE_BYTES,
            false => 0,
        };
        TOPIC_BYTES + name.len() + places + SUBSCRIPTION_BYTES
    }

    /// How many sharded channels there are.
    #[must_use]
    pub fn sharded(&self) -> usize {
        self.by_name[Kind::Shard.index()].len()
    }

    /// The topics that nobody has used for this time: each once.
    pub fn take_unused(&mut self, now: Timestamp, time: Duration) -> Vec<TopicKey> {
        let mut taken = Vec::new();
        while let Some((since, key)) = self.lingering.first().copied()
            && now.since(since) >= time
        {
            self.lingering.pop_first();
            taken.push(key);
        }
        taken
    }

    /// Every topic.
    pub fn iter(&self) -> impl Iterator<Item = (TopicKey, &Topic)> {
        self.topics
            .iter()
            .map(|(index, topic)| (TopicKey::from_index(index), topic))
    }

    /// Whether the topic is there still.
    #[must_use]
    pub fn contains(&self, key: TopicKey) -> bool {
        self.topics.contains(key.index())
    }

    /// The topic of this name.
    #[must_use]
    pub fn find(&self, kind: Kind, name: &[u8]) -> Option<TopicKey> {
        self.by_name[kind.index()].get(name).copied()
    }

    /// The topic of this name, held for a request: made if there is none.
    pub fn hold(&mut self, kind: Kind, name: &[u8]) -> TopicKey {
        let key = self.find(kind, name).unwrap_or_else(|| {
            let name: Rc<[u8]> = Rc::from(name);
            let topic = Topic {
                kind,
                slot: Slot::of_key(&name),
                everywhere: concerns_keyspace(kind, &name),
                name: Rc::clone(&name),
                source: None,
                unserved_since: Timestamp::NEVER,
                waiters: Vec::new(),
                handovers: Vec::new(),
                subscribers: Vec::new(),
                holds: 0,
                places: SmallVec::new(),
                unused_since: Timestamp::NEVER,
            };
            self.bytes += topic.bytes();
            let key = TopicKey::from_index(self.topics.insert(topic));
            self.by_name[kind.index()].insert(name, key);
            key
        });
        self.use_it(key);
        self[key].holds += 1;
        key
    }

    /// Ends one hold.
    pub fn release(&mut self, key: TopicKey, now: Timestamp) {
        let topic = &mut self.topics[key.index()];
        topic.holds -= 1;
        self.note_unused(key, now);
    }

    /// Notes a subscription of `session`; false if it has it already.
    pub fn join(&mut self, key: TopicKey, session: SessionKey) -> bool {
        self.use_it(key);
        let topic = &mut self.topics[key.index()];
        let Err(position) = topic.subscribers.binary_search(&session) else {
            return false;
        };
        topic.subscribers.insert(position, session);
        self.bytes += SUBSCRIPTION_BYTES;
        true
    }

    /// Notes the end of a subscription.
    pub fn leave(&mut self, key: TopicKey, session: SessionKey, now: Timestamp) {
        let topic = &mut self.topics[key.index()];
        if let Ok(position) = topic.subscribers.binary_search(&session) {
            topic.subscribers.remove(position);
            self.bytes -= SUBSCRIPTION_BYTES;
            self.note_unused(key, now);
        }
    }

    /// Takes the list of subscribers out, to be given back with [`Self::put_back`]: nothing is to change meanwhile.
    pub fn take_subscribers(&mut self, key: TopicKey) -> Vec<SessionKey> {
        std::mem::take(&mut self[key].subscribers)
    }

    /// See [`Self::take_subscribers`].
    pub fn put_back(&mut self, key: TopicKey, subscribers: Vec<SessionKey>) {
        self[key].subscribers = subscribers;
    }

    /// Makes a place for the topic at `node`, where it has none.
    pub fn add_place(&mut self, key: TopicKey, node: NodeKey, now: Timestamp) {
        debug_assert!(self[key].place(node).is_none(), "one place at each node");
        let topic = &mut self.topics[key.index()];
        self.bytes -= topic.bytes();
        topic.places.push(Place {
            node,
            state: PlaceState::Wanted(now),
            owed: 0,
            heard: false,
            refused: false,
        });
        self.bytes += topic.bytes();
        *self.placed.entry(node).or_default() += 1;
    }

    /// Drops the place of the topic at `node`; what it was.
    pub fn remove_place(&mut self, key: TopicKey, node: NodeKey) -> Option<Place> {
        let topic = &mut self.topics[key.index()];
        let position = topic.places.iter().position(|place| place.node == node)?;
        self.bytes -= topic.bytes();
        let place = topic.places.remove(position);
        self.bytes += topic.bytes();
        if topic.source == Some(node) {
            topic.source = None;
        }
        if let Some(count) = self.placed.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                self.placed.remove(&node);
            }
        }
        Some(place)
    }

    /// How many topics are placed at `node`.
    #[must_use]
    pub fn placed_at(&self, node: NodeKey) -> usize {
        self.placed.get(&node).copied().unwrap_or_default()
    }

    /// Forgets a topic that nobody uses and that is placed nowhere.
    pub fn forget_if_over(&mut self, key: TopicKey) {
        let topic = &self[key];
        if topic.is_used() || !topic.places.is_empty() {
            return;
        }
        let topic = self.topics.remove(key.index());
        self.by_name[topic.kind.index()].remove(&topic.name);
        self.bytes -= topic.bytes();
        self.lingering.remove(&(topic.unused_since, key));
    }

    fn use_it(&mut self, key: TopicKey) {
        let topic = &mut self.topics[key.index()];
        if topic.unused_since != Timestamp::NEVER {
            self.lingering.remove(&(topic.unused_since, key));
            topic.unused_since = Timestamp::NEVER;
        }
    }

    fn note_unused(&mut self, key: TopicKey, now: Timestamp) {
        let topic = &mut self.topics[key.index()];
        if !topic.is_used() {
            topic.unused_since = now;
            self.lingering.insert((now, key));
        }
    }

    /// Checks that the tables and sums agree with each other.
    ///
    /// # Panics
    /// If they do not.
    pub fn check(&self) {
        let mut bytes = 0;
        let mut placed: BTreeMap<NodeKey, usize> = BTreeMap::new();
        for (key, topic) in self.iter() {
            assert_eq!(
                self.find(topic.kind, &topic.name),
                Some(key),
                "it is found by its name"
            );
            assert!(
                topic.subscribers.is_sorted_by(|a, b| a < b),
                "each subscriber once"
            );
            let is_unused = topic.unused_since != Timestamp::NEVER;
            assert_eq!(
                is_unused,
                !topic.is_used(),
                "those that nobody uses are known"
            );
            bytes += topic.bytes() + SUBSCRIPTION_BYTES * topic.subscribers.len();
            for place in &topic.places {
                *placed.entry(place.node).or_default() += 1;
            }
            let is_placed = |node| topic.place(node).is_some();
            assert!(
                topic.source.is_none_or(is_placed),
                "its source is one of its places"
            );
        }
        assert_eq!(bytes, self.bytes, "what it takes is counted");
        assert_eq!(placed, self.placed, "places are counted");
        for (since, key) in &self.lingering {
            assert!(self.contains(*key), "what is over is forgotten");
            assert_eq!(self[*key].unused_since, *since);
        }
        let named: usize = self.by_name.iter().map(HashMap::len).sum();
        assert_eq!(named, self.topics.len(), "every name is a topic's");
    }
}

impl std::ops::Index<TopicKey> for Registry {
    type Output = Topic;

    fn index(&self, key: TopicKey) -> &Topic {
        &self.topics[key.index()]
    }
}

impl std::ops::IndexMut<TopicKey> for Registry {
    fn index_mut(&mut self, key: TopicKey) -> &mut Topic {
        &mut self.topics[key.index()]
    }
}

#[cfg(test)]
mod tests;

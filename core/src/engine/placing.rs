//! At which nodes topics are subscribed to: one primary for what the cluster passes on to all, every primary for keyspace
//! notifications, the owner of the slot for sharded channels [U1] [U9] [U12].
//!
//! ```text
//!   Wanted --> Asked --> On --> Leaving --> gone
//!     ^ refused  |                |
//!     +----------+----------------+ wanted again
//! ```
//!
//! When another node is to have a topic, it is made there before it is ended where it was [U6].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use smallvec::SmallVec;

use super::{Engine, NodeKey, RequestKey, TopicKey};
use crate::backend::Owed;
use crate::pubsub::{Kind, PlaceState, Registry, Source, Topic};
use crate::resp::write;
use crate::time::Timestamp;

/// How long a topic that nobody has any more is kept at the nodes: many clients leave to come back at once [U2].
const LINGER: Duration = Duration::from_secs(1);

/// A node that does not take a subscription now is asked again after this time.
pub(super) const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// The nodes a topic is to be at. Most are at one.
type NodeList = SmallVec<[NodeKey; 4]>;

/// Everything about the subscriptions of one worker's sessions.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    pub(super) registry: Registry,
    /// The primary that has the channels and patterns.
    pub(super) home: Option<NodeKey>,
    /// What makes this worker choose its own home: all of them together spread over the primaries.
    salt: Option<u64>,
    /// Requests that wait until what they subscribe to is served.
    pub(super) pending: BTreeMap<RequestKey, Pending>,
    /// Those that are to be placed as soon as that is possible, or that somebody has and no node.
    pub(super) restless: BTreeSet<TopicKey>,
    /// What is kept and remembered of topics that pass from one node to another.
    pub(super) handover_bytes: usize,
    /// By what home and primaries all were placed that are not sharded.
    pub(super) placed_by: (Option<NodeKey>, Vec<NodeKey>),
    /// How many times a topic was looked at.
    #[cfg(test)]
    pub(super) placings: usize,
}

/// A request that subscribes.
#[derive(Debug)]
pub(super) struct Pending {
    /// What to, in the order of its arguments.
    pub(super) topics: Vec<TopicKey>,
    /// How many of them are not served; each has the request among its waiters.
    pub(super) missing: usize,
    /// When its turn came.
    pub(super) since: Timestamp,
}

impl Subscriptions {
    /// Whether something waits for a moment in time.
    pub(super) fn are_restless(&self) -> bool {
        !self.restless.is_empty() || !self.pending.is_empty()
    }
}

impl Engine {
    /// Places a topic where it is to be, as far as that can be done now, and ends it where it is not to be any more.
    pub(super) fn place(&mut self, key: TopicKey) {
        #[cfg(test)]
        {
            self.subscriptions.placings += 1;
        }
        let wanted = self.wanted_nodes(key);
        let now = self.now;
        let registry = &mut self.subscriptions.registry;
        for node in &wanted {
            match registry[key].place_mut(*node) {
                None => registry.add_place(key, *node, now),
                Some(place) if place.state == PlaceState::Leaving => {
                    place.state = PlaceState::Wanted(now);
                }
                Some(_) => {}
            }
        }
        self.begin_handovers(key);
        for node in &wanted {
            self.ask_for(key, *node);
        }
        self.advance_handovers(key);
        self.choose_source(key);
        self.end_elsewhere(key, &wanted);
        self.note_service(key);
        self.release_waiters(key);
        self.subscriptions.registry.forget_if_over(key);
    }

    /// Those that wait for the topic have it, if it is served: because a node has agreed, or for the topology asks for no other.
    fn release_waiters(&mut self, key: TopicKey) {
        if self.is_served(key) {
            let waiters = std::mem::take(&mut self.subscriptions.registry[key].waiters);
            for request in waiters {
                self.on_served(request);
            }
        }
    }

    /// Notes since when those that have the topic get no messages, or not those of every primary.
    fn note_service(&mut self, key: TopicKey) {
        let is_missed = !self.is_served(key);
        let topic = &mut self.subscriptions.registry[key];
        topic.unserved_since = if is_missed && !topic.subscribers().is_empty() {
            self.subscriptions.restless.insert(key);
            topic.unserved_since.min(self.now)
        } else {
            Timestamp::NEVER
        };
    }

    /// The nodes that the topic is to be at by the topology. None once nobody has had it for a while.
    fn wanted_nodes(&mut self, key: TopicKey) -> NodeList {
        let topic = &self.subscriptions.registry[key];
        let is_over = !topic.is_used() && self.now.since(topic.unused_since()) >= LINGER;
        if is_over || (!topic.is_used() && topic.places().is_empty()) {
            return NodeList::new();
        }
        match topic.kind {
            Kind::Shard => {
                let owner = self.nodes.owner(&self.snapshot, topic.slot);
                owner.into_iter().collect()
            }
            _ if topic.everywhere => {
                self.choose_home();
                NodeList::from_slice(self.nodes.primaries())
            }
            _ => self.choose_home().into_iter().collect(),
        }
    }

    /// Has what comes from the right node handed on, and from no other, once the subscription holds there [U6].
    fn choose_source(&mut self, key: TopicKey) {
        let home = self.choose_home();
        let topic = &mut self.subscriptions.registry[key];
        let source = match topic.kind {
            Kind::Shard => self.nodes.owner(&self.snapshot, topic.slot),
            Kind::Channel | Kind::Pattern => home,
        };
        let is_handed_over = topic
            .source
            .is_some_and(|from| topic.handover(Source::Cluster, from).is_some());
        if source.is_some_and(|source| topic.is_on(source)) && !is_handed_over {
            topic.source = source;
        } else if topic.source.is_none() {
            // What a node has agreed to holds, whatever the topology says.
            let mut places = topic.places().iter();
            let on = places.find(|place| place.state == PlaceState::On);
            topic.source = on.map(|place| place.node);
        }
    }

    /// The primary for what the cluster passes on to all: the one it is, while it is one; else, of those that were the least often
    /// not to be reached, that with the highest hash, so that it stays whatever others come and go [U1].
    pub(super) fn choose_home(&mut self) -> Option<NodeKey> {
        let nodes = &self.nodes;
        let is_lost = |home| nodes[home].feed.is_none() && nodes[home].failures > 0;
        if self.subscriptions.home.is_none_or(is_lost) {
            let rng = &mut self.rng;
            let salt = *self.subscriptions.salt.get_or_insert_with(|| rng.u64(..));
            let hasher = BuildHasherDefault::<DefaultHasher>::default();
            let rank = |key: &&NodeKey| {
                let node = &self.nodes[**key];
                let id = node.id.as_ref().map(|id| id.as_str());
                (Reverse(node.failures), hasher.hash_one((salt, id)))
            };
            self.subscriptions.home = self.nodes.primaries().iter().max_by_key(rank).copied();
        }
        self.subscriptions.home
    }

    /// Sends what begins the subscription at `node`, if it is due and the node can be talked to.
    fn ask_for(&mut self, key: TopicKey, node: NodeKey) {
        let place = self.subscriptions.registry[key].place(node);
        let Some(PlaceState::Wanted(due)) = place.map(|place| place.state) else {
            return;
        };
        let feed = if due <= self.now {
            self.feed_of(node)
        } else {
            None
        };
        let Some(feed) = feed else {
            self.subscriptions.restless.insert(key);
            return;
        };
        let topic = &mut self.subscriptions.registry[key];
        let mut command = std::mem::take(&mut self.scratch);
        command.clear();
        write::command(
            &mut command,
            &[topic.kind.subscribe().as_bytes(), &topic.name],
        );
        if let Some(place) = topic.place_mut(node) {
            place.state = PlaceState::Asked;
            place.refused = false;
            place.owed += 1;
        }
        self.links[feed.index()].push(Owed::Subscribe(key), &command, self.now);
        self.mark_link_dirty(feed);
        self.keep_scratch(command);
    }

    /// Ends the topic at nodes that are not to have it: once those that are have it, or if nobody does.
    fn end_elsewhere(&mut self, key: TopicKey, wanted: &[NodeKey]) {
        let topic = &self.subscriptions.registry[key];
        let is_settled = !wanted.is_empty() && wanted.iter().all(|node| topic.is_on(*node));
        let may_end = is_settled || (wanted.is_empty() && !topic.is_used());
        let elsewhere = topic
            .places()
            .iter()
            .filter(|place| !wanted.contains(&place.node));
        for place in elsewhere.copied().collect::<SmallVec<[_; 4]>>() {
            match place.state {
                PlaceState::Wanted(_) if place.owed == 0 && !place.refused => {
                    self.subscriptions.registry.remove_place(key, place.node);
                }
                PlaceState::Wanted(due) if due > self.now => {
                    self.subscriptions.restless.insert(key);
                }
                PlaceState::Wanted(_) => self.end_at(key, place.node),
                PlaceState::On if self.is_handed_over_by(key, place.node) => {}
                PlaceState::Asked | PlaceState::On if may_end => self.end_at(key, place.node),
                PlaceState::Asked | PlaceState::On | PlaceState::Leaving => {}
            }
        }
    }

    fn is_handed_over_by(&self, key: TopicKey, node: NodeKey) -> bool {
        self.subscriptions.registry[key].is_handed_over_by(node)
    }

    /// Sends what ends the subscription at `node`.
    pub(super) fn end_at(&mut self, key: TopicKey, node: NodeKey) {
        let Some(feed) = self.feed_of(node) else {
            return;
        };
        let topic = &mut self.subscriptions.registry[key];
        let mut command = std::mem::take(&mut self.scratch);
        command.clear();
        write::command(
            &mut command,
            &[topic.kind.unsubscribe().as_bytes(), &topic.name],
        );
        if topic.kind == Kind::Shard {
            // The node may say the same of its own accord, and then refuse this: only what comes behind tells them apart.
            command.extend_from_slice(super::silence::PING);
        }
        if let Some(place) = topic.place_mut(node) {
            place.state = PlaceState::Leaving;
            place.refused = false;
            place.owed += 1;
        }
        self.links[feed.index()].push(Owed::Unsubscribe(key), &command, self.now);
        self.mark_link_dirty(feed);
        self.keep_scratch(command);
    }

    /// Whether the subscription holds wherever it has to: who subscribes now is acknowledged at once [U2].
    pub(super) fn is_served(&self, key: TopicKey) -> bool {
        let topic = &self.subscriptions.registry[key];
        let primaries = self.nodes.primaries();
        let is_complete = !topic.everywhere || primaries.iter().all(|node| topic.is_on(*node));
        is_complete && topic.source.is_some_and(|source| topic.is_on(source))
    }

    /// The topology has changed: topics go where they belong by it. Most changes are about slots: only sharded channels follow them.
    pub(super) fn place_anew(&mut self) {
        if let Some(home) = self.subscriptions.home
            && !self.nodes[home].primary
        {
            self.subscriptions.home = None;
        }
        if self.subscriptions.registry.is_empty() {
            return;
        }
        if self.subscriptions.registry.sharded() > 0 {
            self.place_all(|topic| topic.kind == Kind::Shard);
        }
        self.place_restless();
    }

    /// Tries again to place what could not be placed, and everything if there is another home or another primary.
    pub(super) fn place_restless(&mut self) {
        let home = self.choose_home();
        let placed_by = &mut self.subscriptions.placed_by;
        if placed_by.0 != home || placed_by.1 != self.nodes.primaries() {
            *placed_by = (home, self.nodes.primaries().to_vec());
            self.place_all(|topic| topic.kind != Kind::Shard);
        }
        for key in std::mem::take(&mut self.subscriptions.restless) {
            if self.subscriptions.registry.contains(key) {
                self.place(key);
            }
        }
    }

    /// Places those of these topics that are not where they are to be.
    fn place_all(&mut self, is_such: impl Fn(&Topic) -> bool) {
        let home = self.choose_home();
        let topics = self.subscriptions.registry.iter();
        let astray = topics.filter(|(_, topic)| is_such(topic) && !self.is_in_place(topic, home));
        let astray: Vec<TopicKey> = astray.map(|(key, _)| key).collect();
        for key in astray {
            if self.subscriptions.registry.contains(key) {
                self.place(key);
            }
        }
    }

    /// Whether nothing is to be done about the topic: so it is with almost all of them whenever the topology changes.
    fn is_in_place(&self, topic: &Topic, home: Option<NodeKey>) -> bool {
        let node = match topic.kind {
            Kind::Shard => self.nodes.owner(&self.snapshot, topic.slot),
            Kind::Channel | Kind::Pattern => home,
        };
        let is_there = node.is_some_and(|node| topic.is_on(node)) && topic.source == node;
        let nodes = match node.as_slice() {
            _ if topic.everywhere => self.nodes.primaries(),
            nodes => nodes,
        };
        is_there
            && topic.places().len() == nodes.len()
            && nodes.iter().all(|node| topic.is_on(*node))
    }

    /// What time brings: topics that nobody has are ended, what could not be placed is tried again, requests end that have waited
    /// too long, and feeds are asked whether they are alive.
    pub(super) fn tend_subscriptions(&mut self) {
        self.end_late_subscribing();
        self.end_unused();
        if !self.subscriptions.restless.is_empty() {
            self.place_restless();
            self.end_unserved();
        }
        self.tend_feeds();
    }

    /// Ends topics that nobody has had for a while. What nodes answer, or their loss, does the rest.
    fn end_unused(&mut self) {
        let registry = &mut self.subscriptions.registry;
        for key in registry.take_unused(self.now, LINGER) {
            self.place(key);
        }
    }

    /// Ends the sessions that have a topic for which no node could be found in time.
    fn end_unserved(&mut self) {
        let timeout = self.limits.park_timeout;
        let registry = &self.subscriptions.registry;
        let is_overdue = |key: &TopicKey| {
            registry.contains(*key) && self.now.since(registry[*key].unserved_since) >= timeout
        };
        let restless = self.subscriptions.restless.iter().copied();
        let overdue: Vec<TopicKey> = restless.filter(is_overdue).collect();
        for key in overdue {
            self.close_subscribers(key);
        }
    }

    /// When the node may be asked again that did not take a subscription.
    pub(super) fn after_refusal(&self) -> Timestamp {
        self.now.after(REFUSED_PAUSE)
    }
}

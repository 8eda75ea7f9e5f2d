//! What is published, and how it gets about: to the subscribers of the node at once, to other nodes over the cluster bus, in order and
//! with delay. What is under way is lost if its node dies, or stands still for longer than the bus takes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::model::Violation;
use super::net::Connection;
use super::profile::{HOT_SLOTS, KEYS, pick};
use super::topics::{self, CHANNELS, KEYEVENT, Kind, Topic};
use super::world::{World, note};
use crate::slot_of;

/// The longest time that the bus takes, in microseconds.
const LONGEST_FLIGHT: u64 = 50_000;

/// How long after something has happened to primaries or feeds messages of one publication may come in another order.
const UNREST: u64 = 5_000_000;

/// How far a message gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// To all nodes.
    Cluster,
    /// To the replicas of the node, which tell of it as well: notifications about keys.
    Shard,
    /// No further: messages of sharded channels, since replicas are not subscribed at.
    Node,
}

/// One message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) channel: String,
    pub(super) reach: Reach,
    /// The node that it was published at.
    pub(super) origin: usize,
    /// When.
    at: u64,
    /// A node did not get it that should have.
    lost: bool,
    /// It is told by a primary that is in charge.
    is_in_charge: bool,
    /// Which subscriptions the node has told it to over a feed.
    told: BTreeSet<Topic>,
}

/// Everything that was published, and what the rules about it depend on.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Whether there is anything of the kind in this run.
    pub(super) enabled: bool,
    pub(super) messages: Vec<Message>,
    /// Published, but not told yet.
    outbox: Vec<usize>,
    /// Something has happened that may cost messages, and with them sessions.
    pub(super) harm: bool,
    /// Topologies may be old: which node is in charge, the engine may see wrongly.
    pub(super) stale: bool,
    /// When the order between topics was last at risk.
    unrest: Option<u64>,
    /// From which message on nothing happens to the cluster any more.
    pub(super) calm_since: Option<usize>,
    /// Messages that clients got.
    pub(super) delivered: u64,
}

impl Published {
    pub(super) fn new(enabled: bool, stale: bool) -> Self {
        Self {
            enabled,
            stale,
            ..Self::default()
        }
    }

    pub(super) fn publish(
        &mut self,
        origin: usize,
        channel: String,
        reach: Reach,
        is_in_charge: bool,
        at: u64,
    ) {
        self.outbox.push(self.messages.len());
        self.messages.push(Message {
            channel,
            reach,
            origin,
            at,
            lost: false,
            is_in_charge,
            told: BTreeSet::new(),
        });
    }

    /// Whether whoever has had `topic` since before message `number` is to get that message, or to be disconnected [U6].
    pub(super) fn is_due(&self, topic: &Topic, number: usize) -> bool {
        let message = &self.messages[number];
        let is_it = topics::is_for(topic, &message.channel, message.reach == Reach::Node);
        is_it
            && match message.reach {
                Reach::Cluster => !message.lost,
                Reach::Shard => message.is_in_charge && !self.stale && message.told.contains(topic),
                // When a slot moves, what the old owner has said last may be lost [U13].
                Reach::Node => self.calm_since.is_some_and(|since| number >= since),
            }
    }

    /// Whether the order between topics is certain for message `number` at this time [U5].
    pub(super) fn is_ordered(&self, number: usize, now: u64) -> bool {
        let since = self.unrest.map_or(0, |unrest| unrest + UNREST);
        self.messages[number].at >= since && now >= since
    }
}

/// A message on its way from one node to another.
#[derive(Debug)]
struct Flight {
    number: usize,
    since: u64,
    /// Of the node that it is for.
    incarnation: u32,
}

/// From which node to which, and what: replication has a connection of its own.
type Route = (usize, usize, Reach);

/// The cluster bus: what is on its way between each two nodes, in order.
#[derive(Debug, Default)]
pub(super) struct Bus {
    flights: BTreeMap<Route, VecDeque<Flight>>,
    /// When nodes last got other addresses.
    readdressed: Option<u64>,
}

impl World {
    /// One event that has to do with messages.
    pub(super) fn published_event(&mut self) -> Result<(), Violation> {
        match self.rng.u32(..20) {
            0..=11 => self.fly(),
            12..=16 => self.publish_outside(Kind::Channel),
            17..=18 => self.publish_outside(Kind::Shard),
            _ => self.change_a_key(),
        }
        Ok(())
    }

    /// Somebody who does not come through the proxy publishes something.
    fn publish_outside(&mut self, kind: Kind) {
        let node = self.rng.usize(..self.cluster.peers.len());
        let hot = self.rng.usize(..HOT_SLOTS);
        let channel = (*pick(&mut self.rng, &CHANNELS)).to_owned();
        match kind {
            Kind::Shard => self.publish_sharded(hot),
            _ if self.runs(node) => {
                let published = &mut self.model.published;
                published.publish(node, channel, Reach::Cluster, true, self.now);
                self.tell_published();
            }
            _ => {}
        }
    }

    pub(super) fn publish_sharded(&mut self, hot: usize) {
        let Some(node) = self.cluster.owner_of_hot(hot) else {
            return;
        };
        if self.runs(node) {
            let channel = topics::sharded(hot);
            let published = &mut self.model.published;
            published.publish(node, channel, Reach::Node, true, self.now);
            self.tell_published();
        }
    }

    fn change_a_key(&mut self) {
        let key = self.rng.usize(..KEYS);
        self.change_key(key);
    }

    /// The owner of a key tells that it has changed.
    pub(super) fn change_key(&mut self, key: usize) {
        let hot = key / super::profile::KEYS_PER_SLOT;
        if let Some(node) = self.cluster.owner_of_hot(hot)
            && self.runs(node)
        {
            let (name, now) = (self.cluster.names[key].clone(), self.now);
            self.model.published.note_key(node, &name, true, now);
            self.tell_published();
        }
    }

    fn runs(&self, node: usize) -> bool {
        let peer = &self.cluster.peers[node];
        peer.alive && !peer.stands_still(self.now)
    }

    /// What nodes have published is told to their subscribers, and sent to other nodes.
    pub(super) fn tell_published(&mut self) {
        for number in std::mem::take(&mut self.model.published.outbox) {
            let message = &self.model.published.messages[number];
            let (origin, reach) = (message.origin, message.reach);
            self.tell(origin, number);
            for node in 0..self.cluster.peers.len() {
                let peer = &self.cluster.peers[node];
                let is_for = match reach {
                    Reach::Cluster => true,
                    Reach::Shard => peer.replica_of == Some(origin),
                    Reach::Node => false,
                };
                if is_for && node != origin && peer.alive {
                    let flight = Flight {
                        number,
                        since: self.now,
                        incarnation: peer.incarnation,
                    };
                    let flights = self.bus.flights.entry((origin, node, reach)).or_default();
                    flights.push_back(flight);
                }
            }
        }
    }

    /// A node says a message to all that have subscribed there.
    fn tell(&mut self, node: usize, number: usize) {
        let message = &mut self.model.published.messages[number];
        let is_sharded = message.reach == Reach::Node;
        let peer = &self.cluster.peers[node];
        let mut told = 0;
        for connection in self.connections.iter_mut().filter(|connection| {
            connection.node == node
                && connection.incarnation == peer.incarnation
                && !connection.ended
                && !connection.closing
        }) {
            let is_for = |topic: &&Topic| topics::is_for(topic, &message.channel, is_sharded);
            // The channel before the patterns.
            let mut matching: Vec<&Topic> = connection.topics.iter().filter(is_for).collect();
            matching.sort_by_key(|topic| topic.0);
            for topic in matching {
                let said = topics::message(topic, &message.channel, number);
                connection.replies.extend_from_slice(&said);
                if node == message.origin {
                    message.told.insert(topic.clone());
                }
                told += 1;
            }
        }
        if told > 0 {
            note!(self, "node {node} tells m{number} to {told}");
        }
    }

    /// The next message between two nodes arrives.
    fn fly(&mut self) {
        let pairs: Vec<_> = self.bus.flights.keys().copied().collect();
        if pairs.is_empty() {
            return;
        }
        let pair = pairs[self.rng.usize(..pairs.len())];
        if !self.cluster.peers[pair.1].stands_still(self.now) && !self.is_to_come_later(pair) {
            self.land(pair);
        }
    }

    fn land(&mut self, pair: Route) {
        let Some(flights) = self.bus.flights.get_mut(&pair) else {
            return;
        };
        let flight = flights.pop_front();
        if flights.is_empty() {
            self.bus.flights.remove(&pair);
        }
        let Some(flight) = flight else { return };
        let (origin, target, _) = pair;
        let peer = &self.cluster.peers[target];
        let reach = self.model.published.messages[flight.number].reach;
        let is_there =
            peer.alive && peer.incarnation == flight.incarnation && !peer.stands_still(self.now);
        if reach == Reach::Shard && !(is_there && self.follows(target, origin)) {
            return;
        }
        if is_there {
            self.tell(target, flight.number);
        } else {
            self.model.published.messages[flight.number].lost = true;
        }
    }

    /// A replica takes over as was planned: it has had all that its primary had.
    pub(super) fn land_all(&mut self, primary: usize, replica: usize) {
        let route = (primary, replica, Reach::Shard);
        let incarnation = self.cluster.peers[replica].incarnation;
        for flight in self.bus.flights.remove(&route).unwrap_or_default() {
            if flight.incarnation == incarnation {
                self.tell(replica, flight.number);
            }
        }
    }

    /// Whether the next between two nodes is for a replica that does not know yet that it is one: it gets all once it does.
    fn is_to_come_later(&self, pair: Route) -> bool {
        let (origin, target, _) = pair;
        let peer = &self.cluster.peers[target];
        let flights = self.bus.flights.get(&pair);
        let next = flights.and_then(|flights| flights.front());
        let messages = &self.model.published.messages;
        next.is_some_and(|next| messages[next.number].reach == Reach::Shard)
            && peer.alive
            && peer.replica_of == Some(origin)
            && !self.follows(target, origin)
    }

    /// Whether the node is a replica of the other one, and knows that.
    fn follows(&self, node: usize, primary: usize) -> bool {
        let owns_one = (0..HOT_SLOTS)
            .any(|hot| self.cluster.owner_by(node, self.cluster.hot[hot]) == Some(node));
        self.cluster.peers[node].replica_of == Some(primary) && !owns_one
    }

    /// What has been under way for as long as the bus takes arrives, or never does.
    pub(super) fn land_late(&mut self) {
        for pair in self.bus.flights.keys().copied().collect::<Vec<_>>() {
            while let Some(flight) = self
                .bus
                .flights
                .get(&pair)
                .and_then(|flights| flights.front())
                && flight.since + LONGEST_FLIGHT <= self.now
                && !self.is_to_come_later(pair)
            {
                self.land(pair);
            }
        }
    }

    /// A node has died: of what it sent to each other one, only the first arrives.
    pub(super) fn lose_flights(&mut self, node: usize) {
        for pair in self.bus.flights.keys().copied().collect::<Vec<_>>() {
            if pair.0 != node {
                continue;
            }
            let flights = self.bus.flights.get_mut(&pair);
            let Some(flights) = flights else { continue };
            let kept = self.rng.usize(..=flights.len());
            for flight in flights.drain(kept..) {
                self.model.published.messages[flight.number].lost = true;
            }
            if flights.is_empty() {
                self.bus.flights.remove(&pair);
            }
        }
    }

    /// Nodes that do not own a slot any more say so to those who have its channels [U13].
    pub(super) fn end_moved_channels(&mut self) {
        let cluster = &self.cluster;
        for connection in &mut self.connections {
            let node = connection.node;
            let is_gone = |(kind, name): &Topic| {
                let slot = slot_of(name.as_bytes());
                *kind == Kind::Shard && cluster.owner_by(node, slot) != Some(node)
            };
            if cluster.peers[node].alive
                && cluster.peers[node].incarnation == connection.incarnation
                && !connection.ended
                && !connection.closing
            {
                connection.end_topics(is_gone);
            }
        }
    }

    /// Topics pass from one address of a node to the next one: only then to another one.
    pub(super) const fn may_readdress(&mut self) -> bool {
        let may = match self.bus.readdressed {
            Some(last) => self.profile.pubsub == 0 || self.now >= last + UNREST,
            None => true,
        };
        if may {
            self.bus.readdressed = Some(self.now);
        }
        may
    }

    /// Something has happened that may change from where messages come.
    pub(super) const fn disturb_messages(&mut self) {
        self.model.published.unrest = Some(self.now);
    }

    /// Something has happened that may cost messages.
    pub(super) const fn note_harm(&mut self) {
        self.model.published.harm = true;
        self.disturb_messages();
    }
}

impl Published {
    /// A node tells that a key has changed.
    pub(super) fn note_key(&mut self, node: usize, name: &str, is_in_charge: bool, now: u64) {
        let reach = Reach::Shard;
        self.publish(node, topics::keyspace(name), reach, is_in_charge, now);
        self.publish(node, KEYEVENT.to_owned(), reach, is_in_charge, now);
    }
}

impl Connection {
    /// Begins or ends a subscription of this connection at its node, and says so.
    pub(super) fn subscribe(&mut self, kind: Kind, begins: bool, name: &str) {
        let topic = (kind, name.to_owned());
        self.is_feed = true;
        if begins {
            self.topics.insert(topic);
        } else {
            self.topics.remove(&topic);
        }
        let word = match begins {
            true => kind.subscribe(),
            false => kind.unsubscribe(),
        };
        let said = topics::ack(word, Some(name), self.topics.len());
        self.replies.extend_from_slice(&said);
    }

    fn end_topics(&mut self, is_over: impl Fn(&Topic) -> bool) {
        for topic in self.topics.extract_if(.., |topic| is_over(topic)) {
            let said = topics::ack(topic.0.unsubscribe(), Some(&topic.1), 0);
            self.replies.extend_from_slice(&said);
        }
    }
}

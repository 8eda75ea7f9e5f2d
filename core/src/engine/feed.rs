//! Feeds: the connections that carry subscriptions, one of a worker to a node that has some [U1].

use super::links::LinkLoss;
use super::silence::{PING, PROBE_INTERVAL};
use super::{Action, Engine, LinkKey, NodeKey, SessionKey, TopicKey};
use crate::backend::{Link, LinkPhase, Owed};
use crate::local::PubSubGap;
use crate::metrics::CloseReason;
use crate::pubsub::{Frame, Handover, Kind, PlaceState, read_frame};
use crate::reply::{Asked, Refusal, classify};
use crate::topology::{Hint, RefreshReason};

impl Engine {
    /// The feed of `node` if it can be talked to; one is opened if there is none and the node may be tried.
    pub(super) fn feed_of(&mut self, node: NodeKey) -> Option<LinkKey> {
        let entry = &self.nodes[node];
        if let Some(feed) = entry.feed {
            return self.links[feed.index()].is_feeding().then_some(feed);
        }
        let is_tried = entry.failures > 0 && self.is_being_tried(node);
        if entry.retry_at > self.now || is_tried {
            return None;
        }
        let address = entry.address.clone();
        let link = LinkKey::from_index(self.links.insert(Link::feeding(node, self.now)));
        self.nodes[node].feed = Some(link);
        self.actions.push_back(Action::Connect { link, address });
        None
    }

    /// The feed is through its handshake.
    pub(super) fn on_feed_ready(&mut self, key: LinkKey) {
        let link = &mut self.links[key.index()];
        link.phase = LinkPhase::Feeding;
        self.nodes[link.node].note_reached();
        self.place_restless();
    }

    /// The feed is gone, and with it what it had; who may have missed a message is told by the end of the connection [U6].
    pub(super) fn on_feed_lost(&mut self, key: LinkKey, loss: &LinkLoss) {
        let link = &mut self.links[key.index()];
        let node = link.node;
        while link.pop().is_some() {}
        link.release_answered();
        self.note_loss(node, loss);
        let registry = &self.subscriptions.registry;
        let had = |key: &TopicKey| registry[*key].place(node).is_some();
        let topics: Vec<TopicKey> = registry.iter().map(|(key, _)| key).filter(had).collect();
        for topic in &topics {
            self.lose_place(*topic, node);
        }
        if self.nodes[node].login_refused {
            self.refuse_subscribing_without_login();
        }
        for topic in topics {
            if self.subscriptions.registry.contains(topic) {
                self.place(topic);
            }
        }
    }

    /// The subscription of the topic at `node` is over, or never was, and nobody asked for its end.
    fn lose_place(&mut self, key: TopicKey, node: NodeKey) {
        // What it was to take over comes from another node yet.
        let handovers = &self.subscriptions.registry[key].handovers;
        let is_to_it = |handover: &&Handover| !handover.is_over() && handover.to == node;
        let is_new = handovers.iter().any(|handover| is_to_it(&handover));
        let has_rest = handovers
            .iter()
            .filter(is_to_it)
            .any(Handover::has_own_rest);
        let Some(place) = self.subscriptions.registry.remove_place(key, node) else {
            return;
        };
        let is_missed = match place.state {
            PlaceState::On if is_new => has_rest,
            // It was to follow a node that had said the end of it: since then nobody has told what was published.
            PlaceState::Wanted(_) | PlaceState::Asked => {
                let mut places = self.subscriptions.registry[key].places().iter();
                places.all(|place| place.state != PlaceState::On)
            }
            // Whether the node has said all it had to say until another one took over is not known, for it has not confirmed the end.
            PlaceState::On | PlaceState::Leaving => true,
        };
        if is_missed {
            self.end_subscribers(key, |gap| gap == PubSubGap::Close);
        }
    }

    /// Ends the sessions that have the topic: they are to subscribe again, and to look what has changed meanwhile.
    pub(super) fn close_subscribers(&mut self, key: TopicKey) {
        self.end_subscribers(key, |_| true);
    }

    /// As [`Self::close_subscribers`], for those whose listeners say such a thing about what they miss. The others are not told that the
    /// topic is subscribed to at another node.
    pub(super) fn end_subscribers(&mut self, key: TopicKey, is_such: impl Fn(PubSubGap) -> bool) {
        let subscribers: Vec<SessionKey> = self.subscriptions.registry[key].subscribers().to_vec();
        // From the end of the list: each leaves it.
        for session in subscribers.into_iter().rev() {
            let env = &self.sessions[session.index()].env;
            if !is_such(env.listener().pubsub_gap) {
                continue;
            }
            self.drop_subscriptions(session);
            self.end_subscribing(session);
            self.end_session(session, CloseReason::SubscriptionLost);
        }
    }

    /// One whole reply on a feed.
    pub(super) fn on_feed_reply(&mut self, key: LinkKey, reply: &[u8]) -> Result<(), LinkLoss> {
        let node = self.links[key.index()].node;
        if reply.first() == Some(&b'-') {
            return self.on_feed_error(key, node, reply);
        }
        match read_frame(reply) {
            Some(Frame::Message {
                kind,
                topic,
                channel,
            }) => self.publish(node, reply, kind, topic, channel),
            Some(Frame::Subscribed { kind, topic }) => {
                let found = self.subscriptions.registry.find(kind, topic);
                match self.oldest_owed(key) {
                    Some(Owed::Subscribe(expected)) if found == Some(expected) => {
                        self.links[key.index()].pop();
                        self.settle_place(expected, node);
                    }
                    _ => return Err(unexpected(reply)),
                }
            }
            Some(Frame::Unsubscribed { kind, topic }) => {
                return self.on_unsubscribed(key, node, kind, topic);
            }
            Some(Frame::Pong) => match self.oldest_owed(key) {
                Some(Owed::Probe) => {
                    self.links[key.index()].pop();
                }
                // The PING behind the end of a sharded channel's subscription.
                Some(Owed::Unsubscribe(topic)) if self.is_sharded(topic) => {
                    self.links[key.index()].pop();
                    self.settle_place(topic, node);
                }
                _ => return Err(unexpected(reply)),
            },
            None => return Err(unexpected(reply)),
        }
        Ok(())
    }

    fn on_unsubscribed(
        &mut self,
        key: LinkKey,
        node: NodeKey,
        kind: Kind,
        name: &[u8],
    ) -> Result<(), LinkLoss> {
        let found = self.subscriptions.registry.find(kind, name);
        match self.oldest_asked(key) {
            // What comes behind it tells that it was the reply.
            Some(Owed::Unsubscribe(expected)) if found == Some(expected) => {
                if kind == Kind::Shard {
                    self.hear(expected, node);
                } else {
                    self.links[key.index()].pop();
                    self.settle_place(expected, node);
                }
            }
            // The slot has moved: the node says so to all that have the channel [U13].
            _ if kind == Kind::Shard => {
                if let Some(topic) = found
                    && self.subscriptions.registry[topic].is_on(node)
                {
                    self.on_moved_away(topic, node);
                }
            }
            _ => {
                return Err(unexpected(
                    b"an end of a subscription that was not asked for",
                ));
            }
        }
        Ok(())
    }

    /// The slot of a sharded channel has left `node`. Who has the channel is not told, unless it is to be: it is subscribed to at the new
    /// owner.
    fn on_moved_away(&mut self, topic: TopicKey, node: NodeKey) {
        self.subscriptions.registry.remove_place(topic, node);
        self.forward_move(topic);
        let id = self.nodes[node].id.clone();
        self.hint(Hint::Refresh {
            reason: RefreshReason::Moved,
            node: id,
        });
        self.place(topic);
    }

    /// A node refuses what was asked on a feed.
    fn on_feed_error(&mut self, key: LinkKey, node: NodeKey, reply: &[u8]) -> Result<(), LinkLoss> {
        match self.oldest_asked(key) {
            Some(Owed::Probe) => {
                self.links[key.index()].pop();
            }
            Some(Owed::Subscribe(topic)) => {
                self.links[key.index()].pop();
                self.on_subscribe_refused(topic, node, reply);
            }
            Some(Owed::Unsubscribe(topic)) => {
                let is_last = !self.is_sharded(topic) || self.is_about_ping(topic, node, reply);
                if is_last && self.oldest_owed(key).is_none() {
                    return Err(unexpected(reply));
                }
                let is_sharded = self.is_sharded(topic);
                if (!is_sharded || !is_last)
                    && let Some(place) = self.subscriptions.registry[topic].place_mut(node)
                {
                    place.refused = is_passing(reply);
                }
                if is_last {
                    self.links[key.index()].pop();
                    self.settle_place(topic, node);
                } else {
                    self.hear(topic, node);
                }
            }
            _ => return Err(unexpected(reply)),
        }
        Ok(())
    }

    /// Of the two replies that are owed about the end of a sharded channel's subscription, whether this error is the second. SUNSUBSCRIBE
    /// is redirected, or refused while a script runs; PING while a script runs, or the node is not ready.
    fn is_about_ping(&self, topic: TopicKey, node: NodeKey, reply: &[u8]) -> bool {
        match self.classify_for(topic, reply) {
            Some(Refusal::Moved { .. } | Refusal::ClusterDown) => false,
            Some(Refusal::Loading | Refusal::MasterDown) => true,
            _ => {
                let place = self.subscriptions.registry[topic].place(node);
                place.is_some_and(|place| place.heard)
            }
        }
    }

    /// The first of the two replies about the end of a sharded channel's subscription is there.
    fn hear(&mut self, topic: TopicKey, node: NodeKey) {
        if let Some(place) = self.subscriptions.registry[topic].place_mut(node) {
            place.heard = true;
        }
    }

    /// An answer about the topic has come from `node`; after the last one it is clear how things stand.
    fn settle_place(&mut self, key: TopicKey, node: NodeKey) {
        let due = self.after_refusal();
        let Some(place) = self.subscriptions.registry[key].place_mut(node) else {
            return;
        };
        place.owed -= 1;
        place.heard = false;
        match place.state {
            _ if place.owed > 0 => {}
            PlaceState::Asked => {
                place.state = PlaceState::On;
                self.place(key);
            }
            // It is there yet, though nobody wants it.
            PlaceState::Leaving if place.refused => {
                place.state = PlaceState::Wanted(due);
                self.place(key);
            }
            PlaceState::Leaving => {
                self.subscriptions.registry.remove_place(key, node);
                self.place(key);
            }
            PlaceState::Wanted(_) | PlaceState::On => self.place(key),
        }
    }

    /// What was to be subscribed to is refused: for now, by a node that is not the right one, or for good.
    fn on_subscribe_refused(&mut self, key: TopicKey, node: NodeKey, reply: &[u8]) {
        let refusal = self.classify_for(key, reply);
        if let Some(refusal) = &refusal {
            self.metrics.redirects[refusal.kind().index()] += 1;
            self.tell_discovery(node, refusal);
        }
        let due = self.after_refusal();
        let Some(place) = self.subscriptions.registry[key].place_mut(node) else {
            return;
        };
        place.owed -= 1;
        if place.owed > 0 || place.state != PlaceState::Asked {
            // Its end was asked for since.
            return;
        }
        if refusal.is_some() || is_passing(reply) {
            place.state = PlaceState::Wanted(due);
            self.place(key);
        } else {
            place.state = PlaceState::Wanted(due);
            self.refuse_topic(key, node, reply);
        }
    }

    /// A node does not permit the topic: those that ask for it are told so; those that have it do not have it any more.
    fn refuse_topic(&mut self, key: TopicKey, node: NodeKey, reply: &[u8]) {
        self.close_subscribers(key);
        let waiters = self.subscriptions.registry[key].waiters.clone();
        for request in waiters {
            self.refuse_subscribing(request, reply);
        }
        // Requests that had it, and wait for another one, go on trying: not at once, or that would be all the node does.
        if !self.subscriptions.registry[key].is_used() {
            self.subscriptions.registry.remove_place(key, node);
        }
        self.place(key);
    }

    fn tell_discovery(&mut self, node: NodeKey, refusal: &Refusal) {
        let from = self.nodes[node].id.clone();
        if let Refusal::Moved { slot, target } = refusal
            && let Some(target) = self.target_address(node, target)
            && let Some(from) = from.clone()
        {
            let slot = *slot;
            return self.hint(Hint::Moved { slot, target, from });
        }
        let reason = match refusal {
            Refusal::ClusterDown => RefreshReason::ClusterDown,
            _ => RefreshReason::Moved,
        };
        self.hint(Hint::Refresh { reason, node: from });
    }

    /// Closes feeds that have nothing, and asks those that are quiet whether they are alive: most of the time nothing is owed on
    /// one, so that its end, if nobody tells of it, would pass for a time without messages.
    pub(super) fn tend_feeds(&mut self) {
        let interval = PROBE_INTERVAL.min(self.limits.node_timeout / 4);
        let feeds: Vec<LinkKey> = self
            .nodes
            .iter()
            .filter_map(|(_, node)| node.feed)
            .collect();
        for key in feeds {
            let link = &mut self.links[key.index()];
            if self.subscriptions.registry.placed_at(link.node) == 0 {
                self.lose_link(key, LinkLoss::Retired);
            } else if link.is_feeding()
                && link.owed() == 0
                && self.now.since(link.progress) >= interval
            {
                link.push(Owed::Probe, PING, self.now);
                self.mark_link_dirty(key);
            }
        }
    }

    /// What the oldest reply owed on a feed is for, if it was asked for already.
    fn oldest_owed(&self, key: LinkKey) -> Option<Owed> {
        let link = &self.links[key.index()];
        let oldest = link.oldest().filter(|entry| link.is_written(entry))?;
        Some(oldest.owed)
    }

    /// As [`Self::oldest_owed`], if the first of its replies may be there: the PING behind the end of a sharded channel's
    /// subscription may not be written yet.
    fn oldest_asked(&self, key: LinkKey) -> Option<Owed> {
        let link = &self.links[key.index()];
        let oldest = link.oldest()?;
        let rest = match oldest.owed {
            Owed::Unsubscribe(topic) if self.is_sharded(topic) => PING.len(),
            _ => 0,
        };
        link.is_written_but_for(oldest, rest).then_some(oldest.owed)
    }

    fn is_sharded(&self, topic: TopicKey) -> bool {
        self.subscriptions.registry[topic].kind == Kind::Shard
    }

    fn classify_for(&self, topic: TopicKey, reply: &[u8]) -> Option<Refusal> {
        let topic = &self.subscriptions.registry[topic];
        let slot = (topic.kind == Kind::Shard).then_some(topic.slot);
        let scripted = false;
        classify(reply, Asked { slot, scripted })
    }
}

/// Whether the node says that it cannot now, for a reason of its own.
fn is_passing(reply: &[u8]) -> bool {
    [&b"-BUSY "[..], b"-LOADING ", b"-MASTERDOWN "]
        .iter()
        .any(|code| reply.starts_with(code))
}

fn unexpected(reply: &[u8]) -> LinkLoss {
    let shown = reply.get(..64).unwrap_or(reply).escape_ascii();
    LinkLoss::Protocol(format!("not expected on a feed: {shown}"))
}

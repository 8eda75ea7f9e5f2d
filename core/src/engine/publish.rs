//! Messages: from the feed of a node to every client that is subscribed [U5]-[U9].

use std::rc::Rc;

use bytes::BytesMut;

use super::reply_memory::LEAST_SHARE;
use super::request::State;
use super::{Engine, NodeKey, SessionKey, TopicKey};
use crate::backend::Owed;
use crate::local::ShardMove;
use crate::metrics::CloseReason;
use crate::pubsub::{KEYSPACE, Kind, Topic};
use crate::resp::Protocol;

impl Engine {
    /// Hands a message on to all that have the topic it is for. `frame` is it as the node sent it, in RESP2.
    pub(super) fn publish(
        &mut self,
        node: NodeKey,
        frame: &[u8],
        kind: Kind,
        topic: &[u8],
        channel: &[u8],
    ) {
        let Some(key) = self.subscriptions.registry.find(kind, topic) else {
            return;
        };
        let is_handed_over = !self.subscriptions.registry[key].handovers.is_empty();
        if is_handed_over && self.take_message_of_two(key, node, frame, channel) {
            return;
        }
        if self.is_from_source(key, node, channel) {
            self.hand_to_all(key, frame);
        }
    }

    /// Hands a message on to all that have the topic.
    pub(super) fn hand_to_all(&mut self, key: TopicKey, frame: &[u8]) {
        let subscribers = self.subscriptions.registry.take_subscribers(key);
        for session in &subscribers {
            self.hand_message(*session, frame);
        }
        self.subscriptions.registry.put_back(key, subscribers);
    }

    /// Whether the message is not one that another node sends as well. Ordinary ones come from every node that has the topic;
    /// keyspace notifications from the one that has the key [U9].
    fn is_from_source(&self, key: TopicKey, node: NodeKey, channel: &[u8]) -> bool {
        let topic = &self.subscriptions.registry[key];
        if topic.everywhere && channel.starts_with(KEYSPACE) {
            topic.is_on(node) && (self.is_in_charge(node) || !self.is_replaced(topic, node))
        } else {
            topic.source == Some(node)
        }
    }

    /// Whether there is another node that has the topic, and the same notifications, for it has the same keys.
    #[cold]
    fn is_replaced(&self, topic: &Topic, node: NodeKey) -> bool {
        self.successor(node)
            .is_some_and(|primary| topic.is_on(primary))
    }

    /// The slot of a sharded channel has left its node, which has ended its subscription: clients that are to be told are [U13].
    pub(super) fn forward_move(&mut self, topic: TopicKey) {
        let registry = &self.subscriptions.registry;
        let name = Rc::clone(&registry[topic].name);
        let subscribers = registry[topic].subscribers().to_vec();
        for key in subscribers.into_iter().rev() {
            let env = &self.sessions[key.index()].env;
            if env.listener().ssub_move == ShardMove::Resubscribe {
                continue;
            }
            let is_in_reply = self.is_in_reply(key);
            let held = match &mut self.sessions[key.index()].subscriber {
                Some(subscriber) => std::mem::take(&mut subscriber.held),
                None => BytesMut::new(),
            };
            let mut frame = Vec::new();
            self.end_subscription(key, Kind::Shard, &name, &mut frame);
            self.announce_subscriptions(key);
            if !is_in_reply {
                self.hand_push(key, &frame);
                continue;
            }
            // It stays one with subscriptions, though it may have none, until it has got this.
            let session = &mut self.sessions[key.index()];
            let subscriber = session.subscriber.get_or_insert_default();
            subscriber.held = held;
            subscriber.held.extend_from_slice(&frame);
            session.reply_bytes += frame.len();
            self.reply_bytes += frame.len();
            self.unread_bytes += frame.len();
        }
    }

    /// Gives lines to one client that expects some, under the same condition as messages. No reply is passed on to such a client: it
    /// may not read keys.
    pub(super) fn hand_push(&mut self, key: SessionKey, lines: &[u8]) {
        if self.takes_push(key, lines.len()) {
            debug_assert!(!self.is_in_reply(key), "its replies are short");
            self.give(key, lines);
            self.mark_session_dirty(key);
        }
    }

    /// Gives a message to one client: now, or behind the reply that is being passed on to it. One that does not read them is
    /// disconnected, so that the others get theirs [U8].
    fn hand_message(&mut self, key: SessionKey, frame: &[u8]) {
        if !self.takes_push(key, frame.len()) {
            return;
        }
        let session = &self.sessions[key.index()];
        let push: &[u8] = match session.client.protocol {
            Protocol::Resp2 => b"*",
            Protocol::Resp3 => b">",
        };
        let rest = frame.get(1..).unwrap_or_default();
        self.metrics.messages += 1;
        if self.is_in_reply(key) {
            let session = &mut self.sessions[key.index()];
            if let Some(subscriber) = &mut session.subscriber {
                subscriber.held.extend_from_slice(push);
                subscriber.held.extend_from_slice(rest);
                session.reply_bytes += frame.len();
                self.reply_bytes += frame.len();
                self.unread_bytes += frame.len();
            }
            return;
        }
        self.give(key, push);
        self.give(key, rest);
        self.mark_session_dirty(key);
    }

    /// Whether the client takes so many bytes that it has not asked for just now. If it has too many already, it is disconnected.
    fn takes_push(&mut self, key: SessionKey, length: usize) -> bool {
        let session = &self.sessions[key.index()];
        if session.closing.is_some() || session.cut_off.is_some() {
            return false;
        }
        let unread = session.unread_bytes() + length;
        // Replies that are expected take no memory yet: nobody is disconnected for them.
        let is_full = self.unread_bytes + length > self.limits.reply_bytes;
        let is_behind = is_full && unread > LEAST_SHARE || unread > self.limits.pubsub_output_bytes;
        if is_behind {
            self.disconnect_behind(key);
        }
        !is_behind
    }

    /// Disconnects a client that is too far behind. What it has not read makes room at once: those behind it in the list get theirs.
    pub(super) fn disconnect_behind(&mut self, key: SessionKey) {
        let session = &mut self.sessions[key.index()];
        let unread = session.unread_bytes();
        session.cut_off = Some(CloseReason::OutputLimit);
        session.out = BytesMut::new();
        if let Some(subscriber) = &mut session.subscriber {
            subscriber.held = BytesMut::new();
        }
        if let Some(tracker) = &mut session.tracker {
            tracker.held.clear();
            tracker.held_bytes = 0;
        }
        session.reply_bytes -= unread;
        self.reply_bytes -= unread;
        self.unread_bytes -= unread;
        self.count_disturbances(key);
        self.mark_session_dirty(key);
    }

    /// Whether the client has got a part of a reply, the rest of which is on its way.
    pub(super) fn is_in_reply(&self, session: SessionKey) -> bool {
        let Some(oldest) = self.sessions[session.index()].queue.front() else {
            return false;
        };
        let State::Sent(link) = self.requests[*oldest].state else {
            return false;
        };
        let link = &self.links[link.index()];
        let next = link.oldest().map(|entry| entry.owed);
        link.passage.is_some() && next == Some(Owed::Request(*oldest))
    }

    /// The reply that was passed on is whole: messages that came meanwhile follow.
    pub(super) fn release_messages(&mut self, session: Option<SessionKey>) {
        let Some(key) = session else { return };
        let Some(state) = self.sessions.get_mut(key.index()) else {
            return;
        };
        let Some(subscriber) = &mut state.subscriber else {
            return;
        };
        let held = std::mem::take(&mut subscriber.held);
        if held.is_empty() {
            return;
        }
        if subscriber.is_empty() {
            state.subscriber = None;
        }
        state.reply_bytes -= held.len();
        self.reply_bytes -= held.len();
        self.unread_bytes -= held.len();
        self.give(key, &held);
        self.mark_session_dirty(key);
    }
}

//! SUBSCRIBE, UNSUBSCRIBE and their likes, and what else a client with subscriptions may do [U2]-[U4] [U11].
//!
//! They are carried out at their turn: when all before them are answered. Nothing behind them is taken before they are answered, for
//! what it means may depend on them: in RESP2 a client with subscriptions may do little else. So an acknowledgement is where the
//! reply would be, and messages are behind it, or before that of the end.

use std::rc::Rc;

use super::park::{LOGIN_REFUSED, NO_MASTER};
use super::placing::Pending;
use super::request::{Launch, State};
use super::{Engine, RequestKey, SessionKey, TopicKey};
use crate::command::{Class, Spec, id};
use crate::local;
use crate::metrics::{CloseReason, Outcome};
use crate::pubsub::{Kind, write_ack};
use crate::resp::{Args, DecodeStep, RequestDecoder, RequestLimits, write};
use crate::session::Session;
use crate::session::subscriber::Subscriber;
use crate::slot::Slot;
use crate::time::Timestamp;

/// What a request is told that subscribes when the client's other subscriptions end.
const LOST: &[u8] = b"-CLUSTERDOWN proxy: the connection for subscriptions was lost\r\n";

const CROSSSLOT: &[u8] = b"-CROSSSLOT Keys in request don't hash to the same slot\r\n";

impl Engine {
    /// Whether a command of a client with subscriptions is dealt with here, because it has them.
    #[cold]
    pub(super) fn is_for_subscriber(
        &mut self,
        session: SessionKey,
        spec: &'static Spec,
        raw: &[u8],
        args: Args<'_>,
    ) -> bool {
        let state = &self.sessions[session.index()];
        if !state.only_subscribes() {
            // Messages come in the client's version: it may not change before replies that are in the old one.
            let changes = spec.id == id::HELLO && state.transaction.is_none();
            if changes && !state.queue.is_empty() {
                self.whole(session, spec, raw, Launch::AtTurn);
                return true;
            }
            return false;
        }
        let is_free = matches!(spec.class, Class::PubSub | Class::ShardedPubSub)
            || matches!(spec.id, id::QUIT | id::RESET);
        match spec.id {
            _ if is_free || !spec.arity_ok(args.len()) => false,
            id::PING if args.len() > 2 => false,
            id::PING => {
                let mut reply = Vec::new();
                write::array(&mut reply, 2);
                write::bulk(&mut reply, b"pong");
                write::bulk(&mut reply, args.get(1).unwrap_or_default());
                self.count_immediate(spec, Outcome::Ok);
                self.answer_at_turn(session, &reply);
                true
            }
            _ => {
                let text = format!(
                    "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                    spec.name
                );
                self.refuse(session, spec, |out| write::error(out, text.as_bytes()));
                true
            }
        }
    }

    /// Carries out a command whose turn has come: nothing before it in its session is unanswered.
    pub(super) fn carry_out(&mut self, request: RequestKey, raw: &[u8]) {
        let spec = self.requests[request].shape.spec;
        let mut decoder = RequestDecoder::default();
        let step = decoder.decode(raw, &RequestLimits::DEFAULT);
        let (Some(session), Ok(DecodeStep::Command { .. })) =
            (self.requests[request].session, step)
        else {
            return self.fail_parent(request, |out| {
                write::error(out, b"ERR proxy: unreadable request");
            });
        };
        let args = Args::new(raw, decoder.ranges());
        if self.is_across_slots(session, spec, args) {
            return self.fail(request, CROSSSLOT, Outcome::Refused, false);
        }
        match spec.id {
            id::SUBSCRIBE => self.subscribe(request, Kind::Channel, args),
            id::PSUBSCRIBE => self.subscribe(request, Kind::Pattern, args),
            id::SSUBSCRIBE => self.subscribe(request, Kind::Shard, args),
            id::UNSUBSCRIBE => self.unsubscribe(request, session, Kind::Channel, args),
            id::PUNSUBSCRIBE => self.unsubscribe(request, session, Kind::Pattern, args),
            id::SUNSUBSCRIBE => self.unsubscribe(request, session, Kind::Shard, args),
            id::SELECT => self.select_now(request, session, raw, args),
            id::MONITOR => self.begin_monitoring(request, session),
            id::CLIENT_TRACKING => self.track(request, session, spec, args),
            _ => self.answer_now(request, session, spec, args),
        }
    }

    /// Whether sharded channels of several slots are named where that is refused [U12].
    fn is_across_slots(&self, session: SessionKey, spec: &Spec, args: Args<'_>) -> bool {
        let is_sharded = matches!(spec.id, id::SSUBSCRIBE | id::SUNSUBSCRIBE);
        let listener = self.sessions[session.index()].env.listener();
        if !is_sharded || listener.ssubscribe_cross_slot || self.keyspace.undivided {
            return false;
        }
        let mut slots = args.iter().skip(1).map(Slot::of_key);
        let first = slots.next();
        slots.any(|slot| Some(slot) != first)
    }

    /// As [`Self::local`], of a request that has its place in the queue.
    pub(super) fn answer_now(
        &mut self,
        request: RequestKey,
        session: SessionKey,
        spec: &'static Spec,
        args: Args<'_>,
    ) {
        let mut reply = Vec::new();
        let state = &mut self.sessions[session.index()];
        let env = Rc::clone(&state.env);
        let before = state.client.database;
        local::answer(spec, args, &mut state.client, &*env, &mut reply);
        state.sent_generation = Session::MIXED;
        self.follow_database(session, before);
        let outcome = match reply.first() {
            Some(b'-') => Outcome::Refused,
            _ => Outcome::Ok,
        };
        self.complete(request, &reply, outcome, false);
    }

    /// Acknowledged when all that it names is subscribed to [U2].
    fn subscribe(&mut self, request: RequestKey, kind: Kind, args: Args<'_>) {
        if self.is_ending_for_a_gap(request) {
            return self.fail(request, LOST, Outcome::Unavailable, false);
        }
        let names = || args.iter().skip(1);
        let primaries = self.nodes.primaries().len();
        let registry = &mut self.subscriptions.registry;
        let costs = names().map(|name| registry.cost(kind, name, primaries));
        let cost: usize = costs.sum();
        if registry.bytes() + cost > self.limits.subscription_bytes {
            let text = b"-ERR proxy: too many subscriptions\r\n";
            return self.fail(request, text, Outcome::Refused, false);
        }
        let topics = names().map(|name| registry.hold(kind, name)).collect();
        self.await_topics(request, topics, self.now);
        if self.is_locked_out() {
            self.refuse_subscribing_without_login();
        }
    }

    /// Whether the session is about to be disconnected because it has missed messages: it would miss those of this topic, too.
    fn is_ending_for_a_gap(&self, request: RequestKey) -> bool {
        let session = self.requests[request].session;
        let session = session.and_then(|session| self.sessions.get(session.index()));
        session.is_some_and(|session| session.closing == Some(CloseReason::SubscriptionLost))
    }

    /// Acknowledges the request, which holds `topics` since its turn came, if they are all served; else when they are.
    fn await_topics(&mut self, request: RequestKey, topics: Vec<TopicKey>, since: Timestamp) {
        let mut missing = Vec::new();
        for key in &topics {
            if self.is_served(*key) {
                continue;
            }
            let waiters = &mut self.subscriptions.registry[*key].waiters;
            if waiters.last() != Some(&request) {
                waiters.push(request);
                missing.push(*key);
            }
        }
        if missing.is_empty() {
            return self.acknowledge_subscriptions(request, &topics);
        }
        self.requests[request].state = State::Subscribing;
        let pending = Pending {
            topics,
            missing: missing.len(),
            since,
        };
        self.subscriptions.pending.insert(request, pending);
        for key in missing {
            self.place(key);
        }
    }

    /// One of the topics that the request waits for is served.
    pub(super) fn on_served(&mut self, request: RequestKey) {
        let pending = self.subscriptions.pending.get_mut(&request);
        let is_last = pending.is_some_and(|pending| {
            pending.missing -= 1;
            pending.missing == 0
        });
        if is_last && let Some(pending) = self.subscriptions.pending.remove(&request) {
            // Others of them may have been lost meanwhile.
            self.await_topics(request, pending.topics, pending.since);
        }
    }

    fn acknowledge_subscriptions(&mut self, request: RequestKey, topics: &[TopicKey]) {
        let Some(session) = self.requests[request].session else {
            return;
        };
        let state = &mut self.sessions[session.index()];
        let protocol = state.client.protocol;
        let subscriber = state.subscriber.get_or_insert_default();
        let registry = &mut self.subscriptions.registry;
        let mut reply = Vec::new();
        for key in topics {
            registry.join(*key, session);
            registry.release(*key, self.now);
            let (kind, name) = (registry[*key].kind, &registry[*key].name);
            subscriber.join(kind, *key);
            let count = subscriber.count(kind);
            write_ack(&mut reply, kind.subscribe(), Some(name), count, protocol);
        }
        self.tell(request, &reply);
    }

    fn unsubscribe(
        &mut self,
        request: RequestKey,
        session: SessionKey,
        kind: Kind,
        args: Args<'_>,
    ) {
        let mut reply = Vec::new();
        let state = &self.sessions[session.index()];
        if args.len() > 1 {
            for name in args.iter().skip(1) {
                self.end_subscription(session, kind, name, &mut reply);
            }
        } else if let Some(subscriber) = &state.subscriber
            && !subscriber.topics(kind).is_empty()
        {
            let topics: Vec<TopicKey> = subscriber.topics(kind).iter().copied().collect();
            for key in topics {
                let name = Rc::clone(&self.subscriptions.registry[key].name);
                self.end_subscription(session, kind, &name, &mut reply);
            }
        } else {
            let count = state.subscriptions(kind);
            let protocol = state.client.protocol;
            write_ack(&mut reply, kind.unsubscribe(), None, count, protocol);
        }
        self.tell(request, &reply);
    }

    /// Ends a subscription, if the session has it, and appends the acknowledgement of that to `reply`.
    pub(super) fn end_subscription(
        &mut self,
        session: SessionKey,
        kind: Kind,
        name: &[u8],
        reply: &mut Vec<u8>,
    ) {
        let registry = &mut self.subscriptions.registry;
        let state = &mut self.sessions[session.index()];
        if let Some(key) = registry.find(kind, name)
            && let Some(subscriber) = &mut state.subscriber
            && subscriber.leave(kind, key)
        {
            registry.leave(key, session, self.now);
            if subscriber.is_empty() {
                debug_assert!(subscriber.held.is_empty(), "no reply is being passed on");
                state.subscriber = None;
            }
        }
        let count = state.subscriptions(kind);
        write_ack(
            reply,
            kind.unsubscribe(),
            Some(name),
            count,
            state.client.protocol,
        );
    }

    /// Answers with acknowledgements: what CLIENT REPLY hides are replies, and they are none [L1].
    fn tell(&mut self, request: RequestKey, acknowledgements: &[u8]) {
        if let Some(session) = self.requests[request].session {
            self.announce_subscriptions(session);
        }
        self.requests[request].visible = true;
        self.complete(request, acknowledgements, Outcome::Ok, true);
    }

    /// Has CLIENT LIST show what the session has.
    pub(super) fn announce_subscriptions(&self, session: SessionKey) {
        let state = &self.sessions[session.index()];
        let subscriber = state.subscriber.as_ref();
        let counts = subscriber.map_or([0; 3], |subscriber| subscriber.counts());
        state.env.client_subscribed(state.client.id, counts);
    }

    /// Ends all subscriptions of a session, without a word to it [U11].
    pub(super) fn drop_subscriptions(&mut self, session: SessionKey) {
        let state = &mut self.sessions[session.index()];
        if let Some(subscriber) = state.subscriber.take() {
            state.reply_bytes -= subscriber.held.len();
            self.reply_bytes -= subscriber.held.len();
            self.unread_bytes -= subscriber.held.len();
            self.end_subscriptions(session, &subscriber);
            self.announce_subscriptions(session);
        }
    }

    /// Ends the subscriptions of a session that has gone.
    pub(super) fn end_subscriptions(&mut self, session: SessionKey, subscriber: &Subscriber) {
        for key in subscriber.all() {
            self.subscriptions.registry.leave(key, session, self.now);
        }
    }

    /// Takes a request off the topics it waits for.
    pub(super) fn forget_subscribing(&mut self, request: RequestKey) {
        let Some(pending) = self.subscriptions.pending.remove(&request) else {
            return;
        };
        let registry = &mut self.subscriptions.registry;
        for key in pending.topics {
            registry[key].waiters.retain(|other| *other != request);
            registry.release(key, self.now);
        }
    }

    /// Answers a request that subscribes with an error: it has subscribed to nothing.
    pub(super) fn refuse_subscribing(&mut self, request: RequestKey, reply: &[u8]) {
        self.forget_subscribing(request);
        let outcome = match reply.starts_with(b"-CLUSTERDOWN ") || reply == LOGIN_REFUSED {
            true => Outcome::Unavailable,
            false => Outcome::NodeError,
        };
        self.fail(request, reply, outcome, false);
    }

    /// The nodes do not let the proxy in.
    pub(super) fn refuse_subscribing_without_login(&mut self) {
        for request in self.subscribing(|_| true) {
            self.refuse_subscribing(request, LOGIN_REFUSED);
        }
    }

    /// Refuses what the session is about to subscribe to.
    pub(super) fn end_subscribing(&mut self, session: SessionKey) {
        // Nothing is before it, and nothing behind it is taken.
        if let Some(request) = self.sessions[session.index()].queue.front().copied()
            && self.requests[request].state == State::Subscribing
        {
            self.refuse_subscribing(request, LOST);
        }
    }

    /// Refuses what could not be subscribed to in time [PK1].
    pub(super) fn end_late_subscribing(&mut self) {
        let (now, timeout) = (self.now, self.limits.park_timeout);
        for request in self.subscribing(|pending| now.since(pending.since) >= timeout) {
            let pending = self.subscriptions.pending.get(&request);
            let topics = pending.map_or(&[][..], |pending| &pending.topics);
            let missing = topics.iter().find(|key| !self.is_served(**key));
            let missing = missing.map(|key| &self.subscriptions.registry[*key]);
            let reply = match missing {
                Some(topic) if topic.kind == Kind::Shard => {
                    format!("{NO_MASTER}{}\r\n", topic.slot.get())
                }
                _ => "-CLUSTERDOWN proxy: no master for subscriptions\r\n".to_owned(),
            };
            self.refuse_subscribing(request, reply.as_bytes());
        }
    }

    /// The requests that wait for something to be subscribed to, and are such.
    fn subscribing(&self, is_such: impl Fn(&Pending) -> bool) -> Vec<RequestKey> {
        let pending = self.subscriptions.pending.iter();
        let such = pending.filter(|(_, pending)| is_such(pending));
        such.map(|(key, _)| *key).collect()
    }
}

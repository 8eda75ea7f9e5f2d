//! The life of client sessions.

use std::rc::Rc;

use super::links::LinkLoss;
use super::request::{Launch, State};
use super::{Engine, RequestKey, SessionKey};
use crate::local::{Environment, OutputLimits};
use crate::metrics::CloseReason;
use crate::session::client_state::ClientState;
use crate::session::{Session, Upload};
use crate::time::Timestamp;

impl Engine {
    /// Takes a client that has just connected. The driver keeps the key until [`Self::remove_session`].
    pub fn add_session(&mut self, client: ClientState, env: Rc<dyn Environment>) -> SessionKey {
        self.metrics.accepted += 1;
        let mut session = Session::new(client, env);
        session.primaries_replaced = self.primaries_replaced;
        let key = SessionKey::from_index(self.sessions.insert(session));
        self.adopt_read_policy(key);
        if self.draining {
            self.end_session(key, CloseReason::Shutdown);
        }
        key
    }

    /// Ends a session whose connection is gone or is to be dropped now. Requests that no node has seen are dropped [PK5]; replies
    /// still owed are swallowed when they come.
    pub fn remove_session(&mut self, key: SessionKey, reason: CloseReason) {
        self.end_monitoring(key);
        let Some(mut session) = self.sessions.try_remove(key.index()) else {
            return;
        };
        let reason = session.closing.unwrap_or(reason);
        self.postponed.remove(&key);
        self.metrics.closed[reason.index()] += 1;
        self.reply_bytes -= session.reply_bytes;
        self.unread_bytes -= session.unread_bytes();
        if let Some(subscriber) = session.subscriber.take() {
            self.end_subscriptions(key, &subscriber);
        }
        if let Some(tracker) = session.tracker.take() {
            self.drop_tracker(&tracker);
        }
        for request in std::mem::take(&mut session.queue) {
            self.abandon(request);
        }
        for orphan in std::mem::take(&mut session.orphans) {
            self.abandon(orphan);
        }
        self.drop_watch(&session);
        if let Some(link) = session.holds {
            // Nobody wants the rest of what it is in the middle of.
            self.lose_link(link, LinkLoss::Retired);
        }
        if let Upload::Over(link) = session.upload {
            self.drop_upload(link);
        }
        self.request_memory.pending -= session.input_bytes();
        if let Some(input) = session.input.take() {
            self.keep_spare_input(input);
        }
        if session.large {
            self.request_memory.strike_out(key);
        }
        if session.unsettled {
            self.unsettled.retain(|other| *other != key);
        }
        self.watch_request_memory();
    }

    /// Cuts a request loose from its session; ends it at once if no node and no list has it.
    fn abandon(&mut self, key: RequestKey) {
        let request = &mut self.requests[key];
        request.session = None;
        match request.state {
            State::New | State::Held | State::Refused(_) | State::Done { .. } => {
                self.requests.remove(key);
            }
            State::Subscribing => {
                self.forget_subscribing(key);
                self.requests.remove(key);
            }
            // In a list or at a node: ended when it is met there.
            State::Parked | State::Waiting(_) => {}
            State::Sent(_) => self.stop_waiting(key),
            State::Group(group) => {
                for part in std::mem::take(&mut self.groups[group.index()].parts) {
                    self.requests[part].group = None;
                    self.abandon(part);
                }
                self.groups.remove(group.index());
                self.requests.remove(key);
            }
        }
    }

    /// Has the session end as soon as all replies are out; no further request is taken.
    pub fn end_session(&mut self, key: SessionKey, reason: CloseReason) {
        if let Some(session) = self.sessions.get_mut(key.index()) {
            session.closing.get_or_insert(reason);
            self.end_waiting(key, reason);
            self.mark_session_dirty(key);
        }
    }

    /// The session's state.
    #[must_use]
    pub fn session(&self, key: SessionKey) -> Option<&Session> {
        self.sessions.get(key.index())
    }

    /// Replies not yet written.
    #[must_use]
    pub fn session_output(&self, key: SessionKey) -> &[u8] {
        self.sessions
            .get(key.index())
            .map_or(&[], |session| &session.out)
    }

    /// Whether the driver should read from this client. False for a full pipeline, unread replies, a session that is ending, or too
    /// many bytes of requests.
    #[must_use]
    pub fn wants_input(&self, key: SessionKey) -> bool {
        self.sessions
            .get(key.index())
            .is_some_and(|session| self.could_be_read(session) && !self.is_held_back(key, session))
    }

    /// Whether the session could use more input if there were memory for it.
    pub(super) fn could_be_read(&self, session: &Session) -> bool {
        // What waits is taken before anything else is read, or one that has room for a moment now and then could bring ever more.
        let waits = session.input.as_ref().is_some_and(|input| input.waits);
        let may_take = !waits && self.may_take(session);
        !session.is_ending() && (may_take || self.reads_ahead(session))
    }

    /// A client may send all it has before it reads any reply. So that both do not wait for each other, its bytes are taken in,
    /// though its requests are not. The end of one that waits at a node comes behind all that it has sent before [B6].
    fn reads_ahead(&self, session: &Session) -> bool {
        let is_unread = session.queue.len() < self.in_flight_cap && !session.out.is_empty();
        (is_unread || self.is_blocked(session))
            && session.input_bytes() < self.limits.input_ahead_bytes
    }

    /// Whether the session may take another request now.
    #[inline]
    pub(super) fn may_take(&self, session: &Session) -> bool {
        session.queue.len() < self.in_flight_cap
            && !self.has_its_share(session)
            && (session.barriers == 0 || !self.awaits_local_commands(session))
    }

    /// Whether commands are still to be answered here, when a transaction has been executed or at their turn: what is behind comes
    /// after them [M4] [U4].
    #[cold]
    fn awaits_local_commands(&self, session: &Session) -> bool {
        let mut queue = session.queue.iter();
        queue.any(|request| {
            let request = &self.requests[*request];
            request.has_more_to_do() || request.shape.launch == Launch::AtTurn
        })
    }

    /// Why the driver must drop the connection now, every reply that is due being written or the client not reading them.
    #[must_use]
    pub fn must_close(&self, key: SessionKey) -> Option<CloseReason> {
        let session = self.sessions.get(key.index())?;
        if session.cut_off.is_some() {
            return session.cut_off;
        }
        if session.out.len() > self.limits.output_max_bytes {
            return Some(CloseReason::OutputLimit);
        }
        if self.now.since(session.overfull_since) > self.limits.output_soft_time {
            return Some(CloseReason::OutputSoftLimit);
        }
        let reason = session.closing.filter(|_| session.is_ending())?;
        let is_evicted = reason == CloseReason::InputLimit;
        // What is held was sent before the shutdown.
        let is_held = reason == CloseReason::Shutdown && self.is_postponed(key);
        let is_done = session.queue.is_empty() && session.out.is_empty() && !is_held;
        (is_evicted || is_done).then_some(reason)
    }

    /// Notes since when the session has had more unread replies than the soft limit without a break [D13]. To be called whenever
    /// some were written to a client that had been slow to read, for then they may have become fewer, and every now and then.
    pub fn watch_output(&mut self, key: SessionKey) {
        let now = self.now;
        if let Some(session) = self.sessions.get_mut(key.index()) {
            let soft = match session.subscriber {
                Some(_) => self.limits.pubsub_output_soft_bytes,
                None => self.limits.output_soft_bytes,
            };
            let is_overfull = soft > 0 && session.out.len() >= soft;
            session.overfull_since = if is_overfull {
                session.overfull_since.min(now)
            } else {
                Timestamp::NEVER
            };
        }
    }

    /// Changes how many replies a client may leave unread, from now on.
    pub fn set_output_limits(&mut self, limits: OutputLimits) {
        self.limits.output_max_bytes = limits.hard_bytes;
        self.limits.output_soft_bytes = limits.soft_bytes;
        self.limits.output_soft_time = limits.soft_time;
        self.limits.output_pause_bytes = limits.pause_bytes;
        self.limits.pubsub_output_bytes = limits.pubsub_hard_bytes;
        self.limits.pubsub_output_soft_bytes = limits.pubsub_soft_bytes;
        self.look_at_waiting();
        self.run_pending();
    }

    /// Stops taking requests: sessions end when their outstanding requests are answered, and those that wait at a node at once: they
    /// might wait for ever, and nothing has been popped for them [D12].
    pub fn drain(&mut self) {
        self.draining = true;
        // What waited for its end was sent before: it is taken still.
        self.change_pause(None);
        let keys: Vec<SessionKey> = self
            .sessions
            .iter()
            .map(|(index, _)| SessionKey::from_index(index))
            .collect();
        for key in keys {
            self.end_session(key, CloseReason::Shutdown);
        }
    }

    /// Number of sessions.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }
}

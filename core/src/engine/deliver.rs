//! The end of a request: its reply goes to the client in the order of the requests [G1].

use super::request::{Launch, State};
use super::resend::UNCERTAIN;
use super::{Engine, RequestKey, SessionKey};
use crate::local::OnUncertain;
use crate::metrics::{CloseReason, Outcome};

impl Engine {
    /// Ends a request with an error (`reply` is a whole error reply). What is true of a write sent again need not be true of the
    /// first time.
    pub(super) fn fail(&mut self, key: RequestKey, reply: &[u8], outcome: Outcome, executed: bool) {
        if self.requests[key].is_in_doubt() {
            self.complete(key, UNCERTAIN, Outcome::Uncertain, true);
        } else {
            self.complete(key, reply, outcome, executed);
        }
    }

    /// Ends a request: it is in no list any more, its reply is `reply`. `executed`: it ran, or may have [O4].
    #[inline]
    pub(super) fn complete(
        &mut self,
        key: RequestKey,
        reply: &[u8],
        outcome: Outcome,
        executed: bool,
    ) {
        debug_assert!(!reply.is_empty(), "every request has a reply");
        let released = self.requests.set_bytes(key, 0);
        let request = &mut self.requests[key];
        let Some(session_key) = request.session else {
            return self.requests.remove(key);
        };
        let session = &mut self.sessions[session_key.index()];
        session.request_bytes -= released;
        if request.disturbed {
            request.disturbed = false;
            session.disturbed -= 1;
        }
        request.outcome = outcome;
        if session.notes_writes && request.is_write() {
            session.wrote_at = self.now;
        }
        if request.group.is_some() {
            return self.complete_part(session_key, key, reply, executed);
        }
        self.metrics.commands[request.shape.spec.id.index()].outcomes[outcome.index()] += 1;
        let total = self.now.micros_since(request.arrival);
        self.metrics.total.record(total);
        self.metrics
            .proxy
            .record(total.saturating_sub(request.backend_micros));
        let is_first = session.queue.front() == Some(&key);
        let is_size_news = reply.len() >= self.limits.big_bytes || session.big > 0;
        if request.shape.barrier {
            session.barriers -= 1;
            if matches!(request.shape.launch, Launch::Blocking | Launch::Acks) {
                self.tell_waiting(session_key, false);
                self.begin_behind(session_key);
            }
            self.mark_unsettled(session_key);
        }
        if is_size_news {
            self.note_size(session_key, reply.len());
        }
        if outcome == Outcome::Uncertain && self.closes_on_uncertain(session_key) {
            // Its end is certain, only earlier replies come before it: what it sends from here on is not for anybody.
            self.end_session(session_key, CloseReason::Uncertain);
        }
        if is_first {
            self.hand_over(session_key, key, reply);
            self.deliver_ready(session_key);
        } else {
            self.requests[key].state = State::Done { executed };
            self.requests.keep_reply(key, reply);
            self.recount_reply(key, reply.len());
        }
        self.after_completion(session_key);
    }

    /// Delivers replies that had to wait for the one that was just delivered.
    #[inline]
    fn deliver_ready(&mut self, session_key: SessionKey) {
        while let Some(key) = self.sessions[session_key.index()].queue.front().copied() {
            let request = &mut self.requests[key];
            if !request.is_done() {
                break;
            }
            let reply = std::mem::take(&mut request.reply);
            self.hand_over(session_key, key, &reply);
            self.requests.keep_spare_reply(reply);
        }
        self.mark_session_dirty(session_key);
    }

    /// Ends the oldest request of a session by giving the client the reply to it: or, if it is to be told so that nobody knows,
    /// the end [D6].
    #[inline]
    fn hand_over(&mut self, session_key: SessionKey, key: RequestKey, reply: &[u8]) {
        self.recount_reply(key, 0);
        let request = &self.requests[key];
        if request.outcome == Outcome::Uncertain && self.closes_on_uncertain(session_key) {
            self.sessions[session_key.index()].cut_off = Some(CloseReason::Uncertain);
        } else if request.visible {
            self.give(session_key, reply);
        }
        self.sessions[session_key.index()].queue.pop_front();
        self.requests.remove(key);
    }

    fn closes_on_uncertain(&self, session: SessionKey) -> bool {
        self.sessions[session.index()].env.listener().on_uncertain == OnUncertain::Close
    }

    /// Has the session looked at again if something in it waits for a completion.
    #[inline]
    pub(super) fn after_completion(&mut self, session_key: SessionKey) {
        let session = &self.sessions[session_key.index()];
        if session.disturbed > 0 || session.barriers > 0 || session.input.is_some() {
            self.mark_unsettled(session_key);
        }
    }
}

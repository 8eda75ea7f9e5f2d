//! Requests that a node does not answer in time, though their link is alive [D8].
//!
//! The client gets an error; the reply is still owed and swallowed when it comes. The link is not given up for it: what is behind
//! may be answered in time. Until then the request, an orphan now, counts for the order of its session as one under way: nothing
//! that conflicts with a write that may yet be executed is sent over another link.

use super::request::State;
use super::{Engine, LinkKey, RequestKey};
use crate::backend::Link;
use crate::metrics::Outcome;
use crate::router;

impl Engine {
    /// Ends the requests that have waited too long for their reply.
    pub(super) fn end_overdue(&mut self) {
        if self.now < self.patient_until {
            return;
        }
        let late: Vec<LinkKey> = self
            .links
            .iter()
            .filter(|(_, link)| self.next_overdue(link).is_some())
            .map(|(index, _)| LinkKey::from_index(index))
            .collect();
        for key in late {
            while let Some((position, request)) = self.next_overdue(&self.links[key.index()]) {
                self.orphan(key, position, request);
            }
        }
    }

    /// The oldest request of a link that is watched and late, and its position among the replies owed.
    fn next_overdue(&self, link: &Link) -> Option<(usize, RequestKey)> {
        let (position, request) = link.next_watched()?;
        let waited = self.now.since(self.requests[request].sent);
        // What has begun to arrive is not late.
        let is_arriving = position == 0 && (link.passage.is_some() || !link.partial.is_empty());
        (waited >= self.limits.request_timeout && !is_arriving).then_some((position, request))
    }

    fn orphan(&mut self, link: LinkKey, position: usize, key: RequestKey) {
        let request = &self.requests[key];
        let (session, shape) = (request.session, request.shape);
        if session.is_none() || router::runs_code(shape.spec) {
            // Nobody waits for it; or it takes what time it takes.
            return self.links[link.index()].unwatch(position);
        }
        let (sent, several_keys) = (request.sent, request.several_keys.clone());
        self.count_wait(link, position, key);
        let request = &self.requests[key];
        let bytes = request.bytes();
        let watcher = session.filter(|_| request.is_write());
        let orphan = self.requests.insert_for(watcher, shape, self.now);
        let entry = &mut self.requests[orphan];
        entry.state = State::Sent(link);
        entry.sent = sent;
        entry.visible = false;
        entry.several_keys = several_keys;
        if let Some(session) = watcher {
            self.sessions[session.index()].orphans.push(orphan);
            self.disturb(orphan);
        }
        // Its bytes are in the log of the link as before.
        self.count_request(orphan, bytes);
        self.links[link.index()].orphan(position, orphan);
        self.metrics.timed_out += 1;
        self.tell_timeout(key);
    }

    /// All the time that a request has waited for its reply is the node's.
    fn count_wait(&mut self, link: LinkKey, position: usize, key: RequestKey) {
        let request = &mut self.requests[key];
        request.backend_micros += self.now.micros_since(request.sent);
        let total = self.now.micros_since(request.arrival);
        let entry = self.links[link.index()].in_flight().nth(position).copied();
        if let Some(entry) = entry.filter(|_| total >= self.limits.slow_micros) {
            self.note_slow(link, key, &entry);
        }
    }

    fn tell_timeout(&mut self, key: RequestKey) {
        let limit = self.limits.request_timeout.as_millis();
        if self.requests[key].is_write() {
            let text = format!(
                "-UNCERTAIN proxy: timeout, no reply within {limit} ms, the command may or may not have been executed\r\n"
            );
            self.fail(key, text.as_bytes(), Outcome::Uncertain, true);
        } else {
            let text = format!("-ERR proxy: timeout, no reply within {limit} ms\r\n");
            self.fail(key, text.as_bytes(), Outcome::Unavailable, true);
        }
    }

    /// The fate of an orphan is decided, whatever it is.
    pub(super) fn end_orphan(&mut self, key: RequestKey) {
        if let Some(session) = self.requests[key].session {
            let state = &mut self.sessions[session.index()];
            state.orphans.retain(|orphan| *orphan != key);
            state.request_bytes -= self.requests.set_bytes(key, 0);
            state.disturbed -= 1;
            // It may have been executed just now.
            state.wrote_at = self.now;
            self.mark_unsettled(session);
        }
        self.requests.remove(key);
    }
}

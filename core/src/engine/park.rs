//! Requests that no node can take now: kept in arrival order, bounded in number, bytes and time [PK1].

use std::time::Duration;

use super::refusal::is_redirection;
use super::request::State;
use super::{Engine, RequestKey};
use crate::metrics::Outcome;
use crate::time::Timestamp;
use crate::topology::{Hint, RefreshReason};

/// How soon a request for a slot without owner is looked at again when no new topology comes.
const UNOWNED_RETRY: Duration = Duration::from_millis(100);

impl Engine {
    /// Parks a request for a slot that nobody owns.
    pub(super) fn park_unowned(&mut self, key: RequestKey, raw: Option<&[u8]>) {
        self.hint(Hint::Refresh { reason: RefreshReason::ClusterDown, node: None });
        self.park(key, raw, self.now.after(UNOWNED_RETRY));
    }

    /// Parks a request until `retry_at` or a new topology. Past the bounds it is refused: it was not executed [PK2].
    pub(super) fn park(&mut self, key: RequestKey, raw: Option<&[u8]>, retry_at: Timestamp) {
        self.keep_body(key, raw);
        let length = self.requests[key].body.len();
        if self.parked.len() >= self.limits.park_max_requests || self.parked_bytes + length > self.limits.park_max_bytes {
            return self.fail(key, b"-ERR proxy: overloaded, command not executed\r\n", Outcome::Refused, false);
        }
        self.metrics.parked += 1;
        self.requests[key].state = State::Parked(retry_at);
        self.parked_bytes += length;
        self.parked.push_back(key);
        self.disturb(key);
    }

    /// Looks at the parked requests, oldest first: those whose time has come, or all of them after the topology changed.
    pub(super) fn release_parked(&mut self, all: bool) {
        for _ in 0..self.parked.len() {
            let Some(key) = self.parked.pop_front() else { break };
            let request = &self.requests[key];
            let Some(session) = request.session else {
                self.parked_bytes -= request.body.len();
                self.requests.remove(key);
                continue;
            };
            let deadline = request.arrival.after(self.limits.park_timeout);
            let due = matches!(request.state, State::Parked(retry_at) if all || retry_at <= self.now);
            if !due && deadline > self.now {
                self.parked.push_back(key);
                continue;
            }
            self.parked_bytes -= request.body.len();
            if deadline <= self.now {
                self.expire(key);
            } else if let Some(index) = self.queue_index(session, key) {
                self.release(session, index, key);
            }
            self.mark_unsettled(session);
        }
    }

    /// Ends a request that waited too long: with the last refusal of a node if there was one [E4].
    fn expire(&mut self, key: RequestKey) {
        let request = &self.requests[key];
        if request.reply.is_empty() || is_redirection(&request.reply) {
            let slot = request.shape.slot.get();
            let limit = self.limits.park_timeout.as_millis();
            let text = format!("-CLUSTERDOWN proxy: no master for slot {slot} within {limit} ms\r\n");
            self.fail(key, text.as_bytes(), Outcome::Unavailable, false);
        } else {
            self.show_refusal(key);
        }
    }

    /// Whether requests wait for a node or for a pause to end.
    #[must_use]
    pub fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }
}

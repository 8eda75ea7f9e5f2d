//! Requests that no node can take now: kept in arrival order, bounded in number, bytes and time [PK1].

use std::time::Duration;

use super::refusal::is_redirection;
use super::request::State;
use super::uncovered::NOT_SERVED;
use super::{Engine, RequestKey};
use crate::metrics::Outcome;
use crate::time::Timestamp;
use crate::topology::{Hint, RefreshReason};

/// How soon a request for a slot without owner is looked at again when no new topology comes.
const UNOWNED_RETRY: Duration = Duration::from_millis(100);

/// The nodes do not accept the proxy's credentials: waiting does not help, the operator must act.
pub(super) const LOGIN_REFUSED: &[u8] = b"-ERR proxy: backend authentication failed\r\n";

/// Begins what a request is told for whose slot no node could be reached in time.
pub(super) const NO_MASTER: &str = "-CLUSTERDOWN proxy: no master for slot ";

impl Engine {
    /// Tells whether the nodes that discovery asked refused the proxy's credentials. Without any topology, requests then fail at
    /// once instead of waiting.
    pub fn set_login_refused(&mut self, refused: bool) {
        self.login_refused = refused;
    }

    fn is_locked_out(&self) -> bool {
        self.login_refused && self.snapshot.is_empty()
    }

    /// Parks a request for a slot that nobody owns.
    pub(super) fn park_unowned(&mut self, key: RequestKey, raw: Option<&[u8]>) {
        if self.is_locked_out() {
            return self.fail(key, LOGIN_REFUSED, Outcome::Unavailable, false);
        }
        if self.is_certainly_unowned(key) {
            return self.fail(key, NOT_SERVED, Outcome::Unavailable, false);
        }
        self.hint(Hint::Refresh {
            reason: RefreshReason::ClusterDown,
            node: None,
        });
        self.park(key, raw, self.now.after(UNOWNED_RETRY));
    }

    /// Parks a request until `retry_at` or a new topology. Past the bounds it is refused: it was not executed [PK2].
    pub(super) fn park(&mut self, key: RequestKey, raw: Option<&[u8]>, retry_at: Timestamp) {
        self.keep_body(key, raw);
        let length = self.requests[key].body.len();
        if self.parked.len() >= self.limits.park_max_requests
            || self.parked_bytes + length > self.limits.park_max_bytes
        {
            return self.fail(
                key,
                b"-ERR proxy: overloaded, command not executed\r\n",
                Outcome::Refused,
                false,
            );
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
            let Some(key) = self.parked.pop_front() else {
                break;
            };
            let request = &self.requests[key];
            let Some(session) = request.session else {
                self.parked_bytes -= request.body.len();
                self.requests.remove(key);
                continue;
            };
            let deadline = request.arrival.after(self.limits.park_timeout);
            let hopeless = deadline <= self.now || self.is_locked_out();
            let due =
                matches!(request.state, State::Parked(retry_at) if all || retry_at <= self.now);
            if !due && !hopeless {
                self.parked.push_back(key);
                continue;
            }
            self.parked_bytes -= request.body.len();
            if hopeless {
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
        if self.is_locked_out() {
            self.fail(key, LOGIN_REFUSED, Outcome::Unavailable, false);
        } else if request.reply.is_empty() || is_redirection(&request.reply) {
            let slot = request.shape.slot.get();
            let limit = self.limits.park_timeout.as_millis();
            let text = format!("{NO_MASTER}{slot} within {limit} ms\r\n");
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

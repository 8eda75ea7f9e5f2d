//! Requests that no node can take now: kept in arrival order, bounded in number, bytes and time [PK1].

use std::collections::VecDeque;
use std::time::Duration;

use super::refusal::is_redirection;
use super::request::{Launch, State};
use super::uncovered::NOT_SERVED;
use super::{Engine, NodeKey, RequestKey};
use crate::metrics::Outcome;
use crate::slot::Slot;
use crate::time::Timestamp;
use crate::topology::{Hint, RefreshReason};

/// How soon a request for a slot without owner is looked at again when no new topology comes.
const UNOWNED_RETRY: Duration = Duration::from_millis(100);

/// How long a request that would wait at its node is kept for one [B5].
const PARK_TIMEOUT_BLOCKING: Duration = Duration::from_secs(60);

/// The nodes do not accept the proxy's credentials: waiting does not help, the operator must act.
pub(super) const LOGIN_REFUSED: &[u8] = b"-ERR proxy: backend authentication failed\r\n";

/// The parked requests, in the order they were parked.
#[derive(Debug)]
pub(super) struct Parked {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// How many of them wait for a replica.
    reads: usize,
    /// Not later than the first that is due.
    next_due: Timestamp,
}

/// What is to be known of a parked request to see whether it has to wait on. Here, so that a long queue is looked through without
/// touching the requests.
#[derive(Debug, Clone, Copy)]
struct Entry {
    key: RequestKey,
    slot: Slot,
    blocked_by: Option<NodeKey>,
    due: Timestamp,
    length: usize,
    /// It waits for a replica that may answer it.
    is_read: bool,
}

impl Default for Parked {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            reads: 0,
            next_due: Timestamp::NEVER,
        }
    }
}

impl Parked {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = RequestKey> {
        self.entries.iter().map(|entry| entry.key)
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += entry.length;
        self.reads += usize::from(entry.is_read);
        self.next_due = self.next_due.min(entry.due);
        self.entries.push_back(entry);
    }

    /// Takes out the requests that `is_chosen` says, in their order.
    fn take(&mut self, is_chosen: impl Fn(&Entry) -> bool) -> Vec<RequestKey> {
        let mut taken = Vec::new();
        self.next_due = Timestamp::NEVER;
        self.entries.retain(|entry| {
            let chosen = is_chosen(entry);
            if chosen {
                taken.push(entry.key);
                self.bytes -= entry.length;
                self.reads -= usize::from(entry.is_read);
            } else {
                self.next_due = self.next_due.min(entry.due);
            }
            !chosen
        });
        taken
    }

    pub(super) fn remove(&mut self, key: RequestKey) {
        self.take(|entry| entry.key == key);
    }

    /// Whether some wait for a replica.
    pub(super) const fn has_reads(&self) -> bool {
        self.reads > 0
    }

    /// Has those of them looked at now for whose slot there may be one.
    pub(super) fn hurry_reads(&mut self, now: Timestamp, may_be_read: impl Fn(Slot) -> bool) {
        for entry in &mut self.entries {
            if entry.is_read && may_be_read(entry.slot) {
                entry.due = now;
                self.next_due = now;
            }
        }
    }

    /// Has those that wait for `node` looked at now.
    pub(super) fn hurry(&mut self, node: NodeKey, now: Timestamp) {
        for entry in &mut self.entries {
            if entry.blocked_by == Some(node) {
                entry.due = now;
                self.next_due = now;
            }
        }
    }
}

/// Begins what a request is told for whose slot no node could be reached in time.
pub(super) const NO_MASTER: &str = "-CLUSTERDOWN proxy: no master for slot ";

/// The same of a read that a replica is to answer.
const NO_REPLICA: &str = "-CLUSTERDOWN proxy: no replica that may be read from for slot ";

impl Engine {
    /// Tells whether the nodes that discovery asked refused the proxy's credentials. Without any topology, requests then fail at
    /// once instead of waiting.
    pub fn set_login_refused(&mut self, refused: bool) {
        self.login_refused = refused;
    }

    pub(super) fn is_locked_out(&self) -> bool {
        self.login_refused && self.snapshot.is_empty()
    }

    /// Parks a request for a slot that nobody owns.
    pub(super) fn park_unowned(&mut self, key: RequestKey, raw: Option<&[u8]>) {
        self.requests[key].blocked_by = None;
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

    /// Parks a request until `retry_at`, or until `node`, which it was to be sent to, is there again or not the right one any more.
    pub(super) fn park_for(
        &mut self,
        node: NodeKey,
        key: RequestKey,
        raw: Option<&[u8]>,
        retry_at: Timestamp,
    ) {
        let request = &mut self.requests[key];
        request.drop_detour();
        request.blocked_by = Some(node);
        self.park(key, raw, retry_at);
    }

    /// Parks a request until `retry_at` or a new topology. Past the bounds it is refused: it was not executed [PK2].
    pub(super) fn park(&mut self, key: RequestKey, raw: Option<&[u8]>, retry_at: Timestamp) {
        self.keep_body(key, raw);
        let request = &mut self.requests[key];
        let length = request.body.len();
        if self.parked.len() >= self.limits.park_max_requests
            || self.parked.bytes() + length > self.limits.park_max_bytes
        {
            return self.fail(
                key,
                b"-ERR proxy: overloaded, command not executed\r\n",
                Outcome::Refused,
                false,
            );
        }
        // Not again for one that was only looked at.
        self.metrics.parked += u64::from(request.state != State::Parked);
        request.state = State::Parked;
        let deadline = self.park_deadline(key);
        let request = &self.requests[key];
        self.parked.push(Entry {
            key,
            slot: request.shape.slot,
            blocked_by: request.blocked_by,
            due: retry_at.min(deadline),
            length,
            is_read: request.shape.launch == Launch::Read && request.blocked_by.is_none(),
        });
        self.disturb(key);
    }

    /// How long a request waits for a usable node.
    fn park_limit(&self, key: RequestKey) -> Duration {
        match self.requests[key].wait() {
            Some(_) => PARK_TIMEOUT_BLOCKING,
            None => self.limits.park_timeout,
        }
    }

    /// Until when a request may be parked: one that would wait at its node no longer than there [B5].
    pub(super) fn park_deadline(&self, key: RequestKey) -> Timestamp {
        let request = &self.requests[key];
        let deadline = request.arrival.after(self.park_limit(key));
        match request.wait() {
            Some(wait) => deadline.min(wait.until()),
            None => deadline,
        }
    }

    /// Looks at the parked requests whose time has come.
    pub(super) fn release_due(&mut self) {
        let (now, all) = (self.now, self.is_locked_out());
        if all || self.parked.next_due <= now {
            let due = self.parked.take(|entry| all || entry.due <= now);
            self.release_all(&due);
        }
    }

    /// Looks at the parked requests that the topology just adopted sends to another node than the one they wait for: to the same one
    /// they would only come too early.
    pub(super) fn release_rerouted(&mut self) {
        let (nodes, snapshot) = (&self.nodes, &self.snapshot);
        let rerouted = self.parked.take(|entry| {
            let owner = nodes.owner(snapshot, entry.slot);
            owner.is_some() && owner != entry.blocked_by
        });
        self.release_all(&rerouted);
    }

    /// Has requests that are parked no more sent or ended, oldest first.
    fn release_all(&mut self, released: &[RequestKey]) {
        #[cfg(test)]
        {
            self.released += released.len();
        }
        for key in released.iter().copied() {
            let request = &self.requests[key];
            let Some(session) = request.session else {
                self.requests.remove(key);
                continue;
            };
            if self.park_deadline(key) <= self.now || self.is_locked_out() {
                self.expire(key);
            } else if let Some(index) = self.queue_index(session, key) {
                self.requests[key].blocked_by = None;
                self.release(session, index, key);
            }
            self.mark_unsettled(session);
        }
    }

    /// Ends a request that waited too long: with the last refusal of a node if there was one [E4].
    fn expire(&mut self, key: RequestKey) {
        if self.is_waited_out(key) {
            return self.time_out(key);
        }
        let request = &self.requests[key];
        if self.is_locked_out() {
            self.fail(key, LOGIN_REFUSED, Outcome::Unavailable, false);
        } else if request.reply.is_empty() || is_redirection(&request.reply) {
            let slot = request.shape.slot.get();
            let limit = self.park_limit(key).as_millis();
            let lacking = match request.shape.launch {
                Launch::Read => NO_REPLICA,
                _ => NO_MASTER,
            };
            let text = format!("{lacking}{slot} within {limit} ms\r\n");
            self.fail(key, text.as_bytes(), Outcome::Unavailable, false);
        } else {
            self.show_refusal(key);
        }
    }

    /// Whether requests wait for a node or for a pause to end.
    #[must_use]
    pub fn has_parked(&self) -> bool {
        self.parked.len() > 0
    }
}

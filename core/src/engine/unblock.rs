//! CLIENT UNBLOCK of a client that waits at a node [B9].
//!
//! The node is asked to do it, over another connection: then nothing can be popped for nobody. Where that is not possible, or does not
//! help soon, the connection that waits is closed and the client answered here.

use std::time::Duration;

use super::links::LinkLoss;
use super::request::{Extra, State};
use super::{Engine, LinkKey, RequestKey, SessionKey};
use crate::backend::Owed;
use crate::metrics::Outcome;
use crate::resp::write;
use crate::time::Timestamp;

/// So long the node has for it: it may not let the proxy's user do that.
const PATIENCE: Duration = Duration::from_secs(1);

const UNBLOCKED: &[u8] = b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n";

/// A client is to wait no longer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unblock {
    /// It gets an error, not what it gets when nothing has come in time.
    is_error: bool,
    asked: Timestamp,
}

impl Engine {
    /// Has the client of `key`, if it waits at a node or for one, wait no longer: it is answered as if its time were over, or with an
    /// error.
    pub fn unblock(&mut self, key: SessionKey, is_error: bool) {
        let Some(session) = self.sessions.get(key.index()) else {
            return;
        };
        let oldest = session.queue.front().copied();
        let Some(request) = oldest.filter(|_| self.is_blocked(session)) else {
            return;
        };
        self.unblock_request(request, is_error);
        self.run_pending();
    }

    pub(super) fn unblock_request(&mut self, request: RequestKey, is_error: bool) {
        self.note_unblock(request, is_error);
        match self.requests[request].state {
            State::Sent(link) => self.unblock_at_node(link, is_error),
            State::Waiting(link) => {
                let waiting = &mut self.links[link.index()].waiting;
                waiting.retain(|other| *other != request);
                self.end_unblocked(request);
            }
            State::Parked => {
                self.parked.remove(request);
                self.end_unblocked(request);
            }
            State::Group(group) => self.unblock_acks(group, is_error),
            _ => self.end_unblocked(request),
        }
    }

    /// A request is to wait no longer than [`PATIENCE`] for its node.
    pub(super) fn note_unblock(&mut self, request: RequestKey, is_error: bool) {
        let asked = self.now;
        if let Some(Extra::Wait(wait)) = self.requests[request].extra.as_deref_mut() {
            wait.unblock = Some(Unblock { is_error, asked });
        }
    }

    fn unblock_at_node(&mut self, blocked: LinkKey, is_error: bool) {
        let link = &self.links[blocked.index()];
        let via = self.nodes[link.node]
            .shared_links()
            .find(|via| self.links[via.index()].is_ready());
        let number = link.client_id.as_ref().map(|id| id.number.to_string());
        let (Some(via), Some(number)) = (via, number) else {
            return self.lose_link(blocked, LinkLoss::Retired);
        };
        // The command names the connection: it may come when that would be lent to another session.
        if let Some(private) = &mut self.links[blocked.index()].private {
            private.used_up = true;
        }
        let reason: &[u8] = if is_error { b"ERROR" } else { b"TIMEOUT" };
        let mut command = Vec::new();
        write::command(
            &mut command,
            &[b"CLIENT", b"UNBLOCK", number.as_bytes(), reason],
        );
        self.links[via.index()].push(Owed::Nobody, &command, self.now);
        self.mark_link_dirty(via);
    }

    /// Whether its client is to wait no longer for this request.
    pub(super) fn is_unblocked(&self, key: RequestKey) -> bool {
        let wait = self.requests[key].wait();
        wait.is_some_and(|wait| wait.unblock.is_some())
    }

    /// Whether a request, the link of which is lost, ends because its client is to wait no longer. If the link was not closed for that,
    /// an element may have been popped before [B8].
    pub(super) fn ends_unblocked(&self, key: RequestKey, written: bool, loss: &LinkLoss) -> bool {
        let is_harmless =
            !written || *loss == LinkLoss::Retired || self.may_run_twice(key).is_some();
        is_harmless && self.is_unblocked(key)
    }

    /// Answers a request that no node has any more.
    pub(super) fn end_unblocked(&mut self, key: RequestKey) {
        let unblock = self.requests[key].wait().and_then(|wait| wait.unblock);
        if unblock.is_some_and(|unblock| unblock.is_error) {
            self.fail(key, UNBLOCKED, Outcome::NodeError, false);
        } else {
            self.time_out(key);
        }
    }

    /// Has those wait no longer whose nodes have not seen to it.
    pub(super) fn end_late_unblocks(&mut self) {
        let late: Vec<LinkKey> = self
            .links
            .iter()
            .filter(|(_, link)| {
                let wait = link.blocked().and_then(|key| self.requests[key].wait());
                let unblock = wait.and_then(|wait| wait.unblock);
                unblock.is_some_and(|unblock| self.now.since(unblock.asked) >= PATIENCE)
            })
            .map(|(index, _)| LinkKey::from_index(index))
            .collect();
        for key in late {
            self.lose_link(key, LinkLoss::Retired);
        }
    }
}

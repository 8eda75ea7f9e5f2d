//! Reads that were answered though a write of the same keys before them was refused.
//!
//! A server that has become a replica refuses writes and serves reads, and a slot on its way may have some of the keys. `SET k`, `GET k`
//! in one go is then answered with a refusal and a value. To send the write again behind such a read would reorder the two [O4], to
//! show its refusal would be an error for what the proxy hides otherwise. A read changes nothing: it is sent again, too, behind the
//! write. Its answer is kept, in case a write behind it was executed: then nothing can be sent again, and it is the true one.

use super::request::{Retry, State};
use super::{Engine, LinkKey, RequestKey};
use crate::backend::InFlight;
use crate::metrics::RetryReason;

/// Longest answer that is kept, in bytes; with a longer one the write shows its refusal.
const KEPT_ANSWER: usize = 16 << 10;

impl Engine {
    /// Request `key`, of `entry` and a session with refused requests, is answered with `reply`: whether it has to be asked again.
    #[cold]
    pub(super) fn is_to_be_redone(
        &mut self,
        link: LinkKey,
        key: RequestKey,
        entry: &InFlight,
        reply: &[u8],
    ) -> bool {
        if reply.len() > KEPT_ANSWER || !self.is_ahead_of_a_write(key) {
            return false;
        }
        let link = &mut self.links[link.index()];
        link.release_answered();
        link.take_body(entry, &mut self.requests[key].body);
        link.pop();
        link.release_answered();
        self.disturb(key);
        self.requests.keep_reply(key, reply);
        self.recount_reply(key, reply.len());
        self.metrics.retries[RetryReason::Refused.index()] += 1;
        let request = &mut self.requests[key];
        // It was served: how often it is, the patience with the write bounds.
        request.redirects = 0;
        request.state = State::Refused(Retry::Route);
        if let Some(session) = request.session {
            self.mark_unsettled(session);
        }
        true
    }

    /// Whether the read `key` was executed, and a write before it that conflicts was refused.
    fn is_ahead_of_a_write(&self, key: RequestKey) -> bool {
        let read = &self.requests[key];
        let Some(session) = read.session.filter(|_| !read.is_write()) else {
            return false;
        };
        // What a tracking client is told of keys belongs to the answer that came with it.
        if self.sessions[session.index()].tracker.is_some() || read.shape.barrier {
            return false;
        }
        let Some(index) = self.queue_index(session, key) else {
            return false;
        };
        let is_refused = |earlier: &RequestKey| {
            let earlier = &self.requests[*earlier];
            matches!(earlier.state, State::Refused(_)) && earlier.conflicts_with(read)
        };
        let mut earlier = self.sessions[session.index()].queue.iter().take(index);
        earlier.any(|earlier| match self.requests[*earlier].state {
            State::Group(group) => self.groups[group.index()].parts.iter().any(is_refused),
            _ => is_refused(earlier),
        })
    }
}

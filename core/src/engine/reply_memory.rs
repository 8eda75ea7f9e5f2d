//! How much memory replies may take: those a client has not read, those that wait for their turn, and those that are still to come.
//!
//! A request for a big reply is small, so counting requests bounds nothing: 50,000 pipelined requests for 600 KiB each are 2 MiB to
//! read and 30 GB to answer, at the node as well as here. What a reply will take is not known before it is there, but commands and
//! clients repeat themselves: each is expected to be as big as the last ones of its command, or of its session if those were
//! bigger, and much is expected of a session that has had none. One that has its share outstanding gets no further request under
//! way until it has read some.

use super::{Engine, RequestKey, SessionKey};
use crate::backend::{give_back, take_off};
use crate::command::{COMMAND_COUNT, Spec};
use crate::session::Session;

/// What a reply is taken for while the command was never answered: more than most, so that a first burst is cautious.
const UNKNOWN_REPLY: u32 = 64 << 10;

/// So many requests a session may have under way before it has had its first reply. Many clients that come together and ask for big
/// values at once would otherwise keep the nodes busy for seconds before anything is known of them: the sizes of their commands
/// are mostly those of everybody else's replies.
const FIRST_REQUESTS: usize = 4;

/// Room a session keeps for replies when it has none.
const KEPT_OUTPUT: usize = 64 << 10;

/// What a session may have outstanding when the worker's memory for replies is used up.
pub(super) const LEAST_SHARE: usize = 64 << 10;

/// Expected size of a reply, by command.
#[derive(Debug)]
pub(super) struct ReplySizes(Box<[u32]>);

impl Default for ReplySizes {
    fn default() -> Self {
        Self(vec![UNKNOWN_REPLY; COMMAND_COUNT + 1].into_boxed_slice())
    }
}

impl ReplySizes {
    fn of(&self, spec: &Spec) -> u32 {
        self.0
            .get(spec.id.index())
            .copied()
            .unwrap_or(UNKNOWN_REPLY)
    }

    #[inline]
    pub(super) fn note(&mut self, spec: &Spec, length: u32) {
        if let Some(expected) = self.0.get_mut(spec.id.index()) {
            *expected = adapted(*expected, length);
        }
    }
}

/// Grows fast and shrinks slowly: expecting too much costs a little speed, expecting too little costs memory.
fn adapted(expected: u32, length: u32) -> u32 {
    if length > expected {
        length.midpoint(expected)
    } else {
        expected - (expected - length) / 16
    }
}

impl Session {
    /// What is there for the client to read: replies, and messages, be they held behind a reply.
    pub(super) fn unread_bytes(&self) -> usize {
        let held = self.subscriber.as_ref().map_or(0, |it| it.held.len());
        let notices = self.tracker.as_ref().map_or(0, |it| it.held_bytes);
        self.out.len() + held + notices
    }

    /// Remembers how big a reply to it was.
    #[inline]
    pub(super) fn note_reply_size(&mut self, length: u32) {
        let before = self.reply_size;
        self.reply_size = Some(before.map_or(length, |expected| adapted(expected, length)));
    }
}

impl Engine {
    /// Counts the reply that a request for a node will have.
    #[inline]
    pub(super) fn expect_reply(&mut self, key: RequestKey) {
        let request = &mut self.requests[key];
        let of_command = self.reply_sizes.of(request.shape.spec);
        request.reply_bytes = of_command;
        if let Some(session) = request.session {
            let session = &mut self.sessions[session.index()];
            let unknown = self.limits.output_pause_bytes / FIRST_REQUESTS;
            let of_session = session
                .reply_size
                .unwrap_or_else(|| u32::try_from(unknown).unwrap_or(u32::MAX));
            request.reply_bytes = of_command.max(of_session);
            session.reply_bytes += request.reply_bytes as usize;
            self.reply_bytes += request.reply_bytes as usize;
        }
    }

    /// The reply of `key` is known, or has moved, and takes `length` bytes of its own now.
    #[inline]
    pub(super) fn recount_reply(&mut self, key: RequestKey, length: usize) {
        let request = &mut self.requests[key];
        let before = request.reply_bytes as usize;
        request.reply_bytes = u32::try_from(length).unwrap_or(u32::MAX);
        let after = request.reply_bytes as usize;
        if let Some(session) = request.session {
            let session = &mut self.sessions[session.index()];
            session.reply_bytes = session.reply_bytes + after - before;
            self.reply_bytes = self.reply_bytes + after - before;
        }
    }

    /// Gives the client a reply: it is counted until it is written.
    #[inline]
    pub(super) fn give(&mut self, session: SessionKey, reply: &[u8]) {
        let session = &mut self.sessions[session.index()];
        if session.cut_off.is_some() {
            return;
        }
        session.out.extend_from_slice(reply);
        session.reply_bytes += reply.len();
        self.reply_bytes += reply.len();
        self.unread_bytes += reply.len();
    }

    /// The kernel took the first `count` bytes of [`Self::session_output`].
    pub fn on_session_written(&mut self, key: SessionKey, count: usize) {
        self.metrics.downstream_written_bytes += count as u64;
        let Some(session) = self.sessions.get_mut(key.index()) else {
            return;
        };
        take_off(&mut session.out, count);
        give_back(&mut session.out, KEPT_OUTPUT);
        session.reply_bytes -= count;
        self.reply_bytes -= count;
        self.unread_bytes -= count;
        let waits = session.input.is_some();
        self.resume_link(key);
        if waits {
            self.mark_unsettled(key);
            self.run_pending();
        }
    }

    /// Has clients go on that wait for room, if others have made some. To be called every now and then: each has something
    /// outstanding that would wake it in the end.
    pub(super) fn resume_crowd(&mut self) {
        if self.crowded && self.reply_bytes < self.limits.reply_bytes {
            self.crowded = false;
            self.look_at_waiting();
        }
    }

    /// Has [`Self::run_pending`] look at everybody who waits for room.
    pub(super) fn look_at_waiting(&mut self) {
        let sessions = self.sessions.iter();
        let waiting: Vec<SessionKey> = sessions
            .filter(|(_, session)| session.input.as_ref().is_some_and(|input| input.waits))
            .map(|(index, _)| SessionKey::from_index(index))
            .collect();
        for key in waiting {
            self.mark_unsettled(key);
        }
    }

    /// Whether the session has as much outstanding as it may; never so if it has nothing.
    pub(super) fn has_its_share(&self, session: &Session) -> bool {
        let share = if self.reply_bytes < self.limits.reply_bytes {
            self.limits.output_pause_bytes
        } else {
            LEAST_SHARE.min(self.limits.output_pause_bytes)
        };
        session.reply_bytes >= share
    }
}

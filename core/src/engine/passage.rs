//! Big strings pass through: what has arrived of one is given to its client while the rest is on its way.
//!
//! Only where nothing can be decided any more: the reply is one string of known length, it is the client's turn, and the client
//! wants to see it. Everything else is collected first.
//!
//! When the client does not keep up and nobody else waits for a reply on the same link, the link is not read on until the client has
//! caught up. Meanwhile it takes no further requests; others go over a new one.

use bytes::BytesMut;

use super::links::LinkLoss;
use super::{Action, Engine, LinkKey, RequestKey, SessionKey};
use crate::backend::{Owed, Passage};
use crate::metrics::{CloseReason, Outcome};
use crate::session::Session;

/// How far a string may be ahead of its client before the link is held back.
const AHEAD: usize = 1 << 20;

/// So many requests in a row must be small before a session is taken for one of small ones again.
const BIG_MEMORY: u8 = 16;

impl Engine {
    /// Remembers that the session has had a request or a reply of this size.
    pub(super) fn note_size(&mut self, key: SessionKey, bytes: usize) {
        let session = &mut self.sessions[key.index()];
        if session.big == Session::TRACKS {
            return;
        }
        let was_big = session.big > 0;
        session.big = if bytes >= self.limits.big_bytes {
            BIG_MEMORY
        } else {
            session.big.saturating_sub(1)
        };
        if was_big != (session.big > 0) {
            // From now on equal slots do not mean equal links [O1].
            session.sent_generation = Session::MIXED;
        }
    }

    /// Whether the driver should read from this link; if not, [`Action::ResumeLink`] tells when.
    #[must_use]
    pub fn wants_link_input(&self, key: LinkKey) -> bool {
        self.links.get(key.index()).is_none_or(|link| !link.held)
    }

    /// Begins to pass on the reply that is arriving at `key`, if it is one for that.
    pub(super) fn begin_passage(&mut self, key: LinkKey) {
        let link = &self.links[key.index()];
        let Some(length) = link.scanner.lone_string_len() else {
            return;
        };
        if length < self.limits.pass_on_bytes || !link.is_ready() {
            return;
        }
        let Some(entry) = link.oldest().filter(|entry| link.is_written(entry)) else {
            return;
        };
        let Owed::Request(request) = entry.owed else {
            return;
        };
        let state = &self.requests[request];
        let Some(session) = state
            .session
            .filter(|_| state.group.is_none() && state.visible)
        else {
            return;
        };
        if self.sessions[session.index()].queue.front() != Some(&request) {
            return;
        }
        let link = &mut self.links[key.index()];
        let begun = std::mem::replace(&mut link.partial, BytesMut::new());
        link.scanner.reset();
        link.passage = Some(Passage {
            length,
            left: length - begun.len(),
        });
        // It is counted where it is from now on: among the bytes for the client.
        self.recount_reply(request, 0);
        self.note_size(session, length);
        self.give(session, &begun);
        self.mark_session_dirty(session);
        self.hold_back(key, session);
    }

    /// Passes on what `bytes` hold of the string that is passing; gives the bytes behind it.
    pub(super) fn pass_on<'a>(
        &mut self,
        key: LinkKey,
        bytes: &'a [u8],
    ) -> Result<&'a [u8], LinkLoss> {
        let link = &mut self.links[key.index()];
        let Some(passage) = &mut link.passage else {
            return Ok(bytes);
        };
        let (piece, rest) = bytes.split_at_checked(passage.left).unwrap_or((bytes, &[]));
        let length = passage.length;
        if !passage.take(piece) {
            let fault = "a string that is longer than announced".to_owned();
            return Err(LinkLoss::Protocol(fault));
        }
        let done = passage.left == 0;
        let Some(entry) = link.oldest().copied() else {
            return Ok(rest);
        };
        let Owed::Request(request) = entry.owed else {
            return Ok(rest);
        };
        if done {
            link.passage = None;
            link.pop();
            self.count_answer(key, request, &entry, length);
            self.links[key.index()].release_answered();
            let session = self.requests[request].session;
            self.complete(request, piece, Outcome::Ok, true);
            self.release_messages(session);
        } else if let Some(session) = self.requests[request].session {
            self.give(session, piece);
            self.mark_session_dirty(session);
            self.hold_back(key, session);
        }
        if done && self.links[key.index()].is_spent() {
            self.lose_link(key, LinkLoss::Retired);
        }
        Ok(rest)
    }

    /// Has the link not read on while the client is far behind.
    fn hold_back(&mut self, key: LinkKey, session_key: SessionKey) {
        let link = &mut self.links[key.index()];
        let session = &mut self.sessions[session_key.index()];
        if link.owed() > 1 || session.out.len() < AHEAD || session.cut_off.is_some() {
            return;
        }
        link.held = true;
        link.detached = true;
        session.holds = Some(key);
        session.sent_generation = Session::MIXED;
        let node = link.node;
        self.nodes[node].detach(key);
    }

    /// Has the link that `session` holds back read on, once its client has caught up.
    pub(super) fn resume_link(&mut self, session: SessionKey) {
        let session = &mut self.sessions[session.index()];
        if session.out.len() > AHEAD / 2 {
            return;
        }
        let Some(key) = session.holds.take() else {
            return;
        };
        let link = &mut self.links[key.index()];
        link.held = false;
        link.progress = self.now;
        self.actions.push_back(Action::ResumeLink(key));
    }

    /// The node is gone in the middle of the reply to `request`: no byte that could follow would be right, so the client gets what
    /// was here already and is disconnected, as by a server that dies.
    pub(super) fn cut_off(&mut self, request: RequestKey) {
        let Some(key) = self.requests[request].session else {
            return;
        };
        let session = &mut self.sessions[key.index()];
        session.cut_off = Some(CloseReason::Error);
        session.holds = None;
        self.mark_session_dirty(key);
    }
}

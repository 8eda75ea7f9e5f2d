//! What nodes say of keys that a client tracks, on its way to who is to hear it [N2].
//!
//! It may not be told before the reply that it is about: a reply that waits for its turn, or for other parts of the whole, holds what
//! came behind it. It may well be told later: then something is forgotten that could have been kept.

use super::{Engine, LinkKey, SessionKey};
use crate::engine::reply_memory::LEAST_SHARE;
use crate::engine::request::State;
use crate::resp::{Protocol, write};
use crate::session::tracking::Notice;
use crate::time::Timestamp;

const INVALIDATE: &[u8] = b">2\r\n$10\r\ninvalidate\r\n";
const REDIRECTION_BROKEN: &[u8] = b">2\r\n$21\r\ntracking-redir-broken\r\n";
const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n";

/// In place of keys: all.
const ALL: &[u8] = b"_\r\n";
const ALL_RESP2: &[u8] = b"$-1\r\n";

impl Engine {
    /// A node says something that is no reply. On links of sessions that track keys it may be about these; nothing else is asked for
    /// [Y8].
    #[cold]
    pub(super) fn on_push(&mut self, key: LinkKey, push: &[u8]) {
        let Some(tracks) = &self.links[key.index()].tracks else {
            return;
        };
        if let Some(keys) = push.strip_prefix(INVALIDATE) {
            self.notify(tracks.session, Notice::Own(keys.into()));
        }
    }

    /// Tells a client of keys that another client tracks, which has asked for that. `keys` is an array of them, or a null for all, as
    /// RESP3 has it.
    pub fn on_redirected(&mut self, key: SessionKey, keys: &[u8]) {
        if self.sessions.contains(key.index()) {
            self.notify(key, Notice::Redirected(keys.into()));
            self.run_pending();
        }
    }

    /// Has the client of the session forget all that it has read.
    pub(super) fn want_flush(&mut self, key: SessionKey) {
        if let Some(tracker) = &mut self.sessions[key.index()].tracker {
            tracker.flush = true;
            self.mark_unsettled(key);
        }
    }

    /// The same behind the replies to all requests that it has sent.
    pub(super) fn flush_behind(&mut self, key: SessionKey) {
        let session = &mut self.sessions[key.index()];
        let newest = session.queue.back().copied();
        let Some(tracker) = &mut session.tracker else {
            return;
        };
        match newest {
            Some(newest) => {
                tracker.flush_behind = Some(self.requests[newest].arrival);
                self.count_disturbances(key);
            }
            None => self.want_flush(key),
        }
    }

    /// Both: what it has read may change unnoticed, and so may what it is about to be told.
    pub(super) fn flush_all(&mut self, key: SessionKey) {
        if let Some(tracker) = &mut self.sessions[key.index()].tracker {
            tracker.has_gaps = true;
        }
        self.want_flush(key);
        if !self.sessions[key.index()].queue.is_empty() {
            self.flush_behind(key);
        }
    }

    /// Tells the client now, or behind the replies that it may be about.
    fn notify(&mut self, key: SessionKey, notice: Notice) {
        let session = &self.sessions[key.index()];
        if session.closing.is_some() || session.cut_off.is_some() {
            return;
        }
        let length = notice.keys().len();
        let unread = session.unread_bytes() + length;
        let is_full = self.unread_bytes + length > self.limits.reply_bytes;
        if is_full && unread > LEAST_SHARE || unread > self.limits.output_max_bytes {
            return self.disconnect_behind(key);
        }
        let tracker = session.tracker.as_ref();
        let last_held = tracker.and_then(|tracker| tracker.held.back().map(|(behind, _)| *behind));
        match self.last_untold(key).max(last_held) {
            Some(behind) => {
                let session = &mut self.sessions[key.index()];
                session.reply_bytes += length;
                self.reply_bytes += length;
                self.unread_bytes += length;
                let tracker = session.tracker.get_or_insert_default();
                tracker.held_bytes += length;
                tracker.held.push_back((behind, notice));
                self.count_disturbances(key);
            }
            None => self.say(key, &notice),
        }
    }

    /// When the last of the requests came whose reply, or a part of it, is here but not with the client.
    fn last_untold(&self, key: SessionKey) -> Option<Timestamp> {
        let queue = &self.sessions[key.index()].queue;
        let is_here = |request: &super::RequestKey| match self.requests[*request].state {
            State::Done { .. } => true,
            State::Group(group) => {
                let parts = &self.groups[group.index()].parts;
                parts.iter().any(|part| self.requests[*part].is_done())
            }
            _ => false,
        };
        let last = queue.iter().rev().find(|request| is_here(request));
        let passing = queue.front().filter(|_| self.is_in_reply(key));
        let last = last.or(passing)?;
        Some(self.requests[*last].arrival)
    }

    /// Tells the client what has waited, as far as it need not wait any more.
    pub(super) fn tend_notices(&mut self, key: SessionKey) {
        loop {
            let is_clear = self.last_untold(key).is_none();
            let session = &mut self.sessions[key.index()];
            let oldest = session.queue.front().map(|it| self.requests[*it].arrival);
            let Some(tracker) = &mut session.tracker else {
                return;
            };
            let is_due =
                |behind: Timestamp| is_clear || oldest.is_none_or(|oldest| oldest > behind);
            let Some((_, notice)) = tracker.held.pop_front_if(|(behind, _)| is_due(*behind)) else {
                break;
            };
            let length = notice.keys().len();
            tracker.held_bytes -= length;
            session.reply_bytes -= length;
            self.reply_bytes -= length;
            self.unread_bytes -= length;
            self.say(key, &notice);
        }
        self.tend_flushes(key);
        self.count_disturbances(key);
    }

    fn tend_flushes(&mut self, key: SessionKey) {
        let session = &mut self.sessions[key.index()];
        let oldest = session.queue.front().map(|it| self.requests[*it].arrival);
        let Some(tracker) = &mut session.tracker else {
            return;
        };
        let behind = tracker.flush_behind;
        let is_due = behind.is_some_and(|behind| oldest.is_none_or(|oldest| oldest > behind));
        if is_due {
            tracker.flush_behind = None;
        }
        if std::mem::take(&mut tracker.flush) || is_due {
            self.notify(key, Notice::Own(ALL.into()));
        }
    }

    fn say(&mut self, key: SessionKey, notice: &Notice) {
        let session = &self.sessions[key.index()];
        let protocol = session.client.protocol;
        let redirect = match (notice, &session.client.tracking) {
            (Notice::Own(_), None) => return,
            (Notice::Own(_), Some(tracking)) => tracking.redirect,
            (Notice::Redirected(_), _) => None,
        };
        match (notice, redirect, protocol) {
            (_, Some(id), _) => self.redirect(key, id, notice.keys()),
            (_, None, Protocol::Resp3) => {
                self.give(key, INVALIDATE);
                self.give(key, notice.keys());
            }
            (Notice::Redirected(keys), ..) if session.subscriber.is_some() => {
                let keys: &[u8] = if **keys == *ALL { ALL_RESP2 } else { keys };
                self.give(key, MESSAGE);
                self.give(key, keys);
            }
            // As from a server: there is no way to say it.
            _ => return,
        }
        self.mark_session_dirty(key);
    }

    /// Tells another client. If that is gone, the one that tracks the keys is told so, each time.
    fn redirect(&mut self, key: SessionKey, id: u64, keys: &[u8]) {
        let session = &mut self.sessions[key.index()];
        let env = std::rc::Rc::clone(&session.env);
        if env.redirect_invalidation(id, keys) {
            return;
        }
        let Some(tracking) = &mut session.client.tracking else {
            return;
        };
        if !tracking.broken {
            tracking.broken = true;
            env.client_changed(&session.client);
        }
        if session.client.protocol == Protocol::Resp3 {
            let mut push = REDIRECTION_BROKEN.to_vec();
            write::integer(&mut push, i64::try_from(id).unwrap_or(i64::MAX));
            self.give(key, &push);
        }
    }
}

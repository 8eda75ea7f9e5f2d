//! CLIENT TRACKING [N2]: a client that keeps what it has read is told by the servers which keys change.
//!
//! Such a session has links of its own, one to each node that it reads from, on which the node was asked for the same tracking
//! ([`tracking_links`]). They stand in the tables of the nodes, at a place that no other session uses; so whatever the session asks
//! goes its ordinary way, but over them, and what a node says of a key comes behind the reply with that key. Who is told, and when,
//! is in [`invalidation`].
//!
//! [`tracking_links`]: super::tracking_links
//! [`invalidation`]: super::invalidation

use std::collections::HashMap;

use slab::Slab;

use super::dispatch::BULK_LINKS;
use super::group::{Assembly, NewPart, keyless};
use super::request::Launch;
use super::{Engine, GroupKey, LinkKey, RequestKey, SessionKey};
use crate::backend::Owed;
use crate::command::{Spec, id};
use crate::local;
use crate::merge::Rule;
use crate::metrics::Outcome;
use crate::resp::{Args, write};
use crate::session::Session;
use crate::session::tracking::{Mode, Notice, Tracker, Tracking};
use crate::time::Timestamp;

/// What goes before a request that is to be remembered, or not to be, in one piece with it.
pub(super) const CACHING: &[u8] = b"*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$3\r\nYES\r\n";
const NOT_CACHING: &[u8] = b"*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$2\r\nNO\r\n";

/// Every server answers it with `+OK`, and nothing comes of it.
const NOTHING: &[u8] = b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$2\r\nON\r\n";

/// The sessions that track keys, each at its place.
#[derive(Debug, Default)]
pub(super) struct Trackers {
    pub(super) places: Slab<SessionKey>,
    /// The links that each of them has.
    pub(super) links: HashMap<SessionKey, Vec<LinkKey>>,
    /// When it was last looked whether those who hear of all keys do so.
    pub(super) linked: Timestamp,
}

impl Trackers {
    pub(super) fn sessions(&self) -> Vec<SessionKey> {
        self.places.iter().map(|(_, session)| *session).collect()
    }

    /// The link is not one of this session any more.
    pub(super) fn forget_link(&mut self, session: SessionKey, link: LinkKey) {
        if let Some(links) = self.links.get_mut(&session) {
            links.retain(|other| *other != link);
            if links.is_empty() {
                self.links.remove(&session);
            }
        }
    }
}

impl Engine {
    /// CLIENT TRACKING, if it may have an effect, is carried out when all before it are answered; other commands answered here are
    /// answered at once: false.
    pub(super) fn tracks_at_turn(
        &mut self,
        session: SessionKey,
        spec: &'static Spec,
        args: Args<'_>,
    ) -> bool {
        let is_effective = spec.id == id::CLIENT_TRACKING
            && self.sessions[session.index()].env.listener().tracking;
        if is_effective {
            let words: Vec<&[u8]> = args.iter().collect();
            let mut raw = Vec::new();
            write::command(&mut raw, &words);
            self.whole(session, spec, &raw, Launch::AtTurn);
        }
        is_effective
    }

    /// CLIENT TRACKING, whose turn has come.
    pub(super) fn track(
        &mut self,
        request: RequestKey,
        session: SessionKey,
        spec: &'static Spec,
        args: Args<'_>,
    ) {
        let mut reply = Vec::new();
        let state = &mut self.sessions[session.index()];
        let before = state.client.tracking.clone();
        let env = std::rc::Rc::clone(&state.env);
        local::answer(spec, args, &mut state.client, &*env, &mut reply);
        self.adopt_tracking(session, before.as_deref());
        self.count_disturbances(session);
        if reply.first() == Some(&b'-') {
            return self.complete(request, &reply, Outcome::Refused, false);
        }
        let tracking = self.sessions[session.index()].client.tracking.as_ref();
        let is_broadcast = tracking.is_some_and(|tracking| tracking.mode == Mode::Broadcast);
        if is_broadcast && !self.snapshot.shards().is_empty() {
            self.link_to_all(request);
        } else {
            self.complete(request, &reply, Outcome::Ok, false);
        }
    }

    /// Has the links of the session be what its client has asked for.
    fn adopt_tracking(&mut self, key: SessionKey, before: Option<&Tracking>) {
        let session = &mut self.sessions[key.index()];
        let place = session.tracker.as_ref().and_then(|tracker| tracker.place);
        match (&session.client.tracking, place) {
            (None, Some(_)) => self.end_tracking(key),
            (Some(_), None) => {
                let place = self.trackers.places.insert(key);
                let tracker = session.tracker.get_or_insert_default();
                tracker.place = u32::try_from(place).ok();
                session.big = Session::TRACKS;
                session.sent_generation = Session::MIXED;
            }
            (Some(now), Some(_)) if !before.is_some_and(|it| it.is_same_at_node(now)) => {
                self.change_links(key);
            }
            _ => {}
        }
    }

    /// Answers CLIENT TRACKING ON BCAST when every primary has been told: what is changed from then on is heard of.
    fn link_to_all(&mut self, request: RequestKey) {
        let shards = self.snapshot.shards().iter();
        let parts = shards.map(|shard| keyless(shard.lowest_slot)).collect();
        let write = |_: &NewPart<'_>, out: &mut Vec<u8>| out.extend_from_slice(NOTHING);
        let rule = Assembly::Merge(Rule::ALL_OK);
        let group = self.make_group(request, parts, &write, 0, rule);
        self.dispatch_parts(group);
    }

    /// Ends the tracking of a session; what it is owed over its links still comes.
    #[cold]
    pub(super) fn end_tracking(&mut self, key: SessionKey) {
        let session = &mut self.sessions[key.index()];
        session.client.tracking = None;
        let Some(tracker) = &mut session.tracker else {
            return;
        };
        let place = tracker.place.take();
        // What others track is still told to it.
        tracker
            .held
            .retain(|(_, notice)| matches!(notice, Notice::Redirected(_)));
        let kept = tracker.held.iter().map(|(_, notice)| notice.keys().len());
        let kept: usize = kept.sum();
        let held = std::mem::replace(&mut tracker.held_bytes, kept) - kept;
        (tracker.flush, tracker.flush_behind) = (false, None);
        session.reply_bytes -= held;
        self.reply_bytes -= held;
        self.unread_bytes -= held;
        if place.is_some() {
            session.big = 0;
            session.sent_generation = Session::MIXED;
        }
        self.count_disturbances(key);
        self.leave_place(place);
    }

    /// Gives up the place of a session that has gone, or tracks nothing any more.
    fn leave_place(&mut self, place: Option<u32>) {
        let place = place.map(|place| place as usize);
        if let Some(session) = place.and_then(|place| self.trackers.places.try_remove(place)) {
            self.let_go_all(session);
        }
    }

    /// From now on other links are to be used. What was read over the old ones nobody tells of.
    #[cold]
    pub(super) fn change_links(&mut self, key: SessionKey) {
        let session = &mut self.sessions[key.index()];
        session.sent_generation = Session::MIXED;
        if self.let_go_all(key) {
            self.flush_all(key);
        }
    }

    /// The session may have gone to another database; it was in `before`.
    pub(super) fn follow_database(&mut self, key: SessionKey, before: u16) {
        let client = &self.sessions[key.index()].client;
        if client.tracking.is_some() && client.database != before {
            self.change_links(key);
        }
    }

    /// Which of the links to a node a session uses that does not use the shared ones.
    #[cold]
    pub(super) fn own_index(&self, key: SessionKey) -> usize {
        let tracker = self.sessions[key.index()].tracker.as_ref();
        match tracker.and_then(|tracker| tracker.place) {
            Some(place) => self.tracking_index(place as usize),
            None => self.limits.links_per_node + key.index() % BULK_LINKS,
        }
    }

    /// How often what its client is to be told, and CLIENT CACHING, count among what calls for the slow path of the session.
    pub(super) fn count_disturbances(&mut self, key: SessionKey) {
        let session = &mut self.sessions[key.index()];
        let tracking = session.client.tracking.as_ref();
        let caching = tracking.is_some_and(|tracking| tracking.caching);
        let Some(tracker) = &mut session.tracker else {
            return;
        };
        let waits = [
            caching,
            !tracker.held.is_empty(),
            tracker.flush_behind.is_some(),
        ];
        let count = waits.into_iter().map(u32::from).sum();
        let before = std::mem::replace(&mut tracker.disturbances, count);
        session.disturbed = session.disturbed + count - before;
    }

    /// What was said by CLIENT CACHING, if anything, holds no longer: how the request for which it was said is to be sent.
    fn take_caching(&mut self, key: SessionKey) -> Option<Launch> {
        let session = &mut self.sessions[key.index()];
        let tracking = session.client.tracking.as_mut()?;
        let launch = match tracking.mode {
            Mode::OptIn => Launch::Cached,
            _ => Launch::Uncached,
        };
        let was_said = std::mem::take(&mut tracking.caching);
        if was_said {
            self.count_disturbances(key);
        }
        was_said.then_some(launch)
    }

    /// `request`, just taken, is the one for which CLIENT CACHING was said, if it was.
    pub(super) fn apply_caching(&mut self, session: SessionKey, request: RequestKey) {
        if let Some(launch) = self.take_caching(session) {
            let shape = &mut self.requests[request].shape;
            if shape.launch == Launch::Direct {
                shape.launch = launch;
            }
        }
    }

    /// As [`Self::apply_caching`], of the parts of a command.
    pub(super) fn apply_caching_to_parts(&mut self, session: SessionKey, group: GroupKey) {
        if let Some(launch) = self.take_caching(session) {
            for part in &self.groups[group.index()].parts {
                self.requests[*part].shape.launch = launch;
            }
        }
    }

    /// What goes before a transaction that is about to be sent.
    pub(super) fn caching_of_transaction(&mut self, session: SessionKey) -> &'static [u8] {
        match self.take_caching(session) {
            Some(Launch::Cached) => CACHING,
            Some(_) => NOT_CACHING,
            None => b"",
        }
    }

    /// A command is answered, or sent in another way, that is not one about the client: CLIENT CACHING was for it, and in vain.
    #[cold]
    pub(super) fn end_caching(&mut self, session: SessionKey, spec: &Spec) {
        let is_kept = spec.name.starts_with("client|")
            || self.sessions[session.index()].transaction.is_some();
        if is_kept {
            // It may be CLIENT CACHING itself.
            self.count_disturbances(session);
        } else if self.take_caching(session) == Some(Launch::Cached) {
            self.flush_behind(session);
        }
    }

    /// The request just taken reads over a connection where nobody remembers it.
    pub(super) fn note_untracked(&mut self, session: SessionKey) {
        let tracking = self.sessions[session.index()].client.tracking.as_ref();
        if tracking.is_some_and(|tracking| tracking.mode != Mode::OptIn) {
            self.flush_behind(session);
        }
    }

    /// As [`Self::send`], of a request with something before it.
    #[cold]
    pub(super) fn send_with_caching(
        &mut self,
        link_key: LinkKey,
        key: RequestKey,
        raw: Option<&[u8]>,
        asking: bool,
    ) {
        let launch = self.requests[key].shape.launch;
        let session = self.requests[key].session;
        let said = if launch == Launch::Cached {
            CACHING
        } else {
            NOT_CACHING
        };
        let link = &mut self.links[link_key.index()];
        if link.tracks.is_some() && !asking {
            link.push(Owed::Nobody, said, self.now);
        } else if launch == Launch::Cached
            && let Some(session) = session
        {
            // A node takes one of both before a command, or the link is not that of a session that tracks keys any more.
            self.flush_behind(session);
        }
        self.send_plainly(link_key, key, raw, asking);
    }

    /// What CLIENT CACHING before a transaction would have been for, which is sent behind ASKING: the bytes without it.
    pub(super) fn without_caching<'a>(&mut self, key: RequestKey, unit: &'a [u8]) -> &'a [u8] {
        if let Some(rest) = unit.strip_prefix(CACHING) {
            if let Some(session) = self.requests[key].session {
                self.flush_behind(session);
            }
            return rest;
        }
        unit.strip_prefix(NOT_CACHING).unwrap_or(unit)
    }

    /// The session has gone.
    pub(super) fn drop_tracker(&mut self, tracker: &Tracker) {
        self.leave_place(tracker.place);
    }
}

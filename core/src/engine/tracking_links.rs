//! The links of sessions that track keys [N2]: opened when something is to be sent over them, with BCAST to all primaries.
//!
//! They are in the database that the session was in when a request for them was taken. A session that goes to another one has its
//! links closed behind what they owe, as one that changes the version of the protocol.
//!
//! In RESP3 a node says on the same connection what has changed. In RESP2 it says so on another one, the receiver, which speaks RESP3
//! and carries nothing else, so that it is in database 0: it is opened first, and named to the node on the one that carries the
//! requests.

use std::time::Duration;

use super::dispatch::BULK_LINKS;
use super::links::{LinkLoss, Route, reconnect_pause};
use super::nodes::Place;
use super::private::is_full;
use super::silence::{PING, PROBE_INTERVAL};
use super::{Action, Engine, LinkKey, NodeKey, RequestKey, SessionKey};
use crate::backend::{Link, Owed, Tracks};
use crate::metrics::Outcome;
use crate::resp::Protocol;
use crate::session::Session;
use crate::session::tracking::Mode;
use crate::slot::{SLOT_COUNT, Slot};

/// How soon a request looks again for which a receiver is being opened.
const RECEIVER_PAUSE: Duration = Duration::from_millis(2);

/// How often it is looked whether those who hear of all keys do so.
const LINKING_PAUSE: Duration = Duration::from_millis(200);

const TOO_MANY: &[u8] = b"-ERR proxy: too many tracking sessions\r\n";
const NOT_PERMITTED: &[u8] = b"-ERR proxy: the node does not track keys for this proxy\r\n";

impl Engine {
    /// Opens a link for the session with this number among those that track keys.
    #[cold]
    pub(super) fn open_tracking_link(
        &mut self,
        node: NodeKey,
        database: u16,
        protocol: Protocol,
        number: usize,
    ) -> Route {
        let Some(session) = self.trackers.places.get(number).copied() else {
            return Route::Full;
        };
        if self.nodes[node].tracking_retry_at > self.now {
            return Route::Full;
        }
        if !self.has_room_for_tracking(node, protocol, number) {
            return Route::Full;
        }
        let receiver = match protocol {
            Protocol::Resp3 => None,
            Protocol::Resp2 => match self.receiver(node, session, number) {
                Some(client) => Some(client),
                None => return Route::NotBefore(self.now.after(RECEIVER_PAUSE)),
            },
        };
        let Some(tracking) = &self.sessions[session.index()].client.tracking else {
            return Route::Full;
        };
        let mut command = Vec::new();
        tracking.write_command(receiver, &mut command);
        let command = Some(command);
        let place = Place::new(database, protocol, self.tracking_index(number));
        let mut link = Link::tracking(node, protocol, Tracks { session, command }, self.now);
        link.database = database;
        Route::Coming(self.add_tracking_link(place, link))
    }

    /// A receiver that is there already has its room.
    fn has_room_for_tracking(&self, node: NodeKey, protocol: Protocol, number: usize) -> bool {
        let node = &self.nodes[node];
        let needed = match protocol {
            Protocol::Resp2 if node.link(self.receiver_place(number)).is_none() => 2,
            Protocol::Resp2 | Protocol::Resp3 => 1,
        };
        node.private + node.tracking + needed <= self.limits.private_links
    }

    /// The number of the connection that gets what the node has to say; opened if there is none.
    fn receiver(&mut self, node: NodeKey, session: SessionKey, number: usize) -> Option<i64> {
        let place = self.receiver_place(number);
        match self.nodes[node].link(place) {
            Some(key) => {
                let link = &self.links[key.index()];
                let id = link.client_id.as_ref().filter(|_| link.is_ready());
                id.map(|id| id.number)
            }
            None => {
                let command = None;
                let tracks = Tracks { session, command };
                let link = Link::tracking(node, Protocol::Resp3, tracks, self.now);
                self.add_tracking_link(place, link);
                None
            }
        }
    }

    fn add_tracking_link(&mut self, place: Place, link: Link) -> LinkKey {
        let node = &mut self.nodes[link.node];
        let address = node.address.clone();
        let session = link.tracks.as_ref().map(|tracks| tracks.session);
        let link = LinkKey::from_index(self.links.insert(link));
        if let Some(session) = session {
            let links = self.trackers.links.entry(session).or_default();
            links.push(link);
        }
        node.tracking += 1;
        node.set_link(place, link);
        self.actions.push_back(Action::Connect { link, address });
        link
    }

    /// A link is through its handshake, in which the node was asked to track keys.
    pub(super) fn on_tracking_ready(&mut self, key: LinkKey) {
        let node = self.links[key.index()].node;
        self.nodes[node].tracking_refusals = 0;
        let tracks = self.links[key.index()].tracks.as_ref();
        let Some(tracks) = tracks.filter(|tracks| tracks.command.is_some()) else {
            return;
        };
        let session = &self.sessions[tracks.session.index()];
        let tracking = session.client.tracking.as_ref();
        let is_broadcast = tracking.is_some_and(|tracking| tracking.mode == Mode::Broadcast);
        let tracker = session.tracker.as_ref();
        if is_broadcast && tracker.is_some_and(|tracker| tracker.has_gaps) {
            // What has happened since the last one was lost nobody tells of.
            let session = tracks.session;
            self.want_flush(session);
        }
    }

    /// A link is given up: what was read over it may change unnoticed.
    pub(super) fn on_tracking_lost(&mut self, key: LinkKey, was_ready: bool) {
        let link = &mut self.links[key.index()];
        let Some(tracks) = link.tracks.take() else {
            return;
        };
        let node = link.node;
        self.nodes[node].tracking -= 1;
        let session = tracks.session;
        self.trackers.forget_link(session, key);
        let state = self.sessions.get_mut(session.index());
        let Some(tracker) = state.and_then(|state| state.tracker.as_mut()) else {
            return;
        };
        tracker.has_gaps = true;
        if was_ready {
            self.want_flush(session);
        }
        if tracks.command.is_none() {
            // The node has nobody to tell what changes of what is read over the others.
            let is_told_of =
                |link: &Link| link.node == node && matches!(link.protocol, Protocol::Resp2);
            for other in self.tracking_links(session, is_told_of) {
                self.sessions[session.index()].sent_generation = Session::MIXED;
                self.let_go(other);
                self.flush_behind(session);
            }
        }
    }

    /// Closes a link that its session does not use any more when it owes nothing.
    fn let_go(&mut self, key: LinkKey) {
        let link = &mut self.links[key.index()];
        let Some(tracks) = link.tracks.take() else {
            return;
        };
        self.trackers.forget_link(tracks.session, key);
        let node = &mut self.nodes[link.node];
        node.tracking -= 1;
        node.detach(key);
        link.detached = true;
        if link.is_spent() && link.waiting.is_empty() {
            self.lose_link(key, LinkLoss::Retired);
        }
    }

    /// As [`Self::let_go`], all links of a session; whether something may have been read over one.
    pub(super) fn let_go_all(&mut self, session: SessionKey) -> bool {
        let links = self.tracking_links(session, |_| true);
        // What waits for one is going to be read over it, though the node does not track for it any more.
        let was_used = links.iter().any(|key| {
            let link = &self.links[key.index()];
            link.is_ready() || !link.waiting.is_empty()
        });
        for key in links {
            self.let_go(key);
        }
        was_used
    }

    /// A node does not take this connection of a session that tracks keys, or does not track them: so it is for the request that waited.
    pub(super) fn refuse_untracked(&mut self, key: RequestKey, loss: &LinkLoss) {
        let text = if is_full(loss) {
            TOO_MANY
        } else {
            NOT_PERMITTED
        };
        self.fail(key, text, Outcome::Refused, false);
    }

    /// There are as many links as there may be.
    pub(super) fn refuse_to_track(&mut self, key: RequestKey) {
        self.fail(key, TOO_MANY, Outcome::Refused, false);
    }

    /// Asks nodes that say nothing whether they are there: a client that is told of changes has no other way to know. With BCAST it
    /// hears from all primaries. All links are looked at only if this is such a tick.
    pub(super) fn tend_tracking(&mut self, looks_at_links: bool) {
        if self.trackers.places.is_empty() {
            return;
        }
        if self.now.since(self.trackers.linked) >= LINKING_PAUSE {
            self.link_broadcasters();
        }
        if !looks_at_links {
            return;
        }
        let interval = PROBE_INTERVAL.min(self.limits.node_timeout / 4);
        let quiet = self.links.iter().filter(|(_, link)| {
            let is_quiet = link.owed() == 0 && self.now.since(link.progress) >= interval;
            link.tracks.is_some() && link.is_ready() && is_quiet
        });
        let quiet: Vec<LinkKey> = quiet.map(|(index, _)| LinkKey::from_index(index)).collect();
        for key in quiet {
            self.links[key.index()].push(Owed::Probe, PING, self.now);
            self.mark_link_dirty(key);
        }
    }

    /// Opens links to primaries that have none yet from a client that is to hear from all.
    pub(super) fn link_broadcasters(&mut self) {
        self.trackers.linked = self.now;
        for session in self.trackers.sessions() {
            self.link_broadcaster(session);
        }
    }

    fn link_broadcaster(&mut self, key: SessionKey) {
        let session = &self.sessions[key.index()];
        let tracking = session.client.tracking.as_ref();
        if tracking.is_none_or(|tracking| tracking.mode != Mode::Broadcast) {
            return;
        }
        let (database, protocol) = (session.client.database, session.client.protocol);
        let index = self.own_index(key);
        for node in self.nodes.primaries().to_vec() {
            self.link_to(node, database, protocol, index);
        }
    }

    /// Who has each slot, if somebody wants to know when that changes.
    pub(super) fn owners_for_trackers(&self) -> Vec<Option<NodeKey>> {
        if self.trackers.places.is_empty() {
            return Vec::new();
        }
        let slots = (0..SLOT_COUNT).filter_map(Slot::new);
        let owner = |slot| self.nodes.owner(&self.snapshot, slot);
        slots.map(owner).collect()
    }

    /// A new topology was adopted; `before` is what [`Self::owners_for_trackers`] said. Nobody tells of what is at another node now.
    pub(super) fn note_moved(&mut self, before: &[Option<NodeKey>]) {
        let mut lost = Vec::new();
        for (slot, owner) in (0..SLOT_COUNT).filter_map(Slot::new).zip(before) {
            if let Some(owner) = owner
                && self.nodes.owner(&self.snapshot, slot) != Some(*owner)
                && !lost.contains(owner)
            {
                lost.push(*owner);
            }
        }
        if lost.is_empty() {
            return;
        }
        for session in self.trackers.sessions() {
            let has_read = |link: &Link| lost.contains(&link.node);
            if !self.tracking_links(session, has_read).is_empty() {
                self.flush_all(session);
            }
        }
    }

    /// Those of the links of a session that tracks keys of which `is_meant` is true.
    fn tracking_links(
        &self,
        session: SessionKey,
        is_meant: impl Fn(&Link) -> bool,
    ) -> Vec<LinkKey> {
        let links = self.trackers.links.get(&session).into_iter().flatten();
        let meant = links.filter(|link| is_meant(&self.links[link.index()]));
        meant.copied().collect()
    }

    /// The node had no room for a link of a session that tracks keys: it is left alone for a while, longer each time.
    pub(super) fn note_full_for_tracking(&mut self, node: NodeKey) {
        let entry = &mut self.nodes[node];
        // Links refused in one go are one refusal.
        if entry.tracking_retry_at <= self.now {
            let pause = reconnect_pause(entry.tracking_refusals);
            entry.tracking_refusals = entry.tracking_refusals.saturating_add(1);
            entry.tracking_retry_at = self.now.after(pause.mul_f64(0.75 + self.rng.f64() / 2.0));
        }
    }

    /// Where the links are over which the session with this number sends what its client asks.
    pub(super) fn tracking_index(&self, number: usize) -> usize {
        self.limits.links_per_node + BULK_LINKS + 2 * number
    }

    /// Where its receiver is. That is no link for requests: one in RESP3 may yet be sent while the session speaks RESP2, or the other way
    /// round.
    fn receiver_place(&self, number: usize) -> Place {
        Place::new(0, Protocol::Resp3, self.tracking_index(number) + 1)
    }

    /// The number among those that track keys of the session whose links have this index.
    pub(super) fn tracker_at(&self, index: usize) -> Option<usize> {
        let behind = index.checked_sub(self.limits.links_per_node + BULK_LINKS)?;
        Some(behind / 2)
    }
}

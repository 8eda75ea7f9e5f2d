//! Private links: connections that carry the commands of one session at a time, for what may wait at the node or changes what a
//! connection is.
//!
//! ```text
//!   opened for a request --> lent --> idle --> lent --> .. --> closed, when it was idle for a while
//!                             \--> closed, if it is not clean or its session is gone
//! ```
//!
//! They are lent per request: to one that blocks until it is answered, to a WATCH until its transaction is over. Nothing else is
//! sent over them meanwhile.

use std::time::Duration;

use super::links::{LinkLoss, Route};
use super::park::LOGIN_REFUSED;
use super::request::{Launch, State};
use super::{Action, Engine, LinkKey, NodeKey, RequestKey};
use crate::backend::{HandshakeFailure, Link, LinkPhase, Owed, Private};
use crate::metrics::Outcome;
use crate::resp::Protocol;

/// Idle ones are closed after this time [B3].
const IDLE: Duration = Duration::from_secs(30);

/// One over which keys are watched is closed when nothing more was asked for this long [W7].
const PINNED_IDLE: Duration = Duration::from_secs(300);

/// What a request is told for which there is none, and how long WATCH waits for one.
const TOO_MANY_BLOCKED: &[u8] = b"-ERR proxy: too many blocked clients\r\n";
const TOO_MANY_PINNED: &[u8] = b"-ERR proxy: too many pinned sessions\r\n";
const PINNED_PATIENCE: Duration = Duration::from_millis(100);

/// So many are opened to a node at the same time, as all that were lost with another one may come at once; and how soon the others
/// look again.
const OPENING: usize = 64;
const OPENING_PAUSE: Duration = Duration::from_millis(10);

impl Engine {
    /// A private link over which request `key` is to be sent now, with or without ASKING before it. `None` if it has to wait for
    /// one, or cannot have one: then all is done.
    pub(super) fn borrow_link(
        &mut self,
        key: RequestKey,
        raw: Option<&[u8]>,
    ) -> Option<(LinkKey, bool)> {
        let shape = self.requests[key].shape;
        let owner = || self.nodes.owner(&self.snapshot, shape.slot);
        let detour = self.requests[key].detour;
        let Some((node, asking)) = detour.or_else(|| Some((owner()?, false))) else {
            self.park_unowned(key, raw);
            return None;
        };
        if let Some(time) = self.waits_for_trial(node, key) {
            self.park_for(node, key, raw, time);
            return None;
        }
        if self.is_used_up(node, shape.launch) {
            self.refuse_link(node, key, raw);
            return None;
        }
        match self.private_link(node, shape.protocol, shape.database) {
            Route::Ready(link) => return Some((link, asking)),
            Route::Coming(link) => {
                self.keep_body(key, raw);
                self.requests[key].state = State::Waiting(link);
                self.disturb(key);
                self.links[link.index()].waiting.push_back(key);
            }
            Route::Full => self.refuse_link(node, key, raw),
            Route::LoginRefused => self.fail(key, LOGIN_REFUSED, Outcome::Unavailable, false),
            Route::NotBefore(time) | Route::Crowded(time) => self.park_for(node, key, raw, time),
        }
        None
    }

    /// Whether there are as many private links to the node as there may be for this, and none of them is idle.
    fn is_used_up(&self, key: NodeKey, launch: Launch) -> bool {
        let node = &self.nodes[key];
        let limits = &self.limits;
        let is_full = node.private + node.tracking >= limits.private_links
            && node.idle.iter().all(Vec::is_empty);
        is_full
            || launch == Launch::Watch
                && node.private >= limits.watching_links
                && self.watching_links(key) >= limits.watching_links
    }

    fn watching_links(&self, node: NodeKey) -> usize {
        let is_for_watch =
            |request: &RequestKey| self.requests[*request].shape.launch == Launch::Watch;
        let links = self.links.iter().filter(|(_, link)| link.node == node);
        let watching = links.filter(|(_, link)| {
            let private = link.private.as_ref();
            private.is_some_and(|private| private.watches || private.pinned.is_some())
                || link.waiting.iter().any(is_for_watch)
        });
        watching.count()
    }

    /// Whether the node has no room for this private link, or one of a session that tracks keys, or tracks none for it: it serves
    /// others, and shared links are opened as before.
    pub(super) fn is_refused_at_full_node(
        &self,
        key: LinkKey,
        is_tracking: bool,
        loss: &LinkLoss,
    ) -> bool {
        let is_private = self.links[key.index()].private.is_some();
        let is_untracked = matches!(loss, LinkLoss::Handshake(HandshakeFailure::Tracking(_)));
        is_full(loss) && (is_private || is_tracking) || is_untracked
    }

    /// The node has no room for another connection, as it said to a new private link: so has the request that waited for it.
    pub(super) fn refuse_at_full_node(&mut self, key: RequestKey) {
        let text = match self.requests[key].shape.launch {
            Launch::Watch | Launch::Apart => TOO_MANY_PINNED,
            _ => TOO_MANY_BLOCKED,
        };
        self.fail(key, text, Outcome::Refused, false);
    }

    /// Refuses a request because there are too many private links; one that need not wait at its node has a moment [B3] [W7].
    fn refuse_link(&mut self, node: NodeKey, key: RequestKey, raw: Option<&[u8]>) {
        let request = &self.requests[key];
        let (text, patience) = match request.shape.launch {
            Launch::Watch | Launch::Apart => (TOO_MANY_PINNED, PINNED_PATIENCE),
            _ => (TOO_MANY_BLOCKED, Duration::ZERO),
        };
        if self.now.since(request.arrival) < patience {
            self.park_for(node, key, raw, self.now.after(OPENING_PAUSE));
        } else {
            self.fail(key, text, Outcome::Refused, false);
        }
    }

    /// An idle link, or a new one.
    fn private_link(&mut self, key: NodeKey, protocol: Protocol, database: u16) -> Route {
        let idle = &mut self.nodes[key].idle[protocol.index()];
        let last = idle.iter().rposition(|(other, _)| *other == database);
        if let Some((_, link)) = last.map(|last| idle.remove(last)) {
            if let Some(private) = &mut self.links[link.index()].private {
                private.idle = false;
            }
            return Route::Ready(link);
        }
        if let Some(route) = self.not_now(key) {
            return route;
        }
        let node = &mut self.nodes[key];
        if node.private_opening >= OPENING {
            return Route::NotBefore(self.now.after(OPENING_PAUSE));
        }
        if node.private + node.tracking >= self.limits.private_links {
            // All idle ones are of the other version, or in other databases.
            if let Some((_, idle)) = node.idle.iter_mut().find_map(Vec::pop) {
                self.lose_link(idle, LinkLoss::Retired);
            }
        }
        let node = &mut self.nodes[key];
        node.private += 1;
        node.private_opening += 1;
        let address = node.address.clone();
        let mut link = Link::private(key, protocol, self.now);
        link.database = database;
        let link = LinkKey::from_index(self.links.insert(link));
        self.actions.push_back(Action::Connect { link, address });
        Route::Coming(link)
    }

    /// Sends a request that has waited for its private link, unless its client is leaving.
    pub(super) fn send_waiting(&mut self, link: LinkKey, key: RequestKey, asking: bool) {
        let launch = self.requests[key].shape.launch;
        if launch == Launch::Blocking
            && let Some(session) = self.requests[key].session
            && let Some(reason) = self.is_leaving(session)
        {
            self.hold(key, None);
            return self.cut_off_blocked(session, reason);
        }
        match launch {
            Launch::Watch => self.send_watch(link, key, None, asking),
            Launch::Apart => self.send_apart(link, key, None, asking),
            Launch::AcksOfNode => self.send_acks(link, key, None),
            _ => self.send_blocking(link, key, None, asking),
        }
    }

    /// Puts a private link that owes nothing back among the idle ones, if it is not kept for its session and is as good as new.
    pub(super) fn give_back_link(&mut self, key: LinkKey) {
        let now = self.now;
        let link = &mut self.links[key.index()];
        let Some(private) = &mut link.private else {
            return self.lose_link(key, LinkLoss::Retired);
        };
        if private.idle || private.pinned.is_some() || !matches!(link.phase, LinkPhase::Ready) {
            return;
        }
        if private.used_up || private.watches {
            return self.lose_link(key, LinkLoss::Retired);
        }
        *private = Private {
            idle: true,
            ..Private::default()
        };
        link.progress = now;
        let (node, protocol) = (link.node, link.protocol.index());
        let database = link.database;
        self.nodes[node].idle[protocol].push((database, key));
    }

    /// A private link is given up: who has it is told, before anything is decided about its requests.
    pub(super) fn on_private_lost(&mut self, key: LinkKey, was_ready: bool) {
        let link = &mut self.links[key.index()];
        let Some(private) = &mut link.private else {
            return;
        };
        let pinned = private.pinned.take();
        let node = &mut self.nodes[link.node];
        node.private -= 1;
        node.private_opening -= usize::from(!was_ready);
        if let Some(session) = pinned {
            self.lose_watch(session);
        }
    }

    /// A connection to the node was given up, and may yet execute what it has: nothing more is sent over private links that are
    /// open already. Those that come have it killed first [D9].
    pub(super) fn spoil_private_links(&mut self, node: NodeKey) {
        let mut idle = Vec::new();
        for (index, link) in &mut self.links {
            if link.node != node || !link.is_ready() {
                continue;
            }
            // What changes nothing at the node is asked for again over another one.
            let is_idle = link
                .in_flight()
                .all(|entry| matches!(entry.owed, Owed::Asking | Owed::Watch(_) | Owed::Nobody));
            if let Some(private) = &mut link.private {
                private.used_up = true;
                idle.extend(is_idle.then(|| LinkKey::from_index(index)));
            }
        }
        for key in idle {
            self.lose_link(key, LinkLoss::Retired);
        }
    }

    /// Whether a private link has not been of use for so long that it is closed.
    pub(super) fn is_left_alone(&self, link: &Link) -> bool {
        let idle = self.now.since(link.progress);
        match &link.private {
            Some(private) if private.pinned.is_some() => idle >= PINNED_IDLE,
            Some(_) => idle >= IDLE,
            None => link.is_spent(),
        }
    }
}

pub(super) fn is_full(loss: &LinkLoss) -> bool {
    matches!(loss, LinkLoss::Handshake(failure) if failure.is_full())
}

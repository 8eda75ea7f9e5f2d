//! From a request whose turn it is to the log of a link.

use super::links::Route;
use super::park::LOGIN_REFUSED;
use super::request::{Launch, State};
use super::unit::push_unit;
use super::{Engine, LinkKey, RequestKey, SessionKey};
use crate::backend::{Owed, give_back};
use crate::metrics::Outcome;

/// What goes before a request that was answered with ASK, in one piece with it [O5].
pub(super) const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";

/// Capacity above which the private copy of a request's bytes is given back once it is in a link's log.
pub(super) const KEPT_BODY: usize = 1024;

/// Links to one node for sessions with big requests or replies.
pub(super) const BULK_LINKS: usize = 32;

impl Engine {
    /// Sends a request to the owner of its slot or to where a node pointed, or lets it wait for a link or a topology. Its bytes
    /// are `raw`, or its own copy.
    pub(super) fn dispatch(&mut self, key: RequestKey, raw: Option<&[u8]>) {
        let request = &self.requests[key];
        if !matches!(request.shape.launch, Launch::Direct | Launch::Unit) {
            return self.dispatch_otherwise(key, raw);
        }
        self.route(key, raw);
    }

    /// As [`Self::dispatch`], for a request that goes over a link that others use, too, or all of its session.
    #[inline(always)]
    pub(super) fn route(&mut self, key: RequestKey, raw: Option<&[u8]>) {
        let request = &self.requests[key];
        let (session, protocol) = (request.session, request.shape.protocol);
        let database = request.shape.database;
        let (node, asking) = match request.detour {
            Some(detour) => detour,
            None => match self.nodes.owner(&self.snapshot, request.shape.slot) {
                Some(owner) => (owner, false),
                None => return self.park_unowned(key, raw),
            },
        };
        if let Some(time) = self.waits_for_trial(node, key) {
            return self.park_for(node, key, raw, time);
        }
        let affinity = session.map_or(0, |session| self.affinity(session));
        match self.link_to(node, database, protocol, affinity) {
            Route::Ready(link) => self.send(link, key, raw, asking),
            Route::Coming(link) => {
                self.keep_body(key, raw);
                self.requests[key].state = State::Waiting(link);
                self.disturb(key);
                self.links[link.index()].waiting.push_back(key);
            }
            Route::Full => self.refuse_to_track(key),
            Route::LoginRefused => self.fail(key, LOGIN_REFUSED, Outcome::Unavailable, false),
            Route::NotBefore(time) => self.park_for(node, key, raw, time),
            Route::Crowded(time) => self.park_crowded(node, key, raw, time),
        }
    }

    /// As [`Self::dispatch`], for a request that is made of parts, goes over a private link, or is carried out here.
    fn dispatch_otherwise(&mut self, key: RequestKey, raw: Option<&[u8]>) {
        match self.requests[key].shape.launch {
            Launch::FanOut
            | Launch::Scan
            | Launch::FindKeys
            | Launch::Acks
            | Launch::AtTurn
            | Launch::Direct
            | Launch::Unit => {
                self.launch(key, raw);
            }
            Launch::Blocking => self.dispatch_blocking(key, raw),
            Launch::AcksOfNode => self.dispatch_acks(key, raw),
            Launch::Watch => self.dispatch_watch(key, raw),
            Launch::Watched => self.dispatch_watched(key, raw),
            Launch::Unwatch => self.unwatch_now(key),
            Launch::Apart => self.dispatch_apart(key, raw),
            Launch::Read => self.dispatch_read(key, raw),
            Launch::Cached | Launch::Uncached => self.route(key, raw),
        }
    }

    /// Writes a request into the log of a ready link.
    #[inline(always)]
    pub(super) fn send(
        &mut self,
        link: LinkKey,
        key: RequestKey,
        raw: Option<&[u8]>,
        asking: bool,
    ) {
        if self.requests[key].shape.launch == Launch::Direct {
            self.send_plainly(link, key, raw, asking);
        } else {
            self.send_otherwise(link, key, raw, asking);
        }
    }

    /// As [`Self::send`], of a request that is a transaction, or has something before it.
    #[cold]
    fn send_otherwise(
        &mut self,
        link_key: LinkKey,
        key: RequestKey,
        raw: Option<&[u8]>,
        asking: bool,
    ) {
        match self.requests[key].shape.launch {
            Launch::Unit => {}
            Launch::Read => return self.send_plainly(link_key, key, raw, asking),
            _ => return self.send_with_caching(link_key, key, raw, asking),
        }
        let body = std::mem::take(&mut self.requests[key].body);
        let mut unit = raw.unwrap_or(&body);
        let whole = unit.len();
        if asking {
            unit = self.without_caching(key, unit);
            self.links[link_key.index()].push(Owed::Asking, ASKING, self.now);
        }
        if unit.len() < whole {
            self.count_request(key, unit.len());
        }
        let link = &mut self.links[link_key.index()];
        push_unit(link, key, &mut self.requests[key], Some(unit), self.now);
        self.note_sent(link_key, key);
    }

    /// As [`Self::send`], of a request that is one command, just as it is.
    #[inline(always)]
    pub(super) fn send_plainly(
        &mut self,
        link_key: LinkKey,
        key: RequestKey,
        raw: Option<&[u8]>,
        asking: bool,
    ) {
        let link = &mut self.links[link_key.index()];
        let request = &mut self.requests[key];
        if asking {
            link.push(Owed::Asking, ASKING, self.now);
        }
        match raw {
            Some(raw) => link.push(Owed::Request(key), raw, self.now),
            None => {
                link.push_body(Owed::Request(key), &mut request.body, self.now);
                give_back(&mut request.body, KEPT_BODY);
            }
        }
        self.note_sent(link_key, key);
    }

    #[inline(always)]
    fn note_sent(&mut self, link_key: LinkKey, key: RequestKey) {
        let link = &mut self.links[link_key.index()];
        let request = &mut self.requests[key];
        request.state = State::Sent(link_key);
        request.sent = self.now;
        request.detour = None;
        if !link.dirty {
            link.dirty = true;
            self.dirty_links.push(link_key);
        }
    }

    /// Gives the request its own copy of its bytes.
    pub(super) fn keep_body(&mut self, key: RequestKey, raw: Option<&[u8]>) {
        if let Some(raw) = raw {
            let body = &mut self.requests[key].body;
            body.clear();
            body.extend_from_slice(raw);
        }
    }

    /// Which of several links to a node a session uses: always the same, so that its requests keep their order [O1]. Those with big
    /// requests or replies have links of their own, so that small ones do not wait behind them.
    pub(super) fn affinity(&self, session: SessionKey) -> usize {
        let shared = self.limits.links_per_node;
        if self.sessions[session.index()].big > 0 {
            self.own_index(session)
        } else if shared == 1 {
            0
        } else {
            session.index() % shared
        }
    }
}

//! From a request whose turn it is to the log of a link.

use super::links::Route;
use super::park::LOGIN_REFUSED;
use super::request::{Launch, State};
use super::unit::push_unit;
use super::{Engine, LinkKey, RequestKey, SessionKey};
use crate::backend::{Owed, give_back};
use crate::metrics::Outcome;

/// What goes before a request that was answered with ASK, in one piece with it [O5].
const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";

/// Capacity above which the private copy of a request's bytes is given back once it is in a link's log.
const KEPT_BODY: usize = 1024;

/// Links to one node for sessions with big requests or replies.
const BULK_LINKS: usize = 32;

impl Engine {
    /// Sends a request to the owner of its slot or to where a node pointed, or lets it wait for a link or a topology. Its bytes
    /// are `raw`, or its own copy.
    pub(super) fn dispatch(&mut self, key: RequestKey, raw: Option<&[u8]>) {
        let request = &self.requests[key];
        if !matches!(request.shape.launch, Launch::Direct | Launch::Unit) {
            return self.launch(key, raw);
        }
        let (session, protocol) = (request.session, request.shape.protocol);
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
        match self.link_to(node, protocol, affinity) {
            Route::Ready(link) => self.send(link, key, raw, asking),
            Route::Coming(link) => {
                self.keep_body(key, raw);
                self.requests[key].state = State::Waiting(link);
                self.disturb(key);
                self.links[link.index()].waiting.push_back(key);
            }
            Route::LoginRefused => self.fail(key, LOGIN_REFUSED, Outcome::Unavailable, false),
            Route::NotBefore(time) => self.park_for(node, key, raw, time),
        }
    }

    /// Writes a request into the log of a ready link.
    pub(super) fn send(
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
            _ if request.shape.launch == Launch::Unit => {
                push_unit(link, key, request, raw, self.now);
            }
            Some(raw) => link.push(Owed::Request(key), raw, self.now),
            None => {
                link.push_body(Owed::Request(key), &mut request.body, self.now);
                give_back(&mut request.body, KEPT_BODY);
            }
        }
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
            shared + session.index() % BULK_LINKS
        } else if shared == 1 {
            0
        } else {
            session.index() % shared
        }
    }
}

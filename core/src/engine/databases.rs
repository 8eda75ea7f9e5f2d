//! Numbered databases [N21] [N22]: SELECT, transactions with a SELECT in them, and the links that are in other databases than 0.
//!
//! A link is in one database from its handshake to its end, so no SELECT is ever among the requests of others. A request is for the
//! database that its session was in when it was taken: to change the database sends nothing anywhere, and concerns nothing before it.
//! Where the servers may be asked, for keys are watched or nobody knows yet how many databases there are, SELECT waits for its turn,
//! and nothing behind it is taken before.

use std::rc::Rc;
use std::time::Duration;

use super::dispatch::ASKING;
use super::links::{LinkLoss, Route};
use super::nodes::Place;
use super::request::{Launch, State};
use super::unit::{elements, push_unit};
use super::{Action, Engine, LinkKey, NodeKey, RequestKey, SessionKey};
use crate::backend::{HandshakeFailure, InFlight, Link, Owed};
use crate::command::{Spec, id};
use crate::local::choose_database;
use crate::metrics::Outcome;
use crate::resp::{Args, Protocol, ReplyScanner, write};
use crate::session::Session;
use crate::session::transaction::Selected;
use crate::session::watch::Pin;
use crate::time::Timestamp;

/// So many links to a node may be in other databases than 0.
pub(super) const LINKS: usize = 64;

/// One of them is closed when it was not used for this long.
const IDLE: Duration = Duration::from_secs(60);

/// How soon a request looks again while there are as many, all in use; and a SELECT, while the number of databases is not known.
const PAUSE: Duration = Duration::from_millis(10);

const CROWDED: &[u8] = b"-ERR proxy: too many databases in use, command not executed\r\n";
const NOT_KNOWN: &[u8] =
    b"-CLUSTERDOWN proxy: the servers have not told how many databases they have\r\n";

impl Engine {
    /// SELECT, outside of a transaction.
    pub(super) fn select(
        &mut self,
        session: SessionKey,
        spec: &'static Spec,
        raw: &[u8],
        args: Args<'_>,
    ) {
        let is_known = {
            let env = &self.sessions[session.index()].env;
            env.upstream().databases.is_some()
        };
        if is_known && self.watched_slot(session).is_none() {
            self.local(session, spec, args);
        } else {
            self.whole(session, spec, raw, Launch::AtTurn);
        }
    }

    /// Whether `request` is a SELECT that nobody can answer yet: then it waits.
    pub(super) fn waits_for_databases(&mut self, request: RequestKey, raw: Option<&[u8]>) -> bool {
        let entry = &self.requests[request];
        let Some(session) = entry.session.filter(|_| entry.shape.spec.id == id::SELECT) else {
            return false;
        };
        let upstream = self.sessions[session.index()].env.upstream();
        let is_asked = matches!(self.pin_of(request), Pin::Over { .. });
        if is_asked || upstream.databases.is_some() {
            return false;
        }
        self.requests.keep_reply(request, NOT_KNOWN);
        self.requests[request].blocked_by = None;
        self.park(request, raw, self.now.after(PAUSE));
        true
    }

    /// Carries out a SELECT whose turn has come. The connection over which keys are watched goes to the database, too, as a
    /// transaction will be executed over it; it has no other user any more.
    pub(super) fn select_now(
        &mut self,
        request: RequestKey,
        session: SessionKey,
        raw: &[u8],
        args: Args<'_>,
    ) {
        let Pin::Over { link: key, .. } = self.pin_of(request) else {
            let spec = self.requests[request].shape.spec;
            return self.answer_now(request, session, spec, args);
        };
        self.count_request(request, raw.len());
        let link = &mut self.links[key.index()];
        link.push(Owed::Select(request), raw, self.now);
        if let Some(private) = &mut link.private {
            private.used_up = true;
        }
        let entry = &mut self.requests[request];
        entry.state = State::Sent(key);
        entry.sent = self.now;
        self.mark_link_dirty(key);
    }

    /// The node's reply to a SELECT over a private link.
    pub(super) fn on_select_reply(
        &mut self,
        key: LinkKey,
        request: RequestKey,
        entry: &InFlight,
        reply: &[u8],
    ) {
        let link = &mut self.links[key.index()];
        let database = database_in(link.request(entry));
        link.pop();
        self.count_answer(key, request, entry, reply.len());
        if reply.first() == Some(&b'-') {
            return self.fail(request, reply, Outcome::NodeError, false);
        }
        if let (Some(session), Some(database)) = (self.requests[request].session, database) {
            self.links[key.index()].database = database;
            self.set_database(session, database);
        }
        self.complete(request, reply, Outcome::Ok, false);
    }

    /// The database that a SELECT in a transaction leads to, for a node to carry out. None if it fails or changes nothing, which the
    /// proxy can say itself.
    pub(super) fn selected(&self, session: SessionKey, args: Args<'_>) -> Option<u16> {
        let session = &self.sessions[session.index()];
        let databases = session.env.upstream().databases;
        let is_only = databases.as_ref().is_some_and(|known| known.count == 1);
        let index = args.get(1).unwrap_or_default();
        let chosen = choose_database(index, databases.as_ref()).ok();
        chosen.filter(|_| !is_only || session.client.database > 0)
    }

    /// Sends a transaction with a SELECT in it, whose turn has come, over a link that is closed afterwards [M4].
    pub(super) fn dispatch_apart(&mut self, key: RequestKey, raw: Option<&[u8]>) {
        if let Some((link, asking)) = self.borrow_link(key, raw) {
            self.send_apart(link, key, raw, asking);
        }
    }

    pub(super) fn send_apart(
        &mut self,
        link_key: LinkKey,
        key: RequestKey,
        raw: Option<&[u8]>,
        asking: bool,
    ) {
        let link = &mut self.links[link_key.index()];
        if asking {
            link.push(Owed::Asking, ASKING, self.now);
        }
        if let Some(private) = &mut link.private {
            private.used_up = true;
        }
        let request = &mut self.requests[key];
        push_unit(link, key, request, raw, self.now);
        request.state = State::Sent(link_key);
        request.sent = self.now;
        request.detour = None;
        self.mark_link_dirty(link_key);
    }

    /// A transaction was executed: its session is in the database that the last SELECT in it that succeeded has led to.
    pub(super) fn follow_selects(
        &mut self,
        request: RequestKey,
        reply: &[u8],
        selects: &[Selected],
    ) {
        let (Some(session), Some(mut rest)) = (self.requests[request].session, elements(reply))
        else {
            return;
        };
        let mut selects = selects.iter().peekable();
        let mut scanner = ReplyScanner::default();
        let (mut position, mut database) = (0, None);
        while let (Some(next), Ok(Some(end))) = (selects.peek(), scanner.scan(rest)) {
            let (element, behind) = rest.split_at(end);
            if next.position == position {
                if element.first() == Some(&b'+') {
                    database = Some(next.database);
                }
                selects.next();
            }
            rest = behind;
            position += 1;
        }
        if let Some(database) = database {
            self.set_database(session, database);
        }
    }

    fn set_database(&mut self, session: SessionKey, database: u16) {
        let state = &mut self.sessions[session.index()];
        let before = std::mem::replace(&mut state.client.database, database);
        // From here on other links are used: the order of outstanding requests needs a look [O1].
        state.sent_generation = Session::MIXED;
        let env = Rc::clone(&state.env);
        env.client_changed(&state.client);
        self.follow_database(session, before);
    }

    #[inline]
    pub(super) fn route_over(&self, link: LinkKey) -> Route {
        if self.links[link.index()].is_ready() {
            Route::Ready(link)
        } else {
            Route::Coming(link)
        }
    }

    pub(super) fn open_link(
        &mut self,
        node: NodeKey,
        database: u16,
        protocol: Protocol,
        index: usize,
    ) -> Route {
        if let Some(route) = self.not_now(node) {
            return route;
        }
        if let Some(tracker) = self.tracker_at(index) {
            return self.open_tracking_link(node, database, protocol, tracker);
        }
        let address = self.nodes[node].address.clone();
        let mut link = Link::connecting(node, protocol, self.now);
        link.database = database;
        link.bulk = index >= self.limits.links_per_node;
        let link = LinkKey::from_index(self.links.insert(link));
        let place = Place::new(database, protocol, index);
        self.nodes[node].set_link(place, link);
        self.actions.push_back(Action::Connect { link, address });
        Route::Coming(link)
    }

    /// As [`Self::link_to`], in another database than 0.
    #[cold]
    pub(super) fn link_in_database(
        &mut self,
        node: NodeKey,
        database: u16,
        protocol: Protocol,
        index: usize,
    ) -> Route {
        let place = Place::new(database, protocol, index);
        if let Some(link) = self.nodes[node].link_anywhere(place) {
            return self.route_over(link);
        }
        let is_crowded = || self.shared_in_databases(node).count() >= LINKS;
        if self.tracker_at(index).is_none() && is_crowded() && !self.close_longest_idle(node) {
            return Route::Crowded(self.now.after(PAUSE));
        }
        self.open_link(node, database, protocol, index)
    }

    /// The links in other databases than 0, but for those of sessions that track keys, which are limited as private ones are.
    fn shared_in_databases(&self, node: NodeKey) -> impl Iterator<Item = LinkKey> {
        let links = self.nodes[node].in_databases().values().copied();
        links.filter(|link| self.links[link.index()].tracks.is_none())
    }

    /// Makes room for a link in another database; whether there was one that was not in use.
    fn close_longest_idle(&mut self, node: NodeKey) -> bool {
        let idle = self
            .shared_in_databases(node)
            .filter(|link| is_idle(&self.links[link.index()]))
            .min_by_key(|link| self.links[link.index()].progress);
        if let Some(link) = idle {
            self.lose_link(link, LinkLoss::Retired);
        }
        idle.is_some()
    }

    /// Parks a request that no link can be opened for, as too many are in other databases.
    pub(super) fn park_crowded(
        &mut self,
        node: NodeKey,
        key: RequestKey,
        raw: Option<&[u8]>,
        time: Timestamp,
    ) {
        if self.requests[key].reply.is_empty() {
            self.requests.keep_reply(key, CROWDED);
        }
        self.park_for(node, key, raw, time);
    }
}

fn is_idle(link: &Link) -> bool {
    link.is_ready() && link.owed() == 0 && link.waiting.is_empty()
}

/// Whether a link is in another database than 0 that is not in use any more.
pub(super) fn is_rarely_used(link: &Link, idle: Duration) -> bool {
    link.database > 0 && !link.detached && link.tracks.is_none() && idle >= IDLE
}

/// What those are told who wait for a link that its node does not give the database they want.
pub(super) fn missing_database(loss: &LinkLoss) -> Option<Vec<u8>> {
    let LinkLoss::Handshake(HandshakeFailure::Database(text)) = loss else {
        return None;
    };
    let mut error = Vec::new();
    write::error(&mut error, text.as_bytes());
    Some(error)
}

/// The database that a SELECT, in RESP, is about.
fn database_in(select: &[u8]) -> Option<u16> {
    let mut words = select.split(|byte| *byte == b'\n');
    let index = words.nth(4)?.trim_ascii_end();
    choose_database(index, None).ok()
}

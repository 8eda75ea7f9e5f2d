//! WATCH, and the transactions that depend on it [W1]-[W7].
//!
//! The first WATCH takes a private link; the keys are watched over it, and EXEC goes over it. Everything else goes its ordinary way:
//! WATCH and EXEC are barriers, so what comes between them is executed between them, and a write of the client's own is noticed by
//! the node over whichever connection it comes [W2].
//!
//! When the link is lost, or the slot has another owner, nobody knows whether a watched key has changed: EXEC is answered as if one
//! had, with nothing executed [W5]. Clients of optimistic transactions try again by themselves.

use super::dispatch::{ASKING, KEPT_BODY};
use super::links::LinkLoss;
use super::request::{Launch, Shape, State};
use super::unit::push_unit;
use super::{Engine, LinkKey, RequestKey, SessionKey};
use crate::backend::{InFlight, Owed, Private, give_back};
use crate::command::{KeyList, KeyOutcome, Lookup, Spec, extract_keys, lookup};
use crate::metrics::Outcome;
use crate::resp::{Args, DecodeStep, RequestDecoder, RequestLimits, write};
use crate::router::{self, KeyHash, Plan, Reject};
use crate::session::Session;
use crate::session::watch::Pin;
use crate::slot::Slot;

const OK: &[u8] = b"+OK\r\n";
const UNWATCH: &[u8] = b"*1\r\n$7\r\nUNWATCH\r\n";

/// What a WATCH is told whose connections are lost again and again. It has no effect that could be in doubt.
const NOT_WATCHED: &[u8] = b"-ERR proxy: backend connection lost, command not executed\r\n";

impl Engine {
    /// WATCH: all keys up to the next EXEC are in one slot.
    pub(super) fn watch(
        &mut self,
        session: SessionKey,
        spec: &'static Spec,
        raw: &[u8],
        args: Args<'_>,
    ) {
        let mut keys: KeyList = std::mem::take(&mut self.keys);
        let plan = router::plan_watch(spec, args, &mut keys, &self.keyspace);
        keys.clear();
        self.keys = keys;
        let watched = self.watched_slot(session);
        let slot = match plan {
            Plan::Single { slot, .. } if self.keyspace.undivided => watched.unwrap_or(slot),
            Plan::Single { slot, .. } if watched.is_none_or(|watched| watched == slot) => slot,
            _ => return self.reject(session, spec, Reject::CrossSlot, args),
        };
        let state = &mut self.sessions[session.index()];
        state.watch.get_or_insert_default().slot = Some(slot);
        let shape = shape(spec, slot, Launch::Watch, state);
        let request = self.enqueue(session, shape, raw);
        self.start(session, request, Some(raw));
    }

    /// The slot of the keys that the client has watched, as far as its commands were taken.
    pub(super) fn watched_slot(&mut self, session: SessionKey) -> Option<Slot> {
        let state = &mut self.sessions[session.index()];
        let watch = state.watch.as_ref()?;
        if state.barriers == 0 && watch.pin == Pin::None {
            // Its WATCH has failed, as it was told.
            state.watch = None;
            return None;
        }
        watch.slot
    }

    /// The command just taken, an EXEC, is the last one for which the watched keys count. Whether there are some.
    pub(super) fn take_watched(&mut self, session: SessionKey) -> bool {
        let watch = self.sessions[session.index()].watch.as_mut();
        watch.is_some_and(|watch| watch.slot.take().is_some())
    }

    /// Has the keys of the client, which must have watched some, watched no longer when it is the turn of this command, which is then
    /// answered with `reply`.
    pub(super) fn unwatch(&mut self, session: SessionKey, spec: &'static Spec, reply: &[u8]) {
        let state = &mut self.sessions[session.index()];
        let slot = state.watch.as_mut().and_then(|watch| watch.slot.take());
        let slot = slot.unwrap_or_else(|| Slot::of_key(b""));
        let shape = shape(spec, slot, Launch::Unwatch, state);
        let request = self.enqueue(session, shape, b"");
        self.requests.keep_reply(request, reply);
        self.recount_reply(request, reply.len());
        self.start(session, request, None);
    }

    /// Sends a WATCH, whose turn has come.
    pub(super) fn dispatch_watch(&mut self, key: RequestKey, raw: Option<&[u8]>) {
        match self.pin_of(key) {
            Pin::Broken => self.complete(key, OK, Outcome::Ok, false),
            // That node may not have these keys yet, and would not say so.
            Pin::Over { link, .. } if self.is_asking(link) => {
                if let Some(session) = self.requests[key].session {
                    self.break_watch(session);
                }
                self.complete(key, OK, Outcome::Ok, false);
            }
            Pin::Over { link, .. } => self.send_watch(link, key, raw, false),
            Pin::None => {
                if let Some((link, asking)) = self.borrow_link(key, raw) {
                    self.send_watch(link, key, raw, asking);
                }
            }
        }
    }

    /// Whether keys are watched over the link where their slot is going to be.
    fn is_asking(&self, link: LinkKey) -> bool {
        let private = self.links[link.index()].private.as_ref();
        private.is_some_and(|private| private.asking)
    }

    pub(super) fn pin_of(&self, key: RequestKey) -> Pin {
        let session = self.requests[key].session;
        let watch = session.and_then(|session| self.sessions[session.index()].watch.as_ref());
        watch.map(|watch| watch.pin).unwrap_or_default()
    }

    /// Writes a WATCH into the log of a private link that is ready.
    pub(super) fn send_watch(
        &mut self,
        link_key: LinkKey,
        key: RequestKey,
        raw: Option<&[u8]>,
        asking: bool,
    ) {
        let link = &mut self.links[link_key.index()];
        let request = &mut self.requests[key];
        let mut asked_for = Vec::new();
        if asking {
            link.push(Owed::Asking, ASKING, self.now);
            asked_for =
                keys_of(raw.unwrap_or(&request.body), &self.limits.request).unwrap_or_default();
        }
        match raw {
            Some(raw) => link.push(Owed::Watch(key), raw, self.now),
            None => link.push_body(Owed::Watch(key), &mut request.body, self.now),
        }
        give_back(&mut request.body, KEPT_BODY);
        if let Some(private) = &mut link.private {
            private.asking = asking;
            private.asked_for = asked_for;
            private.watches = true;
        }
        request.state = State::Sent(link_key);
        request.sent = self.now;
        request.detour = None;
        self.mark_link_dirty(link_key);
    }

    /// The reply to a WATCH.
    pub(super) fn on_watch_reply(
        &mut self,
        key: LinkKey,
        request: RequestKey,
        entry: InFlight,
        reply: &[u8],
    ) {
        let is_error = reply.first() == Some(&b'-');
        let refusal = self.refusal_of(request, reply).filter(|_| is_error);
        let link = &mut self.links[key.index()];
        let node = link.node;
        if refusal.is_some() {
            link.release_answered();
            link.take_body(&entry, &mut self.requests[request].body);
            link.pop();
            link.release_answered();
        } else {
            link.pop();
        }
        let pinned = link.private.as_ref().and_then(|private| private.pinned);
        if let Some(private) = &mut link.private
            && is_error
        {
            // It watches what it has watched before.
            private.watches = pinned.is_some();
        }
        match (refusal, pinned) {
            (Some(_), Some(session)) => {
                self.break_watch(session);
                self.complete(request, OK, Outcome::Ok, false);
            }
            (Some(refusal), None) => self.on_refusal(node, request, &refusal, reply),
            (None, _) => {
                self.count_answer(key, request, &entry, reply.len());
                if is_error {
                    self.fail(request, reply, Outcome::NodeError, true);
                } else {
                    self.pin(key, request);
                    self.complete(request, reply, Outcome::Ok, true);
                }
            }
        }
    }

    /// Keeps the link over which `request` has watched its keys for its session.
    fn pin(&mut self, key: LinkKey, request: RequestKey) {
        let request = &self.requests[request];
        let slot = request.shape.slot;
        let Some(session) = request.session else {
            return;
        };
        // It is gone if a command behind this one, which was taken already, ends the watching.
        let watch = self.sessions[session.index()].watch.get_or_insert_default();
        if watch.pin == Pin::None
            && let Some(private) = &mut self.links[key.index()].private
        {
            private.pinned = Some(session);
            watch.pin = Pin::Over { link: key, slot };
        }
    }

    /// The connection that a WATCH was sent over is lost. Watching twice is watching once; but what was watched over it before may have
    /// changed.
    pub(super) fn on_watch_lost(&mut self, key: RequestKey) {
        if self.pin_of(key) == Pin::Broken {
            return self.complete(key, OK, Outcome::Ok, false);
        }
        let request = &mut self.requests[key];
        request.redirects += 1;
        if request.redirects > self.limits.max_redirects {
            self.fail(key, NOT_WATCHED, Outcome::Unavailable, false);
        } else {
            self.reroute(key);
        }
    }

    /// Sends a transaction with watched keys, whose turn has come, to where they are watched [W3]. Whatever it is answered, they are
    /// watched no longer.
    pub(super) fn dispatch_watched(&mut self, key: RequestKey, raw: Option<&[u8]>) {
        let pin = self.pin_of(key);
        if let Some(session) = self.requests[key].session {
            self.set_pin(session, Pin::None);
        }
        match pin {
            // The WATCH has failed, as its client was told.
            Pin::None => {
                self.requests[key].shape.launch = Launch::Unit;
                self.dispatch(key, raw);
            }
            Pin::Broken => self.refuse_watched(key),
            Pin::Over { link, .. }
                if self.is_not_as_it_was(link, key)
                    || self.reaches_beyond_watched(link, key, raw) =>
            {
                self.unwatch_link(link);
                self.refuse_watched(key);
            }
            Pin::Over { link, .. } => self.send_watched(link, key, raw),
        }
    }

    /// Whether the session has changed its RESP version since it watched its keys; or its database, which the link would have followed
    /// it to.
    fn is_not_as_it_was(&self, link: LinkKey, key: RequestKey) -> bool {
        let (link, shape) = (&self.links[link.index()], &self.requests[key].shape);
        (link.protocol, link.database) != (shape.protocol, shape.database)
    }

    /// Whether the transaction has keys that may not be where those are that were watched with ASKING. The node would take them, as one
    /// command with one key that it does not have is how a key comes to where its slot is going to be; its owner may have them still.
    fn reaches_beyond_watched(&self, link: LinkKey, key: RequestKey, raw: Option<&[u8]>) -> bool {
        let private = self.links[link.index()].private.as_ref();
        let Some(private) = private.filter(|private| private.asking) else {
            return false;
        };
        let unit = raw.unwrap_or(&self.requests[key].body);
        let keys = keys_of(unit, &self.limits.request);
        keys.is_none_or(|keys| !keys.iter().all(|key| private.asked_for.contains(key)))
    }

    fn send_watched(&mut self, link_key: LinkKey, key: RequestKey, raw: Option<&[u8]>) {
        let link = &mut self.links[link_key.index()];
        let private = link.private.take().unwrap_or_default();
        if private.asking {
            link.push(Owed::Asking, ASKING, self.now);
        }
        let request = &mut self.requests[key];
        link.private = Some(Private {
            used_up: private.used_up || request.selects(),
            ..Private::default()
        });
        push_unit(link, key, request, raw, self.now);
        request.state = State::Sent(link_key);
        request.sent = self.now;
        self.mark_link_dirty(link_key);
    }

    /// Ends a transaction that was not executed as if a watched key had changed [W5] [W6].
    pub(super) fn refuse_watched(&mut self, key: RequestKey) {
        let mut nothing = Vec::new();
        write::null_array(&mut nothing, self.requests[key].shape.protocol);
        self.complete(key, &nothing, Outcome::Ok, false);
    }

    /// The turn of a command has come after which no key is watched.
    pub(super) fn unwatch_now(&mut self, key: RequestKey) {
        if let Some(session) = self.requests[key].session {
            if let Pin::Over { link, .. } = self.pin_of(key) {
                self.unwatch_link(link);
            }
            self.set_pin(session, Pin::None);
        }
        let reply = std::mem::take(&mut self.requests[key].reply);
        let outcome = if reply.first() == Some(&b'-') {
            Outcome::Refused
        } else {
            Outcome::Ok
        };
        self.complete(key, &reply, outcome, false);
    }

    fn set_pin(&mut self, session: SessionKey, pin: Pin) {
        let state = &mut self.sessions[session.index()];
        if let Some(watch) = &mut state.watch {
            watch.pin = pin;
            if watch.slot.is_none() && pin == Pin::None {
                state.watch = None;
            }
        }
    }

    /// Has a link that is kept for a session watch nothing any more: it is given back when the node has said so [W4].
    fn unwatch_link(&mut self, key: LinkKey) {
        let link = &mut self.links[key.index()];
        link.private = link.private.take().map(|private| Private {
            used_up: private.used_up,
            ..Private::default()
        });
        link.push(Owed::Nobody, UNWATCH, self.now);
        self.mark_link_dirty(key);
    }

    /// What the session has watched may have changed, unnoticed.
    fn break_watch(&mut self, session: SessionKey) {
        let watch = self.sessions[session.index()].watch.as_ref();
        if let Some(Pin::Over { link, .. }) = watch.map(|watch| watch.pin) {
            self.unwatch_link(link);
            self.set_pin(session, Pin::Broken);
        }
    }

    /// The link that is kept for the session is lost.
    pub(super) fn lose_watch(&mut self, session: SessionKey) {
        self.set_pin(session, Pin::Broken);
    }

    /// The topology just adopted names other owners for some slots: what was watched at the old ones does not count [W5]. Keys watched
    /// with ASKING are where their slot is going to be.
    pub(super) fn break_moved_watches(&mut self) {
        let moved = self.links.iter().filter_map(|(_, link)| {
            let private = link.private.as_ref().filter(|private| !private.asking)?;
            let session = private.pinned?;
            let watch = self.sessions[session.index()].watch.as_ref()?;
            let Pin::Over { slot, .. } = watch.pin else {
                return None;
            };
            let owner = self.nodes.owner(&self.snapshot, slot);
            (owner != Some(link.node)).then_some(session)
        });
        let moved: Vec<SessionKey> = moved.collect();
        for session in moved {
            self.break_watch(session);
        }
    }

    /// The client that has watched keys is gone.
    pub(super) fn drop_watch(&mut self, session: &Session) {
        let pin = session.watch.as_ref().map(|watch| watch.pin);
        if let Some(Pin::Over { link, .. }) = pin {
            self.links[link.index()].private = Some(Private::default());
            self.lose_link(link, LinkLoss::Retired);
        }
    }
}

/// A barrier, as WATCH and all that ends it are [O7].
fn shape(spec: &'static Spec, slot: Slot, launch: Launch, session: &Session) -> Shape {
    Shape {
        spec,
        slot,
        key: KeyHash::ALL,
        keyed: true,
        barrier: true,
        launch,
        protocol: session.client.protocol,
        database: session.client.database,
    }
}

/// The keys of the commands in `bytes`; `None` if they cannot be made out.
fn keys_of(bytes: &[u8], limits: &RequestLimits) -> Option<Vec<KeyHash>> {
    let (mut decoder, mut keys) = (RequestDecoder::default(), KeyList::default());
    let (mut rest, mut found) = (bytes, Vec::new());
    while !rest.is_empty() {
        let Ok(DecodeStep::Command { len }) = decoder.decode(rest, limits) else {
            return None;
        };
        let (command, behind) = rest.split_at_checked(len)?;
        let args = Args::new(command, decoder.ranges());
        let Lookup::Known(spec) = lookup(args) else {
            return None;
        };
        match extract_keys(spec, args, &mut keys) {
            KeyOutcome::Keys => {
                let names = keys.as_slice().iter();
                found.extend(names.filter_map(|index| args.get(*index as usize).map(KeyHash::of)));
            }
            KeyOutcome::NoKeys => {}
            KeyOutcome::OddArguments | KeyOutcome::Verbatim | KeyOutcome::AskServer => return None,
        }
        rest = behind;
    }
    Some(found)
}

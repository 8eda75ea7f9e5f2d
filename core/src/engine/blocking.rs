//! Commands that may wait at the node: BLPOP and its kind, XREAD and XREADGROUP with BLOCK [B1]-[B8] [B11]-[B13].
//!
//! Such a request is a barrier of its session, as it is at a server. It is sent over a private link, which carries nothing else until
//! it is answered, however long that takes. A refusal says that nothing was popped: it is sent again, for what is left of its time.
//! If the link is lost, an element may have been popped and be lost with it; only XREAD, which takes nothing, is sent again. It is the
//! same call: `$` means what is last by then.
//!
//! When the client is gone, so is its private link, at once: an element popped for nobody is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::BytesMut;

use super::dispatch::{ASKING, KEPT_BODY};
use super::links::LinkLoss;
use super::request::{Extra, Launch, Shape, State};
use super::unblock::Unblock;
use super::{Engine, LinkKey, NodeKey, RequestKey, SessionKey};
use crate::backend::{InFlight, Link, Owed, give_back};
use crate::command::{Spec, timeout, write_with_timeout};
use crate::metrics::{CloseReason, Outcome};
use crate::reply::{Asked, Refusal, classify};
use crate::resp::{Args, DecodeStep, RequestDecoder, RequestLimits, write};
use crate::router::KeyHash;
use crate::session::Session;
use crate::slot::Slot;
use crate::time::Timestamp;

/// So little of its time gone, a call is sent as it is.
const NEGLIGIBLE: Duration = Duration::from_millis(10);

/// A refusal comes at once: after this time the node had let the request wait, and what went before it counts no more.
const ADMITTED: Duration = Duration::from_secs(1);

/// What a server tells those who wait there when it is no primary any more, before it closes their connections.
const FORCED: &[u8] = b"-UNBLOCKED force unblock ";

/// What it would tell others from then on, who do not wait.
const READ_ONLY: &[u8] = b"-READONLY You can't write against a read only replica.\r\n";

/// How long a request may wait at its node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait {
    /// `None` is for ever, or until a node refuses what it says.
    limit: Option<Duration>,
    /// Its turn came then: at a server it would wait since.
    began: Option<Timestamp>,
    /// It is to end.
    pub(super) unblock: Option<Unblock>,
}

impl Wait {
    /// One that began now.
    pub(super) const fn begun(limit: Option<Duration>, now: Timestamp) -> Self {
        Self {
            limit,
            began: Some(now),
            unblock: None,
        }
    }

    /// When it is over.
    pub(super) fn until(&self) -> Timestamp {
        match (self.began, self.limit) {
            (Some(began), Some(limit)) => began.after(limit),
            _ => Timestamp::NEVER,
        }
    }
}

impl Engine {
    /// A command that may wait at the node of `slot`, or of any if its keys cannot be made out.
    pub(super) fn block(
        &mut self,
        session: SessionKey,
        spec: &'static Spec,
        slot: Option<Slot>,
        raw: &[u8],
        args: Args<'_>,
    ) {
        let shape = Shape {
            spec,
            slot: slot.unwrap_or_else(|| self.any_slot(session)),
            key: KeyHash::ALL,
            keyed: slot.is_some(),
            barrier: true,
            launch: Launch::Blocking,
            protocol: self.sessions[session.index()].client.protocol,
            database: self.sessions[session.index()].client.database,
        };
        let request = self.enqueue(session, shape, raw);
        // Many wait for little: what they may get would leave no room for the replies of others.
        self.recount_reply(request, 0);
        let wait = Wait {
            limit: timeout(spec, args),
            began: None,
            unblock: None,
        };
        self.requests[request].extra = Some(Box::new(Extra::Wait(wait)));
        if !spec.is_write() {
            self.note_untracked(session);
        }
        self.start(session, request, Some(raw));
    }

    /// Sends a blocking request, whose turn has come, to where it is to wait.
    pub(super) fn dispatch_blocking(&mut self, key: RequestKey, raw: Option<&[u8]>) {
        if let Some(session) = self.requests[key].session
            && let Some(reason) = self.is_leaving(session)
        {
            self.hold(key, raw);
            return self.cut_off_blocked(session, reason);
        }
        self.begin_wait(key);
        if self.is_waited_out(key) {
            return self.time_out(key);
        }
        if let Some((link, asking)) = self.borrow_link(key, raw) {
            self.send_blocking(link, key, raw, asking);
        }
    }

    fn begin_wait(&mut self, key: RequestKey) {
        let now = self.now;
        let request = &mut self.requests[key];
        if let Some(Extra::Wait(wait)) = request.extra.as_deref_mut()
            && wait.began.is_none()
        {
            wait.began = Some(now);
            request.arrival = now;
            if let Some(session) = request.session {
                self.tell_waiting(session, true);
            }
        }
    }

    /// Others are to know whether the client waits: CLIENT LIST, CLIENT UNBLOCK.
    pub(super) fn tell_waiting(&self, session: SessionKey, waits: bool) {
        let session = &self.sessions[session.index()];
        session.env.client_waits(session.client.id, waits);
    }

    /// Whether the time of a blocking request is over.
    pub(super) fn is_waited_out(&self, key: RequestKey) -> bool {
        let wait = self.requests[key].wait();
        wait.is_some_and(|wait| wait.until() <= self.now)
    }

    /// Answers as the node would when nothing has come in time.
    pub(super) fn time_out(&mut self, key: RequestKey) {
        let mut nothing = Vec::new();
        let launch = self.requests[key].shape.launch;
        if matches!(launch, Launch::Acks | Launch::AcksOfNode) {
            nothing = self.no_acks(key);
        } else {
            write::null_array(&mut nothing, self.requests[key].shape.protocol);
        }
        self.complete(key, &nothing, Outcome::Ok, false);
    }

    /// Writes a blocking request into the log of a private link that is ready, with the time it has left [B4].
    pub(super) fn send_blocking(
        &mut self,
        link_key: LinkKey,
        key: RequestKey,
        raw: Option<&[u8]>,
        asking: bool,
    ) {
        let raw = if self.has_less_time(key) {
            self.keep_body(key, raw);
            self.shorten(key);
            None
        } else {
            raw
        };
        let link = &mut self.links[link_key.index()];
        let request = &mut self.requests[key];
        if asking {
            link.push(Owed::Asking, ASKING, self.now);
        }
        match raw {
            Some(raw) => link.push(Owed::Blocked(key), raw, self.now),
            None => link.push_body(Owed::Blocked(key), &mut request.body, self.now),
        }
        give_back(&mut request.body, KEPT_BODY);
        request.state = State::Sent(link_key);
        request.sent = self.now;
        request.detour = None;
        self.mark_link_dirty(link_key);
    }

    pub(super) fn has_less_time(&self, key: RequestKey) -> bool {
        let wait = self.requests[key].wait();
        let began = wait.and_then(|wait| wait.limit.and(wait.began));
        began.is_some_and(|began| self.now.since(began) >= NEGLIGIBLE)
    }

    /// Has a request, which has its own copy of its bytes, say what is left of its time.
    pub(super) fn shorten(&mut self, key: RequestKey) {
        let request = &mut self.requests[key];
        let Some(Extra::Wait(wait)) = request.extra.as_deref() else {
            return;
        };
        let left = wait.until().since(self.now);
        let mut decoder = RequestDecoder::default();
        let step = decoder.decode(&request.body, &RequestLimits::DEFAULT);
        if !matches!(step, Ok(DecodeStep::Command { .. })) {
            return;
        }
        let args = Args::new(&request.body, decoder.ranges());
        let mut shorter = Vec::new();
        write_with_timeout(request.shape.spec, args, left, &mut shorter);
        request.body = BytesMut::from(&*shorter);
        self.count_request(key, shorter.len());
    }

    /// The reply to a blocking request.
    pub(super) fn on_blocked_reply(
        &mut self,
        key: LinkKey,
        request: RequestKey,
        entry: InFlight,
        reply: &[u8],
    ) {
        let shape = self.requests[request].shape;
        let is_forced = reply.starts_with(FORCED);
        let asked = Asked {
            slot: shape.keyed.then_some(shape.slot),
            scripted: false,
        };
        let refusal = if is_forced {
            Some(Refusal::Demoted)
        } else {
            classify(reply, asked)
        };
        let link = &mut self.links[key.index()];
        if let Some(refusal) = refusal {
            if let Some(private) = &mut link.private {
                private.used_up |= is_forced;
            }
            let node = link.node;
            link.release_answered();
            link.take_body(&entry, &mut self.requests[request].body);
            link.pop();
            link.release_answered();
            if self.is_unblocked(request) {
                return self.end_unblocked(request);
            }
            self.note_waited(request);
            let said = if is_forced { READ_ONLY } else { reply };
            return self.on_refusal(node, request, &refusal, said);
        }
        link.pop();
        // To wait is what it was asked for: no delay of the node or the proxy, as servers do not count it either.
        let now = self.now;
        let state = &mut self.requests[request];
        (state.arrival, state.sent, state.backend_micros) = (now, now, 0);
        self.count_answer(key, request, &entry, reply.len());
        if reply.first() == Some(&b'-') {
            self.fail(request, reply, Outcome::NodeError, true);
        } else {
            self.complete(request, reply, Outcome::Ok, true);
        }
    }

    /// How many clients wait at nodes: WAIT does so at several.
    pub(super) fn blocked_clients(&self) -> usize {
        let links = self.links.iter();
        let waiting = links.filter_map(|(_, link)| self.requests[link.blocked()?].session);
        waiting.collect::<BTreeSet<SessionKey>>().len()
    }

    /// The links over which a client waits at a node that is a primary.
    pub(super) fn blocked_at_primaries(&self) -> Vec<LinkKey> {
        let links = self.links.iter();
        let blocked = links.filter(|(_, link)| link.is_blocked() && self.nodes[link.node].primary);
        blocked
            .map(|(index, _)| LinkKey::from_index(index))
            .collect()
    }

    /// A new topology was adopted; `blocked` is what [`Self::blocked_at_primaries`] said before. A node that is no primary any more
    /// tells those who wait there so itself, if it knows; it has a while for that [B11].
    pub(super) fn note_demotions(&mut self, blocked: &[LinkKey]) {
        for key in blocked {
            let node = self.links[key.index()].node;
            let is_demoted = !self.nodes[node].primary && !self.has_moved(node);
            if let Some(private) = &mut self.links[key.index()].private
                && is_demoted
            {
                private.demoted_at = Some(self.now);
            }
        }
    }

    /// Whether the node is a primary under another address: it goes on with what waits there.
    pub(super) fn has_moved(&self, node: NodeKey) -> bool {
        let id = &self.nodes[node].id;
        let mut primaries = self.nodes.primaries().iter();
        id.is_some() && primaries.any(|primary| self.nodes[*primary].id == *id)
    }

    /// A call that waited is over: what its client has sent behind it begins to wait now, for a node or for a reply. It was taken
    /// already only because so the end of the client is noticed.
    #[cold]
    pub(super) fn begin_behind(&mut self, session: SessionKey) {
        for key in &self.sessions[session.index()].queue {
            let request = &mut self.requests[*key];
            if request.state == State::Held {
                request.arrival = self.now;
            }
        }
    }

    /// Whether what a client waits for over this link will not come: nobody pushes to a node that is no primary.
    pub(super) fn is_waiting_in_vain(&self, link: &Link) -> bool {
        let demoted_at = link.private.as_ref().and_then(|private| private.demoted_at);
        let waited = demoted_at.map(|at| self.now.since(at));
        !self.nodes[link.node].primary
            && waited.is_some_and(|waited| waited >= self.limits.demoted_timeout)
    }

    /// A node does not let a blocking request wait any longer. If it did for a while, what is to come is the first that happens.
    pub(super) fn note_waited(&mut self, key: RequestKey) {
        let now = self.now;
        let request = &mut self.requests[key];
        if now.since(request.sent) >= ADMITTED {
            request.arrival = now;
            request.redirects = 0;
            request.resends = 0;
            request.waits = 0;
        }
    }

    /// Why nothing may wait for this client any more: it may not be there to get what is popped for it.
    pub(super) fn is_leaving(&self, session: SessionKey) -> Option<CloseReason> {
        let session = &self.sessions[session.index()];
        let closing = session.closing.filter(|reason| ends_waiting(*reason));
        let draining = self.draining.then_some(CloseReason::Shutdown);
        let hung_up = session.hung_up.then_some(CloseReason::Client);
        session.cut_off.or(closing).or(hung_up).or(draining)
    }

    /// Has a client that waits disconnected at once if `reason` is one for that [B6] [D12].
    pub(super) fn end_waiting(&mut self, key: SessionKey, reason: CloseReason) {
        let session = &self.sessions[key.index()];
        if ends_waiting(reason) && self.is_blocked(session) {
            self.cut_off_blocked(key, reason);
        }
    }

    pub(super) fn cut_off_blocked(&mut self, key: SessionKey, reason: CloseReason) {
        let session = &mut self.sessions[key.index()];
        session.cut_off.get_or_insert(reason);
        self.mark_session_dirty(key);
    }

    /// Whether the oldest request of the session waits at a node, or for one where it can.
    pub(super) fn is_blocked(&self, session: &Session) -> bool {
        session.barriers > 0
            && session.queue.front().is_some_and(|oldest| {
                let oldest = &self.requests[*oldest];
                let has_begun = !matches!(oldest.state, State::New | State::Held);
                let waits = matches!(oldest.shape.launch, Launch::Blocking | Launch::Acks);
                waits && has_begun && !oldest.is_done()
            })
    }

    /// The client of `key` sends nothing more, though not all of what it sent was read. One that waits at a node is gone, as for a
    /// server [B6]; [`Self::must_close`] tells.
    pub fn note_hang_up(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(key.index()) {
            session.hung_up = true;
            self.end_waiting(key, CloseReason::Client);
        }
    }

    /// The client of a request that is at a node is gone: if it waits there, nothing may be popped for it [B6].
    pub(super) fn stop_waiting(&mut self, key: RequestKey) {
        if let State::Sent(link) = self.requests[key].state
            && matches!(
                self.requests[key].shape.launch,
                Launch::Blocking | Launch::AcksOfNode
            )
        {
            self.lose_link(link, LinkLoss::Retired);
        }
    }
}

/// Whether one that waits is disconnected for this reason, with nothing popped for it, instead of being answered first.
const fn ends_waiting(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::Client | CloseReason::Shutdown | CloseReason::SubscriptionLost
    )
}

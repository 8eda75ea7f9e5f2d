//! The life of links to nodes: opened when a request needs one, given up for a fault, closed when their node leaves.

use std::sync::Arc;
use std::time::Duration;

use super::databases::{is_rarely_used, missing_database};
use super::nodes::Place;
use super::private::is_full;
use super::request::{Launch, Retry, State};
use super::resend::UNCERTAIN;
use super::{Action, Engine, LinkKey, NodeKey, RequestKey};
use crate::backend::{Fence, Handshake, HandshakeFailure, Identity, InFlight, LinkPhase, Owed};
use crate::metrics::{Outcome, RetryReason};
use crate::resp::Protocol;
use crate::topology::{Hint, NodeId, RefreshReason};

/// First pause after a failed connection attempt, doubled up to the second value [HL3].
const RECONNECT_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Links for big requests and replies are closed when they were not used for this long.
const BULK_IDLE: Duration = Duration::from_secs(10);

/// How soon requests look again while one connection finds out whether a node is back.
const TRIAL_PAUSE: Duration = Duration::from_millis(10);

/// Pause after a node refused the credentials: trying faster only fills its log.
const AUTHENTICATION_PAUSE: Duration = Duration::from_secs(5);

/// Why a link ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkLoss {
    /// The connection could not be opened.
    ConnectFailed,
    /// The node closed it, or the socket failed.
    Closed,
    /// The node owed replies and was silent for too long.
    Silent,
    /// The node sent something that is no RESP reply, or one too many.
    Protocol(String),
    /// The node did not pass the handshake.
    Handshake(HandshakeFailure),
    /// The node has left the topology and owes nothing.
    Retired,
}

/// How long a node is left alone after an attempt when so many before it have failed.
pub(super) fn reconnect_pause(failures: u32) -> Duration {
    let pause = RECONNECT_PAUSE.0.saturating_mul(1 << failures.min(16));
    pause.min(RECONNECT_PAUSE.1)
}

/// What a request finds where it is to go.
pub(super) enum Route {
    /// A link that takes it now.
    Ready(LinkKey),
    /// A link that is being set up.
    Coming(LinkKey),
    /// No link: the node refused the credentials a moment ago.
    LoginRefused,
    /// No link: there are as many as there may be.
    Full,
    /// No link, and none is attempted before this time.
    NotBefore(crate::time::Timestamp),
    /// No link before this time: too many databases are in use.
    Crowded(crate::time::Timestamp),
}

impl Engine {
    /// The link to `node` in `database` for `protocol` and `index`; one is opened if there is none.
    #[inline(always)]
    pub(super) fn link_to(
        &mut self,
        node: NodeKey,
        database: u16,
        protocol: Protocol,
        index: usize,
    ) -> Route {
        let place = Place::new(database, protocol, index);
        match self.nodes[node].link(place) {
            Some(link) => self.route_over(link),
            None if database > 0 => self.link_in_database(node, database, protocol, index),
            None => self.open_link(node, database, protocol, index),
        }
    }

    /// Why no connection to `node` is opened now.
    pub(super) fn not_now(&self, node: NodeKey) -> Option<Route> {
        let entry = &self.nodes[node];
        if entry.retry_at > self.now {
            return Some(if entry.login_refused {
                Route::LoginRefused
            } else {
                Route::NotBefore(entry.retry_at)
            });
        }
        // One connection finds out whether it is there again [HL3].
        let is_tried = entry.failures > 0 && self.is_being_tried(node);
        is_tried.then(|| Route::NotBefore(self.now.after(TRIAL_PAUSE)))
    }

    pub(super) fn is_being_tried(&self, node: NodeKey) -> bool {
        let node = &self.nodes[node];
        let mut links = node.shared_links().chain(node.feed);
        node.private_opening > 0 || links.any(|link| self.links[link.index()].is_coming())
    }

    /// The connection of `key` is open: the handshake begins.
    pub fn on_link_connected(&mut self, key: LinkKey) {
        let Some(link) = self.links.get_mut(key.index()) else {
            return;
        };
        if !matches!(link.phase, LinkPhase::Connecting) {
            // Given up meanwhile, when there was no connection to close yet.
            return self.actions.push_back(Action::CloseLink(key));
        }
        self.metrics.links_opened += 1;
        let node = &self.nodes[link.node];
        let undivided = self.keyspace.undivided;
        let identity = |id: &NodeId| match undivided {
            true => Identity::Process(Arc::from(id.as_str())),
            false => Identity::Member(Arc::from(id.as_str())),
        };
        let expected = node.id.as_ref().map(identity);
        let fences = if link.probe || link.feed {
            Vec::new()
        } else {
            node.fences.clone()
        };
        let mut handshake = Handshake::new(
            &self.upstream.credentials,
            link.protocol,
            expected,
            fences,
            link.opened,
        )
        .in_database(link.database)
        .reading(node.is_reader() && !undivided && !link.probe)
        .tracking(link.tracks.as_ref().and_then(|it| it.command.clone()));
        let output = handshake.take_output();
        link.push_handshake(&output);
        link.phase = LinkPhase::Handshaking(Box::new(handshake));
        link.progress = self.now;
        self.mark_link_dirty(key);
    }

    /// The handshake is through: what waited is sent, in order.
    pub(super) fn on_link_ready(&mut self, key: LinkKey) {
        let link = &mut self.links[key.index()];
        let node = &mut self.nodes[link.node];
        if let LinkPhase::Handshaking(handshake) = &link.phase {
            link.client_id = handshake.client_id().cloned();
            let killed = |fence: &Fence| handshake.fences().contains(fence);
            if node.fences.iter().any(killed) {
                node.fenced_at = self.now;
            }
            node.fences.retain(|fence| !killed(fence));
        }
        link.phase = LinkPhase::Ready;
        link.ready_at = Some(self.now);
        link.release_written();
        node.heard = self.now;
        if link.probe {
            return self.on_probe_ready(key);
        }
        if link.feed {
            return self.on_feed_ready(key);
        }
        let waiting = std::mem::take(&mut link.waiting);
        node.note_reached();
        let is_reader = node.is_reader();
        let is_upload = link.uploads.is_some();
        let is_private = link.private.is_some();
        let is_tracking = link.tracks.is_some();
        node.private_opening -= usize::from(is_private);
        // Those that have come since its handshake began. A connection for one request has no room for others.
        let fences = node.fences.clone();
        if is_upload && !fences.is_empty() {
            return self.lose_link(key, LinkLoss::Retired);
        }
        for fence in fences {
            self.push_fence(key, &fence);
        }
        if is_upload {
            self.mark_link_dirty(key);
        }
        if is_tracking {
            self.on_tracking_ready(key);
        }
        for request in waiting {
            match self.requests[request].session {
                Some(session) => {
                    let asking = self.requests[request]
                        .detour
                        .is_some_and(|(_, asking)| asking);
                    if is_private {
                        self.send_waiting(key, request, asking);
                    } else {
                        self.send(key, request, None, asking);
                    }
                    self.mark_unsettled(session);
                }
                None => self.requests.remove(request),
            }
        }
        if is_reader {
            self.hurry_reads();
        }
    }

    /// Bytes of a link that are not written yet.
    #[must_use]
    pub fn link_output(&self, key: LinkKey) -> &[u8] {
        match self.links.get(key.index()) {
            Some(link) => match link.uploads {
                Some(session) if link.is_ready() => self.uploadable(link, session),
                _ => link.unwritten(),
            },
            None => &[],
        }
    }

    /// The kernel accepted the first `count` bytes of [`Self::link_output`].
    pub fn on_link_written(&mut self, key: LinkKey, count: usize) {
        if let Some(link) = self.links.get_mut(key.index()) {
            self.metrics.upstream_written_bytes += count as u64;
            link.mark_written(count);
        }
    }

    /// The connection of `key` is gone, for whichever side's reason. The key is free afterwards.
    pub fn on_link_closed(&mut self, key: LinkKey, loss: LinkLoss) {
        if !self.links.contains(key.index()) {
            return;
        }
        self.give_up(key, loss);
        if let Some((buffer, size)) = self.links.remove(key.index()).into_upload() {
            self.drop_elsewhere(buffer, size);
        }
        self.run_pending();
    }

    /// Gives up a link whose connection is still open.
    pub(super) fn lose_link(&mut self, key: LinkKey, loss: LinkLoss) {
        self.give_up(key, loss);
        self.actions.push_back(Action::CloseLink(key));
    }

    /// Ends the use of a link; its requests go back to routing or end, one by one [D1]-[D4].
    fn give_up(&mut self, key: LinkKey, loss: LinkLoss) {
        let link = &mut self.links[key.index()];
        if matches!(link.phase, LinkPhase::Closed) {
            return;
        }
        let was_ready = link.is_ready();
        link.phase = LinkPhase::Closed;
        let node = link.node;
        let probe = link.probe;
        let waiting = std::mem::take(&mut link.waiting);
        let uploads = link.uploads.take();
        self.nodes[node].detach(key);
        if probe {
            return;
        }
        if self.links[key.index()].feed {
            return self.on_feed_lost(key, &loss);
        }
        if let Some(session) = uploads {
            self.fail_upload(session);
        }
        self.on_private_lost(key, was_ready);
        let is_tracking = self.links[key.index()].tracks.is_some();
        self.on_tracking_lost(key, was_ready);
        let link = &self.links[key.index()];
        if matches!(loss, LinkLoss::Silent | LinkLoss::Protocol(_))
            && link.may_execute()
            && let (Some(id), Some(since)) = (&link.client_id, link.ready_at)
        {
            let fence = Fence::new(id.clone(), since);
            self.fence_open_links(node, &fence);
            self.nodes[node].fences.push(fence);
            self.spoil_private_links(node);
        }
        let missing_resp3 = matches!(loss, LinkLoss::Handshake(HandshakeFailure::NoResp3));
        let is_refused = self.is_refused_at_full_node(key, is_tracking, &loss);
        let missing_database = missing_database(&loss);
        if !is_refused && missing_database.is_none() {
            self.note_loss(node, &loss);
        } else if is_tracking && is_full(&loss) {
            self.note_full_for_tracking(node);
        }
        let link = &mut self.links[key.index()];
        if link.passage.take().is_some()
            && let Some(Owed::Request(request)) = link.oldest().map(|entry| entry.owed)
        {
            self.cut_off(request);
        }
        self.links[key.index()].release_answered();
        while let Some(entry) = self.links[key.index()].oldest().copied() {
            self.judge(key, entry, &loss);
            let link = &mut self.links[key.index()];
            link.pop();
            link.release_answered();
        }
        for request in waiting {
            if missing_resp3 {
                self.fail(
                    request,
                    b"-NOPROTO unsupported protocol version\r\n",
                    Outcome::Unavailable,
                    false,
                );
            } else if let Some(error) = &missing_database {
                self.fail(request, error, Outcome::NodeError, false);
            } else if is_refused && is_tracking {
                self.refuse_untracked(request, &loss);
            } else if is_refused {
                self.refuse_at_full_node(request);
            } else {
                self.reroute(request);
            }
        }
    }

    /// Has a connection that may yet execute something killed before anything else that is sent over links that are open already: a
    /// session may go on over one of them [D9].
    fn fence_open_links(&mut self, node: NodeKey, fence: &Fence) {
        let open: Vec<LinkKey> = self.nodes[node]
            .shared_links()
            .filter(|link| self.links[link.index()].is_ready())
            .collect();
        for link in open {
            self.push_fence(link, fence);
        }
    }

    /// Sends the command over a link that is ready, if that may be sent there.
    fn push_fence(&mut self, key: LinkKey, fence: &Fence) {
        let link = &mut self.links[key.index()];
        if link
            .client_id
            .as_ref()
            .is_none_or(|own| !fence.is_for(own, link.opened))
        {
            return;
        }
        let mut kill = Vec::new();
        fence.kill(&mut kill);
        link.push(Owed::Fence, &kill, self.now);
        self.mark_link_dirty(key);
    }

    pub(super) fn note_loss(&mut self, node: NodeKey, loss: &LinkLoss) {
        let reason = match loss {
            LinkLoss::Retired => return,
            LinkLoss::ConnectFailed => RefreshReason::ConnectFailed,
            LinkLoss::Handshake(HandshakeFailure::WrongNode(_)) => RefreshReason::IdentityMismatch,
            LinkLoss::Closed
            | LinkLoss::Silent
            | LinkLoss::Protocol(_)
            | LinkLoss::Handshake(_) => RefreshReason::LinkLost,
        };
        self.metrics.links_lost += 1;
        let is_locked_out = matches!(
            loss,
            LinkLoss::Handshake(HandshakeFailure::Authentication(_))
        );
        let entry = &mut self.nodes[node];
        let id = entry.id.clone();
        // Links lost in one go are one failure, or the first attempt after it would have to wait as if many had failed.
        if is_locked_out || entry.retry_at <= self.now {
            let pause = if is_locked_out {
                AUTHENTICATION_PAUSE
            } else {
                reconnect_pause(entry.failures)
            };
            entry.failures += 1;
            entry.login_refused = is_locked_out;
            entry.retry_at = self.now.after(pause.mul_f64(0.75 + self.rng.f64() / 2.0));
        }
        self.hint(Hint::Refresh { reason, node: id });
    }

    /// Decides about one request of a lost link.
    fn judge(&mut self, key: LinkKey, entry: InFlight, loss: &LinkLoss) {
        if let Owed::Orphan(orphan) = entry.owed {
            return self.end_orphan(orphan);
        }
        let Some(request) = entry.owed.request() else {
            return;
        };
        let link = &mut self.links[key.index()];
        let written = link.is_written(&entry);
        let request_state = &mut self.requests[request];
        link.take_body(&entry, &mut request_state.body);
        let Some(session) = request_state.session else {
            return self.requests.remove(request);
        };
        if self.sessions[session.index()].cut_off.is_some() {
            // Nobody will get the reply.
            return self.fail(request, UNCERTAIN, Outcome::Uncertain, true);
        }
        match self.requests[request].shape.launch {
            Launch::Watch => return self.on_watch_lost(request),
            Launch::Watched if !written => return self.refuse_watched(request),
            Launch::Blocking if self.ends_unblocked(request, written, loss) => {
                return self.end_unblocked(request);
            }
            Launch::Blocking => self.note_waited(request),
            Launch::AcksOfNode => return self.on_acks_lost(request, written, loss),
            // A SELECT: the keys that were watched there are not any more, and it is carried out here.
            Launch::AtTurn => return self.reroute(request),
            _ => {}
        }
        if !written {
            self.metrics.retries[RetryReason::Unwritten.index()] += 1;
            return self.reroute(request);
        }
        match self.may_run_twice(request) {
            Some(reason) => self.send_again(request, reason),
            None => self.fail(request, UNCERTAIN, Outcome::Uncertain, true),
        }
    }

    /// Has a request that no node has taken routed again, in the order of its session.
    pub(super) fn reroute(&mut self, key: RequestKey) {
        let Some(session) = self.requests[key].session else {
            return self.requests.remove(key);
        };
        let request = &mut self.requests[key];
        request.drop_detour();
        request.state = State::Refused(Retry::Route);
        self.disturb(key);
        self.mark_unsettled(session);
    }

    /// Closes links to nodes that the topology does not name any more, once they owe nothing [T14]. A node that it does not name
    /// yet, known from redirections only [E7], is left alone until nothing has come from it for a while.
    pub(super) fn retire_links(&mut self) {
        let retired: Vec<LinkKey> = self
            .links
            .iter()
            .filter(|(_, link)| {
                let node = &self.nodes[link.node];
                let idle = self.now.since(link.progress);
                let left = !node.known && (node.id.is_some() || idle >= self.limits.node_timeout);
                // What a feed carries goes elsewhere first; a probe is for others, and ends with them.
                (left && !link.feed && !link.probe)
                    || (link.bulk && idle >= BULK_IDLE)
                    || is_rarely_used(link, idle)
                    || self.is_left_alone(link)
            })
            .filter(|(_, link)| {
                link.owed() == 0
                    && link.waiting.is_empty()
                    && !matches!(link.phase, LinkPhase::Closed)
            })
            .map(|(index, _)| LinkKey::from_index(index))
            .collect();
        for key in retired {
            self.lose_link(key, LinkLoss::Retired);
        }
    }
}

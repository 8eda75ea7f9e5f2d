//! One worker's request path: sessions, links to nodes, and the requests between them. Bytes and the time go in; bytes to write and
//! actions for the shell come out.
//!
//! ```text
//!  client bytes -> input -> router -> submit -> dispatch -> link log ........ node
//!                             |         |  \-> held, parked, waiting            |
//!                           local     split                                     |
//!  client <- out <- delivery (in request order) <- merge <- replies <- refusal <-
//! ```
//!
//! The driver calls [`Engine::on_client`], [`Engine::on_link_read`] and so on with what the sockets gave, then writes what
//! [`Engine::next_dirty_link`] and [`Engine::next_dirty_session`] name, links first, once per turn of its loop. Input slices are
//! borrowed and never kept.

mod acks;
mod algebra;
mod blocking;
mod databases;
mod deliver;
mod dispatch;
mod fan_out;
mod feed;
mod find_keys;
mod group;
mod handover;
mod input;
mod inspect;
mod invalidation;
mod invariants;
mod keys;
mod learned;
mod limits;
mod links;
mod local;
mod moments;
mod monitor;
mod nodes;
mod order;
mod outage;
mod overdue;
mod park;
mod passage;
mod pause;
mod placing;
mod private;
mod publish;
mod readers;
mod reads;
mod redo;
mod refusal;
mod replies;
mod reply_memory;
mod request;
mod request_memory;
mod resend;
mod scan;
mod scripts;
mod sessions;
mod silence;
mod slow;
mod submit;
mod subscribe;
mod subscription_invariants;
mod tick;
mod tracking;
mod tracking_links;
mod transaction;
mod unblock;
mod uncovered;
mod unit;
mod upload;
mod watch;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;
use slab::Slab;

pub use keys::{GroupKey, LinkKey, NodeKey, RequestKey, SessionKey, TopicKey};
pub use limits::Limits;
pub use links::LinkLoss;
pub use scripts::ScriptNews;

use crate::backend::{Credentials, Link};
use crate::command::KeyList;
use crate::local::Pause;
use crate::metrics::WorkerMetrics;
use crate::resp::RequestDecoder;
use crate::router::{KeyHash, Keyspace};
use crate::session::{PendingInput, Session};
use crate::time::Timestamp;
use crate::topology::{Address, AddressMap, Hint, Snapshot};
use group::Group;
use input::HandOver;
use moments::Moments;
use monitor::Monitor;
use nodes::Nodes;
use park::Parked;
use placing::Subscriptions;
use reply_memory::ReplySizes;
use request::RequestTable;
use request_memory::RequestMemory;
use scripts::Scripts;
use tracking::Trackers;
use uncovered::Confirmation;

/// What the shell must do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a connection to `address`; report with [`Engine::on_link_connected`] or [`Engine::on_link_closed`].
    Connect {
        /// The link to be.
        link: LinkKey,
        /// Where to.
        address: Address,
    },
    /// Close the connection of this link; report with [`Engine::on_link_closed`].
    CloseLink(LinkKey),
    /// Read from this link again, after [`Engine::wants_link_input`] had said no.
    ResumeLink(LinkKey),
    /// Tell discovery.
    Hint(Hint),
    /// Tell the other workers, by [`Engine::on_script_news`].
    Script(ScriptNews),
    /// Drop this buffer on a thread that serves nobody, for to take back its memory takes the system 0.1 ms for each MiB; then tell
    /// [`Engine::on_dropped`].
    Drop {
        /// What is not needed any more.
        buffer: BytesMut,
        /// Bytes of memory that it takes.
        size: usize,
    },
}

/// What the engine needs to know about the servers behind it.
#[derive(Debug, Clone, Default)]
pub struct Upstream {
    /// How links authenticate.
    pub credentials: Credentials,
    /// Rewrites addresses that servers announce [T19].
    pub address_map: AddressMap,
    /// It is one server with all keys, not a cluster: [H7].
    pub undivided: bool,
}

/// One worker's request path.
pub struct Engine {
    limits: Limits,
    /// [`Limits::session_in_flight`]; 0 while all clients wait.
    in_flight_cap: usize,
    /// How often a topology came in which a primary was not one any more.
    primaries_replaced: u64,
    /// Every command is looked at before it is taken.
    inspects: bool,
    /// What of the two below is in force.
    paused: Option<Pause>,
    /// What clients have asked for.
    client_pause: Option<Pause>,
    /// Writes wait until then for another primary.
    writes_held: Option<Timestamp>,
    /// Sessions that have met a command that waits for the end of a pause.
    postponed: BTreeSet<SessionKey>,
    monitor: Monitor,
    upstream: Upstream,
    keyspace: Keyspace,
    now: Timestamp,
    last_tick: Timestamp,
    /// When all links were last looked at.
    links_seen: Timestamp,
    /// How many times that was.
    #[cfg(test)]
    looks: usize,
    /// How many times a parked request was looked at.
    #[cfg(test)]
    released: usize,
    /// Some of the times between two turns.
    moments: Moments,
    /// No request is late before: the worker itself did not run.
    patient_until: Timestamp,
    snapshot: Arc<Snapshot>,
    sessions: Slab<Session>,
    requests: RequestTable,
    groups: Slab<Group>,
    nodes: Nodes,
    links: Slab<Link>,
    parked: Parked,
    reply_sizes: ReplySizes,
    /// Sum of [`Session::reply_bytes`].
    reply_bytes: usize,
    /// What of it is there, for clients to read: their outputs, and messages held behind a reply.
    unread_bytes: usize,
    /// Somebody waits because that is all there may be.
    crowded: bool,
    request_memory: RequestMemory,
    /// Requests that are being sent on while they arrive.
    uploads: usize,
    subscriptions: Subscriptions,
    trackers: Trackers,
    dirty_sessions: Vec<SessionKey>,
    dirty_links: Vec<LinkKey>,
    unsettled: Vec<SessionKey>,
    actions: VecDeque<Action>,
    draining: bool,
    login_refused: bool,
    /// Requests noted in the slow log since the last tick.
    slow_noted: u32,
    uncovered: Option<Confirmation>,
    /// Seeded by the driver: equal seeds and inputs give equal runs [Z10].
    rng: fastrand::Rng,
    scripts: Scripts,
    metrics: WorkerMetrics,
    decoder: RequestDecoder,
    hand_over: HandOver,
    keys: KeyList,
    several_keys: Vec<KeyHash>,
    scratch: Vec<u8>,
    #[expect(
        clippy::vec_box,
        reason = "boxed in the sessions, so that an idle one holds a word; moved to and fro as it is"
    )]
    spare_inputs: Vec<Box<PendingInput>>,
}

impl Engine {
    /// An engine without sessions, links or topology.
    #[must_use]
    pub fn new(limits: Limits, upstream: Upstream, seed: u64) -> Self {
        let keyspace = Keyspace {
            split_max_keys: limits.split_max_keys,
            undivided: upstream.undivided,
        };
        Self {
            in_flight_cap: limits.session_in_flight,
            primaries_replaced: 0,
            inspects: false,
            paused: None,
            client_pause: None,
            writes_held: None,
            postponed: BTreeSet::new(),
            monitor: Monitor::default(),
            limits,
            keyspace,
            upstream,
            now: Timestamp::ZERO,
            last_tick: Timestamp::ZERO,
            links_seen: Timestamp::ZERO,
            #[cfg(test)]
            looks: 0,
            #[cfg(test)]
            released: 0,
            moments: Moments::default(),
            patient_until: Timestamp::ZERO,
            snapshot: Arc::new(Snapshot::empty()),
            sessions: Slab::new(),
            requests: RequestTable::default(),
            groups: Slab::new(),
            nodes: Nodes::default(),
            links: Slab::new(),
            parked: Parked::default(),
            reply_sizes: ReplySizes::default(),
            reply_bytes: 0,
            unread_bytes: 0,
            crowded: false,
            request_memory: RequestMemory::default(),
            uploads: 0,
            subscriptions: Subscriptions::default(),
            trackers: Trackers::default(),
            dirty_sessions: Vec::new(),
            dirty_links: Vec::new(),
            unsettled: Vec::new(),
            actions: VecDeque::new(),
            draining: false,
            login_refused: false,
            slow_noted: 0,
            uncovered: None,
            rng: fastrand::Rng::with_seed(seed),
            scripts: Scripts::default(),
            metrics: WorkerMetrics::default(),
            decoder: RequestDecoder::default(),
            hand_over: HandOver::None,
            keys: KeyList::default(),
            several_keys: Vec::new(),
            scratch: Vec::new(),
            spare_inputs: Vec::new(),
        }
    }

    /// Sets the time of everything that follows; must not go backwards. Once per turn of the driver's loop is enough.
    pub fn set_now(&mut self, now: Timestamp) {
        debug_assert!(now >= self.now, "time goes forward");
        self.now = now;
    }

    /// The next action for the shell.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether actions or links with unwritten bytes wait to be fetched.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.actions.is_empty() || !self.dirty_links.is_empty()
    }

    /// The next link with unwritten bytes; each is named once per call that added bytes to it.
    pub fn next_dirty_link(&mut self) -> Option<LinkKey> {
        while let Some(key) = self.dirty_links.pop() {
            if let Some(link) = self.links.get_mut(key.index()) {
                link.dirty = false;
                return Some(key);
            }
        }
        None
    }

    /// The next session with replies to write, or that is to be closed or may be read again.
    pub fn next_dirty_session(&mut self) -> Option<SessionKey> {
        while let Some(key) = self.dirty_sessions.pop() {
            if let Some(session) = self.sessions.get_mut(key.index()) {
                session.dirty = false;
                return Some(key);
            }
        }
        None
    }

    /// Counters since the start.
    #[must_use]
    pub const fn metrics(&self) -> &WorkerMetrics {
        &self.metrics
    }

    /// Works off what the last input set in motion: order of sessions, then requests held back by the in-flight cap.
    fn run_pending(&mut self) {
        while let Some(key) = self.unsettled.pop() {
            self.settle(key);
            self.resume_input(key);
        }
        self.watch_request_memory();
    }

    fn mark_session_dirty(&mut self, key: SessionKey) {
        let session = &mut self.sessions[key.index()];
        if !session.dirty {
            session.dirty = true;
            self.dirty_sessions.push(key);
        }
    }

    fn mark_link_dirty(&mut self, key: LinkKey) {
        let link = &mut self.links[key.index()];
        if !link.dirty {
            link.dirty = true;
            self.dirty_links.push(key);
        }
    }

    /// Has [`Self::run_pending`] look at the session.
    fn mark_unsettled(&mut self, key: SessionKey) {
        let session = &mut self.sessions[key.index()];
        if !session.unsettled {
            session.unsettled = true;
            self.unsettled.push(key);
        }
    }

    fn hint(&mut self, hint: Hint) {
        self.actions.push_back(Action::Hint(hint));
    }
}

#[cfg(test)]
mod tests;

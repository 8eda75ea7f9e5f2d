//! One outstanding request, or one part of a split or fanned-out one, and the table they live in.
//!
//! ```text
//!   New --> Held ------> Waiting --> Sent --> Done
//!      \--> Parked --/      ^          |
//!             ^-------------+------- Refused
//! ```
//! Held: an earlier request of the session comes first [O2]. Parked: no node is known to take it. Waiting: the connection is not
//! up yet. Refused: the node did not execute it; what happens next depends on requests behind it [O4].

use std::time::Duration;

use bytes::BytesMut;

use super::blocking::Wait;
use super::keys::{GroupKey, LinkKey, NodeKey, RequestKey, SessionKey};
use crate::command::Spec;
use crate::metrics::Outcome;
use crate::resp::Protocol;
use crate::router::KeyHash;
use crate::session::transaction::{LocalCommand, Selected};
use crate::slot::Slot;
use crate::time::Timestamp;

/// Capacity above which a released entry gives the buffer of its request back.
const KEPT_CAPACITY: usize = 1024;

/// Capacity of all buffers of replies together that are kept for the next ones, and of the biggest of them.
const SPARE_REPLIES: usize = 4 << 20;
const SPARE_REPLY: usize = 64 << 10;

/// Where a request is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Being routed right now.
    New,
    /// Waits for an earlier request of its session.
    Held,
    /// Waits for a usable node.
    Parked,
    /// Waits in a link that is not up yet.
    Waiting(LinkKey),
    /// In a link's log, reply owed.
    Sent(LinkKey),
    /// A node refused it; to be sent again as told, if order permits.
    Refused(Retry),
    /// Its reply is known and waits for earlier ones. `executed`: the command ran, or may have.
    Done { executed: bool },
    /// Its parts are under way.
    Group(GroupKey),
    /// What it subscribes to is being asked for at the nodes.
    Subscribing,
}

/// How a refused request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// By the topology, at once.
    Route,
    /// To this node; with ASKING before it.
    At { node: NodeKey, asking: bool },
    /// By the topology, after this time.
    After(Duration),
}

/// What happens when the turn of a request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Launch {
    /// It is sent.
    Direct,
    /// It is sent: MULTI, commands and EXEC, with as many replies.
    Unit,
    /// It becomes one part for every primary.
    FanOut,
    /// It becomes a SCAN of one node.
    Scan,
    /// A node is asked where its keys are.
    FindKeys,
    /// It is sent over a private link, where it may wait.
    Blocking,
    /// WAIT, WAITAOF: it becomes one part for every primary.
    Acks,
    /// Such a part: it is sent over a private link, behind a write that changes nothing, and waits there.
    AcksOfNode,
    /// WATCH: it is sent over the private link of its session, which gets one with the first.
    Watch,
    /// As `Unit`, over that link: it comes back with the reply.
    Watched,
    /// That link is given back; the reply is known.
    Unwatch,
    /// As `Unit`, over a private link that is used for nothing else: its commands change the database.
    Apart,
    /// It is sent, in one piece with CLIENT CACHING YES or NO before it [N2].
    Cached,
    Uncached,
    /// It is sent to a replica, or to the primary, as its session reads.
    Read,
    /// It is carried out here, when all before it are answered; nothing behind it is taken before.
    AtTurn,
}

/// What a request is, apart from where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) spec: &'static Spec,
    /// The slot that picks the node.
    pub(crate) slot: Slot,
    /// Of several keys only a mask; [`Request::several_keys`] has them all.
    pub(crate) key: KeyHash,
    /// The slot is that of its keys, so nodes check it and redirect.
    pub(crate) keyed: bool,
    /// Ordered against all other requests of its session [O7].
    pub(crate) barrier: bool,
    pub(crate) launch: Launch,
    pub(crate) protocol: Protocol,
    /// The database it is for; links are in one each [N21].
    pub(crate) database: u16,
}

/// One outstanding request.
#[derive(Debug)]
pub(crate) struct Request {
    /// The client; `None` once it has gone.
    pub(crate) session: Option<SessionKey>,
    pub(crate) shape: Shape,
    pub(crate) state: State,
    /// The client wants to see the reply [L1].
    pub(crate) visible: bool,
    /// Counted in its session's `disturbed`.
    pub(crate) disturbed: bool,
    /// It was refused and one behind it that conflicts was executed, in a group that is over [O4].
    pub(crate) overtaken: bool,
    /// It is a [`Launch::Read`], and so was all that was outstanding before it.
    pub(crate) behind_reads: bool,
    /// The group it is part of, and which part.
    pub(crate) group: Option<(GroupKey, u32)>,
    /// Where the next sending goes instead of the owner by the topology.
    pub(crate) detour: Option<(NodeKey, bool)>,
    /// The node it is parked for: the one that refused it, or that cannot be reached.
    pub(crate) blocked_by: Option<NodeKey>,
    pub(crate) arrival: Timestamp,
    pub(crate) sent: Timestamp,
    /// Time spent at nodes, in microseconds: of the part that took longest.
    pub(crate) backend_micros: u64,
    pub(crate) redirects: u8,
    pub(crate) resends: u8,
    pub(crate) waits: u8,
    pub(crate) outcome: Outcome,
    /// What it takes itself, while it is not answered.
    bytes: u32,
    /// What its reply takes, or is expected to take.
    pub(crate) reply_bytes: u32,
    /// The hash of each key if there are several; kept with its capacity.
    pub(crate) several_keys: Vec<KeyHash>,
    /// The request, while it is in no link's log.
    pub(crate) body: BytesMut,
    /// The reply while it waits for its turn, or the last refusal.
    pub(crate) reply: Vec<u8>,
    /// What few requests have.
    pub(crate) extra: Option<Box<Extra>>,
}

/// What few requests have.
#[derive(Debug)]
pub(crate) enum Extra {
    /// What is to be done when a transaction has been executed.
    Executed(AfterExec),
    /// How long the request may wait at its node.
    Wait(Wait),
}

/// What is left to do of a transaction that a node has executed.
#[derive(Debug)]
pub(crate) struct AfterExec {
    /// Commands of it that the proxy answers [M4].
    pub(crate) local: Vec<LocalCommand>,
    /// Its changes of the database, which are the session's if they were made.
    pub(crate) selects: Vec<Selected>,
}

impl Request {
    /// Whether the command may change data, for the rules of order and of sending again.
    pub(crate) fn is_write(&self) -> bool {
        self.shape.spec.is_write()
    }

    /// It was sent again though it may have been executed, and that would show [D5].
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.resends > 0 && self.is_write()
    }

    /// Whether both touch a key in common and one may change it [G2].
    pub(crate) fn conflicts_with(&self, other: &Self) -> bool {
        (self.is_write() || other.is_write())
            && if self.shape.slot == other.shape.slot {
                self.shape.key.may_share_key(other.shape.key) && self.shares_key_with(other)
            } else {
                self.shares_key_of_other_slot(other)
            }
    }

    /// Requests whose keys one server has may have keys in many slots [H7]; that of the first stands for all of them.
    fn shares_key_of_other_slot(&self, other: &Self) -> bool {
        let has_one = self.several_keys.is_empty() && other.several_keys.is_empty();
        !has_one && self.keys().iter().any(|key| other.keys().contains(key))
    }

    /// The exact answer where the masks of several keys meet by chance: a refusal shown for that would be an error for nothing.
    fn shares_key_with(&self, other: &Self) -> bool {
        if self.several_keys.is_empty() && other.several_keys.is_empty() {
            return true;
        }
        if self.shape.key == KeyHash::ALL || other.shape.key == KeyHash::ALL {
            return true;
        }
        self.keys().iter().any(|key| other.keys().contains(key))
    }

    fn keys(&self) -> &[KeyHash] {
        if self.several_keys.is_empty() {
            std::slice::from_ref(&self.shape.key)
        } else {
            &self.several_keys
        }
    }

    /// Forgets where a node pointed, because nothing can be sent there: a redirection holds for one attempt [E6]. Since it was not
    /// followed, it is not counted [E4].
    pub(crate) fn drop_detour(&mut self) {
        if self.detour.take().is_some() {
            self.redirects = self.redirects.saturating_sub(1);
        }
    }

    /// Whether something is to be done here when it has been executed.
    pub(crate) fn has_more_to_do(&self) -> bool {
        matches!(self.extra.as_deref(), Some(Extra::Executed(_)))
    }

    /// Whether it changes the database of its connection.
    pub(crate) fn selects(&self) -> bool {
        match self.extra.as_deref() {
            Some(Extra::Executed(after)) => !after.selects.is_empty(),
            _ => false,
        }
    }

    /// How long it may wait at its node, if it is one that does.
    pub(crate) fn wait(&self) -> Option<&Wait> {
        match self.extra.as_deref() {
            Some(Extra::Wait(wait)) => Some(wait),
            _ => None,
        }
    }

    /// Bytes of the request, while it is not answered.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes as usize
    }

    pub(crate) const fn is_done(&self) -> bool {
        matches!(self.state, State::Done { .. })
    }
}

/// Outstanding requests. Entries are used again with their buffers, so that a steady flow allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct RequestTable {
    entries: Vec<Request>,
    free: Vec<RequestKey>,
    /// Sum of [`Request::bytes`].
    bytes: usize,
    /// Buffers for replies that have to wait for their turn. Not kept with the entries, of which few hold one: those used last
    /// are still in the cache, and so few can be big.
    spare_replies: Vec<Vec<u8>>,
    /// Sum of their capacities.
    spare_reply_bytes: usize,
}

impl RequestTable {
    pub(crate) fn insert(
        &mut self,
        session: SessionKey,
        shape: Shape,
        now: Timestamp,
    ) -> RequestKey {
        self.insert_for(Some(session), shape, now)
    }

    pub(crate) fn insert_for(
        &mut self,
        session: Option<SessionKey>,
        shape: Shape,
        now: Timestamp,
    ) -> RequestKey {
        if let Some(key) = self.free.pop() {
            let entry = &mut self.entries[key.index()];
            entry.session = session;
            entry.shape = shape;
            entry.state = State::New;
            entry.visible = true;
            entry.disturbed = false;
            entry.overtaken = false;
            entry.behind_reads = false;
            entry.several_keys.clear();
            entry.group = None;
            entry.detour = None;
            entry.blocked_by = None;
            entry.arrival = now;
            entry.sent = now;
            entry.backend_micros = 0;
            entry.redirects = 0;
            entry.resends = 0;
            entry.waits = 0;
            entry.outcome = Outcome::Ok;
            entry.reply_bytes = 0;
            return key;
        }
        let key = RequestKey::from_index(self.entries.len());
        self.entries.push(Request {
            session,
            shape,
            state: State::New,
            visible: true,
            disturbed: false,
            overtaken: false,
            behind_reads: false,
            group: None,
            detour: None,
            blocked_by: None,
            arrival: now,
            sent: now,
            backend_micros: 0,
            redirects: 0,
            resends: 0,
            waits: 0,
            outcome: Outcome::Ok,
            bytes: 0,
            reply_bytes: 0,
            several_keys: Vec::new(),
            body: BytesMut::new(),
            reply: Vec::new(),
            extra: None,
        });
        key
    }

    /// Ends a request. The key must be in no list any more.
    pub(crate) fn remove(&mut self, key: RequestKey) {
        self.set_bytes(key, 0);
        let entry = &mut self.entries[key.index()];
        entry.body.clear();
        if entry.shape.launch != Launch::Direct {
            entry.extra = None;
        }
        if entry.body.capacity() > KEPT_CAPACITY {
            entry.body = BytesMut::new();
        }
        let reply = std::mem::take(&mut entry.reply);
        self.free.push(key);
        if reply.capacity() > 0 {
            self.keep_spare_reply(reply);
        }
    }

    /// Gives a request a reply that has to wait for its turn.
    pub(crate) fn keep_reply(&mut self, key: RequestKey, reply: &[u8]) {
        let entry = &mut self.entries[key.index()];
        if entry.reply.capacity() == 0
            && let Some(spare) = self.spare_replies.pop()
        {
            self.spare_reply_bytes -= spare.capacity();
            entry.reply = spare;
        }
        entry.reply.clear();
        entry.reply.extend_from_slice(reply);
    }

    /// Keeps the buffer of a reply for the next one that has to wait.
    pub(crate) fn keep_spare_reply(&mut self, mut reply: Vec<u8>) {
        let capacity = reply.capacity();
        if capacity <= SPARE_REPLY && self.spare_reply_bytes + capacity <= SPARE_REPLIES {
            reply.clear();
            self.spare_reply_bytes += capacity;
            self.spare_replies.push(reply);
        }
    }

    /// Notes what a request takes; gives what it took before.
    #[inline]
    pub(crate) fn set_bytes(&mut self, key: RequestKey, bytes: usize) -> usize {
        let entry = &mut self.entries[key.index()];
        // A request is shorter than its limit, which is a `u32`.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut entry.bytes, bytes) as usize;
        self.bytes = self.bytes + bytes as usize - before;
        before
    }

    /// What all of them take.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Every outstanding request, and entries that are free.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Request> {
        self.entries.iter()
    }

    /// Number of outstanding requests, parts included.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

impl std::ops::Index<RequestKey> for RequestTable {
    type Output = Request;

    fn index(&self, key: RequestKey) -> &Request {
        &self.entries[key.index()]
    }
}

impl std::ops::IndexMut<RequestKey> for RequestTable {
    fn index_mut(&mut self, key: RequestKey) -> &mut Request {
        &mut self.entries[key.index()]
    }
}

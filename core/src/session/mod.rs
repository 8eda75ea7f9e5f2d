//! State of one client connection: who the client is, what it has asked and is owed, and the bytes on their way in and out.
//!
//! ```text
//!   client bytes --> input (an unfinished request, or requests beyond the in-flight cap)
//!                --> queue: oldest .. newest outstanding request, answered in this order [G1]
//!   replies      --> out --> client
//! ```
//!
//! An idle session owns no buffers: bytes are scanned where they were read, and only a remainder is copied into `input`.

pub mod client_state;
pub mod subscriber;
pub mod tracking;
pub mod transaction;
pub mod watch;

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Buf, BytesMut};

use crate::command::CommandId;
use crate::engine::{LinkKey, RequestKey};
use crate::local::{Environment, ReadPolicy};
use crate::metrics::CloseReason;
use crate::pubsub::Kind;
use crate::resp::{Protocol, RequestDecoder};
use crate::time::Timestamp;
use client_state::ClientState;
use subscriber::Subscriber;
use tracking::Tracker;
use transaction::Transaction;
use watch::Watch;

/// What is read beyond the end of an argument fits in here, as a rule.
const ROOM_BEHIND: usize = 64 << 10;

/// While little of an argument is there, room is made for so many times that.
const GROWTH: usize = 8;

/// So much room is not kept for little, and when so much of an argument is there room is made for all of it: to move its beginning
/// again and again would keep everybody waiting.
const MUCH_ROOM: usize = 1 << 20;

/// Bytes of a client that could not be taken yet, and how far they were scanned.
#[derive(Debug, Default)]
pub struct PendingInput {
    /// From the first byte of the oldest request that was not taken.
    pub bytes: BytesMut,
    /// Scan state of that request.
    pub decoder: RequestDecoder,
    /// The session could take no request when they were kept: they may be whole.
    pub waits: bool,
}

impl PendingInput {
    /// How much room it should have if `count` more bytes of an argument do not fit: for all of it when a part is there that is
    /// worth it, for announcing one costs a client nothing.
    #[must_use]
    pub fn room_for(&self, count: usize) -> Option<usize> {
        let length = self.bytes.len() + count;
        if length <= self.bytes.capacity() {
            return None;
        }
        let whole = self.decoder.expected_len()? + ROOM_BEHIND;
        let room = if length >= MUCH_ROOM || whole <= length * 2 * GROWTH {
            whole
        } else {
            length * GROWTH
        };
        Some(room.max(length))
    }

    /// Takes the first `count` bytes off, and gives back the room they took if it was much.
    pub fn take_off(&mut self, count: usize) {
        self.bytes.advance(count);
        if self.bytes.len() <= ROOM_BEHIND && self.bytes.try_reclaim(MUCH_ROOM) {
            self.bytes = BytesMut::from(&*self.bytes);
        }
    }
}

/// Whether the request of which a session has a part is sent on to its node already.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    /// No.
    #[default]
    None,
    /// It is, over this link, which does nothing else.
    Over(LinkKey),
    /// It was; the link was lost, and the request is collected.
    Failed,
}

/// One client connection.
pub struct Session {
    /// Identity and flags.
    pub client: ClientState,
    /// What local answers need; of the listener the client came in by.
    pub env: Rc<dyn Environment>,
    /// Outstanding requests in the order they arrived.
    pub queue: VecDeque<RequestKey>,
    /// Writes that were answered with an error because no reply came in time, while their fate is not known [D8].
    pub orphans: Vec<RequestKey>,
    /// Bytes not taken yet.
    pub input: Option<Box<PendingInput>>,
    /// What was asked for since MULTI.
    pub transaction: Option<Box<Transaction>>,
    /// What it has watched.
    pub watch: Option<Box<Watch>>,
    /// What it has subscribed to; `None` if that is nothing.
    pub subscriber: Option<Box<Subscriber>>,
    /// What it is to be told of keys, and where its links are if it tracks some.
    pub tracker: Option<Box<Tracker>>,
    /// Whether the first request in `input` is sent on already.
    pub upload: Upload,
    /// Replies ready to be written.
    pub out: BytesMut,
    /// Bytes of `out`, of replies that wait for their turn, and of those expected for outstanding requests.
    pub reply_bytes: usize,
    /// Bytes of outstanding requests.
    pub request_bytes: usize,
    /// About how big its last replies from nodes were; `None` if there were none.
    pub reply_size: Option<u32>,
    /// Since when `out` is above the soft limit, as far as it was looked at; [`Timestamp::NEVER`] if it is not [D13].
    pub overfull_since: Timestamp,
    /// Snapshot generation by which the outstanding requests were routed; [`Self::MIXED`] if they differ [O1].
    pub sent_generation: u64,
    /// How often primaries had been replaced when it was told last how many replicas have what it wrote, or came [A4].
    pub primaries_replaced: u64,
    /// Which nodes answer its reads.
    pub reads: ReadPolicy,
    /// It is to be known when it wrote.
    pub notes_writes: bool,
    /// The beginning of the turn in which a write of it was answered last.
    pub wrote_at: Timestamp,
    /// Outstanding requests that were refused, held, parked or sent again [O1].
    pub disturbed: u32,
    /// Outstanding requests that wait for all before them and hold all behind them [O7].
    pub barriers: u32,
    /// Why the session ends as soon as all replies are out; no further request is taken.
    pub closing: Option<CloseReason>,
    /// Why nothing may be given to the client any more, and it is to be disconnected: the next bytes of its replies will never
    /// come.
    pub cut_off: Option<CloseReason>,
    /// Above 0 while it has big requests or replies, or links of its own: its links are not those of the others.
    pub big: u8,
    /// The link that is not read until this client has caught up.
    pub holds: Option<LinkKey>,
    /// The command last taken, for CLIENT LIST.
    pub last_command: Option<CommandId>,
    /// The client sends nothing more, though not all that it sent was read.
    pub hung_up: bool,
    /// Listed among the sessions with bytes to write or news for the shell.
    pub dirty: bool,
    /// Listed among the sessions with much pending input.
    pub large: bool,
    /// Listed among the sessions whose order must be looked at again.
    pub unsettled: bool,
}

impl Session {
    /// Value of [`Self::sent_generation`] that equals no snapshot's.
    pub const MIXED: u64 = u64::MAX;

    /// Value of [`Self::big`] of a session with links of its own, because it tracks keys.
    pub const TRACKS: u8 = u8::MAX;

    /// A session of a client that has just connected.
    #[must_use]
    pub fn new(client: ClientState, env: Rc<dyn Environment>) -> Self {
        Self {
            client,
            env,
            queue: VecDeque::new(),
            orphans: Vec::new(),
            input: None,
            transaction: None,
            watch: None,
            subscriber: None,
            tracker: None,
            upload: Upload::None,
            out: BytesMut::new(),
            reply_bytes: 0,
            request_bytes: 0,
            reply_size: None,
            overfull_since: Timestamp::NEVER,
            sent_generation: 0,
            primaries_replaced: 0,
            reads: ReadPolicy::Primary,
            notes_writes: false,
            wrote_at: Timestamp::ZERO,
            disturbed: 0,
            barriers: 0,
            closing: None,
            cut_off: None,
            big: 0,
            holds: None,
            last_command: None,
            hung_up: false,
            dirty: false,
            large: false,
            unsettled: false,
        }
    }

    /// Whether no further request is read. A transaction goes on to its end when the proxy is to stop.
    #[must_use]
    pub const fn is_ending(&self) -> bool {
        match self.closing {
            Some(CloseReason::Shutdown) => self.transaction.is_none(),
            Some(_) => true,
            None => false,
        }
    }

    /// Whether every request taken so far is answered and nothing that could become one is left.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.input.is_none() && self.transaction.is_none()
    }

    /// How many subscriptions it has, as acknowledgements of this kind count them.
    #[must_use]
    pub fn subscriptions(&self, kind: Kind) -> usize {
        let subscriber = self.subscriber.as_ref();
        subscriber.map_or(0, |subscriber| subscriber.count(kind))
    }

    /// Whether it may do nothing but subscribe and unsubscribe: in RESP2 a client takes whatever comes for a message [U4].
    #[must_use]
    pub fn only_subscribes(&self) -> bool {
        self.subscriber.is_some() && self.client.protocol == Protocol::Resp2
    }

    /// Bytes of the client held back: part of a request, requests beyond the in-flight cap, or those of a transaction.
    #[must_use]
    pub fn input_bytes(&self) -> usize {
        let input = self.input.as_ref().map_or(0, |input| input.bytes.len());
        let transaction = self.transaction.as_ref();
        input + transaction.map_or(0, |transaction| transaction.bytes)
    }
}

//! One connection to a node: its request log, the replies it owes, and its life from connecting to closed.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::buffer::{give_back, take_off};
use super::fence::ClientId;
use super::handshake::Handshake;
use super::owed::{InFlight, Owed, Passage};
use super::private::Private;
use super::tracks::Tracks;
use crate::engine::{NodeKey, RequestKey, SessionKey};
use crate::resp::{Protocol, ReplyScanner};
use crate::time::Timestamp;

/// Room a link keeps for requests when it has none.
const KEPT_LOG: usize = 1 << 20;

/// Requests of this size are not copied if they can be handed over with their buffer.
pub const HANDED_OVER: usize = 1 << 20;

/// Where a link is in its life.
#[derive(Debug)]
pub enum LinkPhase {
    /// The shell is connecting; requests wait.
    Connecting,
    /// Connected, introducing itself; requests wait.
    Handshaking(Box<Handshake>),
    /// Carries requests.
    Ready,
    /// Carries subscriptions, and nothing else.
    Feeding,
    /// Gone; kept only until the shell has noticed.
    Closed,
}

/// One connection to a node.
#[derive(Debug)]
pub struct Link {
    /// The node it goes to.
    pub node: NodeKey,
    /// RESP version spoken on it.
    pub protocol: Protocol,
    /// The database it is in, from its handshake on [N21].
    pub database: u16,
    /// Carries no requests: it only shows whether the node answers [HL2].
    pub probe: bool,
    /// Carries no requests, but subscriptions of many sessions [U1].
    pub feed: bool,
    /// Where it is in its life.
    pub phase: LinkPhase,
    /// Requests that wait for the link to become ready, in order.
    pub waiting: VecDeque<RequestKey>,
    /// Listed among the links with bytes to write.
    pub dirty: bool,
    /// When bytes last arrived, or the first of the requests now owed was sent.
    pub progress: Timestamp,
    /// What the node calls this connection, if it told.
    pub client_id: Option<ClientId>,
    /// When the connection was asked for.
    pub opened: Timestamp,
    /// When its handshake was over.
    pub ready_at: Option<Timestamp>,
    /// End of a reply that has begun to arrive.
    pub scanner: ReplyScanner,
    /// Bytes of a reply that has begun to arrive.
    pub partial: BytesMut,
    /// The reply to the oldest request is being passed on.
    pub passage: Option<Passage>,
    /// What the node has against the transaction that it is getting.
    pub queue_error: Vec<u8>,
    /// Is not to be read until a client has caught up.
    pub held: bool,
    /// Takes no further requests of everybody: its node is not known any more, or it is for one upload, or private.
    pub detached: bool,
    /// Carries the commands of one session at a time.
    pub private: Option<Private>,
    /// Belongs to a session that tracks keys.
    pub tracks: Option<Tracks>,
    /// For sessions with big requests or replies: closed when it is not used.
    pub bulk: bool,
    /// Carries nothing but the request that this session is in the middle of sending.
    pub uploads: Option<SessionKey>,
    /// Bytes of it that are written.
    pub uploaded: usize,
    in_flight: VecDeque<InFlight>,
    /// Of the replies owed, so many of the oldest are no longer watched for being late [D8].
    unwatched: usize,
    log: BytesMut,
    head: u64,
    /// Log position after the last request that is answered.
    answered: u64,
    written: u64,
}

impl Link {
    /// A link that is being connected.
    #[must_use]
    pub fn connecting(node: NodeKey, protocol: Protocol, now: Timestamp) -> Self {
        Self {
            node,
            protocol,
            database: 0,
            probe: false,
            feed: false,
            phase: LinkPhase::Connecting,
            waiting: VecDeque::new(),
            dirty: false,
            progress: now,
            client_id: None,
            opened: now,
            ready_at: None,
            scanner: ReplyScanner::default(),
            partial: BytesMut::new(),
            passage: None,
            queue_error: Vec::new(),
            held: false,
            detached: false,
            private: None,
            tracks: None,
            bulk: false,
            uploads: None,
            uploaded: 0,
            in_flight: VecDeque::new(),
            unwatched: 0,
            log: BytesMut::new(),
            head: 0,
            answered: 0,
            written: 0,
        }
    }

    /// As [`Self::connecting`], for a connection that only asks whether the node answers.
    #[must_use]
    pub fn probing(node: NodeKey, now: Timestamp) -> Self {
        Self {
            probe: true,
            ..Self::connecting(node, Protocol::Resp2, now)
        }
    }

    /// As [`Self::connecting`], for a connection that is lent to one session at a time.
    #[must_use]
    pub fn private(node: NodeKey, protocol: Protocol, now: Timestamp) -> Self {
        Self {
            detached: true,
            private: Some(Private::default()),
            ..Self::connecting(node, protocol, now)
        }
    }

    /// As [`Self::connecting`], for a connection of a session that tracks keys.
    #[must_use]
    pub fn tracking(node: NodeKey, protocol: Protocol, tracks: Tracks, now: Timestamp) -> Self {
        Self {
            tracks: Some(tracks),
            ..Self::connecting(node, protocol, now)
        }
    }

    /// As [`Self::connecting`], for a connection that will have subscriptions. What is said on it is the same in both versions of
    /// the protocol but for a byte; RESP2 is spoken by every server.
    #[must_use]
    pub fn feeding(node: NodeKey, now: Timestamp) -> Self {
        Self {
            feed: true,
            ..Self::connecting(node, Protocol::Resp2, now)
        }
    }

    /// Whether it is being connected, or introduces itself.
    #[must_use]
    pub const fn is_coming(&self) -> bool {
        matches!(
            self.phase,
            LinkPhase::Connecting | LinkPhase::Handshaking(_)
        )
    }

    /// Whether it is a feed that can be talked to.
    #[must_use]
    pub const fn is_feeding(&self) -> bool {
        matches!(self.phase, LinkPhase::Feeding)
    }

    /// Whether requests can be sent now.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self.phase, LinkPhase::Ready)
    }

    /// Appends a request and notes the reply it is owed.
    pub fn push(&mut self, owed: Owed, request: &[u8], now: Timestamp) {
        debug_assert!(
            self.is_ready() || self.is_feeding(),
            "requests wait until the handshake is over"
        );
        if self.in_flight.is_empty() {
            self.progress = now;
        }
        let start = self.end();
        self.log.extend_from_slice(request);
        self.in_flight.push_back(InFlight {
            owed,
            start,
            end: self.end(),
        });
    }

    /// As [`Self::push`], for a request that is there as a buffer of its own. What it held is gone afterwards; a big one is taken
    /// over as it is, if there is nothing else in the log.
    pub fn push_body(&mut self, owed: Owed, body: &mut BytesMut, now: Timestamp) {
        if body.len() < HANDED_OVER || !self.log.is_empty() {
            self.push(owed, body, now);
        } else {
            let start = self.end();
            self.push(owed, &[], now);
            std::mem::swap(&mut self.log, body);
            if let Some(entry) = self.in_flight.back_mut() {
                entry.end = start + self.log.len() as u64;
            }
        }
        body.clear();
    }

    /// Appends a transaction, or another piece that only the last reply is of interest of, which is `owed`. `ends` says where each of
    /// its commands ends.
    pub fn push_unit(&mut self, last: Owed, unit: &[u8], ends: &[usize], now: Timestamp) {
        let start = self.end();
        self.push(last, unit, now);
        self.in_flight.pop_back();
        for (behind, end) in (0..ends.len()).rev().zip(ends) {
            let owed = match u32::try_from(behind) {
                Ok(0) => last,
                behind => Owed::Queued {
                    behind: behind.unwrap_or(u32::MAX),
                },
            };
            self.in_flight.push_back(InFlight {
                owed,
                start,
                end: start + *end as u64,
            });
        }
    }

    /// Takes over a request, now whole, of which the first [`Self::uploaded`] bytes are written.
    pub fn push_uploaded(&mut self, owed: Owed, body: BytesMut, now: Timestamp) {
        debug_assert!(self.log.is_empty(), "it has carried nothing else");
        self.push(owed, &[], now);
        self.log = body;
        let (end, uploaded) = (self.end(), self.uploaded);
        if let Some(entry) = self.in_flight.back_mut() {
            entry.end = end;
        }
        self.written += uploaded as u64;
    }

    /// The buffer of the big request that it carried, if it did, and how much memory that takes.
    #[must_use]
    pub fn into_upload(self) -> Option<(BytesMut, usize)> {
        let has_whole = self.uploaded > 0 && self.end() > self.uploaded as u64;
        has_whole.then_some((self.log, self.uploaded))
    }

    /// Gives the request of `entry`, which is about to be popped, its own copy of its bytes; those of a big one that is alone as
    /// they are.
    pub fn take_body(&mut self, entry: &InFlight, body: &mut BytesMut) {
        body.clear();
        let request = self.request(entry);
        if request.len() >= HANDED_OVER && request.len() == self.log.len() {
            std::mem::swap(&mut self.log, body);
            // The log ends where the next request begins, whenever that is pushed.
            self.release(entry.end);
        } else {
            body.extend_from_slice(request);
        }
    }

    /// Appends bytes of the handshake, for which no in-flight entry is kept.
    pub fn push_handshake(&mut self, bytes: &[u8]) {
        self.log.extend_from_slice(bytes);
    }

    /// The oldest reply owed.
    #[must_use]
    pub fn oldest(&self) -> Option<&InFlight> {
        self.in_flight.front()
    }

    /// The replies owed, oldest first.
    pub fn in_flight(&self) -> impl Iterator<Item = &InFlight> {
        self.in_flight.iter()
    }

    /// The oldest request that is watched for being late, and its position among the replies owed.
    #[must_use]
    pub fn next_watched(&self) -> Option<(usize, RequestKey)> {
        let watched = self.in_flight.iter().enumerate().skip(self.unwatched);
        watched
            .filter_map(|(position, entry)| match entry.owed {
                Owed::Request(request) | Owed::Unit(request) | Owed::Watch(request) => {
                    Some((position, request))
                }
                Owed::Orphan(_)
                | Owed::Blocked(_)
                | Owed::Queued { .. }
                | Owed::Select(_)
                | Owed::Asking
                | Owed::Nobody
                | Owed::Probe
                | Owed::Subscribe(_)
                | Owed::Unsubscribe(_)
                | Owed::Fence => None,
            })
            .next()
    }

    /// Watches the reply at `position`, and those before it, no longer.
    pub const fn unwatch(&mut self, position: usize) {
        self.unwatched = position + 1;
    }

    /// As [`Self::unwatch`]; the reply is nobody's from now on.
    pub fn orphan(&mut self, position: usize, orphan: RequestKey) {
        if let Some(entry) = self.in_flight.get_mut(position) {
            entry.owed = Owed::Orphan(orphan);
        }
        self.unwatch(position);
    }

    /// Number of replies owed.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.in_flight.len()
    }

    /// The bytes of the request of `entry`, which must not have been released.
    #[must_use]
    pub fn request(&self, entry: &InFlight) -> &[u8] {
        let start = offset(entry.start, self.head);
        let end = offset(entry.end, self.head);
        self.log.get(start..end).unwrap_or_default()
    }

    /// As [`Self::pop`], if the oldest reply owed is that to a request: `entry`.
    #[inline(always)]
    pub fn pop_request(&mut self, entry: &InFlight) {
        debug_assert!(
            matches!(entry.owed, Owed::Request(_))
                && self.oldest().is_some_and(|oldest| oldest.end == entry.end),
            "the oldest one, and a request"
        );
        self.in_flight.pop_front();
        self.unwatched = self.unwatched.saturating_sub(1);
        self.answered = entry.end;
    }

    /// Removes the oldest reply owed. The bytes of its request stay until [`Self::release_answered`].
    pub fn pop(&mut self) -> Option<InFlight> {
        let entry = self.in_flight.pop_front()?;
        self.unwatched = self.unwatched.saturating_sub(1);
        // A transaction stays whole until its EXEC is answered.
        if !matches!(entry.owed, Owed::Queued { .. }) {
            self.answered = entry.end;
        }
        Some(entry)
    }

    /// The transaction whose EXEC is `behind` replies later than the one that was just popped.
    #[must_use]
    pub fn unit_behind(&self, behind: u32) -> Option<RequestKey> {
        let entry = self.in_flight.get((behind as usize).checked_sub(1)?)?;
        match entry.owed {
            Owed::Unit(request) | Owed::Blocked(request) | Owed::Orphan(request) => Some(request),
            _ => None,
        }
    }

    /// Releases the bytes of requests that are answered: of all those that one read answered at once.
    pub fn release_answered(&mut self) {
        if self.answered > self.head {
            self.release(self.answered);
        }
    }

    /// Releases the log up to the end of what was written: the handshake is answered and never repeated.
    pub fn release_written(&mut self) {
        self.release(self.written);
    }

    /// Bytes not yet written to the socket.
    #[must_use]
    pub fn unwritten(&self) -> &[u8] {
        self.log
            .get(offset(self.written, self.head)..)
            .unwrap_or_default()
    }

    /// Notes that the kernel accepted the first `count` unwritten bytes.
    pub fn mark_written(&mut self, count: usize) {
        if self.uploads.is_some() && self.is_ready() {
            self.uploaded += count;
            return;
        }
        self.written = (self.written + count as u64).min(self.end());
    }

    /// Whether the kernel accepted the last byte of the request of `entry` [D1].
    #[must_use]
    pub const fn is_written(&self, entry: &InFlight) -> bool {
        entry.end <= self.written
    }

    /// Whether the kernel accepted all of it but for the last `rest` bytes, or more.
    #[must_use]
    pub const fn is_written_but_for(&self, entry: &InFlight, rest: usize) -> bool {
        entry.end <= self.written + rest as u64
    }

    /// The request that waits at the node for as long as it takes.
    #[must_use]
    pub fn blocked(&self) -> Option<RequestKey> {
        let behind = match self.oldest()?.owed {
            Owed::Queued { behind } => behind as usize,
            _ => 0,
        };
        match self.in_flight.get(behind)?.owed {
            Owed::Blocked(request) => Some(request),
            _ => None,
        }
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.blocked().is_some()
    }

    /// Whether the node may be about to execute a request: one was wholly written and is not answered.
    #[must_use]
    pub fn may_execute(&self) -> bool {
        self.oldest().is_some_and(|entry| self.is_written(entry))
    }

    /// Whether it takes no further requests and owes nothing.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.detached
            && self.in_flight.is_empty()
            && self.uploads.is_none()
            && !matches!(self.phase, LinkPhase::Closed)
    }

    /// Bytes held for requests that are not answered.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.log.len()
    }

    fn end(&self) -> u64 {
        self.head + self.log_len()
    }

    fn log_len(&self) -> u64 {
        self.log.len() as u64
    }

    fn release(&mut self, position: u64) {
        // A reply to a request that was not wholly written is a protocol fault; its bytes must still not be written later as a part.
        self.written = self.written.max(position);
        take_off(&mut self.log, offset(position, self.head));
        self.head = self.head.max(position);
        if self.uploaded == 0 {
            give_back(&mut self.log, KEPT_LOG);
        }
    }
}

/// Distance of `position` from `base` as an index.
fn offset(position: u64, base: u64) -> usize {
    usize::try_from(position.saturating_sub(base)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Link {
        let mut link = Link::connecting(NodeKey::new(0), Protocol::Resp2, Timestamp::ZERO);
        link.phase = LinkPhase::Ready;
        link
    }

    fn request(number: u32) -> Owed {
        Owed::Request(RequestKey::new(number))
    }

    #[test]
    fn requests_stay_in_the_log_until_answered() {
        let mut link = ready();
        link.push(request(1), b"first", Timestamp::ZERO);
        link.push(request(2), b"second", Timestamp::ZERO);
        assert_eq!(link.unwritten(), b"firstsecond");
        link.mark_written(7);
        assert_eq!(link.unwritten(), b"cond");
        let oldest = *link.oldest().unwrap();
        assert!(link.is_written(&oldest));
        assert_eq!(link.request(&oldest), b"first");
        assert_eq!(link.pop().unwrap().owed, request(1));
        link.release_answered();
        let oldest = *link.oldest().unwrap();
        assert!(
            !link.is_written(&oldest),
            "the last byte was not accepted [D1]"
        );
        assert_eq!(link.request(&oldest), b"second");
        assert_eq!(link.unwritten(), b"cond");
        assert_eq!(link.buffered(), 6);
    }

    #[test]
    fn a_request_pushed_before_an_answered_one_is_released_is_kept() {
        let mut link = ready();
        for length in [5, HANDED_OVER] {
            link.push(request(1), &vec![b'x'; length], Timestamp::ZERO);
            link.mark_written(length);
            link.take_body(&link.oldest().copied().unwrap(), &mut BytesMut::new());
            link.pop();
            link.push(request(2), b"next", Timestamp::ZERO);
            link.release_answered();
            assert_eq!(link.unwritten(), b"next");
            link.mark_written(4);
            link.pop();
            link.release_answered();
        }
    }

    #[test]
    fn handshake_bytes_leave_the_log_when_written() {
        let mut link = ready();
        link.push_handshake(b"HELLO");
        link.mark_written(5);
        link.release_written();
        link.push(request(1), b"GET", Timestamp::ZERO);
        assert_eq!(link.unwritten(), b"GET");
        assert_eq!(link.request(&link.oldest().copied().unwrap()), b"GET");
    }
}

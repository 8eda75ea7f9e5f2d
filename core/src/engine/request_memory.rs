//! How much memory requests may take: those of which a part has come, those that wait, and those that are at the nodes.
//!
//! Requests are small or few, as a rule, but every client may send one of a gigabyte, or a pipeline of many megabytes. When all of
//! them together have come to take more than a worker has for requests, a session that has more than a little of its own is not read
//! on, so that the kernel holds its client up. The foremost one is excepted: the one of which most has come. So every request becomes
//! whole in the end, one after the other. It must not keep the others waiting, though: one that brings too little is disconnected, as
//! servers evict clients that take too much (maxmemory-clients).

use std::time::Duration;

use bytes::BytesMut;

use super::{Action, Engine, RequestKey, SessionKey};
use crate::metrics::CloseReason;
use crate::session::{PendingInput, Session};
use crate::time::Timestamp;

/// In so much time the foremost client must bring [`PACE`] bytes while others wait for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// See [`PATIENCE`]: 64 KiB a second.
const PACE: usize = 5 * (64 << 10);

/// Bytes to read from a client at once: so many that one with a pipeline does not keep others waiting, and more of a big argument,
/// which is only kept.
const READ: usize = 16 << 10;
const BULK_READ: usize = 64 << 10;

/// What is known about the memory that requests take.
#[derive(Debug, Default)]
pub(super) struct RequestMemory {
    /// Sum of [`Session::input_bytes`].
    pub(super) pending: usize,
    /// Sessions with more pending input than [`Limits::request_share`](super::Limits::request_share).
    pub(super) large: Vec<SessionKey>,
    /// Bytes of buffers that are being dropped elsewhere.
    pub(super) dropping: usize,
    /// Most bytes that were read at once from a client within its share. Of those beyond it only the foremost is read when memory
    /// is short, and no more than the rest of its request.
    largest_read: usize,
    /// More was taken than there is, and it has not become clearly less since.
    is_short: bool,
    /// While it is: who is read on all the same.
    foremost: Option<Foremost>,
}

/// The session that is read on, and what it makes of that.
#[derive(Debug)]
struct Foremost {
    key: SessionKey,
    /// Since when it has brought so many bytes.
    since: Timestamp,
    brought: usize,
}

impl RequestMemory {
    /// Bytes were read of a client that had not more than its share.
    #[inline]
    pub(super) fn note_read(&mut self, count: usize) {
        self.largest_read = self.largest_read.max(count);
    }

    /// Pending input is being looked at again, because `count` more bytes of the client were read.
    pub(super) fn note_taken(&mut self, key: SessionKey, input: &PendingInput, count: usize) {
        self.pending -= input.bytes.len();
        self.note_brought(key, count);
    }

    /// So many bytes of the client were read.
    pub(super) fn note_brought(&mut self, key: SessionKey, count: usize) {
        if let Some(foremost) = self.foremost.as_mut().filter(|other| other.key == key) {
            foremost.brought += count;
        }
    }

    /// Time in which this worker did not run is none in which a client could bring anything.
    pub(super) fn forgive(&mut self, stall: Duration, now: Timestamp) {
        if let Some(foremost) = &mut self.foremost {
            foremost.since = foremost.since.after(stall).min(now);
        }
    }

    /// The session has little pending input, or has gone.
    pub(super) fn strike_out(&mut self, key: SessionKey) {
        self.large.retain(|other| *other != key);
        self.note_whole(key);
    }

    /// A request of the session has become whole: another one may be foremost now.
    pub(super) fn note_whole(&mut self, key: SessionKey) {
        self.foremost.take_if(|foremost| foremost.key == key);
    }
}

impl Engine {
    /// Bytes of clients that were read and belong to requests that are not answered.
    pub(super) const fn request_bytes(&self) -> usize {
        self.requests.bytes() + self.request_memory.pending
    }

    /// Counts a request of `length` bytes, until [`Self::complete`] or its end; none any more if its parts are counted instead.
    #[inline]
    pub(super) fn count_request(&mut self, key: RequestKey, length: usize) {
        let before = self.requests.set_bytes(key, length);
        if let Some(session) = self.requests[key].session {
            let session = &mut self.sessions[session.index()];
            session.request_bytes = session.request_bytes + length - before;
        }
    }

    /// Adds bytes that were read to what is there of a client's request. It gets room for all of it, so that its beginning need not
    /// be moved again and again, if the rooms of all those with much of one do not come to more than twice what there is for requests;
    /// when that is used up, only the foremost gets it.
    pub(super) fn add_input(&mut self, key: SessionKey, input: &mut PendingInput, bytes: &[u8]) {
        if let Some(room) = input.room_for(bytes.len())
            && self.has_room(key, room)
        {
            input.bytes.reserve(room - input.bytes.len());
        }
        input.bytes.extend_from_slice(bytes);
    }

    fn has_room(&self, key: SessionKey, room: usize) -> bool {
        if let Some(foremost) = &self.request_memory.foremost {
            return foremost.key == key;
        }
        let others = self
            .request_memory
            .large
            .iter()
            .filter(|other| **other != key);
        let room_of = |other: &SessionKey| {
            let input = self.sessions[other.index()].input.as_ref();
            input.map_or(0, |input| input.bytes.capacity())
        };
        let of_others = others.map(room_of).sum::<usize>() + self.request_memory.dropping;
        of_others == 0 || of_others + room <= 2 * self.limits.request_bytes
    }

    /// Has a buffer dropped where nobody waits for that.
    pub(super) fn drop_elsewhere(&mut self, buffer: BytesMut, size: usize) {
        self.request_memory.dropping += size;
        self.actions.push_back(Action::Drop { buffer, size });
    }

    /// The buffer of an [`Action::Drop`] is dropped.
    pub fn on_dropped(&mut self, size: usize) {
        self.request_memory.dropping -= size;
    }

    /// Keeps what could not be taken yet of what a client sent.
    pub(super) fn put_input(&mut self, key: SessionKey, mut input: Box<PendingInput>) {
        let length = input.bytes.len();
        input.waits = !self.may_take(&self.sessions[key.index()]) || self.is_postponed(key);
        self.crowded |= input.waits && self.reply_bytes >= self.limits.reply_bytes;
        self.sessions[key.index()].input = Some(input);
        self.request_memory.pending += length;
        self.note_large(key);
    }

    /// Enters the session in the list of those with much pending input, or strikes it out.
    #[inline]
    pub(super) fn note_large(&mut self, key: SessionKey) {
        let session = &mut self.sessions[key.index()];
        let is_large = session.input_bytes() > self.limits.request_share;
        if session.large == is_large {
            return;
        }
        session.large = is_large;
        if is_large {
            self.request_memory.large.push(key);
        } else {
            self.request_memory.strike_out(key);
        }
    }

    /// Bytes to read from the client at once, at most.
    #[must_use]
    pub fn read_size(&self, key: SessionKey) -> usize {
        let session = self.sessions.get(key.index());
        // Only beyond its share, where it is not read at all when memory is short, and only while this cannot make it so.
        let fits = self.request_bytes() + BULK_READ <= self.limits.request_bytes;
        let input = session
            .filter(|session| session.large && fits)
            .and_then(|session| session.input.as_ref());
        let is_bulk = input.is_some_and(|input| {
            input.decoder.expected_len() >= Some(input.bytes.len() + BULK_READ)
        });
        if is_bulk { BULK_READ } else { READ }
    }

    /// The opposite of [`Self::put_input`].
    pub(super) fn take_input(&mut self, key: SessionKey) -> Option<Box<PendingInput>> {
        let input = self.sessions.get_mut(key.index())?.input.take()?;
        self.request_memory.pending -= input.bytes.len();
        Some(input)
    }

    /// Whether the client is not read because requests take too much memory, and not for want of bytes.
    #[must_use]
    pub fn holds_back(&self, key: SessionKey) -> bool {
        let session = self.sessions.get(key.index());
        session.is_some_and(|session| self.is_held_back(key, session))
    }

    pub(super) fn is_held_back(&self, key: SessionKey, session: &Session) -> bool {
        self.request_memory.is_short
            && session.request_bytes + session.input_bytes() > self.limits.request_share
            && !self.may_exceed(key)
    }

    /// Whether the session may go beyond the budget: with one request at most, so not while earlier ones that did are unanswered.
    fn may_exceed(&self, key: SessionKey) -> bool {
        let foremost = self.request_memory.foremost.as_ref();
        foremost.is_some_and(|foremost| foremost.key == key)
            && self.request_bytes() < self.most_request_bytes()
    }

    /// What requests may take at the utmost: enough for the foremost one to become whole, whatever the others have, once those
    /// that are whole are answered.
    fn most_request_bytes(&self) -> usize {
        let each = self.limits.request_share + self.request_memory.largest_read;
        self.limits.request_bytes
            + self.limits.request.max_request_bytes as usize
            + each * self.sessions.len()
    }

    /// Looks whether requests have come to take too much memory, or little enough again. To be called after whatever adds or frees
    /// some.
    #[inline]
    pub(super) fn watch_request_memory(&mut self) {
        let was_short = self.request_memory.is_short;
        if was_short || self.request_bytes() >= self.limits.request_bytes {
            self.ration();
        }
    }

    /// The slow path of [`Self::watch_request_memory`].
    #[cold]
    fn ration(&mut self) {
        let budget = self.limits.request_bytes;
        // Clearly less: or everybody would be woken for the next few bytes.
        let low = budget - budget / 8;
        self.request_memory.is_short = self.request_bytes() >= low.max(1);
        if !self.request_memory.is_short {
            self.request_memory.foremost = None;
            return self.wake_large();
        }
        // There is one at a time that may go beyond the budget, so it stays so until it is whole, or gone.
        let foremost = self.request_memory.foremost.as_ref();
        if !foremost.is_some_and(|foremost| self.is_on_its_way(foremost)) {
            self.choose_foremost();
        }
    }

    /// Has everybody read on.
    fn wake_large(&mut self) {
        for index in 0..self.request_memory.large.len() {
            self.mark_session_dirty(self.request_memory.large[index]);
        }
    }

    fn choose_foremost(&mut self) {
        let candidates = self.request_memory.large.iter().copied();
        let next = candidates
            .filter(|key| self.can_become_whole(*key))
            .max_by_key(|key| self.sessions[key.index()].input_bytes());
        self.request_memory.foremost = next.map(|key| Foremost {
            key,
            since: self.now,
            brought: 0,
        });
        if let Some(key) = next {
            self.mark_session_dirty(key);
        }
    }

    /// Whether the session has a large part of a request, and only the rest of it is missing. Whole requests that wait for room do
    /// not need more bytes.
    fn can_become_whole(&self, key: SessionKey) -> bool {
        let session = &self.sessions[key.index()];
        let waits = session.input.as_ref().is_some_and(|input| input.waits);
        session.large && session.closing.is_none() && !waits && self.may_take(session)
    }

    /// Whether the session was chosen and is not through yet.
    fn is_on_its_way(&self, foremost: &Foremost) -> bool {
        let session = &self.sessions[foremost.key.index()];
        session.large && session.closing.is_none()
    }

    /// Disconnects the foremost client if others wait for it and it does not get on. To be called every now and then.
    pub(super) fn watch_foremost(&mut self) {
        let is_full = self.request_bytes() >= self.most_request_bytes();
        let Some(foremost) = &mut self.request_memory.foremost else {
            return;
        };
        let (key, brought) = (foremost.key, foremost.brought);
        let has_had_its_time = self.now.since(foremost.since) >= PATIENCE;
        // In a pause of clients it need not get on.
        let is_full = is_full || self.paused.is_some();
        if is_full || has_had_its_time {
            foremost.since = self.now;
            foremost.brought = 0;
        }
        // It may have been held up itself until now.
        self.mark_session_dirty(key);
        let is_slow = has_had_its_time && !is_full && brought < PACE;
        if is_slow && self.others_wait(key) {
            self.evict(key);
        }
    }

    fn others_wait(&self, foremost: SessionKey) -> bool {
        let mut others = self.request_memory.large.iter();
        others.any(|key| *key != foremost && self.could_be_read(&self.sessions[key.index()]))
    }

    /// Disconnects a client at once; what it has sent of its request is of no use.
    fn evict(&mut self, key: SessionKey) {
        self.end_session(key, CloseReason::InputLimit);
        self.end_upload(key);
        if let Some(input) = self.take_input(key) {
            self.keep_spare_input(input);
        }
        self.drop_transaction(key);
        self.note_large(key);
    }
}

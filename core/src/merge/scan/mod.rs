//! The cursor of SCAN over all primaries [S1] [S2] [S5]: one decimal number below 2^63 that any proxy instance can continue,
//! because everything needed is in it.
//!
//! Mode N: the primaries are walked one after the other, ascending by their lowest slot. A cursor holds, from its lowest bit:
//! mode (2 bits, 2), lowest slot of the primary being walked (14 bits), fingerprint of the layout (11 bits), position at that
//! primary (36 bits). `0` only starts and ends a scan.
//!
//! The promise is that a key present all the time is returned at least once. A position means something only at the process
//! that gave it, and a key can move from a primary not walked yet to one that was; so when the layout (which primary owns how
//! much, at which config epoch, which slots are open) has changed since the cursor was given, the scan starts over and returns
//! keys again. With 11 bits, one change in 2047 goes unnoticed.
//!
//! Outside the promise: keys of slots that are open from the first call to the last, which can move from behind to before the
//! scan without the layout changing, and keys of a primary that restarts without losing its role.

use super::elements::{elements, without_attributes};
use crate::resp::{Args, Value, parse_value, write};
use crate::slot::Slot;
use crate::topology::Snapshot;

const MODE_BITS: u32 = 2;
const SLOT_BITS: u32 = 14;
const FINGERPRINT_BITS: u32 = 11;
const POSITION_BITS: u32 = 36;
const SLOT_SHIFT: u32 = MODE_BITS;
const FINGERPRINT_SHIFT: u32 = SLOT_SHIFT + SLOT_BITS;
const POSITION_SHIFT: u32 = FINGERPRINT_SHIFT + FINGERPRINT_BITS;
const MODE_NODE: u64 = 2;

const _: () = assert!(POSITION_SHIFT + POSITION_BITS == 63);

/// A small hash of the layout a cursor was given for: 1 to 2047.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint(u16);

impl Fingerprint {
    const COUNT: u64 = (1 << FINGERPRINT_BITS) - 1;

    /// Of facts only that every proxy instance learns alike from the cluster; the number of a snapshot is none.
    fn of(snapshot: &Snapshot) -> Self {
        let mut hash = Hash::new();
        for shard in snapshot.shards() {
            hash.feed(snapshot.node(shard.primary).id.as_str().as_bytes());
            hash.feed(&shard.epoch.to_le_bytes());
            hash.feed(&shard.lowest_slot.get().to_le_bytes());
            hash.feed(&shard.slot_count.to_le_bytes());
        }
        for open in snapshot.open_slots() {
            hash.feed(&open.slot.get().to_le_bytes());
        }
        // The high half is the better mixed one.
        let folded = (hash.0 >> 32) % Self::COUNT;
        Self(u16::try_from(folded + 1).unwrap_or(1))
    }
}

/// FNV-1a, 64 bits: the same at every instance and in every release.
struct Hash(u64);

impl Hash {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// The bytes and their number, so that no two lists of items read alike.
    fn feed(&mut self, item: &[u8]) {
        let len = u64::try_from(item.len()).unwrap_or(u64::MAX).to_le_bytes();
        for byte in item.iter().chain(&len) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// One SCAN at one primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Lowest slot of the primary.
    slot: Slot,
    /// Lowest slot of the primary to be walked after it.
    next: Option<Slot>,
    fingerprint: Fingerprint,
    /// Of the snapshot the step was planned by.
    generation: u64,
    request: Vec<u8>,
}

/// Why a SCAN cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Not a cursor [S2].
    #[error("ERR invalid cursor")]
    InvalidCursor,
    /// A node's cursor does not fit into the position bits [S1].
    #[error("ERR proxy: SCAN position overflow")]
    PositionOverflow,
    /// A node's reply is not that of SCAN.
    #[error("ERR proxy: unexpected reply of a node")]
    UnexpectedReply,
}

impl ScanError {
    /// Appends the error reply.
    pub fn write_reply(&self, out: &mut Vec<u8>) {
        write::error(out, self.to_string().as_bytes());
    }
}

/// The step that a client's SCAN asks for. `args` are those of the whole request.
///
/// # Errors
/// [`ScanError::InvalidCursor`].
pub fn plan(args: Args<'_>, snapshot: &Snapshot) -> Result<Step, ScanError> {
    let cursor = parse_cursor(args.get(1).unwrap_or_default())?;
    let shards = snapshot.shards();
    let fingerprint = Fingerprint::of(snapshot);
    let resumed = match decode(cursor)? {
        Some((slot, given, position)) if given == fingerprint.0 => {
            let shard = shards.binary_search_by_key(&slot, |shard| shard.lowest_slot);
            shard.ok().map(|shard| (shard, position))
        }
        _ => None,
    };
    // A new scan, and one whose layout is gone, start at the first primary.
    let (shard, position) = resumed.unwrap_or_default();
    let lowest_slot = |shard: usize| shards.get(shard).map(|shard| shard.lowest_slot);
    Ok(Step {
        // Before a topology is known the step waits for the owner of slot 0, the slot of the empty key; `finish` then sees a new layout.
        slot: lowest_slot(shard).unwrap_or_else(|| Slot::of_key(b"")),
        next: lowest_slot(shard + 1),
        fingerprint,
        generation: snapshot.generation,
        request: request(args, position),
    })
}

/// The client's request with the node's cursor in place of the proxy's.
fn request(args: Args<'_>, position: u64) -> Vec<u8> {
    let mut request = Vec::new();
    write::array(&mut request, args.len());
    for (index, arg) in args.iter().enumerate() {
        if index == 1 {
            write::bulk(
                &mut request,
                itoa::Buffer::new().format(position).as_bytes(),
            );
        } else {
            write::bulk(&mut request, arg);
        }
    }
    request
}

/// Digits only, below 2^63.
fn parse_cursor(cursor: &[u8]) -> Result<u64, ScanError> {
    if cursor.is_empty() || !cursor.iter().all(u8::is_ascii_digit) {
        return Err(ScanError::InvalidCursor);
    }
    let text = std::str::from_utf8(cursor)
        .ok()
        .and_then(|digits| digits.parse::<u64>().ok());
    text.filter(|cursor| *cursor >> 63 == 0)
        .ok_or(ScanError::InvalidCursor)
}

/// Slot, fingerprint and position of a cursor of mode N. `None` for a cursor that starts a scan: 0, and those of the other
/// modes, which other releases of the proxy may have given and which this one starts over [S2].
fn decode(cursor: u64) -> Result<Option<(Slot, u16, u64)>, ScanError> {
    let field = |shift: u32, bits: u32| cursor >> shift & ((1 << bits) - 1);
    match field(0, MODE_BITS) {
        0 if cursor == 0 => return Ok(None),
        0 => return Err(ScanError::InvalidCursor),
        MODE_NODE => {}
        _ => return Ok(None),
    }
    let small = |value: u64| u16::try_from(value).map_err(|_too_big| ScanError::InvalidCursor);
    let slot = Slot::new(small(field(SLOT_SHIFT, SLOT_BITS))?).ok_or(ScanError::InvalidCursor)?;
    let fingerprint = small(field(FINGERPRINT_SHIFT, FINGERPRINT_BITS))?;
    Ok(Some((
        slot,
        fingerprint,
        field(POSITION_SHIFT, POSITION_BITS),
    )))
}

impl Step {
    /// A slot of the primary to ask.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The request for the primary.
    #[must_use]
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Appends the primary's reply with the proxy's cursor in place of the node's; an error is passed on as it is.
    ///
    /// `snapshot` is the one in use now. If its layout is another than the step was planned by, the step may have gone to the
    /// wrong primary: its keys are passed on, and its cursor makes the scan start over.
    pub fn finish(&self, reply: &[u8], snapshot: &Snapshot, out: &mut Vec<u8>) {
        let same_layout =
            snapshot.generation == self.generation || Fingerprint::of(snapshot) == self.fingerprint;
        if let Err(error) = self.try_finish(reply, same_layout, out) {
            error.write_reply(out);
        }
    }

    fn try_finish(
        &self,
        reply: &[u8],
        same_layout: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), ScanError> {
        let body = without_attributes(reply).ok_or(ScanError::UnexpectedReply)?;
        if matches!(body.first(), Some(b'-' | b'!')) {
            out.extend_from_slice(reply);
            return Ok(());
        }
        let items = elements(body).ok_or(ScanError::UnexpectedReply)?;
        let [node_cursor, keys] = items[..] else {
            return Err(ScanError::UnexpectedReply);
        };
        let Ok(Some((Value::Bulk(node_cursor), _))) = parse_value(node_cursor) else {
            return Err(ScanError::UnexpectedReply);
        };
        let position = node_position(node_cursor)?;
        let cursor = if same_layout {
            self.continue_at(position)?
        } else {
            self.encode(0, 0)
        };
        write::array(out, 2);
        write::bulk(out, itoa::Buffer::new().format(cursor).as_bytes());
        out.extend_from_slice(keys);
        Ok(())
    }

    /// The client's next cursor, given where the node says to go on; 0 is its end.
    fn continue_at(&self, position: u64) -> Result<u64, ScanError> {
        match (position, self.next) {
            (0, None) => Ok(0),
            (0, Some(next)) => Ok(self.encode(next.get(), 0)),
            (position, _) if position >> POSITION_BITS != 0 => Err(ScanError::PositionOverflow),
            (position, _) => Ok(self.encode(self.slot.get(), position)),
        }
    }

    fn encode(&self, slot: u16, position: u64) -> u64 {
        MODE_NODE
            | u64::from(slot) << SLOT_SHIFT
            | u64::from(self.fingerprint.0) << FINGERPRINT_SHIFT
            | position << POSITION_SHIFT
    }
}

/// A node's cursor takes all 64 bits.
fn node_position(cursor: &[u8]) -> Result<u64, ScanError> {
    std::str::from_utf8(cursor)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(ScanError::UnexpectedReply)
}

#[cfg(test)]
mod tests;

//! The cursor of SCAN over all primaries [S1] [S2] [S5]: one decimal number below 2^63 that any proxy instance can continue,
//! because everything needed is in it.
//!
//! Mode N: the primaries are walked one after the other, ascending by their lowest slot. A cursor holds, from its lowest bit:
//! mode (2 bits, 2), lowest slot of the primary being walked (14 bits), fingerprint of the layout (11 bits), position at that
//! primary (36 bits). `0` only starts and ends a scan.
//!
//! The promise is that a key present all the time is returned at least once. A position means something only at the process
//! that gave it, and a key can move from a primary not walked yet to one that was; so when the layout (who owns what, by which
//! process, at which epoch) has changed since the cursor was given, the scan starts over and returns keys again. With 11 bits,
//! one change in 2047 goes unnoticed. Slots that are open (being moved key by key) for the whole scan are outside the promise:
//! their keys can move from behind to before the scan without the layout changing.

use crate::resp::{Args, Value, parse_value, write};
use crate::slot::Slot;

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
pub struct Fingerprint(u16);

impl Fingerprint {
    const COUNT: u64 = (1 << FINGERPRINT_BITS) - 1;

    /// The fingerprint of everything in `items`, in order.
    ///
    /// The items must be the same at every proxy instance that sees the same cluster: node ids, slot ranges, config epochs,
    /// run ids, open slots; not the number of the local snapshot.
    #[must_use]
    pub fn of<'a>(items: impl IntoIterator<Item = &'a [u8]>) -> Self {
        // FNV-1a, 64 bits; each item ends with its length, so that no two lists read alike.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut feed =
            |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        for item in items {
            item.iter().copied().for_each(&mut feed);
            item.len().to_le_bytes().into_iter().for_each(&mut feed);
        }
        // The high half is the better mixed one.
        let folded = (hash >> 32) % Self::COUNT;
        Self(u16::try_from(folded + 1).unwrap_or(1))
    }
}

/// What of the topology a scan needs.
#[derive(Debug, Clone, Copy)]
pub struct ScanView<'a> {
    /// Lowest slot of every primary that owns slots, ascending.
    pub lowest_slots: &'a [Slot],
    /// Fingerprint of the layout.
    pub fingerprint: Fingerprint,
}

/// One SCAN at one primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanStep {
    /// Index of the primary in [`ScanView::lowest_slots`].
    pub primary: usize,
    /// Its lowest slot.
    pub slot: Slot,
    /// The cursor to send to it.
    pub position: u64,
    /// Lowest slot of the primary to be walked after it.
    next: Option<Slot>,
    fingerprint: Fingerprint,
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
    /// No primary owns a slot.
    #[error("CLUSTERDOWN Hash slot not served")]
    NoPrimary,
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

/// The step that a client's cursor asks for.
///
/// # Errors
/// [`ScanError::InvalidCursor`] for bytes that are no cursor, [`ScanError::NoPrimary`] if there is nobody to ask.
pub fn plan(cursor: &[u8], view: &ScanView<'_>) -> Result<ScanStep, ScanError> {
    let cursor = parse_cursor(cursor)?;
    let primary = match decode(cursor)? {
        Some((slot, fingerprint, position)) if fingerprint == view.fingerprint.0 => view
            .lowest_slots
            .binary_search(&slot)
            .ok()
            .map(|primary| (primary, position)),
        _ => None,
    };
    // A new scan, and one whose layout is gone, start at the first primary.
    let (primary, position) = primary.unwrap_or_default();
    let slot = *view.lowest_slots.get(primary).ok_or(ScanError::NoPrimary)?;
    let next = view.lowest_slots.get(primary + 1).copied();
    Ok(ScanStep {
        primary,
        slot,
        position,
        next,
        fingerprint: view.fingerprint,
    })
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

impl ScanStep {
    /// Appends the request for the primary: the client's own with the node's cursor in place of the proxy's.
    pub fn write_request(&self, args: Args<'_>, out: &mut Vec<u8>) {
        write::array(out, args.len());
        for (index, arg) in args.iter().enumerate() {
            if index == 1 {
                write::bulk(out, itoa::Buffer::new().format(self.position).as_bytes());
            } else {
                write::bulk(out, arg);
            }
        }
    }

    /// Appends the primary's reply with the proxy's cursor in place of the node's. An error is passed on as it is.
    ///
    /// # Errors
    /// [`ScanError::PositionOverflow`], or [`ScanError::UnexpectedReply`] for bytes that are no reply of SCAN; nothing is
    /// appended then.
    pub fn write_reply(&self, reply: &[u8], out: &mut Vec<u8>) -> Result<(), ScanError> {
        if matches!(reply.first(), Some(b'-' | b'!')) {
            out.extend_from_slice(reply);
            return Ok(());
        }
        let body =
            crate::merge::elements::without_attributes(reply).ok_or(ScanError::UnexpectedReply)?;
        let items = crate::merge::elements::elements(body).ok_or(ScanError::UnexpectedReply)?;
        let [node_cursor, keys] = items[..] else {
            return Err(ScanError::UnexpectedReply);
        };
        let Ok(Some((Value::Bulk(node_cursor), _))) = parse_value(node_cursor) else {
            return Err(ScanError::UnexpectedReply);
        };
        let cursor = self.continue_at(node_position(node_cursor)?)?;
        write::array(out, 2);
        write::bulk(out, itoa::Buffer::new().format(cursor).as_bytes());
        out.extend_from_slice(keys);
        Ok(())
    }

    /// The client's next cursor, given where the node says to go on; 0 is its end.
    fn continue_at(&self, position: u64) -> Result<u64, ScanError> {
        let slot = match (position, self.next) {
            (0, None) => return Ok(0),
            (0, Some(next)) => next,
            (position, _) if position >> POSITION_BITS != 0 => {
                return Err(ScanError::PositionOverflow);
            }
            _ => self.slot,
        };
        Ok(MODE_NODE
            | u64::from(slot.get()) << SLOT_SHIFT
            | u64::from(self.fingerprint.0) << FINGERPRINT_SHIFT
            | position << POSITION_SHIFT)
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

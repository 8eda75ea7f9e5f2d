//! The cursors that clients get [S1] [S2]: one decimal number below 2^63.
//!
//! From the lowest bit: mode (2 bits), slot (14 bits), and by the mode
//! * 1, slot by slot: phase (1 bit), fingerprint of the process (19 bits), position in the slot (27 bits);
//! * 2, node by node: fingerprint of the layout (11 bits), position at the node (36 bits).
//!
//! `0` only starts and ends a scan.

use super::ScanError;
use crate::slot::Slot;

const SLOT_SHIFT: u32 = 2;
const SLOT_BITS: u32 = 14;
const PHASE_SHIFT: u32 = SLOT_SHIFT + SLOT_BITS;
const PRINT_SHIFT: u32 = PHASE_SHIFT + 1;
const PRINT_BITS: u32 = 19;
const POSITION_SHIFT: u32 = PRINT_SHIFT + PRINT_BITS;
const POSITION_BITS: u32 = 27;
const LAYOUT_SHIFT: u32 = SLOT_SHIFT + SLOT_BITS;
const LAYOUT_BITS: u32 = 11;
const NODE_POSITION_SHIFT: u32 = LAYOUT_SHIFT + LAYOUT_BITS;
const NODE_POSITION_BITS: u32 = 36;
const MODE_SLOT: u64 = 1;
const MODE_NODE: u64 = 2;

const _: () = assert!(POSITION_SHIFT + POSITION_BITS == 63);
const _: () = assert!(NODE_POSITION_SHIFT + NODE_POSITION_BITS == 63);

/// The greatest fingerprints; the smallest is 1.
pub(super) const MOST_PRINT: u64 = (1 << PRINT_BITS) - 1;
pub(super) const MOST_LAYOUT: u64 = (1 << LAYOUT_BITS) - 1;

/// What a client's cursor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cursor {
    /// 0, or of a mode that other releases may have.
    Start,
    Slot(SlotCursor),
    Node(NodeCursor),
}

/// Where a scan goes on that walks slot by slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlotCursor {
    pub(super) slot: Slot,
    pub(super) phase: Phase,
    /// Of the processes that the position was given by; 0 if any will do.
    pub(super) print: u64,
    /// In the slot, as its node has it.
    pub(super) position: u64,
}

/// Where the keys of a slot are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// At its owner.
    Owner,
    /// At the node that is being given it, when all was looked for at the owner [S8].
    Target,
}

/// Where a scan goes on that walks node by node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeCursor {
    /// The lowest slot of the node.
    pub(super) slot: Slot,
    pub(super) layout: u64,
    pub(super) position: u64,
}

impl SlotCursor {
    /// At a target: all that it has was walked, and it is to be seen whether the slot is still being given to it. Its positions are
    /// one more than the node's, so that no cursor is greater than it must be.
    pub(super) const WALKED: u64 = 1;

    /// The beginning of a slot.
    pub(super) const fn at(slot: Slot) -> Self {
        Self {
            slot,
            phase: Phase::Owner,
            print: 0,
            position: 0,
        }
    }

    pub(super) fn encode(self) -> Result<u64, ScanError> {
        if self.position >> POSITION_BITS != 0 {
            return Err(ScanError::PositionOverflow);
        }
        let phase = match self.phase {
            Phase::Owner => 0,
            Phase::Target => 1,
        };
        Ok(MODE_SLOT
            | u64::from(self.slot.get()) << SLOT_SHIFT
            | phase << PHASE_SHIFT
            | self.print << PRINT_SHIFT
            | self.position << POSITION_SHIFT)
    }
}

impl NodeCursor {
    pub(super) fn encode(self) -> Result<u64, ScanError> {
        if self.position >> NODE_POSITION_BITS != 0 {
            return Err(ScanError::PositionOverflow);
        }
        Ok(MODE_NODE
            | u64::from(self.slot.get()) << SLOT_SHIFT
            | self.layout << LAYOUT_SHIFT
            | self.position << NODE_POSITION_SHIFT)
    }
}

impl Cursor {
    /// What a client sent: digits only, below 2^63.
    pub(super) fn parse(text: &[u8]) -> Result<Self, ScanError> {
        if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
            return Err(ScanError::InvalidCursor);
        }
        let number = std::str::from_utf8(text)
            .ok()
            .and_then(|digits| digits.parse::<u64>().ok())
            .filter(|number| number >> 63 == 0);
        Self::decode(number.ok_or(ScanError::InvalidCursor)?)
    }

    fn decode(number: u64) -> Result<Self, ScanError> {
        let field = |shift: u32, bits: u32| number >> shift & ((1 << bits) - 1);
        let slot = u16::try_from(field(SLOT_SHIFT, SLOT_BITS)).ok();
        let slot = slot.and_then(Slot::new).ok_or(ScanError::InvalidCursor)?;
        match field(0, SLOT_SHIFT) {
            0 if number != 0 => Err(ScanError::InvalidCursor),
            MODE_SLOT => Ok(Self::Slot(SlotCursor {
                slot,
                phase: match field(PHASE_SHIFT, 1) {
                    0 => Phase::Owner,
                    _ => Phase::Target,
                },
                print: field(PRINT_SHIFT, PRINT_BITS),
                position: field(POSITION_SHIFT, POSITION_BITS),
            })),
            MODE_NODE => Ok(Self::Node(NodeCursor {
                slot,
                layout: field(LAYOUT_SHIFT, LAYOUT_BITS),
                position: field(NODE_POSITION_SHIFT, NODE_POSITION_BITS),
            })),
            _ => Ok(Self::Start),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Cursor, MOST_LAYOUT, MOST_PRINT, NodeCursor, Phase, SlotCursor};
    use crate::slot::Slot;

    fn slot(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    proptest! {
        #[test]
        fn s1_cursors_are_read_as_they_were_written(
            number in 0_u16..16_384, target in any::<bool>(), print in 0..=MOST_PRINT, position in 0_u64..1 << 27,
            layout in 0..=MOST_LAYOUT, node_position in 0_u64..1 << 36,
        ) {
            let phase = if target { Phase::Target } else { Phase::Owner };
            let by_slot = SlotCursor { slot: slot(number), phase, print, position };
            let by_node = NodeCursor { slot: slot(number), layout, position: node_position };
            for (text, cursor) in [
                (by_slot.encode().unwrap(), Cursor::Slot(by_slot)),
                (by_node.encode().unwrap(), Cursor::Node(by_node)),
            ] {
                prop_assert!(text != 0 && i64::try_from(text).is_ok());
                prop_assert_eq!(Cursor::parse(text.to_string().as_bytes()), Ok(cursor));
            }
        }

        #[test]
        fn s2_any_bytes_are_a_cursor_or_an_error(text in prop::collection::vec(any::<u8>(), 0..24), number in any::<u64>()) {
            let _ = Cursor::parse(&text);
            let _ = Cursor::parse(number.to_string().as_bytes());
        }
    }

    #[test]
    fn s1_cursors_of_slots_up_to_131072_buckets_fit_into_a_double() {
        let most = SlotCursor {
            position: (1 << 17) - 1,
            print: MOST_PRINT,
            ..SlotCursor::at(slot(16_383))
        };
        assert!(most.encode().unwrap() < 1 << 53);
        let overflow = SlotCursor {
            position: 1 << 27,
            ..most
        };
        assert!(overflow.encode().is_err());
    }
}

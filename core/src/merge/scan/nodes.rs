//! Scans node by node, of servers that keep one table for all slots [S5], and of those that do not let the proxy have more.
//!
//! The primaries are walked one after the other, ascending by their lowest slot. When the layout (which primary owns how much, at
//! which config epoch, which slots are open) has changed since the cursor was given, the scan starts over and returns keys again.
//! With 11 bits, one change in 2047 goes unnoticed.
//!
//! Outside the promise: keys of slots that are open, which can move from behind to before the scan without the layout changing; what
//! moves and is in no snapshot before the scan ends; and keys of a primary that restarts without losing its role.

use super::ScanError;
use super::cursor::{MOST_LAYOUT, NodeCursor};
use super::hash::Hash;
use super::page::{split, write_head};
use crate::merge::elements::without_attributes;
use crate::slot::Slot;
use crate::topology::Snapshot;

/// One step at one primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeWalk {
    /// Lowest slot of the primary.
    slot: Slot,
    /// Lowest slot of the primary to be walked after it.
    next: Option<Slot>,
    layout: u64,
    /// Of the snapshot the step was planned by.
    generation: u64,
}

/// Of facts only that every proxy instance learns alike from the cluster; the number of a snapshot is none.
pub(super) fn layout_of(snapshot: &Snapshot) -> u64 {
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
    hash.folded(MOST_LAYOUT)
}

impl NodeWalk {
    /// The beginning of a scan: of all primaries, or of the owner of the slot that the pattern pins. If that slot is on its way
    /// somewhere its keys may be at two nodes.
    pub(super) fn start(snapshot: &Snapshot, pinned: Option<Slot>) -> Self {
        let open = |slot: &Slot| snapshot.open_slots().iter().any(|open| open.slot == *slot);
        let pinned = pinned.filter(|slot| !open(slot));
        let shard = pinned.and_then(|slot| snapshot.shard_of(slot));
        match shard {
            Some(shard) => Self::at(snapshot, shard.index(), true),
            None => Self::at(snapshot, 0, false),
        }
    }

    fn at(snapshot: &Snapshot, shard: usize, is_only: bool) -> Self {
        let lowest_slot =
            |shard: usize| snapshot.shards().get(shard).map(|shard| shard.lowest_slot);
        Self {
            // Before a topology is known the step waits for the owner of slot 0, the slot of the empty key; `finish` then sees a
            // new layout.
            slot: lowest_slot(shard).unwrap_or_else(|| Slot::of_key(b"")),
            next: lowest_slot(shard + 1).filter(|_| !is_only),
            layout: layout_of(snapshot),
            generation: snapshot.generation,
        }
    }

    /// Where a scan goes on, and at which position of the node; one whose layout is gone starts over.
    pub(super) fn resumed(
        snapshot: &Snapshot,
        pinned: Option<Slot>,
        cursor: NodeCursor,
    ) -> (Self, u64) {
        let start = Self::start(snapshot, pinned);
        let shards = snapshot.shards();
        let found = shards.binary_search_by_key(&cursor.slot, |shard| shard.lowest_slot);
        match found {
            _ if cursor.layout != start.layout => (start, 0),
            Ok(_) if start.slot == cursor.slot => (start, cursor.position),
            // Of a pinned slot no other node is walked.
            Ok(shard) if start.next.is_some() => {
                (Self::at(snapshot, shard, false), cursor.position)
            }
            _ => (start, 0),
        }
    }

    pub(super) const fn slot(&self) -> Slot {
        self.slot
    }

    /// Appends the primary's reply with the proxy's cursor in place of the node's; an error is passed on as it is.
    ///
    /// `snapshot` is the one in use now. If its layout is another than the step was planned by, the step may have gone to the
    /// wrong primary: its keys are passed on, and its cursor makes the scan start over.
    pub(super) fn finish(
        &self,
        reply: &[u8],
        snapshot: &Snapshot,
        out: &mut Vec<u8>,
    ) -> Result<(), ScanError> {
        let body = without_attributes(reply).ok_or(ScanError::UnexpectedReply)?;
        if matches!(body.first(), Some(b'-' | b'!')) {
            out.extend_from_slice(reply);
            return Ok(());
        }
        let same_layout =
            snapshot.generation == self.generation || layout_of(snapshot) == self.layout;
        let (position, keys) = split(body)?;
        let cursor = match (position, self.next) {
            // Slot 0 is the beginning, whoever owns it by then.
            _ if !same_layout => self.encode(Slot::of_key(b""), 0)?,
            (0, None) => 0,
            (0, Some(next)) => self.encode(next, 0)?,
            (position, _) => self.encode(self.slot, position)?,
        };
        write_head(cursor, out);
        out.extend_from_slice(keys);
        Ok(())
    }

    /// The client's cursor for the beginning of the node.
    pub(super) fn cursor(&self) -> Result<u64, ScanError> {
        self.encode(self.slot, 0)
    }

    fn encode(&self, slot: Slot, position: u64) -> Result<u64, ScanError> {
        let layout = self.layout;
        NodeCursor {
            slot,
            layout,
            position,
        }
        .encode()
    }
}

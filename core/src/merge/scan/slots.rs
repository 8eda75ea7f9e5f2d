//! Scans slot by slot, of servers that keep a table per slot: Redis since 7.4, Valkey since 8.0 [S3] [S8] [S9].
//!
//! ```text
//!   MULTI, SCAN (position << 14 | slot) .., CLUSTER NODES, INFO server, EXEC
//! ```
//! The keys, and what the node owns and gives away, are of one instant. A slot is left
//! * when it was walked at its owner in steps between which neither the process nor its config epoch changed, so that it was not away
//!   in between, and the owner was giving it to nobody;
//! * else when it was walked like that at the owner, then at the node it is being given to, and is still being given to it then: a key
//!   that was not met at the owner had gone there before.
//!
//! Otherwise it is walked again. With 19 bits, one change in 524287 goes unnoticed. Outside the promise: a migration that is rolled
//! back by hand and begun again between two calls.
//!
//! A node that cannot say all this makes the scan one by nodes, from its beginning.

use super::cursor::{MOST_PRINT, Phase, SlotCursor};
use super::hash::Hash;
use super::nodes::NodeWalk;
use super::page::{Page, text, write_page};
use super::said::{Incarnation, Said};
use super::{Finish, ScanError, Words};
use crate::merge::elements::{elements, without_attributes};
use crate::resp::write;
use crate::slot::{SLOT_COUNT, Slot};
use crate::topology::{NodeId, Snapshot};

/// A slot and a position in a node's cursor.
const NODE_SLOT_BITS: u32 = 14;
const NODE_SLOT: u64 = (1 << NODE_SLOT_BITS) - 1;

/// What a transaction ends in when a node does not let the proxy's user, or does not know a command.
const DISCARDED: &[u8] = b"-EXECABORT Transaction discarded because of: ";
const NOT_LET: [&[u8]; 2] = [b"NOPERM", b"ERR unknown"];
const NO_MULTI: &[u8] = b"-UNCERTAIN proxy: the node refused MULTI";

/// One question to one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotStep {
    words: Words,
    at: SlotCursor,
    asked: Asked,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    /// The owner, for keys. The scan by nodes that this is the first step of if that is how the node walks.
    Owner(Option<NodeWalk>),
    /// The owner, whether it is giving the slot away.
    Whether,
    /// The node that the owner, which was this process, is giving it to.
    Target { id: NodeId, owner: Incarnation },
}

impl SlotStep {
    /// The beginning of a scan.
    pub(super) fn first(words: Words, snapshot: &Snapshot) -> Self {
        // The slot of the empty key is 0.
        let slot = words.pinned.unwrap_or_else(|| Slot::of_key(b""));
        let walk = NodeWalk::start(snapshot, words.pinned);
        let is_same_node = snapshot.shard_of(walk.slot()) == snapshot.shard_of(slot);
        Self {
            words,
            at: SlotCursor::at(slot),
            asked: Asked::Owner(is_same_node.then_some(walk)),
        }
    }

    pub(super) fn resumed(words: Words, cursor: SlotCursor) -> Self {
        let at = match words.pinned {
            Some(slot) if slot != cursor.slot => SlotCursor::at(slot),
            _ => cursor,
        };
        let asked = match at.phase {
            Phase::Owner => Asked::Owner(None),
            Phase::Target => Asked::Whether,
        };
        Self { words, at, asked }
    }

    pub(super) const fn slot(&self) -> Slot {
        self.at.slot
    }

    pub(super) const fn target(&self) -> Option<&NodeId> {
        match &self.asked {
            Asked::Target { id, .. } => Some(id),
            Asked::Owner(_) | Asked::Whether => None,
        }
    }

    pub(super) fn request(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write::command(&mut out, &[b"MULTI"]);
        if self.asked != Asked::Whether {
            self.words.write_scan(self.node_cursor(), &mut out);
        }
        write::command(&mut out, &[b"CLUSTER", b"NODES"]);
        write::command(&mut out, &[b"INFO", b"server"]);
        write::command(&mut out, &[b"EXEC"]);
        out
    }

    /// Where the node is to go on. It finds a slot that the pattern pins by itself, and 0 means the same to all servers.
    fn node_cursor(&self) -> u64 {
        if self.at.position == 0 && self.words.pinned.is_some() {
            return 0;
        }
        let position = match self.at.phase {
            Phase::Owner => self.at.position,
            Phase::Target => self.at.position.saturating_sub(SlotCursor::WALKED),
        };
        position << NODE_SLOT_BITS | u64::from(self.at.slot.get())
    }

    /// An empty page whose cursor asks the same again.
    pub(super) fn postpone(&self, out: &mut Vec<u8>) {
        if let Err(error) = write_empty(self.at, out) {
            error.write_reply(out);
        }
    }

    pub(super) fn finish(
        &self,
        reply: &[u8],
        snapshot: &Snapshot,
        out: &mut Vec<u8>,
    ) -> Result<Finish, ScanError> {
        let body = without_attributes(reply).ok_or(ScanError::UnexpectedReply)?;
        if matches!(body.first(), Some(b'-' | b'!')) {
            return self.on_error(body, snapshot, out);
        }
        let items = elements(body).ok_or(ScanError::UnexpectedReply)?;
        let (scan, nodes, info) = match items[..] {
            [nodes, info] if self.asked == Asked::Whether => (None, nodes, info),
            [scan, nodes, info] if self.asked != Asked::Whether => (Some(scan), nodes, info),
            _ => return Err(ScanError::UnexpectedReply),
        };
        if let Some(error) = scan.filter(|scan| matches!(scan.first(), Some(b'-' | b'!'))) {
            out.extend_from_slice(error);
            return Ok(Finish::Replied);
        }
        let said = text(nodes)
            .zip(text(info))
            .and_then(|(nodes, info)| Said::parse(nodes, info))
            .filter(|said| said.walks_by_slot);
        let page = scan.map(Page::read).transpose()?;
        let Some(said) = said.filter(|_| page.as_ref().is_none_or(|page| self.is_of_slots(page)))
        else {
            return self.go_by_nodes(scan, snapshot, out);
        };
        match (&self.asked, page) {
            (Asked::Owner(_), Some(page)) => self.on_owner(&said, &page, out),
            (Asked::Target { id, owner }, Some(page)) => {
                self.on_target(id, owner, &said, &page, out)
            }
            _ => self.on_whether(&said, out),
        }
    }

    /// Whether the keys are of slots that a node can have come by which walks slot by slot. Some servers bear versions that they do
    /// not come up to.
    fn is_of_slots(&self, page: &Page<'_>) -> bool {
        let slots = self.at.slot.get()..=last_slot(page.cursor);
        let is_among = |key: &&[u8]| slot_of(key).is_some_and(|slot| slots.contains(&slot.get()));
        !slots.is_empty() && page.keys.iter().all(is_among)
    }

    /// The keys of slots that were walked and are owned, and where to go on.
    fn on_owner(
        &self,
        said: &Said<'_>,
        page: &Page<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Finish, ScanError> {
        let at = self.at;
        if !said.owns(at.slot) {
            write_empty(SlotCursor::at(at.slot), out)?;
            return Ok(Finish::NotOwner);
        }
        let owner = said.incarnation();
        let print = |slot: Slot| print(&[&owner], said.target_of(slot));
        if at.position != 0 && at.print != print(at.slot) {
            write_empty(SlotCursor::at(at.slot), out)?;
            return Ok(Finish::Replied);
        }
        let first = at.slot.get();
        let last = last_slot(page.cursor);
        let foreign = said.first_not_owned(first + 1, last);
        // All slots before this one were walked to their ends.
        let mut end = match foreign {
            Some(slot) => slot.get(),
            None if page.cursor == 0 => SLOT_COUNT,
            None => last,
        };
        if self.words.pinned.is_some() {
            end = end.min(first + 1);
        }
        let open = said.first_migrating(first, end);
        let next = match open {
            Some(slot) => Some(SlotCursor {
                phase: Phase::Target,
                print: print(slot),
                ..SlotCursor::at(slot)
            }),
            None if self.words.pinned.is_some() && end > first => None,
            None if foreign.is_some() => foreign.map(SlotCursor::at),
            None if page.cursor == 0 => None,
            None => Slot::new(last).map(|slot| SlotCursor {
                print: print(slot),
                position: page.cursor >> NODE_SLOT_BITS,
                ..SlotCursor::at(slot)
            }),
        };
        let upto = open.or(foreign).map_or(SLOT_COUNT, Slot::get);
        let is_shown = |slot: Slot| {
            said.owns(slot) && slot.get() <= upto && self.words.pinned.is_none_or(|pin| pin == slot)
        };
        write_walked(next, page, is_shown, out)?;
        Ok(Finish::Replied)
    }

    /// Whether the slot is still being given away as it was; then its keys are looked for where they go, or were all looked for.
    fn on_whether(&self, said: &Said<'_>, out: &mut Vec<u8>) -> Result<Finish, ScanError> {
        let (at, owner) = (self.at, said.incarnation());
        let target = said.target_of(at.slot);
        let is_same = match at.position {
            0 | SlotCursor::WALKED => at.print == print(&[&owner], target),
            // To be seen when the other process is known.
            _ => true,
        };
        let Some(target) = target.filter(|_| is_same) else {
            write_empty(SlotCursor::at(at.slot), out)?;
            return Ok(if said.owns(at.slot) {
                Finish::Replied
            } else {
                Finish::NotOwner
            });
        };
        if at.position == SlotCursor::WALKED {
            let next = Slot::new(at.slot.get() + 1).filter(|_| self.words.pinned.is_none());
            let cursor = next.map_or(Ok(0), |slot| SlotCursor::at(slot).encode())?;
            write_page(cursor, &[], out);
            return Ok(Finish::Replied);
        }
        let id = NodeId::new(target);
        let step = Self {
            words: self.words.clone(),
            at,
            asked: Asked::Target { id, owner },
        };
        Ok(Finish::Then(step.into()))
    }

    fn on_target(
        &self,
        id: &NodeId,
        owner: &Incarnation,
        said: &Said<'_>,
        page: &Page<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Finish, ScanError> {
        let at = self.at;
        if !said.is(id.as_str()) {
            // Another one was asked, as that one could not be.
            write_empty(at, out)?;
            return Ok(Finish::NotOwner);
        }
        let target = Some(id.as_str());
        let print_of_both = print(&[owner, &said.incarnation()], target);
        if at.position != 0 && at.print != print_of_both {
            write_empty(SlotCursor::at(at.slot), out)?;
            return Ok(Finish::Replied);
        }
        let position = page.cursor >> NODE_SLOT_BITS;
        let is_walked = page.cursor == 0 || last_slot(page.cursor) != at.slot.get();
        let (print, position) = match position {
            _ if is_walked => (print(&[owner], target), SlotCursor::WALKED),
            0 => (print(&[owner], target), 0),
            position => (print_of_both, position + SlotCursor::WALKED),
        };
        let next = SlotCursor {
            print,
            position,
            ..at
        };
        write_walked(Some(next), page, |slot| slot == at.slot, out)?;
        Ok(Finish::Replied)
    }

    /// The node did not carry out the transaction.
    fn on_error(
        &self,
        error: &[u8],
        snapshot: &Snapshot,
        out: &mut Vec<u8>,
    ) -> Result<Finish, ScanError> {
        let cause = error.strip_prefix(DISCARDED);
        let is_let = |cause: &[u8]| !NOT_LET.iter().any(|text| cause.starts_with(text));
        if error.starts_with(NO_MULTI) || cause.is_some_and(|cause| !is_let(cause)) {
            return self.go_by_nodes(None, snapshot, out);
        }
        match cause {
            Some(cause) => write::error(out, cause.trim_ascii_end()),
            None => out.extend_from_slice(error),
        }
        Ok(Finish::Replied)
    }

    /// The node does not walk slot by slot, or does not say what is to be known: the scan goes by nodes. `scan` is its reply to SCAN.
    fn go_by_nodes(
        &self,
        scan: Option<&[u8]>,
        snapshot: &Snapshot,
        out: &mut Vec<u8>,
    ) -> Result<Finish, ScanError> {
        match (&self.asked, scan) {
            (Asked::Owner(Some(walk)), Some(scan)) if self.node_cursor() == 0 => {
                walk.finish(scan, snapshot, out)?;
            }
            _ => {
                let start = NodeWalk::start(snapshot, self.words.pinned);
                write_page(start.cursor()?, &[], out);
            }
        }
        Ok(Finish::Replied)
    }
}

/// Of the processes that a position was given by, and of whom the slot was being given to: keys that have come back since were
/// perhaps not met.
fn print(processes: &[&Incarnation], target: Option<&str>) -> u64 {
    let mut hash = Hash::new();
    processes.iter().for_each(|process| process.feed(&mut hash));
    hash.feed(target.unwrap_or_default().as_bytes());
    hash.folded(MOST_PRINT)
}

/// The slot that a node has come to, of which it may have walked a part; the very last one at the end.
fn last_slot(cursor: u64) -> u16 {
    let slot = match cursor {
        0 => u64::from(SLOT_COUNT - 1),
        cursor => cursor & NODE_SLOT,
    };
    u16::try_from(slot).unwrap_or(SLOT_COUNT - 1)
}

fn slot_of(key: &[u8]) -> Option<Slot> {
    text(key).map(Slot::of_key)
}

fn write_empty(cursor: SlotCursor, out: &mut Vec<u8>) -> Result<(), ScanError> {
    write_page(cursor.encode()?, &[], out);
    Ok(())
}

/// The keys of slots for which `is_shown` says so; `None` ends the scan.
fn write_walked(
    next: Option<SlotCursor>,
    page: &Page<'_>,
    is_shown: impl Fn(Slot) -> bool,
    out: &mut Vec<u8>,
) -> Result<(), ScanError> {
    let cursor = next.map_or(Ok(0), SlotCursor::encode)?;
    let mut keys = page.keys.clone();
    keys.retain(|key| slot_of(key).is_some_and(&is_shown));
    write_page(cursor, &keys, out);
    Ok(())
}

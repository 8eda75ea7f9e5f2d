//! SCAN over all primaries [S1]-[S10]: what a node is asked, and what its reply says to the client. Nothing is kept between two
//! calls: any proxy instance can go on, because everything needed is in the cursor.
//!
//! The promise is that a key present all the time is returned at least once. A position means something only at the process that
//! gave it, and keys move between nodes, so every step looks whether both are as they were:
//!
//! * `slots`: servers that keep a table per slot are walked slot by slot. A step is a transaction, in which the node also says what
//!   it owns; a slot whose owner has changed is walked again, and nothing else.
//! * `nodes`: older servers are walked one after the other. When the layout has changed, the scan starts over.
//!
//! Which of both a scan is the servers tell with the first reply. A pattern that only keys of one slot can match asks no other [S9].

mod cursor;
mod hash;
mod nodes;
mod page;
mod said;
mod slots;

use self::cursor::Cursor;
use self::nodes::NodeWalk;
use self::slots::SlotStep;
use crate::resp::{Args, write};
use crate::slot::Slot;
use crate::topology::{NodeId, Snapshot};

/// One question to one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    request: Vec<u8>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Node(NodeWalk),
    Slot(Box<SlotStep>),
}

/// What the reply to a step led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Finish {
    /// The client's reply is written.
    Replied,
    /// So it is, and the node that was asked does not own what it was taken for the owner of.
    NotOwner,
    /// Another node is to be asked first.
    Then(Step),
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
    let words = Words::of(args);
    Ok(match Cursor::parse(args.get(1).unwrap_or_default())? {
        Cursor::Start => SlotStep::first(words, snapshot).into(),
        Cursor::Slot(cursor) => SlotStep::resumed(words, cursor).into(),
        Cursor::Node(cursor) => {
            let (walk, position) = NodeWalk::resumed(snapshot, words.pinned, cursor);
            let mut request = Vec::new();
            words.write_scan(position, &mut request);
            Step {
                request,
                kind: Kind::Node(walk),
            }
        }
    })
}

impl From<SlotStep> for Step {
    fn from(step: SlotStep) -> Self {
        Self {
            request: step.request(),
            kind: Kind::Slot(Box::new(step)),
        }
    }
}

impl Step {
    /// A slot of the primary to ask.
    #[must_use]
    pub fn slot(&self) -> Slot {
        match &self.kind {
            Kind::Node(walk) => walk.slot(),
            Kind::Slot(step) => step.slot(),
        }
    }

    /// The node to ask, if not the owner of [`Self::slot`].
    #[must_use]
    pub fn node(&self) -> Option<&NodeId> {
        match &self.kind {
            Kind::Node(_) => None,
            Kind::Slot(step) => step.target(),
        }
    }

    /// The request is a transaction; its reply is that to EXEC.
    #[must_use]
    pub const fn is_unit(&self) -> bool {
        matches!(self.kind, Kind::Slot(_))
    }

    /// The request for the node, or all commands of the transaction.
    #[must_use]
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Appends the reply for the client, given that of the node, or gives the step that comes before it. An error is passed on.
    /// `snapshot` is the one in use now.
    pub fn finish(&self, reply: &[u8], snapshot: &Snapshot, out: &mut Vec<u8>) -> Finish {
        let finished = match &self.kind {
            Kind::Node(walk) => walk.finish(reply, snapshot, out).map(|()| Finish::Replied),
            Kind::Slot(step) => step.finish(reply, snapshot, out),
        };
        finished.unwrap_or_else(|error| {
            error.write_reply(out);
            Finish::Replied
        })
    }

    /// Appends an empty page whose cursor asks the same again, for a step that no node can be asked now.
    pub fn postpone(&self, out: &mut Vec<u8>) {
        if let Kind::Slot(step) = &self.kind {
            step.postpone(out);
        }
    }
}

/// The words of the client's SCAN around its cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Words {
    name: Vec<u8>,
    /// What follows the cursor, as it is sent, and how many words that is.
    options: Vec<u8>,
    count: usize,
    /// The only slot whose keys can match [S9].
    pinned: Option<Slot>,
}

impl Words {
    fn of(args: Args<'_>) -> Self {
        let mut options = Vec::new();
        args.iter()
            .skip(2)
            .for_each(|word| write::bulk(&mut options, word));
        Self {
            name: args.name().to_vec(),
            options,
            count: args.len().saturating_sub(2),
            pinned: pinned_slot(args),
        }
    }

    /// The client's request with the node's cursor in place of the proxy's.
    fn write_scan(&self, position: u64, out: &mut Vec<u8>) {
        write::array(out, self.count + 2);
        write::bulk(out, &self.name);
        write::bulk(out, itoa::Buffer::new().format(position).as_bytes());
        out.extend_from_slice(&self.options);
    }
}

/// As the servers read the options: the last pattern counts. What they would call a syntax error pins nothing.
fn pinned_slot(args: Args<'_>) -> Option<Slot> {
    let (mut pinned, mut index) = (None, 2);
    while let Some(option) = args.get(index) {
        let value = args.get(index + 1)?;
        if option.eq_ignore_ascii_case(b"MATCH") {
            pinned = Slot::of_pattern(value);
        }
        index += 2;
    }
    pinned
}

#[cfg(test)]
mod tests;

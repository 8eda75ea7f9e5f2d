//! What one node says about the cluster, as parsed from its reply; several views are merged into a snapshot.

use std::fmt;
use std::sync::Arc;

use super::{Address, MAX_NODES, NodeId, NodeState, OpenSlot, Role};
use crate::slot::{SLOT_COUNT, Slot};

/// Entry of a slot nobody owns in this view.
const NO_OWNER: u16 = u16::MAX;

/// One node as one view has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewNode {
    /// The cluster's name of the node.
    pub id: NodeId,
    /// Its address after `address_map`; `None` if the answering node does not know it.
    pub address: Option<Address>,
    /// Announced host name, if any.
    pub hostname: Option<Arc<str>>,
    /// Primary or replica.
    pub role: Role,
    /// The primary it follows, if it follows one.
    pub primary_id: Option<NodeId>,
    /// The answering node's opinion of its health.
    pub state: NodeState,
    /// Whether the answering node has a cluster bus link to it.
    pub link_connected: bool,
    /// Whether the answering node ever got an answer from it over the bus since it started.
    pub heard: bool,
    /// Configuration epoch; `None` if the source does not tell epochs (`CLUSTER SLOTS`).
    pub config_epoch: Option<u64>,
}

/// The cluster as one node sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct View {
    /// Where the answer came from.
    pub answered_by: Address,
    /// Which of the nodes answered, if known.
    pub myself: Option<NodeId>,
    /// `cluster_state` of the answering node: `Some(false)` if it says `fail`, `None` if it would not tell.
    pub cluster_ok: Option<bool>,
    nodes: Vec<ViewNode>,
    /// Position in `nodes` of the owner of each slot, or [`NO_OWNER`].
    owners: Box<[u16]>,
    open_slots: Vec<OpenSlot>,
}

/// Why a reply is no view. Such a reply is not used at all: a table with holes is worse than an old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The reply is not of the type the command has.
    #[error("reply of an unexpected type")]
    Shape,
    /// A row (counted from 1) is malformed.
    #[error("row {row}: {problem}")]
    Row {
        /// Number of the row.
        row: u32,
        /// What is wrong with it.
        problem: RowProblem,
    },
    /// No row, or more than one, is marked as the answering node.
    #[error("not exactly one row is marked as the answering node")]
    Myself,
    /// More nodes than a snapshot holds.
    #[error("more than {MAX_NODES} nodes")]
    TooManyNodes,
}

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowProblem {
    /// Bytes that are not UTF-8.
    #[error("not text")]
    NotText,
    /// A field is missing.
    #[error("too few fields")]
    TooFewFields,
    /// The node id is empty, too long or not printable.
    #[error("bad node id")]
    Id,
    /// The same node was there before.
    #[error("duplicate node")]
    DuplicateNode,
    /// Host or port is malformed.
    #[error("bad address")]
    Address,
    /// Neither primary nor replica, or both.
    #[error("no role")]
    Role,
    /// The configuration epoch is no number.
    #[error("bad epoch")]
    Epoch,
    /// The link state is neither connected nor disconnected.
    #[error("bad link state")]
    LinkState,
    /// A slot or range is malformed or beyond 16383.
    #[error("bad slot")]
    Slot,
    /// A slot has two owners.
    #[error("slot with two owners")]
    DuplicateSlot,
    /// A replica is said to own slots.
    #[error("replica with slots")]
    ReplicaWithSlots,
}

impl ViewError {
    /// The value of the metric label `reason`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Shape => "shape",
            Self::Row { .. } => "bad_row",
            Self::Myself => "no_myself",
            Self::TooManyNodes => "too_many_nodes",
        }
    }
}

impl fmt::Debug for View {
    /// Without the 16384 entries of the slot table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("answered_by", &self.answered_by)
            .field("myself", &self.myself)
            .field("cluster_ok", &self.cluster_ok)
            .field("nodes", &self.nodes)
            .field("covered_slots", &self.covered_slots())
            .field("open_slots", &self.open_slots)
            .finish()
    }
}

impl View {
    /// A view without nodes.
    pub(super) fn new(answered_by: &Address) -> Self {
        Self {
            answered_by: answered_by.clone(),
            myself: None,
            cluster_ok: None,
            nodes: Vec::new(),
            owners: vec![NO_OWNER; usize::from(SLOT_COUNT)].into_boxed_slice(),
            open_slots: Vec::new(),
        }
    }

    /// The same view with what `CLUSTER INFO` of the node says about the state of the cluster.
    #[must_use]
    pub fn with_cluster_state(mut self, ok: Option<bool>) -> Self {
        self.cluster_ok = ok;
        self
    }

    /// The nodes of the view, in the order of the reply.
    #[must_use]
    pub fn nodes(&self) -> &[ViewNode] {
        &self.nodes
    }

    /// The node that owns `slot` in this view.
    #[must_use]
    pub fn owner(&self, slot: Slot) -> Option<&ViewNode> {
        self.nodes.get(self.owner_position(slot)?)
    }

    /// Position in [`Self::nodes`] of the owner of `slot`.
    pub(super) fn owner_position(&self, slot: Slot) -> Option<usize> {
        match self.owners.get(slot.index()) {
            Some(&owner) if owner != NO_OWNER => Some(usize::from(owner)),
            _ => None,
        }
    }

    /// The nodes that own at least one slot in this view.
    pub(super) fn owning_nodes(&self) -> impl Iterator<Item = &ViewNode> {
        let mut owns = vec![false; self.nodes.len()];
        for &owner in &self.owners {
            if let Some(owns) = owns.get_mut(usize::from(owner)) {
                *owns = true;
            }
        }
        self.nodes
            .iter()
            .zip(owns)
            .filter(|(_, owns)| *owns)
            .map(|(node, _)| node)
    }

    /// How many slots have an owner in this view.
    #[must_use]
    pub fn covered_slots(&self) -> usize {
        self.owners
            .iter()
            .filter(|&&owner| owner != NO_OWNER)
            .count()
    }

    /// Slots the answering node is importing or migrating.
    #[must_use]
    pub fn open_slots(&self) -> &[OpenSlot] {
        &self.open_slots
    }

    /// Adds a node; its position is returned.
    pub(super) fn push_node(&mut self, node: ViewNode) -> Result<usize, ViewError> {
        if self.nodes.len() >= MAX_NODES {
            return Err(ViewError::TooManyNodes);
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    /// Gives the slots `first` to `last` to the node at `position`.
    pub(super) fn assign(
        &mut self,
        position: usize,
        first: Slot,
        last: Slot,
    ) -> Result<(), RowProblem> {
        // MAX_NODES keeps positions below NO_OWNER.
        let owner = u16::try_from(position).unwrap_or(NO_OWNER);
        let range = self
            .owners
            .get_mut(first.index()..=last.index())
            .ok_or(RowProblem::Slot)?;
        for entry in range {
            if *entry != NO_OWNER {
                return Err(RowProblem::DuplicateSlot);
            }
            *entry = owner;
        }
        Ok(())
    }

    /// Records a slot the answering node has open.
    pub(super) fn push_open_slot(&mut self, open: OpenSlot) {
        self.open_slots.push(open);
    }
}

/// A node id as servers write it: 40 hexadecimal digits; compatible servers use other short printable words.
pub(super) fn checked_id(text: &str) -> Result<NodeId, RowProblem> {
    if text.is_empty() || text.len() > 128 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(RowProblem::Id);
    }
    Ok(NodeId::new(text))
}

/// A slot number, or `None` if it is malformed or too large.
pub(super) fn checked_slot(text: &str) -> Result<Slot, RowProblem> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(RowProblem::Slot);
    }
    text.parse()
        .ok()
        .and_then(Slot::new)
        .ok_or(RowProblem::Slot)
}

//! The immutable table every routing decision reads [T1].

use std::collections::HashMap;
use std::fmt;

use super::{Address, Node, NodeId, NodeState, Role};
use crate::slot::{SLOT_COUNT, Slot};

/// Most nodes a snapshot holds; a reply that names more is rejected. Real clusters end near 1000 nodes.
pub const MAX_NODES: usize = 16_384;

/// Table entry of a slot nobody owns.
const NO_SHARD: u16 = u16::MAX;

/// Position of a node in one [`Snapshot`]; means nothing in another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeIndex(u16);

impl NodeIndex {
    /// The position as an index into [`Snapshot::nodes`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Position of a shard in one [`Snapshot`]; means nothing in another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardIndex(u16);

impl ShardIndex {
    /// The position as an index into [`Snapshot::shards`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A primary that owns at least one slot, and its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// The owner of the slots.
    pub primary: NodeIndex,
    /// The nodes that follow it, in table order, whatever their health.
    pub replicas: Vec<NodeIndex>,
    /// Configuration epoch under which the primary owns its slots; 0 if unknown.
    pub epoch: u64,
    /// The lowest slot it owns.
    pub lowest_slot: Slot,
    /// How many slots it owns.
    pub slot_count: u16,
}

/// A slot on its way from one node to another [T20]. Known for pace and SCAN only; routing never looks at it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenSlot {
    /// The slot.
    pub slot: Slot,
    /// The node that gives it away, if known.
    pub source: Option<NodeId>,
    /// The node that takes it, if known.
    pub target: Option<NodeId>,
}

/// A replica that owns slots of the primary that it followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// The old primary.
    pub from: NodeId,
    /// The new one.
    pub to: NodeId,
}

/// Who owns which slot, as of one generation. Never changed after it was built: readers keep a pointer and see one state.
#[derive(Clone)]
pub struct Snapshot {
    /// Grows by one at every swap.
    pub generation: u64,
    /// Failovers that are in it by halves: only `MOVED` told of the new primary, so it owns the slots that were asked for and the old
    /// one still owns the others.
    pub promotions: Vec<Promotion>,
    /// Shard of each slot, or [`NO_SHARD`]; `SLOT_COUNT` entries.
    slots: Box<[u16]>,
    shards: Vec<Shard>,
    nodes: Vec<Node>,
    open_slots: Vec<OpenSlot>,
    by_id: HashMap<NodeId, NodeIndex>,
    by_address: HashMap<Address, NodeIndex>,
    uncovered: u16,
}

impl fmt::Debug for Snapshot {
    /// Without the 16384 entries of the slot table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("generation", &self.generation)
            .field("shards", &self.shards)
            .field("nodes", &self.nodes)
            .field("open_slots", &self.open_slots)
            .field("uncovered", &self.uncovered)
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    /// Generation 0: no nodes, no slots; what the proxy starts with.
    #[must_use]
    pub fn empty() -> Self {
        SnapshotBuilder::new().build(0)
    }

    /// The shard that owns `slot`.
    #[must_use]
    #[inline]
    pub fn shard_of(&self, slot: Slot) -> Option<ShardIndex> {
        match self.slots.get(slot.index()) {
            Some(&shard) if shard != NO_SHARD => Some(ShardIndex(shard)),
            _ => None,
        }
    }

    /// The node that owns `slot`.
    #[must_use]
    #[inline]
    pub fn primary_of(&self, slot: Slot) -> Option<&Node> {
        self.shard_of(slot).map(|shard| self.primary(shard))
    }

    /// All shards that own at least one slot, ascending by their lowest slot.
    #[must_use]
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// One shard.
    ///
    /// # Panics
    /// May, if the index came from another snapshot: positions do not outlive a swap.
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "an index of another snapshot is a bug of the caller, not an input"
    )]
    pub fn shard(&self, index: ShardIndex) -> &Shard {
        &self.shards[index.index()]
    }

    /// All nodes, those without slots too.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node.
    ///
    /// # Panics
    /// May, if the index came from another snapshot: positions do not outlive a swap.
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "an index of another snapshot is a bug of the caller, not an input"
    )]
    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.index()]
    }

    /// The primary of a shard.
    ///
    /// # Panics
    /// May, if the index came from another snapshot.
    #[must_use]
    pub fn primary(&self, shard: ShardIndex) -> &Node {
        self.node(self.shard(shard).primary)
    }

    /// The node with this id.
    #[must_use]
    pub fn node_by_id(&self, id: &NodeId) -> Option<&Node> {
        self.by_id.get(id).map(|index| self.node(*index))
    }

    /// Position of the node with this id.
    #[must_use]
    pub fn index_of(&self, id: &NodeId) -> Option<NodeIndex> {
        self.by_id.get(id).copied()
    }

    /// The node at this address; of several, the healthiest.
    #[must_use]
    pub fn node_by_address(&self, address: &Address) -> Option<&Node> {
        self.by_address.get(address).map(|index| self.node(*index))
    }

    /// Position of the node at this address; of several, the healthiest.
    #[must_use]
    pub fn index_by_address(&self, address: &Address) -> Option<NodeIndex> {
        self.by_address.get(address).copied()
    }

    /// How many of the 16384 slots nobody owns.
    #[must_use]
    pub fn uncovered_slots(&self) -> u16 {
        self.uncovered
    }

    /// No node is known: nothing was learned yet. A cluster whose nodes own no slots is not empty in this sense [T11].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Slots on their way between nodes, ascending.
    #[must_use]
    pub fn open_slots(&self) -> &[OpenSlot] {
        &self.open_slots
    }

    /// Whether both tables say the same, whatever their generations.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        self.slots == other.slots
            && self.shards == other.shards
            && self.nodes == other.nodes
            && self.open_slots == other.open_slots
            && self.promotions == other.promotions
    }

    /// Whether some shard's primary is not fit to take requests as far as the cluster knows.
    #[must_use]
    pub fn has_failed_primary(&self) -> bool {
        self.shards
            .iter()
            .map(|shard| self.node(shard.primary))
            .any(|primary| primary.state == NodeState::Failed)
    }

    /// A builder that holds what this snapshot says, for a changed copy of it.
    #[must_use]
    pub(super) fn to_builder(&self) -> SnapshotBuilder {
        let owners = self
            .slots
            .iter()
            .map(|&shard| {
                self.shards
                    .get(usize::from(shard))
                    .map(|shard| shard.primary)
            })
            .collect();
        SnapshotBuilder {
            nodes: self.nodes.clone(),
            owners,
            open_slots: self.open_slots.clone(),
        }
    }
}

/// More nodes than [`MAX_NODES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_NODES} nodes")]
pub struct TooManyNodes;

/// Collects nodes and slot owners, then makes a [`Snapshot`] of them.
#[derive(Debug)]
pub struct SnapshotBuilder {
    nodes: Vec<Node>,
    /// Owner of each slot; `SLOT_COUNT` entries.
    owners: Vec<Option<NodeIndex>>,
    open_slots: Vec<OpenSlot>,
}

impl Default for SnapshotBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl SnapshotBuilder {
    /// No nodes, no slots.
    #[must_use]
    pub fn new() -> Self {
        Self {
            nodes: Vec::new(),
            owners: vec![None; usize::from(SLOT_COUNT)],
            open_slots: Vec::new(),
        }
    }

    /// Adds a node; it keeps this position in the snapshot. Ids must be distinct.
    ///
    /// # Errors
    /// When there are [`MAX_NODES`] nodes already.
    pub fn add_node(&mut self, node: Node) -> Result<NodeIndex, TooManyNodes> {
        if self.nodes.len() >= MAX_NODES {
            return Err(TooManyNodes);
        }
        let index = u16::try_from(self.nodes.len()).map_err(|_beyond_u16| TooManyNodes)?;
        self.nodes.push(node);
        Ok(NodeIndex(index))
    }

    /// Makes `owner` the owner of `slot`, in place of any earlier one.
    pub fn assign(&mut self, slot: Slot, owner: NodeIndex) {
        if let Some(entry) = self.owners.get_mut(slot.index()) {
            *entry = Some(owner);
        }
    }

    /// Records a slot on its way between nodes.
    pub fn add_open_slot(&mut self, open: OpenSlot) {
        self.open_slots.push(open);
    }

    /// Changes a node that was added.
    #[cfg(test)]
    pub(super) fn node_mut(&mut self, index: NodeIndex) -> Option<&mut Node> {
        self.nodes.get_mut(index.index())
    }

    /// The finished snapshot. A node that owns slots is a primary, whatever was said about its role.
    #[must_use]
    pub fn build(self, generation: u64) -> Snapshot {
        let Self {
            mut nodes,
            owners,
            mut open_slots,
        } = self;
        let (slots, mut shards, uncovered) = group_by_owner(&owners, &mut nodes);
        let mut by_id = HashMap::with_capacity(nodes.len());
        let mut by_address: HashMap<Address, NodeIndex> = HashMap::with_capacity(nodes.len());
        for (position, node) in (0u16..).zip(&nodes) {
            by_id.insert(node.id.clone(), NodeIndex(position));
            // A dead node's address may have been given to a live one: the live one is who answers there.
            let earlier = by_address
                .get(&node.address)
                .and_then(|index| nodes.get(index.index()));
            if earlier.is_none_or(|earlier| fitness(node) > fitness(earlier)) {
                by_address.insert(node.address.clone(), NodeIndex(position));
            }
        }
        let shard_of_primary: HashMap<NodeIndex, usize> = shards
            .iter()
            .enumerate()
            .map(|(position, shard)| (shard.primary, position))
            .collect();
        for (position, node) in (0u16..).zip(&nodes) {
            let followed = node.primary_id.as_ref().and_then(|id| by_id.get(id));
            if node.role == Role::Replica
                && let Some(shard) = followed.and_then(|primary| shard_of_primary.get(primary))
                && let Some(shard) = shards.get_mut(*shard)
            {
                shard.replicas.push(NodeIndex(position));
            }
        }
        open_slots.sort_unstable();
        open_slots.dedup();
        Snapshot {
            generation,
            promotions: Vec::new(),
            slots,
            shards,
            nodes,
            open_slots,
            by_id,
            by_address,
            uncovered,
        }
    }
}

/// Shard of every slot, the shards by lowest slot, and the number of slots without owner.
fn group_by_owner(
    owners: &[Option<NodeIndex>],
    nodes: &mut [Node],
) -> (Box<[u16]>, Vec<Shard>, u16) {
    let mut slots = vec![NO_SHARD; usize::from(SLOT_COUNT)].into_boxed_slice();
    let mut shard_of_node = vec![NO_SHARD; nodes.len()];
    let mut shards: Vec<Shard> = Vec::new();
    let mut uncovered = 0;
    let rows = (0..SLOT_COUNT)
        .filter_map(Slot::new)
        .zip(owners)
        .zip(slots.iter_mut());
    for ((slot, owner), entry) in rows {
        let Some(index) = owner else {
            uncovered += 1;
            continue;
        };
        let node = nodes.get_mut(index.index());
        let (Some(node), Some(shard_of_node)) = (node, shard_of_node.get_mut(index.index())) else {
            uncovered += 1;
            continue;
        };
        if *shard_of_node == NO_SHARD {
            node.role = Role::Primary;
            node.primary_id = None;
            // There are at most MAX_NODES shards, so the number fits and is never NO_SHARD.
            *shard_of_node = u16::try_from(shards.len()).unwrap_or(NO_SHARD);
            let epoch = node.config_epoch;
            shards.push(Shard {
                primary: *index,
                replicas: Vec::new(),
                epoch,
                lowest_slot: slot,
                slot_count: 0,
            });
        }
        *entry = *shard_of_node;
        if let Some(shard) = shards.get_mut(usize::from(*shard_of_node)) {
            shard.slot_count += 1;
        }
    }
    (slots, shards, uncovered)
}

/// Which of two nodes that name the same address is the one that answers there; more is better.
fn fitness(node: &Node) -> (bool, bool, bool, u64) {
    let failed = node.state == NodeState::Failed;
    (
        !failed,
        node.link_connected,
        node.role == Role::Primary,
        node.config_epoch,
    )
}

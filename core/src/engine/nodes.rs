//! The nodes as one worker uses them: which node serves each shard, and the links to each.

use std::collections::HashMap;

use super::keys::{LinkKey, NodeKey};
use super::outage::Outages;
use crate::backend::Fence;
use crate::metrics::Histogram;
use crate::resp::Protocol;
use crate::slot::Slot;
use crate::time::Timestamp;
use crate::topology::{Address, NodeId, Snapshot};

/// One node, under one address. A node that changes its address becomes a new entry; the old one drains [T14].
#[derive(Debug)]
pub(crate) struct Node {
    /// `None` for the target of a redirection that the snapshot does not know [E7].
    pub(crate) id: Option<NodeId>,
    pub(crate) address: Address,
    /// Links by RESP version, then by index.
    pub(crate) links: [Vec<Option<LinkKey>>; 2],
    /// The connection that asks whether it still answers, while it is silent on the others [HL2].
    pub(crate) probe: Option<LinkKey>,
    /// When a probe was last opened.
    pub(crate) probed_at: Option<Timestamp>,
    /// When it last sent something on a connection that was through its handshake.
    pub(crate) heard: Timestamp,
    /// Connection attempts that failed in a row.
    pub(crate) failures: u32,
    /// It refused the proxy's credentials at the last attempt.
    pub(crate) login_refused: bool,
    /// No connection is attempted before.
    pub(crate) retry_at: Timestamp,
    /// It says that it takes no reads, or no writes.
    pub(crate) outages: Outages,
    /// Connections given up while it may have had requests of them to execute: the next connection has them killed first [D9].
    pub(crate) fences: Vec<Fence>,
    /// The snapshot names it.
    pub(crate) known: bool,
    /// The snapshot names it as the primary of a shard.
    pub(crate) primary: bool,
    pub(crate) answered: u64,
    pub(crate) latency: Histogram,
}

impl Node {
    fn new(id: Option<NodeId>, address: Address) -> Self {
        Self {
            id,
            address,
            links: [Vec::new(), Vec::new()],
            probe: None,
            probed_at: None,
            heard: Timestamp::ZERO,
            failures: 0,
            login_refused: false,
            retry_at: Timestamp::ZERO,
            outages: [None, None],
            fences: Vec::new(),
            known: false,
            primary: false,
            answered: 0,
            latency: Histogram::default(),
        }
    }

    /// The link for `protocol` at `index`, if there is one in any phase.
    pub(crate) fn link(&self, protocol: Protocol, index: usize) -> Option<LinkKey> {
        self.links[protocol.index()].get(index).copied().flatten()
    }

    pub(crate) fn set_link(&mut self, protocol: Protocol, index: usize, link: Option<LinkKey>) {
        let links = &mut self.links[protocol.index()];
        if links.len() <= index {
            links.resize(index + 1, None);
        }
        links[index] = link;
    }

    /// Forgets `link`.
    pub(crate) fn detach(&mut self, link: LinkKey) {
        for entry in self.links.iter_mut().flatten() {
            if *entry == Some(link) {
                *entry = None;
            }
        }
        if self.probe == Some(link) {
            self.probe = None;
        }
    }

    pub(crate) fn has_links(&self) -> bool {
        self.probe.is_some() || self.links.iter().flatten().any(Option::is_some)
    }
}

/// All nodes a worker has to do with.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    entries: slab::Slab<Node>,
    by_identity: HashMap<(NodeId, Address), NodeKey>,
    by_address: HashMap<Address, NodeKey>,
    /// Primary of each shard of the snapshot.
    primaries: Vec<NodeKey>,
}

impl Nodes {
    /// Takes over what `snapshot` says. Nodes it does not name stay, marked unknown, until they are forgotten.
    pub(crate) fn adopt(&mut self, snapshot: &Snapshot) {
        for (_, node) in &mut self.entries {
            node.known = false;
            node.primary = false;
        }
        for node in snapshot.nodes() {
            let key = self.identified(&node.id, &node.address);
            self.entries[key.index()].known = true;
        }
        for node in snapshot.nodes() {
            // Of several nodes that name an address, the healthiest answers there.
            if snapshot
                .node_by_address(&node.address)
                .is_some_and(|there| there.id == node.id)
            {
                let key = self.identified(&node.id, &node.address);
                self.by_address.insert(node.address.clone(), key);
            }
        }
        self.primaries.clear();
        for shard in snapshot.shards() {
            let node = snapshot.node(shard.primary);
            let key = self.identified(&node.id, &node.address);
            self.entries[key.index()].primary = true;
            self.primaries.push(key);
        }
    }

    fn identified(&mut self, id: &NodeId, address: &Address) -> NodeKey {
        if let Some(key) = self.by_identity.get(&(id.clone(), address.clone())) {
            return *key;
        }
        // A node met through a redirection gets its name now, unless the address is another node's.
        let unnamed = self
            .by_address
            .get(address)
            .copied()
            .filter(|key| self.entries[key.index()].id.is_none());
        let key = unnamed.unwrap_or_else(|| {
            NodeKey::from_index(self.entries.insert(Node::new(None, address.clone())))
        });
        self.entries[key.index()].id = Some(id.clone());
        self.by_identity.insert((id.clone(), address.clone()), key);
        self.by_address.insert(address.clone(), key);
        key
    }

    /// The node that owns `slot` by `snapshot`, which must be the one last adopted.
    #[inline]
    pub(crate) fn owner(&self, snapshot: &Snapshot, slot: Slot) -> Option<NodeKey> {
        self.primaries
            .get(snapshot.shard_of(slot)?.index())
            .copied()
    }

    /// The node at `address`, entered if it is new [E7].
    pub(crate) fn at(&mut self, address: &Address) -> NodeKey {
        if let Some(key) = self.by_address.get(address) {
            return *key;
        }
        let key = NodeKey::from_index(self.entries.insert(Node::new(None, address.clone())));
        self.by_address.insert(address.clone(), key);
        key
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.entries.iter_mut().map(|(_, node)| node)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeKey, &Node)> {
        self.entries
            .iter()
            .map(|(index, node)| (NodeKey::from_index(index), node))
    }

    /// Forgets nodes that the snapshot does not name and that have no links. `in_use` tells which are still targets.
    pub(crate) fn forget_unused(&mut self, in_use: impl Fn(NodeKey) -> bool) {
        let (by_identity, by_address) = (&mut self.by_identity, &mut self.by_address);
        self.entries.retain(|index, node| {
            let key = NodeKey::from_index(index);
            let keep = node.known || node.has_links() || in_use(key);
            if !keep {
                if let Some(id) = &node.id {
                    by_identity.remove(&(id.clone(), node.address.clone()));
                }
                if by_address.get(&node.address) == Some(&key) {
                    by_address.remove(&node.address);
                }
            }
            keep
        });
    }
}

impl std::ops::Index<NodeKey> for Nodes {
    type Output = Node;

    fn index(&self, key: NodeKey) -> &Node {
        &self.entries[key.index()]
    }
}

impl std::ops::IndexMut<NodeKey> for Nodes {
    fn index_mut(&mut self, key: NodeKey) -> &mut Node {
        &mut self.entries[key.index()]
    }
}

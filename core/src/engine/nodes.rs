//! The nodes as one worker uses them: which node serves each shard, and the links to each.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::keys::{LinkKey, NodeKey};
use super::outage::Outages;
use super::readers::Standing;
use crate::backend::Fence;
use crate::metrics::Histogram;
use crate::resp::Protocol;
use crate::slot::Slot;
use crate::time::Timestamp;
use crate::topology::{Address, NodeId, Snapshot};

/// Which of the links to a node: by database, then by index, then by RESP version. One number, and a small one in database 0, so
/// that those are found in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(usize);

impl Place {
    /// Sessions that track keys have an index each: there may be many.
    const INDEX_BITS: u32 = usize::BITS / 2;

    #[inline]
    pub(crate) fn new(database: u16, protocol: Protocol, index: usize) -> Self {
        Self((usize::from(database) << Self::INDEX_BITS) | (index << 1) | protocol.index())
    }

    const fn database(self) -> usize {
        self.0 >> Self::INDEX_BITS
    }
}

/// One node, under one address. A node that changes its address becomes a new entry; the old one drains [T14].
#[derive(Debug)]
pub(crate) struct Node {
    /// `None` for the target of a redirection that the snapshot does not know [E7].
    pub(crate) id: Option<NodeId>,
    pub(crate) address: Address,
    /// Links in database 0, by [`Place`].
    links: Vec<Option<LinkKey>>,
    /// Links in other databases.
    in_databases: BTreeMap<Place, LinkKey>,
    /// Private links that nobody has, by RESP version, each with its database; the one that was used last is lent first.
    pub(crate) idle: [Vec<(u16, LinkKey)>; 2],
    /// How many private links there are, and how many of them are not ready yet.
    pub(crate) private: usize,
    pub(crate) private_opening: usize,
    /// How many links there are of sessions that track keys.
    pub(crate) tracking: usize,
    /// How many of those it had no room for, one after the other, and when the next one is tried.
    pub(crate) tracking_refusals: u32,
    pub(crate) tracking_retry_at: Timestamp,
    /// The connection that asks whether it still answers, while it is silent on the others [HL2].
    pub(crate) probe: Option<LinkKey>,
    /// It is asked only because clients wait there: that nothing comes for them is nothing against it.
    pub(crate) probed_for_waiting: bool,
    /// The connection that has subscriptions.
    pub(crate) feed: Option<LinkKey>,
    /// When a probe was last opened.
    pub(crate) probed_at: Option<Timestamp>,
    /// When it last sent something on a connection that was through its handshake.
    pub(crate) heard: Timestamp,
    /// Connection attempts that failed in a row.
    pub(crate) failures: u32,
    /// Since then a read went to a replica that might have gone to it.
    pub(crate) missed: bool,
    /// It refused the proxy's credentials at the last attempt.
    pub(crate) login_refused: bool,
    /// No connection is attempted before.
    pub(crate) retry_at: Timestamp,
    /// It says that it takes no reads, or no writes.
    pub(crate) outages: Outages,
    /// Connections given up while it may have had requests of them to execute: the next connection has them killed first [D9].
    pub(crate) fences: Vec<Fence>,
    /// When it last was told to kill such connections, by which it has.
    pub(crate) fenced_at: Timestamp,
    /// The snapshot names it.
    pub(crate) known: bool,
    /// The snapshot names it as the primary of a shard.
    pub(crate) primary: bool,
    /// It is a replica that is read from: found in a list of its own.
    pub(crate) reader: Option<Box<Standing>>,
    /// Of a primary: the replicas that may be read from in its place.
    pub(crate) readers: Vec<NodeKey>,
    /// When slots last came to it from another shard: its replicas may not have their keys before.
    pub(crate) gained_at: Timestamp,
    /// A primary in the proxy's own zone.
    pub(crate) near: bool,
    /// How long a question takes there, as those who watch replicas and their primaries have measured.
    pub(crate) answers_in: Duration,
    /// Time it took for each reply.
    pub(crate) latency: Histogram,
}

impl Node {
    fn new(id: Option<NodeId>, address: Address) -> Self {
        Self {
            id,
            address,
            links: Vec::new(),
            in_databases: BTreeMap::new(),
            idle: [Vec::new(), Vec::new()],
            private: 0,
            private_opening: 0,
            tracking: 0,
            tracking_refusals: 0,
            tracking_retry_at: Timestamp::ZERO,
            probe: None,
            probed_for_waiting: false,
            feed: None,
            probed_at: None,
            heard: Timestamp::ZERO,
            failures: 0,
            missed: false,
            login_refused: false,
            retry_at: Timestamp::ZERO,
            outages: [None, None],
            fences: Vec::new(),
            fenced_at: Timestamp::ZERO,
            known: false,
            primary: false,
            reader: None,
            readers: Vec::new(),
            gained_at: Timestamp::ZERO,
            near: false,
            answers_in: Duration::ZERO,
            latency: Histogram::default(),
        }
    }

    /// The link at `place`, if there is one in any phase. Only database 0 is looked for.
    #[inline]
    pub(crate) fn link(&self, place: Place) -> Option<LinkKey> {
        self.links.get(place.0).copied().flatten()
    }

    /// As [`Self::link`], in whichever database.
    pub(crate) fn link_anywhere(&self, place: Place) -> Option<LinkKey> {
        let elsewhere = || self.in_databases.get(&place).copied();
        self.link(place).or_else(elsewhere)
    }

    pub(crate) fn set_link(&mut self, place: Place, link: LinkKey) {
        if place.database() > 0 {
            self.in_databases.insert(place, link);
            return;
        }
        if self.links.len() <= place.0 {
            self.links.resize(place.0 + 1, None);
        }
        if let Some(entry) = self.links.get_mut(place.0) {
            *entry = Some(link);
        }
    }

    /// The links that sessions share.
    pub(crate) fn shared_links(&self) -> impl Iterator<Item = LinkKey> {
        self.links
            .iter()
            .flatten()
            .chain(self.in_databases.values())
            .copied()
    }

    /// Checks that the links are where those of their databases are.
    ///
    /// # Panics
    /// If one is not.
    pub(crate) fn check_places(
        &self,
        database: impl Fn(LinkKey) -> u16,
        is_tracking: impl Fn(LinkKey) -> bool,
    ) {
        assert!(self.links.iter().flatten().all(|link| database(*link) == 0));
        let in_databases = self.in_databases.values();
        let shared = in_databases.filter(|link| !is_tracking(**link)).count();
        assert!(shared <= super::databases::LINKS);
        for (place, link) in &self.in_databases {
            assert!(place.database() > 0);
            assert_eq!(place.database(), usize::from(database(*link)));
        }
    }

    /// Those in other databases than 0.
    pub(crate) const fn in_databases(&self) -> &BTreeMap<Place, LinkKey> {
        &self.in_databases
    }

    /// Forgets `link`.
    pub(crate) fn detach(&mut self, link: LinkKey) {
        for entry in &mut self.links {
            if *entry == Some(link) {
                *entry = None;
            }
        }
        self.in_databases.retain(|_, other| *other != link);
        for idle in &mut self.idle {
            idle.retain(|(_, other)| *other != link);
        }
        if self.probe == Some(link) {
            self.probe = None;
        }
        if self.feed == Some(link) {
            self.feed = None;
        }
    }

    /// A connection to it is through its handshake.
    pub(crate) const fn note_reached(&mut self) {
        self.failures = 0;
        self.missed = false;
        self.login_refused = false;
    }

    pub(crate) fn has_links(&self) -> bool {
        self.probe.is_some()
            || self.feed.is_some()
            || self.private > 0
            || self.shared_links().next().is_some()
    }
}

/// All nodes a worker has to do with.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    entries: slab::Slab<Node>,
    by_identity: HashMap<(NodeId, Address), NodeKey>,
    by_address: HashMap<Address, NodeKey>,
    /// Replicas that are read from, or were.
    by_reader: HashMap<(NodeId, Address), NodeKey>,
    /// Primary of each shard of the snapshot.
    primaries: Vec<NodeKey>,
    /// Latency of nodes that are forgotten.
    forgotten: Histogram,
}

impl Nodes {
    /// Takes over what `snapshot` says. Nodes it does not name stay, marked unknown, until they are forgotten.
    pub(crate) fn adopt(&mut self, snapshot: &Snapshot) {
        for (_, node) in &mut self.entries {
            node.known &= node.is_reader();
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

    /// The entry of a replica that is read from, made if it is new.
    pub(super) fn reader(&mut self, id: &NodeId, address: &Address) -> NodeKey {
        let place = (id.clone(), address.clone());
        let entries = &mut self.entries;
        *self.by_reader.entry(place).or_insert_with(|| {
            let node = Node::new(Some(id.clone()), address.clone());
            NodeKey::from_index(entries.insert(node))
        })
    }

    /// The node that owns `slot` by `snapshot`, which must be the one last adopted.
    #[inline]
    pub(crate) fn owner(&self, snapshot: &Snapshot, slot: Slot) -> Option<NodeKey> {
        self.primaries
            .get(snapshot.shard_of(slot)?.index())
            .copied()
    }

    /// The primary of each shard of the snapshot last adopted.
    pub(crate) fn primaries(&self) -> &[NodeKey] {
        &self.primaries
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

    /// The latency of all nodes there ever were.
    pub(crate) fn latency(&self) -> Histogram {
        let mut sum = self.forgotten.clone();
        for (_, node) in &self.entries {
            sum.add(&node.latency);
        }
        sum
    }

    /// Forgets nodes that the snapshot does not name and that have no links. `in_use` tells which are still targets.
    pub(crate) fn forget_unused(&mut self, in_use: impl Fn(NodeKey) -> bool) {
        let (by_identity, by_address) = (&mut self.by_identity, &mut self.by_address);
        let (by_reader, forgotten) = (&mut self.by_reader, &mut self.forgotten);
        self.entries.retain(|index, node| {
            let key = NodeKey::from_index(index);
            let keep = node.known || node.has_links() || in_use(key);
            if !keep {
                forgotten.add(&node.latency);
                if let Some(place) = node.reader_place() {
                    by_reader.remove(&place);
                    return false;
                }
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

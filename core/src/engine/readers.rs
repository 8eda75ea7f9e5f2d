//! Replicas that may be read from, as this worker uses them.
//!
//! A replica has an entry of its own among the nodes, apart from the one that it would have as a primary: the links to it are for
//! reads only and say READONLY when they are opened, so that they must carry nothing else [E10].

use std::collections::HashMap;
use std::sync::Arc;

use super::Engine;
use super::keys::NodeKey;
use super::nodes::{Node, Nodes};
use crate::slot::{SLOT_COUNT, Slot};
use crate::time::Timestamp;
use crate::topology::{Address, NodeId, ReadPrimary, Readers, Snapshot};

/// What is known of a replica that is read from.
#[derive(Debug)]
pub(crate) struct Standing {
    /// The primary that it follows.
    primary: NodeId,
    /// It may be read from, as those who watch the replicas say.
    pub(super) listed: bool,
    /// When that was found.
    pub(super) seen: Timestamp,
    /// It is in the proxy's own zone.
    pub(super) near: bool,
    /// It has all that its primary had written then.
    pub(super) caught_up: Timestamp,
    /// It refused a read: none is sent to it before.
    pub(super) unfit_until: Timestamp,
}

impl Engine {
    /// Takes over which replicas may be read from, as was `seen` then. To be called about every second while there is any use for
    /// them: what was seen more than five seconds ago does not count.
    pub fn set_readers(&mut self, readers: &Readers, seen: Timestamp) {
        self.moments.note(self.now);
        let any_left = self.nodes.adopt_readers(readers, seen);
        self.nodes.assign_readers();
        self.try_readers();
        self.hurry_reads();
        // All links and sessions are looked through for that: not each second for nothing.
        if any_left {
            self.retire_links();
        }
        self.run_pending();
        if any_left {
            self.forget_nodes();
        }
    }
}

impl Engine {
    /// A new topology has taken the place of `before`. What a primary has got from another shard, its replicas need not have yet: keys that
    /// were always there would be missing. One that was promoted has brought along what it owns.
    pub(super) fn note_gains(&mut self, before: &Snapshot) {
        if self.nodes.iter().all(|(_, node)| node.readers.is_empty()) {
            return;
        }
        let after = Arc::clone(&self.snapshot);
        let mut known = None;
        for slot in (0..SLOT_COUNT).filter_map(Slot::new) {
            let (Some(from), Some(to)) = (before.shard_of(slot), after.shard_of(slot)) else {
                continue;
            };
            if known.replace((from, to)) == Some((from, to)) {
                continue;
            }
            let (from, to) = (before.primary(from), after.primary(to));
            let earlier = before.index_of(&to.id).map(|index| before.node(index));
            let is_promoted = earlier.is_some_and(|it| it.primary_id.as_ref() == Some(&from.id));
            if from.id != to.id
                && !is_promoted
                && let Some(owner) = self.nodes.owner(&after, slot)
            {
                self.nodes[owner].gained_at = self.now;
            }
        }
    }
}

impl Nodes {
    /// Takes over which ones may be read from. Returns whether there are others yet that once were.
    fn adopt_readers(&mut self, readers: &Readers, seen: Timestamp) -> bool {
        for node in self.iter_mut() {
            node.near = false;
            if let Some(standing) = &mut node.reader {
                standing.listed = false;
                node.known = false;
            }
        }
        for reader in &readers.replicas {
            let key = self.reader(&reader.id, &reader.address);
            let node = &mut self[key];
            node.known = true;
            node.answers_in = reader.latency;
            let before = node.reader.as_ref();
            let unfit_until = before.map_or(Timestamp::ZERO, |it| it.unfit_until);
            node.reader = Some(Box::new(Standing {
                primary: reader.primary.clone(),
                listed: true,
                seen,
                near: reader.near,
                caught_up: seen.before(reader.behind),
                unfit_until,
            }));
        }
        let primaries: HashMap<&NodeId, &ReadPrimary> =
            readers.primaries.iter().map(|it| (&it.id, it)).collect();
        for node in self.iter_mut().filter(|node| node.reader.is_none()) {
            if let Some(primary) = node.id.as_ref().and_then(|id| primaries.get(id)) {
                node.near = primary.near;
                node.answers_in = primary.latency;
            }
        }
        self.iter().any(|(_, node)| node.is_reader() && !node.known)
    }

    /// Gives each primary its replicas: the former may be others since the latter were seen.
    pub(super) fn assign_readers(&mut self) {
        let mut listed: HashMap<NodeId, Vec<NodeKey>> = HashMap::new();
        for (key, node) in self.iter() {
            if let Some(standing) = node.reader.as_ref().filter(|it| it.listed) {
                listed
                    .entry(standing.primary.clone())
                    .or_default()
                    .push(key);
            }
        }
        for node in self.iter_mut() {
            node.readers.clear();
            if node.primary && node.reader.is_none() {
                let own = node.id.as_ref().and_then(|id| listed.get(id));
                node.readers.extend(own.into_iter().flatten());
            }
        }
    }
}

impl Node {
    /// Whether it is a replica, and its links are for reads only.
    pub(crate) fn is_reader(&self) -> bool {
        self.reader.is_some()
    }

    /// Where it is found: `None` if as what it is by the topology.
    pub(super) fn reader_place(&self) -> Option<(NodeId, Address)> {
        let id = self.id.clone()?;
        self.is_reader().then(|| (id, self.address.clone()))
    }
}

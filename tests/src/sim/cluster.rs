//! The played cluster: who owns which slot, in truth and in the eyes of each node, and how that changes.

use fastrand::Rng;
use slotway_core::slot::Slot;
use slotway_core::topology::{
    Address, Node, NodeId, NodeState, OpenSlot, Role, Snapshot, SnapshotBuilder,
};

use super::profile::{HOT_SLOTS, KEYS, KEYS_PER_SLOT, TAGS};
use crate::{SLOT_COUNT, slot_of};

/// No end is known.
pub(super) const STILL: u64 = u64::MAX;

/// In a view: nobody owns the slot.
const NOBODY: u8 = u8::MAX;

/// One played node.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) id: String,
    pub(super) port: u16,
    /// Where it was before; stale nodes still name it.
    pub(super) old_port: u16,
    pub(super) alive: bool,
    pub(super) replica_of: Option<usize>,
    /// Owner of each slot as this node sees it.
    view: Vec<u8>,
    /// Which keys it holds.
    pub(super) holds: [bool; KEYS],
    /// How often each key has changed there, for those who watch it.
    pub(super) versions: [u64; KEYS],
    /// Where each hot slot is on its way to, and from.
    pub(super) migrating: [Option<usize>; HOT_SLOTS],
    pub(super) importing: [Option<usize>; HOT_SLOTS],
    /// How often it was started, and the number of the last connection it took since.
    pub(super) incarnation: u32,
    pub(super) last_number: usize,
    /// Until when it cannot be reached, stands still, holds writes, is loading, sees the cluster down, is a demoted primary, is
    /// without its primary.
    pub(super) hung: u64,
    pub(super) frozen: u64,
    pub(super) paused: u64,
    pub(super) loading: u64,
    pub(super) down: u64,
    pub(super) demoted: u64,
    pub(super) orphaned: u64,
    /// As a replica: the last execution that it knows of, and when it caught up to it.
    pub(super) applied: u64,
    pub(super) applied_at: u64,
    /// Until when nothing reaches it from its primary.
    pub(super) lagging: u64,
    /// Until when the engine was told that it may be read from; [`STILL`] if it is.
    pub(super) listed: u64,
}

impl Peer {
    /// Whether it works off nothing at this time.
    pub(super) const fn stands_still(&self, now: u64) -> bool {
        self.hung > now || self.frozen > now
    }

    /// Those who watch a key of a hot slot find it changed.
    fn touch_slot(&mut self, hot: usize) {
        for version in &mut self.versions[hot * KEYS_PER_SLOT..(hot + 1) * KEYS_PER_SLOT] {
            *version += 1;
        }
    }

    /// The process is another one from now on.
    pub(super) const fn start_anew(&mut self) {
        self.incarnation += 1;
        self.last_number = 0;
        (self.hung, self.frozen, self.paused) = (0, 0, 0);
    }
}

/// All of them, and the truth.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) peers: Vec<Peer>,
    owner: Vec<u8>,
    pub(super) hot: [u16; HOT_SLOTS],
    /// Names of the keys.
    pub(super) names: Vec<String>,
    /// The step at which each hot slot last ceased to move.
    moved: [Option<u64>; HOT_SLOTS],
    /// Since when the engine has been told that each hot slot is on its way.
    pub(super) told_moving: [Option<u64>; HOT_SLOTS],
    next_port: u16,
    epoch: u64,
    /// Its servers do not know CLIENT INFO.
    pub(super) old: bool,
}

impl Cluster {
    /// What tells a process of a node from all others, of other nodes, too. None is 0, for port 0 is nobody's.
    pub(super) const fn process(node: usize, incarnation: u32) -> usize {
        (incarnation as usize + 1) * 100 + node
    }

    /// `shards` primaries with equal ranges and so many replicas each.
    pub(super) fn new(shards: usize, replicas: usize, old: bool) -> Self {
        let names: Vec<String> = (0..KEYS)
            .map(|key| format!("{{{}}}{key}", TAGS[key / KEYS_PER_SLOT]))
            .collect();
        let hot = TAGS.map(|tag| slot_of(tag.as_bytes()));
        let owner: Vec<u8> = (0..usize::from(SLOT_COUNT))
            .map(|slot| small(slot * shards / usize::from(SLOT_COUNT)))
            .collect();
        let peers = (0..shards * (1 + replicas)).map(|number| Peer {
            id: format!("{number:040}"),
            port: 7000 + u16::from(small(number)),
            old_port: 7000 + u16::from(small(number)),
            alive: true,
            replica_of: (number >= shards).then(|| number % shards),
            view: owner.clone(),
            holds: [false; KEYS],
            versions: [0; KEYS],
            migrating: [None; HOT_SLOTS],
            importing: [None; HOT_SLOTS],
            incarnation: 0,
            last_number: 0,
            hung: 0,
            frozen: 0,
            paused: 0,
            loading: 0,
            down: 0,
            demoted: 0,
            orphaned: 0,
            applied: 0,
            applied_at: 0,
            lagging: 0,
            listed: 0,
        });
        Self {
            peers: peers.collect(),
            owner,
            hot,
            names,
            moved: [None; HOT_SLOTS],
            told_moving: [None; HOT_SLOTS],
            next_port: 7100,
            epoch: 1,
            old,
        }
    }

    pub(super) fn at_port(&self, port: u16) -> Option<usize> {
        self.peers
            .iter()
            .position(|peer| peer.port == port && peer.alive)
    }

    /// Who owns `slot` in the eyes of node `node`.
    pub(super) fn owner_by(&self, node: usize, slot: u16) -> Option<usize> {
        let owner = *self.peers[node].view.get(usize::from(slot))?;
        (owner != NOBODY).then_some(usize::from(owner))
    }

    /// Who owns hot slot `hot`.
    pub(super) fn owner_of_hot(&self, hot: usize) -> Option<usize> {
        let owner = self.owner[usize::from(self.hot[hot])];
        (owner != NOBODY).then_some(usize::from(owner))
    }

    /// Whether what node `node` does to keys of hot slot `hot` counts: it owns them, or is about to.
    pub(super) fn is_effective(&self, node: usize, hot: usize) -> bool {
        self.owner_of_hot(hot)
            .is_some_and(|owner| owner == node || self.peers[owner].migrating[hot] == Some(node))
    }

    /// Whether hot slot `hot` is on its way.
    pub(super) fn is_moving(&self, hot: usize) -> bool {
        let owner = self.owner_of_hot(hot);
        owner.is_some_and(|owner| self.peers[owner].migrating[hot].is_some())
    }

    /// Whether what its primary executes reaches node `node` now.
    pub(super) fn replicates(&self, node: usize, now: u64) -> bool {
        let runs = |peer: &Peer| peer.alive && !peer.stands_still(now) && peer.loading <= now;
        let peer = &self.peers[node];
        let primary = peer.replica_of.map(|primary| &self.peers[primary]);
        primary.is_some_and(|primary| primary.replica_of.is_none() && runs(primary))
            && runs(peer)
            && peer.orphaned <= now
            && peer.lagging <= now
    }

    /// Primaries that live.
    pub(super) fn primaries(&self) -> Vec<usize> {
        (0..self.peers.len())
            .filter(|node| self.peers[*node].alive && self.peers[*node].replica_of.is_none())
            .collect()
    }

    /// One event in the life of a migration of a random slot, which is given. A slot that has moved stays for `pause` steps.
    pub(super) fn migrate(&mut self, rng: &mut Rng, step: u64, pause: u64) -> usize {
        let hot = rng.usize(..HOT_SLOTS);
        self.migrate_slot(hot, rng, step, pause);
        hot
    }

    fn migrate_slot(&mut self, hot: usize, rng: &mut Rng, step: u64, pause: u64) {
        let Some(source) = self.owner_of_hot(hot) else {
            return;
        };
        let Some(target) = self.peers[source].migrating[hot] else {
            if self.moved[hot].is_some_and(|moved| step < moved + pause) {
                return;
            }
            if pause > 0 {
                // By then everybody has heard of the last move.
                (0..self.peers.len()).for_each(|node| self.gossip(node));
            }
            let primaries = self.primaries();
            if primaries.is_empty() {
                return;
            }
            let target = primaries[rng.usize(..primaries.len())];
            if target != source && self.peers[source].alive {
                self.peers[source].migrating[hot] = Some(target);
                self.peers[target].importing[hot] = Some(source);
            }
            return;
        };
        if rng.u32(..4) > 0 {
            let key = hot * KEYS_PER_SLOT + rng.usize(..KEYS_PER_SLOT);
            return self.move_key(source, target, key);
        }
        self.moved[hot] = Some(step);
        match rng.u32(..10) {
            0 => self.stop_migration(hot),
            _ => self.finish_migration(hot, source, target, rng.bool()),
        }
    }

    fn move_key(&mut self, source: usize, target: usize, key: usize) {
        if self.peers[source].holds[key] && self.peers[source].alive && self.peers[target].alive {
            self.peers[source].holds[key] = false;
            self.peers[target].holds[key] = true;
            self.peers[source].versions[key] += 1;
            self.peers[target].versions[key] += 1;
        }
    }

    /// The slot stays where it is; what was moved is moved back.
    fn stop_migration(&mut self, hot: usize) {
        let Some(source) = self.owner_of_hot(hot) else {
            return;
        };
        if let Some(target) = self.peers[source].migrating[hot].take() {
            for key in hot * KEYS_PER_SLOT..(hot + 1) * KEYS_PER_SLOT {
                let moved = std::mem::take(&mut self.peers[target].holds[key]);
                self.peers[source].holds[key] |= moved;
            }
            self.peers[target].importing[hot] = None;
            self.peers[source].touch_slot(hot);
            self.peers[target].touch_slot(hot);
        }
    }

    /// All keys are moved and the target owns the slot; the source may learn it later.
    fn finish_migration(&mut self, hot: usize, source: usize, target: usize, source_knows: bool) {
        if !self.peers[source].alive
            || !self.peers[target].alive
            || self.peers[target].replica_of.is_some()
        {
            return self.stop_migration(hot);
        }
        for key in hot * KEYS_PER_SLOT..(hot + 1) * KEYS_PER_SLOT {
            self.move_key(source, target, key);
        }
        let slot = usize::from(self.hot[hot]);
        self.owner[slot] = small(target);
        self.peers[target].view[slot] = small(target);
        self.peers[target].importing[hot] = None;
        self.peers[source].touch_slot(hot);
        self.peers[target].touch_slot(hot);
        if source_knows {
            self.peers[source].view[slot] = small(target);
            self.peers[source].migrating[hot] = None;
        }
        self.epoch += 1;
    }

    /// A replica of a random primary takes over; `dead` tells what becomes of the old one.
    pub(super) fn fail_over(&mut self, rng: &mut Rng, dead: bool) -> Option<usize> {
        let old = rng.usize(..self.peers.len());
        let replica = (0..self.peers.len())
            .find(|node| self.peers[*node].replica_of == Some(old) && self.peers[*node].alive)?;
        self.epoch += 1;
        for hot in 0..HOT_SLOTS {
            self.stop_migration(hot);
            self.peers[replica].touch_slot(hot);
        }
        let holds = self.peers[old].holds;
        self.peers[replica].holds = holds.map(|held| held && rng.u32(..10) > 0);
        for peer in &mut self.peers {
            if peer.replica_of == Some(old) {
                peer.replica_of = Some(replica);
            }
        }
        self.peers[replica].replica_of = None;
        for slot in 0..usize::from(SLOT_COUNT) {
            if self.owner[slot] == small(old) {
                self.owner[slot] = small(replica);
                self.peers[replica].view[slot] = small(replica);
            }
        }
        self.peers[old].replica_of = Some(replica);
        // It has paused for the failover.
        self.peers[old].paused = 0;
        if dead {
            self.peers[old].alive = false;
        }
        Some(old)
    }

    /// A node learns the truth.
    pub(super) fn gossip(&mut self, node: usize) {
        let Self { peers, owner, .. } = self;
        let peer = &mut peers[node];
        if !peer.alive {
            return;
        }
        for hot in 0..HOT_SLOTS {
            let slot = usize::from(self.hot[hot]);
            if peer.view[slot] != owner[slot] {
                // What it had of it is deleted, or what its primary has.
                peer.touch_slot(hot);
            }
        }
        peer.view.clone_from(owner);
        for hot in 0..HOT_SLOTS {
            if peer.view[usize::from(self.hot[hot])] != small(node) {
                peer.migrating[hot] = None;
            }
        }
    }

    /// The node is at another address from now on.
    pub(super) fn readdress(&mut self, node: usize) {
        self.peers[node].old_port = self.peers[node].port;
        self.peers[node].port = self.next_port;
        self.next_port += 1;
    }

    /// Two nodes change places.
    pub(super) fn swap_addresses(&mut self, a: usize, b: usize) {
        let (first, second) = (self.peers[a].port, self.peers[b].port);
        self.peers[a].port = second;
        self.peers[b].port = first;
        self.peers[a].old_port = first;
        self.peers[b].old_port = second;
    }

    /// No trouble is left: everybody lives, knows the truth, and no slot is on its way.
    pub(super) fn heal(&mut self) {
        for hot in 0..HOT_SLOTS {
            self.stop_migration(hot);
        }
        for node in 0..self.peers.len() {
            let peer = &mut self.peers[node];
            peer.alive = true;
            (peer.hung, peer.frozen, peer.paused) = (0, 0, 0);
            (peer.loading, peer.down, peer.demoted, peer.orphaned) = (0, 0, 0, 0);
            peer.lagging = 0;
            peer.old_port = peer.port;
            peer.importing = [None; HOT_SLOTS];
            self.gossip(node);
        }
    }

    /// The topology as discovery sees it: the truth, or the view of one node.
    pub(super) fn snapshot(
        &self,
        generation: u64,
        seen_by: Option<usize>,
        old_addresses: bool,
    ) -> Snapshot {
        let view = seen_by.map_or(&self.owner, |node| &self.peers[node].view);
        let mut builder = SnapshotBuilder::new();
        let mut indexes = Vec::new();
        for (number, peer) in self.peers.iter().enumerate() {
            let primary_id = peer
                .replica_of
                .map(|primary| NodeId::new(&self.peers[primary].id));
            let port = if old_addresses {
                peer.old_port
            } else {
                peer.port
            };
            let node = Node {
                id: NodeId::new(&peer.id),
                address: Address::new("127.0.0.1", port),
                hostname: None,
                role: if primary_id.is_some() {
                    Role::Replica
                } else {
                    Role::Primary
                },
                primary_id,
                state: if peer.alive {
                    NodeState::Ok
                } else {
                    NodeState::Failed
                },
                link_connected: peer.alive,
                config_epoch: self.epoch + number as u64,
            };
            indexes.extend(builder.add_node(node));
        }
        for (slot, owner) in (0..SLOT_COUNT).filter_map(Slot::new).zip(view) {
            if let Some(owner) = indexes.get(usize::from(*owner)) {
                builder.assign(slot, *owner);
            }
        }
        for hot in 0..HOT_SLOTS {
            if let (Some(source), Some(slot)) = (self.owner_of_hot(hot), Slot::new(self.hot[hot]))
                && let Some(target) = self.peers[source].migrating[hot]
            {
                let id = |node: usize| Some(NodeId::new(&self.peers[node].id));
                builder.add_open_slot(OpenSlot {
                    slot,
                    source: id(source),
                    target: id(target),
                });
            }
        }
        builder.build(generation)
    }
}

/// Node numbers are small.
fn small(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(NOBODY)
}

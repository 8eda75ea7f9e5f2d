//! Replicas that lag, and those who watch them: what the engine is told of them, late or wrong as it may be.

use std::time::Duration;

use slotway_core::local::{ListenerSettings, ReadPolicy};
use slotway_core::time::Timestamp;
use slotway_core::topology::{Address, NodeId, ReadPrimary, Reader, Readers};

use super::profile::{Profile, pick};
use super::world::{World, note};

/// Lists that may still reach the engine, late.
const KEPT_LISTS: usize = 4;

/// The settings of the listener that all clients of a run come in by.
pub(super) fn listener(profile: &Profile) -> ListenerSettings {
    ListenerSettings {
        reads: profile.reads,
        read_your_writes: profile.own_writes,
        ..ListenerSettings::default()
    }
}

impl World {
    /// Whether any client may be answered by a replica.
    pub(super) fn spreads_reads(&self) -> bool {
        self.profile.reads != ReadPolicy::Primary
    }

    /// A replica catches up, or the engine is told of the replicas.
    pub(super) fn replicas_event(&mut self) {
        let node = self.rng.usize(..self.cluster.peers.len());
        match self.rng.u32(..5) {
            0 | 1 => self.replicate(node),
            2 if !self.late_readers.is_empty() => {
                let (seen, readers) = pick(&mut self.rng, &self.late_readers).clone();
                note!(self, "replicas as of {}", seen.as_micros());
                self.engine.set_readers(&readers, seen);
            }
            _ => self.tell_of_replicas(),
        }
    }

    /// The node has all that its primary has, if they can talk to each other.
    pub(super) fn replicate(&mut self, node: usize) {
        let executions = self.model.executions();
        let peer = &mut self.cluster.peers[node];
        if peer.alive && !peer.stands_still(self.now) && peer.orphaned <= self.now {
            (peer.applied, peer.applied_at) = (executions, self.now);
        }
    }

    /// The engine is told the truth.
    pub(super) fn tell_of_replicas(&mut self) {
        let mut readers = Readers::default();
        for peer in &self.cluster.peers {
            let id = NodeId::new(&peer.id);
            let latency = Duration::from_micros(self.rng.u64(..2_000));
            let near = self.rng.u32(..3) == 0;
            match peer.replica_of {
                Some(primary) if peer.alive => readers.replicas.push(Reader {
                    id,
                    address: Address::new("127.0.0.1", peer.port),
                    primary: NodeId::new(&self.cluster.peers[primary].id),
                    near,
                    latency,
                    behind: Duration::from_micros(self.now - peer.applied_at),
                }),
                Some(_) => {}
                None => readers.primaries.push(ReadPrimary { id, near, latency }),
            }
        }
        let seen = Timestamp::from_micros(self.now);
        note!(self, "replicas: {}", readers.replicas.len());
        self.engine.set_readers(&readers, seen);
        if self.late_readers.len() < KEPT_LISTS {
            self.late_readers.push((seen, readers));
        } else {
            let place = self.rng.usize(..KEPT_LISTS);
            self.late_readers[place] = (seen, readers);
        }
    }

    /// All replicas have caught up, and the engine knows them.
    pub(super) fn settle_replicas(&mut self) {
        if self.spreads_reads() {
            (0..self.cluster.peers.len()).for_each(|node| self.replicate(node));
            self.tell_of_replicas();
        }
    }
}

//! The trouble: what happens to nodes, connections and clients.

use slotway_core::engine::LinkLoss;
use slotway_core::metrics::CloseReason;

use super::model::Violation;
use super::world::{World, note};

/// In a gentle run, steps between two moves of a slot: more than a request needs to find it.
const GENTLE_PAUSE: u64 = 1_500;

/// Ways in which a node is silent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Silence {
    /// No byte comes or goes.
    Unreachable,
    /// Its kernel takes connections and bytes, its process does nothing.
    Frozen,
    /// It holds writes and what is behind them, and answers everything else.
    Paused,
    /// It is another process, and nobody has told the other end of the old one's connections.
    Restarted,
}

impl World {
    /// One event of a kind drawn by weight.
    pub(super) fn trouble(&mut self) -> Result<(), Violation> {
        let weights = self.profile.faults.weights();
        let total: u32 = weights.iter().sum();
        if total == 0 {
            return Ok(());
        }
        let mut drawn = self.rng.u32(..total);
        let kind = weights.iter().position(|weight| {
            let here = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            here
        });
        match kind {
            Some(0) => {
                let pause = if self.profile.gentle { GENTLE_PAUSE } else { 0 };
                let hot = self.cluster.migrate(&mut self.rng, self.steps, pause);
                let is_moving = self.cluster.is_moving(hot);
                self.model.ever_moved[hot] = true;
                self.model.note_move(hot, is_moving);
            }
            Some(1) => self.fail_over()?,
            Some(2) => self.kill_or_revive()?,
            Some(3) => self.silence(Silence::Unreachable),
            Some(4) => self.silence(Silence::Frozen),
            Some(5) => self.silence(Silence::Paused),
            Some(6) => self.silence(Silence::Restarted),
            Some(7) => self.cut()?,
            Some(8) => self.refuse(),
            Some(9) => self.garble(),
            Some(10) => self.readdress(),
            Some(11) => self.churn()?,
            _ => self.nonsense(),
        }
        self.note_lost_slots();
        self.end_moved_channels();
        Ok(())
    }

    /// Remembers which slots the nodes of given-up connections do not own any more.
    pub(super) fn note_lost_slots(&mut self) {
        let Self {
            cluster,
            connections,
            given_up,
            ..
        } = self;
        for connection in connections
            .iter_mut()
            .chain(given_up)
            .filter(|connection| connection.closing)
        {
            for (hot, lost) in connection.lost.iter_mut().enumerate() {
                *lost |= cluster.owner_of_hot(hot) != Some(connection.node);
            }
        }
    }

    fn fail_over(&mut self) -> Result<(), Violation> {
        let dead = self.rng.bool();
        let Some(old) = self.cluster.fail_over(&mut self.rng, dead) else {
            return Ok(());
        };
        note!(self, "node {old} is replaced, dead: {dead}");
        // As a primary it had everything.
        let peer = &mut self.cluster.peers[old];
        (peer.applied, peer.applied_at) = (self.model.executions(), self.now);
        self.disturb_messages();
        // What a replica still has from connections that were given up it has refused long before it is promoted.
        let promoted = self.cluster.peers[old].replica_of;
        self.given_up
            .retain(|connection| Some(connection.node) != promoted);
        if dead {
            return self.drop_connections(old);
        }
        if let Some(promoted) = promoted {
            self.land_all(old, promoted);
        }
        Ok(())
    }

    /// The node that trouble comes to: a replica where only those fail.
    fn victim(&mut self) -> usize {
        let primaries = match self.profile.reads.replicas_fail {
            true => self.profile.shards,
            false => 0,
        };
        self.rng.usize(primaries..self.cluster.peers.len())
    }

    fn kill_or_revive(&mut self) -> Result<(), Violation> {
        let node = self.victim();
        let alive = &mut self.cluster.peers[node].alive;
        *alive = !*alive;
        let alive = *alive;
        note!(self, "node {node} lives: {alive}");
        if alive {
            self.cluster.peers[node].start_anew();
            let loading = self.now + self.rng.u64(..200_000);
            self.cluster.peers[node].loading = loading;
            return Ok(());
        }
        self.drop_connections(node)
    }

    /// A node has died: some of what it was sent it has executed, some of its replies arrive.
    fn drop_connections(&mut self, node: usize) -> Result<(), Violation> {
        self.note_harm();
        self.lose_flights(node);
        for index in (0..self.connections.len()).rev() {
            if self.connections[index].node == node {
                self.break_off(index)?;
            }
        }
        Ok(())
    }

    pub(super) fn break_off(&mut self, index: usize) -> Result<(), Violation> {
        if self.connections[index].is_feed {
            self.note_harm();
        }
        let count = self.rng.usize(..=self.connections[index].held());
        self.deliver(index, count)?;
        if self.connections[index].waiting.is_some() && self.rng.bool() {
            self.serve_waiter(index, true)?;
        }
        let count = self.rng.usize(..=self.connections[index].replies.len());
        self.engine_reads_bytes(index, count);
        let connection = self.connections.swap_remove(index);
        note!(self, "{:?} breaks", connection.link);
        self.engine
            .on_link_closed(connection.link, LinkLoss::Closed);
        Ok(())
    }

    fn silence(&mut self, kind: Silence) {
        let length = if self.rng.bool() {
            self.rng.u64(..2_000_000)
        } else {
            self.rng.u64(..20_000)
        };
        self.fall_silent(kind, length);
    }

    /// A node says nothing for a while, in one way or another.
    pub(super) fn fall_silent(&mut self, kind: Silence, length: u64) {
        self.note_harm();
        let node = self.victim();
        let until = self.now + length;
        let loading = self.now + self.rng.u64(..200_000);
        let peer = &mut self.cluster.peers[node];
        match kind {
            Silence::Unreachable => peer.hung = until,
            Silence::Frozen => peer.frozen = until,
            Silence::Paused => peer.paused = until,
            Silence::Restarted if peer.alive => {
                peer.start_anew();
                peer.loading = loading;
            }
            Silence::Restarted => {}
        }
        note!(self, "node {node} is silent until {until}: {kind:?}");
    }

    fn cut(&mut self) -> Result<(), Violation> {
        let spared = match self.profile.reads.replicas_fail {
            true => self.profile.shards,
            false => 0,
        };
        match self.some_connection() {
            Some(index) if self.connections[index].node >= spared => self.break_off(index),
            _ => Ok(()),
        }
    }

    fn refuse(&mut self) {
        self.note_harm();
        let node = self.victim();
        let until = self.now
            + if self.rng.u32(..4) == 0 {
                self.rng.u64(..3_000_000)
            } else {
                self.rng.u64(..30_000)
            };
        let peer = &mut self.cluster.peers[node];
        let kind = self.rng.u32(..4);
        match kind {
            0 => peer.loading = until,
            1 => peer.down = until,
            2 => peer.demoted = until,
            _ => peer.orphaned = until,
        }
        note!(self, "node {node} refuses ({kind}) until {until}");
    }

    /// A node sends what is no reply, behind whole replies or within one.
    fn garble(&mut self) {
        if let Some(index) = self.some_connection() {
            note!(self, "{:?} gets garbage", self.connections[index].link);
            self.note_harm();
            let connection = &mut self.connections[index];
            connection.garbled = true;
            connection.replies.extend_from_slice(b"?garbage\r\n");
        }
    }

    fn readdress(&mut self) {
        if !self.may_readdress() {
            return;
        }
        self.note_harm();
        let count = self.cluster.peers.len();
        let (node, other) = (self.rng.usize(..count), self.rng.usize(..count));
        if self.rng.bool() {
            self.cluster.readdress(node);
        } else if node != other {
            self.cluster.swap_addresses(node, other);
        }
        note!(
            self,
            "node {node} (and perhaps {other}) has another address"
        );
    }

    fn churn(&mut self) -> Result<(), Violation> {
        if self.clients.is_empty() {
            return Ok(());
        }
        let index = self.rng.usize(..self.clients.len());
        if self.profile.blocking > 0 && self.rng.bool() {
            return self.hang_up(index);
        }
        self.replace_client(index, CloseReason::Client)
    }

    fn nonsense(&mut self) {
        let index = self.rng.usize(..self.clients.len());
        let client = &mut self.clients[index];
        if !client.ended {
            client.talk_nonsense(&mut self.model, &mut self.rng);
        }
    }
}

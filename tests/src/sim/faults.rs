//! The trouble: what happens to nodes, connections and clients.

use slotway_core::engine::LinkLoss;
use slotway_core::metrics::CloseReason;

use super::model::Violation;
use super::world::{World, note};

/// In a gentle run, steps between two moves of a slot: more than a request needs to find it.
const GENTLE_PAUSE: u64 = 1_500;

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
                self.cluster.migrate(&mut self.rng, self.steps, pause);
            }
            Some(1) => self.fail_over()?,
            Some(2) => self.kill_or_revive()?,
            Some(3) => self.hang(),
            Some(4) => self.cut()?,
            Some(5) => self.refuse(),
            Some(6) => self.garble(),
            Some(7) => self.readdress(),
            Some(8) => self.churn(),
            _ => self.nonsense(),
        }
        self.note_lost_slots();
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
        if dead {
            self.drop_connections(old)
        } else {
            Ok(())
        }
    }

    fn kill_or_revive(&mut self) -> Result<(), Violation> {
        let node = self.rng.usize(..self.cluster.peers.len());
        let alive = &mut self.cluster.peers[node].alive;
        *alive = !*alive;
        let alive = *alive;
        note!(self, "node {node} lives: {alive}");
        if alive {
            let loading = self.now + self.rng.u64(..200_000);
            self.cluster.peers[node].loading = loading;
            return Ok(());
        }
        self.drop_connections(node)
    }

    /// A node has died: some of what it was sent it has executed, some of its replies arrive.
    fn drop_connections(&mut self, node: usize) -> Result<(), Violation> {
        for index in (0..self.connections.len()).rev() {
            if self.connections[index].node == node {
                self.break_off(index)?;
            }
        }
        Ok(())
    }

    fn break_off(&mut self, index: usize) -> Result<(), Violation> {
        let node = self.connections[index].node;
        if self.cluster.peers[node].hung <= self.now {
            let count = self.rng.usize(..=self.connections[index].held());
            self.deliver(index, count)?;
        }
        let count = self.rng.usize(..=self.connections[index].replies.len());
        self.engine_reads_bytes(index, count);
        let connection = self.connections.swap_remove(index);
        note!(self, "{:?} breaks", connection.link);
        self.engine
            .on_link_closed(connection.link, LinkLoss::Closed);
        Ok(())
    }

    fn hang(&mut self) {
        let node = self.rng.usize(..self.cluster.peers.len());
        let until = self.now
            + if self.rng.bool() {
                self.rng.u64(..2_000_000)
            } else {
                self.rng.u64(..20_000)
            };
        self.cluster.peers[node].hung = until;
        note!(self, "node {node} hangs until {until}");
    }

    fn cut(&mut self) -> Result<(), Violation> {
        match self.some_connection() {
            Some(index) => self.break_off(index),
            None => Ok(()),
        }
    }

    fn refuse(&mut self) {
        let node = self.rng.usize(..self.cluster.peers.len());
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
            self.connections[index]
                .replies
                .extend_from_slice(b"?garbage\r\n");
        }
    }

    fn readdress(&mut self) {
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

    fn churn(&mut self) {
        if !self.clients.is_empty() {
            let index = self.rng.usize(..self.clients.len());
            self.leave(index, CloseReason::Client);
            self.add_client();
        }
    }

    fn nonsense(&mut self) {
        let index = self.rng.usize(..self.clients.len());
        let client = &mut self.clients[index];
        if !client.ended {
            client.talk_nonsense(&mut self.model, &mut self.rng);
        }
    }
}

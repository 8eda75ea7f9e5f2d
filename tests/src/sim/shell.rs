//! What the shell does in reality: connections, writes, reads, and the end of a turn.

use std::sync::Arc;

use slotway_core::engine::{Action, LinkLoss};
use slotway_core::topology::{Hint, Snapshot};

use super::cluster::Cluster;
use super::command::Named;
use super::model::Violation;
use super::net::{Connection, Pending, Place};
use super::world::{World, note};

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: u64 = 500_000;

impl World {
    /// The end of a turn: actions, then one write per dirty link, then one per dirty session.
    pub(super) fn flush(&mut self) -> Result<(), Violation> {
        while let Some(action) = self.next_action()? {
            self.act(action)?;
        }
        while let Some(link) = self.engine.next_dirty_link() {
            if let Some(index) = self
                .connections
                .iter()
                .position(|connection| connection.link == link)
            {
                self.write(index)?;
            }
        }
        while let Some(session) = self.engine.next_dirty_session() {
            if let Some(index) = self
                .clients
                .iter()
                .position(|client| client.session == session)
            {
                self.client_reads(index, false)?;
            }
        }
        if self.clients.is_empty() {
            return Ok(());
        }
        let index = self.rng.usize(..self.clients.len());
        self.client_reads(index, false)
    }

    fn act(&mut self, action: Action) -> Result<(), Violation> {
        note!(self, "{action:?}");
        match action {
            Action::Connect { link, address } => {
                let known = self
                    .connections
                    .iter()
                    .any(|connection| connection.link == link);
                if known || self.pending.iter().any(|pending| pending.link == link) {
                    return Err(format!("{link:?} is connected twice"));
                }
                self.pending.push(Pending {
                    link,
                    port: address.port,
                    since: self.now,
                });
            }
            Action::CloseLink(link) => {
                // Like the shell: no socket, nothing to close.
                if let Some(connection) = self
                    .connections
                    .iter_mut()
                    .find(|connection| connection.link == link)
                {
                    connection.close(self.profile.late);
                }
            }
            Action::Hint(Hint::Moved { slot, target, from }) => {
                if self.rng.u32(..100) < self.profile.patched
                    && self.snapshot.accepts_move(slot, &target, &from)
                {
                    self.adopt(self.snapshot.with_moved_slots(&[(slot, target)]));
                }
            }
            Action::Drop { size, .. } => self.engine.on_dropped(size),
            Action::ResumeLink(_) | Action::Hint(_) | Action::Script(_) => {}
        }
        Ok(())
    }

    pub(super) fn adopt(&mut self, snapshot: Option<Snapshot>) {
        if let Some(snapshot) = snapshot {
            note!(self, "topology {}", snapshot.generation);
            self.disturb_messages();
            self.note_open_slots(&snapshot);
            self.snapshot = Arc::new(snapshot);
            self.engine.set_snapshot(Arc::clone(&self.snapshot));
        }
    }

    /// The kernel takes some of what a link has to write.
    pub(super) fn write(&mut self, index: usize) -> Result<(), Violation> {
        let connection = &mut self.connections[index];
        if connection.blocked || connection.closing {
            return Ok(());
        }
        let output = self.engine.link_output(connection.link);
        let room = self.profile.kernel.saturating_sub(connection.held());
        let most = output.len().min(room);
        let count = if self.rng.u32(..4) == 0 {
            self.rng.usize(..=most)
        } else {
            most
        };
        connection.blocked = count < output.len();
        let bytes = output[..count].to_vec();
        connection.accept(&bytes, &mut self.model)?;
        let link = connection.link;
        self.engine.on_link_written(link, count);
        note!(self, "{link:?} writes {}", super::model::printable(&bytes));
        Ok(())
    }

    /// The kernel has room again for a link that was blocked.
    pub(super) fn room(&mut self) -> Result<(), Violation> {
        if let Some(index) = self.busy_connection(|connection| connection.blocked) {
            self.connections[index].blocked = false;
            self.write(index)?;
        }
        Ok(())
    }

    /// A connection with something to do, if one is met soon.
    pub(super) fn busy_connection(
        &mut self,
        is_busy: impl Fn(&Connection) -> bool,
    ) -> Option<usize> {
        let first = self.some_connection()?;
        let count = self.connections.len();
        (first..first + count)
            .map(|index| index % count)
            .find(|index| is_busy(&self.connections[*index]))
    }

    pub(super) fn some_connection(&mut self) -> Option<usize> {
        (!self.connections.is_empty()).then(|| self.rng.usize(..self.connections.len()))
    }

    pub(super) fn connect(&mut self) {
        if !self.pending.is_empty() {
            let index = self.rng.usize(..self.pending.len());
            self.connect_one(index);
        }
    }

    pub(super) fn connect_one(&mut self, index: usize) {
        let Pending { link, port, since } = self.pending[index];
        let node = self.cluster.at_port(port);
        // A process that stands still has a kernel that takes connections.
        let reachable = node.is_some_and(|node| self.cluster.peers[node].hung <= self.now);
        if node.is_some() && !reachable && self.now - since < CONNECT_TIMEOUT {
            return;
        }
        self.pending.swap_remove(index);
        match node.filter(|_| reachable) {
            Some(node) => {
                note!(self, "{link:?} is connected to node {node} at {port}");
                let peer = &mut self.cluster.peers[node];
                // Others connect, too.
                peer.last_number += 1 + self.rng.usize(..2);
                self.connections
                    .push(Connection::new(link, node, peer, self.awake));
                self.engine.on_link_connected(link);
            }
            None => {
                note!(self, "{link:?} cannot be connected to {port}");
                self.engine.on_link_closed(link, LinkLoss::ConnectFailed);
            }
        }
    }

    /// Some bytes reach a node, which executes what is whole.
    pub(super) fn node_works(&mut self) -> Result<(), Violation> {
        if !self.given_up.is_empty() && self.rng.u32(..4) == 0 {
            return self.node_works_late();
        }
        let Some(index) = self.busy_connection(Connection::has_work) else {
            return Ok(());
        };
        let slow = self.profile.slow == Some(self.connections[index].node);
        if slow && self.rng.u32(..8) > 0 {
            return Ok(());
        }
        let held = self.connections[index].held();
        let count = if self.rng.bool() {
            self.rng.usize(..=held)
        } else {
            held
        };
        self.deliver(index, count)
    }

    /// `count` more bytes of a connection reach its node, unless that does nothing now.
    pub(super) fn deliver(&mut self, index: usize, count: usize) -> Result<(), Violation> {
        if !self.works(&self.connections[index]) {
            return Ok(());
        }
        let before = self.model.executions();
        let Self {
            connections,
            cluster,
            model,
            rng,
            now,
            ..
        } = self;
        let connection = &mut connections[index];
        let mut place = Place {
            cluster,
            model,
            rng,
            now: *now,
            killed: Vec::new(),
        };
        connection.deliver(count, &mut place)?;
        let killed = place.killed;
        let node = connection.node;
        self.tell_published();
        let executed = self.model.executions() - before;
        if executed > 0 {
            let link = self.connections[index].link;
            let text = super::model::printable(&self.connections[index].replies);
            note!(
                self,
                "{link:?} node {node} executes {executed}, owes {text}"
            );
        }
        for named in killed {
            self.kill_connection(node, named)?;
        }
        Ok(())
    }

    /// Whether the process at the other end is there and runs.
    pub(super) fn works(&self, connection: &Connection) -> bool {
        let peer = &self.cluster.peers[connection.node];
        !connection.ended
            && peer.alive
            && peer.incarnation == connection.incarnation
            && !peer.stands_still(self.now)
    }

    /// CLIENT KILL ID: nothing more is executed for that connection.
    fn kill_connection(&mut self, node: usize, named: Named) -> Result<(), Violation> {
        note!(self, "node {node} kills connection {named:?}");
        let incarnation = self.cluster.peers[node].incarnation;
        let process = Cluster::process(node, incarnation);
        if named.process.is_some_and(|meant| meant != process) {
            return Ok(());
        }
        let number = named.number;
        let is_meant = |other: &Connection| {
            (other.node, other.number, other.incarnation) == (node, number, incarnation)
        };
        self.given_up.retain(|other| !is_meant(other));
        self.collect_actions()?;
        let Some(other) = self.connections.iter_mut().find(|other| is_meant(other)) else {
            return Ok(());
        };
        // Given up by the engine, but not gone yet; or, at an old node that was started anew, another one with the number of an old
        // one.
        let given_up = other.closing || self.actions.contains(&Action::CloseLink(other.link));
        let is_told_apart = incarnation == 0 && self.profile.faults.address == 0;
        if !given_up && (!self.cluster.old || is_told_apart) {
            return Err(format!("{:?} is killed, which is in use", other.link));
        }
        other.close(false);
        Ok(())
    }

    /// A node goes on with what it got by a connection that the engine has given up.
    pub(super) fn node_works_late(&mut self) -> Result<(), Violation> {
        let Self {
            cluster,
            given_up,
            now,
            ..
        } = self;
        given_up.retain(|connection| {
            let peer = &cluster.peers[connection.node];
            peer.alive && peer.incarnation == connection.incarnation && connection.has_work()
        });
        let reachable =
            |connection: &Connection| !cluster.peers[connection.node].stands_still(*now);
        let Some(index) = given_up.iter().position(reachable) else {
            return Ok(());
        };
        let count = self.rng.usize(..=self.given_up[index].held());
        note!(
            self,
            "{:?} node {} works late",
            self.given_up[index].link,
            self.given_up[index].node
        );
        let Self {
            given_up,
            cluster,
            model,
            rng,
            now,
            ..
        } = self;
        given_up[index].deliver(
            count,
            &mut Place {
                cluster,
                model,
                rng,
                now: *now,
                killed: Vec::new(),
            },
        )?;
        self.tell_published();
        Ok(())
    }

    /// The engine reads some bytes of a node, or the end of a connection it gave up.
    pub(super) fn engine_reads(&mut self) {
        let Some(index) = self.busy_connection(|connection| {
            connection.closing || connection.ended || !connection.replies.is_empty()
        }) else {
            return;
        };
        if self.end_connection(index) {
            return;
        }
        if self.connections[index].closing && self.rng.bool() {
            return self.close(index);
        }
        let most = self.connections[index].replies.len();
        let count = if self.rng.bool() {
            self.rng.usize(..=most)
        } else {
            most
        };
        self.engine_reads_bytes(index, count);
    }

    pub(super) fn engine_reads_bytes(&mut self, index: usize, count: usize) {
        let connection = &mut self.connections[index];
        if count > 0 {
            let bytes: Vec<u8> = connection.replies.drain(..count).collect();
            let link = connection.link;
            connection.heard = self.awake;
            let incarnation = self.cluster.peers[connection.node].incarnation;
            let is_sound = !connection.garbled && connection.incarnation == incarnation;
            if connection.ready && is_sound && !connection.closing && !connection.is_feed {
                self.heard[connection.node][usize::from(connection.reads)] = self.awake;
            }
            note!(self, "{link:?} reads {}", super::model::printable(&bytes));
            self.engine.on_link_read(link, &bytes);
        }
    }

    pub(super) fn close(&mut self, index: usize) {
        let connection = self.connections.swap_remove(index);
        note!(self, "{:?} is closed", connection.link);
        self.engine
            .on_link_closed(connection.link, LinkLoss::Closed);
        if connection.has_work() {
            self.given_up.push(connection);
        }
    }
}

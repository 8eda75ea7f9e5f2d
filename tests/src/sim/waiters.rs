//! Events around those who wait at a node: an element comes, a client is gone, a node closes a connection [B6] [B12].

use std::time::Duration;

use slotway_core::engine::{Action, LinkLoss};
use slotway_core::metrics::CloseReason;
use slotway_core::topology::NodeId;

use super::model::{Violation, printable};
use super::net::{Connection, Place};
use super::world::{World, note};

impl World {
    /// Something happens to one who waits.
    pub(super) fn wake_waiter(&mut self) -> Result<(), Violation> {
        let Some(index) = self.busy_connection(|connection| connection.waiting.is_some()) else {
            return Ok(());
        };
        let generous = self.rng.u32(..3) == 0;
        self.serve_waiter(index, generous)
    }

    pub(super) fn serve_waiter(&mut self, index: usize, generous: bool) -> Result<(), Violation> {
        if self.connections[index].waiting.is_none() || !self.works(&self.connections[index]) {
            return Ok(());
        }
        let Self {
            connections,
            cluster,
            model,
            rng,
            now,
            ..
        } = self;
        let connection = &mut connections[index];
        let before = connection.replies.len();
        let mut place = Place {
            cluster,
            model,
            rng,
            now: *now,
            killed: Vec::new(),
        };
        connection.serve_waiter(generous, &mut place)?;
        let said = &connection.replies[before..];
        if !said.is_empty() {
            let (link, node, said) = (connection.link, connection.node, printable(said));
            note!(self, "{link:?} node {node} ends waiting: {said}");
        }
        Ok(())
    }

    /// The engine learns that a node has closed a connection, once it has read all that came before.
    pub(super) fn end_connection(&mut self, index: usize) -> bool {
        let connection = &self.connections[index];
        let is_over = connection.ended && connection.replies.is_empty();
        if is_over {
            let link = connection.link;
            note!(self, "{link:?} is closed by its node");
            self.connections.swap_remove(index);
            self.engine.on_link_closed(link, LinkLoss::Closed);
        }
        is_over
    }

    /// A client sends nothing more. One that waits at a node is gone with that.
    pub(super) fn hang_up(&mut self, index: usize) -> Result<(), Violation> {
        let client = &mut self.clients[index];
        client.hung_up = true;
        let session = client.session;
        self.model.clients[client.number].gone = true;
        note!(self, "client {session:?} sends nothing more");
        self.engine.note_hang_up(session);
        if self.engine.must_close(session).is_some() {
            return self.replace_client(index, CloseReason::Client);
        }
        Ok(())
    }

    /// The connections over which a client waits.
    pub(super) fn waits_over(&self, client: usize) -> Vec<usize> {
        let numbers = 0..self.connections.len();
        numbers
            .filter(|index| {
                let connection = &self.connections[*index];
                !connection.closing
                    && !connection.ended
                    && connection.holds_waiter_of(client, &self.model)
            })
            .collect()
    }

    /// The engine has given up the connections over which a client has waited that is gone, in the same turn [B6].
    pub(super) fn check_waits_are_over(&mut self, waited: &[usize]) -> Result<(), Violation> {
        self.collect_actions()?;
        for index in waited {
            let connection = &mut self.connections[*index];
            if !self.actions.contains(&Action::CloseLink(connection.link)) {
                return Err(format!(
                    "{:?} is left open though the client that waits over it has left [B6]",
                    connection.link
                ));
            }
            connection.close(self.profile.late);
        }
        Ok(())
    }

    /// Whether a connection over which somebody waits may be given up: not while its node lives, may have something for him, and he is
    /// there [B12].
    pub(super) fn check_waiter_is_kept(&self, connection: &Connection) -> Result<(), Violation> {
        let limits = &self.profile.limits;
        let limit = limits.node_timeout.min(limits.demoted_timeout);
        let silence = Duration::from_micros(self.awake - self.last_heard(connection));
        let id = NodeId::new(&self.cluster.peers[connection.node].id);
        let shards = self.snapshot.shards().iter();
        let mut primaries = shards.map(|shard| self.snapshot.node(shard.primary));
        let is_primary = primaries.any(|primary| primary.id == id);
        let waits = || {
            connection
                .unserved()
                .chain(connection.waiting.as_ref().map(|w| &w.data))
        };
        let is_wanted = waits().any(|data| !self.model.is_gone(data.request));
        if is_primary && is_wanted && silence < limit {
            return Err(format!(
                "{:?} is given up though somebody waits over it and node {} answered {silence:?} ago [B12]",
                connection.link, connection.node
            ));
        }
        Ok(())
    }
}

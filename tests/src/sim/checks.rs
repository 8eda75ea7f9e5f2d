//! What is checked from outside after every step: bounds, and what the engine tells the shell to do.

use std::time::Duration;

use slotway_core::engine::{Action, LinkKey};
use slotway_core::topology::{Hint, RefreshReason};

use super::command::Data;
use super::model::Violation;
use super::net::Connection;
use super::world::World;

/// No client asks for more in one request.
pub(super) const LARGEST_REQUEST: u32 = 5_000;

impl World {
    /// Fetches what the engine wants done, and checks it while what led to it is fresh.
    pub(super) fn collect_actions(&mut self) -> Result<(), Violation> {
        while let Some(action) = self.engine.next_action() {
            match &action {
                Action::CloseLink(link) => {
                    self.check_close(*link)?;
                    self.note_deaf(*link);
                    self.note_lost_feed(*link);
                }
                Action::Hint(hint) => self.check_hint(hint)?,
                Action::Connect { .. }
                | Action::ResumeLink(_)
                | Action::Drop { .. }
                | Action::Script(_) => {}
            }
            self.actions.push_back(action);
        }
        Ok(())
    }

    /// The next thing to be done for the engine.
    pub(super) fn next_action(&mut self) -> Result<Option<Action>, Violation> {
        self.collect_actions()?;
        Ok(self.actions.pop_front())
    }

    /// What comes on a connection that was given up is not heard, though the shell has not closed it yet.
    fn note_deaf(&mut self, link: LinkKey) {
        for connection in &mut self.connections {
            connection.ready &= connection.link != link;
        }
    }

    /// A feed that had something is given up: for silence, or for what is no reply.
    fn note_lost_feed(&mut self, link: LinkKey) {
        let mut connections = self.connections.iter();
        if connections.any(|connection| connection.link == link && !connection.topics.is_empty()) {
            self.note_harm();
        }
    }

    /// A connection with requests is only given up when it is of no use [HL1] [HL2]. Where addresses change hands, names and
    /// connections do not always belong together, so nothing is checked.
    fn check_close(&mut self, link: LinkKey) -> Result<(), Violation> {
        let limits = &self.profile.limits;
        let Some(connection) = self
            .connections
            .iter()
            .find(|connection| connection.link == link)
            .filter(|connection| connection.used && !connection.closing && !connection.garbled)
            .filter(|connection| {
                connection.has_work()
                    || !connection.replies.is_empty()
                    || connection.waiting.is_some()
            })
        else {
            return Ok(());
        };
        self.closed_in_use += 1;
        let node = connection.node;
        let is_orphan = self.cluster.peers[node].incarnation != connection.incarnation;
        if is_orphan || connection.ended || self.profile.faults.address > 0 {
            return Ok(());
        }
        if connection.is_for_waiting() {
            return self.check_waiter_is_kept(connection);
        }
        if connection.is_private && connection.unserved().all(Data::is_private) {
            // Its client has left, or watches its keys over another one.
            return Ok(());
        }
        let since = |time: u64| Duration::from_micros(self.awake - time);
        let limit = limits.node_timeout.min(limits.demoted_timeout);
        if since(self.last_heard(connection)) < limit
            && since(connection.heard) < limits.busy_timeout
        {
            return Err(format!(
                "{link:?} is given up after {:?} of silence though node {node} answered {:?} ago [HL2]",
                since(connection.heard),
                since(self.last_heard(connection)),
            ));
        }
        Ok(())
    }

    /// When the engine last heard of the node of `connection`, by whatever it uses as it does this one.
    pub(super) fn last_heard(&self, connection: &Connection) -> u64 {
        self.heard[connection.node][usize::from(connection.reads)]
    }

    /// Discovery is told the truth.
    fn check_hint(&mut self, hint: &Hint) -> Result<(), Violation> {
        self.probes += u64::from(matches!(
            hint,
            Hint::Refresh {
                reason: RefreshReason::NodeSilent,
                ..
            }
        ));
        let Hint::Moved { slot, target, from } = hint else {
            return Ok(());
        };
        let named = from.as_str().parse().ok();
        if self.profile.faults.address == 0
            && !named.is_some_and(|node| self.model.was_moved(node, slot.get(), target.port))
        {
            return Err(format!("nobody said what is told to discovery: {hint:?}"));
        }
        Ok(())
    }

    /// Bounds of each session [O9] [D13].
    pub(super) fn check_bounds(&self) -> Result<(), Violation> {
        let limits = &self.profile.limits;
        let mut requests = 0;
        let mut most = limits.request_bytes + LARGEST_REQUEST as usize;
        for client in &self.clients {
            let Some(session) = self.engine.session(client.session) else {
                return Err("a session is gone".to_owned());
            };
            let outstanding = session.queue.len();
            if outstanding > limits.session_in_flight {
                return Err(format!(
                    "{outstanding} requests of one session are outstanding"
                ));
            }
            let input = session.input_bytes();
            if input > limits.input_ahead_bytes + client.largest_batch + LARGEST_REQUEST as usize {
                return Err(format!("{input} bytes of one session are held back"));
            }
            requests += session.request_bytes + input;
            // The parts of a command take a little more than the whole.
            most += limits.request_share + 4 * client.largest_batch;
        }
        if requests > most {
            return Err(format!("requests take {requests} bytes of {most} [Z6]"));
        }
        Ok(())
    }

    /// What a session may have outstanding in bytes of replies, and what it has.
    pub(super) fn reply_share(&self, index: usize) -> (usize, usize) {
        let limits = &self.profile.limits;
        let replies = |index: usize| {
            let session = self.engine.session(self.clients[index].session);
            session.map_or(0, |session| session.reply_bytes)
        };
        let all: usize = (0..self.clients.len()).map(replies).sum();
        let share = if all < limits.reply_bytes {
            limits.output_pause_bytes
        } else {
            limits.output_pause_bytes.min(64 << 10)
        };
        (share, replies(index))
    }
}

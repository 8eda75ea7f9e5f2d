//! The end of a run: all trouble ends, and everything must come to rest.

use std::time::Duration;

use slotway_core::metrics::CloseReason;

use super::model::{Kind, Violation};
use super::world::{World, note};

/// Steps to bring everything to rest after the last one of the run, and the time each stands for, in microseconds.
const REST_STEPS: u32 = 6_000;
const REST_STEP: u64 = 10_000;

/// Links for one client at a time that nobody has are closed after that time, and the time between two looks.
const PRIVATE_IDLE: u64 = 30_000_000;
const IDLE_STEP: u64 = 400_000;

/// Links for big requests and replies to one node in one protocol version, as the engine has them.
const BULK_LINKS: usize = 32;

/// A connection whose other end has gone without a word is given up after that time at the latest, and its requests go on.
const FOUND_OUT_IN_TIME: Duration = Duration::from_secs(10);

impl World {
    /// Trouble is over: everything asked must be answered, and nothing may be left.
    pub(super) fn rest(&mut self) -> Result<(), Violation> {
        self.cluster.heal();
        self.end_moved_channels();
        self.end_orphans()?;
        self.adopt(Some(self.cluster.snapshot(
            self.snapshot.generation + 1,
            None,
            false,
        )));
        self.settle_replicas();
        note!(self, "--- all trouble ends ---");
        for _ in 0..REST_STEPS {
            self.steps += 1;
            self.calm_turn()?;
            self.engine.check_invariants();
            self.check_bounds()?;
            if self.is_at_rest() {
                self.check_end()?;
                return self.drain();
            }
        }
        let waiting: Vec<_> = self
            .clients
            .iter()
            .filter(|client| !client.expected.is_empty())
            .collect();
        let report = self.engine.report();
        Err(format!(
            "stuck: {} clients wait, the first for {:?}; {} requests in flight, {} parked",
            waiting.len(),
            waiting.first().map(|client| (
                &client.session,
                client
                    .expected
                    .front()
                    .map(|request| &self.model.records[*request])
            )),
            report.in_flight,
            report.parked_now
        ))
    }

    /// Connections to processes that have ended: broken off now, unless the engine can be expected to find out in time.
    fn end_orphans(&mut self) -> Result<(), Violation> {
        // Over a connection on which a client waits silence is expected: that its node is gone, only the kernel tells [B12].
        let is_told = self.profile.blocking + self.profile.pubsub > 0;
        if self.profile.limits.busy_timeout <= FOUND_OUT_IN_TIME && self.rng.bool() && !is_told {
            return Ok(());
        }
        for index in (0..self.connections.len()).rev() {
            let connection = &self.connections[index];
            let peer = &self.cluster.peers[connection.node];
            if peer.incarnation != connection.incarnation {
                self.break_off(index)?;
            }
        }
        Ok(())
    }

    /// One turn in which everybody does what is to be done.
    pub(super) fn calm_turn(&mut self) -> Result<(), Violation> {
        self.pass(REST_STEP)?;
        if self.steps.is_multiple_of(10) {
            self.settle_replicas();
        }
        for index in 0..self.clients.len() {
            self.send_bytes(index, self.clients[index].output.len())?;
        }
        self.node_works_late()?;
        self.flush()?;
        for index in (0..self.pending.len()).rev() {
            self.connect_one(index);
        }
        for index in (0..self.connections.len()).rev() {
            self.serve_connection(index)?;
        }
        for index in (0..self.clients.len()).rev() {
            self.client_reads(index, true)?;
        }
        Ok(())
    }

    fn is_at_rest(&self) -> bool {
        self.clients
            .iter()
            .all(|client| client.expected.is_empty() && client.output.is_empty())
            && self.pending.is_empty()
            && !self.connections.iter().any(|connection| connection.closing)
            && self.engine.report().in_flight == 0
            && !self.owes_anything()
    }

    /// Whether a node owes replies that no client waits for: to the CLIENT KILL of a connection that was given up.
    fn owes_anything(&self) -> bool {
        let report = self.engine.report();
        report.links.iter().any(|link| link.in_flight > 0)
    }

    /// A worker that is to stop: every session ends once it has all its replies.
    fn drain(&mut self) -> Result<(), Violation> {
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            if !client.ended && !client.hung_up {
                client.ask(&self.profile, &self.cluster, &mut self.model, &mut self.rng);
            }
            self.send_bytes(index, self.clients[index].output.len())?;
        }
        self.engine.drain();
        self.draining = true;
        for _ in 0..REST_STEPS {
            self.steps += 1;
            for index in (0..self.clients.len()).rev() {
                if self
                    .engine
                    .must_close(self.clients[index].session)
                    .is_some()
                {
                    if !self.clients[index].expected.is_empty() && !self.may_wait(index) {
                        return Err("a session is drained before its last reply".to_owned());
                    }
                    self.leave(index, CloseReason::Shutdown)?;
                }
            }
            // Replies may still be owed that came too late for their clients [D8], or are nobody's.
            let in_flight = self.engine.report().in_flight;
            if self.clients.is_empty() && in_flight == 0 && !self.owes_anything() {
                // Probes are closed at the next tick; nodes that only connections were left to are forgotten at the next topology.
                self.pass(REST_STEP)?;
                let generation = self.snapshot.generation + 1;
                self.adopt(Some(self.cluster.snapshot(generation, None, false)));
                self.engine.check_nothing_left();
                return Ok(());
            }
            self.calm_turn()?;
        }
        let (sessions, requests) = (self.clients.len(), self.engine.report().in_flight);
        Err(format!(
            "{sessions} sessions and {requests} requests do not end"
        ))
    }

    /// Whether a client is owed the reply to a request that may wait: it is not drained, but disconnected at once [D12].
    fn may_wait(&self, index: usize) -> bool {
        let mut owed = self.clients[index].expected.iter();
        owed.any(|request| self.model.records[*request].kind == Kind::Blocking)
    }

    /// Connections for one client at a time that nobody has are closed after a while [B3]; those over which keys are watched stay.
    fn end_private_links(&mut self) -> Result<usize, Violation> {
        if self.profile.watches + self.profile.blocking == 0 {
            return Ok(0);
        }
        for _ in 0..=PRIVATE_IDLE / IDLE_STEP {
            self.pass(IDLE_STEP)?;
            self.calm_turn()?;
        }
        let clients = self.clients.iter();
        Ok(clients
            .filter(|client| client.watching.slot.is_some())
            .count())
    }

    /// Memory is back to nothing: after further topologies, and time for probes to be closed.
    fn check_end(&mut self) -> Result<(), Violation> {
        self.check_subscribers()?;
        let pinned = self.end_private_links()?;
        // The first one retires connections, but for those to nodes known from redirections, which take longer; the others forget
        // the nodes they went to.
        for _ in 0..3 {
            let generation = self.snapshot.generation + 1;
            self.adopt(Some(self.cluster.snapshot(generation, None, false)));
            for _ in 0..4 {
                self.calm_turn()?;
            }
        }
        if self
            .clients
            .iter()
            .any(|client| client.has_part_of_a_reply())
        {
            return Err("a client got a part of a reply".to_owned());
        }
        self.engine.check_nothing_left();
        let report = self.engine.report();
        let owed: usize = report.links.iter().map(|link| link.in_flight).sum();
        if owed + report.in_flight + report.parked_now + report.parked_bytes != 0 {
            return Err(format!("{owed} replies are still owed"));
        }
        let open = self.connections.len() + self.pending.len();
        if self.engine.link_count() != open {
            return Err(format!(
                "{} links for {open} connections",
                self.engine.link_count()
            ));
        }
        // Those for big requests and replies come on top.
        let bulk = if self.profile.limits.big_bytes < 1 << 10 {
            BULK_LINKS
        } else {
            0
        };
        let shared = self.cluster.peers.len() * 2 * (self.profile.limits.links_per_node + bulk);
        let shared = shared * self.profile.databases;
        // Replicas have links of their own for reads.
        let shared = if self.profile.reads.spread {
            shared * 2
        } else {
            shared
        };
        let feeds = if self.profile.pubsub > 0 {
            self.cluster.peers.len()
        } else {
            0
        };
        let most = shared + pinned + feeds;
        if open > most {
            return Err(format!("{open} connections are open, {most} are needed"));
        }
        Ok(())
    }
}

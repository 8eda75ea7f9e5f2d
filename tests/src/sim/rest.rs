//! The end of a run: all trouble ends, and everything must come to rest.

use slotway_core::metrics::CloseReason;

use super::model::Violation;
use super::world::{World, note};

/// Steps to bring everything to rest after the last one of the run, and the time each stands for, in microseconds.
const REST_STEPS: u32 = 6_000;
const REST_STEP: u64 = 10_000;

impl World {
    /// Trouble is over: everything asked must be answered, and nothing may be left.
    pub(super) fn rest(&mut self) -> Result<(), Violation> {
        self.cluster.heal();
        self.adopt(Some(self.cluster.snapshot(
            self.snapshot.generation + 1,
            None,
            false,
        )));
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

    /// One turn in which everybody does what is to be done.
    fn calm_turn(&mut self) -> Result<(), Violation> {
        self.pass(REST_STEP);
        for index in 0..self.clients.len() {
            self.send_bytes(index, self.clients[index].output.len())?;
        }
        self.node_works_late()?;
        self.flush()?;
        for index in (0..self.pending.len()).rev() {
            self.connect_one(index);
        }
        for index in (0..self.connections.len()).rev() {
            self.connections[index].blocked = false;
            self.write(index);
            self.deliver(index, self.connections[index].held())?;
            let most = self.connections[index].replies.len();
            self.engine_reads_bytes(index, most);
            if self.connections[index].closing {
                self.close(index);
            }
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
    }

    /// A worker that is to stop: every session ends once it has all its replies.
    fn drain(&mut self) -> Result<(), Violation> {
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            if !client.ended {
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
                    if !self.clients[index].expected.is_empty() {
                        return Err("a session is drained before its last reply".to_owned());
                    }
                    self.leave(index, CloseReason::Shutdown);
                }
            }
            if self.clients.is_empty() {
                return Ok(());
            }
            self.calm_turn()?;
        }
        Err(format!("{} sessions do not end", self.clients.len()))
    }

    fn check_end(&mut self) -> Result<(), Violation> {
        let report = self.engine.report();
        if report.parked_now != 0 || report.parked_bytes != 0 {
            return Err(format!(
                "{} requests with {} bytes are left parked",
                report.parked_now, report.parked_bytes
            ));
        }
        let owed: usize = report.links.iter().map(|link| link.in_flight).sum();
        if owed != 0 {
            return Err(format!("{owed} replies are still owed"));
        }
        for client in &self.clients {
            if client.has_part_of_a_reply() {
                return Err("a client got a part of a reply".to_owned());
            }
        }
        Ok(())
    }
}

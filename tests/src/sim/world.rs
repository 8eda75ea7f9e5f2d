//! The loop: draws events, carries them out, and brings everything to rest at the end.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use slotway_core::engine::{Action, Engine, LinkLoss, Upstream};
use slotway_core::metrics::CloseReason;
use slotway_core::session::client_state::ClientState;
use slotway_core::time::Timestamp;
use slotway_core::topology::{Hint, Snapshot};

use super::Summary;
use super::clients::Client;
use super::cluster::Cluster;
use super::environment::Nowhere;
use super::model::{Model, Violation};
use super::net::{Connection, Pending, Place};
use super::profile::Profile;

/// Events kept for the report of a violation.
const TRACE: usize = 400;

/// How long a connection attempt may take, as the shell does it.
const CONNECT_TIMEOUT: u64 = 500_000;

/// Steps to bring everything to rest after the last one of the run, and the time they stand for.
const REST_STEPS: u32 = 6_000;
const REST_STEP: u64 = 10_000;

/// Everything there is in one run.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) profile: Profile,
    pub(super) now: u64,
    pub(super) engine: Engine,
    pub(super) cluster: Cluster,
    pub(super) model: Model,
    pub(super) clients: Vec<Client>,
    pub(super) pending: Vec<Pending>,
    pub(super) connections: Vec<Connection>,
    environment: Rc<Nowhere>,
    pub(super) snapshot: Arc<Snapshot>,
    /// Older topologies that may still reach the engine.
    pub(super) late: Vec<Snapshot>,
    steps: u64,
    next_client: u64,
    trace: Option<VecDeque<String>>,
}

/// Notes an event if a trace is wanted.
macro_rules! note {
    ($world:expr, $($text:tt)*) => {
        if $world.traced() {
            let text = format!($($text)*);
            $world.note(text);
        }
    };
}
pub(super) use note;

impl World {
    pub(super) fn new(seed: u64, traced: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let profile = Profile::draw(&mut rng);
        let engine = Engine::new(profile.limits.clone(), Upstream::default(), rng.u64(..));
        let mut world = Self {
            cluster: Cluster::new(profile.shards),
            rng,
            engine,
            now: 0,
            model: Model::default(),
            clients: Vec::new(),
            pending: Vec::new(),
            connections: Vec::new(),
            environment: Rc::new(Nowhere::default()),
            snapshot: Arc::new(Snapshot::empty()),
            late: Vec::new(),
            steps: 0,
            next_client: 0,
            trace: traced.then(VecDeque::new),
            profile,
        };
        let profile = world.profile.clone();
        note!(world, "{profile:?}");
        for _ in 0..world.profile.clients {
            world.add_client();
        }
        world
    }

    pub(super) const fn traced(&self) -> bool {
        self.trace.is_some()
    }

    pub(super) fn note(&mut self, text: String) {
        let at = format!("{:>6} {:>10} us  {text}", self.steps, self.now);
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE {
                // The first line says what the run is like.
                trace.remove(1);
            }
            trace.push_back(at);
        }
    }

    pub(super) fn trace(self) -> Vec<String> {
        self.trace.unwrap_or_default().into()
    }

    /// All steps, then rest.
    pub(super) fn run(&mut self, steps: u64) -> Result<Summary, Violation> {
        for _ in 0..steps {
            self.steps += 1;
            self.step()?;
            self.engine.check_invariants();
            self.check_bounds()?;
        }
        self.rest()?;
        Ok(Summary {
            steps: self.steps,
            requests: self.model.records.len() as u64,
            answered: self.model.answered,
            executions: self.model.executions(),
            uncertain: self.model.uncertain,
            refused: self.model.refused,
            partial: self.model.partial,
        })
    }

    fn step(&mut self) -> Result<(), Violation> {
        if self.rng.u32(..1000) < self.profile.trouble {
            return self.trouble();
        }
        match self.rng.u32(..100) {
            0..=17 => self.ask(),
            18..=37 => self.send()?,
            38..=57 => self.flush()?,
            58..=72 => self.node_works()?,
            73..=86 => self.engine_reads(),
            87..=90 => self.room(),
            91..=94 => self.connect(),
            95 => self.publish(),
            96 => self.gossip(),
            _ => self.time_passes(),
        }
        Ok(())
    }

    // === Clients ===

    pub(super) fn add_client(&mut self) {
        self.next_client += 1;
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 6379));
        let state = ClientState::new(self.next_client, address, address, false);
        let session = self
            .engine
            .add_session(state, Rc::<Nowhere>::clone(&self.environment));
        self.clients.push(Client::new(session, &mut self.model));
    }

    fn ask(&mut self) {
        let index = self.rng.usize(..self.clients.len());
        let client = &mut self.clients[index];
        for _ in 0..self.rng.usize(1..=3) {
            if client.expected.len() < self.profile.pipeline
                && client.output.len() < 100_000
                && !client.ended
            {
                client.ask(&self.profile, &self.cluster, &mut self.model, &mut self.rng);
            }
        }
    }

    fn send(&mut self) -> Result<(), Violation> {
        let index = self.rng.usize(..self.clients.len());
        let most = self.clients[index].output.len();
        let count = if self.rng.u32(..3) == 0 {
            self.rng.usize(..=most)
        } else {
            most
        };
        self.send_bytes(index, count)
    }

    /// The engine reads `count` bytes of a client, if it wants any.
    fn send_bytes(&mut self, index: usize, count: usize) -> Result<(), Violation> {
        let client = &mut self.clients[index];
        if count == 0 || !self.engine.wants_input(client.session) {
            return Ok(());
        }
        let bytes: Vec<u8> = client.output.drain(..count).collect();
        let session = client.session;
        note!(
            self,
            "client {session:?} sends {}",
            super::model::printable(&bytes)
        );
        self.engine.on_client(session, &bytes);
        Ok(())
    }

    fn client_reads(&mut self, index: usize, all: bool) -> Result<(), Violation> {
        let client = &mut self.clients[index];
        let session = client.session;
        if let Some(output) = self.engine.session_output(session)
            && !output.is_empty()
        {
            let count = if all {
                output.len()
            } else {
                self.rng.usize(1..=output.len())
            };
            let bytes = output.split_to(count);
            note!(
                self,
                "client {session:?} gets {}",
                super::model::printable(&bytes)
            );
            self.clients[index].receive(&bytes, &mut self.model)?;
        }
        match self.engine.must_close(session) {
            None => Ok(()),
            Some(_) if self.clients[index].ended => {
                if !self.clients[index].expected.is_empty()
                    || self.clients[index].has_part_of_a_reply()
                {
                    return Err("a session ended before its last reply".to_owned());
                }
                self.leave(index, CloseReason::Protocol);
                self.add_client();
                Ok(())
            }
            Some(reason) => Err(format!("session {session:?} is closed for {reason:?}")),
        }
    }

    pub(super) fn leave(&mut self, index: usize, reason: CloseReason) {
        let client = self.clients.swap_remove(index);
        note!(self, "client {:?} leaves", client.session);
        self.engine.remove_session(client.session, reason);
    }

    // === What the shell does ===

    /// The end of a turn: actions, then one write per dirty link, then one per dirty session.
    fn flush(&mut self) -> Result<(), Violation> {
        while let Some(action) = self.engine.next_action() {
            self.act(action)?;
        }
        while let Some(link) = self.engine.next_dirty_link() {
            if let Some(index) = self
                .connections
                .iter()
                .position(|connection| connection.link == link)
            {
                self.write(index);
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
                    connection.close();
                }
            }
            Action::Hint(Hint::Moved { slot, target, from }) => {
                if self.rng.u32(..100) < self.profile.patched
                    && self.snapshot.accepts_move(slot, &target, &from)
                {
                    self.adopt(self.snapshot.with_moved_slots(&[(slot, target)]));
                }
            }
            Action::Hint(_) => {}
        }
        Ok(())
    }

    fn adopt(&mut self, snapshot: Option<Snapshot>) {
        if let Some(snapshot) = snapshot {
            note!(self, "topology {}", snapshot.generation);
            self.snapshot = Arc::new(snapshot);
            self.engine.set_snapshot(Arc::clone(&self.snapshot));
        }
    }

    /// The kernel takes some of what a link has to write.
    fn write(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.blocked || connection.closing {
            return;
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
        connection.accept(&bytes, &mut self.model);
        let link = connection.link;
        self.engine.on_link_written(link, count);
        note!(self, "{link:?} writes {}", super::model::printable(&bytes));
    }

    /// The kernel has room again for a link that was blocked.
    fn room(&mut self) {
        if let Some(index) = self.some_connection() {
            self.connections[index].blocked = false;
            self.write(index);
        }
    }

    pub(super) fn some_connection(&mut self) -> Option<usize> {
        (!self.connections.is_empty()).then(|| self.rng.usize(..self.connections.len()))
    }

    fn connect(&mut self) {
        if !self.pending.is_empty() {
            let index = self.rng.usize(..self.pending.len());
            self.connect_one(index);
        }
    }

    fn connect_one(&mut self, index: usize) {
        let Pending { link, port, since } = self.pending[index];
        let node = self.cluster.at_port(port);
        let reachable = node.is_some_and(|node| self.cluster.peers[node].hung <= self.now);
        if node.is_some() && !reachable && self.now - since < CONNECT_TIMEOUT {
            return;
        }
        self.pending.swap_remove(index);
        match node.filter(|_| reachable) {
            Some(node) => {
                note!(self, "{link:?} is connected to node {node} at {port}");
                self.connections.push(Connection::new(link, node));
                self.engine.on_link_connected(link);
            }
            None => {
                note!(self, "{link:?} cannot be connected to {port}");
                self.engine.on_link_closed(link, LinkLoss::ConnectFailed);
            }
        }
    }

    /// Some bytes reach a node, which executes what is whole.
    fn node_works(&mut self) -> Result<(), Violation> {
        let Some(index) = self.some_connection() else {
            return Ok(());
        };
        let node = self.connections[index].node;
        if self.cluster.peers[node].hung > self.now {
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

    pub(super) fn deliver(&mut self, index: usize, count: usize) -> Result<(), Violation> {
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
        connection.deliver(
            count,
            &mut Place {
                cluster,
                model,
                rng,
                now: *now,
            },
        )?;
        let executed = self.model.executions() - before;
        if executed > 0 {
            let connection = &self.connections[index];
            let text = super::model::printable(&connection.replies);
            note!(
                self,
                "{:?} node {} executes {executed}, owes {text}",
                self.connections[index].link,
                self.connections[index].node
            );
        }
        Ok(())
    }

    /// The engine reads some bytes of a node, or the end of a connection it gave up.
    fn engine_reads(&mut self) {
        let Some(index) = self.some_connection() else {
            return;
        };
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
            note!(self, "{link:?} reads {}", super::model::printable(&bytes));
            self.engine.on_link_read(link, &bytes);
        }
    }

    pub(super) fn close(&mut self, index: usize) {
        let connection = self.connections.swap_remove(index);
        note!(self, "{:?} is closed", connection.link);
        self.engine
            .on_link_closed(connection.link, LinkLoss::Closed);
    }

    // === Time and topology ===

    fn time_passes(&mut self) {
        let micros = match self.rng.u32(..200) {
            0 => self.rng.u64(..3_000_000),
            1..=4 => self.rng.u64(..200_000),
            5..=40 => self.rng.u64(..20_000),
            _ => self.rng.u64(..500),
        };
        self.pass(micros);
    }

    fn pass(&mut self, micros: u64) {
        self.now += micros;
        self.engine
            .set_now(Timestamp::ZERO.after(Duration::from_micros(self.now)));
        self.engine.tick();
        note!(self, "time is {}", self.now);
    }

    /// Discovery has a new topology: the truth, one node's view, or one seen earlier.
    fn publish(&mut self) {
        let generation = self.snapshot.generation + 1;
        let stale = self.rng.u32(..100) < self.profile.stale;
        let mut snapshot = if !stale {
            self.cluster.snapshot(generation, None, false)
        } else if self.rng.bool() && !self.late.is_empty() {
            self.late[self.rng.usize(..self.late.len())].clone()
        } else {
            let node = self.rng.usize(..self.cluster.peers.len());
            let old_addresses = self.rng.bool();
            self.cluster.snapshot(generation, Some(node), old_addresses)
        };
        snapshot.generation = generation;
        if self.late.len() < 8 {
            self.late.push(snapshot.clone());
        } else {
            let place = self.rng.usize(..8);
            self.late[place] = snapshot.clone();
        }
        self.adopt(Some(snapshot));
    }

    fn gossip(&mut self) {
        let node = self.rng.usize(..self.cluster.peers.len());
        self.cluster.gossip(node);
    }

    fn check_bounds(&self) -> Result<(), Violation> {
        let limits = &self.profile.limits;
        for client in &self.clients {
            let Some(session) = self.engine.session(client.session) else {
                return Err("a session is gone".to_owned());
            };
            if session.queue.len() > limits.session_in_flight {
                return Err(format!(
                    "{} requests of one session are outstanding",
                    session.queue.len()
                ));
            }
        }
        Ok(())
    }

    // === The end ===

    /// Trouble is over: everything asked must be answered, and nothing may be left.
    fn rest(&mut self) -> Result<(), Violation> {
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
                return self.check_end();
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

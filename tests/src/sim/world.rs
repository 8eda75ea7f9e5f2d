//! The loop: draws events, carries them out, and brings everything to rest at the end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use fastrand::Rng;
use slotway_core::engine::{Action, Engine, SessionKey, Upstream};
use slotway_core::local::Databases;
use slotway_core::local::testing::TestEnvironment;
use slotway_core::metrics::CloseReason;
use slotway_core::session::client_state::ClientState;
use slotway_core::time::Timestamp;
use slotway_core::topology::{Readers, Snapshot};

use super::Summary;
use super::bus::Bus;
use super::clients::Client;
use super::cluster::Cluster;
use super::model::{Model, Violation};
use super::net::{Connection, Pending};
use super::profile::Profile;
use super::reads;

/// Everything there is in one run.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) profile: Profile,
    pub(super) now: u64,
    pub(super) engine: Engine,
    pub(super) cluster: Cluster,
    pub(super) bus: Bus,
    pub(super) model: Model,
    pub(super) clients: Vec<Client>,
    pub(super) pending: Vec<Pending>,
    pub(super) connections: Vec<Connection>,
    /// Connections that the engine gave up and whose nodes may not be done with them.
    pub(super) given_up: Vec<Connection>,
    /// The time less that in which the worker was held up: what silence is measured by.
    pub(super) awake: u64,
    /// When, by that, the engine last heard of each node on a connection that was through its handshake: one as of a primary, and one
    /// that said READONLY. To the engine these are two nodes.
    pub(super) heard: Vec<[u64; 2]>,
    /// What the engine wants done.
    pub(super) actions: VecDeque<Action>,
    /// Connections with requests that the engine gave up, and silent nodes it asked.
    pub(super) closed_in_use: u64,
    pub(super) probes: u64,
    /// Until when time passes in ticks.
    pub(super) spell_until: u64,
    environment: Rc<TestEnvironment>,
    pub(super) snapshot: Arc<Snapshot>,
    /// Older topologies that may still reach the engine.
    pub(super) late: Vec<Snapshot>,
    /// The same of what was found of the replicas, and when.
    pub(super) late_readers: Vec<(Timestamp, Readers)>,
    pub(super) steps: u64,
    /// The worker is to stop.
    pub(super) draining: bool,
    next_client: u64,
    trace: Option<Vec<String>>,
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
            cluster: Cluster::new(profile.shards, profile.reads.replicas, profile.old),
            bus: Bus::default(),
            rng,
            engine,
            now: 0,
            model: Model::new(&profile),
            clients: Vec::new(),
            pending: Vec::new(),
            connections: Vec::new(),
            given_up: Vec::new(),
            awake: 0,
            heard: vec![[0; 2]; profile.shards * (1 + profile.reads.replicas)],
            actions: VecDeque::new(),
            closed_in_use: 0,
            probes: 0,
            spell_until: 0,
            environment: Rc::new(environment(&profile)),
            snapshot: Arc::new(Snapshot::empty()),
            late: Vec::new(),
            late_readers: Vec::new(),
            steps: 0,
            draining: false,
            next_client: 0,
            trace: traced.then(Vec::new),
            profile,
        };
        let profile = world.profile.clone();
        note!(world, "{profile:?}");
        for _ in 0..world.profile.clients {
            world.add_client();
        }
        if world.profile.reads.spread {
            world.settle_replicas();
        }
        world
    }

    pub(super) const fn traced(&self) -> bool {
        self.trace.is_some()
    }

    pub(super) fn note(&mut self, text: String) {
        let at = format!("{:>6} {:>10} us  {text}", self.steps, self.now);
        if let Some(trace) = &mut self.trace {
            trace.push(at);
        }
    }

    pub(super) fn trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }

    /// All steps, then rest.
    pub(super) fn run(&mut self, steps: u64) -> Result<Summary, Violation> {
        while self.steps < steps {
            self.steps += 1;
            self.step()?;
            self.engine.check_invariants();
            self.check_bounds()?;
        }
        self.rest()?;
        let metrics = self.engine.metrics();
        Ok(Summary {
            steps: self.steps,
            requests: self.model.records.len() as u64,
            answered: self.model.answered,
            executions: self.model.executions(),
            uncertain: self.model.uncertain,
            refused: self.model.refused,
            partial: self.model.partial,
            nil_execs: self.model.nil_execs,
            waited_in_vain: self.model.waited_in_vain,
            redirected: metrics.redirects.iter().sum(),
            held: metrics.held,
            parked: metrics.parked,
            links_lost: metrics.links_lost,
            given_up: self.closed_in_use,
            probes: self.probes,
            messages: self.model.published.delivered,
            read_at_replicas: self.model.read_at_replicas,
        })
    }

    fn step(&mut self) -> Result<(), Violation> {
        if self.rng.u32(..1000) < self.profile.trouble {
            return self.trouble();
        }
        if self.now < self.spell_until {
            if self.rng.u32(..4) == 0 {
                return self.spell_tick();
            }
        } else if self.rng.u32(..1000) < self.profile.spells {
            self.begin_spell();
        }
        if self.profile.blocking > 0 && self.rng.u32(..12) == 0 {
            return self.wake_waiter();
        }
        if self.profile.pubsub > 0 && self.rng.u32(..8) == 0 {
            return self.published_event();
        }
        if self.profile.reads.spread && self.rng.u32(..20) == 0 {
            self.replicas_event();
            return Ok(());
        }
        match self.rng.u32(..100) {
            0..=15 => self.ask(),
            16..=33 => self.send()?,
            34..=55 => self.flush()?,
            56..=72 => self.node_works()?,
            73..=88 => self.engine_reads(),
            89..=91 => self.room()?,
            92..=94 => self.connect(),
            95 => self.publish(),
            96 => self.gossip(),
            _ => self.time_passes()?,
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
            .add_session(state, Rc::<TestEnvironment>::clone(&self.environment));
        let reads = self.profile.reads.policy;
        self.clients
            .push(Client::new(session, reads, &mut self.model));
    }

    fn ask(&mut self) {
        let index = self.rng.usize(..self.clients.len());
        let client = &mut self.clients[index];
        for _ in 0..self.rng.usize(1..=3) {
            if client.expected.len() < self.profile.pipeline
                && client.output.len() < 100_000
                && !client.ended
                && !client.hung_up
            {
                client.ask(&self.profile, &self.cluster, &mut self.model, &mut self.rng);
            }
        }
    }

    fn send(&mut self) -> Result<(), Violation> {
        let index = self.rng.usize(..self.clients.len());
        let most = self.clients[index].output.len();
        let count = if self.profile.dribble {
            most.min(self.rng.usize(1..=12))
        } else if self.rng.u32(..3) == 0 {
            self.rng.usize(..=most)
        } else {
            most
        };
        self.send_bytes(index, count)
    }

    /// The engine reads `count` bytes of a client, if it wants any.
    pub(super) fn send_bytes(&mut self, index: usize, count: usize) -> Result<(), Violation> {
        let client = &mut self.clients[index];
        if count == 0 || !self.engine.wants_input(client.session) {
            return Ok(());
        }
        let bytes: Vec<u8> = client.output.drain(..count).collect();
        client.largest_batch = client.largest_batch.max(count);
        let session = client.session;
        note!(
            self,
            "client {session:?} sends {}",
            super::model::printable(&bytes)
        );
        let (share, expected) = self.reply_share(index);
        let before = self.outstanding(session);
        self.engine.on_client(session, &bytes);
        if expected >= share && self.outstanding(session) > before {
            return Err(format!(
                "{session:?} gets another request under way with {expected} of {share} bytes of replies outstanding [D13]"
            ));
        }
        Ok(())
    }

    fn outstanding(&self, session: SessionKey) -> usize {
        self.engine
            .session(session)
            .map_or(0, |session| session.queue.len())
    }

    pub(super) fn client_reads(&mut self, index: usize, all: bool) -> Result<(), Violation> {
        let client = &mut self.clients[index];
        let session = client.session;
        let output = self.engine.session_output(session);
        if !output.is_empty() {
            let count = if all {
                output.len()
            } else {
                self.rng.usize(1..=output.len())
            };
            let bytes = output[..count].to_vec();
            self.engine.on_session_written(session, count);
            note!(
                self,
                "client {session:?} gets {}",
                super::model::printable(&bytes)
            );
            // Of one that is told of a gap by being disconnected, it is not known from when on it has no subscriptions.
            if !self.has_lost_subscriptions(session) {
                self.clients[index].receive(&bytes, &mut self.model)?;
            }
        }
        match self.engine.must_close(session) {
            None => Ok(()),
            Some(_) if self.draining => Ok(()),
            // Its node was gone in the middle of a reply that was being passed on.
            Some(CloseReason::Error)
                if self
                    .engine
                    .session(session)
                    .is_some_and(|session| session.cut_off.is_some()) =>
            {
                self.replace_client(index, CloseReason::Error)
            }
            // Something would have been popped for nobody [B6].
            Some(CloseReason::Client) if self.clients[index].hung_up => {
                self.replace_client(index, CloseReason::Client)
            }
            Some(reason) if self.check_ended_subscriber(index, reason)? => {
                self.replace_client(index, reason)
            }
            // It kept others waiting.
            Some(CloseReason::InputLimit) => self.replace_client(index, CloseReason::InputLimit),
            Some(_) if self.clients[index].ended => {
                if !self.clients[index].expected.is_empty()
                    || self.clients[index].has_part_of_a_reply()
                {
                    return Err("a session ended before its last reply".to_owned());
                }
                self.replace_client(index, CloseReason::Protocol)
            }
            Some(reason) => Err(format!("session {session:?} is closed for {reason:?}")),
        }
    }

    pub(super) fn replace_client(
        &mut self,
        index: usize,
        reason: CloseReason,
    ) -> Result<(), Violation> {
        self.leave(index, reason)?;
        self.add_client();
        Ok(())
    }

    pub(super) fn leave(&mut self, index: usize, reason: CloseReason) -> Result<(), Violation> {
        let client = self.clients.swap_remove(index);
        note!(self, "client {:?} leaves", client.session);
        let waited = self.waits_over(client.number);
        self.model.clients[client.number].gone = true;
        self.engine.remove_session(client.session, reason);
        self.check_waits_are_over(&waited)
    }

    // === Topology ===

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
        self.end_moved_channels();
    }
}

/// The environment of the clients.
fn environment(profile: &Profile) -> TestEnvironment {
    let databases = Databases {
        count: u32::try_from(profile.databases).unwrap_or(1),
        ..Databases::default()
    };
    TestEnvironment {
        databases: RefCell::new(Some(databases)),
        ..TestEnvironment::of(reads::listener(profile))
    }
}

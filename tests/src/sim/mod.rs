//! A seeded, deterministic simulation of one worker's engine: played clients, nodes, network and time, any number of faults, and a model
//! that knows every rule. Equal seeds give equal runs.
//!
//! Each step is one event: a client asks, sends, reads or leaves; the kernel takes or gives some bytes; a node executes; time passes;
//! the cluster changes; a topology reaches the engine, late or old. Now and then there is a spell of regular ticks in which nodes are
//! silent in one way or another. After the last step all trouble ends, and everything that was asked must be answered in bounded time.
//!
//! Checked: the order of replies; no reply to another client; the order of effects on a key [G2] and around barriers [G6]; each write
//! executed once at most [G5]; every refusal and every `UNCERTAIN` shown is true; nothing lost, nothing stuck, nothing left behind;
//! bounds of requests, bytes, replies and connections, and memory back to nothing; no connection given up whose node is only busy; the
//! engine's own invariants.
//!
//! In half of the runs clients watch keys, or wait at nodes. Checked: a transaction is executed only where its keys are watched and only
//! if none has changed, and is nil only if it was not executed, and never for nothing [W1]-[W7]; what is popped reaches its client, and
//! nothing is popped for one that is gone [B6]; nobody waits longer or shorter than he says [B4] or is given up while his node lives
//! [B12]; nothing that may have been popped is asked for again [B8]; one connection carries one client's requests at a time [O12].
//!
//! In a third of the runs reads go to replicas, one or two of each primary: by one of the policies, and as clients say with READONLY,
//! READWRITE and RESET. A replica has a prefix of what was executed, and what the engine is told of it is a bound of that; it is told now
//! and then, late, or as it was earlier. Checked: the order of reads and writes of a client [O2]; that it sees what it wrote where that is
//! wanted, as long as no slots move; that a replica is read from only while that may be, for whom wants it, and not in a slot that is on
//! its way [T21] [Y10]; that nothing but reads comes over a connection that said READONLY, and none again and again to one that refuses
//! it [E10]. In some gentle runs only replicas are in trouble: no client may notice.
//!
//! In some runs clients subscribe and publish, and nodes tell of changed keys. Checked: acknowledgements are in order and count right
//! [U3]; messages come between them only, none twice, in the order of their node, and a channel's before a pattern's [U2] [U5] [U6];
//! whoever is not disconnected has got all that was published since, and nobody is disconnected while no node is lost [U6] [U9] [U13];
//! what a subscriber may not do in RESP2 is refused, and nothing else [U4]; RESET ends all [U11].

mod answers;
mod blocking;
mod bus;
mod checks;
mod clients;
mod cluster;
mod command;
mod faults;
mod history;
mod model;
mod net;
mod node;
mod profile;
mod reads;
mod rest;
mod shell;
mod subscriber;
mod time;
mod topics;
mod waiters;
mod watch;
mod wire;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

/// What happened in a run without a violation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events.
    pub steps: u64,
    /// Requests made by clients.
    pub requests: u64,
    /// Replies clients got.
    pub answered: u64,
    /// Commands executed by nodes.
    pub executions: u64,
    /// Replies that said that the fate of a request is unknown.
    pub uncertain: u64,
    /// Replies that said that a request was not executed.
    pub refused: u64,
    /// Replies that said that some parts of a request were executed.
    pub partial: u64,
    /// Transactions that were not executed because a watched key had changed, or might have.
    pub nil_execs: u64,
    /// Requests that waited at a node until their time was over.
    pub waited_in_vain: u64,
    /// Replies of nodes that said that a request was not executed.
    pub redirected: u64,
    /// Requests held for one before them.
    pub held: u64,
    /// Requests parked.
    pub parked: u64,
    /// Connections to nodes lost.
    pub links_lost: u64,
    /// Connections given up by the engine while they carried requests.
    pub given_up: u64,
    /// Silent nodes asked whether they are there.
    pub probes: u64,
    /// Messages that subscribers got.
    pub messages: u64,
    /// Reads, or parts of them, that replicas answered.
    pub read_at_replicas: u64,
}

impl Summary {
    /// Adds the figures of another run.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.requests += other.requests;
        self.answered += other.answered;
        self.executions += other.executions;
        self.uncertain += other.uncertain;
        self.refused += other.refused;
        self.partial += other.partial;
        self.nil_execs += other.nil_execs;
        self.waited_in_vain += other.waited_in_vain;
        self.redirected += other.redirected;
        self.held += other.held;
        self.parked += other.parked;
        self.links_lost += other.links_lost;
        self.given_up += other.given_up;
        self.probes += other.probes;
        self.messages += other.messages;
        self.read_at_replicas += other.read_at_replicas;
    }
}

/// Events shown in the report of a violation.
const SHOWN_EVENTS: usize = 400;

/// A rule was broken.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The seed that shows it.
    pub seed: u64,
    /// Steps of the run.
    pub steps: u64,
    /// What was broken.
    pub what: String,
    /// All events before it; the first one says what the run is like.
    pub trace: Vec<String>,
}

impl Failure {
    fn last_events(&self) -> &[String] {
        &self.trace[self.trace.len().saturating_sub(SHOWN_EVENTS)..]
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for event in self.trace.iter().take(1).chain(self.last_events()) {
            writeln!(f, "  {event}")?;
        }
        writeln!(f, "seed {}: {}", self.seed, self.what)?;
        write!(
            f,
            "again: cargo run --release -p slotway-tests --bin sim -- --seed {} --steps {}",
            self.seed, self.steps
        )
    }
}

/// Runs the simulation of `seed`. After a violation it is run once more for the trace.
///
/// # Errors
/// If a rule was broken.
pub fn run(seed: u64, steps: u64) -> Result<Summary, Box<Failure>> {
    let what = match attempt(World::new(seed, false), steps) {
        (Ok(summary), _) => return Ok(summary),
        (Err(what), _) => what,
    };
    let (again, world) = attempt(World::new(seed, true), steps);
    let what = match again {
        Err(again) if again == what => what,
        other => format!("{what}\nand it does not happen again: {other:?}"),
    };
    Err(Box::new(Failure {
        seed,
        steps,
        what,
        trace: world.trace(),
    }))
}

/// A run to its end; a panic of the engine is a violation, too.
fn attempt(mut world: World, steps: u64) -> (Result<Summary, String>, World) {
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run(steps)));
    let outcome = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    });
    (outcome, world)
}

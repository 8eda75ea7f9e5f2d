//! Keeps the snapshot of the cluster up to date: asks nodes, merges their views, swaps the result in.
//!
//! Runs on the control thread, over its own connections: topology questions never queue behind data, and data never waits for
//! them. Workers send [`Hint`]s; they read the snapshot through the shared `ArcSwap`, of which this is the only writer.
//!
//! ```text
//! hints ---> MOVED: patch the snapshot (at most once per ms) ----------------------+
//!        \-> request a round --+                                                   |
//! timer, trouble poll ---------+--> round: ask 3 nodes in parallel --> merge --> guard --> swap, on_swap
//!                                    (seeds if nobody answers)         (core::topology)
//! ```
//! One round runs at a time; whatever asks for one meanwhile leads to exactly one more [T8].

mod apply;
mod asking;
mod link;
mod pace;
mod round;
mod seeds;
mod server;
mod settings;
mod status;
mod throttle;

pub(crate) use seeds::look_up;
pub use server::{ServerDiscovery, Whereabouts};
pub use settings::DiscoverySettings;
pub use status::{DiscoveryStatus, QueryFailure, RefreshResult};

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use slotway_core::slot::Slot;
use slotway_core::topology::{Address, Guard, Hint, NodeId, RefreshReason, Snapshot};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use self::asking::Event;
use self::link::ControlLink;
use self::pace::Pace;
use self::round::Round;
use self::seeds::Seeds;
use self::settings::{LINK_IDLE, NODE_SPACING, OPEN_SLOT_MEMORY, PATCH_INTERVAL};
use self::throttle::Throttle;

/// Hints taken from the channel at once.
const HINT_BATCH: usize = 256;
/// Nodes remembered as the causes of the next round: more than are asked first anyway.
const CAUSES_MAX: usize = 8;

/// A `MOVED` reply that was accepted as a patch.
#[derive(Debug, Clone)]
struct Move {
    slot: Slot,
    target: Address,
    from: NodeId,
}

/// Where the next round looks beyond the usual three nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    /// Nowhere: the known nodes give usable views.
    No,
    /// The known nodes are in trouble; the seeds may lead to better ones.
    Seeds,
    /// Nobody answered: every known node and the seeds.
    Wide,
}

/// The task that keeps the snapshot up to date.
pub struct Discovery<F> {
    settings: Arc<DiscoverySettings>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    hints: UnboundedReceiver<Hint>,
    on_swap: F,
    /// Called with the generation of a snapshot whose slots without an owner have none, and since when nodes were asked for that.
    on_uncovered: Box<dyn Fn(u64, std::time::Instant)>,
    status: Arc<DiscoveryStatus>,
    started: Instant,
    random: fastrand::Rng,
    throttle: Throttle,
    seeds: Seeds,
    pace: Pace,
    guard: Guard,
    /// Questions and look-ups under way; those of a round that is over included.
    tasks: JoinSet<Event>,
    round: Option<Round>,
    round_number: u64,
    idle: HashMap<Address, ControlLink>,
    /// When each address was last asked.
    asked: HashMap<Address, Instant>,
    /// Addresses with a question outstanding, and when it was asked.
    in_flight: HashMap<Address, Instant>,
    seeds_asked: Option<Instant>,
    search: Search,
    /// Nodes that gave evidence since the last round; they are asked first.
    causes: Vec<NodeId>,
    /// Primaries that workers cannot reach, until they answer here or are replaced.
    suspects: HashSet<NodeId>,
    /// Accepted moves that are not in the snapshot yet.
    pending: Vec<Move>,
    /// Moves patched in since the round began: its views may be older.
    patched_in_round: Vec<Move>,
    last_patch: Option<Instant>,
    /// What was wrong where a question last failed, for the log.
    trouble: Option<String>,
    open_until: Option<Instant>,
}

impl<F: Fn(&Snapshot)> Discovery<F> {
    /// Discovery that fills `snapshot` and calls `on_swap` after every swap. Before a snapshot with slots is there, any cluster
    /// is accepted; afterwards only this one.
    ///
    /// # Panics
    /// Outside of a tokio runtime with timers.
    #[must_use]
    pub fn new(
        settings: DiscoverySettings,
        snapshot: Arc<ArcSwap<Snapshot>>,
        hints: UnboundedReceiver<Hint>,
        on_swap: F,
    ) -> Self {
        let now = Instant::now();
        Self {
            seeds: Seeds::new(&settings.seeds),
            pace: Pace::new(settings.refresh_interval, now),
            settings: Arc::new(settings),
            snapshot,
            hints,
            on_swap,
            on_uncovered: Box::new(|_, _| ()),
            status: Arc::new(DiscoveryStatus::new()),
            started: now,
            random: fastrand::Rng::new(),
            throttle: Throttle::default(),
            guard: Guard::new(),
            tasks: JoinSet::new(),
            round: None,
            round_number: 0,
            idle: HashMap::new(),
            asked: HashMap::new(),
            in_flight: HashMap::new(),
            seeds_asked: None,
            search: Search::Wide,
            causes: Vec::new(),
            suspects: HashSet::new(),
            pending: Vec::new(),
            patched_in_round: Vec::new(),
            last_patch: None,
            trouble: None,
            open_until: None,
        }
    }

    /// Calls `tell` after every round in which enough nodes agreed that some slots have no owner: with the generation of the snapshot
    /// that says which, and with a time after which all of these nodes were asked [T11].
    #[must_use]
    pub fn on_uncovered(mut self, tell: impl Fn(u64, std::time::Instant) + 'static) -> Self {
        self.on_uncovered = Box::new(tell);
        self
    }

    /// What discovery counts; stays valid while it runs and after.
    #[must_use]
    pub fn status(&self) -> Arc<DiscoveryStatus> {
        Arc::clone(&self.status)
    }

    /// Works until every sender of hints is gone. Dropping the future closes the control connections; a name look-up that is
    /// under way then still holds its thread of the runtime until the resolver gives up.
    pub async fn run(mut self) {
        let mut batch = Vec::with_capacity(HINT_BATCH);
        loop {
            let wake_at = self.advance(Instant::now());
            tokio::select! {
                count = self.hints.recv_many(&mut batch, HINT_BATCH) => {
                    if count == 0 {
                        return;
                    }
                    batch.drain(..).for_each(|hint| self.take_hint(hint));
                }
                Some(event) = self.tasks.join_next() => self.take_event(event),
                () = sleep_until(wake_at) => {}
            }
        }
    }

    /// Does everything that is due; when to come back.
    fn advance(&mut self, now: Instant) -> Instant {
        let patch_at = self.patch_when_due(now);
        if self.round.is_none() {
            self.start_round_when_due(now);
        }
        let round_at = self.drive_round(now);
        self.idle
            .retain(|_, link| now.saturating_duration_since(link.last_used) < LINK_IDLE);
        let idle_at = self
            .idle
            .values()
            .map(|link| link.last_used + LINK_IDLE)
            .min();
        [patch_at, idle_at]
            .into_iter()
            .flatten()
            .fold(round_at, Instant::min)
    }

    fn take_hint(&mut self, hint: Hint) {
        match hint {
            Hint::Moved { slot, target, from } => self.take_moved(Move { slot, target, from }),
            Hint::Ask { .. } => self.open_until = Some(Instant::now() + OPEN_SLOT_MEMORY),
            Hint::Refresh { reason, node } => {
                if let Some(node) = node {
                    let unreachable = matches!(
                        reason,
                        RefreshReason::LinkLost
                            | RefreshReason::NodeSilent
                            | RefreshReason::ConnectFailed
                    );
                    if unreachable && self.owns_slots(&node) {
                        self.suspects.insert(node.clone());
                    }
                    self.add_cause(node);
                }
                self.request(reason);
            }
        }
    }

    /// A `MOVED` that names the owner the table has already is old news; any other one asks for a round, and is patched in if
    /// the snapshot accepts it.
    fn take_moved(&mut self, moved: Move) {
        let snapshot = self.snapshot.load();
        let owner = snapshot.primary_of(moved.slot);
        if owner.is_some_and(|owner| owner.address == moved.target) {
            return;
        }
        let accepted = snapshot.accepts_move(moved.slot, &moved.target, &moved.from);
        let target = snapshot
            .node_by_address(&moved.target)
            .map(|node| node.id.clone());
        drop(snapshot);
        self.add_cause(moved.from.clone());
        if let Some(target) = target {
            self.add_cause(target);
        }
        if accepted {
            self.pending.push(moved);
        }
        self.request(RefreshReason::Moved);
    }

    fn request(&mut self, reason: RefreshReason) {
        self.status.count_request(reason);
        self.pace.request(reason);
    }

    fn add_cause(&mut self, node: NodeId) {
        if self.causes.len() < CAUSES_MAX && !self.causes.contains(&node) {
            self.causes.push(node);
        }
    }

    fn owns_slots(&self, id: &NodeId) -> bool {
        let snapshot = self.snapshot.load();
        snapshot
            .index_of(id)
            .is_some_and(|index| snapshot.shards().iter().any(|shard| shard.primary == index))
    }

    /// Swaps in the pending moves if the last patch is long enough ago; otherwise when that will be.
    fn patch_when_due(&mut self, now: Instant) -> Option<Instant> {
        if self.pending.is_empty() {
            return None;
        }
        let due_at = self.last_patch.map_or(now, |last| last + PATCH_INTERVAL);
        if now < due_at {
            return Some(due_at);
        }
        self.last_patch = Some(now);
        self.patch();
        None
    }

    /// Whether an address may be asked at `now`: not more often than its budget, and not while it owes an answer.
    fn may_ask(&self, address: &Address, now: Instant) -> bool {
        let rested = self
            .asked
            .get(address)
            .is_none_or(|asked| now >= *asked + NODE_SPACING);
        rested && !self.in_flight.contains_key(address)
    }
}

//! Keeps the snapshot of an upstream that is one server: looks its name up, or asks the Sentinels that watch it; asks who answers there
//! and what that is, and swaps in a snapshot of one shard with every slot [N24] [N13].
//!
//! ```text
//!   every second, and at once when a worker has trouble or a Sentinel has news:
//!   name or Sentinels --> addresses --> ROLE and INFO of each, in parallel --> the one in use, if it is among the primaries;
//!                                                                             else the first
//! ```
//!
//! A replica is never taken: writes would fail there, and reads may be old. If what is configured is one, the server that it follows
//! is asked, and so on, and taken if it is a primary [N24]: after `FAILOVER` or a `REPLICAOF` by hand nobody needs to change anything. Sentinels are the only
//! ones to say who it is where there are some. While there is nothing better, the snapshot stands; but a server that a quorum of
//! Sentinels has replaced, or that says that it follows another one, is left at once, though there may be no other yet: what it would
//! still be written would be lost [N17].

mod hold;
mod name;
mod node;
mod probe;
mod whereabouts;

pub use whereabouts::Whereabouts;

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use slotway_core::topology::{Address, Hint, RefreshReason, Snapshot, SnapshotBuilder};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use self::hold::{Holder, InUse};
use self::node::{best, is_replaced, node, whole};
use self::probe::{Probe, Standing};
use super::link::{ControlLink, QueryError};
use super::settings::{
    DiscoverySettings, POLL_INTERVAL, POLL_INTERVAL_SLOW, POLL_SLOW_AFTER, REFRESH_MIN,
};
use super::status::{DiscoveryStatus, RefreshResult};
use super::throttle::Throttle;

/// Longest time between two rounds: nobody tells that a name means another server, or that a server was made a replica by hand.
const POLL_USUAL: Duration = Duration::from_secs(1);
/// Hints taken from the channel at once.
const HINT_BATCH: usize = 256;
/// A connection is used no longer: when an address is given to another server, the old connection may go on as if nothing was.
const LINK_AGE_MAX: Duration = Duration::from_secs(2);
/// A primary that is new has so long to answer before the former one is left: most do at once, and nobody has to wait.
const LEAVE_AFTER: Duration = Duration::from_millis(100);
/// A replica may follow a replica: so many of them are asked one after the other for the primary.
const HOPS_MAX: usize = 4;
/// Rounds without an answer before that is logged.
const FAILURES_LOGGED: u64 = 3;

/// Why a server is left that says so of itself.
const DEMOTED: &str = "the server in use follows another one now: clients wait";

type Answer = (Address, Instant, Result<(ControlLink, Probe), QueryError>);

/// The task that keeps the snapshot of one server up to date.
pub struct ServerDiscovery<F> {
    whereabouts: Whereabouts,
    settings: Arc<DiscoverySettings>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    hints: UnboundedReceiver<Hint>,
    on_swap: F,
    /// What the holder of writes knows.
    in_use: watch::Sender<InUse>,
    holder: Option<Holder>,
    status: Arc<DiscoveryStatus>,
    throttle: Throttle,
    /// Open connections, and since when.
    idle: HashMap<Address, (ControlLink, Instant)>,
    /// Why the next round comes before its time.
    wish: Option<RefreshReason>,
    last_round: Option<Instant>,
    /// Since when there is no primary.
    lost_since: Option<Instant>,
    /// Where the last one was.
    last_used: Option<Address>,
}

impl<F: Fn(&Snapshot)> ServerDiscovery<F> {
    /// Discovery of the server at `whereabouts` that fills `snapshot` and calls `on_swap` after every swap.
    #[must_use]
    pub fn new(
        whereabouts: Whereabouts,
        settings: DiscoverySettings,
        snapshot: Arc<ArcSwap<Snapshot>>,
        hints: UnboundedReceiver<Hint>,
        on_swap: F,
    ) -> Self {
        Self {
            whereabouts,
            settings: Arc::new(settings),
            snapshot,
            hints,
            on_swap,
            in_use: watch::Sender::default(),
            holder: None,
            status: Arc::new(DiscoveryStatus::new()),
            throttle: Throttle::default(),
            idle: HashMap::new(),
            wish: None,
            last_round: None,
            lost_since: None,
            last_used: None,
        }
    }

    /// Calls `tell` when writes are to be held until then, because Sentinels make another server the primary; when that is to be longer; and with
    /// `None` when it is over, after the call of `on_swap` that ended it.
    #[must_use]
    pub fn on_hold(mut self, tell: impl Fn(Option<std::time::Instant>) + 'static) -> Self {
        let announced = self.whereabouts.take_announced();
        self.holder = announced.map(|announced| {
            let in_use = self.in_use.subscribe();
            Holder::new(announced, in_use, Arc::clone(&self.settings), tell)
        });
        self
    }

    /// What discovery counts; stays valid while it runs and after.
    #[must_use]
    pub fn status(&self) -> Arc<DiscoveryStatus> {
        Arc::clone(&self.status)
    }

    /// Works until every sender of hints is gone.
    pub async fn run(mut self) {
        let holder = self.holder.take();
        let hold = async {
            match holder {
                Some(holder) => holder.run().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.follow() => {}
            () = hold => {}
        }
    }

    async fn follow(&mut self) {
        let mut batch = Vec::with_capacity(HINT_BATCH);
        loop {
            let now = Instant::now();
            let due = self.next_round(now);
            if due <= now {
                self.round().await;
                continue;
            }
            tokio::select! {
                count = self.hints.recv_many(&mut batch, HINT_BATCH) => {
                    if count == 0 {
                        return;
                    }
                    batch.drain(..).for_each(|hint| self.take_hint(&hint));
                }
                () = self.whereabouts.news() => {
                    self.status.count_request(RefreshReason::Sentinel);
                    self.wish.get_or_insert(RefreshReason::Sentinel);
                }
                () = sleep_until(due) => {}
            }
        }
    }

    fn take_hint(&mut self, hint: &Hint) {
        let reason = match hint {
            Hint::Moved { .. } | Hint::Ask { .. } => RefreshReason::Moved,
            Hint::Refresh { reason, .. } => *reason,
        };
        self.status.count_request(reason);
        self.wish.get_or_insert(reason);
    }

    fn next_round(&self, now: Instant) -> Instant {
        let Some(last) = self.last_round else {
            return now;
        };
        let pause = match self.lost_since {
            Some(since) if now.saturating_duration_since(since) < POLL_SLOW_AFTER => POLL_INTERVAL,
            Some(_) => POLL_INTERVAL_SLOW,
            None if self.wish.is_some() => REFRESH_MIN,
            None if self.whereabouts.is_unsettled() => POLL_INTERVAL,
            None => self.settings.refresh_interval.min(POLL_USUAL),
        };
        last + pause
    }

    /// Asks everybody, and takes what is best.
    async fn round(&mut self) {
        let in_trouble = self.wish.is_some() || self.lost_since.is_some();
        let reason = self.wish.take().unwrap_or(RefreshReason::Timer);
        let addresses = self.whereabouts.find(in_trouble, &mut self.throttle).await;
        let questions = self.questions(addresses);
        let answers = self.hear(questions).await;
        let Some(mut answers) = answers else {
            self.last_round = Some(Instant::now());
            self.status.count_request(RefreshReason::Sentinel);
            self.wish = Some(RefreshReason::Sentinel);
            return;
        };
        for _ in 0..HOPS_MAX {
            let followed = self.whereabouts.followed(&answers, self.last_used.as_ref());
            if followed.is_empty() {
                break;
            }
            if self.is_demoted(&answers) {
                self.leave(DEMOTED);
            }
            let questions = self.questions(followed);
            answers.extend(self.hear(questions).await.unwrap_or_default());
        }
        let now = Instant::now();
        self.last_round = Some(now);
        let result = self.apply(answers, now);
        let failures = self.status.consecutive_failures();
        self.status.count_round(reason, result);
        self.note_result(result, failures);
    }

    /// Asks all addresses; the answers come with the place of the address.
    fn questions(&mut self, addresses: Vec<Address>) -> JoinSet<(usize, Answer)> {
        let now = Instant::now();
        let mut tasks = JoinSet::new();
        for (position, address) in addresses.into_iter().enumerate() {
            let address = self.settings.address_map.apply(address);
            let settings = Arc::clone(&self.settings);
            let idle = self.idle.remove(&address);
            let (idle, opened) = match idle {
                Some((link, opened)) if now < opened + LINK_AGE_MAX => (Some(link), opened),
                _ => (None, now),
            };
            tasks.spawn(async move {
                let result = probe::probe(address.clone(), idle, settings).await;
                (position, (address, opened, result))
            });
        }
        tasks
    }

    /// The answers in the order of their addresses; `None` if there is news while a server hangs, which may be that another one is
    /// to be asked.
    async fn hear(&mut self, questions: JoinSet<(usize, Answer)>) -> Option<Vec<Answer>> {
        let in_order = async {
            let mut answers = questions.join_all().await;
            answers.sort_by_key(|(position, _)| *position);
            answers.into_iter().map(|(_, answer)| answer).collect()
        };
        tokio::pin!(in_order);
        if let Ok(answers) = timeout(LEAVE_AFTER, &mut in_order).await {
            return Some(answers);
        }
        self.leave_replaced();
        tokio::select! {
            answers = in_order => Some(answers),
            () = self.whereabouts.news() => None,
        }
    }

    fn apply(&mut self, answers: Vec<Answer>, now: Instant) -> RefreshResult {
        let current = self.snapshot.load_full();
        let in_use = current.nodes().first();
        let (mut primaries, mut replicas) = (Vec::new(), Vec::new());
        let mut trouble = None;
        let mut answered = false;
        // Those of addresses that were not asked any more.
        self.idle.clear();
        let is_demoted = self.is_demoted(&answers);
        for (address, opened, result) in answers {
            match result {
                Ok((link, probe)) => {
                    answered = true;
                    let objection = self.whereabouts.objection(&address, &probe.standing);
                    if let Some(objection) = objection {
                        // Another server may answer there by now: it is met by a new connection only.
                        trouble = Some(objection);
                    } else {
                        self.idle.insert(address.clone(), (link, opened));
                        primaries.push(node(address, &probe));
                        replicas.push(probe.replicas);
                    }
                }
                Err(error) => {
                    self.status.count_failure(error.failure());
                    let text = format!("{address}: {error}; {}", probe::advice(&error));
                    trouble.get_or_insert(text);
                }
            }
        }
        if primaries.is_empty() {
            self.leave_replaced();
            if is_demoted {
                self.leave(DEMOTED);
            }
            return self.without_primary(answered, trouble, now);
        }
        self.lost_since = None;
        self.status.set_trouble(None);
        let position = best(&primaries, in_use);
        let chosen = primaries.swap_remove(position);
        self.note_replicas(replicas.swap_remove(position));
        if current.nodes() == std::slice::from_ref(&chosen) {
            return RefreshResult::Unchanged;
        }
        let (address, id) = (chosen.address.clone(), chosen.id.clone());
        self.last_used = Some(address.clone());
        let Ok(snapshot) = whole(chosen, current.generation + 1) else {
            return RefreshResult::Failed;
        };
        let generation = snapshot.generation;
        if current.is_empty() {
            tracing::info!(generation, %address, run_id = %id, "server found");
        } else {
            tracing::info!(generation, %address, run_id = %id, "another server, or the same started anew");
        }
        self.publish(Arc::new(snapshot));
        RefreshResult::Changed
    }

    /// Whether the server in use says that it is a replica.
    fn is_demoted(&self, answers: &[Answer]) -> bool {
        let current = self.snapshot.load();
        let in_use = current.nodes().first();
        answers.iter().any(|(address, _, answer)| match answer {
            Ok((_, probe)) if matches!(probe.standing, Standing::ReplicaOf(_)) => {
                in_use.is_some_and(|in_use| in_use.id == probe.node_id(address))
            }
            _ => false,
        })
    }

    /// Has nobody use the server in use any more if enough Sentinels name another one.
    fn leave_replaced(&self) {
        let current = self.snapshot.load();
        let (Some(in_use), Some(choice)) = (current.nodes().first(), self.whereabouts.choice())
        else {
            return;
        };
        if is_replaced(in_use, choice, &self.settings.address_map) {
            self.leave(
                "the Sentinels name another primary, which cannot be written to yet: clients wait",
            );
        }
    }

    /// Has nobody use the server in use any more, though there is no other.
    fn leave(&self, why: &str) {
        let current = self.snapshot.load();
        let Some(in_use) = current.nodes().first() else {
            return;
        };
        let choice = self.whereabouts.choice();
        let named = choice.map(|choice| choice.primary.to_string());
        tracing::warn!(left = %in_use.address, named, "{why}");
        let empty = SnapshotBuilder::new().build(current.generation + 1);
        self.publish(Arc::new(empty));
    }

    fn publish(&self, snapshot: Arc<Snapshot>) {
        self.snapshot.store(Arc::clone(&snapshot));
        (self.on_swap)(&snapshot);
        let primary = snapshot.nodes().first().map(|node| node.address.clone());
        self.in_use.send_if_modified(|in_use| {
            let is_other = in_use.primary != primary;
            in_use.primary = primary;
            is_other
        });
    }

    /// The server that is used has these.
    fn note_replicas(&self, replicas: Vec<Address>) {
        let map = &self.settings.address_map;
        let replicas = replicas.into_iter();
        let replicas: Vec<Address> = replicas.map(|replica| map.apply(replica)).collect();
        self.in_use.send_if_modified(|in_use| {
            let are_others = in_use.replicas != replicas;
            in_use.replicas = replicas;
            are_others
        });
    }

    /// Nobody takes writes: what was known stands, and may come back.
    fn without_primary(
        &mut self,
        answered: bool,
        trouble: Option<String>,
        now: Instant,
    ) -> RefreshResult {
        self.lost_since.get_or_insert(now);
        if answered {
            let text = trouble.unwrap_or_default();
            if let Some(held_back) = self.throttle.pass("no_primary", now) {
                tracing::warn!(reason = text, held_back, "no server to write to");
            }
            self.status.set_trouble(Some(text));
            return RefreshResult::Unfit;
        }
        // That it is unreachable now, workers find out by themselves; readiness is about what lasts, but where there is none the reason
        // is worth telling.
        let is_known = !self.snapshot.load().is_empty();
        let reason = trouble.clone().or_else(|| self.whereabouts.trouble());
        self.status.set_trouble(reason.filter(|_| !is_known));
        if let Some(reason) = trouble
            && self.status.consecutive_failures() + 1 >= FAILURES_LOGGED
            && let Some(held_back) = self.throttle.pass("unreachable", now)
        {
            tracing::warn!(server = %self.whereabouts, reason, held_back, "the server does not answer: clients wait");
        }
        RefreshResult::Failed
    }

    fn note_result(&mut self, result: RefreshResult, failures_before: u64) {
        if matches!(result, RefreshResult::Changed | RefreshResult::Unchanged)
            && failures_before > 0
        {
            for kind in ["no_primary", "unreachable", "name", "sentinels"] {
                self.throttle.reset(kind);
            }
            if failures_before >= FAILURES_LOGGED {
                tracing::info!(failures = failures_before, "the server answers again");
            }
        }
    }
}

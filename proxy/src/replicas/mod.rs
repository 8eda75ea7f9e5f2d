//! Watches the replicas of one upstream, as soon as some client is to be answered by them: tells the workers which ones may be read from
//! [T21].
//!
//! ```text
//!   every second, and when the topology changes, all shards side by side:
//!     the primary --> INFO replication --> how far it is, and outside of clusters who follows it
//!     its replicas -> INFO replication --> how far each is --> core::topology::replication --> workers
//! ```
//! Outside of clusters the primary's own list is what the Sentinels have, too, only fresher; what they add, whether a replica can be
//! reached, is found out here each second.

mod node;
mod shard;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use slotway_core::config::UpstreamConfig;
use slotway_core::topology::replication::LagLimits;
use slotway_core::topology::{NodeId, Reader, Readers, Snapshot};
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

pub(crate) use self::node::ReplicaStatus;
use self::shard::{Judged, Shard};
use crate::facts::Facts;
use crate::supervisor::Workers;
use crate::worker::WorkerMessage;

/// How often each replica is looked at: half of the least lag that can be configured.
const PERIOD: Duration = Duration::from_secs(1);

/// What one shard says waits so long for what others say: for the workers each message about replicas is work.
const GATHER: Duration = Duration::from_millis(20);

/// What is known of the replicas of one upstream, for the admin endpoint.
pub(crate) type Replicas = Rc<RefCell<Known>>;

/// The replicas, and the primaries that they are watched of.
#[derive(Debug, Default, Clone)]
pub(crate) struct Known {
    pub(crate) replicas: Vec<ReplicaStatus>,
    /// By id; those without a replica, too.
    pub(crate) primaries: Vec<NodeId>,
}

/// Who watches the replicas of one upstream.
pub(crate) struct ReplicaWatch {
    upstream: Arc<UpstreamConfig>,
    limits: LagLimits,
    snapshot: Arc<ArcSwap<Snapshot>>,
    workers: Rc<Workers>,
    facts: Arc<Facts>,
    /// The topology has changed.
    changed: Rc<Notify>,
    /// Those that are not being asked.
    shards: HashMap<NodeId, Shard>,
    asking: HashSet<NodeId>,
    judged: HashMap<NodeId, Judged>,
    /// Something of that has not been told yet.
    is_untold: bool,
    known: Replicas,
    started: Instant,
}

impl ReplicaWatch {
    pub(crate) fn new(
        upstream: &UpstreamConfig,
        snapshot: Arc<ArcSwap<Snapshot>>,
        workers: Rc<Workers>,
        facts: Arc<Facts>,
        changed: Rc<Notify>,
    ) -> Self {
        Self {
            limits: LagLimits {
                time: upstream.replica_max_lag,
                bytes: upstream.replica_max_lag_bytes as u64,
            },
            upstream: Arc::new(upstream.clone()),
            snapshot,
            workers,
            facts,
            changed,
            shards: HashMap::new(),
            asking: HashSet::new(),
            judged: HashMap::new(),
            is_untold: false,
            known: Replicas::default(),
            started: Instant::now(),
        }
    }

    /// What it finds, from time to time.
    pub(crate) fn known(&self) -> Replicas {
        Rc::clone(&self.known)
    }

    /// Watches until the task is dropped, from the moment on that somebody wants it.
    pub(crate) async fn run(mut self) {
        self.facts.replicas().wanted().await;
        let mut tasks = JoinSet::new();
        // When the workers are to be told of what has been taken.
        let mut tell_at: Option<Instant> = None;
        loop {
            let next = Instant::now() + PERIOD;
            self.ask_all(&mut tasks);
            while Instant::now() < next {
                tokio::select! {
                    Some(asked) = tasks.join_next() => self.take(asked),
                    () = self.changed.notified() => break,
                    () = sleep_until(tell_at.unwrap_or(next).min(next)) => {}
                }
                tell_at = self.tell_in_time(tell_at);
            }
        }
    }

    /// Begins to ask the nodes of all shards that are not being asked.
    fn ask_all(&mut self, tasks: &mut JoinSet<(NodeId, Shard)>) {
        let snapshot = self.snapshot.load_full();
        let shards = snapshot.shards().iter().enumerate();
        let positions: HashMap<&NodeId, usize> = shards
            .map(|(position, shard)| (&snapshot.node(shard.primary).id, position))
            .collect();
        self.shards.retain(|id, _| positions.contains_key(id));
        self.judged.retain(|id, _| positions.contains_key(id));
        for (id, position) in positions {
            if !self.asking.insert(id.clone()) {
                continue;
            }
            let known = self.shards.remove(id).unwrap_or_default();
            let (snapshot, upstream) = (Arc::clone(&snapshot), Arc::clone(&self.upstream));
            let (id, started) = (id.clone(), self.started);
            tasks.spawn_local(async move {
                (id, known.ask(&snapshot, position, upstream, started).await)
            });
        }
    }

    /// Takes over what has become known of a shard.
    fn take(&mut self, asked: Result<(NodeId, Shard), JoinError>) {
        let Ok((id, mut shard)) = asked else {
            return;
        };
        let now = Instant::now();
        let judged = shard.judge(&id, now, self.started, self.limits, &self.upstream);
        self.asking.remove(&id);
        self.judged.insert(id.clone(), judged);
        self.shards.insert(id, shard);
        self.is_untold = true;
    }

    /// Tells what has been taken, once all are there or it is time. Returns when that will be.
    fn tell_in_time(&mut self, tell_at: Option<Instant>) -> Option<Instant> {
        if !self.is_untold {
            return None;
        }
        let now = Instant::now();
        let tell_at = tell_at.unwrap_or(now + GATHER);
        if tell_at > now && !self.asking.is_empty() {
            return Some(tell_at);
        }
        self.is_untold = false;
        self.tell(now);
        None
    }

    /// Tells the workers and the admin endpoint what is known.
    fn tell(&self, now: Instant) {
        let mut readers = Readers::default();
        let mut known = Known::default();
        for shard in self.judged.values() {
            readers.primaries.push(shard.primary.clone());
            known.primaries.push(shard.primary.id.clone());
            // What was found earlier is older by now.
            let age = now.saturating_duration_since(shard.at);
            for replica in &shard.replicas {
                readers.replicas.extend(replica.as_reader(age));
                known.replicas.push(replica.clone());
            }
        }
        let place = |reader: &Reader| (reader.id.clone(), reader.address.clone());
        readers.replicas.sort_by_cached_key(place);
        let place = |status: &ReplicaStatus| (status.primary.clone(), status.address.clone());
        known.replicas.sort_by_cached_key(place);
        known.primaries.sort();
        *self.known.borrow_mut() = known;
        let readers = Arc::new(readers);
        self.workers
            .broadcast(|| WorkerMessage::Readers(Arc::clone(&readers), now.into_std()));
    }
}

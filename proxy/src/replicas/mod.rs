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

/// What is known of the replicas of one upstream, for the admin endpoint.
pub(crate) type Replicas = Rc<RefCell<Vec<ReplicaStatus>>>;

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
        loop {
            let next = Instant::now() + PERIOD;
            self.ask_all(&mut tasks);
            loop {
                tokio::select! {
                    Some(asked) = tasks.join_next() => self.take(asked),
                    () = self.changed.notified() => break,
                    () = sleep_until(next) => break,
                }
            }
        }
    }

    /// Begins to ask the nodes of all shards that are not being asked.
    fn ask_all(&mut self, tasks: &mut JoinSet<(NodeId, Shard)>) {
        let snapshot = self.snapshot.load_full();
        let is_there = |id: &NodeId| {
            let mut shards = snapshot.shards().iter();
            shards.any(|shard| snapshot.node(shard.primary).id == *id)
        };
        self.shards.retain(|id, _| is_there(id));
        self.judged.retain(|id, _| is_there(id));
        for (position, shard) in snapshot.shards().iter().enumerate() {
            let id = snapshot.node(shard.primary).id.clone();
            if !self.asking.insert(id.clone()) {
                continue;
            }
            let known = self.shards.remove(&id).unwrap_or_default();
            let (snapshot, upstream) = (Arc::clone(&snapshot), Arc::clone(&self.upstream));
            let started = self.started;
            tasks.spawn_local(async move {
                (id, known.ask(&snapshot, position, upstream, started).await)
            });
        }
    }

    /// Tells the workers and the admin endpoint what has become known.
    fn take(&mut self, asked: Result<(NodeId, Shard), JoinError>) {
        let Ok((id, mut shard)) = asked else {
            return;
        };
        let now = Instant::now();
        let judged = shard.judge(&id, now, self.started, self.limits, &self.upstream);
        self.asking.remove(&id);
        self.judged.insert(id.clone(), judged);
        self.shards.insert(id, shard);
        let mut readers = Readers::default();
        let mut known = Vec::new();
        for shard in self.judged.values() {
            readers.primaries.push(shard.primary.clone());
            // What was found earlier is older by now.
            let age = now.saturating_duration_since(shard.at);
            for replica in &shard.replicas {
                readers.replicas.extend(replica.as_reader(age));
                known.push(replica.clone());
            }
        }
        let place = |reader: &Reader| (reader.id.clone(), reader.address.clone());
        readers.replicas.sort_by_key(place);
        known.sort_by_key(|status| (status.primary.clone(), status.address.clone()));
        *self.known.borrow_mut() = known;
        let readers = Arc::new(readers);
        self.workers
            .broadcast(|| WorkerMessage::Readers(Arc::clone(&readers), now.into_std()));
    }
}

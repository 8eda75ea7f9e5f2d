//! A primary and its replicas.

use std::sync::Arc;
use std::time::Duration;

use slotway_core::config::UpstreamConfig;
use slotway_core::time::Timestamp;
use slotway_core::topology::replication::{LagLimits, Progress};
use slotway_core::topology::{Address, NodeId, NodeState, ReadPrimary, Snapshot};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, timeout};

use super::node::{Node, ReplicaStatus};

/// A primary that has not answered by then holds up the questions to its replicas no longer.
const HEDGE_AFTER: Duration = Duration::from_millis(100);

/// A primary and its replicas.
#[derive(Debug, Default)]
pub(super) struct Shard {
    primary: Option<Node>,
    progress: Progress,
    replicas: Vec<Node>,
}

/// What is known of them, as of some moment.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) at: Instant,
    pub(super) primary: ReadPrimary,
    pub(super) replicas: Vec<ReplicaStatus>,
}

impl Shard {
    /// Asks all of them: the shard at `position` of `snapshot`.
    pub(super) async fn ask(
        mut self,
        snapshot: &Snapshot,
        position: usize,
        upstream: Arc<UpstreamConfig>,
        started: Instant,
    ) -> Self {
        let Some(shard) = snapshot.shards().get(position) else {
            return self;
        };
        let address = &snapshot.node(shard.primary).address;
        let primary = self.primary.take();
        let primary = primary.filter(|known| known.address == *address);
        let primary = primary.unwrap_or_else(|| Node::new(address.clone()));
        if !upstream.is_undivided() {
            let replicas = shard.replicas.iter().map(|replica| snapshot.node(*replica));
            let healthy = replicas.filter(|replica| replica.state != NodeState::Failed);
            let listed = healthy.map(|replica| (replica.address.clone(), Some(replica.id.clone())));
            self.adopt(listed.collect());
        }
        // The replicas after the primary, so that they have come as far as it was; but not much later, if that says nothing.
        let mut asking = spawn_local(primary.ask(Arc::clone(&upstream)));
        let answered = timeout(HEDGE_AFTER, &mut asking).await;
        self.ask_replicas(&upstream).await;
        let primary = match answered {
            Ok(primary) => primary,
            Err(_) => asking.await,
        };
        let Ok(primary) = primary else {
            return self;
        };
        match &primary.said {
            Some(said) => self
                .progress
                .on_answer(time_of(primary.asked, started), said),
            None => self.progress.on_silence(),
        }
        if upstream.is_undivided()
            && let Some(said) = &primary.said
        {
            let addresses = said.replicas.iter().cloned();
            let listed = addresses.map(|address| (upstream.address_map.apply(address), None));
            if self.adopt(listed.collect()) {
                self.ask_replicas(&upstream).await;
            }
        }
        self.primary = Some(primary);
        self
    }

    /// Takes these for the replicas; whether one of them is new.
    fn adopt(&mut self, listed: Vec<(Address, Option<NodeId>)>) -> bool {
        let mut known = std::mem::take(&mut self.replicas);
        let mut has_new = false;
        for (address, id) in listed {
            let position = known.iter().position(|node| node.address == address);
            let mut node = match position {
                Some(position) => known.swap_remove(position),
                None => {
                    has_new = true;
                    Node::new(address)
                }
            };
            node.id = id;
            self.replicas.push(node);
        }
        has_new
    }

    /// Asks all replicas at the same time.
    async fn ask_replicas(&mut self, upstream: &Arc<UpstreamConfig>) {
        let mut tasks = JoinSet::new();
        for replica in self.replicas.drain(..) {
            tasks.spawn_local(replica.ask(Arc::clone(upstream)));
        }
        while let Some(asked) = tasks.join_next().await {
            self.replicas.extend(asked);
        }
    }

    /// Judges all replicas, as of `now`.
    pub(super) fn judge(
        &mut self,
        id: &NodeId,
        now: Instant,
        started: Instant,
        limits: LagLimits,
        upstream: &UpstreamConfig,
    ) -> Judged {
        let mut replicas = Vec::with_capacity(self.replicas.len());
        for replica in &mut self.replicas {
            let said = replica.said.as_ref();
            let lag = self.progress.judge(time_of(now, started), said, limits);
            replica.note_lag(lag);
            replicas.push(ReplicaStatus {
                id: replica.known_id(),
                address: replica.address.clone(),
                primary: id.clone(),
                zone: replica.zone(upstream).map(str::to_owned),
                near: replica.is_near(upstream),
                latency: replica.latency(),
                lag,
            });
        }
        let primary = self.primary.as_ref();
        Judged {
            at: now,
            primary: ReadPrimary {
                id: id.clone(),
                near: primary.is_some_and(|node| node.is_near(upstream)),
                latency: primary.map(Node::latency).unwrap_or_default(),
            },
            replicas,
        }
    }
}

fn time_of(instant: Instant, started: Instant) -> Timestamp {
    Timestamp::ZERO.after(instant.saturating_duration_since(started))
}

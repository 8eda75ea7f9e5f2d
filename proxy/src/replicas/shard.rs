//! A primary and its replicas.

use std::sync::Arc;
use std::time::Duration;

use slotway_core::config::UpstreamConfig;
use slotway_core::time::Timestamp;
use slotway_core::topology::replication::{LagLimits, Progress, Replication, Unreadable};
use slotway_core::topology::{Address, NodeId, NodeState, ReadPrimary, Snapshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::node::{Node, ReplicaStatus};

/// A primary that has not answered by then holds up the questions to its replicas no longer.
const HEDGE_AFTER: Duration = Duration::from_millis(100);

/// A node that has not answered by then holds up no longer what is known of the others: its answer counts in the next round.
const PROMPT: Duration = Duration::from_millis(250);

/// A node that gave no answer before has this long to be back in the same round.
const SECOND_CHANCE: Duration = Duration::from_millis(20);

/// A replica that its primary does not know any more, and that does not answer, is shown for so long.
const FORGET_AFTER: Duration = Duration::from_secs(600);

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

/// A replica, as the topology or its primary names it.
struct Listed {
    address: Address,
    id: Option<NodeId>,
    has_failed: bool,
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
        let mut primary = primary.unwrap_or_else(|| Node::new(address.clone()));
        primary.begin(&upstream).await;
        // The replicas after the primary, so that they have come as far as it was; but not much later, if that says nothing.
        let _ = timeout(HEDGE_AFTER, primary.answered()).await;
        if !upstream.is_undivided() {
            let replicas = shard.replicas.iter().map(|replica| snapshot.node(*replica));
            let listed = replicas.map(|replica| Listed {
                address: replica.address.clone(),
                id: Some(replica.id.clone()),
                has_failed: replica.state == NodeState::Failed,
            });
            let mut listed: Vec<Listed> = listed.collect();
            // A dead one's address may have been given to a live one.
            listed.sort_by_key(|replica| replica.has_failed);
            self.adopt(listed.into_iter(), |_| false);
        } else if let Some(said) = primary.said.as_ref().filter(|said| !said.is_replica) {
            let listed = said.replicas.iter().map(|address| Listed {
                address: upstream.address_map.apply(address.clone()),
                id: None,
                has_failed: false,
            });
            self.adopt(listed, |known| may_come_back(known, said));
        }
        self.ask_replicas(&mut primary, &upstream).await;
        match &primary.said {
            Some(said) => self
                .progress
                .on_answer(time_of(primary.asked, started), said),
            None => self.progress.on_silence(),
        }
        self.primary = Some(primary);
        self
    }

    /// Takes these for the replicas, and of those known before the ones that are to be kept.
    fn adopt(&mut self, listed: impl Iterator<Item = Listed>, is_kept: impl Fn(&Node) -> bool) {
        let mut known = std::mem::take(&mut self.replicas);
        for listed in listed {
            // A primary may still know an old connection of the same replica.
            let is_same = |node: &Node| node.address == listed.address;
            if self.replicas.iter().any(is_same) {
                continue;
            }
            let mut node = match known.iter().position(is_same) {
                Some(position) => known.swap_remove(position),
                None => Node::new(listed.address.clone()),
            };
            node.id = listed.id;
            node.has_failed = listed.has_failed;
            self.replicas.push(node);
        }
        self.replicas.extend(known.into_iter().filter(is_kept));
    }

    /// Asks all replicas at the same time, and waits for answers: not for long, and hardly for those that gave none before.
    async fn ask_replicas(&mut self, primary: &mut Node, upstream: &Arc<UpstreamConfig>) {
        for replica in &mut self.replicas {
            replica.begin(upstream).await;
        }
        let mut nodes: Vec<&mut Node> = self.replicas.iter_mut().chain([primary]).collect();
        nodes.sort_by_key(|node| node.trouble.is_some());
        let begun = Instant::now();
        for node in nodes {
            let until = match node.trouble {
                None => begun + PROMPT,
                Some(_) => begun + SECOND_CHANCE,
            };
            let _ = timeout_at(until, node.answered()).await;
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
            let mut lag = self.progress.judge(time_of(now, started), said, limits);
            if replica.has_failed {
                lag.unreadable = lag.unreadable.or(Some(Unreadable::Failed));
            }
            replica.note_lag(lag);
            replicas.push(ReplicaStatus {
                id: replica.known_id(),
                address: replica.address.clone(),
                primary: id.clone(),
                zone: replica.zone(upstream).map(str::to_owned),
                near: replica.is_near(upstream),
                latency: replica.latency(),
                lag,
                trouble: replica.trouble.clone(),
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

/// Whether a replica that its primary, which has said `said`, does not know now is to be shown all the same: it has lost its link, or
/// hangs, and operators are told. One that follows another server, or none, is forgotten.
fn may_come_back(replica: &Node, said: &Replication) -> bool {
    match &replica.said {
        Some(own) => own.is_replica && (!own.is_linked || own.history == said.history),
        None => replica.asked.elapsed() < FORGET_AFTER,
    }
}

fn time_of(instant: Instant, started: Instant) -> Timestamp {
    Timestamp::ZERO.after(instant.saturating_duration_since(started))
}

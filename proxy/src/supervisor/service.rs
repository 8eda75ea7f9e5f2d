//! One upstream and all that is its own in this process: worker threads, topology, discovery, clients, figures, slow log. To its
//! clients it is a proxy of its own; nothing of another upstream can be seen or disturbed from here.

use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use arc_swap::ArcSwap;
use slotway_core::config::{Config, UpstreamConfig};
use slotway_core::local::ReadPolicy;
use slotway_core::topology::{Hint, Snapshot};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tracing::{Instrument, Span};

use super::status::LearnedCount;
use super::{Status, Workers, figures, servers, settings};
use crate::discovery::{
    Discovery, DiscoverySettings, DiscoveryStatus, ServerDiscovery, Whereabouts,
};
use crate::facts::Facts;
use crate::limits::LiveLimits;
use crate::reaper::Reaper;
use crate::registry::ClientRegistry;
use crate::replicas::{ReplicaWatch, Replicas};
use crate::scripts::ScriptRelay;
use crate::worker::{self, WorkerHandle, WorkerMessage, WorkerSettings};

/// What all upstreams of the process share.
pub(super) struct Common {
    /// Where big buffers are dropped.
    pub(super) reaper: Reaper,
    /// What the process is doing.
    pub(super) status: Rc<Status>,
    /// The limits at the start.
    pub(super) limits: LiveLimits,
}

/// One upstream.
pub(crate) struct Service {
    /// What it is called, if it is.
    pub(crate) name: Option<String>,
    /// Who serves its clients.
    pub(crate) workers: Rc<Workers>,
    /// What its clients can ask for.
    pub(crate) facts: Arc<Facts>,
    /// Its topology in use.
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    /// What its discovery counts.
    pub(crate) discovery: Arc<DiscoveryStatus>,
    /// What is known of its replicas, once they are watched.
    pub(crate) replicas: Replicas,
    /// How many commands its servers told of.
    pub(crate) learned: Rc<LearnedCount>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Service {
    /// Starts the workers, and on this thread what follows the servers: `tasks` that do not end by themselves.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(super) fn start(
        config: &Config,
        upstream: &UpstreamConfig,
        common: &Common,
        tasks: &mut JoinSet<()>,
    ) -> anyhow::Result<Self> {
        let span = span(upstream);
        let (hints, hints_in) = mpsc::unbounded_channel();
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::empty()));
        let facts = Arc::new(Facts::new(config.workers, settings::slow_log(config)));
        facts.set_limits(common.limits);
        let parts = (&snapshot, &hints, &facts, &common.reaper);
        let (handles, threads) = span.in_scope(|| start_workers(config, upstream, parts))?;
        let workers = Rc::new(Workers::new(handles));

        let learned = Rc::new(LearnedCount::default());
        let changed = Rc::new(Notify::new());
        let servers = servers::publish(
            Arc::clone(&facts),
            Rc::clone(&learned),
            upstream.clone(),
            Arc::clone(&snapshot),
            Rc::clone(&changed),
        );
        tasks.spawn_local(servers.instrument(span.clone()));
        let snapshots = Arc::clone(&snapshot);
        let moved = Rc::new(Notify::new());
        let watch = ReplicaWatch::new(
            upstream,
            Arc::clone(&snapshot),
            Rc::clone(&workers),
            Arc::clone(&facts),
            Rc::clone(&moved),
        );
        let replicas = watch.known();
        let mut listeners = config.listeners.iter();
        if listeners.any(|it| {
            config.upstreams.get(it.upstream) == Some(upstream) && it.reads != ReadPolicy::Primary
        }) {
            facts.replicas().want();
        }
        tasks.spawn_local(watch.run().instrument(span.clone()));
        let discovery = follow_topology(
            upstream,
            snapshots,
            hints_in,
            &workers,
            [changed, moved],
            span,
            tasks,
        );
        tasks.spawn_local(figures::publish(
            Arc::clone(&facts),
            Rc::clone(&workers),
            Rc::clone(&common.status),
            Arc::clone(&discovery),
        ));
        Ok(Self {
            name: upstream.name.clone(),
            workers,
            facts,
            snapshot,
            discovery,
            replicas,
            learned,
            threads,
        })
    }

    /// The number of a worker that has ended, if one has.
    pub(super) fn ended_worker(&self) -> Option<usize> {
        self.threads
            .iter()
            .position(thread::JoinHandle::is_finished)
    }

    /// Every worker has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.threads.iter().all(thread::JoinHandle::is_finished)
    }

    /// Why its clients should not be sent here now, if there is a reason.
    pub(crate) fn trouble(&self) -> Option<String> {
        if let Some(trouble) = self.discovery.trouble() {
            return Some(trouble);
        }
        let snapshot = self.snapshot.load();
        if snapshot.is_empty() {
            return Some(
                "the topology is not known yet: no node of the cluster, or not the server, has answered".to_owned(),
            );
        }
        let uncovered = snapshot.uncovered_slots();
        (uncovered > 0).then(|| format!("{uncovered} of 16384 slots have no owner"))
    }
}

/// What log lines of this upstream are marked with: its name, at every level, if it has one.
fn span(upstream: &UpstreamConfig) -> Span {
    match upstream.name.as_deref() {
        Some(upstream) => tracing::error_span!("service", upstream),
        None => Span::none(),
    }
}

type Threads = Vec<thread::JoinHandle<()>>;

/// Starts the workers, which know of each other.
fn start_workers(
    config: &Config,
    upstream: &UpstreamConfig,
    (snapshot, hints, facts, reaper): (
        &Arc<ArcSwap<Snapshot>>,
        &UnboundedSender<Hint>,
        &Arc<Facts>,
        &Reaper,
    ),
) -> anyhow::Result<(Vec<WorkerHandle>, Threads)> {
    let registry = Arc::new(ClientRegistry::new());
    let scripts = Arc::new(ScriptRelay::default());
    let mut handles = Vec::with_capacity(config.workers);
    let mut threads = Vec::with_capacity(config.workers);
    for id in 0..config.workers {
        let settings = WorkerSettings {
            id,
            limits: settings::limits(config, upstream),
            upstream: settings::upstream(upstream),
            connect_timeout: upstream.connect_timeout,
            snapshot: Arc::clone(snapshot),
            hints: hints.clone(),
            registry: Arc::clone(&registry),
            facts: Arc::clone(facts),
            reaper: reaper.clone(),
            scripts: Arc::clone(&scripts),
        };
        let (handle, thread) =
            worker::spawn(settings).with_context(|| format!("cannot start worker {id}"))?;
        handles.push(handle);
        threads.push(thread);
    }
    scripts.set_workers(handles.clone());
    let told = handles.clone();
    registry.set_teller(handles.len(), move |worker, order| {
        if let Some(handle) = told.get(worker) {
            handle.send(WorkerMessage::Client(order));
        }
    });
    Ok((handles, threads))
}

/// Starts the discovery that fits what is behind the proxy.
fn follow_topology(
    upstream: &UpstreamConfig,
    snapshot: Arc<ArcSwap<Snapshot>>,
    hints: UnboundedReceiver<Hint>,
    workers: &Rc<Workers>,
    changed: [Rc<Notify>; 2],
    span: Span,
    tasks: &mut JoinSet<()>,
) -> Arc<DiscoveryStatus> {
    let settings = DiscoverySettings::new(upstream);
    let told = Rc::clone(workers);
    let on_swap = move |_: &Snapshot| {
        told.broadcast(|| WorkerMessage::SnapshotChanged);
        changed.iter().for_each(|changed| changed.notify_one());
    };
    if let Some(whereabouts) = Whereabouts::new(upstream) {
        let told = Rc::clone(workers);
        let discovery = ServerDiscovery::new(whereabouts, settings, snapshot, hints, on_swap)
            .on_hold(move |until| told.broadcast(|| WorkerMessage::HoldWrites(until)));
        let status = discovery.status();
        tasks.spawn_local(discovery.run().instrument(span));
        return status;
    }
    let told = Rc::clone(workers);
    let discovery = Discovery::new(settings, snapshot, hints, on_swap).on_uncovered(
        move |generation, since| {
            told.broadcast(|| WorkerMessage::UncoveredConfirmed(generation, since));
        },
    );
    let status = discovery.status();
    tasks.spawn_local(discovery.run().instrument(span));
    status
}

//! Puts the proxy together, keeps it going, and takes it down in order. Everything here runs on the control thread.
//!
//! ```text
//!   bind ports -> workers -> accept -> discovery -> admin        start, in this order: a port is open within milliseconds
//!   signal     -> readiness off -> ports closed -> workers drain -> end       within `shutdown.drain`
//!   SIGHUP     -> the configuration is read anew, what can change while the proxy runs is applied
//! ```
//!
//! The control thread runs one current-thread runtime: accepting, discovery, admin. Workers are threads of their own; only
//! messages and snapshots pass between them.

mod commands;
mod databases;
mod descriptors;
mod figures;
mod reload;
mod servers;
mod settings;
mod status;
#[cfg(test)]
mod tests;
mod workers;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use slotway_core::config::{Config, ListenerConfig};
use slotway_core::topology::{Hint, Snapshot};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet, spawn_local};

use crate::admin::{self, Admin};
use crate::discovery::{
    Discovery, DiscoverySettings, DiscoveryStatus, ServerDiscovery, Whereabouts,
};
use crate::facts::Facts;
use crate::limits::LiveLimits;
use crate::listener::{self, Acceptor, Gate};
use crate::reaper::Reaper;
use crate::registry::ClientRegistry;
use crate::scripts::ScriptRelay;
use crate::shutdown::Signals;
use crate::worker::{self, WorkerMessage, WorkerSettings};

pub use reload::Reload;
pub(crate) use status::{Rejection, Status};
pub(crate) use workers::Workers;

/// Time between two looks at whether a worker thread has ended.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
/// The same while waiting for all of them to end.
const DRAIN_INTERVAL: Duration = Duration::from_millis(5);

/// The addresses that were bound; they differ from the configured ones where the port was 0.
#[derive(Debug, Clone)]
pub struct Bound {
    /// For clients, in the order of the configuration.
    pub listeners: Vec<SocketAddr>,
    /// The admin endpoint, unless it is off.
    pub admin: Option<SocketAddr>,
}

/// The runtime of the control thread.
///
/// # Errors
/// When the system has no resources for it.
pub fn runtime() -> anyhow::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .context("cannot start")
}

/// Runs the proxy until a signal has ended it; the result is the exit code. `started` is called once, when clients can connect;
/// `reload` says how to get the configuration anew, if it may change while the proxy runs.
///
/// # Errors
/// When a port cannot be bound, a thread cannot be started, or a worker ends by itself.
pub async fn serve(
    config: Config,
    signals: &mut Signals,
    reload: Option<Reload>,
    started: impl FnOnce(&Bound),
) -> anyhow::Result<u8> {
    let began = SystemTime::now();
    let (sockets, admin_socket, bound) = bind_all(&config)?;
    let mut proxy = Proxy::start(&config, sockets)?;
    if let Some(socket) = admin_socket {
        let admin = Admin {
            status: Rc::clone(&proxy.status),
            workers: Rc::clone(&proxy.workers),
            snapshot: Arc::clone(&proxy.snapshot),
            discovery: proxy.discovery.clone(),
            started: began,
        };
        proxy
            .tasks
            .spawn_local(admin::serve(socket, Rc::new(admin)));
    }
    if let Some(reload) = reload {
        let task = reload.run(
            config.clone(),
            Arc::clone(&proxy.facts),
            Rc::clone(&proxy.status),
        );
        proxy.tasks.spawn_local(task);
    }
    for address in &bound.listeners {
        tracing::info!(%address, workers = config.workers, version = env!("CARGO_PKG_VERSION"), "listening");
    }
    if let Some(address) = bound.admin {
        tracing::info!(%address, "admin endpoint");
    }
    started(&bound);

    let signal = tokio::select! {
        signal = signals.next() => signal,
        part = proxy.part_ended() => bail!("{part} has ended by itself; the log lines before this say why"),
    };
    signals.settle().await;
    tracing::info!(signal = signal.name(), drain = ?config.drain, "shutting down");
    let deadline = Instant::now() + config.drain;
    proxy.begin_drain();
    tokio::select! {
        () = proxy.drained(deadline) => Ok(0),
        second = signals.next() => {
            tracing::warn!(signal = second.name(), clients = proxy.workers.connections(), "second signal, ending at once");
            Ok(second.exit_code())
        }
    }
}

/// Binds every port, before anything that takes time.
fn bind_all(config: &Config) -> anyhow::Result<(Vec<TcpListener>, Option<TcpListener>, Bound)> {
    let sockets: Vec<TcpListener> = config
        .listeners
        .iter()
        .map(|listener| bind(listener.listen, "--listen"))
        .collect::<anyhow::Result<_>>()?;
    let admin = config
        .admin
        .map(|address| bind(address, "--admin"))
        .transpose()?;
    let bound = Bound {
        listeners: sockets
            .iter()
            .map(TcpListener::local_addr)
            .collect::<Result<_, _>>()?,
        admin: admin.as_ref().map(TcpListener::local_addr).transpose()?,
    };
    Ok((sockets, admin, bound))
}

fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    listener::bind(address)
        .with_context(|| format!("cannot listen on {address} (choose another address with {flag})"))
}

/// Everything that runs.
struct Proxy {
    status: Rc<Status>,
    workers: Rc<Workers>,
    threads: Vec<thread::JoinHandle<()>>,
    acceptors: Vec<JoinHandle<()>>,
    /// What else runs on this thread, without end.
    tasks: JoinSet<()>,
    facts: Arc<Facts>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    discovery: Arc<DiscoveryStatus>,
}

impl Proxy {
    fn start(config: &Config, sockets: Vec<TcpListener>) -> anyhow::Result<Self> {
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::empty()));
        let registry = Arc::new(ClientRegistry::new());
        let facts = Arc::new(Facts::new(config.workers, settings::slow_log(config)));
        facts.set_limits(descriptors::affordable(LiveLimits::from(&config.limits)));
        let reaper = Reaper::start().context("cannot start the thread that drops buffers")?;
        let scripts = Arc::new(ScriptRelay::default());
        let (hints, hints_in) = mpsc::unbounded_channel();
        let mut handles = Vec::with_capacity(config.workers);
        let mut threads = Vec::with_capacity(config.workers);
        for id in 0..config.workers {
            let settings = WorkerSettings {
                id,
                limits: settings::limits(config),
                upstream: settings::upstream(config),
                connect_timeout: config.upstream.connect_timeout,
                snapshot: Arc::clone(&snapshot),
                hints: hints.clone(),
                registry: Arc::clone(&registry),
                facts: Arc::clone(&facts),
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
        let (status, workers) = (Rc::new(Status::default()), Rc::new(Workers::new(handles)));
        let gate = Gate::new(Arc::clone(&facts), Rc::clone(&workers), Rc::clone(&status));
        let acceptors = accept_all(config, sockets, &workers, gate);
        status.set_listening();

        let changed = Rc::new(Notify::new());
        let mut tasks = JoinSet::new();
        tasks.spawn_local(servers::publish(
            Arc::clone(&facts),
            Rc::clone(&status),
            config.upstream.clone(),
            Arc::clone(&snapshot),
            Rc::clone(&changed),
        ));
        let discovery_status = follow_topology(
            config,
            Arc::clone(&snapshot),
            hints_in,
            &workers,
            changed,
            &mut tasks,
        );
        tasks.spawn_local(figures::publish(
            Arc::clone(&facts),
            Rc::clone(&workers),
            Rc::clone(&status),
            Arc::clone(&discovery_status),
        ));
        Ok(Self {
            status,
            workers,
            threads,
            acceptors,
            tasks,
            facts,
            snapshot,
            discovery: discovery_status,
        })
    }

    /// Waits for a worker or a task to end, which none does before a drain unless it panics; what it was. To go on without it
    /// would be worse than to start anew: clients that nobody serves, a topology that nobody follows.
    async fn part_ended(&mut self) -> String {
        loop {
            let mut threads = self.threads.iter();
            if let Some(worker) = threads.position(thread::JoinHandle::is_finished) {
                return format!("worker {worker}");
            }
            if self.acceptors.iter().any(JoinHandle::is_finished) {
                return "the task of a listener".to_owned();
            }
            tokio::select! {
                Some(_) = self.tasks.join_next() => return "a task of the control thread".to_owned(),
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
            }
        }
    }

    /// Turns new clients away and has the workers finish what they have [D12].
    fn begin_drain(&mut self) {
        self.status.set_draining();
        for acceptor in self.acceptors.drain(..) {
            acceptor.abort();
        }
        self.workers.broadcast(|| WorkerMessage::Drain);
    }

    /// Waits for every worker to end, until `deadline`.
    async fn drained(&self, deadline: Instant) {
        while !self.threads.iter().all(thread::JoinHandle::is_finished) {
            if Instant::now() >= deadline {
                tracing::warn!(
                    clients = self.workers.connections(),
                    "time is up, closing the clients that are left"
                );
                return;
            }
            tokio::time::sleep(DRAIN_INTERVAL).await;
        }
        tracing::info!("all requests finished");
    }
}

/// Starts the discovery that fits what is behind the proxy.
fn follow_topology(
    config: &Config,
    snapshot: Arc<ArcSwap<Snapshot>>,
    hints: UnboundedReceiver<Hint>,
    workers: &Rc<Workers>,
    changed: Rc<Notify>,
    tasks: &mut JoinSet<()>,
) -> Arc<DiscoveryStatus> {
    let settings = DiscoverySettings::new(&config.upstream);
    let told = Rc::clone(workers);
    let on_swap = move |_: &Snapshot| {
        told.broadcast(|| WorkerMessage::SnapshotChanged);
        changed.notify_one();
    };
    if let Some(whereabouts) = Whereabouts::new(&config.upstream) {
        let discovery = ServerDiscovery::new(whereabouts, settings, snapshot, hints, on_swap);
        let status = discovery.status();
        tasks.spawn_local(discovery.run());
        return status;
    }
    let told = Rc::clone(workers);
    let discovery = Discovery::new(settings, snapshot, hints, on_swap).on_uncovered(
        move |generation, since| {
            told.broadcast(|| WorkerMessage::UncoveredConfirmed(generation, since));
        },
    );
    let status = discovery.status();
    tasks.spawn_local(discovery.run());
    status
}

/// Starts to accept on every listener.
fn accept_all(
    config: &Config,
    sockets: Vec<TcpListener>,
    workers: &Rc<Workers>,
    gate: Gate,
) -> Vec<JoinHandle<()>> {
    let gate = Rc::new(gate);
    let start = |(socket, listener): (TcpListener, &ListenerConfig)| {
        let acceptor = Acceptor {
            listener: socket,
            settings: Arc::new(settings::listener(listener)),
            workers: Rc::clone(workers),
            gate: Rc::clone(&gate),
        };
        spawn_local(acceptor.run())
    };
    sockets
        .into_iter()
        .zip(&config.listeners)
        .map(start)
        .collect()
}

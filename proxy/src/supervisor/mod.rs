//! Puts the proxy together, keeps it going, and takes it down in order. Everything here runs on the control thread.
//!
//! ```text
//!   bind ports -> workers -> accept -> discovery -> admin        start, in this order: a port is open within milliseconds
//!   signal     -> readiness off -> ports closed -> workers drain -> end       within `shutdown.drain`
//! ```
//!
//! The control thread runs one current-thread runtime: accepting, discovery, admin. Workers are threads of their own; only
//! messages and snapshots pass between them.

mod figures;
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
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use slotway_core::config::{Config, ListenerConfig};
use slotway_core::topology::Snapshot;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet, spawn_local};

use crate::admin::{self, Admin};
use crate::discovery::{Discovery, DiscoverySettings};
use crate::facts::Facts;
use crate::listener::{self, Acceptor};
use crate::registry::ClientRegistry;
use crate::shutdown::Signals;
use crate::worker::{self, WorkerMessage, WorkerSettings};

pub(crate) use status::{Rejection, Status};
pub(crate) use workers::Workers;

/// Descriptors that are not clients: standard streams, logs, listeners, admin connections, control connections.
const RESERVED_DESCRIPTORS: u64 = 128;
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

/// Runs the proxy until a signal has ended it; the result is the exit code. `started` is called once, when clients can connect.
///
/// # Errors
/// When a port cannot be bound, a thread cannot be started, or a worker ends by itself.
pub async fn serve(
    config: Config,
    signals: &mut Signals,
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
    snapshot: Arc<ArcSwap<Snapshot>>,
    discovery: Arc<crate::discovery::DiscoveryStatus>,
}

impl Proxy {
    fn start(config: &Config, sockets: Vec<TcpListener>) -> anyhow::Result<Self> {
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::empty()));
        let registry = Arc::new(ClientRegistry::new());
        let facts = Arc::new(Facts::new(config.workers));
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
            };
            let (handle, thread) =
                worker::spawn(settings).with_context(|| format!("cannot start worker {id}"))?;
            handles.push(handle);
            threads.push(thread);
        }
        let killers = handles.clone();
        registry.set_killer(move |worker, client| {
            if let Some(handle) = killers.get(worker) {
                handle.send(WorkerMessage::KillClient(client));
            }
        });
        let (status, workers) = (Rc::new(Status::default()), Rc::new(Workers::new(handles)));
        let acceptors = accept_all(config, sockets, &workers, &status);
        status.set_listening();

        let (told, changed) = (Rc::clone(&workers), Rc::new(Notify::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn_local(servers::publish(
            Arc::clone(&facts),
            config.upstream.clone(),
            Arc::clone(&snapshot),
            Rc::clone(&changed),
        ));
        let discovery = Discovery::new(
            DiscoverySettings::new(&config.upstream),
            Arc::clone(&snapshot),
            hints_in,
            move |_: &Snapshot| {
                told.broadcast(|| WorkerMessage::SnapshotChanged);
                changed.notify_one();
            },
        );
        let discovery_status = discovery.status();
        tasks.spawn_local(discovery.run());
        tasks.spawn_local(figures::publish(
            facts,
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

/// Starts to accept on every listener.
fn accept_all(
    config: &Config,
    sockets: Vec<TcpListener>,
    workers: &Rc<Workers>,
    status: &Rc<Status>,
) -> Vec<JoinHandle<()>> {
    let max_clients = affordable_clients(config.limits.max_clients);
    let start = |(socket, listener): (TcpListener, &ListenerConfig)| {
        let acceptor = Acceptor {
            listener: socket,
            settings: Arc::new(settings::listener(listener)),
            workers: Rc::clone(workers),
            status: Rc::clone(status),
            max_clients,
        };
        spawn_local(acceptor.run())
    };
    sockets
        .into_iter()
        .zip(&config.listeners)
        .map(start)
        .collect()
}

/// Raises the limit of open files as far as needed for `clients` and allowed: shells and service managers often start
/// processes with 1024.
fn raise_descriptor_limit(clients: usize) {
    let limit = getrlimit(Resource::Nofile);
    let needed = clients as u64 + RESERVED_DESCRIPTORS;
    let Some(current) = limit.current.filter(|current| *current < needed) else {
        return;
    };
    let raised = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    let wanted = Rlimit {
        current: Some(raised),
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, current, wanted = raised, "the limit of open files could not be raised");
    }
}

/// As many clients as asked for, if there are descriptors for them: a client that is refused with a clear error is better off
/// than one that waits in the kernel's queue for a descriptor.
fn affordable_clients(wanted: usize) -> usize {
    raise_descriptor_limit(wanted);
    let Some(descriptors) = admin::max_fds() else {
        return wanted;
    };
    let affordable = usize::try_from(descriptors.saturating_sub(RESERVED_DESCRIPTORS))
        .unwrap_or(usize::MAX)
        .max(1);
    if affordable < wanted {
        tracing::info!(
            max_clients = affordable,
            wanted,
            descriptors,
            "fewer clients than wanted: the limit of open files is low"
        );
    }
    wanted.min(affordable)
}

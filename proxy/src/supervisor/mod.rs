//! Puts the proxy together, keeps it going, and takes it down in order. Everything here runs on the control thread.
//!
//! ```text
//!   bind ports -> workers -> accept -> discovery -> admin        start, in this order: a port is open within milliseconds
//!   signal     -> readiness off -> ports closed -> workers drain -> end       within `shutdown.drain`
//!   SIGHUP     -> the configuration is read anew, what can change while the proxy runs is applied
//! ```
//!
//! The control thread runs one current-thread runtime: accepting, discovery, admin. Workers are threads of their own; only
//! messages and snapshots pass between them. Each upstream has workers, discovery and figures for itself (`Service`); accepting, the
//! limits of clients, admin and the signals are for all of them.

mod commands;
mod databases;
mod descriptors;
mod figures;
mod reload;
mod sentinel;
mod servers;
mod service;
mod settings;
mod status;
#[cfg(test)]
mod tests;
mod workers;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use slotway_core::config::Config;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::task::{JoinHandle, JoinSet, spawn_local};

use crate::admin::{self, Admin};
use crate::limits::LiveLimits;
use crate::listener::{self, Acceptor, Destination, Gate};
use crate::reaper::Reaper;
use crate::shutdown::Signals;
use crate::worker::WorkerMessage;
use sentinel::Sentinel;
use service::Common;

pub use reload::Reload;
pub(crate) use service::Service;
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
    /// Where the proxy is a Sentinel, if it is one.
    pub sentinel: Option<SocketAddr>,
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
    let (mut sockets, bound) = bind_all(&config)?;
    let admin_socket = sockets.admin.take();
    let mut proxy = Proxy::start(&config, sockets, &bound)?;
    if let Some(socket) = admin_socket {
        let admin = Admin {
            status: Rc::clone(&proxy.status),
            services: proxy.services.clone(),
            sentinel: proxy.sentinel.as_ref().map(|it| it.handle.clone()),
            started: began,
        };
        proxy
            .tasks
            .spawn_local(admin::serve(socket, Rc::new(admin)));
    }
    if let Some(reload) = reload {
        let services = proxy.services.iter().map(|service| &service.facts);
        let sentinel = proxy.sentinel.iter().map(|sentinel| &sentinel.facts);
        let facts = services.chain(sentinel).map(Arc::clone).collect();
        let task = reload.run(config.clone(), facts, Rc::clone(&proxy.status));
        proxy.tasks.spawn_local(task);
    }
    for (address, listener) in bound.listeners.iter().zip(&config.listeners) {
        let upstream = config.upstreams[listener.upstream].name.as_deref();
        tracing::info!(%address, upstream, workers = config.workers, version = env!("CARGO_PKG_VERSION"), "listening");
    }
    if let Some(address) = bound.sentinel {
        tracing::info!(%address, "listening as a Sentinel");
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
            tracing::warn!(signal = second.name(), clients = proxy.connections(), "second signal, ending at once");
            Ok(second.exit_code())
        }
    }
}

/// Everything that is bound.
struct Sockets {
    listeners: Vec<TcpListener>,
    sentinel: Option<TcpListener>,
    admin: Option<TcpListener>,
}

/// Binds every port, before anything that takes time.
fn bind_all(config: &Config) -> anyhow::Result<(Sockets, Bound)> {
    let listeners = config.listeners.iter();
    let sentinel = config.sentinel.as_ref();
    let sockets = Sockets {
        listeners: listeners
            .map(|listener| bind(listener.listen, "--listen"))
            .collect::<anyhow::Result<_>>()?,
        sentinel: sentinel
            .map(|sentinel| bind(sentinel.listen, "sentinel.listen"))
            .transpose()?,
        admin: config
            .admin
            .map(|address| bind(address, "--admin"))
            .transpose()?,
    };
    let address =
        |socket: &Option<TcpListener>| socket.as_ref().map(TcpListener::local_addr).transpose();
    let bound = Bound {
        listeners: sockets
            .listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<Result<_, _>>()?,
        sentinel: address(&sockets.sentinel)?,
        admin: address(&sockets.admin)?,
    };
    Ok((sockets, bound))
}

fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    listener::bind(address)
        .with_context(|| format!("cannot listen on {address} (choose another address with {flag})"))
}

/// Everything that runs.
struct Proxy {
    status: Rc<Status>,
    /// In the order of the configuration; at least one.
    services: Vec<Rc<Service>>,
    sentinel: Option<Sentinel>,
    acceptors: Vec<JoinHandle<()>>,
    /// What else runs on this thread, without end.
    tasks: JoinSet<()>,
}

impl Proxy {
    fn start(config: &Config, sockets: Sockets, bound: &Bound) -> anyhow::Result<Self> {
        let status = Rc::new(Status::default());
        let common = Common {
            reaper: Reaper::start().context("cannot start the thread that drops buffers")?,
            status: Rc::clone(&status),
            limits: descriptors::affordable(
                LiveLimits::from(&config.limits),
                config.upstreams.len(),
            ),
        };
        let mut tasks = JoinSet::new();
        let services = config
            .upstreams
            .iter()
            .map(|upstream| Service::start(config, upstream, &common, &mut tasks).map(Rc::new))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let sentinel = config
            .sentinel
            .as_ref()
            .map(|given| Sentinel::start(config, given, bound, &services))
            .transpose()?;
        let acceptors = accept_all(config, sockets, &services, sentinel.as_ref(), &status);
        status.set_listening();
        Ok(Self {
            status,
            services,
            sentinel,
            acceptors,
            tasks,
        })
    }

    /// Connections of clients to all upstreams.
    fn connections(&self) -> usize {
        let services = self.services.iter();
        services.map(|service| service.workers.connections()).sum()
    }

    /// Waits for a worker or a task to end, which none does before a drain unless it panics; what it was. To go on without it
    /// would be worse than to start anew: clients that nobody serves, a topology that nobody follows.
    async fn part_ended(&mut self) -> String {
        loop {
            for service in &self.services {
                if let Some(worker) = service.ended_worker() {
                    let name = service.name.as_ref();
                    let of = name.map_or_else(String::new, |name| format!(" of upstream {name}"));
                    return format!("worker {worker}{of}");
                }
            }
            if self.sentinel.as_ref().is_some_and(Sentinel::has_ended) {
                return "the thread of the Sentinel".to_owned();
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
        if let Some(sentinel) = &self.sentinel {
            sentinel.handle.drain();
        }
        for service in &self.services {
            service.workers.broadcast(|| WorkerMessage::Drain);
        }
    }

    /// Waits for every worker to end, until `deadline`.
    async fn drained(&self, deadline: Instant) {
        while !self.services.iter().all(|service| service.has_ended()) {
            if Instant::now() >= deadline {
                tracing::warn!(
                    clients = self.connections(),
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
    sockets: Sockets,
    services: &[Rc<Service>],
    sentinel: Option<&Sentinel>,
    status: &Rc<Status>,
) -> Vec<JoinHandle<()>> {
    let workers = services.iter().map(|service| Rc::clone(&service.workers));
    let facts = Arc::clone(&services[0].facts);
    let sentinel = sentinel.map(|sentinel| sentinel.handle.clone());
    let gate = Gate::new(
        facts,
        workers.collect(),
        sentinel.clone(),
        Rc::clone(status),
    );
    let gate = Rc::new(gate);
    let start = |(listener, destination): (TcpListener, Destination)| {
        let gate = Rc::clone(&gate);
        spawn_local(
            Acceptor {
                listener,
                destination,
                gate,
            }
            .run(),
        )
    };
    let destinations = config.listeners.iter().map(|listener| {
        let workers = Rc::clone(&services[listener.upstream].workers);
        Destination::Workers(workers, Arc::new(settings::listener(listener)))
    });
    let clients = sockets.listeners.into_iter().zip(destinations);
    let asking = sockets
        .sentinel
        .into_iter()
        .zip(sentinel.map(Destination::Sentinel));
    clients.chain(asking).map(start).collect()
}

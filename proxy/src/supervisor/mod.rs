//! Puts the proxy together, keeps it going, and takes it down in order. Everything here runs on the control thread.
//!
//! ```text
//!   bind ports -> workers -> accept -> discovery -> admin        start, in this order: a port is open within milliseconds
//!   signal     -> readiness off -> ports closed -> workers drain -> end       within `shutdown.drain`
//!   SIGHUP     -> the configuration is read anew, what can change while the proxy runs is applied
//! ```
//!
//! The control thread runs one current-thread runtime: accepting, discovery, admin. Workers are threads of their own; only
//! messages and snapshots pass between them. Each upstream has workers, discovery and figures for itself ([`Service`]); accepting, the
//! limits of clients, admin and the signals are for all of them.

mod commands;
mod databases;
mod descriptors;
mod figures;
mod reload;
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
use slotway_core::config::{Config, ListenerConfig};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::task::{JoinHandle, JoinSet, spawn_local};

use crate::admin::{self, Admin};
use crate::limits::LiveLimits;
use crate::listener::{self, Acceptor, Gate};
use crate::reaper::Reaper;
use crate::shutdown::Signals;
use crate::worker::WorkerMessage;
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
            services: proxy.services.clone(),
            started: began,
        };
        proxy
            .tasks
            .spawn_local(admin::serve(socket, Rc::new(admin)));
    }
    if let Some(reload) = reload {
        let services = proxy.services.iter();
        let facts = services.map(|service| Arc::clone(&service.facts)).collect();
        let task = reload.run(config.clone(), facts, Rc::clone(&proxy.status));
        proxy.tasks.spawn_local(task);
    }
    for (address, listener) in bound.listeners.iter().zip(&config.listeners) {
        let upstream = config.upstreams[listener.upstream].name.as_deref();
        tracing::info!(%address, upstream, workers = config.workers, version = env!("CARGO_PKG_VERSION"), "listening");
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
    /// In the order of the configuration; at least one.
    services: Vec<Rc<Service>>,
    acceptors: Vec<JoinHandle<()>>,
    /// What else runs on this thread, without end.
    tasks: JoinSet<()>,
}

impl Proxy {
    fn start(config: &Config, sockets: Vec<TcpListener>) -> anyhow::Result<Self> {
        let status = Rc::new(Status::default());
        let common = Common {
            reaper: Reaper::start().context("cannot start the thread that drops buffers")?,
            status: Rc::clone(&status),
            limits: descriptors::affordable(LiveLimits::from(&config.limits)),
        };
        let mut tasks = JoinSet::new();
        let services = config
            .upstreams
            .iter()
            .map(|upstream| Service::start(config, upstream, &common, &mut tasks).map(Rc::new))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let acceptors = accept_all(config, sockets, &services, &status);
        status.set_listening();
        Ok(Self {
            status,
            services,
            acceptors,
            tasks,
        })
    }

    /// Connections of clients, to all upstreams.
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
    sockets: Vec<TcpListener>,
    services: &[Rc<Service>],
    status: &Rc<Status>,
) -> Vec<JoinHandle<()>> {
    let workers = services.iter().map(|service| Rc::clone(&service.workers));
    let facts = Arc::clone(&services[0].facts);
    let gate = Rc::new(Gate::new(facts, workers.collect(), Rc::clone(status)));
    let start = |(socket, listener): (TcpListener, &ListenerConfig)| {
        let acceptor = Acceptor {
            listener: socket,
            settings: Arc::new(settings::listener(listener)),
            workers: Rc::clone(&services[listener.upstream].workers),
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

//! A worker: one thread, one current-thread runtime, its own sessions, links, buffers and counters. Nothing mutable is shared.
//!
//! ```text
//!   turn of the loop:  ready clients read -> engine   ready links read -> engine
//!                      then the flush task: one write per dirty link, one per dirty session
//! ```
//!
//! The flush task is woken by the first input of a turn. Tasks woken from inside the runtime go to the back of its queue, so it runs
//! after every client and link that was ready in the same turn: no timer, no write per command.

mod client;
mod environment;
mod flush;
mod idle;
mod link;
mod shared;
#[cfg(test)]
mod tests;
mod ticker;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use slotway_core::engine::{Limits, ScriptNews, Upstream};
use slotway_core::local::ListenerSettings;
use slotway_core::metrics::WorkerReport;
use slotway_core::topology::{Hint, Readers, Snapshot};
use tokio::sync::{mpsc, oneshot};

use crate::facts::Facts;
use crate::places::Place;
use crate::reaper::Reaper;
use crate::registry::{ClientOrder, ClientRegistry};
use crate::scripts::ScriptRelay;
pub(crate) use environment::WorkerEnvironment;
use shared::Shared;

/// What a worker is made of.
pub struct WorkerSettings {
    /// Number of the worker, from 0.
    pub id: usize,
    /// Bounds of its request path.
    pub limits: Limits,
    /// How to talk to the servers.
    pub upstream: Upstream,
    /// How long opening a connection to a node may take.
    pub connect_timeout: Duration,
    /// The topology in force.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Evidence for discovery.
    pub hints: mpsc::UnboundedSender<Hint>,
    /// The clients of all workers of the upstream.
    pub registry: Arc<ClientRegistry>,
    /// Figures of the workers and of the servers.
    pub facts: Arc<Facts>,
    /// Where big buffers are dropped.
    pub reaper: Reaper,
    /// The way to the other workers, for scripts.
    pub scripts: Arc<ScriptRelay>,
}

/// What a worker can be told.
pub enum WorkerMessage {
    /// Serve this client, which came in by a listener with these settings.
    Accept(
        std::net::TcpStream,
        SocketAddr,
        Arc<ListenerSettings>,
        Place,
    ),
    /// There is a new snapshot.
    SnapshotChanged,
    /// Slots without an owner in the snapshot of this generation have none, say nodes that were asked then or later.
    UncoveredConfirmed(u64, std::time::Instant),
    /// These replicas may be read from, as they were seen then.
    Readers(Arc<Readers>, std::time::Instant),
    /// Writes wait until then, or not any more: another server is made the primary.
    HoldWrites(Option<std::time::Instant>),
    /// Take no more requests; end sessions as they become idle; then stop.
    Drain,
    /// Another worker has seen a script loaded, or all of them flushed.
    Script(ScriptNews),
    /// Do this to a client.
    Client(ClientOrder),
    /// Report counters.
    Collect(oneshot::Sender<Box<WorkerReport>>),
}

/// The way to a worker.
#[derive(Clone)]
pub struct WorkerHandle {
    messages: mpsc::UnboundedSender<WorkerMessage>,
    connections: Arc<AtomicUsize>,
}

impl WorkerHandle {
    /// Client connections the worker has or is about to get.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Hands over a client with its place. It counts as a connection from now on.
    pub fn accept(
        &self,
        stream: std::net::TcpStream,
        remote: SocketAddr,
        listener: Arc<ListenerSettings>,
        place: Place,
    ) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.send(WorkerMessage::Accept(stream, remote, listener, place));
    }

    /// Sends a message; a worker that has ended ignores it.
    pub fn send(&self, message: WorkerMessage) {
        let _ = self.messages.send(message);
    }
}

/// Starts a worker thread, whose log lines are of the span entered now. It ends when it was drained, or when all handles are gone.
///
/// # Errors
/// If the thread or its runtime cannot be made.
pub fn spawn(settings: WorkerSettings) -> std::io::Result<(WorkerHandle, JoinHandle<()>)> {
    let (messages, inbox) = mpsc::unbounded_channel();
    let connections = Arc::new(AtomicUsize::new(0));
    let handle = WorkerHandle {
        messages,
        connections: Arc::clone(&connections),
    };
    // A local runtime belongs to the thread that makes it: the thread tells whether it could.
    let (made, is_made) = std::sync::mpsc::channel();
    let span = tracing::Span::current();
    let thread = std::thread::Builder::new()
        .name(format!("worker-{}", settings.id))
        .spawn(move || {
            let _of_upstream = span.enter();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(tokio::runtime::LocalOptions::default());
            match runtime {
                Ok(runtime) => {
                    let _ = made.send(Ok(()));
                    runtime.block_on(run(settings, inbox, connections));
                    // A name look-up that hangs has no business delaying the end.
                    runtime.shutdown_background();
                }
                Err(error) => {
                    let _ = made.send(Err(error));
                }
            }
        })?;
    is_made
        .recv()
        .unwrap_or_else(|_ended| Err(std::io::Error::other("the thread ended at once")))?;
    Ok((handle, thread))
}

async fn run(
    settings: WorkerSettings,
    mut inbox: mpsc::UnboundedReceiver<WorkerMessage>,
    connections: Arc<AtomicUsize>,
) {
    let shared = Rc::new(Shared::new(settings, connections));
    work(&shared, &mut inbox).await;
}

/// Serves until it was drained, the handles are gone, or a task has panicked.
async fn work(shared: &Rc<Shared>, inbox: &mut mpsc::UnboundedReceiver<WorkerMessage>) {
    tokio::select! {
        () = serve(shared, inbox) => {}
        () = shared.broken() => tracing::error!(worker = shared.worker, "a task has panicked, the worker ends"),
    }
}

async fn serve(shared: &Rc<Shared>, inbox: &mut mpsc::UnboundedReceiver<WorkerMessage>) {
    tokio::task::spawn_local(flush::run(Rc::clone(shared)));
    tokio::task::spawn_local(ticker::run(Rc::clone(shared)));
    tokio::task::spawn_local(idle::run(Rc::clone(shared)));
    shared.adopt_snapshot();
    let mut draining = false;
    loop {
        tokio::select! {
            message = inbox.recv() => match message {
                Some(WorkerMessage::Drain) => {
                    draining = true;
                    shared.drain();
                }
                Some(message) => shared.handle(message),
                None => return,
            },
            () = shared.idle(), if draining => return,
        }
    }
}

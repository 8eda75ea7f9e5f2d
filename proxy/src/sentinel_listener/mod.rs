//! The proxy as a Sentinel [N27]: clients that ask where the primary of a service is, on a thread of its own, so that however much they
//! ask, neither discovery nor the workers wait for them. What they are told is decided by `slotway_core::local`.

mod connection;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use slotway_core::local::{ListenerSettings, SentinelService};
use slotway_core::session::client_state::ClientState;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::facts::Facts;
use crate::places::Place;
use crate::registry::ClientRegistry;
use crate::worker::WorkerEnvironment;

/// What the Sentinel is made of.
pub(crate) struct SentinelSettings {
    /// What clients may ask for.
    pub(crate) services: Vec<SentinelService>,
    /// What holds for them: the password.
    pub(crate) listener: Arc<ListenerSettings>,
    /// Its figures, and the limits in force.
    pub(crate) facts: Arc<Facts>,
}

enum Message {
    Accept(std::net::TcpStream, SocketAddr, Place),
    Drain,
}

/// The way to the Sentinel.
#[derive(Clone)]
pub(crate) struct SentinelHandle {
    messages: mpsc::UnboundedSender<Message>,
    connections: Arc<AtomicUsize>,
}

impl SentinelHandle {
    /// Connections of clients it has or is about to get.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Hands over a client with its place. It counts as a connection from now on.
    pub(crate) fn accept(&self, stream: std::net::TcpStream, remote: SocketAddr, place: Place) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let _ = self.messages.send(Message::Accept(stream, remote, place));
    }

    /// Has it close all connections and end: an answer takes no time, so there is nothing to finish.
    pub(crate) fn drain(&self) {
        let _ = self.messages.send(Message::Drain);
    }
}

/// What the connections share.
struct Shared {
    services: Vec<SentinelService>,
    listener: Arc<ListenerSettings>,
    facts: Arc<Facts>,
    registry: Arc<ClientRegistry>,
    env: WorkerEnvironment,
    connections: Arc<AtomicUsize>,
}

/// Starts the thread. It ends when it is told to drain, or when all handles are gone.
///
/// # Errors
/// If the thread or its runtime cannot be made.
pub(crate) fn spawn(
    settings: SentinelSettings,
) -> std::io::Result<(SentinelHandle, JoinHandle<()>)> {
    let (messages, inbox) = mpsc::unbounded_channel();
    let connections = Arc::new(AtomicUsize::new(0));
    let handle = SentinelHandle {
        messages,
        connections: Arc::clone(&connections),
    };
    let (made, is_made) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("sentinel".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(tokio::runtime::LocalOptions::default());
            match runtime {
                Ok(runtime) => {
                    let _ = made.send(Ok(()));
                    runtime.block_on(run(settings, inbox, connections));
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
    settings: SentinelSettings,
    mut inbox: mpsc::UnboundedReceiver<Message>,
    connections: Arc<AtomicUsize>,
) {
    let registry = Arc::new(ClientRegistry::new());
    let (listener, facts) = (settings.listener, settings.facts);
    let shared = Rc::new(Shared {
        services: settings.services,
        env: WorkerEnvironment::new(
            Arc::clone(&listener),
            Arc::clone(&registry),
            Arc::clone(&facts),
            0,
        ),
        listener,
        facts,
        registry,
        connections,
    });
    while let Some(Message::Accept(stream, remote, place)) = inbox.recv().await {
        let counted = Counted(Rc::clone(&shared));
        match prepare(stream) {
            Ok((stream, local)) => {
                let client = ClientState::new(
                    shared.registry.next_id(),
                    remote,
                    local,
                    shared.listener.password_required(),
                );
                tokio::task::spawn_local(connection::serve(stream, client, counted, place));
            }
            Err(error) => {
                tracing::debug!(%error, client = %remote, "client lost before it was served");
            }
        }
    }
}

fn prepare(stream: std::net::TcpStream) -> std::io::Result<(TcpStream, SocketAddr)> {
    stream.set_nonblocking(true)?;
    let local = stream.local_addr()?;
    Ok((TcpStream::from_std(stream)?, local))
}

/// A connection that counts until this is dropped.
struct Counted(Rc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client in the registry until this is dropped.
struct Registered<'s> {
    shared: &'s Shared,
    id: u64,
}

impl<'s> Registered<'s> {
    fn new(shared: &'s Shared, client: &ClientState, stream: &TcpStream) -> Self {
        shared.registry.insert(client, 0, stream.as_raw_fd());
        Self {
            shared,
            id: client.id,
        }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.shared.registry.remove(self.id);
    }
}

//! Accepting clients, on the control thread: each connection goes to the worker with the fewest.
//!
//! The port is bound before anything else is known, so that clients that start together with the proxy connect; their requests
//! wait in the workers until the topology is there.

mod gate;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slotway_core::local::ListenerSettings;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

pub(crate) use gate::Gate;

use crate::sentinel_listener::SentinelHandle;
use crate::supervisor::{Rejection, Workers};

/// Connections the kernel may hold for us: a storm of reconnecting clients must not be refused. The kernel caps it itself
/// (net.core.somaxconn).
const BACKLOG: i32 = 4096;
/// Silence after which the kernel asks whether the client is still there: the servers' own default (tcp-keepalive).
const KEEPALIVE_TIME: Duration = Duration::from_secs(300);
/// Time between further questions, of which [`KEEPALIVE_PROBES`] may stay unanswered: a third of the time, as the servers do.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(100);
const KEEPALIVE_PROBES: u32 = 3;
/// Pause after a failure to accept that another attempt would meet again: out of descriptors or memory.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Time between two log lines on such failures.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What servers say to one client too many.
const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";

/// Binds `address` and listens on it.
///
/// # Errors
/// When the address is taken, not ours, or not allowed.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    // Connections of an earlier process in TIME_WAIT must not keep us from the port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // "[::]" means every interface, of both families, whatever the system's default.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Who serves the clients of a listener.
pub(crate) enum Destination {
    /// The workers of its upstream, with the settings of the listener.
    Workers(Rc<Workers>, Arc<ListenerSettings>),
    /// The Sentinel that the proxy is.
    Sentinel(SentinelHandle),
}

/// One listener's accept loop.
pub(crate) struct Acceptor {
    /// The bound socket.
    pub(crate) listener: TcpListener,
    /// Where connections go.
    pub(crate) destination: Destination,
    /// Who may come in, by all listeners together.
    pub(crate) gate: Rc<Gate>,
}

impl Acceptor {
    /// Accepts until the task is dropped, which closes the socket.
    pub(crate) async fn run(self) {
        let mut errors = AcceptErrors::default();
        loop {
            self.gate.wait().await;
            match self.listener.accept().await {
                Ok((stream, remote)) => self.hand_over(stream, remote),
                Err(error) => {
                    self.gate.count_rejected(Rejection::AcceptError);
                    errors.wait("clients", &error).await;
                }
            }
        }
    }

    fn hand_over(&self, stream: TcpStream, remote: SocketAddr) {
        let place = match self.gate.enter(remote) {
            Ok(place) => place,
            Err(why) => {
                self.gate.count_rejected(why);
                tracing::debug!(%remote, reason = why.label(), "refused: too many clients");
                return refuse(stream);
            }
        };
        let handed = prepare(stream).map(|stream| match &self.destination {
            Destination::Workers(workers, settings) => {
                if let Some(worker) = workers.least_loaded() {
                    worker.accept(stream, remote, Arc::clone(settings), place);
                }
            }
            Destination::Sentinel(sentinel) => sentinel.accept(stream, remote, place),
        });
        if let Err(error) = handed {
            self.gate.count_rejected(Rejection::AcceptError);
            tracing::debug!(%remote, %error, "connection was gone before it could be served");
        }
    }
}

/// Sets what every client connection needs and takes it out of this thread's runtime.
fn prepare(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    stream.into_std()
}

/// Tells the client why, if its socket takes the line at once, and closes. It is told as a courtesy: a client that is gone needs no
/// answer.
fn refuse(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write_all(TOO_MANY);
        let _ = stream.shutdown(Shutdown::Write);
        // What clients say first (HELLO, AUTH) may be here already: left unread, it would make the end a reset, with which they may
        // lose the line. Nobody waits for what is not.
        let _ = stream.read(&mut [0; 1024]);
    }
}

/// Failures to accept: never fatal, logged now and then, and not retried at full speed.
#[derive(Debug, Default)]
pub(crate) struct AcceptErrors {
    logged: Option<Instant>,
    unlogged: u64,
}

impl AcceptErrors {
    /// Waits for as long as `error` makes sensible.
    pub(crate) async fn wait(&mut self, listener: &'static str, error: &io::Error) {
        if is_of_one_connection(error) {
            return;
        }
        let now = Instant::now();
        if self
            .logged
            .is_none_or(|logged| now.duration_since(logged) >= LOG_INTERVAL)
        {
            tracing::warn!(listener, %error, unlogged = self.unlogged, "cannot accept connections, trying again");
            self.logged = Some(now);
            self.unlogged = 0;
        } else {
            self.unlogged += 1;
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Whether the failure is that of the connection that was to be accepted: the next one may be fine (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::ConnectionRefused
            | Kind::Interrupted
            | Kind::WouldBlock
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_bound_port_takes_connections_before_anybody_accepts() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let (accepted, remote) = listener.accept().await.unwrap();
        assert_eq!(remote, client.local_addr().unwrap());
        let accepted = prepare(accepted).unwrap();
        assert!(accepted.nodelay().unwrap());
        assert!(SockRef::from(&accepted).keepalive().unwrap());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_taken_port_is_an_error() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = bind(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn only_failures_of_the_system_are_waited_for() {
        let mut errors = AcceptErrors::default();
        let start = Instant::now();
        errors
            .wait("test", &io::Error::from(io::ErrorKind::ConnectionAborted))
            .await;
        assert!(
            start.elapsed() < RETRY_PAUSE,
            "the next connection may be fine"
        );
        // EMFILE, "too many open files", is error 24 on Linux.
        errors.wait("test", &io::Error::from_raw_os_error(24)).await;
        assert!(start.elapsed() >= RETRY_PAUSE);
        errors.wait("test", &io::Error::from_raw_os_error(24)).await;
        assert_eq!(errors.unlogged, 1, "one line says it for a while");
    }
}

//! A TCP load balancer in front of several proxies: each connection goes to the next one that accepts it.
//!
//! Either side may end its direction on its own, and nothing that was sent before that is lost: a client whose proxy is shut down
//! reads all replies, then the end.

use crate::net::next_address;
use crate::shared::Shared;
use anyhow::Result;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const BUFFER_BYTES: usize = 64 * 1024;

#[derive(Debug)]
struct State {
    closed: AtomicBool,
    targets: Shared<Vec<SocketAddr>>,
    turn: AtomicUsize,
}

/// A running balancer; it accepts nothing more once dropped.
#[derive(Debug)]
pub(super) struct Balancer {
    address: SocketAddrV4,
    state: Arc<State>,
}

impl Balancer {
    /// Starts it on an address of its own.
    pub(super) fn start(targets: &[SocketAddrV4]) -> Result<Self> {
        let address = next_address()?;
        let listener = TcpListener::bind(address)?;
        let state = Arc::new(State {
            closed: AtomicBool::new(false),
            targets: Shared::new(Vec::new()),
            turn: AtomicUsize::new(0),
        });
        let balancer = Self {
            address,
            state: Arc::clone(&state),
        };
        balancer.set_targets(targets);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if state.closed.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&state);
                // A connection that no target takes is closed.
                std::thread::spawn(move || serve(client, &state).ok());
            }
        });
        Ok(balancer)
    }

    pub(super) fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Where later connections go.
    pub(super) fn set_targets(&self, targets: &[SocketAddrV4]) {
        let targets: Vec<SocketAddr> = targets.iter().copied().map(SocketAddr::V4).collect();
        self.state.targets.with(|current| *current = targets);
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Relaxed);
        // Wakes the accept loop, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(client: TcpStream, state: &State) -> Result<()> {
    let Some(server) = connect(state) else {
        return Ok(());
    };
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || upwards(from_client, to_server));
    downwards(server, client);
    Ok(())
}

fn connect(state: &State) -> Option<TcpStream> {
    let targets = state.targets.with(|targets| targets.clone());
    let first = state.turn.fetch_add(1, Ordering::Relaxed);
    (0..targets.len())
        .map(|n| targets[(first + n) % targets.len()])
        .find_map(|target| TcpStream::connect_timeout(&target, CONNECT_TIMEOUT).ok())
}

/// Copies requests. What a closed proxy does not take any more is read all the same: unread input would reset the connection
/// of a client that has not read its last replies.
fn upwards(mut client: TcpStream, mut server: TcpStream) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut taken = true;
    while let Ok(count) = client.read(&mut buffer) {
        if count == 0 {
            break;
        }
        taken = taken && server.write_all(&buffer[..count]).is_ok();
    }
    // The server may have closed first.
    let _ = server.shutdown(Shutdown::Write);
}

/// Copies replies.
fn downwards(mut server: TcpStream, mut client: TcpStream) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(count) = server.read(&mut buffer) {
        if count == 0 {
            break;
        }
        if client.write_all(&buffer[..count]).is_err() {
            // The client is gone; so that the proxy learns of it.
            let _ = server.shutdown(Shutdown::Both);
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Write);
}

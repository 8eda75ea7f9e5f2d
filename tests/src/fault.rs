//! A TCP relay that can be slow, silent, deadly or byte-by-byte.

use crate::shared::Shared;
use crate::wait::pause;
use anyhow::Result;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// One of the two ways through the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From who connected to the target
    ToServer,
    /// From the target to who connected
    ToClient,
}

/// Pause between two looks at a stalled direction.
const STALL_POLL: Duration = Duration::from_millis(5);

/// What happens to the bytes of one direction; all links see changes at once.
#[derive(Debug)]
struct Way {
    stalled: AtomicBool,
    /// Bytes that may still pass before the link is cut; `u64::MAX`: any number
    budget: AtomicU64,
    /// Microseconds before each piece
    delay: AtomicU64,
    /// Size of the pieces; 0: as read
    piece: AtomicU64,
}

impl Way {
    fn new() -> Self {
        Self {
            stalled: AtomicBool::new(false),
            budget: AtomicU64::new(u64::MAX),
            delay: AtomicU64::new(0),
            piece: AtomicU64::new(0),
        }
    }
}

#[derive(Debug)]
struct State {
    closed: AtomicBool,
    refusing: AtomicBool,
    to_server: Way,
    to_client: Way,
    target: Shared<SocketAddr>,
    links: Shared<Vec<TcpStream>>,
    accepted: AtomicU64,
}

/// A relay; closed on drop.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddrV4,
    state: Arc<State>,
}

impl FaultProxy {
    /// A relay to `target` on an address of its own.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn start(target: SocketAddrV4) -> Result<Self> {
        Self::listen(crate::net::next_address()?, target)
    }

    /// A relay that listens on this address.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn listen(address: SocketAddrV4, target: SocketAddrV4) -> Result<Self> {
        let listener = TcpListener::bind(address)?;
        let state = Arc::new(State {
            closed: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            to_server: Way::new(),
            to_client: Way::new(),
            target: Shared::new(target.into()),
            links: Shared::new(Vec::new()),
            accepted: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&state);
        std::thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { address, state })
    }

    /// Address the relay listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    fn way(&self, direction: Direction) -> &Way {
        match direction {
            Direction::ToServer => &self.state.to_server,
            Direction::ToClient => &self.state.to_client,
        }
    }

    /// Sends later connections to another target.
    pub fn set_target(&self, target: SocketAddrV4) {
        self.state.target.with(|current| *current = target.into());
    }

    /// Holds all bytes of a direction back, or lets them go again.
    pub fn stall(&self, direction: Direction, stalled: bool) {
        self.way(direction)
            .stalled
            .store(stalled, Ordering::Relaxed);
    }

    /// Cuts a link after this many further bytes of a direction; `None`: never.
    pub fn cut_after(&self, direction: Direction, bytes: Option<u64>) {
        self.way(direction)
            .budget
            .store(bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Waits this long before each piece of a direction.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.way(direction).delay.store(micros, Ordering::Relaxed);
    }

    /// Passes the bytes of a direction on in pieces of this size; 0: as they come.
    pub fn split(&self, direction: Direction, bytes: u64) {
        self.way(direction).piece.store(bytes, Ordering::Relaxed);
    }

    /// Closes new connections at once, or serves them again.
    pub fn refuse(&self, refusing: bool) {
        self.state.refusing.store(refusing, Ordering::Relaxed);
    }

    /// Cuts all links now.
    pub fn cut_all(&self) {
        self.state.links.with(|links| {
            for link in links.drain(..) {
                // The link may be gone already.
                let _ = link.shutdown(Shutdown::Both);
            }
        });
    }

    /// Number of connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.state.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Relaxed);
        self.cut_all();
        // Wakes the accept loop, which then ends; if nothing can connect it has ended.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for client in listener.incoming().flatten() {
        if state.closed.load(Ordering::Relaxed) {
            return;
        }
        state.accepted.fetch_add(1, Ordering::Relaxed);
        if !state.refusing.load(Ordering::Relaxed) {
            let state = Arc::clone(state);
            // A target that does not answer is a closed link to who connected.
            std::thread::spawn(move || serve(client, &state).ok());
        }
    }
}

fn serve(client: TcpStream, state: &Arc<State>) -> Result<()> {
    let target = state.target.with(|target| *target);
    let server = TcpStream::connect_timeout(&target, Duration::from_secs(1))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ends = [client.try_clone()?, server.try_clone()?];
    state.links.with(|links| links.extend(ends));
    let (client_reader, server_writer) = (client.try_clone()?, server.try_clone()?);
    let forward = Arc::clone(state);
    std::thread::spawn(move || pump(client_reader, server_writer, &forward.to_server));
    pump(server, client, &state.to_client);
    Ok(())
}

/// Copies one direction until either side ends, then ends both.
fn pump(mut from: TcpStream, mut to: TcpStream, way: &Way) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || !pass(&buffer[..count], &mut to, way) {
            break;
        }
    }
    // Either side may have closed first.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// Passes bytes on as the direction says; false when the link has to end.
fn pass(bytes: &[u8], to: &mut TcpStream, way: &Way) -> bool {
    let piece = match usize::try_from(way.piece.load(Ordering::Relaxed)) {
        Ok(0) | Err(_) => bytes.len(),
        Ok(size) => size,
    };
    for piece in bytes.chunks(piece) {
        while way.stalled.load(Ordering::Relaxed) {
            pause(STALL_POLL);
        }
        let delay = way.delay.load(Ordering::Relaxed);
        if delay > 0 {
            pause(Duration::from_micros(delay));
        }
        let budget = way.budget.load(Ordering::Relaxed);
        let allowed = usize::try_from(budget)
            .unwrap_or(usize::MAX)
            .min(piece.len());
        if to.write_all(&piece[..allowed]).is_err() || allowed < piece.len() {
            return false;
        }
        if budget != u64::MAX {
            way.budget
                .fetch_sub(u64::try_from(allowed).unwrap_or(0), Ordering::Relaxed);
        }
    }
    true
}

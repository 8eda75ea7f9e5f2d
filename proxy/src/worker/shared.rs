//! What the tasks of one worker share: the engine, the sockets, and the wake-up of the flush task.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use arc_swap::cache::Cache;
use slotway_core::engine::{Engine, LinkKey, SessionKey};
use slotway_core::local::{Environment, ListenerSettings};
use slotway_core::metrics::CloseReason;
use slotway_core::session::client_state::ClientState;
use slotway_core::time::Timestamp;
use slotway_core::topology::{Hint, Snapshot};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Notify, mpsc};

use super::environment::WorkerEnvironment;
use super::{WorkerMessage, WorkerSettings, client};
use crate::facts::Facts;
use crate::limits::LiveLimits;
use crate::places::Place;
use crate::reaper::Reaper;
use crate::registry::{ClientEntry, ClientOrder, ClientRegistry};
use crate::scripts::ScriptRelay;

/// Bytes read from a socket at a time. One buffer serves all sockets of a worker.
pub(super) const SCRATCH_BYTES: usize = 64 << 10;

/// So many clients are found at once that are told of the keys of others.
const MOST_TOLD: usize = 1024;

/// The writing side of a socket and the task that reads it.
pub(super) struct Io {
    pub(super) write: OwnedWriteHalf,
    /// The kernel took less than it was given: the task waits for room.
    pub(super) blocked: bool,
    /// Writing has failed: nothing more is written.
    pub(super) broken: bool,
    /// It has because the other end cannot be reached, which may be there all the same.
    pub(super) unreachable: bool,
    /// The task does not read until it is woken.
    pub(super) paused: bool,
    /// The task is to end.
    pub(super) stop: Option<CloseReason>,
    /// The reading task; `None` until it first ran.
    pub(super) waker: Option<Waker>,
}

impl Io {
    pub(super) fn new(write: OwnedWriteHalf) -> Self {
        Self {
            write,
            blocked: false,
            broken: false,
            unreachable: false,
            paused: false,
            stop: None,
            waker: None,
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Remembers whom to wake; a clone only when the task changed.
    pub(super) fn register(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }
}

/// A client's socket and its place in the process-wide registry.
pub(super) struct Client {
    pub(super) io: Io,
    pub(super) entry: Arc<ClientEntry>,
    /// When it was first seen to do nothing since it last did something; `None` if it was not seen so.
    pub(super) quiet_since: Option<Timestamp>,
}

/// A listener and the environment of the clients that came in by it.
type ListenerEnvironment = (Arc<ListenerSettings>, Rc<dyn Environment>);

/// Ends the worker if its task panics: a task that is gone without a word leaves its connections open and unserved, and the engine
/// may be in a state that no code expects. Every task holds one.
pub(super) struct PanicGuard<'a>(&'a Shared);

impl<'a> PanicGuard<'a> {
    pub(super) const fn new(shared: &'a Shared) -> Self {
        Self(shared)
    }
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.notify_one();
        }
    }
}

/// Everything the tasks of one worker share.
pub(super) struct Shared {
    pub(super) engine: RefCell<Engine>,
    pub(super) clients: RefCell<Vec<Option<Client>>>,
    pub(super) links: RefCell<Vec<Option<Io>>>,
    pub(super) scratch: RefCell<Box<[u8]>>,
    pub(super) connect_timeout: Duration,
    pub(super) busy_timeout: Duration,
    /// Wakes the ticker when it sleeps long and something needs it sooner.
    pub(super) hurry: Notify,
    pub(super) ticking_fast: Cell<bool>,
    flush_wanted: Cell<bool>,
    flush_waker: RefCell<Option<Waker>>,
    /// The last session of a draining worker has ended.
    emptied: Notify,
    /// A task has panicked.
    broken: Notify,
    /// Generation of the snapshot that the engine has.
    generation: Cell<Option<u64>>,
    snapshot: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    hints: mpsc::UnboundedSender<Hint>,
    registry: Arc<ClientRegistry>,
    facts: Arc<Facts>,
    pub(super) reaper: Reaper,
    pub(super) scripts: Arc<ScriptRelay>,
    /// One environment per listener.
    environments: RefCell<Vec<ListenerEnvironment>>,
    /// Where the clients are that are told of the keys of others.
    told: RefCell<HashMap<u64, usize>>,
    connections: Arc<AtomicUsize>,
    pub(super) worker: usize,
    start: Instant,
}

impl Shared {
    pub(super) fn new(settings: WorkerSettings, connections: Arc<AtomicUsize>) -> Self {
        let busy_timeout = settings.limits.busy_timeout;
        // One clock for the engine and the registry's idle times.
        let start = settings.registry.start();
        Self {
            engine: RefCell::new(Engine::new(
                settings.limits,
                settings.upstream,
                fastrand::u64(..),
            )),
            clients: RefCell::new(Vec::new()),
            links: RefCell::new(Vec::new()),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            connect_timeout: settings.connect_timeout,
            busy_timeout,
            hurry: Notify::new(),
            ticking_fast: Cell::new(false),
            flush_wanted: Cell::new(false),
            flush_waker: RefCell::new(None),
            emptied: Notify::new(),
            broken: Notify::new(),
            generation: Cell::new(None),
            snapshot: RefCell::new(Cache::new(settings.snapshot)),
            hints: settings.hints,
            registry: settings.registry,
            facts: settings.facts,
            reaper: settings.reaper,
            scripts: settings.scripts,
            environments: RefCell::new(Vec::new()),
            told: RefCell::default(),
            connections,
            worker: settings.id,
            start,
        }
    }

    /// The time for the engine.
    pub(super) fn now(&self) -> Timestamp {
        self.time_of(Instant::now())
    }

    /// Another thread's time for the engine.
    fn time_of(&self, instant: Instant) -> Timestamp {
        Timestamp::ZERO.after(instant.saturating_duration_since(self.start))
    }

    /// Has the flush task run after everything that is ready now.
    pub(super) fn want_flush(&self) {
        if !self.flush_wanted.replace(true)
            && let Some(waker) = &*self.flush_waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// Whether a flush was asked for since the last call; if not, `waker` is woken for the next one.
    pub(super) fn take_flush(&self, waker: &Waker) -> bool {
        if self.flush_wanted.replace(false) {
            return true;
        }
        let mut known = self.flush_waker.borrow_mut();
        match &mut *known {
            Some(known) => known.clone_from(waker),
            None => *known = Some(waker.clone()),
        }
        false
    }

    pub(super) fn live_limits(&self) -> LiveLimits {
        self.facts.limits()
    }

    pub(super) fn login_refused(&self) -> bool {
        self.facts.login_refused()
    }

    pub(super) fn hint(&self, hint: Hint) {
        let _ = self.hints.send(hint);
    }

    pub(super) fn handle(self: &Rc<Self>, message: WorkerMessage) {
        match message {
            WorkerMessage::Accept(stream, remote, listener, place) => {
                if let Err(error) = self.accept(stream, remote, &listener, place) {
                    self.release_connection();
                    tracing::debug!(%error, client = %remote, "client lost before it was served");
                }
            }
            WorkerMessage::SnapshotChanged => self.adopt_snapshot(),
            WorkerMessage::UncoveredConfirmed(generation, since) => {
                let since = self.time_of(since);
                self.engine
                    .borrow_mut()
                    .confirm_uncovered(generation, since);
            }
            WorkerMessage::Readers(readers, seen) => {
                let seen = self.time_of(seen);
                let mut engine = self.engine.borrow_mut();
                engine.set_now(self.now());
                engine.set_readers(&readers, seen);
                drop(engine);
                self.want_flush();
            }
            WorkerMessage::HoldWrites(until) => self.hold_writes(until),
            WorkerMessage::Drain => self.drain(),
            WorkerMessage::Client(order) => self.carry_out(order),
            WorkerMessage::Script(news) => self.engine.borrow_mut().on_script_news(news),
            WorkerMessage::Collect(answer) => {
                let _ = answer.send(Box::new(self.engine.borrow().report()));
            }
        }
    }

    fn accept(
        self: &Rc<Self>,
        stream: std::net::TcpStream,
        remote: SocketAddr,
        listener: &Arc<ListenerSettings>,
        place: Place,
    ) -> std::io::Result<()> {
        stream.set_nonblocking(true)?;
        let local = stream.local_addr()?;
        let stream = TcpStream::from_std(stream)?;
        stream.set_nodelay(true)?;
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&stream);
        let state = ClientState::new(
            self.registry.next_id(),
            remote,
            local,
            listener.password_required(),
        );
        let entry = self.registry.insert(&state, self.worker, descriptor);
        let env = self.environment(listener);
        let (read, write) = stream.into_split();
        let mut engine = self.engine.borrow_mut();
        engine.set_now(self.now());
        let key = engine.add_session(state, env);
        drop(engine);
        set_entry(
            &self.clients,
            key.index(),
            Client {
                io: Io::new(write),
                entry,
                quiet_since: None,
            },
        );
        tokio::task::spawn_local(client::run(Rc::clone(self), key, read, place));
        Ok(())
    }

    /// The environment of clients of `listener`.
    fn environment(&self, listener: &Arc<ListenerSettings>) -> Rc<dyn Environment> {
        let mut environments = self.environments.borrow_mut();
        if let Some((_, env)) = environments
            .iter()
            .find(|(known, _)| Arc::ptr_eq(known, listener))
        {
            return Rc::clone(env);
        }
        let env: Rc<dyn Environment> = Rc::new(WorkerEnvironment::new(
            Arc::clone(listener),
            Arc::clone(&self.registry),
            Arc::clone(&self.facts),
            self.worker,
        ));
        environments.push((Arc::clone(listener), Rc::clone(&env)));
        env
    }

    /// Ends the session and its writing side; when the client was last active. [`Self::release_connection`] must follow.
    pub(super) fn forget_client(&self, key: SessionKey, reason: CloseReason) -> Option<Timestamp> {
        self.engine.borrow_mut().remove_session(key, reason);
        let client = self
            .clients
            .borrow_mut()
            .get_mut(key.index())
            .and_then(Option::take)?;
        self.registry.remove(client.entry.id());
        self.want_flush();
        Some(client.entry.last_active())
    }

    /// A connection is closed, or was never served.
    pub(super) fn release_connection(&self) {
        if self.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.emptied.notify_one();
        }
    }

    /// The link's task has ended.
    pub(super) fn forget_link(&self, key: LinkKey) {
        if let Some(entry) = self.links.borrow_mut().get_mut(key.index()) {
            *entry = None;
        }
    }

    pub(super) fn adopt_snapshot(&self) {
        let snapshot = Arc::clone(self.snapshot.borrow_mut().load());
        // Of several swaps in a row the first message already finds the last snapshot.
        if self.generation.replace(Some(snapshot.generation)) == Some(snapshot.generation) {
            return;
        }
        let mut engine = self.engine.borrow_mut();
        engine.set_now(self.now());
        engine.set_snapshot(snapshot);
        drop(engine);
        self.want_flush();
    }

    fn hold_writes(&self, until: Option<Instant>) {
        let until = until.map(|until| self.time_of(until));
        let mut engine = self.engine.borrow_mut();
        engine.set_now(self.now());
        engine.hold_writes(until);
        // Its end is a matter of the ticker.
        self.hurry.notify_one();
        self.want_flush();
    }

    pub(super) fn drain(&self) {
        self.engine.borrow_mut().drain();
        self.want_flush();
    }

    /// Returns when no client is left.
    pub(super) async fn idle(&self) {
        while self.connections.load(Ordering::Relaxed) > 0 {
            self.emptied.notified().await;
        }
    }

    /// Returns when a task has panicked.
    pub(super) async fn broken(&self) {
        self.broken.notified().await;
    }

    fn carry_out(&self, order: ClientOrder) {
        match order {
            ClientOrder::Kill(id) => self.kill(id),
            ClientOrder::Unblock { id, is_error } => self.unblock(id, is_error),
            ClientOrder::Invalidate { id, keys } => self.invalidate(id, &keys),
            ClientOrder::PauseChanged => {
                let mut engine = self.engine.borrow_mut();
                engine.set_now(self.now());
                engine.change_pause(self.registry.pause());
                // Its end is a matter of the ticker.
                self.hurry.notify_one();
                self.want_flush();
            }
            ClientOrder::MonitoredChanged => {
                let is_monitored = self.registry.is_monitored();
                self.engine.borrow_mut().set_monitored(is_monitored);
            }
            ClientOrder::Monitor(lines) => {
                let mut engine = self.engine.borrow_mut();
                if self.registry.receive_monitor_lines(self.worker, &lines) {
                    engine.show_monitor_lines(&lines);
                } else {
                    engine.disconnect_monitors();
                }
                self.want_flush();
            }
        }
    }

    fn kill(&self, id: u64) {
        let mut clients = self.clients.borrow_mut();
        if let Some(client) = clients
            .iter_mut()
            .flatten()
            .find(|client| client.entry.id() == id)
        {
            client.io.stop = Some(CloseReason::Killed);
            client.io.wake();
        }
    }

    /// Tells a client of keys that another one tracks. As a rule there are few that are told so, and they are told again and again.
    fn invalidate(&self, id: u64, keys: &[u8]) {
        let clients = self.clients.borrow();
        let is_it = |client: &Option<Client>| client.as_ref().is_some_and(|it| it.entry.id() == id);
        let mut told = self.told.borrow_mut();
        let known = told.get(&id).copied();
        let known = known.filter(|index| clients.get(*index).is_some_and(is_it));
        let Some(index) = known.or_else(|| clients.iter().position(is_it)) else {
            told.remove(&id);
            return;
        };
        if known.is_none() {
            if told.len() >= MOST_TOLD {
                told.clear();
            }
            told.insert(id, index);
        }
        let mut engine = self.engine.borrow_mut();
        engine.set_now(self.now());
        engine.on_redirected(SessionKey::from_index(index), keys);
        drop(engine);
        self.want_flush();
    }

    fn unblock(&self, id: u64, is_error: bool) {
        let clients = self.clients.borrow();
        let is_it = |client: &Option<Client>| client.as_ref().is_some_and(|it| it.entry.id() == id);
        if let Some(index) = clients.iter().position(is_it) {
            let mut engine = self.engine.borrow_mut();
            engine.set_now(self.now());
            engine.unblock(SessionKey::from_index(index), is_error);
            drop(engine);
            self.want_flush();
        }
    }
}

/// Puts `value` at `index` of a table that grows as needed.
pub(super) fn set_entry<T>(table: &RefCell<Vec<Option<T>>>, index: usize, value: T) {
    let mut table = table.borrow_mut();
    if table.len() <= index {
        table.resize_with(index + 1, || None);
    }
    table[index] = Some(value);
}

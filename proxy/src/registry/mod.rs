//! The clients of one upstream, at all its workers, for CLIENT LIST, CLIENT INFO and CLIENT KILL.
//!
//! A worker owns its sessions alone; what other workers may see of them is here. A worker writes it when a client comes, goes
//! or renames itself, and does one relaxed store when it has read from a client: nothing per command, no lock on the request
//! path. Readers see each client as it was at some moment of their walk, not all at the same one.

mod record;
#[cfg(test)]
mod tests;

pub use record::ClientEntry;
use record::Record;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use slotway_core::local::{ClientRow, Pause};
use slotway_core::session::client_state::ClientState;
use slotway_core::time::Timestamp;

use crate::monitors::Monitors;
use crate::pause::SharedPause;

/// Tells the worker of that number.
type Teller = dyn Fn(usize, ClientOrder) + Send + Sync;

/// What a client can ask for another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientOrder {
    /// Close the client with this id.
    Kill(u64),
    /// Have the client with this id wait no longer.
    Unblock {
        /// See [`ClientEntry::id`].
        id: u64,
        /// It gets an error.
        is_error: bool,
    },
    /// [`ClientRegistry::pause`] has changed.
    PauseChanged,
    /// [`ClientRegistry::is_monitored`] has changed.
    MonitoredChanged,
    /// Show these lines to the clients that monitor.
    Monitor(Arc<[u8]>),
    /// Tell the client with this id of keys that another client tracks.
    Invalidate {
        /// See [`ClientEntry::id`].
        id: u64,
        /// An array of keys, or a null for all, as RESP3 has it.
        keys: Box<[u8]>,
    },
}

/// All clients of the upstream by id.
pub struct ClientRegistry {
    clients: DashMap<u64, Record>,
    last_id: AtomicU64,
    start: Instant,
    /// How many workers there are, and how they are told.
    teller: OnceLock<(usize, Box<Teller>)>,
    pause: SharedPause,
    monitors: Monitors,
}

impl Default for ClientRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientRegistry {
    /// A registry without clients.
    #[must_use]
    pub fn new() -> Self {
        Self {
            clients: DashMap::new(),
            last_id: AtomicU64::new(0),
            start: Instant::now(),
            teller: OnceLock::new(),
            pause: SharedPause::default(),
            monitors: Monitors::default(),
        }
    }

    /// What the times given to [`ClientEntry::touch`] count from. Workers take it as the start of their own clocks, so that the
    /// times of all clients can be compared.
    #[must_use]
    pub fn start(&self) -> Instant {
        self.start
    }

    /// Says how something is done to clients: `teller(worker, order)` tells one of so many workers. Once, when they are there; until
    /// then nothing can be done. False if it was said before.
    pub fn set_teller(
        &self,
        workers: usize,
        teller: impl Fn(usize, ClientOrder) + Send + Sync + 'static,
    ) -> bool {
        self.teller.set((workers, Box::new(teller))).is_ok()
    }

    /// An id that no client had before, above 0 and above all earlier ones.
    pub fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A client has come to `worker`. [`remove`](Self::remove) must follow.
    pub fn insert(&self, client: &ClientState, worker: usize, descriptor: i32) -> Arc<ClientEntry> {
        let entry = Arc::new(ClientEntry::new(client, worker, descriptor, self.now()));
        let record = Record::new(Arc::clone(&entry), client);
        self.clients.insert(client.id, record);
        entry
    }

    /// What a client says of itself has changed.
    pub fn update(&self, client: &ClientState) {
        if let Some(mut record) = self.clients.get_mut(&client.id) {
            record.update(client);
        }
    }

    /// A client has so many channels, patterns and sharded channels now.
    pub fn note_subscriptions(&self, id: u64, subscriptions: [usize; 3]) {
        if let Some(mut record) = self.clients.get_mut(&id) {
            record.note_subscriptions(subscriptions);
        }
    }

    /// A client has gone.
    pub fn remove(&self, id: u64) {
        self.clients.remove(&id);
    }

    /// Number of clients.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is no client.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Shows every client once, but for those that are being closed. `visit` must not change the registry: part of it is locked meanwhile.
    pub fn for_each(&self, visit: &mut dyn FnMut(&ClientRow<'_>)) {
        let now = self.now();
        let clients = self.clients.iter();
        clients
            .filter(|record| !record.entry.is_killed())
            .for_each(|record| visit(&record.row(now)));
    }

    /// Shows one client, under the same condition; false if it is not there.
    pub fn with(&self, id: u64, visit: &mut dyn FnMut(&ClientRow<'_>)) -> bool {
        let record = self.clients.get(&id);
        let record = record.filter(|record| !record.entry.is_killed());
        if let Some(record) = &record {
            visit(&record.row(self.now()));
        }
        record.is_some()
    }

    /// Has a client closed; false if it is not there, or somebody else was first. Nothing that it sends from now on is taken.
    pub fn kill(&self, id: u64) -> bool {
        if self.teller.get().is_none() {
            return false;
        }
        let record = self.clients.get(&id);
        let alive = record.filter(|record| !record.entry.killed.swap(true, Ordering::AcqRel));
        let worker = alive.map(|record| record.entry.worker);
        worker.is_some_and(|worker| self.tell(worker, ClientOrder::Kill(id)))
    }

    /// A client waits at a node, or does so no longer.
    pub fn note_waits(&self, id: u64, waits: bool) {
        if let Some(record) = self.clients.get(&id) {
            record.entry.waits.store(waits, Ordering::Relaxed);
        }
    }

    /// Has a client wait no longer; false if it does not wait, or somebody else was first.
    pub fn unblock(&self, id: u64, is_error: bool) -> bool {
        let record = self.clients.get(&id);
        let waiting = record.filter(|record| record.entry.waits.swap(false, Ordering::Relaxed));
        let worker = waiting.map(|record| record.entry.worker);
        let order = ClientOrder::Unblock { id, is_error };
        worker.is_some_and(|worker| self.tell(worker, order))
    }

    /// Tells a client of keys that another one tracks; false if it is not there.
    pub fn invalidate(&self, id: u64, keys: &[u8]) -> bool {
        let worker = self.clients.get(&id).map(|record| record.entry.worker);
        let keys = keys.into();
        worker.is_some_and(|worker| self.tell(worker, ClientOrder::Invalidate { id, keys }))
    }

    fn tell(&self, worker: usize, order: ClientOrder) -> bool {
        let teller = self.teller.get();
        if let Some((_, teller)) = teller {
            teller(worker, order);
        }
        teller.is_some()
    }

    fn tell_all(&self, order: &ClientOrder) {
        if let Some((workers, teller)) = self.teller.get() {
            (0..*workers).for_each(|worker| teller(worker, order.clone()));
        }
    }

    /// Has the clients of all workers wait, see [`SharedPause::extend`].
    pub fn pause_clients(&self, time: Duration, writes_only: bool) {
        self.pause.extend(self.now(), time, writes_only);
        self.tell_all(&ClientOrder::PauseChanged);
    }

    /// Has them go on.
    pub fn unpause_clients(&self) {
        self.pause.end();
        self.tell_all(&ClientOrder::PauseChanged);
    }

    /// The pause of clients in force.
    #[must_use]
    pub fn pause(&self) -> Option<Pause> {
        self.pause.at(self.now())
    }

    /// How long it will last, and whether only what writes waits.
    #[must_use]
    pub fn pause_left(&self) -> Option<(Duration, bool)> {
        let now = self.now();
        let pause = self.pause.at(now)?;
        Some((pause.until.since(now), pause.writes_only))
    }

    /// A client of `worker` begins to monitor or ceases to; `monitors` of its clients do now.
    pub fn note_monitor(&self, id: u64, on: bool, worker: usize, monitors: usize) {
        if let Some(record) = self.clients.get(&id) {
            record.entry.monitors.store(on, Ordering::Relaxed);
        }
        if self.monitors.set(worker, monitors) {
            self.tell_all(&ClientOrder::MonitoredChanged);
        }
    }

    /// Whether any client monitors.
    #[must_use]
    pub fn is_monitored(&self) -> bool {
        self.monitors.is_any()
    }

    /// Shows lines of `worker` to the clients of the others that monitor.
    pub fn send_monitor_lines(&self, worker: usize, lines: &[u8]) {
        let takers = self.monitors.send(worker, lines.len());
        if takers.is_empty() {
            return;
        }
        let lines: Arc<[u8]> = lines.into();
        for taker in takers {
            self.tell(taker, ClientOrder::Monitor(Arc::clone(&lines)));
        }
    }

    /// `worker` has got lines; false if it has missed some.
    #[must_use]
    pub fn receive_monitor_lines(&self, worker: usize, lines: &[u8]) -> bool {
        self.monitors.receive(worker, lines.len())
    }

    fn now(&self) -> Timestamp {
        Timestamp::ZERO.after(self.start.elapsed())
    }
}

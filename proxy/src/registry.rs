//! The clients of the whole process, for CLIENT LIST, CLIENT INFO and CLIENT KILL.
//!
//! A worker owns its sessions alone; what other workers may see of them is here. A worker writes it when a client comes, goes
//! or renames itself, and does one relaxed store when it has read from a client: nothing per command, no lock on the request
//! path. Readers see each client as it was at some moment of their walk, not all at the same one.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use slotway_core::command::{CommandId, TABLE};
use slotway_core::local::{ClientRow, Pause, TrackingRow};
use slotway_core::resp::Protocol;
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

/// What the worker of a client updates while it serves it.
#[derive(Debug)]
pub struct ClientEntry {
    id: u64,
    worker: usize,
    descriptor: i32,
    remote: SocketAddr,
    local: SocketAddr,
    connected: Timestamp,
    last_active_micros: AtomicU64,
    /// Place in the command table plus one; 0 is none.
    last_command: AtomicU16,
    waits: AtomicBool,
    monitors: AtomicBool,
    input_bytes: AtomicU64,
    output_bytes: AtomicU64,
}

impl ClientEntry {
    /// See [`ClientState::id`].
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The client has sent something. `now` counts from [`ClientRegistry::start`].
    #[inline]
    pub fn touch(&self, now: Timestamp) {
        self.last_active_micros
            .store(now.as_micros(), Ordering::Relaxed);
    }

    /// When the client last sent something, or read after it had been slow to, or came.
    #[must_use]
    pub fn last_active(&self) -> Timestamp {
        Timestamp::from_micros(self.last_active_micros.load(Ordering::Relaxed))
    }

    /// The last command of what was read.
    #[inline]
    pub fn note_command(&self, command: CommandId) {
        let number = u16::try_from(command.index() + 1).unwrap_or_default();
        self.last_command.store(number, Ordering::Relaxed);
    }

    /// Bytes held for the client: of an unfinished request, and of replies it has not read.
    #[inline]
    pub fn note_buffers(&self, input_bytes: u64, output_bytes: u64) {
        self.input_bytes.store(input_bytes, Ordering::Relaxed);
        self.output_bytes.store(output_bytes, Ordering::Relaxed);
    }

    fn command(&self) -> &'static str {
        let number = usize::from(self.last_command.load(Ordering::Relaxed));
        number.checked_sub(1).map_or("", |index| {
            TABLE
                .get(index)
                .map_or(CommandId::LEARNED_LABEL, |spec| spec.name)
        })
    }
}

/// A client as the registry keeps it.
struct Record {
    entry: Arc<ClientEntry>,
    attributes: Attributes,
    subscriptions: [usize; 3],
}

/// What a client says of itself: changed seldom, and by its own worker only.
struct Attributes {
    name: Box<[u8]>,
    user: Option<Box<[u8]>>,
    lib_name: Box<[u8]>,
    lib_version: Box<[u8]>,
    protocol: Protocol,
    database: u16,
    no_evict: bool,
    no_touch: bool,
    readonly: bool,
    tracking: Option<TrackingRow>,
}

impl Attributes {
    fn of(client: &ClientState) -> Self {
        Self {
            name: client.name.as_slice().into(),
            user: client.user.clone(),
            lib_name: client.lib_name.as_slice().into(),
            lib_version: client.lib_version.as_slice().into(),
            protocol: client.protocol,
            database: client.database,
            no_evict: client.no_evict,
            no_touch: client.no_touch,
            readonly: client.readonly,
            tracking: TrackingRow::of(client),
        }
    }
}

impl Record {
    fn row(&self, now: Timestamp) -> ClientRow<'_> {
        let Self {
            entry,
            attributes,
            subscriptions,
        } = self;
        ClientRow {
            id: entry.id,
            remote: entry.remote,
            local: entry.local,
            descriptor: entry.descriptor,
            name: &attributes.name,
            user: attributes
                .user
                .as_deref()
                .unwrap_or(slotway_core::session::client_state::DEFAULT_USER),
            lib_name: &attributes.lib_name,
            lib_version: &attributes.lib_version,
            protocol: attributes.protocol,
            database: attributes.database,
            age_seconds: now.since(entry.connected).as_secs(),
            idle_seconds: now.since(entry.last_active()).as_secs(),
            command: entry.command(),
            no_evict: attributes.no_evict,
            no_touch: attributes.no_touch,
            readonly: attributes.readonly,
            waits: entry.waits.load(Ordering::Relaxed),
            monitors: entry.monitors.load(Ordering::Relaxed),
            tracking: attributes.tracking,
            subscriptions: *subscriptions,
            input_bytes: entry.input_bytes.load(Ordering::Relaxed),
            output_bytes: entry.output_bytes.load(Ordering::Relaxed),
        }
    }
}

/// All clients of the process by id.
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
        let now = self.now();
        let entry = Arc::new(ClientEntry {
            id: client.id,
            worker,
            descriptor,
            remote: client.remote,
            local: client.local,
            connected: now,
            last_active_micros: AtomicU64::new(now.as_micros()),
            last_command: AtomicU16::new(0),
            waits: AtomicBool::new(false),
            monitors: AtomicBool::new(false),
            input_bytes: AtomicU64::new(0),
            output_bytes: AtomicU64::new(0),
        });
        self.clients.insert(
            client.id,
            Record {
                entry: Arc::clone(&entry),
                attributes: Attributes::of(client),
                subscriptions: [0; 3],
            },
        );
        entry
    }

    /// What a client says of itself has changed.
    pub fn update(&self, client: &ClientState) {
        let attributes = Attributes::of(client);
        if let Some(mut record) = self.clients.get_mut(&client.id) {
            record.attributes = attributes;
        }
    }

    /// A client has so many channels, patterns and sharded channels now.
    pub fn note_subscriptions(&self, id: u64, subscriptions: [usize; 3]) {
        if let Some(mut record) = self.clients.get_mut(&id) {
            record.subscriptions = subscriptions;
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

    /// Shows every client once. `visit` must not change the registry: part of it is locked meanwhile.
    pub fn for_each(&self, visit: &mut dyn FnMut(&ClientRow<'_>)) {
        let now = self.now();
        self.clients
            .iter()
            .for_each(|record| visit(&record.row(now)));
    }

    /// Shows one client, under the same condition; false if it is not there.
    pub fn with(&self, id: u64, visit: &mut dyn FnMut(&ClientRow<'_>)) -> bool {
        let record = self.clients.get(&id);
        if let Some(record) = &record {
            visit(&record.row(self.now()));
        }
        record.is_some()
    }

    /// Has a client closed; false if it is not there.
    pub fn kill(&self, id: u64) -> bool {
        let worker = self.clients.get(&id).map(|record| record.entry.worker);
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use slotway_core::command::id;

    use super::*;

    fn client(id: u64) -> ClientState {
        let address = SocketAddr::from(([127, 0, 0, 1], 1000));
        ClientState::new(id, address, address, false)
    }

    fn ids(registry: &ClientRegistry) -> Vec<u64> {
        let mut ids = Vec::new();
        registry.for_each(&mut |row| ids.push(row.id));
        ids.sort_unstable();
        ids
    }

    #[test]
    fn ids_are_unique_and_grow_across_threads() {
        let registry = ClientRegistry::new();
        let mut all: Vec<u64> = std::thread::scope(|scope| {
            let take = || (0..1000).map(|_| registry.next_id()).collect::<Vec<u64>>();
            let threads = [scope.spawn(take), scope.spawn(take)];
            threads
                .into_iter()
                .flat_map(|thread| {
                    let ids = thread.join().unwrap();
                    assert!(ids.is_sorted());
                    ids
                })
                .collect()
        });
        all.sort_unstable();
        assert_eq!(all, (1..=2000).collect::<Vec<u64>>());
    }

    #[test]
    fn clients_are_there_from_insert_to_remove() {
        let registry = ClientRegistry::new();
        registry.insert(&client(1), 0, 10);
        registry.insert(&client(2), 1, 11);
        assert_eq!((ids(&registry), registry.len()), (vec![1, 2], 2));
        registry.remove(1);
        assert_eq!(ids(&registry), [2]);
        assert!(!registry.with(1, &mut |_| panic!("client 1 is gone")));
        registry.remove(2);
        assert!(registry.is_empty());
    }

    #[test]
    fn a_row_shows_what_was_noted_last() {
        let registry = ClientRegistry::new();
        let mut state = client(5);
        let entry = registry.insert(&state, 3, 42);
        let show =
            |check: &dyn Fn(&ClientRow<'_>)| assert!(registry.with(5, &mut |row| check(row)));
        show(&|row| {
            assert_eq!(
                (row.descriptor, row.command, row.user, row.name),
                (42, "", b"default".as_slice(), b"".as_slice())
            );
        });
        entry.note_command(id::CLIENT_LIST);
        entry.note_buffers(7, 9);
        state.name = b"worker".to_vec();
        state.user = Some(b"app".as_slice().into());
        state.protocol = Protocol::Resp3;
        state.readonly = true;
        registry.update(&state);
        show(&|row| {
            assert_eq!(
                (row.command, row.input_bytes, row.output_bytes),
                ("client|list", 7, 9)
            );
            assert_eq!(
                (row.name, row.user),
                (b"worker".as_slice(), b"app".as_slice())
            );
            assert!(row.readonly && row.protocol == Protocol::Resp3);
        });
    }

    #[test]
    fn a_touch_ends_idleness_but_not_age() {
        let registry = ClientRegistry::new();
        let entry = registry.insert(&client(1), 0, 1);
        let ages = |now: Timestamp| {
            let record = registry.clients.get(&1).unwrap();
            let row = record.row(now);
            (row.age_seconds, row.idle_seconds)
        };
        let later = |seconds: u64| entry.connected.after(Duration::from_secs(seconds));
        assert_eq!(ages(later(60)), (60, 60));
        entry.touch(later(60));
        assert_eq!(ages(later(65)), (65, 5));
    }

    #[test]
    fn an_order_reaches_the_clients_worker() {
        let registry = ClientRegistry::new();
        registry.insert(&client(1), 4, 1);
        assert!(!registry.kill(1), "no workers yet");
        let (sender, receiver) = mpsc::channel();
        let tell = move |worker, order| sender.send((worker, order)).unwrap();
        assert!(registry.set_teller(5, tell));
        assert!(registry.kill(1));
        assert_eq!(receiver.try_recv(), Ok((4, ClientOrder::Kill(1))));
        assert!(!registry.kill(2), "no such client");
        assert!(receiver.try_recv().is_err());
        assert!(!registry.unblock(1, true), "it does not wait");
        registry.note_waits(1, true);
        assert!(registry.unblock(1, true));
        assert!(!registry.unblock(1, true), "once is enough");
        let (id, is_error) = (1, true);
        assert_eq!(
            receiver.try_recv(),
            Ok((4, ClientOrder::Unblock { id, is_error }))
        );
        assert!(receiver.try_recv().is_err());
        assert!(!registry.set_teller(5, |_, _| ()), "the first one stays");
    }
}

//! What the registry keeps of one client. There may be very many that never say anything of themselves: what they do say is kept apart.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use slotway_core::command::{CommandId, TABLE};
use slotway_core::local::{ClientRow, TrackingRow};
use slotway_core::resp::Protocol;
use slotway_core::session::client_state::{ClientState, DEFAULT_USER};
use slotway_core::time::Timestamp;

/// What the worker of a client updates while it serves it.
#[derive(Debug)]
pub struct ClientEntry {
    id: u64,
    pub(super) worker: usize,
    descriptor: i32,
    remote: SocketAddr,
    local: SocketAddr,
    pub(super) connected: Timestamp,
    last_active_micros: AtomicU64,
    /// Place in the command table plus one; 0 is none.
    last_command: AtomicU16,
    pub(super) waits: AtomicBool,
    pub(super) monitors: AtomicBool,
    /// Somebody has it closed: nothing it sends counts any more.
    pub(super) killed: AtomicBool,
    input_bytes: AtomicU64,
    output_bytes: AtomicU64,
}

impl ClientEntry {
    /// That of a client that has just come to `worker`.
    pub(super) fn new(
        client: &ClientState,
        worker: usize,
        descriptor: i32,
        now: Timestamp,
    ) -> Self {
        Self {
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
            killed: AtomicBool::new(false),
            input_bytes: AtomicU64::new(0),
            output_bytes: AtomicU64::new(0),
        }
    }

    /// See [`ClientState::id`].
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether the client is to be closed: whoever asked for that was told that it is, maybe by another worker.
    #[inline]
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
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
pub(super) struct Record {
    pub(super) entry: Arc<ClientEntry>,
    /// `None` if all is as when it came.
    attributes: Option<Box<Attributes>>,
}

/// What a client says of itself, and has subscribed to: changed seldom, and by its own worker only.
#[derive(Clone, PartialEq, Eq)]
struct Attributes {
    name: Vec<u8>,
    user: Option<Box<[u8]>>,
    lib_name: Vec<u8>,
    lib_version: Vec<u8>,
    protocol: Protocol,
    database: u16,
    no_evict: bool,
    no_touch: bool,
    readonly: bool,
    tracking: Option<TrackingRow>,
    subscriptions: [usize; 3],
}

/// Those of a client that has just come.
static NONE: Attributes = Attributes {
    name: Vec::new(),
    user: None,
    lib_name: Vec::new(),
    lib_version: Vec::new(),
    protocol: Protocol::Resp2,
    database: 0,
    no_evict: false,
    no_touch: false,
    readonly: false,
    tracking: None,
    subscriptions: [0; 3],
};

impl Attributes {
    fn of(client: &ClientState, subscriptions: [usize; 3]) -> Self {
        Self {
            name: client.name.clone(),
            user: client.user.clone(),
            lib_name: client.lib_name.clone(),
            lib_version: client.lib_version.clone(),
            protocol: client.protocol,
            database: client.database,
            no_evict: client.no_evict,
            no_touch: client.no_touch,
            readonly: client.readonly == Some(true),
            tracking: TrackingRow::of(client),
            subscriptions,
        }
    }
}

impl Record {
    pub(super) fn new(entry: Arc<ClientEntry>, client: &ClientState) -> Self {
        let mut record = Self {
            entry,
            attributes: None,
        };
        record.set(Attributes::of(client, [0; 3]));
        record
    }

    /// What the client says of itself has changed.
    pub(super) fn update(&mut self, client: &ClientState) {
        self.set(Attributes::of(client, self.attributes().subscriptions));
    }

    /// It has so many channels, patterns and sharded channels now.
    pub(super) fn note_subscriptions(&mut self, subscriptions: [usize; 3]) {
        self.set(Attributes {
            subscriptions,
            ..self.attributes().clone()
        });
    }

    fn set(&mut self, attributes: Attributes) {
        self.attributes = (attributes != NONE).then(|| Box::new(attributes));
    }

    #[cfg(test)]
    pub(super) fn has_attributes(&self) -> bool {
        self.attributes.is_some()
    }

    fn attributes(&self) -> &Attributes {
        self.attributes.as_deref().unwrap_or(&NONE)
    }

    pub(super) fn row(&self, now: Timestamp) -> ClientRow<'_> {
        let (entry, attributes) = (&self.entry, self.attributes());
        ClientRow {
            id: entry.id,
            remote: entry.remote,
            local: entry.local,
            descriptor: entry.descriptor,
            name: &attributes.name,
            user: attributes.user.as_deref().unwrap_or(DEFAULT_USER),
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
            subscriptions: attributes.subscriptions,
            input_bytes: entry.input_bytes.load(Ordering::Relaxed),
            output_bytes: entry.output_bytes.load(Ordering::Relaxed),
        }
    }
}

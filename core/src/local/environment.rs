//! What the answers of the proxy need from outside: the wall clock, secure random bytes, the listener's settings, figures of
//! the process and of the cluster behind it, and the clients of the whole process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{ReadPolicy, Secret};
use crate::command::learned::LearnedTable;
use crate::resp::Protocol;
use crate::session::client_state::ClientState;
use crate::session::tracking::Mode;
use crate::slowlog::SlowLog;
use crate::time::Timestamp;

/// How much of a cluster a listener shows to its clients [I1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClusterEmulation {
    /// CLUSTER answers what a standalone server does: `ERR This instance has cluster support disabled`.
    Off,
    /// CLUSTER shows one node that owns every slot; HELLO and INFO say `standalone`.
    #[default]
    Commands,
    /// As `Commands`, and HELLO and INFO say `cluster`, for clients that decide by these.
    Full,
}

/// An address clients are told to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    /// Host name or IP address; never empty: some clients wait for ever on an empty one.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
}

/// How many bytes of replies a client may leave unread [D13]: the servers' client-output-buffer-limit, and what is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLimits {
    /// More than this ends the connection.
    pub hard_bytes: usize,
    /// As much as this does, if it lasts; 0 is no limit.
    pub soft_bytes: usize,
    /// How long it may last.
    pub soft_time: Duration,
    /// With as much as this, unread or expected, further requests wait.
    pub pause_bytes: usize,
    /// `hard_bytes` of a client with subscriptions [U8].
    pub pubsub_hard_bytes: usize,
    /// `soft_bytes` of a client with subscriptions.
    pub pubsub_soft_bytes: usize,
}

/// What takes the place of the reply to a request that may or may not have been executed [D6].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnUncertain {
    /// The error `UNCERTAIN`.
    #[default]
    Error,
    /// The end of the connection, as from a server that crashes.
    Close,
}

/// What CLIENT PAUSE has brought about [U15].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// When it ends by itself, by the clock of the workers.
    pub until: Timestamp,
    /// Only what writes waits, see [`crate::command::Spec::is_held_by_write_pause`].
    pub writes_only: bool,
}

/// What a client with subscriptions learns of messages that it may have missed because a connection or a node was lost [U6].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PubSubGap {
    /// The end of its connection, as from a server that is lost.
    #[default]
    Close,
    /// Nothing, if another node has the subscription in time.
    Silent,
}

/// What a client with a sharded channel learns when the slot of that moves [U13].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShardMove {
    /// Nothing: the channel is subscribed to at the new owner.
    #[default]
    Resubscribe,
    /// What the server says, and it has the channel no longer.
    Forward,
}

/// Settings of the listener a client came in by.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// Passwords of the default user, any of which is right (several while one is being replaced); none: no password is wanted.
    pub passwords: Vec<Secret>,
    /// What CLUSTER shows.
    pub cluster: ClusterEmulation,
    /// The address CLUSTER shows; without it the local address of the client's own connection [I2].
    pub announce: Option<Announce>,
    /// Part of the node id, to tell apart proxies that announce the same address [I4].
    pub instance_name: Arc<str>,
    /// Clients may use commands that act on other clients (CLIENT KILL, CLIENT PAUSE, CLIENT UNBLOCK).
    pub admin_commands: bool,
    /// Clients may see the requests of all with MONITOR.
    pub monitor: bool,
    /// Commands with keys in several slots are split, as far as they can be; else they are refused [P2].
    pub split: bool,
    /// SINTER, ZUNION and their likes may have keys in several slots, if they only read.
    pub cross_slot_reads: bool,
    /// Commands for every primary are refused while slots have no owner [T12].
    pub fanout_requires_full_coverage: bool,
    /// Such commands are answered without shards that cannot be reached, if they only read [Q2].
    pub fanout_partial: bool,
    /// What takes the place of a reply that nobody knows.
    pub on_uncertain: OnUncertain,
    /// SSUBSCRIBE and SUNSUBSCRIBE may name channels of several slots [U12].
    pub ssubscribe_cross_slot: bool,
    /// What clients learn of messages that they may have missed.
    pub pubsub_gap: PubSubGap,
    /// What clients learn of sharded channels that move.
    pub ssub_move: ShardMove,
    /// Clients may have the servers tell them which keys change, to keep what they have read (CLIENT TRACKING) [N2].
    pub tracking: bool,
    /// Which nodes answer reads of clients that have not said READONLY or READWRITE.
    pub reads: ReadPolicy,
    /// A replica answers a client only if it is sure to have what the same client wrote before.
    pub read_your_writes: bool,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            passwords: Vec::new(),
            cluster: ClusterEmulation::default(),
            announce: None,
            instance_name: Arc::default(),
            admin_commands: false,
            monitor: false,
            split: true,
            cross_slot_reads: false,
            fanout_requires_full_coverage: true,
            fanout_partial: false,
            on_uncertain: OnUncertain::default(),
            ssubscribe_cross_slot: true,
            pubsub_gap: PubSubGap::default(),
            ssub_move: ShardMove::default(),
            tracking: false,
            reads: ReadPolicy::default(),
            read_your_writes: false,
        }
    }
}

impl ListenerSettings {
    /// Must a client give a password before anything else?
    #[must_use]
    pub fn password_required(&self) -> bool {
        !self.passwords.is_empty()
    }
}

/// The numbered databases of the servers [N21].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Databases {
    /// How many there are; numbers begin at 0.
    pub count: u32,
    /// What the servers say of a number that they have not.
    pub refusal: Arc<str>,
}

impl Databases {
    /// No more are used than there are numbers for in the proxy.
    pub const MOST: u32 = 1 << 16;
}

impl Default for Databases {
    fn default() -> Self {
        Self {
            count: 1,
            refusal: "ERR SELECT is not allowed in cluster mode".into(),
        }
    }
}

/// What is known of the servers behind the proxy. All of it may be unknown: the proxy answers before it has met them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamFacts {
    /// Lowest `redis_version` of the primaries [Y1]; `None` until one is known.
    pub redis_version: Option<Arc<str>>,
    /// Lowest `valkey_version`, if every primary is a Valkey server.
    pub valkey_version: Option<Arc<str>>,
    /// Every primary speaks RESP3 [Y2]; true as long as nothing is known.
    pub resp3: bool,
    /// `maxmemory_policy` of the primaries, if known and the same on all.
    pub maxmemory_policy: Option<Arc<str>>,
    /// Sum of `maxmemory` of the primaries, bytes; 0 is "no limit".
    pub maxmemory: Option<u64>,
    /// Keys in database 0 of all primaries, from a recent count.
    pub keys: Option<u64>,
    /// The same of other databases that have some, ascending.
    pub keys_elsewhere: Arc<[(u32, u64)]>,
    /// The databases that every primary has, as far as they have told; `None` until one has.
    pub databases: Option<Databases>,
    /// Nodes in the topology.
    pub nodes: usize,
    /// Primaries that own a slot.
    pub primaries: usize,
    /// Number of the topology snapshot.
    pub generation: u64,
    /// Slots without an owner.
    pub uncovered_slots: u16,
}

impl Default for UpstreamFacts {
    fn default() -> Self {
        Self {
            redis_version: None,
            valkey_version: None,
            resp3: true,
            maxmemory_policy: None,
            maxmemory: None,
            keys: None,
            keys_elsewhere: Arc::default(),
            databases: None,
            nodes: 0,
            primaries: 0,
            generation: 0,
            uncovered_slots: crate::slot::SLOT_COUNT,
        }
    }
}

/// Figures of the proxy process for INFO. A figure that is `None` is left out of INFO rather than invented.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProcessFacts {
    /// Version of the proxy.
    pub version: &'static str,
    /// 40 hex digits, new at every start.
    pub run_id: Arc<str>,
    /// Operating system process id.
    pub process_id: u32,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Workers (threads that serve clients).
    pub workers: usize,
    /// Clients connected now.
    pub connected_clients: u64,
    /// Most clients allowed at once.
    pub max_clients: Option<u64>,
    /// How long a client may be idle; zero is for ever.
    pub idle_timeout: Duration,
    /// How much a client may leave unread.
    pub output_limits: Option<OutputLimits>,
    /// Connections accepted since the start.
    pub connections_received: Option<u64>,
    /// Connections refused since the start, because there were too many.
    pub connections_rejected: Option<u64>,
    /// Commands answered since the start.
    pub commands_processed: Option<u64>,
    /// Commands a second, recently.
    pub commands_per_second: Option<u64>,
    /// Bytes received from clients.
    pub input_bytes: Option<u64>,
    /// Bytes sent to clients.
    pub output_bytes: Option<u64>,
    /// Errors answered since the start.
    pub error_replies: Option<u64>,
    /// Resident memory of the process, bytes.
    pub resident_bytes: Option<u64>,
    /// Processor time in the kernel, microseconds.
    pub cpu_system_micros: Option<u64>,
    /// Processor time in user mode, microseconds.
    pub cpu_user_micros: Option<u64>,
    /// Clients that wait at a node.
    pub blocked_clients: Option<u64>,
    /// The pause of clients in force: how long it will last, and whether only what writes waits.
    pub pause: Option<(Duration, bool)>,
    /// Requests that wait for a shard to have a primary.
    pub parked_requests: Option<u64>,
    /// `UNCERTAIN` errors answered since the start.
    pub uncertain_replies: Option<u64>,
    /// Topology refreshes since the start.
    pub refreshes: Option<u64>,
}

/// One client of the process, as CLIENT LIST shows it.
#[derive(Debug, Clone, Copy)]
pub struct ClientRow<'a> {
    /// See [`ClientState::id`].
    pub id: u64,
    /// Address of the client.
    pub remote: SocketAddr,
    /// Address the client connected to.
    pub local: SocketAddr,
    /// Descriptor of the socket; -1 if not known.
    pub descriptor: i32,
    /// CLIENT SETNAME.
    pub name: &'a [u8],
    /// User name.
    pub user: &'a [u8],
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: &'a [u8],
    /// CLIENT SETINFO LIB-VER.
    pub lib_version: &'a [u8],
    /// Protocol version.
    pub protocol: Protocol,
    /// See [`ClientState::database`].
    pub database: u16,
    /// Seconds since the connection was accepted.
    pub age_seconds: u64,
    /// Seconds since the client last sent something, or read after it had been slow to.
    pub idle_seconds: u64,
    /// Name of the last command, as `get` or `client|list`; empty if none.
    pub command: &'static str,
    /// See [`ClientState::no_evict`].
    pub no_evict: bool,
    /// See [`ClientState::no_touch`].
    pub no_touch: bool,
    /// See [`ClientState::readonly`].
    pub readonly: bool,
    /// It waits at a node.
    pub waits: bool,
    /// It sees the requests of all.
    pub monitors: bool,
    /// What it tracks, if it does.
    pub tracking: Option<TrackingRow>,
    /// How many channels, patterns and sharded channels it has subscribed to.
    pub subscriptions: [usize; 3],
    /// Bytes of an unfinished request held for the client.
    pub input_bytes: u64,
    /// Bytes of replies held for the client.
    pub output_bytes: u64,
}

/// Tracking of one client, as CLIENT LIST shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackingRow {
    /// All keys with its prefixes.
    pub broadcast: bool,
    /// The client that hears instead of it; 0 is none.
    pub redirect: u64,
    /// That one is gone.
    pub broken: bool,
}

impl TrackingRow {
    /// That of a client that may track keys.
    #[must_use]
    pub fn of(client: &ClientState) -> Option<Self> {
        let tracking = client.tracking.as_ref()?;
        Some(Self {
            broadcast: tracking.mode == Mode::Broadcast,
            redirect: tracking.redirect.unwrap_or_default(),
            broken: tracking.broken,
        })
    }
}

/// Everything the answers need from outside. The proxy's worker implements it; tests use a double.
///
/// One value serves one client's call: [`listener`](Self::listener) is that client's listener.
pub trait Environment {
    /// Wall clock: microseconds since 1970.
    fn unix_micros(&self) -> u64;
    /// Fills `bytes` from a source fit for passwords (ACL GENPASS); false if there is none.
    fn fill_random(&self, bytes: &mut [u8]) -> bool;
    /// The listener of the client that is being answered.
    fn listener(&self) -> &ListenerSettings;
    /// What is known of the servers.
    fn upstream(&self) -> UpstreamFacts;
    /// Figures of this process.
    fn process(&self) -> ProcessFacts;
    /// Shows every client of the process once, in any order.
    fn for_each_client(&self, visit: &mut dyn FnMut(&ClientRow<'_>));
    /// Shows the client with this id; false if there is none.
    fn with_client(&self, id: u64, visit: &mut dyn FnMut(&ClientRow<'_>)) -> bool;
    /// Has the client with this id, never the one being answered, closed soon; false if there is none.
    fn kill_client(&self, id: u64) -> bool;
    /// The client with this id, which is served here, waits at a node, or does so no longer.
    fn client_waits(&self, id: u64, waits: bool);
    /// Has the client with this id wait no longer, with an error or as if its time were over; false if it does not wait.
    fn unblock_client(&self, id: u64, is_error: bool) -> bool;
    /// Has the clients of all workers wait for so long, those that write or all; a pause in force becomes no shorter and no weaker.
    fn pause_clients(&self, time: Duration, writes_only: bool);
    /// Ends the pause of clients.
    fn unpause_clients(&self);
    /// The pause of clients in force. [`Engine::set_pause`](crate::engine::Engine::set_pause) is to follow whenever it changes.
    fn pause(&self) -> Option<Pause>;
    /// The client with this id, which is served here, begins to see the requests of all, or ceases to. `monitors` are the clients
    /// of this worker that do, from now on.
    fn client_monitors(&self, id: u64, on: bool, monitors: usize);
    /// Whether any client of the process sees the requests of all.
    /// [`Engine::set_monitored`](crate::engine::Engine::set_monitored) is to follow whenever that changes.
    fn is_monitored(&self) -> bool;
    /// Shows lines to those of the other workers who see the requests of all.
    fn monitor_lines(&self, lines: &[u8]);
    /// Tells the client with this id of keys that another one tracks: an array of them, or a null for all, as RESP3 has it. False if there
    /// is no such client.
    fn redirect_invalidation(&self, id: u64, keys: &[u8]) -> bool;
    /// The client with this id has so many channels, patterns and sharded channels now.
    fn client_subscribed(&self, id: u64, subscriptions: [usize; 3]);
    /// A name, the user, the protocol or a flag of this client changed: what [`for_each_client`](Self::for_each_client) shows
    /// of it must follow.
    fn client_changed(&self, client: &ClientState);
    /// The commands that the servers have and the table has not, as far as they have told.
    fn learned(&self) -> Arc<LearnedTable>;
    /// A client used a name that nobody knows: the servers may know it by now, and are asked soon [K15].
    fn want_commands(&self);
    /// A client is to be answered by replicas: those that may be read from are looked for from now on.
    /// [`Engine::set_readers`](crate::engine::Engine::set_readers) is to follow.
    fn want_replicas(&self);
    /// Shows the slow log of the process.
    fn slow_log(&self, visit: &mut dyn FnMut(&mut SlowLog));
}

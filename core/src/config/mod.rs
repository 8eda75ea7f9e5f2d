//! The configuration: read from a TOML file, `SLOTWAY_*` variables and flags, checked as a whole, valid once built.
//!
//! Precedence, highest first: command-line flag, environment variable, file, default. A flag or variable for a key of a
//! repeated table speaks of the only one; with several in the file it is a fault. Every fault of every layer is reported at once,
//! with its place, its value, what is allowed and what to do. Nothing here opens a file: the caller passes the text, and a way
//! to read the files that hold passwords.
//!
//! To add a key: one entry in `keys`, one field below, one line in `build` and in `changes`, and write `config/slotway.toml` anew
//! from [`reference`] (a test compares them).

mod build;
mod changes;
mod checks;
mod fault;
mod keys;
mod reference;
mod secret;
mod sentinel;
mod sentinel_listener;
mod source;
#[cfg(test)]
mod tests;
mod typed;
mod upstream;
mod value;

use std::net::SocketAddr;
use std::time::Duration;

use crate::local::{OnUncertain, PubSubGap, ReadPolicy, ShardMove};
use crate::topology::{Address, AddressMap, Zones};

pub use changes::Change;
pub use fault::{ConfigError, Fault, Origin};
pub use reference::reference;
pub use secret::Secret;

/// A flag of the command line that sets a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// `--workers`
    Workers,
    /// `--listen`
    Listen,
    /// `--admin`
    Admin,
    /// `--cluster`
    Cluster,
    /// `--server`
    Server,
}

/// Everything a configuration is made from.
pub struct Sources<'a> {
    /// Name and text of the configuration file, if there is one.
    pub file: Option<(&'a str, &'a str)>,
    /// Environment variables; those that do not concern us are ignored.
    pub environment: &'a [(String, String)],
    /// Flags given.
    pub flags: Vec<(Flag, String)>,
    /// Cores this process may use: the default for `workers`.
    pub cores: usize,
    /// Reads a file that holds a password. The error says why it cannot.
    pub read_secret: &'a dyn Fn(&str) -> Result<Vec<u8>, String>,
}

/// The whole configuration, valid by construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Number of worker threads, at least 1.
    pub workers: usize,
    /// Address of the admin endpoint; `None` is off.
    pub admin: Option<SocketAddr>,
    /// At least one listener; no two of the same address.
    pub listeners: Vec<ListenerConfig>,
    /// Where the proxy is a Sentinel; `None` is nowhere. If it is, at least one listener has a service name.
    pub sentinel: Option<SentinelListenerConfig>,
    /// What is behind the proxy: at least one. Of several, each has a name of its own and a listener.
    pub upstreams: Vec<UpstreamConfig>,
    /// Bounds of queues, frames and waiting times.
    pub limits: LimitsConfig,
    /// What is logged and how.
    pub log: LogConfig,
    /// Time allowed for finishing requests at shutdown.
    pub drain: Duration,
}

/// One address where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Address to bind; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Which of [`Config::upstreams`] its clients use.
    pub upstream: usize,
    /// Password that clients must give.
    pub requirepass: Option<Secret>,
    /// The name under which clients that ask the proxy as a Sentinel find this listener; no two have the same.
    pub service: Option<String>,
    /// Address told to clients that ask for one, instead of the one they connected to.
    pub announce: Option<Address>,
    /// Whether CLUSTER subcommands are answered as a cluster of one node.
    pub cluster_emulation: bool,
    /// Whether clients may use commands that act on other clients.
    pub admin_commands: bool,
    /// Whether clients may see the requests of all.
    pub monitor: bool,
    /// Whether commands with keys in several slots are split.
    pub split: bool,
    /// Whether set algebra that only reads may have keys in several slots.
    pub cross_slot_reads: bool,
    /// Whether commands for every primary are refused while slots have no owner.
    pub fanout_requires_full_coverage: bool,
    /// Whether such commands are answered without shards that cannot be reached, if they only read.
    pub fanout_partial: bool,
    /// What takes the place of a reply that nobody knows.
    pub on_uncertain: OnUncertain,
    /// Whether SSUBSCRIBE may name channels of several slots.
    pub ssubscribe_cross_slot: bool,
    /// What clients learn of messages that they may have missed.
    pub pubsub_gap: PubSubGap,
    /// What clients learn of sharded channels that move.
    pub ssub_move: ShardMove,
    /// Whether clients may have the servers track the keys that they read.
    pub tracking: bool,
    /// Which nodes answer reads.
    pub reads: ReadPolicy,
    /// Whether a client reads what it wrote, whichever node answers.
    pub read_your_writes: bool,
}

/// The address where clients ask the proxy as they ask Sentinels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentinelListenerConfig {
    /// Address to bind; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Password that clients must give there.
    pub requirepass: Option<Secret>,
}

/// A cluster or a server behind the proxy and how to talk to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// What it is called; always there if there are several.
    pub name: Option<String>,
    /// Nodes of the cluster to start from; at least one, unless there is a `server` or a `sentinel`.
    pub seeds: Vec<Address>,
    /// The one server that has all keys, by its address.
    pub server: Option<Address>,
    /// Who says which server that is.
    pub sentinel: Option<SentinelConfig>,
    /// ACL user; only with a password.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Shared connections of each worker to each node, at least 1.
    pub connections_per_node: usize,
    /// Time allowed for connecting and logging in.
    pub connect_timeout: Duration,
    /// Silence after which a connection with outstanding requests is given up.
    pub node_timeout: Duration,
    /// Time between two refreshes of the topology that nothing prompted.
    pub refresh_interval: Duration,
    /// Whether commands for slots that certainly nobody owns are refused without waiting.
    pub fast_fail_uncovered: bool,
    /// Whether writes that may be run twice are sent again after their connection was lost.
    pub resend_idempotent_writes: bool,
    /// What to use instead of addresses that the nodes give.
    pub address_map: AddressMap,
    /// How old the data of replicas may be that are read from.
    pub replica_max_lag: Duration,
    /// The same in bytes of the replication stream.
    pub replica_max_lag_bytes: usize,
    /// The zone of the proxy.
    pub zone: Option<String>,
    /// Zones of nodes that do not tell theirs.
    pub zones: Zones,
}

impl UpstreamConfig {
    /// Whether one server has all keys: then nothing is split.
    #[must_use]
    pub fn is_undivided(&self) -> bool {
        self.server.is_some() || self.sentinel.is_some()
    }
}

/// The Sentinels that watch a primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentinelConfig {
    /// Where they are; at least one.
    pub addresses: Vec<Address>,
    /// The name under which they watch it.
    pub service: String,
    /// How many have to agree; `None`: more than half of those there are.
    pub quorum: Option<usize>,
    /// ACL user; only with a password.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
}

/// Bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Connections of clients at a time, of all listeners.
    pub max_clients: usize,
    /// The same from one address; 0 is no limit.
    pub max_clients_per_ip: usize,
    /// Connections of clients accepted in a second; 0 is no limit.
    pub accepts_per_second: usize,
    /// How long a client may be idle; zero is for ever.
    pub idle_timeout: Duration,
    /// Unanswered requests of one session.
    pub pipeline_count: usize,
    /// Parked requests of the process.
    pub park_count: usize,
    /// Bytes of parked requests of the process.
    pub park_bytes: usize,
    /// How long after its arrival a request may still be parked.
    pub park_timeout: Duration,
    /// How long a request that was sent waits for its reply; zero is no limit [D8].
    pub request_timeout: Duration,
    /// Requests of all clients, in part or not answered yet, above which only clients with few are read on.
    pub client_input_total_bytes: usize,
    /// Unread replies of one session that end it.
    pub client_output_bytes: usize,
    /// Unread replies of one session that end it when it has them for too long; 0 is no limit.
    pub client_output_soft_bytes: usize,
    /// How long it may have them.
    pub client_output_soft_time: Duration,
    /// Unread replies of one session above which it is not read, at most `client_output_bytes`.
    pub client_output_pause_bytes: usize,
    /// Unread messages and replies of one session with subscriptions that end it [U8].
    pub pubsub_output_bytes: usize,
    /// The same when it has them for `client_output_soft_time`; 0 is no limit.
    pub pubsub_output_soft_bytes: usize,
    /// Replies of the parts of one command of set algebra over slots.
    pub cross_slot_bytes: usize,
    /// Arguments of one command.
    pub max_args_count: u32,
    /// One argument, at most `max_request_bytes`.
    pub max_bulk_bytes: u32,
    /// One inline command.
    pub max_inline_bytes: u32,
    /// One command whole.
    pub max_request_bytes: u32,
}

/// Logging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// Least severe level shown.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
    /// A request that takes as long as this is slow.
    pub slow_time: Duration,
    /// Slow requests that are kept; 0 is none.
    pub slow_count: usize,
}

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Something failed that somebody should look at.
    Error,
    /// Something is not as it should be, and was dealt with.
    Warn,
    /// A change of state.
    Info,
    /// A connection.
    Debug,
    /// A request.
    Trace,
}

impl LogLevel {
    /// The level as the key `log.level` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Builds the configuration from all its sources.
    ///
    /// # Errors
    /// Every fault of every source.
    pub fn build(sources: Sources<'_>) -> Result<Self, ConfigError> {
        build::build(sources)
    }
}

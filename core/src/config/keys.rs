//! The table of configuration keys: the one place that says how a key is called, what it takes, its default and why.
//!
//! Parsing, the checks, the environment variables and `config/slotway.toml` all follow from this table, so they cannot drift
//! apart. Key names follow one rule: durations and sizes carry their unit in the value, sizes end in `_bytes`, numbers in
//! `_count` unless the name itself is a plural ("workers"). `listener` and `upstream` are tables that may be repeated
//! (`[[listener]]`), so that more of them need no new names.

use std::time::Duration;

use super::value::{GIB, KIB, MIB, show_duration, show_size};

/// What a key takes, with its range and default.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A whole number; without a default the program chooses.
    Count {
        min: u64,
        max: u64,
        default: Option<u64>,
    },
    /// A size with its unit.
    Size { min: u64, max: u64, default: u64 },
    /// A duration with its unit.
    Time {
        min: Duration,
        max: Duration,
        default: Duration,
    },
    /// `true` or `false`.
    Switch { default: bool },
    /// One of these words.
    Choice {
        words: &'static [&'static str],
        default: &'static str,
    },
    /// Text of a form that is checked where it is used.
    Text {
        form: &'static str,
        default: Option<&'static str>,
    },
    /// A password: never shown.
    Password,
    /// Several texts.
    List { form: &'static str },
    /// Several `{ from, to }` pairs.
    Pairs { form: &'static str },
}

/// One configuration key.
#[derive(Debug)]
pub(super) struct Key {
    /// Full name: section, dot, key.
    pub(super) path: &'static str,
    /// Environment variable.
    pub(super) env: &'static str,
    /// What it takes.
    pub(super) kind: Kind,
    /// What it does, for `config/slotway.toml`.
    pub(super) purpose: &'static str,
    /// A value for the reference file where there is no default; in TOML.
    pub(super) example: &'static str,
}

impl Key {
    /// Section of the key; empty for the top level.
    pub(super) fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }

    /// Name of the key within its section.
    pub(super) fn name(&self) -> &'static str {
        self.path
            .split_once('.')
            .map_or(self.path, |(_, name)| name)
    }

    /// Whether SIGHUP applies a change of it.
    pub(super) fn is_live(&self) -> bool {
        LIVE.iter().any(|live| live.path == self.path)
    }

    /// What is allowed, as a sentence that stands for itself.
    pub(super) fn allowed(&self) -> String {
        let units = match self.kind {
            Kind::Size { .. } => ", such as \"64MiB\" (units B, KiB, MiB, GiB, TiB)",
            Kind::Time { .. } => ", such as \"500ms\" (units ms, s, m, h, d)",
            _ => "",
        };
        format!("Allowed: {}{units}.", self.range())
    }

    /// What is allowed, for a place where the units are known.
    pub(super) fn range(&self) -> String {
        match self.kind {
            Kind::Count { min, max, .. } => format!("a whole number from {min} to {max}"),
            Kind::Size { min, max, .. } => {
                format!("a size from {} to {}", show_size(min), show_size(max))
            }
            Kind::Time { min, max, .. } => format!(
                "a duration from {} to {}",
                show_duration(min),
                show_duration(max)
            ),
            Kind::Switch { .. } => "true or false".to_owned(),
            Kind::Choice { words, .. } => format!("one of {}", words.join(", ")),
            Kind::Text { form, .. } | Kind::List { form } | Kind::Pairs { form } => form.to_owned(),
            Kind::Password => "text that is not empty".to_owned(),
        }
    }

    /// The default in TOML, if there is one.
    pub(super) fn default_text(&self) -> Option<String> {
        match self.kind {
            Kind::Count { default, .. } => default.map(|count| count.to_string()),
            Kind::Size { default, .. } => Some(format!("\"{}\"", show_size(default))),
            Kind::Time { default, .. } => Some(format!("\"{}\"", show_duration(default))),
            Kind::Switch { default } => Some(default.to_string()),
            Kind::Choice { default, .. } => Some(format!("\"{default}\"")),
            Kind::Text { default, .. } => default.map(|text| format!("\"{text}\"")),
            Kind::Password | Kind::List { .. } | Kind::Pairs { .. } => None,
        }
    }
}

/// Keys whose changes SIGHUP applies; those of all others wait for the next start.
const LIVE: [&Key; 10] = [
    &LIMITS_MAX_CLIENTS,
    &LIMITS_MAX_CLIENTS_PER_IP,
    &LIMITS_ACCEPTS_PER_SECOND,
    &LIMITS_IDLE_TIMEOUT,
    &LIMITS_CLIENT_OUTPUT_BYTES,
    &LIMITS_CLIENT_OUTPUT_SOFT_BYTES,
    &LIMITS_CLIENT_OUTPUT_SOFT_TIME,
    &LIMITS_CLIENT_OUTPUT_PAUSE_BYTES,
    &LIMITS_PUBSUB_OUTPUT_BYTES,
    &LIMITS_PUBSUB_OUTPUT_SOFT_BYTES,
];

/// Sections that may be repeated as `[[section]]`.
pub(super) const REPEATABLE: [&str; 2] = ["listener", "upstream"];

/// Sections with their description, in the order of the reference file.
pub(super) const SECTIONS: [(&str, &str); 7] = [
    (
        "admin",
        "The HTTP endpoint for metrics, health checks and the topology.",
    ),
    (
        "listener",
        "Where clients connect. Repeat it as [[listener]] for several.",
    ),
    (
        "sentinel",
        "The proxy as a Sentinel, for clients that are set up with Sentinels: asked for a service, it names the address of the listener with that service (SENTINEL GET-MASTER-ADDR-BY-NAME and its likes). That never changes, and there are no replicas.",
    ),
    (
        "upstream",
        "The Redis or Valkey servers behind the proxy: a cluster, one server that has all keys, or the one that Sentinels name. Set one of cluster, server and sentinels. Repeat it as [[upstream]], each with a name, for several: each has threads, clients and connections of its own.",
    ),
    (
        "limits",
        "Bounds. Reaching one has the effect described; nothing grows without one.",
    ),
    (
        "log",
        "Log lines go to standard error. Clients read the slow log with SLOWLOG GET.",
    ),
    (
        "shutdown",
        "What happens on SIGTERM or SIGINT; a second signal ends the process at once.",
    ),
];

const ADDRESS: &str = "IP:PORT, such as \"0.0.0.0:6379\" or \"[::]:6379\"";
const HOST_PORT: &str = "HOST:PORT, such as \"redis-1:6379\" or \"[::1]:6379\"";
const PATH: &str = "the path of a file";

const fn count(min: u64, max: u64, default: u64) -> Kind {
    Kind::Count {
        min,
        max,
        default: Some(default),
    }
}

const fn size(min: u64, max: u64, default: u64) -> Kind {
    Kind::Size { min, max, default }
}

const fn millis(min: u64, max: u64, default: u64) -> Kind {
    Kind::Time {
        min: Duration::from_millis(min),
        max: Duration::from_millis(max),
        default: Duration::from_millis(default),
    }
}

const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;

macro_rules! keys {
    ($($(#[doc = $doc:literal])* $name:ident $path:literal $env:literal $example:literal $kind:expr => $purpose:literal;)+) => {
        $($(#[doc = $doc])* pub(super) const $name: Key =
            Key { path: $path, env: $env, kind: $kind, purpose: $purpose, example: $example };)+
        /// Every key, in the order of the reference file.
        pub(super) const KEYS: &[&Key] = &[$(&$name),+];
    };
}

keys! {
    /// Shared nothing: a worker is one thread, so more than the cores only adds switches.
    WORKERS "workers" "SLOTWAY_WORKERS" "2" Kind::Count { min: 1, max: 256, default: None }
        => "Threads that serve clients, for each upstream. Default: the cores this process may use (a container's CPU limit counts).";

    /// Loopback: metrics and topology tell much about a system, so showing them to others is a decision.
    ADMIN_LISTEN "admin.listen" "SLOTWAY_ADMIN" ""
        Kind::Text { form: "IP:PORT, such as \"0.0.0.0:9379\", or \"off\"", default: Some("127.0.0.1:9379") }
        => "Address of the admin endpoint, or \"off\". It needs no password: keep it off public networks.";

    /// The port clients try by themselves, on loopback until somebody decides otherwise.
    LISTENER_LISTEN "listener.listen" "SLOTWAY_LISTEN" "" Kind::Text { form: ADDRESS, default: Some("127.0.0.1:6379") }
        => "Address to listen on.";
    LISTENER_UPSTREAM "listener.upstream" "SLOTWAY_LISTENER_UPSTREAM" "\"orders\"" Kind::Text { form: "the name of an upstream", default: None }
        => "The upstream that clients of this listener use, by its name. May be left out if there is only one.";
    LISTENER_REQUIREPASS "listener.requirepass" "SLOTWAY_LISTENER_REQUIREPASS" "\"a long random password\"" Kind::Password
        => "Password that clients must give with AUTH or HELLO. Without it everybody who can connect may use the cluster.";
    LISTENER_REQUIREPASS_FILE "listener.requirepass_file" "SLOTWAY_LISTENER_REQUIREPASS_FILE" "\"/run/secrets/slotway-client\""
        Kind::Text { form: PATH, default: None }
        => "File that holds that password instead; one newline at its end is ignored.";
    LISTENER_SERVICE "listener.service" "SLOTWAY_LISTENER_SERVICE" "\"orders\"" Kind::Text { form: "a name without blanks", default: None }
        => "The name under which clients that ask the proxy as a Sentinel (sentinel.listen) find this listener. Default: mymaster, if there is only one listener; else it is not found.";
    LISTENER_ANNOUNCE "listener.announce" "SLOTWAY_LISTENER_ANNOUNCE" "\"redis.example.com:6379\""
        Kind::Text { form: HOST_PORT, default: None }
        => "Address told to cluster-aware clients, and to those that ask the proxy as a Sentinel. Default: the address each client connected to. Set it behind a load balancer.";
    /// Cluster libraries then work unchanged, and plain clients never look.
    LISTENER_CLUSTER_EMULATION "listener.cluster_emulation" "SLOTWAY_LISTENER_CLUSTER_EMULATION" "" Kind::Switch { default: true }
        => "Answer CLUSTER SLOTS, SHARDS, NODES as a cluster of one node that owns every slot. false: answer that cluster support is disabled.";
    /// As on the servers themselves, where every client may use it.
    LISTENER_ADMIN_COMMANDS "listener.admin_commands" "SLOTWAY_LISTENER_ADMIN_COMMANDS" "" Kind::Switch { default: true }
        => "Let clients use commands that act on other clients of the proxy (CLIENT KILL, CLIENT PAUSE, CLIENT UNBLOCK).";
    /// [U15]: whoever may see all requests sees all data.
    LISTENER_MONITOR "listener.monitor" "SLOTWAY_LISTENER_MONITOR" "" Kind::Switch { default: false }
        => "Let clients see the requests of all clients of the proxy with MONITOR, passwords left out.";
    /// [P2]: what users of a proxy expect; that a part failed is told (`PARTIAL`), so the lost atomicity shows.
    LISTENER_SPLIT "listener.split" "SLOTWAY_LISTENER_SPLIT" "" Kind::Switch { default: true }
        => "Split MGET, MSET, DEL, UNLINK, EXISTS and TOUCH with keys in several slots into a part for each; the whole is not atomic then. false: refuse them with the servers' CROSSSLOT.";
    /// Off: replies that are merged are held, and many such commands are mistakes on a cluster.
    LISTENER_CROSS_SLOT_READS "listener.cross_slot_reads" "SLOTWAY_LISTENER_CROSS_SLOT_READS" "" Kind::Switch { default: false }
        => "Answer SINTER, SUNION, SDIFF, SINTERCARD, ZUNION, ZINTER, ZDIFF, ZINTERCARD and PFCOUNT with keys in several slots, too: the sets are fetched and put together by the proxy, not at one instant. false: refuse them with the servers' CROSSSLOT.";
    /// [T12]: a count or a flush of a part would pass for one of the whole.
    LISTENER_FANOUT_REQUIRES_FULL_COVERAGE "listener.fanout_requires_full_coverage" "SLOTWAY_LISTENER_FANOUT_REQUIRES_FULL_COVERAGE" ""
        Kind::Switch { default: true }
        => "Refuse commands that go to every primary (DBSIZE, KEYS, FLUSHALL, SCRIPT LOAD) while slots have no owner. false: send them to the primaries there are.";
    /// [Q2]: as above.
    LISTENER_FANOUT_PARTIAL "listener.fanout_partial" "SLOTWAY_LISTENER_FANOUT_PARTIAL" "" Kind::Switch { default: false }
        => "Answer DBSIZE, KEYS and SCRIPT EXISTS from the shards that answered, when others cannot be reached within limits.park_timeout. false: answer with an error that names the shard.";
    /// [D6]: many libraries send again by themselves on a lost connection, which is what must not happen.
    LISTENER_ON_UNCERTAIN "listener.on_uncertain" "SLOTWAY_LISTENER_ON_UNCERTAIN" ""
        Kind::Choice { words: &["error", "close"], default: "error" }
        => "What a client gets whose write was under way when its node was lost, so that nobody knows whether it was executed: the error UNCERTAIN, or a closed connection, as from a server that crashes, for clients that handle only that.";
    /// [U12]: a plain client knows nothing of slots.
    LISTENER_SSUBSCRIBE_CROSS_SLOT "listener.ssubscribe_cross_slot" "SLOTWAY_LISTENER_SSUBSCRIBE_CROSS_SLOT" ""
        Kind::Switch { default: true }
        => "Let SSUBSCRIBE and SUNSUBSCRIBE name sharded channels of several slots. false: refuse that with the servers' CROSSSLOT.";
    /// [U6]: who is told nothing does not look for what it has missed.
    LISTENER_PUBSUB_GAP "listener.pubsub_gap" "SLOTWAY_LISTENER_PUBSUB_GAP" ""
        Kind::Choice { words: &["close", "silent"], default: "close" }
        => "What a client with subscriptions gets when it may have missed messages because a node was lost: a closed connection, as from the node itself, or nothing, if another node takes the subscriptions within limits.park_timeout.";
    /// [U13]: few libraries for plain clients expect it.
    LISTENER_SSUB_MOVE "listener.ssub_move" "SLOTWAY_LISTENER_SSUB_MOVE" ""
        Kind::Choice { words: &["resubscribe", "forward"], default: "resubscribe" }
        => "What happens to the subscription to a sharded channel when its slot moves: it goes on at the new owner, or it ends, and the client gets the node's sunsubscribe.";
    /// [N1]: each client that uses it takes connections of its own.
    LISTENER_TRACKING "listener.tracking" "SLOTWAY_LISTENER_TRACKING" "" Kind::Switch { default: false }
        => "Let clients have the servers tell them which keys change, so that they can keep what they have read (CLIENT TRACKING). Each that does has a connection of its own to every primary it reads from, two in RESP2. false: refuse CLIENT TRACKING ON.";

    /// A replica may be behind, which nobody expects who has not asked for it.
    LISTENER_READS "listener.reads" "SLOTWAY_LISTENER_READS" ""
        Kind::Choice { words: &["primary", "prefer-primary", "replica", "prefer-replica", "any", "nearest"], default: "primary" }
        => "Which node of a shard answers commands that only read, outside of transactions: the primary; the primary, or a replica while it cannot be reached; a replica, waiting for one if there is none; a replica, or the primary if there is none; any; whichever answers soonest and has least to do. All but primary may show what is older than what was written last. A client that says READONLY reads from replicas (prefer-replica), one that says READWRITE from the primary.";
    LISTENER_READ_YOUR_WRITES "listener.read_your_writes" "SLOTWAY_LISTENER_READ_YOUR_WRITES" "" Kind::Switch { default: false }
        => "Where reads go to replicas: after a write of a client its reads go to the primary until a replica is known to have all of it, 1s to 2s.";

    SENTINEL_LISTEN "sentinel.listen" "SLOTWAY_SENTINEL" ""
        Kind::Text { form: "IP:PORT, such as \"0.0.0.0:26379\", or \"off\"", default: Some("off") }
        => "Address to listen on, or \"off\".";
    SENTINEL_REQUIREPASS "sentinel.requirepass" "SLOTWAY_SENTINEL_REQUIREPASS" "\"a long random password\"" Kind::Password
        => "Password that clients must give there.";
    SENTINEL_REQUIREPASS_FILE "sentinel.requirepass_file" "SLOTWAY_SENTINEL_REQUIREPASS_FILE" "\"/run/secrets/slotway-sentinel-client\""
        Kind::Text { form: PATH, default: None }
        => "File that holds that password instead; one newline at its end is ignored.";

    UPSTREAM_NAME "upstream.name" "SLOTWAY_UPSTREAM_NAME" "\"orders\""
        Kind::Text { form: "letters, digits, dots, dashes and underscores, 64 at most", default: None }
        => "What listeners, metrics, /readyz and log lines call it. Needed where there are several; with a name, its metrics have the label upstream.";
    UPSTREAM_CLUSTER "upstream.cluster" "SLOTWAY_CLUSTER" "[\"127.0.0.1:7000\", \"127.0.0.1:7001\", \"127.0.0.1:7002\"]"
        Kind::List { form: "a list of HOST:PORT, such as [\"redis-1:6379\", \"redis-2:6379\"]" }
        => "Some nodes of the cluster, to find the others; names are looked up again whenever no known node answers.";
    /// [N24]: nobody announces that a name has another address, so it is looked up every second.
    UPSTREAM_SERVER "upstream.server" "SLOTWAY_UPSTREAM_SERVER" "\"redis-1:6379\"" Kind::Text { form: HOST_PORT, default: None }
        => "The one server, instead of a cluster: nothing is split, and keys may be in any slots. A name is looked up every second, and the proxy follows it to another server once that is no replica.";
    UPSTREAM_SENTINELS "upstream.sentinels" "SLOTWAY_UPSTREAM_SENTINELS" "[\"sentinel-1:26379\", \"sentinel-2:26379\", \"sentinel-3:26379\"]"
        Kind::List { form: "a list of HOST:PORT, such as [\"sentinel-1:26379\", \"sentinel-2:26379\"]" }
        => "Sentinels that say which server is the primary, instead of a cluster or a server. Others are learned from them; names are looked up again at each question.";
    UPSTREAM_SENTINEL_SERVICE "upstream.sentinel_service" "SLOTWAY_UPSTREAM_SENTINEL_SERVICE" "\"orders\""
        Kind::Text { form: "a name without blanks", default: None }
        => "The name under which the Sentinels watch the primary (sentinel monitor). Default: mymaster.";
    /// [N12]: one that was cut off, or tells lies, must not move the traffic.
    UPSTREAM_SENTINEL_QUORUM "upstream.sentinel_quorum" "SLOTWAY_UPSTREAM_SENTINEL_QUORUM" "2" Kind::Count { min: 1, max: 32, default: None }
        => "Sentinels that have to agree on the primary; while fewer answer, all of those. Default: more than half of those there are.";
    UPSTREAM_SENTINEL_USER "upstream.sentinel_user" "SLOTWAY_UPSTREAM_SENTINEL_USER" "\"slotway\"" Kind::Text { form: "the name of an ACL user", default: None }
        => "ACL user of the proxy at the Sentinels. Default: their default user.";
    UPSTREAM_SENTINEL_PASSWORD "upstream.sentinel_password" "SLOTWAY_UPSTREAM_SENTINEL_PASSWORD" "\"a long random password\"" Kind::Password
        => "Password of the proxy at the Sentinels; upstream.password is for the servers.";
    UPSTREAM_SENTINEL_PASSWORD_FILE "upstream.sentinel_password_file" "SLOTWAY_UPSTREAM_SENTINEL_PASSWORD_FILE" "\"/run/secrets/slotway-sentinel\""
        Kind::Text { form: PATH, default: None }
        => "File that holds that password instead; one newline at its end is ignored.";
    UPSTREAM_USER "upstream.user" "SLOTWAY_UPSTREAM_USER" "\"slotway\"" Kind::Text { form: "the name of an ACL user", default: None }
        => "ACL user of the proxy at the nodes. Default: the nodes' default user.";
    UPSTREAM_PASSWORD "upstream.password" "SLOTWAY_UPSTREAM_PASSWORD" "\"a long random password\"" Kind::Password
        => "Password of the proxy at the nodes.";
    UPSTREAM_PASSWORD_FILE "upstream.password_file" "SLOTWAY_UPSTREAM_PASSWORD_FILE" "\"/run/secrets/slotway-upstream\""
        Kind::Text { form: PATH, default: None }
        => "File that holds that password instead; one newline at its end is ignored.";
    /// One pipelined connection carries a worker's whole load; more only help when one connection's bandwidth is the limit.
    UPSTREAM_CONNECTIONS_PER_NODE "upstream.connections_per_node" "SLOTWAY_UPSTREAM_CONNECTIONS_PER_NODE" "" count(1, 64, 1)
        => "Shared connections of each worker to each node.";
    /// Far above any healthy round trip, far below what a client waits.
    UPSTREAM_CONNECT_TIMEOUT "upstream.connect_timeout" "SLOTWAY_UPSTREAM_CONNECT_TIMEOUT" "" millis(10, 60 * SECOND, SECOND)
        => "Time allowed for connecting to a node and logging in.";
    /// [HL1] [HL2]: just above the 5 s after which a server that runs a script answers `BUSY` on other connections. A node that hangs
    /// is noticed by the cluster first: once another node has its slots, 2 s of silence are enough.
    UPSTREAM_NODE_TIMEOUT "upstream.node_timeout" "SLOTWAY_UPSTREAM_NODE_TIMEOUT" "" millis(100, HOUR, 6 * SECOND)
        => "A connection whose node owes replies and is silent for this long is given up (2s if the node is no primary any more; 60s if it answers on another connection, as it does while it pauses writes for a failover). Keep it above the servers' busy-reply-threshold, 5s.";
    /// [T7]: only a safety net, since redirections and lost connections refresh at once.
    UPSTREAM_REFRESH_INTERVAL "upstream.refresh_interval" "SLOTWAY_UPSTREAM_REFRESH_INTERVAL" "" millis(SECOND, HOUR, 30 * SECOND)
        => "The topology is asked for this often (and at once when something points to a change).";
    /// [T11]: waiting helps only while somebody may be about to take the slot.
    UPSTREAM_FAST_FAIL_UNCOVERED "upstream.fast_fail_uncovered" "SLOTWAY_UPSTREAM_FAST_FAIL_UNCOVERED" "" Kind::Switch { default: true }
        => "Refuse a command for a slot that no node owns, with the servers' CLUSTERDOWN Hash slot not served, as soon as three nodes asked after it came agree on that (all if there are fewer; not while they say that the whole cluster is down). false: let it wait for limits.park_timeout.";
    /// [D5]: `SET k 1` sent again can overwrite another client's later `SET k 2`.
    UPSTREAM_RESEND_IDEMPOTENT_WRITES "upstream.resend_idempotent_writes" "SLOTWAY_UPSTREAM_RESEND_IDEMPOTENT_WRITES" ""
        Kind::Switch { default: false }
        => "Send a write whose node was lost again, as reads are, if running it twice in a row is the same as once: MSET, SETEX, PSETEX, SETRANGE, LSET, HMSET, XSETID and SET without NX, GET or a comparison. It may undo another client's write that came in between. false: answer UNCERTAIN.";
    UPSTREAM_ADDRESS_MAP "upstream.address_map" "SLOTWAY_UPSTREAM_ADDRESS_MAP" "[{ from = \"10.0.0.5:6379\", to = \"203.0.113.7:30001\" }]"
        Kind::Pairs { form: "a list of { from = ..., to = ... }, each HOST:PORT or HOST, from also NETWORK/PREFIX; in the environment FROM=TO,FROM=TO" }
        => "What to use instead of addresses that the nodes give, for a cluster behind NAT or port forwarding. The first rule that fits counts.";

    /// [T21]: replicas are looked at once a second, and a failover may take some seconds, in which their data is the newest there is.
    UPSTREAM_REPLICA_MAX_LAG "upstream.replica_max_lag" "SLOTWAY_UPSTREAM_REPLICA_MAX_LAG" "" millis(2 * SECOND, HOUR, 10 * SECOND)
        => "How old the data of a replica may be that is read from (listener.reads): it has everything that was written this long ago. It must have the connection to its primary, too, unless the primary does not answer.";
    /// [T21].
    UPSTREAM_REPLICA_MAX_LAG_BYTES "upstream.replica_max_lag_bytes" "SLOTWAY_UPSTREAM_REPLICA_MAX_LAG_BYTES" "" size(0, 64 * GIB, 10 * MIB)
        => "The same in bytes of the replication stream.";
    UPSTREAM_ZONE "upstream.zone" "SLOTWAY_UPSTREAM_ZONE" "\"eu-1a\"" Kind::Text { form: "a name without blanks", default: None }
        => "The zone the proxy is in: where replicas may answer, those of the same zone are asked before others. Valkey nodes tell theirs (availability-zone); for others see zones.";
    UPSTREAM_ZONES "upstream.zones" "SLOTWAY_UPSTREAM_ZONES" "[{ from = \"10.0.1.0/24\", to = \"eu-1a\" }]"
        Kind::Pairs { form: "a list of { from = ..., to = ... }, from HOST:PORT, HOST or NETWORK/PREFIX, to a name; in the environment FROM=TO,FROM=TO" }
        => "Zones of nodes that do not tell theirs. The first rule that fits counts.";

    /// What the servers themselves default to.
    LIMITS_MAX_CLIENTS "limits.max_clients" "SLOTWAY_LIMITS_MAX_CLIENTS" "" count(1, 1_000_000, 10_000)
        => "Connections of clients at a time, of all listeners together, that of the Sentinel included; one more is refused with the servers' own error.";
    /// Off: behind a balancer or NAT all clients have one address.
    LIMITS_MAX_CLIENTS_PER_IP "limits.max_clients_per_ip" "SLOTWAY_LIMITS_MAX_CLIENTS_PER_IP" "" count(0, 1_000_000, 0)
        => "The same for the clients of one address; 0 is no limit.";
    /// All the clients that are allowed by default may come within a second, as they do after a restart.
    LIMITS_ACCEPTS_PER_SECOND "limits.accepts_per_second" "SLOTWAY_LIMITS_ACCEPTS_PER_SECOND" "" count(0, 1_000_000, 10_000)
        => "Connections of clients accepted in a second, all at once if they come so; more wait in the kernel's queue, so that a storm of them does not keep connected clients from being served. 0 is no limit.";
    /// The servers' own default (timeout 0).
    LIMITS_IDLE_TIMEOUT "limits.idle_timeout" "SLOTWAY_LIMITS_IDLE_TIMEOUT" "" millis(0, 365 * 24 * HOUR, 0)
        => "A client that neither sends nor reads anything for this long, and waits for no answer, is disconnected, a second or two later (the servers' timeout). 0s is never.";
    /// [O9]: more would not raise throughput, only let one client's pipeline delay the others; longer pipelines wait unread.
    LIMITS_PIPELINE_COUNT "limits.pipeline_count" "SLOTWAY_LIMITS_PIPELINE_COUNT" "" count(1, 1_000_000, 256)
        => "Requests of one client under way at a time; further ones wait unread in its socket. No pipeline is too long for it.";
    /// [PK1].
    LIMITS_PARK_COUNT "limits.park_count" "SLOTWAY_LIMITS_PARK_COUNT" "" count(0, 10_000_000, 100_000)
        => "Requests that wait for a shard without a primary, shared evenly by the workers of all upstreams; more are refused.";
    /// [PK1].
    LIMITS_PARK_BYTES "limits.park_bytes" "SLOTWAY_LIMITS_PARK_BYTES" "" size(0, 64 * GIB, 64 * MIB)
        => "The same in bytes.";
    /// [PK1]: a failover takes the servers' cluster-node-timeout and a second or two.
    LIMITS_PARK_TIMEOUT "limits.park_timeout" "SLOTWAY_LIMITS_PARK_TIMEOUT" "" millis(0, HOUR, 10 * SECOND)
        => "A request waits this long, from its arrival, for a usable node.";
    /// [D8].
    LIMITS_REQUEST_TIMEOUT "limits.request_timeout" "SLOTWAY_LIMITS_REQUEST_TIMEOUT" "" millis(0, HOUR, 15 * SECOND)
        => "A request that was sent to a node waits this long for its reply; then its client gets an error, and UNCERTAIN if it may have changed data. Scripts wait as long as they take. 0s is no limit.";
    /// A gigabyte is one request of the utmost size, and as much as a machine for a proxy can spare.
    LIMITS_CLIENT_INPUT_TOTAL_BYTES "limits.client_input_total_bytes" "SLOTWAY_LIMITS_CLIENT_INPUT_TOTAL_BYTES" "" size(MIB, 1024 * GIB, GIB)
        => "Requests of all clients together, in part or not answered yet, shared evenly by the workers of all upstreams. Beyond it a client that has more than 64KiB of that is read no further until others are through. One at a time goes on, so that every request ends; it is disconnected if it brings less than 320KiB in 5s while others wait. In all never more than this, one max_request_bytes for each worker and 80KiB for each client.";
    /// [D13].
    LIMITS_CLIENT_OUTPUT_BYTES "limits.client_output_bytes" "SLOTWAY_LIMITS_CLIENT_OUTPUT_BYTES" "" size(MIB, 64 * GIB, 256 * MIB)
        => "Replies that a client does not read; beyond this it is disconnected (the hard limit of the servers' client-output-buffer-limit).";
    /// [D13].
    LIMITS_CLIENT_OUTPUT_SOFT_BYTES "limits.client_output_soft_bytes" "SLOTWAY_LIMITS_CLIENT_OUTPUT_SOFT_BYTES" "" size(0, 64 * GIB, 64 * MIB)
        => "The same, if it has as much as this unread for all of client_output_soft_time (their soft limit). 0B is no limit. Above client_output_pause_bytes it is hardly ever reached.";
    /// [D13].
    LIMITS_CLIENT_OUTPUT_SOFT_TIME "limits.client_output_soft_time" "SLOTWAY_LIMITS_CLIENT_OUTPUT_SOFT_TIME" "" millis(0, HOUR, 60 * SECOND)
        => "See client_output_soft_bytes.";
    /// [D13].
    LIMITS_CLIENT_OUTPUT_PAUSE_BYTES "limits.client_output_pause_bytes" "SLOTWAY_LIMITS_CLIENT_OUTPUT_PAUSE_BYTES" "" size(64 * KIB, 64 * GIB, 4 * MIB)
        => "Replies that a client has not read, and those expected for its outstanding requests; beyond this its further requests wait until it has read some. 64KiB, or one request, while all clients of a worker together have 256MiB.";
    /// [U8]: as the servers have it. Nothing holds messages back, so they are bounded more narrowly than replies.
    LIMITS_PUBSUB_OUTPUT_BYTES "limits.pubsub_output_bytes" "SLOTWAY_LIMITS_PUBSUB_OUTPUT_BYTES" "" size(64 * KIB, 64 * GIB, 32 * MIB)
        => "Messages and replies that a client with subscriptions does not read; beyond this it is disconnected. client_output_bytes holds for it, too.";
    /// [U8].
    LIMITS_PUBSUB_OUTPUT_SOFT_BYTES "limits.pubsub_output_soft_bytes" "SLOTWAY_LIMITS_PUBSUB_OUTPUT_SOFT_BYTES" "" size(0, 64 * GIB, 8 * MIB)
        => "The same, if it has as much as this unread for all of client_output_soft_time. 0B is no limit.";
    /// Enough for half a million short members.
    LIMITS_CROSS_SLOT_BYTES "limits.cross_slot_bytes" "SLOTWAY_LIMITS_CROSS_SLOT_BYTES" "" size(KIB, GIB, 64 * MIB)
        => "Replies of the parts of one command that listener.cross_slot_reads allows, held to be put together; each member counts 96 bytes besides its own. Beyond it an error.";
    /// [Y6]: the servers' own limit.
    LIMITS_MAX_ARGS_COUNT "limits.max_args_count" "SLOTWAY_LIMITS_MAX_ARGS_COUNT" "" count(16, 1 << 30, 1_048_576)
        => "Arguments of one command; beyond it a protocol error, as the servers have it.";
    /// [Y6]: proto-max-bulk-len of the servers.
    LIMITS_MAX_BULK_BYTES "limits.max_bulk_bytes" "SLOTWAY_LIMITS_MAX_BULK_BYTES" "" size(MIB, 2 * GIB, 512 * MIB)
        => "One argument of a command (the servers' proto-max-bulk-len).";
    /// [Y6]: the servers' own limit.
    LIMITS_MAX_INLINE_BYTES "limits.max_inline_bytes" "SLOTWAY_LIMITS_MAX_INLINE_BYTES" "" size(KIB, 16 * MIB, 64 * KIB)
        => "One inline command, or one line of the protocol.";
    /// The servers' client-query-buffer-limit.
    LIMITS_MAX_REQUEST_BYTES "limits.max_request_bytes" "SLOTWAY_LIMITS_MAX_REQUEST_BYTES" "" size(MIB, 3 * GIB, GIB)
        => "One command with all its arguments (the servers' client-query-buffer-limit).";

    LOG_LEVEL "log.level" "SLOTWAY_LOG_LEVEL" ""
        Kind::Choice { words: &["error", "warn", "info", "debug", "trace"], default: "info" }
        => "Least severe level shown: changes of state are info, connections debug, requests trace.";
    LOG_FORMAT "log.format" "SLOTWAY_LOG_FORMAT" "" Kind::Choice { words: &["text", "json"], default: "text" }
        => "How a log line looks.";
    /// What the servers default to.
    LOG_SLOW_TIME "log.slow_time" "SLOTWAY_LOG_SLOW_TIME" "" millis(0, HOUR, 10)
        => "A request that is answered by a node this long after it came, or later, is noted in the slow log (the servers' slowlog-log-slower-than). 0s notes all.";
    /// What the servers default to.
    LOG_SLOW_COUNT "log.slow_count" "SLOTWAY_LOG_SLOW_COUNT" "" count(0, 1_000_000, 128)
        => "Requests that the slow log of each upstream keeps (the servers' slowlog-max-len); 0 turns it off.";

    /// [D12]: below the 30 s that orchestrators allow before they kill.
    SHUTDOWN_DRAIN "shutdown.drain" "SLOTWAY_SHUTDOWN_DRAIN" "" millis(0, HOUR, 10 * SECOND)
        => "Time allowed for finishing requests before the process ends anyway.";
}

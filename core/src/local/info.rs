//! INFO: one server as the client sees it, with the proxy's own figures.
//!
//! What clients check at their start is here: `redis_version` (the lowest of the primaries), `loading`, `role`,
//! `maxmemory_policy`, `redis_mode`. A figure that is not known is left out.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use super::connection::{UNKNOWN_VERSION, mode};
use super::{Call, ClusterEmulation, ProcessFacts, UpstreamFacts};

/// A part of the reply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Server,
    Clients,
    Memory,
    Persistence,
    Stats,
    Replication,
    Cpu,
    Cluster,
    Keyspace,
    Proxy,
}

impl Section {
    /// In the servers' order; the proxy's own comes last.
    const ALL: [Self; 10] = [
        Self::Server,
        Self::Clients,
        Self::Memory,
        Self::Persistence,
        Self::Stats,
        Self::Replication,
        Self::Cpu,
        Self::Cluster,
        Self::Keyspace,
        Self::Proxy,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Server => "Server",
            Self::Clients => "Clients",
            Self::Memory => "Memory",
            Self::Persistence => "Persistence",
            Self::Stats => "Stats",
            Self::Replication => "Replication",
            Self::Cpu => "CPU",
            Self::Cluster => "Cluster",
            Self::Keyspace => "Keyspace",
            Self::Proxy => "Proxy",
        }
    }

    /// Is there anything to say? A Keyspace section without a database would say that there are no keys.
    fn known(self, upstream: &UpstreamFacts) -> bool {
        self != Self::Keyspace || upstream.keys.is_some()
    }

    /// Does the request name this section, or all of them?
    fn wanted(self, call: &Call<'_>) -> bool {
        is_wanted(self.title(), call)
    }
}

/// Does the request name the section with this title, or all of them?
pub(super) fn is_wanted(title: &str, call: &Call<'_>) -> bool {
    let mut names = call.args.iter().skip(1).peekable();
    names.peek().is_none()
        || names.any(|name| {
            ["default", "all", "everything", title]
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        })
}

/// The reply as it grows.
pub(super) struct Text(pub(super) String);

impl Text {
    /// Begins a section. Writing to a String cannot fail.
    pub(super) fn section(&mut self, title: &str) {
        if !self.0.is_empty() {
            self.0.push_str("\r\n");
        }
        let _ = write!(self.0, "# {title}\r\n");
    }

    pub(super) fn line(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    fn known(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.line(name, value);
        }
    }
}

pub(super) fn info(call: &mut Call<'_>) {
    let (upstream, process) = (call.env.upstream(), call.env.process());
    let mut text = Text(String::new());
    for section in Section::ALL
        .into_iter()
        .filter(|section| section.wanted(call) && section.known(&upstream))
    {
        text.section(section.title());
        match section {
            Section::Server => {
                let mode = mode(call.env.listener().cluster);
                server(&mut text, call, (&upstream, &process), mode);
            }
            Section::Clients => clients(call, &mut text, &process),
            Section::Memory => memory(&mut text, &upstream, &process),
            // The proxy has no data of its own to load.
            Section::Persistence => text.line("loading", 0),
            Section::Stats => stats(&mut text, &process),
            Section::Replication => {
                text.line("role", "master");
                text.line("connected_slaves", 0);
            }
            Section::Cpu => {
                text.known("used_cpu_sys", process.cpu_system_micros.map(seconds));
                text.known("used_cpu_user", process.cpu_user_micros.map(seconds));
            }
            Section::Cluster => {
                let emulated = call.env.listener().cluster == ClusterEmulation::Full;
                text.line("cluster_enabled", u8::from(emulated));
            }
            Section::Keyspace => {
                // A server does not list an empty database.
                if let Some(keys) = upstream.keys.filter(|keys| *keys > 0) {
                    text.line("db0", format_args!("keys={keys},expires=0,avg_ttl=0"));
                }
                for (database, keys) in &*upstream.keys_elsewhere {
                    let _ = write!(text.0, "db{database}:keys={keys},expires=0,avg_ttl=0\r\n");
                }
            }
            Section::Proxy => proxy(&mut text, &upstream, &process),
        }
    }
    call.text(text.0.as_bytes());
}

pub(super) fn server(
    text: &mut Text,
    call: &Call<'_>,
    (upstream, process): (&UpstreamFacts, &ProcessFacts),
    mode: &str,
) {
    text.line(
        "redis_version",
        upstream.redis_version.as_deref().unwrap_or(UNKNOWN_VERSION),
    );
    if let Some(version) = &upstream.valkey_version {
        text.line("server_name", "valkey");
        text.line("valkey_version", version);
    }
    text.line("redis_mode", mode);
    if upstream.valkey_version.is_some() {
        text.line("server_mode", mode);
    }
    text.line("proxy_name", "slotway");
    text.line("proxy_version", process.version);
    text.line("arch_bits", usize::BITS);
    text.line("process_id", process.process_id);
    text.line("run_id", &process.run_id);
    text.line("tcp_port", call.client.local.port());
    text.line("server_time_usec", call.env.unix_micros());
    text.line("uptime_in_seconds", process.uptime_seconds);
    text.line("uptime_in_days", process.uptime_seconds / 86_400);
}

fn clients(call: &Call<'_>, text: &mut Text, process: &ProcessFacts) {
    text.line("connected_clients", process.connected_clients);
    text.known("maxclients", process.max_clients);
    text.line("blocked_clients", process.blocked_clients.unwrap_or(0));
    let mut tracking = 0_usize;
    if call.env.listener().tracking {
        call.env
            .for_each_client(&mut |row| tracking += usize::from(row.tracking.is_some()));
    }
    text.line("tracking_clients", tracking);
    let (left, reason, actions) = match process.pause {
        Some((left, true)) => (left, "client_pause", "write"),
        Some((left, false)) => (left, "client_pause", "all"),
        None => (Duration::ZERO, "none", "none"),
    };
    text.line("paused_reason", reason);
    text.line("paused_actions", actions);
    text.line("paused_timeout_milliseconds", left.as_millis());
}

fn memory(text: &mut Text, upstream: &UpstreamFacts, process: &ProcessFacts) {
    text.known("used_memory", process.resident_bytes);
    text.known("used_memory_human", process.resident_bytes.map(human));
    text.known("used_memory_rss", process.resident_bytes);
    text.known("used_memory_rss_human", process.resident_bytes.map(human));
    text.known("maxmemory_policy", upstream.maxmemory_policy.as_deref());
}

fn stats(text: &mut Text, process: &ProcessFacts) {
    text.known("total_connections_received", process.connections_received);
    text.known("total_commands_processed", process.commands_processed);
    text.known("instantaneous_ops_per_sec", process.commands_per_second);
    text.known("total_net_input_bytes", process.input_bytes);
    text.known("total_net_output_bytes", process.output_bytes);
    text.known("rejected_connections", process.connections_rejected);
    text.known("total_error_replies", process.error_replies);
}

fn proxy(text: &mut Text, upstream: &UpstreamFacts, process: &ProcessFacts) {
    text.line("proxy_workers", process.workers);
    text.line("proxy_nodes", upstream.nodes);
    text.line("proxy_primaries", upstream.primaries);
    text.line("proxy_topology_generation", upstream.generation);
    text.line("proxy_slots_uncovered", upstream.uncovered_slots);
    text.known("proxy_topology_refreshes", process.refreshes);
    text.known("proxy_requests_parked", process.parked_requests);
    text.known("proxy_replies_uncertain", process.uncertain_replies);
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// As the servers shorten sizes: 1.50K, 7.02M.
fn human(bytes: u64) -> String {
    let units = [
        (1 << 40, 'T'),
        (1 << 30, 'G'),
        (1 << 20, 'M'),
        (1 << 10, 'K'),
    ];
    match units.into_iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => {
            let hundredths = u128::from(bytes) * 100 / u128::from(size);
            format!("{}.{:02}{unit}", hundredths / 100, hundredths % 100)
        }
        None => format!("{bytes}B"),
    }
}

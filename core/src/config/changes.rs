//! What differs between two configurations, key by key.

use super::keys::{self, Key};
use super::{Config, LimitsConfig, ListenerConfig, LogConfig, SentinelConfig, UpstreamConfig};

/// A key with another value than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Full name of the key.
    pub key: &'static str,
    /// It can be applied while the proxy runs; if not, the next start does.
    pub live: bool,
}

impl Config {
    /// The keys whose values differ in `newer`. A password counts as its own key, wherever it comes from; a listener more or less as
    /// `listener.listen`, an upstream as `upstream.name`.
    #[must_use]
    pub fn changes(&self, newer: &Self) -> Vec<Change> {
        let Self {
            workers,
            admin,
            listeners,
            sentinel,
            upstreams,
            limits: _,
            log: _,
            drain,
        } = self;
        let mut differs = vec![
            (&keys::WORKERS, *workers != newer.workers),
            (&keys::ADMIN_LISTEN, *admin != newer.admin),
            (
                &keys::LISTENER_LISTEN,
                listeners.len() != newer.listeners.len(),
            ),
            (
                &keys::SENTINEL_LISTEN,
                sentinel.as_ref().map(|it| it.listen)
                    != newer.sentinel.as_ref().map(|it| it.listen),
            ),
            (
                &keys::SENTINEL_REQUIREPASS,
                sentinel.as_ref().and_then(|it| it.requirepass.as_ref())
                    != newer
                        .sentinel
                        .as_ref()
                        .and_then(|it| it.requirepass.as_ref()),
            ),
            (
                &keys::UPSTREAM_NAME,
                upstreams.len() != newer.upstreams.len(),
            ),
            (&keys::SHUTDOWN_DRAIN, *drain != newer.drain),
        ];
        for (older, newer) in listeners.iter().zip(&newer.listeners) {
            differs.extend(listener(older, newer));
        }
        for (older, newer) in upstreams.iter().zip(&newer.upstreams) {
            differs.extend(upstream(older, newer));
        }
        differs.extend(limits(&self.limits, &newer.limits));
        differs.extend(log(&self.log, &newer.log));
        // In the order of the file, and once if it is the same key of several listeners.
        let is_changed = |key: &Key| {
            differs
                .iter()
                .any(|(other, differs)| *differs && other.path == key.path)
        };
        keys::KEYS
            .iter()
            .filter(|key| is_changed(key))
            .map(|key| Change {
                key: key.path,
                live: key.is_live(),
            })
            .collect()
    }
}

/// The keys of one struct, each with whether its field differs. Takes the struct apart, so that a new field cannot be forgotten.
macro_rules! compared {
    ($older:ident, $newer:ident, $Config:ident { $($field:ident: $key:ident),+ $(,)? }) => {{
        let $Config { $($field),+ } = $older;
        vec![$((&keys::$key, *$field != $newer.$field)),+]
    }};
}

type Compared = Vec<(&'static Key, bool)>;

fn listener(older: &ListenerConfig, newer: &ListenerConfig) -> Compared {
    compared!(
        older,
        newer,
        ListenerConfig {
            listen: LISTENER_LISTEN,
            upstream: LISTENER_UPSTREAM,
            requirepass: LISTENER_REQUIREPASS,
            service: LISTENER_SERVICE,
            announce: LISTENER_ANNOUNCE,
            cluster_emulation: LISTENER_CLUSTER_EMULATION,
            admin_commands: LISTENER_ADMIN_COMMANDS,
            monitor: LISTENER_MONITOR,
            split: LISTENER_SPLIT,
            cross_slot_reads: LISTENER_CROSS_SLOT_READS,
            fanout_requires_full_coverage: LISTENER_FANOUT_REQUIRES_FULL_COVERAGE,
            fanout_partial: LISTENER_FANOUT_PARTIAL,
            on_uncertain: LISTENER_ON_UNCERTAIN,
            ssubscribe_cross_slot: LISTENER_SSUBSCRIBE_CROSS_SLOT,
            pubsub_gap: LISTENER_PUBSUB_GAP,
            ssub_move: LISTENER_SSUB_MOVE,
            tracking: LISTENER_TRACKING,
            reads: LISTENER_READS,
            read_your_writes: LISTENER_READ_YOUR_WRITES,
        }
    )
}

fn upstream(older: &UpstreamConfig, newer: &UpstreamConfig) -> Compared {
    let mut differs = compared!(
        older,
        newer,
        UpstreamConfig {
            name: UPSTREAM_NAME,
            seeds: UPSTREAM_CLUSTER,
            server: UPSTREAM_SERVER,
            sentinel: UPSTREAM_SENTINELS,
            user: UPSTREAM_USER,
            password: UPSTREAM_PASSWORD,
            connections_per_node: UPSTREAM_CONNECTIONS_PER_NODE,
            connect_timeout: UPSTREAM_CONNECT_TIMEOUT,
            node_timeout: UPSTREAM_NODE_TIMEOUT,
            refresh_interval: UPSTREAM_REFRESH_INTERVAL,
            fast_fail_uncovered: UPSTREAM_FAST_FAIL_UNCOVERED,
            resend_idempotent_writes: UPSTREAM_RESEND_IDEMPOTENT_WRITES,
            address_map: UPSTREAM_ADDRESS_MAP,
            replica_max_lag: UPSTREAM_REPLICA_MAX_LAG,
            replica_max_lag_bytes: UPSTREAM_REPLICA_MAX_LAG_BYTES,
            zone: UPSTREAM_ZONE,
            zones: UPSTREAM_ZONES,
        }
    );
    // It has keys of its own.
    differs.retain(|(key, _)| key.path != keys::UPSTREAM_SENTINELS.path);
    let none = SentinelConfig::default();
    let (older, newer) = (&older.sentinel, &newer.sentinel);
    differs.extend(sentinel(
        older.as_ref().unwrap_or(&none),
        newer.as_ref().unwrap_or(&none),
    ));
    differs
}

fn sentinel(older: &SentinelConfig, newer: &SentinelConfig) -> Compared {
    compared!(
        older,
        newer,
        SentinelConfig {
            addresses: UPSTREAM_SENTINELS,
            service: UPSTREAM_SENTINEL_SERVICE,
            quorum: UPSTREAM_SENTINEL_QUORUM,
            user: UPSTREAM_SENTINEL_USER,
            password: UPSTREAM_SENTINEL_PASSWORD,
        }
    )
}

fn limits(older: &LimitsConfig, newer: &LimitsConfig) -> Compared {
    compared!(
        older,
        newer,
        LimitsConfig {
            max_clients: LIMITS_MAX_CLIENTS,
            max_clients_per_ip: LIMITS_MAX_CLIENTS_PER_IP,
            accepts_per_second: LIMITS_ACCEPTS_PER_SECOND,
            idle_timeout: LIMITS_IDLE_TIMEOUT,
            pipeline_count: LIMITS_PIPELINE_COUNT,
            park_count: LIMITS_PARK_COUNT,
            park_bytes: LIMITS_PARK_BYTES,
            park_timeout: LIMITS_PARK_TIMEOUT,
            request_timeout: LIMITS_REQUEST_TIMEOUT,
            client_input_total_bytes: LIMITS_CLIENT_INPUT_TOTAL_BYTES,
            client_output_bytes: LIMITS_CLIENT_OUTPUT_BYTES,
            client_output_soft_bytes: LIMITS_CLIENT_OUTPUT_SOFT_BYTES,
            client_output_soft_time: LIMITS_CLIENT_OUTPUT_SOFT_TIME,
            client_output_pause_bytes: LIMITS_CLIENT_OUTPUT_PAUSE_BYTES,
            pubsub_output_bytes: LIMITS_PUBSUB_OUTPUT_BYTES,
            pubsub_output_soft_bytes: LIMITS_PUBSUB_OUTPUT_SOFT_BYTES,
            cross_slot_bytes: LIMITS_CROSS_SLOT_BYTES,
            max_args_count: LIMITS_MAX_ARGS_COUNT,
            max_bulk_bytes: LIMITS_MAX_BULK_BYTES,
            max_inline_bytes: LIMITS_MAX_INLINE_BYTES,
            max_request_bytes: LIMITS_MAX_REQUEST_BYTES,
        }
    )
}

fn log(older: &LogConfig, newer: &LogConfig) -> Compared {
    compared!(
        older,
        newer,
        LogConfig {
            level: LOG_LEVEL,
            format: LOG_FORMAT,
            slow_time: LOG_SLOW_TIME,
            slow_count: LOG_SLOW_COUNT,
        }
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MINIMAL, build};
    use super::*;

    /// Another valid value than the default.
    fn another_value(key: &keys::Key) -> String {
        match key.kind {
            keys::Kind::Count { min, .. } => (min + 3).to_string(),
            keys::Kind::Size { min, max, default } => {
                // One of both ends, and such that a part stays below its whole.
                let shrinks = default > min && key.path != "limits.max_request_bytes";
                format!("'{}B'", if shrinks { min } else { max })
            }
            keys::Kind::Time { min, max, default } => {
                let time = if default == min { max } else { min };
                format!("'{}ms'", time.as_millis())
            }
            keys::Kind::Switch { default } => (!default).to_string(),
            keys::Kind::Choice { words, default } => {
                let other = words.iter().find(|word| **word != default);
                format!("'{}'", other.unwrap())
            }
            keys::Kind::Text { .. } if key.name() == "listen" => "'127.0.0.1:1'".to_owned(),
            keys::Kind::Text { .. } if key.path.ends_with("_file") => "'/secret'".to_owned(),
            keys::Kind::Text { .. }
            | keys::Kind::Password
            | keys::Kind::List { .. }
            | keys::Kind::Pairs { .. } => key.example.to_owned(),
        }
    }

    #[test]
    fn a_change_of_any_key_is_noticed() {
        let base = build("upstream.cluster = ['other:1']\n", &[], &[]).unwrap();
        for key in keys::KEYS {
            let mut file = format!("{} = {}\n", key.path, another_value(key));
            let of_sentinel = key.path.starts_with("upstream.sentinel");
            let replaces_cluster = key.path == "upstream.server" || of_sentinel;
            if key.path != "upstream.cluster" && !replaces_cluster {
                file += "upstream.cluster = ['other:1']\n";
            }
            let mut expected = vec![key.path.trim_end_matches("_file")];
            if of_sentinel && key.path != "upstream.sentinels" {
                file += "upstream.sentinels = ['other:2']\n";
                expected.insert(0, "upstream.sentinels");
            }
            if replaces_cluster {
                expected.insert(0, "upstream.cluster");
            }
            match key.path {
                "upstream.sentinel_user" => {
                    file += "upstream.sentinel_password = 'x'\n";
                    expected.push("upstream.sentinel_password");
                }
                "upstream.user" => {
                    file += "upstream.password = 'x'\n";
                    expected.push("upstream.password");
                }
                "sentinel.listen" => expected.insert(0, "listener.service"),
                "sentinel.requirepass" | "sentinel.requirepass_file" => {
                    file += "sentinel.listen = '127.0.0.1:2'\n";
                    expected.splice(0..0, ["listener.service", "sentinel.listen"]);
                }
                "listener.service" => {
                    file += "sentinel.listen = '127.0.0.1:2'\n";
                    expected.push("sentinel.listen");
                }
                "listener.upstream" => {
                    file += "upstream.name = 'orders'\n";
                    expected = vec!["upstream.name"];
                }
                // Its part goes down with it.
                "limits.client_output_bytes" => {
                    file += "limits.client_output_pause_bytes = '1MiB'\n";
                    expected.push("limits.client_output_pause_bytes");
                }
                _ => {}
            }
            let newer = build(&file, &[], &[]).unwrap_or_else(|error| panic!("{file}{error}"));
            let changes = base.changes(&newer);
            let found: Vec<_> = changes.iter().map(|change| change.key).collect();
            assert_eq!(found, expected, "{file}");
            assert_eq!(changes[0].live, key.is_live(), "{file}");
        }
        assert_eq!(base.changes(&base), []);
    }

    #[test]
    fn changes_of_several_listeners_are_named_once() {
        let listeners = |passwords: [&str; 2]| {
            let tables: String = passwords
                .iter()
                .enumerate()
                .map(|(port, password)| {
                    format!(
                        "[[listener]]\nlisten = '127.0.0.1:{}'\nrequirepass = '{password}'\n",
                        port + 1
                    )
                })
                .collect();
            build(&format!("{MINIMAL}{tables}"), &[], &[]).unwrap()
        };
        let keys =
            |changes: Vec<Change>| -> Vec<_> { changes.iter().map(|change| change.key).collect() };
        let (older, newer) = (listeners(["a", "b"]), listeners(["c", "d"]));
        assert_eq!(keys(older.changes(&newer)), ["listener.requirepass"]);
        let mut fewer = older.clone();
        fewer.listeners.pop();
        assert_eq!(keys(older.changes(&fewer)), ["listener.listen"]);
        let mut elsewhere = older.clone();
        elsewhere.upstreams.push(older.upstreams[0].clone());
        elsewhere.listeners[1].upstream = 1;
        assert_eq!(
            keys(older.changes(&elsewhere)),
            ["listener.upstream", "upstream.name"]
        );
    }
}

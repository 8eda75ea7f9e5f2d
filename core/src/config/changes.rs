//! What differs between two configurations, key by key.

use super::keys::{self, Key};
use super::{Config, LimitsConfig, ListenerConfig, LogConfig, UpstreamConfig};

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
    /// `listener.listen`.
    #[must_use]
    pub fn changes(&self, newer: &Self) -> Vec<Change> {
        let Self {
            workers,
            admin,
            listeners,
            upstream: _,
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
            (&keys::SHUTDOWN_DRAIN, *drain != newer.drain),
        ];
        for (older, newer) in listeners.iter().zip(&newer.listeners) {
            differs.extend(listener(older, newer));
        }
        differs.extend(upstream(&self.upstream, &newer.upstream));
        differs.extend(limits(&self.limits, &newer.limits));
        differs.extend(log(self.log, newer.log));
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

// Each takes its struct apart, so that a new field cannot be forgotten.

fn listener(older: &ListenerConfig, newer: &ListenerConfig) -> [(&'static Key, bool); 9] {
    let ListenerConfig {
        listen,
        requirepass,
        announce,
        cluster_emulation,
        admin_commands,
        split,
        fanout_requires_full_coverage,
        fanout_partial,
        on_uncertain,
    } = older;
    [
        (&keys::LISTENER_LISTEN, *listen != newer.listen),
        (
            &keys::LISTENER_REQUIREPASS,
            *requirepass != newer.requirepass,
        ),
        (&keys::LISTENER_ANNOUNCE, *announce != newer.announce),
        (
            &keys::LISTENER_CLUSTER_EMULATION,
            *cluster_emulation != newer.cluster_emulation,
        ),
        (
            &keys::LISTENER_ADMIN_COMMANDS,
            *admin_commands != newer.admin_commands,
        ),
        (&keys::LISTENER_SPLIT, *split != newer.split),
        (
            &keys::LISTENER_FANOUT_REQUIRES_FULL_COVERAGE,
            *fanout_requires_full_coverage != newer.fanout_requires_full_coverage,
        ),
        (
            &keys::LISTENER_FANOUT_PARTIAL,
            *fanout_partial != newer.fanout_partial,
        ),
        (
            &keys::LISTENER_ON_UNCERTAIN,
            *on_uncertain != newer.on_uncertain,
        ),
    ]
}

fn upstream(older: &UpstreamConfig, newer: &UpstreamConfig) -> [(&'static Key, bool); 10] {
    let UpstreamConfig {
        seeds,
        user,
        password,
        connections_per_node,
        connect_timeout,
        node_timeout,
        refresh_interval,
        fast_fail_uncovered,
        resend_idempotent_writes,
        address_map,
    } = older;
    [
        (&keys::UPSTREAM_CLUSTER, *seeds != newer.seeds),
        (&keys::UPSTREAM_USER, *user != newer.user),
        (&keys::UPSTREAM_PASSWORD, *password != newer.password),
        (
            &keys::UPSTREAM_CONNECTIONS_PER_NODE,
            *connections_per_node != newer.connections_per_node,
        ),
        (
            &keys::UPSTREAM_CONNECT_TIMEOUT,
            *connect_timeout != newer.connect_timeout,
        ),
        (
            &keys::UPSTREAM_NODE_TIMEOUT,
            *node_timeout != newer.node_timeout,
        ),
        (
            &keys::UPSTREAM_REFRESH_INTERVAL,
            *refresh_interval != newer.refresh_interval,
        ),
        (
            &keys::UPSTREAM_FAST_FAIL_UNCOVERED,
            *fast_fail_uncovered != newer.fast_fail_uncovered,
        ),
        (
            &keys::UPSTREAM_RESEND_IDEMPOTENT_WRITES,
            *resend_idempotent_writes != newer.resend_idempotent_writes,
        ),
        (
            &keys::UPSTREAM_ADDRESS_MAP,
            *address_map != newer.address_map,
        ),
    ]
}

fn limits(older: &LimitsConfig, newer: &LimitsConfig) -> [(&'static Key, bool); 18] {
    let LimitsConfig {
        max_clients,
        max_clients_per_ip,
        accepts_per_second,
        idle_timeout,
        pipeline_count,
        park_count,
        park_bytes,
        park_timeout,
        request_timeout,
        client_input_total_bytes,
        client_output_bytes,
        client_output_soft_bytes,
        client_output_soft_time,
        client_output_pause_bytes,
        max_args_count,
        max_bulk_bytes,
        max_inline_bytes,
        max_request_bytes,
    } = *older;
    [
        (&keys::LIMITS_MAX_CLIENTS, max_clients != newer.max_clients),
        (
            &keys::LIMITS_MAX_CLIENTS_PER_IP,
            max_clients_per_ip != newer.max_clients_per_ip,
        ),
        (
            &keys::LIMITS_ACCEPTS_PER_SECOND,
            accepts_per_second != newer.accepts_per_second,
        ),
        (
            &keys::LIMITS_IDLE_TIMEOUT,
            idle_timeout != newer.idle_timeout,
        ),
        (
            &keys::LIMITS_PIPELINE_COUNT,
            pipeline_count != newer.pipeline_count,
        ),
        (&keys::LIMITS_PARK_COUNT, park_count != newer.park_count),
        (&keys::LIMITS_PARK_BYTES, park_bytes != newer.park_bytes),
        (
            &keys::LIMITS_PARK_TIMEOUT,
            park_timeout != newer.park_timeout,
        ),
        (
            &keys::LIMITS_REQUEST_TIMEOUT,
            request_timeout != newer.request_timeout,
        ),
        (
            &keys::LIMITS_CLIENT_INPUT_TOTAL_BYTES,
            client_input_total_bytes != newer.client_input_total_bytes,
        ),
        (
            &keys::LIMITS_CLIENT_OUTPUT_BYTES,
            client_output_bytes != newer.client_output_bytes,
        ),
        (
            &keys::LIMITS_CLIENT_OUTPUT_SOFT_BYTES,
            client_output_soft_bytes != newer.client_output_soft_bytes,
        ),
        (
            &keys::LIMITS_CLIENT_OUTPUT_SOFT_TIME,
            client_output_soft_time != newer.client_output_soft_time,
        ),
        (
            &keys::LIMITS_CLIENT_OUTPUT_PAUSE_BYTES,
            client_output_pause_bytes != newer.client_output_pause_bytes,
        ),
        (
            &keys::LIMITS_MAX_ARGS_COUNT,
            max_args_count != newer.max_args_count,
        ),
        (
            &keys::LIMITS_MAX_BULK_BYTES,
            max_bulk_bytes != newer.max_bulk_bytes,
        ),
        (
            &keys::LIMITS_MAX_INLINE_BYTES,
            max_inline_bytes != newer.max_inline_bytes,
        ),
        (
            &keys::LIMITS_MAX_REQUEST_BYTES,
            max_request_bytes != newer.max_request_bytes,
        ),
    ]
}

fn log(older: LogConfig, newer: LogConfig) -> [(&'static Key, bool); 2] {
    let LogConfig { level, format } = older;
    [
        (&keys::LOG_LEVEL, level != newer.level),
        (&keys::LOG_FORMAT, format != newer.format),
    ]
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
            if key.path != "upstream.cluster" {
                file += "upstream.cluster = ['other:1']\n";
            }
            let mut expected = vec![key.path.trim_end_matches("_file")];
            match key.path {
                "upstream.user" => {
                    file += "upstream.password = 'x'\n";
                    expected.push("upstream.password");
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
    }
}

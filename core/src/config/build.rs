//! From settings as given to a valid [`Config`], section by section; it comes out only if there is no fault at all.

use super::fault::{Fault, Origin};
use super::keys;
use super::source::{Raw, Setting, Settings, layer};
use super::typed::{Reader, as_text};
use super::{
    Config, ConfigError, Flag, LimitsConfig, ListenerConfig, LogConfig, LogFormat, LogLevel,
    Sources, UpstreamConfig,
};
use crate::local::{OnUncertain, PubSubGap, ShardMove};
use crate::topology::{Address, AddressMap, AddressRule};
use std::net::SocketAddr;

/// Turns sources into a configuration, or into every fault they have.
pub(super) fn build(sources: Sources<'_>) -> Result<Config, ConfigError> {
    let mut settings = Settings::default();
    if let Some((name, text)) = sources.file {
        settings.add_file(name, text);
    }
    settings.add_environment(
        sources
            .environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    for (flag, value) in sources.flags {
        let (path, name) = match flag {
            Flag::Workers => (keys::WORKERS.path, "--workers"),
            Flag::Listen => (keys::LISTENER_LISTEN.path, "--listen"),
            Flag::Admin => (keys::ADMIN_LISTEN.path, "--admin"),
            Flag::Cluster => (keys::UPSTREAM_CLUSTER.path, "--cluster"),
            Flag::Server => (keys::UPSTREAM_SERVER.path, "--server"),
        };
        settings.add_flag(path, name, value);
    }
    let mut reader = Reader {
        faults: std::mem::take(&mut settings.faults),
        settings: &settings,
        read_secret: sources.read_secret,
    };
    let config = reader.config(sources.cores);
    if reader.faults.is_empty() {
        return Ok(config);
    }
    let mut faults = reader.faults;
    // A stable sort: faults of one line stay in the order in which they were found.
    faults.sort_by(|left, right| left.origin.cmp(&right.origin));
    Err(ConfigError { faults })
}

impl Reader<'_> {
    fn config(&mut self, cores: usize) -> Config {
        let config = Config {
            workers: self.count_or(&keys::WORKERS, 0, cores.max(1)),
            admin: self.admin(),
            listeners: self.listeners(),
            upstream: self.upstream(),
            limits: self.limits(),
            log: self.log(),
            drain: self.time(&keys::SHUTDOWN_DRAIN),
        };
        self.check_addresses(&config);
        self.check_limits(&config.limits);
        config
    }

    fn admin(&mut self) -> Option<SocketAddr> {
        let setting = self.settings.get(&keys::ADMIN_LISTEN, 0);
        if setting.is_some_and(|setting| setting.raw == Raw::Text("off".to_owned())) {
            return None;
        }
        Some(self.socket_address(&keys::ADMIN_LISTEN, 0))
    }

    fn listeners(&mut self) -> Vec<ListenerConfig> {
        let tables = self.settings.listener_tables.max(1);
        if tables > 1 {
            self.refuse_ambiguous("listener", tables);
        }
        (0..tables).map(|table| self.listener(table)).collect()
    }

    fn listener(&mut self, table: usize) -> ListenerConfig {
        ListenerConfig {
            listen: self.socket_address(&keys::LISTENER_LISTEN, table),
            requirepass: self.password(
                &keys::LISTENER_REQUIREPASS,
                &keys::LISTENER_REQUIREPASS_FILE,
                table,
            ),
            announce: self.optional_address(&keys::LISTENER_ANNOUNCE, table),
            cluster_emulation: self.switch(&keys::LISTENER_CLUSTER_EMULATION, table),
            admin_commands: self.switch(&keys::LISTENER_ADMIN_COMMANDS, table),
            monitor: self.switch(&keys::LISTENER_MONITOR, table),
            split: self.switch(&keys::LISTENER_SPLIT, table),
            cross_slot_reads: self.switch(&keys::LISTENER_CROSS_SLOT_READS, table),
            fanout_requires_full_coverage: self
                .switch(&keys::LISTENER_FANOUT_REQUIRES_FULL_COVERAGE, table),
            fanout_partial: self.switch(&keys::LISTENER_FANOUT_PARTIAL, table),
            on_uncertain: match self.choice(&keys::LISTENER_ON_UNCERTAIN, table) {
                "close" => OnUncertain::Close,
                _ => OnUncertain::Error,
            },
            ssubscribe_cross_slot: self.switch(&keys::LISTENER_SSUBSCRIBE_CROSS_SLOT, table),
            pubsub_gap: match self.choice(&keys::LISTENER_PUBSUB_GAP, table) {
                "silent" => PubSubGap::Silent,
                _ => PubSubGap::Close,
            },
            ssub_move: match self.choice(&keys::LISTENER_SSUB_MOVE, table) {
                "forward" => ShardMove::Forward,
                _ => ShardMove::Resubscribe,
            },
            tracking: self.switch(&keys::LISTENER_TRACKING, table),
        }
    }

    /// A variable or flag that speaks of one of several listeners does not say which: guessing might open the wrong one.
    fn refuse_ambiguous(&mut self, section: &str, tables: usize) {
        let given = self
            .settings
            .values
            .iter()
            .filter(|setting| setting.key.section() == section);
        for setting in given.filter(|setting| layer(&setting.origin) > layer(&file_origin())) {
            let problem =
                format!("does not say which of the {tables} [[{section}]] tables it is for");
            self.fault(setting, problem, "Set it in the file.".to_owned());
        }
    }

    fn upstream(&mut self) -> UpstreamConfig {
        let upstream = UpstreamConfig {
            seeds: self.seeds(),
            server: self.server(),
            sentinel: self.sentinel(),
            user: self
                .text(&keys::UPSTREAM_USER, 0)
                .map(|(_, user)| user.to_owned()),
            password: self.password(&keys::UPSTREAM_PASSWORD, &keys::UPSTREAM_PASSWORD_FILE, 0),
            connections_per_node: self.count(&keys::UPSTREAM_CONNECTIONS_PER_NODE, 0),
            connect_timeout: self.time(&keys::UPSTREAM_CONNECT_TIMEOUT),
            node_timeout: self.time(&keys::UPSTREAM_NODE_TIMEOUT),
            refresh_interval: self.time(&keys::UPSTREAM_REFRESH_INTERVAL),
            fast_fail_uncovered: self.switch(&keys::UPSTREAM_FAST_FAIL_UNCOVERED, 0),
            resend_idempotent_writes: self.switch(&keys::UPSTREAM_RESEND_IDEMPOTENT_WRITES, 0),
            address_map: self.address_map(),
        };
        let password_given = [&keys::UPSTREAM_PASSWORD, &keys::UPSTREAM_PASSWORD_FILE]
            .iter()
            .any(|key| self.settings.get(key, 0).is_some());
        if let Some(user) = self
            .settings
            .get(&keys::UPSTREAM_USER, 0)
            .filter(|_| !password_given)
        {
            let remedy =
                "Set upstream.password or upstream.password_file too, or leave the user out.";
            self.fault(user, "has no password".to_owned(), remedy.to_owned());
        }
        upstream
    }

    fn seeds(&mut self) -> Vec<Address> {
        let key = &keys::UPSTREAM_CLUSTER;
        let Some(setting) = self.settings.get(key, 0) else {
            let is_given = |key| self.settings.get(key, 0).is_some();
            let others = [&keys::UPSTREAM_SERVER, &keys::UPSTREAM_SENTINELS];
            if !self.settings.broken_file && !others.into_iter().any(is_given) {
                self.faults.push(Fault {
                    origin: Origin::Default,
                    key: key.path.to_owned(),
                    value: None,
                    problem: "is missing: the proxy has no servers to talk to".to_owned(),
                    remedy: "Give --cluster HOST:PORT,..., set SLOTWAY_CLUSTER, or write cluster = [\"HOST:PORT\"] under [upstream]. For a server that is no cluster: --server HOST:PORT, SLOTWAY_UPSTREAM_SERVER, or server = \"HOST:PORT\"; for one that Sentinels watch: sentinels = [\"HOST:PORT\"]."
                        .to_owned(),
                });
            }
            return Vec::new();
        };
        self.address_list(setting)
    }

    pub(super) fn address_list(&mut self, setting: &Setting) -> Vec<Address> {
        let texts: Option<Vec<&str>> = match &setting.raw {
            Raw::Text(text) => Some(
                text.split(',')
                    .map(str::trim)
                    .filter(|seed| !seed.is_empty())
                    .collect(),
            ),
            Raw::List(items) => items.iter().map(as_text).collect(),
            _ => None,
        };
        let Some(texts) = texts.filter(|texts| !texts.is_empty()) else {
            self.fault(
                setting,
                "is not a list of addresses".to_owned(),
                setting.key.allowed(),
            );
            return Vec::new();
        };
        texts
            .into_iter()
            .filter_map(|text| self.address(setting, text))
            .collect()
    }

    fn server(&mut self) -> Option<Address> {
        let key = &keys::UPSTREAM_SERVER;
        let setting = self.settings.get(key, 0)?;
        if let Some(cluster) = self.settings.get(&keys::UPSTREAM_CLUSTER, 0) {
            let problem = format!(
                "is set, and so is upstream.cluster ({}): the proxy talks to one of them",
                cluster.origin
            );
            let remedy = "Leave upstream.cluster out for a server that is no node of a cluster, or upstream.server for a cluster.";
            self.fault(setting, problem, remedy.to_owned());
        }
        self.optional_address(key, 0)
    }

    fn address_map(&mut self) -> AddressMap {
        let key = &keys::UPSTREAM_ADDRESS_MAP;
        let Some(setting) = self.settings.get(key, 0) else {
            return AddressMap::default();
        };
        let Some(pairs) = pairs(&setting.raw) else {
            self.fault(
                setting,
                "is not a list of pairs of addresses".to_owned(),
                key.allowed(),
            );
            return AddressMap::default();
        };
        let mut rules = Vec::new();
        for (from, to) in pairs {
            match AddressRule::parse(from, to) {
                Ok(rule) => rules.push(rule),
                Err(error) => {
                    let problem = format!("holds {from:?} to {to:?}, which is not a rule: {error}");
                    self.fault(setting, problem, key.allowed());
                }
            }
        }
        AddressMap::new(rules)
    }

    fn limits(&mut self) -> LimitsConfig {
        LimitsConfig {
            max_clients: self.count(&keys::LIMITS_MAX_CLIENTS, 0),
            max_clients_per_ip: self.count(&keys::LIMITS_MAX_CLIENTS_PER_IP, 0),
            accepts_per_second: self.count(&keys::LIMITS_ACCEPTS_PER_SECOND, 0),
            idle_timeout: self.time(&keys::LIMITS_IDLE_TIMEOUT),
            pipeline_count: self.count(&keys::LIMITS_PIPELINE_COUNT, 0),
            park_count: self.count(&keys::LIMITS_PARK_COUNT, 0),
            park_bytes: self.size(&keys::LIMITS_PARK_BYTES),
            park_timeout: self.time(&keys::LIMITS_PARK_TIMEOUT),
            request_timeout: self.time(&keys::LIMITS_REQUEST_TIMEOUT),
            client_input_total_bytes: self.size(&keys::LIMITS_CLIENT_INPUT_TOTAL_BYTES),
            client_output_bytes: self.size(&keys::LIMITS_CLIENT_OUTPUT_BYTES),
            client_output_soft_bytes: self.size(&keys::LIMITS_CLIENT_OUTPUT_SOFT_BYTES),
            client_output_soft_time: self.time(&keys::LIMITS_CLIENT_OUTPUT_SOFT_TIME),
            client_output_pause_bytes: self.size(&keys::LIMITS_CLIENT_OUTPUT_PAUSE_BYTES),
            pubsub_output_bytes: self.size(&keys::LIMITS_PUBSUB_OUTPUT_BYTES),
            pubsub_output_soft_bytes: self.size(&keys::LIMITS_PUBSUB_OUTPUT_SOFT_BYTES),
            cross_slot_bytes: self.size(&keys::LIMITS_CROSS_SLOT_BYTES),
            max_args_count: narrow(self.count(&keys::LIMITS_MAX_ARGS_COUNT, 0)),
            max_bulk_bytes: narrow(self.size(&keys::LIMITS_MAX_BULK_BYTES)),
            max_inline_bytes: narrow(self.size(&keys::LIMITS_MAX_INLINE_BYTES)),
            max_request_bytes: narrow(self.size(&keys::LIMITS_MAX_REQUEST_BYTES)),
        }
    }

    fn log(&mut self) -> LogConfig {
        let level = match self.choice(&keys::LOG_LEVEL, 0) {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => LogLevel::Info,
        };
        let format = if self.choice(&keys::LOG_FORMAT, 0) == "json" {
            LogFormat::Json
        } else {
            LogFormat::Text
        };
        LogConfig {
            level,
            format,
            slow_time: self.time(&keys::LOG_SLOW_TIME),
            slow_count: self.count(&keys::LOG_SLOW_COUNT, 0),
        }
    }
}

/// `{ from, to }` tables of the file, or `FROM=TO,FROM=TO` from outside.
fn pairs(raw: &Raw) -> Option<Vec<(&str, &str)>> {
    match raw {
        Raw::Text(text) => text
            .split(',')
            .map(|pair| pair.trim().split_once('='))
            .collect(),
        Raw::List(items) => items.iter().map(pair).collect(),
        _ => None,
    }
}

fn pair(raw: &Raw) -> Option<(&str, &str)> {
    let Raw::Table(fields) = raw else { return None };
    let field = |wanted: &str| {
        fields
            .iter()
            .find(|(name, _)| name == wanted)
            .and_then(|(_, value)| as_text(value))
    };
    if fields.len() == 2 {
        Some((field("from")?, field("to")?))
    } else {
        None
    }
}

/// The ranges of the table of keys keep these below `u32::MAX`.
fn narrow(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

const fn file_origin() -> Origin {
    Origin::File {
        name: String::new(),
        line: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MINIMAL, build};
    use super::Flag;

    #[test]
    fn a_server_takes_the_place_of_a_cluster_and_both_are_a_fault_n24() {
        let config = build("upstream.server = 'redis-1:6379'\n", &[], &[]).unwrap();
        let server = config.upstream.server.map(|server| server.to_string());
        assert_eq!(server.as_deref(), Some("redis-1:6379"));
        assert!(config.upstream.seeds.is_empty());
        let by_variable = build("", &[("SLOTWAY_UPSTREAM_SERVER", "[::1]:1")], &[]).unwrap();
        let by_flag = build("", &[], &[(Flag::Server, "[::1]:1")]).unwrap();
        assert_eq!(by_variable, by_flag);
        let error = build(MINIMAL, &[], &[(Flag::Server, "redis-1:6379")]).unwrap_err();
        let text = error.to_string();
        for part in [
            "1 fault",
            "flag --server: upstream.server",
            "so is upstream.cluster (test.toml:1)",
            "Leave upstream.cluster out",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let text = build("upstream.server = 'nowhere'\n", &[], &[])
            .unwrap_err()
            .to_string();
        assert!(text.contains("HOST:PORT"), "{text}");
    }
}

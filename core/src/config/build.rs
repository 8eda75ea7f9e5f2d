//! From settings as given to a valid [`Config`], section by section; it comes out only if there is no fault at all.

use super::fault::Origin;
use super::keys;
use super::source::{Raw, Settings, layer};
use super::typed::Reader;
use super::{
    Config, ConfigError, Flag, LimitsConfig, ListenerConfig, LogConfig, LogFormat, LogLevel,
    Sources, UpstreamConfig,
};
use crate::local::{OnUncertain, PubSubGap, ReadPolicy, ShardMove};
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
        let upstreams = self.upstreams();
        let mut listeners = self.listeners(&upstreams);
        let config = Config {
            workers: self.count_or(&keys::WORKERS, 0, cores.max(1)),
            admin: self.admin(),
            sentinel: self.sentinel_listener(&mut listeners),
            listeners,
            upstreams,
            limits: self.limits(),
            log: self.log(),
            drain: self.time(&keys::SHUTDOWN_DRAIN, 0),
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

    fn listeners(&mut self, upstreams: &[UpstreamConfig]) -> Vec<ListenerConfig> {
        let tables = self.settings.tables("listener");
        self.refuse_ambiguous("listener", tables);
        let used = self.used_upstreams(upstreams, tables);
        used.into_iter()
            .enumerate()
            .map(|(table, upstream)| self.listener(table, upstream))
            .collect()
    }

    fn listener(&mut self, table: usize, upstream: usize) -> ListenerConfig {
        ListenerConfig {
            upstream,
            listen: self.socket_address(&keys::LISTENER_LISTEN, table),
            requirepass: self.password(
                &keys::LISTENER_REQUIREPASS,
                &keys::LISTENER_REQUIREPASS_FILE,
                table,
            ),
            service: None,
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
            reads: self.read_policy(table),
            read_your_writes: self.switch(&keys::LISTENER_READ_YOUR_WRITES, table),
        }
    }

    fn read_policy(&mut self, table: usize) -> ReadPolicy {
        let word = self.choice(&keys::LISTENER_READS, table);
        let mut policies = ReadPolicy::ALL.into_iter();
        policies
            .find(|(_, name)| *name == word)
            .map_or(ReadPolicy::Primary, |(policy, _)| policy)
    }

    /// A variable or flag that speaks of one of several tables does not say which: guessing might open the wrong one.
    pub(super) fn refuse_ambiguous(&mut self, section: &str, tables: usize) {
        if tables < 2 {
            return;
        }
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

    fn limits(&mut self) -> LimitsConfig {
        LimitsConfig {
            max_clients: self.count(&keys::LIMITS_MAX_CLIENTS, 0),
            max_clients_per_ip: self.count(&keys::LIMITS_MAX_CLIENTS_PER_IP, 0),
            accepts_per_second: self.count(&keys::LIMITS_ACCEPTS_PER_SECOND, 0),
            idle_timeout: self.time(&keys::LIMITS_IDLE_TIMEOUT, 0),
            pipeline_count: self.count(&keys::LIMITS_PIPELINE_COUNT, 0),
            park_count: self.count(&keys::LIMITS_PARK_COUNT, 0),
            park_bytes: self.size(&keys::LIMITS_PARK_BYTES, 0),
            park_timeout: self.time(&keys::LIMITS_PARK_TIMEOUT, 0),
            request_timeout: self.time(&keys::LIMITS_REQUEST_TIMEOUT, 0),
            client_input_total_bytes: self.size(&keys::LIMITS_CLIENT_INPUT_TOTAL_BYTES, 0),
            client_output_bytes: self.size(&keys::LIMITS_CLIENT_OUTPUT_BYTES, 0),
            client_output_soft_bytes: self.size(&keys::LIMITS_CLIENT_OUTPUT_SOFT_BYTES, 0),
            client_output_soft_time: self.time(&keys::LIMITS_CLIENT_OUTPUT_SOFT_TIME, 0),
            client_output_pause_bytes: self.size(&keys::LIMITS_CLIENT_OUTPUT_PAUSE_BYTES, 0),
            pubsub_output_bytes: self.size(&keys::LIMITS_PUBSUB_OUTPUT_BYTES, 0),
            pubsub_output_soft_bytes: self.size(&keys::LIMITS_PUBSUB_OUTPUT_SOFT_BYTES, 0),
            cross_slot_bytes: self.size(&keys::LIMITS_CROSS_SLOT_BYTES, 0),
            max_args_count: narrow(self.count(&keys::LIMITS_MAX_ARGS_COUNT, 0)),
            max_bulk_bytes: narrow(self.size(&keys::LIMITS_MAX_BULK_BYTES, 0)),
            max_inline_bytes: narrow(self.size(&keys::LIMITS_MAX_INLINE_BYTES, 0)),
            max_request_bytes: narrow(self.size(&keys::LIMITS_MAX_REQUEST_BYTES, 0)),
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
            slow_time: self.time(&keys::LOG_SLOW_TIME, 0),
            slow_count: self.count(&keys::LOG_SLOW_COUNT, 0),
        }
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

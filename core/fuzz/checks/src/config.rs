//! Any configuration: no panic; every fault is told without a password; what is accepted reads back the same when it is written
//! down as a file, so nothing of it hangs on where and how it was given.
//!
//! Input: the file, then `NAME=VALUE` of the environment or `--flag=VALUE`, each behind a NUL. Password files hold their own name.

use std::fmt::{Display, Write};
use std::time::Duration;

use slotway_core::config::{
    Config, ConfigError, Flag, ListenerConfig, LogFormat, Secret, Sources, UpstreamConfig,
};
use slotway_core::topology::AddressMap;

/// Given in the environment to every configuration.
const PASSWORD: &str = "f7Zq0-never-shown";

/// The check of this target.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut parts = text.split('\0');
    let file = parts.next().unwrap_or_default();
    let (mut environment, mut flags) = (Vec::new(), Vec::new());
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name {
            "--workers" => flags.push((Flag::Workers, value.to_owned())),
            "--listen" => flags.push((Flag::Listen, value.to_owned())),
            "--admin" => flags.push((Flag::Admin, value.to_owned())),
            "--server" => flags.push((Flag::Server, value.to_owned())),
            "--cluster" => flags.push((Flag::Cluster, value.to_owned())),
            _ => environment.push((name.to_owned(), value.to_owned())),
        }
    }
    for variable in ["SLOTWAY_LISTENER_REQUIREPASS", "SLOTWAY_UPSTREAM_PASSWORD"] {
        if file.len().is_multiple_of(2) && !environment.iter().any(|(name, _)| name == variable) {
            environment.push((variable.to_owned(), PASSWORD.to_owned()));
        }
    }
    match build(file, &environment, flags) {
        Ok(config) => check_written(config),
        Err(error) => check_faults(&error, text),
    }
}

fn build(
    file: &str,
    environment: &[(String, String)],
    flags: Vec<(Flag, String)>,
) -> Result<Config, ConfigError> {
    Config::build(Sources {
        file: Some(("slotway.toml", file)),
        environment,
        flags,
        cores: 2,
        read_secret: &|path| match path {
            "missing" => Err("no such file".to_owned()),
            path => Ok(path.as_bytes().to_vec()),
        },
    })
}

fn check_faults(error: &ConfigError, text: &str) {
    assert!(!error.faults.is_empty());
    for fault in &error.faults {
        assert!(!fault.problem.is_empty());
        assert!(text.contains(PASSWORD) || !fault.to_string().contains(PASSWORD));
    }
    assert!(error.to_string().lines().count() > error.faults.len());
}

fn check_written(mut config: Config) {
    assert!(config.workers > 0 && !config.listeners.is_empty());
    assert!(!config.upstreams.is_empty());
    for upstream in &mut config.upstreams {
        assert!(upstream.seeds.is_empty() == upstream.server.is_some());
        // Rules cannot be taken apart again; how they are read is checked with the addresses.
        upstream.address_map = AddressMap::default();
    }
    let written = write(&config);
    match build(&written, &[], Vec::new()) {
        Ok(again) => assert_eq!(again, config, "{written}"),
        Err(error) => panic!("{error}\n{written}"),
    }
}

/// The configuration as a file, every key of it.
fn write(config: &Config) -> String {
    let mut out = Toml::default();
    out.line("workers", config.workers);
    out.section("[admin]");
    let admin = config.admin.map(|address| address.to_string());
    out.text("listen", admin.as_deref().unwrap_or("off"));
    for listener in &config.listeners {
        let upstream = &config.upstreams[listener.upstream];
        write_listener(&mut out, listener, upstream.name.as_deref());
    }
    if let Some(sentinel) = &config.sentinel {
        out.section("[sentinel]");
        out.text("listen", &sentinel.listen.to_string());
        out.secret("requirepass", sentinel.requirepass.as_ref());
    }
    for upstream in &config.upstreams {
        write_upstream(&mut out, upstream);
    }
    write_limits(&mut out, config);
    out.section("[log]");
    out.text("level", config.log.level.as_str());
    let format = match config.log.format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    out.text("format", format);
    out.section("[shutdown]");
    out.time("drain", config.drain);
    out.0
}

fn write_upstream(out: &mut Toml, upstream: &UpstreamConfig) {
    out.section("[[upstream]]");
    if let Some(name) = &upstream.name {
        out.text("name", name);
    }
    if let Some(server) = &upstream.server {
        out.text("server", &server.to_string());
    } else {
        let seeds = upstream.seeds.iter().map(ToString::to_string);
        out.line("cluster", toml::Value::from(seeds.collect::<Vec<_>>()));
    }
    if let Some(user) = &upstream.user {
        out.text("user", user);
    }
    out.secret("password", upstream.password.as_ref());
    out.line("connections_per_node", upstream.connections_per_node);
    out.time("connect_timeout", upstream.connect_timeout);
    out.time("node_timeout", upstream.node_timeout);
    out.time("refresh_interval", upstream.refresh_interval);
}

fn write_listener(out: &mut Toml, listener: &ListenerConfig, upstream: Option<&str>) {
    out.section("[[listener]]");
    out.text("listen", &listener.listen.to_string());
    if let Some(name) = upstream {
        out.text("upstream", name);
    }
    if let Some(service) = &listener.service {
        out.text("service", service);
    }
    out.secret("requirepass", listener.requirepass.as_ref());
    if let Some(address) = &listener.announce {
        out.text("announce", &address.to_string());
    }
    out.line("cluster_emulation", listener.cluster_emulation);
    out.line("admin_commands", listener.admin_commands);
    out.line("monitor", listener.monitor);
}

fn write_limits(out: &mut Toml, config: &Config) {
    let limits = &config.limits;
    out.section("[limits]");
    out.line("max_clients", limits.max_clients);
    out.line("pipeline_count", limits.pipeline_count);
    out.line("park_count", limits.park_count);
    out.line("park_bytes", limits.park_bytes);
    out.time("park_timeout", limits.park_timeout);
    out.time("request_timeout", limits.request_timeout);
    out.line("client_input_total_bytes", limits.client_input_total_bytes);
    out.line("client_output_bytes", limits.client_output_bytes);
    out.line(
        "client_output_pause_bytes",
        limits.client_output_pause_bytes,
    );
    out.line("max_args_count", limits.max_args_count);
    out.line("max_bulk_bytes", limits.max_bulk_bytes);
    out.line("max_inline_bytes", limits.max_inline_bytes);
    out.line("max_request_bytes", limits.max_request_bytes);
}

/// Lines of a TOML file.
#[derive(Default)]
struct Toml(String);

impl Toml {
    fn section(&mut self, header: &str) {
        self.0.push_str(header);
        self.0.push('\n');
    }

    fn line(&mut self, key: &str, value: impl Display) {
        writeln!(self.0, "{key} = {value}").expect("a String takes everything");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.line(key, toml::Value::from(value));
    }

    fn secret(&mut self, key: &str, value: Option<&Secret>) {
        if let Some(secret) = value {
            self.text(key, secret.expose());
        }
    }

    fn time(&mut self, key: &str, value: Duration) {
        self.text(key, &format!("{}ms", value.as_millis()));
    }
}

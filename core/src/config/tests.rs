//! Tests of the configuration as a whole.

use std::path::Path;

use super::*;

const NO_FILES: &dyn Fn(&str) -> Result<Vec<u8>, String> = &|_| Err("no such file".to_owned());

pub(super) fn build(
    file: &str,
    environment: &[(&str, &str)],
    flags: &[(Flag, &str)],
) -> Result<Config, ConfigError> {
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Config::build(Sources {
        file: Some(("test.toml", file)),
        environment: &environment,
        flags: flags
            .iter()
            .map(|(flag, value)| (*flag, (*value).to_owned()))
            .collect(),
        cores: 3,
        read_secret: &|path| match path {
            "/secret" => Ok(b"from file\r\n".to_vec()),
            "/empty" => Ok(b"\n".to_vec()),
            "/binary" => Ok(vec![0xff, 0xfe]),
            _ => Err("no such file".to_owned()),
        },
    })
}

pub(super) const MINIMAL: &str = "upstream.cluster = ['127.0.0.1:7000']\n";

fn faults(file: &str) -> Vec<String> {
    build(file, &[], &[])
        .unwrap_err()
        .faults
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = build(MINIMAL, &[], &[]).unwrap();
    assert_eq!(config.workers, 3);
    assert_eq!(config.admin.unwrap().to_string(), "127.0.0.1:9379");
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].listen.to_string(), "127.0.0.1:6379");
    assert!(config.listeners[0].cluster_emulation);
    assert_eq!(config.listeners[0].requirepass, None);
    assert_eq!(config.upstreams[0].node_timeout, Duration::from_secs(6));
    assert_eq!(
        config.upstreams[0].refresh_interval,
        Duration::from_secs(30)
    );
    assert_eq!(config.limits.pipeline_count, 256);
    assert_eq!(config.limits.park_bytes, 64 << 20);
    assert_eq!(config.limits.park_timeout, Duration::from_secs(10));
    assert_eq!(config.limits.request_timeout, Duration::from_secs(15));
    assert_eq!(config.limits.client_input_total_bytes, 1 << 30);
    assert_eq!(config.limits.client_output_bytes, 256 << 20);
    assert_eq!(config.limits.client_output_soft_bytes, 64 << 20);
    assert_eq!(
        config.limits.client_output_soft_time,
        Duration::from_secs(60)
    );
    assert_eq!(config.limits.pubsub_output_bytes, 32 << 20);
    assert_eq!(config.limits.pubsub_output_soft_bytes, 8 << 20);
    assert_eq!(config.limits.max_clients, 10_000);
    assert_eq!(config.limits.max_clients_per_ip, 0);
    assert_eq!(config.limits.idle_timeout, Duration::ZERO);
    assert_eq!(config.limits.max_bulk_bytes, 512 << 20);
    assert_eq!(config.drain, Duration::from_secs(10));
}

#[test]
fn flag_wins_over_variable_over_file_over_default() {
    let file = "workers = 4\nupstream.cluster = ['a:1']\nlistener.listen = '127.0.0.1:1'\nlog.level = 'warn'\n";
    let environment = [
        ("SLOTWAY_WORKERS", "5"),
        ("SLOTWAY_LISTEN", "127.0.0.1:2"),
        ("SLOTWAY_LOG_LEVEL", ""),
        ("HOME", "/root"),
    ];
    let config = build(
        file,
        &environment,
        &[(Flag::Workers, "6"), (Flag::Cluster, "b:2, [::1]:3,")],
    )
    .unwrap();
    assert_eq!(config.workers, 6);
    assert_eq!(config.listeners[0].listen.port(), 2);
    assert_eq!(
        config.log.level,
        LogLevel::Warn,
        "an empty variable counts as not set"
    );
    let seeds: Vec<_> = config.upstreams[0]
        .seeds
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(seeds, ["b:2", "[::1]:3"]);
}

#[test]
fn every_key_can_come_from_its_variable() {
    for key in keys::KEYS {
        let value = key.default_text().unwrap_or_else(|| key.example.to_owned());
        let plain = match key.path {
            "upstream.cluster" => "a:1,b:2".to_owned(),
            "upstream.address_map" | "upstream.zones" => "a:1=b:2,c:3=d:4".to_owned(),
            "upstream.sentinels" => "a:1, b:2".to_owned(),
            path if path.ends_with("_file") => "/secret".to_owned(),
            _ => value.trim_matches('"').to_owned(),
        };
        let upstream = match key.path {
            path if path.starts_with("upstream.sentinel") => ("SLOTWAY_UPSTREAM_SENTINELS", "a:1"),
            _ => ("SLOTWAY_CLUSTER", "a:1"),
        };
        let mut environment = vec![upstream, (key.env, plain.as_str())];
        match key.path {
            "upstream.user" => environment.push(("SLOTWAY_UPSTREAM_PASSWORD", "x")),
            "listener.service" | "sentinel.requirepass" | "sentinel.requirepass_file" => {
                environment.push(("SLOTWAY_SENTINEL", "127.0.0.1:2"));
            }
            "listener.upstream" => environment.push(("SLOTWAY_UPSTREAM_NAME", "orders")),
            "upstream.sentinel_user" => {
                environment.push(("SLOTWAY_UPSTREAM_SENTINEL_PASSWORD", "x"));
            }
            _ => {}
        }
        if key.path == "upstream.server" {
            environment.remove(0);
        }
        build("", &environment, &[]).unwrap_or_else(|error| panic!("{}: {error}", key.path));
        let wrong = [upstream, (key.env, "\u{7f} no value of any key")];
        let is_free_text = matches!(key.kind, keys::Kind::Password) || key.path.ends_with("user");
        if !is_free_text {
            let error = build("", &wrong, &[]).unwrap_err();
            assert_eq!(
                error.faults[0].origin,
                Origin::Environment(key.env.to_owned()),
                "{}",
                key.path
            );
        }
    }
}

#[test]
fn all_faults_are_reported_at_once_with_line_value_and_range() {
    let file = "\
workers = 0
wokers = 2
[admin]
listen = 'nine'
[upstream]
cluster = ['redis-1']
node_timeout = 5
reads = 'any'
[limits]
park_bytes = '64MB'
client_output_bytes = '1MiB'
[loging]
[limit]
[log]
level = 'loud'
";
    let faults = faults(file);
    let starts = [
        "test.toml:1: workers = 0 is out of range\n      Allowed: a whole number from 1 to 256.",
        "test.toml:2: wokers is not a known key\n      Did you mean workers?",
        "test.toml:4: admin.listen = \"nine\" is not an IP address with a port",
        "test.toml:6: upstream.cluster = [\"redis-1\"] holds \"redis-1\", which is not an address: no port",
        "test.toml:7: upstream.node_timeout = 5 is not a duration\n      Allowed: a duration from 100ms to 1h, such as \"500ms\"",
        "test.toml:8: upstream.reads is not a known key\n      There is listener.reads. Known here: name, cluster,",
        "test.toml:10: limits.park_bytes = \"64MB\" is not a size\n      Allowed: a size from 0B to 64GiB",
        "test.toml:11: limits.client_output_bytes = \"1MiB\" does not fit: limits.client_output_pause_bytes is greater than limits.client_output_bytes (1MiB)",
        "test.toml:12: loging is not a known key\n      Known here: workers, admin, listener, sentinel, upstream, limits, log, shutdown.",
        "test.toml:13: limit is not a known key\n      Did you mean limits?",
        "test.toml:15: log.level = \"loud\" is not one of the words allowed\n      Allowed: one of error, warn, info, debug, trace.",
    ];
    assert_eq!(faults.len(), starts.len(), "{faults:#?}");
    for (fault, start) in faults.iter().zip(starts) {
        assert!(
            fault.starts_with(start),
            "{fault}\n  does not start\n{start}"
        );
    }
}

#[test]
fn broken_toml_is_reported_with_the_rest() {
    let faults = faults("workers = 9999\nx = = 3\n[limits\n");
    assert!(
        faults
            .iter()
            .any(|fault| fault.starts_with("test.toml:1: workers = 9999 is out of range")),
        "{faults:#?}"
    );
    assert!(
        faults
            .iter()
            .any(|fault| fault.starts_with("test.toml:2: not valid TOML")),
        "{faults:#?}"
    );
    assert!(
        faults
            .iter()
            .any(|fault| fault.starts_with("test.toml:3: not valid TOML")),
        "{faults:#?}"
    );
    assert!(
        !faults.iter().any(|fault| fault.contains("is missing")),
        "it may be in the broken part: {faults:#?}"
    );
}

#[test]
fn missing_cluster_says_how_to_give_one() {
    let faults = faults("");
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].contains("--cluster HOST:PORT") && faults[0].contains("SLOTWAY_CLUSTER"),
        "{faults:?}"
    );
}

#[test]
fn tables_may_be_repeated_where_it_makes_sense() {
    let file = "[[listener]]\nlisten = '127.0.0.1:1'\n[[listener]]\nlisten = '127.0.0.1:2'\nadmin_commands = false\n[upstream]\ncluster = ['a:1']\n";
    let config = build(file, &[], &[]).unwrap();
    let ports: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| (listener.listen.port(), listener.admin_commands))
        .collect();
    assert_eq!(ports, [(1, true), (2, false)]);

    let error = build(
        file,
        &[("SLOTWAY_LISTENER_REQUIREPASS", "hunter2")],
        &[(Flag::Listen, "127.0.0.1:3")],
    )
    .unwrap_err();
    assert_eq!(error.faults.len(), 2, "{error}");
    assert!(
        error
            .to_string()
            .contains("does not say which of the 2 [[listener]] tables it is for"),
        "{error}"
    );
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn two_listeners_cannot_share_an_address() {
    let file = "[[listener]]\nlisten = '127.0.0.1:1'\n[[listener]]\nlisten = '127.0.0.1:1'\n[upstream]\ncluster = ['a:1']\n";
    assert!(faults(file)[0].starts_with(
        "test.toml:4: listener.listen = \"127.0.0.1:1\" is taken by another listener"
    ));
    let admin = "upstream.cluster = ['a:1']\nadmin.listen = '127.0.0.1:6379'\n";
    assert!(faults(admin)[0].contains("is taken by admin.listen"));
    let free_ports = "upstream.cluster = ['a:1']\nadmin.listen = '127.0.0.1:0'\nlistener.listen = '127.0.0.1:0'\n";
    assert!(
        build(free_ports, &[], &[]).is_ok(),
        "port 0 is another port each time"
    );
}

#[test]
fn passwords_come_from_the_value_or_a_file_and_are_never_shown() {
    let config = build(
        &format!("{MINIMAL}listener.requirepass_file = '/secret'\n"),
        &[],
        &[],
    )
    .unwrap();
    assert_eq!(
        config.listeners[0]
            .requirepass
            .as_ref()
            .unwrap()
            .expose()
            .as_ref(),
        "from file"
    );
    assert!(!format!("{config:?}").contains("from file"));

    let both = format!(
        "{MINIMAL}listener.requirepass = 'hunter2'\nlistener.requirepass_file = '/secret'\n"
    );
    let texts = faults(&both);
    assert!(
        texts[0].contains("and so is listener.requirepass_file") && !texts[0].contains("hunter2"),
        "{texts:?}"
    );

    let inline = format!("{MINIMAL}upstream.password = 'inline'\n");
    let config = build(
        &inline,
        &[("SLOTWAY_UPSTREAM_PASSWORD_FILE", "/secret")],
        &[],
    )
    .unwrap();
    assert_eq!(
        config.upstreams[0]
            .password
            .as_ref()
            .unwrap()
            .expose()
            .as_ref(),
        "from file",
        "the higher layer wins"
    );
    let by_file = format!("{MINIMAL}upstream.password_file = '/missing'\n");
    let config = build(&by_file, &[("SLOTWAY_UPSTREAM_PASSWORD", "outside")], &[]).unwrap();
    assert_eq!(
        config.upstreams[0]
            .password
            .as_ref()
            .unwrap()
            .expose()
            .as_ref(),
        "outside"
    );

    assert!(faults(&by_file)[0].contains("cannot be read: no such file"));
    assert!(
        faults(&format!("{MINIMAL}upstream.password_file = '/empty'\n"))[0]
            .contains("holds no password")
    );
    assert!(faults(&format!("{MINIMAL}upstream.user = 'app'\n"))[0].contains("has no password"));
    let number = faults(&format!("{MINIMAL}upstream.password = 12345\n"));
    assert!(
        number[0].contains("is not text") && !number[0].contains("12345"),
        "{number:?}"
    );
}

#[test]
fn address_map_is_read_from_tables() {
    let rules = "[{ from = 'a:1', to = 'b:2' }, { from = '10.0.0.0/8', to = 'gateway' }]";
    let config = build(
        &format!("{MINIMAL}upstream.address_map = {rules}\n"),
        &[],
        &[],
    )
    .unwrap();
    let map = &config.upstreams[0].address_map;
    assert_eq!(map.apply(Address::new("a", 1)), Address::new("b", 2));
    assert_eq!(
        map.apply(Address::new("10.1.2.3", 9)),
        Address::new("gateway", 9)
    );
    for wrong in [
        "[{ from = 'a:1' }]",
        "['a:1']",
        "3",
        "[{ from = 'a:1', to = 'b:x' }]",
        "[{ from = 'a/9', to = 'b' }]",
    ] {
        assert_eq!(
            faults(&format!("{MINIMAL}upstream.address_map = {wrong}\n")).len(),
            1,
            "{wrong}"
        );
    }
}

#[test]
fn mistyped_variables_are_refused_and_foreign_ones_ignored() {
    let error = build(
        MINIMAL,
        &[
            ("SLOTWAY_LIMITS_PARK_BYTE", "1MiB"),
            ("SLOTWAY_UPSTREAM_PASSPHRASE_IN", "hunter2"),
        ],
        &[],
    )
    .unwrap_err();
    assert_eq!(error.faults.len(), 2, "{error}");
    assert!(
        error
            .to_string()
            .contains("Did you mean SLOTWAY_LIMITS_PARK_BYTES?"),
        "{error}"
    );
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let foreign = [
        ("SLOTWAY_SERVICE_HOST", "10.0.0.1"),
        ("SLOTWAY_PORT", "tcp://10.0.0.1:6379"),
        ("SLOTWAY_PORT_6379_TCP_ADDR", "10.0.0.1"),
        ("SLOTWAY_ADMIN_SERVICE_PORT_HTTP", "9379"),
        ("SLOTWAY_TESTS_SERVERS", "/tmp"),
        ("SLOTWAY_BIN", "/tmp/slotway"),
        ("SLOTWAY_CONFIG", "/etc/slotway.toml"),
    ];
    assert!(build(MINIMAL, &foreign, &[]).is_ok());
}

#[test]
fn every_file_in_the_config_folder_is_valid_and_the_reference_is_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let sources = Sources {
            file: Some(("file", &text)),
            environment: &[],
            flags: Vec::new(),
            cores: 2,
            read_secret: NO_FILES,
        };
        Config::build(sources).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        files += 1;
    }
    assert!(files > 0, "no example in {}", folder.display());
    let written = std::fs::read_to_string(folder.join("slotway.toml")).unwrap();
    assert!(
        written == reference(),
        "config/slotway.toml is out of date: slotway check --print-reference > config/slotway.toml"
    );
}

#[test]
fn the_reference_documents_what_the_code_does() {
    let with_reference = build(&reference(), &[], &[]).unwrap();
    let mut with_defaults = build(MINIMAL, &[], &[]).unwrap();
    with_defaults.upstreams[0]
        .seeds
        .clone_from(&with_reference.upstreams[0].seeds);
    with_defaults.upstreams[0]
        .address_map
        .clone_from(&with_reference.upstreams[0].address_map);
    assert_eq!(with_reference, with_defaults);
    // Keys without a default are shown commented out; they must be right too.
    let everything: String = reference()
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|rest| {
                    keys::KEYS
                        .iter()
                        .any(|key| rest.starts_with(&format!("{} = ", key.name())))
                })
                .unwrap_or(line)
        })
        // What is said of a Sentinel needs one.
        .map(|line| match line {
            "listen = \"off\"" => "listen = \"127.0.0.1:26379\"",
            line => line,
        })
        .filter(|line| {
            !line.contains("_file =")
                && !line.starts_with("server =")
                && !line.starts_with("sentinel")
        })
        .fold(String::new(), |text, line| text + line + "\n");
    let config = build(&everything, &[], &[]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.upstreams[0].user.as_deref(), Some("slotway"));
    assert_eq!(config.workers, 2);
    assert!(!config.upstreams[0].address_map.is_empty());
}

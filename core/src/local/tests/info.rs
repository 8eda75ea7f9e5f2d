//! INFO and CONFIG GET.

use std::time::Duration;

use super::fixture::Fixture;
use crate::local::testing::TestEnvironment;
use crate::local::{ClusterEmulation, OutputLimits, Secret};

fn known(env: &mut TestEnvironment) {
    env.upstream.redis_version = Some("7.0.15".into());
    env.upstream.maxmemory_policy = Some("noeviction".into());
    env.upstream.maxmemory = Some(1 << 30);
    env.upstream.keys = Some(1234);
    (env.upstream.nodes, env.upstream.primaries) = (6, 3);
    (env.upstream.generation, env.upstream.uncovered_slots) = (12, 0);
    env.process.run_id = "f".repeat(40).into();
    env.process.process_id = 77;
    env.process.uptime_seconds = 90_000;
    env.process.workers = 2;
    env.process.connected_clients = 3;
    env.process.resident_bytes = Some(7_370_000);
    env.process.cpu_user_micros = Some(1_000_042);
    env.process.commands_processed = Some(99);
}

#[track_caller]
fn text(client: &mut Fixture, line: &str) -> String {
    let reply = client.run(line);
    let (head, body) = reply.split_once("\r\n").unwrap();
    let body = body.strip_suffix("\r\n").unwrap();
    assert_eq!(head, format!("${}", body.len()));
    body.to_owned()
}

#[test]
fn a_section_byte_for_byte() {
    let mut client = Fixture::with(known);
    assert_eq!(
        text(&mut client, "INFO server"),
        format!(
            "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nproxy_name:slotway\r\nproxy_version:1.2.3\r\n\
             arch_bits:64\r\nprocess_id:77\r\nrun_id:{}\r\ntcp_port:6379\r\nserver_time_usec:1700000000000042\r\n\
             uptime_in_seconds:90000\r\nuptime_in_days:1\r\n",
            "f".repeat(40)
        )
    );
    assert_eq!(
        text(&mut client, "INFO Replication"),
        "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"
    );
    assert_eq!(
        text(&mut client, "INFO cpu"),
        "# CPU\r\nused_cpu_user:1.000042\r\n"
    );
    assert_eq!(
        text(&mut client, "INFO keyspace"),
        "# Keyspace\r\ndb0:keys=1234,expires=0,avg_ttl=0\r\n"
    );
    assert_eq!(text(&mut client, "INFO nosuch"), "");
    client.run("HELLO 3");
    assert_eq!(
        client.run("INFO cluster"),
        "=34\r\ntxt:# Cluster\r\ncluster_enabled:0\r\n\r\n"
    );
    assert_eq!(client.run("INFO nosuch"), "=4\r\ntxt:\r\n");
}

#[test]
fn sections_are_separated_and_in_the_servers_order() {
    let mut client = Fixture::with(known);
    let both = text(&mut client, "INFO REPLICATION clients nosuch clients");
    assert_eq!(
        both,
        "# Clients\r\nconnected_clients:3\r\nblocked_clients:0\r\ntracking_clients:0\r\npaused_reason:none\r\n\
         paused_actions:none\r\npaused_timeout_milliseconds:0\r\n\r\n# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"
    );
    let all = text(&mut client, "INFO");
    let titles: Vec<&str> = all
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .collect();
    let expected = [
        "Server",
        "Clients",
        "Memory",
        "Persistence",
        "Stats",
        "Replication",
        "CPU",
        "Cluster",
        "Keyspace",
        "Proxy",
    ];
    assert_eq!(titles, expected);
    for name in ["all", "everything", "DEFAULT"] {
        assert_eq!(text(&mut client, &format!("INFO {name}")), all);
    }
}

/// What ioredis (`loading`), Sidekiq (`redis_version` 7 at least, `maxmemory_policy`), BullMQ (the same two) and health checks
/// (`role`, `redis_mode`) read, each as `name:value` on a line of its own.
#[test]
fn clients_find_what_they_check_at_their_start() {
    let mut client = Fixture::with(known);
    let info = text(&mut client, "INFO");
    for line in [
        "redis_version:7.0.15",
        "redis_mode:standalone",
        "loading:0",
        "role:master",
        "maxmemory_policy:noeviction",
        "cluster_enabled:0",
        "used_memory_human:7.02M",
        "total_commands_processed:99",
        "proxy_nodes:6",
        "proxy_slots_uncovered:0",
    ] {
        assert!(
            info.lines().any(|known| known == line),
            "{line} is not in {info}"
        );
    }
}

#[test]
fn unknown_figures_are_left_out() {
    let mut client = Fixture::new();
    let info = text(&mut client, "INFO");
    assert!(
        info.contains("redis_version:6.2.0\r\n"),
        "the oldest supported release until a server was met"
    );
    for absent in [
        "maxmemory_policy",
        "used_memory",
        "Keyspace",
        "total_commands_processed",
        "valkey_version",
        "None",
    ] {
        assert!(!info.contains(absent), "{absent} in {info}");
    }
}

#[test]
fn valkey_and_the_emulated_cluster_are_named() {
    let mut client = Fixture::with(|env| {
        env.upstream.redis_version = Some("7.2.4".into());
        env.upstream.valkey_version = Some("9.1.2".into());
        env.listener.cluster = ClusterEmulation::Full;
    });
    let info = text(&mut client, "INFO server cluster");
    for line in [
        "redis_version:7.2.4",
        "server_name:valkey",
        "valkey_version:9.1.2",
        "redis_mode:cluster",
        "cluster_enabled:1",
    ] {
        assert!(
            info.lines().any(|known| known == line),
            "{line} is not in {info}"
        );
    }
}

#[test]
fn config_get_by_name_and_by_pattern() {
    let mut client = Fixture::with(known);
    assert_eq!(client.run("CONFIG GET nosuch"), "*0\r\n");
    assert_eq!(
        client.run("CONFIG GET timeout"),
        "*2\r\n$7\r\ntimeout\r\n$1\r\n0\r\n"
    );
    assert_eq!(
        client.run("CONFIG GET TIMEOUT"),
        "*2\r\n$7\r\nTIMEOUT\r\n$1\r\n0\r\n",
        "as asked for"
    );
    assert_eq!(
        client.run("CONFIG GET TIME?UT"),
        "*2\r\n$7\r\ntimeout\r\n$1\r\n0\r\n"
    );
    assert_eq!(
        client.run("CONFIG GET save"),
        "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"
    );
    assert_eq!(
        client.run("CONFIG GET maxmemory* *memory-policy"),
        "*4\r\n$9\r\nmaxmemory\r\n$10\r\n1073741824\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n"
    );
    assert_eq!(
        client.run("CONFIG GET *-read-only"),
        "*4\r\n$17\r\nreplica-read-only\r\n$3\r\nyes\r\n$15\r\nslave-read-only\r\n$3\r\nyes\r\n"
    );
    assert_eq!(
        client.run("CONFIG GET"),
        "-ERR wrong number of arguments for 'config|get' command\r\n"
    );
    client.run("HELLO 3");
    assert_eq!(
        client.run("CONFIG GET databases"),
        "%1\r\n$9\r\ndatabases\r\n$1\r\n1\r\n"
    );
    assert_eq!(client.run("CONFIG GET nosuch"), "%0\r\n");
}

#[test]
fn config_get_has_what_clients_probe() {
    let mut client = Fixture::new();
    for name in [
        "timeout",
        "databases",
        "replica-read-only",
        "slave-read-only",
        "save",
        "appendonly",
        "notify-keyspace-events",
        "cluster-enabled",
        "proto-max-bulk-len",
    ] {
        assert!(
            client
                .run(&format!("CONFIG GET {name}"))
                .starts_with("*2\r\n"),
            "{name}"
        );
    }
    assert_eq!(
        client.run("CONFIG GET maxmemory-policy"),
        "*0\r\n",
        "not known yet"
    );
}

#[test]
fn config_get_shows_the_limits_as_the_servers_word_them() {
    let mut client = Fixture::with(|env| {
        env.process.max_clients = Some(10_000);
        env.process.idle_timeout = Duration::from_millis(1500);
        env.process.output_limits = Some(OutputLimits {
            hard_bytes: 256 << 20,
            soft_bytes: 64 << 20,
            soft_time: Duration::from_secs(60),
            pause_bytes: 1 << 20,
            pubsub_hard_bytes: 32 << 20,
            pubsub_soft_bytes: 8 << 20,
        });
    });
    for (name, value) in [
        ("maxclients", "10000"),
        ("timeout", "2"),
        (
            "client-output-buffer-limit",
            "normal 268435456 67108864 60 slave 0 0 0 pubsub 33554432 8388608 60",
        ),
    ] {
        assert_eq!(
            client.run(&format!("CONFIG GET {name}")),
            format!(
                "*2\r\n${}\r\n{name}\r\n${}\r\n{value}\r\n",
                name.len(),
                value.len()
            )
        );
    }
}

#[test]
fn z7_config_get_shows_no_password() {
    let mut client = Fixture::with(|env| env.listener.passwords = vec![Secret::new(b"hunter2")]);
    assert!(!client.run("CONFIG GET *").contains("hunter2"));
    assert_eq!(client.run("CONFIG GET requirepass"), "*0\r\n");
}

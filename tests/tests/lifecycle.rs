//! Start, readiness, admin endpoints and the end of the proxy.

use anyhow::{Context, Result, ensure};
use harness::{
    Cluster, Load, LoadOptions, Proxy, Reply, Version, http_get, key_in_slot, tool, wait_some,
    wait_until,
};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

harness::on_full_matrix!(
    starts_before_the_cluster_exists,
    starts_with_listed_nodes_down,
    starts_while_half_of_the_slots_are_assigned,
    drain_answers_what_is_in_flight,
    drain_under_load_loses_nothing,
    drain_is_bounded_and_a_second_signal_ends_it,
    admin_endpoints_answer,
    metrics_follow_the_traffic,
);

/// [R14] [R55]: everything down at first; requests that came early are answered when the cluster is there.
fn starts_before_the_cluster_exists(version: Version) -> Result<()> {
    let mut cluster = Cluster::new(version).start()?;
    for node in 0..cluster.nodes().len() {
        cluster.node_mut(node)?.kill()?;
    }
    let mut proxy = Proxy::new(&cluster).launch()?;
    let mut early = wait_some(Duration::from_secs(5), "the proxy listens", || {
        Ok(proxy.conn().ok())
    })?;
    ensure!(proxy.get("/healthz")?.status == 200);
    ensure!(proxy.get("/readyz")?.status == 503);
    assert_eq!(early.must("PING")?.text()?, "PONG");
    early.send(&["SET", "early", "v"])?;
    for node in 0..cluster.nodes().len() {
        cluster.node_mut(node)?.restart()?;
    }
    proxy.wait_ready(Duration::from_secs(15))?;
    ensure!(early.read()?.is_ok(), "the early request was lost");
    assert_eq!(early.must("GET early")?.text()?, "v");
    Ok(())
}

/// [R14]: one listed node down, the first or any other.
fn starts_with_listed_nodes_down(version: Version) -> Result<()> {
    let mut cluster = Cluster::new(version).start()?;
    let dead = cluster.replica_of(0)?;
    cluster.node_mut(dead)?.kill()?;
    let mut seeds = cluster.seeds();
    for position in [0, 3] {
        let at = seeds
            .iter()
            .position(|seed| *seed == cluster.seeds()[dead])
            .context("no such seed")?;
        seeds.swap(at, position);
        let started = Instant::now();
        let proxy = Proxy::new(&cluster).seeds(&seeds).start()?;
        ensure!(
            started.elapsed() < Duration::from_secs(4),
            "ready after {:?}",
            started.elapsed()
        );
        ensure!(proxy.conn()?.call(&["SET", "k", "v"])?.is_ok());
    }
    Ok(())
}

/// [R15]
fn starts_while_half_of_the_slots_are_assigned(version: Version) -> Result<()> {
    let coverage = ("cluster-require-full-coverage", "no");
    let cluster = Cluster::new(version)
        .primaries(2)
        .replicas(0)
        .setting(coverage.0, coverage.1)
        .start_unformed()?;
    cluster.set_epochs_and_meet()?;
    cluster.give_slots(0, cluster.initial_slots(0))?;
    cluster.wait_everybody_connected()?;
    wait_until(Duration::from_secs(20), "the half cluster is ok", || {
        Ok(cluster.node(0)?.info_cluster("cluster_state")? == "ok")
    })?;
    let proxy = Proxy::new(&cluster).launch()?;
    let mut conn = wait_some(Duration::from_secs(5), "the proxy listens", || {
        Ok(proxy.conn().ok())
    })?;
    ensure!(conn.call(&["SET", &key_in_slot(1, 1), "v"])?.is_ok());
    ensure!(
        proxy.get("/readyz")?.status == 503,
        "ready with uncovered slots"
    );
    let uncovered = proxy.metric("slotway_topology_uncovered_slots")?;
    assert!(
        (uncovered - 8192.0).abs() < 0.5,
        "{uncovered} slots uncovered"
    );
    let refused = conn.call(&["SET", &key_in_slot(16_000, 1), "v"])?;
    ensure!(
        refused
            .error()
            .is_some_and(|text| text.starts_with("CLUSTERDOWN ")),
        "{refused:?}"
    );
    cluster.give_slots(1, cluster.initial_slots(1))?;
    cluster.wait_ok()?;
    wait_until(Duration::from_secs(10), "the new slots are served", || {
        Ok(conn.call(&["SET", &key_in_slot(16_000, 1), "v"])?.is_ok())
    })?;
    ensure!(proxy.get("/readyz")?.status == 200);
    Ok(())
}

/// [R54] [D12]: readiness goes first, what is in flight is answered, then the end, in order.
fn drain_answers_what_is_in_flight(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let mut proxy = Proxy::new(&cluster).start()?;
    let mut busy = proxy.conn()?;
    let mut idle = proxy.conn()?;
    idle.must("PING")?;
    busy.call(&["SET", &key_in_slot(0, 1), "v"])?;
    cluster.node(0)?.freeze()?;
    for _ in 0..10 {
        busy.send(&["GET", &key_in_slot(0, 1)])?;
    }
    let in_flight = || proxy.metric("slotway_requests_in_flight");
    wait_until(Duration::from_secs(5), "the requests are in flight", || {
        Ok(in_flight()? > 9.5)
    })?;
    proxy.terminate()?;
    wait_until(Duration::from_secs(5), "readiness is off", || {
        Ok(proxy.get("/readyz")?.status == 503)
    })?;
    ensure!(proxy.get("/healthz")?.status == 200, "liveness is off");
    ensure!(idle.read_to_close()?.is_empty(), "an idle client got bytes");
    wait_until(Duration::from_secs(5), "new clients are refused", || {
        Ok(proxy.conn().is_err())
    })?;
    ensure!(proxy.is_running());
    cluster.node(0)?.thaw()?;
    for reply in busy.read_many(10)? {
        assert_eq!(reply.text()?, "v");
    }
    ensure!(busy.read_to_close()?.is_empty());
    let status = proxy.wait_for_exit(Duration::from_secs(5))?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// [scenario 118]: every request that was answered was executed, and every one executed is answered or cut off, once.
fn drain_under_load_loses_nothing(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let mut proxy = Proxy::new(&cluster).start()?;
    let readers: Vec<_> = (0..8)
        .map(|n| {
            let mut conn = proxy.conn()?;
            Ok(std::thread::spawn(move || -> Result<i64> {
                let command = harness::encode(&["INCR", &format!("drain:{n}")]).repeat(20);
                let mut last = 0;
                // Ends with the connection; a reply cut in half would be an error of the parser.
                while conn.send_raw(&command).is_ok() {
                    for _ in 0..20 {
                        let Ok(reply) = conn.read() else {
                            return Ok(last);
                        };
                        let value = reply.int()?;
                        ensure!(value == last + 1, "counter {n} went from {last} to {value}");
                        last = value;
                    }
                }
                Ok(last)
            }))
        })
        .collect::<Result<_>>()?;
    let mut watch = cluster.node(0)?.conn()?;
    let slot_key = (0..8)
        .map(|n| format!("drain:{n}"))
        .find(|key| harness::slot_of(key.as_bytes()) < 5461);
    let slot_key = slot_key.context("no counter at node 0")?;
    wait_until(Duration::from_secs(10), "the load runs", || {
        Ok(watch.call(&["GET", &slot_key])?.text()?.parse::<i64>()? > 100)
    })?;
    proxy.terminate()?;
    let status = proxy.wait_for_exit(Duration::from_secs(12))?;
    ensure!(status.success(), "{status}");
    for (n, reader) in readers.into_iter().enumerate() {
        let last = reader.join().ok().context("a reader panicked")??;
        let key = format!("drain:{n}");
        let owner = cluster.primary_of(harness::slot_of(key.as_bytes()))?;
        let stored: i64 = cluster
            .node(owner)?
            .must(&format!("GET {key}"))?
            .text()?
            .parse()?;
        ensure!(
            stored == last,
            "counter {n} is {stored}, but the last reply was {last}"
        );
    }
    Ok(())
}

/// [R54]
fn drain_is_bounded_and_a_second_signal_ends_it(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    for second_signal in [false, true] {
        let drain = if second_signal { "60s" } else { "1s" };
        let config = format!("[shutdown]\ndrain = \"{drain}\"\n");
        let mut proxy = Proxy::new(&cluster).config(&config).start()?;
        let mut conn = proxy.conn()?;
        cluster.node(0)?.freeze()?;
        conn.send(&["GET", &key_in_slot(0, 1)])?;
        let in_flight = || proxy.metric("slotway_requests_in_flight");
        wait_until(Duration::from_secs(5), "the request is in flight", || {
            Ok(in_flight()? > 0.5)
        })?;
        proxy.terminate()?;
        wait_until(Duration::from_secs(5), "the signal was seen", || {
            Ok(proxy.get("/readyz")?.status == 503)
        })?;
        if second_signal {
            proxy.terminate()?;
        }
        proxy
            .wait_for_exit(Duration::from_secs(4))
            .with_context(|| format!("second: {second_signal}"))?;
        cluster.node(0)?.thaw()?;
    }
    Ok(())
}

fn admin_endpoints_answer(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    for (path, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/topology", 200),
        ("/none", 404),
    ] {
        let reply = http_get(proxy.admin(), path)?;
        assert_eq!(reply.status, status, "{path}: {}", reply.body);
    }
    let topology = proxy.get("/topology")?;
    ensure!(
        topology
            .head
            .to_lowercase()
            .contains("content-type: application/json"),
        "{}",
        topology.head
    );
    let parsed: serde_json::Value = serde_json::from_str(&topology.body)?;
    let text = parsed.to_string();
    for node in 0..cluster.nodes().len() {
        ensure!(
            text.contains(cluster.id(node)?),
            "node {node} is not in /topology"
        );
        ensure!(
            text.contains(&cluster.node(node)?.address().to_string()),
            "address of node {node}"
        );
    }
    check_with_promtool(&proxy.get("/metrics")?.body)
}

/// Where promtool is. Outside of CI a machine without root need not have it; everything else is checked.
fn promtool() -> Result<Option<PathBuf>> {
    match tool("promtool") {
        Err(error) if std::env::var_os("SLOTWAY_REQUIRE_ALL").is_some() => Err(error),
        found => Ok(found.ok()),
    }
}

/// The alerts fire when they should, and only then.
#[test]
fn alerting_rules_pass_their_tests() -> Result<()> {
    let Some(promtool) = promtool()? else {
        return Ok(());
    };
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus");
    let output = Command::new(promtool)
        .args(["test", "rules", "alerts_test.yml"])
        .current_dir(rules)
        .output()?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(
        output.status.success(),
        "promtool: {}",
        String::from_utf8_lossy(&said)
    );
    Ok(())
}

/// `promtool check metrics` must have nothing to say.
fn check_with_promtool(metrics: &str) -> Result<()> {
    let Some(promtool) = promtool()? else {
        return Ok(());
    };
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("no standard input")?
        .write_all(metrics.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(
        output.status.success(),
        "promtool: {}",
        String::from_utf8_lossy(&said)
    );
    Ok(())
}

fn metrics_follow_the_traffic(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let load = Load::start(
        proxy.address(),
        &LoadOptions {
            keys: 20,
            ..LoadOptions::default()
        },
    )?;
    load.wait_for(2_000)?;
    let during = proxy.metrics()?;
    assert!((during.sum("slotway_downstream_connections", &[]) - 16.0).abs() < 0.5);
    load.stop()?.ensure_flawless()?;
    let mut conn = proxy.conn()?;
    let before = proxy.metrics()?;
    for _ in 0..7 {
        conn.must("SET counted 1")?;
    }
    conn.line("GET")?;
    conn.line("LPUSH counted x")?;
    ensure!(conn.line("MGET a b c d")? != Reply::Nil);
    let after = proxy.metrics()?;
    let grown =
        |name: &str, labels: &[(&str, &str)]| after.sum(name, labels) - before.sum(name, labels);
    let is = |value: f64, expected: f64| (value - expected).abs() < 0.5;
    ensure!(is(
        grown("slotway_commands_total", &[("command", "set")]),
        7.0
    ));
    ensure!(is(
        grown("slotway_commands_total", &[("command", "lpush")]),
        1.0
    ));
    ensure!(
        is(grown("slotway_commands_total", &[]), 10.0),
        "{}",
        grown("slotway_commands_total", &[])
    );
    ensure!(is(grown("slotway_requests_split_total", &[]), 1.0));
    ensure!(grown("slotway_downstream_read_bytes_total", &[]) > 200.0);
    ensure!(is(
        grown("slotway_request_duration_seconds_count", &[]),
        10.0
    ));
    ensure!(is(after.sum("slotway_ready", &[]), 1.0));
    ensure!(is(after.sum("slotway_node_up", &[]), 3.0));
    ensure!(is(after.sum("slotway_requests_in_flight", &[]), 0.0));
    Ok(())
}

//! Primaries that change, die, hang or come back elsewhere, under a steady load of 16 pipelining connections that check every
//! reply. R-numbers are the known faults of other proxies that must not happen here.

use anyhow::{Context, Result, ensure};
use harness::{
    Cluster, FaultProxy, Load, LoadOptions, LoadReport, Proxy, SlotRange, Version, key_in_slot,
    slot_of, wait_until,
};
use std::time::{Duration, Instant};

harness::on_full_matrix!(
    cluster_failover_shows_no_error,
    a_killed_primary_costs_only_what_was_written_to_it,
    a_failover_right_before_the_death_of_the_old_primary,
    a_killed_primary_comes_back_as_a_replica,
    each_node_in_turn_on_another_ip,
    all_nodes_at_once_on_other_ips,
    a_frozen_primary_holds_up_only_its_own_shard,
    a_busy_node_is_not_taken_for_a_dead_one_hl2,
    a_reset_node_does_not_empty_the_table,
);

fn shards(cluster: &Cluster) -> Vec<SlotRange> {
    (0..cluster.primaries())
        .map(|shard| cluster.initial_slots(shard))
        .collect()
}

/// 16 connections over all slots, watched by shard.
fn steady(cluster: &Cluster, proxy: &Proxy) -> Result<Load> {
    let options = LoadOptions {
        groups: shards(cluster),
        ..LoadOptions::default()
    };
    let load = Load::start(proxy.address(), &options)?;
    load.wait_for(2_000)?;
    Ok(load)
}

/// Every error must be UNCERTAIN, for a write to one of these slots, or for a read that such a write may have overtaken.
fn ensure_only_uncertain_writes(report: &LoadReport, slots: &[SlotRange]) -> Result<()> {
    for error in &report.errors {
        let ours = slots.iter().any(|range| range.contains(&error.slot));
        let written = !["GET", "MGET"].contains(&error.command.as_str()) || error.overtaken;
        ensure!(
            ours && written && error.text.starts_with("UNCERTAIN proxy: "),
            "slot {}: {} -> {}; {}",
            error.slot,
            error.command,
            error.text,
            report.error_summary()
        );
    }
    Ok(())
}

/// CLUSTER FAILOVER of every shard, there and back within one refresh interval [R12].
fn cluster_failover_shows_no_error(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let load = steady(&cluster, &proxy)?;
    for shard in 0..cluster.primaries() {
        for _ in 0..2 {
            let primary = cluster.primary_of(*cluster.initial_slots(shard).start())?;
            cluster.failover(cluster.replica_of(primary)?)?;
            load.wait_for(1_000)?;
        }
    }
    load.stop()?.ensure_flawless()
}

/// `kill -9`: only requests already written to the dead node may fail; its slots are served within a second of the promotion.
fn a_killed_primary_costs_only_what_was_written_to_it(version: Version) -> Result<()> {
    let mut cluster = Cluster::new(version).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let load = steady(&cluster, &proxy)?;
    let killed_at = Instant::now();
    let (_, replica) = cluster.kill_primary_of(0)?;
    let promoted_at = cluster.wait_promoted(replica)?;
    load.wait_for(5_000)?;
    let report = load.stop()?;
    report.ensure_no_violations()?;
    ensure_only_uncertain_writes(&report, &[cluster.initial_slots(0)])?;
    ensure!(
        report.errors.len() <= 16 * 16,
        "more errors than requests were under way: {}",
        report.error_summary()
    );
    let served = report
        .served_again(0, killed_at)
        .context("no client noticed the death")?;
    let after = served.saturating_duration_since(promoted_at);
    ensure!(
        after <= Duration::from_secs(1),
        "served again {after:?} after the promotion"
    );
    Ok(())
}

/// [R10]: the proxy hears of the failover and of the death at the same time.
fn a_failover_right_before_the_death_of_the_old_primary(version: Version) -> Result<()> {
    let mut cluster = Cluster::new(version).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let mut conn = proxy.conn()?;
    let key = key_in_slot(0, 1);
    ensure!(conn.call(&["SET", &key, "v"])?.is_ok());
    let primary = cluster.primary_of(0)?;
    cluster.failover(cluster.replica_of(primary)?)?;
    cluster.node_mut(primary)?.kill()?;
    let started = Instant::now();
    assert_eq!(conn.call(&["GET", &key])?.text()?, "v");
    ensure!(conn.call(&["SET", &key, "w"])?.is_ok());
    ensure!(
        started.elapsed() < Duration::from_secs(3),
        "took {:?}",
        started.elapsed()
    );
    Ok(())
}

/// [R11]
fn a_killed_primary_comes_back_as_a_replica(version: Version) -> Result<()> {
    let mut cluster = Cluster::new(version).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let load = steady(&cluster, &proxy)?;
    for _ in 0..2 {
        let (killed, replica) = cluster.kill_primary_of(0)?;
        cluster.wait_promoted(replica)?;
        load.wait_for(1_000)?;
        cluster.node_mut(killed)?.restart()?;
        cluster.wait_ok()?;
        cluster.wait_synced(killed)?;
        load.wait_for(1_000)?;
    }
    let report = load.stop()?;
    report.ensure_no_violations()?;
    ensure_only_uncertain_writes(&report, &[cluster.initial_slots(0)])
}

/// [R13]: a pod comes back with another IP, one after the other; the old addresses are forgotten.
fn each_node_in_turn_on_another_ip(version: Version) -> Result<()> {
    let mut cluster = Cluster::new(version).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let load = steady(&cluster, &proxy)?;
    let old: Vec<String> = cluster.seeds().iter().map(ToString::to_string).collect();
    let mut moves = Vec::new();
    for node in 0..cluster.nodes().len() {
        let killed_at = Instant::now();
        cluster.node_mut(node)?.kill()?;
        cluster.node_mut(node)?.restart_elsewhere()?;
        let ok_at = cluster.wait_ok()?;
        moves.push((killed_at, ok_at));
        cluster.wait_replicas_synced()?;
        load.wait_for(1_000)?;
    }
    wait_until(
        Duration::from_secs(35),
        "the old addresses vanish from the metrics",
        || {
            let known = proxy.metrics()?.label_values("address");
            ensure!(
                known.iter().all(|address| !old.contains(address)),
                "known: {known:?}"
            );
            Ok(true)
        },
    )?;
    let report = load.stop()?;
    report.ensure_no_violations()?;
    ensure_only_uncertain_writes(&report, &shards(&cluster))?;
    for (node, (killed_at, ok_at)) in moves.iter().enumerate() {
        let in_time = |until: Instant| until <= *ok_at + Duration::from_secs(2);
        let late = report
            .gaps
            .iter()
            .find(|gap| gap.from <= *ok_at && gap.until > *killed_at && !in_time(gap.until));
        ensure!(
            late.is_none(),
            "node {node}: a shard was served late: {late:?}, cluster ok at {ok_at:?}"
        );
    }
    Ok(())
}

/// [R13]: no known address is left; the seed, like a service name, leads to one of the new ones.
fn all_nodes_at_once_on_other_ips(version: Version) -> Result<()> {
    let mut cluster = Cluster::new(version).start()?;
    let service = FaultProxy::start(cluster.node(0)?.address())?;
    let proxy = Proxy::with_seeds(&[service.address()]).start()?;
    let mut conn = proxy.conn()?;
    for slot in [0, 8_000, 16_000] {
        ensure!(conn.call(&["SET", &key_in_slot(slot, 1), "v"])?.is_ok());
    }
    for node in 0..cluster.nodes().len() {
        cluster.node_mut(node)?.kill()?;
    }
    for node in 0..cluster.nodes().len() {
        cluster.node_mut(node)?.restart_elsewhere()?;
    }
    service.set_target(cluster.node(3)?.address());
    cluster.meet_all()?;
    let ok_at = cluster.wait_ok()?;
    for slot in [0, 8_000, 16_000] {
        let key = key_in_slot(slot, 2);
        wait_until(Duration::from_secs(5), "the slots are served again", || {
            Ok(conn.call(&["SET", &key, "w"])?.is_ok())
        })?;
    }
    ensure!(
        ok_at.elapsed() < Duration::from_secs(2),
        "served {:?} after the cluster was ok",
        ok_at.elapsed()
    );
    Ok(())
}

/// `kill -STOP`: the kernel still accepts connections and bytes for the node. Other shards are served as if nothing was.
fn a_frozen_primary_holds_up_only_its_own_shard(version: Version) -> Result<()> {
    let cluster = Cluster::new(version)
        .setting("cluster-require-full-coverage", "no")
        .start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let all = shards(&cluster);
    let others = LoadOptions {
        slots: all[1..].to_vec(),
        groups: all.clone(),
        ..LoadOptions::default()
    };
    let own = LoadOptions {
        slots: all[..1].to_vec(),
        groups: all.clone(),
        connections: 4,
        ..LoadOptions::default()
    };
    let others = Load::start(proxy.address(), &others)?;
    let own = Load::start(proxy.address(), &own)?;
    others.wait_for(2_000)?;
    own.wait_for(500)?;
    let primary = cluster.primary_of(0)?;
    let replica = cluster.replica_of(primary)?;
    cluster.wait_synced(replica)?;
    cluster.node(primary)?.freeze()?;
    let promoted_at = cluster.wait_promoted(replica)?;
    own.wait_for(500)?;
    let back = promoted_at.elapsed();
    others.wait_for(2_000)?;
    cluster.node(primary)?.thaw()?;
    cluster.wait_ok()?;
    own.wait_for(500)?;
    let others = others.stop()?;
    others.ensure_flawless()?;
    for group in [1, 2] {
        let gap = others.longest_gap(group);
        ensure!(
            gap < Duration::from_millis(500),
            "shard {group} paused for {gap:?}"
        );
    }
    let own = own.stop()?;
    own.ensure_no_violations()?;
    ensure_only_uncertain_writes(&own, &all[..1])?;
    // What was written to the frozen node waits until another one has its slots; the cluster needs about 3 s to promote.
    ensure!(
        back < Duration::from_secs(6),
        "the frozen shard was back {back:?} after the promotion"
    );
    Ok(())
}

/// Servers pause writes around a manual failover, and answer only BUSY while a script runs for long.
fn a_busy_node_is_not_taken_for_a_dead_one_hl2(version: Version) -> Result<()> {
    let cluster = Cluster::new(version)
        .setting("lua-time-limit", "300")
        .start()?;
    let config = "[upstream]\nnode_timeout = \"1s\"\n";
    let proxy = Proxy::new(&cluster).config(config).start()?;
    let mut conn = proxy.conn()?;
    let key = key_in_slot(0, 1);
    let primary = cluster.node(cluster.primary_of(0)?)?;
    let ensure_slow = |started: Instant| {
        let took = started.elapsed();
        ensure!(
            took > Duration::from_secs(2),
            "was not held up, took {took:?}"
        );
        Ok(())
    };

    let started = Instant::now();
    primary.must("CLIENT PAUSE 3000 WRITE")?;
    let reply = conn.call(&["SET", &key, "v"])?;
    ensure!(reply.is_ok(), "{reply:?}");
    ensure_slow(started)?;

    let started = Instant::now();
    let script = "local start = redis.call('TIME')[1]
        repeat until redis.call('TIME')[1] - start >= 4
        return redis.call('SET', KEYS[1], 'w')";
    let reply = conn.call(&["EVAL", script, "1", &key])?;
    ensure!(reply.is_ok(), "{reply:?}");
    ensure_slow(started)?;
    let lost = proxy.metric("slotway_upstream_connections_lost_total")?;
    ensure!(lost < 0.5, "{lost} connections were given up");
    Ok(())
}

/// [R16]: a node that forgot the cluster shows an empty table; it is asked first.
fn a_reset_node_does_not_empty_the_table(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).start()?;
    let replica = cluster.replica_of(0)?;
    let mut seeds = cluster.seeds();
    seeds.swap(0, replica);
    let config = "[upstream]\nrefresh_interval = \"1s\"\n";
    let proxy = Proxy::new(&cluster).seeds(&seeds).config(config).start()?;
    let load = steady(&cluster, &proxy)?;
    cluster.node(replica)?.must("CLUSTER RESET SOFT")?;
    let refreshes = || proxy.metric("slotway_topology_refreshes_total");
    let before = refreshes()?;
    wait_until(
        Duration::from_secs(30),
        "the topology was asked for several times",
        || Ok(refreshes()? >= before + 5.0),
    )?;
    ensure!(proxy.get("/readyz")?.status == 200);
    assert!(proxy.metric("slotway_topology_uncovered_slots")? < 0.5);
    load.stop()?.ensure_flawless()?;
    // Started now, with that node first: the others' word counts.
    let proxy = Proxy::new(&cluster).seeds(&seeds).start()?;
    let mut conn = proxy.conn()?;
    ensure!(
        conn.call(&["SET", "k", "v"])?.is_ok(),
        "slot {}",
        slot_of(b"k")
    );
    Ok(())
}

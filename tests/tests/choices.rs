//! What operators may choose where no answer is right for everybody: splitting, fan-outs of a part, writes whose fate is unknown,
//! slots that nobody owns.
//! Rules in brackets are those of the contract; the defaults are tested where the behaviour is.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Proxy, ProxyOptions, Version, key_in_slot, wait_some, wait_until};
use std::time::{Duration, Instant};

harness::on_full_matrix!(
    without_splitting_keys_of_several_slots_are_refused,
    fan_outs_without_full_coverage,
    fan_outs_without_a_shard,
    idempotent_writes_are_sent_again,
    an_unknown_fate_closes_the_connection,
    a_slot_that_nobody_owns_is_refused_or_waited_for,
    a_cluster_without_any_slot_says_so,
);

/// [P2]
fn without_splitting_keys_of_several_slots_are_refused(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster)
        .environment("SLOTWAY_LISTENER_SPLIT", "false")
        .start()?;
    let mut conn = proxy.conn()?;
    // The cluster itself refuses the same commands with the same words.
    let mut direct = cluster.node(0)?.conn()?;
    for command in [
        "MGET a b",
        "MSET a 1 b 2",
        "DEL a b",
        "UNLINK a b",
        "EXISTS a b a",
        "TOUCH a b",
    ] {
        let refused = conn.line(command)?;
        ensure!(refused.error().is_some(), "{command}: {refused:?}");
        assert_eq!(refused, direct.line(command)?, "{command}");
    }
    ensure!(conn.must("MSET {t}a 1 {t}b 2")?.is_ok());
    assert_eq!(conn.must("MGET {t}a {t}b")?.texts()?, ["1", "2"]);
    assert_eq!(conn.must("DBSIZE")?.int()?, 2, "fan-outs are no splitting");
    Ok(())
}

/// A cluster of which only the first of two nodes has slots.
fn half_a_cluster(version: Version) -> Result<Cluster> {
    let cluster = Cluster::new(version)
        .primaries(2)
        .replicas(0)
        .setting("cluster-require-full-coverage", "no")
        .start_unformed()?;
    cluster.set_epochs_and_meet()?;
    cluster.give_slots(0, cluster.initial_slots(0))?;
    cluster.wait_everybody_connected()?;
    wait_until(Duration::from_secs(20), "the half cluster is ok", || {
        Ok(cluster.node(0)?.info_cluster("cluster_state")? == "ok")
    })?;
    Ok(cluster)
}

/// A proxy that never becomes ready, with a client of it.
fn unready(options: &ProxyOptions) -> Result<(Conn, Proxy)> {
    let proxy = options.launch()?;
    let conn = wait_some(Duration::from_secs(5), "the proxy listens", || {
        Ok(proxy.conn().ok())
    })?;
    Ok((conn, proxy))
}

/// [T12]
fn fan_outs_without_full_coverage(version: Version) -> Result<()> {
    let cluster = half_a_cluster(version)?;
    let full = "SLOTWAY_LISTENER_FANOUT_REQUIRES_FULL_COVERAGE";
    let (mut conn, _strict) = unready(&Proxy::new(&cluster))?;
    ensure!(conn.call(&["SET", &key_in_slot(1, 1), "v"])?.is_ok());
    let refused = Some("CLUSTERDOWN proxy: 8192 slots not covered");
    assert_eq!(conn.line("DBSIZE")?.error(), refused);
    assert_eq!(conn.line("FLUSHALL")?.error(), refused);
    let (mut conn, _lenient) = unready(&Proxy::new(&cluster).environment(full, "false"))?;
    assert_eq!(conn.must("DBSIZE")?.int()?, 1);
    assert_eq!(conn.must("KEYS *")?.texts()?, [key_in_slot(1, 1)]);
    ensure!(conn.must("FLUSHALL")?.is_ok());
    assert_eq!(conn.must("DBSIZE")?.int()?, 0);
    Ok(())
}

/// [Q2]
fn fan_outs_without_a_shard(version: Version) -> Result<()> {
    let mut cluster = Cluster::new(version)
        .replicas(0)
        .setting("cluster-require-full-coverage", "no")
        .start()?;
    let config = |partial: bool| {
        format!("limits.park_timeout = '1s'\n[[listener]]\nfanout_partial = {partial}\n")
    };
    let whole = Proxy::new(&cluster).config(&config(false)).start()?;
    let partial = Proxy::new(&cluster).config(&config(true)).start()?;
    let mut conns = [whole.conn()?, partial.conn()?];
    for shard in 0..3 {
        let key = key_in_slot(*cluster.initial_slots(shard).start(), 1);
        conns[0].call(&["SET", &key, "v"])?;
    }
    for conn in &mut conns {
        assert_eq!(conn.must("DBSIZE")?.int()?, 3);
    }
    cluster.node_mut(1)?.kill()?;
    let shard = cluster.id(1)?.get(..8).context("an id")?;
    let expected = format!("CLUSTERDOWN proxy: shard {shard} unreachable, reply incomplete");
    for command in ["DBSIZE", "KEYS *"] {
        assert_eq!(conns[0].line(command)?.error(), Some(expected.as_str()));
    }
    assert_eq!(conns[1].must("DBSIZE")?.int()?, 2);
    assert_eq!(conns[1].must("KEYS *")?.texts()?.len(), 2);
    let counted = partial
        .metrics()?
        .sum("slotway_commands_total", &[("outcome", "partial")]);
    assert!((counted - 2.0).abs() < 0.5, "{counted} counted as partial");
    let flush = conns[1].line("FLUSHALL")?;
    ensure!(
        flush.error().is_some(),
        "what changes data is never done for a part: {flush:?}"
    );
    Ok(())
}

/// Sends a write to a node that hangs, and kills the node when the write is there.
fn lose_with_a_write(cluster: &mut Cluster, proxy: &Proxy, conn: &mut Conn) -> Result<()> {
    // Its connection to the node is there, or the write would wait for one.
    conn.call(&["SET", &key_in_slot(0, 1), "old"])?;
    cluster.node(0)?.freeze()?;
    conn.send(&["SET", &key_in_slot(0, 1), "new"])?;
    wait_until(Duration::from_secs(5), "the write is under way", || {
        Ok(proxy.metric("slotway_requests_in_flight")? > 0.5)
    })?;
    cluster.node_mut(0)?.kill()
}

/// [D5]
fn idempotent_writes_are_sent_again(version: Version) -> Result<()> {
    let mut cluster = Cluster::new(version).replicas(0).start()?;
    let config = "upstream.resend_idempotent_writes = true\nlimits.park_timeout = '60s'\n";
    let proxy = Proxy::new(&cluster).config(config).start()?;
    let mut conn = proxy.conn()?;
    lose_with_a_write(&mut cluster, &proxy, &mut conn)?;
    cluster.node_mut(0)?.restart()?;
    conn.set_timeout(Duration::from_secs(60))?;
    let reply = conn.read()?;
    ensure!(reply.is_ok(), "{reply:?}");
    assert_eq!(conn.call(&["GET", &key_in_slot(0, 1)])?.text()?, "new");
    let again = proxy
        .metrics()?
        .sum("slotway_retries_total", &[("reason", "idempotent")]);
    ensure!(again > 0.5, "nothing was sent again");
    Ok(())
}

/// [D6]
fn an_unknown_fate_closes_the_connection(version: Version) -> Result<()> {
    let mut cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster)
        .environment("SLOTWAY_LISTENER_ON_UNCERTAIN", "close")
        .start()?;
    let mut conn = proxy.conn()?;
    let mut other = proxy.conn()?;
    lose_with_a_write(&mut cluster, &proxy, &mut conn)?;
    let rest = conn.read_to_close()?;
    ensure!(rest.is_empty(), "got {}", rest.escape_ascii());
    assert_eq!(other.must("PING")?.text()?, "PONG");
    let closed = || {
        let metrics = proxy.metrics()?;
        let name = "slotway_downstream_connections_closed_total";
        Ok(metrics.sum(name, &[("reason", "uncertain")]) > 0.5)
    };
    wait_until(Duration::from_secs(5), "the end is counted", closed)
}

/// [T11] [scenario 54]
fn a_slot_that_nobody_owns_is_refused_or_waited_for(version: Version) -> Result<()> {
    let cluster = half_a_cluster(version)?;
    let key = key_in_slot(16_000, 1);
    let asked = |options: ProxyOptions| -> Result<(String, Duration)> {
        let (mut conn, _proxy) = unready(&options)?;
        ensure!(conn.call(&["SET", &key_in_slot(1, 1), "v"])?.is_ok());
        let started = Instant::now();
        let reply = conn.call(&["SET", &key, "v"])?;
        let error = reply.error().context("a slot without owner was served")?;
        Ok((error.to_owned(), started.elapsed()))
    };
    let (error, took) = asked(Proxy::new(&cluster))?;
    assert_eq!(error, "CLUSTERDOWN Hash slot not served");
    ensure!(took < Duration::from_secs(5), "refused after {took:?}");
    let patient = "upstream.fast_fail_uncovered = false\nlimits.park_timeout = '3s'\n";
    let (error, took) = asked(Proxy::new(&cluster).config(patient))?;
    assert_eq!(
        error,
        "CLUSTERDOWN proxy: no master for slot 16000 within 3000 ms"
    );
    ensure!(took >= Duration::from_secs(3), "refused after {took:?}");
    Ok(())
}

/// [T11] [scenario 53]
fn a_cluster_without_any_slot_says_so(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start_unformed()?;
    cluster.set_epochs_and_meet()?;
    cluster.wait_everybody_connected()?;
    let (mut conn, _proxy) = unready(&Proxy::new(&cluster))?;
    assert_eq!(
        conn.line("GET k")?.error(),
        Some("CLUSTERDOWN Hash slot not served")
    );
    assert_eq!(
        conn.line("DBSIZE")?.error(),
        Some("CLUSTERDOWN proxy: 16384 slots not covered")
    );
    assert_eq!(conn.must("PING")?.text()?, "PONG");
    Ok(())
}

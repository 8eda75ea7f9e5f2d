//! Replicas that lag, hang or die, and primaries that do, while many clients read.

use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};
use harness::{Cluster, Reply};
use harness::{Direction, FaultProxy, Node, Proxy, Version, key_in_slot, slot_of, wait_until};
use serde_json::Value;

use super::clients::{Clients, write_keys};
use super::{PATIENCE, gets, reading, replica, shard, shard_with, wait_readable, wait_unreadable};

harness::on_full_matrix!(
    a_dead_replica_shows_no_error,
    a_frozen_replica_is_left,
    a_replica_that_lags_is_left,
    a_replica_without_its_primary_is_left,
    reads_go_on_while_there_is_no_primary,
    a_planned_failover_shows_no_error,
    slots_that_move_are_read_where_they_are,
);

/// Longest time that a read may take while another node is there: a hanging one is given up after two seconds.
const HANG: Duration = Duration::from_secs(4);

/// The keys are on all nodes, and so many clients read them.
fn clients(cluster: &Cluster, proxy: &Proxy) -> Result<Clients> {
    write_keys(&mut proxy.conn()?)?;
    cluster.wait_replicas_synced()?;
    wait_readable(proxy, 2)?;
    let clients = Clients::start(proxy, 16)?;
    clients.wait_for(4_000)?;
    Ok(clients)
}

fn a_dead_replica_shows_no_error(version: Version) -> Result<()> {
    // The topology is looked at often, so that its view of the dead one counts, too.
    let config = format!("upstream.refresh_interval = '1s'\n{}", reading("replica"));
    let (mut cluster, proxy) = shard_with(version, &config)?;
    let clients = clients(&cluster, &proxy)?;
    let at_primary = cluster.node(0)?.calls("get")?;
    cluster.node_mut(1)?.kill()?;
    clients.wait_for(4_000)?;
    wait_unreadable(&proxy, cluster.node(1)?, "does not answer")?;
    // It stays in sight when the cluster has found that it failed.
    let address = cluster.node(1)?.address().to_string();
    wait_until(PATIENCE, "it has failed", || {
        let topology: Value = serde_json::from_str(&proxy.get("/topology")?.body)?;
        let nodes = topology["nodes"].as_array().context("no nodes")?;
        let mut dead = nodes.iter().filter(|it| it["address"] == address.as_str());
        Ok(dead.any(|it| it["state"] == "failed"))
    })?;
    for _ in 0..2 {
        let took = |proxy| {
            Ok::<_, Error>(
                replica(proxy, cluster.node(2)?)?.map(|it| it["answers_in_seconds"].clone()),
            )
        };
        let before = took(&proxy)?;
        wait_until(PATIENCE, "the other is asked again", || {
            Ok(took(&proxy)? != before)
        })?;
    }
    wait_unreadable(&proxy, cluster.node(1)?, "does not answer")?;
    ensure!(
        cluster.node(0)?.calls("get")? == at_primary,
        "the other one is there"
    );
    cluster.node_mut(1)?.restart()?;
    wait_readable(&proxy, 2)?;
    wait_until(PATIENCE, "it is read from again", || {
        Ok(cluster.node(1)?.calls("get")? > 100)
    })?;
    clients.stop()?.ensure_fine(Duration::from_secs(2))
}

fn a_frozen_replica_is_left(version: Version) -> Result<()> {
    let (cluster, proxy) = shard(version, "replica")?;
    let clients = clients(&cluster, &proxy)?;
    cluster.node(1)?.freeze()?;
    wait_unreadable(&proxy, cluster.node(1)?, "does not answer")?;
    clients.wait_for(4_000)?;
    cluster.node(1)?.thaw()?;
    wait_readable(&proxy, 2)?;
    let before = cluster.node(1)?.calls("get")?;
    wait_until(PATIENCE, "it is read from again", || {
        Ok(cluster.node(1)?.calls("get")? > before + 100)
    })?;
    clients.stop()?.ensure_fine(HANG)
}

/// A primary, and a replica that gets what is written through a relay.
fn delayed(version: Version, upstream: &str) -> Result<(Node, FaultProxy, Node, Proxy)> {
    let (primary, replica) = (Node::standalone(version)?, Node::standalone(version)?);
    let relay = FaultProxy::start(primary.address())?;
    let own = replica.address();
    replica.must(&format!("CONFIG SET replica-announce-ip {}", own.ip()))?;
    let at = relay.address();
    replica.must(&format!("REPLICAOF {} {}", at.ip(), at.port()))?;
    let server = primary.address();
    let config = format!(
        "upstream.server = '{server}'\n{upstream}{}",
        reading("prefer-replica")
    );
    let proxy = Proxy::with_seeds(&[]).config(&config).start()?;
    wait_readable(&proxy, 1)?;
    Ok((primary, relay, replica, proxy))
}

fn a_replica_that_lags_is_left(version: Version) -> Result<()> {
    let limits = "upstream.replica_max_lag = '3s'\nupstream.replica_max_lag_bytes = '10KiB'\n";
    let (primary, relay, replica, proxy) = delayed(version, limits)?;
    let mut conn = proxy.conn()?;
    conn.must("SET k 1")?;
    wait_until(PATIENCE, "the replica shows it", || {
        Ok(conn.must("GET k")? == Reply::Bulk(b"1".to_vec()))
    })?;
    relay.stall(Direction::ToClient, true);
    conn.must("SET k 2")?;
    ensure!(
        conn.must("GET k")?.text()? == "1",
        "a replica may be behind"
    );
    wait_unreadable(&proxy, &replica, "s behind")?;
    ensure!(conn.must("GET k")?.text()? == "2", "but not for long");
    relay.stall(Direction::ToClient, false);
    wait_readable(&proxy, 1)?;
    ensure!(conn.must("GET k")?.text()? == "2");
    relay.stall(Direction::ToClient, true);
    conn.must(&format!("SET big {}", "x".repeat(20 << 10)))?;
    wait_unreadable(&proxy, &replica, "bytes behind")?;
    ensure!(primary.calls("get")? >= 1);
    Ok(())
}

fn a_replica_without_its_primary_is_left(version: Version) -> Result<()> {
    let (_primary, relay, replica, proxy) = delayed(version, "")?;
    let mut conn = proxy.conn()?;
    conn.must("SET k v")?;
    relay.refuse(true);
    relay.cut_all();
    // Its primary does not know it any more.
    wait_unreadable(&proxy, &replica, "link to the primary is down")?;
    conn.must("SET k w")?;
    ensure!(conn.must("GET k")?.text()? == "w");
    relay.refuse(false);
    wait_readable(&proxy, 1)
}

fn reads_go_on_while_there_is_no_primary(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(1);
    // Long enough for what nobody serves to be seen.
    let mut cluster = cluster.setting("cluster-node-timeout", "4000").start()?;
    for policy in ["replica", "prefer-primary"] {
        let proxy = Proxy::new(&cluster).config(&reading(policy)).start()?;
        write_keys(&mut proxy.conn()?)?;
        cluster.wait_replicas_synced()?;
        wait_readable(&proxy, 3)?;
        let clients = Clients::start(&proxy, 16)?;
        clients.wait_for(2_000)?;
        let (dead, _) = cluster.kill_primary_of(slot_of(b"key:1"))?;
        clients.wait_for(4_000)?;
        cluster.wait_ok()?;
        clients.wait_for(2_000)?;
        clients.stop()?.ensure_fine(Duration::from_secs(2))?;
        cluster.node_mut(dead)?.restart()?;
        cluster.settle()?;
    }
    Ok(())
}

fn a_planned_failover_shows_no_error(version: Version) -> Result<()> {
    for policy in ["replica", "prefer-replica", "any"] {
        let cluster = Cluster::new(version).replicas(1).start()?;
        let proxy = Proxy::new(&cluster).config(&reading(policy)).start()?;
        write_keys(&mut proxy.conn()?)?;
        cluster.wait_replicas_synced()?;
        wait_readable(&proxy, 3)?;
        let clients = Clients::start(&proxy, 16)?;
        clients.wait_for(2_000)?;
        let primary = cluster.primary_of(slot_of(b"key:1"))?;
        cluster.failover(cluster.replica_of(primary)?)?;
        clients.wait_for(4_000)?;
        wait_readable(&proxy, 3)?;
        clients.stop()?.ensure_fine(HANG)?;
    }
    Ok(())
}

fn slots_that_move_are_read_where_they_are(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(1).start()?;
    let proxy = Proxy::new(&cluster).config(&reading("replica")).start()?;
    let slot = slot_of(b"key:1");
    let mut conn = proxy.conn()?;
    write_keys(&mut conn)?;
    let others: Vec<String> = (0..200).map(|n| key_in_slot(slot, n)).collect();
    for key in &others {
        conn.must(&format!("SET {key} v"))?;
    }
    cluster.wait_replicas_synced()?;
    wait_readable(&proxy, 3)?;
    let clients = Clients::start(&proxy, 16)?;
    clients.wait_for(2_000)?;
    let source = cluster.primary_of(slot)?;
    let target = (0..3).find(|node| *node != source).unwrap_or(0);
    cluster.move_slots(source, target, &[slot])?;
    clients.wait_for(4_000)?;
    wait_until(PATIENCE, "the new owner's replica is read from", || {
        let before = gets(cluster.nodes())?;
        conn.must("GET key:1")?;
        let replica = cluster.replica_of(target)?;
        Ok(gets(cluster.nodes())?[replica] > before[replica])
    })?;
    let seen = clients.stop()?;
    ensure!(seen.longest < HANG, "a read took {:?}", seen.longest);
    let errors = seen.wrong.iter().filter(|reply| reply.contains("Error"));
    ensure!(errors.count() == 0, "{:?}", seen.wrong);
    Ok(())
}

//! Scenarios of the contract and known faults of other proxies (R-numbers) that no other test plays whole, on real servers.
//! `tests/SCENARIOS.md` says for each of them where its test is. Sizes are constants, so that a longer run is a number away.

mod blocking;
mod clients;
mod connections;
mod pubsub;
mod scan;
mod scripts;
mod transactions;
mod uncertain;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{
    Cluster, Conn, Load, LoadOptions, Proxy, Reply, Scene, Version, encode, key_in_slot, slot_of,
    tool, wait_until,
};

/// For what takes a moment.
const SOON: Duration = Duration::from_secs(20);

/// An open connection to every node: asking over it opens none, so that their counters of connections can be compared.
fn observers(cluster: &Cluster) -> Result<Vec<Conn>> {
    cluster.nodes().iter().map(harness::Node::conn).collect()
}

/// The sum of a figure in the nodes' INFO.
fn figure(observers: &mut [Conn], section: &str, field: &str) -> Result<usize> {
    let mut sum = 0;
    for conn in observers {
        let text = conn.must(&format!("INFO {section}"))?.text()?;
        let prefix = format!("{field}:");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
        sum += value.context("no such figure")?.trim().parse::<usize>()?;
    }
    Ok(sum)
}

/// Connections that the nodes have accepted since they were started.
fn accepted(observers: &mut [Conn]) -> Result<usize> {
    figure(observers, "stats", "total_connections_received")
}

/// A key of every shard.
fn key_of_every_shard(cluster: &Cluster, n: usize) -> Vec<String> {
    (0..cluster.primaries())
        .map(|shard| key_in_slot(*cluster.initial_slots(shard).start(), n))
        .collect()
}

/// The words of a command.
fn words(command: &str) -> Vec<&str> {
    command.split(' ').collect()
}

/// Lets a client do something at its own pace: waits until `since` is so long ago.
fn wait_since(since: Instant, long: Duration) -> Result<()> {
    wait_until(long + SOON, "its time has come", || {
        Ok(since.elapsed() >= long)
    })
}

/// Closes the connections of the proxy at this node, `most` of them.
fn kill_links(observer: &mut Conn, most: usize) -> Result<usize> {
    let list = observer.must("CLIENT LIST")?.text()?;
    let own = observer.must("CLIENT ID")?.int()?.to_string();
    let ids = list.lines().filter_map(|line| {
        let id = line.strip_prefix("id=")?.split(' ').next()?;
        (id != own && line.contains(" flags=N ")).then(|| id.to_owned())
    });
    let mut killed = 0;
    for id in ids.take(most) {
        let reply = observer.must(&format!("CLIENT KILL ID {id}"))?;
        killed += usize::from(reply.int()? == 1);
    }
    Ok(killed)
}

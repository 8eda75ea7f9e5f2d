//! Reads that go to replicas of real servers: who answers by each policy, and what happens when replicas lag, hang, load or die, and when
//! their primary does. Numbers in brackets are the rules of the contract.

mod clients;
mod faults;
mod policies;

use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Cluster, Node, Proxy, Reply, Version, wait_until};
use serde_json::Value;

/// How long anything may take that happens once a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// The configuration of a proxy whose clients read so.
fn reading(policy: &str) -> String {
    format!("[[listener]]\nreads = '{policy}'\n")
}

/// A shard of a primary (node 0) and two replicas, and a proxy whose clients read by `policy`.
fn shard(version: Version, policy: &str) -> Result<(Cluster, Proxy)> {
    shard_with(version, &reading(policy))
}

fn shard_with(version: Version, config: &str) -> Result<(Cluster, Proxy)> {
    let cluster = Cluster::new(version).primaries(1).replicas(2).start()?;
    cluster.wait_replicas_synced()?;
    let proxy = Proxy::new(&cluster).config(config).start()?;
    Ok((cluster, proxy))
}

/// What the proxy says of the replica at this node; `None` while it does not watch it.
fn replica(proxy: &Proxy, node: &Node) -> Result<Option<Value>> {
    let topology: Value = serde_json::from_str(&proxy.get("/topology")?.body)?;
    let replicas = topology["replicas"].as_array().context("no replicas")?;
    let address = node.address().to_string();
    let found = replicas.iter().find(|it| it["address"] == address.as_str());
    Ok(found.cloned())
}

/// Waits until the proxy reads from so many replicas.
fn wait_readable(proxy: &Proxy, count: usize) -> Result<()> {
    let what = format!("{count} replicas may be read from");
    wait_until(PATIENCE, &what, || {
        let topology: Value = serde_json::from_str(&proxy.get("/topology")?.body)?;
        let replicas = topology["replicas"].as_array().context("no replicas")?;
        Ok(replicas.iter().filter(|it| it["readable"] == true).count() == count)
    })
}

/// Waits until the proxy says for this reason that it does not read from the replica.
fn wait_unreadable(proxy: &Proxy, node: &Node, reason: &str) -> Result<()> {
    wait_until(PATIENCE, reason, || {
        let replica = replica(proxy, node)?;
        Ok(replica.is_some_and(|it| {
            it["why_not"]
                .as_str()
                .is_some_and(|why| why.contains(reason))
        }))
    })
}

/// How often each of the nodes was asked GET.
fn gets<'n>(nodes: impl IntoIterator<Item = &'n Node>) -> Result<Vec<u64>> {
    nodes.into_iter().map(|node| node.calls("get")).collect()
}

/// Has `count` clients read the key `k` so many times each, and checks that it is `v`.
fn read(proxy: &Proxy, count: usize, times: usize) -> Result<()> {
    for _ in 0..count {
        let mut conn = proxy.conn()?;
        for _ in 0..times {
            let reply = conn.must("GET k")?;
            anyhow::ensure!(reply == Reply::Bulk(b"v".to_vec()), "{reply:?}");
        }
    }
    Ok(())
}

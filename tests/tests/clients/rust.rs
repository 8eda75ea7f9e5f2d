//! How the checks of the Rust clients are run.

use crate::offer::{Offer, proxy_lacks_any};
use anyhow::{Context, Result};
use harness::{Cluster, Node, Proxy, Version};
use std::net::SocketAddrV4;
use std::time::Duration;

/// How long the checks of a client may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long a single answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

type Check = fn(SocketAddrV4, Offer) -> Result<()>;

/// Runs both checks through a proxy; what it does not offer yet, straight at a server and at the cluster.
pub(crate) fn run(version: Version, plain: Check, for_clusters: Check) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    plain(proxy.address(), Offer::PROXY).context("the plain client through the proxy")?;
    cluster.flush()?;
    for_clusters(proxy.address(), Offer::PROXY).context("the cluster client through the proxy")?;
    if proxy_lacks_any() {
        let server = Node::standalone(version)?;
        plain(server.address(), Offer::SERVER).context("the plain client at a server")?;
        cluster.flush()?;
        let node = cluster.nodes()[0].address();
        for_clusters(node, Offer::CLUSTER).context("the cluster client at the cluster")?;
    }
    Ok(())
}

/// Runs a check that is a future, on this thread.
pub(crate) fn block_on(check: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async { tokio::time::timeout(DEADLINE, check).await? })
}

/// Id of the connection of this name, by a reply to CLIENT LIST.
pub(crate) fn id_of(client_list: &str, name: &str) -> Result<u64> {
    let name = format!(" name={name} ");
    let line = client_list
        .lines()
        .find(|line| line.contains(&name))
        .with_context(|| format!("no connection{name}"))?;
    let id = line
        .split(' ')
        .find_map(|field| field.strip_prefix("id="))
        .context("no id")?;
    Ok(id.parse()?)
}

/// True if the connection of this name waits in a blocking command.
pub(crate) fn is_blocked(client_list: &str, name: &str) -> bool {
    let name = format!(" name={name} ");
    let is_blocked = |line: &str| {
        line.split(' ')
            .filter_map(|field| field.strip_prefix("flags="))
            .any(|flags| flags.contains('b'))
    };
    client_list
        .lines()
        .any(|line| line.contains(&name) && is_blocked(line))
}

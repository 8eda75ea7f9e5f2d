//! Frameworks for background jobs and for web sites: they use keys as they like, many in one command, script or transaction, and
//! databases.

use crate::offer::{Offer, proxy_offers};
use crate::programs::Library;
use anyhow::{Result, anyhow};
use harness::{Cluster, Node, Proxy, Unsplit, Version, wait_until};
use std::net::SocketAddrV4;
use std::time::Duration;

/// How long a program may take until it is in the middle of its work.
const HALF_WAY: Duration = Duration::from_secs(30);

/// A framework for background jobs, which uses keys as it likes: many in one command, script or transaction.
pub(crate) struct Framework {
    pub(crate) library: Library,
    pub(crate) script: &'static str,
    /// The families it cannot do without
    pub(crate) needs: &'static [&'static str],
    /// The prefix with a hash tag that puts all its keys into one slot: it makes it work on a cluster
    pub(crate) prefix: &'static str,
}

impl Framework {
    /// Runs the program on a server of its own as it comes, and with its prefix on a cluster, both by the proxy as soon as that
    /// offers what the framework needs. A cluster of one primary has the rule of slots and no redirections.
    pub(crate) fn run(&self, version: Version) -> Result<()> {
        if !self.library.is_installed()? {
            return Ok(());
        }
        let server = Node::standalone(version)?;
        self.program(server.address(), "", Offer::SERVER)?;
        if proxy_offers(self.needs) {
            server.must("FLUSHALL")?;
            let proxy = Proxy::with_server(&server.address().to_string()).start()?;
            self.program(proxy.address(), "", Offer::SERVER)?;
            let cluster = Cluster::new(version).replicas(0).start()?;
            let proxy = Proxy::new(&cluster).start()?;
            return self.program(proxy.address(), self.prefix, Offer::PROXY);
        }
        let cluster = Cluster::new(version).primaries(1).replicas(0).start()?;
        self.program(cluster.nodes()[0].address(), self.prefix, Offer::CLUSTER)
    }

    fn program(&self, address: SocketAddrV4, prefix: &str, offer: Offer) -> Result<()> {
        self.library.program(self.script, address, &[prefix], offer)
    }
}

/// Runs a program that wants one server with all keys, in front of one, and of a primary that Sentinels watch.
pub(crate) fn run_unsplit(library: &Library, script: &str, version: Version) -> Result<()> {
    if !library.is_installed()? {
        return Ok(());
    }
    for upstream in [Unsplit::server(version)?, Unsplit::sentinels(version)?] {
        library.program(script, upstream.proxy.address(), &[], Offer::SERVER)?;
    }
    Ok(())
}

/// Runs a program as it comes in front of a primary that Sentinels watch.
pub(crate) fn run_on_sentinels(library: &Library, script: &str, version: Version) -> Result<()> {
    if !library.is_installed()? {
        return Ok(());
    }
    let upstream = Unsplit::sentinels(version)?;
    library.program(script, upstream.proxy.address(), &[""], Offer::SERVER)
}

/// Runs a program in the middle of which another server becomes the primary.
pub(crate) fn run_over_a_failover(library: &Library, script: &str, version: Version) -> Result<()> {
    if !library.is_installed()? {
        return Ok(());
    }
    let upstream = Unsplit::sentinels(version)?;
    std::thread::scope(|scope| {
        let failover = scope.spawn(|| fail_over_half_way(&upstream));
        let address = upstream.proxy.address();
        let done = library.program(script, address, &[], Offer::SERVER);
        let ended = failover.join();
        let switched = ended.map_err(|_panic| anyhow!("nobody has failed over"))?;
        done.and(switched)
    })
}

/// The program says when it is in the middle of its work, and is told when another server is the primary.
fn fail_over_half_way(upstream: &Unsplit) -> Result<()> {
    let mut conn = upstream.proxy.conn()?;
    wait_until(HALF_WAY, "the program is half-way", || {
        Ok(conn.must("EXISTS checks:half-way")?.int()? == 1)
    })?;
    upstream.fail_over()?;
    conn.must("SET checks:switched 1")?;
    Ok(())
}

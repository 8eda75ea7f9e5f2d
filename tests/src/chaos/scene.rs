//! What the faults act upon: a cluster that keeps its data on disk, two proxies behind a balancer, the load and the control.

use super::balancer::Balancer;
use super::control::{Control, ControlReport};
use super::evidence::Evidence;
use crate::cluster::Cluster;
use crate::conn::Conn;
use crate::load::{Load, LoadOptions, LoadReport, SlotRange};
use crate::node::Node;
use crate::proxy::Proxy;
use crate::servers::Version;
use crate::wait::wait_until;
use anyhow::{Context, Result, ensure};
use std::net::SocketAddrV4;
use std::time::Duration;

/// Connections of each of the two loads, RESP2 and RESP3.
const CONNECTIONS: usize = 6;
/// Commands of one batch.
const DEPTH: usize = 8;
/// Keys with data that never changes, and must be whole at the end.
const BALLAST_KEYS: usize = 20_000;
const BALLAST_AT_ONCE: usize = 500;
/// A log is rewritten between two faults when it is longer.
const LARGE_LOG_BYTES: u64 = 32 << 20;
/// How long the load may take to get some replies, and servers to end their work in the background.
const DEADLINE: Duration = Duration::from_secs(40);

/// Requests of the load under way at the same time.
pub(super) const OUTSTANDING: usize = 2 * CONNECTIONS * DEPTH;

/// Everything that runs.
#[derive(Debug)]
pub(super) struct Scene {
    loads: Vec<Load>,
    control: Control,
    balancer: Balancer,
    pub(super) proxies: Vec<Proxy>,
    pub(super) cluster: Cluster,
}

impl Scene {
    pub(super) fn start(version: Version) -> Result<Self> {
        // What a server has acknowledged is in its log, whatever kills it: see `Evidence`.
        let cluster = Cluster::new(version)
            .setting("appendonly", "yes")
            .setting("appendfsync", "no")
            .setting("aof-use-rdb-preamble", "no")
            .setting("auto-aof-rewrite-percentage", "0")
            .start()?;
        let proxies = vec![Proxy::new(&cluster).start()?, Proxy::new(&cluster).start()?];
        fill(&mut proxies[0].conn()?)?;
        let balancer = Balancer::start(&[proxies[0].address(), proxies[1].address()])?;
        let groups = shards(&cluster);
        let loads = [false, true].map(|resp3| {
            let options = LoadOptions {
                connections: CONNECTIONS,
                depth: DEPTH,
                keys: 40,
                journals: 40,
                reconnect: true,
                groups: groups.clone(),
                resp3,
                ..LoadOptions::default()
            };
            Load::start(balancer.address(), &options)
        });
        let control = Control::start(&cluster.seeds(), &groups);
        Ok(Self {
            loads: loads.into_iter().collect::<Result<_>>()?,
            control,
            balancer,
            proxies,
            cluster,
        })
    }

    /// Waits until every load got this many further replies, and each of its clients some.
    pub(super) fn go_on(&self, replies: u64) -> Result<()> {
        let marks: Vec<_> = self.loads.iter().map(|load| load.mark(replies)).collect();
        wait_until(DEADLINE, "the load gets its replies", || {
            let mut loads = self.loads.iter().zip(&marks);
            Ok(loads.all(|(load, mark)| load.passed(mark)))
        })
        .with_context(|| format!("the nodes say:\n{}", self.cluster.views()))
    }

    /// Waits until the cluster is whole and has no work left from before.
    pub(super) fn calm(&self) -> Result<()> {
        self.cluster.wait_ok()?;
        self.cluster.wait_replicas_synced()?;
        self.cluster.nodes().iter().try_for_each(finish_background)
    }

    /// Checks everything written since the check before.
    pub(super) fn check(&self) -> Result<(LoadReport, ControlReport)> {
        let mut report = LoadReport::default();
        for load in &self.loads {
            report.absorb(load.check()?);
        }
        Ok((report, self.control.check()?))
    }

    /// Tells the control of new addresses; the proxies have to find them.
    pub(super) fn addresses_changed(&self) {
        let running = self.cluster.nodes().iter();
        let addresses: Vec<SocketAddrV4> = running.map(Node::address).collect();
        self.control.set_addresses(&addresses);
    }

    /// Sends new clients to the proxies that run now.
    pub(super) fn proxies_changed(&self) {
        self.balancer.set_targets(&self.proxy_addresses());
    }

    pub(super) fn proxy_addresses(&self) -> Vec<SocketAddrV4> {
        self.proxies.iter().map(Proxy::address).collect()
    }

    /// The proxy that has the most clients.
    pub(super) fn busiest_proxy(&self) -> Result<usize> {
        let mut counts = Vec::new();
        for (n, proxy) in self.proxies.iter().enumerate() {
            let clients = proxy.metric("slotway_downstream_connections")?;
            counts.push((clients, n));
        }
        counts.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(counts.last().context("no proxy")?.1)
    }

    /// Slots of each shard when no slots are moved.
    pub(super) fn shards(&self) -> Vec<SlotRange> {
        shards(&self.cluster)
    }

    /// The primary that serves a shard now.
    pub(super) fn primary(&self, shard: usize) -> Result<usize> {
        self.cluster
            .primary_of(*self.cluster.initial_slots(shard).start())
    }

    pub(super) fn keep_evidence(&self) -> Result<Evidence> {
        Evidence::keep(&self.cluster)
    }

    /// The most memory one of the proxies had since [`Self::forget_peaks`].
    pub(super) fn peak_bytes(&self) -> Result<u64> {
        let peaks = self.proxies.iter().map(Proxy::peak_resident_bytes);
        let peaks = peaks.collect::<Result<Vec<u64>>>()?;
        Ok(peaks.into_iter().max().unwrap_or_default())
    }

    pub(super) fn forget_peaks(&self) -> Result<()> {
        self.proxies.iter().try_for_each(Proxy::forget_peak)
    }

    /// Ends the load; its last look at the keys must show nothing new, and the data that was never touched must be whole.
    pub(super) fn finish(self) -> Result<LoadReport> {
        let mut conn = self.proxies[0].conn()?;
        let mut report = LoadReport::default();
        for load in self.loads {
            report.absorb(load.stop()?);
        }
        check_ballast(&mut conn)?;
        Ok(report)
    }
}

/// Waits until a server's work in the background is done. A long log is made short, now and not during a fault: the logs are the
/// evidence of what was lost.
fn finish_background(node: &Node) -> Result<()> {
    let written: u64 = node.info("persistence", "aof_current_size")?.parse()?;
    if written > LARGE_LOG_BYTES {
        node.must("BGREWRITEAOF")?;
    }
    let what = format!("{} has nothing to do in the background", node.address());
    wait_until(DEADLINE, &what, || {
        for field in [
            "aof_rewrite_scheduled",
            "aof_rewrite_in_progress",
            "rdb_bgsave_in_progress",
        ] {
            ensure!(node.info("persistence", field)? == "0", "{field}");
        }
        Ok(true)
    })
}

fn shards(cluster: &Cluster) -> Vec<SlotRange> {
    (0..cluster.primaries())
        .map(|shard| cluster.initial_slots(shard))
        .collect()
}

fn ballast(n: usize) -> String {
    format!("ballast:{n}")
}

fn fill(conn: &mut Conn) -> Result<()> {
    for first in (0..BALLAST_KEYS).step_by(BALLAST_AT_ONCE) {
        let numbers = first..first + BALLAST_AT_ONCE;
        let set = |n| vec!["SET".to_owned(), ballast(n), format!("value of {n}")];
        let commands: Vec<Vec<String>> = numbers.map(set).collect();
        for reply in conn.pipeline(&commands)? {
            ensure!(reply.is_ok(), "{reply:?}");
        }
    }
    Ok(())
}

fn check_ballast(conn: &mut Conn) -> Result<()> {
    for first in (0..BALLAST_KEYS).step_by(BALLAST_AT_ONCE) {
        let numbers = first..first + BALLAST_AT_ONCE;
        let get = |n| vec!["GET".to_owned(), ballast(n)];
        let commands: Vec<Vec<String>> = numbers.clone().map(get).collect();
        for (n, reply) in numbers.zip(conn.pipeline(&commands)?) {
            let expected = format!("value of {n}");
            ensure!(
                reply.text().is_ok_and(|text| text == expected),
                "{} got {reply:?}",
                ballast(n)
            );
        }
    }
    Ok(())
}

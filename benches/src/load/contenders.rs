//! Where the load goes: straight to a server, or through a proxy with one thread.

use std::net::SocketAddrV4;

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Node, Process, Proxy, Version};

use super::peers;
use super::workloads::Values;

/// The servers' own default. The harness has less, and a node that waits for a processor would look dead.
const NODE_TIMEOUT_MILLIS: &str = "15000";
/// Servers behind a peer that spreads keys itself: as many as the cluster has primaries.
const SERVERS: usize = 3;
/// Values are written in pipelines of about this many bytes.
const FILL_BYTES: usize = 64 << 10;

/// Who passes the load on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// Nobody: one plain server
    Direct,
    /// This proxy, with one worker, before a cluster of three primaries
    Slotway,
    /// Spreads keys over three plain servers
    Twemproxy,
    /// Passes connections on to one plain server
    Haproxy,
}

impl Who {
    pub(super) const ALL: [Self; 4] = [Self::Direct, Self::Slotway, Self::Twemproxy, Self::Haproxy];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Slotway => "slotway",
            Self::Twemproxy => "twemproxy",
            Self::Haproxy => "haproxy",
        }
    }
}

/// One that runs.
#[derive(Debug)]
pub(super) struct Contender {
    pub(super) who: Who,
    pub(super) address: SocketAddrV4,
    /// The proxy, if there is one
    pub(super) proxy: Option<u32>,
    /// The servers behind
    pub(super) servers: Vec<u32>,
    /// Ends the proxy when dropped
    _running: Running,
}

#[derive(Debug)]
enum Running {
    Nothing,
    Slotway { _proxy: Proxy },
    Peer { _process: Process },
}

/// All servers and those who pass the load on to them, for the length of the benchmark.
#[derive(Debug)]
pub(super) struct Setup {
    /// Ended before the servers
    contenders: Vec<Contender>,
    /// Direct load and HAProxy's goes to the first
    plain: Vec<Node>,
    cluster: Cluster,
}

impl Setup {
    pub(super) fn start(version: Version) -> Result<Self> {
        let plain = (0..SERVERS).map(|_| Node::standalone(version));
        let mut setup = Self {
            contenders: Vec::new(),
            plain: plain.collect::<Result<_>>()?,
            cluster: Cluster::new(version)
                .primaries(SERVERS)
                .replicas(0)
                .setting("cluster-node-timeout", NODE_TIMEOUT_MILLIS)
                .start()?,
        };
        for who in Who::ALL.into_iter().filter(|who| peers::is_installed(*who)) {
            let contender = setup.launch(who).with_context(|| who.name())?;
            setup.contenders.push(contender);
        }
        Ok(setup)
    }

    /// Those there are.
    pub(super) fn contenders(&self) -> &[Contender] {
        &self.contenders
    }

    /// Those that are not installed.
    pub(super) fn missing(&self) -> impl Iterator<Item = Who> {
        let is_here = |who| self.contenders.iter().any(|here| here.who == who);
        Who::ALL.into_iter().filter(move |who| !is_here(*who))
    }

    /// Starts one (or one more) with nothing behind it.
    pub(super) fn launch(&self, who: Who) -> Result<Contender> {
        let first = self.plain.first().context("there is a first server")?;
        let addresses: Vec<SocketAddrV4> = self.plain.iter().map(Node::address).collect();
        let peer = |(process, address): (Process, SocketAddrV4)| {
            let id = Some(process.id());
            (address, id, Running::Peer { _process: process })
        };
        let (address, proxy, running) = match who {
            Who::Direct => (first.address(), None, Running::Nothing),
            Who::Slotway => {
                let proxy = Proxy::new(&self.cluster).workers(1).start()?;
                let (address, id) = (proxy.address(), Some(proxy.id()));
                (address, id, Running::Slotway { _proxy: proxy })
            }
            Who::Twemproxy => peer(peers::start_twemproxy(&addresses)?),
            Who::Haproxy => peer(peers::start_haproxy(first.address())?),
        };
        let nodes = self.servers_of(who).iter();
        Ok(Contender {
            who,
            address,
            proxy,
            servers: nodes.map(Node::process_id).collect::<Result<_>>()?,
            _running: running,
        })
    }

    fn servers_of(&self, who: Who) -> &[Node] {
        match who {
            Who::Direct | Who::Haproxy => self.plain.get(..1).unwrap_or_default(),
            Who::Twemproxy => &self.plain,
            Who::Slotway => self.cluster.nodes(),
        }
    }

    /// Writes values under all their keys, wherever each contender looks for them.
    pub(super) fn fill(&self, values: &Values) -> Result<()> {
        // HAProxy's server is that of the direct load.
        let others = self
            .contenders
            .iter()
            .filter(|other| other.who != Who::Haproxy);
        for contender in others {
            fill(contender.address, values).with_context(|| contender.who.name())?;
        }
        Ok(())
    }

    /// Fails if a key was read that is not there: the load was not what it claims to be.
    pub(super) fn check_nothing_missed(&self) -> Result<()> {
        for node in self.plain.iter().chain(self.cluster.nodes()) {
            let missed = node.info("stats", "keyspace_misses")?;
            let missed = missed.trim();
            ensure!(
                missed == "0",
                "{missed} keys were missing at {}",
                node.address()
            );
        }
        Ok(())
    }
}

fn fill(address: SocketAddrV4, values: &Values) -> Result<()> {
    let mut conn = Conn::open(address)?;
    let value = values.value();
    let at_once = (FILL_BYTES / values.bytes).max(1);
    for first in (0..values.keys).step_by(at_once) {
        let numbers = first..(first + at_once).min(values.keys);
        let sets: Vec<Vec<String>> = numbers
            .map(|n| vec!["SET".to_owned(), values.key(n), value.clone()])
            .collect();
        for reply in conn.pipeline(&sets)? {
            ensure!(reply.is_ok(), "SET was answered by {reply:?}");
        }
    }
    Ok(())
}

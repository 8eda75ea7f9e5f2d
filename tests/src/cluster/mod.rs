//! A real cluster of any release, one loopback IP per node.

mod form;
mod members;
mod migrate;
mod view;

use crate::SLOT_COUNT;
use crate::conn::Conn;
use crate::node::Node;
use crate::servers::Version;
use crate::wait::{wait_some, wait_until};
use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use migrate::Migration;
use view::{Member, Owners, View};

/// How long the cluster may take to agree with itself, failure detection and election included.
const SETTLE_DEADLINE: Duration = Duration::from_secs(40);

/// A little more than the time after which a server gives a manual failover up.
const MANUAL_FAILOVER_TIMEOUT: Duration = Duration::from_millis(5_500);

/// What cluster to start.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    version: Version,
    primaries: usize,
    replicas: usize,
    relayed: bool,
    one_host: bool,
    settings: Vec<(String, String)>,
}

impl ClusterOptions {
    /// Number of primaries; the default is 3. Slots are divided evenly and in order.
    #[must_use]
    pub fn primaries(mut self, count: usize) -> Self {
        self.primaries = count;
        self
    }

    /// Number of replicas of each primary; the default is 1.
    #[must_use]
    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas = count;
        self
    }

    /// Nodes announce the port after their own: a [`crate::FaultProxy`] must listen there before anybody connects.
    #[must_use]
    pub fn relayed(mut self) -> Self {
        self.relayed = true;
        self
    }

    /// Nodes share one IP and differ by their ports, as behind one address of a service.
    #[must_use]
    pub fn one_host(mut self) -> Self {
        self.one_host = true;
        self
    }

    /// A configuration setting for every node.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the servers, without making them a cluster.
    ///
    /// # Errors
    /// If a server does not start.
    pub fn start_unformed(self) -> Result<Cluster> {
        form::launch(&self)
    }

    /// Starts the servers and forms the cluster.
    ///
    /// # Errors
    /// If a server does not start or the cluster does not settle.
    pub fn start(self) -> Result<Cluster> {
        let cluster = form::launch(&self)?;
        cluster.form()?;
        Ok(cluster)
    }
}

/// A running cluster. Nodes are known by their number: first the primaries as they were made, then the replicas, where
/// node `primaries + i` first replicates node `i % primaries`.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    /// Node ids, by node number
    ids: Vec<String>,
    primaries: usize,
}

impl Cluster {
    /// A cluster of 3 primaries with 1 replica each, to be changed and started.
    #[must_use]
    #[expect(clippy::new_ret_no_self, reason = "a cluster is made by its options")]
    pub fn new(version: Version) -> ClusterOptions {
        ClusterOptions {
            version,
            primaries: 3,
            replicas: 1,
            relayed: false,
            one_host: false,
            settings: Vec::new(),
        }
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node, to kill or restart it.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn node_mut(&mut self, node: usize) -> Result<&mut Node> {
        self.nodes
            .get_mut(node)
            .with_context(|| format!("no node {node}"))
    }

    /// One node.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn node(&self, node: usize) -> Result<&Node> {
        self.nodes
            .get(node)
            .with_context(|| format!("no node {node}"))
    }

    /// Number of shards.
    #[must_use]
    pub fn primaries(&self) -> usize {
        self.primaries
    }

    /// Release of the servers.
    #[must_use]
    pub fn version(&self) -> Version {
        self.nodes[0].version()
    }

    /// The 40 hex digits that name a node.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn id(&self, node: usize) -> Result<&str> {
        self.ids
            .get(node)
            .map(String::as_str)
            .with_context(|| format!("no node {node}"))
    }

    /// The addresses the nodes announce.
    #[must_use]
    pub fn seeds(&self) -> Vec<SocketAddrV4> {
        self.nodes.iter().map(Node::announced).collect()
    }

    /// Slots given to a shard when the cluster was formed.
    #[must_use]
    pub fn initial_slots(&self, shard: usize) -> std::ops::RangeInclusive<u16> {
        form::share(self.primaries, shard)
    }

    /// What one node says about the cluster.
    fn view(&self, node: usize) -> Result<View> {
        View::of(self.node(node)?)
    }

    /// The primary that owns a slot now, by the first node that answers.
    ///
    /// # Errors
    /// If no node answers or nobody owns it.
    pub fn primary_of(&self, slot: u16) -> Result<usize> {
        let view = self.any_view()?;
        let owner = view
            .owner_of(slot)
            .with_context(|| format!("nobody owns slot {slot}"))?;
        self.number_of(&owner.id)
    }

    /// A replica of a primary, once a node knows one that is alive.
    ///
    /// # Errors
    /// If no node knows one in time.
    pub fn replica_of(&self, primary: usize) -> Result<usize> {
        let id = self.id(primary)?;
        let what = format!("a replica of node {primary} is known");
        wait_some(SETTLE_DEADLINE, &what, || {
            let view = self.any_view()?;
            let follows = |member: &&Member| member.primary == id && !member.failed();
            view.members
                .iter()
                .find(follows)
                .map(|member| self.number_of(&member.id))
                .transpose()
        })
    }

    fn any_view(&self) -> Result<View> {
        let views = self.nodes.iter().filter_map(|node| View::of(node).ok());
        // The newest view: a node that was cut off may still show an older one.
        views
            .max_by_key(View::newest_epoch)
            .context("no node answers")
    }

    fn number_of(&self, id: &str) -> Result<usize> {
        self.ids
            .iter()
            .position(|known| known == id)
            .with_context(|| format!("unknown node {id}"))
    }

    /// Waits until all running nodes say that the cluster is ok and agree who owns what; gives the moment when that was
    /// first seen.
    ///
    /// # Errors
    /// If they do not in time.
    pub fn wait_ok(&self) -> Result<Instant> {
        let live: Vec<&Node> = self
            .nodes
            .iter()
            .filter(|node| node.process_id().is_ok())
            .collect();
        ensure!(!live.is_empty(), "no node runs");
        wait_until(
            SETTLE_DEADLINE,
            "the cluster is ok and agrees with itself",
            || {
                let mut first: Option<Owners> = None;
                for node in &live {
                    if node.info_cluster("cluster_state")? != "ok" {
                        bail!("{} says that the cluster is not ok", node.address());
                    }
                    let view = View::of(node)?;
                    let owners = view.owners();
                    let covered: u32 = owners
                        .iter()
                        .flat_map(|(_, _, ranges)| ranges)
                        .map(|(from, to)| u32::from(to - from) + 1)
                        .sum();
                    ensure!(
                        covered == u32::from(SLOT_COUNT),
                        "{covered} slots are served"
                    );
                    match &first {
                        Some(known) => ensure!(*known == owners, "{} disagrees", node.address()),
                        None => first = Some(owners),
                    }
                }
                Ok(true)
            },
        )?;
        Ok(Instant::now())
    }

    /// What every node says of the cluster, for the report of a failure: it may be the servers that do not recover.
    #[must_use]
    pub fn views(&self) -> String {
        let view = |node: &Node| -> Result<String> {
            let mut conn = node.conn()?;
            let info = conn.must("CLUSTER INFO")?.text()?;
            let nodes = conn.must("CLUSTER NODES")?.text()?;
            let state = info.lines().filter(|line| line.starts_with("cluster_s"));
            let state: Vec<&str> = state.map(str::trim_end).collect();
            Ok(format!("{}\n{nodes}", state.join(" ")))
        };
        let views = self.nodes.iter().map(|node| {
            let view = view(node).unwrap_or_else(|error| format!("{error:#}\n"));
            format!("{}: {view}", node.address())
        });
        views.collect()
    }

    /// [`Self::wait_ok`], and no message from before is under way between the nodes any more: an old one can take a slot that
    /// has just moved back to its former owner, since Redis 7.0 remembers only that its new owner did not claim it once.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn settle(&self) -> Result<()> {
        self.wait_ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        wait_until(
            SETTLE_DEADLINE,
            "every node has answered every other",
            || {
                for node in self.nodes.iter().filter(|node| node.process_id().is_ok()) {
                    let view = View::of(node)?;
                    let old = view.members.iter().find(|member| {
                        !member.has("myself") && !member.failed() && member.pong_millis <= now
                    });
                    ensure!(
                        old.is_none(),
                        "{}: no new answer of {old:?}",
                        node.address()
                    );
                }
                Ok(true)
            },
        )?;
        self.wait_ok()?;
        Ok(())
    }

    /// `CLUSTER FAILOVER` at a replica, and waits until every running node knows the new primary. A server gives a manual
    /// failover up after 5 s, and primaries vote for one shard only once in two node timeouts: then it is asked for again.
    /// Gives the moment when the replica was first seen to be a primary.
    ///
    /// # Errors
    /// If the replica refuses or is not promoted in time.
    pub fn failover(&self, replica: usize) -> Result<Instant> {
        self.wait_synced(replica)?;
        let node = self.node(replica)?;
        let mut conn = node.conn()?;
        let mut asked: Option<Instant> = None;
        let promoted_at = wait_some(
            SETTLE_DEADLINE,
            &format!("{} is promoted", node.address()),
            || {
                if is_primary(&mut conn)? {
                    return Ok(Some(Instant::now()));
                }
                if asked.is_none_or(|at| at.elapsed() > MANUAL_FAILOVER_TIMEOUT) {
                    conn.must("CLUSTER FAILOVER")?;
                    asked = Some(Instant::now());
                }
                Ok(None)
            },
        )?;
        self.wait_ok()?;
        Ok(promoted_at)
    }

    /// Waits until a node is a primary by its own word; gives the moment when that was first seen.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn wait_promoted(&self, node: usize) -> Result<Instant> {
        let node = self.node(node)?;
        let mut conn = node.conn()?;
        wait_some(
            SETTLE_DEADLINE,
            &format!("{} is promoted", node.address()),
            || Ok(is_primary(&mut conn)?.then(Instant::now)),
        )
    }

    /// Waits until a replica has a live link to its primary and all of its data.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn wait_synced(&self, replica: usize) -> Result<()> {
        let node = self.node(replica)?;
        wait_until(
            SETTLE_DEADLINE,
            &format!("{} is in sync", node.address()),
            || Ok(node.info("replication", "master_link_status")? == "up"),
        )
    }

    /// Waits until every running replica is in sync.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn wait_replicas_synced(&self) -> Result<()> {
        let view = self.any_view()?;
        for member in view
            .members
            .iter()
            .filter(|member| !member.primary.is_empty())
        {
            let number = self.number_of(&member.id)?;
            if self.nodes[number].process_id().is_ok() {
                self.wait_synced(number)?;
            }
        }
        Ok(())
    }

    /// Kills the primary of a slot with `kill -9`; gives it and the replica that should follow it.
    ///
    /// # Errors
    /// If it has no replica in sync.
    pub fn kill_primary_of(&mut self, slot: u16) -> Result<(usize, usize)> {
        let primary = self.primary_of(slot)?;
        let replica = self.replica_of(primary)?;
        self.wait_synced(replica)?;
        self.node_mut(primary)?.kill()?;
        Ok((primary, replica))
    }

    /// Makes every node meet every other at its present address: what an operator does after all IPs changed at once.
    ///
    /// # Errors
    /// If a node refuses.
    pub fn meet_all(&self) -> Result<()> {
        form::meet_all(&self.nodes)
    }

    /// Deletes all keys.
    ///
    /// # Errors
    /// If a primary does not answer.
    pub fn flush(&self) -> Result<()> {
        let view = self.any_view()?;
        for (id, _, _) in view.owners() {
            self.node(self.number_of(&id)?)?.must("FLUSHALL")?;
        }
        Ok(())
    }

    /// Calls of a command over all running nodes, by their own statistics.
    ///
    /// # Errors
    /// If a node does not answer.
    pub fn calls(&self, command: &str) -> Result<u64> {
        self.nodes
            .iter()
            .filter(|node| node.process_id().is_ok())
            .map(|node| node.calls(command))
            .sum()
    }
}

/// What a node says of itself.
fn is_primary(conn: &mut Conn) -> Result<bool> {
    let role = conn.must("ROLE")?;
    Ok(role
        .items()?
        .first()
        .is_some_and(|role| role.text().is_ok_and(|role| role == "master")))
}

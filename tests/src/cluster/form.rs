//! Forming a cluster quickly: distinct config epochs, slots, everybody meets everybody, then the replicas.

use super::{Cluster, ClusterOptions, SETTLE_DEADLINE, View};
use crate::SLOT_COUNT;
use crate::conn::Conn;
use crate::net::next_address;
use crate::node::{Node, NodeOptions};
use crate::wait::wait_until;
use anyhow::{Context, Result, ensure};
use std::net::SocketAddrV4;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Between the ports of nodes that share an IP.
const PORTS_APART: u16 = 10;

/// After this time nodes that do not know each other yet are introduced again. Well above what it usually takes.
const MEET_AGAIN: Duration = Duration::from_secs(8);

/// Starts all servers of a cluster, side by side.
pub(super) fn launch(options: &ClusterOptions) -> Result<Cluster> {
    let count = options.primaries * (1 + options.replicas);
    let host = next_address()?;
    let launch_one = |n: usize| {
        let port = host.port() + PORTS_APART * u16::try_from(n)?;
        let shared = SocketAddrV4::new(*host.ip(), port);
        Node::launch(NodeOptions {
            version: options.version,
            cluster: true,
            relayed: options.relayed,
            settings: options.settings.clone(),
            address: options.one_host.then_some(shared),
        })
    };
    let mut nodes = (0..count).map(launch_one).collect::<Result<Vec<Node>>>()?;
    let mut ids = Vec::new();
    for node in &mut nodes {
        node.wait_started()?;
        ids.push(node.must("CLUSTER MYID")?.text()?);
    }
    Ok(Cluster {
        nodes,
        ids,
        primaries: options.primaries,
    })
}

/// Slots of a shard when `shards` share them evenly.
pub(super) fn share(shards: usize, shard: usize) -> RangeInclusive<u16> {
    let bound = |n: usize| n * usize::from(SLOT_COUNT) / shards;
    let narrow = |n: usize| u16::try_from(n).unwrap_or(SLOT_COUNT);
    narrow(bound(shard))..=narrow(bound(shard + 1) - 1)
}

/// Every node meets every other: quicker than waiting for gossip.
pub(super) fn meet_all(nodes: &[Node]) -> Result<()> {
    for (n, node) in nodes.iter().enumerate() {
        let mut conn = node.conn()?;
        for other in nodes.iter().skip(n + 1) {
            meet(&mut conn, other)?;
        }
    }
    Ok(())
}

/// Introduces a node to the one at the other end of the connection.
pub(super) fn meet(conn: &mut Conn, other: &Node) -> Result<()> {
    let address = other.address();
    let (ip, port) = (address.ip(), address.port());
    let bus = port + crate::net::BUS_OFFSET;
    conn.must(&format!("CLUSTER MEET {ip} {port} {bus}"))?;
    Ok(())
}

impl Cluster {
    /// Makes a cluster of servers that were started alone.
    ///
    /// # Errors
    /// If a server refuses, or the cluster does not settle.
    pub fn form(&self) -> Result<()> {
        self.set_epochs_and_meet()?;
        for shard in 0..self.primaries {
            self.give_slots(shard, self.initial_slots(shard))?;
        }
        self.wait_everybody_connected()?;
        self.attach_replicas()?;
        self.wait_ok()?;
        self.wait_replicas_known()
    }

    /// Gives slots that nobody owns to a primary.
    ///
    /// # Errors
    /// If the primary refuses.
    pub fn give_slots(&self, primary: usize, slots: RangeInclusive<u16>) -> Result<()> {
        let node = self.node(primary)?;
        let command = if node.version().at_least_7() {
            format!("CLUSTER ADDSLOTSRANGE {} {}", slots.start(), slots.end())
        } else {
            let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
            format!("CLUSTER ADDSLOTS {}", slots.join(" "))
        };
        node.must(&command)?;
        Ok(())
    }

    /// First half of forming: distinct epochs, so that no two nodes ever quarrel about a slot, and the introductions.
    ///
    /// # Errors
    /// If a node refuses.
    pub fn set_epochs_and_meet(&self) -> Result<()> {
        for (n, node) in self.nodes.iter().enumerate() {
            node.must(&format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1))?;
        }
        meet_all(&self.nodes)
    }

    /// Waits until every node has a link to every other. An introduction is forgotten if the other side takes too long to answer it,
    /// so it is repeated.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn wait_everybody_connected(&self) -> Result<()> {
        let mut introduced = Instant::now();
        wait_until(
            SETTLE_DEADLINE,
            "every node is connected to every other",
            || {
                if introduced.elapsed() > MEET_AGAIN {
                    introduced = Instant::now();
                    meet_all(&self.nodes)?;
                }
                for node in &self.nodes {
                    let view = View::of(node)?;
                    ensure!(
                        view.members.len() == self.nodes.len(),
                        "{} is alone",
                        node.address()
                    );
                    let ready = view
                        .members
                        .iter()
                        .all(|member| member.connected && !member.has("handshake"));
                    ensure!(ready, "{} shakes hands", node.address());
                }
                Ok(true)
            },
        )
    }

    /// Makes the replicas follow their primaries.
    ///
    /// # Errors
    /// If one refuses.
    pub fn attach_replicas(&self) -> Result<()> {
        for replica in self.primaries..self.nodes.len() {
            let primary = self.id(replica % self.primaries)?;
            self.node(replica)?
                .must(&format!("CLUSTER REPLICATE {primary}"))?;
        }
        Ok(())
    }

    fn wait_replicas_known(&self) -> Result<()> {
        let replicas = self.nodes.len() - self.primaries;
        wait_until(SETTLE_DEADLINE, "every node knows every replica", || {
            for node in &self.nodes {
                let view = View::of(node)?;
                let known = view
                    .members
                    .iter()
                    .filter(|member| member.has("slave"))
                    .count();
                ensure!(
                    known == replicas,
                    "{} knows {known} replicas",
                    node.address()
                );
            }
            Ok(true)
        })?;
        self.wait_replicas_synced()
    }
}

impl Node {
    /// A field of `CLUSTER INFO`.
    ///
    /// # Errors
    /// If the server does not answer or has no such field.
    pub fn info_cluster(&self, field: &str) -> Result<String> {
        let text = self.must("CLUSTER INFO")?.text()?;
        let prefix = format!("{field}:");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
        Ok(line
            .with_context(|| format!("no {field} in CLUSTER INFO"))?
            .to_owned())
    }
}

//! Making a cluster of the servers, by the commands that redis-cli would send.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use slotway_core::slot::SLOT_COUNT;
use slotway_core::topology::Address;
use tokio::time::{Instant, sleep};

use super::servers::Servers;
use crate::question::{Answer, Questioner};

/// A cluster on one machine is formed in some 3 s, of which servers insist on 2.
const DEADLINE: Duration = Duration::from_secs(20);
/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);

/// Forms the cluster: the first half become primaries, each of the others a replica of one. Returns the servers' version.
pub(super) async fn form(servers: &mut Servers) -> anyhow::Result<String> {
    let deadline = Instant::now() + DEADLINE;
    let addresses: Vec<SocketAddr> = servers.addresses().collect();
    let mut nodes = Vec::with_capacity(addresses.len());
    for address in &addresses {
        nodes.push(connect(servers, *address, deadline).await?);
    }
    let count = nodes.len();
    let (primaries, replicas) = nodes.split_at_mut(count / 2);
    assign_slots(primaries).await?;
    introduce(primaries, replicas).await?;
    let known = format!("cluster_known_nodes:{count}");
    for node in primaries.iter_mut().chain(&mut *replicas) {
        node.until(deadline, &["CLUSTER", "INFO"], &known).await?;
    }
    for (primary, replica) in primaries.iter_mut().zip(&mut *replicas) {
        let id = primary.call(&["CLUSTER", "MYID"]).await?;
        // A node that has not heard that the other is a primary refuses at first.
        replica
            .until(deadline, &["CLUSTER", "REPLICATE", &id], "OK")
            .await?;
    }
    for node in primaries.iter_mut().chain(&mut *replicas) {
        node.until(deadline, &["CLUSTER", "INFO"], "cluster_state:ok")
            .await?;
    }
    for replica in replicas {
        replica
            .until(deadline, &["INFO", "replication"], "master_link_status:up")
            .await?;
    }
    version(&mut primaries[0]).await
}

/// Waits for a server to listen.
async fn connect(
    servers: &mut Servers,
    address: SocketAddr,
    deadline: Instant,
) -> anyhow::Result<Node> {
    let target = Address::new(&address.ip().to_string(), address.port());
    loop {
        match Questioner::connect(&target).await {
            Ok(questions) => return Ok(Node { address, questions }),
            Err(error) if Instant::now() > deadline => {
                return Err(error)
                    .with_context(|| format!("the server on {address} does not listen"));
            }
            Err(_) => servers.check_alive()?,
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// Gives each primary its share of the slots, and an epoch of its own so that they need not settle who is right.
async fn assign_slots(primaries: &mut [Node]) -> anyhow::Result<()> {
    let count = primaries.len();
    for (index, primary) in primaries.iter_mut().enumerate() {
        let bound = |index: usize| index * usize::from(SLOT_COUNT) / count;
        let slots: Vec<String> = (bound(index)..bound(index + 1))
            .map(|slot| slot.to_string())
            .collect();
        // Not ADDSLOTSRANGE, which servers before 7.0 do not know.
        let words: Vec<&str> = ["CLUSTER", "ADDSLOTS"]
            .into_iter()
            .chain(slots.iter().map(String::as_str))
            .collect();
        primary.call(&words).await?;
        primary
            .call(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])
            .await?;
    }
    Ok(())
}

/// Tells every node of every later one: they would find each other by gossip, but later.
async fn introduce(primaries: &mut [Node], replicas: &mut [Node]) -> anyhow::Result<()> {
    let ports: Vec<String> = primaries
        .iter()
        .chain(&*replicas)
        .map(|node| node.address.port().to_string())
        .collect();
    for (index, node) in primaries.iter_mut().chain(replicas).enumerate() {
        for port in ports.iter().skip(index + 1) {
            node.call(&["CLUSTER", "MEET", "127.0.0.1", port]).await?;
        }
    }
    Ok(())
}

/// "redis 7.0.15" or "valkey 9.1.2".
async fn version(node: &mut Node) -> anyhow::Result<String> {
    let info = node.call(&["INFO", "server"]).await?;
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let (name, version) = match field("valkey_version") {
        Some(version) => ("valkey", version),
        None => (
            "redis",
            field("redis_version").unwrap_or("of unknown version"),
        ),
    };
    Ok(format!("{name} {version}"))
}

/// A connection to one server.
struct Node {
    address: SocketAddr,
    questions: Questioner,
}

impl Node {
    /// Sends a command until its reply contains `wanted`.
    async fn until(
        &mut self,
        deadline: Instant,
        words: &[&str],
        wanted: &str,
    ) -> anyhow::Result<()> {
        loop {
            let reply = self.ask(words).await?;
            match reply {
                Ok(text) if text.contains(wanted) => return Ok(()),
                Ok(text) | Err(text) if Instant::now() > deadline => {
                    bail!(
                        "the cluster did not form: {} on {} still answers without {wanted}:\n{text}",
                        words.join(" "),
                        self.address
                    )
                }
                _ => sleep(LOOK_INTERVAL).await,
            }
        }
    }

    /// Sends a command that has to succeed.
    async fn call(&mut self, words: &[&str]) -> anyhow::Result<String> {
        let shown: Vec<&str> = words.iter().take(4).copied().collect();
        self.ask(words).await?.map_err(|error| {
            anyhow::anyhow!("{} refused {}: {error}", self.address, shown.join(" "))
        })
    }

    /// Sends a command; the reply as text, or the error.
    async fn ask(&mut self, words: &[&str]) -> anyhow::Result<Answer> {
        let asked = self.questions.ask(words).await;
        asked.with_context(|| format!("the server on {} does not answer", self.address))
    }
}

//! Nodes that join a running cluster, leave it, or change their address.

use super::{Cluster, SETTLE_DEADLINE, View, form};
use crate::node::{Node, NodeOptions};
use crate::wait::wait_until;
use anyhow::{Context, Result, ensure};
use std::time::Instant;

impl Cluster {
    /// Starts a further node and makes it a member, a primary without slots; gives its number.
    ///
    /// # Errors
    /// If it does not start, or the members do not get to know it in time.
    pub fn add_primary(&mut self) -> Result<usize> {
        let options: NodeOptions = self.nodes[0].options().clone();
        let mut node = Node::launch(NodeOptions {
            address: None,
            ..options
        })?;
        node.wait_started()?;
        let id = node.must("CLUSTER MYID")?.text()?;
        let mut conn = node.conn()?;
        for other in self.running() {
            form::meet(&mut conn, other)?;
        }
        self.nodes.push(node);
        self.ids.push(id);
        wait_until(SETTLE_DEADLINE, "every node knows the new one", || {
            let count = self.running().count();
            for node in self.running() {
                let view = View::of(node)?;
                let ready = |id: &String| {
                    let member = view.members.iter().find(|member| member.id == *id);
                    member.is_some_and(|member| member.connected && !member.has("handshake"))
                };
                let known = self.ids.iter().filter(|id| ready(id)).count();
                ensure!(known >= count, "{} knows {known}", node.address());
            }
            Ok(true)
        })?;
        // It takes part when it says itself that the cluster is ok.
        self.wait_ok()?;
        Ok(self.nodes.len() - 1)
    }

    /// Makes the members forget the node that was added last, whose slots must have been moved away, and ends it.
    ///
    /// # Errors
    /// If it still owns slots, or a member refuses.
    pub fn remove_last(&mut self) -> Result<()> {
        let id = self.ids.last().context("no node")?.clone();
        let view = self.any_view()?;
        let owns = view.owners().iter().any(|(owner, _, _)| *owner == id);
        ensure!(!owns, "{id} still owns slots");
        ensure!(
            view.members.iter().all(|member| member.primary != id),
            "{id} still has replicas"
        );
        for other in self.running().take_while(|node| !self.is_last(node)) {
            other.must(&format!("CLUSTER FORGET {id}"))?;
        }
        self.ids.pop();
        // Nothing depends on it any more. (By then it may be a replica: a primary that gives its last slot away follows the one
        // that got it.)
        self.nodes.pop().context("no node")?.kill()
    }

    fn is_last(&self, node: &Node) -> bool {
        self.nodes
            .last()
            .is_some_and(|last| last.address() == node.address())
    }

    /// Waits until every running node knows the present address of this one; gives the moment when that was first seen.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn wait_address_known(&self, node: usize) -> Result<Instant> {
        let id = self.id(node)?;
        let address = self.node(node)?.announced().to_string();
        let what = format!("every node knows that {id} is at {address}");
        wait_until(SETTLE_DEADLINE, &what, || {
            for node in self.running() {
                let view = View::of(node)?;
                let member = view.members.iter().find(|member| member.id == id);
                let known = member.is_some_and(|member| {
                    member.has("myself") || (member.address == address && member.connected)
                });
                ensure!(known, "{} does not know it", node.address());
            }
            Ok(true)
        })?;
        Ok(Instant::now())
    }

    fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.process_id().is_ok())
    }
}

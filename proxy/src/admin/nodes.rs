//! What all workers and the topology say of each node.

use std::collections::BTreeMap;

use slotway_core::metrics::{Histogram, WorkerReport};
use slotway_core::topology::{NodeState, Snapshot};

/// What is known of one node.
#[derive(Debug)]
pub(super) struct NodeFigures {
    /// The cluster's name of the node; empty if it was only ever an address.
    pub(super) id: String,
    /// Where it is.
    pub(super) address: String,
    /// Workers that are connected to it.
    pub(super) connections: u64,
    /// The cluster counts it as failed.
    pub(super) failed: bool,
    /// Requests not answered.
    pub(super) in_flight: u64,
    /// Requests answered.
    pub(super) answered: u64,
    /// Time from sending to reply.
    pub(super) latency: Histogram,
}

impl NodeFigures {
    fn new(id: String, address: String) -> Self {
        Self {
            id,
            address,
            connections: 0,
            failed: false,
            in_flight: 0,
            answered: 0,
            latency: Histogram::default(),
        }
    }

    /// Nothing speaks against the node. A node that nobody has needed yet has no connection, and that is no fault.
    pub(super) const fn up(&self) -> bool {
        !self.failed && (self.connections > 0 || self.in_flight == 0)
    }
}

/// Every node of the topology or of a worker, in the order of their addresses.
pub(super) fn by_node(
    workers: &[(usize, Box<WorkerReport>)],
    snapshot: &Snapshot,
) -> Vec<NodeFigures> {
    let mut nodes: BTreeMap<(String, String), NodeFigures> = BTreeMap::new();
    let mut entry = |id: &str, address: String, update: &dyn Fn(&mut NodeFigures)| {
        let key = (address.clone(), id.to_owned());
        update(
            nodes
                .entry(key)
                .or_insert_with(|| NodeFigures::new(id.to_owned(), address)),
        );
    };
    for node in snapshot.nodes() {
        entry(node.id.as_str(), node.address.to_string(), &|figures| {
            figures.failed = node.state == NodeState::Failed;
        });
    }
    for link in workers.iter().flat_map(|(_, report)| &report.links) {
        entry(link.node.as_str(), link.address.to_string(), &|figures| {
            figures.connections += u64::from(link.up);
            figures.in_flight += link.in_flight as u64;
            figures.answered += link.answered;
            figures.latency.add(&link.latency);
        });
    }
    nodes.into_values().collect()
}

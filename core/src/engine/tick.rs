//! What the passing of time and a new topology set in motion.

use std::sync::Arc;

use super::links::LinkLoss;
use super::request::State;
use super::{Engine, LinkKey};
use crate::backend::LinkPhase;
use crate::metrics::{LinkReport, WorkerReport};
use crate::time::Timestamp;
use crate::topology::{NodeId, Snapshot};

impl Engine {
    /// Looks at everything that depends on time. To be called every few milliseconds while [`Self::needs_tick`], else every
    /// second.
    pub fn tick(&mut self) {
        self.give_up_silent_links();
        self.retire_links();
        self.release_parked(false);
        self.run_pending();
    }

    /// Whether requests wait for a moment in time.
    #[must_use]
    pub fn needs_tick(&self) -> bool {
        self.has_parked() || self.links.iter().any(|(_, link)| link.owed() > 0 || !link.is_ready())
    }

    /// Adopts a new topology: what waits is routed again at once.
    pub fn set_snapshot(&mut self, snapshot: Arc<Snapshot>) {
        self.nodes.adopt(&snapshot);
        self.snapshot = snapshot;
        let waiting: Vec<LinkKey> = self
            .links
            .iter()
            .filter(|(_, link)| !link.waiting.is_empty())
            .map(|(index, _)| LinkKey::from_index(index))
            .collect();
        for key in waiting {
            for request in std::mem::take(&mut self.links[key.index()].waiting) {
                self.requests[request].detour = None;
                // Parked for no time at all: the next lines take it up in the order of its session.
                self.park(request, None, Timestamp::ZERO);
            }
        }
        self.release_parked(true);
        self.retire_links();
        let targets: Vec<_> = self.parked.iter().filter_map(|key| self.requests[*key].detour).map(|(node, _)| node).collect();
        let links = &self.links;
        self.nodes.forget_unused(|node| targets.contains(&node) || links.iter().any(|(_, link)| link.node == node));
        self.run_pending();
    }

    /// Gives up links that owe replies and have been silent for too long [HL1].
    fn give_up_silent_links(&mut self) {
        let silent: Vec<LinkKey> = self
            .links
            .iter()
            .filter(|(_, link)| match link.phase {
                LinkPhase::Ready => link.owed() > 0,
                LinkPhase::Handshaking(_) => true,
                LinkPhase::Connecting | LinkPhase::Closed => false,
            })
            .filter(|(_, link)| {
                let node = &self.nodes[link.node];
                let demoted = node.id.is_some() && !node.primary;
                let limit = if demoted { self.limits.demoted_timeout } else { self.limits.node_timeout };
                self.now.since(link.progress) >= limit
            })
            .map(|(index, _)| LinkKey::from_index(index))
            .collect();
        for key in silent {
            self.lose_link(key, LinkLoss::Silent);
        }
    }

    /// Figures for the metrics.
    #[must_use]
    pub fn report(&self) -> WorkerReport {
        let links = self.nodes.iter().filter(|(_, node)| node.known || node.has_links()).map(|(key, node)| LinkReport {
            node: node.id.clone().unwrap_or_else(|| NodeId::new("")),
            address: node.address.clone(),
            up: self.links.iter().any(|(_, link)| link.node == key && link.is_ready()),
            in_flight: self.links.iter().filter(|(_, link)| link.node == key).map(|(_, link)| link.owed() + link.waiting.len()).sum(),
            answered: node.answered,
            latency: node.latency.clone(),
        });
        WorkerReport {
            metrics: self.metrics.clone(),
            connections: self.sessions.len(),
            in_flight: self.requests.len(),
            parked_now: self.parked.len(),
            parked_bytes: self.parked_bytes,
            generation: self.snapshot.generation,
            links: links.collect(),
        }
    }

    /// Checks what must hold between any two calls; for tests.
    ///
    /// # Panics
    /// If an invariant is broken.
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        let owed: usize = self.links.iter().map(|(_, link)| link.owed()).sum();
        for (_, session) in &self.sessions {
            let disturbed = session.queue.iter().flat_map(|key| match self.requests[*key].state {
                State::Group(group) => [&self.groups[group.index()].parts[..], &[*key]].concat(),
                _ => vec![*key],
            });
            let disturbed = disturbed.filter(|key| self.requests[*key].disturbed).count();
            assert_eq!(disturbed, session.disturbed as usize, "disturbed requests are counted");
            assert!(!session.queue.front().is_some_and(|key| self.requests[*key].is_done()), "a known reply is due at once");
            assert!(!session.unsettled, "nothing is left for later");
        }
        assert!(owed <= self.requests.len() * 2, "each reply owed has a request or an ASKING");
    }
}

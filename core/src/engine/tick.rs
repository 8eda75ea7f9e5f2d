//! What the passing of time and a new topology set in motion.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::request::{Request, Retry, State};
use super::{Engine, LinkKey, NodeKey, RequestKey};
use crate::metrics::{LinkReport, WorkerMetrics, WorkerReport};
use crate::session::Session;
use crate::topology::{NodeId, Snapshot};

/// So many links are looked at in each tick.
const FEW_LINKS: usize = 256;

/// Of more of them, so many times in the time after which a node is given up.
const LINK_LOOKS: u32 = 40;

impl Engine {
    /// Looks at everything that depends on time. To be called every few milliseconds while [`Self::needs_tick`], else every
    /// second.
    pub fn tick(&mut self) {
        self.end_due_pause();
        self.moments.note(self.now);
        self.forgive_own_stall();
        let looks = self.looks_at_links();
        if looks {
            self.watch_silence();
            self.end_overdue();
        }
        self.watch_foremost();
        if looks {
            self.retire_links();
        }
        self.note_admissions();
        self.end_late_unblocks();
        self.tend_subscriptions();
        self.tend_tracking(looks);
        self.release_due();
        self.resume_crowd();
        self.slow_noted = 0;
        self.run_pending();
    }

    /// Whether it is time to look at all links. Clients that wait have one each: with very many of them, not in every tick, for
    /// nothing about links depends on a few milliseconds.
    fn looks_at_links(&mut self) -> bool {
        let limits = &self.limits;
        let of_nodes = limits.node_timeout.min(limits.demoted_timeout);
        let shortest = of_nodes.min(limits.request_timeout);
        let pause = shortest / LINK_LOOKS;
        let looks = self.links.len() <= FEW_LINKS || self.now.since(self.links_seen) >= pause;
        if looks {
            self.links_seen = self.now;
            #[cfg(test)]
            {
                self.looks += 1;
            }
        }
        looks
    }

    /// Whether requests wait for a moment in time.
    #[must_use]
    pub fn needs_tick(&self) -> bool {
        self.has_parked()
            || self.subscriptions.are_restless()
            || self
                .links
                .iter()
                .any(|(_, link)| link.owed() > 0 || !(link.is_ready() || link.is_feeding()))
    }

    /// Adopts a new topology: what waits for a node that is not the right one any more is routed again at once.
    pub fn set_snapshot(&mut self, snapshot: Arc<Snapshot>) {
        let blocked = self.blocked_at_primaries();
        let owners = self.owners_for_trackers();
        let primaries = self.nodes.primaries().to_vec();
        self.nodes.adopt(&snapshot);
        self.nodes.assign_readers();
        let before = std::mem::replace(&mut self.snapshot, snapshot);
        self.note_gains(&before);
        self.note_replaced(&primaries);
        self.note_demotions(&blocked);
        self.break_moved_watches();
        self.note_moved(&owners);
        self.link_broadcasters();
        let waiting: Vec<LinkKey> = self
            .links
            .iter()
            .filter(|(_, link)| !link.waiting.is_empty())
            .map(|(index, _)| LinkKey::from_index(index))
            .collect();
        for key in waiting {
            self.reroute_misdirected(key);
        }
        self.release_rerouted();
        self.place_anew();
        self.run_pending();
        self.retire_links();
        self.run_pending();
        self.forget_nodes();
    }

    /// Forgets nodes that nobody names any more, and that no request is for.
    pub(super) fn forget_nodes(&mut self) {
        let targets = self.redirection_targets();
        let linked: BTreeSet<NodeKey> = self.links.iter().map(|(_, link)| link.node).collect();
        self.nodes
            .forget_unused(|node| targets.contains(&node) || linked.contains(&node));
    }

    /// Has those of the requests that wait for `link` routed again that the topology sends to another node.
    fn reroute_misdirected(&mut self, link: LinkKey) {
        let node = self.links[link.index()].node;
        for key in std::mem::take(&mut self.links[link.index()].waiting) {
            if self.is_bound_for(node, key) {
                self.links[link.index()].waiting.push_back(key);
            } else {
                // Followed or not, the redirection counts [E4].
                self.requests[key].detour = None;
                self.reroute(key);
            }
        }
    }

    /// Whether request `key`, which waits for a link to `node`, is to go there by the topology just adopted.
    fn is_bound_for(&self, node: NodeKey, key: RequestKey) -> bool {
        let request = &self.requests[key];
        let owner = self.nodes.owner(&self.snapshot, request.shape.slot);
        match request.detour {
            None => owner == Some(node),
            // That holds whoever owns the slot [E6].
            Some((_, true)) => true,
            // A topology that names the node that said MOVED is older than that answer.
            Some((_, false)) => {
                owner.is_none() || owner == Some(node) || owner == request.blocked_by
            }
        }
    }

    /// The nodes that outstanding requests were pointed to.
    fn redirection_targets(&self) -> Vec<NodeKey> {
        let mut targets = Vec::new();
        for (_, session) in &self.sessions {
            self.for_each_outstanding(session, |request| {
                targets.extend(request.detour.map(|(node, _)| node));
                if let State::Refused(Retry::At { node, .. }) = request.state {
                    targets.push(node);
                }
            });
        }
        targets
    }

    /// Visits the requests in the queue of a session, the parts of those that have some, and its orphans.
    pub(super) fn for_each_outstanding(&self, session: &Session, mut visit: impl FnMut(&Request)) {
        for key in &session.orphans {
            visit(&self.requests[*key]);
        }
        for key in &session.queue {
            let request = &self.requests[*key];
            visit(request);
            if let State::Group(group) = request.state {
                for part in &self.groups[group.index()].parts {
                    visit(&self.requests[*part]);
                }
            }
        }
    }

    /// Figures for the metrics.
    #[must_use]
    pub fn report(&self) -> WorkerReport {
        let links = self
            .nodes
            .iter()
            .filter(|(_, node)| node.known || node.has_links())
            .map(|(key, node)| LinkReport {
                node: node.id.clone().unwrap_or_else(|| NodeId::new("")),
                address: node.address.clone(),
                up: self
                    .links
                    .iter()
                    .any(|(_, link)| link.node == key && link.is_ready() && !link.probe),
                in_flight: self
                    .links
                    .iter()
                    .filter(|(_, link)| link.node == key && !link.probe && !link.feed)
                    .map(|(_, link)| link.owed() + link.waiting.len())
                    .sum(),
                answered: node.latency.count(),
                latency: node.latency.clone(),
            });
        WorkerReport {
            metrics: WorkerMetrics {
                backend: self.nodes.latency(),
                ..self.metrics.clone()
            },
            connections: self.sessions.len(),
            in_flight: self.requests.len(),
            parked_now: self.parked.len(),
            parked_bytes: self.parked.bytes(),
            blocked: self.blocked_clients(),
            private_links: self
                .nodes
                .iter()
                .map(|(_, node)| node.private + node.tracking)
                .sum(),
            topics: self.subscriptions.registry.len(),
            reply_bytes: self.reply_bytes,
            request_bytes: self.request_bytes() + self.request_memory.dropping,
            generation: self.snapshot.generation,
            links: links.collect(),
        }
    }
}

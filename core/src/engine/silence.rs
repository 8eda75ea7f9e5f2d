//! Telling a dead node from a busy one [HL1] [HL2].
//!
//! A node that owes replies and is silent may be gone, hang, or be busy: servers pause writes around a manual failover, for up to
//! 10 s, and answer only `BUSY` during a long script. So it is asked on a connection of its own, the probe. What answers there is
//! alive, and giving up its other connections would only make their writes uncertain.

use std::time::Duration;

use super::links::LinkLoss;
use super::{Action, Engine, LinkKey, NodeKey};
use crate::backend::{Link, LinkPhase, Owed};
use crate::topology::{Hint, RefreshReason};

/// Ticks further apart than this mean that the worker was held up.
const LONGEST_TICK: Duration = Duration::from_millis(500);

/// Silence in a handshake after which the link is given up: no server pauses what is asked there.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A silent node is asked this often whether it is there; more often where it is given little time.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(1);

pub(super) const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

impl Engine {
    /// Looks for nodes that owe replies and are silent.
    pub(super) fn watch_silence(&mut self) {
        self.give_up_silent_links();
        self.probe_silent_nodes();
    }

    /// Time in which this worker itself did not run is not silence of the nodes: their replies may be waiting in the sockets.
    pub(super) fn forgive_own_stall(&mut self) {
        let stall = self.now.since(self.last_tick).saturating_sub(LONGEST_TICK);
        self.last_tick = self.now;
        if stall.is_zero() {
            return;
        }
        self.patient_until = self.now.after(LONGEST_TICK);
        self.request_memory.forgive(stall, self.now);
        for (_, link) in &mut self.links {
            link.progress = link.progress.after(stall).min(self.now);
        }
        for node in self.nodes.iter_mut() {
            node.heard = node.heard.after(stall).min(self.now);
        }
    }

    /// Gives up links that owe replies and have been silent for too long.
    fn give_up_silent_links(&mut self) {
        let silent: Vec<LinkKey> = self
            .links
            .iter()
            .filter(|(_, link)| self.is_dead(link))
            .map(|(index, _)| LinkKey::from_index(index))
            .collect();
        for key in silent {
            self.lose_link(key, LinkLoss::Silent);
        }
    }

    fn is_dead(&self, link: &Link) -> bool {
        let node = &self.nodes[link.node];
        let demoted = node.id.is_some() && !node.primary;
        let limit = if demoted {
            self.limits.demoted_timeout
        } else {
            self.limits.node_timeout
        };
        let silence = self.now.since(link.progress);
        match link.phase {
            LinkPhase::Connecting | LinkPhase::Closed => false,
            LinkPhase::Handshaking(_) => silence >= limit.min(HANDSHAKE_TIMEOUT),
            // It is not read, for a client that does not keep up; but not for ever.
            LinkPhase::Ready if link.held => silence >= self.limits.busy_timeout,
            LinkPhase::Ready if link.owed() == 0 || silence < limit => false,
            // Nothing that a server pauses is asked there: what answers on another connection is alive, but this one is not.
            LinkPhase::Feeding => link.owed() > 0 && silence >= limit,
            LinkPhase::Ready => {
                let answers_elsewhere = !link.probe && self.now.since(node.heard) < limit;
                let is_pointless = if link.is_blocked() {
                    // It says nothing before there is something to be popped, which may be never.
                    self.is_waiting_in_vain(link)
                } else {
                    silence >= self.limits.busy_timeout
                };
                !answers_elsewhere || is_pointless
            }
        }
    }

    fn probe_silent_nodes(&mut self) {
        let interval = self.probe_interval();
        let mut silent: Vec<(NodeKey, bool)> = self
            .links
            .iter()
            .filter(|(_, link)| link.is_ready() && !link.probe && !link.held && link.owed() > 0)
            .filter(|(_, link)| self.now.since(link.progress) >= interval)
            .filter(|(_, link)| !link.is_blocked() || self.is_unheard(link.node, interval))
            .map(|(_, link)| (link.node, link.is_blocked()))
            .collect();
        silent.sort_unstable();
        silent.dedup_by_key(|(node, _)| *node);
        let needless: Vec<LinkKey> = self
            .nodes
            .iter()
            .filter(|(node, _)| !silent.iter().any(|(silent, _)| silent == node))
            .filter_map(|(_, node)| node.probe)
            .collect();
        if !needless.is_empty() {
            for key in needless {
                self.lose_link(key, LinkLoss::Retired);
            }
            self.hurry_reads();
        }
        for (node, is_expected) in silent {
            self.probe(node, interval, is_expected);
        }
    }

    /// Whether nothing has come from the node for a while but what it was asked by a probe [B12].
    fn is_unheard(&self, node: NodeKey, interval: Duration) -> bool {
        let node = &self.nodes[node];
        node.probe.is_some() || self.now.since(node.heard) >= interval
    }

    /// Whether the node owes replies that should have come: it may be gone. If it owes them only to clients that wait there, what it
    /// says to the probe tells.
    pub(super) fn is_suspect(&self, node: NodeKey) -> bool {
        let node = &self.nodes[node];
        node.probe.is_some_and(|probe| {
            let probe = &self.links[probe.index()];
            let owes = !probe.is_ready() || probe.owed() > 0;
            !node.probed_for_waiting
                || owes && self.now.since(probe.progress) >= self.probe_interval()
        })
    }

    fn probe_interval(&self) -> Duration {
        PROBE_INTERVAL.min(self.limits.node_timeout / 4)
    }

    /// Asks a silent node whether it is there. `is_expected`: it owes nothing but replies to those who wait.
    fn probe(&mut self, node: NodeKey, interval: Duration, is_expected: bool) {
        let now = self.now;
        let entry = &mut self.nodes[node];
        entry.probed_for_waiting = is_expected;
        if let Some(key) = entry.probe {
            let link = &mut self.links[key.index()];
            if link.is_ready() && link.owed() == 0 && now.since(link.progress) >= interval {
                link.push(Owed::Probe, PING, now);
                self.mark_link_dirty(key);
            }
            return;
        }
        if entry.probed_at.is_some_and(|at| now.since(at) < interval) {
            return;
        }
        let link = LinkKey::from_index(self.links.insert(Link::probing(node, now)));
        entry.probe = Some(link);
        entry.probed_at = Some(now);
        let (address, id) = (entry.address.clone(), entry.id.clone());
        self.actions.push_back(Action::Connect { link, address });
        if !is_expected {
            // The cluster may have noticed, too, and be about to put another node in its place.
            self.hint(Hint::Refresh {
                reason: RefreshReason::NodeSilent,
                node: id,
            });
        }
    }

    /// The probe is through its handshake. A server numbers its connections upwards: if the probe's number is lower than that of an
    /// older connection, the process at the other end of that one is gone, without a word. Older is what was in use before the
    /// probe was asked for: the number of one opened meanwhile may be higher.
    pub(super) fn on_probe_ready(&mut self, probe: LinkKey) {
        let link = &self.links[probe.index()];
        let (node, opened) = (link.node, link.opened);
        let Some(number) = link.client_id.as_ref().map(|id| id.number) else {
            return;
        };
        let orphaned: Vec<LinkKey> = self
            .links
            .iter()
            .filter(|(_, link)| link.node == node && !link.probe)
            .filter(|(_, link)| link.is_ready() || link.is_feeding())
            .filter(|(_, link)| link.ready_at < Some(opened))
            .filter(|(_, link)| link.client_id.as_ref().is_some_and(|id| id.number > number))
            .map(|(index, _)| LinkKey::from_index(index))
            .collect();
        for key in orphaned {
            self.lose_link(key, LinkLoss::Closed);
        }
    }
}

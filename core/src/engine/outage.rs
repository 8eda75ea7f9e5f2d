//! Nodes that take no requests for a while, and say so: loading their data, cut off from their cluster, not promoted yet.
//!
//! What such a node refused is sent again later. So that a backlog does not storm it [PK7], one request tries after each pause and
//! the others wait for what becomes of it.

use std::time::Duration;

use super::nodes::Node;
use super::request::Launch;
use super::{Engine, NodeKey, RequestKey};
use crate::reply::Refusal;
use crate::time::Timestamp;

/// First pause before a request tries again, doubled up to the second value: no longer, or the node would be back unnoticed.
const TRIAL_PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(100));

/// A refusal comes sooner than this.
const ADMITTED: Duration = Duration::from_millis(100);

/// What only the slot of the request is about; the node may serve others.
const SLOT_NOT_SERVED: &[u8] = b"-CLUSTERDOWN Hash slot not served";

/// A node refuses reads, or writes.
#[derive(Debug)]
pub(crate) struct Outage {
    /// When it last did.
    refused_at: Timestamp,
    /// When the next request may try.
    retry_at: Timestamp,
    /// Pauses so far.
    pauses: u8,
    /// What the node said.
    refusal: Vec<u8>,
}

/// The outages of one node: of reads, of writes.
pub(crate) type Outages = [Option<Box<Outage>>; 2];

/// Whether the refusal tells about the node rather than about one slot.
pub(super) fn concerns_node(refusal: &Refusal, reply: &[u8]) -> bool {
    match refusal {
        // One that was let wait is told; others are redirected.
        Refusal::Moved { .. } | Refusal::Ask { .. } | Refusal::TryAgain | Refusal::Demoted => false,
        Refusal::ClusterDown => !reply.starts_with(SLOT_NOT_SERVED),
        Refusal::Loading | Refusal::ReadOnly | Refusal::MasterDown => true,
    }
}

impl Engine {
    /// Node `node` refused request `key` with `reply`, as it would others: gives the time to the next attempt.
    pub(super) fn note_outage(
        &mut self,
        node: NodeKey,
        key: RequestKey,
        refusal: &Refusal,
        reply: &[u8],
    ) -> Duration {
        let is_write = self.requests[key].is_write();
        // A node that serves no reads serves no writes, but not the other way round.
        let reads_too = !is_write || matches!(refusal, Refusal::Loading);
        let mut retry_at = self.now;
        for (class, concerned) in [(0, reads_too), (1, true)] {
            if !concerned {
                continue;
            }
            let outage = self.nodes[node].outages[class].get_or_insert_with(|| {
                Box::new(Outage {
                    refused_at: Timestamp::ZERO,
                    retry_at: Timestamp::ZERO,
                    pauses: 0,
                    refusal: Vec::new(),
                })
            });
            outage.refused_at = self.now;
            outage.refusal.clear();
            outage.refusal.extend_from_slice(reply);
            // All that were refused in one go are one refusal.
            if outage.retry_at <= self.now {
                outage.pause(self.now, &mut self.rng);
            }
            if class == usize::from(is_write) {
                retry_at = outage.retry_at;
            }
        }
        retry_at.since(self.now)
    }

    /// Until when request `key` waits because `node` refuses its like; `None` if it may be sent now, perhaps as the one that tries.
    #[inline]
    pub(super) fn waits_for_trial(&mut self, node: NodeKey, key: RequestKey) -> Option<Timestamp> {
        if self.nodes[node].has_outage() {
            self.try_node(node, key)
        } else {
            None
        }
    }

    #[cold]
    fn try_node(&mut self, node: NodeKey, key: RequestKey) -> Option<Timestamp> {
        let request = &mut self.requests[key];
        let outage = self.nodes[node].outages[usize::from(request.is_write())].as_mut()?;
        if outage.retry_at <= self.now {
            outage.pause(self.now, &mut self.rng);
            return None;
        }
        if request.reply.is_empty() {
            // Shown if the node never comes back.
            request.reply.extend_from_slice(&outage.refusal);
        }
        Some(outage.retry_at)
    }

    /// A node that lets a request wait, instead of refusing it at once, takes such requests again.
    pub(super) fn note_admissions(&mut self) {
        let admitted: Vec<(NodeKey, RequestKey)> = self
            .links
            .iter()
            .filter(|(_, link)| self.nodes[link.node].has_outage())
            .filter(|(_, link)| link.oldest().is_some_and(|entry| link.is_written(entry)))
            .filter_map(|(_, link)| Some((link.node, link.blocked()?)))
            .filter(|(node, key)| {
                let request = &self.requests[*key];
                let outage = &self.nodes[*node].outages[usize::from(request.is_write())];
                outage.as_ref().is_some_and(|outage| {
                    request.sent > outage.refused_at && self.now.since(request.sent) >= ADMITTED
                })
            })
            .collect();
        for (node, key) in admitted {
            self.end_outage(node, key);
        }
    }

    /// Node `node` did what request `key` asked for: whoever waits for it goes on.
    pub(super) fn end_outage(&mut self, node: NodeKey, key: RequestKey) {
        if self.requests[key].shape.launch == Launch::Watch {
            // Servers allow that while they load their data.
            return;
        }
        let is_write = self.requests[key].is_write();
        let outages = &mut self.nodes[node].outages;
        outages[0] = None;
        if is_write {
            outages[1] = None;
        }
        self.parked.hurry(node, self.now);
    }
}

impl Outage {
    fn pause(&mut self, now: Timestamp, rng: &mut fastrand::Rng) {
        let (first, last) = TRIAL_PAUSE;
        let pause = first.saturating_mul(1 << self.pauses.min(16)).min(last);
        self.pauses = self.pauses.saturating_add(1);
        self.retry_at = now.after(pause.mul_f64(0.75 + rng.f64() / 2.0));
    }
}

impl Node {
    /// Whether it refuses reads, and none is to try now.
    pub(super) fn refuses_reads(&self, now: Timestamp) -> bool {
        let outage = self.outages[0].as_ref();
        outage.is_some_and(|outage| outage.retry_at > now)
    }

    /// Whether it refuses reads or writes.
    #[inline]
    pub(super) fn has_outage(&self) -> bool {
        self.outages.iter().any(Option::is_some)
    }
}

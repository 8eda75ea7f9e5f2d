//! Slots that nobody owns: a request for one waits for an owner, unless the nodes have said that there is none [T11].

use super::{Engine, RequestKey};
use crate::time::Timestamp;

/// What the servers themselves say.
pub(super) const NOT_SERVED: &[u8] = b"-CLUSTERDOWN Hash slot not served\r\n";

/// What discovery has made sure of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Confirmation {
    generation: u64,
    since: Timestamp,
}

impl Engine {
    /// Enough nodes, all asked at `since` or later, agree that slots without an owner in snapshot `generation` have none.
    pub fn confirm_uncovered(&mut self, generation: u64, since: Timestamp) {
        self.uncovered = Some(Confirmation { generation, since });
    }

    /// Whether it was made sure after this request had arrived that its slot, which has no owner by the snapshot, has none.
    pub(super) fn is_certainly_unowned(&self, key: RequestKey) -> bool {
        let request = &self.requests[key];
        self.limits.fast_fail_uncovered
            && request.shape.keyed
            && self.uncovered.is_some_and(|made_sure| {
                made_sure.generation == self.snapshot.generation
                    && made_sure.since >= request.arrival
            })
    }
}

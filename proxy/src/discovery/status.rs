//! What discovery counts, for the admin endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use slotway_core::topology::{RefreshReason, UnfitReason, ViewError};

/// How a round of questions ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshResult {
    /// A new snapshot was swapped in.
    Changed,
    /// The nodes confirmed the table.
    Unchanged,
    /// A sudden loss waits for its confirmation [T15].
    Held,
    /// Nodes answered, but no view could be used: all of them are in trouble, reset, or of another cluster.
    Unfit,
    /// No node answered.
    Failed,
}

impl RefreshResult {
    const ALL: [Self; 5] = [
        Self::Changed,
        Self::Unchanged,
        Self::Held,
        Self::Unfit,
        Self::Failed,
    ];

    /// The value of the metric label `result`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Held => "held",
            Self::Unfit => "unfit",
            Self::Failed => "failed",
        }
    }
}

/// Why a node gave no view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryFailure {
    /// The connection could not be opened or broke.
    Connection,
    /// No answer in time.
    Timeout,
    /// The credentials were refused.
    Auth,
    /// The node refused the questions.
    Refused,
    /// The answer was no RESP, or larger than any cluster's.
    Protocol,
    /// The answer had a malformed row.
    BadView,
    /// Another node, not of this cluster, answered at the address [T13].
    Identity,
}

impl QueryFailure {
    const ALL: [Self; 7] = [
        Self::Connection,
        Self::Timeout,
        Self::Auth,
        Self::Refused,
        Self::Protocol,
        Self::BadView,
        Self::Identity,
    ];

    /// The value of the metric label `reason`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Auth => "auth",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
            Self::BadView => "bad_view",
            Self::Identity => "identity",
        }
    }
}

/// Counters and the time of the last success. Written by discovery, read by anyone; each figure stands for itself.
#[derive(Debug)]
pub struct DiscoveryStatus {
    started: Instant,
    /// Microseconds from `started` to the last time the nodes confirmed or changed the table, plus one; 0: never.
    last_success: AtomicU64,
    consecutive_failures: AtomicU64,
    rounds: [[AtomicU64; RefreshResult::ALL.len()]; RefreshReason::ALL.len()],
    requests: [AtomicU64; RefreshReason::ALL.len()],
    unfit_views: [AtomicU64; UnfitReason::ALL.len()],
    failures: [AtomicU64; QueryFailure::ALL.len()],
    patches: AtomicU64,
    /// Why nothing can be written though the topology is known, for people.
    trouble: ArcSwapOption<String>,
}

impl DiscoveryStatus {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            last_success: AtomicU64::new(0),
            consecutive_failures: AtomicU64::new(0),
            rounds: Default::default(),
            requests: Default::default(),
            unfit_views: Default::default(),
            failures: Default::default(),
            patches: AtomicU64::new(0),
            trouble: ArcSwapOption::empty(),
        }
    }

    /// Time since the nodes last confirmed or changed the table; `None` before the first time.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let at = self.last_success.load(Relaxed).checked_sub(1)?;
        Some(
            self.started
                .elapsed()
                .saturating_sub(Duration::from_micros(at)),
        )
    }

    /// Rounds without a usable answer since the last good one.
    #[must_use]
    pub fn consecutive_failures(&self) -> u64 {
        self.consecutive_failures.load(Relaxed)
    }

    /// Rounds by result.
    #[must_use]
    pub fn refreshes(&self) -> Vec<(&'static str, u64)> {
        let of = |result: RefreshResult| {
            self.rounds
                .iter()
                .filter_map(move |row| row.get(result as usize))
        };
        let sum = |result| of(result).map(|count| count.load(Relaxed)).sum();
        RefreshResult::ALL
            .into_iter()
            .map(|result| (result.label(), sum(result)))
            .collect()
    }

    /// Rounds by the reason of the round and by result.
    #[must_use]
    pub fn refreshes_by_reason(&self) -> Vec<(&'static str, &'static str, u64)> {
        let row = |reason: RefreshReason| self.rounds.get(reason.index()).into_iter().flatten();
        RefreshReason::ALL
            .into_iter()
            .flat_map(|reason| {
                let results = RefreshResult::ALL.into_iter().zip(row(reason));
                results.map(move |(result, count)| {
                    (reason.label(), result.label(), count.load(Relaxed))
                })
            })
            .collect()
    }

    /// Events that asked for a round, by reason; many of them lead to one round.
    #[must_use]
    pub fn requests(&self) -> Vec<(&'static str, u64)> {
        let counts = RefreshReason::ALL.into_iter().zip(&self.requests);
        counts
            .map(|(reason, count)| (reason.label(), count.load(Relaxed)))
            .collect()
    }

    /// Views that took no part in a merge, by reason.
    #[must_use]
    pub fn unfit_views(&self) -> Vec<(&'static str, u64)> {
        let counts = UnfitReason::ALL.into_iter().zip(&self.unfit_views);
        counts
            .map(|(reason, count)| (reason.label(), count.load(Relaxed)))
            .collect()
    }

    /// Questions without a view for an answer, by reason.
    #[must_use]
    pub fn query_failures(&self) -> Vec<(&'static str, u64)> {
        let counts = QueryFailure::ALL.into_iter().zip(&self.failures);
        counts
            .map(|(reason, count)| (reason.label(), count.load(Relaxed)))
            .collect()
    }

    /// Snapshots patched by `MOVED` replies ahead of a round.
    #[must_use]
    pub fn patches(&self) -> u64 {
        self.patches.load(Relaxed)
    }

    /// Why nothing can be written though the topology is known, or why it is not known.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.load().as_deref().cloned()
    }

    pub(super) fn set_trouble(&self, text: Option<String>) {
        self.trouble.store(text.map(Arc::new));
    }

    pub(super) fn count_request(&self, reason: RefreshReason) {
        add(self.requests.get(reason.index()));
    }

    pub(super) fn count_unfit(&self, reason: UnfitReason) {
        add(self.unfit_views.get(reason.index()));
    }

    pub(super) fn count_failure(&self, failure: QueryFailure) {
        add(self.failures.get(failure as usize));
    }

    pub(super) fn count_patch(&self) {
        add(Some(&self.patches));
    }

    /// Counts a finished round.
    pub(super) fn count_round(&self, reason: RefreshReason, result: RefreshResult) {
        add(self
            .rounds
            .get(reason.index())
            .and_then(|row| row.get(result as usize)));
        match result {
            RefreshResult::Changed | RefreshResult::Unchanged => {
                let micros =
                    u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
                self.last_success.store(micros + 1, Relaxed);
                self.consecutive_failures.store(0, Relaxed);
            }
            RefreshResult::Held => {}
            RefreshResult::Unfit | RefreshResult::Failed => add(Some(&self.consecutive_failures)),
        }
    }
}

fn add(counter: Option<&AtomicU64>) {
    if let Some(counter) = counter {
        counter.fetch_add(1, Relaxed);
    }
}

/// The failure that a malformed view counts as.
impl From<ViewError> for QueryFailure {
    fn from(_: ViewError) -> Self {
        Self::BadView
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_counted_by_reason_and_result_and_set_the_age() {
        let status = DiscoveryStatus::new();
        assert_eq!(status.age(), None);
        status.count_round(RefreshReason::Moved, RefreshResult::Failed);
        status.count_round(RefreshReason::Moved, RefreshResult::Unfit);
        assert_eq!((status.consecutive_failures(), status.age()), (2, None));
        status.count_round(RefreshReason::Timer, RefreshResult::Held);
        assert_eq!((status.consecutive_failures(), status.age()), (2, None));
        status.count_round(RefreshReason::Timer, RefreshResult::Unchanged);
        assert_eq!(status.consecutive_failures(), 0);
        assert!(status.age().is_some());
        let refreshes = [
            ("changed", 0),
            ("unchanged", 1),
            ("held", 1),
            ("unfit", 1),
            ("failed", 1),
        ];
        assert_eq!(status.refreshes(), refreshes);
        assert!(
            status
                .refreshes_by_reason()
                .contains(&("moved", "unfit", 1))
        );
        assert_eq!(
            status
                .refreshes_by_reason()
                .iter()
                .map(|row| row.2)
                .sum::<u64>(),
            4
        );
    }

    #[test]
    fn every_counter_has_its_own_label() {
        let status = DiscoveryStatus::new();
        status.count_request(RefreshReason::Admin);
        status.count_unfit(UnfitReason::Foreign);
        status.count_failure(QueryFailure::Identity);
        status.count_patch();
        assert!(status.requests().contains(&("admin", 1)));
        assert!(status.unfit_views().contains(&("foreign", 1)));
        assert!(status.query_failures().contains(&("identity", 1)));
        assert_eq!(status.patches(), 1);
        for (position, failure) in QueryFailure::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, position);
        }
        for (position, result) in RefreshResult::ALL.into_iter().enumerate() {
            assert_eq!(result as usize, position);
        }
    }
}

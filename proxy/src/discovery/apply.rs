//! The applying half of discovery: from the views of a round to a swapped snapshot, and patches in between.

use std::sync::Arc;

use slotway_core::time::Timestamp;
use slotway_core::topology::{
    Change, NodeState, RefreshReason, Snapshot, UnfitReason, Verdict, View, merge,
};
use tokio::time::Instant;

use super::pace::{Due, Findings};
use super::settings::VIEWS_PER_ROUND;
use super::status::RefreshResult;
use super::{Discovery, Search};

/// Rounds without a usable view before that is logged.
const FAILURES_LOGGED: u64 = 3;
/// A cluster that lost a primary is unfit for a moment, in which its nodes are polled; every so many polls the seeds are asked as
/// well, in case these nodes are cut off for good.
const SEARCH_EVERY: u64 = 10;
/// Changes named in one log line; the others are counted.
const CHANGES_SHOWN: usize = 12;

/// What the views of a round came to.
struct Applied {
    result: RefreshResult,
    /// The views differ about some slot.
    disagreement: bool,
    /// Views that took part.
    fit: usize,
}

impl<F: Fn(&Snapshot)> Discovery<F> {
    /// Ends the round that is under way: merges what it brought and plans the next one.
    pub(super) fn finish_round(&mut self, now: Instant) {
        let Some(round) = self.round.take() else {
            return;
        };
        let reason = match round.due {
            Due::Requested(reason) => reason,
            Due::Poll | Due::Timer => RefreshReason::Timer,
        };
        let Applied {
            result,
            disagreement,
            fit,
        } = self.apply(&round.views, now);
        if matches!(result, RefreshResult::Changed | RefreshResult::Unchanged) && !disagreement {
            self.confirm_uncovered(round.started, fit);
        }
        let failures_before = self.status.consecutive_failures();
        self.status.count_round(reason, result);
        self.log_result(result, failures_before, now);
        self.search = match result {
            RefreshResult::Failed => Search::Wide,
            RefreshResult::Unfit if (failures_before + 1).is_multiple_of(SEARCH_EVERY) => {
                Search::Seeds
            }
            _ => Search::No,
        };
        let findings = self.findings(result, disagreement, now);
        self.pace.finished(now, findings, self.random.f64());
    }

    /// Tells that slots without an owner have none, if `fit` nodes that were asked since then are enough to say so [T11].
    fn confirm_uncovered(&self, since: Instant, fit: usize) {
        let snapshot = self.snapshot.load();
        let enough = VIEWS_PER_ROUND.min(snapshot.nodes().len()).max(1);
        if snapshot.uncovered_slots() > 0 && fit >= enough {
            (self.on_uncovered)(snapshot.generation, since.into_std());
        }
    }

    fn apply(&mut self, views: &[View], now: Instant) -> Applied {
        let without_table = |result| Applied {
            result,
            disagreement: false,
            fit: 0,
        };
        if views.is_empty() {
            self.guard.forget();
            return without_table(RefreshResult::Failed);
        }
        let current = self.snapshot.load_full();
        let merged = merge(&current, views);
        for unfit in &merged.unfit {
            self.status.count_unfit(unfit.reason);
            self.log_unfit(unfit.reason, views.get(unfit.view), now);
        }
        let Some(candidate) = merged.snapshot else {
            self.guard.forget();
            return without_table(RefreshResult::Unfit);
        };
        let applied = |result| Applied {
            result,
            disagreement: merged.disagreement,
            fit: views.len() - merged.unfit.len(),
        };
        let candidate = self.with_recent_moves(candidate);
        if candidate.same_content(&current) {
            self.guard.forget();
            return applied(RefreshResult::Unchanged);
        }
        let micros = u64::try_from(now.saturating_duration_since(self.started).as_micros())
            .unwrap_or(u64::MAX);
        if self
            .guard
            .judge(&current, &candidate, Timestamp::from_micros(micros))
            == Verdict::Confirm
        {
            if let Some(held_back) = self.throttle.pass("held", now) {
                let (nodes, uncovered) = (candidate.nodes().len(), candidate.uncovered_slots());
                tracing::warn!(
                    nodes,
                    uncovered,
                    held_back,
                    "sudden loss of nodes or slots: asking again before believing it"
                );
            }
            return applied(RefreshResult::Held);
        }
        let changes = current.diff(&candidate);
        self.swap(candidate, &changes);
        applied(RefreshResult::Changed)
    }

    /// Moves that were patched in while the round ran are newer than views that still name the node that moved the slot away.
    fn with_recent_moves(&self, candidate: Snapshot) -> Snapshot {
        let outdated = |slot| candidate.primary_of(slot).map(|owner| &owner.id);
        let moves: Vec<_> = self
            .patched_in_round
            .iter()
            .filter(|moved| outdated(moved.slot) == Some(&moved.from))
            .map(|moved| (moved.slot, moved.target.clone()))
            .collect();
        let generation = candidate.generation;
        let mut candidate = candidate.with_moved_slots(&moves).unwrap_or(candidate);
        candidate.generation = generation;
        candidate
    }

    /// Swaps in a snapshot with the pending moves [T6].
    pub(super) fn patch(&mut self) {
        let current = self.snapshot.load_full();
        let mut pending = std::mem::take(&mut self.pending);
        // Accepted against the snapshot of the moment they came; a round may have swapped since.
        pending.retain(|moved| current.accepts_move(moved.slot, &moved.target, &moved.from));
        let moves: Vec<_> = pending
            .iter()
            .map(|moved| (moved.slot, moved.target.clone()))
            .collect();
        if let Some(patched) = current.with_moved_slots(&moves) {
            self.status.count_patch();
            tracing::debug!(
                generation = patched.generation,
                slots = moves.len(),
                "snapshot patched by MOVED"
            );
            self.store(patched);
        }
        if self.round.is_some() {
            self.patched_in_round.append(&mut pending);
        }
    }

    fn swap(&mut self, snapshot: Snapshot, changes: &[Change]) {
        let (generation, uncovered) = (snapshot.generation, snapshot.uncovered_slots());
        let (nodes, shards) = (snapshot.nodes().len(), snapshot.shards().len());
        if self.snapshot.load().is_empty() {
            tracing::info!(generation, nodes, shards, uncovered, "cluster found");
            if uncovered > 0 {
                tracing::warn!(
                    uncovered,
                    "slots without an owner: commands for them wait, then fail; redis-cli --cluster check says why"
                );
            }
        } else if changes.is_empty() {
            tracing::debug!(generation, "topology details changed");
        } else {
            let mut shown: Vec<String> = changes
                .iter()
                .take(CHANGES_SHOWN)
                .map(ToString::to_string)
                .collect();
            if changes.len() > CHANGES_SHOWN {
                shown.push(format!("and {} more", changes.len() - CHANGES_SHOWN));
            }
            let changes = shown.join("; ");
            tracing::info!(
                generation,
                nodes,
                shards,
                uncovered,
                changes,
                "topology changed"
            );
        }
        self.store(snapshot);
    }

    fn store(&mut self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        self.snapshot.store(Arc::clone(&snapshot));
        (self.on_swap)(&snapshot);
    }

    fn findings(&mut self, result: RefreshResult, disagreement: bool, now: Instant) -> Findings {
        let snapshot = self.snapshot.load_full();
        let primaries = || {
            snapshot
                .shards()
                .iter()
                .map(|shard| snapshot.node(shard.primary))
        };
        self.suspects
            .retain(|suspect| primaries().any(|primary| primary.id == *suspect));
        let trouble =
            !self.suspects.is_empty() || primaries().any(|primary| primary.state != NodeState::Ok);
        let open =
            !snapshot.open_slots().is_empty() || self.open_until.is_some_and(|until| now < until);
        let forming = disagreement || (snapshot.uncovered_slots() > 0 && !snapshot.is_empty());
        let unsettled = trouble || forming || open;
        Findings {
            result,
            trouble,
            forming,
            unsettled,
        }
    }

    /// A single bad poll is ordinary in a failover, and where one node of many is cut off; it is worth a line when it lasts.
    fn log_result(&mut self, result: RefreshResult, failures_before: u64, now: Instant) {
        match result {
            RefreshResult::Failed | RefreshResult::Unfit => {
                let failures = failures_before + 1;
                if failures < FAILURES_LOGGED && !self.snapshot.load().is_empty() {
                    return;
                }
                if let Some(held_back) = self.throttle.pass("no_view", now) {
                    let (result, last) = (result.label(), self.trouble.take());
                    let last = last.as_deref().unwrap_or("see the lines before");
                    if self.snapshot.load().is_empty() {
                        tracing::warn!(
                            result,
                            failures,
                            held_back,
                            last,
                            "the cluster is not found: no seed in upstream.cluster gave a usable view, clients wait"
                        );
                    } else {
                        tracing::warn!(
                            result,
                            failures,
                            held_back,
                            last,
                            "no usable view of the cluster: the table stands"
                        );
                    }
                }
            }
            RefreshResult::Changed | RefreshResult::Unchanged
                if failures_before >= FAILURES_LOGGED =>
            {
                self.throttle.reset("no_view");
                tracing::info!(
                    failures = failures_before,
                    "usable views of the cluster again"
                );
            }
            RefreshResult::Changed | RefreshResult::Unchanged | RefreshResult::Held => {}
        }
    }

    fn log_unfit(&mut self, reason: UnfitReason, view: Option<&View>, now: Instant) {
        let Some(view) = view else {
            return;
        };
        let Some(held_back) = self.throttle.pass(reason.label(), now) else {
            return;
        };
        let (address, nodes, reason_label) =
            (&view.answered_by, view.nodes().len(), reason.label());
        if reason == UnfitReason::Foreign {
            tracing::error!(%address, nodes, held_back, "a node of another cluster answers here; if the cluster was replaced, restart the proxy");
        } else {
            tracing::warn!(%address, nodes, reason = reason_label, held_back, "view of a node was not used");
        }
    }
}

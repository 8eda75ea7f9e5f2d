//! The last check before a table is swapped in: a sudden loss must be seen twice [T15].

use std::time::Duration;

use super::Snapshot;
use crate::slot::SLOT_COUNT;
use crate::time::Timestamp;

/// Time between the first sight of a mass loss and the refresh that may confirm it.
pub const CONFIRM_AFTER: Duration = Duration::from_millis(200);

/// What to do with a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Swap it in.
    Accept,
    /// Keep the current table and ask again after [`CONFIRM_AFTER`].
    Confirm,
}

/// Remembers a mass loss between two refreshes.
#[derive(Debug, Default)]
pub struct Guard {
    first_seen: Option<Timestamp>,
}

impl Guard {
    /// A guard that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Judges the table that a refresh at `now` made. A candidate that drops more than half of the nodes, or the owners of more
    /// than a tenth of all slots, is accepted when the refresh before it saw such a loss too, at least [`CONFIRM_AFTER`] ago.
    pub fn judge(&mut self, current: &Snapshot, candidate: &Snapshot, now: Timestamp) -> Verdict {
        if !loses_much(current, candidate) {
            self.first_seen = None;
            return Verdict::Accept;
        }
        let first_seen = *self.first_seen.get_or_insert(now);
        if now.since(first_seen) < CONFIRM_AFTER {
            return Verdict::Confirm;
        }
        self.first_seen = None;
        Verdict::Accept
    }

    /// Whether a loss waits for its confirmation.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.first_seen.is_some()
    }

    /// A refresh that ended without a candidate: two sights with it between them are not consecutive.
    pub fn forget(&mut self) {
        self.first_seen = None;
    }
}

fn loses_much(current: &Snapshot, candidate: &Snapshot) -> bool {
    let gone = current
        .nodes()
        .iter()
        .filter(|node| candidate.index_of(&node.id).is_none())
        .count();
    let uncovered = candidate
        .uncovered_slots()
        .saturating_sub(current.uncovered_slots());
    gone * 2 > current.nodes().len() || uncovered > SLOT_COUNT / 10
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::fixtures::{node, slot, three_shards};
    use crate::topology::{Role, SnapshotBuilder};

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    /// Primaries 1 to `primaries`, replicas up to 6, the first `covered` slots owned by node 1.
    fn table(nodes: u16, covered: u16) -> Snapshot {
        let mut builder = SnapshotBuilder::new();
        let owner = builder.add_node(node(1, Role::Primary, None)).unwrap();
        for number in 2..=nodes {
            builder
                .add_node(node(number, Role::Replica, Some(1)))
                .unwrap();
        }
        (0..covered).for_each(|number| builder.assign(slot(number), owner));
        builder.build(8)
    }

    #[test]
    fn ordinary_changes_pass_at_once() {
        let mut guard = Guard::new();
        assert_eq!(
            guard.judge(&three_shards(), &table(3, 16384), at(0)),
            Verdict::Accept,
            "half of the nodes"
        );
        assert_eq!(
            guard.judge(&three_shards(), &table(6, 16384 - 1638), at(0)),
            Verdict::Accept,
            "a tenth"
        );
        assert_eq!(
            guard.judge(&Snapshot::empty(), &table(1, 0), at(0)),
            Verdict::Accept,
            "first table"
        );
    }

    #[test]
    fn mass_loss_needs_a_second_sight_200_ms_later() {
        for loss in [table(2, 16384), table(6, 16384 - 1639)] {
            let mut guard = Guard::new();
            assert_eq!(
                guard.judge(&three_shards(), &loss, at(1000)),
                Verdict::Confirm
            );
            assert!(guard.is_waiting());
            assert_eq!(
                guard.judge(&three_shards(), &loss, at(1199)),
                Verdict::Confirm
            );
            assert_eq!(
                guard.judge(&three_shards(), &loss, at(1200)),
                Verdict::Accept
            );
        }
    }

    #[test]
    fn a_good_table_or_an_empty_round_in_between_starts_over() {
        let mut guard = Guard::new();
        let loss = table(2, 16384);
        assert_eq!(guard.judge(&three_shards(), &loss, at(0)), Verdict::Confirm);
        assert_eq!(
            guard.judge(&three_shards(), &three_shards(), at(100)),
            Verdict::Accept
        );
        assert_eq!(
            guard.judge(&three_shards(), &loss, at(300)),
            Verdict::Confirm
        );
        guard.forget();
        assert_eq!(
            guard.judge(&three_shards(), &loss, at(600)),
            Verdict::Confirm
        );
    }
}

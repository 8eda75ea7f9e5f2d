//! Which views may take part in a merge.

use std::collections::HashSet;

use crate::topology::{NodeId, NodeState, Snapshot, View};

/// A view that took no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit {
    /// Its position in the slice given to the merge.
    pub view: usize,
    /// Why.
    pub reason: UnfitReason,
}

/// Why a view took no part [T5] [T16].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnfitReason {
    /// Its node says `cluster_state:fail`.
    ClusterFail,
    /// Its node sees more than half of the primaries with slots as failing: it is the one that is cut off.
    Minority,
    /// Its node knows less than half of the known nodes, and owners for fewer slots: it was reset or just started.
    FewNodes,
    /// It shares no node with the cluster that is known: another cluster answers at this address.
    Foreign,
}

impl UnfitReason {
    /// Every reason, in the order of [`Self::index`].
    pub const ALL: [Self; 4] = [
        Self::ClusterFail,
        Self::Minority,
        Self::FewNodes,
        Self::Foreign,
    ];

    /// The value of the metric label `reason`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ClusterFail => "cluster_fail",
            Self::Minority => "minority",
            Self::FewNodes => "few_nodes",
            Self::Foreign => "foreign",
        }
    }

    /// Position in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What is known before the views of a round are read.
struct Known<'a> {
    ids: HashSet<&'a NodeId>,
    covered: usize,
}

impl<'a> Known<'a> {
    /// The cluster of the current table; before any slot was learned, that of the most complete view.
    fn of(current: &'a Snapshot, views: &'a [View]) -> Self {
        if !current.shards().is_empty() {
            let covered = current
                .shards()
                .iter()
                .map(|shard| usize::from(shard.slot_count))
                .sum();
            return Self {
                ids: current.nodes().iter().map(|node| &node.id).collect(),
                covered,
            };
        }
        let fullest = views
            .iter()
            .max_by_key(|view| (view.covered_slots(), view.nodes().len()));
        let ids = fullest
            .into_iter()
            .flat_map(|view| view.nodes())
            .map(|node| &node.id)
            .collect();
        Self {
            ids,
            covered: fullest.map_or(0, View::covered_slots),
        }
    }
}

/// The views to merge, and the others with the reason.
pub(super) fn select<'a>(current: &Snapshot, views: &'a [View]) -> (Vec<&'a View>, Vec<Unfit>) {
    let known = Known::of(current, views);
    let reasons: Vec<Option<UnfitReason>> = views.iter().map(|view| judge(view, &known)).collect();
    let nothing_known = current.shards().is_empty();
    let fit = reasons.iter().any(Option::is_none);
    let mut usable = Vec::with_capacity(views.len());
    let mut unfit = Vec::new();
    for (position, (view, reason)) in views.iter().zip(reasons).enumerate() {
        let Some(reason) = reason else {
            usable.push(view);
            continue;
        };
        let in_trouble = matches!(reason, UnfitReason::ClusterFail | UnfitReason::Minority);
        if nothing_known && !fit && in_trouble {
            usable.push(view);
        } else {
            unfit.push(Unfit {
                view: position,
                reason,
            });
        }
    }
    (usable, unfit)
}

fn judge(view: &View, known: &Known<'_>) -> Option<UnfitReason> {
    let shared = view
        .nodes()
        .iter()
        .filter(|node| known.ids.contains(&node.id))
        .count();
    if shared == 0 && !known.ids.is_empty() {
        return Some(UnfitReason::Foreign);
    }
    // A cluster that really shrank still has owners for all its slots.
    if shared * 2 < known.ids.len() && view.covered_slots() < known.covered {
        return Some(UnfitReason::FewNodes);
    }
    if view.cluster_ok == Some(false) {
        return Some(UnfitReason::ClusterFail);
    }
    // Primaries without slots have no vote in the cluster, and dead ones stay listed until an operator removes them.
    let (mut voters, mut failing) = (0, 0);
    for primary in view.owning_nodes() {
        voters += 1;
        failing += usize::from(primary.state != NodeState::Ok);
    }
    (failing * 2 > voters).then_some(UnfitReason::Minority)
}

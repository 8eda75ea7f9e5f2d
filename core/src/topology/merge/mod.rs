//! Merging what several nodes say into one table [T5].
//!
//! Slot ownership in a cluster is decided by the greatest configuration epoch ("Redis Cluster Specification", "Hash slots
//! configuration propagation"): a failover winner and the target of a finished import always hold a greater epoch than the
//! previous owner. So, per slot, the claim with the greatest epoch wins whoever reports it, and a partitioned former primary
//! cannot win with its old one. Views that cannot be trusted take no part; nothing that is left out wipes a good table.

mod fitness;
mod nodes;

pub use fitness::{Unfit, UnfitReason};

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::view::ViewNode;
use super::{NodeId, OpenSlot, Snapshot, SnapshotBuilder, View};
use crate::slot::{SLOT_COUNT, Slot};

/// What came of a round of questions.
#[derive(Debug)]
pub struct Merged {
    /// The merged table, one generation after the current one, whether or not it differs; `None` if no view was usable and the
    /// current table stands.
    pub snapshot: Option<Snapshot>,
    /// The views that took no part.
    pub unfit: Vec<Unfit>,
    /// The usable views differ about some slot: the cluster is still agreeing, and the table is worth another look soon.
    pub disagreement: bool,
}

/// Merges the views of one round into a table that follows `current`.
///
/// Before the cluster's slots are known, a view that is unfit only because its node is in trouble is better than none: then
/// such views are merged if there are no fit ones.
#[must_use]
pub fn merge(current: &Snapshot, views: &[View]) -> Merged {
    let (usable, unfit) = fitness::select(current, views);
    if usable.is_empty() {
        return Merged {
            snapshot: None,
            unfit,
            disagreement: false,
        };
    }
    let round = Round::new(&usable);
    let owners = Owners::decide(current, &round);
    let snapshot = build(current, &round, &owners);
    Merged {
        snapshot: Some(snapshot),
        unfit,
        disagreement: owners.disagreement,
    }
}

/// The usable views of one round, their nodes numbered in the order of the ids.
struct Round<'a> {
    views: &'a [&'a View],
    ids: Vec<&'a NodeId>,
    /// For each view, the number of each of its nodes.
    numbers: Vec<Vec<usize>>,
    number_of: HashMap<&'a NodeId, usize>,
}

impl<'a> Round<'a> {
    fn new(views: &'a [&'a View]) -> Self {
        let ids: BTreeSet<&NodeId> = views
            .iter()
            .flat_map(|view| view.nodes())
            .map(|node| &node.id)
            .collect();
        let ids: Vec<&NodeId> = ids.into_iter().collect();
        let number_of: HashMap<&NodeId, usize> = ids
            .iter()
            .enumerate()
            .map(|(number, id)| (*id, number))
            .collect();
        let number = |node: &ViewNode| number_of.get(&node.id).copied().unwrap_or_default();
        let numbers = views
            .iter()
            .map(|view| view.nodes().iter().map(number).collect())
            .collect();
        Self {
            views,
            ids,
            numbers,
            number_of,
        }
    }

    /// The node that owns `slot` in the view at `position`, and its number.
    fn owner(&self, position: usize, slot: Slot) -> Option<(usize, &'a ViewNode)> {
        let view = self.views.get(position)?;
        let row = view.owner_position(slot)?;
        Some((
            *self.numbers.get(position)?.get(row)?,
            view.nodes().get(row)?,
        ))
    }

    /// What each view that lists node `id` says about it.
    fn rows<'s>(&'s self, id: &'s NodeId) -> impl Iterator<Item = (&'a View, &'a ViewNode)> + 's {
        self.views
            .iter()
            .filter_map(move |view| Some((*view, view.nodes().iter().find(|node| node.id == *id)?)))
    }
}

/// The claims of all views that name one node as the owner of a slot.
struct Claim {
    owner: usize,
    /// The greatest epoch; `None`, less than any, if no view tells epochs.
    epoch: Option<u64>,
    /// The owner itself claims it.
    by_owner: bool,
    votes: usize,
}

/// Who owns what after the merge.
struct Owners {
    /// Number of the owner of each slot and the epoch of its claim; `SLOT_COUNT` entries.
    of_slot: Vec<Option<usize>>,
    /// Greatest epoch under which each node, by number, owns a slot.
    epochs: HashMap<usize, u64>,
    disagreement: bool,
}

impl Owners {
    fn decide(current: &Snapshot, round: &Round<'_>) -> Self {
        let mut owners = Self {
            of_slot: Vec::with_capacity(usize::from(SLOT_COUNT)),
            epochs: HashMap::new(),
            disagreement: false,
        };
        let mut claims = Vec::with_capacity(round.views.len());
        for slot in (0..SLOT_COUNT).filter_map(Slot::new) {
            collect_claims(round, slot, &mut claims);
            let incumbent = Incumbent::of(current, round, slot);
            let winner = strongest(&claims, incumbent.as_ref());
            owners.disagreement |= match claims.as_slice() {
                [] => false,
                [claim] => claim.votes < round.views.len(),
                _ => true,
            };
            let stays = incumbent.filter(|incumbent| incumbent.outlasts(winner, round, slot));
            let (owner, epoch) = match (stays, winner) {
                (Some(incumbent), _) => {
                    owners.disagreement = true;
                    (Some(incumbent.number), Some(incumbent.epoch))
                }
                (None, Some(claim)) => (Some(claim.owner), claim.epoch),
                (None, None) => (None, None),
            };
            owners.of_slot.push(owner);
            if let (Some(owner), Some(epoch)) = (owner, epoch) {
                let known = owners.epochs.entry(owner).or_insert(epoch);
                *known = epoch.max(*known);
            }
        }
        owners
    }

    fn owns_any(&self) -> BTreeSet<usize> {
        self.of_slot.iter().flatten().copied().collect()
    }
}

fn collect_claims(round: &Round<'_>, slot: Slot, claims: &mut Vec<Claim>) {
    claims.clear();
    for (position, view) in round.views.iter().enumerate() {
        let Some((owner, node)) = round.owner(position, slot) else {
            continue;
        };
        let (epoch, by_owner) = (node.config_epoch, view.myself.as_ref() == Some(&node.id));
        match claims.iter_mut().find(|claim| claim.owner == owner) {
            Some(claim) => {
                claim.epoch = claim.epoch.max(epoch);
                claim.by_owner |= by_owner;
                claim.votes += 1;
            }
            None => claims.push(Claim {
                owner,
                epoch,
                by_owner,
                votes: 1,
            }),
        }
    }
}

/// The claim with the greatest epoch; of equals the owner's own, then the one with most votes, then the current owner's.
fn strongest<'a>(claims: &'a [Claim], incumbent: Option<&Incumbent>) -> Option<&'a Claim> {
    claims.iter().max_by_key(|claim| {
        let is_incumbent = incumbent.is_some_and(|incumbent| incumbent.number == claim.owner);
        // The last field only keeps the outcome independent of the order of the answers.
        (
            claim.epoch,
            claim.by_owner,
            claim.votes,
            is_incumbent,
            Reverse(claim.owner),
        )
    })
}

/// The owner of a slot in the current table, if the views still know it.
struct Incumbent {
    number: usize,
    epoch: u64,
}

impl Incumbent {
    fn of(current: &Snapshot, round: &Round<'_>, slot: Slot) -> Option<Self> {
        let shard = current.shard(current.shard_of(slot)?);
        let number = *round.number_of.get(&current.node(shard.primary).id)?;
        Some(Self {
            number,
            epoch: shard.epoch,
        })
    }

    /// Whether the current owner stays against the strongest claim. Epochs only grow, so a claim with a lesser epoch than the
    /// table's, or no claim at all, is an old view (a node that was paused over a failover) or an operator's `DELSLOTS`. One
    /// such view is not enough: a second one, or the owner itself, must agree.
    fn outlasts(&self, claim: Option<&Claim>, round: &Round<'_>, slot: Slot) -> bool {
        let older = match claim {
            None => true,
            Some(claim) if claim.owner == self.number => false,
            Some(claim) => claim.epoch.is_some_and(|epoch| epoch < self.epoch),
        };
        let disowned = || {
            round.views.iter().enumerate().any(|(position, view)| {
                let is_owner = view.myself.as_ref() == round.ids.get(self.number).copied();
                is_owner
                    && round
                        .owner(position, slot)
                        .is_none_or(|(owner, _)| owner != self.number)
            })
        };
        older && round.views.len() < 2 && !disowned()
    }
}

fn build(current: &Snapshot, round: &Round<'_>, owners: &Owners) -> Snapshot {
    let mut builder = SnapshotBuilder::new();
    let mut index_of = HashMap::new();
    let owning = owners.owns_any();
    for (number, id) in round.ids.iter().enumerate() {
        // A node that the others were told to forget stays in some views for a minute; one that just joined is not in all yet.
        let votes = round.rows(id).count();
        if votes * 2 < round.views.len() && !owning.contains(&number) {
            continue;
        }
        let Some(mut node) = nodes::merge_rows(id, round, current) else {
            continue;
        };
        if let Some(&epoch) = owners.epochs.get(&number) {
            node.config_epoch = epoch;
        }
        // Views hold at most MAX_NODES each; a union beyond that is no cluster, and what does not fit owns nothing.
        if let Ok(index) = builder.add_node(node) {
            index_of.insert(number, index);
        }
    }
    for (slot, owner) in (0..SLOT_COUNT).filter_map(Slot::new).zip(&owners.of_slot) {
        if let Some(index) = owner.and_then(|owner| index_of.get(&owner)) {
            builder.assign(slot, *index);
        }
    }
    let told = round.views.iter().flat_map(|view| view.open_slots());
    for open in told.chain(unasked_open_slots(current, round)) {
        if still_open(open, round, owners) {
            builder.add_open_slot(open.clone());
        }
    }
    builder.build(current.generation + 1)
}

/// Only the two nodes concerned show an open slot: if neither was asked, the table's word stands.
fn unasked_open_slots<'a>(
    current: &'a Snapshot,
    round: &Round<'_>,
) -> impl Iterator<Item = &'a OpenSlot> {
    let answered: Vec<&NodeId> = round
        .views
        .iter()
        .filter_map(|view| view.myself.as_ref())
        .collect();
    let asked = move |id: &Option<NodeId>| id.as_ref().is_some_and(|id| answered.contains(&id));
    current
        .open_slots()
        .iter()
        .filter(move |open| !asked(&open.source) && !asked(&open.target))
}

/// An open slot that already belongs to its target is open in an old view only.
fn still_open(open: &OpenSlot, round: &Round<'_>, owners: &Owners) -> bool {
    let owner = owners.of_slot.get(open.slot.index()).copied().flatten();
    let owner = owner.and_then(|number| round.ids.get(number).copied());
    owner.is_none() || owner == open.source.as_ref()
}

#[cfg(test)]
mod tests;

//! Patching a snapshot with what `MOVED` replies say, ahead of the refresh that they cause [T6].

use super::{Address, NodeId, NodeIndex, Promotion, Role, Snapshot};
use crate::slot::Slot;

impl Snapshot {
    /// Whether a `MOVED` reply of node `from` that names `target` for `slot` may be patched in: `target` is a known node other
    /// than the owner, and the reply comes from the owner itself (direct evidence that it will not serve the slot) or nobody
    /// owns the slot. A reply from a third node may be older than the table: the request follows it, the table does not [T6].
    #[must_use]
    pub fn accepts_move(&self, slot: Slot, target: &Address, from: &NodeId) -> bool {
        let Some(target) = self.node_by_address(target) else {
            return false;
        };
        match self.primary_of(slot) {
            None => true,
            Some(owner) => owner.id == *from && owner.id != target.id,
        }
    }

    /// A copy of this snapshot, one generation later, in which each slot belongs to the node at the given address; only these
    /// slots change. Later entries win. `None` if nothing changes: unknown addresses and slots already there are passed over.
    #[must_use]
    pub fn with_moved_slots(&self, moves: &[(Slot, Address)]) -> Option<Self> {
        let mut builder = None;
        let mut promotions = self.promotions.clone();
        for (slot, target) in moves {
            let Some(target) = self.index_by_address(target) else {
                continue;
            };
            promotions.extend(self.promotion(*slot, target, &promotions));
            builder
                .get_or_insert_with(|| self.to_builder())
                .assign(*slot, target);
        }
        let mut patched = builder?.build(self.generation + 1);
        patched.promotions = promotions;
        (!patched.same_content(self)).then_some(patched)
    }

    /// The promotion of a node that is to own the slot, if it is one and is not known.
    fn promotion(&self, slot: Slot, target: NodeIndex, known: &[Promotion]) -> Option<Promotion> {
        let node = self.node(target);
        let owner = || self.primary_of(slot).map(|owner| owner.id.clone());
        let from = node.primary_id.clone().or_else(owner)?;
        let is_known = known.iter().any(|promotion| promotion.to == node.id);
        let is_new = node.role == Role::Replica && !is_known;
        let to = node.id.clone();
        is_new.then_some(Promotion { from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::fixtures::{address, id, slot, three_shards};

    #[test]
    fn moved_of_the_owner_to_a_known_node_is_accepted() {
        let table = three_shards();
        assert!(table.accepts_move(slot(5), &address(2), &id(1)));
        // A replica named by its primary was promoted.
        assert!(table.accepts_move(slot(5), &address(4), &id(1)));
    }

    #[test]
    fn moved_of_a_third_node_to_itself_or_to_a_stranger_is_not_accepted() {
        let table = three_shards();
        assert!(
            !table.accepts_move(slot(5), &address(2), &id(3)),
            "a third node's view may be old"
        );
        assert!(
            !table.accepts_move(slot(5), &address(1), &id(2)),
            "already the owner"
        );
        assert!(
            !table.accepts_move(slot(5), &address(1), &id(1)),
            "a node that redirects to itself"
        );
        assert!(
            !table.accepts_move(slot(5), &address(99), &id(1)),
            "unknown node"
        );
    }

    #[test]
    fn patch_moves_only_the_named_slots_and_counts_one_generation() {
        let table = three_shards();
        let moves = [
            (slot(5), address(2)),
            (slot(7), address(3)),
            (slot(7), address(2)),
        ];
        let patched = table.with_moved_slots(&moves).unwrap();
        assert_eq!(patched.generation, table.generation + 1);
        for number in 0..16384 {
            let expected = if number == 5 || number == 7 {
                Some(id(2))
            } else {
                table.primary_of(slot(number)).map(|node| node.id.clone())
            };
            assert_eq!(
                patched.primary_of(slot(number)).map(|node| node.id.clone()),
                expected,
                "slot {number}"
            );
        }
        assert_eq!(
            table.primary_of(slot(5)).unwrap().id,
            id(1),
            "the old snapshot stays as it was"
        );
    }

    #[test]
    fn patch_to_a_replica_makes_it_a_primary_and_takes_it_from_its_shard() {
        let table = three_shards();
        let patched = table.with_moved_slots(&[(slot(5), address(4))]).unwrap();
        assert_eq!(patched.primary_of(slot(5)).unwrap().id, id(4));
        assert_eq!(patched.node_by_id(&id(4)).unwrap().role, Role::Primary);
        let old_shard = patched.shard(patched.shard_of(slot(0)).unwrap());
        assert!(old_shard.replicas.is_empty());
        // The other slots have gone there as well, which the next round will find, or the next patch not yet.
        let promotion = Promotion {
            from: id(1),
            to: id(4),
        };
        assert_eq!(patched.promotions, std::slice::from_ref(&promotion));
        let further = patched.with_moved_slots(&[(slot(6), address(2)), (slot(7), address(4))]);
        assert_eq!(further.unwrap().promotions, [promotion]);
        let whole = patched.to_builder().build(9);
        assert!(whole.promotions.is_empty() && !whole.same_content(&patched));
    }

    #[test]
    fn patch_without_effect_is_none() {
        let table = three_shards();
        assert!(table.with_moved_slots(&[]).is_none());
        assert!(table.with_moved_slots(&[(slot(5), address(1))]).is_none());
        assert!(table.with_moved_slots(&[(slot(5), address(99))]).is_none());
        assert!(
            Snapshot::empty()
                .with_moved_slots(&[(slot(5), address(1))])
                .is_none()
        );
    }
}

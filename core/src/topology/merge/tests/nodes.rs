//! Roles, health, membership and open slots after a merge.

use super::*;

#[test]
fn the_role_of_a_demoted_primary_is_the_newer_one() {
    let demoted = changed(&FAILED_OVER, &[(1, "slave", Some(4), 7, "")]);
    // Node 1 itself still believes to be a primary.
    let snapshot = merged(
        &three_shards(),
        &[view(1, &HEALTHY), view(2, &demoted), view(4, &demoted)],
    );
    let node = snapshot.node_by_id(&id(1)).unwrap();
    assert_eq!(
        (node.role, node.primary_id.clone()),
        (Role::Replica, Some(id(4)))
    );
    let shard = snapshot.shard(snapshot.shard_of(slot(0)).unwrap());
    assert_eq!(shard.replicas, [snapshot.index_of(&id(1)).unwrap()]);
}

#[test]
fn a_replica_knows_best_whom_it_follows() {
    let rows = changed(&HEALTHY, &[(6, "slave", Some(1), 1, "")]);
    let snapshot = merged(&three_shards(), &[view(6, &rows), view(2, &HEALTHY)]);
    assert_eq!(snapshot.node_by_id(&id(6)).unwrap().primary_id, Some(id(1)));
    assert_eq!(snapshot.shards()[0].replicas.len(), 2);
    assert!(snapshot.shards()[2].replicas.is_empty());
}

#[test]
fn a_failed_owner_keeps_its_slots_and_is_marked() {
    let down = changed(&HEALTHY, &[(1, "master,fail", None, 1, "0-5460")]);
    let snapshot = merged(
        &three_shards(),
        &[view(2, &down), view(3, &down), view(4, &HEALTHY)],
    );
    assert_eq!(owner(&snapshot, 0), Some(id(1)));
    assert_eq!(
        snapshot.node_by_id(&id(1)).unwrap().state,
        NodeState::Failed
    );
    assert!(snapshot.has_failed_primary());
    let answered = merged(&three_shards(), &[view(2, &down), view(1, &HEALTHY)]);
    assert_eq!(
        answered.node_by_id(&id(1)).unwrap().state,
        NodeState::Suspect,
        "it answered, so it is not dead"
    );
}

#[test]
fn one_other_node_alone_does_not_clear_a_node_of_a_complaint() {
    let down = changed(&HEALTHY, &[(1, "master,fail", None, 1, "0-5460")]);
    let state = |snapshot: &Snapshot| snapshot.node_by_id(&id(1)).unwrap().state;
    let current = merged(&three_shards(), &[view(2, &down)]);
    assert_eq!(state(&current), NodeState::Failed);
    assert_eq!(
        state(&merged(&current, &[view(3, &HEALTHY)])),
        NodeState::Failed
    );
    assert_eq!(
        state(&merged(&current, &[view(3, &HEALTHY), view(2, &HEALTHY)])),
        NodeState::Ok
    );
    assert_eq!(
        state(&merged(&current, &[view(1, &HEALTHY)])),
        NodeState::Ok
    );
}

#[test]
fn a_forgotten_node_leaves_when_most_views_forgot_it_and_a_new_owner_is_in_at_once() {
    let without_six = &HEALTHY[..5];
    let snapshot = merged(
        &three_shards(),
        &[
            view(1, without_six),
            view(2, without_six),
            view(3, &HEALTHY),
        ],
    );
    assert!(snapshot.node_by_id(&id(6)).is_none());
    let joined = changed(
        &HEALTHY,
        &[
            (7, "master", None, 9, "100"),
            (1, "master", None, 1, "0-99 101-5460"),
        ],
    );
    let snapshot = merged(
        &three_shards(),
        &[view(1, &HEALTHY), view(2, &HEALTHY), view(7, &joined)],
    );
    assert_eq!(owner(&snapshot, 100), Some(id(7)));
}

#[test]
fn open_slots_are_kept_until_they_have_arrived() {
    let migrating = format!("0-5460 [100->-{}]", id(2));
    let source = changed(&HEALTHY, &[(1, "master", None, 1, &migrating)]);
    let snapshot = merged(&three_shards(), &[view(1, &source), view(3, &HEALTHY)]);
    let open = OpenSlot {
        slot: slot(100),
        source: Some(id(1)),
        target: Some(id(2)),
    };
    assert_eq!(snapshot.open_slots(), [open]);
    let arrived = changed(
        &HEALTHY,
        &[
            (1, "master", None, 1, "0-99 101-5460"),
            (2, "master", None, 8, "100 5461-10922"),
        ],
    );
    let snapshot = merged(&three_shards(), &[view(1, &source), view(2, &arrived)]);
    assert_eq!(snapshot.open_slots(), []);
}

#[test]
fn an_open_slot_stays_open_while_neither_of_its_two_nodes_was_asked() {
    let migrating = format!("0-5460 [100->-{}]", id(2));
    let source = changed(&HEALTHY, &[(1, "master", None, 1, &migrating)]);
    let current = merged(&three_shards(), &[view(1, &source)]);
    assert_eq!(
        merged(&current, &[view(3, &HEALTHY), view(4, &HEALTHY)])
            .open_slots()
            .len(),
        1
    );
    assert_eq!(
        merged(&current, &[view(1, &HEALTHY), view(4, &HEALTHY)]).open_slots(),
        []
    );
    assert_eq!(merged(&current, &[view(2, &HEALTHY)]).open_slots(), []);
}

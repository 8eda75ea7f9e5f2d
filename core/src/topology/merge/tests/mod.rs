//! Tests of the merge: partitions, failovers, resharding, resets, strangers, and arbitrary views.
#![expect(
    clippy::indexing_slicing,
    reason = "an index out of bounds fails the test"
)]

use super::{Merged, UnfitReason, merge};
use crate::resp::parse_value;
use crate::topology::fixtures::{address, id, slot, three_shards};
use crate::topology::{
    Address, AddressMap, NodeId, NodeState, OpenSlot, Role, Snapshot, View, cluster_nodes,
    cluster_slots,
};

/// One row of a view: node number, flags, primary, epoch, slots.
type Row<'a> = (u16, &'a str, Option<u16>, u64, &'a str);

/// The rows that agree with [`three_shards`].
const HEALTHY: [Row<'static>; 6] = [
    (1, "master", None, 1, "0-5460"),
    (2, "master", None, 2, "5461-10922"),
    (3, "master", None, 3, "10923-16383"),
    (4, "slave", Some(1), 1, ""),
    (5, "slave", Some(2), 2, ""),
    (6, "slave", Some(3), 3, ""),
];

/// Replica 4 was elected in place of primary 1, which is held for dead.
const FAILED_OVER: [Row<'static>; 6] = [
    (1, "master,fail", None, 1, ""),
    (2, "master", None, 2, "5461-10922"),
    (3, "master", None, 3, "10923-16383"),
    (4, "master", None, 7, "0-5460"),
    (5, "slave", Some(2), 2, ""),
    (6, "slave", Some(3), 3, ""),
];

/// `rows` with some of them replaced.
fn changed<'a>(rows: &[Row<'a>], changes: &[Row<'a>]) -> Vec<Row<'a>> {
    let change = |row: &Row<'a>| changes.iter().find(|change| change.0 == row.0).copied();
    let mut all: Vec<Row<'a>> = rows.iter().map(|row| change(row).unwrap_or(*row)).collect();
    all.extend(
        changes
            .iter()
            .filter(|change| rows.iter().all(|row| row.0 != change.0)),
    );
    all
}

fn line(myself: u16, (number, flags, primary, epoch, slots): Row<'_>) -> String {
    let at = address(number);
    let me = if number == myself { "myself," } else { "" };
    let primary = primary.map_or_else(|| "-".to_owned(), |primary| id(primary).to_string());
    format!(
        "{} {at}@1 {me}{flags} {primary} 0 9 {epoch} connected {slots}\n",
        id(number)
    )
}

/// The view of node `myself`, which answers at its address.
fn view(myself: u16, rows: &[Row<'_>]) -> View {
    let text: String = rows.iter().map(|row| line(myself, *row)).collect();
    cluster_nodes::parse(text.as_bytes(), &address(myself), &AddressMap::default())
        .unwrap()
        .with_cluster_state(Some(true))
}

fn failing(view: View) -> View {
    view.with_cluster_state(Some(false))
}

fn owner(snapshot: &Snapshot, number: u16) -> Option<NodeId> {
    snapshot
        .primary_of(slot(number))
        .map(|node| node.id.clone())
}

fn merged(current: &Snapshot, views: &[View]) -> Snapshot {
    merge(current, views).snapshot.unwrap()
}

fn reasons(merged: &Merged) -> Vec<(usize, UnfitReason)> {
    merged
        .unfit
        .iter()
        .map(|unfit| (unfit.view, unfit.reason))
        .collect()
}

#[test]
fn views_that_agree_give_the_same_table_again() {
    let current = three_shards();
    let merged = merge(
        &current,
        &[view(1, &HEALTHY), view(5, &HEALTHY), view(3, &HEALTHY)],
    );
    assert!(!merged.disagreement);
    assert_eq!(reasons(&merged), []);
    let snapshot = merged.snapshot.unwrap();
    assert!(snapshot.same_content(&current), "{snapshot:?}");
    assert_eq!(snapshot.generation, current.generation + 1);
}

#[test]
fn a_partitioned_former_primary_loses_against_a_single_view_with_the_greater_epoch() {
    let views = [view(1, &HEALTHY), view(4, &FAILED_OVER), view(2, &HEALTHY)];
    let merged = merge(&three_shards(), &views);
    let snapshot = merged.snapshot.unwrap();
    assert_eq!(owner(&snapshot, 0), Some(id(4)));
    assert_eq!(snapshot.shard(snapshot.shard_of(slot(0)).unwrap()).epoch, 7);
    assert!(merged.disagreement, "the cluster is still agreeing");
    assert_eq!(owner(&snapshot, 6000), Some(id(2)));
}

#[test]
fn an_old_view_alone_does_not_flip_a_newer_table_back() {
    // R17: a node that was paused over a failover is the only one to answer.
    let current = merged(
        &three_shards(),
        &[
            view(2, &FAILED_OVER),
            view(3, &FAILED_OVER),
            view(4, &FAILED_OVER),
        ],
    );
    for paused in [1, 5] {
        let merged = merge(&current, &[view(paused, &HEALTHY)]);
        assert!(merged.disagreement);
        let snapshot = merged.snapshot.unwrap();
        assert_eq!(owner(&snapshot, 0), Some(id(4)), "view of {paused}");
        assert_eq!(snapshot.shard(snapshot.shard_of(slot(0)).unwrap()).epoch, 7);
    }
}

#[test]
fn a_finished_import_wins_by_its_greater_epoch() {
    let moved = changed(
        &HEALTHY,
        &[
            (1, "master", None, 1, "0-99 101-5460"),
            (2, "master", None, 8, "100 5461-10922"),
        ],
    );
    let merged = merge(
        &three_shards(),
        &[view(3, &HEALTHY), view(2, &moved), view(6, &HEALTHY)],
    );
    let snapshot = merged.snapshot.unwrap();
    assert_eq!(owner(&snapshot, 100), Some(id(2)));
    assert_eq!(owner(&snapshot, 99), Some(id(1)));
    assert!(merged.disagreement);
}

#[test]
fn of_equal_epochs_the_owners_own_claim_counts_then_the_majority_then_the_present_owner() {
    // Slot 100 is claimed for 1 or for 2 under the same epoch.
    let for_one = changed(
        &HEALTHY,
        &[
            (1, "master", None, 0, "0-5460"),
            (2, "master", None, 0, "5461-10922"),
        ],
    );
    let for_two = changed(
        &HEALTHY,
        &[
            (1, "master", None, 0, "0-99 101-5460"),
            (2, "master", None, 0, "100 5461-10922"),
        ],
    );
    let current = merged(&Snapshot::empty(), &[view(3, &for_one)]);
    let own = merged(
        &current,
        &[view(3, &for_one), view(5, &for_one), view(2, &for_two)],
    );
    assert_eq!(owner(&own, 100), Some(id(2)), "the owner itself claims it");
    let majority = merged(
        &current,
        &[view(3, &for_one), view(5, &for_two), view(6, &for_two)],
    );
    assert_eq!(owner(&majority, 100), Some(id(2)), "two against one");
    let tie = merged(&current, &[view(3, &for_one), view(5, &for_two)]);
    assert_eq!(
        owner(&tie, 100),
        Some(id(1)),
        "one against one keeps the owner"
    );
}

#[test]
fn views_of_nodes_in_trouble_take_no_part() {
    let cut_off = changed(
        &HEALTHY,
        &[
            (2, "master,fail?", None, 2, "5461-10922"),
            (3, "master,fail", None, 3, "10923-16383"),
        ],
    );
    let views = [
        view(1, &cut_off),
        failing(view(5, &HEALTHY)),
        view(2, &FAILED_OVER),
    ];
    let merged = merge(&three_shards(), &views);
    assert_eq!(
        reasons(&merged),
        [(0, UnfitReason::Minority), (1, UnfitReason::ClusterFail)]
    );
    assert_eq!(owner(&merged.snapshot.unwrap(), 0), Some(id(4)));
}

#[test]
fn if_all_views_are_unfit_the_table_stands() {
    let merged = merge(
        &three_shards(),
        &[failing(view(2, &HEALTHY)), failing(view(3, &FAILED_OVER))],
    );
    assert!(merged.snapshot.is_none());
    assert_eq!(merged.unfit.len(), 2);
    assert!(merge(&three_shards(), &[]).snapshot.is_none());
}

#[test]
fn dead_primaries_without_slots_have_no_say_in_who_is_cut_off() {
    let mut rows = HEALTHY.to_vec();
    rows.extend((10..15).map(|number| (number, "master,fail", None, 0, "")));
    assert_eq!(reasons(&merge(&three_shards(), &[view(2, &rows)])), []);
}

#[test]
fn a_reset_node_never_wipes_the_table() {
    // R16. A soft reset keeps the id, a hard one makes a new one; either way the node knows only itself.
    for (rows, expected) in [
        ([(2, "master", None, 0, "")], UnfitReason::FewNodes),
        ([(77, "master", None, 0, "")], UnfitReason::Foreign),
    ] {
        let reset = view(rows[0].0, &rows);
        let alone = merge(&three_shards(), std::slice::from_ref(&reset));
        assert!(alone.snapshot.is_none());
        assert_eq!(reasons(&alone), [(0, expected)]);
        let with_others = merge(&three_shards(), &[reset, view(3, &HEALTHY)]);
        assert!(with_others.snapshot.unwrap().same_content(&three_shards()));
    }
    let empty_slots = parse_value(b"*0\r\n").unwrap().unwrap().0;
    let empty = cluster_slots::parse(
        &empty_slots,
        &address(2),
        Some(&id(2)),
        &AddressMap::default(),
    )
    .unwrap();
    assert!(
        merge(&three_shards(), &[empty]).snapshot.is_none(),
        "an empty CLUSTER SLOTS"
    );
}

#[test]
fn another_cluster_is_refused() {
    let other = [
        (50, "master", None, 90, "0-16383"),
        (51, "slave", Some(50), 90, ""),
    ];
    let merged = merge(&three_shards(), &[view(50, &other), view(2, &HEALTHY)]);
    assert_eq!(reasons(&merged), [(0, UnfitReason::Foreign)]);
    assert!(merged.snapshot.unwrap().same_content(&three_shards()));
}

#[test]
fn a_cluster_that_shrank_is_believed_if_it_has_owners_for_all_slots() {
    let shrunk = [
        (1, "master", None, 9, "0-8191"),
        (2, "master", None, 10, "8192-16383"),
    ];
    let merged = merge(&three_shards(), &[view(1, &shrunk), view(2, &shrunk)]);
    assert_eq!(reasons(&merged), []);
    assert_eq!(merged.snapshot.unwrap().nodes().len(), 2);
}

#[test]
fn before_any_slot_is_known_views_in_trouble_are_better_than_none() {
    let half = [
        (1, "master", None, 1, "0-5460"),
        (2, "master", None, 2, ""),
        (3, "master", None, 3, ""),
    ];
    let snapshot = merged(
        &Snapshot::empty(),
        &[failing(view(1, &half)), failing(view(2, &half))],
    );
    assert_eq!(snapshot.uncovered_slots(), 16384 - 5461);
    assert_eq!(owner(&snapshot, 0), Some(id(1)));
    // As soon as one view is fit, the others are left out.
    let merged = merge(
        &Snapshot::empty(),
        &[failing(view(1, &half)), view(2, &HEALTHY)],
    );
    assert_eq!(reasons(&merged), [(0, UnfitReason::ClusterFail)]);
}

#[test]
fn at_the_start_the_most_complete_view_says_which_cluster_it_is() {
    let alone = [(9, "master", None, 0, "")];
    let merged_views = merge(
        &Snapshot::empty(),
        &[failing(view(9, &alone)), view(2, &HEALTHY)],
    );
    assert_eq!(reasons(&merged_views), [(0, UnfitReason::Foreign)]);
    // A node that has not met its cluster yet does not bind the proxy to itself.
    let unmet = merged(&Snapshot::empty(), &[failing(view(9, &alone))]);
    assert!(!unmet.is_empty());
    assert_eq!(unmet.uncovered_slots(), 16384);
    assert!(merged(&unmet, &[view(2, &HEALTHY)]).same_content(&three_shards()));
}

#[test]
fn slots_that_one_old_or_odd_view_leaves_out_stay_with_their_owner() {
    let without = changed(&HEALTHY, &[(1, "master", None, 1, "0-99")]);
    let kept = merge(&three_shards(), &[view(2, &without)]);
    assert!(kept.disagreement);
    assert_eq!(kept.snapshot.unwrap().uncovered_slots(), 0);
    let two_agree = merged(&three_shards(), &[view(2, &without), view(3, &without)]);
    assert_eq!(two_agree.uncovered_slots(), 5461 - 100);
    let owner_agrees = merged(&three_shards(), &[view(1, &without)]);
    assert_eq!(owner_agrees.uncovered_slots(), 5461 - 100);
}

#[test]
fn views_without_epochs_are_merged_by_majority() {
    let slots = |target: u16, by: u16| {
        let node = |number: u16| {
            format!(
                "*3\r\n$8\r\n10.0.0.1\r\n:{}\r\n$40\r\n{}\r\n",
                7000 + number,
                id(number)
            )
        };
        let bytes = format!(
            "*2\r\n*3\r\n:0\r\n:100\r\n{}*3\r\n:101\r\n:16383\r\n{}",
            node(target),
            node(1)
        );
        let value = parse_value(bytes.as_bytes()).unwrap().unwrap().0;
        cluster_slots::parse(&value, &address(by), Some(&id(by)), &AddressMap::default()).unwrap()
    };
    let current = merged(&Snapshot::empty(), &[slots(2, 3)]);
    assert_eq!(owner(&current, 0), Some(id(2)));
    let now = merged(&current, &[slots(2, 3), slots(3, 5), slots(3, 6)]);
    assert_eq!(owner(&now, 0), Some(id(3)));
}

mod addresses;
mod arbitrary;
mod nodes;

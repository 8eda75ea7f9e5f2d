//! Tests of the merge: partitions, failovers, resharding, resets, strangers, and arbitrary views.
#![expect(
    clippy::indexing_slicing,
    reason = "an index out of bounds fails the test"
)]

use proptest::prelude::*;

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

mod addresses {
    use super::*;

    /// The view of node `myself`, asked at `link`, in which node 6 is at `six`.
    fn view_at(myself: u16, link: &Address, six: &str) -> View {
        let at = address(6).to_string();
        let text: String = HEALTHY
            .iter()
            .map(|row| line(myself, *row).replace(&at, six))
            .collect();
        cluster_nodes::parse(text.as_bytes(), link, &AddressMap::default()).unwrap()
    }

    fn six(views: &[View]) -> Address {
        merged(&three_shards(), views)
            .node_by_id(&id(6))
            .unwrap()
            .address
            .clone()
    }

    #[test]
    fn a_new_address_that_most_others_know_counts() {
        let views = [
            view_at(1, &address(1), "10.0.0.9:7006"),
            view_at(2, &address(2), "10.0.0.9:7006"),
            view_at(3, &address(3), "10.0.0.1:7006"),
        ];
        assert_eq!(six(&views).to_string(), "10.0.0.9:7006");
    }

    #[test]
    fn what_the_others_say_counts_before_the_nodes_own_old_configuration_file() {
        // Node 6 restarted at 10.0.0.9 and was reached there, but shows the address of its nodes.conf.
        let link = Address::new("10.0.0.9", 7006);
        let views = [
            view_at(6, &link, "10.0.0.1:7006"),
            view_at(1, &address(1), "10.0.0.9:7006"),
        ];
        assert_eq!(six(&views), link);
    }

    #[test]
    fn an_address_at_which_the_node_answered_is_certain() {
        // Only node 6 knows so far that it moved.
        let link = Address::new("10.0.0.9", 7006);
        let views = [
            view_at(6, &link, "10.0.0.9:7006"),
            view_at(1, &address(1), "10.0.0.1:7006"),
            view_at(2, &address(2), "10.0.0.1:7006"),
        ];
        assert_eq!(six(&views), link);
    }

    #[test]
    fn a_node_reached_by_a_service_name_is_where_the_cluster_says() {
        let service = Address::new("redis.example", 6379);
        let views = [
            view_at(6, &service, "10.0.0.1:7006"),
            view_at(1, &address(1), "10.0.0.1:7006"),
        ];
        assert_eq!(six(&views), address(6));
    }

    #[test]
    fn a_node_that_does_not_hear_it_does_not_bring_an_old_address_back() {
        let stale = |by: u16, from: &str, to: &str| {
            let rows = HEALTHY.iter().map(|row| line(by, *row));
            let text: String = rows
                .map(|line| {
                    if line.contains(":7006@") {
                        line.replace(from, to)
                    } else {
                        line
                    }
                })
                .collect();
            cluster_nodes::parse(text.as_bytes(), &address(by), &AddressMap::default()).unwrap()
        };
        let told = |by: u16| view_at(by, &address(by), "10.0.0.9:7006");
        let current = merged(&three_shards(), &[told(1)]);
        let six = |current: &Snapshot, views: &[View]| {
            merged(current, views)
                .node_by_id(&id(6))
                .unwrap()
                .address
                .clone()
        };
        for (from, to) in [
            (" connected ", " disconnected "),
            (" 0 9 ", " 7 0 "),
            (" slave ", " slave,fail? "),
        ] {
            let moved = Address::new("10.0.0.9", 7006);
            assert_eq!(six(&current, &[stale(2, from, to)]), moved);
            assert_eq!(
                six(&current, &[stale(2, from, to), stale(3, from, to)]),
                moved
            );
            assert_eq!(
                six(
                    &three_shards(),
                    &[stale(2, from, to), stale(3, from, to), told(1)]
                ),
                moved
            );
            assert_eq!(
                six(&Snapshot::empty(), &[stale(2, from, to)]),
                address(6),
                "better than nothing"
            );
        }
    }

    #[test]
    fn an_unknown_address_is_the_one_the_table_had() {
        assert_eq!(six(&[view_at(1, &address(1), ":7006")]), address(6));
    }
}

/// A view by one of six nodes with any ranges, epochs and flags.
fn any_view() -> impl Strategy<Value = View> {
    let node = (
        0u64..4,
        0usize..4,
        prop_oneof![
            Just("master"),
            Just("slave"),
            Just("master,fail?"),
            Just("master,fail")
        ],
    );
    (
        1u16..=6,
        proptest::collection::vec(node, 6),
        proptest::collection::vec(0u16..16384, 5),
        any::<bool>(),
    )
        .prop_map(|(myself, nodes, mut cuts, ok)| {
            cuts.sort_unstable();
            let ranges: Vec<String> = cuts
                .windows(2)
                .filter(|pair| pair[0] < pair[1])
                .map(|pair| format!("{}-{}", pair[0], pair[1] - 1))
                .collect();
            let rows: Vec<Row<'_>> = (1u16..)
                .zip(&nodes)
                .map(|(number, (epoch, range, flags))| {
                    let taken = nodes[..usize::from(number) - 1]
                        .iter()
                        .any(|(_, other, flags)| other == range && *flags != "slave");
                    let slots = ranges
                        .get(*range)
                        .filter(|_| !taken && *flags != "slave")
                        .map_or("", String::as_str);
                    (
                        number,
                        *flags,
                        (*flags == "slave").then_some(1),
                        *epoch,
                        slots,
                    )
                })
                .collect();
            view(myself, &rows).with_cluster_state(Some(ok))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_owner_was_named_by_a_view_or_by_the_table(views in proptest::collection::vec(any_view(), 1..5)) {
        let current = three_shards();
        if let Some(snapshot) = merge(&current, &views).snapshot {
            for number in 0..16384 {
                let Some(now) = owner(&snapshot, number) else { continue };
                let named = views.iter().any(|view| view.owner(slot(number)).is_some_and(|node| node.id == now));
                prop_assert!(named || owner(&current, number) == Some(now), "slot {number}");
            }
        }
    }

    #[test]
    fn the_order_of_the_views_does_not_matter(views in proptest::collection::vec(any_view(), 1..5)) {
        let mut reversed = views.clone();
        reversed.reverse();
        let owners = |views: &[View]| merge(&three_shards(), views).snapshot.map(|snapshot| (0..16384).map(|number| owner(&snapshot, number)).collect::<Vec<_>>());
        prop_assert_eq!(owners(&views), owners(&reversed));
    }
}

//! Properties of the merge of arbitrary views.

use proptest::prelude::*;

use super::*;

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

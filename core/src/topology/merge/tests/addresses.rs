//! Which of the addresses told for a node counts.

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

//! Tests of the `CLUSTER NODES` parser on captured replies, on every form of a field, and on noise.

#![expect(
    clippy::indexing_slicing,
    reason = "an index out of bounds fails the test"
)]

use proptest::prelude::*;

use super::parse;
use crate::topology::fixtures::slot;
use crate::topology::{
    Address, AddressMap, AddressRule, NodeId, NodeState, OpenSlot, Role, RowProblem, View,
    ViewError,
};

const MIGRATING_7_0: &[u8] = include_bytes!("../testdata/redis-7.0-nodes-migrating.txt");
const HOSTNAME_7_0: &[u8] = include_bytes!("../testdata/redis-7.0-nodes-hostname.txt");
const HOSTNAME_VALKEY: &[u8] = include_bytes!("../testdata/valkey-9.1-nodes-hostname.txt");
const IMPORTING_6_2: &[u8] = include_bytes!("../testdata/redis-6.2-nodes-importing.txt");
const FAILED_OVER_6_2: &[u8] = include_bytes!("../testdata/redis-6.2-nodes-failed-over.txt");
const ALONE_VALKEY: &[u8] = include_bytes!("../testdata/valkey-9.1-nodes-alone.txt");

const ID_A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const ID_B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn link() -> Address {
    Address::new("192.0.2.9", 6379)
}

fn read(text: impl AsRef<[u8]>) -> Result<View, ViewError> {
    parse(text.as_ref(), &link(), &AddressMap::default())
}

/// A row of node A as the answering primary, with these fields.
fn row(
    address: &str,
    flags: &str,
    primary: &str,
    epoch: &str,
    link_state: &str,
    slots: &str,
) -> String {
    format!("{ID_A} {address} {flags} {primary} 0 1 {epoch} {link_state}{slots}\n")
}

#[test]
fn reads_a_captured_cluster_with_an_open_slot() {
    let view = read(MIGRATING_7_0).unwrap();
    assert_eq!(view.nodes().len(), 6);
    assert_eq!(view.covered_slots(), 16384);
    let first = view.owner(slot(0)).unwrap();
    assert_eq!(view.myself.as_ref(), Some(&first.id));
    assert_eq!(first.address, Some(Address::new("127.0.0.1", 21100)));
    assert_eq!(
        (first.role, first.config_epoch, first.state),
        (Role::Primary, Some(1), NodeState::Ok)
    );
    assert_eq!(view.owner(slot(5460)).unwrap().id, first.id);
    let second = view.owner(slot(5461)).unwrap();
    assert_eq!(
        view.owner(slot(16383)).unwrap().address,
        Some(Address::new("127.0.0.1", 21102))
    );
    let open = OpenSlot {
        slot: slot(100),
        source: Some(first.id.clone()),
        target: Some(second.id.clone()),
    };
    assert_eq!(view.open_slots(), [open]);
    let replica = view
        .nodes()
        .iter()
        .find(|node| node.primary_id.as_ref() == Some(&first.id))
        .unwrap();
    assert_eq!(
        (replica.role, replica.link_connected),
        (Role::Replica, true)
    );
}

#[test]
fn reads_the_importing_side() {
    let view = read(IMPORTING_6_2).unwrap();
    let (source, target) = (
        view.owner(slot(100)).unwrap(),
        view.owner(slot(6000)).unwrap(),
    );
    assert_eq!(view.myself.as_ref(), Some(&target.id));
    let open = OpenSlot {
        slot: slot(100),
        source: Some(source.id.clone()),
        target: Some(target.id.clone()),
    };
    assert_eq!(view.open_slots(), [open]);
}

#[test]
fn reads_host_names_of_both_servers() {
    for text in [HOSTNAME_7_0, HOSTNAME_VALKEY] {
        let view = read(text).unwrap();
        for node in view.nodes() {
            let port = node.address.as_ref().unwrap().port;
            assert_eq!(
                node.hostname.as_deref(),
                Some(format!("node-{}.test", port % 100).as_str())
            );
        }
    }
}

#[test]
fn a_failed_primary_is_listed_and_its_successor_owns_the_slots() {
    let view = read(FAILED_OVER_6_2).unwrap();
    let failed: Vec<_> = view
        .nodes()
        .iter()
        .filter(|node| node.state == NodeState::Failed)
        .collect();
    assert_eq!(failed.len(), 1);
    assert!(!failed[0].link_connected);
    let owner = view.owner(slot(5461)).unwrap();
    assert_eq!((owner.config_epoch, owner.state), (Some(7), NodeState::Ok));
    assert_eq!(view.covered_slots(), 16384);
}

#[test]
fn a_node_that_does_not_know_its_ip_is_where_the_answer_came_from() {
    let view = read(ALONE_VALKEY).unwrap();
    assert_eq!(view.nodes()[0].address, Some(link()));
    assert_eq!((view.nodes().len(), view.covered_slots()), (1, 0));
}

#[test]
fn reads_every_form_of_address() {
    for (text, host, port, hostname) in [
        ("10.0.0.1:6379", "10.0.0.1", 6379, None),
        ("10.0.0.1:6379@16379", "10.0.0.1", 6379, None),
        ("10.0.0.1:6379@16379,", "10.0.0.1", 6379, None),
        (
            "10.0.0.1:6379@16379,name.test",
            "10.0.0.1",
            6379,
            Some("name.test"),
        ),
        (
            "10.0.0.1:6379@16379,name.test,shard-id=abc,tls-port=1",
            "10.0.0.1",
            6379,
            Some("name.test"),
        ),
        ("10.0.0.1:6379@16379,,shard-id=abc", "10.0.0.1", 6379, None),
        ("10.0.0.1:6379@16379,shard-id=abc", "10.0.0.1", 6379, None),
        ("2001:db8::1:6379@16379", "2001:db8::1", 6379, None),
        ("[2001:db8::1]:6379@16379", "2001:db8::1", 6379, None),
        ("::1:7000", "::1", 7000, None),
    ] {
        let view = read(row(
            text,
            "myself,master",
            "-",
            "1",
            "connected",
            " 0-16383",
        ))
        .unwrap();
        let node = &view.nodes()[0];
        assert_eq!(node.address, Some(Address::new(host, port)), "{text}");
        assert_eq!(node.hostname.as_deref(), hostname, "{text}");
    }
}

#[test]
fn the_address_map_applies_to_announced_addresses_only() {
    let map = AddressMap::new(vec![
        AddressRule::parse("10.0.0.0/8", "203.0.113.7").unwrap(),
    ]);
    let link = Address::new("10.1.1.1", 1);
    let other = format!("{ID_B} 10.0.0.2:7002@17002 master - 0 0 2 connected\n");
    let text = row(":6379@16379", "myself,master", "-", "1", "connected", "") + &other;
    let view = parse(text.as_bytes(), &link, &map).unwrap();
    assert_eq!(
        view.nodes()[0].address,
        Some(link),
        "already the address we reach"
    );
    assert_eq!(
        view.nodes()[1].address,
        Some(Address::new("203.0.113.7", 7002))
    );
}

#[test]
fn unknown_hosts_of_other_nodes_stay_unknown() {
    let other = format!("{ID_B} :7002@17002 master - 0 0 2 connected 1\n");
    let view =
        read(row("10.0.0.1:1", "myself,master", "-", "1", "connected", " 0") + &other).unwrap();
    assert_eq!(view.owner(slot(1)).unwrap().address, None);
}

#[test]
fn nodes_in_handshake_or_without_address_are_left_out() {
    let text = row(
        "10.0.0.1:6379@16379",
        "myself,master",
        "-",
        "1",
        "connected",
        " 0-5 7 [9->-x]",
    ) + &format!("{ID_B} 10.0.0.2:7002@17002 handshake - 0 0 0 disconnected\n")
        + &format!(
            "{} :0@0 master,fail,noaddr - 0 0 3 disconnected 10-20\n",
            "c".repeat(40)
        )
        + &format!(
            "{} :0@0 slave,noaddr {ID_A} 0 0 3 disconnected\n",
            "d".repeat(40)
        );
    let view = read(text).unwrap();
    assert_eq!(view.nodes().len(), 1);
    assert_eq!(view.covered_slots(), 7);
}

#[test]
fn flags_in_any_order_and_unknown_ones_are_read() {
    for (flags, role, state) in [
        ("myself,master", Role::Primary, NodeState::Ok),
        ("master,myself,nofailover", Role::Primary, NodeState::Ok),
        ("myself,slave,fail?", Role::Replica, NodeState::Suspect),
        ("myself,replica,fail", Role::Replica, NodeState::Failed),
        (
            "myself,primary,fail?,fail",
            Role::Primary,
            NodeState::Failed,
        ),
        (
            "fail,fail?,myself,master,future",
            Role::Primary,
            NodeState::Failed,
        ),
    ] {
        let view = read(row("10.0.0.1:1", flags, "-", "1", "connected", "")).unwrap();
        assert_eq!(
            (view.nodes()[0].role, view.nodes()[0].state),
            (role, state),
            "{flags}"
        );
    }
}

#[test]
fn one_bad_row_rejects_the_view_with_its_number_and_reason() {
    let good = format!("{ID_B} 10.0.0.2:7002@17002 slave {ID_A} 0 0 2 connected\r\n");
    let with = |address, flags, primary, epoch, link_state, slots| {
        good.clone() + &row(address, flags, primary, epoch, link_state, slots)
    };
    let (at, me, ok) = ("10.0.0.1:6379@16379", "myself,master", "connected");
    for (text, problem) in [
        (with("10.0.0.1", me, "-", "1", ok, ""), RowProblem::Address),
        (
            with("10.0.0.1:x@1", me, "-", "1", ok, ""),
            RowProblem::Address,
        ),
        (
            with("10.0.0.1:0@1", me, "-", "1", ok, ""),
            RowProblem::Address,
        ),
        (
            with("10.0.0.1:65536@1", me, "-", "1", ok, ""),
            RowProblem::Address,
        ),
        (with("a\tb:1@1", me, "-", "1", ok, ""), RowProblem::Address),
        (with(at, "myself", "-", "1", ok, ""), RowProblem::Role),
        (
            with(at, "myself,master,slave", "-", "1", ok, ""),
            RowProblem::Role,
        ),
        (with(at, me, "", "1", ok, ""), RowProblem::Id),
        (with(at, me, "-", "-1", ok, ""), RowProblem::Epoch),
        (
            with(at, me, "-", "99999999999999999999", ok, ""),
            RowProblem::Epoch,
        ),
        (with(at, me, "-", "", ok, ""), RowProblem::Epoch),
        (with(at, me, "-", "1", "up", ""), RowProblem::LinkState),
        (with(at, me, "-", "1", ok, " 16384"), RowProblem::Slot),
        (with(at, me, "-", "1", ok, " 5-3"), RowProblem::Slot),
        (with(at, me, "-", "1", ok, " 5-"), RowProblem::Slot),
        (with(at, me, "-", "1", ok, " x"), RowProblem::Slot),
        (with(at, me, "-", "1", ok, " [5->-"), RowProblem::Slot),
        (with(at, me, "-", "1", ok, " [5->-]"), RowProblem::Id),
        (with(at, me, "-", "1", ok, " [x-<-b]"), RowProblem::Slot),
        (
            with(at, me, "-", "1", ok, " 0-5 5"),
            RowProblem::DuplicateSlot,
        ),
        (
            with(at, "myself,slave", ID_B, "1", ok, " 5"),
            RowProblem::ReplicaWithSlots,
        ),
        (
            good.clone() + "only five fields here really\n",
            RowProblem::TooFewFields,
        ),
        (good.clone() + &good, RowProblem::DuplicateNode),
    ] {
        assert_eq!(
            read(&text),
            Err(ViewError::Row { row: 2, problem }),
            "{text:?}"
        );
    }
    let not_text = [good.as_bytes(), b"\xff\n"].concat();
    assert_eq!(
        read(not_text),
        Err(ViewError::Row {
            row: 2,
            problem: RowProblem::NotText
        })
    );
}

#[test]
fn exactly_one_row_must_be_the_answering_node() {
    assert_eq!(read(""), Err(ViewError::Myself));
    assert_eq!(
        read(row("10.0.0.1:1", "master", "-", "1", "connected", "")),
        Err(ViewError::Myself)
    );
    let second = format!("{ID_B} 10.0.0.2:1 myself,master - 0 0 2 connected\n");
    let text = row("10.0.0.1:1", "myself,master", "-", "1", "connected", "") + &second;
    assert_eq!(read(text), Err(ViewError::Myself));
}

#[test]
fn a_reply_cut_anywhere_is_rejected_or_has_fewer_rows_but_never_other_owners() {
    let whole = read(MIGRATING_7_0).unwrap();
    for end in 0..MIGRATING_7_0.len() {
        let Ok(view) = read(&MIGRATING_7_0[..end]) else {
            continue;
        };
        for number in 0..16384 {
            if let Some(owner) = view.owner(slot(number)) {
                assert_eq!(
                    owner.id,
                    whole.owner(slot(number)).unwrap().id,
                    "cut at {end}"
                );
            }
        }
    }
    assert_eq!(NodeId::new(ID_A).as_str(), ID_A);
}

proptest! {
    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(bytes);
    }

    #[test]
    fn rows_with_noise_in_them_never_panic(
        at in 0usize..800, noise in proptest::collection::vec(any::<u8>(), 0..12), cut in 0usize..12,
    ) {
        let at = at.min(MIGRATING_7_0.len());
        let rest = (at + cut).min(MIGRATING_7_0.len());
        let _ = read([&MIGRATING_7_0[..at], &noise, &MIGRATING_7_0[rest..]].concat());
    }

    #[test]
    fn structured_noise_never_panics(text in "([a-f0-9]{0,4} [0-9a-z:.@,]{0,12} (myself,)?(master|slave|fail)? [-a] [0-9]? [0-9]? [0-9]{0,3} (connected)?( [0-9\\[\\]<>-]{0,8}){0,3}\n){0,5}") {
        let _ = read(text);
    }
}

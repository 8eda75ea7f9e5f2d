//! Tests of the `CLUSTER SLOTS` parser on captured replies, on every kind of host, and on noise.

#![expect(
    clippy::indexing_slicing,
    reason = "an index out of bounds fails the test"
)]

use proptest::prelude::*;

use super::parse;
use crate::resp::{Value, parse_value};
use crate::topology::fixtures::slot;
use crate::topology::{
    Address, AddressMap, AddressRule, NodeId, Role, RowProblem, View, ViewError,
};

const PLAIN_6_2: &[u8] = include_bytes!("../testdata/redis-6.2-slots.resp");
const NO_HOSTNAME_7_0: &[u8] = include_bytes!("../testdata/redis-7.0-slots-no-hostname.resp");
const UNKNOWN_ENDPOINT: &[u8] =
    include_bytes!("../testdata/valkey-9.1-slots-unknown-endpoint.resp");
const HOSTNAME_RESP3: &[u8] = include_bytes!("../testdata/valkey-9.1-slots-hostname-resp3.resp");

fn link() -> Address {
    Address::new("192.0.2.9", 6379)
}

fn read_as(bytes: &[u8], myself: Option<&str>) -> Result<View, ViewError> {
    let (value, end) = parse_value(bytes).unwrap().unwrap();
    assert_eq!(end, bytes.len());
    parse(
        &value,
        &link(),
        myself.map(NodeId::new).as_ref(),
        &AddressMap::default(),
    )
}

fn read(bytes: &[u8]) -> Result<View, ViewError> {
    read_as(bytes, None)
}

fn addresses(view: &View) -> Vec<Option<String>> {
    view.nodes()
        .iter()
        .map(|node| node.address.as_ref().map(ToString::to_string))
        .collect()
}

/// `CLUSTER SLOTS` with one entry for all slots, whose only node has these fields, as RESP.
fn one(fields: &str, count: usize) -> Vec<u8> {
    format!("*1\r\n*3\r\n:0\r\n:16383\r\n*{count}\r\n{fields}").into_bytes()
}

#[test]
fn reads_a_captured_cluster() {
    let view = read(PLAIN_6_2).unwrap();
    assert_eq!(view.covered_slots(), 16384);
    assert_eq!(view.nodes().len(), 6);
    let owner = view.owner(slot(0)).unwrap();
    assert_eq!((owner.role, owner.config_epoch), (Role::Primary, None));
    assert_eq!(owner.address, Some(Address::new("127.0.0.1", 21200)));
    let replica = view
        .nodes()
        .iter()
        .find(|node| node.primary_id.as_ref() == Some(&owner.id))
        .unwrap();
    assert_eq!(replica.role, Role::Replica);
    assert_eq!(view.myself, None);
}

#[test]
fn question_mark_host_uses_the_ip_of_the_metadata() {
    let view = read(NO_HOSTNAME_7_0).unwrap();
    let hosts = addresses(&view);
    assert_eq!(hosts[0].as_deref(), Some("127.0.0.1:21100"));
    assert_eq!(hosts[1].as_deref(), Some("node-1.test:21101"));
}

#[test]
fn null_host_is_the_host_that_was_asked() {
    let view = read(UNKNOWN_ENDPOINT).unwrap();
    assert_eq!(addresses(&view)[0].as_deref(), Some("192.0.2.9:21300"));
    assert_eq!(addresses(&view)[2].as_deref(), Some("192.0.2.9:21301"));
    assert_eq!(view.nodes()[0].hostname.as_deref(), Some("node-0.test"));
}

#[test]
fn reads_the_map_of_resp3() {
    let view = read(HOSTNAME_RESP3).unwrap();
    assert_eq!(addresses(&view)[0].as_deref(), Some("node-0.test:21300"));
    assert_eq!(view.covered_slots(), 16384);
}

#[test]
fn every_other_kind_of_host() {
    for (fields, count, myself, expected) in [
        (
            "$0\r\n\r\n:7000\r\n$1\r\na\r\n",
            3,
            None,
            Some("192.0.2.9:7000"),
        ),
        ("_\r\n:7000\r\n$1\r\na\r\n", 3, None, Some("192.0.2.9:7000")),
        ("$1\r\n?\r\n:7000\r\n$1\r\na\r\n", 3, None, None),
        ("$1\r\n?\r\n:7000\r\n$1\r\na\r\n", 3, Some("b"), None),
        (
            "$1\r\n?\r\n:7000\r\n$1\r\na\r\n",
            3,
            Some("a"),
            Some("192.0.2.9:7000"),
        ),
        (
            "$1\r\n?\r\n:7000\r\n$1\r\na\r\n*2\r\n$2\r\nip\r\n$3\r\n::5\r\n",
            4,
            None,
            Some("[::5]:7000"),
        ),
        (
            "$1\r\n?\r\n:7000\r\n$1\r\na\r\n*4\r\n$1\r\nx\r\n:1\r\n$2\r\nip\r\n$1\r\n?\r\n",
            4,
            None,
            None,
        ),
        (
            "$5\r\n[::1]\r\n:7000\r\n$1\r\na\r\n",
            3,
            None,
            Some("[::1]:7000"),
        ),
    ] {
        let view = read_as(&one(fields, count), myself).unwrap();
        assert_eq!(addresses(&view)[0].as_deref(), expected, "{fields:?}");
    }
}

#[test]
fn the_address_map_applies() {
    let map = AddressMap::new(vec![
        AddressRule::parse("127.0.0.1:21200", "gate.test:9").unwrap(),
    ]);
    let (value, _) = parse_value(PLAIN_6_2).unwrap().unwrap();
    let view = parse(&value, &link(), None, &map).unwrap();
    assert_eq!(addresses(&view)[0].as_deref(), Some("gate.test:9"));
    assert_eq!(addresses(&view)[1].as_deref(), Some("127.0.0.1:21205"));
}

#[test]
fn an_empty_reply_is_a_view_without_nodes() {
    let view = read(b"*0\r\n").unwrap();
    assert_eq!((view.nodes().len(), view.covered_slots()), (0, 0));
}

#[test]
fn one_bad_entry_rejects_the_view() {
    let node = "*3\r\n$1\r\nh\r\n:1\r\n$1\r\na\r\n";
    let other = "*3\r\n$1\r\nh\r\n:2\r\n$1\r\nb\r\n";
    for (entry, problem) in [
        ("*2\r\n:0\r\n:1\r\n".to_owned(), RowProblem::TooFewFields),
        (
            format!("*3\r\n:0\r\n$1\r\n1\r\n{node}"),
            RowProblem::TooFewFields,
        ),
        (format!("*3\r\n:-1\r\n:1\r\n{node}"), RowProblem::Slot),
        (format!("*3\r\n:0\r\n:16384\r\n{node}"), RowProblem::Slot),
        (format!("*3\r\n:9\r\n:8\r\n{node}"), RowProblem::Slot),
        (
            format!("*3\r\n:100\r\n:100\r\n{node}"),
            RowProblem::DuplicateSlot,
        ),
        (
            "*3\r\n:0\r\n:1\r\n*2\r\n$1\r\nh\r\n:1\r\n".to_owned(),
            RowProblem::TooFewFields,
        ),
        (
            "*3\r\n:0\r\n:1\r\n*3\r\n$1\r\nh\r\n:0\r\n$1\r\na\r\n".to_owned(),
            RowProblem::Address,
        ),
        (
            "*3\r\n:0\r\n:1\r\n*3\r\n$1\r\nh\r\n:70000\r\n$1\r\na\r\n".to_owned(),
            RowProblem::Address,
        ),
        (
            "*3\r\n:0\r\n:1\r\n*3\r\n$3\r\na b\r\n:7\r\n$1\r\na\r\n".to_owned(),
            RowProblem::Address,
        ),
        (
            "*3\r\n:0\r\n:1\r\n*3\r\n$1\r\nh\r\n:1\r\n$0\r\n\r\n".to_owned(),
            RowProblem::Id,
        ),
        (
            "*3\r\n:0\r\n:1\r\n*3\r\n$1\r\nh\r\n:1\r\n$-1\r\n".to_owned(),
            RowProblem::Id,
        ),
        (
            "*3\r\n:0\r\n:1\r\n*3\r\n:5\r\n:1\r\n$1\r\na\r\n".to_owned(),
            RowProblem::NotText,
        ),
        (format!("*4\r\n:0\r\n:1\r\n{other}{node}"), RowProblem::Role),
    ] {
        let bytes = format!("*2\r\n*3\r\n:100\r\n:100\r\n{node}{entry}");
        let expected = ViewError::Row { row: 2, problem };
        assert_eq!(read(bytes.as_bytes()), Err(expected), "{entry:?}");
    }
    assert_eq!(read(b"$1\r\nx\r\n"), Err(ViewError::Shape));
    assert_eq!(read(b"*1\r\n:1\r\n"), Err(ViewError::Shape));
    assert_eq!(
        read(b"*1\r\n*3\r\n:0\r\n:1\r\n:2\r\n"),
        Err(ViewError::Shape)
    );
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..60)
}

proptest! {
    #[test]
    fn noise_never_panics(at in 0usize..500, noise in noise(), cut in 0usize..60) {
        let at = at.min(PLAIN_6_2.len());
        let rest = (at + cut).min(PLAIN_6_2.len());
        let bytes = [&PLAIN_6_2[..at], &noise, &PLAIN_6_2[rest..]].concat();
        if let Ok(Some((value, _))) = parse_value(&bytes) {
            let _ = parse(&value, &link(), None, &AddressMap::default());
        }
    }

    #[test]
    fn any_numbers_never_panic(first in any::<i64>(), last in any::<i64>(), port in any::<i64>(), host in noise(), id in noise()) {
        let node = Value::Array(vec![Value::Bulk(&host), Value::Integer(port), Value::Bulk(&id)]);
        let entry = Value::Array(vec![Value::Integer(first), Value::Integer(last), node]);
        let _ = parse(&Value::Array(vec![entry]), &link(), None, &AddressMap::default());
    }
}

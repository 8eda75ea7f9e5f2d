//! Cursors, and whole scans over simulated clusters.

mod cluster;
mod nodes;
mod slots;

use super::{Finish, ScanError, Step, plan};
use crate::resp::{Args, DecodeStep, RequestDecoder, RequestLimits, Value, parse_value, write};
use crate::slot::Slot;
use crate::topology::{Address, Node, NodeId, NodeState, Role, Snapshot, SnapshotBuilder};

fn node_id(number: usize) -> String {
    format!("{number:040x}")
}

/// Primaries that own the slots from their number to the next one's, with their config epochs.
fn snapshot(generation: u64, primaries: &[(u16, u64)]) -> Snapshot {
    let mut builder = SnapshotBuilder::new();
    for (index, (first, epoch)) in primaries.iter().enumerate() {
        let number = u16::try_from(index).unwrap();
        let node = Node {
            id: NodeId::new(&node_id(index)),
            address: Address::new("10.0.0.1", 7000 + number),
            hostname: None,
            role: Role::Primary,
            primary_id: None,
            state: NodeState::Ok,
            link_connected: true,
            config_epoch: *epoch,
        };
        let node = builder.add_node(node).unwrap();
        let end = primaries.get(index + 1).map_or(16_384, |(next, _)| *next);
        for slot in *first..end {
            builder.assign(Slot::new(slot).unwrap(), node);
        }
    }
    builder.build(generation)
}

fn plan_words(words: &[&[u8]], snapshot: &Snapshot) -> Result<Step, ScanError> {
    let (mut request, mut decoder) = (Vec::new(), RequestDecoder::new());
    write::command(&mut request, words);
    let step = decoder.decode(&request, &RequestLimits::DEFAULT).unwrap();
    assert!(matches!(step, DecodeStep::Command { .. }));
    plan(Args::new(&request, decoder.ranges()), snapshot)
}

fn plan_cursor(cursor: &str, snapshot: &Snapshot) -> Result<Step, ScanError> {
    plan_words(&[b"SCAN", cursor.as_bytes()], snapshot)
}

fn finish(step: &Step, reply: &str, snapshot: &Snapshot) -> String {
    let mut out = Vec::new();
    let finish = step.finish(reply.as_bytes(), snapshot, &mut out);
    assert_ne!(finish, Finish::NotOwner);
    assert!(!out.is_empty(), "{finish:?}");
    String::from_utf8(out).unwrap()
}

fn cursor_of(reply: &str) -> String {
    match parse_value(reply.as_bytes()) {
        Ok(Some((Value::Array(items), _))) => match items.first() {
            Some(Value::Bulk(cursor)) => String::from_utf8(cursor.to_vec()).unwrap(),
            other => panic!("{other:?} is no cursor"),
        },
        other => panic!("{other:?} is no reply of SCAN"),
    }
}

fn keys_of(reply: &str) -> Vec<String> {
    let (value, _) = parse_value(reply.as_bytes()).unwrap().unwrap();
    let Value::Array(items) = value else {
        panic!("{reply} is no reply of SCAN")
    };
    let Some(Value::Array(keys)) = items.into_iter().nth(1) else {
        panic!("{reply} has no keys")
    };
    keys.into_iter()
        .map(|key| match key {
            Value::Bulk(key) => String::from_utf8(key.to_vec()).unwrap(),
            other => panic!("{other:?} is no key"),
        })
        .collect()
}

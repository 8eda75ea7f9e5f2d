//! Any cursor of a client and any reply of a node to SCAN: no panic, one well-formed request for the node, one well-formed reply
//! for the client with a cursor that is accepted again, and a scan that ends when every node says it has no more.
//!
//! Input: one byte for the layout, the words of the client's SCAN behind its name, separated by NUL and ended by ff, then the
//! node's reply.

use std::sync::OnceLock;

use slotway_core::merge::scan::{Finish, Step, plan};
use slotway_core::resp::{
    DecodeStep, ReplyScanner, RequestDecoder, RequestLimits, Value, parse_value, write,
};
use slotway_core::topology::Snapshot;

use crate::engine::cluster::snapshot;
use crate::words::{Words, assert_one_value};

/// The check of this target.
pub fn check(data: &[u8]) {
    let [layout, rest @ ..] = data else { return };
    let end = rest.iter().position(|byte| *byte == 0xff);
    let (words, reply) = rest.split_at(end.unwrap_or(rest.len()));
    let reply = reply.get(1..).unwrap_or_default();
    let mut request = Words::new(&[b"SCAN"]);
    words
        .split(|byte| *byte == 0)
        .for_each(|word| request.push(word));
    let (then, now) = (layout_of(*layout), layout_of(*layout >> 4));
    let Ok(step) = plan(request.args(), then) else {
        return;
    };
    check_request(&step, request.args().len());
    check_reply(&step, reply, now);
    for knows_slots in [false, true] {
        check_end(step.clone(), then, knows_slots);
    }
}

/// None, two that differ in their number only, and one that is really another; built once.
fn layout_of(number: u8) -> &'static Snapshot {
    static LAYOUTS: OnceLock<[Snapshot; 4]> = OnceLock::new();
    let layouts = LAYOUTS.get_or_init(|| {
        [
            Snapshot::empty(),
            snapshot(1, 0),
            snapshot(2, 0),
            snapshot(3, 5000),
        ]
    });
    &layouts[usize::from(number % 4)]
}

/// One command, or a transaction with one SCAN at most.
fn check_request(step: &Step, argc: usize) {
    let mut rest = step.request();
    let mut lengths = Vec::new();
    while !rest.is_empty() {
        let mut decoder = RequestDecoder::new();
        let Ok(DecodeStep::Command { len }) = decoder.decode(rest, &RequestLimits::DEFAULT) else {
            panic!("not a command: {}", rest.escape_ascii())
        };
        lengths.push(decoder.ranges().len());
        rest = &rest[len..];
    }
    match &lengths[..] {
        [one] if !step.is_unit() => assert_eq!(*one, argc),
        [1, scan, 2, 2, 1] if step.is_unit() => assert_eq!(*scan, argc),
        other => assert_eq!(other, [1, 2, 2, 1]),
    }
}

fn check_reply(step: &Step, reply: &[u8], now: &Snapshot) {
    // The engine hands over whole replies only.
    if ReplyScanner::new().scan(reply) != Ok(Some(reply.len())) {
        return;
    }
    let mut out = Vec::new();
    if let Finish::Then(next) = step.finish(reply, now, &mut out) {
        assert!(out.is_empty() && next.node().is_some() && next.is_unit());
        return;
    }
    match parse_value(reply) {
        Ok(_) => assert_one_value(&out),
        // The parser follows fewer levels than the scanner.
        Err(_) => assert_eq!(ReplyScanner::new().scan(&out), Ok(Some(out.len()))),
    }
    if let Some(cursor) = cursor(&out) {
        let again = Words::new(&[b"SCAN", cursor]);
        assert!(
            plan(again.args(), now).is_ok(),
            "a cursor of ours is refused"
        );
    }
}

/// The cursor of a reply that is not an error.
fn cursor(reply: &[u8]) -> Option<&[u8]> {
    match parse_value(reply) {
        Ok(Some((Value::Array(items), _))) => match items.first() {
            Some(Value::Bulk(cursor)) => Some(cursor),
            _ => None,
        },
        _ => None,
    }
}

/// From wherever the client's cursor was, with nodes that have nothing more, the scan ends after each of them at the latest, and once
/// more for a slot or a scan that begins anew.
fn check_end(mut step: Step, layout: &Snapshot, knows_slots: bool) {
    for _ in 0..layout.shards().len() + 3 {
        let mut out = Vec::new();
        let finish = step.finish(&honest(&step, knows_slots), layout, &mut out);
        assert!(!matches!(finish, Finish::Then(_)), "nothing is given away");
        let cursor = cursor(&out).expect("an honest reply has a cursor");
        if cursor == b"0" {
            return;
        }
        let again = Words::new(&[b"SCAN", cursor]);
        step = plan(again.args(), layout).expect("a cursor of ours is accepted");
    }
    panic!("a scan does not end");
}

/// The reply of a node without keys: to SCAN, or to EXEC, with what a server says that has a table per slot, or nothing.
fn honest(step: &Step, knows_slots: bool) -> Vec<u8> {
    const NOTHING: &[u8] = b"*2\r\n$1\r\n0\r\n*0\r\n";
    if !step.is_unit() {
        return NOTHING.to_vec();
    }
    let has_scan = !step
        .request()
        .starts_with(b"*1\r\n$5\r\nMULTI\r\n*2\r\n$7\r\nCLUSTER");
    let mut reply = Vec::new();
    write::array(&mut reply, 2 + usize::from(has_scan));
    if has_scan {
        reply.extend_from_slice(NOTHING);
    }
    let facts: [&[u8]; 2] = if knows_slots {
        [
            b"a 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-16383",
            b"redis_version:8.2.3\r\nredis_mode:cluster\r\nrun_id:a\r\n",
        ]
    } else {
        [b"", b""]
    };
    facts.iter().for_each(|text| write::bulk(&mut reply, text));
    reply
}

//! Any cursor of a client and any reply of a node to SCAN: no panic, one well-formed request for the node, one well-formed reply
//! for the client with a cursor that is accepted again, and a scan that ends when every node says it has no more.
//!
//! Input: one byte for the layout, the words of the client's SCAN behind its name, separated by NUL and ended by ff, then the
//! node's reply.

use std::sync::OnceLock;

use slotway_core::merge::scan::{Step, plan};
use slotway_core::resp::{
    DecodeStep, ReplyScanner, RequestDecoder, RequestLimits, Value, parse_value,
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
    check_end(step, then);
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

fn check_request(step: &Step, argc: usize) {
    let mut decoder = RequestDecoder::new();
    let decoded = decoder.decode(step.request(), &RequestLimits::DEFAULT);
    assert_eq!(
        decoded,
        Ok(DecodeStep::Command {
            len: step.request().len()
        })
    );
    assert_eq!(decoder.ranges().len(), argc);
}

fn check_reply(step: &Step, reply: &[u8], now: &Snapshot) {
    // The engine hands over whole replies only.
    if ReplyScanner::new().scan(reply) != Ok(Some(reply.len())) {
        return;
    }
    let mut out = Vec::new();
    step.finish(reply, now, &mut out);
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

/// From wherever the client's cursor was, with nodes that have nothing more, the scan ends after each of them at the latest.
fn check_end(mut step: Step, layout: &Snapshot) {
    for _ in 0..=layout.shards().len() {
        let mut out = Vec::new();
        step.finish(b"*2\r\n$1\r\n0\r\n*0\r\n", layout, &mut out);
        let cursor = cursor(&out).expect("an honest reply has a cursor");
        if cursor == b"0" {
            return;
        }
        let again = Words::new(&[b"SCAN", cursor]);
        step = plan(again.args(), layout).expect("a cursor of ours is accepted");
    }
    panic!("a scan does not end");
}

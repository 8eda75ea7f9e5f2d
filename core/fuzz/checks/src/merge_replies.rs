//! Any replies to the parts of any command that is split or fanned out: no panic, and one well-formed value, whatever the parts
//! said. What the merge leaves of the elements of MGET and the keys of KEYS is what the parts had.
//!
//! Input: one byte for the command, one for what became of the parts, then the parts, each behind a byte ff.

use slotway_core::command::TABLE;
use slotway_core::merge::{Part, PartOutcome, Rule, merge};
use slotway_core::resp::{ReplyScanner, Value, parse_value};

use crate::words::assert_one_value;

/// More parts than that only cost time.
const MAX_PARTS: usize = 16;

/// The check of this target.
pub fn check(data: &[u8]) {
    let [command, outcomes, parts @ ..] = data else {
        return;
    };
    let rules = TABLE
        .iter()
        .filter_map(|spec| Some((spec.name, Rule::for_spec(spec)?)));
    let rules: Vec<(&str, Rule)> = rules.collect();
    let (name, rule) = rules[usize::from(*command) % rules.len()];
    let replies: Vec<&[u8]> = parts.split(|byte| *byte == 0xff).take(MAX_PARTS).collect();
    // The engine hands over whole replies only: anything else has cost the link that sent it.
    if replies.iter().any(|reply| !is_one_reply(reply)) {
        return;
    }
    let positions = positions(&replies);
    let parts: Vec<Part<'_>> = replies
        .iter()
        .zip(&positions)
        .enumerate()
        .map(|(number, (reply, positions))| Part {
            reply,
            positions: if name == "mget" { positions } else { &[] },
            outcome: outcome(*outcomes, number, reply),
        })
        .collect();
    let total = positions.iter().map(Vec::len).sum();
    let mut out = b"before".to_vec();
    merge(
        rule,
        &parts,
        total,
        &|part, slot| (part + slot.index()) % 3 != 0,
        &mut out,
    );
    let merged = out.strip_prefix(b"before").expect("what was there stays");
    if is_flat(&replies) {
        assert_one_value(merged);
    } else {
        assert!(is_one_reply(merged));
    }
    if name == "mget" {
        let lists = replies.iter().all(|reply| is_list(reply));
        assert!(!lists || merged.first() == Some(&b'*'), "lists are refused");
        if merged.first() == Some(&b'*') {
            check_elements(merged, &replies, total);
        }
    }
}

/// A list of known length, without attributes.
fn is_list(reply: &[u8]) -> bool {
    matches!(reply, [b'*' | b'~', b'0'..=b'9', ..]) && parse_value(reply).is_ok()
}

fn is_one_reply(reply: &[u8]) -> bool {
    ReplyScanner::new().scan(reply) == Ok(Some(reply.len()))
}

/// The parser follows fewer levels than the scanner.
fn is_flat(replies: &[&[u8]]) -> bool {
    replies.iter().all(|reply| parse_value(reply).is_ok())
}

/// A place in the whole for each element, as if the keys had been dealt out to the parts in turn.
fn positions(replies: &[&[u8]]) -> Vec<Vec<u32>> {
    let mut positions: Vec<Vec<u32>> = replies
        .iter()
        .map(|reply| match parse_value(reply) {
            Ok(Some((Value::Array(items) | Value::Set(items), _))) => vec![0; items.len()],
            _ => vec![0],
        })
        .collect();
    let mut next = 0;
    let longest = positions.iter().map(Vec::len).max().unwrap_or(0);
    for index in 0..longest {
        for part in positions.iter_mut().filter(|part| part.len() > index) {
            part[index] = next;
            next += 1;
        }
    }
    positions
}

/// Only what was not answered by a node is the proxy's own error.
fn outcome(outcomes: u8, number: usize, reply: &[u8]) -> PartOutcome {
    if reply.first() != Some(&b'-') {
        return PartOutcome::Answered;
    }
    match (outcomes >> (number % 4 * 2)) & 3 {
        0 => PartOutcome::NotExecuted,
        1 => PartOutcome::Uncertain,
        _ => PartOutcome::Answered,
    }
}

fn check_elements(merged: &[u8], replies: &[&[u8]], total: usize) {
    let elements = |reply| match parse_value(reply) {
        Ok(Some((Value::Array(items) | Value::Set(items), _))) => items,
        other => panic!("{other:?} is no list"),
    };
    if !is_flat(replies) {
        return;
    }
    let whole = elements(merged);
    assert_eq!(whole.len(), total);
    for (reply, places) in replies.iter().zip(positions(replies)) {
        for (element, place) in elements(reply).iter().zip(places) {
            assert_eq!(whole[place as usize], *element);
        }
    }
}

//! Scans node by node: cursors, and whole scans over simulated primaries.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::nodes::{NodeWalk, layout_of};
use super::super::{ScanError, Step};
use super::{cursor_of, finish, keys_of, plan_cursor, plan_words, snapshot};
use crate::slot::Slot;
use crate::topology::Snapshot;

fn three() -> Snapshot {
    snapshot(1, &[(0, 1), (5461, 2), (10_923, 3)])
}

/// Where such a scan begins.
fn start(snapshot: &Snapshot) -> String {
    NodeWalk::start(snapshot, None)
        .cursor()
        .unwrap()
        .to_string()
}

#[test]
fn s1_the_options_pass_and_the_cursors_are_exchanged() {
    let three = three();
    let step = plan_words(
        &[
            b"SCAN",
            start(&three).as_bytes(),
            b"MATCH",
            b"a*",
            b"COUNT",
            b"7",
        ],
        &three,
    )
    .unwrap();
    assert_eq!(step.slot().get(), 0);
    assert_eq!(
        step.request.as_slice(),
        b"*6\r\n$4\r\nSCAN\r\n$1\r\n0\r\n$5\r\nMATCH\r\n$2\r\na*\r\n$5\r\nCOUNT\r\n$1\r\n7\r\n"
    );
    let reply = finish(
        &step,
        "*2\r\n$2\r\n28\r\n*2\r\n$1\r\na\r\n$2\r\nab\r\n",
        &three,
    );
    let cursor = cursor_of(&reply);
    assert_eq!(
        reply,
        format!(
            "*2\r\n${}\r\n{cursor}\r\n*2\r\n$1\r\na\r\n$2\r\nab\r\n",
            cursor.len()
        )
    );
    let bits: u64 = cursor.parse().unwrap();
    assert_eq!(
        (bits & 3, bits >> 2 & 0x3fff, bits >> 27),
        (2, 0, 28),
        "mode, slot, position"
    );
    let step = plan_words(&[b"SCAN", cursor.as_bytes()], &three).unwrap();
    assert_eq!(
        (step.slot().get(), step.request.as_slice()),
        (0, b"*2\r\n$4\r\nSCAN\r\n$2\r\n28\r\n".as_slice())
    );
}

#[test]
fn s5_primaries_are_walked_by_lowest_slot_and_0_comes_at_the_very_end() {
    let three = three();
    let (mut cursor, mut slots) = (start(&three), Vec::new());
    loop {
        let step = plan_cursor(&cursor, &three).unwrap();
        assert!(
            step.request.as_slice().ends_with(b"$1\r\n0\r\n"),
            "each starts at its own 0"
        );
        slots.push(step.slot().get());
        cursor = cursor_of(&finish(&step, "*2\r\n$1\r\n0\r\n*0\r\n", &three));
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(slots, [0, 5461, 10_923]);
}

#[test]
fn s2_what_is_no_cursor() {
    let three = three();
    let mode_0 = (5_u64 << 2).to_string();
    for bad in [
        "",
        "x",
        "-1",
        "+1",
        " 1",
        "1 ",
        "0x2",
        "9223372036854775808",
        "99999999999999999999999",
        &mode_0,
    ] {
        let error = plan_cursor(bad, &three).unwrap_err();
        assert_eq!(error, ScanError::InvalidCursor, "{bad:?}");
        let mut out = Vec::new();
        error.write_reply(&mut out);
        assert_eq!(out, b"-ERR invalid cursor\r\n");
    }
}

#[test]
fn s2_foreign_cursors_start_over() {
    let three = three();
    let fresh = plan_cursor(&start(&three), &three).unwrap();
    // With a fingerprint of nothing.
    let foreign = 2_u64 | 10_923 << 2 | 5 << 27;
    assert_eq!(plan_cursor(&foreign.to_string(), &three).unwrap(), fresh);
    // Of a mode that other releases may have.
    let unknown = 3_u64 | 77 << 2;
    assert_eq!(
        plan_cursor(&unknown.to_string(), &three).unwrap(),
        plan_cursor("0", &three).unwrap()
    );
}

#[test]
fn s5_a_changed_layout_starts_over() {
    let three = three();
    let step = plan_cursor(&start(&three), &three).unwrap();
    let second = cursor_of(&finish(&step, "*2\r\n$1\r\n0\r\n*0\r\n", &three));
    assert_eq!(plan_cursor(&second, &three).unwrap().slot().get(), 5461);
    let same = snapshot(9, &[(0, 1), (5461, 2), (10_923, 3)]);
    assert_eq!(
        plan_cursor(&second, &same).unwrap().slot().get(),
        5461,
        "only the number of the snapshot differs"
    );
    for changed in [
        snapshot(2, &[(0, 1), (5461, 4), (10_923, 3)]),
        snapshot(2, &[(0, 1), (5462, 2), (10_923, 3)]),
        snapshot(2, &[(0, 1), (5461, 2)]),
    ] {
        let step = plan_cursor(&second, &changed).unwrap();
        assert_eq!(
            (step.slot().get(), step.request.as_slice()),
            (0, b"*2\r\n$4\r\nSCAN\r\n$1\r\n0\r\n".as_slice())
        );
    }
}

#[test]
fn s5_a_layout_that_changes_under_a_step_does_not_end_the_scan() {
    let (three, changed) = (three(), snapshot(2, &[(0, 1), (5461, 2), (10_923, 9)]));
    let step = plan_cursor(&start(&three), &three).unwrap();
    let second = cursor_of(&finish(&step, "*2\r\n$1\r\n0\r\n*0\r\n", &three));
    let third = cursor_of(&finish(
        &plan_cursor(&second, &three).unwrap(),
        "*2\r\n$1\r\n0\r\n*0\r\n",
        &three,
    ));
    let last = plan_cursor(&third, &three).unwrap();
    assert_eq!(
        cursor_of(&finish(&last, "*2\r\n$1\r\n0\r\n*0\r\n", &three)),
        "0"
    );
    let over = finish(&last, "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n", &changed);
    assert_ne!(cursor_of(&over), "0");
    assert!(
        over.ends_with("*1\r\n$1\r\nk\r\n"),
        "the keys are passed on"
    );
    for after in [&three, &changed] {
        let step = plan_cursor(&cursor_of(&over), after).unwrap();
        assert_eq!(
            (step.slot().get(), step.request.as_slice()),
            (0, b"*2\r\n$4\r\nSCAN\r\n$1\r\n0\r\n".as_slice())
        );
    }
}

#[test]
fn before_a_topology_is_known_a_scan_waits_for_one() {
    let empty = Snapshot::empty();
    let step = plan_cursor(&start(&empty), &empty).unwrap();
    assert_eq!(step.slot().get(), 0);
    assert_ne!(
        cursor_of(&finish(&step, "*2\r\n$1\r\n0\r\n*0\r\n", &three())),
        "0"
    );
}

#[test]
fn s1_positions_have_36_bits() {
    let three = three();
    let step = plan_cursor(&start(&three), &three).unwrap();
    let largest = (1_u64 << 36) - 1;
    let reply = |position: u64| {
        format!(
            "*2\r\n${}\r\n{position}\r\n*0\r\n",
            position.to_string().len()
        )
    };
    let cursor = cursor_of(&finish(&step, &reply(largest), &three));
    assert!(cursor.parse::<i64>().is_ok(), "below 2^63");
    let next = plan_cursor(&cursor, &three).unwrap();
    assert!(
        next.request
            .ends_with(format!("\r\n{largest}\r\n").as_bytes())
    );
    assert_eq!(
        finish(&step, &reply(largest + 1), &three),
        "-ERR proxy: SCAN position overflow\r\n"
    );
}

#[test]
fn errors_pass_and_nonsense_is_an_error() {
    let three = three();
    let step = plan_cursor(&start(&three), &three).unwrap();
    assert_eq!(
        finish(&step, "-ERR syntax error\r\n", &three),
        "-ERR syntax error\r\n"
    );
    for nonsense in [
        "",
        "+OK\r\n",
        "*1\r\n$1\r\n0\r\n",
        "*2\r\n:0\r\n*0\r\n",
        "*2\r\n$1\r\nx\r\n*0\r\n",
        "*2\r\n$1\r\n0\r\n",
    ] {
        assert_eq!(
            finish(&step, nonsense, &three),
            "-ERR proxy: unexpected reply of a node\r\n",
            "{nonsense:?}"
        );
    }
}

/// A cluster that serves SCAN two keys at a time, and whose slots move.
struct Cluster {
    /// Lowest slot and config epoch of every primary.
    primaries: Vec<(u16, u64)>,
    generation: u64,
    snapshot: Snapshot,
    keys: Vec<(String, Slot)>,
}

impl Cluster {
    fn new() -> Self {
        let keys = (0..60).map(|number| format!("key:{number}"));
        Self {
            primaries: vec![(0, 1), (5461, 2), (10_923, 3)],
            generation: 1,
            snapshot: three(),
            keys: keys
                .map(|key| (key.clone(), Slot::of_key(key.as_bytes())))
                .collect(),
        }
    }

    /// A border between two primaries moves; who gains slots has the greatest epoch then.
    fn move_border(&mut self, second: bool, offset: u16) {
        let (index, slot) = if second {
            (2, 9000 + offset)
        } else {
            (1, 3000 + offset)
        };
        let gainer = if slot < self.primaries[index].0 {
            index
        } else {
            index - 1
        };
        self.primaries[index].0 = slot;
        self.generation += 1;
        self.primaries[gainer].1 = self.generation + 3;
        self.snapshot = snapshot(self.generation, &self.primaries);
    }

    /// The keys a primary has, in an order of its own.
    fn serve(&self, step: &Step) -> String {
        let owner = |slot: u16| self.primaries.partition_point(|(first, _)| *first <= slot);
        let here = owner(step.slot().get());
        let mut keys: Vec<&str> = self
            .keys
            .iter()
            .filter(|(_, slot)| owner(slot.get()) == here)
            .map(|(key, _)| key.as_str())
            .collect();
        if here % 2 == 0 {
            keys.reverse();
        }
        let request = std::str::from_utf8(step.request.as_slice()).unwrap();
        let position: usize = request
            .trim_end()
            .rsplit("\r\n")
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let page: Vec<&&str> = keys.iter().skip(position).take(2).collect();
        let next = if position + 2 >= keys.len() {
            0
        } else {
            position + 2
        };
        let mut reply = format!(
            "*2\r\n${}\r\n{next}\r\n*{}\r\n",
            next.to_string().len(),
            page.len()
        );
        page.iter()
            .for_each(|key| reply.push_str(&format!("${}\r\n{key}\r\n", key.len())));
        reply
    }
}

proptest! {
    // A snapshot takes a millisecond to build without optimization.
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Slots move between two calls, before a node answers and after it did; every key is returned.
    #[test]
    fn s1_no_key_is_lost_while_slots_move(
        moves in prop::collection::vec((0_u8..12, 0_u8..3, any::<bool>(), 0_u16..5000), 0..6),
    ) {
        let mut cluster = Cluster::new();
        let mut fingerprints = BTreeSet::from([layout_of(&cluster.snapshot)]);
        let (mut moves, mut wait) = (moves.into_iter().peekable(), 0);
        let (mut cursor, mut seen, mut calls) = (start(&cluster.snapshot), BTreeSet::new(), 0);
        loop {
            let due = moves.next_if(|(after, ..)| wait >= *after);
            wait = if due.is_some() { 0 } else { wait + 1 };
            let (before_plan, before_reply) = match due {
                None => (None, None),
                Some((_, 0, second, offset)) => (Some((second, offset)), None),
                Some((_, _, second, offset)) => (None, Some((second, offset))),
            };
            if let Some((second, offset)) = before_plan {
                cluster.move_border(second, offset);
            }
            let step = plan_cursor(&cursor, &cluster.snapshot).unwrap();
            let mut reply = cluster.serve(&step);
            if let Some((second, offset)) = before_reply {
                cluster.move_border(second, offset);
                if due.is_some_and(|(_, when, ..)| when == 1) {
                    reply = cluster.serve(&step);
                }
            }
            if due.is_some() {
                // One change in 2047 goes unnoticed by design.
                prop_assume!(fingerprints.insert(layout_of(&cluster.snapshot)));
            }
            let answer = finish(&step, &reply, &cluster.snapshot);
            seen.extend(keys_of(&answer));
            cursor = cursor_of(&answer);
            calls += 1;
            prop_assert!(calls < 1000, "the scan does not end");
            if cursor == "0" {
                break;
            }
        }
        prop_assert_eq!(seen.len(), cluster.keys.len());
    }

    #[test]
    fn any_cursor_and_any_reply_give_one_reply(
        cursor in prop_oneof![any::<u64>().prop_map(|cursor| cursor.to_string()), ".*"],
        reply in prop::collection::vec(any::<u8>(), 0..16),
    ) {
        let three = three();
        let mut out = Vec::new();
        match plan_words(&[b"SCAN", cursor.as_bytes()], &three) {
            Ok(step) => drop(step.finish(&reply, &three, &mut out)),
            Err(error) => error.write_reply(&mut out),
        }
        // An error of the node is passed on as it came; only complete replies get here.
        if !matches!(reply.first(), Some(b'-' | b'!' | b'|')) {
            prop_assert_eq!(crate::resp::ReplyScanner::new().scan(&out), Ok(Some(out.len())));
        }
    }
}

#[test]
fn s9_a_pinned_slot_asks_its_owner_only() {
    let three = three();
    let pinned = |cursor: &str| {
        plan_words(&[b"SCAN", cursor.as_bytes(), b"MATCH", b"{foo}*"], &three).unwrap()
    };
    let first = NodeWalk::start(&three, Slot::of_pattern(b"{foo}*"))
        .cursor()
        .unwrap();
    let step = pinned(&first.to_string());
    assert_eq!(step.slot().get(), 10_923, "12182 is its owner's");
    let next = cursor_of(&finish(&step, "*2\r\n$2\r\n28\r\n*0\r\n", &three));
    let step = pinned(&next);
    assert_eq!(step.slot().get(), 10_923);
    assert_eq!(
        cursor_of(&finish(&step, "*2\r\n$1\r\n0\r\n*0\r\n", &three)),
        "0"
    );
    let middle = NodeWalk::start(&three, Slot::of_pattern(b"{a}*"))
        .cursor()
        .unwrap();
    assert_eq!(
        pinned(&start(&three)).slot().get(),
        10_923,
        "another node's cursor"
    );
    assert_ne!(middle, 0);
}

//! The steps of the request path one by one, each as a closure that does it [`OPERATIONS`] times over prepared input, so that the
//! clock and the instruction counter measure the same.
#![expect(
    clippy::missing_panics_doc,
    reason = "a panic says that the input is not what it is meant to be"
)]

use std::hint::black_box;

use slotway_core::command::{self, KeyList};
use slotway_core::merge::{Part, PartOutcome, Rule, merge};
use slotway_core::resp::{ArgRange, Args, DecodeStep, ReplyScanner, RequestDecoder, RequestLimits};
use slotway_core::router;
use slotway_core::slot::Slot;

use crate::in_process::three_nodes;

/// A cluster's, as the engine has it.
const SPACE: router::Keyspace = router::Keyspace {
    split_max_keys: 1_000,
    undivided: false,
};

/// How often a step is done for one figure.
pub const OPERATIONS: usize = 16_000;

/// Different keys, so that no branch and no table entry is always the same.
const KEYS: usize = 100;

/// A value of 64 bytes is written.
pub const SET: &str = "SET {} {}{}{}{}";

/// Ten keys, each in a slot of its own.
pub const MGET: &str = "MGET {} {} {} {} {} {} {} {} {} {}";

/// Ten keys with one tag.
pub const MGET_OF_ONE_SLOT: &str =
    "MGET <t>{} <t>{} <t>{} <t>{} <t>{} <t>{} <t>{} <t>{} <t>{} <t>{}";

/// Does a step [`OPERATIONS`] times.
pub type Run = Box<dyn FnMut()>;

/// A key of `bytes` bytes, 100 at most.
fn key(number: usize, bytes: usize) -> String {
    // A multiplier spreads the numbers over all digits, and so the keys over all slots.
    let digits = format!("{:0100}", number * 7_919);
    digits[digits.len() - bytes..].to_owned()
}

/// The request `template` in RESP, for every one of [`KEYS`] numbers. In place of each `{}` is another key of 16 bytes; `<` and `>`
/// stand for the braces of a tag.
fn requests(template: &str) -> Vec<Vec<u8>> {
    let words = template.split(' ').count();
    let request = |number: usize| {
        let mut out = format!("*{words}\r\n").into_bytes();
        for (position, word) in template.split(' ').enumerate() {
            let key = key(number * words + position, 16);
            let word = word.replace("{}", &key).replace('<', "{").replace('>', "}");
            out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        out
    };
    (0..KEYS).map(request).collect()
}

/// A request and where its arguments are.
struct Call {
    bytes: Vec<u8>,
    ranges: Vec<ArgRange>,
}

impl Call {
    fn args(&self) -> Args<'_> {
        Args::new(black_box(&self.bytes), black_box(&self.ranges))
    }
}

fn calls(template: &str) -> Vec<Call> {
    let call = |bytes: Vec<u8>| {
        let mut decoder = RequestDecoder::new();
        let step = decoder.decode(&bytes, &RequestLimits::DEFAULT);
        assert!(matches!(step, Ok(DecodeStep::Command { .. })));
        Call {
            ranges: decoder.ranges().to_vec(),
            bytes,
        }
    };
    requests(template).into_iter().map(call).collect()
}

/// Finds the end and the arguments of requests that come in one piece.
#[must_use]
pub fn decode(template: &str) -> Run {
    let bytes = requests(template).concat();
    let mut decoder = RequestDecoder::new();
    Box::new(move || {
        for _ in 0..OPERATIONS / KEYS {
            let mut rest = black_box(bytes.as_slice());
            while let Ok(DecodeStep::Command { len }) =
                decoder.decode(rest, &RequestLimits::DEFAULT)
            {
                black_box(decoder.ranges());
                rest = rest.get(len..).unwrap_or_default();
            }
            assert!(rest.is_empty());
        }
    })
}

/// Finds a command in the table.
#[must_use]
pub fn lookup(template: &str) -> Run {
    let calls = calls(template);
    Box::new(move || {
        for _ in 0..OPERATIONS / KEYS {
            for call in &calls {
                black_box(command::lookup(call.args()));
            }
        }
    })
}

/// The slots of keys of this many bytes.
#[must_use]
pub fn slot(bytes: usize) -> Run {
    over_keys(
        (0..KEYS).map(|number| key(number, bytes)).collect(),
        |key| Slot::of_key(key).get(),
    )
}

/// The same for keys whose tag of so many bytes is hashed.
#[must_use]
pub fn slot_of_tag(bytes: usize) -> Run {
    over_keys(
        (0..KEYS)
            .map(|number| format!("user:{{{}}}:name", key(number, bytes)))
            .collect(),
        |key| Slot::of_key(key).get(),
    )
}

/// The slots of keys without tag, computed a byte at a time: what the sliced tables are worth.
#[must_use]
pub fn slot_bytewise(bytes: usize) -> Run {
    over_keys(
        (0..KEYS).map(|number| key(number, bytes)).collect(),
        |key| crc16::State::<crc16::XMODEM>::calculate(key) & 0x3fff,
    )
}

fn over_keys(keys: Vec<String>, slot_of: impl Fn(&[u8]) -> u16 + 'static) -> Run {
    Box::new(move || {
        for _ in 0..OPERATIONS / KEYS {
            for key in &keys {
                black_box(slot_of(black_box(key.as_bytes())));
            }
        }
    })
}

/// Decides where a known command goes.
#[must_use]
pub fn plan(template: &str) -> Run {
    let calls: Vec<_> = calls(template)
        .into_iter()
        .filter_map(|call| match command::lookup(call.args()) {
            command::Lookup::Known(spec) => Some((spec, call)),
            _ => None,
        })
        .collect();
    assert!(calls.len() == KEYS);
    let mut keys = KeyList::new();
    Box::new(move || {
        for _ in 0..OPERATIONS / KEYS {
            for (spec, call) in &calls {
                black_box(router::plan(spec, call.args(), &mut keys, &SPACE));
            }
        }
    })
}

/// Reads from the snapshot which node owns a slot.
#[must_use]
pub fn owner() -> Run {
    let snapshot = three_nodes();
    let slots: Vec<Slot> = (0..KEYS)
        .map(|number| Slot::of_key(key(number, 16).as_bytes()))
        .collect();
    Box::new(move || {
        for _ in 0..OPERATIONS / KEYS {
            for slot in &slots {
                black_box(black_box(&snapshot).primary_of(*slot));
            }
        }
    })
}

/// Merges the parts of an MGET, one key of 64 bytes in each.
#[must_use]
pub fn merge_mget(parts: u32) -> Run {
    let rule = command::find(b"MGET").and_then(Rule::for_spec);
    assert!(rule.is_some());
    let value = "v".repeat(64);
    let reply = format!("*1\r\n$64\r\n{value}\r\n").into_bytes();
    let positions: Vec<[u32; 1]> = (0..parts).map(|position| [position]).collect();
    let total = positions.len();
    let mut out = Vec::new();
    Box::new(move || {
        let parts: Vec<Part<'_>> = positions
            .iter()
            .map(|positions| Part {
                reply: &reply,
                positions,
                outcome: PartOutcome::Answered,
            })
            .collect();
        for _ in 0..OPERATIONS {
            out.clear();
            if let Some(rule) = rule {
                merge(rule, black_box(&parts), total, &|_, _| true, &mut out);
            }
            black_box(&out);
        }
    })
}

/// Finds the ends of replies that come in one piece.
#[must_use]
pub fn scan(reply: &str) -> Run {
    let bytes = reply.repeat(KEYS).into_bytes();
    let mut scanner = ReplyScanner::new();
    Box::new(move || {
        for _ in 0..OPERATIONS / KEYS {
            let mut rest = black_box(bytes.as_slice());
            while !rest.is_empty()
                && let Ok(Some(end)) = scanner.scan(rest)
            {
                rest = rest.get(black_box(end)..).unwrap_or_default();
            }
            assert!(rest.is_empty());
        }
    })
}

/// A bulk string of `bytes` bytes.
#[must_use]
pub fn bulk(bytes: usize) -> String {
    format!("${bytes}\r\n{}\r\n", "v".repeat(bytes))
}

/// An array of ten bulk strings of 64 bytes.
#[must_use]
pub fn array() -> String {
    format!("*10\r\n{}", bulk(64).repeat(10))
}

//! Any arguments of any command: no panic, every key index inside the request and named once, the same answer from a reused
//! list, and every reply of the `COMMAND` family one well-formed value.
//!
//! Input: the words of a request, separated by NUL.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slotway_core::command::{
    Class, KeyList, KeyOutcome, Lookup, effective_class, extract_keys, lookup, reply_command,
    write_unknown_command, write_unknown_subcommand,
};
use slotway_core::resp::{ArgRange, Args, Protocol, parse_value};

/// The words as one request, behind a few that are always the same.
fn request(before: &[&[u8]], words: &[&[u8]]) -> (Vec<u8>, Vec<ArgRange>) {
    let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
    for word in before.iter().chain(words) {
        ranges.push(ArgRange {
            start: bytes.len() as u32,
            len: word.len() as u32,
        });
        bytes.extend_from_slice(word);
    }
    (bytes, ranges)
}

fn assert_one_value(reply: &[u8]) {
    let parsed = parse_value(reply).expect("well formed").expect("complete");
    assert_eq!(parsed.1, reply.len());
}

fuzz_target!(|data: &[u8]| {
    let words: Vec<&[u8]> = data.split(|&byte| byte == 0).collect();
    let (bytes, ranges) = request(&[], &words);
    let args = Args::new(&bytes, &ranges);
    let mut out = Vec::new();
    match lookup(args) {
        Lookup::Known(spec) => {
            let mut keys = KeyList::new();
            let outcome = extract_keys(spec, args, &mut keys);
            assert_eq!(outcome == KeyOutcome::Keys, !keys.as_slice().is_empty());
            assert!(
                keys.as_slice()
                    .iter()
                    .all(|&index| index > 0 && (index as usize) < args.len())
            );
            let mut once = keys.as_slice().to_vec();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), keys.as_slice().len());
            let before = keys.as_slice().to_vec();
            assert_eq!(extract_keys(spec, args, &mut keys), outcome);
            assert_eq!(before, keys.as_slice());
            let class = effective_class(spec, args);
            assert!(class == spec.class || class == Class::Blocking);
        }
        Lookup::UnknownCommand => write_unknown_command(args, &mut out),
        Lookup::UnknownSubcommand(_) | Lookup::MissingSubcommand(_) => {
            write_unknown_subcommand(args, &mut out)
        }
    }
    if !out.is_empty() {
        assert_one_value(&out);
    }
    for subcommand in [
        &b"GETKEYS"[..],
        b"GETKEYSANDFLAGS",
        b"INFO",
        b"DOCS",
        b"LIST",
    ] {
        let (bytes, ranges) = request(&[b"COMMAND", subcommand], &words);
        let mut out = Vec::new();
        reply_command(Args::new(&bytes, &ranges), Protocol::Resp3, &mut out);
        assert_one_value(&out);
    }
});

//! Any arguments of any command: no panic, every key index inside the request and named once, the same answer from a reused
//! list, and every reply of the `COMMAND` family one well-formed value.
//!
//! Input: the words of a request, separated by NUL.

use slotway_core::command::learned::LearnedTable;
use slotway_core::command::{
    Class, KeyList, KeyOutcome, Lookup, effective_class, extract_keys, lookup, reply_command,
    write_unknown_command, write_unknown_subcommand,
};
use slotway_core::resp::Protocol;

use crate::words::{Words, assert_one_value};

/// The check of this target.
pub fn check(data: &[u8]) {
    let words: Vec<&[u8]> = data.split(|&byte| byte == 0).collect();
    let request = Words::new(&words);
    let args = request.args();
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
            write_unknown_subcommand(args, &mut out);
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
        let mut request = Words::new(&[b"COMMAND", subcommand]);
        words.iter().for_each(|word| request.push(word));
        let mut out = Vec::new();
        reply_command(
            request.args(),
            &LearnedTable::default(),
            Protocol::Resp3,
            &mut out,
        );
        assert_one_value(&out);
    }
}

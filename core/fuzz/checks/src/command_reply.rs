//! Any reply to `COMMAND`: no panic, what is learned of it can be called with any arguments and shown by the `COMMAND` family, and
//! no name of the table is learned.
//!
//! Input: the reply.

use std::cell::RefCell;

use slotway_core::command::learned::{LearnedTable, Learner, Told};
use slotway_core::command::{KeyList, Lookup, extract_keys, find, reply_command};
use slotway_core::resp::Protocol;

use crate::words::{Words, assert_one_value};

thread_local! {
    /// What is learned is never given back, so one learner learns of all inputs, up to its bound.
    static LEARNER: RefCell<Learner> = RefCell::default();
}

/// The check of this target.
pub fn check(data: &[u8]) {
    let Ok(told) = Told::parse(data) else {
        return;
    };
    let (learned, _) = LEARNER.with_borrow_mut(|learner| learner.learn(told.entries));
    let (table, _) = LearnedTable::union([learned.as_slice()]);
    let mut keys = KeyList::new();
    for command in table.iter() {
        assert!(find(command.spec.name.as_bytes()).is_none());
        for spec in command.subcommands.iter().chain([&command.spec]) {
            assert!(spec.is_learned());
            for argc in [1, 2, 3, 7] {
                let name = spec.name.as_bytes();
                let words: Vec<&[u8]> = name
                    .split(|byte| *byte == b'|')
                    .cycle()
                    .take(argc)
                    .collect();
                let request = Words::new(&words);
                extract_keys(spec, request.args(), &mut keys);
                let is_argument = |key: &u32| *key > 0 && (*key as usize) < argc;
                assert!(keys.as_slice().iter().all(is_argument));
                if argc > 1 {
                    assert!(!matches!(
                        table.lookup(request.args()),
                        Lookup::UnknownCommand
                    ));
                }
            }
        }
    }
    for words in [&[&b"COMMAND"[..]][..], &[b"COMMAND", b"LIST"]] {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let mut out = Vec::new();
            reply_command(Words::new(words).args(), &table, protocol, &mut out);
            assert_one_value(&out);
        }
    }
}

//! From entries to [`Spec`]s that live as long as the process, as those of the table do.

use std::collections::HashMap;

use super::entry::{BeginEntry, Entry, KeyEntry};
use super::routing;
use super::{Learned, MAX_NAME_BYTES};
use crate::command::lookup::Folded;
use crate::command::{BeginSearch, Class, CommandId, Flags, KeyRule, KeySpec, Spec};

/// Most commands and subcommands that are ever learned; the largest module has some 60. Each takes less than 1 KiB, but for names
/// and tips of a server that means ill.
pub const MAX_LEARNED: usize = 4096;

/// Remembers what was learned, so that the same entry told again, by another server or later, is the same [`Spec`].
///
/// Requests, transactions and counters refer to commands for longer than any table of them is in force, so a spec is never given
/// back; [`MAX_LEARNED`] bounds what that can cost.
#[derive(Debug, Default)]
pub struct Learner {
    known: HashMap<Entry, Learned>,
    /// Specs made, subcommands included.
    count: usize,
}

impl Learner {
    /// The commands of these entries. Those beyond [`MAX_LEARNED`] are left out; the second result is how many.
    pub fn learn(&mut self, entries: Vec<Entry>) -> (Vec<Learned>, usize) {
        let told = entries.len();
        let learned: Vec<Learned> = entries
            .into_iter()
            .filter_map(|entry| self.learn_one(entry))
            .collect();
        let left_out = told - learned.len();
        (learned, left_out)
    }

    fn learn_one(&mut self, entry: Entry) -> Option<Learned> {
        if let Some(known) = self.known.get(&entry) {
            return Some(known.clone());
        }
        let count = self.count + 1 + entry.subcommands.len();
        if count > MAX_LEARNED {
            return None;
        }
        self.count = count;
        let learned = Learned {
            spec: leak(&entry),
            subcommands: entry.subcommands.iter().map(leak).collect(),
        };
        self.known.insert(entry, learned.clone());
        Some(learned)
    }
}

fn leak(entry: &Entry) -> &'static Spec {
    let name: &'static str = entry.name.clone().leak();
    let last_word = name.rsplit('|').next().unwrap_or(name);
    let tips = entry.tips.iter().map(|tip| &*tip.clone().leak());
    let keys = entry.keys.iter().map(key_spec);
    let readonly = entry.flags.contains(Flags::READONLY) && !entry.flags.contains(Flags::WRITE);
    let mut spec = Spec {
        id: CommandId::LEARNED,
        name,
        arity: entry.arity,
        class: Class::Container,
        readonly,
        idempotent: readonly,
        blocks_if_block: false,
        fixed_key: 0,
        key_step: 0,
        rule: KeyRule::Specs,
        subcommands: u16::try_from(entry.subcommands.len()).unwrap_or(u16::MAX),
        keys: keys.collect::<Vec<KeySpec>>().leak(),
        flags: entry.flags,
        categories: entry.categories,
        legacy_range: entry.legacy_range,
        since: "",
        tips: tips.collect::<Vec<&'static str>>().leak(),
        last_word: Folded::of_name(last_word),
        last_word_is_exact: false,
    };
    spec.rule = routing::rule(&spec);
    spec.class = routing::class(&spec);
    spec.fixed_key = routing::fixed_key(&spec);
    spec.key_step = routing::key_step(&spec);
    Box::leak(Box::new(spec))
}

fn key_spec(entry: &KeyEntry) -> KeySpec {
    let begin = match &entry.begin {
        BeginEntry::Index(index) => BeginSearch::Index(*index),
        BeginEntry::Keyword { word, from } => BeginSearch::Keyword {
            word: word.clone().leak(),
            from: *from,
        },
        BeginEntry::Unknown => BeginSearch::Unknown,
    };
    KeySpec {
        begin,
        find: entry.find,
        flags: entry.flags,
    }
}

// A name's length fits the byte that lookups compare.
const _: () = assert!(MAX_NAME_BYTES <= u8::MAX as usize);

//! Commands the table does not have, learned from what servers publish in `COMMAND` [K11]-[K18]: those of modules, and of releases
//! newer than this proxy.
//!
//! ```text
//!   reply to COMMAND --parse--> Entry --Learner::learn--> &'static Spec --LearnedTable::union--> what engines look names up in
//! ```
//! What the table knows stays ours: a learned command never takes the place of one of its names. A learned [`Spec`] is like any
//! other, but all of them share one [`CommandId`], [`CommandId::LEARNED`], so that what is counted per command does not grow.

mod entry;
mod learner;
mod routing;
#[cfg(test)]
mod tests;

pub use entry::{Entry, TellError, Told};
pub use learner::{Learner, MAX_LEARNED};
pub(super) use routing::objection;
pub use routing::{Policy, response_policy};

use std::collections::BTreeMap;

use super::{CommandId, Lookup, Spec};
use crate::resp::Args;
use entry::MAX_NAME_BYTES;

/// A command that servers have and the table has not.
#[derive(Debug, Clone)]
pub struct Learned {
    /// The command.
    pub spec: &'static Spec,
    /// Its subcommands, sorted by name.
    pub subcommands: Vec<&'static Spec>,
}

/// The learned commands of a cluster.
#[derive(Debug, Default, Clone)]
pub struct LearnedTable {
    /// By name, in lower case.
    commands: BTreeMap<Box<[u8]>, Learned>,
}

impl LearnedTable {
    /// The commands of all `servers`, which one [`Learner`] has learned; where they differ the later one counts [K14]. The second
    /// result is the names they differ about.
    #[must_use]
    pub fn union<'a>(
        servers: impl IntoIterator<Item = &'a [Learned]>,
    ) -> (Self, Vec<&'static str>) {
        let (mut table, mut conflicts) = (Self::default(), Vec::new());
        for learned in servers.into_iter().flatten() {
            let name = learned.spec.name.to_ascii_lowercase().into_bytes();
            let before = table.commands.insert(name.into(), learned.clone());
            if before.is_some_and(|before| !std::ptr::eq(before.spec, learned.spec))
                && !conflicts.contains(&learned.spec.name)
            {
                conflicts.push(learned.spec.name);
            }
        }
        (table, conflicts)
    }

    /// The commands in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Learned> + Clone {
        self.commands.values()
    }

    /// The command of that name, in any case.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&Learned> {
        let mut folded = [0; MAX_NAME_BYTES];
        let folded = folded.get_mut(..name.len())?;
        folded.copy_from_slice(name);
        folded.make_ascii_lowercase();
        self.commands.get(&*folded)
    }

    /// Finds the learned command a request names, as [`super::lookup`] finds those of the table.
    #[must_use]
    pub fn lookup(&self, args: Args<'_>) -> Lookup {
        match self.find(args.name()) {
            None => Lookup::UnknownCommand,
            Some(learned) if learned.subcommands.is_empty() => Lookup::Known(learned.spec),
            Some(container) => match args.get(1) {
                Some(word) => container
                    .subcommand(word)
                    .map_or(Lookup::UnknownSubcommand(container.spec), Lookup::Known),
                None => Lookup::MissingSubcommand(container.spec),
            },
        }
    }
}

impl Learned {
    /// The subcommand of that name, in any case.
    #[must_use]
    pub fn subcommand(&self, word: &[u8]) -> Option<&'static Spec> {
        let is_word = |spec: &&Spec| spec.last_word().as_bytes().eq_ignore_ascii_case(word);
        self.subcommands.iter().copied().find(is_word)
    }
}

impl CommandId {
    /// What stands for the names of learned commands where there is one figure for all of them.
    pub const LEARNED_LABEL: &'static str = "learned";

    /// The id that all learned commands share; behind those of the table.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the generator numbers the table in u16"
    )]
    pub const LEARNED: Self = Self(super::COMMAND_COUNT as u16);
}

impl Spec {
    /// Whether the servers told of it, not the table.
    #[must_use]
    pub fn is_learned(&self) -> bool {
        self.id == CommandId::LEARNED
    }
}

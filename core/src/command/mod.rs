//! The command table: which commands exist, how each is routed, and where its keys are.
//!
//! The table is generated from `commands.csv` by `scripts/generate_commands.py`: routing classes are our decisions, arity, flags
//! and key specifications are what real servers answer to `COMMAND`. Around it: [`lookup`] (name to [`Spec`]),
//! [`extract_keys`] (arguments to key positions), the error replies that belong to a command's name, and the answers to the
//! `COMMAND` family. Nothing here knows of slots, nodes or sessions.
//!
//! Rule ids such as [K3] are those of the semantic specification.

mod docs;
#[rustfmt::skip]
mod docs_table;
mod errors;
mod flags;
pub mod glob;
mod introspect;
mod key_spec;
mod keys;
pub mod learned;
mod lookup;
#[rustfmt::skip]
mod table;
#[cfg(test)]
mod tests;
mod timeout;

pub use errors::{
    write_arity_error, write_not_supported, write_unknown_command, write_unknown_subcommand,
};
pub use flags::{Categories, Flags};
pub use introspect::reply_command;
pub use key_spec::{BeginSearch, FindKeys, KeyFlags, KeySpec};
pub use keys::{KeyList, KeyOutcome, effective_class, extract_keys, is_idempotent};
pub use lookup::{Lookup, find, lookup};
pub use table::{COMMAND_COUNT, TABLE, id};
pub use timeout::{timeout, write_with_timeout};

/// The place of a command in [`TABLE`]; the constants of [`id`] name them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(u16);

impl CommandId {
    /// The index into [`TABLE`], below [`COMMAND_COUNT`]; for [`Self::LEARNED`] that number itself.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// What the table says of this command.
    #[must_use]
    pub fn spec(self) -> &'static Spec {
        // Ids are only made by the generator, which numbers the entries of the table; the one that learned commands share is not
        // asked.
        &TABLE[self.index()]
    }
}

/// How a command is routed and by whom it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// One key: the owner of its slot.
    Single,
    /// Several keys that must share a slot, else `CROSSSLOT` [K7].
    SameSlot,
    /// Several keys; one part per slot, replies merged.
    Split,
    /// Every primary, replies merged.
    FanMasters,
    /// Any one primary.
    FanOne,
    /// Iteration over all nodes behind one cursor.
    Scan,
    /// `MULTI`, `EXEC`, `DISCARD`, `WATCH`, `UNWATCH`.
    Transaction,
    /// May wait at the server: needs a connection of its own.
    Blocking,
    /// Channels and patterns.
    PubSub,
    /// Sharded channels, which hash like keys.
    ShardedPubSub,
    /// Answered by the proxy.
    Local,
    /// Only its subcommands do something [K20].
    Container,
    /// Refused by the proxy.
    Forbidden,
}

/// How the keys of a command are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyRule {
    /// The key specifications say it all [K3].
    Specs,
    /// `MSET`: key and value in turn.
    Pairs,
    /// `XREAD`: after `STREAMS`, found by walking the options.
    Streams,
    /// `SORT`: argument 1 and the last `STORE`.
    Sort,
    /// `SORT_RO`: argument 1; its other specification only says that patterns exist.
    FirstOnly,
    /// `GEORADIUS`: argument 1 and the last `STORE` or `STOREDIST` at or after this position.
    GeoStore(u8),
    /// `MIGRATE`: argument 3, or what follows `KEYS` if that is empty.
    Migrate,
    /// `STRALGO LCS`: the two arguments after `KEYS`; with `STRINGS` there is no key.
    Stralgo,
    /// Only the servers' code knows: that of a module [K17].
    AskServer,
}

/// What the proxy knows about one command or subcommand.
#[derive(Debug)]
pub struct Spec {
    /// The entry's own place in [`TABLE`], or [`CommandId::LEARNED`].
    pub id: CommandId,
    /// Full name in lower case; `config|get` for a subcommand.
    pub name: &'static str,
    /// Number of arguments, names included; negative = at least that many.
    pub arity: i16,
    /// How it is routed; see [`effective_class`] for the commands that block only with an option.
    pub class: Class,
    /// Never changes data: may be sent again, may go to a replica [K10].
    pub readonly: bool,
    /// Run twice in a row it leaves the same state and gives the same reply.
    pub idempotent: bool,
    /// The option `BLOCK` makes it blocking.
    pub blocks_if_block: bool,
    /// Argument index of the only key if every call has exactly that one key, else 0: the fast path.
    pub fixed_key: u8,
    /// Distance between keys: 2 where each is followed by its value.
    pub key_step: u8,
    /// How to find the keys.
    pub rule: KeyRule,
    /// A container is followed in [`TABLE`] by this many subcommands, sorted by name.
    pub subcommands: u16,
    /// Key specifications as servers publish them.
    pub keys: &'static [KeySpec],
    /// Command flags as servers publish them.
    pub flags: Flags,
    /// ACL categories as servers publish them.
    pub categories: Categories,
    /// First key, last key and step of the format before 7.0.
    pub legacy_range: [i8; 3],
    /// First server version that had it; commands of Redis and Valkey alone count their own versions.
    pub since: &'static str,
    /// Tips as servers publish them.
    pub tips: &'static [&'static str],
    /// [`Spec::last_word`] in the form lookups compare.
    last_word: lookup::Folded,
    /// Equality of `last_word` is equality of the words.
    last_word_is_exact: bool,
}

impl Spec {
    /// Whether a call with `argc` arguments, names included, has a number of them the command accepts [K8].
    #[must_use]
    pub const fn arity_ok(&self, argc: usize) -> bool {
        let expected = self.arity.unsigned_abs() as usize;
        if self.arity < 0 {
            argc >= expected
        } else {
            argc == expected
        }
    }

    /// Whether running it may change something, so that it must not be sent a second time after an unknown outcome.
    ///
    /// True for everything with the servers' `write` flag, and for what has neither that nor `readonly` but whose repetition
    /// shows (scripts, `PUBLISH`, `WAIT`).
    #[must_use]
    pub const fn is_write(&self) -> bool {
        !self.readonly && (self.flags.contains(Flags::WRITE) || !self.idempotent)
    }

    /// Whether CLIENT PAUSE with WRITE holds it: the servers' commands that write or may replicate (doc: CLIENT PAUSE).
    #[must_use]
    pub const fn is_held_by_write_pause(&self) -> bool {
        self.flags.contains(Flags::WRITE)
            || self.flags.contains(Flags::MAY_REPLICATE)
            || matches!(
                self.id,
                id::EVAL | id::EVALSHA | id::FCALL | id::PUBLISH | id::SPUBLISH | id::PFCOUNT
            )
    }

    /// The word that follows the container's name, or the whole name of a command that is not a subcommand.
    #[must_use]
    pub fn last_word(&self) -> &'static str {
        let start = self.name.len() - usize::from(self.last_word.len);
        self.name.get(start..).unwrap_or_default()
    }

    /// The subcommands of a container, sorted by name; none for other commands.
    #[must_use]
    pub fn subcommand_specs(&self) -> &'static [Self] {
        let first = self.id.index() + 1;
        TABLE
            .get(first..first + usize::from(self.subcommands))
            .unwrap_or_default()
    }

    /// Whether the name is one that only cross-protocol attacks send (`POST`, `Host:`): servers close the connection at once,
    /// before anything else in the pipeline can run.
    #[must_use]
    pub fn is_cross_protocol(&self) -> bool {
        matches!(self.id, id::HOST | id::POST)
    }
}

//! From the words of a request to the entry of the command table.

use super::table::{SEED, SLOT_BITS, SLOTS};
use super::{Spec, TABLE};
use crate::resp::Args;

/// What the table says of a request's name.
#[derive(Debug, Clone, Copy)]
pub enum Lookup {
    /// A command, or a subcommand named by the first two words.
    Known(&'static Spec),
    /// No such command.
    UnknownCommand,
    /// A container, but no subcommand of that name.
    UnknownSubcommand(&'static Spec),
    /// A container without a subcommand, which is an arity error of the container [K20].
    MissingSubcommand(&'static Spec),
}

/// Finds the command a request names; ASCII case does not matter [K2].
#[inline]
#[must_use]
pub fn lookup(args: Args<'_>) -> Lookup {
    match find(args.name()) {
        Some(spec) if spec.subcommands == 0 => Lookup::Known(spec),
        Some(container) => lookup_in(container, args),
        None => Lookup::UnknownCommand,
    }
}

#[inline(never)]
fn lookup_in(container: &'static Spec, args: Args<'_>) -> Lookup {
    match args.get(1) {
        Some(word) => {
            subcommand(container, word).map_or(Lookup::UnknownSubcommand(container), Lookup::Known)
        }
        // `COMMAND` alone does something.
        None if container.arity_ok(1) => Lookup::Known(container),
        None => Lookup::MissingSubcommand(container),
    }
}

/// The subcommand of that name.
pub(super) fn subcommand(container: &'static Spec, word: &[u8]) -> Option<&'static Spec> {
    let folded = Folded::new(word)?;
    container
        .subcommand_specs()
        .iter()
        .find(|spec| is_last_word(spec, word, folded))
}

/// The command of that name, without looking for subcommands; `config|get` finds nothing.
#[inline]
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    let folded = Folded::new(name)?;
    let index = SLOTS.get(folded.slot())?.checked_sub(1)?;
    let spec = TABLE.get(usize::from(index))?;
    is_last_word(spec, name, folded).then_some(spec)
}

#[inline]
fn is_last_word(spec: &Spec, word: &[u8], folded: Folded) -> bool {
    spec.last_word == folded
        && (spec.last_word_is_exact || spec.last_word().as_bytes().eq_ignore_ascii_case(word))
}

/// A word reduced to what a lookup hashes and compares: its length and its first and last bytes, without case. Words of up to
/// 16 letters are equal if these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Folded {
    pub(super) head: u64,
    pub(super) tail: u64,
    pub(super) len: u8,
}

impl Folded {
    /// None for words no command has: empty, or longer than 255 bytes. `folded` of scripts/generate_commands.py is the same
    /// arithmetic.
    #[inline]
    fn new(word: &[u8]) -> Option<Self> {
        /// The bit that makes a capital letter small; it also joins some bytes that are not letters.
        const FOLD: u64 = 0x2020_2020_2020_2020;
        let len = u8::try_from(word.len()).ok()?;
        let (head, tail) = if let (Some(head), Some(tail)) = (word.first_chunk(), word.last_chunk())
        {
            (u64::from_le_bytes(*head), u64::from_le_bytes(*tail))
        } else if let (Some(head), Some(tail)) = (word.first_chunk(), word.last_chunk()) {
            (
                u64::from(u32::from_le_bytes(*head)),
                u64::from(u32::from_le_bytes(*tail)),
            )
        } else {
            let (first, middle, last) = (word.first()?, word.get(word.len() / 2)?, word.last()?);
            (
                u64::from(*first) | u64::from(*middle) << 8 | u64::from(*last) << 16,
                0,
            )
        };
        Some(Self {
            head: head | FOLD,
            tail: tail | FOLD,
            len,
        })
    }

    /// That of a name that is known to be one.
    pub(super) fn of_name(name: &str) -> Self {
        Self::new(name.as_bytes()).unwrap_or(Self {
            head: 0,
            tail: 0,
            len: 0,
        })
    }

    /// The slot in `SLOTS`. `hash_of` of scripts/generate_commands.py is the same arithmetic: it picked `SEED` so that no two
    /// command names share a slot.
    #[inline]
    const fn slot(self) -> usize {
        let mixed = self.head.wrapping_mul(SEED) ^ self.tail;
        let hash = mixed.wrapping_add(self.len as u64).wrapping_mul(SEED);
        (hash >> (u64::BITS - SLOT_BITS)) as usize
    }
}

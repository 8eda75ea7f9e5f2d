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

fn subcommand(container: &'static Spec, word: &[u8]) -> Option<&'static Spec> {
    container
        .subcommand_specs()
        .iter()
        .find(|spec| spec.last_word().as_bytes().eq_ignore_ascii_case(word))
}

/// The command of that name, without looking for subcommands; `config|get` finds nothing.
#[inline]
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    let index = SLOTS.get(slot_of(name))?.checked_sub(1)?;
    let spec = TABLE.get(usize::from(index))?;
    // The hash folds case by setting one bit, which also joins some bytes that are not letters: compare in full.
    spec.name
        .as_bytes()
        .eq_ignore_ascii_case(name)
        .then_some(spec)
}

/// The slot of a name, below `1 << SLOT_BITS`. `hash_of` of scripts/generate_commands.py is the same arithmetic: it picked
/// `SEED` so that no two command names share a slot.
#[inline]
fn slot_of(name: &[u8]) -> usize {
    const FOLD: u64 = 0x2020_2020_2020_2020;
    let (head, tail) = head_and_tail(name);
    let mixed = (head | FOLD).wrapping_mul(SEED) ^ (tail | FOLD);
    let hash = mixed.wrapping_add(name.len() as u64).wrapping_mul(SEED);
    (hash >> (u64::BITS - SLOT_BITS)) as usize
}

/// The first and the last bytes of a name, overlapping in short ones, so that nothing of up to 16 bytes is left out.
#[inline]
fn head_and_tail(name: &[u8]) -> (u64, u64) {
    if let (Some(head), Some(tail)) = (name.first_chunk(), name.last_chunk()) {
        (u64::from_le_bytes(*head), u64::from_le_bytes(*tail))
    } else if let (Some(head), Some(tail)) = (name.first_chunk(), name.last_chunk()) {
        (
            u64::from(u32::from_le_bytes(*head)),
            u64::from(u32::from_le_bytes(*tail)),
        )
    } else if let (Some(first), Some(middle), Some(last)) =
        (name.first(), name.get(name.len() / 2), name.last())
    {
        (
            u64::from(*first) | u64::from(*middle) << 8 | u64::from(*last) << 16,
            0,
        )
    } else {
        (0, 0)
    }
}

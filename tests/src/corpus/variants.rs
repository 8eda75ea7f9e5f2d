//! Commands derived mechanically from those of the corpus and from the command table: wrong numbers of arguments, keys of the wrong
//! type, empty, binary and senseless arguments.

use super::Words;
use super::lines::{Corpus, Family, TAG};
use super::table::Command;

/// Lines of each command that are varied.
const LINES_VARIED: usize = 2;

/// What `fixtures.txt` makes.
const TYPES: [&str; 9] = [
    "string",
    "list",
    "hash",
    "set",
    "zset",
    "stream",
    "hll",
    "vectorset",
    "none",
];

/// Put in the place of every argument that is no key, one at a time, and with them [`NUMBER`].
const SENSELESS: [&[u8]; 5] = [
    b"",
    b"\x00\xff\r\n*1\r\n",
    b"abc",
    b"-1",
    b"99999999999999999999",
];

/// A number that is not so small that as a time it would pass meanwhile.
const NUMBER: &[u8] = b"10000";

/// The same for `CLIENT PAUSE`, which is over when the next command is answered.
const PAUSE_MS: &[u8] = b"50";

/// The variants of the lines of a family, those of one line together.
pub(super) fn of_family(family: &Family, commands: &[Command]) -> Vec<Vec<Words>> {
    let mut varied = vec![0; commands.len()];
    let mut chosen = Vec::new();
    for line in &family.lines {
        // The last one that fits is a subcommand if there is one: `CLIENT` comes before `CLIENT ID`.
        let Some(command) = commands.iter().rposition(|one| one.is_called_by(line)) else {
            continue;
        };
        if varied[command] < LINES_VARIED {
            varied[command] += 1;
            chosen.push(of_line(line, &family.keys));
        }
    }
    chosen
}

fn of_line(line: &Words, fitting: &str) -> Vec<Words> {
    let is_key = |word: &[u8]| word.starts_with(TAG);
    let with_keys = |key: &[u8]| -> Words {
        let word = |word: &Vec<u8>| {
            if is_key(word) {
                key.to_vec()
            } else {
                word.clone()
            }
        };
        line.iter().map(word).collect()
    };
    let mut variants = Vec::new();
    if line.iter().any(|word| is_key(word)) {
        variants.extend(TYPES.map(|kind| with_keys(&key_of(kind))));
        variants.push(with_keys(b""));
        variants.push(with_keys(&[TAG, SENSELESS[1]].concat()));
    }
    let base = with_keys(&key_of(fitting));
    for (at, _) in base
        .iter()
        .enumerate()
        .skip(1)
        .filter(|(_, word)| !is_key(word))
    {
        for senseless in SENSELESS.into_iter().chain([number(line)]) {
            let mut variant = base.clone();
            variant[at] = senseless.to_vec();
            variants.push(variant);
        }
    }
    if base.len() > 1 {
        variants.push(base[..base.len() - 1].to_vec());
    }
    variants.push([base, vec![key_of("extra")]].concat());
    variants
}

fn number(line: &Words) -> &'static [u8] {
    let words = line.iter().map(Vec::as_slice).take(2);
    match words.eq([b"CLIENT".as_slice(), b"PAUSE"]) {
        true => PAUSE_MS,
        false => NUMBER,
    }
}

fn key_of(kind: &str) -> Vec<u8> {
    [TAG, b"is:", kind.as_bytes()].concat()
}

/// Calls with fewer and with more arguments than a command takes.
pub(super) fn wrong_arities(commands: &[Command]) -> Vec<Words> {
    let call = |command: &Command, length: usize| -> Words {
        let name = command.name.iter().map(|word| word.as_bytes().to_vec());
        name.chain(std::iter::repeat(key_of("none")))
            .take(length)
            .collect()
    };
    let mut calls = Vec::new();
    for command in commands {
        let least = usize::try_from(command.arity.unsigned_abs()).unwrap_or(usize::MAX);
        let shortest = command.name.len();
        if least > shortest {
            calls.push(call(command, shortest));
        }
        if least > shortest + 1 {
            calls.push(call(command, least - 1));
        }
        if command.arity > 0 {
            calls.push(call(command, least + 1));
            calls.push(call(command, least + 5));
        }
    }
    calls
}

/// The commands of the table that no line of the corpus calls.
pub(super) fn uncalled(corpus: &Corpus, commands: &[Command]) -> Vec<String> {
    let is_called = |command: &&Command| !corpus.lines().any(|line| command.is_called_by(line));
    let uncalled = commands.iter().filter(is_called);
    uncalled.map(|command| command.name.join(" ")).collect()
}

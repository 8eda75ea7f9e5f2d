//! The hand-written part of the corpus: files of `tests/data/corpus/`.
//!
//! One command a line. Blanks part the words; "double quotes" hold blanks together, and inside of them `\xHH`, `\r`, `\n`, `\"` and
//! `\\` stand for bytes. `#` begins a comment. `@keys TYPE` says what type of value the commands of the file are for (`none`: they
//! are not about one key); `@modes ...` how they are run, if not in every way.

use super::{Words, data};
use anyhow::{Context, Result, bail, ensure};

/// The families, in the order in which they run.
const FAMILIES: [&str; 20] = [
    "strings",
    "bitmaps",
    "hashes",
    "lists",
    "sets",
    "zsets",
    "geo",
    "hyperloglog",
    "streams",
    "keys",
    "slots",
    "scripts",
    "functions",
    "transactions",
    "blocking",
    "pubsub",
    "connection",
    "server",
    "vectors",
    "arrays",
];

/// Every key of the corpus starts with this, so that all are in one slot.
pub(super) const TAG: &[u8] = b"{t}";

/// A way to run the lines of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// One after the other
    Alone,
    /// All in one write
    Pipelined,
    /// Each in a transaction of its own, and all in one
    Multi,
    /// Changed mechanically, alone and in transactions
    Variants,
}

/// Commands of one kind.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) lines: Vec<Words>,
    pub(super) modes: Vec<Mode>,
    /// Type of value the commands are for
    pub(super) keys: String,
}

impl Family {
    pub(super) fn runs(&self, mode: Mode) -> bool {
        self.modes.contains(&mode)
    }
}

/// All families.
#[derive(Debug)]
pub(super) struct Corpus {
    pub(super) families: Vec<Family>,
    /// What makes the keys that variants work on
    pub(super) fixtures: Vec<Words>,
}

impl Corpus {
    /// Reads the files.
    ///
    /// # Errors
    /// If one is missing or cannot be understood; the text names the line.
    pub(super) fn load() -> Result<Self> {
        let families = FAMILIES.into_iter().map(load);
        Ok(Self {
            families: families.collect::<Result<_>>()?,
            fixtures: load("fixtures")?.lines,
        })
    }

    /// Every command.
    pub(super) fn lines(&self) -> impl Iterator<Item = &Words> {
        self.families.iter().flat_map(|family| &family.lines)
    }
}

fn load(name: &str) -> Result<Family> {
    let path = data(&format!("{name}.txt"));
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let mut family = Family {
        name: name.to_owned(),
        lines: Vec::new(),
        modes: vec![Mode::Alone, Mode::Pipelined, Mode::Multi, Mode::Variants],
        keys: "none".to_owned(),
    };
    for line in text.lines() {
        add(&mut family, line).with_context(|| format!("{name}.txt: {line}"))?;
    }
    ensure!(!family.lines.is_empty(), "{name}.txt has no commands");
    Ok(family)
}

fn add(family: &mut Family, line: &str) -> Result<()> {
    if let Some(keys) = line.strip_prefix("@keys ") {
        keys.clone_into(&mut family.keys);
    } else if let Some(modes) = line.strip_prefix("@modes ") {
        family.modes = modes.split(' ').map(mode).collect::<Result<_>>()?;
    } else if !line.is_empty() && !line.starts_with('#') {
        family.lines.push(words(line)?);
    }
    Ok(())
}

fn mode(name: &str) -> Result<Mode> {
    Ok(match name {
        "alone" => Mode::Alone,
        "pipelined" => Mode::Pipelined,
        "multi" => Mode::Multi,
        "variants" => Mode::Variants,
        _ => bail!("no mode {name}"),
    })
}

/// The words of a line.
pub(super) fn words(line: &str) -> Result<Words> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = rest.find(' ').unwrap_or(rest.len());
                (rest.as_bytes()[..end].to_vec(), &rest[end..])
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

/// The bytes up to the closing quote, and what comes after it.
fn unquote(text: &str) -> Result<(Vec<u8>, &str)> {
    let mut word = Vec::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((word, &text[at + 1..])),
            '\\' => {
                let (at, kind) = characters.next().context("a backslash at the end")?;
                word.push(match kind {
                    'r' => b'\r',
                    'n' => b'\n',
                    '"' | '\\' => u8::try_from(kind)?,
                    'x' => {
                        characters.nth(1);
                        let digits = text.get(at + 1..at + 3).context("\\x wants two digits")?;
                        u8::from_str_radix(digits, 16)?
                    }
                    _ => bail!("unknown escape \\{kind}"),
                });
            }
            _ => word.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bail!("no closing quote")
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn quotes_hold_blanks_and_bytes() {
        let found = words(r#"SET  k "a b\x00\xff\r\n\"\\" "" x"#).unwrap();
        let expected: [&[u8]; 5] = [b"SET", b"k", b"a b\0\xff\r\n\"\\", b"", b"x"];
        assert_eq!(found, expected);
        for bad in ["\"open", "\"\\q\"", "\"\\x0"] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }
}

//! `exceptions.txt`: where the replies of the proxy may differ from those of a server, and why.

use super::lines::words;
use super::rules::Rule;
use super::{Words, data};
use crate::servers::Version;
use anyhow::{Context, Result, bail, ensure};
use std::cell::Cell;

/// Where a command was run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) version: Version,
    /// True if the proxy is in front of a cluster, false if it is in front of one server
    pub(super) cluster: bool,
    pub(super) resp3: bool,
    pub(super) multi: bool,
}

/// One line of the list: `rule | where | command | reason`.
#[derive(Debug)]
pub(super) struct Exception {
    rule: Rule,
    places: Vec<String>,
    pattern: Words,
    text: String,
    uses: Cell<usize>,
}

impl Exception {
    fn parse(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.splitn(4, " | ").map(str::trim).collect();
        let [rule, places, pattern, reason] = fields[..] else {
            bail!("four fields are wanted: rule | where | command | reason");
        };
        ensure!(!reason.is_empty(), "no reason is given");
        Ok(Self {
            rule: Rule::parse(rule)?,
            places: places.split(' ').map(str::to_owned).collect(),
            pattern: words(pattern)?,
            text: line.to_owned(),
            uses: Cell::new(0),
        })
    }

    fn applies(&self, place: Place) -> bool {
        self.places.iter().all(|name| is_at(place, name))
    }
}

/// Whether a word of the second field holds: `any`, `alone`, `multi`, `resp2`, `resp3`, `cluster`, `server`, or releases joined by
/// commas.
fn is_at(place: Place, name: &str) -> bool {
    match name {
        "any" => true,
        "alone" => !place.multi,
        "multi" => place.multi,
        "resp2" => !place.resp3,
        "resp3" => place.resp3,
        "cluster" => place.cluster,
        "server" => !place.cluster,
        releases => releases
            .split(',')
            .any(|release| place.version.folder().starts_with(release)),
    }
}

/// The list.
#[derive(Debug)]
pub(super) struct Exceptions(Vec<Exception>);

impl Exceptions {
    /// Reads the list.
    pub(super) fn load() -> Result<Self> {
        let path = data("exceptions.txt");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let parse =
            |line: &str| Exception::parse(line).with_context(|| format!("exceptions.txt: {line}"));
        Ok(Self(lines.map(parse).collect::<Result<_>>()?))
    }

    /// Whether the difference of two whole replies is a known one.
    pub(super) fn excuse(&self, place: Place, line: &Words, server: &[u8], proxy: &[u8]) -> bool {
        let fitting = self
            .0
            .iter()
            .filter(|one| one.applies(place) && fits(&one.pattern, line));
        for exception in fitting {
            if exception.rule.accepts(server, proxy) {
                exception.uses.set(exception.uses.get() + 1);
                return true;
            }
        }
        false
    }

    /// The exceptions for the place, in transactions or not, that nothing needed: those that chance may not need are left out.
    pub(super) fn unused(&self, place: Place) -> Vec<&str> {
        let could = |one: &&Exception| {
            let mut places = [false, true]
                .map(|multi| Place { multi, ..place })
                .into_iter();
            places.any(|place| one.applies(place))
        };
        self.0
            .iter()
            .filter(could)
            .filter(|one| one.uses.get() == 0 && !one.rule.is_for_chance())
            .map(|one| one.text.as_str())
            .collect()
    }
}

/// Whether the line begins with the words of the pattern, in which `*` stands for any bytes, `...` for any words, and `$` for the end
/// of the line.
fn fits(pattern: &[Vec<u8>], line: &[Vec<u8>]) -> bool {
    match pattern {
        [] => true,
        [end] if end == b"$" => line.is_empty(),
        [any, rest @ ..] if any == b"..." => {
            (0..=line.len()).any(|skipped| fits(rest, &line[skipped..]))
        }
        [first, rest @ ..] => line
            .split_first()
            .is_some_and(|(word, words)| fits_word(first, word) && fits(rest, words)),
    }
}

fn fits_word(pattern: &[u8], word: &[u8]) -> bool {
    match pattern {
        [] => word.is_empty(),
        [b'*', rest @ ..] => (0..=word.len()).any(|skipped| fits_word(rest, &word[skipped..])),
        [byte, rest @ ..] => word
            .split_first()
            .is_some_and(|(first, word)| first.eq_ignore_ascii_case(byte) && fits_word(rest, word)),
    }
}

#[cfg(test)]
mod tests {
    use super::{fits, words};

    #[test]
    fn patterns_are_prefixes_with_stars() {
        let fit = |pattern: &str, line: &str| fits(&words(pattern).unwrap(), &words(line).unwrap());
        assert!(fit("CLIENT ID", "client id"));
        assert!(fit("CLIENT", "client id"));
        assert!(!fit("CLIENT $", "client id"));
        assert!(fit("XREAD ... BLOCK", "XREAD COUNT 1 BLOCK 5 STREAMS s $"));
        assert!(!fit("XREAD ... BLOCK", "XREAD STREAMS s 0"));
        assert!(fit("SET *g x*", "SET {t}g xy"));
        assert!(!fit("SET k v", "SET k"));
    }
}

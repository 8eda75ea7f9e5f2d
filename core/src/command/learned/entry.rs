//! One element of the reply to `COMMAND`, in every form servers send it [K11] [K12] [K13]: 6 elements, 7 since 6.0, 10 since 7.0; arrays
//! in RESP2, sets and maps in RESP3.
//!
//! The bytes are a server's, but nothing is taken on trust: every list and text has a bound, and what exceeds one, or is of another
//! kind, makes its command malformed and leaves the others be.

use crate::command::key_spec::{FindKeys, KeyFlags};
use crate::command::{Categories, Flags, find};
use crate::resp::{Value, parse_value};

/// Longest name, that of the container included.
pub(super) const MAX_NAME_BYTES: usize = 128;
/// Longest tip and longest keyword.
const MAX_WORD_BYTES: usize = 64;
/// Most key specifications and most tips of one command. The servers' own commands have up to four.
const MAX_LIST: usize = 16;
/// Most subcommands of one container.
const MAX_SUBCOMMANDS: usize = 256;

/// What a server says of one command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Full name, in the case its server shows.
    pub(super) name: String,
    pub(super) arity: i16,
    pub(super) flags: Flags,
    pub(super) categories: Categories,
    pub(super) legacy_range: [i8; 3],
    pub(super) tips: Vec<String>,
    pub(super) keys: Vec<KeyEntry>,
    /// Sorted by name.
    pub(super) subcommands: Vec<Self>,
}

/// A key specification that owns its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct KeyEntry {
    pub(super) begin: BeginEntry,
    pub(super) find: FindKeys,
    pub(super) flags: KeyFlags,
}

/// As [`crate::command::BeginSearch`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum BeginEntry {
    Index(u8),
    Keyword { word: String, from: i8 },
    Unknown,
}

/// What a server told.
#[derive(Debug, Default)]
pub struct Told {
    /// The commands that are not in the table.
    pub entries: Vec<Entry>,
    /// How many more were told of in a way that was not understood.
    pub malformed: usize,
}

/// Why a reply tells of no commands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TellError {
    /// The server's error.
    #[error("refused: {0}")]
    Refused(String),
    /// Not an array, or not one reply.
    #[error("not a list of commands")]
    Shape,
}

impl Told {
    /// Reads the whole reply to `COMMAND`.
    ///
    /// # Errors
    /// If it is an error, or no list.
    pub fn parse(reply: &[u8]) -> Result<Self, TellError> {
        let value = match parse_value(reply) {
            Ok(Some((value, end))) if end == reply.len() => value,
            _ => return Err(TellError::Shape),
        };
        if let Value::Error(text) | Value::BulkError(text) = value {
            return Err(TellError::Refused(
                String::from_utf8_lossy(text).into_owned(),
            ));
        }
        let mut told = Self::default();
        for item in list(&value).ok_or(TellError::Shape)? {
            match elements_of(item) {
                Some((name, _)) if find(name).is_some() => {}
                Some((name, elements)) => match entry(None, name, elements) {
                    Some(entry) => told.entries.push(entry),
                    None => told.malformed += 1,
                },
                None => told.malformed += 1,
            }
        }
        Ok(told)
    }
}

/// The name and all elements of an entry.
fn elements_of<'v, 'a>(item: &'v Value<'a>) -> Option<(&'a [u8], &'v [Value<'a>])> {
    let elements = list(item)?;
    Some((text(elements.first()?)?, elements))
}

/// The entry of a command, or of a subcommand of `container`.
fn entry(container: Option<&str>, name: &[u8], elements: &[Value<'_>]) -> Option<Entry> {
    let name = full_name(container, name)?;
    let number = |index: usize| integer(elements.get(index)?);
    let flags = Flags(bits(&Flags::NAMES, elements.get(2)?, "")?);
    let triple = [number(3)?, number(4)?, number(5)?];
    let categories = match elements.get(6) {
        Some(value) => bits(&Categories::NAMES, value, "@")?,
        None => 0,
    };
    let keys = match elements.get(8) {
        Some(value) => bounded(value, MAX_LIST)?
            .iter()
            .map(key_entry)
            .collect::<Option<Vec<KeyEntry>>>()?,
        None => legacy(triple, flags).into_iter().collect(),
    };
    let tips = match elements.get(7) {
        Some(value) => bounded(value, MAX_LIST)?
            .iter()
            .map(|tip| word(text(tip)?))
            .collect::<Option<Vec<String>>>()?,
        None => Vec::new(),
    };
    let subcommands = match elements.get(9) {
        Some(value) if container.is_none() => subcommands(&name, value)?,
        _ => Vec::new(),
    };
    Some(Entry {
        arity: i16::try_from(number(1)?).ok()?,
        legacy_range: triple.map(|number| i8::try_from(number).unwrap_or_default()),
        categories: Categories(categories),
        name,
        flags,
        tips,
        keys,
        subcommands,
    })
}

fn subcommands(container: &str, value: &Value<'_>) -> Option<Vec<Entry>> {
    let read = |item| {
        let (name, elements) = elements_of(item)?;
        entry(Some(container), name, elements)
    };
    let mut subcommands = bounded(value, MAX_SUBCOMMANDS)?
        .iter()
        .map(read)
        .collect::<Option<Vec<Entry>>>()?;
    subcommands.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    subcommands.dedup_by(|a, b| a.name == b.name);
    Some(subcommands)
}

/// The name: printable, and with a bar only between container and subcommand.
fn full_name(container: Option<&str>, name: &[u8]) -> Option<String> {
    let name = plain(name, MAX_NAME_BYTES)?;
    let own = match container {
        None => name.as_str(),
        Some(container) => name.strip_prefix(container)?.strip_prefix('|')?,
    };
    (!own.is_empty() && !own.contains('|')).then_some(name)
}

fn word(text: &[u8]) -> Option<String> {
    plain(text, MAX_WORD_BYTES)
}

/// Text of printable ASCII without blanks.
fn plain(text: &[u8], limit: usize) -> Option<String> {
    let is_plain = text.len() <= limit && text.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(text).ok()?;
    is_plain.then(|| text.to_owned())
}

// === Key specifications ===

fn key_entry(value: &Value<'_>) -> Option<KeyEntry> {
    let flags = u16::try_from(bits(&KeyFlags::NAMES, field(value, "flags")?, "")?).ok()?;
    let begin = part(value, "begin_search", begin_search)?.unwrap_or(BeginEntry::Unknown);
    let find = part(value, "find_keys", find_keys)?.unwrap_or(FindKeys::Unknown);
    Some(KeyEntry {
        begin,
        find,
        flags: KeyFlags(flags),
    })
}

/// One half of a specification: its `type` and `spec`, read by `read`. `Some(None)` for a kind, or for numbers, that this proxy has
/// no form for.
fn part<T>(
    value: &Value<'_>,
    name: &str,
    read: impl FnOnce(&[u8], &Value<'_>) -> Option<T>,
) -> Option<Option<T>> {
    let half = field(value, name)?;
    Some(read(text(field(half, "type")?)?, field(half, "spec")?))
}

fn begin_search(kind: &[u8], spec: &Value<'_>) -> Option<BeginEntry> {
    match kind {
        // Argument 0 is the name.
        b"index" => match number(spec, "index")? {
            0 => None,
            index => Some(BeginEntry::Index(index)),
        },
        b"keyword" => Some(BeginEntry::Keyword {
            word: word(text(field(spec, "keyword")?)?)?,
            from: number(spec, "startfrom")?,
        }),
        _ => None,
    }
}

fn find_keys(kind: &[u8], spec: &Value<'_>) -> Option<FindKeys> {
    match kind {
        b"range" => Some(FindKeys::Range {
            last: number(spec, "lastkey")?,
            step: number::<u8>(spec, "keystep")?.max(1),
            limit: number(spec, "limit")?,
        }),
        b"keynum" => Some(FindKeys::KeyNum {
            count_at: number(spec, "keynumidx")?,
            first: number(spec, "firstkey")?,
            step: number::<u8>(spec, "keystep")?.max(1),
        }),
        _ => None,
    }
}

fn number<T: TryFrom<i64>>(spec: &Value<'_>, name: &str) -> Option<T> {
    T::try_from(integer(field(spec, name)?)?).ok()
}

/// First key, last key and step as a specification; none for a command without keys [K11].
fn legacy([first, last, step]: [i64; 3], flags: Flags) -> Option<KeyEntry> {
    if first == 0 && !flags.contains(Flags::MOVABLE_KEYS) {
        return None;
    }
    let read = || {
        let begin = u8::try_from(first).ok().filter(|first| *first != 0)?;
        let last = if last < 0 {
            last
        } else {
            last.checked_sub(first)?
        };
        let find = FindKeys::Range {
            last: i8::try_from(last).ok()?,
            step: u8::try_from(step).ok()?.max(1),
            limit: 0,
        };
        Some((BeginEntry::Index(begin), find))
    };
    let (begin, find) = read().unwrap_or((BeginEntry::Unknown, FindKeys::Unknown));
    let flags = if flags.contains(Flags::MOVABLE_KEYS) {
        KeyFlags::VARIABLE
    } else {
        KeyFlags::RW_ACCESS_UPDATE
    };
    Some(KeyEntry { begin, find, flags })
}

// === Values ===

fn text<'a>(value: &Value<'a>) -> Option<&'a [u8]> {
    match value {
        Value::Simple(text) | Value::Bulk(text) | Value::Verbatim(text) => Some(text),
        _ => None,
    }
}

fn integer(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        _ => None,
    }
}

fn list<'v, 'a>(value: &'v Value<'a>) -> Option<&'v [Value<'a>]> {
    match value {
        Value::Array(items) | Value::Set(items) => Some(items),
        _ => None,
    }
}

fn bounded<'v, 'a>(value: &'v Value<'a>, limit: usize) -> Option<&'v [Value<'a>]> {
    list(value).filter(|items| items.len() <= limit)
}

/// A field of a map, or of an array of names and values.
fn field<'v, 'a>(value: &'v Value<'a>, name: &str) -> Option<&'v Value<'a>> {
    let is_named = |key: &Value<'_>| text(key) == Some(name.as_bytes());
    match value {
        Value::Map(pairs) => pairs
            .iter()
            .find(|(key, _)| is_named(key))
            .map(|(_, value)| value),
        Value::Array(items) => items
            .chunks_exact(2)
            .find(|pair| pair.first().is_some_and(is_named))
            .and_then(|pair| pair.get(1)),
        _ => None,
    }
}

/// The names of a list as bits; names that are in no list of ours say nothing that matters for routing.
fn bits(names: &[&str], value: &Value<'_>, prefix: &str) -> Option<u32> {
    list(value)?.iter().try_fold(0, |bits, item| {
        let name = text(item)?.strip_prefix(prefix.as_bytes());
        let is_name =
            |known: &&str| name.is_some_and(|name| known.as_bytes().eq_ignore_ascii_case(name));
        let bit = names.iter().position(is_name);
        Some(bit.map_or(bits, |bit| bits | 1 << bit))
    })
}

//! Collecting the values of all keys from the file, the environment and the flags, each with its origin.
//!
//! This is the "every key optional" form of the configuration. It walks the parsed TOML by the table of keys instead of deriving
//! `Deserialize`, because a derived reader stops at the first unknown key or wrong type, and the user is owed all faults at once.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Origin};
use super::keys::{KEYS, Key, Kind, REPEATABLE, SECTIONS};

/// What every environment variable of ours begins with.
const PREFIX: &str = "SLOTWAY_";

/// A value as given, before its key says what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Raw {
    /// Text: a TOML string, an environment variable or a flag.
    Text(String),
    /// A TOML integer, as written.
    Integer(String),
    /// A TOML boolean.
    Bool(bool),
    /// A TOML array.
    List(Vec<Self>),
    /// A TOML table.
    Table(Vec<(String, Self)>),
    /// A TOML float or date: no key takes one.
    Other(String),
}

impl Raw {
    /// The value as a fault shows it.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Integer(text) | Self::Other(text) => text.clone(),
            Self::Bool(value) => value.to_string(),
            Self::List(items) => format!(
                "[{}]",
                items.iter().map(Self::show).collect::<Vec<_>>().join(", ")
            ),
            Self::Table(items) => {
                let items = items
                    .iter()
                    .map(|(name, value)| format!("{name} = {}", value.show()));
                format!("{{ {} }}", items.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// A value of a key.
#[derive(Debug)]
pub(super) struct Setting {
    /// The key.
    pub(super) key: &'static Key,
    /// Which of the repeated tables of its section.
    pub(super) table: usize,
    /// The value.
    pub(super) raw: Raw,
    /// Where it was given.
    pub(super) origin: Origin,
}

/// Everything that was given, and the faults found so far.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// All values of all layers.
    pub(super) values: Vec<Setting>,
    /// Faults so far.
    pub(super) faults: Vec<Fault>,
    /// Where the tables begin that the file repeats: section and place of each, in its order.
    repeated: Vec<(&'static str, Origin)>,
    /// The file could not be read as TOML in every part, so that a key may seem to be missing that is not.
    pub(super) broken_file: bool,
}

impl Settings {
    /// The value with precedence for `key` in table `table` of its section.
    pub(super) fn get(&self, key: &Key, table: usize) -> Option<&Setting> {
        let given = self
            .values
            .iter()
            .filter(|setting| setting.key.path == key.path && setting.table == table);
        given.max_by(|left, right| layer(&left.origin).cmp(&layer(&right.origin)))
    }

    /// Number of tables of a section that may be repeated; one that is not there counts, for its defaults.
    pub(super) fn tables(&self, section: &str) -> usize {
        let repeated = self.repeated.iter();
        repeated
            .filter(|(known, _)| *known == section)
            .count()
            .max(1)
    }

    /// Where that table begins; without a place if it is the only one.
    pub(super) fn origin(&self, section: &str, table: usize) -> Origin {
        let mut repeated = self.repeated.iter().filter(|(known, _)| *known == section);
        match repeated.nth(table) {
            Some((_, origin)) if self.tables(section) > 1 => origin.clone(),
            _ => Origin::Default,
        }
    }

    /// Adds what the file says.
    pub(super) fn add_file(&mut self, name: &str, text: &str) {
        let lines = Lines { name, text };
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let origin = lines.origin(error.span().map_or(0, |span| span.start));
            let problem = format!("not valid TOML: {}", error.message().trim());
            self.faults.push(Fault {
                origin,
                key: String::new(),
                value: None,
                problem,
                remedy: String::new(),
            });
            self.broken_file = true;
        }
        for (name, value) in document.get_ref() {
            let section = name.get_ref().as_ref();
            if SECTIONS.iter().any(|(known, _)| *known == section) {
                self.add_section(&lines, section, value);
            } else {
                self.add_key(&lines, "", 0, name, value);
            }
        }
    }

    fn add_section(&mut self, lines: &Lines<'_>, section: &str, value: &Spanned<DeValue<'_>>) {
        let repeatable = REPEATABLE.contains(&section);
        match value.get_ref() {
            DeValue::Table(table) => self.add_table(lines, section, 0, table),
            DeValue::Array(tables)
                if repeatable && tables.iter().all(|table| table.get_ref().is_table()) =>
            {
                for (index, table) in tables.iter().enumerate() {
                    let known = REPEATABLE.iter().find(|known| **known == section);
                    let origin = lines.origin(table.span().start);
                    self.repeated.extend(known.map(|known| (*known, origin)));
                    if let Some(inner) = table.get_ref().as_table() {
                        self.add_table(lines, section, index, inner);
                    }
                }
            }
            other => self.faults.push(Fault {
                origin: lines.origin(value.span().start),
                key: section.to_owned(),
                value: Some(raw(other).show()),
                problem: "is not a table".to_owned(),
                remedy: format!("Write [{section}] on a line of its own and its keys below."),
            }),
        }
    }

    fn add_table(&mut self, lines: &Lines<'_>, section: &str, index: usize, table: &DeTable<'_>) {
        for (name, value) in table {
            self.add_key(lines, section, index, name, value);
        }
    }

    fn add_key(
        &mut self,
        lines: &Lines<'_>,
        section: &str,
        table: usize,
        name: &Spanned<impl AsRef<str>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let origin = lines.origin(name.span().start);
        let path = join(section, name.get_ref().as_ref());
        if let Some(key) = KEYS.iter().find(|key| key.path == path) {
            self.values.push(Setting {
                key,
                table,
                raw: raw(value.get_ref()),
                origin,
            });
            return;
        }
        let known = KEYS
            .iter()
            .map(|key| key.path)
            .chain(SECTIONS.iter().map(|(section, _)| *section));
        let remedy = nearest(&path, known).map_or_else(
            || {
                let keys = KEYS
                    .iter()
                    .filter(|key| key.section() == section)
                    .map(|key| key.name());
                let tables = SECTIONS
                    .iter()
                    .filter(|_| section.is_empty())
                    .map(|(name, _)| *name);
                format!(
                    "{}Known here: {}.",
                    elsewhere(&path),
                    keys.chain(tables).collect::<Vec<_>>().join(", ")
                )
            },
            |near| format!("Did you mean {near}?"),
        );
        self.faults.push(Fault {
            origin,
            key: path,
            value: None,
            problem: "is not a known key".to_owned(),
            remedy,
        });
    }

    /// Adds what environment variables say. Empty ones count as not set.
    pub(super) fn add_environment<'e>(
        &mut self,
        variables: impl Iterator<Item = (&'e str, &'e str)>,
    ) {
        for (name, value) in
            variables.filter(|(name, value)| name.starts_with(PREFIX) && !value.is_empty())
        {
            if let Some(key) = KEYS.iter().find(|key| key.env == name) {
                let origin = Origin::Environment(name.to_owned());
                self.values.push(Setting {
                    key,
                    table: 0,
                    raw: Raw::Text(value.to_owned()),
                    origin,
                });
            } else if let Some(near) = mistyped_variable(name) {
                self.faults.push(Fault {
                    origin: Origin::Environment(name.to_owned()),
                    key: String::new(),
                    value: None,
                    problem: "is not known".to_owned(),
                    remedy: format!("Did you mean {near}?"),
                });
            }
        }
    }

    /// Adds the value of a command-line flag for the key called `path`.
    pub(super) fn add_flag(&mut self, path: &str, flag: &'static str, value: String) {
        if let Some(key) = KEYS.iter().find(|key| key.path == path) {
            self.values.push(Setting {
                key,
                table: 0,
                raw: Raw::Text(value),
                origin: Origin::Flag(flag),
            });
        }
    }
}

/// Rank of a layer: a higher one wins.
pub(super) const fn layer(origin: &Origin) -> u8 {
    match origin {
        Origin::Default => 0,
        Origin::File { .. } => 1,
        Origin::Environment(_) => 2,
        Origin::Flag(_) => 3,
    }
}

/// A line number for every byte of the file.
struct Lines<'a> {
    name: &'a str,
    text: &'a str,
}

impl Lines<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().iter().take(offset);
        Origin::File {
            name: self.name.to_owned(),
            line: 1 + before.filter(|byte| **byte == b'\n').count(),
        }
    }
}

/// Where a key of this name belongs, if there is one elsewhere.
fn elsewhere(path: &str) -> String {
    let name = path.split_once('.').map_or(path, |(_, name)| name);
    let known = KEYS.iter().filter(|key| key.name() == name);
    let known: Vec<&str> = known.map(|key| key.path).collect();
    match known.is_empty() {
        true => String::new(),
        false => format!("There is {}. ", known.join(", and ")),
    }
}

fn join(section: &str, name: &str) -> String {
    if section.is_empty() {
        name.to_owned()
    } else {
        format!("{section}.{name}")
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        // TOML allows a plus sign, other bases and underscores; the last are gone already.
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(
                |_| Raw::Integer(number.to_string()),
                |value| Raw::Integer(value.to_string()),
            ),
        DeValue::Boolean(value) => Raw::Bool(*value),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Table(items) => Raw::Table(
            items
                .iter()
                .map(|(name, item)| (name.get_ref().to_string(), raw(item.get_ref())))
                .collect(),
        ),
        DeValue::Float(number) => Raw::Other(number.as_str().to_owned()),
        DeValue::Datetime(datetime) => Raw::Other(datetime.to_string()),
    }
}

/// The known variable that `name` was probably meant to be. Other names that begin with `SLOTWAY_` are left alone: Kubernetes
/// sets such variables for every service whose name begins with "slotway" (`SLOTWAY_SERVICE_HOST`, `SLOTWAY_PORT_6379_TCP`).
fn mistyped_variable(name: &str) -> Option<&'static str> {
    let service_link = name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.contains("_PORT_");
    if service_link {
        return None;
    }
    let meant = |env: &'static str| env.strip_prefix(PREFIX).unwrap_or(env);
    let rest = name.strip_prefix(PREFIX)?;
    let near = nearest(rest, KEYS.iter().map(|key| meant(key.env)));
    let near = near.and_then(|near| KEYS.iter().find(|key| meant(key.env) == near));
    let section = SECTIONS.iter().find(|(section, _)| {
        let after = rest.strip_prefix(&*section.to_uppercase());
        after.is_some_and(|after| after.starts_with('_'))
    });
    let of_section =
        section.and_then(|(section, _)| KEYS.iter().find(|key| key.section() == *section));
    near.or(of_section).map(|key| key.env)
}

/// The candidate within a few typing errors of `name`, if any.
pub(super) fn nearest<'c>(
    name: &str,
    candidates: impl Iterator<Item = &'c str>,
) -> Option<&'c str> {
    let allowed = (name.len() / 4).clamp(1, 3);
    let measured = candidates.map(|candidate| (edit_distance(name, candidate), candidate));
    measured
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in bytes.
fn edit_distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

/// Whether the value of `key` must not be shown.
pub(super) const fn is_secret(key: &Key) -> bool {
    matches!(key.kind, Kind::Password)
}

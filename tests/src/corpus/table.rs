//! What the command table of the proxy says of every command, read from `commands.csv`.

use crate::servers::repository_root;
use anyhow::{Context, Result, ensure};

/// A row that is a command of its own and that clients may send through the proxy.
#[derive(Debug)]
pub(super) struct Command {
    /// Its name, one word or two, in capitals
    pub(super) name: Vec<String>,
    /// Number of words, negative if it is the least number
    pub(super) arity: i32,
}

impl Command {
    /// Its name as `COMMAND LIST` has it.
    pub(super) fn listed_name(&self) -> String {
        self.name.join("|").to_lowercase()
    }

    /// Whether the words are a call of it.
    #[must_use]
    pub(super) fn is_called_by(&self, words: &[Vec<u8>]) -> bool {
        words.len() >= self.name.len()
            && self
                .name
                .iter()
                .zip(words)
                .all(|(name, word)| name.as_bytes().eq_ignore_ascii_case(word))
    }
}

/// All commands but those that are refused by the proxy whatever their arguments are.
///
/// # Errors
/// If the table cannot be read.
pub(super) fn sendable_commands() -> Result<Vec<Command>> {
    let path = repository_root().join("core/src/command/commands.csv");
    let text = std::fs::read_to_string(&path)?;
    let mut rows = text.lines().map(fields);
    let header = rows.next().context("commands.csv is empty")?;
    let column = |name: &str| {
        let found = header.iter().position(|field| field == name);
        found.with_context(|| format!("commands.csv has no column {name}"))
    };
    let (name, sub) = (column("command")?, column("subcommand")?);
    let (class, arity) = (column("class")?, column("arity")?);
    let mut commands = Vec::new();
    for row in rows {
        ensure!(row.len() == header.len(), "a row of {} fields", row.len());
        if matches!(row[class].as_str(), "forbidden" | "container") {
            continue;
        }
        let words = [&row[name], &row[sub]].into_iter();
        commands.push(Command {
            name: words.filter(|word| !word.is_empty()).cloned().collect(),
            arity: row[arity].parse()?,
        });
    }
    Ok(commands)
}

/// The fields of a row; some are quoted.
fn fields(row: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for character in row.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => fields
                .last_mut()
                .into_iter()
                .for_each(|field| field.push(character)),
        }
    }
    fields
}

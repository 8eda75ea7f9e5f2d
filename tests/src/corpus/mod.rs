//! The differential test: a corpus of commands is sent to one real server and to the proxy, and the replies must be the same bytes
//! but for a reviewed list of exceptions.
//!
//! `tests/data/corpus/` has the commands by family (`lines`), the exceptions with their reasons (`exceptions`), and the
//! families that the proxy does not offer yet. Every line is run alone, in one pipeline with its family, and in a transaction;
//! further commands are derived from it and from the command table (`variants`, `table`). [`Comparison`] runs all of them.

mod comparison;
mod exceptions;
mod lines;
mod pair;
mod rules;
mod table;
mod variants;

pub use comparison::{Comparison, ensure_all_commands_are_called};

/// One command: its words.
pub type Words = Vec<Vec<u8>>;

/// A command as a person would type it, shortened.
fn shown(words: &[Vec<u8>]) -> String {
    let words: Vec<String> = words
        .iter()
        .map(|word| {
            let text = word.escape_ascii().to_string();
            if text.is_empty() || text.contains(' ') {
                format!("\"{text}\"")
            } else {
                text
            }
        })
        .collect();
    words.join(" ").chars().take(200).collect()
}

/// What the differential test reads.
fn data(name: &str) -> std::path::PathBuf {
    crate::servers::repository_root()
        .join("tests/data/corpus")
        .join(name)
}

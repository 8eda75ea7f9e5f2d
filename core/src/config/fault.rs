//! What is wrong with a configuration: every fault, with its place, value, allowed values and remedy.

use std::fmt;

/// Where a value was given. The order is the order of precedence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nowhere: the built-in default, or a key that is missing.
    Default,
    /// A line of the configuration file.
    File {
        /// The file as the user named it.
        name: String,
        /// Line, counted from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A command-line flag, with its dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("configuration"),
            Self::File { name, line } => write!(out, "{name}:{line}"),
            Self::Environment(name) => write!(out, "environment variable {name}"),
            Self::Flag(name) => write!(out, "flag {name}"),
        }
    }
}

/// One fault of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where the value was given.
    pub origin: Origin,
    /// The key, such as `limits.park_bytes`; empty for a fault of the file as a whole.
    pub key: String,
    /// The value as given; absent for missing keys and for passwords.
    pub value: Option<String>,
    /// What is wrong with it, as the end of a sentence: "is not a size".
    pub problem: String,
    /// What is allowed, or what to do.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:", self.origin)?;
        if !self.key.is_empty() {
            write!(out, " {}", self.key)?;
        }
        if let Some(value) = &self.value {
            write!(out, " = {value}")?;
        }
        write!(out, " {}", self.problem)?;
        if !self.remedy.is_empty() {
            write!(out, "\n      {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Every fault of a configuration; at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The faults, in the order of their places.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        write!(
            out,
            "{count} fault{} in the configuration:",
            if count == 1 { "" } else { "s" }
        )?;
        for (index, fault) in self.faults.iter().enumerate() {
            write!(out, "\n  {}. {fault}", index + 1)?;
        }
        Ok(())
    }
}

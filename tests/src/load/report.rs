//! What the clients of a load saw.

use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// When a request was sent and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Its batch was written
    pub sent: Instant,
    /// Its reply was read
    pub answered: Instant,
}

impl Times {
    pub(crate) fn now() -> Self {
        let now = Instant::now();
        Self {
            sent: now,
            answered: now,
        }
    }
}

/// What was broken by something that must never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Writes of one connection to one key took effect in another order
    Reordered,
    /// A reply or value of another request
    Misdelivered,
    /// A write took effect twice, or after it was known not to have
    RanTwice,
    /// A write took effect that had been answered by an error other than `UNCERTAIN`
    RanThoughRefused,
    /// A request was not answered: the connection broke
    Unanswered,
}

/// Something that must never be.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which promise it breaks
    pub broken: Broken,
    /// What was seen, by whom
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.broken, self.text)
    }
}

/// An acknowledged write that was gone later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostWrite {
    /// The key written
    pub key: String,
    /// The value written or appended
    pub token: String,
    /// When it was sent and acknowledged
    pub times: Times,
}

/// An error reply that a client of the load saw.
#[derive(Clone, Debug)]
pub struct LoadError {
    /// When it was read
    pub at: Instant,
    /// Its text without the dash
    pub text: String,
    /// The command it answered
    pub command: String,
    /// Slot of the command's key; of an MGET that was overtaken, slot of the key concerned
    pub slot: u16,
    /// True for a read whose key a later command of the same batch writes: if both were on a connection that died, the read
    /// cannot be repeated, since the write may have run
    pub overtaken: bool,
}

/// A time in which one client got no good reply for one group of slots although it was asking.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// Number of the client
    pub client: usize,
    /// Number of the group in [`LoadOptions::groups`]
    pub group: usize,
    /// Last good reply before
    pub from: Instant,
    /// First good reply after
    pub until: Instant,
}

/// What all clients of a load saw.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// Requests answered, errors included
    pub requests: u64,
    /// Error replies
    pub errors: Vec<LoadError>,
    /// What must never be: replies of another request, writes that ran twice, connections closed by the proxy
    pub violations: Vec<Violation>,
    /// Acknowledged writes, by the slot of their key
    pub acknowledged: BTreeMap<u16, u64>,
    /// Acknowledged writes that were gone later (asynchronous replication may lose some when a primary dies)
    pub lost: Vec<LostWrite>,
    /// Connections that were closed between two replies, and made again
    pub reconnects: u64,
    /// Pauses in service
    pub gaps: Vec<Gap>,
    /// Longest time from writing a batch to its last reply
    pub longest_batch: Duration,
}

impl LoadReport {
    /// Fails unless every request was answered rightly and nothing got lost.
    ///
    /// # Errors
    /// What went wrong, shortened.
    pub fn ensure_flawless(&self) -> Result<()> {
        self.ensure_no_violations()?;
        ensure!(self.errors.is_empty(), "errors: {}", self.error_summary());
        ensure!(
            self.lost.is_empty(),
            "{} acknowledged writes got lost",
            self.lost.len()
        );
        Ok(())
    }

    /// Fails if a reply was wrong (errors and writes lost by the servers are allowed).
    ///
    /// # Errors
    /// What went wrong, shortened.
    pub fn ensure_no_violations(&self) -> Result<()> {
        ensure!(self.requests > 0, "the load did nothing");
        let first: Vec<String> = self
            .violations
            .iter()
            .take(5)
            .map(ToString::to_string)
            .collect();
        ensure!(
            first.is_empty(),
            "{} violations, such as {first:#?}",
            self.violations.len()
        );
        Ok(())
    }

    /// Number of errors by command and text.
    #[must_use]
    pub fn error_summary(&self) -> String {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for error in &self.errors {
            *counts
                .entry(format!("{} -> {}", error.command, error.text))
                .or_default() += 1;
        }
        let lines: Vec<String> = counts
            .iter()
            .take(20)
            .map(|(text, count)| format!("{count} x {text}"))
            .collect();
        format!("{} in all: {}", self.errors.len(), lines.join("; "))
    }

    /// The longest pause in service of a group, over all clients.
    #[must_use]
    pub fn longest_gap(&self, group: usize) -> Duration {
        let gaps = self.gaps.iter().filter(|gap| gap.group == group);
        gaps.map(|gap| gap.until.saturating_duration_since(gap.from))
            .max()
            .unwrap_or_default()
    }

    /// When the last client was served again in a group after `fault`: the end of the last gap open at or after it.
    #[must_use]
    pub fn served_again(&self, group: usize, fault: Instant) -> Option<Instant> {
        let gaps = self
            .gaps
            .iter()
            .filter(|gap| gap.group == group && gap.until > fault);
        gaps.map(|gap| gap.until).max()
    }

    /// Adds what others saw.
    pub fn absorb(&mut self, other: Self) {
        self.requests += other.requests;
        self.errors.extend(other.errors);
        self.violations.extend(other.violations);
        for (slot, count) in other.acknowledged {
            *self.acknowledged.entry(slot).or_default() += count;
        }
        self.lost.extend(other.lost);
        self.reconnects += other.reconnects;
        self.gaps.extend(other.gaps);
        self.longest_batch = self.longest_batch.max(other.longest_batch);
    }
}

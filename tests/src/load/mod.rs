//! A steady load of pipelining connections that checks every reply.
//!
//! Each connection owns its keys, so it knows exactly which values each may hold: a reply that belongs to another request,
//! a write that ran twice and a write that got lost are all seen. Every error is kept with its text and time.

mod client;
mod model;

use crate::shared::Shared;
use crate::wait::wait_until;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Slots from the first to the last, both included.
pub type SlotRange = std::ops::RangeInclusive<u16>;

/// What load to make.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Connections at the same time
    pub connections: usize,
    /// Commands written at once before their replies are awaited
    pub depth: usize,
    /// From the start of one batch to that of the next; a batch that takes longer delays the next
    pub interval: Duration,
    /// Keys of each connection, and as many counters
    pub keys: usize,
    /// Only keys in these slots are used
    pub slots: Vec<SlotRange>,
    /// Slots whose service is watched on its own: a gap is reported with the number of its group
    pub groups: Vec<SlotRange>,
    /// True to use MGET over several slots as well
    pub multi_key: bool,
    /// True to speak RESP3
    pub resp3: bool,
    /// Pauses in service shorter than this are not reported
    pub shortest_gap: Duration,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            connections: 16,
            depth: 16,
            interval: Duration::from_millis(20),
            keys: 100,
            slots: vec![0..=crate::SLOT_COUNT - 1],
            groups: Vec::new(),
            multi_key: true,
            resp3: false,
            shortest_gap: Duration::from_millis(100),
        }
    }
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
    /// Replies that must never be: of another request, of a write that ran twice, connections closed by the proxy
    pub violations: Vec<String>,
    /// Acknowledged writes that were gone later (asynchronous replication may lose some when a primary dies)
    pub lost_writes: u64,
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
            self.lost_writes == 0,
            "{} acknowledged writes got lost",
            self.lost_writes
        );
        Ok(())
    }

    /// Fails if a reply was wrong (errors and writes lost by the servers are allowed).
    ///
    /// # Errors
    /// What went wrong, shortened.
    pub fn ensure_no_violations(&self) -> Result<()> {
        ensure!(self.requests > 0, "the load did nothing");
        let first: Vec<&String> = self.violations.iter().take(5).collect();
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

    fn absorb(&mut self, other: Self) {
        self.requests += other.requests;
        self.errors.extend(other.errors);
        self.violations.extend(other.violations);
        self.lost_writes += other.lost_writes;
        self.gaps.extend(other.gaps);
        self.longest_batch = self.longest_batch.max(other.longest_batch);
    }
}

/// State that the clients share with the test.
#[derive(Debug)]
struct Common {
    stop: AtomicBool,
    /// Good replies so far
    good: AtomicU64,
    /// Batches that each client has finished
    batches: Vec<AtomicU64>,
    /// First violation, shown as soon as the test looks
    violation: Shared<Option<String>>,
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    common: Arc<Common>,
    clients: Vec<JoinHandle<LoadReport>>,
}

impl Load {
    /// Connects all clients and starts the load.
    ///
    /// # Errors
    /// If a client cannot connect.
    pub fn start(address: SocketAddrV4, options: &LoadOptions) -> Result<Self> {
        let common = Arc::new(Common {
            stop: AtomicBool::new(false),
            good: AtomicU64::new(0),
            batches: std::iter::repeat_with(AtomicU64::default)
                .take(options.connections)
                .collect(),
            violation: Shared::new(None),
        });
        let mut clients = Vec::new();
        for number in 0..options.connections {
            let client = client::Client::connect(
                SocketAddr::V4(address),
                number,
                options,
                Arc::clone(&common),
            )?;
            clients.push(std::thread::spawn(move || client.run()));
        }
        Ok(Self { common, clients })
    }

    /// Good replies so far, over all clients.
    #[must_use]
    pub fn good(&self) -> u64 {
        self.common.good.load(Ordering::Relaxed)
    }

    /// Waits for this many further good replies, and until every client has finished a batch that it began meanwhile: what one
    /// fault held up must be through before the next one, or the two look like one long gap.
    ///
    /// # Errors
    /// If they do not come within 30 seconds, or a violation was seen.
    pub fn wait_for(&self, replies: u64) -> Result<()> {
        let target = self.good() + replies;
        let before = self.batches();
        wait_until(Duration::from_secs(30), "the load gets its replies", || {
            let all_went_on = before
                .iter()
                .zip(self.batches())
                .all(|(before, now)| now >= before + 2);
            let violated = self.common.violation.with(|seen| seen.is_some());
            Ok((self.good() >= target && all_went_on) || violated)
        })?;
        match self.common.violation.with(|seen| seen.clone()) {
            Some(violation) => bail!("violation: {violation}"),
            None => Ok(()),
        }
    }

    fn batches(&self) -> Vec<u64> {
        let batches = self.common.batches.iter();
        batches.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Ends the load: outstanding replies are read and all keys are checked once more.
    ///
    /// # Errors
    /// If a client thread broke.
    pub fn stop(mut self) -> Result<LoadReport> {
        self.common.stop.store(true, Ordering::Relaxed);
        let mut report = LoadReport::default();
        for client in self.clients.drain(..) {
            report.absorb(
                client
                    .join()
                    .ok()
                    .context("a client of the load panicked")?,
            );
        }
        Ok(report)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.common.stop.store(true, Ordering::Relaxed);
    }
}

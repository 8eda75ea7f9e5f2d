//! A steady load of pipelining connections that checks every reply.
//!
//! Each connection owns its keys, so it knows exactly which values each may hold: a reply that belongs to another request,
//! a write that ran twice and a write that got lost are all seen. Every error is kept with its text and time.

mod client;
mod journal;
mod model;
mod report;

pub(crate) use journal::Journal;
pub(crate) use model::Verdict;
pub use report::{Broken, Gap, LoadError, LoadReport, LostWrite, Times, Violation};

use crate::shared::Shared;
use crate::wait::wait_until;
use anyhow::{Context, Result, bail};
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the clients may take to check all their keys.
const CHECK_DEADLINE: Duration = Duration::from_secs(60);

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
    /// Lists of each connection, to which it appends tokens instead of incrementing counters: they show in what order writes
    /// ran, and how often
    pub journals: usize,
    /// True to connect again when the other side has closed the connection between two replies, as a drained proxy does, and to
    /// send again what was not answered: it did not run
    pub reconnect: bool,
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
            journals: 0,
            reconnect: false,
            slots: vec![0..=crate::SLOT_COUNT - 1],
            groups: Vec::new(),
            multi_key: true,
            resp3: false,
            shortest_gap: Duration::from_millis(100),
        }
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
    /// How often a check of all keys was asked for
    checks: AtomicU64,
    /// First violation, shown as soon as the test looks
    violation: Shared<Option<String>>,
}

/// A point of a load's progress.
#[derive(Debug)]
pub(crate) struct Mark {
    good: u64,
    /// By client
    batches: Vec<u64>,
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    common: Arc<Common>,
    clients: Vec<JoinHandle<LoadReport>>,
    /// What the clients saw up to each check
    checked: Receiver<LoadReport>,
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
            checks: AtomicU64::new(0),
            violation: Shared::new(None),
        });
        let (sender, checked) = channel();
        let mut clients = Vec::new();
        for number in 0..options.connections {
            let client = client::Client::connect(
                SocketAddr::V4(address),
                number,
                options,
                Arc::clone(&common),
                sender.clone(),
            )?;
            clients.push(std::thread::spawn(move || client.run()));
        }
        Ok(Self {
            common,
            clients,
            checked,
        })
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
        let mark = self.mark(replies);
        wait_until(Duration::from_secs(30), "the load gets its replies", || {
            Ok(self.passed(&mark) || self.common.violation.with(|seen| seen.is_some()))
        })?;
        match self.common.violation.with(|seen| seen.clone()) {
            Some(violation) => bail!("violation: {violation}"),
            None => Ok(()),
        }
    }

    /// The point that [`Self::wait_for`] waits for.
    pub(crate) fn mark(&self, replies: u64) -> Mark {
        Mark {
            good: self.good() + replies,
            batches: self.batches().iter().map(|count| count + 2).collect(),
        }
    }

    /// Whether the load has come to a point.
    pub(crate) fn passed(&self, mark: &Mark) -> bool {
        let now = self.batches();
        let all_went_on = mark.batches.iter().zip(now).all(|(mark, now)| now >= *mark);
        self.good() >= mark.good && all_went_on
    }

    fn batches(&self) -> Vec<u64> {
        let batches = self.common.batches.iter();
        batches.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Has every client check all its keys and empty its lists, and gives what was seen since the check before; the load goes on.
    ///
    /// # Errors
    /// If a client does not get that far: it has lost its connection, and a violation tells why.
    pub fn check(&self) -> Result<LoadReport> {
        self.common.checks.fetch_add(1, Ordering::Relaxed);
        let mut report = LoadReport::default();
        for _ in &self.clients {
            let checked = self.checked.recv_timeout(CHECK_DEADLINE);
            let seen = self.common.violation.with(|seen| seen.clone());
            report.absorb(checked.with_context(|| {
                format!("a client could not check its keys; first violation: {seen:?}")
            })?);
        }
        Ok(report)
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

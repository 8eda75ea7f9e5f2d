//! One client of the load, on a thread of its own.

use super::model::{Counter, Key, Verdict};
use super::{Common, Gap, LoadError, LoadOptions, LoadReport, SlotRange};
use crate::conn::Conn;
use crate::resp::{Reply, encode};
use crate::slot_of;
use crate::wait::pause;
use anyhow::Result;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Keys of one MGET.
const KEYS_OF_MGET: usize = 4;
/// Violations kept of one client.
const VIOLATIONS_KEPT: usize = 20;

/// A command written, by what its reply will be judged.
enum Operation {
    Set { key: usize, number: u64 },
    Get { key: usize },
    MultiGet { keys: Vec<usize> },
    Increment { counter: usize },
    ReadCounter { counter: usize },
}

/// One connection with its keys.
pub(super) struct Client {
    number: usize,
    conn: Conn,
    options: LoadOptions,
    common: Arc<Common>,
    keys: Vec<Key>,
    counters: Vec<Counter>,
    /// Last good reply of each group
    last_good: Vec<Instant>,
    report: LoadReport,
}

impl Client {
    pub(super) fn connect(
        address: SocketAddr,
        number: usize,
        options: &LoadOptions,
        common: Arc<Common>,
    ) -> Result<Self> {
        let conn = if options.resp3 {
            Conn::open_resp3(address)?
        } else {
            Conn::open(address)?
        };
        // Names are unique per start, so that several loads never meet in one cluster.
        let run = fastrand::u32(..);
        let usable = |name: &String| {
            let slot = slot_of(name.as_bytes());
            options.slots.iter().any(|range| range.contains(&slot))
        };
        let named = |kind: &str| {
            let prefix = format!("{kind}:{run:08x}:{number}:");
            let names = (0_u32..)
                .map(move |n| format!("{prefix}{n}"))
                .filter(usable);
            names.take(options.keys).collect::<Vec<String>>()
        };
        Ok(Self {
            number,
            conn,
            common,
            keys: named("k").into_iter().map(Key::new).collect(),
            counters: named("n").into_iter().map(Counter::new).collect(),
            last_good: vec![Instant::now(); options.groups.len()],
            options: options.clone(),
            report: LoadReport::default(),
        })
    }

    /// Batches until the load is stopped, then a last look at every key.
    pub(super) fn run(mut self) -> LoadReport {
        self.last_good.fill(Instant::now());
        while !self.common.stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            let batch = (0..self.options.depth).map(|_| self.choose()).collect();
            if !self.exchange(batch) {
                return self.report;
            }
            pause(self.options.interval.saturating_sub(started.elapsed()));
        }
        let keys = (0..self.keys.len()).map(|key| Operation::Get { key });
        let counters = (0..self.counters.len()).map(|counter| Operation::ReadCounter { counter });
        let last = keys.chain(counters).collect();
        self.exchange(last);
        self.report
    }

    fn choose(&mut self) -> Operation {
        let key = fastrand::usize(..self.keys.len());
        match fastrand::u8(..10) {
            0..=3 => {
                self.keys[key].issued += 1;
                Operation::Set {
                    key,
                    number: self.keys[key].issued,
                }
            }
            4..=6 => Operation::Get { key },
            7 if self.options.multi_key => {
                let keys = (0..KEYS_OF_MGET)
                    .map(|_| fastrand::usize(..self.keys.len()))
                    .collect();
                Operation::MultiGet { keys }
            }
            _ => Operation::Increment {
                counter: fastrand::usize(..self.counters.len()),
            },
        }
    }

    /// Writes a batch and reads its replies; false when the connection is of no more use.
    fn exchange(&mut self, batch: Vec<Operation>) -> bool {
        let started = Instant::now();
        let bytes: Vec<u8> = batch
            .iter()
            .flat_map(|operation| encode(&self.words(operation)))
            .collect();
        if let Err(error) = self.conn.send_raw(&bytes) {
            self.violation(format!("client {}: cannot write: {error:#}", self.number));
            return false;
        }
        let mut replies = Vec::with_capacity(batch.len());
        let mut times = Vec::with_capacity(batch.len());
        for operation in &batch {
            match self.conn.read() {
                Ok(reply) => {
                    replies.push(reply);
                    times.push(Instant::now());
                }
                Err(error) => {
                    let words = self.words(operation).join(" ");
                    let seen = self.exchanged(&batch, &replies);
                    self.violation(format!(
                        "client {}: no reply to {words}: {error:#}; before: {seen}",
                        self.number
                    ));
                    return false;
                }
            }
        }
        let seen_before = self.report.violations.len();
        for (n, (operation, reply)) in batch.iter().zip(&replies).enumerate() {
            if let Reply::Error(text) = reply {
                self.note_error(text, times[n], operation, &batch[n + 1..]);
            }
            self.judge(operation, reply, times[n]);
        }
        if self.report.violations.len() > seen_before && seen_before < VIOLATIONS_KEPT {
            let seen = self.exchanged(&batch, &replies);
            self.violation(format!("client {}: the whole batch: {seen}", self.number));
        }
        self.report.longest_batch = self.report.longest_batch.max(started.elapsed());
        self.common.batches[self.number].fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Commands with their replies, as text for a person who looks for a fault.
    fn exchanged(&self, batch: &[Operation], replies: &[Reply]) -> String {
        let pairs = batch.iter().zip(replies);
        let lines: Vec<String> = pairs
            .map(|(operation, reply)| {
                format!("{} -> {}", self.words(operation).join(" "), reply.shown())
            })
            .collect();
        lines.join("\n  ")
    }

    fn words(&self, operation: &Operation) -> Vec<String> {
        match operation {
            Operation::Set { key, number } => {
                let key = &self.keys[*key];
                vec!["SET".to_owned(), key.name.clone(), key.token(*number)]
            }
            Operation::Get { key } => vec!["GET".to_owned(), self.keys[*key].name.clone()],
            Operation::MultiGet { keys } => {
                let names = keys.iter().map(|key| self.keys[*key].name.clone());
                std::iter::once("MGET".to_owned()).chain(names).collect()
            }
            Operation::Increment { counter } => {
                vec!["INCR".to_owned(), self.counters[*counter].name.clone()]
            }
            Operation::ReadCounter { counter } => {
                vec!["GET".to_owned(), self.counters[*counter].name.clone()]
            }
        }
    }

    fn judge(&mut self, operation: &Operation, reply: &Reply, at: Instant) {
        self.report.requests += 1;
        let words = self.words(operation);
        if !matches!(reply, Reply::Error(_)) {
            self.common.good.fetch_add(1, Ordering::Relaxed);
            for name in words
                .iter()
                .skip(1)
                .take(if words[0] == "MGET" { KEYS_OF_MGET } else { 1 })
            {
                self.served(slot_of(name.as_bytes()), at);
            }
        }
        let verdicts = match operation {
            Operation::Set { key, number } => vec![self.keys[*key].set_answered(*number, reply)],
            Operation::Get { key } => vec![self.keys[*key].read(reply)],
            Operation::MultiGet { keys } => self.judge_many(keys, reply),
            Operation::Increment { counter } => vec![self.counters[*counter].incremented(reply)],
            Operation::ReadCounter { counter } => vec![self.counters[*counter].read(reply)],
        };
        for verdict in verdicts {
            match verdict {
                Verdict::Right => {}
                Verdict::Lost => self.report.lost_writes += 1,
                Verdict::Wrong(text) => self.violation(format!("client {}: {text}", self.number)),
            }
        }
    }

    fn note_error(&mut self, text: &str, at: Instant, operation: &Operation, later: &[Operation]) {
        let words = self.words(operation);
        let is_read = matches!(words[0].as_str(), "GET" | "MGET");
        let written: Vec<String> = later
            .iter()
            .map(|operation| self.words(operation))
            .filter(|words| !matches!(words[0].as_str(), "GET" | "MGET"))
            .map(|mut words| words.swap_remove(1))
            .collect();
        let overtaken = words
            .iter()
            .skip(1)
            .find(|name| is_read && written.contains(name));
        self.report.errors.push(LoadError {
            at,
            text: text.to_owned(),
            slot: slot_of(overtaken.unwrap_or(&words[1]).as_bytes()),
            overtaken: overtaken.is_some(),
            command: words[0].clone(),
        });
    }

    fn judge_many(&mut self, keys: &[usize], reply: &Reply) -> Vec<Verdict> {
        match reply {
            Reply::Error(_) => Vec::new(),
            Reply::Array(items) if items.len() == keys.len() => keys
                .iter()
                .zip(items)
                .map(|(key, item)| self.keys[*key].read(item))
                .collect(),
            other => vec![Verdict::Wrong(format!(
                "MGET of {} keys got {other:?}",
                keys.len()
            ))],
        }
    }

    fn served(&mut self, slot: u16, now: Instant) {
        let contains = |range: &SlotRange| range.contains(&slot);
        let Some(group) = self.options.groups.iter().position(contains) else {
            return;
        };
        let from = std::mem::replace(&mut self.last_good[group], now);
        if now.duration_since(from) >= self.options.shortest_gap {
            self.report.gaps.push(Gap {
                client: self.number,
                group,
                from,
                until: now,
            });
        }
    }

    fn violation(&mut self, text: String) {
        self.common
            .violation
            .with(|first| first.get_or_insert_with(|| text.clone()).len());
        if self.report.violations.len() < VIOLATIONS_KEPT {
            self.report.violations.push(text);
        }
    }
}

//! One client of the load, on a thread of its own.

use super::journal::Journal;
use super::model::{Counter, Key, Verdict};
use super::{Broken, Common, Gap, LoadError, LoadOptions, LoadReport, SlotRange, Times, Violation};
use crate::conn::Conn;
use crate::resp::{Reply, encode};
use crate::slot_of;
use crate::wait::{pause, wait_some};
use anyhow::Result;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// Keys of one MGET.
const KEYS_OF_MGET: usize = 4;
/// Violations kept of one client between two checks.
const VIOLATIONS_KEPT: usize = 20;
/// Commands of one batch of a check.
const CHECKED_AT_ONCE: usize = 64;
/// How long it may take to connect again.
const RECONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// A command written, by what its reply will be judged.
enum Operation {
    Set { key: usize, number: u64 },
    Get { key: usize },
    MultiGet { keys: Vec<usize> },
    Increment { counter: usize },
    ReadCounter { counter: usize },
    Append { journal: usize, number: u64 },
    ReadJournal { journal: usize },
    DeleteJournal { journal: usize },
}

/// One connection with its keys.
pub(super) struct Client {
    number: usize,
    address: SocketAddr,
    conn: Conn,
    options: LoadOptions,
    common: Arc<Common>,
    keys: Vec<Key>,
    counters: Vec<Counter>,
    journals: Vec<Journal>,
    /// Last good reply of each group
    last_good: Vec<Instant>,
    report: LoadReport,
    /// Where reports go at each check
    checked: Sender<LoadReport>,
    checks_done: u64,
}

impl Client {
    pub(super) fn connect(
        address: SocketAddr,
        number: usize,
        options: &LoadOptions,
        common: Arc<Common>,
        checked: Sender<LoadReport>,
    ) -> Result<Self> {
        let conn = open(address, options)?;
        // Names are unique per start, so that several loads never meet in one cluster.
        let run = fastrand::u32(..);
        let usable = |name: &String| {
            let slot = slot_of(name.as_bytes());
            options.slots.iter().any(|range| range.contains(&slot))
        };
        let named = |kind: &str, count: usize| {
            let prefix = format!("{kind}:{run:08x}:{number}:");
            let names = (0_u32..)
                .map(move |n| format!("{prefix}{n}"))
                .filter(usable);
            names.take(count).collect::<Vec<String>>()
        };
        let (counters, journals) = match options.journals {
            0 => (options.keys, 0),
            journals => (0, journals),
        };
        Ok(Self {
            number,
            address,
            conn,
            common,
            keys: map(named("k", options.keys), Key::new),
            counters: map(named("n", counters), Counter::new),
            journals: map(named("j", journals), Journal::new),
            last_good: vec![Instant::now(); options.groups.len()],
            options: options.clone(),
            report: LoadReport::default(),
            checked,
            checks_done: 0,
        })
    }

    /// Batches until the load is stopped, then a last look at every key.
    pub(super) fn run(mut self) -> LoadReport {
        self.last_good.fill(Instant::now());
        while !self.common.stop.load(Ordering::Relaxed) {
            if self.checks_done < self.common.checks.load(Ordering::Relaxed) && !self.hand_over() {
                return self.report;
            }
            let started = Instant::now();
            let batch = (0..self.options.depth).map(|_| self.choose()).collect();
            if !self.exchange(batch) {
                return self.report;
            }
            pause(self.options.interval.saturating_sub(started.elapsed()));
        }
        self.check_all();
        self.report
    }

    /// Checks all keys, empties the lists and reports; false when the connection is of no more use.
    fn hand_over(&mut self) -> bool {
        let delete = |journal| Operation::DeleteJournal { journal };
        let lists = (0..self.journals.len()).map(delete).collect();
        if !self.check_all() || !self.exchange(lists) {
            return false;
        }
        self.checks_done += 1;
        self.last_good.fill(Instant::now());
        // Nobody listens only when the load is being dropped.
        self.checked.send(std::mem::take(&mut self.report)).is_ok()
    }

    fn check_all(&mut self) -> bool {
        let keys = (0..self.keys.len()).map(|key| Operation::Get { key });
        let counters = (0..self.counters.len()).map(|counter| Operation::ReadCounter { counter });
        let journals = (0..self.journals.len()).map(|journal| Operation::ReadJournal { journal });
        let mut all: Vec<Operation> = keys.chain(counters).chain(journals).collect();
        while !all.is_empty() {
            let rest = all.split_off(CHECKED_AT_ONCE.min(all.len()));
            if !self.exchange(std::mem::replace(&mut all, rest)) {
                return false;
            }
        }
        true
    }

    fn choose(&mut self) -> Operation {
        let key = fastrand::usize(..self.keys.len());
        match fastrand::u8(..10) {
            2..=3 | 8..=9 if !self.journals.is_empty() => {
                let journal = fastrand::usize(..self.journals.len());
                self.journals[journal].issued += 1;
                let number = self.journals[journal].issued;
                Operation::Append { journal, number }
            }
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
            _ if self.counters.is_empty() => Operation::Get { key },
            _ => Operation::Increment {
                counter: fastrand::usize(..self.counters.len()),
            },
        }
    }

    /// Writes a batch and reads its replies; false when the connection is of no more use.
    fn exchange(&mut self, batch: Vec<Operation>) -> bool {
        let started = Instant::now();
        let Some(answers) = self.answers(&batch) else {
            return false;
        };
        let seen_before = self.report.violations.len();
        for (n, (operation, (reply, times))) in batch.iter().zip(&answers).enumerate() {
            if let Reply::Error(text) = reply {
                self.note_error(text, times.answered, operation, &batch[n + 1..]);
            }
            self.judge(operation, reply, *times);
        }
        let seen_now = self.report.violations.len();
        if seen_now > seen_before && seen_before < VIOLATIONS_KEPT {
            let seen = self.exchanged(&batch, &answers);
            let last = &mut self.report.violations[seen_now - 1];
            last.text = format!("{}; the whole batch: {seen}", last.text);
        }
        self.report.longest_batch = self.report.longest_batch.max(started.elapsed());
        self.common.batches[self.number].fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Writes a batch and reads its replies, over several connections if it has to be and may; `None` after a violation.
    fn answers(&mut self, batch: &[Operation]) -> Option<Vec<(Reply, Times)>> {
        let mut answers = Vec::with_capacity(batch.len());
        while let Err(error) = self.read_answers(batch, &mut answers) {
            let ended = self.conn.ended_between_replies(&error);
            let reconnected = if self.options.reconnect && ended {
                self.reconnect()
            } else {
                Err(error)
            };
            if let Err(error) = reconnected {
                let words = self.words(&batch[answers.len()]).join(" ");
                let seen = self.exchanged(batch, &answers);
                let text = format!("no reply to {words}: {error:#}; before: {seen}");
                self.violation(Broken::Unanswered, &text);
                return None;
            }
        }
        Some(answers)
    }

    /// Writes what is not answered yet of a batch, and reads the replies.
    fn read_answers(
        &mut self,
        batch: &[Operation],
        answers: &mut Vec<(Reply, Times)>,
    ) -> Result<()> {
        let sent = Instant::now();
        let bytes: Vec<u8> = batch[answers.len()..]
            .iter()
            .flat_map(|operation| encode(&self.words(operation)))
            .collect();
        self.conn.send_raw(&bytes)?;
        while answers.len() < batch.len() {
            let reply = self.conn.read()?;
            let answered = Instant::now();
            answers.push((reply, Times { sent, answered }));
        }
        Ok(())
    }

    fn reconnect(&mut self) -> Result<()> {
        self.report.reconnects += 1;
        self.conn = wait_some(RECONNECT_DEADLINE, "the client is connected again", || {
            open(self.address, &self.options).map(Some)
        })?;
        Ok(())
    }

    /// Commands with their replies, as text for a person who looks for a fault.
    fn exchanged(&self, batch: &[Operation], answers: &[(Reply, Times)]) -> String {
        let pairs = batch.iter().zip(answers);
        let lines: Vec<String> = pairs
            .map(|(operation, (reply, _))| {
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
            Operation::Append { journal, number } => {
                let journal = &self.journals[*journal];
                let token = journal.token(*number);
                vec!["RPUSH".to_owned(), journal.name.clone(), token]
            }
            Operation::ReadJournal { journal } => {
                let name = self.journals[*journal].name.clone();
                ["LRANGE", &name, "0", "-1"].map(str::to_owned).to_vec()
            }
            Operation::DeleteJournal { journal } => {
                vec!["DEL".to_owned(), self.journals[*journal].name.clone()]
            }
        }
    }

    fn judge(&mut self, operation: &Operation, reply: &Reply, times: Times) {
        self.report.requests += 1;
        let words = self.words(operation);
        if !matches!(reply, Reply::Error(_)) {
            self.common.good.fetch_add(1, Ordering::Relaxed);
            for name in words
                .iter()
                .skip(1)
                .take(if words[0] == "MGET" { KEYS_OF_MGET } else { 1 })
            {
                self.served(slot_of(name.as_bytes()), times.answered);
            }
            if !is_read(&words[0]) && words[0] != "DEL" {
                let slot = slot_of(words[1].as_bytes());
                *self.report.acknowledged.entry(slot).or_default() += 1;
            }
        }
        let verdicts = match operation {
            Operation::Set { key, number } => {
                vec![self.keys[*key].set_answered(*number, reply, times)]
            }
            Operation::Get { key } => vec![self.keys[*key].read(reply)],
            Operation::MultiGet { keys } => self.judge_many(keys, reply),
            Operation::Increment { counter } => {
                vec![self.counters[*counter].incremented(reply, times)]
            }
            Operation::ReadCounter { counter } => vec![self.counters[*counter].read(reply)],
            Operation::Append { journal, number } => {
                vec![self.journals[*journal].appended(*number, reply, times)]
            }
            Operation::ReadJournal { journal } => self.journals[*journal].read(reply),
            Operation::DeleteJournal { journal } => vec![self.journals[*journal].deleted(reply)],
        };
        for verdict in verdicts {
            match verdict {
                Verdict::Right => {}
                Verdict::Lost(write) => self.report.lost.push(write),
                Verdict::Wrong(broken, text) => self.violation(broken, &text),
            }
        }
    }

    fn note_error(&mut self, text: &str, at: Instant, operation: &Operation, later: &[Operation]) {
        let words = self.words(operation);
        let written: Vec<String> = later
            .iter()
            .map(|operation| self.words(operation))
            .filter(|words| !is_read(&words[0]))
            .map(|mut words| words.swap_remove(1))
            .collect();
        let overtaken = words
            .iter()
            .skip(1)
            .find(|name| is_read(&words[0]) && written.contains(name));
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
            other => vec![Verdict::Wrong(
                Broken::Misdelivered,
                format!("MGET of {} keys got {other:?}", keys.len()),
            )],
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

    fn violation(&mut self, broken: Broken, text: &str) {
        let text = format!("client {}: {text}", self.number);
        let violation = Violation { broken, text };
        self.common
            .violation
            .with(|first| _ = first.get_or_insert_with(|| violation.to_string()));
        if self.report.violations.len() < VIOLATIONS_KEPT {
            self.report.violations.push(violation);
        }
    }
}

fn open(address: SocketAddr, options: &LoadOptions) -> Result<Conn> {
    if options.resp3 {
        Conn::open_resp3(address)
    } else {
        Conn::open(address)
    }
}

fn map<T>(names: Vec<String>, make: impl Fn(String) -> T) -> Vec<T> {
    names.into_iter().map(make).collect()
}

fn is_read(command: &str) -> bool {
    matches!(command, "GET" | "MGET" | "LRANGE")
}

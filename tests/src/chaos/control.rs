//! The direct control: plain connections straight to the primaries, one per shard, that write as fast as the load does to that
//! shard and look for the new primary by themselves. What they lose and how long they wait is what the servers do without a proxy.

use crate::conn::Conn;
use crate::load::{Journal, LostWrite, SlotRange, Times, Verdict};
use crate::resp::Reply;
use crate::shared::Shared;
use crate::slot_of;
use crate::wait::pause;
use anyhow::{Context, Result, ensure};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Tokens appended at once.
const DEPTH: usize = 20;
/// From one batch to the next.
const INTERVAL: Duration = Duration::from_millis(20);
/// Between two looks for the primary.
const SEARCH_PAUSE: Duration = Duration::from_millis(10);
/// A node that does not say in this time whether it is the primary is not asked further.
const SEARCH_TIMEOUT: Duration = Duration::from_millis(300);
/// Silence after which a connection is given up: as long as the proxy waits.
const SILENCE: Duration = Duration::from_secs(6);
const CHECK_DEADLINE: Duration = Duration::from_secs(60);

/// What the control saw between two checks.
#[derive(Debug, Default)]
pub(super) struct ControlReport {
    /// Acknowledged appends
    pub(super) acknowledged: u64,
    /// Acknowledged appends that are gone
    pub(super) lost: Vec<LostWrite>,
    /// Appends whose fate was unknown when their connection broke
    pub(super) uncertain: u64,
    /// Appends that were refused
    pub(super) refused: u64,
    /// The longest time without an acknowledged append
    pub(super) longest_gap: Duration,
    /// What must never be
    pub(super) wrong: Vec<String>,
}

impl ControlReport {
    pub(super) fn absorb(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.lost.extend(other.lost);
        self.uncertain += other.uncertain;
        self.refused += other.refused;
        self.longest_gap = self.longest_gap.max(other.longest_gap);
        self.wrong.extend(other.wrong);
    }
}

#[derive(Debug)]
struct Common {
    stop: AtomicBool,
    checks: AtomicU64,
    addresses: Shared<Vec<SocketAddrV4>>,
}

/// The running control; stopped on drop.
#[derive(Debug)]
pub(super) struct Control {
    common: Arc<Common>,
    writers: Vec<JoinHandle<()>>,
    checked: Receiver<ControlReport>,
}

impl Control {
    /// One writer per shard; these nodes are asked who is its primary.
    pub(super) fn start(addresses: &[SocketAddrV4], shards: &[SlotRange]) -> Self {
        let common = Arc::new(Common {
            stop: AtomicBool::new(false),
            checks: AtomicU64::new(0),
            addresses: Shared::new(addresses.to_vec()),
        });
        let (sender, checked) = channel();
        let writers = shards
            .iter()
            .map(|slots| {
                let writer = Writer::new(slots, Arc::clone(&common), sender.clone());
                std::thread::spawn(move || writer.run())
            })
            .collect();
        Self {
            common,
            writers,
            checked,
        }
    }

    /// The nodes to be asked from now on.
    pub(super) fn set_addresses(&self, addresses: &[SocketAddrV4]) {
        self.common
            .addresses
            .with(|current| *current = addresses.to_vec());
    }

    /// Checks and empties the lists, and gives what was seen since the check before.
    pub(super) fn check(&self) -> Result<ControlReport> {
        self.common.checks.fetch_add(1, Ordering::Relaxed);
        let mut report = ControlReport::default();
        for _ in &self.writers {
            let part = self.checked.recv_timeout(CHECK_DEADLINE);
            report.absorb(part.context("the control could not check its lists")?);
        }
        Ok(report)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.common.stop.store(true, Ordering::Relaxed);
    }
}

/// The control of one shard.
struct Writer {
    common: Arc<Common>,
    journal: Journal,
    conn: Option<Conn>,
    last_good: Instant,
    report: ControlReport,
    checked: Sender<ControlReport>,
    checks_done: u64,
}

impl Writer {
    fn new(slots: &SlotRange, common: Arc<Common>, checked: Sender<ControlReport>) -> Self {
        let run = fastrand::u32(..);
        let name = (0_u32..)
            .map(|n| format!("control:{run:08x}:{n}"))
            .find(|name| slots.contains(&slot_of(name.as_bytes())))
            .unwrap_or_default();
        Self {
            common,
            journal: Journal::new(name),
            conn: None,
            last_good: Instant::now(),
            report: ControlReport::default(),
            checked,
            checks_done: 0,
        }
    }

    fn run(mut self) {
        while !self.common.stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            let Some(mut conn) = self.conn.take().or_else(|| self.find_primary()) else {
                pause(SEARCH_PAUSE);
                continue;
            };
            let due = self.checks_done < self.common.checks.load(Ordering::Relaxed);
            if due && self.hand_over(&mut conn).is_err() {
                continue;
            }
            if self.append(&mut conn) {
                self.conn = Some(conn);
            }
            pause(INTERVAL.saturating_sub(started.elapsed()));
        }
    }

    /// A connection to a node that takes the list for its own.
    fn find_primary(&self) -> Option<Conn> {
        let addresses = self.common.addresses.with(|addresses| addresses.clone());
        addresses.iter().find_map(|address| {
            let mut conn = Conn::open(*address).ok()?;
            conn.set_timeout(SEARCH_TIMEOUT).ok()?;
            let reply = conn.call(&["LLEN", &self.journal.name]).ok()?;
            let found = matches!(reply, Reply::Int(_)) && conn.set_timeout(SILENCE).is_ok();
            found.then_some(conn)
        })
    }

    /// Writes one batch; false if the connection is of no more use.
    fn append(&mut self, conn: &mut Conn) -> bool {
        let first = self.journal.issued + 1;
        self.journal.issued += u64::try_from(DEPTH).unwrap_or(1);
        let numbers = first..=self.journal.issued;
        let name = self.journal.name.clone();
        let sent = Instant::now();
        let mut bytes = Vec::new();
        for number in numbers.clone() {
            let token = self.journal.token(number);
            bytes.extend(crate::resp::encode(&["RPUSH", &name, &token]));
        }
        let mut connected = conn.send_raw(&bytes).is_ok();
        let mut usable = connected;
        for number in numbers {
            let reply = if connected { conn.read().ok() } else { None };
            connected = reply.is_some();
            let lost = || Reply::Error("UNCERTAIN connection lost".to_owned());
            let reply = reply.unwrap_or_else(lost);
            let answered = Instant::now();
            self.count(&reply, answered);
            usable &= matches!(reply, Reply::Int(_));
            let times = Times { sent, answered };
            let verdict = self.journal.appended(number, &reply, times);
            self.note(verdict);
        }
        usable
    }

    fn count(&mut self, reply: &Reply, now: Instant) {
        match reply {
            Reply::Int(_) => {
                self.report.acknowledged += 1;
                let gap = now.duration_since(std::mem::replace(&mut self.last_good, now));
                self.report.longest_gap = self.report.longest_gap.max(gap);
            }
            Reply::Error(text) if text.starts_with("UNCERTAIN ") => self.report.uncertain += 1,
            _ => self.report.refused += 1,
        }
    }

    fn note(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Right => {}
            Verdict::Lost(write) => self.report.lost.push(write),
            Verdict::Wrong(broken, text) => self.report.wrong.push(format!("{broken:?}: {text}")),
        }
    }

    fn hand_over(&mut self, conn: &mut Conn) -> Result<()> {
        let name = self.journal.name.clone();
        let list = conn.call(&["LRANGE", &name, "0", "-1"])?;
        ensure!(list.error().is_none(), "{list:?}");
        for verdict in self.journal.read(&list) {
            self.note(verdict);
        }
        let deleted = conn.call(&["DEL", &name])?;
        let verdict = self.journal.deleted(&deleted);
        self.note(verdict);
        self.checks_done += 1;
        self.last_good = Instant::now();
        self.checked.send(std::mem::take(&mut self.report))?;
        Ok(())
    }
}

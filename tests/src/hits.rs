//! Clients that count hits: each sends one request at a time, as a web server does, and keeps account of what it was told. Afterwards
//! the counters show whether a hit was lost or counted twice.

use crate::conn::Conn;
use crate::resp::Reply;
use crate::wait::{pause, wait_until};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a client may go without an answer it can use before the test fails.
const PATIENCE: Duration = Duration::from_secs(40);

/// Seconds for which the servers remember a hit that may come again.
const REMEMBERED: &str = "600";

/// The pages that are hit, all by all clients: their counters lie in several shards.
const PAGES: [&str; 6] = ["/", "/about", "/news", "/shop", "/cart", "/help"];

/// What a hit is.
#[derive(Clone, Debug)]
pub enum Hit {
    /// `INCR` of the page's counter, once
    Increment,
    /// This script with a token that names the hit, then `WAIT 1`, both again until the hit is certain
    Script(String),
    /// `SET` of a key of the client's own, then `GET`, which must give the same, or an older one if it was lost
    Value,
}

/// How hits are made.
#[derive(Clone, Debug)]
pub struct HitOptions {
    /// What a hit is
    pub hit: Hit,
    /// Password of the proxy
    pub password: Option<String>,
    /// Clients at the same time
    pub clients: usize,
    /// Pause of a client between two hits
    pub interval: Duration,
    /// After this long without an answer a client connects anew
    pub timeout: Duration,
}

impl Default for HitOptions {
    fn default() -> Self {
        Self {
            hit: Hit::Increment,
            password: None,
            clients: 6,
            interval: Duration::from_millis(2),
            timeout: Duration::from_secs(20),
        }
    }
}

/// What the clients were told.
#[derive(Clone, Debug, Default)]
pub struct HitReport {
    /// Acknowledged hits by the counter's key
    pub acknowledged: BTreeMap<String, u64>,
    /// Hits answered with `UNCERTAIN`, or not answered because the connection was lost, by the counter's key
    pub uncertain: BTreeMap<String, u64>,
    /// Values that were acknowledged and are gone: what a killed primary had not replicated
    pub lost: u64,
    /// Every other error
    pub errors: Vec<String>,
    /// Connections lost
    pub disconnected: u64,
    /// Longest time between two good answers to one client
    pub longest_gap: Duration,
}

impl HitReport {
    /// Fails unless every request got a good answer, over one connection.
    ///
    /// # Errors
    /// What went wrong.
    pub fn ensure_no_error(&self) -> Result<()> {
        let (errors, uncertain, lost) = (&self.errors, &self.uncertain, self.disconnected);
        ensure!(
            errors.is_empty() && uncertain.is_empty() && lost == 0,
            "errors: {errors:?}; uncertain: {uncertain:?}; connections lost: {lost}"
        );
        Ok(())
    }

    /// Fails unless each counter holds exactly the acknowledged hits, and of the uncertain ones any number.
    ///
    /// # Errors
    /// Which counter is wrong, and by how much.
    pub fn ensure_exact(&self, conn: &mut Conn) -> Result<()> {
        ensure!(!self.acknowledged.is_empty(), "there were no hits");
        for (key, acknowledged) in &self.acknowledged {
            let counted: u64 = conn.call(&["GET", key])?.text()?.parse()?;
            let most = acknowledged + self.uncertain.get(key).copied().unwrap_or(0);
            ensure!(
                (*acknowledged..=most).contains(&counted),
                "{key} is {counted}; {acknowledged} hits were acknowledged, at most {most} made"
            );
        }
        Ok(())
    }

    fn absorb(&mut self, other: Self) {
        for (sum, part) in [
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.uncertain, other.uncertain),
        ] {
            for (key, count) in part {
                *sum.entry(key).or_default() += count;
            }
        }
        self.errors.extend(other.errors);
        self.lost += other.lost;
        self.disconnected += other.disconnected;
        self.longest_gap = self.longest_gap.max(other.longest_gap);
    }
}

/// Running clients.
#[derive(Debug)]
pub struct Hits {
    common: Arc<Common>,
    clients: Vec<JoinHandle<Result<HitReport>>>,
}

#[derive(Debug)]
struct Common {
    stop: AtomicBool,
    /// Good answers, by client
    good: Vec<AtomicU64>,
}

impl Hits {
    /// Connects the clients and starts them.
    ///
    /// # Errors
    /// If one cannot connect or log in.
    pub fn start(address: SocketAddrV4, options: &HitOptions) -> Result<Self> {
        let good = std::iter::repeat_with(AtomicU64::default);
        let common = Arc::new(Common {
            stop: AtomicBool::new(false),
            good: good.take(options.clients).collect(),
        });
        let mut clients = Vec::new();
        for number in 0..options.clients {
            let client = Client {
                number,
                address,
                conn: connect(address, options)?,
                options: options.clone(),
                common: Arc::clone(&common),
                hits: 0,
                last_good: Instant::now(),
                report: HitReport::default(),
            };
            clients.push(std::thread::spawn(move || client.run()));
        }
        Ok(Self { common, clients })
    }

    /// Waits until every client has had this many further good answers.
    ///
    /// # Errors
    /// If one has not in time.
    pub fn wait_for(&self, answers: u64) -> Result<()> {
        let now = || {
            let good = self.common.good.iter();
            good.map(|count| count.load(Ordering::Relaxed))
        };
        let marks: Vec<u64> = now().map(|count| count + answers).collect();
        wait_until(PATIENCE, "every client gets its answers", || {
            Ok(now().zip(&marks).all(|(now, mark)| now >= *mark))
        })
    }

    /// Ends the clients, each after the hit it is at.
    ///
    /// # Errors
    /// If one could not make its hit, or was given a wrong answer.
    pub fn stop(mut self) -> Result<HitReport> {
        self.common.stop.store(true, Ordering::Relaxed);
        let mut report = HitReport::default();
        for client in self.clients.drain(..) {
            let seen = client.join().ok().context("a client panicked")??;
            report.absorb(seen);
        }
        Ok(report)
    }
}

impl Drop for Hits {
    fn drop(&mut self) {
        self.common.stop.store(true, Ordering::Relaxed);
    }
}

fn connect(address: SocketAddrV4, options: &HitOptions) -> Result<Conn> {
    let mut conn = Conn::open(address)?;
    conn.set_timeout(options.timeout)?;
    if let Some(password) = &options.password {
        conn.must(&format!("AUTH {password}"))?;
    }
    Ok(conn)
}

/// How a hit, or one try of it, went.
enum Outcome {
    Good,
    /// It may have been counted or not
    Uncertain,
    /// It was not counted, or that does not matter
    Refused(String),
}

struct Client {
    number: usize,
    address: SocketAddrV4,
    conn: Conn,
    options: HitOptions,
    common: Arc<Common>,
    hits: usize,
    last_good: Instant,
    report: HitReport,
}

impl Client {
    fn run(mut self) -> Result<HitReport> {
        while !self.common.stop.load(Ordering::Relaxed) {
            self.hits += 1;
            let page = PAGES[(self.number + self.hits) % PAGES.len()];
            let key = format!("hits:{{{page}}}");
            match self.hit(&key)? {
                Outcome::Good => self.note_good(key),
                Outcome::Uncertain => *self.report.uncertain.entry(key).or_default() += 1,
                Outcome::Refused(text) => self.report.errors.push(text),
            }
            pause(self.options.interval);
        }
        Ok(self.report)
    }

    fn note_good(&mut self, key: String) {
        *self.report.acknowledged.entry(key).or_default() += 1;
        let gap = self.last_good.elapsed();
        self.report.longest_gap = self.report.longest_gap.max(gap);
        self.last_good = Instant::now();
        self.common.good[self.number].fetch_add(1, Ordering::Relaxed);
    }

    fn hit(&mut self, key: &str) -> Result<Outcome> {
        match self.options.hit.clone() {
            Hit::Increment => self.increment(key),
            Hit::Script(script) => self.script(key, &script),
            Hit::Value => self.value(),
        }
    }

    fn increment(&mut self, key: &str) -> Result<Outcome> {
        Ok(match self.call(&["INCR", key])? {
            Some(reply) => judge(&reply, matches!(reply, Reply::Int(_))),
            None => Outcome::Uncertain,
        })
    }

    /// Until a replica has it: an answer alone does not outlive the primary.
    fn script(&mut self, key: &str, script: &str) -> Result<Outcome> {
        let token = key.replace("hits:", "seen:");
        let token = format!("{token}:{}:{}", self.number, self.hits);
        let mut counted = false;
        wait_until(PATIENCE, "a hit is certain", || {
            let call = ["EVAL", script, "2", key, &token, REMEMBERED];
            counted = matches!(self.call(&call)?, Some(Reply::Int(_)));
            let copies = counted.then(|| self.call(&["WAIT", "1", "500"]));
            Ok(matches!(copies.transpose()?, Some(Some(Reply::Int(1..)))))
        })?;
        Ok(Outcome::Good)
    }

    fn value(&mut self) -> Result<Outcome> {
        let key = format!("value:{}:{}", self.number, self.hits % 50);
        let value = format!("{}={}", key, self.hits);
        let Some(set) = self.call(&["SET", &key, &value])? else {
            return Ok(Outcome::Uncertain);
        };
        if !set.is_ok() {
            return Ok(judge(&set, false));
        }
        let Some(got) = self.call(&["GET", &key])? else {
            return Ok(Outcome::Uncertain);
        };
        let text = got.text().unwrap_or_default();
        let is_older = got == Reply::Nil || text.starts_with(&format!("{key}="));
        self.report.lost += u64::from(is_older && text != value);
        Ok(judge(&got, is_older))
    }

    /// The reply, or `None` if the connection was lost; then there is a new one.
    fn call(&mut self, command: &[&str]) -> Result<Option<Reply>> {
        if let Ok(reply) = self.conn.call(command) {
            return Ok(Some(reply));
        }
        self.report.disconnected += 1;
        wait_until(PATIENCE, "a client can connect again", || {
            self.conn = connect(self.address, &self.options)?;
            Ok(true)
        })?;
        Ok(None)
    }
}

fn judge(reply: &Reply, good: bool) -> Outcome {
    match reply.error() {
        _ if good => Outcome::Good,
        Some(text) if text.starts_with("UNCERTAIN ") => Outcome::Uncertain,
        _ => Outcome::Refused(format!("{reply:?}")),
    }
}

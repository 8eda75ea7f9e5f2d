//! Clients that read all the time, and what they saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use harness::{Conn, Proxy, Reply, wait_until};

/// So many keys are read.
const KEYS: usize = 50;

/// Some clients that read keys with known values, until they are told to stop.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<Seen>>>,
}

/// What they saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// Replies that were errors, or not the value.
    pub(crate) wrong: Vec<String>,
    /// Longest time that one read took.
    pub(crate) longest: Duration,
}

/// The value of a key.
pub(crate) fn write_keys(conn: &mut Conn) -> Result<()> {
    for key in 0..KEYS {
        conn.must(&format!("SET key:{key} value:{key}"))?;
    }
    Ok(())
}

impl Clients {
    pub(crate) fn start(proxy: &Proxy, count: usize) -> Result<Self> {
        let (stop, good) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let mut threads = Vec::new();
        for _ in 0..count {
            let mut conn = proxy.conn()?;
            conn.set_timeout(Duration::from_secs(30))?;
            let (stop, good) = (Arc::clone(&stop), Arc::clone(&good));
            threads.push(std::thread::spawn(move || {
                let mut seen = Seen::default();
                while !stop.load(Ordering::Relaxed) {
                    seen.read_all(&mut conn, &good)?;
                }
                Ok(seen)
            }));
        }
        Ok(Self {
            stop,
            good,
            threads,
        })
    }

    /// Waits until so many more reads were answered well.
    pub(crate) fn wait_for(&self, reads: u64) -> Result<()> {
        let wanted = self.good.load(Ordering::Relaxed) + reads;
        wait_until(Duration::from_secs(40), "more reads", || {
            Ok(self.good.load(Ordering::Relaxed) >= wanted)
        })
    }

    /// What all of them saw.
    pub(crate) fn stop(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for thread in self.threads {
            let seen = thread
                .join()
                .map_err(|_panic| anyhow!("a client panicked"))??;
            all.wrong.extend(seen.wrong);
            all.longest = all.longest.max(seen.longest);
        }
        Ok(all)
    }
}

impl Seen {
    /// Reads all keys once: the first half one by one, the rest in one go.
    fn read_all(&mut self, conn: &mut Conn, good: &AtomicU64) -> Result<()> {
        let get = |key: usize| vec!["GET".to_owned(), format!("key:{key}")];
        for key in 0..KEYS / 2 {
            let begun = Instant::now();
            let reply = conn.call(&get(key))?;
            self.note(key, &reply, begun, good);
        }
        let begun = Instant::now();
        let commands: Vec<_> = (KEYS / 2..KEYS).map(get).collect();
        for (key, reply) in (KEYS / 2..).zip(conn.pipeline(&commands)?) {
            self.note(key, &reply, begun, good);
        }
        Ok(())
    }

    fn note(&mut self, key: usize, reply: &Reply, begun: Instant, good: &AtomicU64) {
        self.longest = self.longest.max(begun.elapsed());
        if *reply == Reply::Bulk(format!("value:{key}").into_bytes()) {
            good.fetch_add(1, Ordering::Relaxed);
        } else {
            self.wrong.push(format!("key:{key}: {reply:?}"));
        }
    }

    /// Nobody saw anything but values, and no read took longer than `limit`.
    pub(crate) fn ensure_fine(&self, limit: Duration) -> Result<()> {
        ensure!(self.wrong.is_empty(), "{:?}", self.wrong);
        ensure!(self.longest < limit, "a read took {:?}", self.longest);
        Ok(())
    }
}

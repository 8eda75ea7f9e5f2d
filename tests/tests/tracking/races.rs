//! Changes while keys are read, nodes die and slots move: none is missed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Conn, Reply, Version, key_in_slot};

use super::{QUIET, scene, told};

harness::on_full_matrix!(
    no_change_is_missed_in_a_race,
    a_node_that_dies_makes_everything_forgotten,
    a_slot_that_moves_makes_everything_forgotten,
);
harness::on_release!(
    redis_8_2,
    Redis82,
    no_change_is_missed_in_a_race,
    a_node_that_dies_makes_everything_forgotten,
    a_slot_that_moves_makes_everything_forgotten,
);

/// A client that keeps what it reads.
struct Keeper {
    conn: Conn,
    kept: HashMap<String, String>,
    told: usize,
}

impl Keeper {
    /// Reads these keys in one go, and keeps what it is not told to forget.
    fn read(&mut self, keys: &[String]) -> Result<()> {
        let commands: Vec<Vec<&str>> = keys.iter().map(|key| vec!["GET", key.as_str()]).collect();
        let bytes: Vec<u8> = commands
            .iter()
            .flat_map(|command| harness::encode(command))
            .collect();
        self.conn.send_raw(&bytes)?;
        let mut asked = keys.iter();
        while asked.len() > 0 {
            self.take(&mut asked)?;
        }
        Ok(())
    }

    fn take<'a>(&mut self, asked: &mut impl Iterator<Item = &'a String>) -> Result<()> {
        match self.conn.read()? {
            Reply::Push(items) => {
                self.told += 1;
                match &items[1] {
                    Reply::Nil => self.kept.clear(),
                    keys => keys.texts()?.iter().for_each(|key| {
                        self.kept.remove(key);
                    }),
                }
            }
            reply => {
                let key = asked.next().context("a reply to nothing")?;
                let value = match reply {
                    Reply::Nil => String::new(),
                    reply => reply.text()?,
                };
                self.kept.insert(key.clone(), value);
            }
        }
        Ok(())
    }

    /// Takes what it is told until what it has kept is true.
    fn is_true_within(&mut self, time: Duration, other: &mut Conn) -> Result<()> {
        let started = Instant::now();
        loop {
            while self.conn.has_reply_within(QUIET)? {
                self.take(&mut std::iter::empty())?;
            }
            let mut stale = Vec::new();
            for (key, value) in &self.kept {
                let there = other.call(&["GET", key])?;
                let there = if there == Reply::Nil {
                    String::new()
                } else {
                    there.text()?
                };
                if there != *value {
                    stale.push(format!("{key}: kept {value}, is {there}"));
                }
            }
            if stale.is_empty() {
                return Ok(());
            }
            ensure!(started.elapsed() < time, "stale: {stale:?}");
        }
    }
}

/// [scenario 103]
fn no_change_is_missed_in_a_race(version: Version) -> Result<()> {
    let (_cluster, proxy) = scene(version, 0)?;
    let keys: Vec<String> = (0..24).map(|n| key_in_slot(n * 680, 1)).collect();
    let stop = AtomicBool::new(false);
    for options in ["ON", "ON NOLOOP", "ON BCAST"] {
        stop.store(false, Ordering::Relaxed);
        let mut conn = proxy.conn_resp3()?;
        conn.must(&format!("CLIENT TRACKING {options}"))?;
        let mut keeper = Keeper {
            conn,
            kept: HashMap::new(),
            told: 0,
        };
        let written = AtomicUsize::new(0);
        std::thread::scope(|scope| -> Result<()> {
            let writer = scope.spawn(|| -> Result<()> {
                let mut conn = proxy.conn()?;
                while !stop.load(Ordering::Relaxed) {
                    let count = written.fetch_add(1, Ordering::Relaxed);
                    let key = &keys[count * 7 % keys.len()];
                    conn.call(&["SET", key, &count.to_string()])?;
                }
                Ok(())
            });
            let deadline = Instant::now() + Duration::from_secs(20);
            let mut read = || -> Result<()> {
                for round in 0.. {
                    let first = round % 8;
                    keeper.read(&keys[first..first + 16])?;
                    let count = written.load(Ordering::Relaxed);
                    if round >= 150 && count > 100 && keeper.told > 20 {
                        break;
                    }
                    let told = keeper.told;
                    ensure!(Instant::now() < deadline, "{count} written, {told} told");
                }
                Ok(())
            };
            let result = read();
            stop.store(true, Ordering::Relaxed);
            writer.join().ok().context("the writer panicked")??;
            result
        })?;
        keeper.is_true_within(Duration::from_secs(10), &mut proxy.conn()?)?;
    }
    Ok(())
}

/// Reads until the client is told to forget everything.
fn forgets(conn: &mut Conn) -> Result<()> {
    while !told(conn)?.is_empty() {}
    Ok(())
}

/// [N2]
fn a_node_that_dies_makes_everything_forgotten(version: Version) -> Result<()> {
    let (mut cluster, proxy) = scene(version, 1)?;
    let (mut conn, mut other) = (proxy.conn_resp3()?, proxy.conn()?);
    let mut all = proxy.conn_resp3()?;
    conn.must("CLIENT TRACKING ON")?;
    all.must("CLIENT TRACKING ON BCAST")?;
    let key = key_in_slot(0, 1);
    conn.call(&["GET", &key])?;
    cluster.kill_primary_of(0)?;
    forgets(&mut conn)?;
    forgets(&mut all)?;
    // The new one is asked the same.
    while conn.has_reply_within(QUIET)? {
        told(&mut conn)?;
    }
    conn.send(&["GET", &key])?;
    while matches!(conn.read()?, Reply::Push(_)) {}
    let reply = other.call(&["SET", &key, "new"])?;
    assert!(reply.is_ok(), "{reply:?}");
    while !told(&mut conn)?.contains(&key) {}
    // What happens before the new one is asked is missed, and it is told to forget; then it hears again.
    harness::wait_until(Duration::from_secs(20), "it hears again", || {
        other.call(&["SET", &key, "newer"])?;
        let comes = all.has_reply_within(QUIET)?;
        Ok(comes && told(&mut all)?.contains(&key))
    })
}

/// [N2]
fn a_slot_that_moves_makes_everything_forgotten(version: Version) -> Result<()> {
    let (cluster, proxy) = scene(version, 0)?;
    let (mut conn, mut other) = (proxy.conn_resp3()?, proxy.conn()?);
    conn.must("CLIENT TRACKING ON")?;
    let key = key_in_slot(77, 1);
    conn.call(&["GET", &key])?;
    cluster.move_slots(0, 1, &[77])?;
    other.call(&["SET", &key, "there"])?;
    forgets(&mut conn)?;
    conn.send(&["GET", &key])?;
    while matches!(conn.read()?, Reply::Push(_)) {}
    other.call(&["SET", &key, "new"])?;
    while !told(&mut conn)?.contains(&key) {}
    Ok(())
}

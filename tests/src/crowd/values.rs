//! Clients with huge values. Neither side of a value is ever held as a whole: the bytes are made and compared piece by piece.

use super::target::Target;
use crate::wait::pause;
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes written or read at once.
const PIECE: usize = 64 << 10;
/// The bytes of a value repeat after this many, which is no power of two: a piece at the wrong place is noticed.
const PERIOD: usize = 65_521;

/// A thread may wake up late by this much: what a network had passed meanwhile passes at once.
const LATE: Duration = Duration::from_millis(1);

/// The pace of a network that several clients share. What was not used of it is lost: a network never passes more in a moment than it
/// can.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: usize,
    began: Instant,
    /// When all is through that was sent so far, in nanoseconds after `began`
    free: AtomicU64,
}

impl Pace {
    pub(super) fn new(bytes_per_second: usize) -> Self {
        Self {
            bytes_per_second,
            began: Instant::now(),
            free: AtomicU64::new(0),
        }
    }

    /// So many bytes pass: returns when they are through.
    fn pass(&self, bytes: usize) {
        let takes = bytes as u64 * 1_000_000_000 / self.bytes_per_second as u64;
        let unused = self.began.elapsed().saturating_sub(LATE).as_nanos();
        let unused = u64::try_from(unused).unwrap_or(u64::MAX);
        let through = |free: u64| free.max(unused) + takes;
        let order = Ordering::Relaxed;
        let before = self
            .free
            .fetch_update(order, order, |free| Some(through(free)));
        let due = Duration::from_nanos(before.map_or(0, through));
        pause(due.saturating_sub(self.began.elapsed()));
    }
}

/// `clients` clients set and get values of so many bytes, each a key of its own, until it is `until`, once at least.
pub(super) fn set_and_get(
    target: &Target,
    clients: usize,
    bytes: usize,
    pace: Option<Pace>,
    until: Instant,
) -> Result<String> {
    let pace = pace.as_ref();
    let rounds = std::thread::scope(|scope| -> Result<usize> {
        let spawn = |number| scope.spawn(move || client(target, number, bytes, pace, until));
        let threads: Vec<_> = (0..clients).map(spawn).collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().ok().context("a client panicked")?);
        joined.sum()
    })?;
    Ok(format!(
        "{clients} x {} MiB, {rounds} times set and got",
        bytes >> 20
    ))
}

fn client(
    target: &Target,
    number: usize,
    bytes: usize,
    pace: Option<&Pace>,
    until: Instant,
) -> Result<usize> {
    let key = format!("huge:{number}");
    let mut value = Value::new(bytes, pace);
    let mut stream = target.connect_for(&key, number)?;
    let mut rounds = 0;
    while rounds == 0 || Instant::now() < until {
        value.start = (number * 31 + rounds * 7) % PERIOD;
        value
            .set(&mut stream, &key)
            .with_context(|| format!("SET {key}"))?;
        value
            .get(&mut stream, &key)
            .with_context(|| format!("GET {key}"))?;
        rounds += 1;
    }
    Ok(rounds)
}

/// A value by its length and where in the pattern it starts.
struct Value<'a> {
    pace: Option<&'a Pace>,
    length: usize,
    start: usize,
    pattern: Vec<u8>,
}

impl<'a> Value<'a> {
    fn new(length: usize, pace: Option<&'a Pace>) -> Self {
        let byte = |n: usize| u8::try_from(n * n % 251).unwrap_or_default();
        let pattern = (0..PERIOD + PIECE).map(|n| byte(n % PERIOD));
        Self {
            pace,
            length,
            start: 0,
            pattern: pattern.collect(),
        }
    }

    /// The bytes from a position on, a piece at most.
    fn piece(&self, position: usize, most: usize) -> &[u8] {
        let first = (self.start + position) % PERIOD;
        &self.pattern[first..first + most.min(PIECE).min(self.length - position)]
    }

    fn wait_for(&self, bytes: usize) {
        if let Some(pace) = self.pace {
            pace.pass(bytes);
        }
    }

    fn set(&self, stream: &mut TcpStream, key: &str) -> Result<()> {
        write!(
            stream,
            "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n",
            key.len(),
            self.length
        )?;
        let mut position = 0;
        while position < self.length {
            let piece = self.piece(position, PIECE);
            self.wait_for(piece.len());
            stream.write_all(piece)?;
            position += piece.len();
        }
        stream.write_all(b"\r\n")?;
        expect(stream, b"+OK\r\n")
    }

    fn get(&self, stream: &mut TcpStream, key: &str) -> Result<()> {
        write!(stream, "*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len())?;
        expect(stream, format!("${}\r\n", self.length).as_bytes())?;
        let mut scratch = vec![0; PIECE];
        let mut position = 0;
        while position < self.length {
            let most = PIECE.min(self.length - position);
            let count = stream.read(&mut scratch[..most])?;
            ensure!(count > 0, "disconnected after {position} bytes");
            let right = self.piece(position, count) == &scratch[..count];
            ensure!(right, "wrong bytes after {position}");
            self.wait_for(count);
            position += count;
        }
        expect(stream, b"\r\n")
    }
}

/// Reads exactly these bytes.
pub(super) fn expect(stream: &mut TcpStream, expected: &[u8]) -> Result<()> {
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got)?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        got == expected,
        "expected {:?}, got {:?}",
        text(expected),
        text(&got)
    );
    Ok(())
}

//! Clients that connect, send a pipeline and are gone in the middle of it.

use crate::conn::Conn;
use crate::resp::encode;
use crate::wait::wait_until;
use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use std::net::SocketAddrV4;
use std::time::Duration;

/// Threads that make clients, one after the other.
const THREADS: usize = 4;
/// Clients of each thread.
const CLIENTS: usize = 60;
/// Commands of a pipeline.
const DEPTH: usize = 200;
/// Length of the list's tokens: enough that replies to GET fill sockets.
const VALUE_BYTES: usize = 4_000;
const DEADLINE: Duration = Duration::from_secs(20);

/// Number of clients of one run.
pub(super) const COUNT: usize = THREADS * CLIENTS;

/// Runs all clients; then every list must hold 1, 2, .. up to where its client was heard. Gives what is wrong.
pub(super) fn run(proxies: &[SocketAddrV4], rng: &mut Rng) -> Result<Vec<String>> {
    let run = rng.u32(..);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (proxies, rng) = (proxies.to_vec(), rng.fork());
            std::thread::spawn(move || clients(&proxies, run, thread, rng))
        })
        .collect();
    for thread in threads {
        thread.join().ok().context("a churning client panicked")??;
    }
    let mut wrong = Vec::new();
    let mut conn = Conn::open(*proxies.first().context("no proxy")?)?;
    for thread in 0..THREADS {
        for client in 0..CLIENTS {
            let key = key(run, thread, client);
            if let Err(error) = check(&mut conn, &key) {
                wrong.push(format!("{error:#}"));
            }
            conn.call(&["DEL", &key])?;
        }
    }
    Ok(wrong)
}

fn key(run: u32, thread: usize, client: usize) -> String {
    format!("churn:{run:08x}:{thread}:{client}")
}

fn clients(proxies: &[SocketAddrV4], run: u32, thread: usize, mut rng: Rng) -> Result<()> {
    for client in 0..CLIENTS {
        let proxy = proxies[rng.usize(..proxies.len())];
        let mut conn = Conn::open(proxy)?;
        let bytes = pipeline(&key(run, thread, client), client);
        // Some leave in the middle of a command.
        let sent = if rng.bool() {
            bytes.len()
        } else {
            rng.usize(1..bytes.len())
        };
        // A proxy that has closed would be a fault, which the load sees as well.
        conn.send_raw(&bytes[..sent])?;
        for _ in 0..rng.usize(0..3) {
            if conn.has_reply_within(Duration::from_millis(100))? {
                conn.read()?;
            }
        }
        // Replies are unread, so the kernel resets the connection.
        drop(conn);
    }
    Ok(())
}

/// Appends to a list, with reads of a big value on another node in between.
fn pipeline(key: &str, client: usize) -> Vec<u8> {
    let big = format!("{key}:big");
    let value = "x".repeat(VALUE_BYTES);
    let mut bytes = encode(&["SET", &big, &value, "EX", "10"]);
    for n in 1..=DEPTH {
        bytes.extend(encode(&["RPUSH", key, &n.to_string()]));
        if client.is_multiple_of(2) {
            bytes.extend(encode(&["GET", &big]));
        }
    }
    bytes
}

/// What a client sent may still be executed after it left, but only in order, without a gap, and once.
fn check(conn: &mut Conn, key: &str) -> Result<()> {
    let mut length = usize::MAX;
    wait_until(DEADLINE, "the list does not grow any more", || {
        let before = length;
        length = usize::try_from(conn.call(&["LLEN", key])?.int()?)?;
        Ok(length == before)
    })?;
    let tokens = conn.call(&["LRANGE", key, "0", "-1"])?.texts()?;
    for (place, token) in tokens.iter().enumerate() {
        let expected = (place + 1).to_string();
        ensure!(
            *token == expected,
            "{key} holds {token} at {place}, of {} tokens",
            tokens.len()
        );
    }
    Ok(())
}

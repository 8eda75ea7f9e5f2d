//! Clients that are many: those that do not read, those that do nothing, and those that come and go.

use super::Sizes;
use super::target::{Target, connect};
use super::values::expect;
use crate::resp::encode;
use crate::wait::pause;
use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Keys with a big string and as many with a big list.
const BIG_KEYS: usize = 6;
/// Elements of a list; together they are as big as a string.
const ELEMENTS: usize = 1024;
/// Threads that connect.
const THREADS: usize = 4;
/// Idle clients that come in a second.
const IDLE_PER_SECOND: usize = 1_000;
/// Idle clients that show at the end that they are still served.
const ASKED: usize = 200;
/// Descriptors of this process besides those of the idle clients.
const OTHER_DESCRIPTORS: u64 = 512;

fn string_key(number: usize) -> String {
    format!("deaf:string:{}", number % BIG_KEYS)
}

fn list_key(number: usize) -> String {
    format!("deaf:list:{}", number % BIG_KEYS)
}

/// Makes the values that the deaf clients ask for.
pub(super) fn make_big_values(sizes: &Sizes, target: &Target) -> Result<()> {
    let bytes = sizes.deaf_reply_bytes;
    for number in 0..BIG_KEYS {
        let mut stream = target.connect_for(&string_key(number), 0)?;
        stream.write_all(&encode(&["SET", &string_key(number), &"s".repeat(bytes)]))?;
        expect(&mut stream, b"+OK\r\n")?;
        let mut push = vec!["RPUSH".to_owned(), list_key(number)];
        push.resize(2 + ELEMENTS, "e".repeat(bytes / ELEMENTS));
        let mut stream = target.connect_for(&list_key(number), 0)?;
        stream.write_all(&encode(&push))?;
        expect(&mut stream, format!(":{ELEMENTS}\r\n").as_bytes())?;
    }
    Ok(())
}

/// Clients ask for big values again and again, and read nothing until it is `until`.
pub(super) fn deaf(sizes: &Sizes, target: &Target, until: Instant) -> Result<String> {
    let ask = |number: usize| -> Result<TcpStream> {
        let (key, request) = if number.is_multiple_of(2) {
            let key = string_key(number / 2);
            let request = encode(&["GET", &key]);
            (key, request)
        } else {
            let key = list_key(number / 2);
            let request = encode(&["LRANGE", &key, "0", "-1"]);
            (key, request)
        };
        let mut stream = target.connect_for(&key, number)?;
        stream.write_all(&request.repeat(sizes.deaf_requests))?;
        Ok(stream)
    };
    let deaf: Vec<TcpStream> = (0..sizes.deaf_clients).map(ask).collect::<Result<_>>()?;
    pause(until.saturating_duration_since(Instant::now()));
    let asked = sizes.deaf_requests * sizes.deaf_reply_bytes;
    Ok(format!(
        "{} clients asked for {} MiB each and read nothing",
        deaf.len(),
        asked >> 20
    ))
}

/// Clients connect, at a moderate pace, and do nothing until it is `until`.
pub(super) fn idle(sizes: &Sizes, target: &Target, until: Instant) -> Result<String> {
    let addresses = target.addresses();
    let began = Instant::now();
    let mut idle = Vec::with_capacity(sizes.idle_clients);
    for number in 0..sizes.idle_clients {
        wait_for(began, Duration::from_secs(1), number, IDLE_PER_SECOND)?;
        idle.push(connect(addresses[number % addresses.len()], number)?);
    }
    pause(until.saturating_duration_since(Instant::now()));
    let step = sizes.idle_clients.div_ceil(ASKED);
    for mut stream in idle.iter().step_by(step) {
        stream.write_all(b"*1\r\n$4\r\nPING\r\n")?;
        expect(&mut stream.try_clone()?, b"+PONG\r\n").context("of an idle client")?;
    }
    Ok(format!("{} clients", idle.len()))
}

/// Lets this process have so many connections more.
pub(super) fn raise_descriptors(connections: usize) -> Result<()> {
    let needed = connections as u64 + OTHER_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let possible = limit.maximum.is_none_or(|maximum| maximum >= needed);
    ensure!(
        possible,
        "{needed} descriptors are needed, `ulimit -Hn` allows {:?}",
        limit.maximum
    );
    let raised = Rlimit {
        current: Some(needed),
        maximum: limit.maximum,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// Clients come at an even pace, ask once, and go.
pub(super) fn come_and_go(sizes: &Sizes, target: &Target) -> Result<String> {
    let began = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let spawn = |first| scope.spawn(move || come_and_go_every(THREADS, first, sizes, target));
        let threads: Vec<_> = (0..THREADS).map(spawn).collect();
        let mut joined = threads
            .into_iter()
            .map(|thread| thread.join().ok().context("a client panicked")?);
        joined.try_for_each(|result| result)
    })?;
    let rate = sizes.new_clients as f64 / began.elapsed().as_secs_f64();
    Ok(format!("{} clients, {rate:.0} a second", sizes.new_clients))
}

fn come_and_go_every(step: usize, first: usize, sizes: &Sizes, target: &Target) -> Result<()> {
    let began = Instant::now();
    for number in (first..sizes.new_clients).step_by(step) {
        wait_for(began, Duration::from_secs(1), number, sizes.new_per_second)?;
        let key = format!("nobody:{number}");
        let mut stream = target.connect_for(&key, number)?;
        if number.is_multiple_of(2) {
            stream.write_all(b"*1\r\n$4\r\nPING\r\n")?;
            expect(&mut stream, b"+PONG\r\n")?;
        } else {
            stream.write_all(&encode(&["GET", &key]))?;
            expect(&mut stream, b"$-1\r\n")?;
        }
    }
    Ok(())
}

/// Waits until the moment of event `number` of so many in every `time`.
fn wait_for(began: Instant, time: Duration, number: usize, count: usize) -> Result<()> {
    let due = time.mul_f64(number as f64 / count as f64);
    pause(due.saturating_sub(began.elapsed()));
    Ok(())
}

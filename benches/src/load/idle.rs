//! What a connection that does nothing costs.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use harness::{Conn, encode, resident_bytes};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::contenders::{Contender, Setup, Who};
use super::probe::connect;
use super::workloads::SMALL;

pub(super) const NAME: &str = "idle";
const CONNECTIONS: usize = 5_000;
/// A proxy that has a connection to the server for each has twice as many; some for everything else.
const DESCRIPTORS: u64 = 2 * CONNECTIONS as u64 + 1_000;

/// Resident bytes of one proxy for each connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle {
    pub(super) who: Who,
    /// That never asked anything
    pub(super) fresh: f64,
    /// That asked once, at the same time as all others
    pub(super) used: f64,
}

/// Measures each proxy, started anew: one that has served before has memory to spare.
pub(super) fn measure(setup: &Setup) -> Result<Vec<Idle>> {
    let proxies = setup.contenders().iter().filter(|it| it.proxy.is_some());
    proxies
        .map(|it| one(&setup.launch(it.who)?).with_context(|| it.who.name()))
        .collect()
}

fn one(contender: &Contender) -> Result<Idle> {
    let process = contender.proxy.context("there is no proxy")?;
    // What the first requests of all cost is not a connection's.
    let set = Conn::open(contender.address)?.call(&["SET", &SMALL.key(0), &SMALL.value()])?;
    ensure!(set.is_ok(), "SET was answered by {set:?}");
    get_at_once(&mut [connect(contender.address)?])?;
    let before = resident_bytes(process)?;
    let connect = |_| connect(contender.address);
    let mut idle: Vec<TcpStream> = (0..CONNECTIONS).map(connect).collect::<Result<_>>()?;
    let (last, others) = idle.split_last_mut().context("there is a last one")?;
    // They are accepted in order: once the last is served, all others are there.
    get_at_once(std::slice::from_mut(last))?;
    let fresh = resident_bytes(process)?;
    get_at_once(others)?;
    let used = resident_bytes(process)?;
    let each = |bytes: u64| bytes.saturating_sub(before) as f64 / CONNECTIONS as f64;
    Ok(Idle {
        who: contender.who,
        fresh: each(fresh),
        used: each(used),
    })
}

/// All ask before the first reply is read, so that no two of them are served by the same piece of memory, one after the other.
fn get_at_once(streams: &mut [TcpStream]) -> Result<()> {
    let request = encode(&["GET", &SMALL.key(0)]);
    for stream in &mut *streams {
        stream.write_all(&request)?;
    }
    let expected = format!("${}\r\n{}\r\n", SMALL.bytes, SMALL.value());
    let mut reply = vec![0; expected.len()];
    for stream in streams {
        stream.read_exact(&mut reply)?;
        ensure!(reply == expected.as_bytes(), "a wrong reply");
    }
    Ok(())
}

/// Lets this process, and all it starts, have as many descriptors as they need.
pub(super) fn raise_descriptors() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let is_enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= DESCRIPTORS);
    if is_enough(limit.current) {
        return Ok(());
    }
    let most = limit.maximum;
    ensure!(
        is_enough(most),
        "{DESCRIPTORS} descriptors are needed, `ulimit -Hn` allows {most:?}"
    );
    let raised = Rlimit {
        current: Some(DESCRIPTORS),
        maximum: most,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

//! Loopback addresses that nothing else uses.
//!
//! The whole of 127/8 can be bound on Linux. Each test process takes a block of it by its process id, so tests that run in
//! parallel never meet, a node can come back "with another IP", and no ephemeral port of an outgoing connection is in the way.

use anyhow::{Result, bail};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// A node's cluster bus listens this much above its client port (fixed in Redis 6.2, the default later).
pub(crate) const BUS_OFFSET: u16 = 10_000;
/// Client ports start here: with the bus offset still below the ephemeral range of Linux (32768).
const FIRST_PORT: u16 = 7_000;
/// Hosts used of one /24 block.
const HOSTS: u32 = 250;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// An address on a loopback IP of its own, whose port, the one after it (for a relay) and cluster bus port are free.
///
/// # Errors
/// If no free address was found after many tries.
pub fn next_address() -> Result<SocketAddrV4> {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    for _ in 0..2 * HOSTS {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        // 127.64-191.x.y: far away from 127.0.0.1, where the machine's own services are.
        let host = Ipv4Addr::new(127, 64 + (high & 0x7f), low, u8::try_from(1 + n % HOSTS)?);
        let port = FIRST_PORT + 10 * u16::try_from(n / HOSTS)?;
        if [port, port + 1, port + BUS_OFFSET]
            .iter()
            .all(|port| is_free(host, *port))
        {
            return Ok(SocketAddrV4::new(host, port));
        }
    }
    bail!(
        "no free loopback address found in the block of process {}",
        std::process::id()
    )
}

fn is_free(host: Ipv4Addr, port: u16) -> bool {
    TcpListener::bind(SocketAddrV4::new(host, port)).is_ok()
}

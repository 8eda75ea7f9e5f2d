//! One client that asks, waits for the reply and asks again, with a clock that is finer than redis-benchmark's.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::generator::Seen;
use super::statistics::at_percent;
use super::workloads::Values;

/// How long a reply may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// From one key to the next: a prime, so that all are used.
pub(super) const STRIDE: usize = 7_919;

/// Asks so many times in all, `SET` and `GET` in turn.
pub(super) fn run(address: SocketAddrV4, values: &Values, requests: usize) -> Result<Seen> {
    let mut stream = connect(address)?;
    let value = values.value();
    let read = format!("${}\r\n{value}\r\n", value.len());
    let mut reply = vec![0; read.len()];
    let mut times = Vec::with_capacity(requests);
    let began = Instant::now();
    for n in 0..requests {
        let key = values.key(n * STRIDE % values.keys);
        let (request, expected) = if n.is_multiple_of(2) {
            (harness::encode(&["SET", &key, &value]), "+OK\r\n")
        } else {
            (harness::encode(&["GET", &key]), read.as_str())
        };
        let reply = &mut reply[..expected.len()];
        let asked = Instant::now();
        stream.write_all(&request)?;
        stream.read_exact(reply)?;
        times.push(asked.elapsed());
        ensure!(reply == expected.as_bytes(), "a wrong reply to request {n}");
    }
    let took = began.elapsed();
    times.sort_unstable();
    let milliseconds = |percent| at_percent(&times, percent).as_secs_f64() * 1e3;
    Ok(Seen {
        per_second: requests as f64 / took.as_secs_f64(),
        p50_ms: milliseconds(50),
        p99_ms: milliseconds(99),
    })
}

/// A blocking connection that does not wait for ever.
pub(super) fn connect(address: SocketAddrV4) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

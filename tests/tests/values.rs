//! Values of many megabytes, and clients that do not read them.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Proxy, Version, encode, wait_until};
use std::io::Read;
use std::time::Duration;

harness::on_full_matrix!(
    big_values_come_back_as_they_were,
    clients_that_read_nothing_cost_little_and_hold_up_nobody,
);

const MIB: usize = 1 << 20;

/// Bytes among which there are CR, LF and everything else.
fn value(length: usize) -> Vec<u8> {
    (0..length)
        .map(|n| u8::try_from(n % 251).unwrap_or_default())
        .collect()
}

/// Reads a bulk string as it comes, so that memory is not the test's own matter.
fn ensure_value(conn: &Conn, expected: &[u8]) -> Result<()> {
    let mut stream = conn.stream();
    let header = format!("${}\r\n", expected.len());
    let mut got = vec![0; header.len()];
    stream.read_exact(&mut got)?;
    ensure!(
        got == header.as_bytes(),
        "{:?}",
        String::from_utf8_lossy(&got)
    );
    let mut piece = vec![0; MIB];
    for expected in expected.chunks(MIB) {
        let piece = piece
            .get_mut(..expected.len())
            .context("a chunk is one MiB at most")?;
        stream.read_exact(piece)?;
        ensure!(piece == expected, "other bytes than were written");
    }
    let mut end = [0; 2];
    stream.read_exact(&mut end)?;
    ensure!(&end == b"\r\n");
    Ok(())
}

fn big_values_come_back_as_they_were(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).workers(1).start()?;
    let mut conn = proxy.conn()?;
    for (key, length) in [("a", 64 * MIB), ("b", 128 << 10), ("c", (128 << 10) - 12)] {
        let value = value(length);
        conn.send_raw(&encode(&[b"SET", key.as_bytes(), &value]))?;
        ensure!(conn.read()?.is_ok());
        for _ in 0..3 {
            conn.send(&["GET", key])?;
            ensure_value(&conn, &value)?;
            ensure!(conn.must(&format!("STRLEN {key}"))?.int()? == i64::try_from(length)?);
        }
    }
    Ok(())
}

fn clients_that_read_nothing_cost_little_and_hold_up_nobody(version: Version) -> Result<()> {
    const CLIENTS: u64 = 10;
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).workers(1).start()?;
    let mut other = proxy.conn()?;
    let value = value(32 * MIB);
    other.send_raw(&encode(&[b"SET".as_slice(), b"{k}big", &value]))?;
    ensure!(other.read()?.is_ok());
    other.must("SET {k}small v")?;
    let read = || proxy.metric("slotway_upstream_read_bytes_total");
    let before = proxy.resident_bytes()?;
    let mut silent = Vec::new();
    for _ in 0..CLIENTS {
        let mut conn = proxy.conn()?;
        let at_first = read()?;
        conn.send(&["GET", "{k}big"])?;
        let mut last = at_first;
        wait_until(
            Duration::from_secs(20),
            "no more of the value is read",
            || {
                let now = read()?;
                let rests = now > at_first + 1e6 && now <= last;
                last = now;
                Ok(rests)
            },
        )?;
        silent.push(conn);
    }
    for _ in 0..200 {
        ensure!(other.must("GET {k}small")?.text()? == "v");
    }
    let grown = proxy.resident_bytes()?.saturating_sub(before);
    ensure!(
        grown < CLIENTS * 4 * (1 << 20) + (16 << 20),
        "{grown} bytes for {CLIENTS} clients that read nothing"
    );
    for conn in &silent {
        ensure_value(conn, &value)?;
    }
    Ok(())
}

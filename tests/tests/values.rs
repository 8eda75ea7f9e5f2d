//! Values of many megabytes, and clients that do not read them.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Node, Proxy, Version, encode, slot_of, wait_until};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

harness::on_full_matrix!(
    big_values_come_back_as_they_were,
    clients_that_read_nothing_cost_little_and_hold_up_nobody,
);
harness::on_release!(
    uploads,
    Valkey91,
    many_uploads_at_once_end_within_the_memory_for_them,
    half_an_upload_does_not_keep_others_waiting_for_ever,
    one_big_request_takes_its_own_size,
    an_upload_survives_the_death_of_its_node_half_way,
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

/// A client that may have to wait for others while it sends.
fn patient(proxy: &Proxy) -> Result<Conn> {
    let conn = proxy.conn()?;
    conn.stream().set_read_timeout(Some(PATIENCE))?;
    conn.stream().set_write_timeout(Some(PATIENCE))?;
    Ok(conn)
}

/// How long an upload may take when many of them wait for each other.
const PATIENCE: Duration = Duration::from_secs(120);

fn many_uploads_at_once_end_within_the_memory_for_them(version: Version) -> Result<()> {
    const CLIENTS: usize = 20;
    const LENGTH: usize = 64 * MIB;
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster)
        .workers(1)
        .config(
            "limits.client_input_total_bytes = '128MiB'\n\
             limits.max_bulk_bytes = '64MiB'\nlimits.max_request_bytes = '65MiB'\n",
        )
        .start()?;
    let mut other = proxy.conn()?;
    other.must("SET {k}small v")?;
    let request = encode(&[b"SET".as_slice(), b"{k}big", &value(LENGTH)]);
    let before = proxy.resident_bytes()?;
    proxy.forget_peak()?;
    let ended = AtomicUsize::new(0);
    let upload = || -> Result<()> {
        let mut conn = patient(&proxy)?;
        conn.send_raw(&request)?;
        ensure!(conn.read()?.is_ok());
        ended.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let (mut gets, mut longest) = (0, Duration::ZERO);
    std::thread::scope(|scope| -> Result<()> {
        let uploads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(upload)).collect();
        while uploads.iter().any(|upload| !upload.is_finished()) {
            let asked = Instant::now();
            ensure!(other.must("GET {k}small")?.text()? == "v");
            longest = longest.max(asked.elapsed());
            gets += 1;
        }
        for upload in uploads {
            upload.join().ok().context("an upload panicked")??;
        }
        Ok(())
    })?;
    ensure!(ended.into_inner() == CLIENTS);
    ensure!(gets > 100, "{gets} other requests in all that time");
    ensure!(longest < Duration::from_secs(5), "one took {longest:?}");
    let grown = proxy.peak_resident_bytes()?.saturating_sub(before);
    // Buffers that grow may have room for twice what is in them.
    let most = (2 * (128 + 65) + 64) * MIB;
    ensure!(grown < most as u64, "{grown} bytes for {CLIENTS} uploads");
    wait_until(Duration::from_secs(20), "all memory is given back", || {
        Ok(proxy.metric("slotway_downstream_request_bytes")? < 0.5)
    })?;
    ensure!(other.must("STRLEN {k}big")?.int()? == i64::try_from(LENGTH)?);
    ensure!(disconnected(&proxy)? < 0.5);
    Ok(())
}

fn disconnected(proxy: &Proxy) -> Result<f64> {
    let name = "slotway_downstream_connections_closed_total";
    Ok(proxy.metrics()?.sum(name, &[("reason", "input_limit")]))
}

fn half_an_upload_does_not_keep_others_waiting_for_ever(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster)
        .workers(1)
        .config("limits.client_input_total_bytes = '32MiB'\n")
        .start()?;
    let mut silent = patient(&proxy)?;
    let request = encode(&[b"SET".as_slice(), b"{k}half", &value(66 * MIB)]);
    let (half, _) = request.split_at(33 * MIB);
    silent.send_raw(half)?;
    let held = || proxy.metric("slotway_downstream_request_bytes");
    wait_until(Duration::from_secs(20), "the half is here", || {
        Ok(held()? > f64::from(32 << 20))
    })?;
    let request = encode(&[b"SET".as_slice(), b"{k}whole", &value(16 * MIB)]);
    let upload = || -> Result<()> {
        let mut conn = patient(&proxy)?;
        conn.send_raw(&request)?;
        ensure!(conn.read()?.is_ok());
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let uploads: Vec<_> = (0..5).map(|_| scope.spawn(upload)).collect();
        for upload in uploads {
            upload.join().ok().context("an upload panicked")??;
        }
        Ok(())
    })?;
    ensure!(silent.read_to_close()?.is_empty());
    ensure!((disconnected(&proxy)? - 1.0).abs() < 0.5);
    let mut other = proxy.conn()?;
    ensure!(other.must("EXISTS {k}half")?.int()? == 0);
    // Big buffers are dropped beside the workers, and count until then.
    wait_until(Duration::from_secs(20), "its memory is given back", || {
        Ok(held()? < 0.5)
    })
}

/// It is not copied on its way, and no more room is made for it than it needs.
fn one_big_request_takes_its_own_size(version: Version) -> Result<()> {
    const LENGTH: usize = 256 * MIB;
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).workers(1).start()?;
    let conn = patient(&proxy)?;
    let before = proxy.resident_bytes()?;
    proxy.forget_peak()?;
    let mut stream = conn.stream();
    write!(stream, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${LENGTH}\r\n")?;
    let piece = value(MIB);
    for _ in 0..LENGTH / MIB {
        stream.write_all(&piece)?;
    }
    stream.write_all(b"\r\n")?;
    let mut reply = [0; 5];
    stream.read_exact(&mut reply)?;
    ensure!(&reply == b"+OK\r\n");
    let grown = proxy.peak_resident_bytes()?.saturating_sub(before);
    let most = (LENGTH + LENGTH / 2) as u64;
    ensure!(grown < most, "{grown} bytes for a request of {LENGTH}");
    Ok(())
}

/// Whether a client of the node has sent so much of a request that is not whole.
fn has_part_of_request(node: &Node, bytes: usize) -> Result<bool> {
    let clients = node.conn()?.must("CLIENT LIST")?.text()?;
    let fields = clients.split_whitespace();
    let mut parts = fields.filter_map(|field| field.strip_prefix("qbuf=")?.parse().ok());
    Ok(parts.any(|part: usize| part >= bytes))
}

/// What has come of a big request is at its node before it is whole; what becomes of that node does not concern it.
fn an_upload_survives_the_death_of_its_node_half_way(version: Version) -> Result<()> {
    let mut cluster = Cluster::new(version).start()?;
    let proxy = Proxy::new(&cluster).workers(1).start()?;
    let mut conn = patient(&proxy)?;
    let value = value(32 * MIB);
    let request = encode(&["SET".as_bytes(), b"upload", &value]);
    let (first, rest) = request.split_at(20 * MIB);
    conn.send_raw(first)?;
    let primary = cluster.primary_of(slot_of(b"upload"))?;
    wait_until(Duration::from_secs(10), "a part is at the node", || {
        has_part_of_request(cluster.node(primary)?, 19 * MIB)
    })?;
    cluster.kill_primary_of(slot_of(b"upload"))?;
    conn.send_raw(rest)?;
    ensure!(conn.read()?.is_ok(), "no node had all of it");
    conn.send(&["GET", "upload"])?;
    ensure_value(&conn, &value)
}

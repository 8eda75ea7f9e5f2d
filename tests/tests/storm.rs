//! Many clients: those that come by the thousand, and those that come and do nothing.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Proxy, Version, wait_until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

harness::on_release!(
    redis_7_0,
    Redis70,
    a_thousand_new_connections_a_second_do_not_hold_up_a_client,
    ten_thousand_idle_clients_cost_little_and_go_when_told,
);

/// New connections a second, by this many threads, for this long.
const RATE: u32 = 1000;
const THREADS: u32 = 4;
const STORM: Duration = Duration::from_secs(4);

/// Descriptors a test needs besides those of its clients.
const OTHER_DESCRIPTORS: u64 = 256;

/// Short connections, evenly spread over the time; how many were served.
fn storm(address: SocketAddrV4) -> Result<u32> {
    let started = Instant::now();
    let pause = Duration::from_secs(1) * THREADS / RATE;
    let mut served = 0;
    while started.elapsed() < STORM {
        let due = pause * served;
        wait_until(
            STORM,
            "the next one is due",
            || Ok(started.elapsed() >= due),
        )?;
        let mut conn = Conn::open(address)?;
        ensure!(conn.must("PING")?.text()? == "PONG");
        served += 1;
    }
    Ok(served)
}

/// The time within which so many of a hundred requests were answered.
fn percentile(sorted: &[Duration], hundredths: usize) -> Duration {
    let position = sorted.len() * hundredths / 100;
    let time = sorted.get(position).or_else(|| sorted.last());
    time.copied().unwrap_or_default()
}

fn a_thousand_new_connections_a_second_do_not_hold_up_a_client(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let mut conn = proxy.conn()?;
    conn.must("SET k v")?;
    for key in ["a", "b", "c", "d", "e", "f"] {
        conn.must(&format!("GET {key}"))?;
    }
    let links = proxy.metric("slotway_upstream_connections_opened_total")?;
    let (address, mut times) = (proxy.address(), Vec::new());
    let served = std::thread::scope(|scope| -> Result<u32> {
        let storms: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(move || storm(address)))
            .collect();
        while !storms
            .iter()
            .all(std::thread::ScopedJoinHandle::is_finished)
        {
            let asked = Instant::now();
            assert_eq!(conn.must("GET k")?.text()?, "v");
            times.push(asked.elapsed());
        }
        let join = |storm: std::thread::ScopedJoinHandle<'_, Result<u32>>| {
            storm.join().ok().context("a thread panicked")?
        };
        storms.into_iter().map(join).sum()
    })?;
    times.sort_unstable();
    let (usual, bad) = (percentile(&times, 50), percentile(&times, 99));
    let worst = percentile(&times, 100);
    let figures =
        format!("{served} connections; half below {usual:?}, 99 % {bad:?}, all {worst:?}");
    ensure!(served > RATE * 2, "{figures}");
    ensure!(bad < Duration::from_millis(50), "{figures}");
    ensure!(worst < Duration::from_secs(1), "{figures}");
    let accepted = proxy.metric("slotway_downstream_connections_accepted_total")?;
    ensure!(accepted >= f64::from(served), "{figures}");
    ensure!((proxy.metric("slotway_downstream_connections_rejected_total")?) < 0.5);
    let opened = proxy.metric("slotway_upstream_connections_opened_total")? - links;
    ensure!(
        opened < 4.5,
        "{opened} connections to nodes for {served} clients"
    );
    Ok(())
}

/// As many clients as this process and the proxy, which has the same limit, can have.
fn clients_possible(wanted: u64) -> Result<usize> {
    let limit = getrlimit(Resource::Nofile);
    let needed = wanted + OTHER_DESCRIPTORS;
    let possible = limit.maximum.unwrap_or(needed).min(needed);
    if limit.current.is_some_and(|current| current < possible) {
        let current = Some(possible);
        setrlimit(Resource::Nofile, Rlimit { current, ..limit })?;
    }
    Ok(usize::try_from(possible - OTHER_DESCRIPTORS)?)
}

fn ten_thousand_idle_clients_cost_little_and_go_when_told(version: Version) -> Result<()> {
    let count = clients_possible(10_000)?;
    let limits = format!("limits.max_clients = {}\n", count + 10);
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).config(&limits).start()?;
    let mut conn = proxy.conn()?;
    conn.must("SET k v")?;
    let before = proxy.resident_bytes()?;
    let mut idle = Vec::with_capacity(count);
    for n in 0..count {
        let stream = std::net::TcpStream::connect(proxy.address());
        idle.push(stream.with_context(|| format!("client {n} of {count}"))?);
    }
    let connected = || proxy.metric("slotway_downstream_connections");
    let all = f64::from(u32::try_from(count)?);
    wait_until(Duration::from_secs(20), "all are connected", || {
        Ok(connected()? > all)
    })?;
    let each = proxy.resident_bytes()?.saturating_sub(before) / u64::try_from(count)?;
    ensure!(each < 8 * 1024, "{each} bytes for each of {count} clients");
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..2000 {
        let asked = Instant::now();
        assert_eq!(conn.must("GET k")?.text()?, "v");
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    let bad = percentile(&times, 99);
    ensure!(bad < Duration::from_millis(50), "99 % below {bad:?}");
    proxy.reload(&format!("{limits}limits.idle_timeout = '1s'\n"))?;
    let closed = || {
        let metrics = proxy.metrics()?;
        let name = "slotway_downstream_connections_closed_total";
        Ok::<f64, anyhow::Error>(metrics.sum(name, &[("reason", "idle")]))
    };
    wait_until(Duration::from_secs(30), "the idle ones are closed", || {
        assert_eq!(conn.must("GET k")?.text()?, "v");
        Ok(closed()? > all - 0.5)
    })?;
    assert!(
        (connected()? - 1.0).abs() < 0.5,
        "only the busy one is left"
    );
    Ok(())
}

//! The servers' own load tools through the proxy: no error, and an end. Not a measurement.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Process, Proxy, Version, case_dir, encode, tool};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

harness::on_full_matrix!(
    redis_benchmark_with_50_clients,
    redis_benchmark_with_500_clients,
    redis_benchmark_with_values_of_1_kib,
    pipe_mode_loads_a_million_keys,
);

/// What redis-benchmark prints for each of its default tests.
const DEFAULT_TESTS: [&str; 19] = [
    "PING_INLINE",
    "PING_MBULK",
    "SET",
    "GET",
    "INCR",
    "LPUSH",
    "RPUSH",
    "LPOP",
    "RPOP",
    "SADD",
    "HSET",
    "SPOP",
    "ZADD",
    "ZPOPMIN",
    "LRANGE_100",
    "LRANGE_300",
    "LRANGE_500",
    "LRANGE_600",
    "MSET",
];

fn benchmark(proxy: &Proxy, arguments: &[&str]) -> Result<()> {
    let directory = case_dir("benchmark")?;
    let (host, port) = (
        proxy.address().ip().to_string(),
        proxy.address().port().to_string(),
    );
    let mut all = vec!["-h", &host, "-p", &port, "-q", "-r", "100000"];
    all.extend(arguments);
    let mut process = Process::start(&tool("redis-benchmark")?, &all, &[], &directory)?;
    let status = process
        .wait_for_exit(Duration::from_secs(180))
        .with_context(|| format!("{arguments:?}"))?;
    // Without the progress that it writes over and over again on one line.
    let log = process.log();
    let lines: Vec<&str> = log
        .lines()
        .filter_map(|line| line.rsplit('\r').next())
        .collect();
    let output = lines.join("\n");
    ensure!(
        status.success(),
        "redis-benchmark {arguments:?}: {status}\n{output}"
    );
    ensure!(
        !output.contains("rror"),
        "redis-benchmark {arguments:?}:\n{output}"
    );
    for test in DEFAULT_TESTS {
        let finished = output
            .lines()
            .any(|line| line.contains(test) && line.contains("requests per second"));
        ensure!(finished, "{arguments:?}: no result of {test} in:\n{output}");
    }
    Ok(())
}

fn every_depth(version: Version, clients: &str) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    for (depth, requests) in [("1", "5000"), ("16", "20000"), ("100", "50000")] {
        benchmark(&proxy, &["-c", clients, "-P", depth, "-n", requests])?;
        cluster.flush()?;
    }
    Ok(())
}

fn redis_benchmark_with_50_clients(version: Version) -> Result<()> {
    every_depth(version, "50")
}

fn redis_benchmark_with_500_clients(version: Version) -> Result<()> {
    every_depth(version, "500")
}

fn redis_benchmark_with_values_of_1_kib(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    for (depth, requests) in [("1", "2000"), ("16", "5000")] {
        benchmark(
            &proxy,
            &["-c", "50", "-P", depth, "-n", requests, "-d", "1024"],
        )?;
        cluster.flush()?;
    }
    Ok(())
}

/// [R5], big
fn pipe_mode_loads_a_million_keys(version: Version) -> Result<()> {
    const KEYS: usize = 1_000_000;
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let path = case_dir("pipe")?.join("commands");
    let mut file = BufWriter::new(File::create(&path)?);
    for n in 0..KEYS {
        file.write_all(&encode(&["SET", &format!("key:{n}"), "value"]))?;
    }
    file.flush()?;
    drop(file);
    let started = Instant::now();
    let output = Command::new(tool("redis-cli")?)
        .args([
            "-h",
            &proxy.address().ip().to_string(),
            "-p",
            &proxy.address().port().to_string(),
            "--pipe",
        ])
        .stdin(File::open(&path)?)
        .stderr(Stdio::inherit())
        .output()?;
    let summary = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && summary.contains("errors: 0, replies: 1000000"),
        "{summary}"
    );
    // redis-cli waits up to 30 s for the answer to its last ECHO if that gets lost.
    ensure!(
        started.elapsed() < Duration::from_secs(60),
        "took {:?}",
        started.elapsed()
    );
    assert_eq!(proxy.conn()?.must("DBSIZE")?.int()?, i64::try_from(KEYS)?);
    Ok(())
}

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
    redis_benchmark_with_50_clients_and_values_of_1_kib,
    redis_benchmark_with_500_clients_and_values_of_1_kib,
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

/// Pipelines of 1, 16 and 100 requests, with that many requests in all.
fn every_depth(
    version: Version,
    clients: &str,
    value_bytes: &str,
    requests: [&str; 3],
) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    for (depth, requests) in ["1", "16", "100"].into_iter().zip(requests) {
        benchmark(
            &proxy,
            &[
                "-c",
                clients,
                "-P",
                depth,
                "-d",
                value_bytes,
                "-n",
                requests,
            ],
        )?;
        cluster.flush()?;
    }
    Ok(())
}

fn redis_benchmark_with_50_clients(version: Version) -> Result<()> {
    every_depth(version, "50", "3", ["5000", "20000", "50000"])
}

fn redis_benchmark_with_500_clients(version: Version) -> Result<()> {
    every_depth(version, "500", "3", ["5000", "20000", "50000"])
}

fn redis_benchmark_with_50_clients_and_values_of_1_kib(version: Version) -> Result<()> {
    every_depth(version, "50", "1024", ["2000", "5000", "10000"])
}

/// The longest lists make 600 KiB a reply, 6 GB in all that is asked for at once: more than the servers and the proxy may hold.
fn redis_benchmark_with_500_clients_and_values_of_1_kib(version: Version) -> Result<()> {
    every_depth(version, "500", "1024", ["2000", "8000", "10000"])
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

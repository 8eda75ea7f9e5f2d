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

/// Tests of redis-benchmark: as it takes them, and what it prints for each.
type Selection = (&'static str, &'static [&'static str]);

/// All of its default tests but those of [`LISTS`].
const SHORT_REPLIES: Selection = (
    "ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,mset",
    &[
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
        "MSET",
    ],
);

/// Replies of up to 600 elements; they take nearly all of the time, so there are fewer of them. A list is made of as many elements as
/// there are requests.
const LISTS: Selection = (
    "lrange",
    &["LRANGE_100", "LRANGE_300", "LRANGE_500", "LRANGE_600"],
);

const LONGEST_LIST: Selection = ("lrange_600", &["LRANGE_600"]);

fn benchmark(proxy: &Proxy, (tests, names): Selection, arguments: &[&str]) -> Result<()> {
    let directory = case_dir("benchmark")?;
    let (host, port) = (
        proxy.address().ip().to_string(),
        proxy.address().port().to_string(),
    );
    let mut all = vec!["-h", &host, "-p", &port, "-q", "-r", "100000", "-t", tests];
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
    for test in names {
        let finished = output
            .lines()
            .any(|line| line.starts_with(test) && line.contains("requests per second"));
        ensure!(finished, "{arguments:?}: no result of {test} in:\n{output}");
    }
    Ok(())
}

/// Requests of one run: which, how many in a pipeline, and how many in all.
type Requests = (Selection, &'static str, &'static str);

fn benchmarks(version: Version, clients: &str, value_bytes: &str, runs: &[Requests]) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    for (tests, depth, requests) in runs {
        benchmark(
            &proxy,
            *tests,
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
    let runs = [
        (SHORT_REPLIES, "1", "5000"),
        (LISTS, "1", "2000"),
        (SHORT_REPLIES, "16", "20000"),
        (LISTS, "16", "4000"),
        (SHORT_REPLIES, "100", "50000"),
        (LISTS, "100", "10000"),
    ];
    benchmarks(version, "50", "3", &runs)
}

/// Of each test the tool spends 0.4 s on opening so many connections, asleep: not all tests at all depths.
fn redis_benchmark_with_500_clients(version: Version) -> Result<()> {
    let runs = [
        (SHORT_REPLIES, "1", "5000"),
        (LISTS, "16", "8000"),
        (SHORT_REPLIES, "100", "50000"),
        (LONGEST_LIST, "100", "10000"),
    ];
    benchmarks(version, "500", "3", &runs)
}

fn redis_benchmark_with_50_clients_and_values_of_1_kib(version: Version) -> Result<()> {
    let runs = [
        (SHORT_REPLIES, "1", "2000"),
        (LISTS, "1", "700"),
        (SHORT_REPLIES, "16", "5000"),
        (LISTS, "16", "800"),
        (SHORT_REPLIES, "100", "10000"),
        (LISTS, "100", "1000"),
    ];
    benchmarks(version, "50", "1024", &runs)
}

/// The longest lists make 600 KiB a reply, 6 GB in all that is asked for at once: more than the servers and the proxy may hold.
fn redis_benchmark_with_500_clients_and_values_of_1_kib(version: Version) -> Result<()> {
    let runs = [
        (LISTS, "1", "700"),
        (SHORT_REPLIES, "16", "8000"),
        (SHORT_REPLIES, "100", "10000"),
        (LONGEST_LIST, "20", "10000"),
    ];
    benchmarks(version, "500", "1024", &runs)
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

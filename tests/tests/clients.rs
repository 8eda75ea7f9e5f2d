//! Client libraries with their default settings: strings, hashes, lists, sets, sorted sets, streams, scripts, pipelines.
//! The programs are in `tests/clients`; `scripts/fetch-clients.sh` installs the libraries below `.tools/clients`.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Process, Proxy, Version, case_dir, repository_root, tool};
use redis::Commands;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

harness::on_full_matrix!(redis_py, ioredis, node_redis, php_redis, hiredis, redis_rs);

fn tools() -> PathBuf {
    std::env::var_os("SLOTWAY_TOOLS")
        .map_or_else(|| repository_root().join(".tools"), PathBuf::from)
}

/// False if the client could not be installed on this machine and that is no fault; in CI it is one.
fn is_installed(client: &str) -> Result<bool> {
    let path = tools().join("clients/missing");
    let missing = std::fs::read_to_string(path).context("run scripts/fetch-clients.sh first")?;
    let line = missing
        .lines()
        .find(|line| line.starts_with(&format!("{client}: ")));
    ensure!(
        line.is_none() || std::env::var_os("SLOTWAY_REQUIRE_ALL").is_none(),
        "{}",
        line.unwrap_or_default()
    );
    Ok(line.is_none())
}

/// Runs a client's program with the proxy's host and port as its arguments.
fn run(
    version: Version,
    program: &Path,
    script: Option<&str>,
    more: &[(String, String)],
) -> Result<()> {
    let cluster = Cluster::new(version).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let mut arguments: Vec<String> = Vec::new();
    if let Some(script) = script {
        arguments.push(
            repository_root()
                .join("tests/clients")
                .join(script)
                .to_string_lossy()
                .into_owned(),
        );
    }
    arguments.extend([
        proxy.address().ip().to_string(),
        proxy.address().port().to_string(),
    ]);
    arguments.push(tools().join("clients/node").to_string_lossy().into_owned());
    let mut process = Process::start(program, &arguments, more, &case_dir("client")?)?;
    let status = process
        .wait_for_exit(Duration::from_secs(60))
        .with_context(|| process_log(&process))?;
    let said = process.log();
    ensure!(status.success() && said.is_empty(), "{status}: {said}");
    Ok(())
}

fn process_log(process: &Process) -> String {
    format!("the client said: {}", process.log())
}

fn redis_py(version: Version) -> Result<()> {
    if !is_installed("redis-py")? {
        return Ok(());
    }
    let path = tools()
        .join("clients/python")
        .to_string_lossy()
        .into_owned();
    let environment = [
        ("PYTHONPATH".to_owned(), path),
        ("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()),
    ];
    run(
        version,
        &tool("python3")?,
        Some("python/check.py"),
        &environment,
    )
}

fn ioredis(version: Version) -> Result<()> {
    if !is_installed("ioredis")? {
        return Ok(());
    }
    run(version, &tool("node")?, Some("node/ioredis.mjs"), &[])
}

fn node_redis(version: Version) -> Result<()> {
    if !is_installed("node-redis")? {
        return Ok(());
    }
    run(version, &tool("node")?, Some("node/node-redis.mjs"), &[])
}

fn php_redis(version: Version) -> Result<()> {
    if !is_installed("php-redis")? {
        return Ok(());
    }
    run(version, &tool("php")?, Some("php/check.php"), &[])
}

fn hiredis(version: Version) -> Result<()> {
    if !is_installed("hiredis")? {
        return Ok(());
    }
    run(version, &tools().join("clients/hiredis"), None, &[])
}

fn redis_rs(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let client = redis::Client::open(format!("redis://{}", proxy.address()))?;
    let mut conn = client.get_connection()?;
    let text: String = conn.set("rs:s", "v").and_then(|()| conn.get("rs:s"))?;
    assert_eq!(text, "v");
    let pairs: Vec<(String, usize)> = (0..50).map(|n| (format!("rs:m{n}"), n)).collect();
    conn.mset::<_, _, ()>(&pairs)?;
    let keys: Vec<&String> = pairs.iter().map(|(key, _)| key).collect();
    let values: Vec<usize> = conn.mget(&keys)?;
    assert_eq!(values, (0..50).collect::<Vec<_>>());
    let deleted: usize = conn.del(&keys)?;
    assert_eq!(deleted, 50);
    redis_rs_collections(&mut conn)?;
    let script = redis::Script::new("return {KEYS[1], ARGV[1]}");
    let answer: (String, String) = script.key("rs:s").arg("v").invoke(&mut conn)?;
    assert_eq!(answer, ("rs:s".to_owned(), "v".to_owned()));
    let mut pipe = redis::pipe();
    for n in 0..500 {
        pipe.set(format!("rs:p{n}"), n)
            .ignore()
            .get(format!("rs:p{n}"));
    }
    let replies: Vec<usize> = pipe.query(&mut conn)?;
    assert_eq!(replies, (0..500).collect::<Vec<_>>());
    let found = conn.scan_match::<_, String>("rs:p*")?.count();
    assert_eq!(found, 500);
    Ok(())
}

fn redis_rs_collections(conn: &mut redis::Connection) -> Result<()> {
    conn.hset_multiple::<_, _, _, ()>("rs:h", &[("a", 1), ("b", 2)])?;
    let hash: HashMap<String, i64> = conn.hgetall("rs:h")?;
    assert_eq!(
        hash,
        HashMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)])
    );
    conn.rpush::<_, _, ()>("rs:l", &[1, 2, 3])?;
    let list: Vec<i64> = conn.lrange("rs:l", 0, -1)?;
    assert_eq!(list, [1, 2, 3]);
    conn.sadd::<_, _, ()>("rs:{t}1", &["a", "b"])?;
    conn.sadd::<_, _, ()>("rs:{t}2", &["b", "c"])?;
    let common: Vec<String> = conn.sinter(&["rs:{t}1", "rs:{t}2"])?;
    assert_eq!(common, ["b"]);
    conn.zadd_multiple::<_, _, _, ()>("rs:z", &[(1.5, "a"), (2.0, "b")])?;
    let scores: Vec<(String, f64)> = conn.zrange_withscores("rs:z", 0, -1)?;
    assert_eq!(scores, [("a".to_owned(), 1.5), ("b".to_owned(), 2.0)]);
    let id: String = conn.xadd("rs:x", "*", &[("f", "1")])?;
    let length: usize = conn.xlen("rs:x")?;
    assert_eq!(length, 1);
    conn.xgroup_create::<_, _, _, ()>("rs:x", "g", "0")?;
    let acknowledged: usize = conn.xack("rs:x", "g", &[id])?;
    assert_eq!(acknowledged, 0);
    Ok(())
}

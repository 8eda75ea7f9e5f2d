//! The first minutes of a newcomer, on every supported release: what `redis-cli` shows through the proxy is what one server
//! would show, for the commands of the README's first screen and for every data type.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Proxy, Reply, Version, tool};
use std::collections::BTreeSet;
use std::process::Command;

harness::on_release!(redis_6_2, Redis62, first_screen, every_data_type);
harness::on_release!(redis_7_0, Redis70, first_screen, every_data_type);
harness::on_release!(redis_8_2, Redis82, first_screen, every_data_type);
harness::on_release!(valkey_8_1, Valkey81, first_screen, every_data_type);
harness::on_release!(valkey_9_1, Valkey91, first_screen, every_data_type);

/// Runs redis-cli against the proxy and gives its output.
fn cli(proxy: &Proxy, arguments: &[&str]) -> Result<String> {
    let address = proxy.address();
    let output = Command::new(tool("redis-cli")?)
        .args([
            "-h",
            &address.ip().to_string(),
            "-p",
            &address.port().to_string(),
        ])
        .args(arguments)
        .output()
        .context("cannot run redis-cli")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && errors.is_empty(),
        "redis-cli {arguments:?}: {errors}"
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn first_screen(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    assert_eq!(cli(&proxy, &["SET", "foo", "bar"])?, "OK\n");
    assert_eq!(cli(&proxy, &["GET", "foo"])?, "bar\n");
    assert_eq!(
        cli(&proxy, &["MSET", "a", "1", "b", "2", "c", "3"])?,
        "OK\n"
    );
    assert_eq!(
        cli(&proxy, &["MGET", "a", "b", "c", "nothing"])?,
        "1\n2\n3\n\n"
    );
    assert_eq!(cli(&proxy, &["DBSIZE"])?, "4\n");
    let scanned = cli(&proxy, &["--scan"])?;
    let keys: BTreeSet<&str> = scanned.lines().collect();
    assert_eq!(keys, BTreeSet::from(["a", "b", "c", "foo"]));
    let hello = cli(&proxy, &["-3", "HELLO", "3"])?;
    ensure!(
        hello.contains("proto") && hello.contains("standalone"),
        "HELLO 3: {hello}"
    );
    assert_eq!(cli(&proxy, &["-3", "HGETALL", "nothing"])?, "\n");
    Ok(())
}

fn every_data_type(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    for (mut conn, prefix) in [(proxy.conn()?, "two"), (proxy.conn_resp3()?, "three")] {
        for [command, expected] in data_types(prefix) {
            let reply = conn.must(&command)?;
            assert_eq!(flat(&reply), expected, "{command}");
        }
        all_shards(&mut conn, prefix)?;
    }
    Ok(())
}

/// Commands with their replies, flattened to words, so that they are the same in RESP2 and RESP3.
fn data_types(prefix: &str) -> Vec<[String; 2]> {
    [
        ("SET @s 1", "OK"),
        ("INCRBY @s 41", "42"),
        ("APPEND @s x", "3"),
        ("GETRANGE @s 0 -1", "42x"),
        ("SETBIT @bits 7 1", "0"),
        ("BITCOUNT @bits", "1"),
        ("HSET @h f v g w", "2"),
        ("HGETALL @h", "f v g w"),
        ("RPUSH @l a b c", "3"),
        ("LRANGE @l 0 -1", "a b c"),
        ("SADD @set m", "1"),
        ("SMEMBERS @set", "m"),
        ("ZADD @z 1.5 one 2 two", "2"),
        ("ZRANGE @z 0 -1 WITHSCORES", "one 1.5 two 2"),
        ("XADD @x 5-1 f v", "5-1"),
        ("XRANGE @x - +", "5-1 f v"),
        ("XGROUP CREATE @x g 0", "OK"),
        ("XREADGROUP GROUP g c COUNT 1 STREAMS @x >", "@x 5-1 f v"),
        ("PFADD @hll a b", "1"),
        ("PFCOUNT @hll", "2"),
        ("GEOADD @geo 13.4 52.5 berlin", "1"),
        ("TYPE @geo", "zset"),
        ("EXPIRE @s 100", "1"),
        ("PERSIST @s", "1"),
        ("EVAL return{KEYS[1],ARGV[1]} 1 @s v", "@s v"),
        ("OBJECT ENCODING @s", "raw"),
    ]
    .map(|pair| [pair.0, pair.1].map(|text| text.replace('@', &format!("{prefix}:"))))
    .into()
}

/// The words of a reply, whatever its nesting.
fn flat(reply: &Reply) -> String {
    match reply {
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            items.iter().map(flat).collect::<Vec<_>>().join(" ")
        }
        Reply::Map(pairs) => {
            let words = pairs
                .iter()
                .map(|(key, value)| format!("{} {}", flat(key), flat(value)));
            words.collect::<Vec<_>>().join(" ")
        }
        Reply::Nil | Reply::NilArray => "(nil)".to_owned(),
        other => other.text().unwrap_or_else(|_| format!("{other:?}")),
    }
}

/// A pipeline over all shards, and the commands that the proxy spreads.
fn all_shards(conn: &mut Conn, prefix: &str) -> Result<()> {
    let keys: Vec<String> = (0..100).map(|n| format!("{prefix}:many:{n}")).collect();
    let mut commands: Vec<Vec<&str>> = keys.iter().map(|key| vec!["SET", key, key]).collect();
    commands.extend(keys.iter().map(|key| vec!["GET", key.as_str()]));
    let replies = conn.pipeline(&commands)?;
    for (reply, key) in replies[100..].iter().zip(&keys) {
        assert_eq!(reply.text()?, *key);
    }
    let with = |name: &'static str| -> Vec<&str> {
        std::iter::once(name)
            .chain(keys.iter().map(String::as_str))
            .collect()
    };
    assert_eq!(conn.call(&with("MGET"))?.texts()?, keys);
    assert_eq!(conn.call(&with("EXISTS"))?.int()?, 100);
    assert_eq!(conn.call(&with("TOUCH"))?.int()?, 100);
    assert_eq!(conn.call(&with("UNLINK"))?.int()?, 100);
    assert_eq!(conn.call(&with("DEL"))?.int()?, 0);
    Ok(())
}

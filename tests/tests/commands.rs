//! Commands over several shards: split, fanned out, and in the order they were sent.
//! Numbers in brackets are the scenarios and rules of the contract.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Proxy, Reply, Scene, Version, slot_of};
use std::collections::{BTreeSet, HashSet};

harness::on_full_matrix!(
    mget_keeps_positions_with_holes_and_duplicates,
    mget_of_one_slot_is_one_command_at_one_node,
    duplicates_count_as_one_server_counts_them,
    mset_stores_every_pair_and_the_last_duplicate_wins,
    fan_out_covers_every_shard,
    flushall_is_a_barrier_in_a_pipeline,
    alternating_writes_to_one_key_keep_their_order,
);

/// `name` with `count` keys `prefix:n`.
fn with_keys(name: &str, prefix: &str, count: usize) -> Vec<String> {
    let keys = (0..count).map(|n| format!("{prefix}:{n}"));
    std::iter::once(name.to_owned()).chain(keys).collect()
}

/// [scenario 12]
fn mget_keeps_positions_with_holes_and_duplicates(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    for mut conn in [scene.proxy.conn()?, scene.proxy.conn_resp3()?] {
        conn.must("FLUSHALL")?;
        for n in (0..1000).filter(|n| n % 3 != 0) {
            conn.send(&["SET", &format!("k:{n}"), &format!("v:{n}")])?;
        }
        conn.read_many(666)?;
        conn.must("RPUSH k:501 a")?;
        let mut command = with_keys("MGET", "k", 1000);
        command.extend(["k:1", "k:1", "k:0", "k:2"].map(str::to_owned));
        let reply = conn.call(&command)?;
        let items = reply.items()?;
        ensure!(items.len() == 1004, "{} elements", items.len());
        for (key, item) in command[1..].iter().zip(items) {
            let n: usize = key[2..].parse()?;
            let expected = if n.is_multiple_of(3) {
                Reply::Nil
            } else {
                Reply::Bulk(format!("v:{n}").into_bytes())
            };
            assert_eq!(*item, expected, "{key}");
        }
    }
    Ok(())
}

/// [R41] [P1]
fn mget_of_one_slot_is_one_command_at_one_node(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let keys: Vec<String> = (0..100).map(|n| format!("{{u}}{n}")).collect();
    let command: Vec<&str> = std::iter::once("MGET")
        .chain(keys.iter().map(String::as_str))
        .collect();
    let before = scene.cluster.calls("mget")?;
    ensure!(
        conn.call(&command)?
            .items()?
            .iter()
            .all(|item| *item == Reply::Nil)
    );
    assert_eq!(scene.cluster.calls("mget")? - before, 1);
    assert_eq!(scene.cluster.calls("get")?, 0);
    Ok(())
}

/// [scenario 14] [P4]
fn duplicates_count_as_one_server_counts_them(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    conn.must("MSET a 1 b 2 c 3")?;
    assert_eq!(conn.must("EXISTS a a b c none")?.int()?, 4);
    assert_eq!(conn.must("TOUCH a a b none")?.int()?, 3);
    assert_eq!(conn.must("DEL a a none b")?.int()?, 2);
    assert_eq!(conn.must("UNLINK c c")?.int()?, 1);
    assert_eq!(conn.must("DBSIZE")?.int()?, 0);
    Ok(())
}

/// [P5]
fn mset_stores_every_pair_and_the_last_duplicate_wins(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let pairs: Vec<String> = (0..500)
        .flat_map(|n| [format!("m:{n}"), format!("v:{n}")])
        .collect();
    let mut command = vec!["MSET".to_owned()];
    command.extend(pairs.iter().cloned());
    command.extend(["m:7", "last", "m:8", "x", "m:8", "y"].map(str::to_owned));
    ensure!(conn.call(&command)?.is_ok());
    for (n, pair) in pairs.chunks_exact(2).enumerate() {
        let expected = match n {
            7 => "last",
            8 => "y",
            _ => &pair[1],
        };
        assert_eq!(conn.call(&["GET", &pair[0]])?.text()?, expected);
    }
    let odd = conn.line("MSET a 1 b")?;
    assert_eq!(
        odd.error(),
        Some("ERR wrong number of arguments for 'mset' command")
    );
    Ok(())
}

/// [scenario 16] [Q3] [Q5]
fn fan_out_covers_every_shard(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    for mut conn in [scene.proxy.conn()?, scene.proxy.conn_resp3()?] {
        conn.must("FLUSHALL")?;
        assert_eq!(conn.must("RANDOMKEY")?, Reply::Nil);
        assert_eq!(conn.must("KEYS *")?, Reply::Array(Vec::new()));
        let keys: BTreeSet<String> = (0..300).map(|n| format!("f:{n}")).collect();
        for key in &keys {
            conn.send(&["SET", key, "1"])?;
        }
        conn.read_many(keys.len())?;
        assert_eq!(conn.must("DBSIZE")?.int()?, 300);
        let found = conn.must("KEYS *")?.texts()?;
        assert_eq!(found.len(), 300);
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), keys);
        let found: BTreeSet<String> = conn.must("KEYS f:1?")?.texts()?.into_iter().collect();
        assert_eq!(found, (10..20).map(|n| format!("f:{n}")).collect());
        let random: HashSet<String> = (0..200)
            .map(|_| conn.must("RANDOMKEY")?.text())
            .collect::<Result<_>>()?;
        ensure!(
            random.len() > 20,
            "RANDOMKEY gave only {} different keys",
            random.len()
        );
        ensure!(random.iter().all(|key| keys.contains(key)));
        let shards: HashSet<usize> = random
            .iter()
            .map(|key| shard(&scene.cluster, key))
            .collect();
        assert_eq!(shards.len(), 3, "RANDOMKEY never left some shard out");
        conn.must("FLUSHDB")?;
        assert_eq!(conn.must("DBSIZE")?.int()?, 0);
    }
    Ok(())
}

fn shard(cluster: &Cluster, key: &str) -> usize {
    let slot = slot_of(key.as_bytes());
    (0..cluster.primaries())
        .find(|n| cluster.initial_slots(*n).contains(&slot))
        .unwrap_or(0)
}

/// [scenario 17] [Q4] [O7]
fn flushall_is_a_barrier_in_a_pipeline(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    for round in 0..300 {
        let mut commands: Vec<Vec<String>> = (0..20)
            .map(|n| {
                vec![
                    "SET".to_owned(),
                    format!("before:{round}:{n}"),
                    "1".to_owned(),
                ]
            })
            .collect();
        commands.push(vec!["FLUSHALL".to_owned()]);
        let after = (0..5).map(|n| vec!["SET".to_owned(), format!("after:{n}"), "1".to_owned()]);
        commands.extend(after);
        commands.push(vec!["DBSIZE".to_owned()]);
        let replies = conn.pipeline(&commands)?;
        assert_eq!(
            replies.last().context("no replies")?.int()?,
            5,
            "round {round}"
        );
    }
    Ok(())
}

/// [R36]
fn alternating_writes_to_one_key_keep_their_order(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let config = "[upstream]\nconnections_per_node = 4\n";
    let wide = Proxy::new(&scene.cluster).config(config).start()?;
    for proxy in [&scene.proxy, &wide] {
        let mut conn = proxy.conn()?;
        let round = [
            "ZADD z 1 m",
            "ZREMRANGEBYSCORE z 1 1",
            "ZADD other 1 m",
            "RPUSH l x",
            "LPOP l",
        ];
        let commands: Vec<Vec<&str>> = (0..2000)
            .flat_map(|_| round)
            .map(|command| command.split(' ').collect())
            .collect();
        let replies = conn.pipeline(&commands)?;
        for (n, replies) in replies.chunks_exact(round.len()).enumerate() {
            assert_eq!(replies[0].int()?, 1, "ZADD in round {n}");
            assert_eq!(replies[1].int()?, 1, "ZREMRANGEBYSCORE in round {n}");
            assert_eq!(replies[3].int()?, 1, "RPUSH in round {n}");
            assert_eq!(replies[4].text()?, "x", "LPOP in round {n}");
        }
        conn.must("DEL other")?;
    }
    Ok(())
}

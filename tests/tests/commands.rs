//! Commands over several shards: split, fanned out, refused, or routed by the keys of a script.
//! Numbers in brackets are the scenarios and rules of the contract.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Proxy, Reply, SLOT_COUNT, Version, key_in_slot, slot_of};
use std::collections::{BTreeSet, HashSet};

harness::on_full_matrix!(
    mget_keeps_positions_with_holes_and_duplicates,
    mget_of_one_slot_is_one_command_at_one_node,
    duplicates_count_as_one_server_counts_them,
    mset_stores_every_pair_and_the_last_duplicate_wins,
    cross_slot_commands_are_refused_without_asking_a_node,
    fan_out_covers_every_shard,
    flushall_is_a_barrier_in_a_pipeline,
    scripts_are_loaded_everywhere_and_routed_by_key,
    script_commands_merge,
    scripts_with_bad_numkeys_get_the_servers_words,
    alternating_writes_to_one_key_keep_their_order,
    forbidden_commands_are_refused_without_asking_a_node,
    stateful_commands_are_refused_for_now,
);

const CROSSSLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";

struct Scene {
    cluster: Cluster,
    proxy: Proxy,
}

fn scene(version: Version) -> Result<Scene> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    Ok(Scene { cluster, proxy })
}

/// `name` with `count` keys `prefix:n`.
fn with_keys(name: &str, prefix: &str, count: usize) -> Vec<String> {
    let keys = (0..count).map(|n| format!("{prefix}:{n}"));
    std::iter::once(name.to_owned()).chain(keys).collect()
}

/// [scenario 12]
fn mget_keeps_positions_with_holes_and_duplicates(version: Version) -> Result<()> {
    let scene = scene(version)?;
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
    let scene = scene(version)?;
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
    let scene = scene(version)?;
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
    let scene = scene(version)?;
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

/// [scenario 11] [K7]
fn cross_slot_commands_are_refused_without_asking_a_node(version: Version) -> Result<()> {
    let scene = scene(version)?;
    let mut conn = scene.proxy.conn()?;
    let commands = [
        "SINTER a b",
        "SUNIONSTORE a b c",
        "MSETNX a 1 b 2",
        "RENAME a b",
        "PFCOUNT a b",
        "BITOP AND a b c",
        "ZUNIONSTORE a 2 b c",
        "SMOVE a b m",
        "EVAL return 2 a b",
        "LMOVE a b LEFT RIGHT",
        "XREAD STREAMS a b 0 0",
        "COPY a b",
    ];
    for command in commands {
        let name = command.split(' ').next().unwrap_or_default().to_lowercase();
        let before = scene.cluster.calls(&name)?;
        assert_eq!(conn.line(command)?.error(), Some(CROSSSLOT), "{command}");
        assert_eq!(
            scene.cluster.calls(&name)?,
            before,
            "{command} reached a node"
        );
    }
    // With one hash tag the same commands are the server's business.
    conn.must("SADD {t}a 1 2")?;
    conn.must("SADD {t}b 2 3")?;
    assert_eq!(conn.must("SINTER {t}a {t}b")?.texts()?, ["2"]);
    conn.must("RENAME {t}a {t}c")?;
    assert_eq!(conn.must("MSETNX {t}x 1 {t}y 2")?.int()?, 1);
    Ok(())
}

/// [scenario 16] [Q3] [Q5]
fn fan_out_covers_every_shard(version: Version) -> Result<()> {
    let scene = scene(version)?;
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
    let scene = scene(version)?;
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

/// [scenario 18] [Q6] [R37] [R38]
fn scripts_are_loaded_everywhere_and_routed_by_key(version: Version) -> Result<()> {
    let scene = scene(version)?;
    let mut conn = scene.proxy.conn()?;
    let script = "return {KEYS[1], ARGV[1], redis.call('incr', KEYS[1])}";
    let sha = conn.call(&["SCRIPT", "LOAD", script])?.text()?;
    for shard in 0..3 {
        let key = key_in_slot(*scene.cluster.initial_slots(shard).start(), 1);
        let reply = conn.call(&["EVALSHA", &sha, "1", &key, "v"])?;
        assert_eq!(reply.texts()?, [&key, "v", "1"]);
        let reply = conn.call(&["EVAL", script, "1", &key, "v"])?;
        assert_eq!(reply.texts()?, [&key, "v", "2"]);
        let tagged = [key.clone(), format!("{key}x")];
        let both = "return {KEYS[1], KEYS[2]}";
        let reply = conn.call(&["EVAL", both, "2", &tagged[0], &tagged[1]])?;
        assert_eq!(reply.texts()?, tagged);
    }
    assert_eq!(
        conn.call(&["EVAL", "return ARGV[1]", "0", "x"])?.text()?,
        "x"
    );
    let unknown = conn.line("EVALSHA ffffffffffffffffffffffffffffffffffffffff 1 k")?;
    ensure!(
        unknown
            .error()
            .is_some_and(|text| text.starts_with("NOSCRIPT ")),
        "{unknown:?}"
    );
    Ok(())
}

/// [Q6]
fn script_commands_merge(version: Version) -> Result<()> {
    let scene = scene(version)?;
    let mut conn = scene.proxy.conn()?;
    let sha = conn.call(&["SCRIPT", "LOAD", "return 1"])?.text()?;
    // Known by one node only: not known.
    let half = scene
        .cluster
        .node(0)?
        .conn()?
        .call(&["SCRIPT", "LOAD", "return 2"])?
        .text()?;
    let none = "f".repeat(40);
    let exists = conn.call(&["SCRIPT", "EXISTS", &sha, &half, &none])?;
    assert_eq!(exists.texts()?, ["1", "0", "0"]);
    ensure!(conn.line("SCRIPT FLUSH")?.is_ok());
    assert_eq!(conn.call(&["SCRIPT", "EXISTS", &sha])?.texts()?, ["0"]);
    let kill = conn.line("SCRIPT KILL")?;
    ensure!(
        kill.error()
            .is_some_and(|text| text.starts_with("NOTBUSY ")),
        "{kill:?}"
    );
    let broken = conn.call(&["SCRIPT", "LOAD", "return ("])?;
    ensure!(
        broken.error().is_some_and(|text| text.starts_with("ERR ")),
        "{broken:?}"
    );
    Ok(())
}

/// [scenario 7] [K4]
fn scripts_with_bad_numkeys_get_the_servers_words(version: Version) -> Result<()> {
    let scene = scene(version)?;
    let mut conn = scene.proxy.conn()?;
    let mut direct = scene.cluster.node(0)?.conn()?;
    for command in [
        "EVAL s x",
        "EVAL s -1",
        "EVAL s 5 a b",
        "EVAL s",
        "EVALSHA s 99999999999999999999 a",
        "ZUNION x a",
        "ZUNION 0 a",
        "SINTERCARD 0 a",
        "LMPOP -1 a LEFT",
        "XREAD STREAMS a b 0",
    ] {
        let (through, expected) = (conn.line(command)?, direct.line(command)?);
        ensure!(
            expected.error().is_some(),
            "{command} is no error at the server: {expected:?}"
        );
        assert_eq!(through, expected, "{command}");
    }
    Ok(())
}

/// [R36]
fn alternating_writes_to_one_key_keep_their_order(version: Version) -> Result<()> {
    let scene = scene(version)?;
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

/// [scenario 114]: every forbidden row of the command table.
fn forbidden_commands_are_refused_without_asking_a_node(version: Version) -> Result<()> {
    let scene = scene(version)?;
    let mut conn = scene.proxy.conn()?;
    let rows = include_str!("../../core/src/command/commands.csv");
    let mut tried = 0;
    for row in rows.lines().skip(1) {
        let fields: Vec<&str> = row.splitn(5, ',').collect();
        let [command, subcommand, _, "forbidden", _] = fields.as_slice() else {
            continue;
        };
        // Names of HTTP requests close the connection; see the protocol tests.
        if ["POST", "HOST:"].contains(command) {
            continue;
        }
        let name = [*command, *subcommand].map(str::to_lowercase).join("|");
        let name = name.trim_end_matches('|');
        let mut words: Vec<&str> = vec![command];
        words.extend(Some(*subcommand).filter(|word| !word.is_empty()));
        let before = scene.cluster.calls(name)?;
        let reply = call_with_enough_arguments(&mut conn, &words)?;
        let expected = format!("ERR proxy: command '{name}' is not supported through this proxy");
        assert_eq!(reply.error(), Some(expected.as_str()), "{name}");
        assert_eq!(scene.cluster.calls(name)?, before, "{name} reached a node");
        tried += 1;
    }
    ensure!(tried > 80, "only {tried} forbidden commands in the table");
    ensure!(conn.line("PING")?.text()? == "PONG");
    Ok(())
}

/// Adds arguments until the command has as many as it wants.
fn call_with_enough_arguments(conn: &mut Conn, words: &[&str]) -> Result<Reply> {
    let mut command = words.to_vec();
    loop {
        let reply = conn.call(&command)?;
        let wrong = reply
            .error()
            .is_some_and(|text| text.contains("wrong number of arguments"));
        if !wrong || command.len() > words.len() + 8 {
            return Ok(reply);
        }
        command.push("1");
    }
}

/// What keeps state on a connection is not there yet; it must be refused, never forwarded.
fn stateful_commands_are_refused_for_now(version: Version) -> Result<()> {
    let scene = scene(version)?;
    let mut conn = scene.proxy.conn()?;
    for command in [
        "MULTI",
        "WATCH k",
        "SUBSCRIBE c",
        "PSUBSCRIBE p*",
        "SSUBSCRIBE c",
        "MONITOR",
        "BLPOP k 1",
        "BLMOVE a{t} b{t} LEFT RIGHT 1",
        "BZPOPMIN k 1",
        "XREAD BLOCK 1 STREAMS k 0",
        "CLIENT TRACKING ON",
    ] {
        let reply = conn.line(command)?;
        ensure!(
            reply.error().is_some_and(|text| text.starts_with("ERR ")),
            "{command}: {reply:?}"
        );
    }
    ensure!(conn.must("SET k v")?.is_ok());
    assert_eq!(conn.must("GET k")?.text()?, "v");
    Ok(())
}

#[test]
fn slots_of_the_harness_are_those_of_the_servers() -> Result<()> {
    harness::case(|| {
        let node = harness::Node::launch(harness::NodeOptions {
            version: Version::Redis70,
            cluster: true,
            relayed: false,
            settings: Vec::new(),
            address: None,
        });
        let mut node = node?;
        node.wait_started()?;
        let mut conn = node.conn()?;
        for key in [
            "foo",
            "{user1000}.following",
            "foo{}{bar}",
            "foo{{bar}}zap",
            "foo{bar}{zap}",
            "",
        ] {
            let slot = conn.call(&["CLUSTER", "KEYSLOT", key])?.int()?;
            assert_eq!(slot, i64::from(slot_of(key.as_bytes())), "{key}");
        }
        for slot in [0, 1, 8191, SLOT_COUNT - 1] {
            assert_eq!(slot_of(key_in_slot(slot, 3).as_bytes()), slot);
        }
        Ok(())
    })
}

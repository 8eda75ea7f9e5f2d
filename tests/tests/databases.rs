//! Numbered databases on real clusters: each session is in its own, over connections that all share. Numbers in brackets are the rules
//! of the contract.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Proxy, Reply, Scene, Version, key_in_slot, wait_until};

harness::on_release!(
    valkey_9_1,
    Valkey91,
    sessions_in_sixteen_databases_share_connections,
    errors_are_those_of_the_servers,
    what_concerns_a_whole_database_does_so_in_that_of_the_session,
    keys_go_from_one_database_to_another,
    transactions_with_select_do_as_at_a_server,
    who_waits_waits_in_his_database,
    scripts_and_big_values_stay_in_their_database,
    keyspace_notifications_name_the_database,
    a_failover_mixes_nothing_up,
);

harness::on_release!(redis_7_0, Redis70, a_cluster_without_databases_refuses_them);

const SOON: Duration = Duration::from_secs(20);

/// A cluster with so many databases, and a proxy.
fn scene(version: Version, databases: u16) -> Result<Scene> {
    let cluster = Cluster::new(version)
        .replicas(0)
        .setting("cluster-databases", &databases.to_string())
        .start()?;
    let proxy = Proxy::new(&cluster).start()?;
    Ok(Scene { cluster, proxy })
}

fn conn_in(proxy: &Proxy, database: u16) -> Result<Conn> {
    let mut conn = proxy.conn()?;
    conn.must(&format!("SELECT {database}"))?;
    Ok(conn)
}

/// Keys of all three shards.
fn keys(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("key:{n}")).collect()
}

/// [scenario 109] [N21] [R34]
fn sessions_in_sixteen_databases_share_connections(version: Version) -> Result<()> {
    let scene = scene(version, 16)?;
    let proxy = &scene.proxy;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..32_u16)
            .map(|n| scope.spawn(move || one_of_many(proxy, n)))
            .collect();
        clients.into_iter().try_for_each(|client| {
            let done = client.join();
            done.map_err(|_panic| anyhow::anyhow!("a client has panicked"))?
        })
    })?;
    // Each worker has one connection for each database, whoever uses it.
    for node in scene.cluster.nodes() {
        let clients = node.must("CLIENT LIST")?.text()?;
        let from_proxy = clients
            .lines()
            .filter(|line| line.contains(" name=slotway "));
        let mut databases: Vec<&str> = from_proxy
            .filter_map(|line| line.split(' ').find(|field| field.starts_with("db=")))
            .collect();
        ensure!(
            databases.len() <= 2 * 16 + 2,
            "{} connections",
            databases.len()
        );
        databases.sort_unstable();
        databases.dedup();
        assert_eq!(databases.len(), 16);
    }
    let mut conn = conn_in(proxy, 15)?;
    let error = conn.line("SELECT 99")?;
    assert_eq!(error.error(), Some("ERR DB index is out of range"));
    ensure!(conn.must("CLIENT INFO")?.text()?.contains(" db=15 "));
    Ok(())
}

/// Two clients of each database write the same keys as all others, and find what was written in theirs.
fn one_of_many(proxy: &Proxy, client: u16) -> Result<()> {
    let database = client % 16;
    let mut conn = conn_in(proxy, database)?;
    for round in 0..20 {
        let mut batch: Vec<Vec<String>> = Vec::new();
        for key in keys(20) {
            let value = format!("{database}");
            batch.push(vec!["SET".into(), key.clone(), value]);
            batch.push(vec!["GET".into(), key]);
            batch.push(vec!["INCR".into(), format!("count:{client}")]);
        }
        let replies = conn.pipeline(&batch)?;
        for (number, reply) in (1_i64..).zip(replies.chunks(3)) {
            ensure!(reply[0].is_ok(), "{reply:?}");
            assert_eq!(reply[1].text()?, database.to_string());
            assert_eq!(reply[2].int()?, round * 20 + number);
        }
    }
    Ok(())
}

/// [N21]
fn errors_are_those_of_the_servers(version: Version) -> Result<()> {
    let scene = scene(version, 4)?;
    let mut conn = scene.proxy.conn()?;
    let mut server = scene.cluster.node(0)?.conn()?;
    for index in [
        "4",
        "16",
        "-1",
        "abc",
        "",
        "+1",
        "01",
        "4294967296",
        "99999999999999999999",
        "3",
        "0",
        "70000",
    ] {
        let expected = server.call(&["SELECT", index])?;
        assert_eq!(conn.call(&["SELECT", index])?, expected, "{index}");
    }
    for command in ["SELECT", "SELECT 1 2"] {
        assert_eq!(conn.line(command)?, server.line(command)?);
    }
    let databases = conn.must("CONFIG GET databases")?.texts()?;
    assert_eq!(databases, ["databases", "4"]);
    assert!(conn.line("SWAPDB 0 1")?.error().is_some());
    Ok(())
}

/// [scenario 110] [N22]
fn a_cluster_without_databases_refuses_them(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let mut server = scene.cluster.node(0)?.conn()?;
    for command in [
        "SELECT 0",
        "SELECT 1",
        "SELECT -1",
        "SELECT abc",
        "SELECT 4294967296",
    ] {
        assert_eq!(conn.line(command)?, server.line(command)?, "{command}");
    }
    let refused = conn.line("SELECT 1")?;
    let expected = "ERR SELECT is not allowed in cluster mode";
    assert_eq!(refused.error(), Some(expected));
    for command in ["MULTI", "SELECT 1", "SET k v"] {
        conn.must(command)?;
    }
    let executed = conn.must("EXEC")?;
    assert_eq!(executed.items()?[0].error(), Some(expected));
    assert!(executed.items()?[1].is_ok());
    Ok(())
}

fn what_concerns_a_whole_database_does_so_in_that_of_the_session(version: Version) -> Result<()> {
    let scene = scene(version, 4)?;
    let mut zero = scene.proxy.conn()?;
    let mut one = conn_in(&scene.proxy, 1)?;
    for key in keys(30) {
        one.must(&format!("SET {key} v"))?;
    }
    zero.must("SET only:zero v")?;
    assert_eq!(zero.must("DBSIZE")?.int()?, 1);
    assert_eq!(one.must("DBSIZE")?.int()?, 30);
    assert_eq!(zero.must("KEYS *")?.texts()?, ["only:zero"]);
    assert_eq!(one.must("KEYS *")?.items()?.len(), 30);
    assert_eq!(zero.must("RANDOMKEY")?.text()?, "only:zero");
    ensure!(one.must("RANDOMKEY")?.text()?.starts_with("key:"));
    let (mut cursor, mut seen) = ("0".to_owned(), Vec::new());
    loop {
        let reply = one.must(&format!("SCAN {cursor} COUNT 7"))?;
        cursor = reply.items()?[0].text()?;
        seen.extend(reply.items()?[1].texts()?);
        if cursor == "0" {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 30);
    assert_eq!(one.must("MGET key:1 key:2 key:3")?.texts()?, ["v"; 3]);
    wait_until(SOON, "INFO names both databases", || {
        let keyspace = zero.must("INFO keyspace")?.text()?;
        Ok(keyspace.contains("db0:keys=1,") && keyspace.contains("db1:keys=30,"))
    })?;
    zero.must("FLUSHDB")?;
    assert_eq!(one.must("DBSIZE")?.int()?, 30);
    zero.must("SET only:zero v")?;
    one.must("FLUSHDB")?;
    assert_eq!(zero.must("DBSIZE")?.int()?, 1);
    one.must("SET k v")?;
    zero.must("FLUSHALL")?;
    assert_eq!(one.must("DBSIZE")?.int()?, 0);
    one.must("SET k v")?;
    one.must("RESET")?;
    assert_eq!(one.must("EXISTS k")?.int()?, 0, "in database 0 again");
    Ok(())
}

fn keys_go_from_one_database_to_another(version: Version) -> Result<()> {
    let scene = scene(version, 4)?;
    let mut conn = scene.proxy.conn()?;
    for round in 0..50 {
        // In one go, so that what is read in another database would come too early.
        let batch: Vec<Vec<String>> = keys(10)
            .iter()
            .flat_map(|key| {
                let value = format!("{key}:{round}");
                [
                    format!("SET {key} {value}"),
                    format!("MOVE {key} 1"),
                    "SELECT 1".into(),
                    format!("GET {key}"),
                    format!("COPY {key} {key} DB 2 REPLACE"),
                    "SELECT 2".into(),
                    format!("GETDEL {key}"),
                    "SELECT 1".into(),
                    format!("DEL {key}"),
                    "SELECT 0".into(),
                ]
            })
            .map(|line| line.split(' ').map(str::to_owned).collect())
            .collect();
        let replies = conn.pipeline(&batch)?;
        for (key, reply) in keys(10).iter().zip(replies.chunks(10)) {
            let value = format!("{key}:{round}");
            assert_eq!(reply[1].int()?, 1, "{reply:?}");
            assert_eq!(reply[3].text()?, value);
            assert_eq!(reply[4].int()?, 1, "{reply:?}");
            assert_eq!(reply[6].text()?, value);
            assert_eq!(reply[8].int()?, 1, "{reply:?}");
        }
    }
    let error = conn.line("MOVE nothing 9")?;
    assert_eq!(error.error(), Some("ERR DB index is out of range"));
    Ok(())
}

/// The replies to `lines` in one go, and the database that the client is in then.
fn replies(conn: &mut Conn, lines: &[&str]) -> Result<(Vec<Reply>, String)> {
    let words = |line: &&str| line.split(' ').map(str::to_owned).collect();
    let batch: Vec<Vec<String>> = lines.iter().map(words).collect();
    let replies = conn.pipeline(&batch)?;
    let info = conn.must("CLIENT INFO")?.text()?;
    let database = info.split(' ').find(|field| field.starts_with("db="));
    Ok((replies, database.context("no db=")?.to_owned()))
}

/// [M4] [W4], compared with a node that owns the slot.
fn transactions_with_select_do_as_at_a_server(version: Version) -> Result<()> {
    let scene = scene(version, 4)?;
    let key = &key_in_slot(0, 1);
    let owner = scene.cluster.node(scene.cluster.primary_of(0)?)?;
    let scripts = [
        "MULTI,SET k 0,SELECT 1,SET k 1,GET k,SELECT 2,EXEC,GET k",
        "MULTI,SELECT 1,SELECT 9,SELECT x,EXEC,SET k one,GET k",
        "MULTI,SELECT 3,PING,EXEC,GET k",
        "MULTI,SELECT 3,DISCARD,GET k",
        "MULTI,SELECT 3,NOSUCH,EXEC,GET k",
        "WATCH k,SET k changed,MULTI,SELECT 1,SET k 1,EXEC,GET k",
        "WATCH k,SELECT 1,SET k elsewhere,MULTI,SET k 1,GET k,EXEC,GET k",
        "WATCH k,SELECT 1,WATCH k,SET k here,MULTI,SET k 1,EXEC,GET k",
        "WATCH k,SELECT 1,MULTI,GET k,SELECT 0,INCR n,EXEC,SELECT 0,GET k",
        "SELECT 2,WATCH k,SELECT 0,SELECT 8,UNWATCH,SET k 0,MULTI,GET k,EXEC",
    ];
    for script in scripts {
        let script = script.replace(" k", &format!(" {key}"));
        let script = script.replace(" n", &format!(" {}", key_in_slot(0, 2)));
        let lines: Vec<&str> = script.split(',').collect();
        let mut outcomes = Vec::new();
        for mut conn in [owner.conn()?, scene.proxy.conn()?] {
            scene.proxy.conn()?.must("FLUSHALL")?;
            outcomes.push(replies(&mut conn, &lines)?);
        }
        let from_proxy = outcomes.pop();
        assert_eq!(from_proxy, outcomes.pop(), "{script}");
    }
    Ok(())
}

fn who_waits_waits_in_his_database(version: Version) -> Result<()> {
    let scene = scene(version, 4)?;
    let mut waiting = conn_in(&scene.proxy, 2)?;
    let mut other = scene.proxy.conn()?;
    for round in 0..3 {
        waiting.send(&["BLPOP", "list", "0"])?;
        wait_until(SOON, "the client waits", || {
            let list = other.must("CLIENT LIST")?.text()?;
            Ok(list.lines().any(|line| line.contains(" flags=b ")))
        })?;
        other.must("SELECT 0")?;
        other.must("RPUSH list zero")?;
        other.must("SELECT 2")?;
        other.must(&format!("RPUSH list two:{round}"))?;
        let popped = waiting.read()?.texts()?;
        assert_eq!(popped, ["list".to_owned(), format!("two:{round}")]);
    }
    other.must("SELECT 0")?;
    assert_eq!(other.must("LLEN list")?.int()?, 3);
    waiting.must("SELECT 0")?;
    assert_eq!(waiting.must("BLPOP list 0")?.texts()?, ["list", "zero"]);
    Ok(())
}

fn scripts_and_big_values_stay_in_their_database(version: Version) -> Result<()> {
    let scene = scene(version, 4)?;
    let mut conn = conn_in(&scene.proxy, 3)?;
    let script = "return redis.call('INCR', KEYS[1])";
    let sha = conn.call(&["SCRIPT", "LOAD", script])?.text()?;
    for node in scene.cluster.nodes() {
        node.must("SCRIPT FLUSH")?;
    }
    for key in keys(6) {
        assert_eq!(conn.call(&["EVALSHA", &sha, "1", &key])?.int()?, 1);
        // What a script selects ends with it.
        let select = "redis.call('SELECT', 1) return redis.call('SET', KEYS[1], 'x')";
        conn.call(&["EVAL", select, "1", &key])?;
        assert_eq!(conn.call(&["GET", &key])?.text()?, "1");
    }
    let big = "b".repeat(6 << 20);
    conn.call(&["SET", "big", &big])?;
    assert_eq!(conn.must("GET big")?.text()?.len(), big.len());
    assert_eq!(conn.must("DBSIZE")?.int()?, 7);
    conn.must("SELECT 0")?;
    assert_eq!(conn.must("DBSIZE")?.int()?, 0);
    Ok(())
}

fn keyspace_notifications_name_the_database(version: Version) -> Result<()> {
    let cluster = Cluster::new(version)
        .replicas(0)
        .setting("cluster-databases", "4")
        .setting("notify-keyspace-events", "KEA")
        .start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let mut events = proxy.conn()?;
    events.must("PSUBSCRIBE __keyspace@1__:*")?;
    let mut zero = proxy.conn()?;
    let mut one = conn_in(&proxy, 1)?;
    for key in keys(12) {
        zero.must(&format!("SET {key} v"))?;
        one.must(&format!("SET {key} v"))?;
        let message = events.read()?.texts()?;
        assert_eq!(
            message[2..],
            [format!("__keyspace@1__:{key}"), "set".into()]
        );
    }
    Ok(())
}

/// [N21] [D11]: increments of the same key in every database while a primary is replaced twice.
fn a_failover_mixes_nothing_up(version: Version) -> Result<()> {
    let mut cluster = Cluster::new(version)
        .setting("cluster-databases", "4")
        .start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let key = key_in_slot(0, 1);
    let stop = AtomicBool::new(false);
    let tallies = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|n| {
                let (proxy, key, stop) = (&proxy, &key, &stop);
                scope.spawn(move || increments(proxy, n % 4, key, stop))
            })
            .collect();
        let disturbed = disturb(&mut cluster);
        stop.store(true, Ordering::Relaxed);
        let tallies: Result<Vec<_>> = clients
            .into_iter()
            .map(|client| {
                let done = client.join();
                done.map_err(|_panic| anyhow::anyhow!("a client has panicked"))?
            })
            .collect();
        disturbed.and(tallies)
    })?;
    for database in 0..4_u16 {
        let of_this = tallies.iter().filter(|tally| tally.0 == database);
        let (done, uncertain) =
            of_this.fold((0, 0), |sum, tally| (sum.0 + tally.1, sum.1 + tally.2));
        let mut conn = conn_in(&proxy, database)?;
        let found = conn.call(&["GET", &key])?.text()?.parse::<i64>()?;
        ensure!(done > 0, "database {database}: nothing was done");
        // What a primary had not passed on when it was killed is lost, but nothing comes to a database from elsewhere.
        ensure!(
            found <= done + uncertain,
            "database {database}: {found}, {done} done, {uncertain} in doubt"
        );
        assert_eq!(conn.must("GET mark")?.text()?, database.to_string());
    }
    Ok(())
}

fn disturb(cluster: &mut Cluster) -> Result<()> {
    let primary = cluster.primary_of(0)?;
    cluster.failover(cluster.replica_of(primary)?)?;
    cluster.wait_replicas_synced()?;
    let (_, replica) = cluster.kill_primary_of(0)?;
    cluster.wait_promoted(replica)?;
    Ok(())
}

/// The database, the increments that were acknowledged, and those in doubt.
fn increments(
    proxy: &Proxy,
    database: u16,
    key: &str,
    stop: &AtomicBool,
) -> Result<(u16, i64, i64)> {
    let mut conn = conn_in(proxy, database)?;
    conn.call(&["SET", "mark", &database.to_string()])?;
    let (mut done, mut uncertain) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let reply = conn.call(&["INCR", key])?;
        match reply.error() {
            None => done += 1,
            Some(text) if text.starts_with("UNCERTAIN ") => uncertain += 1,
            Some(_) => {}
        }
        assert_eq!(conn.must("GET mark")?.text()?, database.to_string());
    }
    Ok((database, done, uncertain))
}

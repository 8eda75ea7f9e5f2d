//! The proxy in front of one server, and in front of a primary that Sentinels watch: no command is split, or refused for its keys'
//! slots [H7], and there are databases [N21]. What single commands answer is compared with a server in `differential.rs`. Numbers in
//! brackets are the rules of the contract.

use anyhow::{Context, Result, ensure};
use harness::{Conn, Proxy, Reply, Unsplit, Version, wait_until};
use std::collections::BTreeSet;
use std::time::Duration;

harness::on_full_matrix!(
    in_front_of_one_server_h7,
    in_front_of_a_primary_that_sentinels_watch_h7,
);

const SOON: Duration = Duration::from_secs(5);

type Check = fn(&Unsplit) -> Result<()>;

const CHECKS: [(&str, Check); 7] = [
    ("commands", commands_over_many_slots_are_one),
    ("transactions", transactions_and_watches_over_many_slots),
    ("blocking", blocking_and_subscribing_over_many_slots),
    ("waiting", many_wait_for_many_keys),
    ("scripts", scripts_with_many_keys),
    ("databases", sessions_in_databases_meet_nobody_elses_keys),
    ("scopes", transactions_scripts_and_waiting_in_a_database),
];

fn in_front_of_one_server_h7(version: Version) -> Result<()> {
    run(&Unsplit::server(version)?)
}

fn in_front_of_a_primary_that_sentinels_watch_h7(version: Version) -> Result<()> {
    run(&Unsplit::sentinels(version)?)
}

fn run(upstream: &Unsplit) -> Result<()> {
    for (name, check) in CHECKS {
        for command in ["FLUSHALL", "FUNCTION FLUSH", "CONFIG RESETSTAT"] {
            upstream.primary()?.must(command)?;
        }
        check(upstream).context(name)?;
    }
    Ok(())
}

/// Keys of as many slots.
fn keys(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("key:{n}")).collect()
}

fn words<'a>(before: &[&'a str], keys: &'a [String], after: &[&'a str]) -> Vec<&'a str> {
    let keys = keys.iter().map(String::as_str);
    let before = before.iter().copied();
    before.chain(keys).chain(after.iter().copied()).collect()
}

/// Keys of many slots in one command: the server executes it whole, in its own way.
fn commands_over_many_slots_are_one(upstream: &Unsplit) -> Result<()> {
    let (server, proxy) = (upstream.primary()?, &upstream.proxy);
    let mut conn = proxy.conn()?;
    ensure!(conn.must("MSET a 1 b 2 c 3")?.is_ok());
    assert_eq!(conn.must("MGET a b c")?.texts()?, ["1", "2", "3"]);
    assert_eq!((server.calls("mset")?, server.calls("mget")?), (1, 1));
    assert_eq!(conn.must("MSETNX d 1 a 9")?.int()?, 0);
    conn.must("SADD s1 x y")?;
    conn.must("SADD s2 z")?;
    assert_eq!(conn.must("SUNIONSTORE all s1 s2")?.int()?, 3);
    ensure!(conn.must("RENAME all other")?.is_ok());
    let script = "return redis.call('INCRBY', KEYS[1], redis.call('GET', KEYS[2]))";
    let reply = conn.call(&["EVAL", script, "2", "a", "b"])?;
    assert_eq!(reply.int()?, 3);
    conn.must("RPUSH list a b")?;
    let sorted = conn.must("SORT list BY * GET *")?;
    assert_eq!(sorted.texts()?, ["2", "3"]);
    assert_eq!(conn.must("DEL a b c s1 s2 other list")?.int()?, 7);
    assert_eq!(server.calls("del")?, 1);
    assert_eq!(conn.must("DBSIZE")?.int()?, 0);
    let missing = conn.line("CLUSTER COUNTKEYSINSLOT 1")?;
    ensure!(
        missing.error().is_some_and(|text| text.contains("proxy: ")),
        "{missing:?}"
    );
    let shards = conn.must("CLUSTER SLOTS")?;
    assert_eq!(shards.items()?.len(), 1, "the emulation is as before");
    // What is over one connection stays in order, whatever the slots.
    let commands: Vec<Vec<String>> = (0..500)
        .flat_map(|n| {
            [
                vec![
                    "MSET".to_owned(),
                    "x".to_owned(),
                    n.to_string(),
                    "y".to_owned(),
                    n.to_string(),
                ],
                vec!["GET".to_owned(), "y".to_owned()],
            ]
        })
        .collect();
    for (n, pair) in conn.pipeline(&commands)?.chunks(2).enumerate() {
        assert_eq!(pair[1].text()?, n.to_string());
    }
    Ok(())
}

fn transactions_and_watches_over_many_slots(upstream: &Unsplit) -> Result<()> {
    let proxy = &upstream.proxy;
    let (mut conn, mut other) = (proxy.conn()?, proxy.conn()?);
    for command in [
        "MULTI", "SET a 1", "SET b 2", "MGET a b", "DBSIZE", "KEYS ?",
    ] {
        conn.must(command)?;
    }
    let reply = conn.must("EXEC")?;
    let items = reply.items()?;
    assert_eq!(items.len(), 5);
    assert_eq!(items[2].texts()?, ["1", "2"]);
    assert_eq!(items[3].int()?, 2);
    assert_eq!(items[4].items()?.len(), 2);
    for (changed, is_executed) in [("unwatched", true), ("b", false)] {
        conn.must("WATCH a")?;
        conn.must("WATCH b c")?;
        other.must(&format!("SET {changed} 9"))?;
        conn.must("MULTI")?;
        conn.must("SET d 1")?;
        let reply = conn.must("EXEC")?;
        let executed = matches!(&reply, Reply::Array(items) if items.len() == 1);
        ensure!(executed == is_executed, "{changed}: {reply:?}");
    }
    Ok(())
}

fn blocking_and_subscribing_over_many_slots(upstream: &Unsplit) -> Result<()> {
    let (server, proxy) = (upstream.primary()?, &upstream.proxy);
    server.must("CONFIG SET notify-keyspace-events KEA")?;
    let (mut conn, mut other) = (proxy.conn()?, proxy.conn()?);
    conn.send(&["BLPOP", "a", "b", "c", "10"])?;
    wait_until(Duration::from_secs(5), "the client waits", || {
        Ok(server.info("clients", "blocked_clients")? == "1")
    })?;
    other.must("RPUSH c x")?;
    assert_eq!(conn.read()?.texts()?, ["c", "x"]);
    for channel in ["SSUBSCRIBE one two three", "PSUBSCRIBE __keyspace@0__:*"] {
        let words: Vec<&str> = channel.split(' ').collect();
        conn.send(&words)?;
        conn.read_many(words.len() - 1)?;
    }
    other.must("SPUBLISH two m")?;
    assert_eq!(conn.read()?.texts()?, ["smessage", "two", "m"]);
    other.must("SET key v")?;
    let message = conn.read()?;
    assert_eq!(message.items()?[3].text()?, "set");
    ensure!(
        !conn.has_reply_within(Duration::from_millis(200))?,
        "the notification came twice"
    );
    Ok(())
}

/// Each of many clients waits for many keys, by every command that can; what is pushed is had once.
fn many_wait_for_many_keys(upstream: &Unsplit) -> Result<()> {
    let (server, proxy) = (upstream.primary()?, &upstream.proxy);
    let keys = keys(40);
    let mut other = proxy.conn()?;
    let mut waiting = Vec::new();
    for client in 0..10 {
        let mut conn = proxy.conn()?;
        // The keys of each begin with another one.
        let mut order = keys.clone();
        order.rotate_left(client * 4);
        conn.send(&words(&["BRPOP"], &order, &["20"]))?;
        waiting.push(conn);
    }
    are_blocked(upstream, waiting.len())?;
    for key in keys.iter().step_by(4) {
        other.must(&format!("LPUSH {key} {key}"))?;
    }
    let mut had = BTreeSet::new();
    for conn in &mut waiting {
        let [key, value]: [String; 2] = conn.read()?.texts()?.try_into().unwrap_or_default();
        ensure!(key == value && had.insert(key), "{value}");
    }
    for (wait, push, expected) in [
        ("BLMOVE from to LEFT RIGHT 20", "RPUSH from m", "m"),
        ("BLMPOP 20 3 l1 l2 l3 LEFT COUNT 5", "RPUSH l3 a b", "l3"),
        ("BZPOPMIN z1 z2 z3 20", "ZADD z2 1 a 2 b", "z2"),
        ("BZMPOP 20 3 y1 y2 y3 MAX", "ZADD y3 1 a 2 b", "y3"),
        (
            "XREAD BLOCK 20000 STREAMS s1 s2 s3 $ $ $",
            "XADD s3 1-1 f v",
            "s3",
        ),
    ] {
        let conn = waiting.first_mut().context("a client")?;
        conn.send(&wait.split(' ').collect::<Vec<_>>())?;
        are_blocked(upstream, 1).context(wait)?;
        other.must(push)?;
        let reply = conn.read()?;
        ensure!(reply.shown().contains(expected), "{wait}: {reply:?}");
    }
    assert_eq!(server.must("LLEN to")?.int()?, 1);
    Ok(())
}

fn are_blocked(upstream: &Unsplit, count: usize) -> Result<()> {
    let server = upstream.primary()?;
    wait_until(SOON, "the clients wait", || {
        Ok(server.info("clients", "blocked_clients")? == count.to_string())
    })
}

fn scripts_with_many_keys(upstream: &Unsplit) -> Result<()> {
    let (server, proxy) = (upstream.primary()?, &upstream.proxy);
    let mut conn = proxy.conn()?;
    let keys = keys(200);
    let script = "local n = 0 for i, key in ipairs(KEYS) do redis.call('SET', key, i) n = n + redis.call('INCR', key) end \
                  return n";
    // 2 + 3 + ... + 201
    let expected = 20_300;
    let reply = conn.call(&words(&["EVAL", script, "200"], &keys, &[]))?;
    assert_eq!(reply.int()?, expected);
    let digest = conn.call(&["SCRIPT", "LOAD", script])?.text()?;
    server.must("SCRIPT FLUSH")?;
    let reply = conn.call(&words(&["EVALSHA", &digest, "200"], &keys, &[]))?;
    assert_eq!(reply.int()?, expected, "the body is sent again");
    let library = "#!lua name=checks\nredis.register_function('total', function(keys) \
                   local n = 0 for _, key in ipairs(keys) do n = n + redis.call('GET', key) end return n end)";
    assert_eq!(conn.call(&["FUNCTION", "LOAD", library])?.text()?, "checks");
    let reply = conn.call(&words(&["FCALL", "total", "200"], &keys, &[]))?;
    assert_eq!(reply.int()?, expected);
    // Transactions of them are one, too.
    conn.must("MULTI")?;
    conn.call(&words(&["EVALSHA", &digest, "200"], &keys, &[]))?;
    conn.call(&words(&["DEL"], &keys, &[]))?;
    let reply = conn.must("EXEC")?;
    let items = reply.items()?;
    assert_eq!((items[0].int()?, items[1].int()?), (expected, 200));
    Ok(())
}

fn conn_in(proxy: &Proxy, database: u16) -> Result<Conn> {
    let mut conn = proxy.conn()?;
    conn.must(&format!("SELECT {database}"))?;
    Ok(conn)
}

fn sessions_in_databases_meet_nobody_elses_keys(upstream: &Unsplit) -> Result<()> {
    let (server, proxy) = (upstream.primary()?, &upstream.proxy);
    let keys = keys(30);
    let mut sessions = Vec::new();
    for database in 0..16 {
        sessions.push((database, conn_in(proxy, database)?));
    }
    // All write the same keys, at the same time.
    for (database, conn) in &mut sessions {
        let value = database.to_string();
        let pairs = keys.iter().flat_map(|key| [key.clone(), value.clone()]);
        let pairs: Vec<String> = pairs.collect();
        conn.send(&words(&["MSET"], &pairs, &[]))?;
        conn.send(&words(&["MGET"], &keys, &[]))?;
    }
    for (database, conn) in &mut sessions {
        ensure!(conn.read()?.is_ok());
        let values = conn.read()?.texts()?;
        ensure!(values.iter().all(|value| *value == database.to_string()));
        assert_eq!(conn.must("DBSIZE")?.int()?, 30);
    }
    // One connection through all of them.
    let mut conn = proxy.conn()?;
    for database in 0..16 {
        conn.must(&format!("SELECT {database}"))?;
        assert_eq!(conn.must("GET key:0")?.text()?, database.to_string());
    }
    let error = conn.line("SELECT 99")?;
    assert_eq!(error.error(), Some("ERR DB index is out of range"));
    assert_eq!(
        conn.must("GET key:0")?.text()?,
        "15",
        "it stays where it was"
    );
    conn.must("DEL key:1")?;
    let mut zero = proxy.conn()?;
    assert_eq!(zero.must("MOVE key:1 15")?.int()?, 1);
    assert_eq!(conn.must("GET key:1")?.text()?, "0");
    assert_eq!(conn.must("COPY key:1 new DB 7")?.int()?, 1);
    conn.must("FLUSHDB")?;
    assert_eq!(conn.must("DBSIZE")?.int()?, 0);
    let expected = "db7:keys=31";
    ensure!(server.must("INFO keyspace")?.text()?.contains(expected));
    Ok(())
}

fn transactions_scripts_and_waiting_in_a_database(upstream: &Unsplit) -> Result<()> {
    let (server, proxy) = (upstream.primary()?, &upstream.proxy);
    let (mut two, mut zero) = (conn_in(proxy, 2)?, proxy.conn()?);
    // Another database's key of the same name is another one.
    for (who, is_executed) in [(0, true), (2, false)] {
        two.must("WATCH a b c d e")?;
        conn_in(proxy, who)?.must("INCR c")?;
        two.must("MULTI")?;
        two.must("MSET a 1 b 1")?;
        let reply = two.must("EXEC")?;
        let executed = matches!(&reply, Reply::Array(items) if items.len() == 1);
        ensure!(executed == is_executed, "{who}: {reply:?}");
    }
    for command in ["MULTI", "SET x two", "SELECT 3", "SET x three"] {
        two.must(command)?;
    }
    assert_eq!(two.must("EXEC")?.items()?.len(), 3);
    assert_eq!(two.must("GET x")?.text()?, "three", "it is in 3 now");
    two.must("SELECT 2")?;
    assert_eq!(two.must("GET x")?.text()?, "two");
    let script = "redis.call('SET', KEYS[2], 'n') return redis.call('GET', KEYS[1])";
    let reply = two.call(&["EVAL", script, "2", "x", "y"])?;
    assert_eq!(reply.text()?, "two");
    assert_eq!(zero.must("EXISTS x y")?.int()?, 0);
    two.send(&["BLPOP", "q1", "q2", "q3", "20"])?;
    are_blocked(upstream, 1)?;
    zero.must("RPUSH q3 zero")?;
    conn_in(proxy, 2)?.must("RPUSH q3 two")?;
    assert_eq!(two.read()?.texts()?, ["q3", "two"]);
    server.must("CONFIG SET notify-keyspace-events KEA")?;
    zero.send(&["SUBSCRIBE", "__keyspace@2__:x"])?;
    zero.read()?;
    two.must("DEL x")?;
    assert_eq!(zero.read()?.texts()?[2], "del");
    Ok(())
}

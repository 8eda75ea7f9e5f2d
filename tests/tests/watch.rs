//! WATCH on real clusters: optimistic transactions lose nothing, whatever happens between WATCH and EXEC. Numbers in brackets are the
//! rules of the contract.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Proxy, Reply, Scene, Version, key_in_slot};

harness::on_full_matrix!(
    a_change_by_anybody_ends_the_transaction,
    what_ends_watching_ends_it,
    a_slot_that_moves_ends_the_transaction,
    a_failover_ends_the_transaction,
    optimistic_increments_lose_nothing,
    optimistic_increments_lose_nothing_in_a_failover,
    watching_takes_connections_that_are_used_again,
);

/// WATCH, MULTI, SET, up to EXEC; `between` is done after the WATCH.
fn watched(
    conn: &mut Conn,
    key: &str,
    between: impl FnOnce(&mut Conn) -> Result<()>,
) -> Result<Reply> {
    ensure!(conn.call(&["WATCH", key])?.is_ok());
    between(conn)?;
    ensure!(conn.must("MULTI")?.is_ok());
    assert_eq!(conn.call(&["SET", key, "mine"])?.text()?, "QUEUED");
    conn.must("EXEC")
}

/// [scenario 80] [W2]
fn a_change_by_anybody_ends_the_transaction(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut other = scene.proxy.conn()?;
    let conns = [
        (scene.proxy.conn()?, Reply::NilArray),
        (scene.proxy.conn_resp3()?, Reply::Nil),
    ];
    for (mut conn, changed) in conns {
        let done = watched(&mut conn, "k", |conn| {
            conn.must("GET k")?;
            conn.must("SET elsewhere v").map(drop)
        })?;
        assert_eq!(done.texts()?, ["OK"]);
        let own = watched(&mut conn, "k", |conn| conn.must("SET k own").map(drop))?;
        assert_eq!(own, changed);
        assert_eq!(conn.must("GET k")?.text()?, "own");
        let foreign = watched(&mut conn, "k", |_| other.must("SET k foreign").map(drop))?;
        assert_eq!(foreign, changed);
        assert_eq!(conn.must("GET k")?.text()?, "foreign");
        let split = watched(&mut conn, "k", |conn| conn.must("DEL k a b c").map(drop))?;
        assert_eq!(split, changed, "a part of a command, too");
        // And the next one is none the worse for it.
        assert_eq!(watched(&mut conn, "k", |_| Ok(()))?.texts()?, ["OK"]);
    }
    let reply = other.line("WATCH a b")?;
    let crossed = "CROSSSLOT Keys in request don't hash to the same slot";
    assert_eq!(reply.error(), Some(crossed), "[scenario 83]");
    Ok(())
}

/// [W4]
fn what_ends_watching_ends_it(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut other = scene.proxy.conn()?;
    let mut conn = scene.proxy.conn()?;
    for end in [
        &["UNWATCH"][..],
        &["MULTI", "DISCARD"],
        &["RESET"],
        &["MULTI", "GET", "EXEC"],
    ] {
        conn.must("WATCH k")?;
        for command in end {
            conn.line(command)?;
        }
        other.must("SET k foreign")?;
        conn.must("MULTI")?;
        conn.must("SET k mine")?;
        assert_eq!(conn.must("EXEC")?.texts()?, ["OK"], "{end:?}");
    }
    Ok(())
}

/// [scenario 82] [W6]
fn a_slot_that_moves_ends_the_transaction(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let key = key_in_slot(77, 1);
    let mut conn = scene.proxy.conn()?;
    conn.call(&["SET", &key, "before"])?;
    let moved = watched(&mut conn, &key, |_| scene.cluster.move_slots(0, 1, &[77]))?;
    assert_eq!(moved, Reply::NilArray);
    assert_eq!(conn.call(&["GET", &key])?.text()?, "before");
    assert_eq!(watched(&mut conn, &key, |_| Ok(()))?.texts()?, ["OK"]);

    // In the middle of the move: where the key is.
    let mut migration = scene.cluster.migration(1, 2)?;
    migration.open(&[77])?;
    assert_eq!(watched(&mut conn, &key, |_| Ok(()))?.texts()?, ["OK"]);
    let gone = watched(&mut conn, &key, |_| migration.move_keys(&[&key]))?;
    assert_eq!(gone, Reply::NilArray);
    assert_eq!(
        watched(&mut conn, &key, |_| Ok(()))?.texts()?,
        ["OK"],
        "there"
    );
    let mut other = scene.proxy.conn()?;
    let changed = watched(&mut conn, &key, |_| {
        other.call(&["SET", &key, "foreign"]).map(drop)
    })?;
    assert_eq!(changed, Reply::NilArray);
    migration.close(&[77])?;
    assert_eq!(watched(&mut conn, &key, |_| Ok(()))?.texts()?, ["OK"]);
    Ok(())
}

/// [scenario 81] [W5]
fn a_failover_ends_the_transaction(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let key = key_in_slot(0, 1);
    let mut conn = proxy.conn()?;
    let primary = cluster.primary_of(0)?;
    let reply = watched(&mut conn, &key, |_| {
        cluster.failover(cluster.replica_of(primary)?).map(drop)
    })?;
    assert_eq!(reply, Reply::NilArray);
    assert_eq!(conn.call(&["EXISTS", &key])?.int()?, 0);
    assert_eq!(watched(&mut conn, &key, |_| Ok(()))?.texts()?, ["OK"]);
    Ok(())
}

/// What became of one client's increments.
#[derive(Default)]
struct Tally {
    done: usize,
    uncertain: usize,
    changed: usize,
}

/// Adds one to `key` `count` times: reads it, and writes one more if nobody has written meanwhile.
fn increment(conn: &mut Conn, key: &str, count: usize, progress: &AtomicUsize) -> Result<Tally> {
    let mut tally = Tally::default();
    while tally.done + tally.uncertain < count {
        ensure!(conn.call(&["WATCH", key])?.is_ok());
        let value = match conn.call(&["GET", key])? {
            Reply::Nil => 0,
            value => value.text()?.parse::<usize>()?,
        };
        ensure!(conn.must("MULTI")?.is_ok());
        conn.call(&["SET", key, &(value + 1).to_string()])?;
        match conn.line("EXEC")? {
            Reply::NilArray => tally.changed += 1,
            reply
                if reply
                    .error()
                    .is_some_and(|text| text.starts_with("UNCERTAIN ")) =>
            {
                tally.uncertain += 1;
            }
            reply => {
                assert_eq!(reply.texts()?, ["OK"]);
                tally.done += 1;
                progress.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(tally)
}

/// Several clients increment one key, while `disturb` goes on: those that are done are there, and no more than those in doubt.
fn increments(
    proxy: &Proxy,
    key: &str,
    disturb: impl FnOnce(&AtomicUsize) -> Result<()>,
) -> Result<()> {
    const CLIENTS: usize = 6;
    const EACH: usize = 60;
    let progress = AtomicUsize::new(0);
    let tallies = std::thread::scope(|scope| -> Result<Vec<Tally>> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut conn = proxy.conn()?;
                    increment(&mut conn, key, EACH, &progress)
                })
            })
            .collect();
        disturb(&progress)?;
        let ended = clients.into_iter().map(|client| client.join());
        ended
            .map(|result| result.ok().context("a client panicked")?)
            .collect()
    })?;
    let value: usize = proxy.conn()?.call(&["GET", key])?.text()?.parse()?;
    let sum = |of: fn(&Tally) -> usize| tallies.iter().map(of).sum::<usize>();
    let (done, uncertain) = (sum(|tally| tally.done), sum(|tally| tally.uncertain));
    ensure!(
        (done..=done + uncertain).contains(&value),
        "{value} after {done} increments and {uncertain} in doubt"
    );
    ensure!(sum(|tally| tally.changed) > 0, "nobody met anybody");
    Ok(())
}

fn optimistic_increments_lose_nothing(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    increments(&scene.proxy, "counter", |_| Ok(()))
}

/// [W5] [W6]
fn optimistic_increments_lose_nothing_in_a_failover(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let key = key_in_slot(0, 1);
    increments(&proxy, &key, |progress| {
        for part in [60, 160] {
            harness::wait_until(std::time::Duration::from_secs(60), "they go on", || {
                Ok(progress.load(Ordering::Relaxed) >= part)
            })?;
            let primary = cluster.primary_of(0)?;
            cluster.failover(cluster.replica_of(primary)?)?;
        }
        Ok(())
    })
}

/// [W4]
fn watching_takes_connections_that_are_used_again(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).workers(1).start()?;
    let opened = || proxy.metric("slotway_upstream_connections_opened_total");
    let mut conns: Vec<Conn> = (0..10).map(|_| proxy.conn()).collect::<Result<_>>()?;
    let key = key_in_slot(0, 1);
    for conn in &mut conns {
        watched(conn, &key, |conn| conn.call(&["GET", &key]).map(drop))?;
        conn.call(&["WATCH", &key])?;
        conn.must("UNWATCH")?;
    }
    let before = opened()?;
    for conn in &mut conns {
        for _ in 0..20 {
            assert_eq!(watched(conn, &key, |_| Ok(()))?.texts()?, ["OK"]);
            conn.call(&["WATCH", &key])?;
            conn.must("UNWATCH")?;
        }
    }
    // The UNWATCH of the one before may be under way when the next one comes.
    let more = opened()? - before;
    ensure!(more < 3.5, "{more} connections for 400 times");
    Ok(())
}

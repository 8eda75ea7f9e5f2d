//! Lua scripts: loaded at every node, routed by the keys that are declared, refused in the servers' words.
//! Numbers in brackets are the scenarios and rules of the contract.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Proxy, Scene, Version, key_in_slot, wait_until};
use std::time::Duration;

harness::on_full_matrix!(
    scripts_are_loaded_everywhere_and_routed_by_key,
    script_commands_merge,
    scripts_with_bad_numkeys_get_the_servers_words,
    a_script_that_a_node_has_lost_is_sent_with_its_body,
    scripts_and_functions_survive_a_failover,
    scripts_reach_a_primary_that_joins_later,
);

/// Adds 1 to its key.
const INCREMENT: &str = "return redis.call('INCR', KEYS[1])";
/// The same as a function.
const LIBRARY: &str = "#!lua name=lib\nredis.register_function('add', function(keys) return redis.call('INCR', keys[1]) end)";

/// [scenario 18] [Q6] [R37] [R38]
fn scripts_are_loaded_everywhere_and_routed_by_key(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
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
    let scene = Scene::start(version)?;
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
    let scene = Scene::start(version)?;
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

fn is_unknown(conn: &mut Conn, sha: &str) -> Result<bool> {
    let reply = conn.call(&["EVALSHA", sha, "1", "k"])?;
    Ok(reply
        .error()
        .is_some_and(|text| text.starts_with("NOSCRIPT ")))
}

/// Connections enough to be at both workers.
fn some_connections(proxy: &Proxy) -> Result<Vec<Conn>> {
    (0..6).map(|_| proxy.conn()).collect()
}

/// [X1] [X2]
fn a_script_that_a_node_has_lost_is_sent_with_its_body(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let flush_nodes = || -> Result<()> {
        for shard in 0..3 {
            scene.cluster.node(shard)?.must("SCRIPT FLUSH")?;
        }
        Ok(())
    };
    let mut conns = some_connections(&scene.proxy)?;
    let sha = conns[0].call(&["SCRIPT", "LOAD", INCREMENT])?.text()?;
    let mut count = 0;
    for conn in &mut conns {
        flush_nodes()?;
        // Of one key in a pipeline: in order.
        let calls = vec![["EVALSHA", &sha, "1", "k"].map(str::to_owned).to_vec(); 20];
        for reply in conn.pipeline(&calls)? {
            count += 1;
            assert_eq!(reply.int()?, count);
        }
        flush_nodes()?;
        let upper = sha.to_uppercase();
        let reply = conn.call(&["EVALSHA", &upper, "1", "k"])?;
        count += 1;
        assert_eq!(reply.int()?, count);
    }
    let sent_again = scene
        .proxy
        .metrics()?
        .sum("slotway_retries_total", &[("reason", "script")]);
    ensure!(sent_again >= 12.0, "{sent_again} scripts were sent again");
    // EVAL_RO refuses what writes, in the node's own words.
    let mut direct = scene.cluster.node(0)?.conn()?;
    let read = "return redis.call('GET', KEYS[1])";
    let (key, conn) = (key_in_slot(1, 0), &mut conns[0]);
    assert_eq!(
        conn.call(&["EVAL", INCREMENT, "1", &key])?.int()?,
        1,
        "learned from EVAL, too"
    );
    assert_eq!(conn.call(&["EVAL_RO", read, "1", &key])?.text()?, "1");
    let read_sha = direct.call(&["SCRIPT", "LOAD", read])?.text()?;
    flush_nodes()?;
    assert_eq!(
        conn.call(&["EVALSHA_RO", &read_sha, "1", &key])?.text()?,
        "1"
    );
    let expected = direct.call(&["EVAL_RO", INCREMENT, "1", &key])?;
    let refused = conn.call(&["EVALSHA_RO", &sha, "1", &key])?;
    ensure!(expected.error().is_some());
    assert_eq!(refused, expected);
    // In a transaction it is too late.
    flush_nodes()?;
    conn.must("MULTI")?;
    conn.call(&["EVALSHA", &sha, "1", &key])?;
    let reply = conn.must("EXEC")?;
    ensure!(
        reply.items()?[0]
            .error()
            .is_some_and(|text| text.starts_with("NOSCRIPT ")),
        "{reply:?}"
    );
    // What is flushed through the proxy is gone for everybody.
    conns[1].must("SCRIPT FLUSH")?;
    for conn in &mut conns {
        wait_until(Duration::from_secs(5), "the script is forgotten", || {
            is_unknown(conn, &sha)
        })?;
    }
    Ok(())
}

/// [X1]: servers from 7.0 on do not tell their replicas of scripts; of functions they do.
fn scripts_and_functions_survive_a_failover(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let mut conns = some_connections(&proxy)?;
    let sha = conns[0].call(&["SCRIPT", "LOAD", INCREMENT])?.text()?;
    assert_eq!(
        conns[0].call(&["FUNCTION", "LOAD", LIBRARY])?.text()?,
        "lib"
    );
    let key = key_in_slot(*cluster.initial_slots(0).start(), 0);
    cluster.failover(cluster.replica_of(0)?)?;
    for (conn, n) in conns.iter_mut().zip((1..).step_by(2)) {
        assert_eq!(conn.call(&["EVALSHA", &sha, "1", &key])?.int()?, n);
        assert_eq!(conn.call(&["FCALL", "add", "1", &key])?.int()?, n + 1);
        assert_eq!(conn.must("FUNCTION LIST")?.items()?.len(), 1);
    }
    conns[0].must("FUNCTION DELETE lib")?;
    let gone = conns[1].call(&["FCALL", "add", "1", &key])?;
    assert_eq!(gone.error(), Some("ERR Function not found"));
    Ok(())
}

/// [X1] [X6] [Q1]
fn scripts_reach_a_primary_that_joins_later(version: Version) -> Result<()> {
    let mut cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let mut conn = proxy.conn()?;
    let sha = conn.call(&["SCRIPT", "LOAD", INCREMENT])?.text()?;
    conn.call(&["FUNCTION", "LOAD", LIBRARY])?.text()?;
    let joined = cluster.add_primary()?;
    let slots = [7, 8];
    let keys = slots.map(|slot| key_in_slot(slot, 0));
    cluster.move_slots(0, joined, &slots)?;
    assert_eq!(conn.call(&["EVALSHA", &sha, "1", &keys[0]])?.int()?, 1);
    // Functions are brought there by whoever adds the node, which the proxy does not.
    let missing = conn.call(&["FCALL", "add", "1", &keys[0]])?;
    assert_eq!(missing.error(), Some("ERR Function not found"));
    let load = ["FUNCTION", "LOAD", "REPLACE", LIBRARY];
    wait_until(
        Duration::from_secs(5),
        "the new primary is loaded, too",
        || {
            conn.call(&load)?.text()?;
            let reply = conn.call(&["FCALL", "add", "1", &keys[1]])?;
            Ok(reply.int().is_ok())
        },
    )
    .context("FCALL at the new primary")
}

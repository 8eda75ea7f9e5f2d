//! Lua scripts: loaded at every node, routed by the keys that are declared, refused in the servers' words.
//! Numbers in brackets are the scenarios and rules of the contract.

use anyhow::{Result, ensure};
use harness::{Scene, Version, key_in_slot};

harness::on_full_matrix!(
    scripts_are_loaded_everywhere_and_routed_by_key,
    script_commands_merge,
    scripts_with_bad_numkeys_get_the_servers_words,
);

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

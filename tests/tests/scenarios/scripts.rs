//! Scripts and functions.

use super::*;

harness::on_release!(
    redis_7_0,
    Redis70,
    r37_what_redisson_tries_with_eval,
    scenario_20_a_library_that_one_primary_has_is_loaded_in_part,
);

/// [R37]
fn r37_what_redisson_tries_with_eval(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let script = "return {KEYS[1],ARGV[1]}";
    let reply = conn.call(&["EVAL", script, "1", "test", "123"])?;
    assert_eq!(reply.texts()?, ["test", "123"]);
    let both = "return {KEYS[1],KEYS[2]}";
    let reply = conn.call(&["EVAL", both, "2", "{tag}a", "{tag}b"])?;
    assert_eq!(reply.texts()?, ["{tag}a", "{tag}b"]);
    let before = scene.cluster.calls("eval")?;
    let reply = conn.call(&["EVAL", both, "2", "a", "b"])?;
    let crossed = "CROSSSLOT Keys in request don't hash to the same slot";
    assert_eq!(reply.error(), Some(crossed));
    assert_eq!(scene.cluster.calls("eval")?, before, "no node was asked");
    Ok(())
}

/// [scenario 20] [Q7] [P7]
fn scenario_20_a_library_that_one_primary_has_is_loaded_in_part(version: Version) -> Result<()> {
    const LIBRARY: &str = "#!lua name=lib\nredis.register_function('one', function() return 1 end)";
    let scene = Scene::start(version)?;
    let mut direct = scene.cluster.node(1)?.conn()?;
    direct.call(&["FUNCTION", "LOAD", LIBRARY])?.text()?;
    let mut conn = scene.proxy.conn()?;
    let reply = conn.call(&["FUNCTION", "LOAD", LIBRARY])?;
    let text = reply.error().context("an error")?;
    ensure!(text.starts_with("PARTIAL proxy: "), "{text}");
    ensure!(
        text.contains("2 of 3") && text.contains("already exists"),
        "{text}"
    );
    // As told: the others have it, and all have it once it is loaded over what is there.
    let reply = conn.call(&["FUNCTION", "LOAD", "REPLACE", LIBRARY])?;
    assert_eq!(reply.text()?, "lib");
    for key in key_of_every_shard(&scene.cluster, 1) {
        assert_eq!(conn.call(&["FCALL", "one", "1", &key])?.int()?, 1);
    }
    Ok(())
}

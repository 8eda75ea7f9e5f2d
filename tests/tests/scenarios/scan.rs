//! SCAN while the cluster changes under it: every key that was there all the time is seen.

use super::*;
use std::collections::BTreeSet;
use std::process::Command;

harness::on_full_matrix!(
    scenario_23_a_failover_in_the_middle,
    scenario_29_keys_at_a_node_that_does_not_own_them_are_not_listed,
    scenario_122_a_big_slot_goes_away_and_comes_back,
    scenario_123_a_migration_that_is_rolled_back,
);
// The first releases that keep a table per slot, each with its own.
harness::on_release!(
    redis_8_2,
    Redis82,
    scenario_23_a_failover_in_the_middle,
    scenario_122_a_big_slot_goes_away_and_comes_back,
    scenario_123_a_migration_that_is_rolled_back,
);
harness::on_release!(
    valkey_8_1,
    Valkey81,
    scenario_23_a_failover_in_the_middle,
    scenario_122_a_big_slot_goes_away_and_comes_back,
    scenario_123_a_migration_that_is_rolled_back,
);

/// More calls than any scan of these tests may take.
const MANY_CALLS: usize = 20_000;

/// Stores `count` keys, all in the slot if one is given.
fn store(conn: &mut Conn, slot: Option<u16>, count: usize) -> Result<BTreeSet<String>> {
    let prefix = match slot {
        Some(slot) => format!("{}:", key_in_slot(slot, 0)),
        None => "key:".to_owned(),
    };
    let keys: BTreeSet<String> = (0..count).map(|n| format!("{prefix}{n}")).collect();
    let commands: Vec<Vec<&str>> = keys.iter().map(|key| vec!["SET", key, "1"]).collect();
    for reply in conn.pipeline(&commands)? {
        ensure!(reply.is_ok());
    }
    Ok(keys)
}

/// A whole scan; `between` is done after so many calls. The scan must not be over by then.
fn scan(
    conn: &mut Conn,
    after: usize,
    between: impl FnOnce() -> Result<()>,
) -> Result<BTreeSet<String>> {
    let mut between = Some(between);
    let mut cursor = "0".to_owned();
    let mut seen = BTreeSet::new();
    for call in 1..=MANY_CALLS {
        let reply = conn.must(&format!("SCAN {cursor} COUNT 20"))?;
        let [next, keys] = reply.items()? else {
            anyhow::bail!("SCAN {cursor}: {reply:?}");
        };
        cursor = next.text()?;
        seen.extend(keys.texts()?);
        if cursor == "0" {
            ensure!(between.is_none(), "the scan was over after {call} calls");
            return Ok(seen);
        }
        if call == after
            && let Some(between) = between.take()
        {
            between()?;
        }
    }
    anyhow::bail!("the scan does not end")
}

fn ensure_complete(seen: &BTreeSet<String>, keys: &BTreeSet<String>) -> Result<()> {
    let missing: Vec<&String> = keys.difference(seen).take(5).collect();
    ensure!(missing.is_empty(), "missing {missing:?}");
    Ok(())
}

/// [scenario 23] [S3]: `kill -9`; the data was replicated.
fn scenario_23_a_failover_in_the_middle(version: Version) -> Result<()> {
    let mut cluster = Cluster::new(version).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let mut conn = proxy.conn()?;
    let keys = store(&mut conn, None, 3_000)?;
    let shard = cluster.primary_of(0)?;
    let replica = cluster.replica_of(shard)?;
    let stored = cluster.node(shard)?.must("DBSIZE")?.int()?;
    wait_until(SOON, "all of it is replicated", || {
        Ok(cluster.node(replica)?.must("DBSIZE")?.int()? == stored)
    })?;
    let seen = scan(&mut conn, 10, || {
        let (_, replica) = cluster.kill_primary_of(0)?;
        cluster.wait_promoted(replica).map(drop)
    })?;
    ensure_complete(&seen, &keys)
}

/// [scenario 29] [Q3]: left behind by a migration that went wrong. Of older servers, which it walks as wholes, SCAN may show them:
/// leaving them out by a table that may be old could cost a key that has moved.
fn scenario_29_keys_at_a_node_that_does_not_own_them_are_not_listed(
    version: Version,
) -> Result<()> {
    const SLOT: u16 = 77;
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let keys = store(&mut conn, None, 200)?;
    let orphans: Vec<String> = (0..5).map(|n| key_in_slot(SLOT, n)).collect();
    let mut foreign = scene.cluster.node(1)?.conn()?;
    let owner = scene.cluster.id(0)?;
    foreign.must(&format!("CLUSTER SETSLOT {SLOT} IMPORTING {owner}"))?;
    for key in &orphans {
        foreign.must("ASKING")?;
        ensure!(foreign.call(&["SET", key, "orphan"])?.is_ok());
    }
    foreign.must(&format!("CLUSTER SETSLOT {SLOT} STABLE"))?;
    let held = foreign.must(&format!("CLUSTER COUNTKEYSINSLOT {SLOT}"))?;
    assert_eq!(held.int()?, 5);
    let listed: BTreeSet<String> = conn.must("KEYS *")?.texts()?.into_iter().collect();
    assert_eq!(listed, keys);
    let seen = scan(&mut conn, 1, || Ok(()))?;
    ensure_complete(&seen, &keys)?;
    let others: Vec<&String> = seen.difference(&keys).collect();
    let are_shown = matches!(version, Version::Redis62 | Version::Redis70);
    ensure!(are_shown || others.is_empty(), "{others:?}");
    ensure!(others.iter().all(|key| orphans.contains(key)), "{others:?}");
    Ok(())
}

/// [scenario 122] [S3]: while the scan is inside of it.
fn scenario_122_a_big_slot_goes_away_and_comes_back(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let keys = store(&mut conn, Some(77), 1_000)?;
    for after in [5, 25] {
        let seen = scan(&mut conn, after, || {
            for (from, to) in [(0, 2), (2, 0)] {
                scene.cluster.move_slots(from, to, &[77])?;
                scene.cluster.settle()?;
            }
            Ok(())
        })?;
        ensure_complete(&seen, &keys)?;
    }
    Ok(())
}

/// [scenario 123] [S8]: half of the keys have gone, and `redis-cli --cluster fix` brings them back.
fn scenario_123_a_migration_that_is_rolled_back(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let mut keys = store(&mut conn, Some(77), 600)?;
    keys.extend(store(&mut conn, None, 600)?);
    let leaving: Vec<&String> = keys
        .iter()
        .filter(|key| slot_of(key.as_bytes()) == 77)
        .take(300)
        .collect();
    let mut migration = scene.cluster.migration(0, 2)?;
    migration.open(&[77])?;
    let seen = scan(&mut conn, 10, || {
        for keys in leaving.chunks(100) {
            migration.move_keys(keys)?;
        }
        let address = scene.cluster.node(0)?.address().to_string();
        let output = Command::new(tool("redis-cli")?)
            .args(["--cluster", "fix", &address, "--cluster-yes"])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{text}");
        scene.cluster.settle()
    })?;
    ensure_complete(&seen, &keys)?;
    let together = scan(&mut conn, 1, || Ok(()))?;
    assert_eq!(together, keys);
    Ok(())
}

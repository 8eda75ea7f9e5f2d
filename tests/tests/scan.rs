//! SCAN over all shards: complete, bounded, with cursors that any client and any proxy can carry.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Proxy, Reply, Version, key_in_slot, wait_until};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

harness::on_full_matrix!(
    scan_returns_every_key,
    scan_options_pass_through,
    scan_of_a_sparse_cluster_takes_few_calls,
    scan_of_one_hash_tag_is_complete,
    two_proxies_share_a_cursor,
    scan_survives_slots_that_move,
    bad_cursors_are_refused_or_restart,
    clusterscan_is_what_the_server_makes_of_it,
);
harness::on_release!(
    valkey_9_1_moving,
    Valkey91,
    scan_is_complete_while_slots_move_back_and_forth,
);
// The first releases that keep a table per slot, each with its own.
harness::on_release!(
    redis_8_2,
    Redis82,
    scan_returns_every_key,
    scan_of_a_sparse_cluster_takes_few_calls,
    scan_of_one_hash_tag_is_complete,
    two_proxies_share_a_cursor,
    scan_is_complete_while_slots_move_back_and_forth,
);
harness::on_release!(
    valkey_8_1,
    Valkey81,
    scan_returns_every_key,
    scan_of_a_sparse_cluster_takes_few_calls,
    scan_of_one_hash_tag_is_complete,
    two_proxies_share_a_cursor,
    scan_is_complete_while_slots_move_back_and_forth,
);

/// More calls than any scan of these tests may take.
const MANY_CALLS: usize = 20_000;

fn cluster_with_keys(version: Version, count: usize) -> Result<(Cluster, Proxy, BTreeSet<String>)> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let keys: BTreeSet<String> = (0..count).map(|n| format!("key:{n}")).collect();
    let mut conn = proxy.conn()?;
    for chunk in keys.iter().collect::<Vec<_>>().chunks(1000) {
        let pairs = chunk.iter().flat_map(|key| [key.as_str(), "1"]);
        let command: Vec<&str> = std::iter::once("MSET").chain(pairs).collect();
        ensure!(conn.call(&command)?.is_ok());
    }
    Ok((cluster, proxy, keys))
}

/// One step: the next cursor and the keys.
fn step(conn: &mut Conn, cursor: &str, options: &str) -> Result<(String, Vec<String>)> {
    let reply = conn.must(&format!("SCAN {cursor} {options}"))?;
    let [next, keys] = reply.items()? else {
        anyhow::bail!("SCAN {cursor}: {reply:?}");
    };
    let next = next.text()?;
    // Some clients keep the cursor in a double, some in a signed 64-bit number.
    let number: u64 = next.parse().with_context(|| format!("cursor {next}"))?;
    ensure!(
        number < 1 << 53,
        "cursor {next} is too big for some clients"
    );
    Ok((next, keys.texts()?))
}

/// A whole scan over connections taken in turn: the keys seen and the number of calls.
fn scan(conns: &mut [Conn], options: &str) -> Result<(BTreeSet<String>, usize)> {
    let mut cursor = "0".to_owned();
    let mut seen = BTreeSet::new();
    let count = conns.len();
    for call in 1..=MANY_CALLS {
        let (next, keys) = step(&mut conns[call % count], &cursor, options)?;
        seen.extend(keys);
        if next == "0" {
            return Ok((seen, call));
        }
        cursor = next;
    }
    anyhow::bail!("SCAN {options} does not end")
}

/// [scenario 21] [R40]
fn scan_returns_every_key(version: Version) -> Result<()> {
    let (_cluster, proxy, keys) = cluster_with_keys(version, 20_000)?;
    for options in ["", "COUNT 1000", "COUNT 100 MATCH key:*"] {
        let (seen, _) = scan(&mut [proxy.conn()?], options)?;
        ensure!(
            seen == keys,
            "SCAN {options}: {} keys of {}",
            seen.len(),
            keys.len()
        );
    }
    let (seen, _) = scan(&mut [proxy.conn_resp3()?], "COUNT 500")?;
    ensure!(seen == keys, "RESP3: {} keys of {}", seen.len(), keys.len());
    Ok(())
}

fn scan_options_pass_through(version: Version) -> Result<()> {
    let (_cluster, proxy, _) = cluster_with_keys(version, 2_000)?;
    let mut conn = proxy.conn()?;
    for n in 0..50 {
        conn.must(&format!("RPUSH list:{n} a"))?;
    }
    let (lists, _) = scan(&mut [proxy.conn()?], "TYPE list COUNT 200")?;
    assert_eq!(lists, (0..50).map(|n| format!("list:{n}")).collect());
    let (few, _) = scan(&mut [proxy.conn()?], "MATCH key:10? COUNT 200")?;
    assert_eq!(few, (100..110).map(|n| format!("key:{n}")).collect());
    let wrong = conn.line("SCAN 0 COUNT 0")?;
    assert_eq!(wrong.error(), Some("ERR syntax error"));
    Ok(())
}

/// [scenario 26] [S10]
fn scan_of_a_sparse_cluster_takes_few_calls(version: Version) -> Result<()> {
    let (_cluster, proxy, keys) = cluster_with_keys(version, 10)?;
    let (seen, calls) = scan(&mut [proxy.conn()?], "COUNT 10")?;
    assert_eq!(seen, keys);
    ensure!(calls <= 50, "{calls} calls for 10 keys");
    Ok(())
}

/// [scenario 27] [S9]: and only the owner of its slot is asked.
fn scan_of_one_hash_tag_is_complete(version: Version) -> Result<()> {
    let (cluster, proxy, _) = cluster_with_keys(version, 1_000)?;
    let mut conn = proxy.conn()?;
    let tagged: BTreeSet<String> = (0..30).map(|n| key_in_slot(100, n)).collect();
    for key in &tagged {
        conn.call(&["SET", key, "1"])?;
    }
    let tag = tagged
        .first()
        .and_then(|key| key.split(':').next())
        .context("no tag")?;
    for options in ["COUNT 10", "COUNT 1000 TYPE string"] {
        let (seen, calls) = scan(&mut [proxy.conn()?], &format!("MATCH {tag}* {options}"))?;
        assert_eq!(seen, tagged);
        let walks_by_slot = !matches!(version, Version::Redis62 | Version::Redis70);
        ensure!(
            !walks_by_slot || calls <= 6,
            "{calls} calls for 30 keys of one slot"
        );
    }
    let mut asked = (0..3).map(|node| cluster.node(node)?.calls("scan"));
    ensure!(asked.next().context("no node")?? > 0);
    ensure!(
        asked.all(|calls| matches!(calls, Ok(0))),
        "others were asked"
    );
    Ok(())
}

/// [scenario 24]
fn two_proxies_share_a_cursor(version: Version) -> Result<()> {
    let (cluster, proxy, keys) = cluster_with_keys(version, 5_000)?;
    let other = Proxy::new(&cluster).start()?;
    let (seen, _) = scan(&mut [proxy.conn()?, other.conn()?], "COUNT 50")?;
    assert_eq!(seen, keys);
    Ok(())
}

/// [scenario 22], a small one: slots move between the calls of a scan.
fn scan_survives_slots_that_move(version: Version) -> Result<()> {
    let (cluster, proxy, keys) = cluster_with_keys(version, 5_000)?;
    let slots: Vec<u16> = (0..40).collect();
    for round in 0..4 {
        let mut conn = proxy.conn()?;
        let mut cursor = "0".to_owned();
        let mut seen = BTreeSet::new();
        for call in 0..MANY_CALLS {
            let (next, keys) = step(&mut conn, &cursor, "COUNT 100")?;
            seen.extend(keys);
            // At different places of the scan in every round, there and back again.
            if call == 3 + 8 * round {
                move_visibly(&cluster, &proxy, [0, 2], &slots)?;
            } else if call == 10 + 8 * round {
                move_visibly(&cluster, &proxy, [2, 0], &slots)?;
            }
            cursor = next;
            if cursor == "0" {
                ensure!(
                    call >= 10 + 8 * round,
                    "the scan ended before the slots moved"
                );
                break;
            }
        }
        let missing: Vec<&String> = keys.difference(&seen).take(5).collect();
        ensure!(missing.is_empty(), "round {round}: missing {missing:?}");
    }
    Ok(())
}

/// Moves slots and waits until the proxy knows it, which it learns from the first request for one of them.
fn move_visibly(cluster: &Cluster, proxy: &Proxy, nodes: [usize; 2], slots: &[u16]) -> Result<()> {
    let before = proxy.metric("slotway_topology_generation")?;
    cluster.move_slots(nodes[0], nodes[1], slots)?;
    cluster.settle()?;
    proxy.conn()?.call(&["GET", &key_in_slot(slots[0], 1)])?;
    wait_until(
        Duration::from_secs(5),
        "the proxy knows the new owner",
        || Ok(proxy.metric("slotway_topology_generation")? > before),
    )
}

/// [scenario 22] [scenario 24]: two proxies take turns with one cursor while slots are moved without a pause. Not on servers with one
/// table for all slots: there the proxy must have seen that slots have moved.
fn scan_is_complete_while_slots_move_back_and_forth(version: Version) -> Result<()> {
    const MOVES: usize = 6;
    let (cluster, proxy, keys) = cluster_with_keys(version, 4_000)?;
    let other = Proxy::new(&cluster).start()?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            let moved = (0..MOVES).try_for_each(|number| move_there_or_back(&cluster, number));
            over.store(true, Ordering::Relaxed);
            moved
        });
        let mut scans = 0;
        while !over.load(Ordering::Relaxed) {
            let mut conns = [proxy.conn()?, other.conn()?];
            let (seen, _) = scan(&mut conns, "COUNT 25")?;
            let missing: Vec<&String> = keys.difference(&seen).take(5).collect();
            ensure!(missing.is_empty(), "scan {scans}: missing {missing:?}");
            scans += 1;
        }
        ensure!(scans > 1, "all was moved during {scans} scans");
        let moved = mover.join();
        moved.map_err(|_panic| anyhow::anyhow!("the mover has panicked"))?
    })
}

/// Moves slots at the beginning, in the middle and at the end of the first primary.
fn move_there_or_back(cluster: &Cluster, number: usize) -> Result<()> {
    let slots: Vec<u16> = (0..20).chain(2_000..2_010).chain(5_440..5_450).collect();
    let [from, to] = if number.is_multiple_of(2) {
        [0, 2]
    } else {
        [2, 0]
    };
    cluster.move_slots(from, to, &slots)?;
    cluster.settle()
}

/// [scenario 30] [S12]
fn clusterscan_is_what_the_server_makes_of_it(version: Version) -> Result<()> {
    let (cluster, proxy, keys) = cluster_with_keys(version, 2_000)?;
    let mut conn = proxy.conn()?;
    let (mut cursor, mut seen) = ("0".to_owned(), BTreeSet::new());
    if version != Version::Valkey91 {
        let own = cluster.node(0)?.conn()?.line("CLUSTERSCAN 0")?;
        assert_eq!(conn.line("CLUSTERSCAN 0")?, own);
        return Ok(());
    }
    for _ in 0..MANY_CALLS {
        let reply = conn.must(&format!("CLUSTERSCAN {cursor} COUNT 50"))?;
        let [next, keys] = reply.items()? else {
            anyhow::bail!("CLUSTERSCAN {cursor}: {reply:?}");
        };
        cursor = next.text()?;
        seen.extend(keys.texts()?);
        if cursor == "0" {
            break;
        }
    }
    assert_eq!((cursor.as_str(), seen), ("0", keys));
    let bad = conn.line("CLUSTERSCAN abc")?;
    assert_eq!(bad.error(), Some("ERR Invalid cursor"));
    Ok(())
}

/// [scenario 28] [S2]
fn bad_cursors_are_refused_or_restart(version: Version) -> Result<()> {
    let (_cluster, proxy, keys) = cluster_with_keys(version, 500)?;
    let mut conn = proxy.conn()?;
    for cursor in ["abc", "18446744073709551616", "-1", "1.5"] {
        assert_eq!(
            conn.line(&format!("SCAN {cursor}"))?.error(),
            Some("ERR invalid cursor"),
            "{cursor}"
        );
    }
    // Cursors of a server or of nobody: an error or a scan that ends.
    for foreign in ["3", "6", "65535", "9007199254740991"] {
        let mut cursor = foreign.to_owned();
        for call in 0..MANY_CALLS {
            match conn.line(&format!("SCAN {cursor} COUNT 1000"))? {
                Reply::Error(text) => {
                    ensure!(text == "ERR invalid cursor", "SCAN {foreign}: {text}");
                    break;
                }
                reply => cursor = reply.items()?[0].text()?,
            }
            if cursor == "0" {
                break;
            }
            ensure!(call < 1_000, "SCAN {foreign} does not end");
        }
    }
    let (seen, _) = scan(&mut [conn], "COUNT 100")?;
    assert_eq!(seen, keys);
    Ok(())
}

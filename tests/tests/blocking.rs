//! Commands that wait at a node, on real clusters. What they are answered when there is nothing to wait for is compared with a server in
//! `differential.rs`. Numbers in brackets are the rules of the contract.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{
    Cluster, Conn, Load, LoadOptions, Proxy, Reply, Scene, Version, encode, key_in_slot, wait_until,
};

harness::on_full_matrix!(
    a_client_that_waits_wakes_when_there_is_something,
    a_client_that_leaves_loses_nothing,
    a_client_that_is_closed_with_its_input_unread_loses_nothing,
    a_client_can_be_killed_while_it_waits,
    a_client_can_be_unblocked,
    what_is_behind_a_client_that_waits_comes_after,
    a_failover_does_not_end_the_waiting,
    a_slot_that_moves_does_not_end_the_waiting,
    a_killed_primary_is_uncertain_but_for_xread,
    many_that_wait_beside_an_ordinary_load,
    a_shutdown_does_not_wait_for_those_that_wait,
);

const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until so many clients wait at the primaries of these slots.
fn wait_blocked(cluster: &Cluster, count: usize) -> Result<()> {
    wait_until(PATIENCE, &format!("{count} clients wait"), || {
        let mut blocked = 0;
        for node in cluster.nodes() {
            blocked += node.info("clients", "blocked_clients")?.parse::<usize>()?;
        }
        Ok(blocked == count)
    })
}

/// A client that waits for the reply to `command`.
fn waiting(cluster: &Cluster, proxy: &Proxy, command: &str) -> Result<Conn> {
    let mut conn = proxy.conn()?;
    conn.send_raw(&encode(&command.split(' ').collect::<Vec<_>>()))?;
    wait_blocked(cluster, 1)?;
    Ok(conn)
}

/// [B1] [Y3]: what each command is answered, in both protocols, as by the server itself.
fn a_client_that_waits_wakes_when_there_is_something(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut other = scene.proxy.conn()?;
    for (command, push) in [
        ("BLPOP {a}k {a}l 0", "RPUSH {a}l 1"),
        ("BRPOP {a}k 20.5", "RPUSH {a}k 1"),
        ("BLMOVE {a}k {a}l LEFT RIGHT 0", "RPUSH {a}k 1"),
        ("BRPOPLPUSH {a}k {a}l 0", "RPUSH {a}k 1"),
        ("BLMPOP 0 2 {a}k {a}l LEFT COUNT 2", "RPUSH {a}l 1 2 3"),
        ("BZPOPMIN {a}k 0", "ZADD {a}k 1.5 m"),
        ("BZPOPMAX {a}k 0", "ZADD {a}k 1.5 m"),
        ("BZMPOP 0 1 {a}k MAX", "ZADD {a}k 1.5 m"),
        ("XREAD BLOCK 0 STREAMS {a}k $", "XADD {a}k 5-1 f v"),
        (
            "XREADGROUP GROUP g c BLOCK 0 STREAMS {a}s >",
            "XADD {a}s 5-1 f v",
        ),
    ] {
        for resp3 in [false, true] {
            other.must("DEL {a}k {a}l {a}s")?;
            other.must("XGROUP CREATE {a}s g $ MKSTREAM")?;
            let slot = harness::slot_of(b"{a}");
            let node = scene.cluster.node(scene.cluster.primary_of(slot)?)?;
            let open = |address| {
                if resp3 {
                    Conn::open_resp3(address)
                } else {
                    Conn::open(address)
                }
            };
            let mut replies = Vec::new();
            for address in [node.address(), scene.proxy.address()] {
                let mut conn = open(address)?;
                conn.send(&command.split(' ').collect::<Vec<_>>())?;
                wait_blocked(&scene.cluster, 1)?;
                ensure!(!conn.has_reply_within(Duration::from_millis(1))?);
                other.must(push)?;
                replies.push(conn.read_bytes()?);
                other.must("DEL {a}k {a}l {a}s")?;
                other.must("XGROUP CREATE {a}s g $ MKSTREAM")?;
            }
            ensure!(replies[0] == replies[1], "{command}: {replies:?}");
        }
    }
    Ok(())
}

/// [B6]: it is noticed whether it closes its connection or only its side of it.
fn a_client_that_leaves_loses_nothing(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut other = scene.proxy.conn()?;
    for n in 0..20 {
        let key = format!("queue{n}");
        let mut conn = waiting(&scene.cluster, &scene.proxy, &format!("BLPOP {key} 0"))?;
        if n % 2 == 0 {
            conn.close_write()?;
            ensure!(conn.read_to_close()?.is_empty());
        }
        drop(conn);
        wait_blocked(&scene.cluster, 0)?;
        other.call(&["RPUSH", &key, "element"])?;
        assert_eq!(other.call(&["LLEN", &key])?.int()?, 1);
    }
    Ok(())
}

/// [B6] [PK4]: more is pipelined behind its command than the proxy takes.
fn a_client_that_is_closed_with_its_input_unread_loses_nothing(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut other = scene.proxy.conn()?;
    for half in [false, true] {
        let mut conn = waiting(&scene.cluster, &scene.proxy, "BLPOP queue 0")?;
        conn.send_raw(&encode(&["SET", "behind", "1"]).repeat(5_000))?;
        if half {
            conn.close_write()?;
            ensure!(conn.read_to_close()?.is_empty());
        } else {
            drop(conn);
        }
        wait_blocked(&scene.cluster, 0)?;
        other.must("RPUSH queue element")?;
        assert_eq!(other.must("LPOP queue")?.text()?, "element");
        assert_eq!(
            other.must("EXISTS behind")?.int()?,
            0,
            "it never came to that"
        );
    }
    Ok(())
}

/// [B13]
fn a_client_can_be_killed_while_it_waits(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut other = scene.proxy.conn()?;
    let mut conn = scene.proxy.conn()?;
    let id = conn.must("CLIENT ID")?.int()?;
    conn.send(&["BLPOP", "queue", "0"])?;
    wait_blocked(&scene.cluster, 1)?;
    assert_eq!(other.must(&format!("CLIENT KILL ID {id}"))?.int()?, 1);
    ensure!(conn.read_to_close()?.is_empty());
    wait_blocked(&scene.cluster, 0)?;
    other.must("RPUSH queue element")?;
    assert_eq!(other.must("LLEN queue")?.int()?, 1);
    Ok(())
}

/// [scenario 90] [B9]: from a connection of any worker.
fn a_client_can_be_unblocked(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let id = conn.must("CLIENT ID")?.int()?;
    for n in 0..8 {
        let mut other = scene.proxy.conn()?;
        other.must("GET queue")?;
        let reason = ["", " TIMEOUT", " ERROR"][n % 3];
        let unblock = format!("CLIENT UNBLOCK {id}{reason}");
        assert_eq!(other.must(&unblock)?.int()?, 0, "it does not wait");
        conn.send(&["BLPOP", "queue", "0"])?;
        wait_blocked(&scene.cluster, 1)?;
        let list = other.must("CLIENT LIST")?.text()?;
        let line = list
            .lines()
            .find(|line| line.starts_with(&format!("id={id} ")));
        ensure!(
            line.is_some_and(|line| line.contains(" flags=b ")),
            "{list}"
        );
        assert_eq!(other.must(&unblock)?.int()?, 1);
        let reply = conn.read()?;
        if n % 3 == 2 {
            let error = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
            assert_eq!(reply.error(), Some(error));
        } else {
            assert_eq!(reply, Reply::NilArray);
        }
        wait_blocked(&scene.cluster, 0)?;
        other.must("RPUSH queue element")?;
        assert_eq!(other.must("LPOP queue")?.text()?, "element");
    }
    Ok(())
}

/// [B13] [O7]
fn what_is_behind_a_client_that_waits_comes_after(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let mut other = scene.proxy.conn()?;
    let commands: [&[&str]; 6] = [
        &["SET", "a", "1"],
        &["BLPOP", "queue", "0"],
        &["APPEND", "a", "2"],
        &["GET", "a"],
        &["XREAD", "BLOCK", "50", "STREAMS", "stream", "$"],
        &["PING"],
    ];
    let bytes: Vec<u8> = commands.iter().flat_map(|words| encode(words)).collect();
    conn.send_raw(&bytes)?;
    wait_blocked(&scene.cluster, 1)?;
    ensure!(conn.read()?.is_ok());
    assert_eq!(other.must("GET a")?.text()?, "1");
    other.must("RPUSH queue x")?;
    assert_eq!(conn.read()?.texts()?, ["queue", "x"]);
    assert_eq!(conn.read()?.int()?, 2);
    assert_eq!(conn.read()?.text()?, "12");
    assert_eq!(conn.read()?, Reply::NilArray);
    assert_eq!(conn.read()?.text()?, "PONG");
    Ok(())
}

/// [B5] [B11]: the old primary sends them away, and the new one lets them wait on.
fn a_failover_does_not_end_the_waiting(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let mut other = proxy.conn()?;
    let [list, stream] = [1, 2].map(|n| key_in_slot(0, n));
    other.call(&["XADD", &stream, "1-1", "f", "v"])?;
    let mut popper = proxy.conn()?;
    popper.send(&["BLPOP", &list, "0"])?;
    let mut reader = proxy.conn()?;
    reader.send(&["XREAD", "BLOCK", "0", "STREAMS", &stream, "1-1"])?;
    wait_blocked(&cluster, 2)?;
    for element in ["1", "2"] {
        let primary = cluster.primary_of(0)?;
        cluster.failover(cluster.replica_of(primary)?)?;
        wait_blocked(&cluster, 2)?;
        ensure!(!popper.has_reply_within(Duration::from_millis(1))?);
        other.call(&["RPUSH", &list, element])?;
        assert_eq!(popper.read()?.texts()?, [list.as_str(), element]);
        popper.send(&["BLPOP", &list, "0"])?;
        wait_blocked(&cluster, 2)?;
    }
    other.call(&["XADD", &stream, "1-2", "f", "v"])?;
    ensure!(reader.read()?.shown().contains("1-2"));
    Ok(())
}

/// [scenario 88] [B4] [B5]
fn a_slot_that_moves_does_not_end_the_waiting(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let key = key_in_slot(77, 1);
    let mut conn = waiting(&scene.cluster, &scene.proxy, &format!("BLPOP {key} 20"))?;
    scene.cluster.move_slots(0, 1, &[77])?;
    wait_until(PATIENCE, "it waits at the new owner", || {
        Ok(scene.cluster.node(1)?.info("clients", "blocked_clients")? == "1")
    })?;
    let mut other = scene.proxy.conn()?;
    other.call(&["RPUSH", &key, "element"])?;
    assert_eq!(conn.read()?.texts()?, [key.as_str(), "element"]);

    // It waits no longer in all than it would without the move. A server tells those who wait once in a second at most.
    let began = Instant::now();
    let mut conn = waiting(&scene.cluster, &scene.proxy, &format!("BLPOP {key} 3"))?;
    scene.cluster.move_slots(1, 2, &[77])?;
    assert_eq!(conn.read()?, Reply::NilArray);
    let waited = began.elapsed();
    ensure!(
        (Duration::from_millis(2_950)..Duration::from_millis(4_500)).contains(&waited),
        "{waited:?}"
    );
    Ok(())
}

/// [B8]
fn a_killed_primary_is_uncertain_but_for_xread(version: Version) -> Result<()> {
    let mut cluster = Cluster::new(version).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let [list, stream] = [1, 2].map(|n| key_in_slot(0, n));
    let mut popper = proxy.conn()?;
    popper.send(&["BLPOP", &list, "0"])?;
    let mut reader = proxy.conn()?;
    reader.send(&["XREAD", "BLOCK", "0", "STREAMS", &stream, "0"])?;
    wait_blocked(&cluster, 2)?;
    let (_, replica) = cluster.kill_primary_of(0)?;
    let reply = popper.read()?;
    let text = reply.error().unwrap_or_default();
    ensure!(text.starts_with("UNCERTAIN proxy: "), "{reply:?}");
    cluster.wait_promoted(replica)?;
    let mut other = proxy.conn()?;
    other.call(&["XADD", &stream, "1-1", "f", "v"])?;
    ensure!(reader.read()?.shown().contains("1-1"));
    // One that comes while there is no primary has waited for it.
    other.call(&["RPUSH", &list, "element"])?;
    assert_eq!(
        popper.call(&["BLPOP", &list, "0"])?.texts()?,
        [list.as_str(), "element"]
    );
    Ok(())
}

/// [B1] [B3]: those that wait cost the others nothing, and each gets its own.
fn many_that_wait_beside_an_ordinary_load(version: Version) -> Result<()> {
    const CLIENTS: usize = 200;
    let scene = Scene::start(version)?;
    let load = Load::start(scene.proxy.address(), &LoadOptions::default())?;
    load.wait_for(500)?;
    let mut conns = Vec::new();
    for n in 0..CLIENTS {
        let mut conn = scene.proxy.conn()?;
        conn.send(&["BLPOP", &format!("queue{n}"), "0"])?;
        conns.push(conn);
    }
    wait_blocked(&scene.cluster, CLIENTS)?;
    load.wait_for(1_000)?;
    let mut other = scene.proxy.conn()?;
    for round in 0..2 {
        let pushes: Vec<Vec<String>> = (0..CLIENTS)
            .map(|n| {
                vec![
                    "RPUSH".to_owned(),
                    format!("queue{n}"),
                    format!("{round}:{n}"),
                ]
            })
            .collect();
        other.pipeline(&pushes)?;
        for (n, conn) in conns.iter_mut().enumerate() {
            let expected = [format!("queue{n}"), format!("{round}:{n}")];
            assert_eq!(conn.read()?.texts()?, expected);
            conn.send(&["BLPOP", &format!("queue{n}"), "0"])?;
        }
        wait_blocked(&scene.cluster, CLIENTS)?;
    }
    drop(conns);
    wait_blocked(&scene.cluster, 0)?;
    load.stop()?.ensure_flawless()
}

/// [D12]: nothing has been popped for them, and they might wait for ever.
fn a_shutdown_does_not_wait_for_those_that_wait(version: Version) -> Result<()> {
    let Scene { cluster, mut proxy } = Scene::start(version)?;
    let mut conn = waiting(&cluster, &proxy, "BLPOP queue 0")?;
    proxy.terminate()?;
    ensure!(conn.read_to_close()?.is_empty());
    ensure!(proxy.wait_for_exit(Duration::from_secs(3))?.success());
    wait_blocked(&cluster, 0)
}

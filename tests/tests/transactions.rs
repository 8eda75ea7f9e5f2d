//! MULTI and EXEC on real clusters. What single commands of a transaction are answered is compared with a server in
//! `differential.rs`. Numbers in brackets are the rules of the contract.

use anyhow::{Context, Result, ensure};
use harness::{Conn, Scene, Version, encode, key_in_slot};
use std::sync::atomic::{AtomicBool, Ordering};

harness::on_full_matrix!(
    a_transaction_is_executed_as_one,
    transactions_follow_their_slot,
    pipelined_transactions_are_answered_in_order,
    transactions_open_no_connections,
);

/// `INCR` of two keys and a read of both.
fn transfer(conn: &mut Conn, keys: &[String; 2]) -> Result<[i64; 2]> {
    ensure!(conn.must("MULTI")?.is_ok());
    for key in keys {
        assert_eq!(conn.call(&["INCR", key])?.text()?, "QUEUED");
    }
    let reply = conn.must("EXEC")?;
    let counts = reply.items()?;
    ensure!(counts.len() == 2, "{reply:?}");
    Ok([counts[0].int()?, counts[1].int()?])
}

/// [M1]: whoever reads both keys in a transaction sees them equal, whatever others do.
fn a_transaction_is_executed_as_one(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let keys = [1, 2].map(|n| key_in_slot(500, n));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let writers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let mut conn = scene.proxy.conn()?;
                    for _ in 0..200 {
                        let [first, second] = transfer(&mut conn, &keys)?;
                        ensure!(first == second, "{first} and {second}");
                    }
                    Ok(())
                })
            })
            .collect();
        let reader = scope.spawn(|| -> Result<()> {
            let mut conn = scene.proxy.conn()?;
            while !done.load(Ordering::Relaxed) {
                let both = conn.call(&["MGET", &keys[0], &keys[1]])?;
                let both = both.items()?;
                ensure!(both[0] == both[1], "{both:?}");
            }
            Ok(())
        });
        let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Relaxed);
        for result in ended {
            result.ok().context("a writer panicked")??;
        }
        reader.join().ok().context("the reader panicked")?
    })?;
    let mut conn = scene.proxy.conn()?;
    assert_eq!(conn.call(&["GET", &keys[0]])?.text()?, "800");
    Ok(())
}

/// [M5]: a slot that moves, in the middle of moving, and one that has moved.
fn transactions_follow_their_slot(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let keys = [1, 2].map(|n| key_in_slot(77, n));
    let mut conn = scene.proxy.conn()?;
    assert_eq!(transfer(&mut conn, &keys)?, [1, 1]);
    let mut migration = scene.cluster.migration(0, 1)?;
    migration.open(&[77])?;
    assert_eq!(transfer(&mut conn, &keys)?, [2, 2], "both are here yet");
    migration.move_keys(&[&keys[0], &keys[1]])?;
    assert_eq!(transfer(&mut conn, &keys)?, [3, 3], "both are there");
    migration.move_all_keys(&[77])?;
    migration.close(&[77])?;
    assert_eq!(transfer(&mut conn, &keys)?, [4, 4]);
    scene.cluster.move_slots(1, 2, &[77])?;
    assert_eq!(transfer(&mut conn, &keys)?, [5, 5]);
    Ok(())
}

/// [M8]: with commands before, between and behind, for all nodes.
fn pipelined_transactions_are_answered_in_order(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    for n in 0..300 {
        let key = format!("key{n}");
        let number = n.to_string();
        for command in [
            &["SET", &key, &number][..],
            &["MULTI"],
            &["APPEND", &key, "x"],
            &["PING"],
            &["GET", &key],
            &["EXEC"],
            &["GET", &key],
        ] {
            bytes.extend_from_slice(&encode(command));
        }
        let value = format!("{number}x");
        let length = value.len();
        expected.push(format!(
            "+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n\
             *3\r\n:{length}\r\n+PONG\r\n${length}\r\n{value}\r\n${length}\r\n{value}\r\n"
        ));
    }
    conn.send_raw(&bytes)?;
    for expected in expected {
        let mut got = Vec::new();
        for _ in 0..7 {
            got.extend_from_slice(&conn.read_bytes()?);
        }
        assert_eq!(String::from_utf8(got)?, expected);
    }
    Ok(())
}

/// [M1]: they go over the links that are there.
fn transactions_open_no_connections(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let keys = [1, 2].map(|n| key_in_slot(500, n));
    let opened = || {
        scene
            .proxy
            .metric("slotway_upstream_connections_opened_total")
    };
    let mut conns: Vec<Conn> = (0..20).map(|_| scene.proxy.conn()).collect::<Result<_>>()?;
    // Each worker has its own links.
    for conn in &mut conns {
        transfer(conn, &keys)?;
    }
    let before = opened()?;
    for conn in &mut conns {
        for _ in 0..25 {
            transfer(conn, &keys)?;
        }
    }
    ensure!((opened()? - before).abs() < 0.5);
    Ok(())
}

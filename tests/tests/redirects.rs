//! Redirects and refusals on real clusters: MOVED, ASK, TRYAGAIN, and slots that move under load.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Load, LoadOptions, Proxy, Scene, Version, key_in_slot, wait_until};
use std::time::{Duration, Instant};

harness::on_full_matrix!(
    moved_is_followed_once,
    ask_is_followed_and_the_table_stays,
    commands_of_many_sessions_keep_their_asking,
    tryagain_is_hidden_until_the_keys_are_together,
    tryagain_is_shown_after_its_budget,
    migration_under_load_shows_no_error,
    empty_and_unknown_hosts_in_moved,
);

fn redirects(proxy: &Proxy, kind: &str) -> Result<f64> {
    Ok(proxy
        .metrics()?
        .sum("slotway_redirects_total", &[("kind", kind)]))
}

/// [scenario 31]
fn moved_is_followed_once(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let key = key_in_slot(77, 1);
    conn.call(&["SET", &key, "v"])?;
    assert!(redirects(&scene.proxy, "moved")? < 0.5);
    scene.cluster.move_slots(0, 1, &[77])?;
    assert_eq!(conn.call(&["GET", &key])?.text()?, "v");
    let after_first = redirects(&scene.proxy, "moved")?;
    ensure!(
        (0.5..1.5).contains(&after_first),
        "{after_first} redirects for one request"
    );
    for _ in 0..20 {
        ensure!(conn.call(&["GET", &key])?.text()? == "v");
    }
    let again = redirects(&scene.proxy, "moved")?;
    ensure!(
        again - after_first < 0.5,
        "{} further redirects",
        again - after_first
    );
    let topology = scene.proxy.get("/topology")?;
    ensure!(topology.status == 200 && topology.body.contains(scene.cluster.id(1)?));
    Ok(())
}

/// [scenario 36] [E6]
fn ask_is_followed_and_the_table_stays(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let [moved, kept] = [1, 2].map(|n| key_in_slot(99, n));
    for key in [&moved, &kept] {
        conn.call(&["SET", key, "v"])?;
    }
    let mut migration = scene.cluster.migration(0, 1)?;
    migration.open(&[99])?;
    migration.move_keys(&[&moved])?;
    let before = redirects(&scene.proxy, "ask")?;
    for mut conn in [scene.proxy.conn()?, scene.proxy.conn_resp3()?] {
        for _ in 0..10 {
            assert_eq!(conn.call(&["GET", &moved])?.text()?, "v");
            assert_eq!(conn.call(&["GET", &kept])?.text()?, "v");
        }
    }
    ensure!(
        (redirects(&scene.proxy, "ask")? - before - 20.0).abs() < 0.5,
        "each asks anew"
    );
    assert!(redirects(&scene.proxy, "moved")? < 0.5);
    // A key that exists nowhere is made at the target, as the servers have it.
    let fresh = key_in_slot(99, 3);
    ensure!(conn.call(&["SET", &fresh, "new"])?.is_ok());
    assert_eq!(conn.call(&["GET", &fresh])?.text()?, "new");
    migration.move_all_keys(&[99])?;
    migration.close(&[99])?;
    for (key, value) in [(&moved, "v"), (&kept, "v"), (&fresh, "new")] {
        assert_eq!(conn.call(&["GET", key])?.text()?, value);
    }
    Ok(())
}

/// [scenario 38] [O5]
fn commands_of_many_sessions_keep_their_asking(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let counters: Vec<String> = (0..100).map(|n| key_in_slot(5, n)).collect();
    let mut conns = (0..100)
        .map(|_| scene.proxy.conn())
        .collect::<Result<Vec<_>>>()?;
    let mut migration = scene.cluster.migration(0, 1)?;
    migration.open(&[5])?;
    for _ in 0..20 {
        for (conn, key) in conns.iter_mut().zip(&counters) {
            conn.send(&["INCR", key])?;
            conn.send(&["GET", "elsewhere"])?;
            conn.send(&["INCR", key])?;
        }
        for conn in &mut conns {
            for reply in conn.read_many(3)? {
                ensure!(reply.error().is_none(), "{reply:?}");
            }
        }
    }
    migration.close(&[5])?;
    for (conn, key) in conns.iter_mut().zip(&counters) {
        assert_eq!(conn.call(&["GET", key])?.text()?, "40");
    }
    Ok(())
}

/// [scenario 39] [R23]
fn tryagain_is_hidden_until_the_keys_are_together(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let [a, b] = [1, 2].map(|n| key_in_slot(123, n));
    ensure!(conn.call(&["MSET", &a, "1", &b, "2"])?.is_ok());
    let mut migration = scene.cluster.migration(0, 2)?;
    migration.open(&[123])?;
    migration.move_keys(&[&a])?;
    conn.send(&["MGET", &a, &b])?;
    let mut writer = scene.proxy.conn()?;
    writer.send(&["MSET", &a, "3", &b, "4"])?;
    let refused = || redirects(&scene.proxy, "tryagain");
    wait_until(Duration::from_secs(2), "the nodes refuse both", || {
        Ok(refused()? > 3.0)
    })?;
    ensure!(
        !conn.has_reply_within(Duration::from_millis(1))?,
        "answered before the keys are together"
    );
    migration.move_all_keys(&[123])?;
    migration.close(&[123])?;
    ensure!(writer.read()?.is_ok());
    let seen = conn.read()?.texts()?;
    ensure!(
        seen == ["1", "2"] || seen == ["3", "4"],
        "a torn MGET: {seen:?}"
    );
    assert_eq!(conn.call(&["MGET", &a, &b])?.texts()?, ["3", "4"]);
    Ok(())
}

/// [scenario 40]
fn tryagain_is_shown_after_its_budget(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let [a, b] = [1, 2].map(|n| key_in_slot(123, n));
    ensure!(conn.call(&["MSET", &a, "1", &b, "2"])?.is_ok());
    let mut migration = scene.cluster.migration(0, 2)?;
    migration.open(&[123])?;
    migration.move_keys(&[&a])?;
    let started = Instant::now();
    let reply = conn.call(&["MGET", &a, &b])?;
    let took = started.elapsed();
    let text = "TRYAGAIN Multiple keys request during rehashing of slot";
    assert_eq!(reply.error(), Some(text));
    let budget = Duration::from_millis(1_500)..Duration::from_millis(4_000);
    ensure!(budget.contains(&took), "after {took:?}");
    Ok(())
}

/// 1000 slots with their data to another node and back, under a steady load: nobody sees an error.
fn migration_under_load_shows_no_error(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let slots: Vec<u16> = (0..1000).collect();
    let mut conn = scene.proxy.conn()?;
    for slot in &slots {
        for n in 0..3 {
            conn.send(&["SET", &key_in_slot(*slot, n), "data"])?;
        }
    }
    conn.read_many(3 * slots.len())?;
    // Half of the load is on the slots that move.
    let busy = LoadOptions {
        connections: 8,
        slots: vec![0..=999],
        ..LoadOptions::default()
    };
    let wide = LoadOptions {
        connections: 8,
        resp3: true,
        ..LoadOptions::default()
    };
    let loads = [
        Load::start(scene.proxy.address(), &busy)?,
        Load::start(scene.proxy.address(), &wide)?,
    ];
    for (from, to) in [(0, 1), (1, 0)] {
        scene.cluster.move_slots(from, to, &slots)?;
        scene.cluster.settle()?;
        for load in &loads {
            load.wait_for(2_000)?;
        }
    }
    for load in loads {
        load.stop()?.ensure_flawless()?;
    }
    ensure!(redirects(&scene.proxy, "moved")? > 0.5, "no slot moved");
    for slot in &slots {
        assert_eq!(conn.call(&["GET", &key_in_slot(*slot, 2)])?.text()?, "data");
    }
    Ok(())
}

/// [scenarios 32, 33] [R19]: the servers may leave the host out of MOVED, or not know it.
fn empty_and_unknown_hosts_in_moved(version: Version) -> Result<()> {
    for endpoint in ["unknown-endpoint", "hostname"] {
        let cluster = Cluster::new(version)
            .replicas(0)
            .one_host()
            .setting("cluster-preferred-endpoint-type", endpoint)
            .start()
            .with_context(|| endpoint.to_owned())?;
        let proxy = Proxy::new(&cluster).start()?;
        let mut conn = proxy.conn()?;
        let key = key_in_slot(7, 1);
        ensure!(conn.call(&["SET", &key, "v"])?.is_ok());
        cluster.move_slots(0, 2, &[7])?;
        assert_eq!(conn.call(&["GET", &key])?.text()?, "v", "{endpoint}");
        ensure!(conn.call(&["SET", &key, "w"])?.is_ok(), "{endpoint}");
    }
    Ok(())
}

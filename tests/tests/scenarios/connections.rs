//! Connections to the nodes and to clients: closed, slow, reloaded.

use super::*;
use std::io::Read;

harness::on_release!(
    valkey_9_1,
    Valkey91,
    r45_a_slow_reader_of_a_big_reply_is_not_cut_off,
    r46_lost_connections_and_a_long_queue_eject_no_node,
    r49_a_hundred_reloads_and_moving_slots_under_load,
);

/// [R45] [D13]: it reads slowly, but goes on.
fn r45_a_slow_reader_of_a_big_reply_is_not_cut_off(version: Version) -> Result<()> {
    const BYTES: usize = 32 << 20;
    const SIP: usize = 128 << 10;
    const REST: Duration = Duration::from_millis(10);
    let scene = Scene::start(version)?;
    let letters = (b'a'..=b'z').flat_map(|letter| std::iter::repeat_n(letter, 1_000));
    let value: Vec<u8> = letters.cycle().take(BYTES).collect();
    let mut conn = scene.proxy.conn()?;
    ensure!(conn.call(&[&b"SET"[..], b"big", &value])?.is_ok());
    let mut slow = scene.proxy.conn()?;
    slow.send_raw(&[encode(&["GET", "big"]), encode(&["PING"])].concat())?;
    let expected = [
        format!("${BYTES}\r\n").into_bytes(),
        value,
        b"\r\n+PONG\r\n".to_vec(),
    ]
    .concat();
    let mut got = 0;
    let mut sip = vec![0; SIP];
    let began = Instant::now();
    let mut sips = 0;
    while got < expected.len() {
        let count = slow.stream().read(&mut sip)?;
        ensure!(count > 0, "disconnected after {got} bytes");
        ensure!(
            sip.get(..count) == expected.get(got..got + count),
            "other bytes after {got}"
        );
        got += count;
        sips += 1;
        wait_since(began, REST * sips)?;
        // Others are served meanwhile.
        if sips % 16 == 0 {
            assert_eq!(conn.must("STRLEN big")?.int()?, i64::try_from(BYTES)?);
        }
    }
    Ok(())
}

/// [R46]: some of a node's connections are closed while thousands of requests for one key of it are under way.
fn r46_lost_connections_and_a_long_queue_eject_no_node(version: Version) -> Result<()> {
    const REQUESTS: usize = 10_000;
    const CLOSED: usize = 5;
    const ROUNDS: usize = 4;
    let cluster = Cluster::new(version).replicas(0).start()?;
    let config = "[upstream]\nconnections_per_node = 10\n";
    let proxy = Proxy::new(&cluster).config(config).start()?;
    let mut conns: Vec<Conn> = (0..40).map(|_| proxy.conn()).collect::<Result<_>>()?;
    for conn in &mut conns {
        ensure!(conn.must("SET hot 1")?.is_ok());
    }
    let node = cluster.node(cluster.primary_of(slot_of(b"hot"))?)?;
    let mut observer = node.conn()?;
    let each = REQUESTS / conns.len();
    let bytes = encode(&["GET", "hot"]).repeat(each);
    for round in 0..ROUNDS {
        for conn in &mut conns {
            conn.send_raw(&bytes)?;
        }
        assert_eq!(kill_links(&mut observer, CLOSED)?, CLOSED);
        for conn in &mut conns {
            for reply in conn.read_many(each)? {
                assert_eq!(reply.text()?, "1", "round {round}");
            }
        }
        for conn in &mut conns {
            ensure!(conn.must("SET hot 1")?.is_ok(), "it takes writes at once");
        }
    }
    Ok(())
}

/// [R49]: every reload changes something, and slots go to and fro, so that the table is refreshed again and again.
fn r49_a_hundred_reloads_and_moving_slots_under_load(version: Version) -> Result<()> {
    const RELOADS: usize = 100;
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster)
        .config("limits.max_clients = 1000\n")
        .start()?;
    let load = Load::start(proxy.address(), &LoadOptions::default())?;
    load.wait_for(500)?;
    let applied = || -> Result<f64> {
        let name = "slotway_config_reloads_total";
        Ok(proxy.metrics()?.sum(name, &[("result", "applied")]))
    };
    let resident = proxy.resident_bytes()?;
    for reload in 1..=RELOADS {
        proxy.reload(&format!("limits.max_clients = {}\n", 1000 + reload))?;
        wait_until(SOON, "it is applied", || {
            Ok(applied()? + 0.5 > reload as f64)
        })?;
        if reload % 25 == 0 {
            let slots: Vec<u16> = (0..20).collect();
            let (from, to) = if reload % 50 == 0 { (2, 0) } else { (0, 2) };
            cluster.move_slots(from, to, &slots)?;
            cluster.settle()?;
        }
    }
    load.wait_for(500)?;
    load.stop()?.ensure_flawless()?;
    let grown = proxy.resident_bytes()?.saturating_sub(resident);
    ensure!(grown < 32 << 20, "{grown} bytes more than before");
    Ok(())
}

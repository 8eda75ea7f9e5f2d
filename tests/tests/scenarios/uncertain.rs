//! Requests that are late, and nodes that close connections: nothing is executed twice, no reply is another's.

use super::*;

harness::on_full_matrix!(
    r35_replies_stay_with_their_requests,
    r52_a_late_increment_is_executed_once,
    r53_every_entry_that_was_acknowledged_is_there,
);

/// [R35]: as many requests as there may be, while they run into their time limit and links are closed.
fn r35_replies_stay_with_their_requests(version: Version) -> Result<()> {
    const ROUNDS: usize = 4;
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster)
        .config("limits.request_timeout = \"100ms\"\n")
        .start()?;
    let options = LoadOptions {
        connections: 24,
        depth: 64,
        interval: Duration::ZERO,
        journals: 4,
        ..LoadOptions::default()
    };
    let load = Load::start(proxy.address(), &options)?;
    let mut observers = observers(&cluster)?;
    load.wait_for(5_000)?;
    for round in 0..ROUNDS {
        // Writes wait at the node, and what is behind them.
        observers[round % 3].must("CLIENT PAUSE 300 WRITE")?;
        load.wait_for(1_000)?;
        for observer in &mut observers {
            kill_links(observer, usize::MAX)?;
        }
        load.wait_for(2_000)?;
    }
    let report = load.stop()?;
    ensure!(proxy.metric("slotway_request_timeouts_total")? > 0.5);
    report.ensure_no_violations()
}

/// [R52] [D8]
fn r52_a_late_increment_is_executed_once(version: Version) -> Result<()> {
    let scene = {
        let cluster = Cluster::new(version).replicas(0).start()?;
        let proxy = Proxy::new(&cluster)
            .config("limits.request_timeout = \"1s\"\n")
            .start()?;
        Scene { cluster, proxy }
    };
    let node = scene
        .cluster
        .node(scene.cluster.primary_of(slot_of(b"n"))?)?;
    let mut conn = scene.proxy.conn()?;
    assert_eq!(conn.must("INCR n")?.int()?, 1);
    let mut sleeper = node.conn()?;
    sleeper.send(&["DEBUG", "SLEEP", "2"])?;
    // It sleeps once it has read that; a request that comes before is answered at once.
    let (mut done, mut late) = (1, 0);
    while late == 0 && done < 10_000 {
        match conn.line("INCR n")? {
            Reply::Int(count) => {
                done += 1;
                assert_eq!(count, done);
            }
            Reply::Error(text) => {
                ensure!(text.starts_with("UNCERTAIN proxy: timeout"), "{text}");
                late += 1;
            }
            other => anyhow::bail!("{other:?}"),
        }
    }
    assert_eq!(late, 1);
    sleeper.read()?;
    // What comes after it waits for it.
    assert_eq!(conn.must("INCR n")?.int()?, done + 2);
    assert_eq!(conn.must("GET n")?.text()?, (done + 2).to_string());
    Ok(())
}

/// [R53]: one primary, many clients, and links that are closed meanwhile.
fn r53_every_entry_that_was_acknowledged_is_there(version: Version) -> Result<()> {
    const CLIENTS: usize = 8;
    const BATCHES: usize = 20;
    const BATCH: usize = 100;
    let cluster = Cluster::new(version).primaries(1).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let mut observer = cluster.node(0)?.conn()?;
    let mut conns: Vec<Conn> = (0..CLIENTS).map(|_| proxy.conn()).collect::<Result<_>>()?;
    let add = vec![words("XADD stream * f v"); BATCH];
    let bytes: Vec<u8> = add.iter().flat_map(|command| encode(command)).collect();
    let (mut acknowledged, mut uncertain) = (0, 0);
    for batch in 0..BATCHES {
        for conn in &mut conns {
            conn.send_raw(&bytes)?;
        }
        if batch % 4 == 3 {
            kill_links(&mut observer, usize::MAX)?;
        }
        for conn in &mut conns {
            for reply in conn.read_many(BATCH)? {
                match reply {
                    Reply::Bulk(_) => acknowledged += 1,
                    Reply::Error(text) if text.starts_with("UNCERTAIN proxy: ") => uncertain += 1,
                    other => anyhow::bail!("{other:?}"),
                }
            }
        }
    }
    let length = observer.must("XLEN stream")?.int()?;
    ensure!(
        (acknowledged..=acknowledged + uncertain).contains(&length),
        "{length} entries; {acknowledged} acknowledged, {uncertain} uncertain"
    );
    Ok(())
}

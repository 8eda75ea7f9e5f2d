//! Commands that wait.

use super::*;

harness::on_release!(
    redis_7_0,
    Redis70,
    scenario_84_those_that_wait_are_served_in_their_order,
    r30_r31_waiting_is_longer_than_a_request_may_take,
);

/// [scenario 84] [B1] [B2]
fn scenario_84_those_that_wait_are_served_in_their_order(version: Version) -> Result<()> {
    const CLIENTS: usize = 100;
    let scene = Scene::start(version)?;
    let mut observers = observers(&scene.cluster)?;
    let mut conns = Vec::new();
    for n in 1..=CLIENTS {
        let mut conn = scene.proxy.conn()?;
        conn.send(&["BLPOP", "queue", "0"])?;
        conns.push(conn);
        wait_until(SOON, "it waits", || {
            Ok(figure(&mut observers, "clients", "blocked_clients")? == n)
        })?;
    }
    let mut other = scene.proxy.conn()?;
    let pushes: Vec<Vec<String>> = (0..CLIENTS)
        .map(|n| ["RPUSH", "queue", &n.to_string()].map(str::to_owned).into())
        .collect();
    other.pipeline(&pushes)?;
    for (n, conn) in conns.iter_mut().enumerate() {
        assert_eq!(conn.read()?.texts()?, ["queue".to_owned(), n.to_string()]);
    }
    assert_eq!(other.must("LLEN queue")?.int()?, 0);
    Ok(())
}

/// [R30] [B12]: the time that a request may take is shorter. [R31]: all clients are at one worker.
fn r30_r31_waiting_is_longer_than_a_request_may_take(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster)
        .workers(1)
        .config("limits.request_timeout = \"1s\"\n")
        .start()?;
    let began = Instant::now();
    let mut other = proxy.conn()?;
    let mut waiting = Vec::new();
    for command in [
        "BLPOP k 30",
        "BLPOP l 0",
        "XREAD BLOCK 0 STREAMS s $",
        "XREAD BLOCK 30000 STREAMS s $",
    ] {
        let mut conn = proxy.conn()?;
        conn.send(&words(command))?;
        waiting.push(conn);
    }
    let mut observers = observers(&cluster)?;
    wait_until(SOON, "all of them wait", || {
        Ok(figure(&mut observers, "clients", "blocked_clients")? == waiting.len())
    })?;
    wait_since(began, Duration::from_millis(1_500))?;
    for conn in &mut waiting {
        ensure!(!conn.has_reply_within(Duration::from_millis(1))?);
    }
    for command in ["RPUSH k x", "RPUSH l y", "XADD s 5-1 f v"] {
        other.must(command)?;
    }
    assert_eq!(waiting[0].read()?.texts()?, ["k", "x"]);
    assert_eq!(waiting[1].read()?.texts()?, ["l", "y"]);
    for reader in &mut waiting[2..] {
        assert_eq!(reader.read()?.shown(), "[[s, [[5-1, [f, v]]]]]");
    }
    let late = proxy.metric("slotway_request_timeouts_total")?;
    ensure!(late < 0.5, "{late} were taken for late");
    Ok(())
}

//! MULTI and EXEC: first bytes of a connection, rates, links that are lost; what stays at the nodes of clients that use them.

use super::*;

harness::on_release!(
    redis_7_0,
    Redis70,
    r25_a_whole_transaction_as_the_first_packet,
    r26_transactions_open_no_connection_at_the_nodes,
    r28_a_client_that_watched_leaves_nothing_to_the_next_one,
    r48_transactions_and_waiting_take_a_bounded_number_of_connections,
    scenario_79_a_lost_link_executes_a_transaction_once_or_never,
);

/// [R25]: and clients that are gone before EXEC, of whose commands nothing is executed [M1].
fn r25_a_whole_transaction_as_the_first_packet(version: Version) -> Result<()> {
    const CONNECTIONS: usize = 1_000;
    const CUT_OFF: usize = 100;
    let scene = Scene::start(version)?;
    let mut packet = b"MULTI\r\nSET a 1\r\nEXEC\r\n".to_vec();
    for n in 0..CONNECTIONS {
        let mut conn = scene.proxy.conn()?;
        conn.send_raw(&packet)?;
        let mut got = Vec::new();
        for _ in 0..3 {
            got.extend(conn.read_bytes()?);
        }
        ensure!(got == b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n", "connection {n}");
        if n == CONNECTIONS / 2 {
            packet = ["MULTI", "SET a 1", "EXEC"]
                .iter()
                .flat_map(|command| encode(&words(command)))
                .collect();
        }
    }
    for _ in 0..CUT_OFF {
        let mut conn = scene.proxy.conn()?;
        conn.send_raw(b"MULTI\r\nINCR never\r\n")?;
        ensure!(conn.read()?.is_ok());
        assert_eq!(conn.read()?.text()?, "QUEUED");
    }
    let mut conn = scene.proxy.conn()?;
    assert_eq!(conn.must("GET never")?, Reply::Nil);
    assert_eq!(conn.must("GET a")?.text()?, "1");
    Ok(())
}

/// One transaction of three commands.
fn transact(conn: &mut Conn, key: &str) -> Result<()> {
    let commands = [
        vec!["MULTI"],
        vec!["SET", key, "1"],
        vec!["INCR", key],
        vec!["GET", key],
        vec!["EXEC"],
    ];
    let replies = conn.pipeline(&commands)?;
    assert_eq!(replies[4].texts()?, ["OK", "2", "2"]);
    Ok(())
}

/// [R26]: at 500 transactions a second, by the nodes' own count.
fn r26_transactions_open_no_connection_at_the_nodes(version: Version) -> Result<()> {
    const BATCH: u32 = 25;
    const BETWEEN: Duration = Duration::from_millis(50);
    const TIME: Duration = Duration::from_secs(6);
    let scene = Scene::start(version)?;
    let keys = key_of_every_shard(&scene.cluster, 1);
    let mut conns: Vec<Conn> = (0..10).map(|_| scene.proxy.conn()).collect::<Result<_>>()?;
    for conn in &mut conns {
        for key in &keys {
            transact(conn, key)?;
        }
    }
    let mut observers = observers(&scene.cluster)?;
    let before = accepted(&mut observers)?;
    let began = Instant::now();
    let batches = TIME.as_millis() / BETWEEN.as_millis();
    for batch in 0..u32::try_from(batches)? {
        wait_since(began, BETWEEN * batch)?;
        for n in 0..BATCH {
            let number = (batch * BATCH + n) as usize;
            let (count, shards) = (conns.len(), keys.len());
            transact(&mut conns[number % count], &keys[number % shards])?;
        }
    }
    let took = began.elapsed();
    ensure!(took < TIME * 2, "no 500 a second: {took:?}");
    assert_eq!(accepted(&mut observers)? - before, 0, "connections opened");
    Ok(())
}

/// [R28] [W4]: the connection that watched for a client that is gone is used by the next one without its watch.
fn r28_a_client_that_watched_leaves_nothing_to_the_next_one(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).workers(1).start()?;
    let mut other = proxy.conn()?;
    for round in 0..30 {
        let mut leaver = proxy.conn()?;
        let commands = ["WATCH {t}k", "GET {t}k", "UNWATCH", "WATCH {t}k"].map(words);
        let replies = leaver.pipeline(&commands)?;
        ensure!(replies[0].is_ok() && replies[2].is_ok() && replies[3].is_ok());
        if round % 2 == 0 {
            // In the middle of a transaction, too.
            leaver.pipeline(&["MULTI", "INCR {t}never"].map(words))?;
        }
        drop(leaver);
        let mut next = proxy.conn()?;
        ensure!(next.must("WATCH {t}other")?.is_ok());
        other.must(&format!("SET {{t}}k {round}"))?;
        let replies = next.pipeline(&["MULTI", "SET {t}other 1", "EXEC"].map(words))?;
        assert_eq!(replies[2].texts()?, ["OK"], "round {round}");
    }
    assert_eq!(other.must("EXISTS {t}never")?.int()?, 0);
    Ok(())
}

/// [R48] [B3]: one connection for each client that waits, used again; none for those with transactions.
fn r48_transactions_and_waiting_take_a_bounded_number_of_connections(
    version: Version,
) -> Result<()> {
    const CLIENTS: usize = 100;
    const ROUNDS: usize = 5;
    let scene = Scene::start(version)?;
    let mut observers = observers(&scene.cluster)?;
    let mut conns: Vec<Conn> = (0..CLIENTS)
        .map(|_| scene.proxy.conn())
        .collect::<Result<_>>()?;
    let mut pusher = scene.proxy.conn()?;
    let idle = figure(&mut observers, "clients", "connected_clients")?;
    let mut first = 0;
    for round in 0..ROUNDS {
        for (n, conn) in conns.iter_mut().enumerate() {
            transact(conn, &format!("tx{n}"))?;
            conn.send(&["BLPOP", &format!("queue{n}"), "0"])?;
        }
        wait_until(SOON, "all of them wait", || {
            Ok(figure(&mut observers, "clients", "blocked_clients")? == CLIENTS)
        })?;
        // Over the links of the nodes to two workers, and one for each that waits.
        let now = figure(&mut observers, "clients", "connected_clients")?;
        ensure!(now <= idle + CLIENTS + 12, "{idle}, then {now} connections");
        for (n, conn) in conns.iter_mut().enumerate() {
            pusher.call(&["RPUSH", &format!("queue{n}"), "x"])?.int()?;
            assert_eq!(conn.read()?.texts()?, [format!("queue{n}"), "x".to_owned()]);
        }
        let accepted = accepted(&mut observers)?;
        if round == 0 {
            first = accepted;
        }
        // A client may come back before its connection does.
        let more = accepted - first;
        ensure!(
            more <= CLIENTS / 10,
            "round {round}: {more} connections more"
        );
    }
    Ok(())
}

/// [scenario 79] [scenario 70] [M6] [G5]: nodes close links, again and again.
fn scenario_79_a_lost_link_executes_a_transaction_once_or_never(version: Version) -> Result<()> {
    const KILLS: usize = 30;
    const EACH: usize = 20;
    let scene = Scene::start(version)?;
    let keys = [1, 2].map(|n| key_in_slot(500, n));
    let node = scene.cluster.node(scene.cluster.primary_of(500)?)?;
    let mut observer = node.conn()?;
    let mut conn = scene.proxy.conn()?;
    let unit = [
        encode(&["MULTI"]),
        encode(&["INCR", &keys[0]]),
        encode(&["INCR", &keys[1]]),
        encode(&["EXEC"]),
    ]
    .concat();
    let (mut done, mut uncertain) = (0, 0);
    for _ in 0..KILLS {
        conn.send_raw(&unit.repeat(EACH))?;
        kill_links(&mut observer, usize::MAX)?;
        for exec in conn.read_many(4 * EACH)?.iter().skip(3).step_by(4) {
            match exec {
                Reply::Error(text) => {
                    ensure!(text.starts_with("UNCERTAIN proxy: "), "{text}");
                    uncertain += 1;
                }
                both => {
                    let counts = both.texts()?;
                    ensure!(counts[0] == counts[1], "{counts:?}");
                    done += 1;
                }
            }
        }
    }
    let both = conn.call(&["MGET", &keys[0], &keys[1]])?.texts()?;
    ensure!(both[0] == both[1], "halves of transactions: {both:?}");
    let count: usize = both[0].parse()?;
    ensure!(
        (done..=done + uncertain).contains(&count),
        "{count} executed; {done} acknowledged and {uncertain} uncertain"
    );
    ensure!(done > 0);
    Ok(())
}

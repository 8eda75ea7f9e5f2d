//! The proxy in front of one server that is no cluster: it follows when the server is started anew, or another one takes its place. That
//! no command is split or refused for its keys' slots is in `unsplit.rs`, what single commands answer is compared with a server in
//! `differential.rs`. Numbers in brackets are the rules of the contract.

use anyhow::{Result, ensure};
use harness::{Conn, FaultProxy, Node, NodeOptions, Proxy, ProxyOptions, Version};
use harness::{Load, LoadOptions, next_address, wait_until};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

harness::on_full_matrix!(
    a_scan_has_the_cursors_of_the_server,
    scripts_are_cured_and_flushed,
    a_load_over_all_slots_is_flawless,
    a_server_started_anew_is_served_again,
    a_replica_is_not_taken,
    the_primary_of_a_replica_is_taken_n24,
    the_primary_of_a_replica_of_a_replica_is_taken_n24,
    a_primary_that_was_followed_is_found_again_n24,
    a_planned_failover_between_two_servers_shows_no_error_n25,
    an_address_that_another_server_takes_over,
    a_replica_made_primary_at_the_same_address,
    a_server_made_a_replica_by_hand_is_left,
    a_replica_that_takes_writes_gets_none,
    a_name_is_looked_up,
    a_node_of_a_cluster_is_no_such_server,
    a_user_who_may_not_ask_the_server_is_told,
);

/// Longest time in which a switch is followed.
const SWITCH: Duration = Duration::from_secs(5);

fn in_front_of(address: SocketAddrV4) -> ProxyOptions {
    Proxy::with_server(&address.to_string())
}

/// A replica of `primary` that has all it has.
fn replica_of(primary: &Node) -> Result<Node> {
    let replica = Node::standalone(primary.version())?;
    follow(&replica, primary)?;
    Ok(replica)
}

fn follow(replica: &Node, primary: &Node) -> Result<()> {
    let address = primary.address();
    replica.must(&format!("REPLICAOF {} {}", address.ip(), address.port()))?;
    wait_until(Duration::from_secs(20), "the replica is in step", || {
        Ok(replica.info("replication", "master_link_status")? == "up")
    })
}

/// A server that says where it is: a failover has the former primary follow the address of a replica.
fn announced(version: Version) -> Result<Node> {
    let address = next_address()?;
    let mut node = Node::launch(NodeOptions {
        version,
        cluster: false,
        relayed: false,
        settings: vec![("replica-announce-ip".to_owned(), address.ip().to_string())],
        address: Some(address),
    })?;
    node.wait_started()?;
    Ok(node)
}

/// Writes `key` until that is accepted; how long it took.
fn write_when_possible(conn: &mut Conn, key: &str) -> Result<Duration> {
    let started = Instant::now();
    wait_until(SWITCH, "a write is accepted", || {
        Ok(conn.line(&format!("SET {key} v"))?.is_ok())
    })?;
    Ok(started.elapsed())
}

fn a_scan_has_the_cursors_of_the_server(version: Version) -> Result<()> {
    let server = Node::standalone(version)?;
    let proxy = in_front_of(server.address()).start()?;
    let mut conn = proxy.conn()?;
    for n in 0..1000 {
        conn.send(&["SET", &format!("key:{n}"), "v"])?;
    }
    conn.read_many(1000)?;
    let mut cursor = "0".to_owned();
    let mut found = std::collections::BTreeSet::new();
    loop {
        let through = conn.must(&format!("SCAN {cursor} COUNT 50"))?;
        let straight = server.must(&format!("SCAN {cursor} COUNT 50"))?;
        assert_eq!(through, straight);
        found.extend(through.items()?[1].texts()?);
        cursor = through.items()?[0].text()?;
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found.len(), 1000);
    Ok(())
}

fn scripts_are_cured_and_flushed(version: Version) -> Result<()> {
    let server = Node::standalone(version)?;
    let proxy = in_front_of(server.address()).start()?;
    let mut conn = proxy.conn()?;
    let digest = conn.call(&["SCRIPT", "LOAD", "return #KEYS"])?.text()?;
    server.must("SCRIPT FLUSH")?;
    let call = ["EVALSHA", &digest, "3", "a", "b", "c"];
    assert_eq!(conn.call(&call)?.int()?, 3, "the body is sent again");
    conn.must("SCRIPT FLUSH")?;
    let reply = conn.call(&call)?;
    ensure!(
        reply
            .error()
            .is_some_and(|text| text.starts_with("NOSCRIPT")),
        "{reply:?}"
    );
    Ok(())
}

fn a_load_over_all_slots_is_flawless(version: Version) -> Result<()> {
    let server = Node::standalone(version)?;
    let proxy = in_front_of(server.address()).start()?;
    let load = Load::start(proxy.address(), &LoadOptions::default())?;
    load.wait_for(10_000)?;
    load.stop()?.ensure_flawless()
}

/// A new run id at the old address.
fn a_server_started_anew_is_served_again(version: Version) -> Result<()> {
    let mut server = Node::standalone(version)?;
    let proxy = in_front_of(server.address()).start()?;
    let mut conn = proxy.conn()?;
    for _ in 0..2 {
        conn.must("SET a 1")?;
        let before = server.info("server", "run_id")?;
        server.kill()?;
        server.restart()?;
        ensure!(server.info("server", "run_id")? != before);
        write_when_possible(&mut conn, "b")?;
        wait_until(SWITCH, "the topology names the new process", || {
            let topology = proxy.get("/topology")?.body;
            Ok(topology.contains(&server.info("server", "run_id")?))
        })?;
    }
    Ok(())
}

/// Makes `replica` one of a server that has gone since; a server does not forget whom it follows.
fn abandon(replica: &Node) -> Result<()> {
    let mut other = Node::standalone(replica.version())?;
    follow(replica, &other)?;
    other.kill()
}

/// A replica never takes the place of a server; who asks is told why.
fn a_replica_is_not_taken(version: Version) -> Result<()> {
    let replica = Node::standalone(version)?;
    abandon(&replica)?;
    let mut proxy = in_front_of(replica.address()).launch()?;
    wait_until(SWITCH, "/readyz says why", || {
        let reply = proxy.get("/readyz")?;
        Ok(reply.status == 503 && reply.body.contains("is a replica of"))
    })?;
    let log = proxy.log();
    ensure!(log.contains("is a replica of"), "{log}");
    replica.must("REPLICAOF NO ONE")?;
    proxy.wait_ready(SWITCH)?;
    ensure!(proxy.conn()?.must("SET a 1")?.is_ok());
    Ok(())
}

/// Pointed at a replica, the proxy finds the primary by itself; also when that is another one later, and when the replica is gone.
fn the_primary_of_a_replica_is_taken_n24(version: Version) -> Result<()> {
    let first = Node::standalone(version)?;
    let second = Node::standalone(version)?;
    let mut replica = replica_of(&first)?;
    let proxy = in_front_of(replica.address()).start()?;
    let mut conn = proxy.conn()?;
    conn.must("INCR a")?;
    ensure!(first.calls("incr")? == 1);
    follow(&replica, &second)?;
    wait_until(SWITCH, "the other primary is written to", || {
        conn.must("INCR a")?;
        Ok(second.calls("incr")? > 0)
    })?;
    replica.kill()?;
    let rounds = proxy.metric("slotway_topology_refreshes_total")?;
    wait_until(SWITCH, "it was looked for", || {
        Ok(proxy.metric("slotway_topology_refreshes_total")? > rounds + 3.0)
    })?;
    conn.must("INCR a")?;
    assert_eq!(proxy.get("/readyz")?.status, 200);
    Ok(())
}

/// As after a second `FAILOVER`: the configured server still follows the one before.
fn the_primary_of_a_replica_of_a_replica_is_taken_n24(version: Version) -> Result<()> {
    let first = Node::standalone(version)?;
    let middle = replica_of(&first)?;
    let last = replica_of(&middle)?;
    let proxy = in_front_of(last.address()).start()?;
    proxy.conn()?.must("INCR a")?;
    // Others have it by replication.
    ensure!(first.info("replication", "role")? == "master");
    ensure!(first.calls("incr")? == 1);
    Ok(())
}

/// The configured server is gone when the one it followed is a replica for a while.
fn a_primary_that_was_followed_is_found_again_n24(version: Version) -> Result<()> {
    let primary = Node::standalone(version)?;
    let mut replica = replica_of(&primary)?;
    let proxy = in_front_of(replica.address()).start()?;
    let mut conn = proxy.conn()?;
    conn.must("INCR a")?;
    replica.kill()?;
    abandon(&primary)?;
    wait_until(SWITCH, "/readyz says why", || {
        Ok(proxy.get("/readyz")?.body.contains("is a replica of"))
    })?;
    primary.must("REPLICAOF NO ONE")?;
    write_when_possible(&mut conn, "b")?;
    Ok(())
}

/// `FAILOVER`, and back.
fn a_planned_failover_between_two_servers_shows_no_error_n25(version: Version) -> Result<()> {
    let (first, second) = (announced(version)?, announced(version)?);
    follow(&second, &first)?;
    let proxy = in_front_of(first.address()).start()?;
    let load = Load::start(proxy.address(), &LoadOptions::default())?;
    load.wait_for(2_000)?;
    for (old, new) in [(&first, &second), (&second, &first)] {
        old.must("FAILOVER")?;
        wait_until(SWITCH, "the roles are exchanged", || {
            Ok(new.info("replication", "role")? == "master"
                && old.info("replication", "master_link_status").is_ok())
        })?;
        load.wait_for(2_000)?;
        wait_until(SWITCH, "the new primary is used", || {
            Ok(proxy
                .get("/topology")?
                .body
                .contains(&new.address().to_string()))
        })?;
    }
    let report = load.stop()?;
    report.ensure_no_violations()?;
    ensure!(report.errors.is_empty(), "{}", report.error_summary());
    Ok(())
}

/// A virtual IP: new connections come to another server, while those to the old one live on. That one is a replica by then, or not.
fn an_address_that_another_server_takes_over(version: Version) -> Result<()> {
    for is_demoted in [true, false] {
        let old = Node::standalone(version)?;
        let new = replica_of(&old)?;
        let service = FaultProxy::start(old.address())?;
        let proxy = in_front_of(service.address()).start()?;
        let mut conn = proxy.conn()?;
        conn.must("SET before 1")?;
        wait_until(SWITCH, "the replica has it", || {
            Ok(new.must("EXISTS before")?.int()? == 1)
        })?;
        new.must("REPLICAOF NO ONE")?;
        service.set_target(new.address());
        if is_demoted {
            follow(&old, &new)?;
        }
        let started = Instant::now();
        let mut number = 0;
        wait_until(SWITCH, "writes come to the new server", || {
            number += 1;
            conn.must(&format!("SET after{number} 1"))?;
            Ok(new.must(&format!("EXISTS after{number}"))?.int()? == 1)
        })?;
        ensure!(started.elapsed() < SWITCH, "took {:?}", started.elapsed());
        assert_eq!(conn.must("MGET before")?.texts()?, ["1"]);
    }
    Ok(())
}

/// Two processes swap a port: the address stays, what answers there is another server.
fn a_replica_made_primary_at_the_same_address(version: Version) -> Result<()> {
    let mut old = Node::standalone(version)?;
    let proxy = in_front_of(old.address()).start()?;
    let mut conn = proxy.conn()?;
    conn.must("SET a 1")?;
    old.kill()?;
    let mut new = Node::launch(NodeOptions {
        version,
        cluster: false,
        relayed: false,
        settings: Vec::new(),
        address: Some(old.address()),
    })?;
    new.wait_started()?;
    write_when_possible(&mut conn, "b")?;
    assert_eq!(new.must("GET b")?.text()?, "v");
    Ok(())
}

/// The server becomes a replica under living connections, and then a primary again: writes wait and are executed.
fn a_server_made_a_replica_by_hand_is_left(version: Version) -> Result<()> {
    let server = Node::standalone(version)?;
    let proxy = in_front_of(server.address()).start()?;
    let mut conn = proxy.conn()?;
    conn.must("SET a 1")?;
    abandon(&server)?;
    wait_until(SWITCH, "/readyz says why", || {
        let reply = proxy.get("/readyz")?;
        Ok(reply.status == 503 && reply.body.contains("is a replica of"))
    })?;
    conn.send(&["MSET", "b", "1", "c", "2"])?;
    ensure!(
        !conn.has_reply_within(Duration::from_millis(300))?,
        "the write waits"
    );
    server.must("REPLICAOF NO ONE")?;
    ensure!(conn.read()?.is_ok());
    wait_until(SWITCH, "it is ready", || {
        Ok(proxy.get("/readyz")?.status == 200)
    })?;
    assert_eq!(conn.must("MGET b c")?.texts()?, ["1", "2"]);
    Ok(())
}

/// What it takes is lost with the next copy of its primary's data [N17].
fn a_replica_that_takes_writes_gets_none(version: Version) -> Result<()> {
    let server = Node::standalone(version)?;
    server.must("CONFIG SET slave-read-only no")?;
    let proxy = in_front_of(server.address()).start()?;
    let mut conn = proxy.conn()?;
    conn.must("INCR a")?;
    abandon(&server)?;
    wait_until(SWITCH, "/readyz says why", || {
        Ok(proxy.get("/readyz")?.body.contains("is a replica of"))
    })?;
    conn.send(&["INCR", "b"])?;
    ensure!(
        !conn.has_reply_within(Duration::from_millis(300))?,
        "the write waits"
    );
    server.must("REPLICAOF NO ONE")?;
    ensure!(conn.read()?.int()? == 1);
    Ok(())
}

/// `localhost` has an address, perhaps two of which one answers.
fn a_name_is_looked_up(version: Version) -> Result<()> {
    let localhost = SocketAddrV4::new([127, 0, 0, 1].into(), free_port()?);
    let mut server = Node::launch(NodeOptions {
        version,
        cluster: false,
        relayed: false,
        settings: Vec::new(),
        address: Some(localhost),
    })?;
    server.wait_started()?;
    let proxy = Proxy::with_server(&format!("localhost:{}", localhost.port())).start()?;
    let mut conn = proxy.conn()?;
    conn.must("MSET a 1 b 2")?;
    server.kill()?;
    server.restart()?;
    write_when_possible(&mut conn, "c")?;
    Ok(())
}

fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}

/// Its keys would be refused for their slots: the proxy says what to set instead.
fn a_node_of_a_cluster_is_no_such_server(version: Version) -> Result<()> {
    let cluster = harness::Cluster::new(version).replicas(0).start()?;
    let proxy = in_front_of(cluster.seeds()[0]).launch()?;
    wait_until(SWITCH, "/readyz says why", || {
        let reply = proxy.get("/readyz")?;
        Ok(reply.body.contains("set upstream.cluster instead"))
    })
}

/// What is missing, and where.
fn a_user_who_may_not_ask_the_server_is_told(version: Version) -> Result<()> {
    let server = Node::standalone(version)?;
    server.must("ACL SETUSER proxy on >secret +@all -role -info allkeys")?;
    let proxy = in_front_of(server.address())
        .environment("SLOTWAY_UPSTREAM_USER", "proxy")
        .environment("SLOTWAY_UPSTREAM_PASSWORD", "secret")
        .launch()?;
    wait_until(SWITCH, "/readyz says what is missing", || {
        let body = proxy.get("/readyz")?.body;
        Ok(body.contains("NOPERM") && body.contains("(upstream.user) needs ROLE and INFO"))
    })
}

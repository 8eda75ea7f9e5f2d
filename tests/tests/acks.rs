//! WAIT and WAITAOF: numbers that are true, on real clusters and in front of one server [A1]-[A5].

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{Cluster, Conn, Node, Proxy, Version, key_in_slot, wait_until};

harness::on_full_matrix!(
    replicas_that_have_what_was_written_are_counted,
    another_connection_is_told_no_more,
    a_failover_is_told,
    a_client_can_be_unblocked,
    a_client_that_leaves_waits_no_more,
    one_server_is_asked_alone,
);
harness::on_release!(
    redis_8_2,
    Redis82,
    replicas_that_have_what_was_written_are_counted,
    another_connection_is_told_no_more,
    a_failover_is_told,
    one_server_is_asked_alone,
);
harness::on_release!(
    redis_6_2,
    Redis62,
    replicas_that_have_what_was_written_are_counted,
    another_connection_is_told_no_more,
);

const PATIENCE: Duration = Duration::from_secs(10);

fn scene(version: Version) -> Result<(Cluster, Proxy)> {
    let cluster = Cluster::new(version).replicas(1).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    Ok((cluster, proxy))
}

/// The one replica of the shard that has slot 0.
fn replica(cluster: &Cluster) -> Result<&Node> {
    cluster.node(cluster.replica_of(cluster.primary_of(0)?)?)
}

/// Writes to every shard.
fn write(conn: &mut Conn) -> Result<()> {
    for slot in [0, 6_000, 12_000] {
        let key = key_in_slot(slot, 1);
        ensure!(conn.call(&["SET", &key, "v"])?.is_ok());
    }
    Ok(())
}

fn replicas_that_have_what_was_written_are_counted(version: Version) -> Result<()> {
    let (cluster, proxy) = scene(version)?;
    for mut conn in [proxy.conn()?, proxy.conn_resp3()?] {
        write(&mut conn)?;
        assert_eq!(conn.must("WAIT 1 0")?.int()?, 1);
        let replica = replica(&cluster)?;
        replica.freeze()?;
        write(&mut conn)?;
        let began = Instant::now();
        assert_eq!(conn.must("WAIT 1 300")?.int()?, 0);
        ensure!(began.elapsed() >= Duration::from_millis(300));
        let batch = [
            vec!["SET", "k", "1"],
            vec!["WAIT", "1", "10"],
            vec!["GET", "k"],
        ];
        let replies = conn.pipeline(&batch)?;
        assert_eq!(replies[1].int()?, 0);
        assert_eq!(replies[2].text()?, "1");
        conn.send(&["WAIT", "1", "0"])?;
        ensure!(!conn.has_reply_within(Duration::from_millis(100))?);
        replica.thaw()?;
        assert_eq!(conn.read()?.int()?, 1);
        assert_eq!(conn.must("WAIT 1 5000")?.int()?, 1);
    }
    Ok(())
}

/// Its own connection has written nothing; what others were told to be written counts.
fn another_connection_is_told_no_more(version: Version) -> Result<()> {
    let (cluster, proxy) = scene(version)?;
    let mut writer = proxy.conn()?;
    write(&mut writer)?;
    assert_eq!(writer.must("WAIT 1 5000")?.int()?, 1);
    let replica = replica(&cluster)?;
    replica.freeze()?;
    write(&mut writer)?;
    for _ in 0..3 {
        assert_eq!(proxy.conn()?.must("WAIT 1 20")?.int()?, 0);
    }
    replica.thaw()?;
    assert_eq!(proxy.conn()?.must("WAIT 1 5000")?.int()?, 1);
    Ok(())
}

/// [A4]: what the former primary has acknowledged may be gone with it.
fn a_failover_is_told(version: Version) -> Result<()> {
    let (cluster, proxy) = scene(version)?;
    let mut conn = proxy.conn()?;
    write(&mut conn)?;
    let primary = cluster.primary_of(0)?;
    let replica = cluster.replica_of(primary)?;
    cluster.failover(replica)?;
    let generation = || proxy.metric("slotway_topology_generation");
    let before = generation()?;
    wait_until(PATIENCE, "the proxy knows the new primary", || {
        proxy.conn()?.call(&["SET", &key_in_slot(0, 1), "v"])?;
        Ok(generation()? > before)
    })?;
    let told = conn.line("WAIT 1 100")?;
    let text = told.error().unwrap_or_default();
    ensure!(
        text.starts_with("ERR proxy: WAIT interrupted by failover"),
        "{told:?}"
    );
    // Until all of the change is known it may be told again.
    wait_until(
        PATIENCE,
        "the replicas of the new primary are counted",
        || {
            write(&mut conn)?;
            let told = conn.line("WAIT 1 5000")?;
            Ok(told.error().is_none() && told.int()? == 1)
        },
    )?;
    assert_eq!(proxy.conn()?.must("WAIT 1 5000")?.int()?, 1);
    Ok(())
}

/// A client that waits for a replica that is frozen.
fn waiting(proxy: &Proxy, other: &mut Conn) -> Result<(Conn, String)> {
    let mut conn = proxy.conn()?;
    let id = conn.must("CLIENT ID")?.int()?.to_string();
    write(&mut conn)?;
    conn.send(&["WAIT", "1", "0"])?;
    wait_until(PATIENCE, "the client waits", || {
        let list = other.call(&["CLIENT", "LIST", "ID", &id])?.text()?;
        Ok(list.contains(" flags=b "))
    })?;
    Ok((conn, id))
}

/// [B9]
fn a_client_can_be_unblocked(version: Version) -> Result<()> {
    let (cluster, proxy) = scene(version)?;
    let mut other = proxy.conn()?;
    let replica = replica(&cluster)?;
    replica.freeze()?;
    let (mut conn, id) = waiting(&proxy, &mut other)?;
    assert_eq!(other.must(&format!("CLIENT UNBLOCK {id}"))?.int()?, 1);
    assert_eq!(conn.read()?.int()?, 0);
    let (mut conn, id) = waiting(&proxy, &mut other)?;
    assert_eq!(other.must(&format!("CLIENT UNBLOCK {id} ERROR"))?.int()?, 1);
    let told = conn.read()?;
    ensure!(
        told.error()
            .is_some_and(|text| text.starts_with("UNBLOCKED ")),
        "{told:?}"
    );
    replica.thaw()?;
    assert_eq!(conn.must("WAIT 1 5000")?.int()?, 1);
    Ok(())
}

/// [B6]
fn a_client_that_leaves_waits_no_more(version: Version) -> Result<()> {
    let (cluster, proxy) = scene(version)?;
    let (primary, replica) = (cluster.node(cluster.primary_of(0)?)?, replica(&cluster)?);
    replica.freeze()?;
    let (conn, _) = waiting(&proxy, &mut proxy.conn()?)?;
    let blocked = || primary.info("clients", "blocked_clients");
    wait_until(PATIENCE, "it waits at the node", || Ok(blocked()? == "1"))?;
    drop(conn);
    wait_until(PATIENCE, "it waits no more", || Ok(blocked()? == "0"))?;
    replica.thaw()
}

fn one_server_is_asked_alone(version: Version) -> Result<()> {
    let primary = Node::standalone(version)?;
    let replica = Node::standalone(version)?;
    let address = primary.address();
    replica.must(&format!("REPLICAOF {} {}", address.ip(), address.port()))?;
    wait_until(PATIENCE, "the replica follows", || {
        Ok(replica.info("replication", "master_link_status")? == "up")
    })?;
    let proxy = Proxy::with_seeds(&[])
        .config(&format!("upstream.server = '{address}'\n"))
        .start()?;
    let mut conn = proxy.conn()?;
    conn.must("SET k v")?;
    assert_eq!(conn.must("WAIT 1 5000")?.int()?, 1);
    replica.freeze()?;
    conn.must("SET k w")?;
    assert_eq!(conn.must("WAIT 1 50")?.int()?, 0);
    replica.thaw()
}

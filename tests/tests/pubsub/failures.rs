//! Nodes that change or die, slots that move, clients that do not read.

use super::*;
use anyhow::bail;

harness::on_full_matrix!(
    a_failover_of_the_node_is_no_gap,
    a_killed_node_ends_the_sessions_that_had_it,
    a_frozen_node_is_noticed_though_it_owes_nothing,
    a_sharded_channel_follows_its_slot,
    a_slow_subscriber_is_closed_and_others_go_on,
);

/// Publishes until each of these clients has got a message that was published after this call; none of them may be closed.
fn reaches(cluster: &Cluster, conn: &mut Conn, mark: &str) -> Result<()> {
    conn.set_timeout(Duration::from_millis(200))?;
    let publisher = cluster
        .nodes()
        .iter()
        .find(|node| node.process_id().is_ok())
        .context("a node")?;
    wait_until(SOON, "a message arrives", || {
        publisher.must(&format!("PUBLISH news {mark}"))?;
        match next(conn) {
            Ok(texts) => Ok(texts[2] == mark),
            Err(error) if format!("{error:#}").contains("no reply in time") => Ok(false),
            Err(error) => bail!("{error:#}"),
        }
    })?;
    conn.set_timeout(SOON)
}

/// [U6]: planned, so the sessions go on.
fn a_failover_of_the_node_is_no_gap(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).start()?;
    let proxy = one_worker(&cluster)?;
    let mut conn = proxy.conn()?;
    subscribe(&mut conn, "SUBSCRIBE news")?;
    let home = node_with(&cluster, "NUMSUB", "news")?;
    let replica = cluster.replica_of(home)?;
    let slot = *cluster.initial_slots(home).start();
    let mut publisher = cluster.node(replica)?.conn()?;
    let mut sent = 0;
    let mut publish = || -> Result<()> {
        publisher.must(&format!("PUBLISH news {sent}"))?;
        sent += 1;
        Ok(())
    };
    publish()?;
    cluster.failover(replica)?;
    publish()?;
    // A redirection tells the proxy of it; then the subscription goes to a primary.
    let mut other = proxy.conn()?;
    other.must(&format!("SET {} v", key_in_slot(slot, 1)))?;
    wait_until(SOON, "another node has the subscription", || {
        publish()?;
        Ok(node_with(&cluster, "NUMSUB", "news")? != home)
    })?;
    publish()?;
    // Around the switch a message may be at one node before and at the other after it; no other is lost, and none comes twice.
    let mut got = Vec::new();
    while got.last() != Some(&(sent - 1)) {
        got.push(next(&mut conn)?[2].parse::<i32>()?);
    }
    ensure!(got.is_sorted_by(|a, b| a < b), "{got:?}");
    ensure!(
        got[..2] == [0, 1] && got.len() + 2 >= sent as usize,
        "{sent} sent: {got:?}"
    );
    Ok(())
}

/// [U6]: `kill -9`. What was missed nobody knows, so the sessions end; whoever comes back is served at once.
fn a_killed_node_ends_the_sessions_that_had_it(version: Version) -> Result<()> {
    let mut cluster = Cluster::new(version).start()?;
    let proxy = one_worker(&cluster)?;
    let (mut conn, mut plain) = (proxy.conn()?, proxy.conn()?);
    subscribe(&mut conn, "SUBSCRIBE news")?;
    let home = node_with(&cluster, "NUMSUB", "news")?;
    cluster.node_mut(home)?.kill()?;
    assert_eq!(conn.read_to_close()?, b"");
    assert_eq!(plain.must("PING")?.text()?, "PONG");
    let mut conn = proxy.conn()?;
    let again = std::time::Instant::now();
    subscribe(&mut conn, "SUBSCRIBE news")?;
    ensure!(
        again.elapsed() < Duration::from_secs(3),
        "{:?}",
        again.elapsed()
    );
    reaches(&cluster, &mut conn, "again")?;
    let closed = proxy.metrics()?.sum(
        "slotway_downstream_connections_closed_total",
        &[("reason", "subscription_lost")],
    );
    ensure!((closed - 1.0).abs() < 0.5, "{closed}");
    Ok(())
}

/// [U6]: nothing tells that a frozen node has no messages because it cannot; it is asked.
fn a_frozen_node_is_noticed_though_it_owes_nothing(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = one_worker(&cluster)?;
    let mut conn = proxy.conn()?;
    subscribe(&mut conn, "SUBSCRIBE news")?;
    let home = node_with(&cluster, "NUMSUB", "news")?;
    cluster.node(home)?.freeze()?;
    let frozen = std::time::Instant::now();
    assert_eq!(conn.read_to_close()?, b"");
    let noticed = frozen.elapsed();
    ensure!(noticed < Duration::from_secs(12), "{noticed:?}");
    let mut conn = proxy.conn()?;
    subscribe(&mut conn, "SUBSCRIBE news")?;
    cluster.node(home)?.thaw()?;
    reaches(&cluster, &mut conn, "again")
}

/// [U12]-[U14]
fn a_sharded_channel_follows_its_slot(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = one_worker(&cluster)?;
    let (mut conn, mut publisher) = (proxy.conn()?, proxy.conn()?);
    let here = key_in_slot(77, 1);
    let there = key_in_slot(*cluster.initial_slots(2).start(), 1);
    subscribe(&mut conn, &format!("SSUBSCRIBE {here} {there}"))?;
    assert_eq!(node_with(&cluster, "SHARDNUMSUB", &here)?, 0);
    assert_eq!(node_with(&cluster, "SHARDNUMSUB", &there)?, 2);
    let mut said = |conn: &mut Conn, channel: &str, payload: &str| -> Result<()> {
        assert_eq!(
            publisher.call(&["SPUBLISH", channel, payload])?.int()?,
            1,
            "one connection has it"
        );
        assert_eq!(next(conn)?, ["smessage", channel, payload]);
        Ok(())
    };
    said(&mut conn, &there, "1")?;
    said(&mut conn, &here, "2")?;
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        cluster.move_slots(from, to, &[77])?;
        // The node that the slot has left says so, and discovery is asked.
        wait_until(SOON, "it is at the new owner", || {
            Ok(node_with(&cluster, "SHARDNUMSUB", &here)? == to)
        })?;
        said(&mut conn, &here, &format!("at {to}"))?;
    }
    conn.send(&["SUNSUBSCRIBE", &here])?;
    assert_eq!(conn.read()?.items()?[2].int()?, 1, "nothing else was said");
    wait_until(SOON, "the node is told", || {
        Ok(subscribed(&cluster, "SHARDNUMSUB", &here)?
            .iter()
            .sum::<i64>()
            == 0)
    })?;
    said(&mut conn, &there, "3")
}

/// [U8]
fn a_slow_subscriber_is_closed_and_others_go_on(version: Version) -> Result<()> {
    const MESSAGES: usize = 80;
    const MIB: usize = 1 << 20;
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = one_worker(&cluster)?;
    let (mut slow, mut fast) = (proxy.conn()?, proxy.conn()?);
    for conn in [&mut slow, &mut fast] {
        subscribe(conn, "SUBSCRIBE big")?;
    }
    let mut publisher = proxy.conn()?;
    let payload = vec![b'x'; MIB];
    for n in 0..MESSAGES {
        publisher
            .call(&[&b"PUBLISH"[..], b"big", &payload])?
            .int()?;
        let message = fast.read()?;
        ensure!(
            matches!(&message.items()?[2], Reply::Bulk(bytes) if bytes.len() == MIB),
            "message {n}"
        );
    }
    let limit = || {
        let metrics = proxy.metrics()?;
        let name = "slotway_downstream_connections_closed_total";
        Ok(metrics.sum(name, &[("reason", "output_limit")]) > 0.5)
    };
    wait_until(SOON, "the slow one is closed", limit)?;
    let got = slow.read_to_close()?.len();
    ensure!(got < MESSAGES * MIB, "{got} bytes");
    publisher.must("PUBLISH big end")?;
    assert_eq!(next(&mut fast)?, ["message", "big", "end"]);
    Ok(())
}

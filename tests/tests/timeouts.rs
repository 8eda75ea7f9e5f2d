//! Requests that a node takes too long to answer [D8].

use anyhow::{Result, ensure};
use harness::{Cluster, Proxy, Version, slot_of};

harness::on_full_matrix!(a_late_write_costs_its_client_an_error_and_nobody_a_connection);

fn a_late_write_costs_its_client_an_error_and_nobody_a_connection(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster)
        .workers(1)
        .config("limits.request_timeout = \"1s\"\n")
        .start()?;
    let (mut writer, mut reader) = (proxy.conn()?, proxy.conn()?);
    writer.must("SET {k}a old")?;
    let opened = || proxy.metric("slotway_upstream_connections_opened_total");
    let before = opened()?;
    let node = cluster.node(cluster.primary_of(slot_of(b"k"))?)?;
    // As around a manual failover, only for longer: writes wait, and what is behind them on their connection.
    node.must("CLIENT PAUSE 60000 WRITE")?;
    writer.send(&["SET", "{k}a", "late"])?;
    let reply = writer.read()?;
    let text = reply.error().unwrap_or_default().to_owned();
    ensure!(
        text.starts_with("UNCERTAIN proxy: timeout, no reply within 1000 ms"),
        "{text}"
    );
    reader.send(&["GET", "{k}a"])?;
    let text = reader.read()?.error().unwrap_or_default().to_owned();
    ensure!(
        text == "ERR proxy: timeout, no reply within 1000 ms",
        "{text}"
    );
    ensure!(proxy.metric("slotway_request_timeouts_total")? > 1.5);
    writer.send(&["APPEND", "{k}a", "r"])?;
    node.must("CLIENT UNPAUSE")?;
    // The late write is executed first, its reply is nobody's.
    ensure!(writer.read()?.int()? == 5);
    ensure!(writer.must("GET {k}a")?.text()? == "later");
    ensure!(reader.must("GET {k}a")?.text()? == "later");
    // A probe asked whether the node lives; nothing was given up.
    let lost = proxy.metric("slotway_upstream_connections_lost_total")?;
    ensure!(lost < 0.5, "{lost} connections were lost");
    ensure!(opened()? < before + 2.5);
    Ok(())
}

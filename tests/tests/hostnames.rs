//! Servers and Sentinels that name each other by names instead of addresses [N19].

use anyhow::{Context, Result, ensure};
use harness::{Load, LoadOptions, Proxy, SERVICE, Service, Version, name_of, wait_until};
use std::net::SocketAddrV4;
use std::time::Duration;

harness::on_full_matrix!(
    a_failover_between_servers_known_by_name_shows_no_error_n19,
    a_name_and_the_address_it_means_are_one_server_n19,
);

/// Every switch within this time.
const SWITCH: Duration = Duration::from_secs(5);

fn named(address: SocketAddrV4) -> String {
    format!("{}:{}", name_of(address), address.port())
}

/// Waits until everything goes to what is called so.
fn uses(proxy: &Proxy, name: &str) -> Result<()> {
    wait_until(SWITCH, &format!("{name} is used"), || {
        let topology = proxy.get("/topology")?.body;
        Ok(topology.contains(&format!("\"{name}\"")))
    })
}

fn a_failover_between_servers_known_by_name_shows_no_error_n19(version: Version) -> Result<()> {
    let service = Service::new(version).replicas(1).by_name().start()?;
    let seeds: Vec<String> = service.seeds().into_iter().map(named).collect();
    let config =
        format!("upstream.sentinels = {seeds:?}\nupstream.sentinel_service = '{SERVICE}'\n");
    let proxy = Proxy::with_seeds(&[]).config(&config).start()?;
    uses(&proxy, &named(service.nodes()[0].address()))?;
    let load = Load::start(proxy.address(), &LoadOptions::default())?;
    load.wait_for(2_000)?;
    let mut sentinel = service.sentinels()[0].conn()?;
    sentinel.must(&format!("SENTINEL FAILOVER {SERVICE}"))?;
    let new = service.wait_switched(0)?;
    uses(&proxy, &named(service.nodes()[new].address()))?;
    load.wait_for(500)?;
    let report = load.stop()?;
    report.ensure_no_violations()?;
    ensure!(report.errors.is_empty(), "{}", report.error_summary());
    Ok(())
}

/// Sentinels do not all come to announce names at the same moment: meanwhile some tell a name, some the address that it means. They have
/// to agree, and nobody may see that the server is called otherwise.
fn a_name_and_the_address_it_means_are_one_server_n19(version: Version) -> Result<()> {
    let service = Service::new(version)
        .replicas(0)
        .sentinels(2)
        .by_name()
        .start()?;
    let primary = service.nodes()[0].address();
    let announce = |sentinel: usize, names: &str| -> Result<()> {
        let sentinel = service.sentinels().get(sentinel).context("a Sentinel")?;
        let mut conn = sentinel.conn()?;
        conn.must(&format!("SENTINEL CONFIG SET announce-hostnames {names}"))?;
        // Who hears its events loses the connection, comes back, and asks.
        conn.must("CLIENT KILL TYPE pubsub")?;
        Ok(())
    };
    let proxy = Proxy::with_seeds(&[]).config(&service.config()).start()?;
    uses(&proxy, &named(primary))?;
    let load = Load::start(proxy.address(), &LoadOptions::default())?;
    load.wait_for(1_000)?;
    announce(1, "no")?;
    // One that knows nothing yet.
    let second = Proxy::with_seeds(&[]).config(&service.config()).start()?;
    second.conn()?.must("SET second v")?;
    announce(0, "no")?;
    uses(&proxy, &primary.to_string())?;
    announce(0, "yes")?;
    announce(1, "yes")?;
    uses(&proxy, &named(primary))?;
    load.wait_for(500)?;
    let log = proxy.log();
    ensure!(!log.contains("another primary"), "{log}");
    load.stop()?.ensure_flawless()
}

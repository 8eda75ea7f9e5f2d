//! One Sentinel, one primary, one replica, on odd ports and with passwords, as in a Kubernetes deployment.

use crate::files::Recipe;
use crate::server::{Server, ServerOptions, new_host};
use anyhow::{Result, ensure};
use harness::{HitOptions, HitReport, Hits, Proxy, Version, wait_until};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

const RECIPE: Recipe = Recipe("one-sentinel");
const SERVERS: &str = "change-me-servers";
const CLIENTS: &str = "change-me-clients";

/// How long a Sentinel may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

harness::on_release!(
    valkey_9_1,
    Valkey91,
    a_planned_switch_loses_nothing_and_a_death_only_what_was_under_way,
);

struct Deployment {
    servers: [Server; 2],
    sentinel: Server,
}

impl Deployment {
    fn start(version: Version) -> Result<Self> {
        let [first, second, third] = [new_host()?, new_host()?, new_host()?];
        let primary = ("redis-0", first.to_string());
        let start = |host: Ipv4Addr, port, file, arguments: &[&str], password| {
            Server::start(ServerOptions {
                version,
                address: SocketAddrV4::new(host, port),
                file,
                arguments: arguments.iter().map(ToString::to_string).collect(),
                password: Some(password),
            })
        };
        let conf = |host: Ipv4Addr| RECIPE.filled("redis.conf", &[("SELF", host.to_string())]);
        let replica = RECIPE.filled("replica.conf", std::slice::from_ref(&primary))?;
        let servers = [
            start(first, 30379, conf(first)?, &[], SERVERS)?,
            start(second, 30379, conf(second)? + &replica, &[], SERVERS)?,
        ];
        let file = RECIPE.filled("sentinel.conf", &[primary])?;
        let sentinel = start(third, 30479, file, &["--sentinel"], "change-me-sentinel")?;
        let deployment = Self { servers, sentinel };
        deployment.wait_replica(0, 1)?;
        Ok(deployment)
    }

    /// Waits until the Sentinel knows that one follows the other, with its link up.
    fn wait_replica(&self, primary: usize, replica: usize) -> Result<()> {
        let address = self.servers[replica].address();
        wait_until(PATIENCE, "the Sentinel sees the replica in sync", || {
            let mut conn = self.sentinel.conn()?;
            let named = conn
                .must("SENTINEL GET-MASTER-ADDR-BY-NAME mymaster")?
                .texts()?;
            ensure!(
                named.join(":") == self.servers[primary].address().to_string(),
                "{named:?}"
            );
            let replicas = conn.must("SENTINEL REPLICAS mymaster")?;
            let linked = replicas.items()?.iter().any(|replica| {
                let is = |field: &str, value: &str| {
                    let text = replica.field(field).and_then(|found| found.text().ok());
                    text.is_some_and(|text| text == value)
                };
                is("name", &address.to_string())
                    && is("master-link-status", "ok")
                    && is("flags", "slave")
            });
            Ok(linked)
        })
    }
}

/// No error but UNCERTAIN, one for each client at most, and no connection lost.
fn only_under_way(report: &HitReport) -> Result<()> {
    ensure!(
        report.errors.is_empty() && report.disconnected == 0,
        "{report:?}"
    );
    let uncertain: u64 = report.uncertain.values().sum();
    ensure!(
        uncertain <= 6,
        "{uncertain} requests of 6 clients are uncertain"
    );
    Ok(())
}

fn a_planned_switch_loses_nothing_and_a_death_only_what_was_under_way(
    version: Version,
) -> Result<()> {
    let mut deployment = Deployment::start(version)?;
    let sentinel = deployment.sentinel.address().ip().to_string();
    let file = RECIPE.filled("slotway.toml", &[("\"sentinel:", format!("\"{sentinel}:"))])?;
    let proxy = Proxy::with_seeds(&[]).config(&file).start()?;
    let clients = HitOptions {
        password: Some(CLIENTS.to_owned()),
        ..HitOptions::default()
    };
    ensure!(
        proxy
            .conn()?
            .line("GET x")?
            .error()
            .is_some_and(|text| text.starts_with("NOAUTH "))
    );

    // On purpose, as before the node of the primary's pod is drained.
    let load = Hits::start(proxy.address(), &clients)?;
    load.wait_for(100)?;
    deployment
        .sentinel
        .conn()?
        .must("SENTINEL FAILOVER mymaster COORDINATED")?;
    deployment.wait_replica(1, 0)?;
    load.wait_for(100)?;
    let planned = load.stop()?;
    only_under_way(&planned)?;
    let mut conn = proxy.conn()?;
    conn.must(&format!("AUTH {CLIENTS}"))?;
    planned.ensure_exact(&mut conn)?;
    conn.must("FLUSHALL")?;

    // By kill -9.
    let load = Hits::start(proxy.address(), &clients)?;
    load.wait_for(100)?;
    deployment.servers[1].kill()?;
    deployment.servers[0].wait_role("master")?;
    load.wait_for(100)?;
    let killed = load.stop()?;
    only_under_way(&killed)?;
    let gap = killed.longest_gap;
    ensure!(gap < Duration::from_secs(8), "a client waited for {gap:?}");

    // The Sentinel is not needed for what is known.
    deployment.sentinel.kill()?;
    let load = Hits::start(proxy.address(), &clients)?;
    load.wait_for(100)?;
    load.stop()?.ensure_no_error()
}

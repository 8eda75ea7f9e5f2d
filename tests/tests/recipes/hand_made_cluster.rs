//! Three hosts with two instances each; slots and replicas assigned by hand.

use crate::files::Recipe;
use crate::server::{Server, ServerOptions, new_host};
use anyhow::{Context, Result, ensure};
use harness::{Hit, HitOptions, Hits, Proxy, Version};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

const RECIPE: Recipe = Recipe("hand-made-cluster");
const PORTS: [u16; 2] = [7001, 7002];

harness::on_release!(
    redis_7_0,
    Redis70,
    a_killed_primary_is_replaced_and_given_back_without_an_error
);

/// As `redis-cluster@.service` starts it, but for the directory.
fn instance(version: Version, host: Ipv4Addr, port: u16) -> Result<Server> {
    let here = ("/var/lib/redis-cluster-%i", ".".to_owned());
    let unit = RECIPE.filled("redis-cluster@.service", &[here, ("%i", port.to_string())])?;
    let start = "ExecStart=/usr/bin/redis-server /etc/redis/cluster.conf ";
    let start = unit.lines().find_map(|line| line.strip_prefix(start));
    let arguments = start.context("no ExecStart as expected")?;
    let mut arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
    // Known from the interface where hosts are real.
    arguments.extend(["--cluster-announce-ip".to_owned(), host.to_string()]);
    Server::start(ServerOptions {
        version,
        address: SocketAddrV4::new(host, port),
        file: RECIPE.filled::<&str>("redis.conf", &[])?,
        arguments,
        password: None,
    })
}

fn a_killed_primary_is_replaced_and_given_back_without_an_error(version: Version) -> Result<()> {
    let hosts = [new_host()?, new_host()?, new_host()?];
    let mut instances = Vec::new();
    for port in PORTS {
        for host in hosts {
            instances.push(instance(version, host, port)?);
        }
    }
    let names = hosts.map(|host| host.to_string());
    RECIPE.run("create.sh", &names.each_ref().map(String::as_str), &[])?;
    let [first, second, third] = &names;
    let addresses = [
        ("10.0.0.1", first),
        ("10.0.0.2", second),
        ("10.0.0.3", third),
    ];
    let proxy = Proxy::with_seeds(&[])
        .config(&RECIPE.filled("slotway.toml", &addresses)?)
        .start()?;

    let values = HitOptions {
        hit: Hit::Value,
        ..HitOptions::default()
    };
    let load = Hits::start(proxy.address(), &values)?;
    load.wait_for(100)?;
    instances[0].kill()?;
    // Its replica is on the second host.
    instances[4].wait_role("master")?;
    load.wait_for(100)?;
    instances[0].restart()?;
    RECIPE.run("give-back.sh", &[first, "7001"], &[])?;
    instances[4].wait_role("slave")?;
    load.wait_for(100)?;
    let report = load.stop()?;
    report.ensure_no_error()?;
    // What the dead primary had not replicated: of each client the last value at most.
    ensure!(report.lost <= 6, "{} values were lost", report.lost);
    let gap = report.longest_gap;
    ensure!(gap < Duration::from_secs(6), "a client waited for {gap:?}");
    Ok(())
}

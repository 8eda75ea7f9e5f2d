//! Three servers with Sentinels, and two proxies of which one holds the virtual address.

use crate::files::Recipe;
use crate::network::{Network, directory_with};
use anyhow::{Context, Result, ensure};
use harness::{
    Conn, HitOptions, Hits, Process, Version, slotway_binary, tool, wait_some, wait_until,
};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant};

const RECIPE: Recipe = Recipe("virtual-ip");
const VIRTUAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 100), 6379);
const SERVER: u16 = 6380;
const SENTINEL: u16 = 26379;
const SERVERS: [usize; 3] = [1, 2, 3];
const PROXIES: [usize; 2] = [1, 2];

/// How long anything may take to get going.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest time without service that a client may see when the primary is killed, and the proxy that holds the address.
const DEAD_PRIMARY: Duration = Duration::from_secs(5);
const DEAD_PROXY: Duration = Duration::from_secs(3);

harness::on_release!(
    redis_7_0,
    Redis70,
    a_dead_primary_costs_less_than_5_seconds_and_a_dead_proxy_less_than_3
);

/// One host: what runs on it.
struct Host {
    server: Process,
    _sentinel: Process,
    /// slotway and keepalived
    proxy: Option<(Process, Process)>,
}

struct Deployment {
    hosts: Vec<Host>,
    network: Network,
}

/// A connection to what listens on a host.
fn at(host: usize, port: u16) -> Result<Conn> {
    Conn::open(SocketAddrV4::new(
        Ipv4Addr::new(10, 0, 0, u8::try_from(host)?),
        port,
    ))
}

fn own_address(host: usize) -> [(&'static str, String); 1] {
    [("SELF", format!("10.0.0.{host}"))]
}

impl Deployment {
    fn start(version: Version) -> Result<Self> {
        // What keepalived.conf runs.
        tool("curl")?;
        let network = Network::new(SERVERS.len())?;
        network.enter()?;
        let program = version.find()?;
        let servers = SERVERS.map(|host| Self::server(&network, &program, host));
        let servers = servers.into_iter().collect::<Result<Vec<Process>>>()?;
        // A Sentinel sees at its start which replicas there are, and next time ten seconds later.
        wait_until(PATIENCE, "the replicas are in sync", || {
            let primary = at(1, SERVER)?.must("INFO replication")?.text()?;
            Ok(primary.matches("state=online").count() == 2)
        })?;
        let host = |(host, server): (&usize, Process)| {
            let sentinel = Self::sentinel(&network, &program, *host)?;
            let proxy = PROXIES.contains(host).then(|| Self::proxy(&network, *host));
            Ok(Host {
                server,
                _sentinel: sentinel,
                proxy: proxy.transpose()?,
            })
        };
        let hosts = SERVERS
            .iter()
            .zip(servers)
            .map(host)
            .collect::<Result<Vec<Host>>>()?;
        wait_until(PATIENCE, "the Sentinels know everybody", || {
            for host in SERVERS {
                let primary = at(host, SENTINEL)?.must("SENTINEL MASTER mymaster")?;
                let count = |field: &str| primary.field(field).context("no such field")?.text();
                let known = (count("num-slaves")?, count("num-other-sentinels")?);
                ensure!(
                    known == ("2".to_owned(), "2".to_owned()),
                    "{host}: {known:?}"
                );
            }
            Ok(true)
        })?;
        Ok(Self { hosts, network })
    }

    fn server(network: &Network, program: &Path, host: usize) -> Result<Process> {
        let mut file = RECIPE.filled("redis.conf", &own_address(host))?;
        if host > 1 {
            file += &RECIPE.filled::<&str>("replica.conf", &[])?;
        }
        let directory = directory_with("redis.conf", &file)?;
        network.start(host, &directory, program, &["redis.conf"])
    }

    fn sentinel(network: &Network, program: &Path, host: usize) -> Result<Process> {
        let file = RECIPE.filled("sentinel.conf", &own_address(host))?;
        let directory = directory_with("sentinel.conf", &file)?;
        network.start(host, &directory, program, &["sentinel.conf", "--sentinel"])
    }

    fn proxy(network: &Network, host: usize) -> Result<(Process, Process)> {
        let directory =
            directory_with("slotway.toml", &RECIPE.filled::<&str>("slotway.toml", &[])?)?;
        let arguments = ["run", "--config", "slotway.toml"];
        let slotway = network.start(host, &directory, &slotway_binary()?, &arguments)?;
        let peer = ("PEER", format!("10.0.0.{}", 3 - host));
        let [own] = own_address(host);
        let file = RECIPE.filled("keepalived.conf", &[own, peer])?;
        let directory = directory_with("keepalived.conf", &file)?;
        let in_foreground =
            "--dont-fork --log-console --log-detail --vrrp --use-file keepalived.conf";
        let arguments = format!("{in_foreground} --pid keepalived.pid --vrrp_pid vrrp.pid");
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let keepalived = network.start(host, &directory, &tool("keepalived")?, &arguments)?;
        Ok((slotway, keepalived))
    }

    /// Kills the primary; the longest time without service that a client saw.
    fn primary_dies(&mut self) -> Result<Duration> {
        let load = Hits::start(VIRTUAL, &HitOptions::default())?;
        load.wait_for(50)?;
        let (dead, killed_at) = (self.primary()?, Instant::now());
        self.hosts[dead - 1].server.kill()?;
        wait_until(PATIENCE, "another primary is named", || {
            Ok(self.primary()? != dead)
        })?;
        let named_after = killed_at.elapsed();
        load.wait_for(50)?;
        let report = load.stop()?;
        let uncertain: u64 = report.uncertain.values().sum();
        ensure!(report.errors.is_empty() && uncertain <= 6, "{report:?}");
        ensure!(report.disconnected == 0, "{report:?}");
        let gap = report.longest_gap;
        ensure!(
            gap < named_after + Duration::from_secs(1),
            "no service for {gap:?}, of which the Sentinels took {named_after:?}"
        );
        Ok(gap)
    }

    /// Kills the proxy that holds the address.
    fn proxy_dies(&mut self) -> Result<()> {
        let load = Hits::start(VIRTUAL, &HitOptions::default())?;
        load.wait_for(50)?;
        let dead = self.holder()?;
        let proxy = self.hosts[dead - 1].proxy.as_mut();
        proxy.context("no proxy")?.0.kill()?;
        load.wait_for(50)?;
        ensure!(self.holder()? != dead, "the address has not moved");
        let report = load.stop()?;
        ensure!(report.errors.is_empty(), "{report:?}");
        report.ensure_exact(&mut Conn::open(VIRTUAL)?)?;
        let gap = report.longest_gap;
        ensure!(gap < DEAD_PROXY, "dead proxy: no service for {gap:?}");
        Ok(())
    }

    /// The host of the server that a Sentinel names as the primary.
    fn primary(&self) -> Result<usize> {
        let named = at(3, SENTINEL)?.must("SENTINEL GET-MASTER-ADDR-BY-NAME mymaster")?;
        let named = named.texts()?;
        let host = SERVERS
            .iter()
            .find(|host| named[0] == format!("10.0.0.{host}"));
        Ok(*host.with_context(|| format!("{named:?}"))?)
    }

    /// The host that holds the virtual address.
    fn holder(&self) -> Result<usize> {
        wait_some(PATIENCE, "one proxy holds the address", || {
            let held = |host: &&usize| {
                let shown = self.network.ip(**host, "address show dev eth0");
                shown.is_ok_and(|shown| shown.contains(&VIRTUAL.ip().to_string()))
            };
            let holders: Vec<&usize> = PROXIES.iter().filter(held).collect();
            Ok((holders.len() == 1).then(|| *holders[0]))
        })
    }
}

fn a_dead_primary_costs_less_than_5_seconds_and_a_dead_proxy_less_than_3(
    version: Version,
) -> Result<()> {
    if std::env::var_os("SLOTWAY_TEST_WITHOUT_ROOT").is_some() {
        let said = "skipped, as SLOTWAY_TEST_WITHOUT_ROOT asks for: network namespaces need root\n";
        return Ok(std::io::stderr().write_all(said.as_bytes())?);
    }
    let mut deployment = Deployment::start(version)?;
    wait_until(PATIENCE, "the virtual address answers", || {
        Ok(Conn::open(VIRTUAL)?.line("PING")?.error().is_none())
    })?;
    let mut gap = deployment.primary_dies()?;
    if gap >= DEAD_PRIMARY {
        // The Sentinels may have voted in vain, once, each for itself.
        gap = deployment.primary_dies()?;
    }
    ensure!(gap < DEAD_PRIMARY, "dead primary: no service for {gap:?}");
    // The servers are not concerned: what was acknowledged is there.
    Conn::open(VIRTUAL)?.must("FLUSHALL")?;
    deployment.proxy_dies()
}

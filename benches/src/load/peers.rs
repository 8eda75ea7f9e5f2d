//! Other proxies, as they are configured to do the same: pass everything on, with one thread.

use std::net::{SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Process, case_dir, next_address, tool, wait_until};

use super::contenders::Who;

const START_DEADLINE: Duration = Duration::from_secs(10);
/// Where Debian has servers; not on everybody's PATH.
const SERVER_PROGRAMS: &str = "/usr/sbin";
/// Clients that wait to be accepted.
const BACKLOG: usize = 4096;
/// Clients of HAProxy: more than any workload has. It refuses to start if it cannot have two descriptors for each.
const HAPROXY_CLIENTS: usize = 5_500;

/// Name of the peer's program; slotway and direct load need none.
const fn program(who: Who) -> Option<&'static str> {
    match who {
        Who::Twemproxy => Some("nutcracker"),
        Who::Haproxy => Some("haproxy"),
        Who::Direct | Who::Slotway => None,
    }
}

pub(super) fn is_installed(who: Who) -> bool {
    program(who).is_none_or(|name| find(name).is_ok())
}

/// As the program says.
pub(super) fn version(who: Who) -> Result<Option<String>> {
    let Some(name) = program(who) else {
        return Ok(None);
    };
    let Ok(path) = find(name) else {
        return Ok(Some(format!("{} is not installed", who.name())));
    };
    let argument = if who == Who::Haproxy { "-v" } else { "-V" };
    let output = std::process::Command::new(path).arg(argument).output()?;
    // nutcracker tells it on standard error.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let first = text.lines().next().context("it says no version")?;
    Ok(Some(first.trim().to_owned()))
}

fn find(name: &str) -> Result<PathBuf> {
    tool(name).or_else(|error| {
        let path = Path::new(SERVER_PROGRAMS).join(name);
        path.is_file().then_some(path).ok_or(error)
    })
}

/// Consistent hashing over plain servers.
pub(super) fn start_twemproxy(servers: &[SocketAddrV4]) -> Result<(Process, SocketAddrV4)> {
    let address = next_address()?;
    let directory = case_dir("twemproxy")?;
    let config = directory.join("nutcracker.yml");
    std::fs::write(&config, twemproxy_config(address, servers))?;
    let (config, stats) = (config.to_string_lossy(), next_address()?);
    let (host, port) = (stats.ip().to_string(), stats.port().to_string());
    let arguments = ["-c", &config, "-a", &host, "-s", &port];
    start("nutcracker", &arguments, &directory, address)
}

fn twemproxy_config(address: SocketAddrV4, servers: &[SocketAddrV4]) -> String {
    let servers: String = servers
        .iter()
        .map(|server| format!("   - {server}:1\n"))
        .collect();
    format!(
        "bench:\n  listen: {address}\n  backlog: {BACKLOG}\n  hash: fnv1a_64\n  distribution: ketama\n  redis: true\n  \
         preconnect: true\n  servers:\n{servers}"
    )
}

/// What a TCP load balancer does: a connection to the server for each of a client.
pub(super) fn start_haproxy(server: SocketAddrV4) -> Result<(Process, SocketAddrV4)> {
    let address = next_address()?;
    let directory = case_dir("haproxy")?;
    let config = directory.join("haproxy.cfg");
    std::fs::write(&config, haproxy_config(address, server))?;
    let config = config.to_string_lossy();
    start("haproxy", &["-db", "-f", &config], &directory, address)
}

fn haproxy_config(address: SocketAddrV4, server: SocketAddrV4) -> String {
    format!(
        "global\n  nbthread 1\n  maxconn {HAPROXY_CLIENTS}\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10m\n  timeout server 10m\n\
         listen bench\n  bind {address} backlog {BACKLOG}\n  server one {server}\n"
    )
}

fn start(
    name: &str,
    arguments: &[&str],
    directory: &Path,
    address: SocketAddrV4,
) -> Result<(Process, SocketAddrV4)> {
    let mut process = Process::start(&find(name)?, arguments, &[], directory)?;
    let listens = wait_until(START_DEADLINE, &format!("{name} listens"), || {
        Ok(TcpStream::connect(address).is_ok())
    });
    process.check_running()?;
    listens?;
    Ok((process, address))
}

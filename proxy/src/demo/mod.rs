//! `slotway demo`: a throw-away cluster of real servers with the proxy in front, gone without a trace on Ctrl-C.

mod form;
mod servers;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use slotway_core::config::{Config, LogLevel};

use crate::cli::{RunArgs, load_from};
use crate::shutdown::Signals;
use crate::supervisor::{self, Bound};
use crate::telemetry;
use servers::Servers;

/// Where newcomers try first.
const USUAL_PORT: u16 = 6379;
const USUAL_ADMIN_PORT: u16 = 9379;
/// What is bound instead if the usual port is taken.
const ANY_FREE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Arguments of `slotway demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Address for clients [default: 127.0.0.1:6379, or a free port if that is taken].
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Address of the admin endpoint, or "off" [default: 127.0.0.1:9379, or a free port if that is taken].
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<String>,
    /// Threads that serve clients [default: cores of this machine or container].
    #[arg(long, value_name = "N")]
    workers: Option<String>,
    /// The server to use [default: redis-server or valkey-server from PATH, or from .tools of the repository].
    #[arg(long, value_name = "PROGRAM")]
    server: Option<std::path::PathBuf>,
}

/// Runs the demonstration until a signal ends it.
pub(crate) fn demo(arguments: &DemoArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let program = servers::find_program(arguments.server.as_deref())?;
    let runtime = supervisor::runtime()?;
    let code = runtime.block_on(async {
        // Closing the terminal must not leave servers behind.
        let mut signals = Signals::new()?.with_terminal()?;
        let start = Instant::now();
        writeln!(
            out,
            "Starting 3 primaries and 3 replicas with {} ...",
            program.display()
        )?;
        // Dropping them, however this function ends, ends the processes and removes their folder.
        let mut servers = Servers::start(&program)?;
        let version = tokio::select! {
            version = form::form(&mut servers) => version?,
            signal = signals.next() => return Ok(signal.exit_code()),
        };
        let config = configuration(arguments, &servers)?;
        let is_replacement = config
            .listeners
            .iter()
            .any(|listener| listener.listen == ANY_FREE);
        telemetry::init(config.log);
        let mut told = Ok(());
        let code = supervisor::serve(config, &mut signals, None, |bound| {
            let up = Up {
                servers: &servers,
                version: &version,
                took: start.elapsed(),
                is_replacement,
            };
            told = tell(out, bound, &up);
        })
        .await;
        told?;
        code
    });
    runtime.shutdown_background();
    if code.is_ok() {
        writeln!(out, "The cluster is gone, and so are its files.")?;
    }
    code
}

/// The configuration of the proxy: flags and variables as for `slotway run`, the cluster ours, quiet unless asked otherwise.
fn configuration(arguments: &DemoArgs, servers: &Servers) -> anyhow::Result<Config> {
    let seeds: Vec<_> = servers
        .addresses()
        .map(|address| address.to_string())
        .collect();
    let given = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let or_free = |flag: &Option<String>, variable: &str, usual: u16| match flag {
        None if !given(variable) => Some(usual_or_free(usual).to_string()),
        flag => flag.clone(),
    };
    let run = RunArgs {
        config: None,
        listen: or_free(&arguments.listen, "SLOTWAY_LISTEN", USUAL_PORT),
        admin: or_free(&arguments.admin, "SLOTWAY_ADMIN", USUAL_ADMIN_PORT),
        workers: arguments.workers.clone(),
        cluster: Some(seeds.join(",")),
        server: None,
    };
    // The variable for a server that is no cluster is not for the demonstration.
    let variables = std::env::vars_os().filter(|(name, _)| name != "SLOTWAY_UPSTREAM_SERVER");
    let mut config = load_from(&run, None, variables)?;
    if !given("SLOTWAY_LOG_LEVEL") {
        config.log.level = LogLevel::Warn;
    }
    Ok(config)
}

/// `port` on loopback if nobody has it, else port 0: any free one.
fn usual_or_free(port: u16) -> SocketAddr {
    let usual = SocketAddr::from(([127, 0, 0, 1], port));
    match TcpListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => ANY_FREE,
    }
}

/// What is there to tell about.
struct Up<'a> {
    servers: &'a Servers,
    version: &'a str,
    took: Duration,
    /// The usual port was taken.
    is_replacement: bool,
}

/// Says what is there and what to do with it.
fn tell(out: &mut dyn Write, bound: &Bound, up: &Up<'_>) -> anyhow::Result<()> {
    let (servers, version) = (up.servers, up.version);
    let address = bound.listeners.first().context("no listener")?;
    let flag = if address.port() == USUAL_PORT {
        String::new()
    } else {
        format!(" -p {}", address.port())
    };
    writeln!(out, "Ready after {:.1} s.\n", up.took.as_secs_f64())?;
    if up.is_replacement {
        writeln!(
            out,
            "Port {USUAL_PORT} is taken, so the proxy has port {}.\n",
            address.port()
        )?;
    }
    let nodes: Vec<_> = servers
        .addresses()
        .map(|address| address.to_string())
        .collect();
    let (primaries, replicas) = nodes.split_at(nodes.len() / 2);
    writeln!(out, "  proxy     {address}")?;
    if let Some(admin) = bound.admin {
        writeln!(
            out,
            "  admin     http://{admin}/metrics, /topology, /readyz"
        )?;
    }
    writeln!(out, "  primaries {}  ({version})", primaries.join(" "))?;
    writeln!(out, "  replicas  {}", replicas.join(" "))?;
    writeln!(out, "\nIn a second shell, as if it were one server:\n")?;
    for command in [
        "SET foo bar",
        "MSET a 1 b 2 c 3",
        "MGET a b c",
        "--scan",
        "DBSIZE",
        "-3 HELLO 3",
    ] {
        writeln!(out, "  redis-cli{flag} {command}")?;
    }
    writeln!(
        out,
        "\nEnd a primary and go on writing; its replica takes over after some 2 s:\n"
    )?;
    if let Some(first) = primaries.first().and_then(|first| first.rsplit_once(':')) {
        writeln!(out, "  redis-cli -p {} SHUTDOWN NOSAVE", first.1)?;
    }
    writeln!(
        out,
        "\nCtrl-C ends everything and removes {}.",
        servers.folder().display()
    )?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_replaced_by_a_free_one() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(usual_or_free(taken.local_addr().unwrap().port()).port(), 0);
    }
}

//! CLIENT PAUSE and MONITOR: what an administrator does to all clients of the proxy, and sees of them, whichever worker they are at.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Proxy, Reply, Version, tool};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

harness::on_full_matrix!(
    clients_of_all_workers_wait,
    requests_of_all_workers_are_shown,
);

/// So long nothing comes if nothing is to come.
const QUIET: Duration = Duration::from_millis(150);

fn start(version: Version) -> Result<(Cluster, Proxy)> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster)
        .workers(2)
        .config("[listener]\nmonitor = true\n")
        .start()?;
    Ok((cluster, proxy))
}

fn clients_of_all_workers_wait(version: Version) -> Result<()> {
    let (_cluster, proxy) = start(version)?;
    let mut admin = proxy.conn()?;
    let mut clients = (0..4).map(|_| proxy.conn()).collect::<Result<Vec<_>>>()?;
    admin.must("CLIENT PAUSE 60000 WRITE")?;
    let info = admin.must("INFO clients")?;
    ensure!(info.text()?.contains("paused_actions:write"), "{info:?}");
    for client in &mut clients {
        ensure!(client.must("GET k")? == Reply::Nil);
        client.send(&["SET", "k", "v"])?;
        ensure!(!client.has_reply_within(QUIET)?, "a write waits");
    }
    admin.must("CLIENT UNPAUSE")?;
    for client in &mut clients {
        ensure!(client.read()?.is_ok());
    }
    let started = Instant::now();
    admin.must("CLIENT PAUSE 300")?;
    for client in &mut clients {
        client.send(&["PING"])?;
    }
    for client in &mut clients {
        client.read()?;
        ensure!(started.elapsed() >= Duration::from_millis(300));
    }
    let info = admin.must("INFO clients")?;
    ensure!(info.text()?.contains("paused_actions:none"), "{info:?}");
    Ok(())
}

fn requests_of_all_workers_are_shown(version: Version) -> Result<()> {
    let (_cluster, proxy) = start(version)?;
    let mut clients = (0..4).map(|_| proxy.conn()).collect::<Result<Vec<_>>>()?;
    let address = proxy.address();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let mut tool = Command::new(tool("redis-cli")?)
        .args(["-h", &host, "-p", &port, "MONITOR"])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run redis-cli")?;
    let stdout = tool.stdout.take().context("no output")?;
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let seen = check_lines(&lines, &mut clients);
    tool.kill()?;
    tool.wait()?;
    drop(lines);
    ensure!(reader.join().is_ok());
    seen
}

/// Whatever worker a client is at, its requests are shown once that knows that somebody monitors.
fn check_lines(lines: &mpsc::Receiver<String>, clients: &mut [Conn]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    ensure!(lines.recv_timeout(Duration::from_secs(10))? == "OK");
    for client in clients {
        let list = client.must("CLIENT LIST")?;
        ensure!(list.text()?.contains(" flags=O "), "{list:?}");
        let address = client.stream().local_addr()?;
        let wanted = format!(r#" [0 {address}] "SET" "a b" "\xc3\xa9\n\"""#);
        loop {
            ensure!(Instant::now() < deadline, "not shown: {wanted}");
            client.call(&["SET", "a b", "\u{e9}\n\""])?;
            match lines.recv_timeout(QUIET) {
                Ok(line) if line.ends_with(&wanted) => break,
                Ok(line) => anyhow::bail!("{line}"),
                Err(_) => {}
            }
        }
    }
    Ok(())
}

//! `slotway demo`, what a newcomer runs: a whole cluster and the proxy, everything gone after Ctrl-C.

use anyhow::{Context, Result, ensure};
use harness::{
    Conn, Process, Version, case, case_dir, next_address, slotway_binary, wait_some, wait_until,
};
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn demo_serves_and_leaves_nothing_behind() -> Result<()> {
    for version in Version::FULL {
        case(|| demo(version))?;
    }
    Ok(())
}

fn demo(version: Version) -> Result<()> {
    let address = next_address()?;
    let server = version.find()?.to_string_lossy().into_owned();
    let arguments = [
        "demo",
        "--listen",
        &address.to_string(),
        "--admin",
        "off",
        "--server",
        &server,
    ];
    // Its files go to a folder of this case.
    let directory = case_dir("demo")?;
    let environment = [(
        "TMPDIR".to_owned(),
        directory.to_string_lossy().into_owned(),
    )];
    let mut process = Process::start(&slotway_binary()?, &arguments, &environment, &directory)?;
    let mut conn = wait_some(Duration::from_secs(30), "the demo is ready", || {
        process.check_running()?;
        ensure!(process.log().contains("Ready after"), "{}", process.log());
        Ok(Some(Conn::open(address)?))
    })?;
    ensure!(conn.must("SET foo bar")?.is_ok());
    ensure!(conn.must("MSET a 1 b 2 c 3")?.is_ok());
    assert_eq!(conn.must("MGET a b c")?.texts()?, ["1", "2", "3"]);
    assert_eq!(conn.must("DBSIZE")?.int()?, 4);
    let nodes = node_addresses(&process.log())?;
    ensure!(nodes.len() == 6, "{nodes:?}");
    end_a_primary(&nodes, &mut conn)?;
    process.interrupt()?;
    let status = process.wait_for_exit(Duration::from_secs(15))?;
    ensure!(status.success(), "{status}: {}", process.log());
    let left: Vec<_> = std::fs::read_dir(&directory)?
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    wait_until(Duration::from_secs(5), "the servers are gone", || {
        Ok(nodes.iter().all(|node| {
            node.parse()
                .is_ok_and(|node: std::net::SocketAddr| Conn::open(node).is_err())
        }))
    })
}

/// Addresses in the two lines that name the nodes.
fn node_addresses(log: &str) -> Result<BTreeSet<String>> {
    let lines = log
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("primaries ") || line.starts_with("replicas "));
    let words = lines
        .flat_map(str::split_whitespace)
        .filter(|word| word.starts_with("127.0.0.1:"));
    let nodes: BTreeSet<String> = words.map(str::to_owned).collect();
    ensure!(!nodes.is_empty(), "no nodes in: {log}");
    Ok(nodes)
}

/// What the demo invites to: a primary goes, its replica takes over, clients go on.
fn end_a_primary(nodes: &BTreeSet<String>, conn: &mut Conn) -> Result<()> {
    let first = nodes.first().context("no node")?;
    let mut node = Conn::open(first.parse::<std::net::SocketAddr>()?)?;
    node.send(&["SHUTDOWN", "NOSAVE"])?;
    node.read_to_close()?;
    // The write that was on its way to the node when it ended may be lost; nothing else.
    let mut uncertain = 0;
    for n in 0..100 {
        let reply = conn.call(&["SET", &format!("after:{n}"), "v"])?;
        let is_uncertain = reply
            .error()
            .is_some_and(|text| text.starts_with("UNCERTAIN "));
        uncertain += u32::from(is_uncertain);
        ensure!(
            reply.is_ok() || (is_uncertain && uncertain == 1),
            "SET {n}: {reply:?}"
        );
    }
    Ok(())
}

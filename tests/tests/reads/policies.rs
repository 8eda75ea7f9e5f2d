//! Who answers, by each policy, while all is well.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{
    Cluster, Direction, FaultProxy, Load, LoadOptions, Node, Proxy, SERVICE, Service, Version,
    wait_until,
};

use super::{PATIENCE, gets, read, reading, shard, shard_with, wait_readable};

harness::on_full_matrix!(
    policies_are_shown_by_the_counters_of_the_nodes,
    only_what_reads_goes_to_replicas,
    the_nearest_is_read_from,
    the_own_zone_is_read_from,
    readonly_and_readwrite_of_clients,
    a_session_reads_what_it_wrote,
    a_service_with_sentinels_is_read_from_its_replicas,
    one_server_is_read_from_its_replicas,
);

fn policies_are_shown_by_the_counters_of_the_nodes(version: Version) -> Result<()> {
    let (cluster, first) = shard(version, "primary")?;
    first.conn()?.must("SET k v")?;
    cluster.wait_replicas_synced()?;
    drop(first);
    for policy in [
        "primary",
        "prefer-primary",
        "replica",
        "prefer-replica",
        "any",
        "nearest",
    ] {
        let proxy = Proxy::new(&cluster).config(&reading(policy)).start()?;
        if policy != "primary" {
            wait_readable(&proxy, 2)?;
        }
        let before = gets(cluster.nodes())?;
        read(&proxy, 40, 5)?;
        let after = gets(cluster.nodes())?;
        let got: Vec<u64> = after
            .iter()
            .zip(before)
            .map(|(after, before)| after - before)
            .collect();
        ensure!(got.iter().sum::<u64>() == 200, "{policy}: {got:?}");
        let fits = match policy {
            "primary" | "prefer-primary" => got[0] == 200,
            "replica" | "prefer-replica" => got[0] == 0 && got[1] >= 20 && got[2] >= 20,
            "any" => got.iter().all(|count| *count >= 20),
            _ => true,
        };
        ensure!(fits, "{policy}: {got:?}");
    }
    Ok(())
}

fn only_what_reads_goes_to_replicas(version: Version) -> Result<()> {
    let (cluster, proxy) = shard(version, "replica")?;
    wait_readable(&proxy, 2)?;
    let mut conn = proxy.conn()?;
    let commands = [
        "SET k v",
        "GETEX k",
        "GETDEL k",
        "SET k 1",
        "INCR k",
        "GETSET k 2",
        "EVAL return(redis.call('get',KEYS[1])) 1 k",
        "SORT k BY nosort",
        "PFADD p 1",
        "MULTI",
        "GET k",
        "EXEC",
        "SCAN 0",
        "DBSIZE",
        "RPUSH l a",
        "BLPOP l 1",
    ];
    for command in commands {
        let reply = conn.line(command)?;
        let is_typed = format!("{reply:?}").contains("WRONGTYPE");
        ensure!(
            is_typed || !format!("{reply:?}").contains("Error("),
            "{command}: {reply:?}"
        );
    }
    for replica in &cluster.nodes()[1..] {
        let calls: u64 = [
            "getex", "getdel", "eval", "sort", "multi", "exec", "scan", "dbsize", "blpop", "get",
        ]
        .into_iter()
        .map(|command| replica.calls(command))
        .sum::<Result<u64>>()?;
        // Those that change something are replayed there by their primary, under other names or the same.
        ensure!(calls <= 2, "{calls} calls at a replica");
    }
    let reads = [
        ("STRLEN k", "strlen"),
        ("EVAL_RO return(redis.call('get',KEYS[1])) 1 k", "eval_ro"),
        ("MGET k {k}b", "mget"),
        ("SORT_RO l", "sort_ro"),
    ];
    for (command, name) in reads {
        conn.must(command)?;
        let at_primary = cluster.node(0)?.calls(name)?;
        let at_replicas = cluster.node(1)?.calls(name)? + cluster.node(2)?.calls(name)?;
        ensure!(
            (at_primary, at_replicas) == (0, 1),
            "{command}: {at_primary} {at_replicas}"
        );
    }
    // The body that only the primary has been told is sent along.
    let sha = conn.must("SCRIPT LOAD return(redis.call('strlen',KEYS[1]))")?;
    let sha = sha.text()?;
    conn.must(&format!("EVALSHA_RO {sha} 1 k"))?;
    ensure!(cluster.node(0)?.calls("evalsha_ro")? == 0);
    Ok(())
}

fn the_nearest_is_read_from(version: Version) -> Result<()> {
    let cluster = Cluster::new(version)
        .primaries(1)
        .replicas(2)
        .relayed()
        .start_unformed()?;
    let mut relays = Vec::new();
    for node in cluster.nodes() {
        relays.push(FaultProxy::listen(node.announced(), node.address())?);
    }
    cluster.form()?;
    cluster.wait_ok()?;
    cluster.wait_replicas_synced()?;
    for (node, relay) in relays.iter().enumerate() {
        if node != 1 {
            relay.delay(Direction::ToClient, Duration::from_millis(20));
        }
    }
    let seeds: Vec<_> = cluster.nodes().iter().map(Node::announced).collect();
    let proxy = Proxy::with_seeds(&seeds)
        .config(&reading("nearest"))
        .start()?;
    proxy.conn()?.must("SET k v")?;
    cluster.wait_replicas_synced()?;
    wait_readable(&proxy, 2)?;
    let before = gets(cluster.nodes())?;
    read(&proxy, 20, 10)?;
    let after = gets(cluster.nodes())?;
    let near = after[1] - before[1];
    ensure!(near >= 190, "{before:?} {after:?}: node 1 answers soonest");
    Ok(())
}

fn the_own_zone_is_read_from(version: Version) -> Result<()> {
    let (cluster, first) = shard(version, "primary")?;
    first.conn()?.must("SET k v")?;
    cluster.wait_replicas_synced()?;
    let is_told = cluster
        .node(2)?
        .conn()?
        .line("CONFIG SET availability-zone a")?
        .is_ok();
    let host = cluster.node(2)?.address();
    let zones = if is_told {
        String::new()
    } else {
        format!("upstream.zones = [{{ from = '{host}', to = 'a' }}]\n")
    };
    let config = format!("upstream.zone = 'a'\n{zones}{}", reading("any"));
    let proxy = Proxy::new(&cluster).config(&config).start()?;
    wait_readable(&proxy, 2)?;
    let before = gets(cluster.nodes())?;
    read(&proxy, 20, 5)?;
    let after = gets(cluster.nodes())?;
    ensure!(after[2] - before[2] == 100, "{before:?} {after:?}");
    Ok(())
}

fn readonly_and_readwrite_of_clients(version: Version) -> Result<()> {
    let (cluster, proxy) = shard(version, "primary")?;
    let mut conn = proxy.conn()?;
    conn.must("SET k v")?;
    conn.must("GET k")?;
    ensure!(gets(cluster.nodes())? == [1, 0, 0]);
    conn.must("READONLY")?;
    // The replicas are watched from now on.
    wait_readable(&proxy, 2)?;
    conn.must("GET k")?;
    let counts = gets(cluster.nodes())?;
    ensure!(counts[0] == 1 && counts[1] + counts[2] == 1, "{counts:?}");
    conn.must("READWRITE")?;
    conn.must("GET k")?;
    ensure!(gets(cluster.nodes())?[0] == 2);
    Ok(())
}

/// The load has each client check that it reads what it wrote last.
fn ensure_own_writes_are_read(proxy: &Proxy, replicas: &[&Node]) -> Result<()> {
    wait_readable(proxy, replicas.len())?;
    let load = Load::start(proxy.address(), &LoadOptions::default())?;
    load.wait_for(10_000)?;
    let report = load.stop()?;
    report.ensure_flawless()
}

fn a_session_reads_what_it_wrote(version: Version) -> Result<()> {
    let config = format!("{}read_your_writes = true\n", reading("prefer-replica"));
    let (cluster, proxy) = shard_with(version, &config)?;
    let replicas: Vec<&Node> = cluster.nodes()[1..].iter().collect();
    ensure_own_writes_are_read(&proxy, &replicas)?;
    // Not because replicas are never asked.
    let mut conn = proxy.conn()?;
    conn.must("SET k v")?;
    let before = gets(cluster.nodes())?;
    conn.must("GET k")?;
    ensure!(gets(cluster.nodes())?[0] == before[0] + 1, "just written");
    harness::wait_until(super::PATIENCE, "a replica is known to have it", || {
        let before = gets(cluster.nodes())?;
        conn.must("GET k")?;
        Ok(gets(cluster.nodes())?[0] == before[0])
    })
}

fn a_service_with_sentinels_is_read_from_its_replicas(version: Version) -> Result<()> {
    let service = Service::new(version).start()?;
    let seeds: Vec<String> = service.seeds().iter().map(|at| format!("'{at}'")).collect();
    let config = format!(
        "upstream.sentinels = [{}]\nupstream.sentinel_service = '{SERVICE}'\n{}",
        seeds.join(", "),
        reading("replica")
    );
    let proxy = Proxy::with_seeds(&[]).config(&config).start()?;
    proxy.conn()?.must("SET k v")?;
    proxy.conn()?.must("WAIT 2 5000")?;
    wait_readable(&proxy, service.nodes().len() - 1)?;
    let before = gets(service.nodes())?;
    read(&proxy, 20, 5)?;
    let after = gets(service.nodes())?;
    ensure!(
        after[0] == before[0] && after.iter().skip(1).all(|count| *count > 0),
        "{after:?}"
    );
    let mut conn = proxy.conn()?;
    super::clients::write_keys(&mut conn)?;
    conn.must("WAIT 2 5000")?;
    let clients = super::clients::Clients::start(&proxy, 8)?;
    clients.wait_for(2_000)?;
    service.sentinels()[0]
        .conn()?
        .must(&format!("SENTINEL FAILOVER {SERVICE}"))?;
    service.wait_switched(0)?;
    service.settle()?;
    wait_readable(&proxy, service.nodes().len() - 1)?;
    clients.wait_for(2_000)?;
    clients.stop()?.ensure_fine(Duration::from_secs(5))
}

fn one_server_is_read_from_its_replicas(version: Version) -> Result<()> {
    let primary = Node::standalone(version)?;
    let replicas = [Node::standalone(version)?, Node::standalone(version)?];
    let address = primary.address();
    for replica in &replicas {
        let own = replica.address().ip().to_string();
        let name = if replica
            .conn()?
            .line(&format!("CONFIG SET replica-announce-ip {own}"))?
            .is_ok()
        {
            "REPLICAOF"
        } else {
            "SLAVEOF"
        };
        replica.must(&format!("{name} {} {}", address.ip(), address.port()))?;
    }
    let config = format!("upstream.server = '{address}'\n{}", reading("replica"));
    let proxy = Proxy::with_seeds(&[]).config(&config).start()?;
    let mut conn = proxy.conn()?;
    conn.must("SET k v")?;
    conn.must("SELECT 3")?;
    conn.must("SET k other")?;
    wait_readable(&proxy, 2)?;
    ensure!(
        conn.must("GET k")?.text()? == "other",
        "in its own database"
    );
    read(&proxy, 20, 5)?;
    let counts = gets([&primary, &replicas[0], &replicas[1]])?;
    ensure!(counts[0] == 0 && counts[1] + counts[2] == 101, "{counts:?}");
    for replica in &replicas {
        replica.must("SLAVEOF NO ONE")?;
    }
    wait_until(PATIENCE, "the metrics show that none is left", || {
        let page = proxy.get("/metrics")?.body;
        let mut of_primaries = page
            .lines()
            .filter(|line| line.starts_with("slotway_primary_readable_replicas{"));
        Ok(of_primaries.next().is_some_and(|line| line.ends_with(" 0")))
    })
}

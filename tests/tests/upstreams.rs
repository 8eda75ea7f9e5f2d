//! Several upstreams in one process [N23]: a cluster, one server, and a primary that a Sentinel watches. To its clients each is a
//! proxy of its own; what the process has once (limits of clients, readiness, metrics, reload) covers all of them.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Node, Proxy, Reply, SERVICE, Service, Version};
use harness::{next_address, wait_until};
use std::fmt::Write as _;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

harness::on_full_matrix!(
    each_upstream_has_its_own_data_and_clients_n23,
    an_upstream_that_is_down_disturbs_no_other_n23,
);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Names of the upstreams, in the order of the listeners.
const NAMES: [&str; 3] = ["orders", "cache", "front"];

/// The three kinds of upstream, and a proxy before them.
struct Three {
    cluster: Cluster,
    server: Node,
    service: Service,
    listeners: [SocketAddrV4; 3],
    proxy: Proxy,
}

impl Three {
    fn start(version: Version) -> Result<Self> {
        let mut three = Self::launch(version, true)?;
        three.proxy.wait_ready(PATIENCE)?;
        Ok(three)
    }

    fn launch(version: Version, with_server: bool) -> Result<Self> {
        let cluster = Cluster::new(version).start()?;
        let mut server = Node::standalone(version)?;
        if !with_server {
            server.kill()?;
        }
        let service = Service::new(version).replicas(0).sentinels(1).start()?;
        let seeds: Vec<String> = cluster.seeds().iter().map(|at| format!("'{at}'")).collect();
        let [sentinel] = service.seeds()[..] else {
            anyhow::bail!("one Sentinel was asked for");
        };
        let upstreams = [
            format!("cluster = [{}]", seeds.join(", ")),
            format!("server = '{}'", server.address()),
            format!("sentinels = ['{sentinel}']\nsentinel_service = '{SERVICE}'"),
        ];
        let (listeners, file) = configured(&upstreams, "")?;
        let options = Proxy::with_seeds(&[]).config(&file);
        let proxy = options.listening(listeners[0]).launch()?;
        Ok(Self {
            cluster,
            server,
            service,
            listeners,
            proxy,
        })
    }

    /// A connection to each listener.
    fn conns(&self) -> Result<[Conn; 3]> {
        let [a, b, c] = self.listeners.map(Conn::open);
        Ok([a?, b?, c?])
    }
}

/// A configuration with an upstream for each of these lines, called as in [`NAMES`], and a listener for each.
fn configured<const N: usize>(
    upstreams: &[String; N],
    more: &str,
) -> Result<([SocketAddrV4; N], String)> {
    let mut file = format!("{more}\n");
    let mut listeners = Vec::new();
    for (name, servers) in NAMES.iter().zip(upstreams) {
        let address = next_address()?;
        write!(
            file,
            "[[upstream]]\nname = '{name}'\n{servers}\n\
             [[listener]]\nlisten = '{address}'\nupstream = '{name}'\nmonitor = true\n"
        )?;
        listeners.push(address);
    }
    let listeners = listeners.try_into().ok();
    Ok((listeners.context("an address for each")?, file))
}

/// The names that clients have in CLIENT LIST.
fn client_names(conn: &mut Conn) -> Result<Vec<String>> {
    let list = conn.must("CLIENT LIST")?.text()?;
    let words = list.split_whitespace();
    let mut names: Vec<String> = words
        .filter_map(|word| word.strip_prefix("name="))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    Ok(names)
}

fn each_upstream_has_its_own_data_and_clients_n23(version: Version) -> Result<()> {
    let three = Three::start(version)?;
    let mut conns = three.conns()?;
    for (conn, name) in conns.iter_mut().zip(NAMES) {
        conn.must(&format!("CLIENT SETNAME of-{name}"))?;
        for key in ["a", "b", "c"] {
            conn.must(&format!("SET {key} {name}"))?;
        }
    }
    for (conn, name) in conns.iter_mut().zip(NAMES) {
        assert_eq!(conn.must("MGET a b c")?.texts()?, [name, name, name]);
        assert_eq!(client_names(conn)?, [format!("of-{name}")]);
        assert_eq!(conn.must("DBSIZE")?.int()?, 3);
    }
    assert_eq!(three.server.must("GET a")?.text()?, "cache");
    let mut primary = three.service.conn(0)?;
    assert_eq!(primary.must("GET a")?.text()?, "front");
    let on_node = |at| Conn::open(at)?.must("DBSIZE")?.int();
    let on_nodes = three.cluster.seeds().into_iter().map(on_node);
    ensure!(on_nodes.sum::<Result<i64>>()? >= 3);
    // A set with keys in several slots is the server's business where there is one, and refused by the cluster.
    ensure!(
        conns[0]
            .line("SUNION a b")?
            .error()
            .is_some_and(|error| error.starts_with("CROSSSLOT"))
    );
    ensure!(
        conns[1]
            .line("SUNION a b")?
            .error()
            .is_some_and(|error| error.starts_with("WRONGTYPE"))
    );

    nobody_hears_of_another_upstream(&three)?;
    pauses_and_kills_end_at_the_upstream(&three, &mut conns)?;
    metrics_and_topology_tell_them_apart(&three)
}

/// Messages and what MONITOR shows.
fn nobody_hears_of_another_upstream(three: &Three) -> Result<()> {
    let (mut monitors, mut subscribers) = (three.conns()?, three.conns()?);
    for (monitor, subscriber) in monitors.iter_mut().zip(&mut subscribers) {
        monitor.must("MONITOR")?;
        subscriber.must("SUBSCRIBE news")?;
    }
    // Each after the other, so that a line or message of another upstream would come before its own.
    for (conn, name) in three.conns()?.iter_mut().zip(NAMES) {
        conn.must(&format!("SET monitored {name}"))?;
        conn.must(&format!("PUBLISH news {name}"))?;
    }
    for ((monitor, subscriber), name) in monitors.iter_mut().zip(&mut subscribers).zip(NAMES) {
        let line = loop {
            let line = monitor.read()?.text()?;
            if line.contains("\"SET\"") {
                break line;
            }
        };
        ensure!(line.contains(&format!("\"{name}\"")), "{name}: {line}");
        assert_eq!(subscriber.read()?.texts()?, ["message", "news", name]);
    }
    Ok(())
}

fn pauses_and_kills_end_at_the_upstream(three: &Three, conns: &mut [Conn; 3]) -> Result<()> {
    conns[1].must("CLIENT PAUSE 60000 WRITE")?;
    let mut paused = Conn::open(three.listeners[1])?;
    paused.send(&["GETSET", "a", "cache"])?;
    conns[0].must("SET a orders")?;
    conns[2].must("SET a front")?;
    ensure!(!paused.has_reply_within(Duration::from_millis(50))?);
    conns[1].must("CLIENT UNPAUSE")?;
    assert_eq!(paused.read()?.text()?, "cache");
    conns[2].must("CLIENT KILL TYPE normal SKIPME yes")?;
    for (conn, name) in conns.iter_mut().zip(NAMES) {
        assert_eq!(conn.must("GET a")?.text()?, name);
    }
    assert_eq!(paused.must("GET a")?.text()?, "cache", "it is still there");
    Ok(())
}

fn metrics_and_topology_tell_them_apart(three: &Three) -> Result<()> {
    let metrics = three.proxy.metrics()?;
    for name in NAMES {
        let of = |metric, label, value| metrics.sum(metric, &[("upstream", name), (label, value)]);
        ensure!(of("slotway_commands_total", "command", "dbsize") == 1.0);
        ensure!(metrics.sum("slotway_ready", &[("upstream", name)]) == 1.0);
        ensure!(metrics.sum("slotway_workers", &[("upstream", name)]) == 2.0);
    }
    let split = |name| metrics.sum("slotway_requests_split_total", &[("upstream", name)]);
    ensure!(split("orders") >= 1.0 && split("cache") + split("front") == 0.0);
    let nodes = |name| metrics.sum("slotway_topology_nodes", &[("upstream", name)]);
    assert_eq!(
        NAMES.map(nodes).map(|nodes| nodes > 1.0),
        [true, false, false]
    );
    ensure!(metrics.sum("slotway_downstream_connections_rejected_total", &[]) == 0.0);
    let topology: serde_json::Value = serde_json::from_str(&three.proxy.get("/topology")?.body)?;
    let upstreams = topology["upstreams"].as_array().context("a list")?;
    let names: Vec<_> = upstreams.iter().map(|it| it["name"].as_str()).collect();
    assert_eq!(names, NAMES.map(Some));
    let address = three.server.address().to_string();
    assert_eq!(upstreams[1]["nodes"][0]["address"], address.as_str());
    let log = three.proxy.log();
    for name in NAMES {
        ensure!(
            log.contains(&format!("upstream=\"{name}\"")),
            "{name} is not in\n{log}"
        );
    }
    Ok(())
}

fn an_upstream_that_is_down_disturbs_no_other_n23(version: Version) -> Result<()> {
    let mut three = Three::launch(version, false)?;
    wait_until(PATIENCE, "the proxy says which upstream is down", || {
        let answer = three.proxy.get("/readyz")?;
        let lines: Vec<&str> = answer.body.lines().collect();
        Ok(answer.status == 503
            && lines.len() == 1
            && lines[0].starts_with("not ready: upstream cache: "))
    })?;
    let [mut orders, mut cache, mut front] = three.conns()?;
    cache.send(&["SET", "waits", "1"])?;
    let mut others_are_served = || -> Result<()> {
        let started = Instant::now();
        for number in 0..200 {
            orders.must(&format!("SET key:{number} v"))?;
            front.must(&format!("SET key:{number} v"))?;
        }
        let took = started.elapsed();
        ensure!(took < Duration::from_secs(2), "{took:?}");
        Ok(())
    };
    others_are_served()?;
    let metrics = three.proxy.metrics()?;
    let ready = NAMES.map(|name| metrics.sum("slotway_ready", &[("upstream", name)]));
    assert_eq!(ready, [1.0, 0.0, 1.0]);
    assert_eq!(three.proxy.get("/healthz")?.status, 200);
    three.server.restart()?;
    ensure!(cache.read()?.is_ok(), "what waited is executed");
    three.proxy.wait_ready(PATIENCE)?;
    ensure!(three.proxy.get("/readyz")?.body == "ready\n");
    three.server.kill()?;
    cache.send(&["SET", "waits", "2"])?;
    others_are_served()?;
    three.server.restart()?;
    ensure!(cache.read()?.is_ok(), "what waited is executed");
    three.proxy.terminate()?;
    let ended = three.proxy.wait_for_exit(PATIENCE)?;
    ensure!(ended.success(), "{ended}");
    Ok(())
}

/// No server is needed: nobody gets that far.
#[test]
fn limits_of_clients_count_for_the_process_and_are_read_anew_for_all_n23() -> Result<()> {
    harness::case(|| {
        // Nobody listens there.
        let nowhere = || Ok::<_, anyhow::Error>(format!("server = '{}'", next_address()?));
        let limit = |clients| format!("limits.max_clients = {clients}\n");
        let (listeners, file) = configured(&[nowhere()?, nowhere()?], &limit(2))?;
        let options = Proxy::with_seeds(&[]).config(&file);
        let proxy = options.listening(listeners[0]).launch()?;
        let greeted = |listener: SocketAddrV4| -> Result<(Conn, Reply)> {
            let mut conn = Conn::open(listener)?;
            let reply = conn.line("PING")?;
            Ok((conn, reply))
        };
        let mut held = Vec::new();
        let first = harness::wait_some(PATIENCE, "it listens", || Ok(greeted(listeners[0]).ok()))?;
        held.push(first.0);
        held.push(greeted(listeners[1])?.0);
        for listener in listeners {
            let (_, reply) = greeted(listener)?;
            assert_eq!(reply.error(), Some("ERR max number of clients reached"));
        }
        let body = wait_for_body(&proxy)?;
        for name in &NAMES[..2] {
            let told = body
                .lines()
                .filter(|line| line.starts_with(&format!("not ready: upstream {name}: ")));
            assert_eq!(told.count(), 1, "{body}");
        }
        proxy.reload(&file.replace(&limit(2), &limit(4)))?;
        wait_until(PATIENCE, "the new limit holds", || {
            let (conn, reply) = greeted(listeners[1])?;
            let served = reply.is_ok() || reply.error().is_none();
            held.extend(served.then_some(conn));
            Ok(served)
        })?;
        let info = held[0].must("CONFIG GET maxclients")?.texts()?;
        assert_eq!(info, ["maxclients", "4"]);
        Ok(())
    })
}

/// What `/readyz` says when each upstream has been tried.
fn wait_for_body(proxy: &Proxy) -> Result<String> {
    harness::wait_some(PATIENCE, "both are told", || {
        let answer = proxy.get("/readyz")?;
        Ok((answer.body.lines().count() == 2).then_some(answer.body))
    })
}

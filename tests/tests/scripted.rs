//! Answers that real servers do not give on demand: endless redirects, refusals that end, half replies, garbage.

use anyhow::{Context, Result, ensure};
use harness::{Action, Proxy, Request, ScriptedCluster, case, key_in_slot, slot_of};
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const UNCERTAIN: &str = "UNCERTAIN proxy: backend connection lost after the command was sent, it may or may not have been executed";

/// Requests for keys; not those by which the proxy looks after its links and the topology.
fn is_data(request: &Request) -> bool {
    ["GET", "SET", "INCR", "APPEND", "MGET", "MSET", "DEL"].contains(&request.name().as_str())
}

fn start(
    count: usize,
    handler: impl Fn(&Request) -> Action + Send + Sync + 'static,
) -> Result<(ScriptedCluster, Proxy)> {
    let cluster = ScriptedCluster::start(count, handler)?;
    let proxy = Proxy::with_seeds(cluster.addresses()).workers(1).start()?;
    Ok((cluster, proxy))
}

/// [scenario 34] [E4]
#[test]
fn moved_to_itself_ends_after_six_redirects() -> Result<()> {
    case(|| {
        let addresses: Arc<OnceLock<SocketAddrV4>> = Arc::default();
        let own = Arc::clone(&addresses);
        let cluster =
            ScriptedCluster::start(2, move |request| match (is_data(request), own.get()) {
                (true, Some(address)) => Action::error(&format!("MOVED 1 {address}")),
                _ => Action::Default,
            })?;
        let _ = addresses.set(cluster.addresses()[0]);
        let proxy = Proxy::with_seeds(cluster.addresses()).workers(1).start()?;
        let mut conn = proxy.conn()?;
        let key = key_in_slot(1, 1);
        let started = Instant::now();
        let reply = conn.call(&["GET", &key])?;
        assert_eq!(
            reply.error(),
            Some("CLUSTERDOWN proxy: too many redirections for slot 1")
        );
        ensure!(
            started.elapsed() < Duration::from_secs(5),
            "took {:?}",
            started.elapsed()
        );
        let tries = cluster.count("GET");
        ensure!((2..=7).contains(&tries), "{tries} tries");
        Ok(())
    })
}

/// Two nodes that each name the other.
#[test]
fn a_redirect_loop_of_two_nodes_ends() -> Result<()> {
    case(|| {
        let addresses: Arc<OnceLock<Vec<SocketAddrV4>>> = Arc::default();
        let known = Arc::clone(&addresses);
        let cluster =
            ScriptedCluster::start(2, move |request| match (is_data(request), known.get()) {
                (true, Some(all)) => {
                    let slot = slot_of(&request.arguments[1]);
                    Action::error(&format!("MOVED {slot} {}", all[1 - request.node]))
                }
                _ => Action::Default,
            })?;
        let _ = addresses.set(cluster.addresses().to_vec());
        let proxy = Proxy::with_seeds(cluster.addresses()).workers(1).start()?;
        let mut conn = proxy.conn()?;
        let reply = conn.call(&["SET", &key_in_slot(1, 1), "v"])?;
        assert_eq!(
            reply.error(),
            Some("CLUSTERDOWN proxy: too many redirections for slot 1")
        );
        ensure!(cluster.count("SET") <= 7, "{} tries", cluster.count("SET"));
        // Other slots of the same nodes are refused the same way, not stuck.
        let other = conn.call(&["GET", &key_in_slot(9000, 1)])?;
        ensure!(
            other
                .error()
                .is_some_and(|text| text.starts_with("CLUSTERDOWN ")),
            "{other:?}"
        );
        Ok(())
    })
}

/// [scenario 42] and its like: refused without being executed, until the node is ready. Shown to nobody, executed once.
#[test]
fn passing_refusals_are_hidden() -> Result<()> {
    for refusal in [
        "LOADING Redis is loading the dataset in memory",
        "LOADING Valkey is loading the dataset in memory",
        "CLUSTERDOWN The cluster is down",
        "CLUSTERDOWN Hash slot not served",
        "CLUSTERDOWN The cluster is down and only accepts read commands",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    ] {
        case(|| {
            let refusals = AtomicUsize::new(0);
            let (cluster, proxy) = start(2, move |request| {
                if is_data(request) && refusals.fetch_add(1, Ordering::Relaxed) < 4 {
                    Action::error(refusal)
                } else {
                    Action::Default
                }
            })?;
            let mut conn = proxy.conn()?;
            let reply = conn.call(&["INCR", "counter"])?;
            ensure!(reply.int().is_ok(), "{reply:?}");
            assert_eq!(cluster.value("counter").context("not executed")?, "1");
            assert_eq!(conn.call(&["GET", "counter"])?.text()?, "1");
            Ok(())
        })
        .with_context(|| refusal.to_owned())?;
    }
    Ok(())
}

/// Errors that say nothing about the cluster go to the client as they are, and nothing is tried again.
#[test]
fn other_errors_pass_unchanged() -> Result<()> {
    for error in [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Redis is configured to save RDB snapshots",
        "NOREPLICAS Not enough good replicas to write.",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "NOPERM this user has no permissions to run the 'set' command",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "ERR something new",
        "MOVEDX 1 2",
        "ASK",
        "MOVED x y",
    ] {
        case(|| {
            let (cluster, proxy) = start(2, move |request| {
                if is_data(request) {
                    Action::error(error)
                } else {
                    Action::Default
                }
            })?;
            let mut conn = proxy.conn()?;
            assert_eq!(conn.call(&["SET", "k", "v"])?.error(), Some(error));
            assert_eq!(cluster.count("SET"), 1);
            Ok(())
        })
        .with_context(|| error.to_owned())?;
    }
    Ok(())
}

/// [scenario 66] [O4]: a refused request must not overtake a later one on the same key that was executed.
#[test]
fn a_refused_request_never_overtakes_a_later_one() -> Result<()> {
    case(|| {
        let first = AtomicUsize::new(0);
        let (cluster, proxy) = start(1, move |request| {
            if request.name() == "APPEND" && first.fetch_add(1, Ordering::Relaxed) == 0 {
                Action::error("TRYAGAIN Multiple keys request during rehashing of slot")
            } else {
                Action::Default
            }
        })?;
        let mut conn = proxy.conn()?;
        let commands = [
            vec!["APPEND", "k", "1"],
            vec!["APPEND", "k", "2"],
            vec!["GET", "k"],
        ];
        let replies = conn.pipeline(&commands)?;
        let value = cluster.value("k").context("nothing was executed")?;
        match replies[0].error() {
            // The truth: not executed, and the later one was.
            Some(text) => {
                ensure!(text.starts_with("TRYAGAIN "), "{text}");
                assert_eq!(value, "2");
            }
            None => assert_eq!(value, "12"),
        }
        assert_eq!(replies[2].text()?, value);
        Ok(())
    })
}

/// [scenario 67] [O5]: both are refused, both run at the other node, in order.
#[test]
fn two_moved_requests_keep_their_order() -> Result<()> {
    case(|| {
        let addresses: Arc<OnceLock<Vec<SocketAddrV4>>> = Arc::default();
        let known = Arc::clone(&addresses);
        let cluster = ScriptedCluster::start(2, move |request| match known.get() {
            Some(all) if is_data(request) && request.node == 0 => {
                Action::error(&format!("MOVED 1 {}", all[1]))
            }
            _ => Action::Default,
        })?;
        let proxy = Proxy::with_seeds(cluster.addresses()).workers(1).start()?;
        cluster.change(|nodes| {
            nodes[0].slots = vec![(0, 0), (2, 8191)];
            nodes[1].slots = vec![(1, 1), (8192, 16383)];
            nodes[1].epoch = 9;
        });
        let _ = addresses.set(cluster.addresses().to_vec());
        let key = key_in_slot(1, 1);
        let mut conn = proxy.conn()?;
        let commands: Vec<Vec<String>> = (0..50)
            .map(|n| vec!["APPEND".to_owned(), key.clone(), format!("{n},")])
            .collect();
        for reply in conn.pipeline(&commands)? {
            ensure!(reply.int().is_ok(), "{reply:?}");
        }
        let expected: String = (0..50).map(|n| format!("{n},")).collect();
        assert_eq!(
            cluster.value(&key).context("nothing was executed")?,
            expected
        );
        Ok(())
    })
}

/// [scenario 37] [E7]: ASK names a node that no view of the cluster shows yet.
#[test]
fn ask_to_a_node_that_is_not_in_the_table() -> Result<()> {
    case(|| {
        let addresses: Arc<OnceLock<Vec<SocketAddrV4>>> = Arc::default();
        let known = Arc::clone(&addresses);
        let cluster = ScriptedCluster::start(3, move |request| match known.get() {
            Some(all) if is_data(request) && request.node != 2 => {
                Action::error(&format!("ASK 1 {}", all[2]))
            }
            // The new node serves a key of a slot that it does not own after ASKING only.
            _ => Action::Default,
        })?;
        cluster.change(|nodes| {
            nodes[0].slots = vec![(0, 8191)];
            nodes[1].slots = vec![(8192, 16383)];
            nodes[2].slots = Vec::new();
            nodes[2].hidden = true;
        });
        let proxy = Proxy::with_seeds(&cluster.addresses()[..2])
            .workers(1)
            .start()?;
        let _ = addresses.set(cluster.addresses().to_vec());
        let mut conn = proxy.conn()?;
        let key = key_in_slot(1, 1);
        ensure!(conn.call(&["SET", &key, "v"])?.is_ok());
        assert_eq!(conn.call(&["GET", &key])?.text()?, "v");
        let at_new = cluster
            .requests("SET")
            .iter()
            .filter(|request| request.node == 2)
            .count();
        assert_eq!(at_new, 1);
        ensure!(
            cluster
                .requests("GET")
                .iter()
                .all(|request| request.node != 2 || request.asking)
        );
        Ok(())
    })
}

/// [D3] [D4]: a connection that dies with a request on it.
#[test]
fn a_link_that_dies_loses_writes_only_as_uncertain() -> Result<()> {
    for broken in ["", "$5\r\nhel", "garbage\r\n", "$abc\r\n", "*2\r\n+one\r\n"] {
        case(|| {
            let deaths = AtomicUsize::new(0);
            let (cluster, proxy) = start(1, move |request| {
                if is_data(request) && deaths.fetch_add(1, Ordering::Relaxed) < 1 {
                    Action::ReplyThenClose(broken.as_bytes().to_vec())
                } else {
                    Action::Default
                }
            })?;
            let mut conn = proxy.conn()?;
            // A read is asked again, however its first answer broke off.
            assert_eq!(conn.call(&["GET", "none"])?, harness::Reply::Nil);
            assert_eq!(cluster.count("GET"), 2);
            Ok(())
        })
        .with_context(|| format!("GET, {broken:?}"))?;
        case(|| {
            let deaths = AtomicUsize::new(0);
            let (cluster, proxy) = start(1, move |request| {
                if request.name() == "INCR" && deaths.fetch_add(1, Ordering::Relaxed) < 1 {
                    Action::ReplyThenClose(broken.as_bytes().to_vec())
                } else {
                    Action::Default
                }
            })?;
            let mut conn = proxy.conn()?;
            assert_eq!(conn.call(&["INCR", "n"])?.error(), Some(UNCERTAIN));
            assert_eq!(cluster.count("INCR"), 1, "a written write was sent again");
            assert_eq!(conn.call(&["INCR", "n"])?.int()?, 1);
            Ok(())
        })
        .with_context(|| format!("INCR, {broken:?}"))?;
    }
    Ok(())
}

/// A reply that nobody asked for: the link is out of step and must go, before a client gets another one's reply.
#[test]
fn an_unasked_reply_closes_the_link() -> Result<()> {
    case(|| {
        let (cluster, proxy) = start(1, |request| match request.text(1).as_str() {
            "double" => Action::Reply(b"$3\r\none\r\n$3\r\ntwo\r\n".to_vec()),
            _ => Action::Default,
        })?;
        let mut conn = proxy.conn()?;
        ensure!(conn.call(&["SET", "k", "right"])?.is_ok());
        for _ in 0..50 {
            assert_eq!(conn.call(&["GET", "double"])?.text()?, "one");
            assert_eq!(conn.call(&["GET", "k"])?.text()?, "right");
        }
        let connections: std::collections::BTreeSet<u64> = cluster
            .requests("GET")
            .iter()
            .map(|request| request.connection)
            .collect();
        ensure!(
            connections.len() >= 50,
            "only {} connections were used",
            connections.len()
        );
        Ok(())
    })
}

/// [R8]: the proxy's own password is wrong: a clear error at once, no storm of attempts.
#[test]
fn a_wrong_upstream_password_is_said_clearly() -> Result<()> {
    case(|| {
        let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
        let cluster = ScriptedCluster::start(2, move |request| match request.name().as_str() {
            "AUTH" => Action::error(wrong),
            "HELLO" if request.arguments.len() > 2 => Action::error(wrong),
            _ if is_data(request) => Action::error("NOAUTH Authentication required."),
            _ => Action::Default,
        })?;
        let mut proxy = Proxy::with_seeds(cluster.addresses())
            .environment("SLOTWAY_UPSTREAM_PASSWORD", "outdated")
            .launch()?;
        let mut conn = harness::wait_some(Duration::from_secs(5), "the proxy listens", || {
            Ok(proxy.conn().ok())
        })?;
        conn.set_timeout(Duration::from_secs(15))?;
        let reply = conn.call(&["GET", "k"])?;
        assert_eq!(
            reply.error(),
            Some("ERR proxy: backend authentication failed")
        );
        ensure!(proxy.is_running());
        let attempts = cluster.count("AUTH") + cluster.count("HELLO");
        ensure!(attempts < 200, "{attempts} attempts to log in");
        Ok(())
    })
}

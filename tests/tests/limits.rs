//! Limits of clients: how many, from where, how fast, how long idle, how much unread; and their change while the proxy runs.

use anyhow::{Context, Result, ensure};
use harness::{Action, Conn, Proxy, ScriptedCluster, case, wait_some, wait_until};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use socket2::{Domain, SockRef, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);
const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";

/// A proxy with these limits in front of played nodes.
fn start(limits: &str) -> Result<(ScriptedCluster, Proxy)> {
    let cluster = ScriptedCluster::start(2, |_| Action::Default)?;
    let proxy = Proxy::with_seeds(cluster.addresses())
        .config(limits)
        .start()?;
    Ok((cluster, proxy))
}

/// A client that is served.
fn client(proxy: &Proxy) -> Result<Conn> {
    let mut conn = proxy.conn()?;
    conn.must("PING")?;
    Ok(conn)
}

/// A client that is served, once there is a place for it.
fn client_at_last(proxy: &Proxy) -> Result<Conn> {
    wait_some(SOON, "there is a place for a client", || {
        client(proxy).map(Some)
    })
}

/// A client with this address.
fn client_from(proxy: &Proxy, host: [u8; 4]) -> Result<Conn> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let host = IpAddr::V4(Ipv4Addr::from(host));
    socket.bind(&SocketAddr::new(host, 0).into())?;
    socket.connect(&SocketAddr::from(proxy.address()).into())?;
    Conn::over(socket.into())
}

/// Ends a connection in the least polite way.
fn abort(stream: &TcpStream) -> Result<()> {
    Ok(SockRef::from(stream).set_linger(Some(Duration::ZERO))?)
}

fn rejected(proxy: &Proxy, reason: &str) -> Result<f64> {
    let name = "slotway_downstream_connections_rejected_total";
    Ok(proxy.metrics()?.sum(name, &[("reason", reason)]))
}

fn closed(proxy: &Proxy, reason: &str) -> Result<f64> {
    let name = "slotway_downstream_connections_closed_total";
    Ok(proxy.metrics()?.sum(name, &[("reason", reason)]))
}

fn is(value: f64, expected: f64) -> bool {
    (value - expected).abs() < 0.5
}

fn setting(conn: &mut Conn, name: &str) -> Result<String> {
    let reply = conn.must(&format!("CONFIG GET {name}"))?;
    reply.items()?.get(1).context("no such setting")?.text()
}

#[test]
fn a_client_too_many_is_refused_as_by_a_server_and_places_become_free() -> Result<()> {
    case(|| {
        let (_cluster, proxy) = start("limits.max_clients = 3\n")?;
        let mut clients: Vec<Conn> = (0..3).map(|_| client(&proxy)).collect::<Result<_>>()?;
        assert_eq!(proxy.conn()?.read_to_close()?, TOO_MANY);
        let mut hasty = proxy.conn()?;
        hasty.send(&["HELLO", "3"])?;
        assert_eq!(
            hasty.read()?.error(),
            Some("ERR max number of clients reached")
        );
        ensure!(is(rejected(&proxy, "max_clients")?, 2.0));
        assert_eq!(setting(&mut clients[0], "maxclients")?, "3");
        let info = clients[1].must("INFO clients")?;
        ensure!(info.text()?.contains("maxclients:3\r\n"), "{info:?}");
        clients.pop();
        clients.push(client_at_last(&proxy)?);
        clients.pop();
        for gone in 0..200 {
            let mut conn = client_at_last(&proxy).with_context(|| format!("after {gone}"))?;
            conn.send_raw(b"*2\r\n$3\r\nGET\r\n$1")?;
            abort(conn.stream())?;
        }
        clients.push(client_at_last(&proxy)?);
        for conn in &mut clients {
            conn.must("PING")?;
        }
        let connected = || proxy.metric("slotway_downstream_connections");
        wait_until(SOON, "only three are connected", || {
            Ok(is(connected()?, 3.0))
        })
    })
}

#[test]
fn each_address_has_its_own_number_of_clients() -> Result<()> {
    case(|| {
        let (_cluster, proxy) = start("limits.max_clients_per_ip = 2\n")?;
        let (one, other) = ([127, 0, 0, 1], [127, 0, 0, 2]);
        let mut first = client_from(&proxy, one)?;
        let mut second = client_from(&proxy, one)?;
        first.must("PING")?;
        second.must("PING")?;
        assert_eq!(client_from(&proxy, one)?.read_to_close()?, TOO_MANY);
        client_from(&proxy, other)?.must("PING")?;
        for gone in 0..200 {
            abort(second.stream())?;
            drop(second);
            second = wait_some(SOON, "the place is free", || {
                let mut conn = client_from(&proxy, one)?;
                conn.must("PING")?;
                Ok(Some(conn))
            })
            .with_context(|| format!("after {gone}"))?;
        }
        first.must("PING")?;
        ensure!(rejected(&proxy, "max_clients_per_ip")? > 0.5);
        ensure!(is(rejected(&proxy, "max_clients")?, 0.0));
        Ok(())
    })
}

#[test]
fn idle_clients_are_disconnected_and_no_others() -> Result<()> {
    case(|| {
        let go_on = Arc::new(AtomicBool::new(false));
        let may_answer = Arc::clone(&go_on);
        let cluster = ScriptedCluster::start(1, move |request| {
            if request.text(1) == "slow" {
                let _ = wait_until(SOON, "the test allows an answer", || {
                    Ok(may_answer.load(Ordering::Relaxed))
                });
            }
            Action::Default
        })?;
        let proxy = Proxy::with_seeds(cluster.addresses())
            .config("limits.idle_timeout = '1s'\n")
            .start()?;
        let mut waiting = client(&proxy)?;
        waiting.send(&["GET", "slow"])?;
        let mut active = client(&proxy)?;
        assert_eq!(setting(&mut active, "timeout")?, "1");
        let mut halfway = client(&proxy)?;
        halfway.send_raw(b"*2\r\n$3\r\nGET\r\n")?;
        let idle = client(&proxy)?;
        let started = Instant::now();
        wait_until(SOON, "the idle and the unfinished one are closed", || {
            active.must("PING")?;
            Ok(is(closed(&proxy, "idle")?, 2.0))
        })?;
        let took = started.elapsed();
        ensure!(took >= Duration::from_millis(950), "after {took:?}");
        ensure!(took < Duration::from_secs(5), "after {took:?}");
        for mut conn in [idle, halfway] {
            ensure!(conn.read_to_close()?.is_empty(), "as by a server");
        }
        active.must("PING")?;
        go_on.store(true, Ordering::Relaxed);
        let answered = Instant::now();
        ensure!(waiting.read()?.error().is_none());
        // Its time counts from the answer, not from the request.
        ensure!(waiting.read_to_close()?.is_empty());
        let left = answered.elapsed();
        ensure!(left >= Duration::from_millis(950), "after {left:?}");
        Ok(())
    })
}

#[test]
fn a_client_that_lets_replies_lie_is_disconnected_after_the_soft_time() -> Result<()> {
    case(|| {
        // By default a client does not get as much as that in the first place.
        let limits = "[limits]\nclient_output_pause_bytes = '64MiB'\n\
            client_output_soft_bytes = '8MiB'\nclient_output_soft_time = '1s'\n";
        let (_cluster, proxy) = start(limits)?;
        let mut reader = client(&proxy)?;
        assert_eq!(
            setting(&mut reader, "client-output-buffer-limit")?,
            "normal 268435456 8388608 1 slave 0 0 0 pubsub 33554432 8388608 1"
        );
        let value = "v".repeat(1 << 20);
        reader.call(&["SET", "big", &value])?;
        let requests = harness::encode(&["GET", "big"]).repeat(48);
        let mut deaf = client(&proxy)?;
        let started = Instant::now();
        deaf.send_raw(&requests)?;
        wait_until(SOON, "the deaf client is disconnected", || {
            Ok(is(closed(&proxy, "output_soft_limit")?, 1.0))
        })?;
        let took = started.elapsed();
        ensure!(took >= Duration::from_secs(1), "after {took:?}");
        // As much as that, for longer, is no fault of one that reads.
        for _ in 0..3 {
            reader.send_raw(&requests)?;
            for reply in reader.read_many(48)? {
                ensure!(reply.text()?.len() == value.len());
            }
        }
        ensure!(is(closed(&proxy, "output_soft_limit")?, 1.0));
        Ok(())
    })
}

#[test]
fn connections_above_the_rate_wait_and_are_not_refused() -> Result<()> {
    case(|| {
        let (_cluster, proxy) = start("limits.accepts_per_second = 100\n")?;
        let mut old = client(&proxy)?;
        let burst = |count: usize| -> Result<Duration> {
            let started = Instant::now();
            let mut conns: Vec<Conn> = (0..count).map(|_| proxy.conn()).collect::<Result<_>>()?;
            for conn in &mut conns {
                conn.send(&["PING"])?;
            }
            for conn in &mut conns {
                assert_eq!(conn.read()?.text()?, "PONG");
            }
            Ok(started.elapsed())
        };
        let took = std::thread::scope(|scope| -> Result<Duration> {
            let bursting = scope.spawn(|| burst(300));
            while !bursting.is_finished() {
                let asked = Instant::now();
                old.must("PING")?;
                let took = asked.elapsed();
                ensure!(took < Duration::from_secs(1), "{took:?}");
            }
            bursting.join().ok().context("the thread panicked")?
        })?;
        ensure!(took > Duration::from_millis(1900), "{took:?}");
        ensure!(took < Duration::from_secs(6), "{took:?}");
        for reason in ["max_clients", "max_clients_per_ip", "accept_error"] {
            ensure!(is(rejected(&proxy, reason)?, 0.0), "{reason}");
        }
        ensure!(proxy.metric("slotway_downstream_accept_pauses_total")? > 0.5);
        proxy.reload("limits.accepts_per_second = 0\n")?;
        wait_until(SOON, "the limit is gone", || {
            Ok(is(proxy.metric("slotway_config_reloads_total")?, 1.0))
        })?;
        let took = burst(300)?;
        ensure!(took < Duration::from_millis(1900), "{took:?}");
        Ok(())
    })
}

/// Processor time the process has used, from /proc.
fn processor_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("no name")?;
    let field = |index: usize| -> Result<u64> {
        let text = rest
            .split_whitespace()
            .nth(index)
            .context("no such field")?;
        Ok(text.parse()?)
    };
    // In ticks of 10 ms, which no system has otherwise.
    Ok(Duration::from_millis(10 * (field(11)? + field(12)?)))
}

/// Lets the process have no more descriptors than it has; gives the limit before.
fn exhaust_descriptors(proxy: &Proxy) -> Result<(Pid, Rlimit)> {
    let pid = i32::try_from(proxy.id()).ok().and_then(Pid::from_raw);
    let pid = pid.context("process id out of range")?;
    let used: Vec<u64> = std::fs::read_dir(format!("/proc/{}/fd", proxy.id()))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let next = (0..)
        .find(|number| !used.contains(number))
        .context("no end")?;
    let before = rustix::process::getrlimit(Resource::Nofile);
    let lowered = Rlimit {
        current: Some(next),
        maximum: before.maximum,
    };
    Ok((pid, prlimit(Some(pid), Resource::Nofile, lowered)?))
}

#[test]
fn without_descriptors_clients_wait_and_the_proxy_does_not_spin() -> Result<()> {
    case(|| {
        let (_cluster, proxy) = start("")?;
        let mut old = client(&proxy)?;
        old.must("SET k v")?;
        let (pid, before) = exhaust_descriptors(&proxy)?;
        let mut late = proxy.conn()?;
        late.send(&["PING"])?;
        wait_until(SOON, "the failure is logged", || {
            Ok(proxy.log().contains("cannot accept connections"))
        })?;
        let used = processor_time(proxy.id())?;
        ensure!(!late.has_reply_within(Duration::from_secs(1))?);
        let used = processor_time(proxy.id())?.saturating_sub(used);
        ensure!(used < Duration::from_millis(300), "{used:?} in a second");
        assert_eq!(old.must("GET k")?.text()?, "v");
        prlimit(Some(pid), Resource::Nofile, before)?;
        assert_eq!(late.read()?.text()?, "PONG", "it was only kept waiting");
        let failures = rejected(&proxy, "accept_error")?;
        ensure!((1.0..60.0).contains(&failures), "{failures}");
        Ok(())
    })
}

#[test]
fn limits_change_while_clients_are_connected_and_faults_change_nothing() -> Result<()> {
    case(|| {
        let (_cluster, proxy) = start("limits.max_clients = 4\n")?;
        let reloads = |result: &str| -> Result<f64> {
            let name = "slotway_config_reloads_total";
            Ok(proxy.metrics()?.sum(name, &[("result", result)]))
        };
        let mut conn = client(&proxy)?;
        let idle = client(&proxy)?;
        let changed = "limits.max_clients = 2\nlimits.client_output_bytes = '100MiB'\n\
            limits.client_output_soft_bytes = '0B'\nlimits.pipeline_count = 7\n";
        proxy.reload(changed)?;
        wait_until(SOON, "it is applied", || Ok(is(reloads("applied")?, 1.0)))?;
        assert_eq!(setting(&mut conn, "maxclients")?, "2");
        let output = setting(&mut conn, "client-output-buffer-limit")?;
        ensure!(output.starts_with("normal 104857600 0 60 "), "{output}");
        assert_eq!(proxy.conn()?.read_to_close()?, TOO_MANY);
        let log = proxy.log();
        for part in [
            "limits.max_clients, limits.client_output_bytes, limits.client_output_soft_bytes",
            "take effect at the next start",
            "limits.pipeline_count",
        ] {
            ensure!(log.contains(part), "{part} is not in {log}");
        }

        proxy
            .reload("limits.max_clients = 0\nlimits.idle_timeout = '1s'\nlimits.nonsense = 1\n")?;
        wait_until(SOON, "it is refused", || Ok(is(reloads("failed")?, 1.0)))?;
        assert_eq!(setting(&mut conn, "maxclients")?, "2");
        assert_eq!(setting(&mut conn, "timeout")?, "0");
        let log = proxy.log();
        for part in ["slotway.toml:1", "out of range", "slotway.toml:3"] {
            ensure!(log.contains(part), "{part} is not in {log}");
        }

        proxy.reload("limits.idle_timeout = '1s'\n")?;
        wait_until(SOON, "the idle client is closed", || {
            conn.must("PING")?;
            Ok(is(closed(&proxy, "idle")?, 1.0))
        })?;
        drop(idle);
        assert_eq!(setting(&mut conn, "maxclients")?, "10000", "its default");
        Ok(())
    })
}

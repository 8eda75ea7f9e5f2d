//! Sentinels that lie, hang, or are met twice [N12], [N14], [N16].

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{
    Conn, FaultProxy, Load, LoadOptions, Node, ProxyOptions, SERVICE, Service, Version, wait_until,
};

use super::{PATIENCE, SWITCH, proxy, proxy_at, sentinel, uses};

harness::on_full_matrix!(
    a_sentinel_that_lies_about_promotions_holds_writes_once,
    writes_go_on_when_no_quorum_names_the_promoted_server,
    a_sentinel_that_lies_has_no_effect,
    a_sentinel_at_two_addresses_has_one_vote,
    a_sentinel_that_hangs_costs_no_switch_its_second,
);

/// One that takes part in no vote, but publishes what a test has it say.
fn liar(service: &Service) -> Result<(Node, ProxyOptions)> {
    let liar = Node::standalone(service.nodes()[0].version())?;
    let mut seeds = service.seeds();
    seeds.push(liar.address());
    wait_until(PATIENCE, "the replicas are those of the primary", || {
        Ok(service.nodes()[0].info("replication", "connected_slaves")? == "2")
    })?;
    Ok((liar, proxy_at(&seeds, "")))
}

/// Has the liar say that `promoted` is about to become the primary.
fn announce(liar: &mut Conn, service: &Service, promoted: SocketAddrV4) -> Result<()> {
    let of = |address: SocketAddrV4| format!("{} {}", address.ip(), address.port());
    let (promoted, primary) = (
        format!("slave {promoted} {}", of(promoted)),
        of(service.nodes()[0].address()),
    );
    let event = format!("{promoted} @ {SERVICE} {primary}");
    let heard = liar.call(&["PUBLISH", "+failover-state-send-slaveof-noone", &event])?;
    ensure!(heard.int()? == 1, "the proxy hears it");
    Ok(())
}

/// What the proxy logs when it begins to hold writes.
const HOLDS: &str = "a Sentinel promotes a replica";

fn a_sentinel_that_lies_about_promotions_holds_writes_once(version: Version) -> Result<()> {
    let service = Service::new(version).start()?;
    let stranger = Node::standalone(version)?;
    let (liar, options) = liar(&service)?;
    let proxy = options.start()?;
    let mut liar = liar.conn()?;
    wait_until(PATIENCE, "the liar is heard", || {
        Ok(announce(&mut liar, &service, stranger.address()).is_ok())
    })?;
    // The primary does not know that one.
    let mut client = proxy.conn()?;
    client.set_timeout(SWITCH)?;
    for _ in 0..200 {
        announce(&mut liar, &service, stranger.address())?;
        client.must("INCR n")?;
    }
    ensure!(!proxy.log().contains(HOLDS), "held for a stranger");
    let mut longest = Duration::ZERO;
    let (mut held, begun) = (Duration::ZERO, Instant::now());
    while begun.elapsed() < Duration::from_secs(4) {
        announce(&mut liar, &service, service.nodes()[1].address())?;
        let sent = Instant::now();
        client.must("INCR n")?;
        let waited = sent.elapsed();
        longest = longest.max(waited);
        if waited > Duration::from_millis(200) {
            held += waited;
        }
    }
    ensure!(proxy.log().contains("was not promoted"), "it was not held");
    ensure!(
        held < Duration::from_millis(2200),
        "held {held:?} in all, {longest:?} at once"
    );
    ensure!(service.primary_by(0)? == 0);
    Ok(())
}

/// A replica is made a primary behind the backs of the Sentinels, one of which has announced that.
fn writes_go_on_when_no_quorum_names_the_promoted_server(version: Version) -> Result<()> {
    let service = Service::new(version).start()?;
    let (liar, options) = liar(&service)?;
    let proxy = options.start()?;
    let mut liar = liar.conn()?;
    let promoted = service.nodes()[1].address();
    let mut client = proxy.conn()?;
    client.set_timeout(SWITCH)?;
    client.must("INCR n")?;
    wait_until(PATIENCE, "writes are held", || {
        // Neither is heard or known to be a replica from the first moment on.
        let _ = announce(&mut liar, &service, promoted);
        Ok(proxy.log().contains(HOLDS))
    })?;
    service.conn(1)?.must("REPLICAOF NO ONE")?;
    let sent = Instant::now();
    client.send(&["INCR", "n"])?;
    let mut reader = proxy.conn()?;
    ensure!(reader.must("GET n")?.text()? == "1", "reads do not wait");
    ensure!(client.read()?.int()? == 2);
    let waited = sent.elapsed();
    ensure!(
        (Duration::from_millis(2000)..SWITCH).contains(&waited),
        "waited {waited:?}"
    );
    wait_until(SWITCH, "that is told", || {
        Ok(proxy.log().contains("not enough Sentinels name it"))
    })?;
    ensure!(
        service.nodes()[1].calls("incr")? <= 1,
        "only by replication"
    );
    Ok(())
}

fn a_sentinel_that_lies_has_no_effect(version: Version) -> Result<()> {
    let service = Service::new(version).start()?;
    let wrong = Node::standalone(version)?;
    let first = proxy(&service).start()?;
    let mut conn = first.conn()?;
    conn.must("SET a 1")?;
    let mut liar = sentinel(&service, 0)?;
    liar.must(&format!("SENTINEL REMOVE {SERVICE}"))?;
    let (ip, port) = (wrong.address().ip().to_owned(), wrong.address().port());
    liar.must(&format!("SENTINEL MONITOR {SERVICE} {ip} {port} 1"))?;
    // One that knows nothing yet has to find the right one, too.
    let second = proxy(&service).start()?;
    for _ in 0..500 {
        conn.must("INCR n")?;
        second.conn()?.must("INCR n")?;
    }
    ensure!(service.conn(0)?.must("GET n")?.text()? == "1000");
    ensure!(wrong.calls("incr")? == 0, "the wrong server was written to");
    Ok(())
}

/// [N12]: the two that tell the truth are asked first.
fn a_sentinel_at_two_addresses_has_one_vote(version: Version) -> Result<()> {
    let service = Service::new(version).start()?;
    let wrong = Node::standalone(version)?;
    let mut liar = sentinel(&service, 2)?;
    liar.must(&format!("SENTINEL REMOVE {SERVICE}"))?;
    let (ip, port) = (wrong.address().ip().to_owned(), wrong.address().port());
    liar.must(&format!("SENTINEL MONITOR {SERVICE} {ip} {port} 1"))?;
    let again = FaultProxy::start(service.seeds()[2])?;
    let mut seeds = service.seeds();
    seeds.push(again.address());
    let proxy = proxy_at(&seeds, "").start()?;
    for _ in 0..100 {
        proxy.conn()?.must("INCR n")?;
    }
    ensure!(again.accepted() > 0, "it is asked at both addresses");
    ensure!(wrong.calls("incr")? == 0, "the wrong server was written to");
    ensure!(service.conn(0)?.must("GET n")?.text()? == "100");
    Ok(())
}

/// As on a host that has died: it takes connections, and answers nothing.
fn a_sentinel_that_hangs_costs_no_switch_its_second(version: Version) -> Result<()> {
    let service = Service::new(version).start()?;
    let proxy = proxy(&service).start()?;
    service.sentinels()[2].freeze(true)?;
    let load = Load::start(proxy.address(), &LoadOptions::default())?;
    load.wait_for(2_000)?;
    let mut sentinel = sentinel(&service, 0)?;
    sentinel.must(&format!("SENTINEL FAILOVER {SERVICE}"))?;
    wait_until(PATIENCE, "both name another primary", || {
        Ok(service.primary_by(0)? != 0 && service.primary_by(1)? == service.primary_by(0)?)
    })?;
    let named = Instant::now();
    uses(&proxy, &service, service.primary_by(0)?)?;
    let late = named.elapsed();
    ensure!(
        late < Duration::from_millis(900),
        "{late:?} after both named it"
    );
    service.sentinels()[2].freeze(false)?;
    let report = load.stop()?;
    report.ensure_no_violations()?;
    ensure!(report.errors.is_empty(), "{}", report.error_summary());
    Ok(())
}

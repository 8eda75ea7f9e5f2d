//! The proxy in front of a primary that three Sentinels watch [N10]-[N16].

use anyhow::{Context, Result, ensure};
use harness::{Conn, Load, LoadOptions, Node, Proxy, ProxyOptions, SERVICE, Service, Version};
use harness::{wait_some, wait_until};
use std::time::{Duration, Instant};

/// How long anything may take that the Sentinels do.
const PATIENCE: Duration = Duration::from_secs(30);

/// The promise: every switch within this time.
const SWITCH: Duration = Duration::from_secs(5);

harness::on_full_matrix!(
    a_planned_failover_shows_no_error,
    a_killed_primary_costs_only_what_was_written_to_it,
    a_former_primary_that_comes_back_as_one_gets_no_write,
    a_sentinel_that_lies_has_no_effect,
    the_service_goes_on_without_sentinels_and_finds_them_where_they_have_moved,
    passwords_of_servers_and_sentinels_are_two,
);

fn proxy(service: &Service) -> ProxyOptions {
    let seeds: Vec<String> = service.seeds().iter().map(|at| format!("'{at}'")).collect();
    let file = format!(
        "upstream.sentinels = [{}]\nupstream.sentinel_service = '{SERVICE}'\n",
        seeds.join(", ")
    );
    Proxy::with_seeds(&[]).config(&file)
}

/// When a Sentinel first says that the primary is another one.
fn first_word(service: &Service, old: usize) -> Result<Instant> {
    wait_some(PATIENCE, "a Sentinel names another primary", || {
        for sentinel in 0..service.sentinels().len() {
            if service.primary_by(sentinel)? != old {
                return Ok(Some(Instant::now()));
            }
        }
        Ok(None)
    })
}

fn a_planned_failover_shows_no_error(version: Version) -> Result<()> {
    let service = Service::new(version).start()?;
    let proxy = proxy(&service).start()?;
    let load = Load::start(proxy.address(), &LoadOptions::default())?;
    load.wait_for(2_000)?;
    let mut sentinel = sentinel(&service, 0)?;
    sentinel.must(&format!("SENTINEL FAILOVER {SERVICE}"))?;
    let new = service.wait_switched(0)?;
    wait_until(SWITCH, "the new primary is written to", || {
        load.wait_for(500)?;
        Ok(service.nodes()[new].calls("set")? > 0)
    })?;
    let report = load.stop()?;
    report.ensure_no_violations()?;
    ensure!(report.errors.is_empty(), "{}", report.error_summary());
    Ok(())
}

fn a_killed_primary_costs_only_what_was_written_to_it(version: Version) -> Result<()> {
    let mut service = Service::new(version).start()?;
    let proxy = proxy(&service).start()?;
    let options = LoadOptions {
        groups: vec![0..=harness::SLOT_COUNT - 1],
        ..LoadOptions::default()
    };
    let load = Load::start(proxy.address(), &options)?;
    load.wait_for(2_000)?;
    let killed = Instant::now();
    service.node_mut(0)?.kill()?;
    let named = first_word(&service, 0)?;
    let new = service.wait_switched(0)?;
    load.wait_for(2_000)?;
    let report = load.stop()?;
    report.ensure_no_violations()?;
    let others = report
        .errors
        .iter()
        .filter(|error| !error.text.starts_with("UNCERTAIN"));
    ensure!(others.count() == 0, "{}", report.error_summary());
    let served = report.served_again(0, killed).context("no gap was seen")?;
    let late = served.saturating_duration_since(named);
    ensure!(
        late < Duration::from_millis(500),
        "served {late:?} after the first Sentinel named node {new}"
    );
    Ok(())
}

fn a_former_primary_that_comes_back_as_one_gets_no_write(version: Version) -> Result<()> {
    let service = Service::new(version).start()?;
    let proxy = proxy(&service).start()?;
    let mut conn = proxy.conn()?;
    conn.must("SET before 1")?;
    let old = &service.nodes()[0];
    old.freeze()?;
    service.wait_switched(0)?;
    let started = Instant::now();
    wait_until(SWITCH, "writes go to the new primary", || {
        let mut conn = proxy.conn()?;
        conn.set_timeout(SWITCH)?;
        Ok(conn.line("SET while 1")?.is_ok())
    })?;
    ensure!(started.elapsed() < SWITCH);
    old.thaw()?;
    // It takes itself for the primary until the Sentinels tell it otherwise.
    let mut other = proxy.conn()?;
    let written = |old: &Node| old.calls("incr");
    for _ in 0..2_000 {
        ensure!(other.must("INCR after")?.int()? > 0);
    }
    ensure!(written(old)? == 0, "the former primary was written to");
    wait_until(PATIENCE, "it is told", || Ok(service.role(0)? == "slave"))?;
    for _ in 0..2_000 {
        other.must("INCR after")?;
    }
    ensure!(other.must("GET after")?.text()? == "4000");
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

fn the_service_goes_on_without_sentinels_and_finds_them_where_they_have_moved(
    version: Version,
) -> Result<()> {
    let mut service = Service::new(version).start()?;
    let proxy = proxy(&service).start()?;
    let mut conn = proxy.conn()?;
    conn.must("SET a 1")?;
    // One after the other to another address: those that stay tell where it is.
    for moved in 0..service.sentinels().len() {
        service.sentinel_mut(moved)?.kill()?;
        service.sentinel_mut(moved)?.restart(true)?;
        service.settle()?;
        conn.must("INCR n")?;
    }
    let mut sentinel = sentinel(&service, 0)?;
    sentinel.must(&format!("SENTINEL FAILOVER {SERVICE}"))?;
    let new = service.wait_switched(0)?;
    wait_until(SWITCH, "the new primary is written to", || {
        conn.must("INCR n")?;
        Ok(service.nodes()[new].calls("incr")? > 0)
    })?;
    // All of them gone: what is known holds.
    for number in 0..service.sentinels().len() {
        service.sentinel_mut(number)?.kill()?;
    }
    let load = Load::start(proxy.address(), &LoadOptions::default())?;
    load.wait_for(20_000)?;
    load.stop()?.ensure_flawless()
}

fn passwords_of_servers_and_sentinels_are_two(version: Version) -> Result<()> {
    let service = Service::new(version)
        .password("of-the-servers")
        .sentinel_password("of-the-sentinels")
        .start()?;
    let proxy = proxy(&service)
        .environment("SLOTWAY_UPSTREAM_PASSWORD", "of-the-servers")
        .environment("SLOTWAY_UPSTREAM_SENTINEL_PASSWORD", "of-the-sentinels")
        .start()?;
    let load = Load::start(proxy.address(), &LoadOptions::default())?;
    load.wait_for(1_000)?;
    sentinel(&service, 1)?.must(&format!("SENTINEL FAILOVER {SERVICE}"))?;
    service.wait_switched(0)?;
    load.wait_for(1_000)?;
    let report = load.stop()?;
    report.ensure_no_violations()?;
    ensure!(report.errors.is_empty(), "{}", report.error_summary());
    Ok(())
}

fn sentinel(service: &Service, number: usize) -> Result<Conn> {
    let sentinel = service.sentinels().get(number);
    sentinel.context("no such Sentinel")?.conn()
}

//! The proxy in front of a primary that three Sentinels watch [N10]-[N16].

mod former;
mod votes;

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{
    Conn, Load, LoadOptions, Proxy, ProxyOptions, SERVICE, Service, Version, wait_some, wait_until,
};

/// How long anything may take that the Sentinels do.
const PATIENCE: Duration = Duration::from_secs(30);

/// The promise: every switch within this time.
const SWITCH: Duration = Duration::from_secs(5);

harness::on_full_matrix!(
    a_planned_failover_shows_no_error,
    a_killed_primary_costs_only_what_was_written_to_it,
    a_service_that_nobody_knows_is_told,
    a_user_who_may_not_ask_the_sentinels_is_told,
    the_service_goes_on_without_sentinels_and_finds_them_where_they_have_moved,
    passwords_of_servers_and_sentinels_are_two,
);

harness::on_release!(
    valkey_9_1_coordinated,
    Valkey91,
    a_coordinated_failover_shows_no_error,
);

fn proxy(service: &Service) -> ProxyOptions {
    proxy_with(service, "")
}

fn proxy_with(service: &Service, more: &str) -> ProxyOptions {
    proxy_at(&service.seeds(), more)
}

fn proxy_at(seeds: &[SocketAddrV4], more: &str) -> ProxyOptions {
    let seeds: Vec<String> = seeds.iter().map(|at| format!("'{at}'")).collect();
    let file = format!(
        "upstream.sentinels = [{}]\nupstream.sentinel_service = '{SERVICE}'\n{more}",
        seeds.join(", ")
    );
    Proxy::with_seeds(&[]).config(&file)
}

/// Waits until the proxy sends everything to this server.
fn uses(proxy: &Proxy, service: &Service, node: usize) -> Result<()> {
    let address = service.nodes()[node].address().to_string();
    wait_until(SWITCH, "the new primary is used", || {
        Ok(proxy.get("/topology")?.body.contains(&address))
    })
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
    planned_failover(version, "")
}

/// The primary itself lets writes wait.
fn a_coordinated_failover_shows_no_error(version: Version) -> Result<()> {
    planned_failover(version, "COORDINATED")
}

fn planned_failover(version: Version, how: &str) -> Result<()> {
    let service = Service::new(version).start()?;
    let proxy = proxy(&service).start()?;
    let options = LoadOptions {
        groups: vec![0..=harness::SLOT_COUNT - 1],
        ..LoadOptions::default()
    };
    let load = Load::start(proxy.address(), &options)?;
    load.wait_for(2_000)?;
    sentinel(&service, 0)?.must(&format!("SENTINEL FAILOVER {SERVICE} {how}"))?;
    let new = service.wait_switched(0)?;
    uses(&proxy, &service, new)?;
    // What was written to the former primary is gone when it follows the new one.
    load.wait_for(2_000)?;
    let report = load.stop()?;
    report.ensure_flawless()?;
    let waited = report.longest_gap(0);
    ensure!(waited < SWITCH, "clients waited {waited:?}");
    Ok(())
}

fn a_killed_primary_costs_only_what_was_written_to_it(version: Version) -> Result<()> {
    let mut service = Service::new(version).start()?;
    // The Sentinels may have to vote a second time, ten seconds later.
    let proxy = proxy_with(&service, "limits.park_timeout = '40s'\n").start()?;
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

/// [N11]
fn a_service_that_nobody_knows_is_told(version: Version) -> Result<()> {
    let service = Service::new(version).replicas(1).start()?;
    let seeds: Vec<String> = service.seeds().iter().map(|at| format!("'{at}'")).collect();
    let file = format!(
        "upstream.sentinels = [{}]\nupstream.sentinel_service = 'another'\n",
        seeds.join(", ")
    );
    let proxy = Proxy::with_seeds(&[]).config(&file).launch()?;
    wait_until(SWITCH, "/readyz says why", || {
        let reply = proxy.get("/readyz")?;
        let says = |text: &str| reply.body.contains(text);
        Ok(reply.status == 503 && says("service another") && says("does not know the service"))
    })
}

/// What is missing, and where.
fn a_user_who_may_not_ask_the_sentinels_is_told(version: Version) -> Result<()> {
    let service = Service::new(version).replicas(1).start()?;
    for number in 0..service.sentinels().len() {
        // The answer to the second question only is refused.
        sentinel(&service, number)?.must(
            "ACL SETUSER proxy on >secret +info +ping +sentinel -sentinel|get-master-addr-by-name",
        )?;
    }
    let proxy = proxy(&service)
        .environment("SLOTWAY_UPSTREAM_SENTINEL_USER", "proxy")
        .environment("SLOTWAY_UPSTREAM_SENTINEL_PASSWORD", "secret")
        .launch()?;
    wait_until(SWITCH, "/readyz says what is missing", || {
        let reply = proxy.get("/readyz")?;
        let says = |text: &str| reply.body.contains(text);
        Ok(
            reply.status == 503
                && says("NOPERM")
                && says("(upstream.sentinel_user) needs SENTINEL"),
        )
    })?;
    wait_until(SWITCH, "that events cannot be heard is told", || {
        Ok(proxy.log().contains("does not let its events be heard"))
    })
}

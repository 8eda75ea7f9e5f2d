//! The proxy in front of a primary that three Sentinels watch [N10]-[N16].

use anyhow::{Context, Result, bail, ensure};
use harness::{
    Conn, Direction, FaultProxy, Load, LoadOptions, Node, Proxy, ProxyOptions, SERVICE, Service,
    Version,
};
use harness::{wait_some, wait_until};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

/// How long anything may take that the Sentinels do.
const PATIENCE: Duration = Duration::from_secs(30);

/// The promise: every switch within this time.
const SWITCH: Duration = Duration::from_secs(5);

harness::on_full_matrix!(
    a_planned_failover_shows_no_error,
    a_sentinel_that_lies_about_promotions_holds_writes_once,
    writes_go_on_when_no_quorum_names_the_promoted_server,
    a_killed_primary_costs_only_what_was_written_to_it,
    a_former_primary_that_comes_back_as_one_gets_no_write,
    a_former_primary_gets_no_write_while_the_new_one_cannot_be_reached,
    a_former_primary_is_left_while_the_new_one_hangs,
    a_sentinel_that_lies_has_no_effect,
    a_sentinel_at_two_addresses_has_one_vote,
    a_sentinel_that_hangs_costs_no_switch_its_second,
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
    service.ask_often()?;
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

/// [N17]: by the proxy it cannot be reached, by the Sentinels it can.
fn a_former_primary_gets_no_write_while_the_new_one_cannot_be_reached(
    version: Version,
) -> Result<()> {
    let service = Service::new(version).replicas(1).start()?;
    let [old, new] = service.nodes() else {
        bail!("a primary and a replica");
    };
    let nobody = harness::next_address()?;
    let map = format!(
        "upstream.address_map = [{{ from = '{}', to = '{nobody}' }}]\n",
        new.address()
    );
    let proxy = proxy_with(&service, &map).start()?;
    proxy.conn()?.must("INCR before")?;
    old.freeze()?;
    service.wait_switched(0)?;
    wait_until(SWITCH, "the proxy knows that", || {
        Ok(proxy.log().contains("the Sentinels name another primary"))
    })?;
    service.ask_often()?;
    old.thaw()?;
    let mut clients = (0..20).map(|_| proxy.conn()).collect::<Result<Vec<_>>>()?;
    for client in &mut clients {
        client.send(&["INCR", "after"])?;
    }
    wait_until(PATIENCE, "it is told", || Ok(service.role(0)? == "slave"))?;
    ensure!(old.calls("incr")? == 1, "the former primary was written to");
    Ok(())
}

/// [N17]: the new one takes connections and answers nothing, as by a network that has come apart.
fn a_former_primary_is_left_while_the_new_one_hangs(version: Version) -> Result<()> {
    let service = Service::new(version).replicas(1).start()?;
    let [old, new] = service.nodes() else {
        bail!("a primary and a replica");
    };
    let relay = FaultProxy::start(new.address())?;
    relay.stall(Direction::ToClient, true);
    let map = format!(
        "upstream.address_map = [{{ from = '{}', to = '{}' }}]\n",
        new.address(),
        relay.address()
    );
    let proxy = proxy_with(&service, &map).start()?;
    proxy.conn()?.must("INCR before")?;
    old.freeze()?;
    wait_until(PATIENCE, "all name the new one", || {
        let named = (0..service.sentinels().len()).map(|sentinel| service.primary_by(sentinel));
        Ok(named
            .collect::<Result<Vec<_>>>()?
            .iter()
            .all(|node| *node == 1))
    })?;
    let named = Instant::now();
    wait_until(SWITCH, "the former one is left", || {
        Ok(proxy.log().contains("the Sentinels name another primary"))
    })?;
    let late = named.elapsed();
    ensure!(late < Duration::from_millis(700), "left after {late:?}");
    relay.stall(Direction::ToClient, false);
    let mut client = proxy.conn()?;
    client.set_timeout(SWITCH)?;
    ensure!(client.must("INCR after")?.int()? == 1);
    old.thaw()
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

//! A primary that the Sentinels have replaced, and that is there again or was never away [N17].

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use harness::{Direction, FaultProxy, Node, Service, Version, wait_until};

use super::{PATIENCE, SWITCH, proxy, proxy_with};

harness::on_full_matrix!(
    a_former_primary_that_comes_back_as_one_gets_no_write,
    a_former_primary_gets_no_write_while_the_new_one_cannot_be_reached,
    a_former_primary_is_left_while_the_new_one_hangs,
);

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

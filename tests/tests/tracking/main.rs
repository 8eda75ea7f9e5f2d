//! CLIENT TRACKING on real clusters: a client that keeps what it has read hears of every change, behind the reply that it is about.
//! Numbers in brackets are the rules of the contract.

mod answers;
mod races;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::{Cluster, Conn, Proxy, Reply, Version, key_in_slot};

harness::on_full_matrix!(
    what_was_read_is_told_when_it_changes,
    each_mode_tells_of_its_keys,
    another_client_hears_in_resp2,
);
harness::on_release!(
    redis_8_2,
    Redis82,
    what_was_read_is_told_when_it_changes,
    each_mode_tells_of_its_keys,
    another_client_hears_in_resp2,
);

const TRACKING: &str = "[[listener]]\ntracking = true\n";

/// So long nothing comes that is not to come.
const QUIET: Duration = Duration::from_millis(100);

fn scene(version: Version, replicas: usize) -> Result<(Cluster, Proxy)> {
    let cluster = Cluster::new(version).replicas(replicas).start()?;
    let proxy = Proxy::new(&cluster).config(TRACKING).start()?;
    Ok((cluster, proxy))
}

/// What the client is told next: keys, or none of them for all.
fn told(conn: &mut Conn) -> Result<Vec<String>> {
    match conn.read()? {
        Reply::Push(items) if items[0].text()? == "invalidate" => keys_in(&items[1]),
        other => bail!("no invalidation: {other:?}"),
    }
}

fn keys_in(keys: &Reply) -> Result<Vec<String>> {
    match keys {
        Reply::Nil => Ok(Vec::new()),
        keys => keys.texts(),
    }
}

/// As [`told`], of so many keys in any order.
fn told_of(conn: &mut Conn, keys: &[&str]) -> Result<()> {
    let mut expected: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    while !expected.is_empty() {
        for key in told(conn)? {
            let position = expected.iter().position(|it| *it == key);
            expected.remove(position.with_context(|| format!("told of {key}"))?);
        }
    }
    Ok(())
}

fn is_quiet(conn: &mut Conn) -> Result<()> {
    // What was sent before is there before the answer to this, but for what comes over other connections.
    conn.set_timeout(Duration::from_secs(30))?;
    ensure!(
        !conn.has_reply_within(QUIET)?,
        "something came: {:?}",
        conn.read()?
    );
    Ok(())
}

/// Keys of all three primaries.
fn keys() -> [String; 3] {
    [100, 6000, 12_000].map(|slot| key_in_slot(slot, 1))
}

/// [N2]
fn what_was_read_is_told_when_it_changes(version: Version) -> Result<()> {
    let (_cluster, proxy) = scene(version, 0)?;
    let (mut conn, mut other) = (proxy.conn_resp3()?, proxy.conn()?);
    assert_eq!(proxy.conn_resp3()?.must("CLIENT GETREDIR")?, Reply::Int(-1));
    conn.must("CLIENT TRACKING ON")?;
    let keys = keys();
    let all = keys.each_ref().map(String::as_str);
    for key in all {
        conn.call(&["GET", key])?;
        other.call(&["SET", key, "1"])?;
        told_of(&mut conn, &[key])?;
        other.call(&["SET", key, "2"])?;
    }
    is_quiet(&mut conn)?;
    let values = conn.call(&["MGET", all[0], all[1], all[2]])?;
    assert_eq!(values.texts()?, ["2", "2", "2"]);
    other.call(&["DEL", all[0], all[1], all[2]])?;
    told_of(&mut conn, &all)?;
    let commands = [&["MULTI"][..], &["GET", all[1]], &["EXEC"]].map(<[&str]>::to_vec);
    conn.pipeline(&commands)?;
    other.call(&["SET", all[1], "3"])?;
    told_of(&mut conn, &all[1..2])?;
    // A change of its own, too, and behind the reply to it or before, as a server has it.
    conn.call(&["GET", all[2]])?;
    conn.send(&["SET", all[2], "4"])?;
    let replies = conn.read_many(2)?;
    assert!(replies.iter().any(Reply::is_ok), "{replies:?}");
    assert!(replies.iter().any(|reply| matches!(reply, Reply::Push(_))));
    other.must("FLUSHALL")?;
    for _ in 0..3 {
        assert_eq!(told(&mut conn)?, [""; 0], "each primary says so");
    }
    // A transaction that watches is not one of those over whose connection the node remembers.
    for command in [&["WATCH", all[0]][..], &["MULTI"], &["GET", all[0]]] {
        conn.call(command)?;
    }
    conn.must("EXEC")?;
    assert_eq!(told(&mut conn)?, [""; 0]);
    conn.call(&["GET", all[0]])?;
    conn.must("CLIENT TRACKING OFF")?;
    other.call(&["SET", all[0], "5"])?;
    is_quiet(&mut conn)?;
    conn.must("CLIENT TRACKING ON")?;
    conn.call(&["GET", all[0]])?;
    conn.must("RESET")?;
    other.call(&["SET", all[0], "6"])?;
    is_quiet(&mut conn)?;
    harness::wait_until(
        Duration::from_secs(10),
        "their connections are closed",
        || Ok(proxy.metric("slotway_upstream_private_connections")? < 1.5),
    )
}

/// [N2]
fn each_mode_tells_of_its_keys(version: Version) -> Result<()> {
    let (_cluster, proxy) = scene(version, 0)?;
    let mut other = proxy.conn()?;
    let [a, b, c] = keys();
    let mut change = || -> Result<()> {
        for key in [&a, &b, &c] {
            other.call(&["SET", key, "x"])?;
        }
        Ok(())
    };

    let mut conn = proxy.conn_resp3()?;
    conn.must("CLIENT TRACKING ON OPTIN")?;
    conn.call(&["GET", &a])?;
    conn.must("CLIENT CACHING YES")?;
    conn.call(&["GET", &b])?;
    conn.call(&["GET", &c])?;
    change()?;
    told_of(&mut conn, &[&b])?;
    is_quiet(&mut conn)?;
    conn.must("CLIENT CACHING YES")?;
    conn.call(&["MGET", &a, &b])?;
    change()?;
    told_of(&mut conn, &[&a, &b])?;
    let transaction = [
        vec!["CLIENT", "CACHING", "YES"],
        vec!["MULTI"],
        vec!["GET", &c],
        vec!["EXEC"],
        vec!["GET", &a],
    ];
    let replies = conn.pipeline(&transaction)?;
    assert_eq!(replies[3].texts()?, ["x"]);
    change()?;
    told_of(&mut conn, &[&c])?;
    is_quiet(&mut conn)?;

    let mut conn = proxy.conn_resp3()?;
    conn.must("CLIENT TRACKING ON OPTOUT NOLOOP")?;
    conn.must("CLIENT CACHING NO")?;
    conn.call(&["GET", &a])?;
    conn.call(&["GET", &b])?;
    conn.call(&["GET", &c])?;
    conn.call(&["SET", &b, "its own"])?;
    change()?;
    told_of(&mut conn, &[&c])?;
    is_quiet(&mut conn)?;

    let mut conn = proxy.conn_resp3()?;
    conn.call(&[
        "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", &a, "PREFIX", &c,
    ])?;
    change()?;
    told_of(&mut conn, &[&a, &c])?;
    is_quiet(&mut conn)?;
    let mut conn = proxy.conn_resp3()?;
    conn.must("CLIENT TRACKING ON BCAST")?;
    change()?;
    told_of(&mut conn, &[&a, &b, &c])
}

/// [N2]
fn another_client_hears_in_resp2(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).workers(2).config(TRACKING).start()?;
    let mut other = proxy.conn()?;
    let keys = keys();
    for worker in 0..2 {
        let mut hears = proxy.conn()?;
        let id = hears.must("CLIENT ID")?.int()?.to_string();
        hears.must("SUBSCRIBE __redis__:invalidate")?;
        // The next one is on the other worker, or on this one.
        let _between = (worker == 1).then(|| proxy.conn()).transpose()?;
        for options in [&[][..], &["BCAST"]] {
            let mut conn = proxy.conn()?;
            let on = ["CLIENT", "TRACKING", "ON", "REDIRECT", &id];
            let reply = conn.call(&[&on, options].concat())?;
            assert!(reply.is_ok(), "{reply:?}");
            for key in &keys {
                conn.call(&["GET", key])?;
                other.call(&["SET", key, "x"])?;
                let message = hears.read()?;
                let parts = message.items()?;
                assert_eq!(parts[0].text()?, "message");
                assert_eq!(parts[1].text()?, "__redis__:invalidate");
                assert_eq!(parts[2].texts()?, [key.as_str()]);
            }
            conn.must("CLIENT TRACKING OFF")?;
        }
    }
    let mut hears = proxy.conn_resp3()?;
    let id = hears.must("CLIENT ID")?.int()?.to_string();
    let mut conn = proxy.conn_resp3()?;
    assert!(
        conn.call(&["CLIENT", "TRACKING", "ON", "REDIRECT", &id])?
            .is_ok()
    );
    conn.call(&["GET", &keys[0]])?;
    other.call(&["SET", &keys[0], "y"])?;
    assert_eq!(told(&mut hears)?, [keys[0].as_str()]);
    drop(hears);
    let is_gone = || {
        Ok(proxy
            .conn()?
            .call(&["CLIENT", "LIST", "ID", &id])?
            .text()?
            .is_empty())
    };
    harness::wait_until(Duration::from_secs(10), "it is gone", is_gone)?;
    conn.call(&["GET", &keys[0]])?;
    other.call(&["SET", &keys[0], "z"])?;
    let Reply::Push(items) = conn.read()? else {
        bail!("it is told that nobody hears");
    };
    assert_eq!(items[0].text()?, "tracking-redir-broken");
    assert_eq!(items[1].int()?.to_string(), id);
    let line = conn.must("CLIENT INFO")?.text()?;
    assert!(
        line.contains(" flags=tR ") && line.contains(&format!(" redir={id} ")),
        "{line}"
    );
    Ok(())
}

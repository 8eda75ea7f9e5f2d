//! CLIENT TRACKING on real clusters: a client that keeps what it has read hears of every change, behind the reply that it is about.
//! Numbers in brackets are the rules of the contract.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::{Cluster, Conn, Node, Proxy, Reply, Version, key_in_slot};

harness::on_full_matrix!(
    what_was_read_is_told_when_it_changes,
    each_mode_tells_of_its_keys,
    another_client_hears_in_resp2,
    no_change_is_missed_in_a_race,
    a_node_that_dies_makes_everything_forgotten,
    a_slot_that_moves_makes_everything_forgotten,
    all_answers_are_those_of_a_server,
    one_server_tells_of_its_databases,
);
harness::on_release!(
    redis_8_2,
    Redis82,
    what_was_read_is_told_when_it_changes,
    each_mode_tells_of_its_keys,
    another_client_hears_in_resp2,
    no_change_is_missed_in_a_race,
    a_node_that_dies_makes_everything_forgotten,
    a_slot_that_moves_makes_everything_forgotten,
    all_answers_are_those_of_a_server,
    one_server_tells_of_its_databases,
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

/// A client that keeps what it reads.
struct Keeper {
    conn: Conn,
    kept: HashMap<String, String>,
    told: usize,
}

impl Keeper {
    /// Reads these keys in one go, and keeps what it is not told to forget.
    fn read(&mut self, keys: &[String]) -> Result<()> {
        let commands: Vec<Vec<&str>> = keys.iter().map(|key| vec!["GET", key.as_str()]).collect();
        let bytes: Vec<u8> = commands
            .iter()
            .flat_map(|command| harness::encode(command))
            .collect();
        self.conn.send_raw(&bytes)?;
        let mut asked = keys.iter();
        while asked.len() > 0 {
            self.take(&mut asked)?;
        }
        Ok(())
    }

    fn take<'a>(&mut self, asked: &mut impl Iterator<Item = &'a String>) -> Result<()> {
        match self.conn.read()? {
            Reply::Push(items) => {
                self.told += 1;
                match &items[1] {
                    Reply::Nil => self.kept.clear(),
                    keys => keys.texts()?.iter().for_each(|key| {
                        self.kept.remove(key);
                    }),
                }
            }
            reply => {
                let key = asked.next().context("a reply to nothing")?;
                let value = match reply {
                    Reply::Nil => String::new(),
                    reply => reply.text()?,
                };
                self.kept.insert(key.clone(), value);
            }
        }
        Ok(())
    }

    /// Takes what it is told until what it has kept is true.
    fn is_true_within(&mut self, time: Duration, other: &mut Conn) -> Result<()> {
        let started = Instant::now();
        loop {
            while self.conn.has_reply_within(QUIET)? {
                self.take(&mut std::iter::empty())?;
            }
            let mut stale = Vec::new();
            for (key, value) in &self.kept {
                let there = other.call(&["GET", key])?;
                let there = if there == Reply::Nil {
                    String::new()
                } else {
                    there.text()?
                };
                if there != *value {
                    stale.push(format!("{key}: kept {value}, is {there}"));
                }
            }
            if stale.is_empty() {
                return Ok(());
            }
            ensure!(started.elapsed() < time, "stale: {stale:?}");
        }
    }
}

/// [scenario 103]
fn no_change_is_missed_in_a_race(version: Version) -> Result<()> {
    let (_cluster, proxy) = scene(version, 0)?;
    let keys: Vec<String> = (0..24).map(|n| key_in_slot(n * 680, 1)).collect();
    let stop = AtomicBool::new(false);
    for options in ["ON", "ON NOLOOP", "ON BCAST"] {
        stop.store(false, Ordering::Relaxed);
        let mut conn = proxy.conn_resp3()?;
        conn.must(&format!("CLIENT TRACKING {options}"))?;
        let mut keeper = Keeper {
            conn,
            kept: HashMap::new(),
            told: 0,
        };
        let written = AtomicUsize::new(0);
        std::thread::scope(|scope| -> Result<()> {
            let writer = scope.spawn(|| -> Result<()> {
                let mut conn = proxy.conn()?;
                while !stop.load(Ordering::Relaxed) {
                    let count = written.fetch_add(1, Ordering::Relaxed);
                    let key = &keys[count * 7 % keys.len()];
                    conn.call(&["SET", key, &count.to_string()])?;
                }
                Ok(())
            });
            let deadline = Instant::now() + Duration::from_secs(20);
            let mut read = || -> Result<()> {
                for round in 0.. {
                    let first = round % 8;
                    keeper.read(&keys[first..first + 16])?;
                    let count = written.load(Ordering::Relaxed);
                    if round >= 150 && count > 100 && keeper.told > 20 {
                        break;
                    }
                    let told = keeper.told;
                    ensure!(Instant::now() < deadline, "{count} written, {told} told");
                }
                Ok(())
            };
            let result = read();
            stop.store(true, Ordering::Relaxed);
            writer.join().ok().context("the writer panicked")??;
            result
        })?;
        keeper.is_true_within(Duration::from_secs(10), &mut proxy.conn()?)?;
    }
    Ok(())
}

/// Reads until the client is told to forget everything.
fn forgets(conn: &mut Conn) -> Result<()> {
    while !told(conn)?.is_empty() {}
    Ok(())
}

/// [N2]
fn a_node_that_dies_makes_everything_forgotten(version: Version) -> Result<()> {
    let (mut cluster, proxy) = scene(version, 1)?;
    let (mut conn, mut other) = (proxy.conn_resp3()?, proxy.conn()?);
    let mut all = proxy.conn_resp3()?;
    conn.must("CLIENT TRACKING ON")?;
    all.must("CLIENT TRACKING ON BCAST")?;
    let key = key_in_slot(0, 1);
    conn.call(&["GET", &key])?;
    cluster.kill_primary_of(0)?;
    forgets(&mut conn)?;
    forgets(&mut all)?;
    // The new one is asked the same.
    while conn.has_reply_within(QUIET)? {
        told(&mut conn)?;
    }
    conn.send(&["GET", &key])?;
    while matches!(conn.read()?, Reply::Push(_)) {}
    let reply = other.call(&["SET", &key, "new"])?;
    assert!(reply.is_ok(), "{reply:?}");
    while !told(&mut conn)?.contains(&key) {}
    // What happens before the new one is asked is missed, and it is told to forget; then it hears again.
    harness::wait_until(Duration::from_secs(20), "it hears again", || {
        other.call(&["SET", &key, "newer"])?;
        let comes = all.has_reply_within(QUIET)?;
        Ok(comes && told(&mut all)?.contains(&key))
    })
}

/// [N2]
fn a_slot_that_moves_makes_everything_forgotten(version: Version) -> Result<()> {
    let (cluster, proxy) = scene(version, 0)?;
    let (mut conn, mut other) = (proxy.conn_resp3()?, proxy.conn()?);
    conn.must("CLIENT TRACKING ON")?;
    let key = key_in_slot(77, 1);
    conn.call(&["GET", &key])?;
    cluster.move_slots(0, 1, &[77])?;
    other.call(&["SET", &key, "there"])?;
    forgets(&mut conn)?;
    conn.send(&["GET", &key])?;
    while matches!(conn.read()?, Reply::Push(_)) {}
    other.call(&["SET", &key, "new"])?;
    while !told(&mut conn)?.contains(&key) {}
    Ok(())
}

/// What is asked of the proxy and of one server: the same answers.
const ASKED: &[&str] = &[
    "CLIENT CACHING YES",
    "CLIENT CACHING FOO",
    "CLIENT TRACKING FOO",
    "CLIENT TRACKING ON REDIRECT 999999",
    "CLIENT TRACKING ON REDIRECT x",
    "CLIENT TRACKING ON REDIRECT -4",
    "CLIENT TRACKING ON REDIRECT",
    "CLIENT TRACKING ON PREFIX a",
    "CLIENT TRACKING ON OPTIN OPTOUT",
    "CLIENT TRACKING ON BCAST OPTIN",
    "CLIENT TRACKING ON BCAST PREFIX a PREFIX ab",
    "CLIENT TRACKING ON BCAST PREFIX a PREFIX a",
    "CLIENT TRACKING FOO REDIRECT 999999",
    "CLIENT TRACKING OFF PREFIX a",
    "CLIENT TRACKING ON",
    "CLIENT TRACKINGINFO",
    "CLIENT GETREDIR",
    "CLIENT CACHING YES",
    "CLIENT CACHING NO",
    "CLIENT CACHING FOO",
    "CLIENT TRACKING ON BCAST",
    "CLIENT TRACKING ON OPTIN",
    "CLIENT TRACKING ON OPTOUT",
    "CLIENT CACHING YES",
    "CLIENT TRACKINGINFO",
    "CLIENT ID",
    "CLIENT TRACKINGINFO",
    "GET k",
    "CLIENT TRACKINGINFO",
    "CLIENT CACHING YES",
    "GET",
    "CLIENT TRACKINGINFO",
    "CLIENT TRACKING ON NOLOOP",
    "CLIENT TRACKINGINFO",
    "CLIENT TRACKING OFF",
    "CLIENT TRACKING ON BCAST PREFIX b",
    "CLIENT TRACKING ON BCAST PREFIX b",
    "CLIENT TRACKING ON BCAST PREFIX c PREFIX bb",
    "CLIENT TRACKING ON BCAST PREFIX c",
    "CLIENT TRACKINGINFO",
    "CLIENT TRACKING ON BCAST",
    "CLIENT TRACKING ON BCAST PREFIX d OPTIN OPTOUT",
    "CLIENT TRACKING OFF",
    "CLIENT TRACKINGINFO",
    "CLIENT TRACKING ON OPTOUT NOLOOP",
    "CLIENT CACHING NO",
    "CLIENT TRACKINGINFO",
    "PING",
    "CLIENT TRACKINGINFO",
    "CLIENT GETREDIR",
    "RESET",
    "CLIENT TRACKINGINFO",
    "CLIENT GETREDIR",
];

fn all_answers_are_those_of_a_server(version: Version) -> Result<()> {
    let (_cluster, proxy) = scene(version, 0)?;
    let server = Node::standalone(version)?;
    let conns = [
        (proxy.conn()?, server.conn()?),
        (proxy.conn_resp3()?, Conn::open_resp3(server.address())?),
    ];
    for (mut conn, mut there) in conns {
        for command in ASKED {
            let (mut ours, theirs) = (conn.line(command)?, there.line(command)?);
            // The connections are others when the options are: what was read over the old ones is to be forgotten.
            while matches!(ours, Reply::Push(_)) {
                ours = conn.read()?;
            }
            if *command != "CLIENT ID" {
                assert_eq!(ours, theirs, "{command}");
            }
        }
    }
    Ok(())
}

/// [N2] [N21] Behind the proxy is one server, and the client goes from one database to another.
fn one_server_tells_of_its_databases(version: Version) -> Result<()> {
    let server = Node::standalone(version)?;
    let address = server.address().to_string();
    let proxy = Proxy::with_server(&address).config(TRACKING).start()?;
    let mut other = proxy.conn()?;
    other.must("SELECT 3")?;
    let mut hears = proxy.conn()?;
    let id = hears.must("CLIENT ID")?.int()?.to_string();
    hears.must("SUBSCRIBE __redis__:invalidate")?;
    let mut resp2 = proxy.conn()?;
    let on = ["CLIENT", "TRACKING", "ON", "REDIRECT", &id];
    assert!(resp2.call(&on)?.is_ok());
    let mut conn = proxy.conn_resp3()?;
    conn.must("CLIENT TRACKING ON")?;
    for client in [&mut conn, &mut resp2] {
        client.must("GET k")?;
        assert!(client.must("SELECT 3")?.is_ok());
    }
    // What it has read in the other database nobody tells of any more.
    assert_eq!(told(&mut conn)?, [""; 0]);
    assert_eq!(hears.read()?.items()?[2], Reply::Nil);
    for value in ["1", "2"] {
        for client in [&mut conn, &mut resp2] {
            client.must("GET k")?;
        }
        other.call(&["SET", "k", value])?;
        told_of(&mut conn, &["k"])?;
        assert_eq!(hears.read()?.items()?[2].texts()?, ["k"]);
    }
    for client in [&mut conn, &mut resp2] {
        assert_eq!(client.must("GET k")?.text()?, "2");
    }
    is_quiet(&mut conn)?;
    let mut conn = proxy.conn_resp3()?;
    conn.must("CLIENT TRACKING ON BCAST PREFIX a")?;
    other.must("MSET a1 1 b 1 a2 1")?;
    told_of(&mut conn, &["a1", "a2"])?;
    is_quiet(&mut conn)?;
    let mut node = server.conn()?;
    let lines = node.must("CLIENT LIST")?.text()?;
    let tracking = lines.lines().filter(|line| line.contains(" flags=t"));
    assert!(tracking.count() <= 4, "{lines}");
    Ok(())
}

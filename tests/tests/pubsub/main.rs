//! Publish and subscribe on real clusters. Numbers in brackets are the rules of the contract.

mod failures;

use anyhow::{Context, Result, ensure};
use harness::{
    Cluster, Conn, Proxy, Reply, Scene, Version, encode, key_in_slot, wait_some, wait_until,
};
use std::time::Duration;

harness::on_full_matrix!(
    acknowledgements_are_those_of_a_server,
    messages_reach_clients_of_both_versions_in_order,
    many_subscribers_share_one_subscription,
    a_message_to_channel_and_patterns_comes_as_from_a_server,
    keyspace_notifications_come_from_all_primaries,
    subscriptions_are_counted,
);

const SOON: Duration = Duration::from_secs(20);

fn one_worker(cluster: &Cluster) -> Result<Proxy> {
    Proxy::new(cluster).workers(1).start()
}

/// Subscribes, and reads as many acknowledgements as there are names.
fn subscribe(conn: &mut Conn, command: &str) -> Result<()> {
    let words: Vec<&str> = command.split(' ').collect();
    conn.send(&words)?;
    for name in &words[1..] {
        let ack = conn.read()?;
        ensure!(ack.items()?.len() == 3, "{ack:?}");
        assert_eq!(ack.items()?[1].text()?, *name);
    }
    Ok(())
}

/// The texts of the next message.
fn next(conn: &mut Conn) -> Result<Vec<String>> {
    conn.read()?.texts()
}

/// How many connections of each node have the channel.
fn subscribed(cluster: &Cluster, command: &str, channel: &str) -> Result<Vec<i64>> {
    let nodes = cluster.nodes().iter();
    nodes
        .map(|node| match node.process_id() {
            Ok(_) => {
                let reply = node.must(&format!("PUBSUB {command} {channel}"))?;
                reply.items()?.get(1).context("a count")?.int()
            }
            Err(_) => Ok(0),
        })
        .collect()
}

/// The node at which the proxy's one worker has the channel.
fn node_with(cluster: &Cluster, command: &str, channel: &str) -> Result<usize> {
    wait_some(SOON, "one node has the subscription", || {
        let counts = subscribed(cluster, command, channel)?;
        let mut with = (0..counts.len()).filter(|node| counts[*node] > 0);
        let first = with.next();
        Ok(first.filter(|_| with.next().is_none()))
    })
}

/// What comes for each of these, to the end of the connection. Node 0 owns the slot of `bar`. Of several subscriptions that are ended at
/// once no server promises an order: there is never more than one of a kind.
const PIPELINES: [&str; 9] = [
    "SUBSCRIBE a; PING; UNSUBSCRIBE a; PING",
    "SUBSCRIBE a b a; PSUBSCRIBE p* p*; PING x; UNSUBSCRIBE b nope; PUNSUBSCRIBE; UNSUBSCRIBE; PING",
    "UNSUBSCRIBE; PUNSUBSCRIBE; SUNSUBSCRIBE; UNSUBSCRIBE a b; PUNSUBSCRIBE x",
    "SUBSCRIBE a; ECHO x; CLIENT GETNAME; MULTI; NOPE; GET; PING a b c; SUBSCRIBE; ECHO; RESET; PING; ECHO x",
    "CLIENT REPLY OFF; SUBSCRIBE a; PING; CLIENT REPLY ON; UNSUBSCRIBE",
    "CLIENT REPLY SKIP; SUBSCRIBE a; UNSUBSCRIBE; PING",
    "SSUBSCRIBE a; SSUBSCRIBE a; SUBSCRIBE c; SUNSUBSCRIBE; PSUBSCRIBE c*; UNSUBSCRIBE",
    "SUBSCRIBE a; QUIT; PING",
    "GET bar; SUBSCRIBE a; GET bar; PING; UNSUBSCRIBE a; GET bar; PING",
];

/// Everything that comes for this pipeline.
fn transcript(mut conn: Conn, pipeline: &str) -> Result<String> {
    let commands = pipeline.split("; ").chain(["QUIT"]);
    let encoded = commands.flat_map(|command| {
        let words: Vec<&str> = command.split(' ').collect();
        encode(&words)
    });
    conn.send_raw(&encoded.collect::<Vec<u8>>())?;
    Ok(String::from_utf8(conn.read_to_close()?)?)
}

/// [U3] [U4] [U11] [L1]: byte by byte.
fn acknowledgements_are_those_of_a_server(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    for pipeline in PIPELINES {
        // The others redirect those who ask for a sharded channel.
        let node = match pipeline.starts_with("SSUBSCRIBE") {
            true => scene.cluster.primary_of(harness::slot_of(b"a"))?,
            false => 0,
        };
        let node = scene.cluster.node(node)?;
        let native = transcript(node.conn()?, pipeline)?;
        let proxied = transcript(scene.proxy.conn()?, pipeline)?;
        assert_eq!(proxied, native, "{pipeline}");
        let native = transcript(Conn::open_resp3(node.address())?, pipeline)?;
        let proxied = transcript(scene.proxy.conn_resp3()?, pipeline)?;
        assert_eq!(proxied, native, "{pipeline}, RESP3");
    }
    Ok(())
}

/// [U1] [U7]: published at the proxy, and at every node.
fn messages_reach_clients_of_both_versions_in_order(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut old = scene.proxy.conn()?;
    let mut new = scene.proxy.conn_resp3()?;
    subscribe(&mut old, "SUBSCRIBE news")?;
    subscribe(&mut new, "SUBSCRIBE news")?;
    // In RESP3 replies go on between messages.
    new.send(&["SET", "k", "v"])?;
    let mut publishers = vec![scene.proxy.conn()?];
    for node in scene.cluster.nodes() {
        publishers.push(node.conn()?);
    }
    for (publisher, conn) in publishers.iter_mut().enumerate() {
        let commands: Vec<Vec<String>> = (0..200)
            .map(|n| {
                vec![
                    "PUBLISH".to_owned(),
                    "news".to_owned(),
                    format!("{publisher}:{n}"),
                ]
            })
            .collect();
        for reply in conn.pipeline(&commands)? {
            reply.int()?;
        }
    }
    let mut replies = 0;
    for (is_new, conn) in [(false, &mut old), (true, &mut new)] {
        let mut next_of = vec![0; publishers.len()];
        while next_of.iter().sum::<usize>() < 200 * publishers.len() {
            let reply = conn.read()?;
            if reply.is_ok() {
                replies += 1;
                continue;
            }
            assert_eq!(matches!(reply, Reply::Push(_)), is_new, "{reply:?}");
            let texts = reply.texts()?;
            assert_eq!(texts[..2], ["message", "news"]);
            let (publisher, n) = texts[2].split_once(':').context("a message")?;
            let expected = &mut next_of[publisher.parse::<usize>()?];
            assert_eq!(n.parse::<usize>()?, *expected, "each once, in order");
            *expected += 1;
        }
    }
    assert_eq!(replies, 1, "that to SET");
    Ok(())
}

/// [U1] [U2]
fn many_subscribers_share_one_subscription(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = one_worker(&cluster)?;
    let mut conns: Vec<Conn> = (0..100).map(|_| proxy.conn()).collect::<Result<_>>()?;
    for conn in &mut conns {
        subscribe(conn, "SUBSCRIBE news")?;
    }
    assert_eq!(
        subscribed(&cluster, "NUMSUB", "news")?.iter().sum::<i64>(),
        1
    );
    cluster.node(0)?.must("PUBLISH news m")?;
    for conn in &mut conns {
        assert_eq!(next(conn)?, ["message", "news", "m"]);
    }
    ensure!((proxy.metric("slotway_pubsub_messages_total")? - 100.0).abs() < 0.5);
    drop(conns);
    // Nobody has it any more; after a while the node is told.
    wait_until(SOON, "the subscription is ended", || {
        Ok(subscribed(&cluster, "NUMSUB", "news")?.iter().sum::<i64>() == 0)
    })
}

/// [U5]: compared with a client of the same node.
fn a_message_to_channel_and_patterns_comes_as_from_a_server(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = one_worker(&cluster)?;
    let mut proxied = proxy.conn()?;
    subscribe(&mut proxied, "SUBSCRIBE news")?;
    let home = node_with(&cluster, "NUMSUB", "news")?;
    let mut native = cluster.node(home)?.conn()?;
    subscribe(&mut native, "SUBSCRIBE news")?;
    for conn in [&mut proxied, &mut native] {
        subscribe(conn, "PSUBSCRIBE n* ?ews new[a-z] * nothing*")?;
    }
    for n in 0..20 {
        cluster.node(n % 3)?.must(&format!("PUBLISH news {n}"))?;
        for _ in 0..5 {
            assert_eq!(next(&mut proxied)?, next(&mut native)?);
        }
    }
    Ok(())
}

/// [U9]
fn keyspace_notifications_come_from_all_primaries(version: Version) -> Result<()> {
    let cluster = Cluster::new(version)
        .replicas(0)
        .setting("notify-keyspace-events", "KEA")
        .start()?;
    let proxy = one_worker(&cluster)?;
    let (mut events, mut all) = (proxy.conn()?, proxy.conn_resp3()?);
    let mut writer = proxy.conn()?;
    subscribe(&mut events, "SUBSCRIBE __keyevent@0__:set")?;
    subscribe(&mut all, "PSUBSCRIBE *")?;
    let keys: Vec<String> = (0..3)
        .flat_map(|shard| {
            let slot = *cluster.initial_slots(shard).start();
            (0..10).map(move |n| key_in_slot(slot, n))
        })
        .collect();
    for key in &keys {
        writer.must(&format!("SET {key} v"))?;
    }
    writer.must("PUBLISH last m")?;
    let mut seen: Vec<String> = Vec::new();
    for _ in &keys {
        let texts = next(&mut events)?;
        assert_eq!(texts[..2], ["message", "__keyevent@0__:set"]);
        seen.push(texts[2].clone());
    }
    // Two for each key, and the ordinary message, which all nodes have, once. It may overtake those of other nodes.
    let mut by_pattern: Vec<String> = Vec::new();
    for _ in 0..2 * keys.len() + 1 {
        let texts = next(&mut all)?;
        assert_eq!(texts[..2], ["pmessage", "*"]);
        match texts[2].strip_prefix("__keyspace@0__:") {
            Some(key) => by_pattern.push(key.to_owned()),
            None => ensure!(
                texts[2] == "last" || texts[2] == "__keyevent@0__:set",
                "{texts:?}"
            ),
        }
    }
    let mut expected = keys;
    for list in [&mut expected, &mut seen, &mut by_pattern] {
        list.sort();
    }
    assert_eq!(seen, expected);
    assert_eq!(by_pattern, expected);
    assert_eq!(
        all.call(&["PING"])?.text()?,
        "PONG",
        "there is nothing more"
    );
    Ok(())
}

/// [Q10] [P6]: numbers of connections, in which a worker counts once.
fn subscriptions_are_counted(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = one_worker(&cluster)?;
    let mut conns = [proxy.conn()?, proxy.conn()?];
    for conn in &mut conns {
        subscribe(conn, "SUBSCRIBE news")?;
        subscribe(conn, "PSUBSCRIBE n*")?;
        subscribe(conn, "SSUBSCRIBE x y z")?;
    }
    let mut direct: Vec<Conn> = Vec::new();
    for node in cluster.nodes() {
        let mut conn = node.conn()?;
        subscribe(&mut conn, "SUBSCRIBE news")?;
        direct.push(conn);
    }
    for mut conn in [proxy.conn()?, proxy.conn_resp3()?] {
        assert_eq!(conn.must("PUBSUB CHANNELS")?.texts()?, ["news"]);
        assert_eq!(conn.must("PUBSUB CHANNELS x*")?.texts()?, [""; 0]);
        assert_eq!(
            conn.must("PUBSUB NUMSUB nope news")?.texts()?,
            ["nope", "0", "news", "4"]
        );
        assert_eq!(conn.must("PUBSUB NUMSUB")?.texts()?, [""; 0]);
        assert_eq!(conn.must("PUBSUB NUMPAT")?.int()?, 1);
        let mut sharded = conn.must("PUBSUB SHARDCHANNELS")?.texts()?;
        sharded.sort();
        assert_eq!(sharded, ["x", "y", "z"]);
        let counts = conn.must("PUBSUB SHARDNUMSUB z nope x y")?.texts()?;
        assert_eq!(counts, ["z", "1", "nope", "0", "x", "1", "y", "1"]);
        assert_eq!(conn.must("PUBSUB SHARDNUMSUB")?.texts()?, [""; 0]);
    }
    Ok(())
}

//! Publish and subscribe.

use super::*;
use std::collections::BTreeSet;

harness::on_release!(
    valkey_9_1,
    Valkey91,
    r32_a_thousand_channels_in_one_command,
    scenario_92_a_thousand_sessions_share_one_subscription,
    scenario_121_what_is_set_before_a_message_is_seen_with_it,
);

/// [R32] [U3] [U11]
fn r32_a_thousand_channels_in_one_command(version: Version) -> Result<()> {
    const CHANNELS: usize = 1_000;
    let scene = Scene::start(version)?;
    let names: Vec<String> = (0..CHANNELS).map(|n| format!("channel:{n}")).collect();
    let with = |command: &str| -> Vec<String> {
        std::iter::once(command.to_owned())
            .chain(names.iter().cloned())
            .collect()
    };
    let mut conn = scene.proxy.conn()?;
    let mut publisher = scene.proxy.conn()?;
    for (command, kind, patterns) in [
        ("SUBSCRIBE", "subscribe", 0),
        ("PSUBSCRIBE", "psubscribe", CHANNELS),
    ] {
        conn.send(&with(command))?;
        for (n, name) in names.iter().enumerate() {
            let count = (patterns + n + 1).to_string();
            assert_eq!(conn.read()?.texts()?, [kind, name, &count]);
        }
    }
    for name in names.iter().step_by(10) {
        publisher.call(&["PUBLISH", name, "m"])?.int()?;
        assert_eq!(conn.read()?.texts()?, ["message", name, "m"]);
        assert_eq!(conn.read()?.texts()?, ["pmessage", name, name, "m"]);
    }
    // In which order they end no server promises.
    for (command, kind, rest) in [
        ("UNSUBSCRIBE", "unsubscribe", CHANNELS),
        ("PUNSUBSCRIBE", "punsubscribe", 0),
    ] {
        conn.send(&[command])?;
        let mut ended = BTreeSet::new();
        for n in (0..CHANNELS).rev() {
            let texts = conn.read()?.texts()?;
            assert_eq!([&texts[0], &texts[2]], [kind, &(rest + n).to_string()]);
            ended.insert(texts[1].clone());
        }
        assert_eq!(ended, names.iter().cloned().collect());
        conn.send(&[command])?;
        let none = conn.read()?;
        assert_eq!(none.items()?[1], Reply::Nil, "there is none any more");
    }
    conn.send(&with("SUBSCRIBE"))?;
    conn.read_many(CHANNELS)?;
    assert_eq!(conn.must("RESET")?.text()?, "RESET");
    publisher.call(&["PUBLISH", &names[0], "m"])?.int()?;
    assert_eq!(conn.must("GET k")?, Reply::Nil, "an ordinary client");
    Ok(())
}

/// [scenario 92] [U1] [U2]: each gets every message once, in order.
fn scenario_92_a_thousand_sessions_share_one_subscription(version: Version) -> Result<()> {
    const SESSIONS: usize = 1_000;
    const MESSAGES: usize = 20;
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).workers(1).start()?;
    let mut conns = Vec::new();
    for _ in 0..SESSIONS {
        let mut conn = proxy.conn()?;
        conn.send(&["SUBSCRIBE", "news"])?;
        conns.push(conn);
    }
    for conn in &mut conns {
        assert_eq!(conn.read()?.texts()?, ["subscribe", "news", "1"]);
    }
    let mut subscriptions = 0;
    for node in cluster.nodes() {
        subscriptions += node.must("PUBSUB NUMSUB news")?.items()?[1].int()?;
    }
    assert_eq!(subscriptions, 1);
    let mut publisher = cluster.node(0)?.conn()?;
    for n in 0..MESSAGES {
        publisher.must(&format!("PUBLISH news {n}"))?;
    }
    for conn in &mut conns {
        for n in 0..MESSAGES {
            assert_eq!(conn.read()?.texts()?, ["message", "news", &n.to_string()]);
        }
        assert_eq!(conn.line("PING")?.texts()?, ["pong", ""], "nothing more");
    }
    Ok(())
}

/// [scenario 121] [O7a]: one pipeline; whoever hears of the message reads no older value, of whichever node the key is.
fn scenario_121_what_is_set_before_a_message_is_seen_with_it(version: Version) -> Result<()> {
    const ROUNDS: usize = 1_000;
    let scene = Scene::start(version)?;
    let keys = key_of_every_shard(&scene.cluster, 1);
    let mut writer = scene.proxy.conn()?;
    let mut subscriber = scene.proxy.conn()?;
    let mut reader = scene.proxy.conn()?;
    subscriber.must("SUBSCRIBE changed")?;
    let commands: Vec<Vec<String>> = (0..ROUNDS)
        .flat_map(|round| {
            let (key, value) = (&keys[round % keys.len()], round.to_string());
            [
                ["SET", key, &value].map(str::to_owned).to_vec(),
                ["PUBLISH", "changed", &format!("{key} {value}")]
                    .map(str::to_owned)
                    .to_vec(),
            ]
        })
        .collect();
    let bytes: Vec<u8> = commands
        .iter()
        .flat_map(|command| encode(command))
        .collect();
    writer.send_raw(&bytes)?;
    let mut heard = 0;
    while heard < ROUNDS {
        let texts = subscriber.read()?.texts()?;
        let (key, value) = texts[2].split_once(' ').context("a message")?;
        let value: usize = value.parse()?;
        let found: usize = reader.call(&["GET", key])?.text()?.parse()?;
        ensure!(
            found >= value,
            "{key} was {found} after the message of {value}"
        );
        heard += 1;
    }
    writer.read_many(commands.len()).map(drop)
}

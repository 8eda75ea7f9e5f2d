//! Set algebra with keys in several slots: the replies are those of one server with the same data, its errors included.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Node, Proxy, Version, wait_until};

/// Cases of the differential; its seed is fixed, so that a difference can be seen again.
const CASES: usize = 1_500;
const SEED: u64 = 0x5107_0a1b_u64;

harness::on_full_matrix!(
    replies_are_those_of_one_server,
    what_is_off_or_writes_is_refused,
    replies_beyond_the_bound_are_an_error,
    a_node_that_dies_makes_an_error,
);
harness::on_release!(redis_8_2, Redis82, replies_are_those_of_one_server);

/// A small generator of its own: the cases are the same with every release of a crate.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap_or_default() % bound
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

fn proxy_with(cluster: &Cluster, settings: &[(&str, &str)]) -> Result<Proxy> {
    let mut options = Proxy::new(cluster).environment("SLOTWAY_LISTENER_CROSS_SLOT_READS", "true");
    for (name, value) in settings {
        options = options.environment(name, value);
    }
    let proxy = options.start()?;
    // How scores are printed depends on the version of the nodes, which the proxy asks for in the background.
    wait_until(Duration::from_secs(20), "the version is known", || {
        let info = proxy.conn()?.must("INFO server")?.text()?;
        Ok(!info.contains("redis_version:6.2.0"))
    })?;
    Ok(proxy)
}

const SCORES: &[&str] = &[
    "0",
    "1",
    "-1",
    "0.1",
    "0.2",
    "0.3",
    "1e15",
    "1e20",
    "1e-7",
    "inf",
    "-inf",
    "3.3333333333333335",
    "123456789012345678",
    "1e300",
    "-2.5",
    "17",
];
const WEIGHTS: &[&str] = &["1", "2", "0", "-1", "0.1", "inf", "-inf", "1e10", "1.5"];
const KEYS: usize = 8;

/// Keys of every type, some of them in one slot, the same data wherever the commands are run.
fn fill(random: &mut Random, kind: &str) -> Vec<String> {
    let mut commands = Vec::new();
    for number in 0..KEYS {
        let key = key(kind, number);
        // The last one is missing.
        let size = if number == KEYS - 1 {
            0
        } else {
            1 + random.below(30)
        };
        for _ in 0..size {
            let member = format!("m{}", random.below(25));
            commands.push(match kind {
                "s" => format!("SADD {key} {member}"),
                "z" => format!("ZADD {key} {} {member}", random.one_of(SCORES)),
                _ => format!("PFADD {key} {}", random.below(1_000)),
            });
        }
    }
    commands
}

/// Two in a tag, so that some parts have several keys.
fn key(kind: &str, number: usize) -> String {
    if number < 2 {
        format!("{{t}}{kind}{number}")
    } else {
        format!("{kind}{number}")
    }
}

fn some_keys(random: &mut Random, kinds: &[&str]) -> Vec<String> {
    let count = 1 + random.below(5);
    let mut keys = Vec::new();
    for _ in 0..count {
        keys.push(match random.below(40) {
            0 => "list".to_owned(),
            1 => "string".to_owned(),
            _ => {
                let kind = random.one_of(kinds);
                key(kind, random.below(KEYS))
            }
        });
    }
    keys
}

fn random_command(random: &mut Random) -> String {
    match random.below(5) {
        0 | 1 => {
            let name = random.one_of(&["SINTER", "SUNION", "SDIFF", "SINTERCARD"]);
            let keys = some_keys(random, &["s"]);
            if name != "SINTERCARD" {
                return format!("{name} {}", keys.join(" "));
            }
            let tail = random.one_of(&[
                "",
                "LIMIT 0",
                "LIMIT 2",
                "limit 5 LIMIT 1",
                "LIMIT -1",
                "LIMIT x",
                "LIMIT",
                "BAD",
                "LIMIT 01",
            ]);
            format!("{name} {} {} {tail}", keys.len(), keys.join(" "))
        }
        2 | 3 => sorted_set_command(random),
        _ => format!("PFCOUNT {}", some_keys(random, &["h"]).join(" ")),
    }
}

fn sorted_set_command(random: &mut Random) -> String {
    let name = random.one_of(&[
        "ZUNION",
        "ZINTER",
        "ZUNION",
        "ZINTER",
        "ZDIFF",
        "ZINTERCARD",
    ]);
    let keys = some_keys(random, &["z", "z", "s"]);
    let mut command = format!("{name} {} {}", keys.len(), keys.join(" "));
    if random.below(2) == 0 && name != "ZDIFF" && name != "ZINTERCARD" {
        command.push_str(" WEIGHTS");
        // Now and then one too many or too few.
        let count = (keys.len() + usize::from(random.below(15) == 0))
            .saturating_sub(usize::from(random.below(15) == 0));
        for _ in 0..count {
            let weight = if random.below(30) == 0 {
                "heavy"
            } else {
                random.one_of(WEIGHTS)
            };
            command.push_str(&format!(" {weight}"));
        }
    }
    if random.below(2) == 0 && name != "ZDIFF" && name != "ZINTERCARD" {
        command.push_str(&format!(
            " AGGREGATE {}",
            random.one_of(&["SUM", "min", "MAX", "MIN", "max", "AVG"])
        ));
    }
    if name == "ZINTERCARD" {
        command.push_str(random.one_of(&["", " LIMIT 2", " LIMIT 0", " LIMIT -3", " WITHSCORES"]));
    } else {
        command.push_str(random.one_of(&[
            "",
            " WITHSCORES",
            " withscores",
            " WITHSCORES",
            " LIMIT 1",
        ]));
    }
    command
}

/// The bytes of the reply; the members of a set in order.
fn reply(conn: &mut Conn, command: &str) -> Result<Vec<String>> {
    conn.send(&command.split_whitespace().collect::<Vec<_>>())?;
    let bytes = conn.read_bytes()?;
    let text = String::from_utf8(bytes).context("a reply of text")?;
    let mut lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
    if command.starts_with('S') && !text.starts_with('-') {
        lines[1..].sort();
    }
    Ok(lines)
}

fn replies_are_those_of_one_server(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = proxy_with(&cluster, &[])?;
    let server = Node::standalone(version)?;
    let mut random = Random(SEED);
    let mut data: Vec<String> = ["s", "z", "h"]
        .iter()
        .flat_map(|kind| fill(&mut random, kind))
        .collect();
    data.extend(["RPUSH list x".to_owned(), "SET string x".to_owned()]);
    // Enough for a dense sketch.
    data.extend((0..3_000).map(|number| format!("PFADD {} e{number}", key("h", 3))));
    let (mut ours, mut theirs) = (proxy.conn()?, server.conn()?);
    for command in &data {
        assert_eq!(
            reply(&mut ours, command)?,
            reply(&mut theirs, command)?,
            "{command}"
        );
    }
    for protocol in [2, 3] {
        if protocol == 3 {
            ours = proxy.conn_resp3()?;
            theirs.must("HELLO 3")?;
        }
        for case in 0..CASES {
            let command = random_command(&mut random);
            let (mine, other) = (reply(&mut ours, &command)?, reply(&mut theirs, &command)?);
            assert_eq!(
                mine, other,
                "RESP{protocol}, case {case} of seed {SEED:x}: {command}"
            );
        }
    }
    ensure!(
        proxy.metric("slotway_requests_split_total")? > 100.0,
        "hardly anything was in several slots"
    );
    Ok(())
}

fn what_is_off_or_writes_is_refused(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let (off, on) = (Proxy::new(&cluster).start()?, proxy_with(&cluster, &[])?);
    let mut direct = cluster.node(0)?.conn()?;
    let refused = direct.line("SINTER a b")?;
    ensure!(
        refused
            .error()
            .is_some_and(|text| text.starts_with("CROSSSLOT")),
        "{refused:?}"
    );
    let mut conn = off.conn()?;
    for command in [
        "SINTER a b",
        "ZUNION 2 a b",
        "PFCOUNT a b",
        "SINTERCARD 2 a b",
    ] {
        assert_eq!(conn.line(command)?, refused, "{command}");
    }
    let mut conn = on.conn()?;
    for command in [
        "SINTERSTORE a b c",
        "ZUNIONSTORE a 2 b c",
        "PFMERGE a b",
        "SDIFFSTORE a b",
    ] {
        assert_eq!(conn.line(command)?, refused, "{command}");
    }
    ensure!(conn.must("SADD a x y")?.int()? == 2 && conn.must("SADD b x")?.int()? == 1);
    assert_eq!(conn.must("SINTER a b")?.texts()?, ["x"]);
    ensure!(conn.must("MULTI")?.is_ok());
    assert_eq!(conn.line("SINTER a b")?, refused, "in a transaction");
    ensure!(conn.line("EXEC")?.error().is_some());
    Ok(())
}

fn replies_beyond_the_bound_are_an_error(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = proxy_with(&cluster, &[("SLOTWAY_LIMITS_CROSS_SLOT_BYTES", "1KiB")])?;
    let mut conn = proxy.conn()?;
    for number in 0..60 {
        conn.must(&format!("SADD a member-of-a-{number}"))?;
    }
    conn.must("SADD b b")?;
    conn.must("SADD c b")?;
    let refused = conn.line("SUNION b a c")?;
    let text = refused.error().context("an error")?;
    ensure!(text.contains("limits.cross_slot_bytes"), "{text}");
    assert_eq!(
        conn.must("SUNION b c")?.texts()?,
        ["b"],
        "the next command is served"
    );
    Ok(())
}

fn a_node_that_dies_makes_an_error(version: Version) -> Result<()> {
    let mut cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = proxy_with(&cluster, &[("SLOTWAY_LIMITS_PARK_TIMEOUT", "1s")])?;
    let mut conn = proxy.conn()?;
    for key in ["a", "b", "c", "d"] {
        conn.must(&format!("SADD {key} x"))?;
    }
    assert_eq!(conn.must("SINTER a b c d")?.texts()?, ["x"]);
    cluster.node(0)?.freeze()?;
    conn.send(&["SINTER", "a", "b", "c", "d"])?;
    cluster.node_mut(0)?.kill()?;
    let failed = conn.read()?;
    ensure!(failed.error().is_some(), "{failed:?}");
    ensure!(conn.must("PING")?.text()? == "PONG");
    Ok(())
}

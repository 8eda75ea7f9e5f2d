//! The proxy's command table against those of real servers: which arguments are keys, which numbers of arguments are admitted,
//! and that no command of a supported server is unknown to the proxy.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Node, Proxy, Reply, Version};
use std::collections::BTreeMap;

harness::on_full_matrix!(
    keys_are_those_the_server_finds,
    the_table_knows_what_the_server_knows
);
harness::on_release!(
    redis_8_2,
    Redis82,
    keys_are_those_the_server_finds,
    the_table_knows_what_the_server_knows
);

/// Calls tried of each command.
const CALLS: usize = 200;

/// Words that are options of some command, and some that are not.
const WORDS: [&str; 28] = [
    "k1", "k2", "{a}b", "x", "", "STREAMS", "BLOCK", "COUNT", "GROUP", "NOACK", "STORE", "LIMIT",
    "GET", "BY", "KEYS", "STRINGS", "AUTH", "COPY", "EX", "NX", "ASC", "WEIGHTS", "MATCH", "set",
    "1", "2", "3", "-1",
];

/// What `COMMAND` says of one command or subcommand.
#[derive(Debug)]
struct Entry {
    arity: i64,
    flags: Vec<String>,
    legacy_range: [i64; 3],
    /// Begin and find of each key specification.
    keys: Vec<(Reply, Reply)>,
}

fn table(conn: &mut Conn) -> Result<BTreeMap<String, Entry>> {
    let mut table = BTreeMap::new();
    add_entries(conn.line("COMMAND")?.items()?, &mut table)?;
    Ok(table)
}

fn add_entries(entries: &[Reply], table: &mut BTreeMap<String, Entry>) -> Result<()> {
    for entry in entries {
        let [
            name,
            arity,
            flags,
            first,
            last,
            step,
            _,
            _,
            keys,
            subcommands,
        ] = entry.items()?
        else {
            anyhow::bail!("an entry of COMMAND has not ten elements: {entry:?}");
        };
        let keys = keys
            .items()?
            .iter()
            .map(|spec| Ok((field(spec, "begin_search")?, field(spec, "find_keys")?)));
        let entry = Entry {
            arity: arity.int()?,
            flags: flags.texts()?,
            legacy_range: [first.int()?, last.int()?, step.int()?],
            keys: keys.collect::<Result<_>>()?,
        };
        table.insert(name.text()?.to_lowercase(), entry);
        add_entries(subcommands.items()?, table)?;
    }
    Ok(())
}

/// A field of a map that RESP2 sends as an array.
fn field(map: &Reply, name: &str) -> Result<Reply> {
    let pairs = map.items()?.chunks(2);
    let mut values = pairs.filter(|pair| {
        pair.first()
            .is_some_and(|key| key.text().is_ok_and(|text| text == name))
    });
    values
        .next()
        .and_then(|pair| pair.get(1))
        .cloned()
        .with_context(|| format!("no {name} in {map:?}"))
}

/// The proxy may admit more arguments than an old server, never fewer; key positions are those of every server.
fn the_table_knows_what_the_server_knows(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let server = Node::standalone(version)?;
    let (theirs, ours) = (table(&mut server.conn()?)?, table(&mut proxy.conn()?)?);
    ensure!(theirs.len() > 300, "only {} entries", theirs.len());
    let mut conn = proxy.conn()?;
    for (name, entry) in &theirs {
        let Some(known) = ours.get(name) else {
            let mut words: Vec<&str> = name.split('|').collect();
            words.resize(
                words
                    .len()
                    .max(usize::try_from(entry.arity.unsigned_abs())?),
                "x",
            );
            let refusal = conn.call(&words)?;
            let expected =
                format!("ERR proxy: command '{name}' is not supported through this proxy");
            // A container of which every subcommand is refused is one without an answer of its own.
            let is_container = theirs
                .keys()
                .any(|other| other.starts_with(&format!("{name}|")));
            ensure!(
                is_container || refusal.error() == Some(&expected),
                "{name}: {refusal:?}"
            );
            continue;
        };
        ensure!(
            known.arity == entry.arity || known.arity < 0 && known.arity.abs() <= entry.arity.abs(),
            "{name}: arity {} at the server, {} at the proxy",
            entry.arity,
            known.arity
        );
        ensure!(
            known.keys == entry.keys,
            "{name}: {:?} at the server, {:?} at the proxy",
            entry.keys,
            known.keys
        );
        ensure!(
            known.legacy_range == entry.legacy_range,
            "{name}: {entry:?} {known:?}"
        );
        for flag in ["write", "readonly", "movablekeys"] {
            let [a, b] = [entry, known].map(|entry| entry.flags.iter().any(|other| other == flag));
            ensure!(a == b, "{name}: flag {flag}");
        }
    }
    Ok(())
}

fn keys_are_those_the_server_finds(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let server = Node::standalone(version)?;
    let (mut direct, mut through) = (server.conn()?, proxy.conn()?);
    let ours = table(&mut through)?;
    let mut random = fastrand::Rng::with_seed(20_260_101);
    let (mut compared, mut differences) = (0, Vec::new());
    for (name, entry) in table(&mut direct)? {
        if entry.keys.is_empty() || !ours.contains_key(&name) {
            continue;
        }
        let calls: Vec<Vec<String>> = (0..CALLS)
            .map(|_| call(&name, &entry, &mut random))
            .filter(|call| is_comparable(&name, call))
            .collect();
        let requests: Vec<Vec<String>> = calls
            .into_iter()
            .map(|call| {
                ["COMMAND", "GETKEYS"]
                    .map(str::to_owned)
                    .into_iter()
                    .chain(call)
                    .collect()
            })
            .collect();
        let (expected, actual) = (direct.pipeline(&requests)?, through.pipeline(&requests)?);
        compared += requests.len();
        for ((request, expected), actual) in requests.iter().zip(expected).zip(actual) {
            if expected != actual {
                differences.push(format!(
                    "{request:?}\n  server: {expected:?}\n  proxy:  {actual:?}"
                ));
            }
        }
    }
    ensure!(compared > 20_000, "only {compared} calls compared");
    ensure!(
        differences.is_empty(),
        "{} of {compared} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
    Ok(())
}

/// A call with an admitted number of arguments.
fn call(name: &str, entry: &Entry, random: &mut fastrand::Rng) -> Vec<String> {
    let mut words: Vec<String> = name.split('|').map(str::to_owned).collect();
    if name == "xreadgroup" {
        words.extend(
            [
                "GROUP",
                WORDS[random.usize(..WORDS.len())],
                WORDS[random.usize(..WORDS.len())],
            ]
            .map(str::to_owned),
        );
    }
    if matches!(name, "xread" | "xreadgroup") {
        for option in ["COUNT", "BLOCK"] {
            if random.bool() {
                words.extend([option, WORDS[random.usize(..5)]].map(str::to_owned));
            }
        }
        words.push("STREAMS".to_owned());
        let streams = random.usize(1..4);
        words.extend((0..2 * streams).map(|_| WORDS[random.usize(..WORDS.len())].to_owned()));
        return words;
    }
    let fewest = usize::try_from(entry.arity.unsigned_abs()).unwrap_or(usize::MAX);
    let more = if entry.arity < 0 {
        random.usize(..9)
    } else {
        0
    };
    while words.len() < fewest + more {
        words.push(WORDS[random.usize(..WORDS.len())].to_owned());
    }
    // Half of the calls with a number of keys shall have a fitting one.
    if let Some((begin, _)) = entry
        .keys
        .last()
        .filter(|(_, find)| is_counted(find) && random.bool())
        && let Ok(at) = field(begin, "spec").and_then(|spec| field(&spec, "index")?.int())
        && let Some(word) = usize::try_from(at).ok().and_then(|at| words.get_mut(at))
    {
        *word = random.usize(1..4).to_string();
    }
    words
}

fn is_counted(find: &Reply) -> bool {
    field(find, "type")
        .and_then(|kind| kind.text())
        .is_ok_and(|kind| kind == "keynum")
}

/// Leaves out the calls of which servers themselves have two opinions: what `COMMAND GETKEYS` reads from the published
/// specifications, and what their own routing and execution do.
fn is_comparable(name: &str, call: &[String]) -> bool {
    let stores = call
        .iter()
        .filter(|word| matches!(word.as_str(), "STORE" | "STOREDIST"))
        .count();
    match name {
        // The specification misses a call with the destination only, which is nevertheless executed.
        "pfmerge" => call.len() > 2,
        // The proxy answers the arity error that execution would.
        "mset" | "msetnx" => call.len() % 2 == 1,
        // Before Valkey 9 the specification takes the first STORE, execution the last.
        "georadius" | "georadiusbymember" => {
            stores <= 1 && call.get(5).is_none_or(|unit| unit != "STORE")
        }
        // 7.0 admits no call of a single word.
        _ => call.len() > 1,
    }
}

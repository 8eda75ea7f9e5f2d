//! Commands that the proxy refuses by itself: no node hears of them.
//! Numbers in brackets are the scenarios and rules of the contract.

use anyhow::{Result, ensure};
use harness::{Conn, Reply, Scene, Version};

harness::on_full_matrix!(
    cross_slot_commands_are_refused_without_asking_a_node,
    forbidden_commands_are_refused_without_asking_a_node,
    tracking_is_refused_unless_the_listener_has_it,
);

const CROSSSLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";

/// [scenario 11] [K7]
fn cross_slot_commands_are_refused_without_asking_a_node(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let commands = [
        "SINTER a b",
        "SUNIONSTORE a b c",
        "MSETNX a 1 b 2",
        "RENAME a b",
        "PFCOUNT a b",
        "BITOP AND a b c",
        "ZUNIONSTORE a 2 b c",
        "SMOVE a b m",
        "EVAL return 2 a b",
        "LMOVE a b LEFT RIGHT",
        "XREAD STREAMS a b 0 0",
        "COPY a b",
        "WATCH a b",
        "BLPOP a b 0",
        "BLMOVE a b LEFT RIGHT 0",
        "BLMPOP 0 2 a b LEFT",
        "XREAD BLOCK 0 STREAMS a b $ $",
    ];
    for command in commands {
        let name = command.split(' ').next().unwrap_or_default().to_lowercase();
        let before = scene.cluster.calls(&name)?;
        assert_eq!(conn.line(command)?.error(), Some(CROSSSLOT), "{command}");
        assert_eq!(
            scene.cluster.calls(&name)?,
            before,
            "{command} reached a node"
        );
    }
    // With one hash tag the same commands are the server's business.
    conn.must("SADD {t}a 1 2")?;
    conn.must("SADD {t}b 2 3")?;
    assert_eq!(conn.must("SINTER {t}a {t}b")?.texts()?, ["2"]);
    conn.must("RENAME {t}a {t}c")?;
    assert_eq!(conn.must("MSETNX {t}x 1 {t}y 2")?.int()?, 1);
    Ok(())
}

/// [scenario 114]: every forbidden row of the command table.
fn forbidden_commands_are_refused_without_asking_a_node(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let rows = include_str!("../../core/src/command/commands.csv");
    let mut tried = 0;
    for row in rows.lines().skip(1) {
        let fields: Vec<&str> = row.splitn(5, ',').collect();
        let [command, subcommand, _, "forbidden", _] = fields.as_slice() else {
            continue;
        };
        // Names of HTTP requests close the connection; see the protocol tests.
        if ["POST", "HOST:"].contains(command) {
            continue;
        }
        let name = [*command, *subcommand].map(str::to_lowercase).join("|");
        let name = name.trim_end_matches('|');
        let mut words: Vec<&str> = vec![command];
        words.extend(Some(*subcommand).filter(|word| !word.is_empty()));
        let before = scene.cluster.calls(name)?;
        let reply = call_with_enough_arguments(&mut conn, &words)?;
        let expected = format!("ERR proxy: command '{name}' is not supported through this proxy");
        assert_eq!(reply.error(), Some(expected.as_str()), "{name}");
        assert_eq!(scene.cluster.calls(name)?, before, "{name} reached a node");
        tried += 1;
    }
    ensure!(tried > 80, "only {tried} forbidden commands in the table");
    ensure!(conn.line("PING")?.text()? == "PONG");
    Ok(())
}

/// Adds arguments until the command has as many as it wants.
fn call_with_enough_arguments(conn: &mut Conn, words: &[&str]) -> Result<Reply> {
    let mut command = words.to_vec();
    loop {
        let reply = conn.call(&command)?;
        let wrong = reply
            .error()
            .is_some_and(|text| text.contains("wrong number of arguments"));
        if !wrong || command.len() > words.len() + 8 {
            return Ok(reply);
        }
        command.push("1");
    }
}

/// [N1]: it is never forwarded, as the connections to the nodes are those of all.
fn tracking_is_refused_unless_the_listener_has_it(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let reply = conn.line("CLIENT TRACKING ON")?;
    ensure!(
        reply
            .error()
            .is_some_and(|text| text.starts_with("ERR proxy: ")),
        "{reply:?}"
    );
    ensure!(conn.must("SET k v")?.is_ok());
    assert_eq!(conn.must("GET k")?.text()?, "v");
    Ok(())
}

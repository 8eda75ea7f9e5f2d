//! Commands of a module, which the proxy has learned from the servers' COMMAND.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Proxy, Version, case_dir, key_in_slot, repository_root, wait_until};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

harness::on_full_matrix!(
    commands_of_a_module_are_routed,
    a_module_loaded_later_is_learned
);

/// The proxy asks again for a name that nobody knew at most every 10 s.
const LEARNED_DEADLINE: Duration = Duration::from_secs(15);

/// The module of `tests/data/module`, built for this machine.
fn module() -> Result<PathBuf> {
    let source = repository_root().join("tests/data/module/slotmod.c");
    let library = case_dir("module")?.join("slotmod.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c11", "-Wall", "-O1", "-fPIC", "-shared", "-o"]);
    let output = compiler
        .args([&library, &source])
        .output()
        .context("a C compiler is needed: cc")?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && complaints.is_empty(),
        "{complaints}"
    );
    Ok(library)
}

/// Waits until the proxy knows what the servers told.
fn wait_learned(conn: &mut Conn) -> Result<()> {
    wait_until(LEARNED_DEADLINE, "the module's commands are known", || {
        let reply = conn.line("slot.get k")?;
        Ok(reply.error().is_none())
    })
}

fn commands_of_a_module_are_routed(version: Version) -> Result<()> {
    let library = module()?.to_string_lossy().into_owned();
    let cluster = Cluster::new(version)
        .replicas(0)
        .setting("loadmodule", &library)
        .start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let mut conn = proxy.conn()?;
    wait_learned(&mut conn)?;
    let of_shard = |shard| key_in_slot(*cluster.initial_slots(shard).start(), 0);
    let [a, b, c] = [0, 1, 2].map(of_shard);
    values_go_to_their_shards(&mut conn, [&a, &b, &c])?;
    errors_are_those_of_a_server(&mut conn, &cluster)?;
    for refused in ["slot.here", "slot.wait k"] {
        let reply = conn.line(refused)?;
        let text = reply.error().context("refused")?;
        ensure!(
            text.starts_with("ERR proxy: command 'slot.")
                && text.contains("is not supported through this proxy: "),
            "{text}"
        );
    }
    let (mut resp3, mut server) = (proxy.conn_resp3()?, cluster.node(0)?.conn()?);
    let command = format!("slot.mget {a} word");
    assert_eq!(resp3.must(&command)?, conn.must(&command)?);
    for question in [
        "COMMAND INFO slot.get slot.mset slot.mget slot.total",
        "COMMAND GETKEYS slot.mset a 1 b 2",
        "COMMAND GETKEYS slot.counted w KEYS 2 a b",
    ] {
        assert_eq!(conn.must(question)?, server.must(question)?, "{question}");
    }
    let metrics = proxy.metrics()?;
    let labels = [("command", "learned"), ("outcome", "ok")];
    ensure!(metrics.sum("slotway_commands_total", &labels) >= 8.0);
    Ok(())
}

fn values_go_to_their_shards(conn: &mut Conn, [a, b, c]: [&String; 3]) -> Result<()> {
    ensure!(
        conn.must(&format!("slot.mset {a} 1 {b} 2 {c} 3"))?.is_ok(),
        "split"
    );
    for (key, value) in [(a, "1"), (b, "2"), (c, "3")] {
        assert_eq!(conn.must(&format!("SLOT.GET {key}"))?.text()?, value);
        assert_eq!(conn.must(&format!("GET {key}"))?.text()?, value);
    }
    let reply = conn.must(&format!("slot.mget {c} {a} {b} word"))?;
    let values: Vec<Vec<String>> = reply
        .items()?
        .iter()
        .map(harness::Reply::texts)
        .collect::<Result<_>>()?;
    assert_eq!(values, [["3", "word"], ["1", "word"], ["2", "word"]]);
    assert_eq!(conn.must("slot.total")?.int()?, 3, "of all shards");
    assert_eq!(conn.must(&format!("slot.count {a} {a}"))?.int()?, 2);
    assert_eq!(conn.must(&format!("slot.counted w KEYS 1 {b}"))?.int()?, 4);
    let crossed = conn.line(&format!("slot.count {a} {b}"))?;
    ensure!(
        crossed
            .error()
            .is_some_and(|text| text.starts_with("CROSSSLOT"))
    );
    for key in [a, b, c] {
        ensure!(conn.must(&format!("slot.box put {key} boxed"))?.is_ok());
        assert_eq!(conn.must(&format!("SLOT.BOX look {key}"))?.text()?, "boxed");
    }
    // Only the module's code knows where the key is.
    for key in [a, b, c] {
        let found = conn.must(&format!("slot.movable word {key}"))?;
        assert_eq!(found.text()?, "boxed");
    }
    conn.must("MULTI")?;
    conn.must(&format!("slot.mset {a} 7 {a} 8"))?;
    conn.must(&format!("slot.get {a}"))?;
    assert_eq!(conn.must("EXEC")?.items()?[1].text()?, "8");
    Ok(())
}

fn errors_are_those_of_a_server(conn: &mut Conn, cluster: &Cluster) -> Result<()> {
    let mut server = cluster.node(0)?.conn()?;
    for call in [
        "slot.get",
        "slot.mset k",
        "slot.total x",
        "slot.box",
        "slot.box none k",
        "slot.none a b",
        "slot.count",
        "slot.movable",
    ] {
        let (ours, theirs) = (conn.line(call)?, server.line(call)?);
        assert_eq!(ours, theirs, "{call}");
    }
    Ok(())
}

fn a_module_loaded_later_is_learned(version: Version) -> Result<()> {
    let library = module()?.to_string_lossy().into_owned();
    let cluster = Cluster::new(version)
        .replicas(0)
        .setting("enable-module-command", "yes")
        .start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let mut conn = proxy.conn()?;
    conn.must("SET k v")?;
    for node in cluster.nodes() {
        // Only then does it load the module later than it was asked.
        wait_until(
            LEARNED_DEADLINE,
            "the node is asked for its commands",
            || {
                let stats = node.must("INFO commandstats")?.text()?;
                Ok(stats.contains("cmdstat_command:"))
            },
        )?;
        node.must(&format!("MODULE LOAD {library}"))?;
    }
    let first = conn.line("slot.get k")?;
    let text = first.error().context("nobody has told the proxy")?;
    assert_eq!(
        text,
        "ERR unknown command 'slot.get', with args beginning with: 'k' "
    );
    wait_learned(&mut conn)?;
    assert_eq!(conn.must("slot.get k")?.text()?, "v");
    // What was unloaded the servers refuse themselves, in their own words.
    for node in cluster.nodes() {
        node.must("MODULE UNLOAD slotmod")?;
    }
    let gone = conn.line("slot.get k")?;
    ensure!(
        gone.error()
            .is_some_and(|text| text.starts_with("ERR unknown command"))
    );
    Ok(())
}

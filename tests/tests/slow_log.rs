//! SLOWLOG: the proxy's own, of all workers, in the form of a server.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Node, Proxy, Reply, Version};

harness::on_full_matrix!(slow_requests_are_noted_for_everybody);

const SLOW: &str = "[log]\nslow_time = \"60ms\"\nslow_count = 2\n";

/// Has the primaries take no writes for a while, and one written in it.
fn write_slowly(cluster: &Cluster, conn: &mut Conn, key: &str) -> Result<()> {
    for node in cluster.nodes() {
        node.must("CLIENT PAUSE 100 WRITE")?;
    }
    ensure!(conn.call(&["SET", key, &"x".repeat(200)])?.is_ok());
    Ok(())
}

fn slow_requests_are_noted_for_everybody(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).workers(2).config(SLOW).start()?;
    let (mut writer, mut reader) = (proxy.conn()?, proxy.conn()?);
    writer.must("CLIENT SETNAME writer")?;
    writer.must("SET first 1")?;
    assert_eq!(writer.must("SLOWLOG LEN")?.int()?, 0);
    for key in ["one", "two", "three"] {
        write_slowly(&cluster, &mut writer, key)?;
    }
    assert_eq!(reader.must("SLOWLOG LEN")?.int()?, 2);
    let reply = reader.must("SLOWLOG GET")?;
    let entries = reply.items()?;
    ensure!(entries.len() == 2, "{reply:?}");
    check_entry(&entries[0], "three", &writer)?;
    check_entry(&entries[1], "two", &writer)?;
    let settings = reader.must("CONFIG GET slowlog-*")?;
    assert_eq!(
        settings.texts()?,
        ["slowlog-log-slower-than", "60000", "slowlog-max-len", "2"]
    );
    reader.must("SLOWLOG RESET")?;
    assert_eq!(writer.must("SLOWLOG LEN")?.int()?, 0);
    Ok(())
}

/// The six elements of a server's entry, and where the time went.
fn check_entry(entry: &Reply, key: &str, writer: &Conn) -> Result<()> {
    let fields = entry.items()?;
    ensure!(fields.len() == 7, "{entry:?}");
    let micros = fields[2].int()?;
    ensure!((60_000..5_000_000).contains(&micros), "{entry:?}");
    let value = format!("{}... (72 more bytes)", "x".repeat(128));
    assert_eq!(fields[3].texts()?, ["SET", key, &value]);
    assert_eq!(fields[4].text()?, writer.stream().local_addr()?.to_string());
    assert_eq!(fields[5].text()?, "writer");
    let course = fields[6].text()?;
    let node_micros: i64 = course
        .split(' ')
        .find_map(|part| part.strip_prefix("node_us="))
        .context("no time at the node")?
        .parse()?;
    ensure!(node_micros >= 60_000 && node_micros <= micros, "{course}");
    Ok(())
}

harness::on_release!(redis_7_0_alone, Redis70, entries_begin_as_those_of_a_server);

/// What clients read by place is what a server gives there.
fn entries_begin_as_those_of_a_server(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster)
        .config("[log]\nslow_time = \"0s\"\n")
        .start()?;
    let server = Node::standalone(version)?;
    server.must("CONFIG SET slowlog-log-slower-than 0")?;
    let shape = |mut conn: Conn| -> Result<String> {
        conn.must("SLOWLOG RESET")?;
        conn.must("GET k")?;
        let reply = conn.must("SLOWLOG GET -1")?;
        let entries = reply.items()?;
        let mut all = entries.iter().map(Reply::items);
        let is_get = |fields: &&[Reply]| fields[3].texts().is_ok_and(|args| args == ["GET", "k"]);
        let fields = all.find_map(|fields| fields.ok().filter(is_get));
        let fields = fields.context("GET was not noted")?;
        let kinds = fields.iter().take(6).map(kind);
        Ok(kinds.collect::<Vec<_>>().join(" "))
    };
    assert_eq!(shape(proxy.conn()?)?, shape(server.conn()?)?);
    Ok(())
}

fn kind(reply: &Reply) -> &'static str {
    if reply.int().is_ok() {
        "integer"
    } else if reply.items().is_ok() {
        "array"
    } else {
        "text"
    }
}

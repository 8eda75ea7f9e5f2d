//! The same commands through the proxy and to one server: the replies must be the same bytes, in RESP2 and RESP3.

use anyhow::{Result, ensure};
use harness::corpus::{Comparison, ensure_all_commands_are_called};
use harness::{Cluster, Node, NodeOptions, Proxy, Version};

harness::on_full_matrix!(
    corpus_in_resp2_on_a_cluster,
    corpus_in_resp3_on_a_cluster,
    corpus_in_resp2_on_one_server,
    corpus_in_resp3_on_one_server,
    big_values_pass_unchanged,
);
harness::on_release!(
    redis_8_2,
    Redis82,
    corpus_in_resp2_on_a_cluster,
    corpus_in_resp3_on_a_cluster,
    corpus_in_resp2_on_one_server,
    corpus_in_resp3_on_one_server,
);

/// Every command that clients can send is in the corpus.
#[test]
fn the_corpus_has_every_command() -> Result<()> {
    ensure_all_commands_are_called()
}

/// How often a server looks, in Hz, whose time to wait is over: what waits in vain for 10 ms is not to wait for 100.
const HZ: (&str, &str) = ("hz", "250");

/// What is off by default is on, and a slow machine does not show in the log.
const SETTINGS: &str = "[log]\nslow_time = \"1h\"\n[[listener]]\ntracking = true\nmonitor = true\n";

fn corpus_in_resp2_on_a_cluster(version: Version) -> Result<()> {
    compare_with_cluster(version, false)
}

fn corpus_in_resp3_on_a_cluster(version: Version) -> Result<()> {
    compare_with_cluster(version, true)
}

fn compare_with_cluster(version: Version, resp3: bool) -> Result<()> {
    let cluster = Cluster::new(version)
        .replicas(0)
        .setting(HZ.0, HZ.1)
        .start()?;
    let proxy = Proxy::new(&cluster).config(SETTINGS).start()?;
    Comparison::new(&one_server(version)?, &proxy, resp3)?.run()
}

fn corpus_in_resp2_on_one_server(version: Version) -> Result<()> {
    compare_with_server(version, false)
}

fn corpus_in_resp3_on_one_server(version: Version) -> Result<()> {
    compare_with_server(version, true)
}

/// The proxy is in front of a server of the same kind.
fn compare_with_server(version: Version, resp3: bool) -> Result<()> {
    let behind = one_server(version)?;
    let proxy = Proxy::with_server(&behind.address().to_string())
        .config(SETTINGS)
        .start()?;
    Comparison::new(&one_server(version)?, &proxy, resp3)?
        .in_front_of_one_server()
        .run()
}

/// What the proxy is compared with. It has one database, as a cluster has, and a slow machine does not show in its log.
fn one_server(version: Version) -> Result<Node> {
    let mut node = Node::launch(NodeOptions {
        version,
        cluster: false,
        relayed: false,
        settings: [("databases", "1"), ("slowlog-log-slower-than", "-1"), HZ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        address: None,
    })?;
    node.wait_started()?;
    Ok(node)
}

/// Values from nothing to 20 MB, with every byte, to each shard, alone and in one pipeline.
fn big_values_pass_unchanged(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let mut conn = proxy.conn()?;
    let sizes = [0, 1, 16_383, 16_384, 16_385, 65_536, 1_000_003, 20_000_000];
    let value = |size: usize| -> Vec<u8> { (0..=255_u8).cycle().take(size).collect() };
    for size in sizes {
        let key = format!("big:{size}");
        ensure!(
            conn.call(&[b"SET", key.as_bytes(), &value(size)])?.is_ok(),
            "SET of {size} bytes"
        );
    }
    let commands: Vec<Vec<String>> = sizes
        .iter()
        .map(|size| vec!["GET".to_owned(), format!("big:{size}")])
        .collect();
    let replies = conn.pipeline(&commands)?;
    for (reply, size) in replies.iter().zip(sizes) {
        ensure!(
            *reply == harness::Reply::Bulk(value(size)),
            "GET of {size} bytes differs"
        );
    }
    let all: Vec<String> = std::iter::once("MGET".to_owned())
        .chain(sizes.iter().map(|size| format!("big:{size}")))
        .collect();
    let reply = conn.call(&all)?;
    for (item, size) in reply.items()?.iter().zip(sizes) {
        ensure!(
            *item == harness::Reply::Bulk(value(size)),
            "MGET of {size} bytes differs"
        );
    }
    Ok(())
}

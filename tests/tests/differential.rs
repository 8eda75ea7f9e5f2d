//! The same commands through the proxy and to one server: the replies must be the same bytes, in RESP2 and RESP3.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Node, Proxy, Version};

harness::on_full_matrix!(corpus_in_resp2, corpus_in_resp3, big_values_pass_unchanged);

const CORPUS: &str = include_str!("../data/corpus.txt");

/// Words of a line; double quotes hold blanks together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (n, part) in line.split('"').enumerate() {
        if n % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn corpus_in_resp2(version: Version) -> Result<()> {
    compare_corpus(version, Node::conn, Proxy::conn)
}

fn corpus_in_resp3(version: Version) -> Result<()> {
    let direct = |node: &Node| Conn::open_resp3(node.address());
    compare_corpus(version, direct, Proxy::conn_resp3)
}

fn compare_corpus(
    version: Version,
    direct: impl Fn(&Node) -> Result<Conn>,
    through: impl Fn(&Proxy) -> Result<Conn>,
) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).start()?;
    let server = Node::standalone(version)?;
    let (mut direct, mut through) = (direct(&server)?, through(&proxy)?);
    let mut differences = Vec::new();
    let mut compared = 0;
    for line in CORPUS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let words = words(line);
        direct.send(&words)?;
        through.send(&words)?;
        let expected = direct
            .read_bytes()
            .with_context(|| format!("server: {line}"))?;
        let actual = through
            .read_bytes()
            .with_context(|| format!("proxy: {line}"))?;
        compared += 1;
        if actual != expected {
            differences.push(format!(
                "{line}\n  server: {}\n  proxy:  {}",
                expected.escape_ascii(),
                actual.escape_ascii()
            ));
        }
    }
    ensure!(compared > 200, "the corpus has only {compared} commands");
    ensure!(
        differences.is_empty(),
        "{} of {compared} replies differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
    Ok(())
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

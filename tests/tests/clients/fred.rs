//! fred: its client for one server and for clusters, in RESP2 and RESP3.

use crate::offer::Offer;
use crate::rust::{PATIENCE, block_on, id_of, is_blocked};
use anyhow::{Context, Result, bail};
use fred::clients::Client;
use fred::interfaces::{
    ClientLike, EventInterface, HashesInterface, KeysInterface, ListInterface, LuaInterface,
    PubsubInterface, SetsInterface, SortedSetsInterface, StreamsInterface, TransactionInterface,
};
use fred::types::config::Config;
use fred::types::scripts::Script;
use fred::types::{Builder, CustomCommand, RespVersion};
use futures_util::StreamExt;
use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::time::Duration;

const POLL: Duration = Duration::from_millis(10);
const POLLS: usize = 1_500;

/// With the library's own defaults, but for a limit of the time an answer takes and for connecting again.
async fn connect(url: &str, version: &RespVersion, name: &str) -> Result<Client> {
    let mut config = Config::from_url(url)?;
    config.version = version.clone();
    let client = Builder::from_config(config)
        .with_performance_config(|performance| performance.default_command_timeout = PATIENCE)
        .set_policy(fred::types::config::ReconnectPolicy::new_constant(100, 20))
        .build()?;
    client.init().await?;
    let _: () = custom(&client, "CLIENT", &["SETNAME", name]).await?;
    Ok(client)
}

async fn custom<R: fred::types::FromValue>(
    client: &Client,
    command: &'static str,
    arguments: &[&str],
) -> Result<R> {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let command = CustomCommand::new(command, None::<u16>, false);
    Ok(client.custom(command, arguments).await?)
}

pub(crate) fn plain(address: SocketAddrV4, offer: Offer) -> Result<()> {
    for version in [RespVersion::RESP2, RespVersion::RESP3] {
        let check = check(address, version.clone(), offer);
        block_on(Box::pin(check)).with_context(|| format!("{version:?}"))?;
    }
    Ok(())
}

async fn check(address: SocketAddrV4, version: RespVersion, offer: Offer) -> Result<()> {
    let url = format!("redis://{address}");
    let client = connect(&url, &version, "fred").await?;
    let _: () = custom(&client, "FLUSHALL", &[]).await?;
    strings(&client).await?;
    collections(&client).await?;
    scripts(&client).await?;
    scan(&client).await?;
    transactions(&client).await?;
    let other = connect(&url, &version, "fred-other").await?;
    if offer.has("blocking") {
        blocking(&client, &other).await?;
    }
    if offer.has("pubsub") {
        pubsub(&client, &version, &url).await?;
    }
    reconnect(&client, &other).await?;
    client.quit().await?;
    other.quit().await?;
    Ok(())
}

async fn strings(client: &Client) -> Result<()> {
    let pipeline = client.pipeline();
    for n in 0..500 {
        let _: () = pipeline
            .set(format!("fr:p{n}"), n, None, None, false)
            .await?;
        let _: () = pipeline.get(format!("fr:p{n}")).await?;
    }
    let replies: Vec<String> = pipeline.all().await?;
    for n in 0..500 {
        assert_eq!(replies[2 * n + 1], n.to_string());
    }
    let keys: Vec<String> = (0..50).map(|n| format!("fr:p{n}")).collect();
    let values: Vec<usize> = client.mget(keys).await?;
    assert_eq!(values, (0..50).collect::<Vec<_>>());
    let sum: i64 = client.incr_by("fr:n", 5).await?;
    assert_eq!(sum, 5);
    Ok(())
}

async fn collections(client: &Client) -> Result<()> {
    let pairs = HashMap::from([("a".to_owned(), 1_i64), ("b".to_owned(), 2)]);
    let _: () = client.hset("fr:h", pairs.clone()).await?;
    let hash: HashMap<String, i64> = client.hgetall("fr:h").await?;
    assert_eq!(hash, pairs);
    let _: () = client.rpush("fr:l", vec![1, 2, 3]).await?;
    let list: Vec<i64> = client.lrange("fr:l", 0, -1).await?;
    assert_eq!(list, [1, 2, 3]);
    let _: () = client.sadd("fr:t", vec!["a", "b"]).await?;
    let members: usize = client.scard("fr:t").await?;
    assert_eq!(members, 2);
    let _: () = client
        .zadd("fr:z", None, None, false, false, (1.5, "a"))
        .await?;
    let score: f64 = client.zscore("fr:z", "a").await?;
    assert!((score - 1.5).abs() < f64::EPSILON);
    let _: String = client.xadd("fr:x", false, None, "*", ("f", "1")).await?;
    let length: usize = client.xlen("fr:x").await?;
    assert_eq!(length, 1);
    Ok(())
}

async fn scripts(client: &Client) -> Result<()> {
    let script = Script::from_lua("return {KEYS[1], ARGV[1]}");
    script.load(client).await?;
    let answer: (String, String) = script.evalsha(client, "fr:s", "v").await?;
    assert_eq!(answer, ("fr:s".to_owned(), "v".to_owned()));
    let one: i64 = client
        .eval("return redis.call('incr', KEYS[1])", "fr:script", "")
        .await?;
    assert_eq!(one, 1);
    Ok(())
}

async fn scan(client: &Client) -> Result<()> {
    let found = client.scan_buffered("fr:p*", Some(100), None);
    let found: Vec<_> = found.collect().await;
    assert_eq!(found.len(), 500);
    assert!(found.iter().all(Result::is_ok));
    Ok(())
}

async fn transactions(client: &Client) -> Result<()> {
    let transaction = client.multi();
    let _: () = transaction.set("fr:{tx}a", 1, None, None, false).await?;
    let _: () = transaction.incr("fr:{tx}a").await?;
    let replies: (String, i64) = transaction.exec(true).await?;
    assert_eq!(replies, ("OK".to_owned(), 2));
    Ok(())
}

async fn client_list(client: &Client) -> Result<String> {
    custom(client, "CLIENT", &["LIST"]).await
}

async fn blocking(client: &Client, other: &Client) -> Result<()> {
    let pop = other.blpop::<(String, String), _>("fr:{b}q", 10.0);
    let push = async {
        for _ in 0..POLLS {
            if is_blocked(&client_list(client).await?, "fred-other") {
                return anyhow::Ok(client.rpush::<(), _, _>("fr:{b}q", "1").await?);
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("BLPOP does not wait")
    };
    let (popped, pushed) = futures_util::future::join(pop, push).await;
    pushed?;
    assert_eq!(popped?, ("fr:{b}q".to_owned(), "1".to_owned()));
    Ok(())
}

async fn pubsub(client: &Client, version: &RespVersion, url: &str) -> Result<()> {
    let subscriber = connect(url, version, "fred-subscriber").await?;
    let mut messages = subscriber.message_rx();
    let _: () = subscriber.subscribe("fr:channel").await?;
    let _: () = subscriber.psubscribe("fr:pattern*").await?;
    subscribed(client).await?;
    let _: () = client.publish("fr:channel", "one").await?;
    assert_eq!(
        messages.recv().await?.value.as_string().as_deref(),
        Some("one")
    );
    let _: () = client.publish("fr:pattern1", "two").await?;
    assert_eq!(
        messages.recv().await?.value.as_string().as_deref(),
        Some("two")
    );
    subscriber.quit().await?;
    Ok(())
}

/// Waits for both subscriptions: fred's futures of them end when they are sent, and it drops the server's confirmations.
async fn subscribed(client: &Client) -> Result<()> {
    for _ in 0..POLLS {
        let (_, channels): (String, u64) =
            custom(client, "PUBSUB", &["NUMSUB", "fr:channel"]).await?;
        let patterns: u64 = custom(client, "PUBSUB", &["NUMPAT"]).await?;
        if channels == 1 && patterns == 1 {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    bail!("the subscriptions are not in force")
}

/// The client connects again by itself and sends again what it had not sent.
async fn reconnect(client: &Client, victim: &Client) -> Result<()> {
    let _: () = victim.set("fr:r", 1, None, None, false).await?;
    let id = id_of(&client_list(client).await?, "fred-other")?;
    let killed: i64 = custom(client, "CLIENT", &["KILL", "ID", &id.to_string()]).await?;
    assert_eq!(killed, 1);
    let value: i64 = victim.get("fr:r").await?;
    assert_eq!(value, 1);
    Ok(())
}

pub(crate) fn cluster(address: SocketAddrV4, offer: Offer) -> Result<()> {
    for version in [RespVersion::RESP2, RespVersion::RESP3] {
        let check = check_cluster(address, version.clone(), offer);
        block_on(Box::pin(check)).with_context(|| format!("{version:?}"))?;
    }
    Ok(())
}

async fn check_cluster(address: SocketAddrV4, version: RespVersion, offer: Offer) -> Result<()> {
    let url = format!("redis-cluster://{address}");
    let client = connect(&url, &version, "fred-cluster").await?;
    let requests = (0..200).map(|n| {
        let client = client.clone();
        async move {
            let _: () = client.set(format!("fc:s{n}"), n, None, None, false).await?;
            client.get::<usize, _>(format!("fc:s{n}")).await
        }
    });
    let values = futures_util::future::join_all(requests).await;
    for (n, value) in values.into_iter().enumerate() {
        assert_eq!(value?, n);
    }
    let found: Vec<_> = client
        .scan_cluster_buffered("fc:s*", Some(50), None)
        .collect()
        .await;
    assert_eq!(found.len(), 200);
    if offer.has("blocking") {
        let _: () = client.rpush("fc:{b}q", "1").await?;
        let popped: (String, String) = client.blpop("fc:{b}q", 5.0).await?;
        assert_eq!(popped.1, "1");
    }
    client.quit().await?;
    Ok(())
}

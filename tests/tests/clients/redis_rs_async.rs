//! redis-rs on tokio: its multiplexed connection, its connection manager, and its cluster client.

use crate::offer::Offer;
use crate::rust::{block_on, id_of, is_blocked};
use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use redis::aio::{ConnectionManager, MultiplexedConnection};
use redis::{AsyncCommands, AsyncConnectionConfig};
use std::net::SocketAddrV4;
use std::time::Duration;

/// How often a condition is looked at, and how many times.
const POLL: Duration = Duration::from_millis(10);
const POLLS: usize = 1_500;

pub(crate) fn plain(address: SocketAddrV4, offer: Offer) -> Result<()> {
    for protocol in ["resp2", "resp3"] {
        let url = format!("redis://{address}/?protocol={protocol}");
        block_on(Box::pin(check(url, offer))).context(protocol)?;
    }
    Ok(())
}

async fn check(url: String, offer: Offer) -> Result<()> {
    let client = redis::Client::open(url)?;
    let mut conn = client.get_multiplexed_async_connection().await?;
    redis::cmd("FLUSHALL").exec_async(&mut conn).await?;
    data(&mut conn).await?;
    pipelines(&mut conn).await?;
    transactions(&mut conn).await?;
    if offer.has("watch") {
        watch(&client, &mut conn).await?;
    }
    if offer.has("blocking") {
        blocking(&client, &mut conn).await?;
    }
    if offer.has("pubsub") {
        pubsub(&client, &mut conn).await?;
    }
    reconnect(&client, &mut conn).await
}

/// Many requests at once over one connection.
async fn data(conn: &mut MultiplexedConnection) -> Result<()> {
    let requests = (0..200).map(|n| {
        let mut conn = conn.clone();
        async move {
            let key = format!("ra:s{n}");
            conn.set::<_, _, ()>(&key, n).await?;
            conn.get::<_, i32>(&key).await
        }
    });
    for (n, value) in futures_util::future::join_all(requests)
        .await
        .into_iter()
        .enumerate()
    {
        ensure!(usize::try_from(value?)? == n);
    }
    conn.hset_multiple::<_, _, _, ()>("ra:h", &[("a", 1), ("b", 2)])
        .await?;
    let hash: std::collections::HashMap<String, i64> = conn.hgetall("ra:h").await?;
    assert_eq!(hash.len(), 2);
    conn.zadd::<_, _, _, ()>("ra:z", "a", 1.5).await?;
    let scores: Vec<(String, f64)> = conn.zrange_withscores("ra:z", 0, -1).await?;
    assert_eq!(scores, [("a".to_owned(), 1.5)]);
    let id: String = conn.xadd("ra:x", "*", &[("f", "1")]).await?;
    let read: redis::streams::StreamReadReply = conn.xread(&["ra:x"], &["0"]).await?;
    assert_eq!(read.keys[0].ids[0].id, id);
    let script = redis::Script::new("return {KEYS[1], ARGV[1]}");
    let answer: (String, String) = script.key("ra:s").arg("v").invoke_async(conn).await?;
    assert_eq!(answer, ("ra:s".to_owned(), "v".to_owned()));
    Ok(())
}

async fn pipelines(conn: &mut MultiplexedConnection) -> Result<()> {
    let mut pipe = redis::pipe();
    for n in 0..500 {
        pipe.set(format!("ra:p{n}"), n)
            .ignore()
            .get(format!("ra:p{n}"));
    }
    let replies: Vec<usize> = pipe.query_async(conn).await?;
    assert_eq!(replies, (0..500).collect::<Vec<_>>());
    let found = conn.scan_match::<_, String>("ra:p*").await?.count().await;
    assert_eq!(found, 500);
    Ok(())
}

async fn transactions(conn: &mut MultiplexedConnection) -> Result<()> {
    let mut pipe = redis::pipe();
    pipe.atomic().set("ra:{tx}a", 1).ignore();
    pipe.incr("ra:{tx}a", 1).rpush("ra:{tx}l", "x");
    let replies: (i64, usize) = pipe.query_async(conn).await?;
    assert_eq!(replies, (2, 1));
    Ok(())
}

async fn watch(client: &redis::Client, conn: &mut MultiplexedConnection) -> Result<()> {
    let mut watching = client.get_multiplexed_async_connection().await?;
    redis::cmd("WATCH")
        .arg("ra:{w}")
        .exec_async(&mut watching)
        .await?;
    conn.set::<_, _, ()>("ra:{w}", "other").await?;
    let mut pipe = redis::pipe();
    pipe.atomic().set("ra:{w}", "mine");
    let replies: Option<(String,)> = pipe.query_async(&mut watching).await?;
    assert_eq!(replies, None);
    Ok(())
}

async fn client_list(conn: &mut MultiplexedConnection) -> Result<String> {
    Ok(redis::cmd("CLIENT").arg("LIST").query_async(conn).await?)
}

async fn blocking(client: &redis::Client, conn: &mut MultiplexedConnection) -> Result<()> {
    // Without a limit for the answer: it is long in coming.
    let patient = AsyncConnectionConfig::new().set_response_timeout(None);
    let mut other = client
        .get_multiplexed_async_connection_with_config(&patient)
        .await?;
    redis::cmd("CLIENT")
        .arg(&["SETNAME", "ra-blocked"])
        .exec_async(&mut other)
        .await?;
    let pop = async { anyhow::Ok(other.blpop::<_, (String, String)>("ra:{b}q", 10.0).await?) };
    let push = async {
        for _ in 0..POLLS {
            if is_blocked(&client_list(conn).await?, "ra-blocked") {
                return anyhow::Ok(conn.rpush::<_, _, ()>("ra:{b}q", "1").await?);
            }
            tokio::time::sleep(POLL).await;
        }
        anyhow::bail!("BLPOP does not wait")
    };
    let (popped, pushed) = futures_util::future::join(pop, push).await;
    pushed?;
    assert_eq!(popped?, ("ra:{b}q".to_owned(), "1".to_owned()));
    Ok(())
}

async fn pubsub(client: &redis::Client, conn: &mut MultiplexedConnection) -> Result<()> {
    let mut subscriber = client.get_async_pubsub().await?;
    subscriber.subscribe("ra:channel").await?;
    subscriber.psubscribe("ra:pattern*").await?;
    let mut messages = subscriber.on_message();
    conn.publish::<_, _, ()>("ra:channel", "one").await?;
    let message = messages.next().await.context("a message")?;
    assert_eq!(message.get_payload::<String>()?, "one");
    conn.publish::<_, _, ()>("ra:pattern1", "two").await?;
    let message = messages.next().await.context("a message")?;
    assert_eq!(message.get_pattern::<String>()?, "ra:pattern*");
    Ok(())
}

/// The connection manager connects again by itself; commands fail until it has noticed.
async fn reconnect(client: &redis::Client, conn: &mut MultiplexedConnection) -> Result<()> {
    let mut victim = ConnectionManager::new(client.clone()).await?;
    redis::cmd("CLIENT")
        .arg(&["SETNAME", "ra-victim"])
        .exec_async(&mut victim)
        .await?;
    victim.set::<_, _, ()>("ra:r", 1).await?;
    let id = id_of(&client_list(conn).await?, "ra-victim")?.to_string();
    let killed: i64 = redis::cmd("CLIENT")
        .arg(&["KILL", "ID", &id])
        .query_async(conn)
        .await?;
    assert_eq!(killed, 1);
    for _ in 0..POLLS {
        if client_list(conn).await?.contains("ra-victim") {
            tokio::time::sleep(POLL).await;
        } else if victim
            .get::<_, i64>("ra:r")
            .await
            .is_ok_and(|value| value == 1)
        {
            return Ok(());
        }
    }
    anyhow::bail!("the connection manager does not connect again")
}

pub(crate) fn cluster(address: SocketAddrV4, offer: Offer) -> Result<()> {
    block_on(Box::pin(check_cluster(address, offer)))
}

async fn check_cluster(address: SocketAddrV4, offer: Offer) -> Result<()> {
    let client = redis::cluster::ClusterClient::new(vec![format!("redis://{address}")])?;
    let mut conn = client.get_async_connection().await?;
    let requests = (0..200).map(|n| {
        let mut conn = conn.clone();
        async move { conn.set::<_, _, ()>(format!("rca:s{n}"), n).await }
    });
    for reply in futures_util::future::join_all(requests).await {
        reply?;
    }
    let keys: Vec<String> = (0..200).map(|n| format!("rca:s{n}")).collect();
    let values: Vec<usize> = conn.mget(&keys).await?;
    assert_eq!(values, (0..200).collect::<Vec<_>>());
    let mut pipe = redis::pipe();
    pipe.atomic()
        .set("rca:{tx}", 1)
        .ignore()
        .incr("rca:{tx}", 1);
    let replies: (i64,) = pipe.query_async(&mut conn).await?;
    assert_eq!(replies, (2,));
    if offer.has("blocking") {
        conn.rpush::<_, _, ()>("rca:{b}q", "1").await?;
        let popped: (String, String) = conn.blpop("rca:{b}q", 5.0).await?;
        assert_eq!(popped.1, "1");
    }
    Ok(())
}

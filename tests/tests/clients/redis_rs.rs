//! redis-rs: its blocking connection and its blocking cluster client.

use crate::offer::Offer;
use crate::rust::{PATIENCE, id_of, is_blocked};
use anyhow::Result;
use harness::wait_until;
use redis::{Commands, Connection, TypedCommands};
use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::time::Duration;

fn connect(address: SocketAddrV4, name: &str) -> Result<Connection> {
    let client = redis::Client::open(format!("redis://{address}"))?;
    let mut conn = client.get_connection()?;
    conn.set_read_timeout(Some(PATIENCE))?;
    redis::cmd("CLIENT")
        .arg(&["SETNAME", name])
        .exec(&mut conn)?;
    Ok(conn)
}

pub(crate) fn plain(address: SocketAddrV4, offer: Offer) -> Result<()> {
    let mut conn = connect(address, "rs")?;
    strings(&mut conn)?;
    collections(&mut conn)?;
    scripts(&mut conn, offer)?;
    pipelines(&mut conn)?;
    transactions(&mut conn)?;
    if offer.has("watch") {
        watch(&mut conn, address)?;
    }
    if offer.has("blocking") {
        blocking(&mut conn, address)?;
    }
    if offer.has("pubsub") {
        pubsub(&mut conn, address)?;
    }
    reconnect(&mut conn, address)
}

fn strings(conn: &mut Connection) -> Result<()> {
    let text: String =
        Commands::set(conn, "rs:s", "v").and_then(|()| Commands::get(conn, "rs:s"))?;
    assert_eq!(text, "v");
    let pairs: Vec<(String, usize)> = (0..50).map(|n| (format!("rs:m{n}"), n)).collect();
    TypedCommands::mset(conn, &pairs)?;
    let keys: Vec<&String> = pairs.iter().map(|(key, _)| key).collect();
    let values: Vec<usize> = Commands::mget(conn, &keys)?;
    assert_eq!(values, (0..50).collect::<Vec<_>>());
    assert_eq!(TypedCommands::del(conn, &keys)?, 50);
    Ok(())
}

fn collections(conn: &mut Connection) -> Result<()> {
    TypedCommands::hset_multiple(conn, "rs:h", &[("a", 1), ("b", 2)])?;
    let hash: HashMap<String, i64> = Commands::hgetall(conn, "rs:h")?;
    let wanted = HashMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
    assert_eq!(hash, wanted);
    TypedCommands::rpush(conn, "rs:l", &[1, 2, 3])?;
    let list: Vec<i64> = Commands::lrange(conn, "rs:l", 0, -1)?;
    assert_eq!(list, [1, 2, 3]);
    TypedCommands::sadd(conn, "rs:{t}1", &["a", "b"])?;
    TypedCommands::sadd(conn, "rs:{t}2", &["b", "c"])?;
    let common: Vec<String> = Commands::sinter(conn, &["rs:{t}1", "rs:{t}2"])?;
    assert_eq!(common, ["b"]);
    TypedCommands::zadd_multiple(conn, "rs:z", &[(1.5, "a"), (2.0, "b")])?;
    let scores: Vec<(String, f64)> = Commands::zrange_withscores(conn, "rs:z", 0, -1)?;
    assert_eq!(scores, [("a".to_owned(), 1.5), ("b".to_owned(), 2.0)]);
    let id: String = Commands::xadd(conn, "rs:x", "*", &[("f", "1")])?;
    assert_eq!(TypedCommands::xlen(conn, "rs:x")?, 1);
    TypedCommands::xgroup_create(conn, "rs:x", "g", "0")?;
    assert_eq!(TypedCommands::xack(conn, "rs:x", "g", &[id])?, 0);
    Ok(())
}

fn scripts(conn: &mut Connection, offer: Offer) -> Result<()> {
    let script = redis::Script::new("return {KEYS[1], ARGV[1]}");
    let answer: (String, String) = script.key("rs:s").arg("v").invoke(conn)?;
    assert_eq!(answer, ("rs:s".to_owned(), "v".to_owned()));
    if offer.has("crossslot") {
        let refused = script.key("a").key("b").invoke::<()>(conn);
        assert!(refused.is_err_and(|error| error.code() == Some("CROSSSLOT")));
    }
    Ok(())
}

fn pipelines(conn: &mut Connection) -> Result<()> {
    let mut pipe = redis::pipe();
    for n in 0..500 {
        pipe.set(format!("rs:p{n}"), n)
            .ignore()
            .get(format!("rs:p{n}"));
    }
    let replies: Vec<usize> = pipe.query(conn)?;
    assert_eq!(replies, (0..500).collect::<Vec<_>>());
    let found = Commands::scan_match::<_, String>(conn, "rs:p*")?.count();
    assert_eq!(found, 500);
    Ok(())
}

fn transactions(conn: &mut Connection) -> Result<()> {
    let mut pipe = redis::pipe();
    pipe.atomic().set("rs:{tx}a", 1).ignore();
    pipe.incr("rs:{tx}a", 1).rpush("rs:{tx}l", "x");
    let replies: (i64, usize) = pipe.query(conn)?;
    assert_eq!(replies, (2, 1));
    Ok(())
}

fn watch(conn: &mut Connection, address: SocketAddrV4) -> Result<()> {
    let mut other = connect(address, "rs-other")?;
    TypedCommands::set(conn, "rs:{w}", 1)?;
    let mut rounds = 0;
    let (value,): (i64,) = redis::transaction(conn, &["rs:{w}"], |conn, pipe| {
        rounds += 1;
        let before: i64 = Commands::get(conn, "rs:{w}")?;
        if rounds == 1 {
            TypedCommands::incr(&mut other, "rs:{w}", 10)?;
        }
        pipe.set("rs:{w}", before * 2)
            .ignore()
            .get("rs:{w}")
            .query(conn)
    })?;
    assert_eq!((value, rounds), (22, 2));
    Ok(())
}

fn blocking(conn: &mut Connection, address: SocketAddrV4) -> Result<()> {
    let mut other = connect(address, "rs-blocked")?;
    let nothing: Option<(String, String)> = Commands::blpop(&mut other, "rs:{b}q", 0.1)?;
    assert_eq!(nothing, None);
    let popped = std::thread::scope(|scope| {
        let waiting = scope
            .spawn(move || Commands::blpop::<_, (String, String)>(&mut other, "rs:{b}q", 10.0));
        wait_until(PATIENCE, "BLPOP waits", || {
            Ok(is_blocked(&client_list(conn)?, "rs-blocked"))
        })?;
        TypedCommands::rpush(conn, "rs:{b}q", "1")?;
        match waiting.join() {
            Ok(popped) => anyhow::Ok(popped?),
            Err(_) => anyhow::bail!("BLPOP panicked"),
        }
    })?;
    assert_eq!(popped, ("rs:{b}q".to_owned(), "1".to_owned()));
    Ok(())
}

fn pubsub(conn: &mut Connection, address: SocketAddrV4) -> Result<()> {
    let mut subscriber = connect(address, "rs-subscriber")?;
    let mut subscriber = subscriber.as_pubsub();
    subscriber.set_read_timeout(Some(PATIENCE))?;
    subscriber.subscribe("rs:channel")?;
    subscriber.psubscribe("rs:pattern*")?;
    // A cluster counts the subscribers at one of its nodes only: the number says nothing.
    TypedCommands::publish(conn, "rs:channel", "one")?;
    assert_eq!(subscriber.get_message()?.get_payload::<String>()?, "one");
    TypedCommands::publish(conn, "rs:pattern1", "two")?;
    let message = subscriber.get_message()?;
    assert_eq!(message.get_pattern::<String>()?, "rs:pattern*");
    assert_eq!(message.get_payload::<String>()?, "two");
    subscriber.unsubscribe("rs:channel")?;
    Ok(())
}

fn client_list(conn: &mut Connection) -> Result<String> {
    Ok(redis::cmd("CLIENT").arg("LIST").query(conn)?)
}

/// This connection does not connect again by itself: it says that it is broken, and the client gives another.
fn reconnect(conn: &mut Connection, address: SocketAddrV4) -> Result<()> {
    let mut victim = connect(address, "rs-victim")?;
    TypedCommands::set(&mut victim, "rs:r", 1)?;
    let id = id_of(&client_list(conn)?, "rs-victim")?;
    let killed: i64 = redis::cmd("CLIENT")
        .arg(&["KILL", "ID", &id.to_string()])
        .query(conn)?;
    assert_eq!(killed, 1);
    wait_until(PATIENCE, "the killed connection says so", || {
        let failed = Commands::get::<_, i64>(&mut victim, "rs:r").is_err();
        Ok(failed && !redis::ConnectionLike::is_open(&victim))
    })?;
    let mut victim = connect(address, "rs-victim")?;
    let value: i64 = Commands::get(&mut victim, "rs:r")?;
    assert_eq!(value, 1);
    Ok(())
}

pub(crate) fn cluster(address: SocketAddrV4, offer: Offer) -> Result<()> {
    let client = redis::cluster::ClusterClient::new(vec![format!("redis://{address}")])?;
    let mut conn = client.get_connection()?;
    for n in 0..200 {
        TypedCommands::set(&mut conn, format!("rc:s{n}"), n)?;
    }
    let keys: Vec<String> = (0..200).map(|n| format!("rc:s{n}")).collect();
    let values: Vec<usize> = Commands::mget(&mut conn, &keys)?;
    assert_eq!(values, (0..200).collect::<Vec<_>>());
    let mut pipe = redis::cluster::cluster_pipe();
    for key in &keys {
        pipe.get(key);
    }
    let values: Vec<usize> = pipe.query(&mut conn)?;
    assert_eq!(values, (0..200).collect::<Vec<_>>());
    let script = redis::Script::new("return {KEYS[1], ARGV[1]}");
    let answer: (String, String) = script.key("rc:s").arg("v").invoke(&mut conn)?;
    assert_eq!(answer, ("rc:s".to_owned(), "v".to_owned()));
    if offer.has("blocking") {
        TypedCommands::rpush(&mut conn, "rc:{b}q", "1")?;
        let timeout = Duration::from_secs(5).as_secs_f64();
        let popped: (String, String) = Commands::blpop(&mut conn, "rc:{b}q", timeout)?;
        assert_eq!(popped, ("rc:{b}q".to_owned(), "1".to_owned()));
    }
    Ok(())
}

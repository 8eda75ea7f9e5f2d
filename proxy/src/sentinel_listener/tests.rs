//! Clients of the Sentinel, over sockets.

use slotway_core::slowlog::SlowLog;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::places::Places;

/// A Sentinel, a client of it, and whether the thread has ended.
async fn asked(facts: &Arc<Facts>) -> (SentinelHandle, TcpStream, JoinHandle<()>) {
    let settings = SentinelSettings {
        services: vec![SentinelService {
            name: Arc::from("mymaster"),
            host: None,
            port: 6379,
            run_id: Arc::from("id"),
        }],
        listener: Arc::new(ListenerSettings::default()),
        facts: Arc::clone(facts),
    };
    let (handle, thread) = spawn(settings).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await;
    let (stream, remote) = listener.accept().await.unwrap();
    let place = Arc::new(Places::default()).take(remote, 0).unwrap();
    handle.accept(stream.into_std().unwrap(), remote, place);
    (handle, client.unwrap(), thread)
}

fn facts() -> Arc<Facts> {
    Arc::new(Facts::new(0, SlowLog::default()))
}

const ADDRESS: &str = "*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n";

#[tokio::test(flavor = "current_thread")]
async fn requests_are_answered_in_order_however_they_come_n27() {
    let (handle, mut client, thread) = asked(&facts()).await;
    assert_eq!(handle.connections(), 1);
    let inline = "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster\r\n";
    let requests = format!("{inline}\r\n*1\r\n$4\r\nPING\r\n").repeat(2_000) + "QUIT\r\nPING\r\n";
    let (mut read, mut write) = client.split();
    let sending = async {
        // In pieces that end anywhere.
        for piece in requests.as_bytes().chunks(777) {
            if write.write_all(piece).await.is_err() {
                return;
            }
        }
    };
    let mut said = String::new();
    let reading = read.read_to_string(&mut said);
    let (_, read) = tokio::join!(sending, reading);
    read.unwrap();
    assert_eq!(
        said,
        format!("{ADDRESS}+PONG\r\n").repeat(2_000) + "+OK\r\n"
    );
    handle.drain();
    thread.join().unwrap();
    assert_eq!(handle.connections(), 0);
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_no_request_or_too_big_ends_the_connection_n27() {
    for (request, error) in [
        (
            "*1\r\n+a\r\n",
            "-ERR Protocol error: expected '$', got '+'\r\n",
        ),
        (
            "*3\r\n$1000000\r\n",
            "-ERR Protocol error: invalid bulk length\r\n",
        ),
        (
            "*1000000\r\n",
            "-ERR Protocol error: invalid multibulk length\r\n",
        ),
        (
            "PING \"\r\n",
            "-ERR Protocol error: unbalanced quotes in request\r\n",
        ),
    ] {
        let (_handle, mut client, _) = asked(&facts()).await;
        client.write_all(request.as_bytes()).await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, error);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn idle_clients_are_closed_but_for_those_that_listen_n27() {
    let facts = facts();
    let mut limits = facts.limits();
    limits.idle_timeout = std::time::Duration::from_millis(50);
    facts.set_limits(limits);
    let (_handle, mut idle, _) = asked(&facts).await;
    let (_other, mut listening, _) = asked(&facts).await;
    listening.write_all(b"SUBSCRIBE a\r\n").await.unwrap();
    let mut said = Vec::new();
    idle.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"", "closed without a word");
    listening.write_all(b"QUIT\r\n").await.unwrap();
    listening.read_to_end(&mut said).await.unwrap();
    assert!(said.ends_with(b":1\r\n+OK\r\n"), "it was still there");
}

#[tokio::test(flavor = "current_thread")]
async fn a_drain_closes_all_connections_n27() {
    let (handle, mut client, thread) = asked(&facts()).await;
    client.write_all(b"PING\r\n").await.unwrap();
    let mut said = [0; 7];
    client.read_exact(&mut said).await.unwrap();
    handle.drain();
    assert_eq!(client.read(&mut said).await.unwrap(), 0);
    thread.join().unwrap();
}

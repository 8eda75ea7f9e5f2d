//! The whole proxy in this process, in front of a cluster that is not there.

use std::process::Command;

use slotway_core::config::Sources;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;

/// What this file says, for a cluster that is not there: port 1 of loopback refuses connections.
pub(super) fn config(file: &str) -> Config {
    let file = format!("upstream.cluster = ['127.0.0.1:1']\n{file}");
    Config::build(Sources {
        file: Some(("test", &file)),
        environment: &[],
        flags: Vec::new(),
        cores: 1,
        read_secret: &|_| Err(String::new()),
    })
    .unwrap()
}

/// Two workers at free ports, for three clients.
const SMALL: &str = "workers = 2\nlistener.listen = '127.0.0.1:0'\nadmin.listen = '127.0.0.1:0'\nlimits.max_clients = 3";

async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8(answer[..length].to_vec()).unwrap()
}

/// Status and body of a request to the admin endpoint.
async fn http(admin: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    stream
        .write_all(format!("{method} {path} HTTP/1.0\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

/// What a client and a scraper meet; ends with the signal that ends the proxy.
async fn visit(bound: Bound) {
    let (address, admin) = (bound.listeners[0], bound.admin.unwrap());
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = TcpStream::connect(address).await.unwrap();
        assert_eq!(exchange(&mut client, "PING\r\n").await, "+PONG\r\n");
        clients.push(client);
    }
    let mut refused = TcpStream::connect(address).await.unwrap();
    assert_eq!(
        exchange(&mut refused, "").await,
        "-ERR max number of clients reached\r\n"
    );

    assert_eq!(
        http(admin, "GET", "/healthz").await,
        (200, "ok\n".to_owned())
    );
    assert_eq!(http(admin, "GET", "/livez").await.0, 200);
    let (status, body) = http(admin, "GET", "/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("the topology is not known yet"), "{body}");
    assert_eq!(http(admin, "POST", "/metrics").await.0, 405);
    let (status, body) = http(admin, "GET", "/elsewhere").await;
    assert!(
        status == 404 && body.contains("Nothing at /elsewhere") && body.contains("/metrics"),
        "{status} {body}"
    );
    let (status, body) = http(admin, "GET", "/topology").await;
    assert!(
        status == 200 && body.contains("\"uncovered_slots\": 16384"),
        "{status} {body}"
    );
    let (_, page) = http(admin, "GET", "/metrics").await;
    for line in [
        "slotway_ready 0",
        "slotway_workers 2",
        "slotway_commands_total{command=\"ping\",outcome=\"ok\"} 3",
        "slotway_downstream_connections_accepted_total 3",
        "slotway_downstream_connections_rejected_total{reason=\"max_clients\"} 1",
    ] {
        assert!(
            page.lines().any(|found| found == line),
            "{line} is not in\n{page}"
        );
    }
    let one_each =
        ["0", "1"].map(|worker| format!("slotway_downstream_connections{{worker=\"{worker}\"}} 0"));
    assert!(
        !page
            .lines()
            .any(|line| one_each.iter().any(|idle| idle == line)),
        "no worker is left idle:\n{page}"
    );

    let killed = Command::new("kill")
        .args(["-TERM", &std::process::id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    // An idle client is told by the end of the stream.
    let mut rest = Vec::new();
    clients[0].read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
    assert!(
        TcpStream::connect(address).await.is_err(),
        "the port is closed"
    );
}

#[test]
fn starts_without_a_cluster_answers_and_ends_on_a_signal() {
    let runtime = runtime().unwrap();
    let code = runtime.block_on(async {
        let mut signals = Signals::new().unwrap();
        let (sender, receiver) = oneshot::channel();
        let served = serve(config(SMALL), &mut signals, None, |bound| {
            sender.send(bound.clone()).unwrap();
        });
        let visited = async { visit(receiver.await.unwrap()).await };
        let both = async { tokio::join!(served, visited).0 };
        tokio::time::timeout(Duration::from_secs(20), both).await
    });
    assert_eq!(code.unwrap().unwrap(), 0);
}

#[test]
fn a_taken_port_is_named_with_a_way_out() {
    let runtime = runtime().unwrap();
    let error = runtime.block_on(async {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = config(SMALL);
        config.listeners[0].listen = taken.local_addr().unwrap();
        let mut signals = Signals::new().unwrap();
        serve(config, &mut signals, None, |_| {
            panic!("nothing can have started")
        })
        .await
        .unwrap_err()
    });
    let text = format!("{error:#}");
    assert!(
        text.starts_with("cannot listen on 127.0.0.1:") && text.contains("--listen"),
        "{text}"
    );
}

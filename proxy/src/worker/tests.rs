//! A worker on the test's own thread, between clients and a played node.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};

use slotway_core::resp::{Args, DecodeStep, RequestDecoder, RequestLimits};
use slotway_core::slot::{SLOT_COUNT, Slot};
use slotway_core::slowlog::SlowLog;
use slotway_core::topology::{Address, Node, NodeId, NodeState, Role, SnapshotBuilder};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::*;
use crate::places::Places;
use crate::reaper::Reaper;

const PATIENCE: Duration = Duration::from_secs(10);
const ID: &str = "07c37dfeb235213a872192d90877d0cd55635b91";
/// Requests of one session under way.
const CAP: usize = 4;

pub(super) fn run_test(test: impl Future<Output = ()>) {
    let runtime = crate::supervisor::runtime().unwrap();
    runtime.block_on(async { timeout(PATIENCE, test).await.expect("in time") });
}

pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

/// The worker and what is around it.
pub(super) struct Stage {
    pub(super) shared: Rc<Shared>,
    pub(super) handle: WorkerHandle,
    listener: TcpListener,
    node: TcpListener,
    ended: tokio::task::JoinHandle<()>,
    _hints: mpsc::UnboundedReceiver<Hint>,
}

impl Stage {
    pub(super) async fn new(change: impl FnOnce(&mut Limits)) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (node, listener) = (
            TcpListener::bind(any).await.unwrap(),
            TcpListener::bind(any).await.unwrap(),
        );
        let mut limits = Limits {
            session_in_flight: CAP,
            ..Limits::default()
        };
        change(&mut limits);
        let (hints, _hints) = mpsc::unbounded_channel();
        let settings = WorkerSettings {
            id: 0,
            limits,
            upstream: Upstream::default(),
            connect_timeout: PATIENCE,
            snapshot: Arc::new(ArcSwap::from_pointee(owned_by(
                node.local_addr().unwrap().port(),
            ))),
            hints,
            registry: Arc::new(ClientRegistry::new()),
            facts: Arc::new(Facts::new(1, SlowLog::default())),
            reaper: Reaper::start().unwrap(),
            scripts: Arc::default(),
        };
        let connections = Arc::new(AtomicUsize::new(0));
        let shared = Rc::new(Shared::new(settings, Arc::clone(&connections)));
        let (messages, mut inbox) = mpsc::unbounded_channel();
        let worker = Rc::clone(&shared);
        let ended = tokio::task::spawn_local(async move { work(&worker, &mut inbox).await });
        Self {
            shared,
            handle: WorkerHandle {
                messages,
                connections,
            },
            listener,
            node,
            ended,
            _hints,
        }
    }

    pub(super) async fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.listener.local_addr().unwrap())
            .await
            .unwrap();
        let (served, remote) = self.listener.accept().await.unwrap();
        let settings = Arc::new(ListenerSettings::default());
        let place = Arc::new(Places::default()).take(remote, 0).unwrap();
        self.handle
            .accept(served.into_std().unwrap(), remote, settings, place);
        client
    }

    /// The worker's connection to the node, past its handshake.
    pub(super) async fn link(&self) -> NodeLink {
        let (stream, _) = self.node.accept().await.unwrap();
        let mut link = NodeLink {
            stream,
            input: Vec::new(),
            decoder: RequestDecoder::default(),
        };
        loop {
            let request = link.request().await;
            let reply = match request.as_str() {
                "CLUSTER MYID" => format!("${}\r\n{ID}\r\n", ID.len()),
                "CLIENT ID" => ":7\r\n".to_owned(),
                _ => "+OK\r\n".to_owned(),
            };
            link.send(reply.as_bytes()).await;
            if request == "CLIENT INFO" {
                return link;
            }
        }
    }

    pub(super) async fn nobody_left(&self) {
        until("the client is forgotten", || self.handle.connections() == 0).await;
        assert_eq!(self.shared.engine.borrow().session_count(), 0);
    }
}

/// All slots at one node.
fn owned_by(port: u16) -> Snapshot {
    let mut builder = SnapshotBuilder::new();
    let node = builder.add_node(Node {
        id: NodeId::new(ID),
        address: Address::new("127.0.0.1", port),
        hostname: None,
        role: Role::Primary,
        primary_id: None,
        state: NodeState::Ok,
        link_connected: true,
        config_epoch: 1,
    });
    for slot in (0..SLOT_COUNT).filter_map(Slot::new) {
        builder.assign(slot, node.unwrap());
    }
    builder.build(1)
}

/// The node's end of a link.
pub(super) struct NodeLink {
    stream: TcpStream,
    input: Vec<u8>,
    decoder: RequestDecoder,
}

impl NodeLink {
    /// The next request, its words parted by blanks.
    pub(super) async fn request(&mut self) -> String {
        loop {
            if !self.input.is_empty()
                && let DecodeStep::Command { len } = self
                    .decoder
                    .decode(&self.input, &RequestLimits::DEFAULT)
                    .unwrap()
            {
                let words: Vec<String> = Args::new(&self.input, self.decoder.ranges())
                    .iter()
                    .map(|word| String::from_utf8_lossy(word).into_owned())
                    .collect();
                self.input.drain(..len);
                return words.join(" ");
            }
            assert!(self.stream.read_buf(&mut self.input).await.unwrap() > 0);
        }
    }

    pub(super) async fn send(&mut self, reply: &[u8]) {
        self.stream.write_all(reply).await.unwrap();
    }
}

/// A reply of a mebibyte.
fn mebibyte() -> Vec<u8> {
    [b"$1048576\r\n".as_slice(), &vec![b'v'; 1 << 20], b"\r\n"].concat()
}

async fn rest(mut client: TcpStream) -> std::io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.map(|_| rest)
}

#[test]
fn a_half_closed_client_gets_the_replies_to_what_it_sent() {
    run_test(async {
        let stage = Stage::new(|_| {}).await;
        let mut client = stage.client().await;
        client
            .write_all(b"PING\r\nGET k\r\nPING\r\n")
            .await
            .unwrap();
        client.shutdown().await.unwrap();
        let mut link = stage.link().await;
        assert_eq!(link.request().await, "GET k");
        sleep(Duration::from_millis(20)).await;
        link.send(b"$1\r\nv\r\n").await;
        assert_eq!(
            rest(client).await.unwrap(),
            b"+PONG\r\n$1\r\nv\r\n+PONG\r\n"
        );
        stage.nobody_left().await;
    });
}

#[test]
fn a_half_closed_client_is_not_kept_for_a_node_that_hangs() {
    run_test(async {
        let stage = Stage::new(|_| {}).await;
        let mut client = stage.client().await;
        client.write_all(b"GET k\r\n").await.unwrap();
        client.shutdown().await.unwrap();
        let mut link = stage.link().await;
        assert_eq!(link.request().await, "GET k");
        stage.nobody_left().await;
    });
}

/// A client that has filled its pipeline at a node that does not answer yet, with more in its socket than is read of it.
async fn paused_client(stage: &Stage) -> (TcpStream, NodeLink) {
    let mut client = stage.client().await;
    let request = format!("GET {}\r\n", "k".repeat(4000));
    client
        .write_all(request.repeat(16).as_bytes())
        .await
        .unwrap();
    let mut link = stage.link().await;
    for _ in 0..CAP {
        assert!(link.request().await.starts_with("GET kkk"));
    }
    (client, link)
}

#[test]
fn pk4_a_reset_is_noticed_while_the_client_is_not_read() {
    run_test(async {
        let stage = Stage::new(|_| {}).await;
        let (client, _link) = paused_client(&stage).await;
        SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        stage.nobody_left().await;
    });
}

#[test]
fn pk4_an_end_is_noticed_while_the_client_is_not_read() {
    run_test(async {
        let stage = Stage::new(|_| {}).await;
        let (mut client, _link) = paused_client(&stage).await;
        client.shutdown().await.unwrap();
        stage.nobody_left().await;
    });
}

#[test]
fn a_client_that_pipelines_and_ends_has_everything_executed_while_the_node_answers() {
    run_test(async {
        let stage = Stage::new(|_| {}).await;
        let mut client = stage.client().await;
        let count = 10_000;
        let mut link = tokio::join!(
            async {
                client
                    .write_all(&b"INCR k\r\n".repeat(count))
                    .await
                    .unwrap();
                client.shutdown().await.unwrap();
            },
            stage.link()
        )
        .1;
        let node = async {
            for _ in 0..count {
                assert_eq!(link.request().await, "INCR k");
                link.send(b":1\r\n").await;
            }
        };
        let (replies, ()) = tokio::join!(rest(client), node);
        assert_eq!(replies.unwrap().len(), count * 4);
        stage.nobody_left().await;
    });
}

#[test]
fn d12_a_drain_loses_no_reply_of_a_client_that_goes_on_sending() {
    run_test(async {
        let stage = Stage::new(|_| {}).await;
        let (client, mut link) = paused_client(&stage).await;
        // Most of the replies are in the worker's socket, not the client's, when the worker is done with them.
        SockRef::from(&client)
            .set_recv_buffer_size(16 << 10)
            .unwrap();
        stage.handle.send(WorkerMessage::Drain);
        let reply = mebibyte();
        let answered = Cell::new(CAP);
        let node = async {
            for _ in 0..CAP {
                link.send(&reply).await;
            }
            // What the worker had read before it was told.
            loop {
                link.request().await;
                answered.set(answered.get() + 1);
                link.send(&reply).await;
            }
        };
        let client = async {
            // The replies are written by then, and what the client sent is still unread.
            sleep(Duration::from_millis(200)).await;
            rest(client).await
        };
        let replies = tokio::select! {
            () = node => unreachable!("it goes on as long as the link"),
            replies = client => replies,
        };
        assert!(answered.get() < 16, "not everything was taken");
        assert_eq!(replies.unwrap().len(), answered.get() * reply.len());
        until("the worker ends", || stage.ended.is_finished()).await;
    });
}

#[test]
fn d12_a_drain_does_not_wait_for_idle_clients() {
    run_test(async {
        let stage = Stage::new(|_| {}).await;
        let idle = stage.client().await;
        until("the client is served", || {
            stage.shared.engine.borrow().session_count() == 1
        })
        .await;
        sleep(client::GRACE).await;
        let start = std::time::Instant::now();
        stage.handle.send(WorkerMessage::Drain);
        until("the worker ends", || stage.ended.is_finished()).await;
        assert!(start.elapsed() < client::GRACE / 2);
        drop(idle);
    });
}

#[test]
fn d13_a_client_that_reads_nothing_is_disconnected_and_others_are_served() {
    run_test(async {
        let stage = Stage::new(|limits| limits.output_max_bytes = 1 << 20).await;
        let (mut deaf, mut other) = (stage.client().await, stage.client().await);
        SockRef::from(&deaf).set_recv_buffer_size(4096).unwrap();
        // The proxy may open another connection when it gives up one for a client that does not read.
        let node = async {
            loop {
                let mut link = stage.link().await;
                let reply = mebibyte();
                tokio::task::spawn_local(async move {
                    loop {
                        match link.request().await.as_str() {
                            "GET big" => link.send(&reply).await,
                            _ => link.send(b"$-1\r\n").await,
                        }
                    }
                });
            }
        };
        let clients = async {
            let big = b"GET big\r\n".repeat(64);
            deaf.write_all(&big).await.unwrap();
            until("the deaf client is disconnected", || {
                stage.handle.connections() == 1
            })
            .await;
            other.write_all(b"GET k\r\n").await.unwrap();
            let mut reply = [0; 5];
            other.read_exact(&mut reply).await.unwrap();
            assert_eq!(&reply, b"$-1\r\n");
        };
        tokio::select! {
            () = node => {}
            () = clients => {}
        }
        let closed = stage.shared.engine.borrow().metrics().closed;
        assert_eq!(
            closed[slotway_core::metrics::CloseReason::OutputLimit.index()],
            1
        );
    });
}

#[test]
fn d4_what_a_node_answered_before_its_end_counts_though_writing_to_it_fails() {
    run_test(async {
        let stage = Stage::new(|_| {}).await;
        let (mut first, mut second) = (stage.client().await, stage.client().await);
        first.write_all(b"INCR k\r\n").await.unwrap();
        let mut link = stage.link().await;
        assert_eq!(link.request().await, "INCR k");
        // As if the node were gone: the next write fails, reading does not.
        for io in stage.shared.links.borrow().iter().flatten() {
            SockRef::from(io.write.as_ref())
                .shutdown(std::net::Shutdown::Write)
                .unwrap();
        }
        second.write_all(b"INCR k\r\n").await.unwrap();
        until("writing has failed", || {
            let links = stage.shared.links.borrow();
            links.iter().flatten().all(|io| io.broken)
        })
        .await;
        link.send(b":1\r\n").await;
        drop(link);
        let mut again = stage.link().await;
        assert_eq!(again.request().await, "INCR k", "the one that was not sent");
        again.send(b":2\r\n").await;
        for (client, expected) in [(&mut first, b":1\r\n"), (&mut second, b":2\r\n")] {
            let mut reply = [0; 4];
            client.read_exact(&mut reply).await.unwrap();
            assert_eq!(&reply, expected);
        }
    });
}

#[test]
fn a_task_that_panics_ends_the_worker() {
    run_test(async {
        let stage = Stage::new(|_| {}).await;
        let client = stage.client().await;
        let shared = Rc::clone(&stage.shared);
        let _ = tokio::task::spawn_local(async move {
            let _guard = shared::PanicGuard::new(&shared);
            panic!("as an engine in a state nobody expected would");
        })
        .await;
        until("the worker ends", || stage.ended.is_finished()).await;
        drop(client);
    });
}

use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slotway_core::config::{Config, Sources, UpstreamConfig};
use slotway_core::slot::Slot;
use slotway_core::topology::replication::LagLimits;
use slotway_core::topology::{Address, Node, NodeId, NodeState, Role, Snapshot, SnapshotBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::ReplicaStatus;
use super::shard::Shard;

const LIMITS: LagLimits = LagLimits {
    time: Duration::from_secs(10),
    bytes: 1000,
};

/// A server that answers `INFO replication` with what it is told to, or not at all.
struct Server {
    address: Address,
    says: Rc<RefCell<Option<String>>>,
}

impl Server {
    async fn start(says: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::new("127.0.0.1", listener.local_addr().unwrap().port());
        let says = Rc::new(RefCell::new(Some(says.to_owned())));
        let told = Rc::clone(&says);
        spawn_local(async move {
            while let Ok((mut stream, from)) = listener.accept().await {
                let told = Rc::clone(&told);
                spawn_local(async move {
                    let mut asked = [0; 256];
                    while let Ok(count) = stream.read(&mut asked).await {
                        if count == 0 {
                            return;
                        }
                        let is_first = asked[..count].windows(6).any(|word| word == b"server");
                        let answer = match told.borrow().clone() {
                            Some(_) if is_first => format!("run_id:{}\r\n", from.port()),
                            Some(answer) => answer,
                            None => String::new(),
                        };
                        if answer.is_empty() {
                            return pending().await;
                        }
                        let answer = match answer.starts_with('-') {
                            true => answer,
                            false => format!("${}\r\n{answer}\r\n", answer.len()),
                        };
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        Self { address, says }
    }

    fn says(&self, answer: &str) {
        *self.says.borrow_mut() = Some(answer.to_owned());
    }

    fn hangs(&self) {
        *self.says.borrow_mut() = None;
    }
}

fn primary(offset: u64, replicas: &[&Server]) -> String {
    let mut answer = format!("role:master\r\nmaster_replid:a\r\nmaster_repl_offset:{offset}\r\n");
    for (number, replica) in replicas.iter().enumerate() {
        let Address { host, port } = &replica.address;
        answer += &format!("slave{number}:ip={host},port={port},state=online\r\n");
    }
    answer
}

fn replica(offset: u64, link: &str) -> String {
    format!(
        "role:slave\r\nmaster_replid:a\r\nslave_repl_offset:{offset}\r\nmaster_link_status:{link}\r\n"
    )
}

fn upstream(key: &str) -> Arc<UpstreamConfig> {
    let text = format!("[upstream]\n{key}\n");
    let config = Config::build(Sources {
        file: Some(("test", &text)),
        environment: &[],
        flags: Vec::new(),
        cores: 1,
        read_secret: &|_| Err("there is none".to_owned()),
    });
    Arc::new(config.unwrap().upstreams.remove(0))
}

/// A shard of these; the last one failed, if `failed`.
fn snapshot(primary: &Server, replicas: &[&Server], failed: bool) -> Snapshot {
    let mut builder = SnapshotBuilder::new();
    let node = |id: &str, server: &Server| Node {
        id: NodeId::new(id),
        address: server.address.clone(),
        hostname: None,
        role: Role::Primary,
        primary_id: None,
        state: NodeState::Ok,
        link_connected: true,
        config_epoch: 1,
    };
    let owner = builder.add_node(node("p", primary)).unwrap();
    builder.assign(Slot::new(0).unwrap(), owner);
    for (number, replica) in replicas.iter().enumerate() {
        let is_failed = failed && number + 1 == replicas.len();
        let added = builder.add_node(Node {
            role: Role::Replica,
            primary_id: Some(NodeId::new("p")),
            state: if is_failed {
                NodeState::Failed
            } else {
                NodeState::Ok
            },
            ..node(&format!("r{number}"), replica)
        });
        added.unwrap();
    }
    builder.build(1)
}

/// One round of questions; what is known after it, in the order of addresses.
async fn round(
    shard: Shard,
    snapshot: &Snapshot,
    upstream: &Arc<UpstreamConfig>,
    started: Instant,
) -> (Shard, Vec<ReplicaStatus>) {
    let mut shard = shard.ask(snapshot, 0, Arc::clone(upstream), started).await;
    let id = NodeId::new("p");
    let judged = shard.judge(&id, Instant::now(), started, LIMITS, upstream);
    (shard, judged.replicas)
}

fn of<'s>(known: &'s [ReplicaStatus], server: &Server) -> Option<&'s ReplicaStatus> {
    known.iter().find(|it| it.address == server.address)
}

fn why_not(known: &[ReplicaStatus], server: &Server) -> Option<String> {
    of(known, server).expect("it is shown").why_not()
}

fn run(test: impl Future<Output = ()>) {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_all().build_local(LocalOptions::default());
    runtime.unwrap().block_on(test);
}

#[test]
fn one_that_hangs_does_not_hold_up_what_is_known_of_the_others() {
    run(async {
        let (good, bad) = (
            Server::start(&replica(7, "up")).await,
            Server::start(&replica(7, "up")).await,
        );
        let first = Server::start(&primary(7, &[])).await;
        let snapshot = snapshot(&first, &[&good, &bad], false);
        let (upstream, started) = (upstream("cluster = ['h:1']"), Instant::now());
        let (mut shard, mut known) = round(Shard::default(), &snapshot, &upstream, started).await;
        assert_eq!(
            (why_not(&known, &good), why_not(&known, &bad)),
            (None, None)
        );
        let id = of(&known, &bad).unwrap().id.clone();
        bad.hangs();
        let hung = Instant::now();
        while why_not(&known, &bad).is_none() {
            let begun = Instant::now();
            (shard, known) = round(shard, &snapshot, &upstream, started).await;
            assert!(
                begun.elapsed() < Duration::from_millis(600),
                "{:?}",
                begun.elapsed()
            );
            let lag = of(&known, &good).unwrap().lag;
            assert_eq!(lag.unreadable, None);
            assert!(
                lag.time.unwrap() < Duration::from_millis(600),
                "asked in each round"
            );
            assert!(
                hung.elapsed() < Duration::from_secs(5),
                "it is not seen to hang"
            );
        }
        assert_eq!(
            why_not(&known, &bad).unwrap(),
            "does not answer: nothing within 900 ms"
        );
        assert_eq!(
            of(&known, &bad).unwrap().id,
            id,
            "the same series as before"
        );
    });
}

#[test]
fn replicas_of_one_server_that_lost_their_link_are_shown_until_they_follow_another() {
    run(async {
        let (one, two) = (
            Server::start(&replica(7, "up")).await,
            Server::start(&replica(7, "up")).await,
        );
        let first = Server::start("").await;
        // One of them twice: by an old connection, too.
        first.says(&primary(7, &[&one, &two, &two]));
        let snapshot = snapshot(&first, &[], false);
        let upstream = upstream(&format!("server = '{}'", first.address));
        let started = Instant::now();
        let (shard, known) = round(Shard::default(), &snapshot, &upstream, started).await;
        assert_eq!(known.len(), 2);
        assert_eq!((why_not(&known, &one), why_not(&known, &two)), (None, None));
        assert!(of(&known, &one).unwrap().id.is_some());
        first.says(&primary(7, &[&one]));
        two.says(&replica(7, "down"));
        let (shard, known) = round(shard, &snapshot, &upstream, started).await;
        assert_eq!(
            why_not(&known, &two).unwrap(),
            "its link to the primary is down"
        );
        // A primary that is a replica now has none that it knows of.
        first.says(&replica(7, "up"));
        let (shard, known) = round(shard, &snapshot, &upstream, started).await;
        assert_eq!(known.len(), 2);
        first.says(&primary(7, &[&one]));
        two.says(&replica(7, "up").replace("replid:a", "replid:b"));
        let (shard, _) = round(shard, &snapshot, &upstream, started).await;
        let (_, known) = round(shard, &snapshot, &upstream, started).await;
        assert!(of(&known, &two).is_none());
    });
}

#[test]
fn what_the_cluster_calls_failed_is_shown_but_not_read() {
    run(async {
        let (one, two) = (
            Server::start(&replica(7, "up")).await,
            Server::start(&replica(7, "up")).await,
        );
        let first = Server::start(&primary(7, &[])).await;
        let snapshot = snapshot(&first, &[&one, &two], true);
        let upstream = upstream("cluster = ['h:1']");
        let (_, known) = round(Shard::default(), &snapshot, &upstream, Instant::now()).await;
        assert_eq!(why_not(&known, &one), None);
        let reason = why_not(&known, &two).unwrap();
        assert_eq!(reason, "has failed, as the nodes of the cluster say");
    });
}

#[test]
fn an_error_is_shown_as_the_server_says_it() {
    run(async {
        let refusing =
            Server::start("-NOPERM this user has no permissions to run the 'info' command\r\n")
                .await;
        let first = Server::start(&primary(7, &[])).await;
        let snapshot = snapshot(&first, &[&refusing], false);
        let upstream = upstream("cluster = ['h:1']");
        let (_, known) = round(Shard::default(), &snapshot, &upstream, Instant::now()).await;
        let reason = why_not(&known, &refusing).unwrap();
        assert_eq!(
            reason,
            "does not answer: NOPERM this user has no permissions to run the 'info' command"
        );
    });
}

//! The engine with clients and nodes but without sockets: what a request costs when nothing is paid to the kernel.
//!
//! A [`Stage`] is driven in turns, as a worker drives its engine: the bytes of every client in, one write per link, the bytes of
//! every node in, one write per session. Every client sends the same in every turn, so the nodes' replies are the same too: they are
//! worked out and checked in a rehearsal, and only given back afterwards. What is measured is the engine and little else.

mod cluster;
mod node;
mod workload;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slotway_core::engine::{Action, Engine, Limits, LinkKey, SessionKey, Upstream};
use slotway_core::local::ListenerSettings;
use slotway_core::local::testing::TestEnvironment;
use slotway_core::session::client_state::ClientState;
use slotway_core::time::Timestamp;

pub use cluster::three_nodes;
use node::Node;
pub use workload::{COMMANDS, CommandKind, Workload};

/// Bytes read from a client at once, and from a node; those of the worker.
const CLIENT_READ: usize = 16 << 10;
const NODE_READ: usize = 64 << 10;

/// How long a turn takes: about what it does under load.
const TURN: Duration = Duration::from_micros(200);

/// Turns, and commands, after which estimates, buffers and tables are what they stay.
const REHEARSALS: usize = 20;
const REHEARSED_COMMANDS: usize = 2_000;

/// One client connection: what it sends in a turn, and what it has to get for that.
struct Client {
    key: SessionKey,
    requests: Vec<u8>,
    replies: Vec<u8>,
}

/// One connection to a node: how much is written to it in a turn, and what the node replies.
struct Peer {
    link: LinkKey,
    node: Node,
    written: usize,
    replies: Vec<u8>,
    /// So many bytes of the replies were read.
    given: usize,
}

/// An engine, clients that all do the same, and three nodes that own a third of the slots each.
pub struct Stage {
    engine: Engine,
    now: Timestamp,
    value_bytes: usize,
    clients: Vec<Client>,
    peers: Vec<Peer>,
}

impl Stage {
    /// A stage on which `workload` has been running for a while.
    ///
    /// # Panics
    /// When a client does not get what it has to get.
    #[must_use]
    pub fn new(workload: &Workload) -> Self {
        let mut engine = Engine::new(Limits::default(), Upstream::default(), 1);
        engine.set_snapshot(Arc::new(three_nodes()));
        let clients = (0..workload.clients)
            .map(|number| Client {
                key: enter(&mut engine),
                requests: workload.requests(number),
                replies: workload.replies(number),
            })
            .collect();
        let mut stage = Self {
            engine,
            now: Timestamp::ZERO,
            value_bytes: workload.value_bytes,
            clients,
            peers: Vec::new(),
        };
        let turns = REHEARSED_COMMANDS / workload.commands_per_turn();
        for _ in 0..turns.max(REHEARSALS) {
            stage.rehearse();
        }
        stage
    }

    /// One turn with checks: nodes read what they are sent, and clients what they get. Remembers what nodes reply.
    ///
    /// # Panics
    /// When a client does not get what it has to get.
    pub fn rehearse(&mut self) {
        self.pass_time();
        for peer in &mut self.peers {
            peer.written = 0;
            peer.replies.clear();
            peer.given = 0;
        }
        let mut sent = vec![0; self.clients.len()];
        let mut outputs = vec![Vec::new(); self.clients.len()];
        loop {
            self.send_what_is_wanted(&mut sent);
            self.act();
            let is_idle = !self.let_nodes_work();
            while let Some(key) = self.engine.next_dirty_session() {
                let output = self.engine.session_output(key);
                let count = output.len();
                if let Some(seen) = outputs.get_mut(key.index()) {
                    seen.extend_from_slice(output);
                }
                self.engine.on_session_written(key, count);
            }
            if is_idle && !self.engine.has_work() {
                break;
            }
        }
        for (client, output) in self.clients.iter().zip(outputs) {
            assert!(client.replies == output, "a client gets other replies");
        }
    }

    /// One turn as rehearsed: every client sends its requests, every node replies, every client gets its replies.
    ///
    /// # Panics
    /// When other numbers of bytes are written than in the rehearsal.
    pub fn turn(&mut self) {
        self.pass_time();
        self.send_requests();
        self.write_links();
        self.give_replies();
        self.write_sessions();
    }

    fn pass_time(&mut self) {
        self.now = self.now.after(TURN);
        self.engine.set_now(self.now);
    }

    fn send_requests(&mut self) {
        for client in &self.clients {
            for bytes in client.requests.chunks(CLIENT_READ) {
                assert!(self.engine.wants_input(client.key), "a client is not read");
                self.engine.on_client(client.key, bytes);
            }
        }
    }

    /// Clients send on from where they are, as far as they are read: the first time that is not everything at once.
    fn send_what_is_wanted(&mut self, sent: &mut [usize]) {
        for (client, sent) in self.clients.iter().zip(sent) {
            while let Some(bytes) = client.requests.chunks(CLIENT_READ).nth(*sent)
                && self.engine.wants_input(client.key)
            {
                self.engine.on_client(client.key, bytes);
                *sent += 1;
            }
        }
    }

    fn write_links(&mut self) {
        assert!(
            self.engine.next_action().is_none(),
            "a turn of its own kind"
        );
        while let Some(link) = self.engine.next_dirty_link() {
            let count = self.engine.link_output(link).len();
            let peer = self.peers.iter().find(|peer| peer.link == link);
            assert!(
                peer.is_some_and(|peer| peer.written == count),
                "a node gets other requests"
            );
            self.engine.on_link_written(link, count);
        }
    }

    fn give_replies(&mut self) {
        for peer in &self.peers {
            for bytes in peer.replies.chunks(NODE_READ) {
                self.engine.on_link_read(peer.link, bytes);
            }
        }
    }

    fn write_sessions(&mut self) {
        while let Some(key) = self.engine.next_dirty_session() {
            let count = self.engine.session_output(key).len();
            let client = self.clients.get(key.index());
            assert!(
                client.is_some_and(|client| client.replies.len() == count),
                "a client gets other replies"
            );
            self.engine.on_session_written(key, count);
            assert!(self.engine.must_close(key).is_none());
        }
    }

    /// Opens the connections that the engine asks for.
    fn act(&mut self) {
        while let Some(action) = self.engine.next_action() {
            let Action::Connect { link, address } = action else {
                continue;
            };
            self.peers.push(Peer {
                link,
                node: Node::at(&address, self.value_bytes),
                written: 0,
                replies: Vec::new(),
                given: 0,
            });
            self.engine.on_link_connected(link);
        }
    }

    /// Writes to every link, then reads what the nodes reply; whether there was anything to write.
    fn let_nodes_work(&mut self) -> bool {
        let mut wrote = false;
        while let Some(link) = self.engine.next_dirty_link() {
            let Some(peer) = self.peers.iter_mut().find(|peer| peer.link == link) else {
                continue;
            };
            let output = self.engine.link_output(link);
            let count = output.len();
            peer.written += count;
            peer.node.take(output, &mut peer.replies);
            self.engine.on_link_written(link, count);
            wrote = true;
        }
        for peer in &mut self.peers {
            let replies = peer.replies.get(peer.given..).unwrap_or_default();
            for bytes in replies.chunks(NODE_READ) {
                self.engine.on_link_read(peer.link, bytes);
            }
            peer.given = peer.replies.len();
        }
        wrote
    }
}

fn enter(engine: &mut Engine) -> SessionKey {
    let listener = ListenerSettings::default();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 6379));
    let state = ClientState::new(1, address, address, listener.password_required());
    engine.add_session(state, Rc::new(TestEnvironment::of(listener)))
}

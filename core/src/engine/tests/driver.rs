//! Plays the shell and the nodes: opens links at once, answers their handshake, and keeps what each node was sent.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Action, Engine, Limits, LinkKey, LinkLoss, ScriptNews, SessionKey, Upstream};
use crate::local::testing::TestEnvironment;
use crate::local::{Databases, ListenerSettings, Secret};
use crate::metrics::CloseReason;
use crate::resp::{Args, DecodeStep, Protocol, RequestDecoder, RequestLimits, write};
use crate::session::client_state::ClientState;
use crate::slot::{SLOT_COUNT, Slot};
use crate::time::Timestamp;
use crate::topology::{
    Address, Hint, Node, NodeId, NodeState, OpenSlot, Readers, Role, Snapshot, SnapshotBuilder,
};

/// Nodes of the played cluster; node `n` listens on port 7000 + n.
pub(super) const NODES: u16 = 3;

/// In place of a node's port: the slot has no owner.
pub(super) const NOBODY: u16 = 0;

/// One connection as the node sees it.
struct Connection {
    port: u16,
    protocol: Protocol,
    /// The database of its handshake.
    database: u16,
    /// A second connection of its kind: it shows whether the node is alive.
    probe: bool,
    /// It carries subscriptions.
    feed: bool,
    bytes: Vec<u8>,
    commands: Vec<String>,
    /// How many of them had a reply, as far as whole ones were given.
    answered: usize,
}

impl Connection {
    /// It is for requests.
    fn is_main(&self) -> bool {
        !self.probe && !self.feed
    }
}

pub(super) struct Driver {
    pub(super) engine: Engine,
    pub(super) hints: Vec<Hint>,
    pub(super) script_news: Vec<ScriptNews>,
    connections: HashMap<LinkKey, Connection>,
    /// Links asked for while connections are refused or held.
    pub(super) pending: Vec<(LinkKey, Address)>,
    /// Connections are opened at once.
    pub(super) open: bool,
    /// Sizes of buffers that are still being dropped, if that takes a while.
    pub(super) dropping: Option<Vec<usize>>,
    /// Nodes take new connections and bytes, but say nothing of their own.
    pub(super) mute: bool,
    /// They say this to new connections, which they close.
    pub(super) turns_away: Option<&'static str>,
    /// They have so many databases.
    pub(super) databases: u16,
    /// Longest output of a client so far.
    pub(super) peak_output: usize,
    now: Timestamp,
    /// Clients that came in by [`Self::client_of`].
    clients: u64,
    /// Nodes number their connections upwards.
    pub(super) next_client_id: u32,
    /// They are new enough for CLIENT INFO.
    pub(super) tells_addresses: bool,
    /// The node that was at the first port is at the second one.
    pub(super) moved: Option<(u16, u16)>,
}

impl Driver {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let mut driver = Self::without_topology(change);
        driver.engine.set_snapshot(Arc::new(snapshot(1, &[])));
        driver.settle();
        driver
    }

    pub(super) fn without_topology(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits {
            node_timeout: Duration::from_secs(5),
            ..Limits::default()
        };
        change(&mut limits);
        Self {
            engine: Engine::new(limits, Upstream::default(), 1),
            hints: Vec::new(),
            script_news: Vec::new(),
            connections: HashMap::new(),
            pending: Vec::new(),
            open: true,
            dropping: None,
            mute: false,
            turns_away: None,
            databases: 16,
            peak_output: 0,
            now: Timestamp::ZERO,
            clients: 0,
            next_client_id: 100,
            tells_addresses: false,
            moved: None,
        }
    }

    pub(super) fn client(&mut self) -> SessionKey {
        self.client_of(ListenerSettings::default())
    }

    pub(super) fn client_with_password(&mut self, password: &str) -> SessionKey {
        self.client_of(ListenerSettings {
            passwords: vec![Secret::new(password.as_bytes())],
            ..ListenerSettings::default()
        })
    }

    /// A client that comes in by such a listener.
    pub(super) fn client_of(&mut self, listener: ListenerSettings) -> SessionKey {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 6379));
        self.clients += 1;
        let needs_password = listener.password_required();
        let state = ClientState::new(self.clients, address, address, needs_password);
        self.engine
            .add_session(state, Rc::new(TestEnvironment::of(listener)))
    }

    /// A client that is told of `databases`, as long as its environment says so.
    pub(super) fn client_choosing(
        &mut self,
        databases: Option<Databases>,
    ) -> (SessionKey, Rc<TestEnvironment>) {
        self.client_of_choosing(ListenerSettings::default(), databases)
    }

    /// The same of one that comes in by such a listener.
    pub(super) fn client_of_choosing(
        &mut self,
        listener: ListenerSettings,
        databases: Option<Databases>,
    ) -> (SessionKey, Rc<TestEnvironment>) {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 6379));
        let env = Rc::new(TestEnvironment {
            databases: RefCell::new(databases),
            ..TestEnvironment::of(listener)
        });
        let state = ClientState::new(1, address, address, false);
        (self.engine.add_session(state, env.clone()), env)
    }

    /// The connections to a node in a database, in the order they were opened, and what was sent over each.
    pub(super) fn in_database(&self, port: u16, database: u16) -> Vec<(LinkKey, Vec<String>)> {
        let links = self.links_to_in_order(port).into_iter();
        let there = links.filter(|link| self.connections[link].database == database);
        there
            .map(|link| (link, self.connections[&link].commands.clone()))
            .collect()
    }

    pub(super) fn send(&mut self, client: SessionKey, command: &str) {
        self.send_raw(client, &encode(command));
    }

    pub(super) fn send_raw(&mut self, client: SessionKey, bytes: &[u8]) {
        self.engine.on_client(client, bytes);
        self.settle();
    }

    pub(super) fn leave(&mut self, client: SessionKey) {
        self.engine.remove_session(client, CloseReason::Client);
        self.settle();
    }

    /// What the client got since the last call.
    pub(super) fn output(&mut self, client: SessionKey) -> String {
        let output = self.engine.session_output(client).to_vec();
        self.peak_output = self.peak_output.max(output.len());
        self.engine.on_session_written(client, output.len());
        self.settle();
        String::from_utf8(output).unwrap()
    }

    pub(super) fn owner(&self, key: &str) -> u16 {
        owner_of(Slot::of_key(key.as_bytes()))
    }

    /// All requests a node got over its RESP2 connection.
    pub(super) fn requests(&self, port: u16) -> Vec<String> {
        self.commands(port, Protocol::Resp2)
    }

    /// What a node has of a request that is not whole.
    pub(super) fn part_of_request(&self, port: u16) -> String {
        let to = self.connections.values().filter(|to| to.port == port);
        let parts: Vec<&[u8]> = to.map(|to| &*to.bytes).collect();
        String::from_utf8(parts.concat()).unwrap()
    }

    /// All requests a node got over all its connections.
    pub(super) fn all_requests(&self, port: u16) -> Vec<String> {
        let to = self.connections.values().filter(|to| to.port == port);
        to.flat_map(|to| to.commands.clone()).collect()
    }

    pub(super) fn resp3_requests(&self, port: u16) -> Vec<String> {
        self.commands(port, Protocol::Resp3)
    }

    fn commands(&self, port: u16, protocol: Protocol) -> Vec<String> {
        let found = self
            .connections
            .values()
            .find(|found| found.port == port && found.protocol == protocol && found.is_main());
        found
            .map(|found| found.commands.clone())
            .unwrap_or_default()
    }

    pub(super) fn reply(&mut self, port: u16, bytes: &str) {
        let link = self.link(port, Protocol::Resp2);
        self.reply_on(link, bytes);
    }

    /// Gives `reply` to everything that was asked of the node, on all its connections; how much that was.
    pub(super) fn answer_all(&mut self, port: u16, reply: &str) -> usize {
        let asked: Vec<(LinkKey, usize)> = self
            .connections
            .iter()
            .filter(|(_, to)| to.port == port && to.commands.len() > to.answered)
            .map(|(link, to)| (*link, to.commands.len() - to.answered))
            .collect();
        for (link, count) in &asked {
            self.reply_on(*link, &reply.repeat(*count));
        }
        asked.iter().map(|(_, count)| count).sum()
    }

    /// Replies on the one connection to the node where something was asked.
    pub(super) fn reply_where_asked(&mut self, port: u16, bytes: &str) {
        let link = self.link_where_asked(port);
        self.reply_on(link, bytes);
    }

    /// The one connection to the node where something was asked and not answered.
    pub(super) fn link_where_asked(&self, port: u16) -> LinkKey {
        let asked = self
            .connections
            .iter()
            .find(|(_, to)| to.port == port && to.commands.len() > to.answered);
        *asked.expect("nothing was asked").0
    }

    pub(super) fn reply_on(&mut self, link: LinkKey, bytes: &str) {
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.answered = connection.commands.len();
        }
        self.engine.on_link_read(link, bytes.as_bytes());
        self.settle();
    }

    pub(super) fn reply_resp3(&mut self, port: u16, bytes: &str) {
        let link = self.link(port, Protocol::Resp3);
        self.engine.on_link_read(link, bytes.as_bytes());
        self.settle();
    }

    /// The connection to the node breaks.
    pub(super) fn cut(&mut self, port: u16) {
        let link = self.link(port, Protocol::Resp2);
        self.lose(link, LinkLoss::Closed);
    }

    pub(super) fn lose(&mut self, link: LinkKey, loss: LinkLoss) {
        self.connections.remove(&link);
        self.engine.on_link_closed(link, loss);
        self.settle();
    }

    fn has_link(&self, port: u16) -> bool {
        let mut connections = self.connections.values();
        connections.any(|connection| connection.port == port && !connection.feed)
    }

    /// The connections that carry subscriptions: the ports of their nodes, ascending.
    pub(super) fn feeds(&self) -> Vec<u16> {
        let feeds = self.connections.values().filter(|to| to.feed);
        let mut ports: Vec<u16> = feeds.map(|to| to.port).collect();
        ports.sort_unstable();
        ports
    }

    /// The connection to the node that carries subscriptions.
    pub(super) fn feed(&self, port: u16) -> LinkKey {
        let mut feeds = self.connections.iter();
        let feed = feeds.find(|(_, to)| to.port == port && to.feed);
        *feed.unwrap_or_else(|| panic!("no feed from {port}")).0
    }

    /// What the node was asked on it since the last call.
    pub(super) fn asked_on_feed(&mut self, port: u16) -> Vec<String> {
        let feed = self.feed(port);
        let feed = self.connections.get_mut(&feed).unwrap();
        let asked = feed.commands[feed.answered..].to_vec();
        feed.answered = feed.commands.len();
        asked
    }

    /// As [`Self::asked_on_feed`], the oldest only.
    pub(super) fn next_asked_on_feed(&mut self, port: u16) -> Option<String> {
        let feed = self.feed(port);
        let feed = self.connections.get_mut(&feed).unwrap();
        let next = feed.commands.get(feed.answered).cloned();
        feed.answered += usize::from(next.is_some());
        next
    }

    /// The node says something on it.
    pub(super) fn say(&mut self, port: u16, bytes: &[u8]) {
        let feed = self.feed(port);
        self.engine.on_link_read(feed, bytes);
        self.settle();
    }

    pub(super) fn is_connected(&self, port: u16) -> bool {
        self.connections
            .values()
            .any(|connection| connection.port == port)
    }

    pub(super) fn connections_to(&self, port: u16) -> usize {
        let to = self.connections.values().filter(|to| to.port == port);
        to.count()
    }

    /// Every connection to the node, probes too.
    pub(super) fn links_to(&self, port: u16) -> Vec<LinkKey> {
        let to = self.connections.iter().filter(|(_, to)| to.port == port);
        to.map(|(link, _)| *link).collect()
    }

    /// What was sent over this connection.
    pub(super) fn sent_over(&self, link: LinkKey) -> Vec<String> {
        self.connections[&link].commands.clone()
    }

    /// As [`Self::links_to`], in the order in which they were asked for.
    pub(super) fn links_to_in_order(&self, port: u16) -> Vec<LinkKey> {
        let mut links = self.links_to(port);
        links.sort_unstable();
        links
    }

    pub(super) fn link(&self, port: u16, protocol: Protocol) -> LinkKey {
        let found = self
            .connections
            .iter()
            .find(|(_, found)| found.port == port && found.protocol == protocol && found.is_main());
        *found.unwrap_or_else(|| panic!("no connection to {port}")).0
    }

    /// A topology in which the slots of these keys belong to other nodes.
    pub(super) fn adopt(&mut self, generation: u64, moves: &[(&str, u16)]) {
        let moves: Vec<(Slot, u16)> = moves
            .iter()
            .map(|(key, port)| (Slot::of_key(key.as_bytes()), *port))
            .collect();
        self.engine
            .set_snapshot(Arc::new(snapshot(generation, &moves)));
        self.settle();
    }

    /// A topology in which a node has another port.
    pub(super) fn change_port(&mut self, generation: u64, from: u16, to: u16) {
        let port = |port| if port == from { to } else { port };
        self.engine
            .set_snapshot(Arc::new(snapshot_at(generation, owner_of, port)));
        self.settle();
    }

    /// A topology in which all slots of one node belong to another: it is no primary any more.
    pub(super) fn take_over(&mut self, generation: u64, from: u16, to: u16) {
        let owner = |slot| match owner_of(slot) {
            owner if owner == from => to,
            owner => owner,
        };
        self.engine
            .set_snapshot(Arc::new(snapshot_by(generation, owner)));
        self.settle();
    }

    /// These replicas may be read from.
    pub(super) fn set_readers(&mut self, readers: &Readers) {
        self.engine.set_readers(readers, self.now);
        self.settle();
    }

    /// Discovery has asked the nodes just now: they agree that slots without an owner have none.
    pub(super) fn confirm_uncovered(&mut self, generation: u64) {
        self.engine.confirm_uncovered(generation, self.now);
    }

    /// Time passes as it does for a worker that runs.
    pub(super) fn pass(&mut self, time: Duration) {
        const STEP: Duration = Duration::from_millis(250);
        let mut left = time;
        while left > STEP {
            self.stall(STEP);
            left -= STEP;
        }
        self.stall(left);
    }

    /// Time passes while the worker is held up.
    pub(super) fn stall(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.engine.set_now(self.now);
        self.engine.tick();
        self.settle();
    }

    /// Opens one of the connections that were asked for.
    pub(super) fn connect_pending(&mut self, index: usize) {
        let (link, address) = self.pending.remove(index);
        self.open = true;
        self.act(Action::Connect { link, address });
        self.settle();
        self.open = false;
    }

    /// Refuses all connections that were asked for.
    pub(super) fn refuse_pending(&mut self) {
        for (link, _) in std::mem::take(&mut self.pending) {
            self.engine.on_link_closed(link, LinkLoss::ConnectFailed);
        }
        self.settle();
    }

    /// Does what the shell does at the end of a turn.
    pub(super) fn settle(&mut self) {
        loop {
            while let Some(action) = self.engine.next_action() {
                self.act(action);
            }
            let Some(link) = self.engine.next_dirty_link() else {
                break;
            };
            self.write(link, usize::MAX);
        }
        while self.engine.next_dirty_session().is_some() {}
        self.engine.check_invariants();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect { link, address } if self.open => {
                let protocol = Protocol::Resp2;
                let connection = Connection {
                    port: address.port,
                    protocol,
                    database: 0,
                    probe: self.has_link(address.port),
                    feed: self.engine.links[link.index()].feed,
                    bytes: Vec::new(),
                    commands: Vec::new(),
                    answered: 0,
                };
                self.connections.insert(link, connection);
                self.engine.on_link_connected(link);
                if let Some(reason) = self.turns_away {
                    self.engine.on_link_read(link, reason.as_bytes());
                }
            }
            Action::Connect { link, address } => self.pending.push((link, address)),
            Action::CloseLink(link) => {
                self.pending.retain(|(pending, _)| *pending != link);
                self.connections.remove(&link);
                self.engine.on_link_closed(link, LinkLoss::Closed);
            }
            Action::ResumeLink(_) => {}
            Action::Drop { size, .. } => match &mut self.dropping {
                Some(sizes) => sizes.push(size),
                None => self.engine.on_dropped(size),
            },
            Action::Hint(hint) => self.hints.push(hint),
            Action::Script(news) => self.script_news.push(news),
        }
    }

    /// Lets the kernel take at most `limit` bytes of a link.
    fn write(&mut self, link: LinkKey, limit: usize) {
        let output = self.engine.link_output(link).to_vec();
        let taken = output.len().min(limit);
        self.engine.on_link_written(link, taken);
        let Some(connection) = self.connections.get_mut(&link) else {
            return;
        };
        connection.bytes.extend_from_slice(&output[..taken]);
        if self.mute {
            return;
        }
        let mut decoder = RequestDecoder::default();
        if let Ok(DecodeStep::Command { len }) =
            decoder.decode(&connection.bytes, &RequestLimits::DEFAULT)
        {
            let words: Vec<String> = Args::new(&connection.bytes, decoder.ranges())
                .iter()
                .map(|arg| String::from_utf8_lossy(arg).into_owned())
                .collect();
            connection.bytes.drain(..len);
            match words.join(" ").as_str() {
                "HELLO 3" => {
                    connection.protocol = Protocol::Resp3;
                    connection.probe = false;
                    self.engine.on_link_read(link, b"%1\r\n+proto\r\n:3\r\n");
                }
                "PING" if connection.probe && !connection.feed => {
                    self.engine.on_link_read(link, b"+PONG\r\n");
                }
                select if select.starts_with("SELECT ") && connection.commands.is_empty() => {
                    self.enter_database(link, select);
                }
                command if command.starts_with("CLIENT TRACKING ON") => {
                    connection.probe = false;
                    connection.commands.push(command.to_owned());
                    connection.answered += 1;
                    self.engine.on_link_read(link, b"+OK\r\n");
                }
                "READONLY" => self.permit_reads(link),
                "CLIENT SETNAME slotway" => self.engine.on_link_read(link, b"+OK\r\n"),
                "CLIENT ID" => {
                    let id = format!(":{}\r\n", self.next_client_id);
                    self.next_client_id += 1;
                    self.engine.on_link_read(link, id.as_bytes());
                }
                "CLIENT INFO" => {
                    let id = self.next_client_id - 1;
                    let info = self
                        .tells_addresses
                        .then(|| bulk(&format!("id={id} addr=10.0.0.1:{id} name=")));
                    let unknown = || "-ERR Unknown subcommand\r\n".to_owned();
                    let reply = info.unwrap_or_else(unknown);
                    self.engine.on_link_read(link, reply.as_bytes());
                }
                command if command.starts_with("CLIENT KILL ID ") => {
                    connection.commands.push(command.to_owned());
                    self.engine.on_link_read(link, b":1\r\n");
                }
                "CLUSTER MYID" => {
                    let is_moved = |(_, to): &(u16, u16)| *to == connection.port;
                    let moved = self.moved.filter(is_moved);
                    let id = node_id(moved.map_or(connection.port, |(from, _)| from));
                    self.engine.on_link_read(link, bulk(&id).as_bytes());
                }
                command => connection.commands.push(command.to_owned()),
            }
            if self.connections.contains_key(&link) {
                self.write(link, usize::MAX);
            }
        }
    }

    /// Answers the SELECT of a handshake. Apart, since [`Self::write`] calls itself often.
    fn enter_database(&mut self, link: LinkKey, select: &str) {
        let database = select["SELECT ".len()..].parse().unwrap();
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.database = database;
        }
        let reply = if database < self.databases {
            "+OK\r\n"
        } else {
            "-ERR DB index is out of range\r\n"
        };
        self.engine.on_link_read(link, reply.as_bytes());
    }

    /// Answers the READONLY of a handshake.
    fn permit_reads(&mut self, link: LinkKey) {
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.commands.push("READONLY".to_owned());
            connection.answered += 1;
        }
        self.engine.on_link_read(link, b"+OK\r\n");
    }

    /// Has the client's next bytes routed while the kernel takes only `limit` bytes for the node.
    pub(super) fn send_with_slow_node(&mut self, client: SessionKey, command: &str, limit: usize) {
        self.engine.on_client(client, &encode(command));
        while let Some(link) = self.engine.next_dirty_link() {
            self.write(link, limit);
        }
    }

    /// Two keys whose slots belong to different nodes.
    pub(super) fn two_keys_on_two_nodes(&self) -> (String, String) {
        let first = "a".to_owned();
        let second = (0..100)
            .map(|number| format!("b{number}"))
            .find(|key| self.owner(key) != self.owner(&first))
            .unwrap();
        (first, second)
    }
}

pub(super) fn encode(command: &str) -> Vec<u8> {
    let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    let mut out = Vec::new();
    write::command(&mut out, &words);
    out
}

pub(super) fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn owner_of(slot: Slot) -> u16 {
    7000 + slot.get() / (SLOT_COUNT / NODES + 1)
}

pub(super) fn node_id(port: u16) -> String {
    format!("{port:0<40}")
}

/// Three primaries with a third of the slots each, but for `moves`.
pub(super) fn snapshot(generation: u64, moves: &[(Slot, u16)]) -> Snapshot {
    snapshot_by(generation, |slot| {
        let moved = moves
            .iter()
            .find(|(moved, _)| *moved == slot)
            .map(|(_, port)| *port);
        moved.unwrap_or_else(|| owner_of(slot))
    })
}

/// As [`snapshot`]; the slot is on its way from one node to another.
pub(super) fn snapshot_opening(generation: u64, slot: Slot, from: u16, to: u16) -> Snapshot {
    let mut builder = builder_at(owner_of, |port| port);
    builder.add_open_slot(OpenSlot {
        slot,
        source: Some(NodeId::new(&node_id(from))),
        target: Some(NodeId::new(&node_id(to))),
    });
    builder.build(generation)
}

/// Three nodes; `owner` says whose a slot is.
fn snapshot_by(generation: u64, owner: impl Fn(Slot) -> u16) -> Snapshot {
    snapshot_at(generation, owner, |port| port)
}

/// As [`snapshot_by`], the nodes being at other ports.
fn snapshot_at(
    generation: u64,
    owner: impl Fn(Slot) -> u16,
    port: impl Fn(u16) -> u16,
) -> Snapshot {
    builder_at(owner, port).build(generation)
}

fn builder_at(owner: impl Fn(Slot) -> u16, port: impl Fn(u16) -> u16) -> SnapshotBuilder {
    let mut builder = SnapshotBuilder::new();
    let nodes: Vec<_> = (0..NODES)
        .map(|number| {
            let node = Node {
                id: NodeId::new(&node_id(7000 + number)),
                address: Address::new("127.0.0.1", port(7000 + number)),
                hostname: None,
                role: Role::Primary,
                primary_id: None,
                state: NodeState::Ok,
                link_connected: true,
                config_epoch: u64::from(number) + 1,
            };
            builder.add_node(node).unwrap()
        })
        .collect();
    for slot in (0..SLOT_COUNT).filter_map(Slot::new) {
        let owner = owner(slot);
        if owner != NOBODY {
            builder.assign(slot, nodes[usize::from(owner - 7000)]);
        }
    }
    builder
}

//! The played network: connections between the engine and the nodes, with a kernel that takes and gives any number of bytes.

use std::collections::{BTreeSet, VecDeque};

use slotway_core::engine::LinkKey;

use super::blocking::Waiter;
use super::cluster::{Cluster, Peer};
use super::command::{Command, Data, Named};
use super::model::{Model, Violation};
use super::node::Context;
use super::profile::HOT_SLOTS;
use super::topics::{self, Topic};
use super::watch::Watched;
use super::wire::parse_request;
use crate::slot_of;

/// A connection that is being opened.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) link: LinkKey,
    pub(super) port: u16,
    pub(super) since: u64,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) link: LinkKey,
    pub(super) node: usize,
    /// What the node calls it, and which of its processes does.
    pub(super) number: usize,
    pub(super) incarnation: u32,
    /// Bytes the kernel took that are no whole command yet.
    unparsed: Vec<u8>,
    /// Whole commands the kernel took, each with the position of its end.
    commands: VecDeque<(u64, Command)>,
    /// Positions: of the first byte of `unparsed`, of the last byte the kernel took, of the last byte that reached the node.
    parsed: u64,
    accepted: u64,
    delivered: u64,
    /// Bytes on their way back.
    pub(super) replies: Vec<u8>,
    /// The kernel had no room for more.
    pub(super) blocked: bool,
    /// The engine is through its handshake; it sent requests.
    pub(super) ready: bool,
    pub(super) used: bool,
    /// The node sent what is no reply.
    pub(super) garbled: bool,
    /// When the engine last got bytes of it, by the time it was awake.
    pub(super) heard: u64,
    /// The engine gave it up: it ends with the next events.
    pub(super) closing: bool,
    /// Slots that the node ceased to own after the engine gave the connection up: what it executes there late is lost.
    pub(super) lost: [bool; HOT_SLOTS],
    /// The command that waits at the node: nothing behind it is looked at meanwhile.
    pub(super) waiting: Option<Waiter>,
    /// The keys that the node watches for it.
    pub(super) watched: Vec<Watched>,
    /// It has carried what only one client may send, or what is for all.
    pub(super) is_private: bool,
    pub(super) is_shared: bool,
    /// The node has closed it.
    pub(super) ended: bool,
    /// What is subscribed to over it, and whether anything ever was.
    pub(super) topics: BTreeSet<Topic>,
    pub(super) is_feed: bool,
    asking: bool,
    /// It said READONLY: the node answers reads though it is a replica.
    pub(super) reads: bool,
    /// What the node has got since MULTI.
    multi: Option<Multi>,
    /// The kernel took MULTI and, of the commands behind it, which request they are.
    accepts: Option<Option<usize>>,
    resp3: bool,
    database: usize,
}

/// A transaction that a node is getting.
#[derive(Debug, Default)]
struct Multi {
    commands: Vec<Data>,
    facts: usize,
    asking: bool,
    broken: bool,
}

/// What the node of a connection needs to answer.
pub(super) struct Place<'a> {
    pub(super) cluster: &'a mut Cluster,
    pub(super) model: &'a mut Model,
    pub(super) rng: &'a mut fastrand::Rng,
    pub(super) now: u64,
    /// Connections that the node was told to kill.
    pub(super) killed: Vec<Named>,
}

impl Connection {
    pub(super) const fn new(link: LinkKey, node: usize, peer: &Peer, now: u64) -> Self {
        Self {
            link,
            node,
            number: peer.last_number,
            incarnation: peer.incarnation,
            unparsed: Vec::new(),
            commands: VecDeque::new(),
            parsed: 0,
            accepted: 0,
            delivered: 0,
            replies: Vec::new(),
            blocked: false,
            ready: false,
            used: false,
            garbled: false,
            heard: now,
            closing: false,
            lost: [false; HOT_SLOTS],
            waiting: None,
            watched: Vec::new(),
            is_private: false,
            is_shared: false,
            ended: false,
            topics: BTreeSet::new(),
            is_feed: false,
            asking: false,
            reads: false,
            multi: None,
            accepts: None,
            resp3: false,
            database: 0,
        }
    }

    /// How many bytes the kernel holds for the node.
    pub(super) fn held(&self) -> usize {
        usize::try_from(self.accepted - self.delivered).unwrap_or(usize::MAX)
    }

    /// Whether the node has something to do, or will have once it has its bytes.
    pub(super) fn has_work(&self) -> bool {
        self.held() > 0 || !self.commands.is_empty()
    }

    /// The commands with keys that the kernel has for the node.
    pub(super) fn unserved(&self) -> impl Iterator<Item = &Data> {
        self.commands
            .iter()
            .filter_map(|(_, command)| match command {
                Command::Data(data) => Some(data),
                _ => None,
            })
    }

    pub(super) const fn is_in_transaction(&self) -> bool {
        self.multi.is_some()
    }

    /// The engine gives the connection up. What has not reached the node by now never does, unless `late`.
    pub(super) fn close(&mut self, late: bool) {
        self.closing = true;
        if !late {
            self.commands.clear();
            self.waiting = None;
            self.delivered = self.accepted;
        }
    }

    /// The kernel takes `bytes` of the engine.
    pub(super) fn accept(&mut self, bytes: &[u8], model: &mut Model) -> Result<(), Violation> {
        self.accepted += bytes.len() as u64;
        self.unparsed.extend_from_slice(bytes);
        let mut used = 0;
        while let Some((arguments, length)) = parse_request(&self.unparsed[used..]) {
            let command = Command::parse(&arguments);
            self.used |= matches!(command, Command::Data(_));
            self.is_private |= matches!(&command, Command::Data(data) if data.is_private());
            self.ready |= matches!(command, Command::Data(_) | Command::Asking | Command::Ping);
            if let Some(request) = self.whole_request(&command) {
                model.written(request)?;
            }
            used += length;
            self.parsed += length as u64;
            self.commands.push_back((self.parsed, command));
        }
        self.unparsed.drain(..used);
        Ok(())
    }

    /// The request that the kernel has taken wholly with `command`: of a transaction, with EXEC.
    const fn whole_request(&mut self, command: &Command) -> Option<usize> {
        match (command, &mut self.accepts) {
            (Command::Multi, _) => {
                self.accepts = Some(None);
                None
            }
            (Command::Data(data), Some(request)) => {
                *request = data.request;
                None
            }
            (Command::Data(data), None) => data.request,
            (Command::Exec, Some(request)) => {
                let request = *request;
                self.accepts = None;
                request
            }
            _ => None,
        }
    }

    /// `count` more bytes reach the node, which executes the commands that are whole by then.
    pub(super) fn deliver(&mut self, count: usize, place: &mut Place<'_>) -> Result<(), Violation> {
        self.delivered = self.accepted.min(self.delivered + count as u64);
        while !self.ended
            && self.waiting.is_none()
            && let Some((end, command)) = self.commands.pop_front()
        {
            if end > self.delivered || self.is_held(&command, place) {
                self.commands.push_front((end, command));
                break;
            }
            self.execute(command, place)?;
        }
        if self.waiting.is_some() && !self.commands.is_empty() && !self.closing {
            return Err(format!(
                "{:?} is sent behind a command that waits [B4]",
                self.commands
            ));
        }
        Ok(())
    }

    /// The node has paused writes, and this is one: it holds up the connection.
    fn is_held(&self, command: &Command, place: &mut Place<'_>) -> bool {
        match command {
            Command::Data(data) => self.context(place).is_held(data, self.asking),
            _ => false,
        }
    }

    pub(super) fn context<'a>(&self, place: &'a mut Place<'_>) -> Context<'a> {
        Context {
            cluster: place.cluster,
            model: place.model,
            rng: place.rng,
            now: place.now,
            node: self.node,
            resp3: self.resp3,
            database: self.database,
            reads: self.reads,
            late: self.closing.then_some(self.lost),
        }
    }

    fn execute(&mut self, command: Command, place: &mut Place<'_>) -> Result<(), Violation> {
        let asking = std::mem::take(&mut self.asking);
        let is_read = matches!(&command, Command::Data(data) if data.is_plain_read());
        if self.reads
            && !is_read
            && !matches!(
                command,
                Command::Kill(_) | Command::Select(_) | Command::Ping
            )
        {
            return Err(format!("{command:?} over a connection for reads [E10]"));
        }
        if let Some(multi) = self.multi.take() {
            return self.go_on(multi, command, place);
        }
        let reply: &[u8] = match command {
            Command::Multi => {
                self.multi = Some(Multi {
                    asking,
                    ..Multi::default()
                });
                b"+OK\r\n"
            }
            Command::Exec => return Err("a node got EXEC without MULTI".to_owned()),
            Command::Hello => {
                self.resp3 = true;
                b"%1\r\n+proto\r\n:3\r\n"
            }
            Command::Ping if self.is_feed => {
                self.ping_feed(place);
                return Ok(());
            }
            Command::Ping => b"+PONG\r\n",
            Command::Subscription(kind, begins, name) => {
                self.change_subscription(kind, begins, &name, place);
                return Ok(());
            }
            Command::SetName => b"+OK\r\n",
            Command::MyId | Command::Number | Command::Address => {
                let told = self.introduction(&command, place);
                self.replies.extend_from_slice(told.as_bytes());
                return Ok(());
            }
            Command::Kill(named) => {
                place.killed.push(named);
                b":1\r\n"
            }
            Command::Asking => {
                self.asking = true;
                b"+OK\r\n"
            }
            Command::ReadOnly if self.used => return Err("late READONLY [E10]".to_owned()),
            Command::ReadOnly => {
                self.reads = true;
                b"+OK\r\n"
            }
            Command::Select(database) => {
                if self.used && !self.is_private {
                    return Err("a connection that many share changes its database [O12]".into());
                }
                self.database = database;
                b"+OK\r\n"
            }
            Command::Unwatch => {
                self.watched.clear();
                b"+OK\r\n"
            }
            Command::Data(data) => return self.serve(&data, asking, place),
            Command::Facts => return Err("a node is asked what it owns without SCAN".to_owned()),
            Command::Unknown(name) => return Err(format!("a node got {name}")),
        };
        self.replies.extend_from_slice(reply);
        Ok(())
    }

    /// What the node says of itself, or of this connection.
    fn introduction(&self, command: &Command, place: &Place<'_>) -> String {
        let text = match command {
            Command::Number => return format!(":{}\r\n", self.number),
            Command::Address if place.cluster.old => {
                return "-ERR Unknown subcommand\r\n".to_owned();
            }
            Command::Address => {
                let process = Cluster::process(self.node, self.incarnation);
                format!("id={} addr=process:{process} fd=8", self.number)
            }
            _ => place.cluster.peers[self.node].id.clone(),
        };
        format!("${}\r\n{text}\r\n", text.len())
    }

    /// PING of a connection that has subscriptions, or had some: it is no command that a node takes while it loads.
    fn ping_feed(&mut self, place: &Place<'_>) {
        let reply: &[u8] = match () {
            () if place.cluster.peers[self.node].loading > place.now => {
                b"-LOADING Redis is loading the dataset in memory\r\n"
            }
            () if self.topics.is_empty() => b"+PONG\r\n",
            () => b"*2\r\n$4\r\npong\r\n$0\r\n\r\n",
        };
        self.replies.extend_from_slice(reply);
    }

    /// Channels are taken by any node, at any time; sharded ones by the owner of their slot.
    fn change_subscription(
        &mut self,
        kind: topics::Kind,
        begins: bool,
        name: &str,
        place: &mut Place<'_>,
    ) {
        let (slot, cluster) = (slot_of(name.as_bytes()), &place.cluster);
        let owner = cluster.owner_by(self.node, slot);
        let refusal = match owner {
            _ if kind != topics::Kind::Shard => None,
            _ if cluster.peers[self.node].down > place.now => {
                Some("CLUSTERDOWN The cluster is down".to_owned())
            }
            None => Some("CLUSTERDOWN Hash slot not served".to_owned()),
            Some(owner) if owner == self.node => None,
            Some(owner) => {
                let port = cluster.peers[owner].port;
                place.model.note_moved(self.node, slot, port);
                Some(format!("MOVED {slot} 127.0.0.1:{port}"))
            }
        };
        match refusal {
            Some(refusal) => {
                self.is_feed = true;
                let said = format!("-{refusal}\r\n");
                self.replies.extend_from_slice(said.as_bytes());
            }
            None => self.subscribe(kind, begins, name),
        }
    }

    /// A command that is not part of a transaction.
    fn serve(&mut self, data: &Data, asking: bool, place: &mut Place<'_>) -> Result<(), Violation> {
        self.check_use(data, place.model)?;
        let mut context = self.context(place);
        if data.may_wait() {
            self.waiting = context.begin_wait(data, asking, &mut self.replies)?;
        } else if context.serve(data, asking, &mut self.replies)? {
            let versions = &place.cluster.peers[self.node].versions;
            self.note_watched(data, versions);
        }
        Ok(())
    }

    /// The next command of a transaction, or its EXEC.
    fn go_on(
        &mut self,
        mut multi: Multi,
        command: Command,
        place: &mut Place<'_>,
    ) -> Result<(), Violation> {
        let asking = multi.asking;
        match command {
            Command::Data(data) => {
                self.multi = Some(Multi::default());
                self.check_use(&data, place.model)?;
                let queued = self
                    .context(place)
                    .queue(&data, asking, &mut self.replies)?;
                multi.broken |= !queued;
                multi.commands.push(data);
                self.multi = Some(multi);
                Ok(())
            }
            Command::Facts => {
                multi.facts += 1;
                self.multi = Some(multi);
                self.replies.extend_from_slice(b"+QUEUED\r\n");
                Ok(())
            }
            Command::Exec if multi.broken => {
                self.watched.clear();
                self.replies.extend_from_slice(
                    b"-EXECABORT Transaction discarded because of previous errors.\r\n",
                );
                Ok(())
            }
            Command::Exec => {
                let commands = multi.commands;
                let watched = std::mem::take(&mut self.watched);
                self.context(place).serve_transaction(
                    &commands,
                    multi.facts,
                    asking,
                    &watched,
                    &mut self.replies,
                )
            }
            other => Err(format!("{other:?} in the middle of a transaction [O12]")),
        }
    }
}

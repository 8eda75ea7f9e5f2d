//! The shell's part, played: connections to the nodes, what the kernel takes, the end of a turn, and the time.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use slotway_core::engine::{Action, Engine, Limits, LinkKey, LinkLoss, Upstream};
use slotway_core::resp::{Args, DecodeStep, RequestDecoder, RequestLimits};
use slotway_core::time::Timestamp;

use super::cluster::{HOST, PORTS, next_snapshot};

/// The words of a request.
pub(crate) type Request = Vec<Vec<u8>>;

/// One connection as its node sees it.
pub(crate) struct Connection {
    pub(crate) link: LinkKey,
    pub(crate) port: u16,
    /// The node's number of it.
    pub(crate) number: i64,
    /// Whole requests it got so far.
    pub(crate) received: usize,
    requests: VecDeque<Request>,
    /// The beginning of the next request.
    partial: Vec<u8>,
}

impl Connection {
    /// The arguments of the request at the front, if all of it is there.
    fn take_request(&mut self) -> Option<Request> {
        let mut decoder = RequestDecoder::new();
        match decoder.decode(&self.partial, &RequestLimits::DEFAULT) {
            Ok(DecodeStep::Incomplete) => None,
            Ok(DecodeStep::Command { len }) => {
                let args = Args::new(&self.partial, decoder.ranges());
                let args = args.iter().map(<[u8]>::to_vec).collect();
                self.partial.drain(..len);
                Some(args)
            }
            other => panic!("a node gets what is no command: {other:?}"),
        }
    }
}

/// A request as a node received it.
pub(crate) struct Received {
    pub(crate) link: LinkKey,
    pub(crate) port: u16,
    pub(crate) number: i64,
    pub(crate) args: Request,
}

/// The engine and everything around it but the peers' behaviour.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) connections: Vec<Connection>,
    /// Ports of the connections that the engine has closed.
    pub(crate) given_up: Vec<u16>,
    /// How often each request has reached a node whole.
    pub(crate) delivered: HashMap<Request, usize>,
    /// Ports of nodes for which the kernel takes one byte of each write.
    pub(crate) slow: &'static [u16],
    /// Ports of nodes that accept no connection.
    pub(crate) unreachable: &'static [u16],
    now: Timestamp,
    generation: u64,
    numbers: i64,
}

impl World {
    pub(crate) fn new(limits: Limits, upstream: Upstream) -> Self {
        Self {
            engine: Engine::new(limits, upstream, 1),
            connections: Vec::new(),
            given_up: Vec::new(),
            delivered: HashMap::new(),
            slow: &[],
            unreachable: &[],
            now: Timestamp::ZERO,
            generation: 1,
            numbers: 100,
        }
    }

    /// Times so short that a run needs few steps of them.
    pub(crate) fn limits() -> Limits {
        Limits {
            park_timeout: Duration::from_secs(1),
            node_timeout: Duration::from_secs(1),
            busy_timeout: Duration::from_secs(2),
            demoted_timeout: Duration::from_millis(500),
            tryagain_budget: Duration::from_millis(300),
            ..Limits::default()
        }
    }

    /// The end of a turn: actions, then what is to be written to nodes.
    pub(crate) fn flush(&mut self) {
        loop {
            while let Some(action) = self.engine.next_action() {
                self.act(action);
            }
            let Some(link) = self.engine.next_dirty_link() else {
                break;
            };
            self.write(link);
        }
        while self.engine.next_dirty_session().is_some() {}
        self.engine.check_invariants();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect { link, address } => {
                let known = *address.host == *HOST && PORTS.contains(&address.port);
                if !known || self.unreachable.contains(&address.port) {
                    return self.engine.on_link_closed(link, LinkLoss::ConnectFailed);
                }
                self.numbers += 1;
                self.connections.push(Connection {
                    link,
                    port: address.port,
                    number: self.numbers,
                    received: 0,
                    requests: VecDeque::new(),
                    partial: Vec::new(),
                });
                self.engine.on_link_connected(link);
            }
            Action::CloseLink(link) => {
                // Like the shell: no socket, nothing to close.
                if let Some(index) = self.index(link) {
                    self.given_up.push(self.connections.swap_remove(index).port);
                    self.engine.on_link_closed(link, LinkLoss::Closed);
                }
            }
            Action::Drop { size, .. } => self.engine.on_dropped(size),
            Action::ResumeLink(_) | Action::Hint(_) | Action::Script(_) => {}
        }
    }

    pub(crate) fn index(&self, link: LinkKey) -> Option<usize> {
        self.connections.iter().position(|open| open.link == link)
    }

    fn write(&mut self, link: LinkKey) {
        let Some(index) = self.index(link) else {
            return;
        };
        let connection = &mut self.connections[index];
        let output = self.engine.link_output(link);
        let most = if self.slow.contains(&connection.port) {
            1
        } else {
            output.len()
        };
        let taken = output.get(..most).unwrap_or(output);
        connection.partial.extend_from_slice(taken);
        let taken = taken.len();
        while let Some(args) = connection.take_request() {
            *self.delivered.entry(args.clone()).or_default() += 1;
            connection.received += 1;
            connection.requests.push_back(args);
        }
        self.engine.on_link_written(link, taken);
    }

    /// The kernel takes everything there is.
    pub(crate) fn hurry(&mut self) {
        self.slow = &[];
        let links: Vec<LinkKey> = self.connections.iter().map(|open| open.link).collect();
        for link in links {
            self.write(link);
        }
    }

    /// The next whole request that a node got, on a connection that is wanted.
    pub(crate) fn next_request(
        &mut self,
        wanted: impl Fn(&Connection) -> bool,
    ) -> Option<Received> {
        let mut wanted = self.connections.iter_mut().filter(|open| wanted(open));
        wanted.find_map(|connection| {
            Some(Received {
                args: connection.requests.pop_front()?,
                link: connection.link,
                port: connection.port,
                number: connection.number,
            })
        })
    }

    /// A node sends bytes.
    pub(crate) fn reply(&mut self, link: LinkKey, bytes: &[u8]) {
        self.engine.on_link_read(link, bytes);
        self.flush();
    }

    /// A node closes a connection.
    pub(crate) fn close(&mut self, link: LinkKey) {
        if let Some(index) = self.index(link) {
            self.connections.swap_remove(index);
            self.engine.on_link_closed(link, LinkLoss::Closed);
        }
        self.flush();
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.engine.set_now(self.now);
        self.engine.tick();
        self.flush();
    }

    /// Discovery has another layout.
    pub(crate) fn move_slots(&mut self) {
        self.generation += 1;
        self.engine.set_snapshot(next_snapshot(self.generation));
        self.flush();
    }
}

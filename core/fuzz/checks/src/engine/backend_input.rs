//! Any bytes of a node, in any pieces, on connections that several clients share: no panic, the engine's invariants, RESP on the
//! way out; after bytes that are no reply, or one too many, the connection is given up; other nodes' connections are left alone, and what they
//! answer reaches who asked; each request has exactly one reply in the end; no write is sent twice unless a node refused it.
//!
//! Input: one byte of options, one for the length of the pieces, then a script (see `script`) of what the first node sends; the
//! others are honest. When it is over, its connections end, and from then on it is honest, too.
//!
//! | event | what happens |
//! |---|---|
//! | `r` | every client sends its next request |
//! | `n` | what follows goes to the next connection of the node |
//! | `c` | the node closes that connection |
//! | `i` | the node says honestly what a fresh connection is to hear, as far as it was asked |
//! | `l` | a client leaves |
//! | `s` | the kernel takes little, or everything again |
//! | `u` | no connection can be opened, or again |
//! | `t` `T` | 50 ms, 1 s pass |

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use slotway_core::backend::Credentials;
use slotway_core::engine::{LinkKey, Upstream};
use slotway_core::metrics::CloseReason;
use slotway_core::resp::{ReplyScanner, write};

use super::client::Client;
use super::cluster::{PORTS, answer, echo, first_snapshot, introduction, key_of};
use super::script::{Step, steps};
use super::world::{Request, World};

/// Steps of time after which everything must have come to an end.
const PATIENCE: usize = 600;

/// The node whose bytes are those of the input.
const PLAYED: u16 = PORTS[0];

/// Requests of one client; more only cost time.
const MAX_REQUESTS: usize = 40;

/// What a node says of a request that it did not execute: such a request may be sent again.
const REFUSALS: [&[u8]; 7] = [
    b"MOVED",
    b"ASK",
    b"TRYAGAIN",
    b"CLUSTERDOWN",
    b"LOADING",
    b"READONLY",
    b"MASTERDOWN",
];

/// The check of this target.
pub fn check(data: &[u8]) {
    let [options, piece, script @ ..] = data else {
        return;
    };
    let mut run = Run::new(*options);
    for step in steps(script, *piece) {
        match step {
            Step::Bytes(bytes) => run.node_sends(bytes),
            Step::Event(event) => run.event(event),
        }
        run.settle();
    }
    run.rest();
    run.check_replies();
    run.check_writes();
}

struct Run {
    world: World,
    clients: Vec<Asker>,
    /// The connection the bytes go to, counted over those of the node.
    current: usize,
    /// What each connection was sent, by the node's number of it.
    streams: HashMap<i64, Stream>,
    /// All bytes of the node.
    said: Vec<u8>,
    /// The node is as honest as the others.
    honest: bool,
}

/// What the node has sent by one connection.
#[derive(Default)]
struct Stream {
    scanner: ReplyScanner,
    /// The reply that is not whole yet.
    partial: Vec<u8>,
    /// Whole replies, pushes apart.
    replies: usize,
}

impl Stream {
    /// Takes more bytes; false if they are no reply.
    fn take(&mut self, bytes: &[u8]) -> bool {
        self.partial.extend_from_slice(bytes);
        let mut start = 0;
        let is_resp = loop {
            match self.scanner.scan(&self.partial[start..]) {
                Ok(Some(len)) => {
                    self.replies += usize::from(self.partial[start] != b'>');
                    start += len;
                }
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        self.partial.drain(..start);
        is_resp
    }
}

/// A request of a client.
struct Asked {
    request: Request,
    /// What it must be answered, if that is known beforehand.
    reply: Option<Vec<u8>>,
}

/// A client and what it is owed.
struct Asker {
    client: Client,
    /// Whether replies to HELLO come first.
    hello: usize,
    asked: Vec<Asked>,
    gone: bool,
}

impl Run {
    /// Options: handshakes honest at first, a password for the nodes, the second client in RESP3, the third, one request of each
    /// client to begin with instead of four.
    fn new(options: u8) -> Self {
        let password = (options & 2 != 0).then(|| Arc::from("secret"));
        let credentials = Credentials {
            user: None,
            password,
        };
        let upstream = Upstream {
            credentials,
            ..Upstream::default()
        };
        let mut world = World::new(World::limits(), upstream);
        world.engine.set_snapshot(first_snapshot());
        let clients = (1..=3).map(|id| Asker {
            client: Client::connect(&mut world.engine, id, None),
            hello: 0,
            asked: Vec::new(),
            gone: false,
        });
        let mut run = Self {
            clients: clients.collect(),
            world,
            current: 0,
            streams: HashMap::new(),
            said: Vec::new(),
            honest: false,
        };
        for (index, bit) in [(1, 4), (2, 8)] {
            if options & bit != 0 {
                run.send(index, &[b"HELLO", b"3"]);
                run.clients[index].hello = 1;
            }
        }
        let rounds = if options & 16 != 0 { 1 } else { 4 };
        (0..rounds).for_each(|_| run.ask());
        run.settle();
        if options & 1 != 0 {
            run.introduce();
        }
        run
    }

    fn event(&mut self, event: u8) {
        match event {
            b'r' => self.ask(),
            b'n' => self.current = self.current.wrapping_add(1),
            b'c' => {
                if let Some((link, _)) = self.current() {
                    self.world.close(link);
                }
            }
            b'i' => self.introduce(),
            b'l' => {
                if let Some(asker) = self.clients.iter_mut().find(|asker| !asker.gone) {
                    asker.gone = true;
                    let key = asker.client.key;
                    self.world.engine.remove_session(key, CloseReason::Client);
                    self.world.flush();
                }
            }
            b's' if !self.world.slow.is_empty() => self.world.hurry(),
            b's' => self.world.slow = &PORTS[..1],
            b'u' if self.world.unreachable.is_empty() => self.world.unreachable = &PORTS[..1],
            b'u' => self.world.unreachable = &[],
            b't' => self.pass(1),
            b'T' => self.pass(20),
            _ => {}
        }
    }

    fn pass(&mut self, steps: usize) {
        for _ in 0..steps {
            self.world.pass(Duration::from_millis(50));
            self.settle();
        }
    }

    // === Clients ===

    /// Every client sends its next request: to the played node, to another one, to both, to all.
    fn ask(&mut self) {
        for index in 0..self.clients.len() {
            let asker = &self.clients[index];
            let number = asker.asked.len();
            if asker.gone || number >= MAX_REQUESTS {
                continue;
            }
            let (here, there) = (key_of(PLAYED, index), key_of(PORTS[1], index));
            let (here, there) = (here.as_bytes(), there.as_bytes());
            let mark = format!("{index}-{number}");
            let mark = mark.as_bytes();
            let words: &[&[u8]] = match (number + index) % 10 {
                0 => &[b"GET", here],
                1 => &[b"SET", here, mark],
                2 | 5 => &[b"HGET", there, mark],
                3 => &[b"MGET", here, there],
                4 => &[b"EVAL", b"return 1", b"1", here, mark],
                6 => &[b"KEYS", b"*"],
                7 => &[b"SCAN", b"0"],
                8 => &[b"DEL", there, here],
                _ => &[b"FLUSHALL"],
            };
            let request: Request = words.iter().map(|word| word.to_vec()).collect();
            let known = request[0] == b"HGET";
            let reply = known.then(|| echo(&request));
            self.clients[index].asked.push(Asked { request, reply });
            self.send(index, words);
        }
    }

    fn send(&mut self, index: usize, words: &[&[u8]]) {
        let mut request = Vec::new();
        write::command(&mut request, words);
        let key = self.clients[index].client.key;
        self.world.engine.on_client(key, &request);
        self.world.flush();
    }

    // === Nodes ===

    /// The connection of the played node that bytes go to, and the node's number of it.
    fn current(&self) -> Option<(LinkKey, i64)> {
        let open = self.world.connections.iter();
        let mut open: Vec<_> = open.filter(|open| open.port == PLAYED).collect();
        open.sort_unstable_by_key(|open| open.number);
        let index = self.current.checked_rem(open.len())?;
        open.get(index).map(|open| (open.link, open.number))
    }

    fn node_sends(&mut self, bytes: &[u8]) {
        let Some((link, number)) = self.current() else {
            return;
        };
        self.said.extend_from_slice(bytes);
        self.world.reply(link, bytes);
        let stream = self.streams.entry(number).or_default();
        let is_resp = stream.take(bytes);
        let mut open = self.world.connections.iter();
        let Some(open) = open.find(|open| open.number == number) else {
            return;
        };
        assert!(is_resp, "garbage is followed");
        assert!(
            stream.replies <= open.received || !self.world.slow.is_empty(),
            "replies to nothing are taken"
        );
    }

    /// The played node says what a fresh connection is to hear.
    fn introduce(&mut self) {
        while let Some(request) = self.world.next_request(|open| open.port == PLAYED) {
            let stream = self.streams.entry(request.number).or_default();
            match introduction(&request.args, request.port, request.number) {
                // Behind the beginning of a reply it would be the rest of it.
                Some(reply) if stream.partial.is_empty() => {
                    stream.take(&reply);
                    self.world.reply(request.link, &reply);
                }
                _ => {}
            }
        }
    }

    /// The honest nodes answer.
    fn settle(&mut self) {
        loop {
            self.world.flush();
            for asker in self.clients.iter_mut().filter(|asker| !asker.gone) {
                asker.client.read(&mut self.world.engine);
                // In the middle of a reply that was passed on while it came, and will never be whole.
                if let Some(reason) = self.world.engine.must_close(asker.client.key) {
                    asker.client.assert_half_a_string();
                    asker.gone = true;
                    self.world.engine.remove_session(asker.client.key, reason);
                }
            }
            self.world.flush();
            let honest = self.honest;
            let request = self
                .world
                .next_request(|open| honest || open.port != PLAYED);
            let Some(request) = request else { break };
            let reply = introduction(&request.args, request.port, request.number);
            let reply = reply.unwrap_or_else(|| answer(&request.args));
            self.world.reply(request.link, &reply);
        }
        assert!(
            self.world.given_up.iter().all(|port| *port == PLAYED),
            "the connection of another node is given up"
        );
    }

    /// The played node ends its connections and is honest from now on, and time passes until everybody has their replies.
    fn rest(&mut self) {
        self.world.unreachable = &[];
        self.world.hurry();
        while let Some((link, _)) = self.current() {
            self.world.close(link);
        }
        self.honest = true;
        for _ in 0..PATIENCE {
            self.settle();
            if self.clients.iter().all(|asker| self.is_answered(asker)) {
                return;
            }
            self.world.pass(Duration::from_millis(50));
        }
        panic!("requests are never answered");
    }

    fn is_answered(&self, asker: &Asker) -> bool {
        let session = self.world.engine.session(asker.client.key);
        session.is_none_or(|session| session.queue.is_empty() && session.out.is_empty())
    }

    // === What must hold ===

    fn check_replies(&self) {
        for asker in self.clients.iter().filter(|asker| !asker.gone) {
            asker.client.assert_whole();
            let replies = &asker.client.replies[asker.hello..];
            assert_eq!(replies.len(), asker.asked.len(), "replies of a client");
            for (reply, asked) in replies.iter().zip(&asker.asked) {
                let request = &asked.request;
                let is_right = asked.reply.as_ref().is_none_or(|known| reply == known);
                // Where no node has got it, nothing is uncertain.
                let is_sure = !reply.starts_with(b"-UNCERTAIN proxy: backend");
                assert!(
                    is_right
                        && (is_sure
                            || self.world.delivered.contains_key(request)
                            || is_several(request)),
                    "{} is not the reply to {}",
                    reply.escape_ascii(),
                    request.join(&b' ').escape_ascii()
                );
            }
        }
    }

    fn check_writes(&self) {
        let refused = REFUSALS
            .iter()
            .any(|word| self.said.windows(word.len()).any(|said| said == *word));
        for (args, count) in &self.world.delivered {
            assert!(
                refused || *count == 1 || args[0] != b"SET",
                "write {} was sent {count} times",
                args.join(&b' ').escape_ascii()
            );
        }
    }
}

/// Reaches the nodes in parts of its own.
fn is_several(request: &Request) -> bool {
    matches!(
        request[0].as_slice(),
        b"MGET" | b"DEL" | b"KEYS" | b"SCAN" | b"FLUSHALL"
    )
}

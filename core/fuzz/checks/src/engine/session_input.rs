//! Any bytes of a client, in any pieces, while nodes answer, refuse, leave and come back: no panic, the engine's invariants, RESP
//! on the way out, one reply for each request of the client, and another client that gets its own replies and no others.
//!
//! Input: one byte of options, one for the length of the pieces, then a script (see `script`) of what the client sends.
//!
//! | event | what happens |
//! |---|---|
//! | `o` | the other client sends a request |
//! | `l` | the client leaves; what follows is sent by a new one |
//! | `r` | the client stops reading, or reads again |
//! | `h` | the nodes stop answering, or answer again |
//! | `s` | the kernel takes little, or everything again |
//! | `n` | a new topology |
//! | `t` `T` | 50 ms, 1 s pass |
//! | `e` `m` `a` `y` `d` `p` `c` `g` | the next request of a client is answered with an error, MOVED, ASK, TRYAGAIN, CLUSTERDOWN, a push before the answer, the end of the connection, garbage |

use std::collections::VecDeque;
use std::time::Duration;

use slotway_core::engine::{Limits, Upstream};
use slotway_core::metrics::CloseReason;
use slotway_core::resp::{RequestLimits, write};
use slotway_core::slot::Slot;

use super::client::Client;
use super::cluster::{PORTS, answer, echo, first_snapshot, introduction};
use super::owed::Owed;
use super::script::{Step, steps};
use super::world::{Received, World};

/// Steps of time after which everything must have come to an end.
const PATIENCE: usize = 400;

/// What the options of an input mean.
#[derive(Clone, Copy)]
struct Options {
    password: bool,
    small_requests: bool,
    short_queue: bool,
    little_memory: bool,
    two_links: bool,
    no_topology: bool,
    uploads: bool,
}

impl Options {
    const fn of(byte: u8) -> Self {
        Self {
            password: byte & 1 != 0,
            small_requests: byte & 2 != 0,
            short_queue: byte & 4 != 0,
            little_memory: byte & 8 != 0,
            two_links: byte & 16 != 0,
            no_topology: byte & 32 != 0,
            uploads: byte & 64 != 0,
        }
    }

    fn limits(self) -> Limits {
        let mut limits = World::limits();
        if self.small_requests {
            limits.request = RequestLimits {
                max_args: 12,
                max_bulk_bytes: 40,
                max_inline_bytes: 60,
                max_request_bytes: 200,
                authenticated: true,
            };
            limits.split_max_keys = 4;
        }
        if self.short_queue {
            limits.session_in_flight = 2;
            limits.park_max_requests = 2;
        }
        if self.little_memory {
            limits.output_pause_bytes = 200;
            limits.reply_bytes = 1000;
            limits.input_ahead_bytes = 100;
            limits.request_bytes = 400;
            limits.request_share = 60;
        }
        if self.two_links {
            limits.links_per_node = 2;
        }
        if self.uploads {
            limits.upload_bytes = 8;
        }
        limits
    }
}

/// The check of this target.
pub fn check(data: &[u8]) {
    let [options, piece, script @ ..] = data else {
        return;
    };
    let options = Options::of(*options);
    let mut run = Run::new(options);
    for step in steps(script, *piece) {
        match step {
            Step::Bytes(bytes) => run.send(bytes),
            Step::Event(event) => run.event(event),
        }
        run.settle();
    }
    run.rest();
    run.check_client();
    run.check_other();
}

struct Run {
    options: Options,
    world: World,
    client: Client,
    /// What the client has sent.
    sent: Vec<u8>,
    reading: bool,
    other: Client,
    /// What the other client must get, in this order.
    expected: Vec<Vec<u8>>,
    answering: bool,
    /// What is to become of the next requests.
    trouble: VecDeque<u8>,
    /// Some request of anybody was not just answered.
    disturbed: bool,
    /// A connection was lost, so that the fate of a request may be unknown.
    lost: bool,
    clients: u64,
}

impl Run {
    fn new(options: Options) -> Self {
        let mut world = World::new(options.limits(), Upstream::default());
        if !options.no_topology {
            world.engine.set_snapshot(first_snapshot());
        }
        let password = options.password.then_some("secret");
        let client = Client::connect(&mut world.engine, 1, password);
        let other = Client::connect(&mut world.engine, 2, None);
        Self {
            options,
            world,
            client,
            sent: Vec::new(),
            reading: true,
            other,
            expected: Vec::new(),
            answering: true,
            trouble: VecDeque::new(),
            disturbed: options.no_topology || options.short_queue,
            lost: false,
            clients: 2,
        }
    }

    /// As the shell, only when the engine wants it.
    fn send(&mut self, bytes: &[u8]) {
        if !self.world.engine.wants_input(self.client.key) {
            return;
        }
        self.sent.extend_from_slice(bytes);
        self.world.engine.on_client(self.client.key, bytes);
        self.world.flush();
    }

    fn event(&mut self, event: u8) {
        match event {
            b'o' => self.other_asks(),
            b'l' => self.replace_client(),
            b'r' => self.reading = !self.reading,
            b'h' => self.answering = !self.answering,
            b's' if !self.world.slow.is_empty() => self.world.hurry(),
            b's' => self.world.slow = &PORTS,
            b'n' => {
                self.disturbed = true;
                self.world.move_slots();
            }
            b't' => self.pass(1),
            b'T' => self.pass(20),
            b'e' | b'm' | b'a' | b'y' | b'd' | b'p' | b'c' | b'g' => self.trouble.push_back(event),
            _ => {}
        }
    }

    fn pass(&mut self, steps: usize) {
        // Nodes that hang are given up.
        self.lost |= !self.answering || !self.world.slow.is_empty();
        for _ in 0..steps {
            self.world.pass(Duration::from_millis(50));
            self.settle();
        }
    }

    fn other_asks(&mut self) {
        if !self.world.engine.wants_input(self.other.key) {
            return;
        }
        let key = format!("other{}", self.expected.len());
        let words = [&b"GET"[..], key.as_bytes()];
        let mut request = Vec::new();
        write::command(&mut request, &words);
        self.expected.push(echo(&words.map(<[u8]>::to_vec)));
        self.world.engine.on_client(self.other.key, &request);
        self.world.flush();
    }

    fn replace_client(&mut self) {
        self.check_replies_so_far();
        self.world
            .engine
            .remove_session(self.client.key, CloseReason::Client);
        self.world.flush();
        self.clients += 1;
        let password = self.options.password.then_some("secret");
        self.client = Client::connect(&mut self.world.engine, self.clients, password);
        self.sent.clear();
    }

    /// Everybody does what can be done without time passing.
    fn settle(&mut self) {
        loop {
            self.world.flush();
            if self.reading {
                self.client.read(&mut self.world.engine);
            }
            self.other.read(&mut self.world.engine);
            self.world.flush();
            if !self.answering {
                return;
            }
            let Some(request) = self.world.next_request(|_| true) else {
                return;
            };
            self.answer(&request);
        }
    }

    fn answer(&mut self, request: &Received) {
        if let Some(reply) = introduction(&request.args, request.port, request.number) {
            return self.world.reply(request.link, &reply);
        }
        let is_others = request
            .args
            .get(1)
            .is_some_and(|key| key.starts_with(b"other"));
        let is_asking = request.args[..] == [b"ASKING"];
        let trouble = if is_others || is_asking {
            None
        } else {
            self.trouble.pop_front()
        };
        self.disturbed |= trouble.is_some();
        let honest = answer(&request.args);
        let reply = match trouble {
            None => honest,
            Some(b'p') => [b">2\r\n+push\r\n:1\r\n", honest.as_slice()].concat(),
            Some(b'c') => {
                self.lost = true;
                return self.world.close(request.link);
            }
            Some(b'g') => {
                self.lost = true;
                self.world.reply(request.link, b"\r\n?");
                return assert!(
                    self.world.index(request.link).is_none(),
                    "garbage is followed"
                );
            }
            Some(other) => refusal(other, request),
        };
        self.world.reply(request.link, &reply);
    }

    /// Time passes until everybody has their replies.
    fn rest(&mut self) {
        self.world.hurry();
        (self.reading, self.answering) = (true, true);
        if !self.comes_to_rest() && self.options.no_topology {
            // A client that blocks without end waits for the first one without end.
            self.world.engine.set_snapshot(first_snapshot());
        }
        assert!(self.comes_to_rest(), "requests are never answered");
    }

    fn comes_to_rest(&mut self) -> bool {
        for _ in 0..PATIENCE {
            self.settle();
            if self.is_answered(&self.client) && self.is_answered(&self.other) {
                return true;
            }
            self.world.pass(Duration::from_millis(50));
        }
        false
    }

    fn is_answered(&self, client: &Client) -> bool {
        let session = self.world.engine.session(client.key);
        session.is_none_or(|session| session.queue.is_empty() && session.out.is_empty())
    }

    // === What must hold ===

    fn check_replies_so_far(&mut self) {
        if self.reading {
            self.client.read(&mut self.world.engine);
        }
        let owed = Owed::of(&self.sent, self.options.limits().request);
        assert!(self.options.password || self.client.replies.len() <= owed.replies.len());
    }

    fn check_client(&self) {
        self.client.assert_whole();
        if self.options.password {
            // How much is read before the password depends on when it was given.
            return;
        }
        let owed = Owed::of(&self.sent, self.options.limits().request);
        let session = self.world.engine.session(self.client.key);
        let closing = session.expect("the client is there").closing;
        if closing == Some(CloseReason::Quit) {
            return assert!(self.client.replies.len() <= owed.replies.len());
        }
        assert_eq!(closing.is_some(), owed.ends, "{closing:?}");
        assert_eq!(
            self.client.replies.len(),
            owed.replies.len(),
            "replies of the client"
        );
        for (reply, expected) in self.client.replies.iter().zip(&owed.replies) {
            if let Some(expected) = expected {
                // Nothing but an error may take its place, and one that leaves the fate open only where it is.
                let is_error = reply.first() == Some(&b'-');
                let is_unknown = reply.starts_with(b"-UNCERTAIN");
                assert!(
                    reply == expected || is_error && (self.lost || !is_unknown),
                    "{} is not the reply to {}",
                    reply.escape_ascii(),
                    expected.escape_ascii()
                );
            }
        }
    }

    fn check_other(&self) {
        self.other.assert_whole();
        assert_eq!(self.other.replies.len(), self.expected.len());
        for (reply, expected) in self.other.replies.iter().zip(&self.expected) {
            let excused = (self.lost || self.disturbed) && reply.first() == Some(&b'-');
            assert!(
                reply == expected || excused,
                "{} is not the reply to {}",
                reply.escape_ascii(),
                expected.escape_ascii()
            );
        }
    }
}

/// A reply that says "not executed", or just an error.
fn refusal(kind: u8, request: &Received) -> Vec<u8> {
    let slot = request.args.get(1).map_or(0, |key| Slot::of_key(key).get());
    let next = PORTS
        .iter()
        .position(|port| *port == request.port)
        .map_or(PORTS[0], |index| PORTS[(index + 1) % PORTS.len()]);
    let text = match kind {
        b'm' => format!("-MOVED {slot} 127.0.0.1:{next}\r\n"),
        b'a' => format!("-ASK {slot} 127.0.0.1:{next}\r\n"),
        b'y' => "-TRYAGAIN Multiple keys request during rehashing of slot\r\n".to_owned(),
        b'd' => "-CLUSTERDOWN The cluster is down\r\n".to_owned(),
        _ => "-ERR trouble\r\n".to_owned(),
    };
    text.into_bytes()
}

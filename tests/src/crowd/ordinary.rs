//! The other clients: small requests at a moderate pace, every reply compared with the only one that is right.
//!
//! One thread serves them all. Each has one request under way at most, and one due every [`PERIOD`]. A time is counted from the
//! moment when its request was due, so a reply that is late makes the next ones of the client late too, and nothing is left out of
//! the percentiles because nobody could ask.

use super::target::{Target, connect};
use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Clients.
const CLIENTS: usize = 50;
/// Time between two requests of one client: 2,000 requests a second in all, some percents of what the machine can do.
const PERIOD: Duration = Duration::from_millis(25);
/// Keys of one client.
const KEYS: usize = 6;
/// A reply that takes longer will not come.
const LOST: Duration = Duration::from_secs(60);
/// The thread looks at least this often whether it is to end.
const LOOK: Duration = Duration::from_millis(10);

/// One answered request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// When it was due
    pub(super) due: Instant,
    /// Time from then to its reply
    pub(super) took: Duration,
}

/// The clients at work.
pub(super) struct Ordinary {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Sample>>>,
}

impl Ordinary {
    pub(super) fn start(target: &Target) -> Result<Self> {
        let mut clients: Vec<Client> = (0..CLIENTS)
            .map(|number| Client::connect(target, number))
            .collect::<Result<_>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut samples = Vec::new();
            let mut end = None;
            // What was due before the end is asked and answered: it is the late ones that count.
            while end.is_none_or(|end| clients.iter().any(|client| client.has_work(end))) {
                turn(&mut clients, &mut samples, end)?;
                if stopped.load(Ordering::Relaxed) {
                    end.get_or_insert_with(Instant::now);
                }
            }
            Ok(samples)
        });
        Ok(Self { stop, thread })
    }

    /// Fails if a reply was wrong or did not come.
    pub(super) fn stop(self) -> Result<Vec<Sample>> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self
            .thread
            .join()
            .ok()
            .context("the ordinary clients' thread panicked")?;
        ended.context("an ordinary client")
    }
}

/// Sends what is due, and was so before the end, and reads what has come.
fn turn(clients: &mut [Client], samples: &mut Vec<Sample>, end: Option<Instant>) -> Result<()> {
    let now = Instant::now();
    let mut pause = LOOK;
    for client in clients.iter_mut().filter(|client| client.waiting.is_none()) {
        if client.due <= now && end.is_none_or(|end| client.due < end) {
            client.ask()?;
        } else {
            pause = pause.min(client.due.saturating_duration_since(now));
        }
    }
    let mut ready: Vec<PollFd<'_>> = Vec::with_capacity(CLIENTS);
    let mut asked: Vec<usize> = Vec::with_capacity(CLIENTS);
    for (number, client) in clients.iter().enumerate() {
        if let Some(waiting) = &client.waiting {
            ready.push(PollFd::new(&client.conns[waiting.place], PollFlags::IN));
            asked.push(number);
        }
    }
    poll(&mut ready, Some(&Timespec::try_from(pause)?))?;
    let is_ready = |found: &PollFd<'_>| !found.revents().is_empty();
    let readable: Vec<usize> = ready
        .iter()
        .zip(asked)
        .filter(|(found, _)| is_ready(found))
        .map(|(_, n)| n)
        .collect();
    for number in readable {
        samples.extend(clients[number].read()?);
    }
    let late = |client: &Client| client.waiting.is_some() && client.due + LOST < now;
    ensure!(!clients.iter().any(late), "no reply within {LOST:?}");
    Ok(())
}

/// One client.
struct Client {
    /// To the proxy, or to every node
    conns: Vec<TcpStream>,
    keys: Vec<Key>,
    requests: u64,
    /// When the request under way was due, or the next is
    due: Instant,
    waiting: Option<Waiting>,
}

struct Key {
    name: String,
    place: usize,
    /// What was last written to it
    token: Option<String>,
}

struct Waiting {
    place: usize,
    expected: Vec<u8>,
    got: Vec<u8>,
}

impl Client {
    fn connect(target: &Target, number: usize) -> Result<Self> {
        let open = |address| -> Result<TcpStream> {
            let stream = connect(address, number)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let run = fastrand::u32(..);
        let key = |n| {
            let name = format!("ordinary:{run:08x}:{number}:{n}");
            Key {
                place: target.place_of(&name),
                name,
                token: None,
            }
        };
        Ok(Self {
            conns: target
                .addresses()
                .into_iter()
                .map(open)
                .collect::<Result<_>>()?,
            keys: (0..KEYS).map(key).collect(),
            requests: 0,
            // Evenly spread over the period.
            due: Instant::now() + PERIOD * u32::try_from(number)? / u32::try_from(CLIENTS)?,
            waiting: None,
        })
    }

    /// Whether a request was due before the end and is not answered.
    fn has_work(&self, end: Instant) -> bool {
        self.waiting.is_some() || self.due < end
    }

    /// A `SET` of a new token, or a `GET` that must show the last one.
    fn ask(&mut self) -> Result<()> {
        let n = self.requests;
        self.requests += 1;
        let key = &mut self.keys[usize::try_from(n / 2)? % KEYS];
        let (request, expected) = if n.is_multiple_of(2) {
            let token = format!("{}={n}", key.name);
            let request = crate::resp::encode(&["SET", &key.name, &token]);
            key.token = Some(token);
            (request, b"+OK\r\n".to_vec())
        } else {
            let token = key.token.as_deref().unwrap_or_default();
            let expected = format!("${}\r\n{token}\r\n", token.len());
            (
                crate::resp::encode(&["GET", &key.name]),
                expected.into_bytes(),
            )
        };
        // One request of a few bytes always fits into a socket that has none unsent.
        (&self.conns[key.place]).write_all(&request)?;
        self.waiting = Some(Waiting {
            place: key.place,
            expected,
            got: Vec::new(),
        });
        Ok(())
    }

    /// Reads; the sample if the reply is whole.
    fn read(&mut self) -> Result<Option<Sample>> {
        let Some(waiting) = &mut self.waiting else {
            return Ok(None);
        };
        let mut scratch = [0; 512];
        match (&self.conns[waiting.place]).read(&mut scratch) {
            Ok(0) => bail!("disconnected"),
            Ok(count) => waiting.got.extend_from_slice(&scratch[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        if !waiting.expected.starts_with(&waiting.got) {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            bail!(
                "expected {:?}, got {:?}",
                text(&waiting.expected),
                text(&waiting.got)
            );
        }
        if waiting.got.len() < waiting.expected.len() {
            return Ok(None);
        }
        self.waiting = None;
        let due = self.due;
        self.due += PERIOD;
        Ok(Some(Sample {
            due,
            took: due.elapsed(),
        }))
    }
}

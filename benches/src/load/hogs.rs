//! Two clients that take more than their share, beside those that are measured.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::probe::connect;
use super::workloads::{BIG, SMALL};

/// Commands that the pipeliner writes at once.
const PIPELINED: usize = 10_000;
/// Replies of 1 MiB that the slow reader asks for at once: more than it reads while it is there.
const UNREAD: usize = 64;
/// What it reads at a time, ...
const SIP: usize = 16 << 10;
/// ... and how long it rests then: 1.6 MB a second.
const REST: Duration = Duration::from_millis(10);
/// How far behind the others these threads stand in the scheduler's queue: what they take from the servers and the proxy is to be
/// seen, not what they take from the clients that are measured.
const NICENESS: i32 = 10;

/// The two at work.
#[derive(Debug)]
pub(super) struct Hogs {
    /// Dropped to end them
    stop: Vec<Sender<()>>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Hogs {
    pub(super) fn start(address: SocketAddrV4) -> Result<Self> {
        let mut hogs = Self {
            stop: Vec::new(),
            threads: Vec::new(),
        };
        for hog in [read_slowly, pipeline] {
            let stream = connect(address)?;
            let (stop, stopped) = channel();
            hogs.stop.push(stop);
            hogs.threads.push(std::thread::spawn(move || {
                // Refused only to be less nice, not to be nicer.
                let _ = rustix::process::nice(NICENESS);
                hog(stream, &stopped)
            }));
        }
        Ok(hogs)
    }

    /// Fails if one was disconnected, or got a reply that is wrong or none.
    pub(super) fn end(self) -> Result<()> {
        drop(self.stop);
        let mut joined = self
            .threads
            .into_iter()
            .map(|thread| thread.join().ok().context("a hog panicked")?);
        joined.try_for_each(|result| result)
    }
}

/// Asks for much, and reads it by and by.
fn read_slowly(mut stream: TcpStream, stopped: &Receiver<()>) -> Result<()> {
    let requests = (0..UNREAD).map(|n| harness::encode(&["GET", &BIG.key(n % BIG.keys)]));
    stream.write_all(&requests.flatten().collect::<Vec<u8>>())?;
    let mut sip = vec![0; SIP];
    // However much is read, it is never all.
    while stopped.recv_timeout(REST) == Err(RecvTimeoutError::Timeout) {
        let count = stream.read(&mut sip).context("the slow reader")?;
        ensure!(count > 0, "the slow reader was disconnected");
    }
    Ok(())
}

/// Writes long pipelines one after the other, each when the one before is answered.
fn pipeline(mut stream: TcpStream, stopped: &Receiver<()>) -> Result<()> {
    let value = SMALL.value();
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for n in 0..PIPELINED {
        let key = SMALL.key(n);
        if n.is_multiple_of(2) {
            requests.extend(harness::encode(&["SET", &key, &value]));
            expected.extend_from_slice(b"+OK\r\n");
        } else {
            requests.extend(harness::encode(&["GET", &key]));
            write!(expected, "${}\r\n{value}\r\n", value.len())?;
        }
    }
    let mut replies = vec![0; expected.len()];
    while stopped.try_recv() == Err(TryRecvError::Empty) {
        stream.write_all(&requests).context("the pipeliner")?;
        stream.read_exact(&mut replies).context("the pipeliner")?;
        ensure!(replies == expected, "the pipeliner got a wrong reply");
    }
    Ok(())
}

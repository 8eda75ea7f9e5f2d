//! A small blocking RESP client: one command, pipelines, or raw bytes.

use crate::resp::{Parsed, Reply, encode, parse_reply};
use anyhow::{Context, Result, bail, ensure};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a reply may take before the test fails.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes read from the socket at once.
const SCRATCH_BYTES: usize = 64 * 1024;

/// One client connection.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    input: Vec<u8>,
    /// Bytes of `input` that were handed out already.
    taken: usize,
    /// Where the socket is read into.
    scratch: Vec<u8>,
}

impl Conn {
    /// Connects.
    ///
    /// # Errors
    /// If the connection is not accepted within a second.
    pub fn open(address: impl Into<SocketAddr>) -> Result<Self> {
        let address = address.into();
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))
            .with_context(|| format!("cannot connect to {address}"))?;
        Self::over(stream)
    }

    /// A client on a connection that is there.
    ///
    /// # Errors
    /// If the socket refuses a setting.
    pub fn over(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        stream.set_write_timeout(Some(READ_TIMEOUT))?;
        Ok(Self {
            stream,
            input: Vec::new(),
            taken: 0,
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    /// Connects and switches to RESP3.
    ///
    /// # Errors
    /// If the connection or `HELLO 3` is refused.
    pub fn open_resp3(address: impl Into<SocketAddr>) -> Result<Self> {
        let mut conn = Self::open(address)?;
        let hello = conn.line("HELLO 3")?;
        ensure!(
            matches!(hello, Reply::Map(_)),
            "HELLO 3 was answered by {hello:?}"
        );
        Ok(conn)
    }

    /// Changes how long a reply may take.
    ///
    /// # Errors
    /// If the socket refuses it.
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<()> {
        Ok(self.stream.set_read_timeout(Some(timeout))?)
    }

    /// The underlying socket, for tests that read or write it by themselves.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Writes one request.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn send<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Result<()> {
        self.send_raw(&encode(arguments))
    }

    /// Writes one request and reads its reply.
    ///
    /// # Errors
    /// If the connection is gone or the reply does not come. A server's error reply is no error here.
    pub fn call<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Result<Reply> {
        self.send(arguments)?;
        self.read()
            .with_context(|| format!("no reply to {}", show(arguments)))
    }

    /// [`Self::call`] for a command without blanks inside its arguments.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn line(&mut self, command: &str) -> Result<Reply> {
        let arguments: Vec<&str> = command.split_whitespace().collect();
        self.call(&arguments)
    }

    /// As [`Self::line`], and a server's error reply is an error.
    ///
    /// # Errors
    /// As [`Self::line`], or if the server answered with an error.
    pub fn must(&mut self, command: &str) -> Result<Reply> {
        let reply = self.line(command)?;
        match reply.error() {
            Some(text) => bail!("{command}: {text}"),
            None => Ok(reply),
        }
    }

    /// Writes all commands at once, then reads all replies.
    ///
    /// # Errors
    /// If the connection is gone or a reply does not come.
    pub fn pipeline<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) -> Result<Vec<Reply>> {
        let bytes: Vec<u8> = commands
            .iter()
            .flat_map(|command| encode(command))
            .collect();
        self.send_raw(&bytes)?;
        self.read_many(commands.len())
    }

    /// Reads this many replies.
    ///
    /// # Errors
    /// If the connection is gone or a reply does not come.
    pub fn read_many(&mut self, count: usize) -> Result<Vec<Reply>> {
        (0..count)
            .map(|n| {
                self.read()
                    .with_context(|| format!("reply {} of {count}", n + 1))
            })
            .collect()
    }

    /// Reads one reply.
    ///
    /// # Errors
    /// If the connection is gone or the reply does not come.
    pub fn read(&mut self) -> Result<Reply> {
        Ok(self.read_with_bytes()?.0)
    }

    /// Reads one reply and gives its bytes.
    ///
    /// # Errors
    /// If the connection is gone or the reply does not come.
    pub fn read_bytes(&mut self) -> Result<Vec<u8>> {
        Ok(self.read_with_bytes()?.1)
    }

    fn read_with_bytes(&mut self) -> Result<(Reply, Vec<u8>)> {
        // A big reply is parsed again only when it can have come further, so reading it stays linear.
        let mut needed = 1;
        loop {
            let pending = &self.input[self.taken..];
            if pending.len() >= needed {
                match parse_reply(pending)? {
                    Parsed::Whole(reply, length) => {
                        let bytes = pending[..length].to_vec();
                        self.taken += length;
                        return Ok((reply, bytes));
                    }
                    Parsed::Needs(more) => needed = more,
                }
            }
            if self.fill()? == 0 {
                bail!(
                    "connection closed; unread: {}",
                    show(&[&self.input[self.taken..]])
                );
            }
        }
    }

    /// True if the other side ended the connection, which gave this error, and no reply was cut in half.
    pub(crate) fn ended_between_replies(&self, error: &anyhow::Error) -> bool {
        let kind = error
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind);
        let late = matches!(kind, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut));
        !late && self.taken == self.input.len()
    }

    fn fill(&mut self) -> Result<usize> {
        if self.taken > 0 {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        let count = match self.stream.read(&mut self.scratch) {
            Ok(count) => Ok(count),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(anyhow::Error::new(error).context("no reply in time"))
            }
            Err(error) => Err(error.into()),
        };
        let read = count.as_ref().copied().unwrap_or(0);
        self.input.extend_from_slice(&self.scratch[..read]);
        count
    }

    /// True if bytes of a reply are already here or arrive within the timeout; false if nothing comes.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn has_reply_within(&mut self, timeout: Duration) -> Result<bool> {
        if self.input.len() > self.taken {
            return Ok(true);
        }
        let before = self.stream.read_timeout()?;
        self.stream.set_read_timeout(Some(timeout))?;
        let mut byte = [0];
        let peeked = self.stream.peek(&mut byte);
        self.stream.set_read_timeout(before)?;
        match peeked {
            Ok(0) => bail!("connection closed"),
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Expects the other side to close, and gives the bytes that came before.
    ///
    /// # Errors
    /// If the connection stays open.
    pub fn read_to_close(&mut self) -> Result<Vec<u8>> {
        loop {
            match self.fill() {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    let kind = error
                        .downcast_ref::<std::io::Error>()
                        .map(std::io::Error::kind);
                    if kind == Some(ErrorKind::ConnectionReset) {
                        break;
                    }
                    return Err(error.context("the connection was not closed"));
                }
            }
        }
        Ok(self.input.split_off(self.taken))
    }

    /// Closes the writing side only.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn close_write(&mut self) -> Result<()> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }
}

/// A request as text, shortened.
fn show<A: AsRef<[u8]>>(arguments: &[A]) -> String {
    let words: Vec<String> = arguments
        .iter()
        .map(|argument| {
            String::from_utf8_lossy(argument.as_ref())
                .chars()
                .take(60)
                .collect()
        })
        .collect();
    words.join(" ").chars().take(200).collect()
}

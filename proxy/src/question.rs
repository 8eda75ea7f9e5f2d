//! A connection for asking a server single questions, off the request path: one at a time, each answered before the next.

use std::io;
use std::net::IpAddr;

use slotway_core::config::Secret;
use slotway_core::resp::{ReplyScanner, Value, parse_value, write};
use slotway_core::topology::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest answer accepted: INFO of a server with many commands in use is some tens of KiB, COMMAND some hundreds.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// What a server answered: text, or the text of its error.
pub(crate) type Answer = Result<String, String>;

/// The connection. After any I/O error, and if an answer was not waited for, it must be dropped.
#[derive(Debug)]
pub(crate) struct Questioner {
    stream: TcpStream,
    input: Vec<u8>,
    /// Bytes of the input that were given out.
    taken: usize,
}

impl Questioner {
    /// Connects; names are looked up.
    pub(crate) async fn connect(address: &Address) -> io::Result<Self> {
        let stream = match address.host.parse::<IpAddr>() {
            Ok(ip) => TcpStream::connect((ip, address.port)).await?,
            Err(_) => TcpStream::connect((&*address.host, address.port)).await?,
        };
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            input: Vec::new(),
            taken: 0,
        })
    }

    /// Where it leads, whatever name it was opened by.
    pub(crate) fn peer(&self) -> io::Result<Address> {
        let peer = self.stream.peer_addr()?;
        Ok(Address::new(&peer.ip().to_string(), peer.port()))
    }

    /// Logs in, if there is a password. `AUTH` is a question of its own: a batch could lose the reply of a failing one.
    pub(crate) async fn log_in(
        &mut self,
        user: Option<&str>,
        password: Option<&Secret>,
    ) -> io::Result<Answer> {
        let Some(password) = password else {
            return Ok(Ok(String::new()));
        };
        match user {
            Some(user) => self.ask(&["AUTH", user, password.expose()]).await,
            None => self.ask(&["AUTH", password.expose()]).await,
        }
    }

    /// Sends a command and waits for its reply, which is text.
    pub(crate) async fn ask(&mut self, words: &[&str]) -> io::Result<Answer> {
        text(self.ask_anything(words).await?)
    }

    /// Sends a command and waits for its reply: the bytes of one whole reply, of any kind.
    pub(crate) async fn ask_anything(&mut self, words: &[&str]) -> io::Result<&[u8]> {
        self.send(words).await?;
        let end = self.receive().await?;
        if end == self.input.len() {
            Ok(&self.input)
        } else {
            Err(invalid())
        }
    }

    /// Sends a command, the replies to which are waited for with [`Self::next`].
    pub(crate) async fn send(&mut self, words: &[&str]) -> io::Result<()> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let mut request = Vec::new();
        write::command(&mut request, &words);
        self.stream.write_all(&request).await
    }

    /// The bytes of the next reply, whenever it comes. May be given up and called again: nothing is lost.
    pub(crate) async fn next(&mut self) -> io::Result<Vec<u8>> {
        let end = self.receive().await?;
        Ok(self.input.get(..end).unwrap_or_default().to_vec())
    }

    /// Reads until a whole reply is there; where it ends.
    async fn receive(&mut self) -> io::Result<usize> {
        self.input.drain(..std::mem::take(&mut self.taken));
        let mut scanner = ReplyScanner::default();
        loop {
            match scanner.scan(&self.input) {
                Ok(Some(end)) => {
                    self.taken = end;
                    return Ok(end);
                }
                Ok(None) if self.input.len() <= MAX_ANSWER_BYTES => {}
                _ => return Err(invalid()),
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not an answer to the question")
}

fn text(reply: &[u8]) -> io::Result<Answer> {
    let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match parse_value(reply) {
        Ok(Some((Value::Error(error) | Value::BulkError(error), _))) => Ok(Err(show(error))),
        Ok(Some((Value::Simple(text) | Value::Bulk(text) | Value::Verbatim(text), _))) => {
            Ok(Ok(show(text)))
        }
        Ok(Some((Value::Integer(number), _))) => Ok(Ok(number.to_string())),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What `PING` comes to if the server answers `reply`, in pieces of one byte.
    async fn answered(reply: &'static [u8]) -> io::Result<Answer> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let server = async {
            let (mut stream, _) = listener.accept().await?;
            let mut request = [0; 14];
            stream.read_exact(&mut request).await?;
            assert_eq!(&request, b"*1\r\n$4\r\nPING\r\n");
            stream.set_nodelay(true)?;
            for byte in reply.chunks(1) {
                stream.write_all(byte).await?;
                tokio::task::yield_now().await;
            }
            Ok::<(), io::Error>(())
        };
        let client = async {
            Questioner::connect(&Address::new("127.0.0.1", port))
                .await?
                .ask(&["PING"])
                .await
        };
        // The server may find that the client has had enough.
        let (_, answer) = tokio::join!(server, client);
        answer
    }

    #[tokio::test(flavor = "current_thread")]
    async fn answers_are_text_or_the_servers_error() {
        assert_eq!(answered(b"+PONG\r\n").await.unwrap(), Ok("PONG".to_owned()));
        assert_eq!(
            answered(b"$4\r\na\r\nb\r\n").await.unwrap(),
            Ok("a\r\nb".to_owned())
        );
        assert_eq!(answered(b":12\r\n").await.unwrap(), Ok("12".to_owned()));
        assert_eq!(
            answered(b"-NOAUTH no\r\n").await.unwrap(),
            Err("NOAUTH no".to_owned())
        );
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_server_that_breaks_the_rules_is_an_error() {
        assert_eq!(
            answered(b"HTTP/1.1 400\r\n").await.unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(
            answered(b"$10\r\nhalf").await.unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}

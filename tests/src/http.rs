//! The one HTTP request the tests need.

use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Answer of the admin listener.
#[derive(Debug)]
pub struct HttpReply {
    /// Status code
    pub status: u16,
    /// Header lines, as sent
    pub head: String,
    /// Body as text
    pub body: String,
}

/// `GET path`, on a connection of its own.
///
/// # Errors
/// If the answer does not come or is no HTTP.
pub fn http_get(address: impl Into<SocketAddr>, path: &str) -> Result<HttpReply> {
    let address = address.into();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // HTTP/1.0: the answer ends with the connection and is never sent in chunks.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("no end of the HTTP header")?;
    let status = head.split_whitespace().nth(1).context("no HTTP status")?;
    Ok(HttpReply {
        status: status.parse()?,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

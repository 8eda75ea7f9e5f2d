//! Two connections, to a server and to the proxy, that are sent the same bytes.

use super::Words;
use crate::conn::Conn;
use crate::resp::{Reply, encode};
use anyhow::{Context, Result};
use std::net::SocketAddrV4;

/// Asked for after commands with any number of replies: the last reply is this.
const MARKER: &str = "end-of-the-replies";

/// Where to send the commands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) server: SocketAddrV4,
    pub(super) proxy: SocketAddrV4,
    pub(super) resp3: bool,
}

/// The replies to one command: the server's and the proxy's.
pub(super) type Replies = (Vec<u8>, Vec<u8>);

/// Both connections.
#[derive(Debug)]
pub(super) struct Pair {
    server: Conn,
    proxy: Conn,
}

impl Pair {
    pub(super) fn open(addresses: Addresses) -> Result<Self> {
        let open = |address| match addresses.resp3 {
            true => Conn::open_resp3(address),
            false => Conn::open(address),
        };
        Ok(Self {
            server: open(addresses.server)?,
            proxy: open(addresses.proxy)?,
        })
    }

    /// All commands in one write to each side; every command has one reply.
    pub(super) fn exchange<'a>(
        &mut self,
        lines: impl IntoIterator<Item = &'a Words> + Clone,
    ) -> Result<Vec<Replies>> {
        let bytes: Vec<u8> = lines
            .clone()
            .into_iter()
            .flat_map(|line| encode(line))
            .collect();
        self.server.send_raw(&bytes)?;
        self.proxy.send_raw(&bytes)?;
        let reply = |line: &Words| {
            let what = || super::shown(line);
            let server = self.server.read_bytes();
            let proxy = self.proxy.read_bytes();
            Ok((
                server.with_context(|| format!("the server on {}", what()))?,
                proxy.with_context(|| format!("the proxy on {}", what()))?,
            ))
        };
        lines.into_iter().map(reply).collect()
    }

    /// Commands after which the connection is another one, or none, or with other than one reply each. The first replies may have
    /// to be looked at one by one; missing ones are empty.
    pub(super) fn exchange_last(mut self, lines: &[Words]) -> Result<Vec<Replies>> {
        let mut bytes: Vec<u8> = lines.iter().flat_map(|line| encode(line)).collect();
        bytes.extend(encode(&["CLIENT", "REPLY", "ON"]));
        bytes.extend(encode(&["PING", MARKER]));
        self.server.send_raw(&bytes)?;
        self.proxy.send_raw(&bytes)?;
        let mut server = replies_to_marker(&mut self.server).context("the server")?;
        let mut proxy = replies_to_marker(&mut self.proxy).context("the proxy")?;
        let count = server.len().max(proxy.len());
        server.resize_with(count, Vec::new);
        proxy.resize_with(count, Vec::new);
        Ok(server.into_iter().zip(proxy).collect())
    }
}

/// The replies up to the end of the connection or the one that ends them, which is left out.
fn replies_to_marker(conn: &mut Conn) -> Result<Vec<Vec<u8>>> {
    let mut replies = Vec::new();
    loop {
        let bytes = match conn.read_bytes() {
            Ok(bytes) => bytes,
            Err(error) if conn.ended_between_replies(&error) => return Ok(replies),
            Err(error) => return Err(error),
        };
        if super::rules::whole(&bytes).is_some_and(|reply| is_marker(&reply)) {
            return Ok(replies);
        }
        replies.push(bytes);
    }
}

/// In a subscriber's RESP2 connection the answer to PING is an array.
fn is_marker(reply: &Reply) -> bool {
    match reply {
        Reply::Bulk(bytes) => bytes == MARKER.as_bytes(),
        Reply::Array(items) => items.last().is_some_and(is_marker),
        _ => false,
    }
}

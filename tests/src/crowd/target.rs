//! Where clients go: to the proxy, or, as the control, straight to the node that owns the key.

use crate::cluster::Cluster;
use crate::slot_of;
use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::ops::RangeInclusive;
use std::time::Duration;

/// How long a reply may take before the run fails.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Addresses that connections come from in turn: ports of closed ones stay taken for a minute.
const SOURCES: usize = 8;

/// What is measured.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Proxy(SocketAddrV4),
    /// The control: nodes by their slots.
    Nodes(Vec<(RangeInclusive<u16>, SocketAddrV4)>),
}

impl Target {
    pub(super) fn nodes(cluster: &Cluster) -> Result<Self> {
        let owner = |shard| -> Result<_> {
            Ok((cluster.initial_slots(shard), cluster.node(shard)?.address()))
        };
        Ok(Self::Nodes(
            (0..cluster.primaries()).map(owner).collect::<Result<_>>()?,
        ))
    }

    /// Every address there is; a client that uses several keys has a connection to each.
    pub(super) fn addresses(&self) -> Vec<SocketAddrV4> {
        match self {
            Self::Proxy(address) => vec![*address],
            Self::Nodes(owners) => owners.iter().map(|(_, address)| *address).collect(),
        }
    }

    /// Which of [`Self::addresses`] serves a key.
    pub(super) fn place_of(&self, key: &str) -> usize {
        match self {
            Self::Proxy(_) => 0,
            Self::Nodes(owners) => {
                let slot = slot_of(key.as_bytes());
                let owns = |(slots, _): &(RangeInclusive<u16>, _)| slots.contains(&slot);
                owners.iter().position(owns).unwrap_or(0)
            }
        }
    }

    /// A blocking connection to whoever serves `key`; `number` tells from which address.
    pub(super) fn connect_for(&self, key: &str, number: usize) -> Result<TcpStream> {
        connect(self.addresses()[self.place_of(key)], number)
    }
}

/// A blocking connection.
pub(super) fn connect(address: SocketAddrV4, number: usize) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let source = Ipv4Addr::new(127, 0, 1, u8::try_from(1 + number % SOURCES)?);
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    let connected = socket.connect_timeout(&SocketAddr::from(address).into(), TIMEOUT);
    connected.with_context(|| format!("cannot connect to {address}"))?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

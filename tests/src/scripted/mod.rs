//! Nodes that answer as told: redirect loops, refusals, half replies and silence, which real servers will not give on demand.
//!
//! A [`ScriptedCluster`] presents itself as a healthy cluster (`CLUSTER NODES`, `SLOTS`, `INFO`, `MYID`) and keeps keys in
//! memory. A handler sees every request first and may answer it in another way.

mod answers;

use crate::net::next_address;
use crate::resp::{Parsed, parse_reply};
use crate::shared::Shared;
use crate::{Reply, SLOT_COUNT};
use anyhow::Result;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One request as a scripted node received it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Number of the node that received it
    pub node: usize,
    /// Number of the connection, unique in the cluster
    pub connection: u64,
    /// Arguments; the first is the command name in upper case
    pub arguments: Vec<Vec<u8>>,
    /// True if `ASKING` came right before it
    pub asking: bool,
    /// True on a connection that said `HELLO 3`
    pub resp3: bool,
}

impl Request {
    /// The command name in upper case.
    #[must_use]
    pub fn name(&self) -> String {
        self.text(0)
    }

    /// An argument as text; empty if there is none.
    #[must_use]
    pub fn text(&self, index: usize) -> String {
        let bytes = self
            .arguments
            .get(index)
            .map(Vec::as_slice)
            .unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }
}

/// What a scripted node does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answers as a healthy node would
    Default,
    /// Writes these bytes
    Reply(Vec<u8>),
    /// Writes these bytes (perhaps none, or half a reply) and closes the connection
    ReplyThenClose(Vec<u8>),
    /// Never answers this request; later ones are answered
    Silence,
}

impl Action {
    /// An error reply; the text without the dash.
    #[must_use]
    pub fn error(text: &str) -> Self {
        Self::Reply(format!("-{text}\r\n").into_bytes())
    }
}

/// One row of the topology that the nodes show.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// 40 hex digits
    pub id: String,
    /// Address
    pub address: SocketAddrV4,
    /// Config epoch
    pub epoch: u64,
    /// Slots owned, as inclusive ranges
    pub slots: Vec<(u16, u16)>,
    /// True to leave the node out of what the nodes say about the cluster
    pub hidden: bool,
}

type Handler = dyn Fn(&Request) -> Action + Send + Sync;

struct State {
    nodes: Shared<Vec<NodeView>>,
    store: Shared<HashMap<Vec<u8>, Vec<u8>>>,
    log: Shared<Vec<Request>>,
    handler: Box<Handler>,
    closed: AtomicBool,
    connections: AtomicU64,
    streams: Shared<Vec<(usize, TcpStream)>>,
}

/// Scripted nodes that form one cluster; closed on drop.
pub struct ScriptedCluster {
    state: Arc<State>,
    addresses: Vec<SocketAddrV4>,
}

impl ScriptedCluster {
    /// Starts `count` primaries that share the slots evenly.
    ///
    /// # Errors
    /// If they cannot listen.
    pub fn start(
        count: usize,
        handler: impl Fn(&Request) -> Action + Send + Sync + 'static,
    ) -> Result<Self> {
        let mut nodes = Vec::new();
        let mut listeners = Vec::new();
        for n in 0..count {
            let address = next_address()?;
            listeners.push(TcpListener::bind(address)?);
            let bound = |n: usize| u16::try_from(n * usize::from(SLOT_COUNT) / count);
            nodes.push(NodeView {
                id: format!("{:040x}", 0xabc0 + n),
                address,
                epoch: u64::try_from(n)? + 1,
                slots: vec![(bound(n)?, bound(n + 1)? - 1)],
                hidden: false,
            });
        }
        let addresses = nodes.iter().map(|node| node.address).collect();
        let state = Arc::new(State {
            nodes: Shared::new(nodes),
            store: Shared::new(HashMap::new()),
            log: Shared::new(Vec::new()),
            handler: Box::new(handler),
            closed: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            streams: Shared::new(Vec::new()),
        });
        for (node, listener) in listeners.into_iter().enumerate() {
            let state = Arc::clone(&state);
            std::thread::spawn(move || accept(&listener, node, &state));
        }
        Ok(Self { state, addresses })
    }

    /// Addresses of all nodes.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddrV4] {
        &self.addresses
    }

    /// Changes the topology that the nodes show.
    pub fn change(&self, change: impl FnOnce(&mut Vec<NodeView>)) {
        self.state.nodes.with(change);
    }

    /// All requests so far that name this command, in the order received.
    #[must_use]
    pub fn requests(&self, name: &str) -> Vec<Request> {
        self.state.log.with(|log| {
            log.iter()
                .filter(|request| request.name() == name)
                .cloned()
                .collect()
        })
    }

    /// How often this command was received.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.requests(name).len()
    }

    /// Value of a key in the common memory of the nodes.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<String> {
        let value = self
            .state
            .store
            .with(|store| store.get(key.as_bytes()).cloned());
        value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Closes all connections of a node.
    pub fn drop_connections(&self, node: usize) {
        self.state.streams.with(|streams| {
            streams.retain(|(owner, stream)| {
                if *owner == node {
                    // The proxy may have closed it already.
                    let _ = stream.shutdown(Shutdown::Both);
                }
                *owner != node
            });
        });
    }
}

impl Drop for ScriptedCluster {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Relaxed);
        for (node, address) in self.addresses.iter().enumerate() {
            self.drop_connections(node);
            // Wakes the accept loop, which then ends.
            let _ = TcpStream::connect(address);
        }
    }
}

fn accept(listener: &TcpListener, node: usize, state: &Arc<State>) {
    for stream in listener.incoming().flatten() {
        if state.closed.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(copy) = stream.try_clone() {
            state.streams.with(|streams| streams.push((node, copy)));
        }
        let connection = state.connections.fetch_add(1, Ordering::Relaxed);
        let state = Arc::clone(state);
        // Bytes that are no request end the connection, as they would at a server.
        std::thread::spawn(move || serve(stream, node, connection, &state).ok());
    }
}

fn serve(mut stream: TcpStream, node: usize, connection: u64, state: &State) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut session = answers::Session::default();
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        input.extend_from_slice(&buffer[..count]);
        let mut position = 0;
        while let Parsed::Whole(request, length) = parse_reply(&input[position..])? {
            position += length;
            let request = session.request(node, connection, &request)?;
            if !respond(&mut stream, request, state, &mut session)? {
                stream.shutdown(Shutdown::Both)?;
                return Ok(());
            }
        }
        input.drain(..position);
    }
}

/// Carries out one request; false when the connection has to end.
fn respond(
    stream: &mut TcpStream,
    request: Request,
    state: &State,
    session: &mut answers::Session,
) -> Result<bool> {
    state.log.with(|log| log.push(request.clone()));
    match (state.handler)(&request) {
        Action::Default => {
            let nodes = state.nodes.with(|nodes| nodes.clone());
            let bytes = state
                .store
                .with(|store| session.answer(&request, &nodes, store));
            stream.write_all(&bytes)?;
        }
        Action::Reply(bytes) => stream.write_all(&bytes)?,
        Action::ReplyThenClose(bytes) => {
            stream.write_all(&bytes)?;
            return Ok(false);
        }
        Action::Silence => {}
    }
    Ok(true)
}

/// The words of a request, which is an array of bulk strings.
fn words(request: &Reply) -> Result<Vec<Vec<u8>>> {
    let bytes = |item: &Reply| match item {
        Reply::Bulk(bytes) => Ok(bytes.clone()),
        other => anyhow::bail!("no bulk string in a request: {other:?}"),
    };
    request.items()?.iter().map(bytes).collect()
}

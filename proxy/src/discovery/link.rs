//! A control connection: log in, ask for the topology, parse the answer [T9].

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use slotway_core::resp::{ReplyScanner, Value, parse_value, write};
use slotway_core::topology::{
    Address, NodeId, View, ViewError, cluster_info, cluster_nodes, cluster_slots,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::settings::{DiscoverySettings, QUERY_TIMEOUT};
use super::status::QueryFailure;

/// Largest reply accepted: ten times that of a cluster of 1000 nodes with badly scattered slots.
const REPLY_LIMIT_BYTES: usize = 64 * 1024 * 1024;
/// Length of a server's error text that is kept for the log.
const ERROR_TEXT_CHARS: usize = 200;

/// Why a question was not answered with a view.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    /// The connection could not be opened.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    /// Not done in [`QUERY_TIMEOUT`].
    #[error("no answer in time")]
    Timeout,
    /// The server's answer to `AUTH`.
    #[error("login refused: {0}")]
    Auth(String),
    /// The server's answer to the question.
    #[error("refused: {0}")]
    Refused(String),
    /// Not RESP, more replies than questions, or too large.
    #[error("protocol error")]
    Protocol,
    /// A malformed view.
    #[error("bad view: {0}")]
    View(#[from] ViewError),
}

impl QueryError {
    /// What whoever runs the proxy can do about it.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Connect(_) | Self::Lost(_) | Self::Timeout => {
                "is the server up, and is this its address?"
            }
            Self::Auth(_) => "check upstream.user and upstream.password",
            Self::Refused(error) if error.starts_with("NOAUTH") => {
                "the servers want a password: set upstream.password"
            }
            Self::Refused(error) if error.contains("cluster support disabled") => {
                "this server is no node of a cluster: set upstream.server instead of upstream.cluster"
            }
            Self::Refused(error) if error.starts_with("NOPERM") => {
                "the user needs CLUSTER NODES, or CLUSTER SLOTS and CLUSTER MYID"
            }
            Self::Refused(_) | Self::Protocol | Self::View(_) => {
                "is this a Redis or Valkey server?"
            }
        }
    }

    /// What it counts as.
    pub(super) fn failure(&self) -> QueryFailure {
        match self {
            Self::Connect(_) | Self::Lost(_) => QueryFailure::Connection,
            Self::Timeout => QueryFailure::Timeout,
            Self::Auth(_) => QueryFailure::Auth,
            Self::Refused(_) => QueryFailure::Refused,
            Self::Protocol => QueryFailure::Protocol,
            Self::View(error) => QueryFailure::from(*error),
        }
    }
}

/// An open, logged-in connection with no question outstanding.
#[derive(Debug)]
pub(super) struct ControlLink {
    address: Address,
    stream: TcpStream,
    /// Bytes read and not consumed.
    input: Vec<u8>,
    /// When the last answer came.
    pub(super) last_used: Instant,
}

/// Asks the node at `address`, over `idle` if that still works, else over a new connection. The connection is returned with the
/// view; after any error it is closed, because it may owe replies.
pub(super) async fn ask(
    address: Address,
    idle: Option<ControlLink>,
    settings: Arc<DiscoverySettings>,
) -> Result<(ControlLink, View), QueryError> {
    let attempt = async {
        if let Some(mut link) = idle {
            match link.view(&settings).await {
                Ok(view) => return Ok((link, view)),
                // The server may have closed it while it was idle.
                Err(QueryError::Lost(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let mut link = ControlLink::open(address, &settings).await?;
        let view = link.view(&settings).await?;
        Ok((link, view))
    };
    timeout(QUERY_TIMEOUT, attempt)
        .await
        .unwrap_or(Err(QueryError::Timeout))
}

impl ControlLink {
    pub(super) async fn open(
        address: Address,
        settings: &DiscoverySettings,
    ) -> Result<Self, QueryError> {
        let stream = match address.host.parse::<IpAddr>() {
            Ok(ip) => TcpStream::connect((ip, address.port)).await,
            Err(_) => TcpStream::connect((&*address.host, address.port)).await,
        };
        let stream = stream.map_err(QueryError::Connect)?;
        stream.set_nodelay(true).map_err(QueryError::Connect)?;
        let mut link = Self {
            address,
            stream,
            input: Vec::new(),
            last_used: Instant::now(),
        };
        link.log_in(settings).await?;
        Ok(link)
    }

    /// `AUTH` goes first and alone: some servers do not answer a failing one that is not the first of a batch, and every later
    /// reply would be taken for the wrong question's.
    async fn log_in(&mut self, settings: &DiscoverySettings) -> Result<(), QueryError> {
        let Some(password) = &settings.password else {
            return Ok(());
        };
        let mut request = Vec::new();
        let password = password.expose().as_bytes();
        match &settings.user {
            Some(user) => write::command(&mut request, &[b"AUTH", user.as_bytes(), password]),
            None => write::command(&mut request, &[b"AUTH", password]),
        }
        self.stream.write_all(&request).await?;
        let reply = self.reply().await?;
        match whole(&reply)? {
            Value::Simple(_) => Ok(()),
            Value::Error(text) => Err(QueryError::Auth(shown(text))),
            _ => Err(QueryError::Protocol),
        }
    }

    /// The node's view by `CLUSTER NODES`, or by `CLUSTER SLOTS` where that is not permitted [T2].
    async fn view(&mut self, settings: &DiscoverySettings) -> Result<View, QueryError> {
        let mut request = Vec::new();
        write::command(&mut request, &[b"CLUSTER", b"NODES"]);
        write::command(&mut request, &[b"CLUSTER", b"INFO"]);
        self.stream.write_all(&request).await?;
        let (nodes, info) = (self.reply().await?, self.reply().await?);
        let cluster_ok = text(&whole(&info)?).and_then(cluster_info::cluster_ok);
        let view = match whole(&nodes)? {
            Value::Error(error) if error.starts_with(b"NOPERM") || error.starts_with(b"ERR") => {
                self.view_by_slots(settings).await?
            }
            Value::Error(error) => return Err(QueryError::Refused(shown(error))),
            value => {
                let text = text(&value).ok_or(ViewError::Shape)?;
                cluster_nodes::parse(text, &self.address, &settings.address_map)?
            }
        };
        if !self.input.is_empty() {
            return Err(QueryError::Protocol);
        }
        self.last_used = Instant::now();
        Ok(view.with_cluster_state(cluster_ok))
    }

    async fn view_by_slots(&mut self, settings: &DiscoverySettings) -> Result<View, QueryError> {
        let mut request = Vec::new();
        write::command(&mut request, &[b"CLUSTER", b"MYID"]);
        write::command(&mut request, &[b"CLUSTER", b"SLOTS"]);
        self.stream.write_all(&request).await?;
        let (myself, slots) = (self.reply().await?, self.reply().await?);
        let myself = text(&whole(&myself)?)
            .and_then(|id| std::str::from_utf8(id).ok())
            .map(NodeId::new);
        match whole(&slots)? {
            Value::Error(error) => Err(QueryError::Refused(shown(error))),
            value => Ok(cluster_slots::parse(
                &value,
                &self.address,
                myself.as_ref(),
                &settings.address_map,
            )?),
        }
    }

    /// Asks one question.
    pub(super) async fn question(&mut self, words: &[&[u8]]) -> Result<Vec<u8>, QueryError> {
        let mut request = Vec::new();
        write::command(&mut request, words);
        self.stream.write_all(&request).await?;
        let reply = self.reply().await?;
        if !self.input.is_empty() {
            return Err(QueryError::Protocol);
        }
        self.last_used = Instant::now();
        Ok(reply)
    }

    /// The bytes of the next reply.
    async fn reply(&mut self) -> Result<Vec<u8>, QueryError> {
        let mut scanner = ReplyScanner::default();
        loop {
            match scanner.scan(&self.input) {
                Ok(Some(end)) => {
                    let rest = self.input.split_off(end);
                    return Ok(std::mem::replace(&mut self.input, rest));
                }
                Ok(None) if self.input.len() < REPLY_LIMIT_BYTES => {}
                Ok(None) | Err(_) => return Err(QueryError::Protocol),
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(QueryError::Lost(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

pub(super) fn whole(reply: &[u8]) -> Result<Value<'_>, QueryError> {
    match parse_value(reply) {
        Ok(Some((value, _))) => Ok(value),
        Ok(None) | Err(_) => Err(QueryError::Protocol),
    }
}

pub(super) fn text<'a>(value: &Value<'a>) -> Option<&'a [u8]> {
    match value {
        Value::Bulk(text) | Value::Simple(text) | Value::Verbatim(text) => Some(text),
        _ => None,
    }
}

/// An error text of a server, fit for the log. It never holds what was sent.
pub(super) fn shown(error: &[u8]) -> String {
    String::from_utf8_lossy(error)
        .chars()
        .take(ERROR_TEXT_CHARS)
        .collect()
}

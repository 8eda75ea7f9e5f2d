//! What is said on a fresh connection to a node before any request: authentication, protocol, identity.
//!
//! `AUTH` goes first and alone: Redis 7.2 and Valkey 8.0 were seen to drop the reply of a failing `AUTH` that is not the first command
//! of a batch, which would shift every later reply. The rest is pipelined.
//!
//! The node is asked what it calls this connection. When the proxy gives up a connection, the node may be about to execute what it
//! has read from it; the next connection has the old one killed before it carries anything [D9].

use std::sync::Arc;

use super::credentials::Credentials;
use super::fence::{ClientId, Fence, address_in};
use crate::resp::{Protocol, Value, parse_value, write};
use crate::time::Timestamp;

/// Why a handshake ended without a usable connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The node refused the credentials, or wants some.
    Authentication(String),
    /// The node does not speak RESP3.
    NoResp3,
    /// The address belongs to another node than the topology says [T13].
    WrongNode(String),
    /// It does not give the connection its database: it has fewer, or the proxy's user may not use it [N21].
    Database(String),
    /// The node does not track keys for this connection.
    Tracking(String),
    /// The node answered something that is not RESP or not expected.
    Unexpected(String),
}

impl HandshakeFailure {
    /// Whether the node has no place for another connection.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Unexpected(text) if is_full(text.as_bytes()))
    }
}

/// Who is expected to answer, and by what it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A node of a cluster, by its node id.
    Member(Arc<str>),
    /// A server that is no node of a cluster, by its run id, which is new with every start: what was known of the process before does
    /// not hold for the next one.
    Process(Arc<str>),
}

/// Result of one reply during the handshake.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HandshakeStep {
    /// More replies are owed.
    Pending,
    /// More bytes are to be written: see [`Handshake::take_output`].
    Continue,
    /// The connection may carry requests.
    Ready,
    /// The connection must be closed.
    Failed(HandshakeFailure),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Auth,
    Hello,
    SetName,
    MyId,
    RunId,
    Number,
    Address,
    Database,
    Fence,
    Tracking,
    ReadOnly,
}

/// The handshake of one connection.
#[derive(Debug)]
pub struct Handshake {
    protocol: Protocol,
    expected: Option<Identity>,
    database: u16,
    /// Earlier connections that must be dead before this one is used [D9].
    fences: Vec<Fence>,
    /// When this one was asked for.
    opened: Timestamp,
    /// It is to answer reads though it is a replica.
    read_only: bool,
    /// Said besides, to have keys tracked.
    tracking: Option<Vec<u8>>,
    /// What the node calls it.
    client_id: Option<ClientId>,
    owed: Vec<Expect>,
    output: Vec<u8>,
}

impl Handshake {
    pub(crate) fn new(
        credentials: &Credentials,
        protocol: Protocol,
        expected: Option<Identity>,
        fences: Vec<Fence>,
        opened: Timestamp,
    ) -> Self {
        let mut handshake = Self {
            protocol,
            expected,
            database: 0,
            fences,
            opened,
            read_only: false,
            tracking: None,
            client_id: None,
            owed: Vec::new(),
            output: Vec::new(),
        };
        if let Some(password) = &credentials.password {
            match &credentials.user {
                Some(user) => write::command(
                    &mut handshake.output,
                    &[b"AUTH", user.as_bytes(), password.as_bytes()],
                ),
                None => write::command(&mut handshake.output, &[b"AUTH", password.as_bytes()]),
            }
            handshake.owed.push(Expect::Auth);
        } else {
            handshake.introduce();
        }
        handshake
    }

    /// As it is, for a connection that is to be in this database.
    pub(crate) fn in_database(mut self, database: u16) -> Self {
        self.database = database;
        if self.owed.first() != Some(&Expect::Auth) {
            self.select();
        }
        self
    }

    /// As it is, for a connection on which this command has keys tracked.
    pub(crate) fn tracking(mut self, command: Option<Vec<u8>>) -> Self {
        self.tracking = command;
        if self.owed.first() != Some(&Expect::Auth) {
            self.track();
        }
        self
    }

    /// As it is, for a connection to a replica of a cluster that only reads are sent over.
    pub(crate) fn reading(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        if self.owed.first() != Some(&Expect::Auth) {
            self.permit_reads();
        }
        self
    }

    fn permit_reads(&mut self) {
        if self.read_only {
            write::command(&mut self.output, &[b"READONLY"]);
            self.owed.push(Expect::ReadOnly);
        }
    }

    fn track(&mut self) {
        if let Some(command) = self.tracking.take() {
            self.output.extend_from_slice(&command);
            self.owed.push(Expect::Tracking);
        }
    }

    fn select(&mut self) {
        if self.database != 0 {
            let mut index = itoa::Buffer::new();
            let index = index.format(self.database).as_bytes();
            write::command(&mut self.output, &[b"SELECT", index]);
            self.owed.push(Expect::Database);
        }
    }

    /// Everything that may follow once the connection is authenticated.
    fn introduce(&mut self) {
        if self.protocol == Protocol::Resp3 {
            write::command(&mut self.output, &[b"HELLO", b"3"]);
            self.owed.push(Expect::Hello);
        }
        write::command(&mut self.output, &[b"CLIENT", b"SETNAME", b"slotway"]);
        self.owed.push(Expect::SetName);
        if matches!(self.expected, Some(Identity::Process(_))) {
            write::command(&mut self.output, &[b"INFO", b"server"]);
            self.owed.push(Expect::RunId);
        } else {
            write::command(&mut self.output, &[b"CLUSTER", b"MYID"]);
            self.owed.push(Expect::MyId);
        }
        write::command(&mut self.output, &[b"CLIENT", b"ID"]);
        self.owed.push(Expect::Number);
        write::command(&mut self.output, &[b"CLIENT", b"INFO"]);
        self.owed.push(Expect::Address);
        self.select();
        self.permit_reads();
        self.track();
    }

    /// The connections that are dead now that the handshake is over.
    pub(crate) fn fences(&self) -> &[Fence] {
        &self.fences
    }

    /// What the node calls this connection, if it tells.
    pub(crate) const fn client_id(&self) -> Option<&ClientId> {
        self.client_id.as_ref()
    }

    /// Bytes to write now.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Takes one whole reply.
    pub(crate) fn on_reply(&mut self, reply: &[u8]) -> HandshakeStep {
        if self.owed.is_empty() {
            return HandshakeStep::Failed(HandshakeFailure::Unexpected(printable(reply)));
        }
        let Ok(Some((value, _))) = parse_value(reply) else {
            return HandshakeStep::Failed(HandshakeFailure::Unexpected(printable(reply)));
        };
        let step = match self.owed.remove(0) {
            Expect::Auth => return self.on_auth(&value),
            Expect::Hello => on_hello(&value),
            // A server that does not know or permit the name is used without one.
            Expect::SetName => on_set_name(&value),
            Expect::MyId => self.on_identity(&value, member_id(&value)),
            Expect::RunId => self.on_identity(&value, process_id(&value)),
            Expect::Tracking => on_tracking(&value),
            Expect::ReadOnly => on_read_only(&value),
            Expect::Number => {
                self.on_number(&value);
                None
            }
            Expect::Address => return self.on_address(&value),
            Expect::Database => on_select(&value),
            // Not permitted or no such connection: there is nothing more that could be done.
            Expect::Fence => None,
        };
        match step {
            Some(failure) => HandshakeStep::Failed(failure),
            None if self.owed.is_empty() => HandshakeStep::Ready,
            None => HandshakeStep::Pending,
        }
    }

    fn on_number(&mut self, value: &Value<'_>) {
        if let Value::Integer(number) = *value {
            let address = None;
            self.client_id = Some(ClientId { number, address });
        }
    }

    /// All is known of this connection: earlier ones are killed.
    fn on_address(&mut self, value: &Value<'_>) -> HandshakeStep {
        if let Some(own) = &mut self.client_id {
            own.address = address_in(value);
            for fence in &self.fences {
                if fence.is_for(own, self.opened) {
                    fence.kill(&mut self.output);
                    self.owed.push(Expect::Fence);
                }
            }
        }
        if self.owed.is_empty() {
            HandshakeStep::Ready
        } else if self.output.is_empty() {
            HandshakeStep::Pending
        } else {
            HandshakeStep::Continue
        }
    }

    fn on_auth(&mut self, value: &Value<'_>) -> HandshakeStep {
        match value {
            Value::Simple(_) => {
                self.introduce();
                HandshakeStep::Continue
            }
            // The node wants no password: what is configured is more than needed, which is no reason not to serve.
            Value::Error(text) if is_no_password_set(text) => {
                self.introduce();
                HandshakeStep::Continue
            }
            Value::Error(text) if is_full(text) => {
                HandshakeStep::Failed(HandshakeFailure::Unexpected(printable(text)))
            }
            Value::Error(text) => {
                HandshakeStep::Failed(HandshakeFailure::Authentication(printable(text)))
            }
            _ => HandshakeStep::Failed(HandshakeFailure::Unexpected("reply to AUTH".to_owned())),
        }
    }

    fn on_identity(&self, value: &Value<'_>, found: Option<&[u8]>) -> Option<HandshakeFailure> {
        let expected = self.expected.as_ref().map(|expected| match expected {
            Identity::Member(id) | Identity::Process(id) => id.as_bytes(),
        });
        match (value, found, expected) {
            (_, Some(id), Some(expected)) if id != expected => {
                Some(HandshakeFailure::WrongNode(printable(id)))
            }
            (Value::Error(text), ..) if text.starts_with(b"NOAUTH") => {
                Some(HandshakeFailure::Authentication(printable(text)))
            }
            // Not permitted, not a cluster node, or nothing expected: the check is skipped [T13].
            _ => None,
        }
    }
}

/// The answer to CLUSTER MYID.
fn member_id<'a>(value: &Value<'a>) -> Option<&'a [u8]> {
    match value {
        Value::Bulk(id) | Value::Simple(id) => Some(id),
        _ => None,
    }
}

/// What the answer to INFO says about the process.
fn process_id<'a>(value: &Value<'a>) -> Option<&'a [u8]> {
    let (Value::Bulk(info) | Value::Verbatim(info)) = value else {
        return None;
    };
    info.split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"run_id:"))
        .map(<[u8]>::trim_ascii)
}

fn on_tracking(value: &Value<'_>) -> Option<HandshakeFailure> {
    match value {
        Value::Error(text) => Some(HandshakeFailure::Tracking(printable(text))),
        _ => None,
    }
}

/// Without it every read would be sent on to the primary.
fn on_read_only(value: &Value<'_>) -> Option<HandshakeFailure> {
    match value {
        Value::Error(text) => Some(HandshakeFailure::Unexpected(printable(text))),
        _ => None,
    }
}

fn on_hello(value: &Value<'_>) -> Option<HandshakeFailure> {
    match value {
        Value::Error(text) if text.starts_with(b"NOAUTH") => {
            Some(HandshakeFailure::Authentication(printable(text)))
        }
        Value::Error(text) if is_full(text) => Some(HandshakeFailure::Unexpected(printable(text))),
        Value::Error(_) => Some(HandshakeFailure::NoResp3),
        _ => None,
    }
}

fn on_set_name(value: &Value<'_>) -> Option<HandshakeFailure> {
    match value {
        Value::Error(text) if text.starts_with(b"NOAUTH") => {
            Some(HandshakeFailure::Authentication(printable(text)))
        }
        Value::Error(text) if is_full(text) => Some(HandshakeFailure::Unexpected(printable(text))),
        _ => None,
    }
}

/// Nothing may be sent over a connection that is in another database than it is meant for.
fn on_select(value: &Value<'_>) -> Option<HandshakeFailure> {
    match value {
        Value::Simple(_) => None,
        Value::Error(text) => Some(HandshakeFailure::Database(printable(text))),
        _ => Some(HandshakeFailure::Unexpected("reply to SELECT".to_owned())),
    }
}

/// The node has no place for another connection; it says so in place of the first reply, whatever was asked, and closes.
fn is_full(text: &[u8]) -> bool {
    text.starts_with(b"ERR max number of clients")
}

fn is_no_password_set(text: &[u8]) -> bool {
    memchr::memmem::find(text, b"no password is set").is_some()
        || memchr::memmem::find(text, b"without any password configured").is_some()
}

/// At most 128 bytes of `bytes` for a log line, escaped [Z8].
fn printable(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(128)
        .copied()
        .flat_map(std::ascii::escape_default)
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests;

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
    /// The node answered something that is not RESP or not expected.
    Unexpected(String),
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
    Number,
    Address,
    Fence,
}

/// The handshake of one connection.
#[derive(Debug)]
pub struct Handshake {
    protocol: Protocol,
    expected_id: Option<Arc<str>>,
    /// Earlier connections that must be dead before this one is used [D9].
    fences: Vec<Fence>,
    /// When this one was asked for.
    opened: Timestamp,
    /// What the node calls it.
    client_id: Option<ClientId>,
    owed: Vec<Expect>,
    output: Vec<u8>,
}

impl Handshake {
    pub(crate) fn new(
        credentials: &Credentials,
        protocol: Protocol,
        expected_id: Option<Arc<str>>,
        fences: Vec<Fence>,
        opened: Timestamp,
    ) -> Self {
        let mut handshake = Self {
            protocol,
            expected_id,
            fences,
            opened,
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

    /// Everything that may follow once the connection is authenticated.
    fn introduce(&mut self) {
        if self.protocol == Protocol::Resp3 {
            write::command(&mut self.output, &[b"HELLO", b"3"]);
            self.owed.push(Expect::Hello);
        }
        write::command(&mut self.output, &[b"CLIENT", b"SETNAME", b"slotway"]);
        self.owed.push(Expect::SetName);
        write::command(&mut self.output, &[b"CLUSTER", b"MYID"]);
        self.owed.push(Expect::MyId);
        write::command(&mut self.output, &[b"CLIENT", b"ID"]);
        self.owed.push(Expect::Number);
        write::command(&mut self.output, &[b"CLIENT", b"INFO"]);
        self.owed.push(Expect::Address);
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
            Expect::MyId => self.on_my_id(&value),
            Expect::Number => {
                self.on_number(&value);
                None
            }
            Expect::Address => return self.on_address(&value),
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
        let Some(own) = &mut self.client_id else {
            return HandshakeStep::Ready;
        };
        own.address = address_in(value);
        for fence in &self.fences {
            if fence.is_for(own, self.opened) {
                fence.kill(&mut self.output);
                self.owed.push(Expect::Fence);
            }
        }
        if self.owed.is_empty() {
            HandshakeStep::Ready
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

    fn on_my_id(&self, value: &Value<'_>) -> Option<HandshakeFailure> {
        match (value, &self.expected_id) {
            (Value::Bulk(id) | Value::Simple(id), Some(expected)) if *id != expected.as_bytes() => {
                Some(HandshakeFailure::WrongNode(printable(id)))
            }
            (Value::Error(text), _) if text.starts_with(b"NOAUTH") => {
                Some(HandshakeFailure::Authentication(printable(text)))
            }
            // Not permitted, not a cluster node, or nothing expected: the check is skipped [T13].
            _ => None,
        }
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
mod tests {
    use super::*;

    const ID: &str = "07c37dfeb235213a872192d90877d0cd55635b91";

    fn id_reply() -> Vec<u8> {
        format!("$40\r\n{ID}\r\n").into_bytes()
    }

    fn with_password() -> Credentials {
        Credentials {
            user: None,
            password: Some("secret".into()),
        }
    }

    #[test]
    fn auth_goes_alone_and_the_rest_follows() {
        let mut handshake = Handshake::new(
            &with_password(),
            Protocol::Resp3,
            Some(ID.into()),
            Vec::new(),
            Timestamp::ZERO,
        );
        assert_eq!(
            handshake.take_output(),
            b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n"
        );
        assert_eq!(handshake.on_reply(b"+OK\r\n"), HandshakeStep::Continue);
        let rest = handshake.take_output();
        assert!(rest.starts_with(b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"));
        assert_eq!(
            handshake.on_reply(b"%1\r\n+proto\r\n:3\r\n"),
            HandshakeStep::Pending
        );
        assert_eq!(handshake.on_reply(b"+OK\r\n"), HandshakeStep::Pending);
        assert_eq!(handshake.on_reply(&id_reply()), HandshakeStep::Pending);
        assert_eq!(handshake.on_reply(b":12\r\n"), HandshakeStep::Pending);
        let info = b"=25\r\ntxt:id=12 addr=10.0.0.1:9\r\n";
        assert_eq!(handshake.on_reply(info), HandshakeStep::Ready);
        let id = ClientId {
            number: 12,
            address: Some("10.0.0.1:9".into()),
        };
        assert_eq!(handshake.client_id(), Some(&id));
    }

    #[test]
    fn earlier_connections_are_killed_before_this_one_is_used_d9() {
        let mut handshake = Handshake::new(
            &Credentials::default(),
            Protocol::Resp2,
            None,
            [3, 99, 12]
                .map(|number| {
                    let address = None;
                    Fence::new(ClientId { number, address }, Timestamp::ZERO)
                })
                .to_vec(),
            Timestamp::ZERO.after(std::time::Duration::from_secs(1)),
        );
        handshake.take_output();
        for reply in [&b"+OK\r\n"[..], &id_reply()] {
            assert_eq!(handshake.on_reply(reply), HandshakeStep::Pending);
        }
        assert_eq!(handshake.on_reply(b":13\r\n"), HandshakeStep::Pending);
        let unknown = b"-ERR Unknown subcommand or wrong number of arguments for 'INFO'\r\n";
        assert_eq!(handshake.on_reply(unknown), HandshakeStep::Continue);
        // 99 was given by a process that has ended since: nobody's connection is killed for it.
        assert_eq!(handshake.take_output(), b"*4\r\n$6\r\nCLIENT\r\n$4\r\nKILL\r\n$2\r\nID\r\n$1\r\n3\r\n*4\r\n$6\r\nCLIENT\r\n$4\r\nKILL\r\n$2\r\nID\r\n$2\r\n12\r\n");
        assert_eq!(handshake.on_reply(b":1\r\n"), HandshakeStep::Pending);
        assert_eq!(handshake.on_reply(b"-NOPERM no\r\n"), HandshakeStep::Ready);
    }

    #[test]
    fn another_node_at_the_address_is_refused_t13() {
        let mut handshake = Handshake::new(
            &Credentials::default(),
            Protocol::Resp2,
            Some("f".repeat(40).into()),
            Vec::new(),
            Timestamp::ZERO,
        );
        assert_eq!(handshake.on_reply(b"+OK\r\n"), HandshakeStep::Pending);
        assert_eq!(
            handshake.on_reply(&id_reply()),
            HandshakeStep::Failed(HandshakeFailure::WrongNode(ID.to_owned()))
        );
    }

    #[test]
    fn refusals_mean_feature_absent_but_not_for_authentication_f1() {
        let mut handshake = Handshake::new(
            &Credentials::default(),
            Protocol::Resp2,
            Some(ID.into()),
            Vec::new(),
            Timestamp::ZERO,
        );
        for _ in ["CLIENT SETNAME", "CLUSTER MYID", "CLIENT ID"] {
            let step = handshake.on_reply(b"-NOPERM no\r\n");
            assert_eq!(step, HandshakeStep::Pending);
        }
        assert_eq!(handshake.on_reply(b"-NOPERM no\r\n"), HandshakeStep::Ready);

        let mut handshake = Handshake::new(
            &Credentials::default(),
            Protocol::Resp2,
            None,
            Vec::new(),
            Timestamp::ZERO,
        );
        assert!(matches!(
            handshake.on_reply(b"-NOAUTH Authentication required.\r\n"),
            HandshakeStep::Failed(HandshakeFailure::Authentication(_))
        ));

        let mut handshake = Handshake::new(
            &with_password(),
            Protocol::Resp2,
            None,
            Vec::new(),
            Timestamp::ZERO,
        );
        assert!(matches!(
            handshake.on_reply(b"-WRONGPASS x\r\n"),
            HandshakeStep::Failed(HandshakeFailure::Authentication(_))
        ));

        let mut handshake = Handshake::new(
            &Credentials::default(),
            Protocol::Resp3,
            None,
            Vec::new(),
            Timestamp::ZERO,
        );
        assert_eq!(
            handshake.on_reply(b"-ERR unknown command `HELLO`\r\n"),
            HandshakeStep::Failed(HandshakeFailure::NoResp3)
        );
    }

    #[test]
    fn a_node_without_room_is_neither_a_wrong_password_nor_an_old_version() {
        let full = b"-ERR max number of clients reached\r\n";
        for credentials in [Credentials::default(), with_password()] {
            for protocol in [Protocol::Resp2, Protocol::Resp3] {
                let step =
                    Handshake::new(&credentials, protocol, None, Vec::new(), Timestamp::ZERO)
                        .on_reply(full);
                assert!(
                    matches!(step, HandshakeStep::Failed(HandshakeFailure::Unexpected(_))),
                    "{step:?}"
                );
            }
        }
    }

    #[test]
    fn a_password_the_node_does_not_want_is_no_fault() {
        let mut handshake = Handshake::new(
            &with_password(),
            Protocol::Resp2,
            None,
            Vec::new(),
            Timestamp::ZERO,
        );
        let reply = b"-ERR AUTH <password> called without any password configured for the default user. Are you sure?\r\n";
        assert_eq!(handshake.on_reply(reply), HandshakeStep::Continue);
    }

    #[test]
    fn the_password_is_never_printed_z7() {
        assert!(!format!("{:?}", with_password()).contains("secret"));
    }
}

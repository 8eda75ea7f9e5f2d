//! A played client: what it was sent, as replies.

use std::net::SocketAddr;
use std::rc::Rc;

use slotway_core::engine::{Engine, SessionKey};
use slotway_core::local::testing::TestEnvironment;
use slotway_core::local::{ListenerSettings, Secret};
use slotway_core::resp::ReplyScanner;
use slotway_core::session::client_state::ClientState;

/// One client.
pub(crate) struct Client {
    pub(crate) key: SessionKey,
    /// Whole replies, in the order they came.
    pub(crate) replies: Vec<Vec<u8>>,
    scanner: ReplyScanner,
    partial: Vec<u8>,
}

impl Client {
    /// A client of a listener that wants a password if one is given.
    pub(crate) fn connect(engine: &mut Engine, id: u64, password: Option<&str>) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 6379));
        let state = ClientState::new(id, address, address, password.is_some());
        let passwords = password.iter().map(|word| Secret::new(word.as_bytes()));
        let listener = ListenerSettings {
            passwords: passwords.collect(),
            ..ListenerSettings::default()
        };
        Self {
            key: engine.add_session(state, Rc::new(TestEnvironment::of(listener))),
            replies: Vec::new(),
            scanner: ReplyScanner::new(),
            partial: Vec::new(),
        }
    }

    /// Reads everything there is, which must be RESP.
    pub(crate) fn read(&mut self, engine: &mut Engine) {
        let output = engine.session_output(self.key);
        let count = output.len();
        self.partial.extend_from_slice(output);
        engine.on_session_written(self.key, count);
        let mut start = 0;
        loop {
            match self.scanner.scan(&self.partial[start..]) {
                Ok(Some(len)) => {
                    self.replies.push(self.partial[start..start + len].to_vec());
                    start += len;
                }
                Ok(None) => break,
                Err(error) => panic!(
                    "{error} in what a client gets: {}",
                    self.partial[start..].escape_ascii()
                ),
            }
        }
        self.partial.drain(..start);
    }

    /// What came last is the beginning of a long string.
    pub(crate) fn assert_half_a_string(&self) {
        assert!(
            self.partial.starts_with(b"$"),
            "disconnected after {}",
            self.partial.escape_ascii()
        );
    }

    /// Nothing but whole replies came.
    pub(crate) fn assert_whole(&self) {
        assert!(
            self.partial.is_empty(),
            "half a reply: {}",
            self.partial.escape_ascii()
        );
    }
}

//! What the proxy keeps about one client connection besides its requests: identity, protocol version, names, flags and the
//! CLIENT REPLY mode.
//!
//! A server keeps these on the connection; here several clients share one connection to a node, so they live with the session
//! and are never sent to a node [Y9] [O12].

use std::net::SocketAddr;

use super::tracking::Tracking;
use crate::resp::Protocol;

/// The user every client is until it names another one.
pub const DEFAULT_USER: &[u8] = b"default";

/// Which replies the client wants to see: the state of CLIENT REPLY [L1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyMode {
    /// Every reply is sent.
    #[default]
    On,
    /// No reply is sent until CLIENT REPLY ON.
    Off,
    /// CLIENT REPLY SKIP itself has not been accounted for yet: its own reply and the next one are dropped.
    SkipThisAndNext,
    /// The next reply is dropped, then all are sent again.
    SkipNext,
}

/// State of one client connection that the commands answered by the proxy read and change.
#[derive(Debug, Clone)]
pub struct ClientState {
    /// Unique in the process, increasing, above 0: what CLIENT ID answers.
    pub id: u64,
    /// Version the replies to this client are written in; a session starts in RESP2 [Y1].
    pub protocol: Protocol,
    /// The database that SELECT has chosen [N21].
    pub database: u16,
    /// False while the listener wants a password and the client has not given it.
    pub authenticated: bool,
    /// The user the client authenticated as; `None` is the default user.
    pub user: Option<Box<[u8]>>,
    /// CLIENT SETNAME; empty if none.
    pub name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME; empty if none.
    pub lib_name: Vec<u8>,
    /// CLIENT SETINFO LIB-VER; empty if none.
    pub lib_version: Vec<u8>,
    /// Which replies are sent [L1].
    pub reply_mode: ReplyMode,
    /// CLIENT NO-EVICT: remembered for CLIENT LIST, without effect on shared links [Y9].
    pub no_evict: bool,
    /// CLIENT NO-TOUCH ON was asked for.
    pub no_touch: bool,
    /// READONLY was sent: replicas may answer the reads of this client; or READWRITE: they may not [Y10].
    pub readonly: Option<bool>,
    /// CLIENT TRACKING ON was asked for [N2].
    pub tracking: Option<Box<Tracking>>,
    /// Address of the client.
    pub remote: SocketAddr,
    /// Address the client connected to: what CLUSTER SLOTS announces unless the listener says otherwise [I2].
    pub local: SocketAddr,
}

impl ClientState {
    /// The state of a connection just accepted. `password_required` is what its listener says.
    #[must_use]
    pub fn new(id: u64, remote: SocketAddr, local: SocketAddr, password_required: bool) -> Self {
        Self {
            id,
            protocol: Protocol::Resp2,
            database: 0,
            authenticated: !password_required,
            user: None,
            name: Vec::new(),
            lib_name: Vec::new(),
            lib_version: Vec::new(),
            reply_mode: ReplyMode::On,
            no_evict: false,
            no_touch: false,
            readonly: None,
            tracking: None,
            remote,
            local,
        }
    }

    /// Name of the user the client acts as.
    #[must_use]
    pub fn user(&self) -> &[u8] {
        self.user.as_deref().unwrap_or(DEFAULT_USER)
    }

    /// May the reply that comes next in this session be sent? To be asked exactly once for every request that has a reply, in
    /// request order, after the command ran (so CLIENT REPLY decides about its own reply). Pushes are not asked for: they are
    /// sent in every mode [L1].
    pub fn permit_reply(&mut self) -> bool {
        match self.reply_mode {
            ReplyMode::On => true,
            ReplyMode::Off => false,
            ReplyMode::SkipThisAndNext => {
                self.reply_mode = ReplyMode::SkipNext;
                false
            }
            ReplyMode::SkipNext => {
                self.reply_mode = ReplyMode::On;
                false
            }
        }
    }

    /// Back to the state after accept, as RESET does: RESP2, no name, all replies on, no flags, default user, and not
    /// authenticated if the listener wants a password [Y11]. The library name and version stay, as they do on a server.
    pub fn reset(&mut self, password_required: bool) {
        self.protocol = Protocol::Resp2;
        self.database = 0;
        self.authenticated = !password_required;
        self.user = None;
        self.name = Vec::new();
        self.reply_mode = ReplyMode::On;
        self.no_evict = false;
        self.no_touch = false;
        self.readonly = None;
        self.tracking = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(password_required: bool) -> ClientState {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        ClientState::new(7, address, address, password_required)
    }

    #[test]
    fn l1_off_drops_every_reply_until_on() {
        let mut client = client(false);
        assert!(client.permit_reply());
        client.reply_mode = ReplyMode::Off;
        assert!(!client.permit_reply());
        assert!(!client.permit_reply());
        client.reply_mode = ReplyMode::On;
        assert!(client.permit_reply());
    }

    #[test]
    fn l1_skip_drops_its_own_reply_and_the_next_one_only() {
        let mut client = client(false);
        client.reply_mode = ReplyMode::SkipThisAndNext;
        assert!(
            !client.permit_reply(),
            "the reply of CLIENT REPLY SKIP itself"
        );
        assert!(!client.permit_reply(), "the reply of the command behind it");
        assert!(client.permit_reply());
        assert_eq!(client.reply_mode, ReplyMode::On);
    }

    #[test]
    fn y11_reset_forgets_all_but_identity_and_library() {
        let mut client = client(true);
        assert!(!client.authenticated);
        client.authenticated = true;
        client.protocol = Protocol::Resp3;
        client.name = b"n".to_vec();
        client.lib_name = b"lib".to_vec();
        client.user = Some(b"app".as_slice().into());
        client.reply_mode = ReplyMode::Off;
        client.no_evict = true;
        client.no_touch = true;
        client.readonly = Some(true);
        client.database = 3;
        client.reset(true);
        assert_eq!(client.database, 0);
        assert_eq!(client.protocol, Protocol::Resp2);
        assert!(!client.authenticated && client.name.is_empty());
        assert_eq!(client.user(), DEFAULT_USER);
        assert!(client.permit_reply());
        assert!(!client.no_evict && !client.no_touch && client.readonly.is_none());
        assert_eq!(client.lib_name, b"lib");
        assert_eq!(client.id, 7);
    }
}

//! What a client is owed for its bytes, without the engine's help: how many replies, which of them are known, and whether its session
//! ends.

use std::net::SocketAddr;

use slotway_core::command::{Class, Lookup, effective_class, lookup};
use slotway_core::resp::{Args, DecodeStep, RequestDecoder, RequestLimits, inline_to_resp};
use slotway_core::session::client_state::{ClientState, ReplyMode};

use super::cluster::echo;

/// What a client is owed.
#[derive(Default)]
pub(super) struct Owed {
    /// One for each reply; what it is, if a node just echoes it.
    pub(super) replies: Vec<Option<Vec<u8>>>,
    /// The session ends behind the last of them.
    pub(super) ends: bool,
    /// Commands may be queued.
    in_transaction: bool,
}

impl Owed {
    pub(super) fn of(sent: &[u8], limits: RequestLimits) -> Self {
        let mut owed = Self::default();
        let mut decoder = RequestDecoder::new();
        let address = SocketAddr::from(([127, 0, 0, 1], 6379));
        let mut state = ClientState::new(1, address, address, false);
        let mut rest = sent;
        while !owed.ends && !rest.is_empty() {
            let used = match decoder.decode(rest, &limits) {
                Ok(DecodeStep::Incomplete) => break,
                Ok(DecodeStep::Skip { len }) => len,
                Ok(DecodeStep::Command { len }) => {
                    owed.command(Args::new(&rest[..len], decoder.ranges()), &mut state);
                    len
                }
                Ok(DecodeStep::Inline { line_len, len }) => {
                    owed.inline(&rest[..line_len], &mut state);
                    len
                }
                Err(_) => {
                    owed.last(&mut state);
                    break;
                }
            };
            rest = &rest[used..];
        }
        owed
    }

    fn inline(&mut self, line: &[u8], state: &mut ClientState) {
        let mut raw = Vec::new();
        match inline_to_resp(line, &mut raw) {
            Ok(0) => {}
            Ok(_) => {
                let mut decoder = RequestDecoder::new();
                let decoded = decoder.decode(&raw, &RequestLimits::DEFAULT);
                assert_eq!(decoded, Ok(DecodeStep::Command { len: raw.len() }));
                self.command(Args::new(&raw, decoder.ranges()), state);
            }
            Err(_) => self.last(state),
        }
    }

    /// A protocol error.
    fn last(&mut self, state: &mut ClientState) {
        self.ends = true;
        if state.permit_reply() {
            self.replies.push(None);
        }
    }

    fn command(&mut self, args: Args<'_>, state: &mut ClientState) {
        let mut echoed = None;
        if let Lookup::Known(spec) = lookup(args) {
            if spec.is_cross_protocol() {
                self.ends = true;
                return;
            }
            let class = effective_class(spec, args);
            if matches!(class, Class::Single | Class::SameSlot) && !self.in_transaction {
                let words: Vec<Vec<u8>> = args.iter().map(<[u8]>::to_vec).collect();
                echoed = Some(echo(&words));
            }
            match (spec.name, args.len()) {
                ("client|reply", 3) => reply_mode(args.get(2).unwrap_or_default(), state),
                ("reset", 1) => {
                    state.reply_mode = ReplyMode::On;
                    self.in_transaction = false;
                }
                ("multi", _) => self.in_transaction = true,
                ("exec" | "discard", 1) => self.in_transaction = false,
                _ => {}
            }
        }
        if state.permit_reply() {
            self.replies.push(echoed);
        }
    }
}

/// CLIENT REPLY [L1].
fn reply_mode(word: &[u8], state: &mut ClientState) {
    state.reply_mode = match word.to_ascii_lowercase().as_slice() {
        b"on" => ReplyMode::On,
        b"off" => ReplyMode::Off,
        b"skip" if state.reply_mode != ReplyMode::Off => ReplyMode::SkipThisAndNext,
        _ => return,
    };
}

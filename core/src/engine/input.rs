//! From the bytes of a client to its commands.

use bytes::{Buf, BytesMut};

use super::inspect::Inspected;
use super::{Engine, RequestKey, SessionKey};
use crate::backend::{HANDED_OVER, give_back};
use crate::metrics::CloseReason;
use crate::resp::{Args, DecodeStep, RequestDecoder, RequestError, RequestLimits, inline_to_resp};
use crate::session::{PendingInput, Session};

/// Input buffers kept for the next session that needs one.
const SPARE_INPUTS: usize = 64;

/// Capacity above which an input buffer is given back instead of kept.
const SPARE_CAPACITY: usize = 64 << 10;

/// Whether the request that is being taken keeps the buffer it is in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandOver {
    /// It is copied.
    #[default]
    None,
    /// It may: it is big, and little else is in the buffer.
    Offered,
    /// What is behind it is to be looked at before it is taken, which was not so until now.
    Interrupted,
    /// It does, and is started when it has it.
    Accepted(RequestKey),
}

impl Engine {
    /// Takes bytes read from a client.
    pub fn on_client(&mut self, key: SessionKey, bytes: &[u8]) {
        self.metrics.downstream_read_bytes += bytes.len() as u64;
        let Some(session) = self.sessions.get_mut(key.index()) else {
            return;
        };
        if !session.large {
            self.request_memory.note_read(bytes.len());
        }
        match session.input.take() {
            Some(mut input) => {
                self.request_memory.note_taken(key, &input, bytes.len());
                self.add_input(key, &mut input, bytes);
                self.take_from(key, input);
            }
            None => {
                if session.large {
                    self.request_memory.note_brought(key, bytes.len());
                }
                let mut decoder = std::mem::take(&mut self.decoder);
                let used = self.take(key, bytes, &mut decoder, false);
                match bytes.get(used..) {
                    Some(rest) if !rest.is_empty() => self.keep_rest(key, rest, decoder),
                    _ => self.decoder = decoder,
                }
            }
        }
        self.run_pending();
    }

    /// Takes requests that were held back, now that there may be room.
    pub(super) fn resume_input(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(key.index()) else {
            return;
        };
        if session.input.is_none() || !self.may_take(session) {
            return;
        }
        if let Some(input) = self.take_input(key) {
            self.take_from(key, input);
        }
    }

    fn take_from(&mut self, key: SessionKey, mut input: Box<PendingInput>) {
        let mut decoder = std::mem::take(&mut input.decoder);
        loop {
            let used = self.take(key, &input.bytes, &mut decoder, true);
            if used > 0 && self.sessions[key.index()].transaction.is_none() {
                self.request_memory.note_whole(key);
            }
            let HandOver::Accepted(request) = std::mem::take(&mut self.hand_over) else {
                if used > 0 {
                    self.end_upload(key);
                }
                input.take_off(used);
                break;
            };
            self.start_big(key, request, &mut input, used);
        }
        input.decoder = decoder;
        if input.bytes.is_empty() {
            self.keep_spare_input(input);
            self.note_large(key);
        } else {
            let may_be_uploaded = input.decoder.expected_len() >= Some(self.limits.upload_bytes);
            self.put_input(key, input);
            if may_be_uploaded {
                self.watch_upload(key);
            }
        }
    }

    /// Whether the request that was taken just now is to keep its buffer.
    fn is_handed_over(&mut self) -> bool {
        if self.hand_over == HandOver::Offered {
            // It needs none: it was answered here, refused, or split.
            self.hand_over = HandOver::None;
        }
        self.hand_over != HandOver::None
    }

    /// Has a request that is the last one of the first `used` bytes sent as it is there, instead of a copy.
    fn start_big(
        &mut self,
        session: SessionKey,
        request: RequestKey,
        input: &mut PendingInput,
        used: usize,
    ) {
        let behind = input.bytes.get(used..).map(BytesMut::from);
        let mut body = std::mem::replace(&mut input.bytes, behind.unwrap_or_default());
        body.truncate(used);
        body.advance(used - self.requests[request].bytes());
        if let Some(body) = self.finish_upload(session, request, body) {
            self.requests[request].body = body;
            self.start(session, request, None);
        }
    }

    fn keep_rest(&mut self, key: SessionKey, rest: &[u8], decoder: RequestDecoder) {
        let mut input = self.spare_inputs.pop().unwrap_or_default();
        input.bytes.extend_from_slice(rest);
        self.decoder = std::mem::replace(&mut input.decoder, decoder);
        self.put_input(key, input);
    }

    pub(super) fn keep_spare_input(&mut self, mut input: Box<PendingInput>) {
        input.bytes.clear();
        give_back(&mut input.bytes, SPARE_CAPACITY);
        input.decoder.reset();
        if self.spare_inputs.len() < SPARE_INPUTS {
            self.spare_inputs.push(input);
        }
    }

    /// Takes whole requests off the front of `bytes` while the session may take more; gives the number of bytes used. All of them
    /// when the session ends, since nothing behind that point is a request any more. If the bytes are a buffer of the session's own
    /// (`owned`), it ends behind a big request that is to be handed over. If each is looked at before (`INSPECTED`), it ends before one
    /// that is to wait.
    pub(super) fn take_commands<const INSPECTED: bool>(
        &mut self,
        key: SessionKey,
        bytes: &[u8],
        decoder: &mut RequestDecoder,
        owned: bool,
    ) -> usize {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            let session = &self.sessions[key.index()];
            if session.closing.is_some_and(|reason| {
                !matches!(reason, CloseReason::Shutdown | CloseReason::Client)
            }) {
                return bytes.len();
            }
            if !self.may_take(session) {
                break;
            }
            let limits = self.request_limits(session);
            match decoder.decode(rest, &limits) {
                Ok(DecodeStep::Incomplete) => break,
                Ok(DecodeStep::Skip { len }) => used += len,
                Ok(DecodeStep::Command { len }) => {
                    let raw = rest.get(..len).unwrap_or_default();
                    if INSPECTED {
                        match self.inspect(key, Args::new(raw, decoder.ranges())) {
                            Inspected::Taken => {}
                            Inspected::Held => break,
                            Inspected::Refused => {
                                used += len;
                                if owned && self.is_uploaded(key) {
                                    self.end_upload(key);
                                }
                                continue;
                            }
                        }
                    }
                    let is_uploaded = owned && self.is_uploaded(key);
                    let is_big = owned && len >= HANDED_OVER || is_uploaded;
                    if is_big && rest.len() - len <= SPARE_CAPACITY {
                        self.hand_over = HandOver::Offered;
                    }
                    self.command(key, raw, Args::new(raw, decoder.ranges()));
                    used += len;
                    if self.hand_over != HandOver::None && self.is_handed_over() {
                        break;
                    }
                    if is_uploaded {
                        // It was answered here, or sent as others are: what was sent on is not the beginning of the next one.
                        self.end_upload(key);
                    }
                }
                Ok(DecodeStep::Inline { line_len, len }) => {
                    let line = rest.get(..line_len).unwrap_or_default();
                    if !self.inline::<INSPECTED>(key, line, decoder) {
                        break;
                    }
                    used += len;
                }
                Err(error) => {
                    // The decoder goes on to serve other sessions.
                    decoder.reset();
                    self.protocol_error(key, error);
                    return bytes.len();
                }
            }
        }
        used
    }

    fn request_limits(&self, session: &Session) -> RequestLimits {
        if session.client.authenticated {
            self.limits.request
        } else {
            self.limits.request.unauthenticated()
        }
    }

    /// An inline command becomes the same command in RESP [Y6]. False if it is to wait.
    fn inline<const INSPECTED: bool>(
        &mut self,
        key: SessionKey,
        line: &[u8],
        decoder: &mut RequestDecoder,
    ) -> bool {
        let mut raw = Vec::new();
        match inline_to_resp(line, &mut raw) {
            Ok(0) => {}
            Ok(_) => {
                if let Ok(DecodeStep::Command { len }) =
                    decoder.decode(&raw, &RequestLimits::DEFAULT)
                {
                    let raw = raw.get(..len).unwrap_or_default();
                    let args = Args::new(raw, decoder.ranges());
                    let inspected = match INSPECTED {
                        true => self.inspect(key, args),
                        false => Inspected::Taken,
                    };
                    match inspected {
                        Inspected::Taken => self.command(key, raw, args),
                        Inspected::Refused => {}
                        Inspected::Held => return false,
                    }
                }
            }
            Err(error) => self.protocol_error(key, error),
        }
        true
    }

    /// The server's own error, then the end [Y6].
    fn protocol_error(&mut self, key: SessionKey, error: RequestError) {
        let mut reply = std::mem::take(&mut self.scratch);
        reply.clear();
        error.write_reply(&mut reply);
        self.answer_at_turn(key, &reply);
        self.keep_scratch(reply);
        self.end_session(key, CloseReason::Protocol);
    }
}

//! A transaction on its way: MULTI, the commands and EXEC as one request [M5] [M6].
//!
//! ```text
//!   log:     | MULTI | c1 | .. | cn | EXEC |     written, kept and sent again as a whole
//!   replies:    +OK   +QUEUED ..  +QUEUED  *n    only the last one is the client's
//! ```
//!
//! A node that does not execute it says so at one of the commands, and EXEC ends in EXECABORT; or at EXEC. Either way nothing was
//! executed, and what is said of one command is said of the whole.

use bytes::BytesMut;

use super::request::{Extra, Launch, Request};
use super::{Engine, LinkKey, RequestKey};
use crate::backend::{InFlight, Link, Owed};
use crate::metrics::Outcome;
use crate::reply::{Asked, Refusal, classify};
use crate::resp::{DecodeStep, ReplyScanner, RequestDecoder, RequestLimits, write};
use crate::session::transaction::LocalCommand;
use crate::time::Timestamp;

const EXECABORT: &[u8] = b"-EXECABORT";

/// What EXEC is answered with by a node that has refused MULTI: its ACL does not let the proxy's user.
const NO_MULTI: &[u8] = b"-ERR EXEC without MULTI";
const ONE_BY_ONE: &[u8] = b"-UNCERTAIN proxy: the node refused MULTI and may have executed the commands one by one; the proxy's user needs +multi +exec\r\n";

impl Engine {
    /// A node has something against a command of the transaction that it is getting.
    pub(super) fn on_queue_error(&mut self, key: LinkKey, behind: u32, reply: &[u8]) {
        let link = &self.links[key.index()];
        let Some(request) = link.unit_behind(behind) else {
            return;
        };
        // An error that is none of the topology counts for more: sending it all again would not help.
        let is_first = link.queue_error.is_empty();
        if is_first
            || (self.refusal_of(request, reply).is_none()
                && self.refusal_of(request, &link.queue_error).is_some())
        {
            let error = &mut self.links[key.index()].queue_error;
            error.clear();
            error.extend_from_slice(reply);
        }
    }

    pub(super) fn refusal_of(&self, request: RequestKey, reply: &[u8]) -> Option<Refusal> {
        let shape = &self.requests[request].shape;
        let asked = Asked {
            slot: shape.keyed.then_some(shape.slot),
            scripted: false,
        };
        classify(reply, asked)
    }

    /// The reply to EXEC.
    pub(super) fn on_unit_reply(
        &mut self,
        key: LinkKey,
        request: RequestKey,
        entry: InFlight,
        reply: &[u8],
    ) {
        let link = &mut self.links[key.index()];
        let error = std::mem::take(&mut link.queue_error);
        let is_aborted = reply.starts_with(EXECABORT) && !error.is_empty();
        let said = if is_aborted { &error[..] } else { reply };
        if let Some(private) = &mut link.private {
            // EXEC may not have come to where the node ends a transaction and unwatches its keys.
            private.used_up |= reply.first() == Some(&b'-') && !reply.starts_with(EXECABORT);
        }
        if reply.first() == Some(&b'-')
            && let Some(refusal) = self.refusal_of(request, said)
        {
            let link = &mut self.links[key.index()];
            let node = link.node;
            link.release_answered();
            link.take_body(&entry, &mut self.requests[request].body);
            link.pop();
            link.release_answered();
            if self.requests[request].shape.launch == Launch::Watched {
                return self.on_watched_refused(node, request, &refusal, said);
            }
            return self.on_refusal(node, request, &refusal, said);
        }
        self.links[key.index()].pop();
        self.count_answer(key, request, &entry, reply.len());
        if is_aborted {
            let mut text = b"EXECABORT Transaction discarded because of: ".to_vec();
            text.extend_from_slice(error.trim_ascii_end().strip_prefix(b"-").unwrap_or(&error));
            let mut shown = Vec::new();
            write::error(&mut shown, &text);
            self.fail(request, &shown, Outcome::NodeError, false);
        } else if reply.starts_with(NO_MULTI) {
            self.fail(request, ONE_BY_ONE, Outcome::Uncertain, true);
        } else if reply.first() == Some(&b'-') {
            let executed = !reply.starts_with(EXECABORT);
            self.fail(request, reply, Outcome::NodeError, executed);
        } else {
            match self.requests[request].extra.take().as_deref() {
                Some(Extra::Executed(after)) => {
                    self.follow_selects(request, reply, &after.selects);
                    let whole = self.with_local_replies(request, reply, &after.local);
                    self.complete(request, &whole, Outcome::Ok, true);
                }
                _ => self.complete(request, reply, Outcome::Ok, true),
            }
        }
    }

    /// The reply to EXEC, and at their places in it those of the commands that the node has not seen [M4].
    fn with_local_replies(
        &mut self,
        request: RequestKey,
        reply: &[u8],
        local: &[LocalCommand],
    ) -> Vec<u8> {
        let (Some(session), Some(mut rest)) = (self.requests[request].session, elements(reply))
        else {
            // Nobody is there any more, or the transaction was not executed: a watched key had changed.
            return reply.to_vec();
        };
        let mut replies: Vec<&[u8]> = Vec::new();
        let mut scanner = ReplyScanner::default();
        while let Ok(Some(end)) = scanner.scan(rest) {
            let (element, behind) = rest.split_at(end);
            replies.push(element);
            rest = behind;
        }
        let mut whole = Vec::new();
        write::array(&mut whole, replies.len() + local.len());
        let (mut of_node, mut of_proxy) = (replies.iter(), local.iter().peekable());
        for position in 0..replies.len() + local.len() {
            match of_proxy.next_if(|command| command.position == position) {
                // More than its client may leave unread: it is disconnected.
                Some(_) if whole.len() > self.limits.output_max_bytes => {}
                Some(command) => self.run_local(session, command, &mut whole),
                None => whole.extend_from_slice(of_node.next().copied().unwrap_or_default()),
            }
        }
        whole
    }
}

/// Appends a transaction to the log of a link: `raw`, or its own copy, which is gone afterwards.
#[cold]
pub(super) fn push_unit(
    link: &mut Link,
    key: RequestKey,
    request: &mut Request,
    raw: Option<&[u8]>,
    now: Timestamp,
) {
    let unit = raw.unwrap_or(&request.body);
    link.push_unit(Owed::Unit(key), unit, &ends_of_commands(unit), now);
    request.body = BytesMut::new();
}

/// What stands behind the header of an array; `None` if it is none.
pub(super) fn elements(reply: &[u8]) -> Option<&[u8]> {
    let is_array = reply.first() == Some(&b'*') && !reply.starts_with(b"*-1");
    let end = memchr::memchr(b'\n', reply)?;
    is_array.then(|| reply.get(end + 1..)).flatten()
}

/// Where each command in `unit` ends.
pub(super) fn ends_of_commands(unit: &[u8]) -> Vec<usize> {
    let mut decoder = RequestDecoder::default();
    let mut ends = Vec::new();
    let mut end = 0;
    while let Some(rest) = unit.get(end..).filter(|rest| !rest.is_empty()) {
        match decoder.decode(rest, &RequestLimits::DEFAULT) {
            Ok(DecodeStep::Command { len }) => {
                end += len;
                ends.push(end);
            }
            Ok(DecodeStep::Skip { len }) => end += len,
            _ => break,
        }
    }
    ends
}

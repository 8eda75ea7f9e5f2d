//! WAIT and WAITAOF: how many replicas, or logs, have what the session has written [A1]-[A5].
//!
//! ```text
//!   WAIT n t --> for every primary, over a private link:  PING | FUNCTION RESTORE <nothing> | WAIT n t
//!            <-- the least of their numbers
//! ```
//!
//! A server counts the replicas that have what *this connection* has written, which over a connection of others would be what others
//! have. So the connection writes something first: to restore no functions changes nothing, but has a place in the stream of
//! replication behind everything the session was told to be written. Servers before 7.0 do not know that command; they go by the
//! last command of the connection, whatever it is.
//!
//! Every primary is asked, not only those the session has written to: to know those would cost something with every write.
//!
//! A number is a promise. Where it cannot be kept, because a primary was replaced since the session came or asked last, or a connection
//! was lost while it waited, the client is told that instead: what was acknowledged by the former primary may be gone. A primary of a
//! cluster that is started anew without its last writes, and stays one, is not noticed, as it is not by a client of the cluster that
//! connects again.

use bytes::Buf;

use super::blocking::Wait;
use super::group::{Assembly, Group, NewPart, keyless};
use super::links::LinkLoss;
use super::request::{Extra, Launch, State};
use super::unit::ends_of_commands;
use super::{Engine, GroupKey, LinkKey, NodeKey, RequestKey, SessionKey};
use crate::backend::{InFlight, Owed};
use crate::command::{id, timeout};
use crate::local::write_not_yet;
use crate::merge::Rule;
use crate::metrics::Outcome;
use crate::resp::{Args, DecodeStep, RequestDecoder, RequestLimits, write};

/// `PING`, and `FUNCTION RESTORE payload APPEND` with a payload that holds no library.
const MARK: &[u8] = b"*1\r\n$4\r\nPING\r\n*4\r\n$8\r\nFUNCTION\r\n$7\r\nRESTORE\r\n$10\r\n\x0a\x00\x5d\x9b\x5c\x40\x0f\x7f\xa2\xda\r\n$6\r\nAPPEND\r\n";

/// What servers without functions say to it; one that has them, under another name, has no backticks.
const NO_FUNCTIONS: &[u8] = b"-ERR unknown command `FUNCTION`";

const INTERRUPTED: &[u8] = b"ERR proxy: WAIT interrupted by failover, what was written may be lost";

impl Engine {
    /// Asks every primary, now that all before it in the session is answered.
    pub(super) fn wait_for_acks(&mut self, parent: RequestKey, raw: &[u8]) {
        let Some(session) = self.requests[parent].session else {
            return;
        };
        if let Some(reason) = self.is_leaving(session) {
            self.count_request(parent, raw.len());
            self.hold(parent, Some(raw));
            return self.cut_off_blocked(session, reason);
        }
        let spec = self.requests[parent].shape.spec;
        if self.take_replaced(session) {
            return self.fail_interrupted(parent);
        }
        let uncovered = self.snapshot.uncovered_slots();
        if uncovered > 0 {
            let text = format!("CLUSTERDOWN proxy: {uncovered} slots not covered");
            return self.fail_parent(parent, |out| write::error(out, text.as_bytes()));
        }
        let Some(wait) = self.requests[parent].wait().copied() else {
            return;
        };
        let Some(rule) = Rule::for_spec(spec) else {
            return self.fail_parent(parent, |out| write_not_yet(spec, out));
        };
        let shards = self.snapshot.shards().iter();
        let parts = shards.map(|shard| keyless(shard.lowest_slot)).collect();
        let write = |_: &NewPart<'_>, out: &mut Vec<u8>| out.extend_from_slice(raw);
        let group = self.make_group(parent, parts, &write, 0, Assembly::Merge(rule));
        for part in self.groups[group.index()].parts.clone() {
            let part = &mut self.requests[part];
            part.shape.launch = Launch::AcksOfNode;
            part.extra = Some(Box::new(Extra::Wait(wait)));
        }
        self.dispatch_parts(group);
    }

    /// The turn of WAIT has come: its time runs, whatever it waits for.
    pub(super) fn begin_acks(&mut self, parent: RequestKey, raw: Option<&[u8]>) {
        let now = self.now;
        let request = &mut self.requests[parent];
        if request.extra.is_some() {
            return;
        }
        let raw = raw.unwrap_or(&request.body);
        let mut decoder = RequestDecoder::default();
        let limit = match decoder.decode(raw, &RequestLimits::DEFAULT) {
            Ok(DecodeStep::Command { .. }) => {
                timeout(request.shape.spec, Args::new(raw, decoder.ranges()))
            }
            _ => None,
        };
        request.extra = Some(Box::new(Extra::Wait(Wait::begun(limit, now))));
        request.arrival = now;
        if let Some(session) = request.session {
            self.tell_waiting(session, true);
        }
    }

    /// Sends the part of one primary over a private link, as soon as there is one.
    pub(super) fn dispatch_acks(&mut self, key: RequestKey, raw: Option<&[u8]>) {
        if self.is_waited_out(key) || self.is_unblocked(key) {
            return self.time_out(key);
        }
        if let Some((link, _)) = self.borrow_link(key, raw) {
            self.send_acks(link, key, raw);
        }
    }

    pub(super) fn send_acks(&mut self, link_key: LinkKey, key: RequestKey, raw: Option<&[u8]>) {
        self.keep_body(key, raw);
        if self.has_less_time(key) {
            self.shorten(key);
        }
        let mut unit = MARK.to_vec();
        unit.extend_from_slice(&self.requests[key].body);
        self.count_request(key, unit.len());
        let link = &mut self.links[link_key.index()];
        link.push_unit(
            Owed::Blocked(key),
            &unit,
            &ends_of_commands(&unit),
            self.now,
        );
        let request = &mut self.requests[key];
        request.state = State::Sent(link_key);
        request.sent = self.now;
        request.detour = None;
        self.mark_link_dirty(link_key);
    }

    /// The reply of one primary.
    pub(super) fn on_acks_reply(
        &mut self,
        key: LinkKey,
        request: RequestKey,
        entry: &InFlight,
        reply: &[u8],
    ) {
        let link = &mut self.links[key.index()];
        let objection = std::mem::take(&mut link.queue_error);
        if let Some(private) = &mut link.private {
            private.used_up |= reply.first() == Some(&b'-');
        }
        link.pop();
        // As for every call that waits.
        let now = self.now;
        let state = &mut self.requests[request];
        (state.arrival, state.sent, state.backend_micros) = (now, now, 0);
        self.count_answer(key, request, entry, reply.len());
        let is_marked = objection.is_empty() || objection.starts_with(NO_FUNCTIONS);
        if reply.first() != Some(&b'-') && !is_marked {
            return self.fail_unmarked(request, &objection);
        }
        if self.refusal_of(request, reply).is_some() || is_of_replica(reply) {
            return self.fail_interrupted(request);
        }
        if reply.first() == Some(&b'-') {
            self.fail(request, reply, Outcome::NodeError, false);
        } else {
            self.complete(request, reply, Outcome::Ok, true);
        }
    }

    /// The node has something against the write that marks the place.
    fn fail_unmarked(&mut self, request: RequestKey, objection: &[u8]) {
        if self.refusal_of(request, objection).is_some() {
            return self.fail_interrupted(request);
        }
        let mut text = b"ERR proxy: the node must let the proxy mark the place in its replication (FUNCTION RESTORE), but said: ".to_vec();
        text.extend_from_slice(
            objection
                .trim_ascii_end()
                .strip_prefix(b"-")
                .unwrap_or_default(),
        );
        let mut shown = Vec::new();
        write::error(&mut shown, &text);
        self.fail(request, &shown, Outcome::NodeError, false);
    }

    /// The link to a primary is lost. `written`: it has the question.
    pub(super) fn on_acks_lost(&mut self, request: RequestKey, written: bool, loss: &LinkLoss) {
        let is_of_node = written && *loss != LinkLoss::Retired;
        if self.is_unblocked(request) && !is_of_node {
            self.end_unblocked(request);
        } else if written {
            self.fail_interrupted(request);
        } else {
            let body = &mut self.requests[request].body;
            body.advance(MARK.len());
            let length = body.len();
            self.count_request(request, length);
            self.reroute(request);
        }
    }

    fn fail_interrupted(&mut self, request: RequestKey) {
        let mut shown = Vec::new();
        write::error(&mut shown, INTERRUPTED);
        self.fail(request, &shown, Outcome::Unavailable, false);
    }

    /// Whether a primary was replaced since the session asked last, or came.
    fn take_replaced(&mut self, session: SessionKey) -> bool {
        let known = &mut self.sessions[session.index()].primaries_replaced;
        std::mem::replace(known, self.primaries_replaced) != self.primaries_replaced
    }

    /// All primaries have answered. If one of them was replaced meanwhile its number says nothing, and that is told before any other
    /// error: what was written is known to be lost by nobody else.
    pub(super) fn end_acks(&mut self, group: &Group, reply: &mut Vec<u8>) {
        let now = self.now;
        let parent = &mut self.requests[group.parent];
        parent.arrival = now;
        parent.backend_micros = 0;
        let is_interrupted = |part: &RequestKey| {
            let told = self.requests[*part].reply.strip_prefix(b"-");
            told.is_some_and(|told| told.starts_with(INTERRUPTED))
        };
        let is_interrupted = group.parts.iter().any(is_interrupted);
        let session = self.requests[group.parent].session;
        let is_replaced = session.is_some_and(|session| self.take_replaced(session));
        if is_interrupted || is_replaced {
            reply.clear();
            write::error(reply, INTERRUPTED);
        }
    }

    /// What a part is answered when its time is over, or its client is to wait no longer, before a node could count: nobody has
    /// acknowledged anything, as far as is known.
    pub(super) fn no_acks(&self, key: RequestKey) -> Vec<u8> {
        let count: &[u8] = match self.requests[key].shape.spec.id {
            id::WAITAOF => b"*2\r\n:0\r\n:0\r\n",
            _ => b":0\r\n",
        };
        count.to_vec()
    }

    /// A part of `group` has failed. If it is a WAIT, no number will come of it: the others are not waited for, but for what comes at
    /// once, as of a mistake in the request that all of them see.
    #[cold]
    pub(super) fn end_other_acks(&mut self, group: GroupKey) {
        let parent = self.groups[group.index()].parent;
        if self.requests[parent].shape.launch != Launch::Acks {
            return;
        }
        for part in self.groups[group.index()].parts.clone() {
            if !self.requests[part].is_done() {
                self.note_unblock(part, false);
            }
        }
    }

    /// The client is to wait no longer for any of the parts [B9].
    pub(super) fn unblock_acks(&mut self, group: GroupKey, is_error: bool) {
        for part in self.groups[group.index()].parts.clone() {
            if self.groups.contains(group.index()) && !self.requests[part].is_done() {
                self.unblock_request(part, is_error);
            }
        }
    }

    /// A topology was adopted; `before` were the primaries.
    pub(super) fn note_replaced(&mut self, before: &[NodeKey]) {
        let is_replaced = |node: &NodeKey| !self.nodes[*node].primary && !self.has_moved(*node);
        if before.iter().any(is_replaced) {
            self.primaries_replaced += 1;
        }
    }
}

/// Whether a node says that it is none to ask: it was made a replica.
fn is_of_replica(reply: &[u8]) -> bool {
    reply.starts_with(b"-UNBLOCKED force")
        || reply.starts_with(b"-ERR WAIT cannot be used with replica")
        || reply.starts_with(b"-ERR WAITAOF cannot be used with replica")
}

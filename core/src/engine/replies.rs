//! From the bytes of a node to the requests they answer.

use bytes::Buf;

use super::links::LinkLoss;
use super::request::Launch;
use super::scripts::is_unknown_script;
use super::{Engine, LinkKey, RequestKey};
use crate::backend::{HandshakeFailure, HandshakeStep, InFlight, LinkPhase, Owed, give_back};
use crate::metrics::Outcome;
use crate::reply::{Asked, classify};
use crate::resp::ReplyScanner;
use crate::router;
use crate::topology::{Hint, RefreshReason};

/// Room a link keeps for an unfinished reply when there is none.
const KEPT_PARTIAL: usize = 64 << 10;

impl Engine {
    /// Takes bytes read from a node.
    pub fn on_link_read(&mut self, key: LinkKey, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(key.index()) else {
            return;
        };
        self.metrics.upstream_read_bytes += bytes.len() as u64;
        if matches!(link.phase, LinkPhase::Closed) {
            return;
        }
        link.progress = self.now;
        if link.is_ready() {
            self.nodes[link.node].heard = self.now;
        }
        let bytes = match self.pass_on(key, bytes) {
            Ok(rest) => rest,
            Err(loss) => {
                self.lose_link(key, loss);
                &[]
            }
        };
        if !bytes.is_empty() {
            self.take_bytes(key, bytes);
        }
        self.run_pending();
    }

    /// Takes bytes at the beginning of a reply, or behind those of one that are here already.
    fn take_bytes(&mut self, key: LinkKey, bytes: &[u8]) {
        let link = &mut self.links[key.index()];
        let mut scanner = std::mem::take(&mut link.scanner);
        let mut partial = std::mem::take(&mut link.partial);
        if partial.is_empty() {
            let used = self.take_replies(key, bytes, &mut scanner);
            partial.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            partial.extend_from_slice(bytes);
            let used = self.take_replies(key, &partial, &mut scanner);
            partial.advance(used);
            give_back(&mut partial, KEPT_PARTIAL);
        }
        if let Some(link) = self.links.get_mut(key.index()) {
            link.release_answered();
            link.scanner = scanner;
            link.partial = partial;
            if !link.partial.is_empty() {
                self.begin_passage(key);
            } else if link.is_spent() {
                self.give_back_link(key);
            }
        }
    }

    /// Takes whole replies off the front of `bytes`; gives the number of bytes used.
    fn take_replies(&mut self, key: LinkKey, bytes: &[u8], scanner: &mut ReplyScanner) -> usize {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            match scanner.scan(rest) {
                Ok(Some(end)) => {
                    if let Err(loss) = self.on_reply(key, rest.get(..end).unwrap_or_default()) {
                        self.lose_link(key, loss);
                        return bytes.len();
                    }
                    used += end;
                }
                Ok(None) => break,
                Err(error) => {
                    self.lose_link(key, LinkLoss::Protocol(error.to_string()));
                    return bytes.len();
                }
            }
        }
        used
    }

    /// One whole reply of a node: of the handshake, a push, or for the oldest request.
    #[inline(always)]
    fn on_reply(&mut self, key: LinkKey, reply: &[u8]) -> Result<(), LinkLoss> {
        let link = &mut self.links[key.index()];
        match &mut link.phase {
            LinkPhase::Ready => {}
            LinkPhase::Feeding => return self.on_feed_reply(key, reply),
            LinkPhase::Handshaking(_) => return self.on_handshake_reply(key, reply),
            LinkPhase::Connecting | LinkPhase::Closed => return Ok(()),
        }
        if reply.first() == Some(&b'>') {
            self.on_push(key, reply);
            return Ok(());
        }
        let Some(entry) = link.oldest().copied() else {
            return Err(LinkLoss::Protocol("a reply to nothing".to_owned()));
        };
        if !link.is_written(&entry) {
            return Err(LinkLoss::Protocol(
                "a reply to a request that was not sent yet".to_owned(),
            ));
        }
        match entry.owed {
            Owed::Request(request) if reply.first() != Some(&b'-') => {
                if self.count_answer(key, request, &entry, reply.len())
                    && self.is_to_be_redone(key, request, &entry, reply)
                {
                    return Ok(());
                }
                self.links[key.index()].pop_request(&entry);
                self.complete(request, reply, Outcome::Ok, true);
            }
            _ => self.on_special_reply(key, entry, reply),
        }
        Ok(())
    }

    /// A reply that is an error, or not simply that to a request.
    #[inline(never)]
    fn on_special_reply(&mut self, key: LinkKey, entry: InFlight, reply: &[u8]) {
        let link = &mut self.links[key.index()];
        match entry.owed {
            Owed::Nobody => {
                link.pop();
                if let Some(private) = &mut link.private {
                    // What the node does not unwatch is watched still.
                    private.used_up |= reply.first() != Some(&b'+');
                }
            }
            Owed::Probe | Owed::Fence | Owed::Subscribe(_) | Owed::Unsubscribe(_) => {
                link.pop();
            }
            Owed::Asking => {
                link.pop();
                if reply.first() == Some(&b'-') {
                    let node = self.nodes[link.node].id.clone();
                    self.hint(Hint::Refresh {
                        reason: RefreshReason::Moved,
                        node,
                    });
                }
            }
            Owed::Orphan(orphan) => {
                link.pop();
                link.queue_error.clear();
                self.count_answer(key, orphan, &entry, reply.len());
                self.end_orphan(orphan);
            }
            Owed::Queued { behind } => {
                link.pop();
                if reply.first() == Some(&b'-') {
                    self.on_queue_error(key, behind, reply);
                }
            }
            Owed::Unit(request) => self.on_unit_reply(key, request, entry, reply),
            Owed::Blocked(request) if self.requests[request].shape.launch == Launch::AcksOfNode => {
                self.on_acks_reply(key, request, &entry, reply);
            }
            Owed::Blocked(request) => self.on_blocked_reply(key, request, entry, reply),
            Owed::Watch(request) => self.on_watch_reply(key, request, entry, reply),
            Owed::Select(request) => self.on_select_reply(key, request, &entry, reply),
            Owed::Request(request) => self.on_error_reply(key, request, entry, reply),
        }
    }

    fn on_error_reply(&mut self, key: LinkKey, request: RequestKey, entry: InFlight, reply: &[u8]) {
        let shape = self.requests[request].shape;
        let asked = Asked {
            slot: shape.keyed.then_some(shape.slot),
            scripted: router::may_say_anything(shape.spec),
        };
        let link = &mut self.links[key.index()];
        let Some(refusal) = classify(reply, asked) else {
            if asked.scripted && is_unknown_script(shape.spec, reply) {
                return self.on_unknown_script(key, request, entry, reply);
            }
            if self.count_answer(key, request, &entry, reply.len())
                && self.is_to_be_redone(key, request, &entry, reply)
            {
                return;
            }
            self.links[key.index()].pop();
            return self.fail(request, reply, Outcome::NodeError, true);
        };
        let node = link.node;
        // What is answered is in the way of handing over a big request as it is.
        link.release_answered();
        link.take_body(&entry, &mut self.requests[request].body);
        link.pop();
        link.release_answered();
        self.on_refusal(node, request, &refusal, reply);
    }

    fn on_handshake_reply(&mut self, key: LinkKey, reply: &[u8]) -> Result<(), LinkLoss> {
        let link = &mut self.links[key.index()];
        let LinkPhase::Handshaking(handshake) = &mut link.phase else {
            return Ok(());
        };
        if reply.first() == Some(&b'>') {
            self.on_push(key, reply);
            return Ok(());
        }
        match handshake.on_reply(reply) {
            HandshakeStep::Pending => {}
            HandshakeStep::Continue => {
                let output = handshake.take_output();
                link.push_handshake(&output);
                self.mark_link_dirty(key);
            }
            HandshakeStep::Ready if !link.unwritten().is_empty() => {
                return Err(LinkLoss::Protocol(
                    "replies to a handshake that was not sent yet".to_owned(),
                ));
            }
            HandshakeStep::Ready => self.on_link_ready(key),
            HandshakeStep::Failed(failure) => {
                // What refuses a new connection is alive, and so are the older ones.
                if !matches!(failure, HandshakeFailure::WrongNode(_)) {
                    let node = link.node;
                    self.nodes[node].heard = self.now;
                }
                return Err(LinkLoss::Handshake(failure));
            }
        }
        Ok(())
    }

    /// A node has answered the request of `entry`, whose bytes are still there, with a reply of this length: counts that, how long it
    /// took, and remembers the length for the next ones. Gives whether any request of the session is held, refused or parked.
    #[inline]
    pub(super) fn count_answer(
        &mut self,
        link: LinkKey,
        request_key: RequestKey,
        entry: &InFlight,
        length: usize,
    ) -> bool {
        let request = &mut self.requests[request_key];
        let backend = self.now.micros_since(request.sent);
        request.backend_micros += backend;
        let is_slow = self.now.micros_since(request.arrival) >= self.limits.slow_micros;
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.reply_sizes.note(request.shape.spec, length);
        let mut is_disturbed = false;
        if let Some(session) = request.session {
            let session = &mut self.sessions[session.index()];
            session.note_reply_size(length);
            is_disturbed = session.disturbed > 0;
        }
        let key = self.links[link.index()].node;
        let node = &mut self.nodes[key];
        node.latency.record(backend);
        if node.has_outage() {
            self.end_outage(key, request_key);
        }
        if is_slow {
            self.note_slow(link, request_key, entry);
        }
        is_disturbed
    }
}

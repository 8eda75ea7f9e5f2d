//! Big requests are sent on while they arrive.
//!
//! Only where nothing can be decided any more: an argument of known length is on its way, those before it say which node it is all
//! for, and the session has nothing else outstanding. What has come is written to that node over a connection of its own, for half a
//! request holds up whatever is behind it. So the node gets it at the pace of its client, not in one burst when it is whole.
//!
//! The bytes stay here as well, and the last ones of an argument are kept back until the request is whole, so the node cannot have
//! executed it before [D1]. Whatever goes wrong until then costs a connection and nothing else: the request is collected and sent
//! as any other.

use bytes::BytesMut;

use super::links::LinkLoss;
use super::request::State;
use super::{Action, Engine, LinkKey, NodeKey, RequestKey, SessionKey};
use crate::backend::{Link, Owed};
use crate::command::{Lookup, lookup};
use crate::resp::Args;
use crate::router;
use crate::session::{PendingInput, Session, Upload};

/// Requests of one worker that are sent on at the same time; others are collected.
const UPLOADS: usize = 32;

/// What is sent on at once, as a part of the smallest request for which it is done.
const PIECES: usize = 64;

/// Length of what stands behind an argument.
const ARGUMENT_END: usize = 2;

impl Engine {
    /// Has more of the request that `key` is in the middle of sent on, or begins with that.
    pub(super) fn watch_upload(&mut self, key: SessionKey) {
        let session = &self.sessions[key.index()];
        match session.upload {
            Upload::None => {
                if let Some(node) = self.known_node(session) {
                    self.begin_upload(key, node);
                }
            }
            Upload::Over(link) => {
                let entry = &self.links[link.index()];
                if entry.is_ready()
                    && self.uploadable(entry, key).len() > self.limits.upload_bytes / PIECES
                {
                    self.mark_link_dirty(link);
                }
            }
            Upload::Failed => {}
        }
    }

    /// Whether the request that `session` is in the middle of is sent on.
    pub(super) fn is_uploaded(&self, session: SessionKey) -> bool {
        matches!(self.sessions[session.index()].upload, Upload::Over(_))
    }

    /// The node that the request of which `session` has a part is for, if it is one to be sent on.
    fn known_node(&self, session: &Session) -> Option<NodeKey> {
        let input = session.input.as_ref()?;
        let is_alone = session.queue.is_empty() && session.disturbed == 0;
        let is_open = session.client.authenticated && session.closing.is_none();
        // In a transaction nothing goes to a node before EXEC.
        let is_open = is_open && session.transaction.is_none();
        let is_big = input.decoder.expected_len() >= Some(self.limits.upload_bytes);
        // What a session that tracks keys sends goes over the links on which its nodes do.
        let is_open = is_open && self.paused.is_none() && session.client.tracking.is_none();
        if !is_big || !is_alone || !is_open || self.uploads >= UPLOADS {
            return None;
        }
        let args = Args::new(&input.bytes, input.decoder.ranges());
        let Lookup::Known(spec) = lookup(args) else {
            return None;
        };
        let slot = router::slot_known_early(spec, args)?;
        let key = self.nodes.owner(&self.snapshot, slot)?;
        let node = &self.nodes[key];
        // A failure that is over need not be one of the node: it may have closed a connection that only listened.
        let is_well = node.retry_at <= self.now && !node.has_outage();
        is_well.then_some(key)
    }

    fn begin_upload(&mut self, key: SessionKey, node: NodeKey) {
        let session = &mut self.sessions[key.index()];
        let mut link = Link::connecting(node, session.client.protocol, self.now);
        link.database = session.client.database;
        link.detached = true;
        link.uploads = Some(key);
        let link = LinkKey::from_index(self.links.insert(link));
        session.upload = Upload::Over(link);
        self.uploads += 1;
        let address = self.nodes[node].address.clone();
        self.actions.push_back(Action::Connect { link, address });
    }

    /// What of the request of `session` may be written to `link` and was not yet.
    pub(super) fn uploadable(&self, link: &Link, session: SessionKey) -> &[u8] {
        let session = self.sessions.get(session.index());
        let input = session.and_then(|session| session.input.as_ref());
        let certain = |input: &PendingInput| Some(input.decoder.expected_len()? - ARGUMENT_END);
        let Some((input, certain)) = input.and_then(|input| Some((input, certain(input)?))) else {
            return &[];
        };
        let end = certain.min(input.bytes.len());
        input.bytes.get(link.uploaded..end).unwrap_or_default()
    }

    /// Sends what is missing of a request that has become whole, if its node and all else is still as when it was begun; gives
    /// `body` back if not.
    pub(super) fn finish_upload(
        &mut self,
        session: SessionKey,
        request: RequestKey,
        body: BytesMut,
    ) -> Option<BytesMut> {
        let upload = &mut self.sessions[session.index()].upload;
        let Upload::Over(link) = *upload else {
            *upload = Upload::None;
            return Some(body);
        };
        if !self.is_undisturbed(session) || !self.is_right(link, request) {
            self.end_upload(session);
            return Some(body);
        }
        self.uploads -= 1;
        let state = &mut self.sessions[session.index()];
        state.upload = Upload::None;
        // What follows goes over another link [O1].
        state.sent_generation = Session::MIXED;
        let entry = &mut self.links[link.index()];
        entry.uploads = None;
        entry.push_uploaded(Owed::Request(request), body, self.now);
        let request = &mut self.requests[request];
        request.state = State::Sent(link);
        request.sent = self.now;
        self.mark_link_dirty(link);
        None
    }

    /// Whether `link` is where `request` would go now.
    fn is_right(&self, link: LinkKey, request: RequestKey) -> bool {
        let (link, shape) = (&self.links[link.index()], &self.requests[request].shape);
        let owner = self.nodes.owner(&self.snapshot, shape.slot);
        link.is_ready()
            && owner == Some(link.node)
            && (link.protocol, link.database) == (shape.protocol, shape.database)
            && !self.nodes[link.node].has_outage()
    }

    /// Gives up what was sent on of a request of `session`: the request is over, or is sent in another way.
    pub(super) fn end_upload(&mut self, session: SessionKey) {
        let state = &mut self.sessions[session.index()];
        if let Upload::Over(link) = std::mem::take(&mut state.upload) {
            self.drop_upload(link);
        }
    }

    /// As [`Self::end_upload`], when the session does not know of it any more.
    pub(super) fn drop_upload(&mut self, link: LinkKey) {
        self.links[link.index()].uploads = None;
        self.uploads -= 1;
        self.lose_link(link, LinkLoss::Retired);
    }

    /// The link over which a request of `session` was sent on is lost. It is not tried again: the request itself may be the reason.
    pub(super) fn fail_upload(&mut self, session: SessionKey) {
        self.sessions[session.index()].upload = Upload::Failed;
        self.uploads -= 1;
    }
}

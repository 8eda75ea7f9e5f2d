//! The order of one session's requests [O1]-[O6]: which may be sent now, and what becomes of a refused one.
//!
//! Fast path: nothing outstanding is disturbed, so the same slot means the same link and TCP keeps the order ([`submit`]). The
//! functions here are the slow path; they look at the whole queue of the session.
//!
//! [`submit`]: super::submit

use super::nodes::Place;
use super::request::{Launch, Request, Retry, State};
use super::{Engine, LinkKey, NodeKey, RequestKey, SessionKey};

/// What the requests behind a refused one mean for it [O4].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// None of them conflicts, or all that do were refused as well: it may be sent again.
    Clear,
    /// The fate of one that conflicts is not known yet.
    Unknown,
    /// One that conflicts was executed: sending this one again would reorder the two.
    Executed,
}

impl Engine {
    /// Whether `request`, at `index` of its session's queue or part of the group there, may be sent now [O2]: every unresolved
    /// earlier request that conflicts is already in the log of the link it would use.
    pub(super) fn may_send(&self, session: SessionKey, index: usize, request: RequestKey) -> bool {
        let entry = &self.requests[request];
        let node = self.target_node(entry);
        let target = node.and_then(|node| self.ready_link(node, entry, session));
        let session = &self.sessions[session.index()];
        // What is done here has no effect that a write could come before or after.
        let is_done_here = matches!(entry.shape.launch, Launch::AtTurn | Launch::Unwatch);
        let mut orphans = session.orphans.iter().filter(|_| !is_done_here);
        if orphans.any(|orphan| self.orphan_blocks(&self.requests[*orphan], entry, node, target)) {
            return false;
        }
        session.queue.iter().take(index).all(|earlier| {
            let earlier = &self.requests[*earlier];
            match earlier.state {
                State::Group(_) if entry.shape.barrier || earlier.shape.barrier => false,
                State::Group(group) => self.groups[group.index()]
                    .parts
                    .iter()
                    .all(|part| !blocks(&self.requests[*part], entry, target)),
                _ => !blocks(earlier, entry, target),
            }
        })
    }

    /// Whether `orphan`, a write that may yet be executed, forbids to send `entry` to `node` over `target` now [D8].
    fn orphan_blocks(
        &self,
        orphan: &Request,
        entry: &Request,
        node: Option<NodeKey>,
        target: Option<LinkKey>,
    ) -> bool {
        let State::Sent(link) = orphan.state else {
            return false;
        };
        // One that concerns every key does so at its node only.
        let is_for_all = orphan.shape.barrier && node == Some(self.links[link.index()].node);
        entry.shape.barrier
            || (target != Some(link) && (is_for_all || orphan.conflicts_with(entry)))
    }

    /// Where `entry` is to go.
    fn target_node(&self, entry: &Request) -> Option<NodeKey> {
        match entry.detour {
            Some((node, _)) => Some(node),
            None if entry.shape.launch == Launch::Read => None,
            None => self.nodes.owner(&self.snapshot, entry.shape.slot),
        }
    }

    /// The link to `node` that `entry` would use, if it is ready.
    fn ready_link(&self, node: NodeKey, entry: &Request, session: SessionKey) -> Option<LinkKey> {
        let (shape, index) = (&entry.shape, self.affinity(session));
        let place = Place::new(shape.database, shape.protocol, index);
        let link = self.nodes[node].link_anywhere(place)?;
        self.links[link.index()].is_ready().then_some(link)
    }

    /// Counts a request among those that call for the slow path, until it is resolved.
    pub(super) fn disturb(&mut self, key: RequestKey) {
        let request = &mut self.requests[key];
        if !request.disturbed
            && let Some(session) = request.session
        {
            request.disturbed = true;
            self.sessions[session.index()].disturbed += 1;
        }
    }

    /// Looks at every held or refused request of the session, oldest first, and sends what may be sent.
    pub(super) fn settle(&mut self, session: SessionKey) {
        let state = &mut self.sessions[session.index()];
        state.unsettled = false;
        if state.tracker.is_some() {
            self.tend_notices(session);
        }
        let state = &self.sessions[session.index()];
        if state.disturbed == 0 && state.barriers == 0 {
            return;
        }
        let keys: Vec<RequestKey> = state.queue.iter().copied().collect();
        for (position, key) in keys.iter().enumerate() {
            // Requests that end while we are here leave at the front only.
            let gone = keys.len() - self.sessions[session.index()].queue.len();
            let Some(index) = position.checked_sub(gone) else {
                continue;
            };
            if let State::Group(group) = self.requests[*key].state {
                for part in self.groups[group.index()].parts.clone() {
                    self.settle_one(session, index, part);
                    if !matches!(self.requests[*key].state, State::Group(_)) {
                        break;
                    }
                }
            } else {
                self.settle_one(session, index, *key);
            }
        }
    }

    fn settle_one(&mut self, session: SessionKey, index: usize, key: RequestKey) {
        match self.requests[key].state {
            State::Held => self.release(session, index, key),
            State::Refused(retry) => match self.behind(session, index, key) {
                Behind::Unknown => {}
                Behind::Executed => self.show_refusal(key),
                Behind::Clear => self.retry(session, index, key, retry),
            },
            _ => {}
        }
    }

    fn retry(&mut self, session: SessionKey, index: usize, key: RequestKey, retry: Retry) {
        let request = &mut self.requests[key];
        match retry {
            Retry::Route => request.detour = None,
            Retry::At { node, asking } => request.detour = Some((node, asking)),
            Retry::After(delay) => {
                request.detour = None;
                return self.park(key, None, self.now.after(delay));
            }
        }
        self.release(session, index, key);
    }

    /// Sends a request that has its own copy of its bytes, or holds it if its turn has not come.
    pub(super) fn release(&mut self, session: SessionKey, index: usize, key: RequestKey) {
        if self.may_send(session, index, key) {
            self.dispatch(key, None);
        } else {
            self.requests[key].state = State::Held;
        }
    }

    fn behind(&self, session: SessionKey, index: usize, key: RequestKey) -> Behind {
        let refused = &self.requests[key];
        if refused.overtaken {
            return Behind::Executed;
        }
        let mut result = Behind::Clear;
        let mut look = |later: &Request| {
            if later.conflicts_with(refused) {
                match later.state {
                    State::Done { executed: true } => result = Behind::Executed,
                    _ if later.is_in_doubt() => result = Behind::Executed,
                    State::Sent(_) if result == Behind::Clear => result = Behind::Unknown,
                    _ => {}
                }
            }
        };
        for later in self.sessions[session.index()].queue.iter().skip(index + 1) {
            let later = &self.requests[*later];
            if let State::Group(group) = later.state {
                self.groups[group.index()]
                    .parts
                    .iter()
                    .for_each(|part| look(&self.requests[*part]));
            } else {
                look(later);
            }
        }
        result
    }

    /// Notes what a group that is over means for refused requests before it: its parts, which tell, are about to go.
    pub(super) fn note_overtaken(&mut self, parent: RequestKey, parts: &[RequestKey]) {
        let Some(session) = self.requests[parent]
            .session
            .map(|session| &self.sessions[session.index()])
        else {
            return;
        };
        if session.disturbed == 0 {
            return;
        }
        let mut overtaken = Vec::new();
        let mut look = |key: RequestKey| {
            let earlier = &self.requests[key];
            let by = |part: &Request| {
                matches!(part.state, State::Done { executed: true }) && part.conflicts_with(earlier)
            };
            if !earlier.is_done() && parts.iter().any(|part| by(&self.requests[*part])) {
                overtaken.push(key);
            }
        };
        for earlier in session
            .queue
            .iter()
            .take_while(|earlier| **earlier != parent)
        {
            match self.requests[*earlier].state {
                State::Group(group) => self.groups[group.index()]
                    .parts
                    .iter()
                    .copied()
                    .for_each(&mut look),
                _ => look(*earlier),
            }
        }
        for key in overtaken {
            self.requests[key].overtaken = true;
        }
    }

    /// Where in its session's queue a request, or the group it is part of, is.
    pub(super) fn queue_index(&self, session: SessionKey, key: RequestKey) -> Option<usize> {
        let entry = match self.requests[key].group {
            Some((group, _)) => self.groups[group.index()].parent,
            None => key,
        };
        self.sessions[session.index()]
            .queue
            .iter()
            .position(|other| *other == entry)
    }
}

/// Whether the unresolved request `earlier` forbids to send `entry` over `target` now.
fn blocks(earlier: &Request, entry: &Request, target: Option<LinkKey>) -> bool {
    if earlier.is_done() {
        return false;
    }
    if earlier.shape.barrier || entry.shape.barrier {
        return true;
    }
    earlier.conflicts_with(entry)
        && !matches!(earlier.state, State::Sent(link) if Some(link) == target)
}

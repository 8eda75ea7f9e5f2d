//! What must hold between any two calls; for tests [Z1] [Z2] [Z6].

use super::request::State;
use super::{Engine, LinkKey, RequestKey, SessionKey};
use crate::backend::{LinkPhase, Owed};
use crate::session::{Session, Upload};

impl Engine {
    /// Checks what must hold between any two calls: every table, queue and sum agrees with the others, and the bounds are kept.
    ///
    /// # Panics
    /// If an invariant is broken.
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        let mut known = 0;
        let mut groups = 0;
        for (_, session) in &self.sessions {
            let (requests, whole) = self.check_session(session);
            known += requests;
            groups += whole;
        }
        self.check_uploads();
        let replies = self.sessions.iter().map(|(_, session)| session.reply_bytes);
        assert_eq!(replies.sum::<usize>(), self.reply_bytes);
        self.check_request_memory();
        assert_eq!(groups, self.groups.len(), "every group is in a queue");
        known += self.check_parked();
        for (index, _) in &self.links {
            known += self.check_link(LinkKey::from_index(index));
        }
        self.check_nodes();
        assert_eq!(known, self.requests.len(), "every request is somewhere");
    }

    /// Checks one session; gives the number of its requests, parts included, and of its groups.
    fn check_session(&self, session: &Session) -> (usize, usize) {
        assert!(!session.unsettled, "nothing is left for later");
        let (mut requests, mut groups, mut disturbed, mut barriers) = (0, 0, 0, 0);
        let mut replies = session.out.len();
        let mut bytes = 0;
        self.for_each_outstanding(session, |request| {
            requests += 1;
            bytes += request.bytes();
            disturbed += u32::from(request.disturbed);
            replies += request.reply_bytes as usize;
        });
        assert_eq!(
            disturbed, session.disturbed,
            "disturbed requests are counted"
        );
        assert_eq!(replies, session.reply_bytes, "replies are counted");
        assert_eq!(bytes, session.request_bytes, "requests are counted");
        for key in &session.queue {
            let request = &self.requests[*key];
            barriers += u32::from(request.shape.barrier && !request.is_done());
            groups += usize::from(matches!(request.state, State::Group(_)));
        }
        assert_eq!(barriers, session.barriers, "barriers are counted");
        let oldest = session.queue.front();
        assert!(
            !oldest.is_some_and(|key| self.requests[*key].is_done()),
            "a known reply is due at once"
        );
        (requests, groups)
    }

    /// Checks that each request counts with the bytes there are of it, wherever they are.
    fn check_request_memory(&self) {
        let mut sum = 0;
        for request in self.requests.iter() {
            sum += request.bytes();
            match request.state {
                State::Held | State::Parked | State::Waiting(_) | State::Refused(_) => {
                    assert_eq!(request.bytes(), request.body.len(), "{:?}", request.state);
                }
                State::Done { .. } | State::Group(_) => assert_eq!(request.bytes(), 0),
                // In its link's log, see there; or over since it came.
                State::Sent(_) | State::New => {}
            }
        }
        assert_eq!(sum, self.requests.bytes(), "bytes of requests are counted");
        let pending = self
            .sessions
            .iter()
            .map(|(_, session)| session.input_bytes());
        assert_eq!(pending.sum::<usize>(), self.request_memory.pending);
        let mut large = 0;
        for (_, session) in &self.sessions {
            let has_much = session.input_bytes() > self.limits.request_share;
            assert_eq!(session.large, has_much, "those with much are known");
            large += usize::from(has_much);
        }
        assert_eq!(large, self.request_memory.large.len());
    }

    /// Checks that each request that is sent on has its link, and that its node cannot have all of it.
    fn check_uploads(&self) {
        let mut uploads = 0;
        for (index, session) in &self.sessions {
            let Upload::Over(link) = session.upload else {
                continue;
            };
            uploads += 1;
            let link = &self.links[link.index()];
            assert_eq!(link.uploads, Some(SessionKey::from_index(index)));
            assert!(!matches!(link.phase, LinkPhase::Closed) && link.detached);
            assert!(link.owed() == 0 && session.queue.is_empty());
            let whole = session
                .input
                .as_ref()
                .and_then(|input| input.decoder.expected_len());
            assert!(
                whole.is_none_or(|whole| link.uploaded < whole),
                "not all is written"
            );
            assert!(link.uploaded <= session.input_bytes());
        }
        assert_eq!(uploads, self.uploads);
        let links = self.links.iter().filter(|(_, link)| link.uploads.is_some());
        assert_eq!(links.count(), self.uploads);
    }

    /// Checks the parked requests; gives the number of those whose client has gone.
    fn check_parked(&self) -> usize {
        let mut bytes = 0;
        for key in self.parked.keys() {
            let request = &self.requests[key];
            assert_eq!(request.state, State::Parked, "parked");
            bytes += request.body.len();
        }
        assert_eq!(bytes, self.parked.bytes(), "parked bytes are counted");
        assert!(self.parked.len() <= self.limits.park_max_requests);
        assert!(bytes <= self.limits.park_max_bytes);
        self.parked
            .keys()
            .filter(|key| self.is_abandoned(*key))
            .count()
    }

    /// Checks one link; gives the number of its requests whose client has gone.
    fn check_link(&self, key: LinkKey) -> usize {
        let link = &self.links[key.index()];
        let node = &self.nodes[link.node];
        if matches!(link.phase, LinkPhase::Closed) {
            let left = link.owed() + link.waiting.len();
            assert!(link.probe || left == 0, "a closed link has no requests");
        } else {
            let entered = node
                .links
                .iter()
                .flatten()
                .filter(|other| **other == Some(key));
            let entered = entered.count() + usize::from(node.probe == Some(key));
            let expected = usize::from(!link.detached);
            assert_eq!(entered, expected, "a link is one of its node's");
            assert!(
                link.detached || !link.held,
                "nobody waits for a slow client"
            );
        }
        for request in &link.waiting {
            assert_eq!(self.requests[*request].state, State::Waiting(key));
        }
        let sent = || {
            link.in_flight().filter_map(|entry| match entry.owed {
                Owed::Request(request) | Owed::Unit(request) | Owed::Orphan(request) => {
                    Some((request, entry))
                }
                Owed::Asking | Owed::Queued { .. } | Owed::Probe | Owed::Fence => None,
            })
        };
        for (request, entry) in sent() {
            assert_eq!(self.requests[request].state, State::Sent(key));
            let length = link.request(entry).len();
            assert_eq!(self.requests[request].bytes(), length, "its bytes are here");
        }
        let sent = || sent().map(|(request, _)| request);
        let requests = link.waiting.iter().copied().chain(sent());
        requests
            .filter(|request| self.is_abandoned(*request))
            .count()
    }

    fn check_nodes(&self) {
        for (key, node) in self.nodes.iter() {
            for link in node.links.iter().flatten().flatten().chain(&node.probe) {
                let entry = self.links.get(link.index());
                assert!(
                    entry.is_some_and(|link| link.node == key),
                    "a node's link is there and its own"
                );
            }
        }
    }

    fn is_abandoned(&self, key: RequestKey) -> bool {
        self.requests[key].session.is_none()
    }

    /// Checks that nothing is left of requests that are over. To be called when every client has its replies and a topology was
    /// adopted since.
    ///
    /// # Panics
    /// If something is left.
    #[doc(hidden)]
    pub fn check_nothing_left(&self) {
        self.check_invariants();
        assert_eq!(self.requests.len(), 0, "no request is left");
        assert_eq!(self.reply_bytes, 0, "no reply is left");
        assert_eq!(self.requests.bytes(), 0, "no byte of a request is counted");
        // A handshake or a PING under way is nobody's request.
        for (_, link) in self
            .links
            .iter()
            .filter(|(_, link)| link.is_ready() && !link.probe)
        {
            assert_eq!(link.buffered(), 0, "no byte of a request is left");
            assert_eq!(link.partial.len(), 0, "no part of a reply is left");
        }
        assert!(
            self.nodes.iter().all(|(_, node)| node.probe.is_none()),
            "nobody is asked why he owes nothing"
        );
        for (_, session) in &self.sessions {
            assert_eq!(session.input_bytes(), 0, "no request waits to be taken");
        }
        assert!(
            self.nodes
                .iter()
                .all(|(_, node)| node.known || node.has_links()),
            "no node is left that nobody names"
        );
    }

    /// Number of connections, those being opened or closed included.
    #[doc(hidden)]
    #[must_use]
    pub fn link_count(&self) -> usize {
        self.links.len()
    }
}

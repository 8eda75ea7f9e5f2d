//! What must hold between any two calls; for tests [Z1] [Z2] [Z6].

use std::collections::HashMap;

use super::request::State;
use super::{Engine, LinkKey, NodeKey, RequestKey, SessionKey};
use crate::backend::{InFlight, LinkPhase, Owed};
use crate::session::watch::Pin;
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
        self.check_private_links();
        self.check_watches();
        let replies = self.sessions.iter().map(|(_, session)| session.reply_bytes);
        assert_eq!(replies.sum::<usize>(), self.reply_bytes);
        let unread = self
            .sessions
            .iter()
            .map(|(_, session)| session.unread_bytes());
        assert_eq!(unread.sum::<usize>(), self.unread_bytes);
        self.check_request_memory();
        assert_eq!(groups, self.groups.len(), "every group is in a queue");
        known += self.check_parked();
        for (index, _) in &self.links {
            known += self.check_link(LinkKey::from_index(index));
        }
        self.check_nodes();
        self.check_subscriptions();
        assert_eq!(known, self.requests.len(), "every request is somewhere");
    }

    /// Checks one session; gives the number of its requests, parts included, and of its groups.
    fn check_session(&self, session: &Session) -> (usize, usize) {
        assert!(!session.unsettled, "nothing is left for later");
        let (mut requests, mut groups, mut disturbed, mut barriers) = (0, 0, 0, 0);
        if let Some(tracker) = &session.tracker {
            disturbed += tracker.disturbances;
            let held = tracker.held.iter();
            let bytes: usize = held.map(|(_, notice)| notice.keys().len()).sum();
            assert_eq!(bytes, tracker.held_bytes, "what is held is counted");
            let is_tracking = tracker.place.is_some();
            assert_eq!(is_tracking, session.client.tracking.is_some());
            assert_eq!(is_tracking, session.big == Session::TRACKS);
        }
        let mut replies = session.unread_bytes();
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
                State::Done { .. } | State::Group(_) | State::Subscribing => {
                    assert_eq!(request.bytes(), 0);
                }
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

    /// Checks that private links carry the requests of one session each, and that those which nobody has are as good as new.
    fn check_private_links(&self) {
        let mut counts: HashMap<NodeKey, (usize, usize)> = HashMap::new();
        for (index, link) in &self.links {
            let key = LinkKey::from_index(index);
            let Some(private) = &link.private else {
                let is_private =
                    |entry: &InFlight| matches!(entry.owed, Owed::Blocked(_) | Owed::Watch(_));
                assert!(!link.in_flight().any(is_private), "nobody else waits there");
                continue;
            };
            if matches!(link.phase, LinkPhase::Closed) {
                assert!(private.pinned.is_none(), "a closed link is nobody's");
                continue;
            }
            let count = counts.entry(link.node).or_default();
            count.0 += 1;
            count.1 += usize::from(!link.is_ready());
            let requests = link.in_flight().filter_map(|entry| match entry.owed {
                Owed::Blocked(request) | Owed::Watch(request) | Owed::Unit(request) => {
                    Some(request)
                }
                _ => None,
            });
            let is_public = |entry: &InFlight| matches!(entry.owed, Owed::Request(_));
            assert!(!link.in_flight().any(is_public), "nothing else goes there");
            assert!(
                requests.chain(link.waiting.iter().copied()).count() <= 1,
                "one request at a time"
            );
            let is_idle =
                self.nodes[link.node].idle[link.protocol.index()].contains(&(link.database, key));
            let is_free = link.is_ready() && link.owed() == 0 && private.pinned.is_none();
            assert_eq!(
                (is_idle, private.idle),
                (is_free, is_free),
                "what nobody has is to be had"
            );
            assert!(
                !is_idle || !(private.used_up || private.watches),
                "and as new"
            );
        }
        for (key, node) in self.nodes.iter() {
            let (private, opening) = counts.get(&key).copied().unwrap_or_default();
            assert_eq!((node.private, node.private_opening), (private, opening));
            let links = self.links.iter().filter(|(_, link)| link.node == key);
            let tracking = links.filter(|(_, link)| link.tracks.is_some()).count();
            assert_eq!(node.tracking, tracking, "those of sessions that track keys");
            assert!(private + tracking <= self.limits.private_links);
            let listed = self.trackers.links.values().flatten();
            let listed = listed.filter(|link| self.links[link.index()].node == key);
            assert_eq!(tracking, listed.count(), "each is listed for its session");
            let idle = node.idle.iter().flatten();
            let mut listed: Vec<LinkKey> = idle.map(|(_, link)| *link).collect();
            listed.sort_unstable();
            listed.dedup();
            assert_eq!(listed.len(), node.idle.iter().flatten().count());
            assert!(listed.iter().all(|link| self.links.contains(link.index())));
        }
    }

    /// Checks that each session whose keys are watched has its link, and each such link its session.
    fn check_watches(&self) {
        let mut pins = 0;
        for (index, session) in &self.sessions {
            let pin = session.watch.as_ref().map(|watch| watch.pin);
            if let Some(Pin::Over { link, .. }) = pin {
                pins += 1;
                let link = &self.links[link.index()];
                let private = link.private.as_ref();
                let pinned = private.and_then(|private| private.pinned);
                assert_eq!(pinned, Some(SessionKey::from_index(index)));
                assert!(private.is_some_and(|private| private.watches) && link.is_ready());
            }
        }
        let pinned = self.links.iter().filter(|(_, link)| {
            let private = link.private.as_ref();
            private.is_some_and(|private| private.pinned.is_some())
        });
        assert_eq!(pinned.count(), pins);
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
            let entered = node.shared_links().filter(|other| *other == key);
            let entered = entered.count()
                + usize::from(node.probe == Some(key))
                + usize::from(node.feed == Some(key));
            let expected = usize::from(!link.detached);
            assert_eq!(entered, expected, "a link is one of its node's");
            assert!(
                link.detached || !link.held,
                "nobody waits for a slow client"
            );
        }
        for request in &link.waiting {
            assert_eq!(self.requests[*request].state, State::Waiting(key));
            self.check_database(key, *request);
        }
        let sent = || {
            link.in_flight().filter_map(|entry| match entry.owed {
                Owed::Orphan(orphan) => Some((orphan, entry)),
                owed => Some((owed.request()?, entry)),
            })
        };
        for (request, entry) in sent() {
            assert_eq!(self.requests[request].state, State::Sent(key));
            self.check_database(key, request);
            let length = link.request(entry).len();
            assert_eq!(self.requests[request].bytes(), length, "its bytes are here");
        }
        let sent = || sent().map(|(request, _)| request);
        let requests = link.waiting.iter().copied().chain(sent());
        requests
            .filter(|request| self.is_abandoned(*request))
            .count()
    }

    /// Checks that the request is in the log of a link that is in its database [N21].
    fn check_database(&self, key: LinkKey, request: RequestKey) {
        let asked = self.requests[request].shape.database;
        assert_eq!(self.links[key.index()].database, asked);
    }

    fn check_nodes(&self) {
        for (key, node) in self.nodes.iter() {
            node.check_places(
                |link| self.links[link.index()].database,
                |link| self.links[link.index()].tracks.is_some(),
            );
            for link in node.shared_links().chain(node.probe).chain(node.feed) {
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

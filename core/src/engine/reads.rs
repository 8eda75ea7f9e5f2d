//! Reads that a replica may answer: which node gets one, and what is done when that fails [T21] [E10].
//!
//! The node is chosen when the read is sent, and again whenever it was refused or its connection was lost. In the order of its session a
//! read has the place of any other request: it waits for writes of the same keys before it, and they for it, though they go elsewhere
//! [O2]. What is between two sessions is not ordered: a replica may be behind.

use std::time::Duration;

use super::nodes::Place;
use super::request::{Launch, Request, Retry, Shape};
use super::silence::PING;
use super::{Engine, LinkKey, NodeKey, RequestKey, SessionKey};
use crate::backend::Owed;
use crate::command::id;
use crate::local::ReadPolicy;
use crate::reply::Refusal;
use crate::resp::Protocol;
use crate::session::Session;
use crate::slot::Slot;
use crate::time::Timestamp;
use crate::topology::RefreshReason;

/// A replica that refused a read gets none for so long: those who watch it have looked at it again by then.
const UNFIT_PAUSE: Duration = Duration::from_secs(1);

/// What was found of a replica does not count after this time: those who watch it have other trouble, and nobody knows how it fares.
const FINDINGS_KEPT: Duration = Duration::from_secs(5);

/// How soon a read that no replica may answer looks again, if nothing is heard of one before.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Added to what a node's answers take, so that a difference too small to be measured does not decide.
const LATENCY_FLOOR: Duration = Duration::from_micros(50);

/// Who is to answer a read.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// The owner of its slot, as for all other requests.
    Primary,
    Replica(NodeKey),
    /// A replica, when there is one.
    Nobody,
}

impl Engine {
    /// Has the session read where its listener and the client's own READONLY or READWRITE say.
    pub(super) fn adopt_read_policy(&mut self, key: SessionKey) {
        let session = &mut self.sessions[key.index()];
        let listener = session.env.listener();
        session.reads = match session.client.readonly {
            Some(false) => ReadPolicy::Primary,
            Some(true) if is_primary_first(listener.reads) => ReadPolicy::PreferReplica,
            Some(true) | None => listener.reads,
        };
        session.notes_writes = listener.read_your_writes;
        if session.reads != ReadPolicy::Primary {
            session.env.want_replicas();
        }
    }

    /// Lets any node of its shard answer a request that was just made, if the session wants that.
    pub(super) fn spread(&mut self, session: SessionKey, key: RequestKey) {
        let state = &self.sessions[session.index()];
        if may_be_spread(state, &self.requests[key]) {
            self.requests[key].shape.launch = Launch::Read;
            self.choose_reader(session, key);
        }
    }

    /// Sends a read whose turn has come to a replica or to the primary, as the policy of its session has it.
    pub(super) fn dispatch_read(&mut self, key: RequestKey, raw: Option<&[u8]>) {
        let Some(session) = self.requests[key].session else {
            return self.requests.remove(key);
        };
        if self.requests[key].detour.is_none() && !self.choose_reader(session, key) {
            self.requests[key].blocked_by = None;
            let time = self.next_look(self.requests[key].shape.slot);
            return self.park(key, raw, time);
        }
        let node = self.requests[key].detour.map(|(node, _)| node);
        if node.is_some_and(|node| self.nodes[node].is_reader()) {
            // What comes next does not go over the same link though it is for the same slot [O1].
            self.sessions[session.index()].sent_generation = Session::MIXED;
        }
        self.route(key, raw);
    }

    /// Notes which node is to answer a read; false if it is to wait for one.
    #[cold]
    #[inline(never)]
    fn choose_reader(&mut self, session: SessionKey, key: RequestKey) -> bool {
        let shape = &self.requests[key].shape;
        let owner = self.nodes.owner(&self.snapshot, shape.slot);
        let node = match self.source(session, shape) {
            Source::Primary => owner,
            Source::Replica(node) => {
                if let Some(owner) = owner
                    && may_be_for_primary(self.sessions[session.index()].reads)
                {
                    let owner = &mut self.nodes[owner];
                    owner.missed |= owner.failures > 0;
                }
                Some(node)
            }
            Source::Nobody => return false,
        };
        self.requests[key].detour = node.map(|node| (node, false));
        true
    }

    /// The node that answers a read of `shape` best.
    fn source(&self, session: SessionKey, shape: &Shape) -> Source {
        let state = &self.sessions[session.index()];
        let Some(owner) = self.nodes.owner(&self.snapshot, shape.slot) else {
            return Source::Primary;
        };
        let is_there = self.is_there(owner);
        let is_for_primary = match state.reads {
            // It has said READWRITE since this was asked.
            ReadPolicy::Primary => true,
            ReadPolicy::PreferPrimary => is_there,
            _ => false,
        };
        if is_for_primary || self.is_moving(shape.slot) {
            return Source::Primary;
        }
        let place = Place::new(shape.database, shape.protocol, self.affinity(session));
        if state.notes_writes && !self.nodes[owner].fences.is_empty() {
            // What it may yet execute is no more to be executed once it was asked anew [D9].
            return Source::Primary;
        }
        let since = match state.notes_writes {
            true => self
                .moments
                .after(state.wrote_at.max(self.nodes[owner].fenced_at)),
            false => Timestamp::ZERO,
        };
        let since = since.max(self.nodes[owner].gained_at);
        let mut best: Option<(bool, u64, Source)> = None;
        let mut is_behind = false;
        let mut offer = |near: bool, rank: u64, source: Source| {
            if best
                .as_ref()
                .is_none_or(|(is_near, best, _)| (near, rank) > (*is_near, *best))
            {
                best = Some((near, rank, source));
            }
        };
        let is_by_latency = state.reads == ReadPolicy::Nearest;
        for key in self.nodes[owner].readers.iter().copied() {
            let Some((near, caught_up)) = self.fitness(key, place) else {
                continue;
            };
            if caught_up < since {
                is_behind = true;
                continue;
            }
            let rank = self.rank(session, key, place, is_by_latency);
            offer(near, rank, Source::Replica(key));
        }
        if is_there && matches!(state.reads, ReadPolicy::Any | ReadPolicy::Nearest) {
            let rank = self.rank(session, owner, place, is_by_latency);
            offer(self.nodes[owner].near, rank, Source::Primary);
        }
        match best {
            Some((_, _, source)) => source,
            None if state.reads == ReadPolicy::Replica && !is_behind => Source::Nobody,
            None => Source::Primary,
        }
    }

    /// Whether nothing speaks against it that the primary answers now.
    fn is_there(&self, primary: NodeKey) -> bool {
        let node = &self.nodes[primary];
        node.failures == 0 && !self.is_suspect(primary) && !node.refuses_reads(self.now)
    }

    /// A replica of a node that gives a slot away, or takes it, knows nothing of that: it would call a key missing that is elsewhere.
    fn is_moving(&self, slot: Slot) -> bool {
        let open = self.snapshot.open_slots();
        !open.is_empty() && open.iter().any(|open| open.slot == slot)
    }

    /// Whether replica `key` is near, and how new its data is; `None` if it is not to be read from now.
    fn fitness(&self, key: NodeKey, place: Place) -> Option<(bool, Timestamp)> {
        let node = &self.nodes[key];
        let standing = node.reader.as_ref()?;
        let has_link = || {
            let link = node.link_anywhere(place);
            link.is_some_and(|link| self.links[link.index()].is_ready())
        };
        let is_fit = standing.listed
            && self.now.since(standing.seen) < FINDINGS_KEPT
            && standing.unfit_until <= self.now
            && node.probe.is_none()
            && (node.failures == 0 || has_link());
        is_fit.then_some((standing.near, standing.caught_up))
    }

    /// The higher the better. A session stays with a node as long as that may be, so that it does not see the past again; by latency it
    /// goes where that is least, and least is under way.
    fn rank(&self, session: SessionKey, node: NodeKey, place: Place, is_by_latency: bool) -> u64 {
        if is_by_latency {
            let node = &self.nodes[node];
            let link = node.link_anywhere(place);
            let owed = link.map_or(0, |link| self.links[link.index()].owed());
            let each = (node.answers_in + LATENCY_FLOOR).as_micros();
            let cost = each.saturating_mul(owed as u128 + 1);
            return u64::MAX - u64::try_from(cost).unwrap_or(u64::MAX);
        }
        // Not by its place in a table, which that of the next client may be again.
        let id = self.sessions[session.index()].client.id;
        mix(id << 32 | node.index() as u64)
    }

    /// Replica `node` refused the read `key`: the owner of the slot is asked if it is about the slot, else whoever may answer [E10].
    pub(super) fn on_refused_by_replica(
        &mut self,
        node: NodeKey,
        key: RequestKey,
        refusal: &Refusal,
    ) -> Option<Retry> {
        let is_about_slot = matches!(
            refusal,
            Refusal::Moved { .. } | Refusal::Ask { .. } | Refusal::TryAgain | Refusal::ReadOnly
        );
        let until = self.now.after(UNFIT_PAUSE);
        if let Some(standing) = &mut self.nodes[node].reader
            && !matches!(refusal, Refusal::Ask { .. } | Refusal::TryAgain)
        {
            standing.unfit_until = until;
        }
        self.ask_for_topology(
            node,
            match refusal {
                Refusal::Loading | Refusal::MasterDown => RefreshReason::MasterDown,
                Refusal::ClusterDown => RefreshReason::ClusterDown,
                Refusal::ReadOnly | Refusal::Demoted => RefreshReason::Readonly,
                Refusal::Moved { .. } | Refusal::Ask { .. } | Refusal::TryAgain => {
                    RefreshReason::Moved
                }
            },
        );
        if !self.may_wait(key) {
            return None;
        }
        let slot = self.requests[key].shape.slot;
        let owner = self.nodes.owner(&self.snapshot, slot);
        Some(match owner.filter(|_| is_about_slot) {
            Some(node) => Retry::At {
                node,
                asking: false,
            },
            None => Retry::Route,
        })
    }

    /// Has replicas that could not be reached tried again, by connections that nobody waits for.
    /// So are primaries in whose place replicas answer: perhaps nobody else would try.
    pub(super) fn try_readers(&mut self) {
        let nodes = self.nodes.iter();
        let lost: Vec<NodeKey> = nodes
            .filter(|(_, node)| node.failures > 0 && node.retry_at <= self.now)
            .filter(|(_, node)| match &node.reader {
                Some(standing) => standing.listed,
                None => node.primary && node.missed,
            })
            .map(|(key, _)| key)
            .collect();
        for key in lost {
            let is_ready = |link: &LinkKey| self.links[link.index()].is_ready();
            let ready = self.nodes[key].shared_links().find(is_ready);
            match ready {
                None => {
                    self.open_link(key, 0, Protocol::Resp2, 0);
                }
                // Only one of its connections was lost: the next request opens it anew.
                Some(_) if self.is_known_to_answer(key) => self.nodes[key].failures = 0,
                Some(link) if self.links[link.index()].owed() == 0 => {
                    self.links[link.index()].push(Owed::Probe, PING, self.now);
                    self.mark_link_dirty(link);
                }
                Some(_) => {}
            }
        }
    }

    /// Whether a node that lost connections answers over others. A replica that does not is listed no more; of a primary, only what it
    /// has said since tells.
    fn is_known_to_answer(&self, node: NodeKey) -> bool {
        let node = &self.nodes[node];
        node.is_reader() || node.heard >= node.retry_at
    }

    /// When a read that no replica may answer is looked at again, whatever is heard till then.
    fn next_look(&self, slot: Slot) -> Timestamp {
        let refused = self.readers_for(slot).filter_map(|key| {
            let standing = self.nodes[key].reader.as_ref()?;
            (standing.unfit_until > self.now).then_some(standing.unfit_until)
        });
        refused.fold(self.now.after(LOOK_AGAIN), Timestamp::min)
    }

    /// Has reads that wait for a replica looked at now, where there may be one.
    pub(super) fn hurry_reads(&mut self) {
        if !self.parked.has_reads() {
            return;
        }
        let place = Place::new(0, Protocol::Resp2, 0);
        let mut parked = std::mem::take(&mut self.parked);
        parked.hurry_reads(self.now, |slot| {
            let mut readers = self.readers_for(slot);
            readers.any(|key| self.fitness(key, place).is_some())
        });
        self.parked = parked;
    }

    /// The replicas of the owner of `slot`.
    fn readers_for(&self, slot: Slot) -> impl Iterator<Item = NodeKey> {
        let owner = self.nodes.owner(&self.snapshot, slot);
        let readers = owner.map(|owner| &self.nodes[owner].readers);
        readers.into_iter().flatten().copied()
    }
}

/// Whether the primary is one of those that may be asked.
const fn may_be_for_primary(policy: ReadPolicy) -> bool {
    matches!(
        policy,
        ReadPolicy::PreferPrimary | ReadPolicy::Any | ReadPolicy::Nearest
    )
}

/// Whether the primary is asked as long as it is there.
const fn is_primary_first(policy: ReadPolicy) -> bool {
    matches!(policy, ReadPolicy::Primary | ReadPolicy::PreferPrimary)
}

/// Whether a replica may answer the request. A client that tracks keys is told of changes by the node that it reads from; one that
/// watches keys is not told at EXEC of what had changed before, but had not reached the replica [W2]; a cursor means nothing at
/// another node [S11]; a big request may be on its way already.
fn may_be_spread(session: &Session, request: &Request) -> bool {
    let watches = session.watch.as_ref().is_some_and(|it| it.slot.is_some());
    let goes_on_where_it_began = matches!(
        request.shape.spec.id,
        id::HSCAN | id::SSCAN | id::ZSCAN | id::CLUSTERSCAN
    );
    session.reads != ReadPolicy::Primary
        && !watches
        && !goes_on_where_it_began
        && request.shape.spec.readonly
        && request.shape.keyed
        && request.shape.launch == Launch::Direct
        && session.tracker.is_none()
        && session.client.tracking.is_none()
}

/// Spreads numbers that are close to each other.
const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let number = (number ^ (number >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ (number >> 33)
}

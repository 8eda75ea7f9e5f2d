//! From a command to its request: checks, plan, and a place in the session's queue.

use std::rc::Rc;

use super::input::HandOver;
use super::request::{Launch, Shape, State};
use super::{Engine, RequestKey, SessionKey};
use crate::command::{
    Class, KeyList, Lookup, Spec, id, lookup, write_arity_error, write_not_supported,
};
use crate::local::{
    ClusterEmulation, ReadPolicy, allowed_unauthenticated, refuse_cluster_disabled, write_not_yet,
};
use crate::metrics::{CloseReason, Outcome};
use crate::resp::{Args, write};
use crate::router::{self, KeyHash, Plan, Reject};
use crate::session::Session;
use crate::slot::Slot;

/// What every server says before a password was given.
pub(super) const NOAUTH: &[u8] = b"NOAUTH Authentication required.";

impl Engine {
    /// Takes one command of a client: `raw` as the client sent it in RESP, `args` over the same bytes.
    ///
    /// Outcomes: answered here; refused here; sent, split, fanned out; or waiting for its turn.
    pub(super) fn command(&mut self, session: SessionKey, raw: &[u8], args: Args<'_>) {
        let spec = match lookup(args) {
            Lookup::Known(spec) => spec,
            other => match self.learned(session, args, other) {
                Some(spec) => spec,
                None => return,
            },
        };
        let state = &mut self.sessions[session.index()];
        state.last_command = Some(spec.id);
        if !state.client.authenticated && !allowed_unauthenticated(spec) {
            return self.refuse(session, spec, |out| write::error(out, NOAUTH));
        }
        let is_open = state.transaction.is_some();
        if state.subscriber.is_some() && self.is_for_subscriber(session, spec, raw, args) {
            return;
        }
        if spec.class == Class::Transaction || is_open {
            return self.transact(session, spec, raw, args);
        }
        let mut keys = std::mem::take(&mut self.keys);
        let plan = router::plan(spec, args, &mut keys, &self.keyspace);
        match plan {
            Plan::Single { slot, key } => {
                if !key.is_one_key() {
                    self.note_keys(args, &keys);
                }
                self.single(session, spec, slot, key, true, raw);
            }
            Plan::Script { slot, key } => {
                self.note_script(spec, args);
                if !key.is_one_key() {
                    self.note_keys(args, &keys);
                }
                self.single(session, spec, slot, key, true, raw);
            }
            Plan::Keyless { .. } if self.hides_cluster(session, spec) => {
                let listener = Rc::clone(&self.sessions[session.index()].env);
                self.refuse(session, spec, |out| {
                    refuse_cluster_disabled(spec, listener.listener(), out);
                });
            }
            Plan::Keyless { .. } if self.lacks_slots(spec) => {
                self.reject(session, spec, Reject::NotSupported, args);
            }
            Plan::Keyless { slot } => {
                self.single(session, spec, slot, KeyHash::ALL, false, raw);
            }
            Plan::AnyPrimary => {
                self.note_script(spec, args);
                self.note_script_command(spec, raw);
                let slot = self.any_slot(session);
                self.single(session, spec, slot, KeyHash::ALL, false, raw);
            }
            Plan::Local if spec.id == id::SELECT => self.select(session, spec, raw, args),
            Plan::Local if self.tracks_at_turn(session, spec, args) => {}
            Plan::Local => self.local(session, spec, args),
            Plan::Split | Plan::Reject(Reject::TooManyKeys) if !self.splits(session) => {
                self.reject(session, spec, Reject::CrossSlot, args);
            }
            Plan::Split => self.split(session, spec, args, &keys),
            Plan::FanOut => self.whole(session, spec, raw, Launch::FanOut),
            Plan::Acks => self.whole(session, spec, raw, Launch::Acks),
            Plan::Scan => self.whole(session, spec, raw, Launch::Scan),
            Plan::Blocking { slot } => self.block(session, spec, slot, raw, args),
            Plan::Subscription => self.whole(session, spec, raw, Launch::AtTurn),
            Plan::FindKeys => self.whole(session, spec, raw, Launch::FindKeys),
            Plan::Reject(Reject::CrossSlot) if self.reads_across_slots(session, spec) => {
                self.read_across_slots(session, spec, args, &keys);
            }
            Plan::Reject(reject) => self.reject(session, spec, reject, args),
        }
        keys.clear();
        self.keys = keys;
    }

    /// Remembers the hash of each key for the request that is made next.
    fn note_keys(&mut self, args: Args<'_>, keys: &KeyList) {
        let keys = keys.as_slice().iter();
        let hashes = keys.filter_map(|index| args.get(*index as usize).map(KeyHash::of));
        self.several_keys.extend(hashes);
    }

    /// A request for one node. A keyless one is ordered against all others of its session [O7].
    fn single(
        &mut self,
        session: SessionKey,
        spec: &'static Spec,
        slot: Slot,
        key: KeyHash,
        keyed: bool,
        raw: &[u8],
    ) {
        if raw.len() >= self.limits.big_bytes {
            self.note_size(session, raw.len());
        }
        let state = &mut self.sessions[session.index()];
        let shape = Shape {
            spec,
            slot,
            key,
            keyed,
            barrier: !keyed,
            launch: Launch::Direct,
            protocol: state.client.protocol,
            database: state.client.database,
        };
        let request = self.enqueue(session, shape, raw);
        if self.hand_over == HandOver::Offered {
            self.hand_over = HandOver::Accepted(request);
        } else if self.sessions[session.index()].reads == ReadPolicy::Primary {
            self.start(session, request, Some(raw));
        } else {
            self.spread(session, request);
            self.start_spread(session, request, raw);
        }
    }

    /// Gives a request for a node its place in the session's queue.
    #[inline(always)]
    pub(super) fn enqueue(&mut self, session: SessionKey, shape: Shape, raw: &[u8]) -> RequestKey {
        let request = self.requests.insert(session, shape, self.now);
        if !self.several_keys.is_empty() {
            let keys = &mut self.requests[request].several_keys;
            keys.append(&mut self.several_keys);
        }
        self.expect_reply(request);
        self.requests.set_bytes(request, raw.len());
        let state = &mut self.sessions[session.index()];
        state.request_bytes += raw.len();
        state.queue.push_back(request);
        if !state.client.permit_reply() {
            self.requests[request].visible = false;
        }
        request
    }

    /// Sends a request that is the last one of its session's queue, or keeps it until it may be sent.
    pub(super) fn start(
        &mut self,
        session: SessionKey,
        request: super::RequestKey,
        raw: Option<&[u8]>,
    ) {
        if !self.requests[request].shape.barrier && self.is_undisturbed(session) {
            self.dispatch(request, raw);
        } else {
            self.start_in_order(session, request, raw);
        }
    }

    /// As [`Self::start`], of a session whose reads may go elsewhere than its writes: what is before such a read, and it itself, need
    /// not use the same link.
    fn start_spread(&mut self, session: SessionKey, request: RequestKey, raw: &[u8]) {
        if self.requests[request].shape.launch != Launch::Read {
            return self.start(session, request, Some(raw));
        }
        let state = &self.sessions[session.index()];
        let before = state.queue.iter().nth_back(1);
        let is_behind_reads = before.is_none_or(|before| self.requests[*before].behind_reads);
        self.requests[request].behind_reads = is_behind_reads;
        if before.is_none() {
            self.start(session, request, Some(raw));
        } else if is_behind_reads && state.orphans.is_empty() {
            // Whatever becomes of those before it, it needs no place among them: so a long pipeline of reads is not looked through.
            self.dispatch(request, Some(raw));
        } else {
            self.start_in_order(session, request, Some(raw));
        }
    }

    /// Whether the listener of this session says that there is no cluster, so that CLUSTER COUNTKEYSINSLOT goes nowhere either.
    pub(super) fn hides_cluster(&self, session: SessionKey, spec: &Spec) -> bool {
        let listener = self.sessions[session.index()].env.listener();
        spec.name.starts_with("cluster|") && listener.cluster == ClusterEmulation::Off
    }

    /// Whether this is about a slot, which the one server that has all keys knows nothing of.
    pub(super) fn lacks_slots(&self, spec: &Spec) -> bool {
        self.keyspace.undivided && spec.name.starts_with("cluster|")
    }

    /// Whether commands of this session may be split [P2].
    fn splits(&self, session: SessionKey) -> bool {
        self.sessions[session.index()].env.listener().split
    }

    /// The fast path of the order rules [O1]: nothing outstanding was refused, held or sent again, and all of it was routed by
    /// this snapshot, so the same slot means the same link.
    #[inline]
    pub(super) fn is_undisturbed(&mut self, session: SessionKey) -> bool {
        let generation = self.snapshot.generation;
        let state = &mut self.sessions[session.index()];
        if state.queue.len() == 1 {
            state.sent_generation = generation;
        }
        state.disturbed == 0 && state.barriers == 0 && state.sent_generation == generation
    }

    fn start_in_order(
        &mut self,
        session: SessionKey,
        request: super::RequestKey,
        raw: Option<&[u8]>,
    ) {
        self.apply_caching(session, request);
        let state = &mut self.sessions[session.index()];
        if self.requests[request].shape.barrier {
            state.barriers += 1;
        }
        let index = state.queue.len() - 1;
        if self.may_send(session, index, request) {
            self.dispatch(request, raw);
        } else {
            self.hold(request, raw);
        }
    }

    /// Keeps a request until those it must follow are through [O2].
    pub(super) fn hold(&mut self, request: super::RequestKey, raw: Option<&[u8]>) {
        self.keep_body(request, raw);
        self.hold_part(request);
    }

    /// As [`Self::hold`], for a request that has its own copy of its bytes.
    pub(super) fn hold_part(&mut self, request: super::RequestKey) {
        self.metrics.held += 1;
        let held = &mut self.requests[request];
        held.state = State::Held;
        if held.shape.launch == Launch::Read {
            // Who may answer it may have changed by then: it may have to show what it waits for.
            held.detour = None;
        }
        self.disturb(request);
    }

    /// A slot whose owner serves keyless commands of this session: always the same one for one topology.
    pub(super) fn any_slot(&self, session: SessionKey) -> Slot {
        let shards = self.snapshot.shards();
        let pick = session
            .index()
            .checked_rem(shards.len())
            .and_then(|index| shards.get(index));
        pick.map_or_else(|| Slot::of_key(b""), |shard| shard.lowest_slot)
    }

    pub(super) fn reject(
        &mut self,
        session: SessionKey,
        spec: &'static Spec,
        reject: Reject,
        args: Args<'_>,
    ) {
        // A browser or a cross-protocol attack, not a client [Y7].
        if spec.is_cross_protocol() {
            return self.end_session(session, CloseReason::Protocol);
        }
        let limit = self.limits.split_max_keys;
        self.refuse(session, spec, |out| match reject {
            Reject::Arity => write_arity_error(spec, out),
            Reject::CrossSlot => write::error(out, b"CROSSSLOT Keys in request don't hash to the same slot"),
            Reject::TooManyKeys => {
                let count = args.len() - 1;
                let text = format!("ERR proxy: too many keys for a split command: {count} arguments, at most {limit} keys");
                write::error(out, text.as_bytes());
            }
            Reject::NotSupported => write_not_supported(spec, out),
            Reject::NotYet => write_not_yet(spec, out),
            Reject::InvalidSlot => write::error(out, b"ERR Invalid slot"),
        });
    }

    /// Answers with an error of the proxy, in the order of the session.
    pub(super) fn refuse(
        &mut self,
        session: SessionKey,
        spec: &'static Spec,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.count_immediate(spec, Outcome::Refused);
        if self.sessions[session.index()].client.tracking.is_some() {
            self.end_caching(session, spec);
        }
        let mut reply = std::mem::take(&mut self.scratch);
        reply.clear();
        write(&mut reply);
        self.answer_at_turn(session, &reply);
        self.keep_scratch(reply);
    }

    /// Counts a command that was answered without a node.
    pub(super) fn count_immediate(&mut self, spec: &Spec, outcome: Outcome) {
        self.metrics.commands[spec.id.index()].outcomes[outcome.index()] += 1;
        self.metrics.total.record(0);
        self.metrics.proxy.record(0);
    }

    /// Gives the client `reply` after all replies it is owed before.
    pub(super) fn answer_at_turn(&mut self, session: SessionKey, reply: &[u8]) {
        let state = &mut self.sessions[session.index()];
        if !state.client.permit_reply() {
            return;
        }
        if state.queue.is_empty() {
            self.give(session, reply);
        } else {
            let request = self.requests.insert(session, local_shape(state), self.now);
            state.queue.push_back(request);
            let entry = &mut self.requests[request];
            entry.reply.extend_from_slice(reply);
            entry.state = State::Done { executed: false };
            self.recount_reply(request, reply.len());
        }
        self.mark_session_dirty(session);
    }
}

/// The shape of a request that no node sees.
fn local_shape(session: &Session) -> Shape {
    Shape {
        spec: id::PING.spec(),
        slot: Slot::of_key(b""),
        key: KeyHash::NONE,
        keyed: false,
        barrier: false,
        launch: Launch::Direct,
        protocol: session.client.protocol,
        database: session.client.database,
    }
}

//! Commands that are made of parts: split by slot [P1]-[P9], fanned out to all primaries ([`fan_out`]), and SCAN.
//!
//! [`fan_out`]: super::fan_out

use std::ops::Range;

use smallvec::SmallVec;

use super::algebra::Held;
use super::request::{Launch, Shape, State};
use super::{Engine, GroupKey, RequestKey, SessionKey};
use crate::command::{KeyList, Spec};
use crate::local::{ReadPolicy, write_not_yet};
use crate::merge::scan::Step;
use crate::merge::{self, Part, PartOutcome, Rule};
use crate::metrics::Outcome;
use crate::resp::{Args, write};
use crate::router::{KeyHash, place};
use crate::slot::Slot;

/// Room kept for putting together requests of parts and replies of wholes.
const KEPT_SCRATCH: usize = 64 << 10;

/// How the replies of the parts become the reply of the whole.
#[derive(Debug)]
pub(super) enum Assembly {
    /// By the rule of the command.
    Merge(Rule),
    /// One part: the SCAN step of one node.
    Scan(Step),
    /// As the algebra of sets has it.
    Algebra(Box<Held>),
    /// One part: the question where the keys of this command are.
    Keys(Box<[u8]>),
}

/// Where the elements of a part belong in the whole. Most parts have one.
type Positions = SmallVec<[u32; 4]>;

/// The parts of one command.
#[derive(Debug)]
pub(super) struct Group {
    /// The entry in the session's queue.
    pub(super) parent: RequestKey,
    pub(super) parts: Vec<RequestKey>,
    /// For each part, where its elements belong in the whole (MGET only).
    positions: Vec<Positions>,
    remaining: usize,
    /// Elements of the whole.
    total: usize,
    pub(super) assembly: Assembly,
}

/// One part before it becomes a request.
pub(super) struct NewPart<'a> {
    slot: Slot,
    key: KeyHash,
    keyed: bool,
    /// Its keys, in their order.
    pub(super) placed: &'a [Placed],
}

impl Engine {
    /// One part per slot, in the order of the slots' first keys.
    pub(super) fn split(
        &mut self,
        session: SessionKey,
        spec: &'static Spec,
        args: Args<'_>,
        keys: &KeyList,
    ) {
        let Some(rule) = Rule::for_spec(spec) else {
            return self.refuse(session, spec, |out| write_not_yet(spec, out));
        };
        self.metrics.split += 1;
        let parent = self.queue_parent(session, spec, Launch::Direct);
        let total = keys.as_slice().len();
        let placed = keys_by_slot(args, keys);
        let parts = parts_of(&placed, true);
        let write = |part: &NewPart<'_>, out: &mut Vec<u8>| {
            write_request(spec, args, keys, part.placed, out);
        };
        let group = self.make_group(parent, parts, &write, total, Assembly::Merge(rule));
        self.start_parts(session, group);
    }

    /// Sends the parts of the last command of the session, or keeps them until they may be sent.
    pub(super) fn start_parts(&mut self, session: SessionKey, group: GroupKey) {
        let index = self.sessions[session.index()].queue.len() - 1;
        let undisturbed = self.is_undisturbed(session);
        if !undisturbed {
            self.apply_caching_to_parts(session, group);
        }
        let is_spread = self.sessions[session.index()].reads != ReadPolicy::Primary;
        for part in self.groups[group.index()].parts.clone() {
            if is_spread {
                self.spread(session, part);
            }
            // The parts are on different slots, or only read, so none of them stands in the way of another.
            if undisturbed && !is_spread || self.may_send(session, index, part) {
                self.dispatch(part, None);
            } else {
                self.hold_part(part);
            }
        }
    }

    /// A command that concerns every primary, or one after the other: FLUSHALL, DBSIZE, SCAN. Its parts are made when its turn
    /// comes, from the topology of that moment.
    pub(super) fn whole(
        &mut self,
        session: SessionKey,
        spec: &'static Spec,
        raw: &[u8],
        launch: Launch,
    ) {
        let parent = self.queue_parent(session, spec, launch);
        self.count_request(parent, raw.len());
        if self.sessions[session.index()].client.tracking.is_some() {
            self.end_caching(session, spec);
        }
        let index = self.sessions[session.index()].queue.len() - 1;
        if self.may_send(session, index, parent) {
            self.dispatch(parent, Some(raw));
        } else {
            self.hold(parent, Some(raw));
        }
    }

    /// Makes the parts of a command whose turn has come. Without any topology it waits for one.
    pub(super) fn launch(&mut self, parent: RequestKey, raw: Option<&[u8]>) {
        let launch = self.requests[parent].shape.launch;
        if launch == Launch::Acks {
            self.begin_acks(parent, raw);
        }
        if self.snapshot.is_empty() && launch != Launch::AtTurn {
            return self.park_unowned(parent, raw);
        }
        if self.waits_for_failover(parent, raw) || self.waits_for_databases(parent, raw) {
            return;
        }
        self.keep_body(parent, raw);
        self.count_request(parent, 0);
        let raw = std::mem::take(&mut self.requests[parent].body);
        match launch {
            Launch::AtTurn => self.carry_out(parent, &raw),
            Launch::FanOut => self.fan_out(parent, &raw),
            Launch::Scan => self.scan(parent, &raw),
            Launch::FindKeys => self.find_keys(parent, &raw),
            Launch::Acks => self.wait_for_acks(parent, &raw),
            _ => {}
        }
    }

    pub(super) fn fail_parent(&mut self, parent: RequestKey, write: impl FnOnce(&mut Vec<u8>)) {
        let mut reply = Vec::new();
        write(&mut reply);
        self.fail(parent, &reply, Outcome::Unavailable, false);
    }

    pub(super) fn queue_parent(
        &mut self,
        session: SessionKey,
        spec: &'static Spec,
        launch: Launch,
    ) -> RequestKey {
        let barrier = launch != Launch::Direct;
        let state = &mut self.sessions[session.index()];
        let (protocol, database) = (state.client.protocol, state.client.database);
        let shape = Shape {
            spec,
            slot: Slot::of_key(b""),
            key: KeyHash::NONE,
            keyed: false,
            barrier,
            launch,
            protocol,
            database,
        };
        let parent = self.requests.insert(session, shape, self.now);
        state.queue.push_back(parent);
        if !state.client.permit_reply() {
            self.requests[parent].visible = false;
        }
        if barrier {
            state.barriers += 1;
        }
        parent
    }

    /// Turns the queue entry `parent` into a group of `parts`, none of them sent yet. `write` appends the request of one.
    pub(super) fn make_group(
        &mut self,
        parent: RequestKey,
        parts: Vec<NewPart<'_>>,
        write: &dyn Fn(&NewPart<'_>, &mut Vec<u8>),
        total: usize,
        assembly: Assembly,
    ) -> GroupKey {
        let whole = self.requests[parent].shape;
        let (session, arrival) = (self.requests[parent].session, self.requests[parent].arrival);
        let remaining = parts.len();
        let group = self.groups.insert(Group {
            parent,
            parts: Vec::with_capacity(remaining),
            positions: Vec::with_capacity(remaining),
            remaining,
            total,
            assembly,
        });
        self.requests[parent].state = State::Group(GroupKey::from_index(group));
        let group = GroupKey::from_index(group);
        let mut raw = std::mem::take(&mut self.scratch);
        for (number, part) in (0..).zip(parts) {
            raw.clear();
            write(&part, &mut raw);
            let shape = Shape {
                slot: part.slot,
                key: part.key,
                keyed: part.keyed,
                launch: Launch::Direct,
                ..whole
            };
            let request = self.requests.insert_for(session, shape, self.now);
            let entry = &mut self.requests[request];
            entry.group = Some((group, number));
            entry.arrival = arrival;
            if part.placed.len() > 1 {
                let keys = part.placed.iter().map(|placed| placed.key);
                entry.several_keys.extend(keys);
            }
            entry.body.extend_from_slice(&raw);
            self.count_request(request, raw.len());
            self.expect_reply(request);
            let positions = part.placed.iter().map(|placed| placed.position);
            let entry = &mut self.groups[group.index()];
            entry.parts.push(request);
            entry.positions.push(positions.collect());
        }
        self.keep_scratch(raw);
        group
    }

    /// Sends all parts of a command that is ordered as a whole.
    pub(super) fn dispatch_parts(&mut self, group: GroupKey) {
        for part in self.groups[group.index()].parts.clone() {
            self.dispatch(part, None);
        }
    }

    /// A part has its reply; after the last one the whole is answered.
    pub(super) fn complete_part(
        &mut self,
        session: SessionKey,
        key: RequestKey,
        reply: &[u8],
        executed: bool,
    ) {
        let Some((group, _)) = self.requests[key].group else {
            return;
        };
        let reply = match self.groups[group.index()].assembly {
            Assembly::Algebra(_) => self.hold_part_of_algebra(group, reply),
            _ => reply,
        };
        self.requests.keep_reply(key, reply);
        let request = &mut self.requests[key];
        request.state = State::Done { executed };
        let backend = request.backend_micros;
        self.recount_reply(key, reply.len());
        let entry = &mut self.groups[group.index()];
        let parent = &mut self.requests[entry.parent];
        parent.backend_micros = parent.backend_micros.max(backend);
        entry.remaining -= 1;
        if entry.remaining == 0 {
            self.complete_group(group);
        } else if reply.first() == Some(&b'-') {
            self.end_other_acks(group);
        }
        self.after_completion(session);
    }

    fn complete_group(&mut self, key: GroupKey) {
        let group = self.groups.remove(key.index());
        if let Assembly::Keys(raw) = &group.assembly {
            return self.route_by_keys(&group, raw);
        }
        if let (Assembly::Scan(step), [part]) = (&group.assembly, &group.parts[..]) {
            return self.finish_step(group.parent, *part, step);
        }
        let mut reply = std::mem::take(&mut self.scratch);
        reply.clear();
        let outcome = match &group.assembly {
            Assembly::Merge(rule) => self.merge(*rule, &group, &mut reply),
            Assembly::Algebra(held) => self.merge_algebra(held, &group, &mut reply),
            Assembly::Keys(_) | Assembly::Scan(_) => Outcome::Unavailable,
        };
        if self.requests[group.parent].shape.launch == Launch::Acks {
            self.end_acks(&group, &mut reply);
        }
        let executed = group
            .parts
            .iter()
            .any(|part| matches!(self.requests[*part].state, State::Done { executed: true }));
        self.note_overtaken(group.parent, &group.parts);
        for part in &group.parts {
            self.recount_reply(*part, 0);
            self.requests.remove(*part);
        }
        self.complete(group.parent, &reply, outcome, executed);
        self.keep_scratch(reply);
    }

    /// Keeps a buffer for what is put together next, unless it is big.
    pub(super) fn keep_scratch(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() <= KEPT_SCRATCH {
            self.scratch = buffer;
        }
    }

    /// How part `number` of `group` ended.
    pub(super) fn part<'a>(&'a self, group: &'a Group, number: usize) -> Option<Part<'a>> {
        let request = &self.requests[*group.parts.get(number)?];
        let positions = group.positions.get(number);
        Some(Part {
            reply: &request.reply,
            positions: positions.map_or(&[], Positions::as_slice),
            outcome: match request.outcome {
                Outcome::Uncertain => PartOutcome::Uncertain,
                Outcome::Unavailable | Outcome::Refused => PartOutcome::NotExecuted,
                Outcome::Ok | Outcome::NodeError | Outcome::Partial => PartOutcome::Answered,
            },
        })
    }

    /// Merges the parts into `reply`; the outcome of the whole.
    fn merge(&self, rule: Rule, group: &Group, reply: &mut Vec<u8>) -> Outcome {
        let numbers = match self.parts_to_merge(rule, group) {
            Ok(numbers) => numbers,
            Err(error) => {
                write::error(reply, error.as_bytes());
                return Outcome::Unavailable;
            }
        };
        let asked = |number: usize| group.parts.get(number).map(|part| &self.requests[*part]);
        let mut parts: Vec<Part<'_>> = Vec::with_capacity(numbers.len());
        parts.extend(
            numbers
                .iter()
                .filter_map(|number| self.part(group, *number)),
        );
        let owns = |part: usize, slot: Slot| {
            let asked = numbers.get(part).and_then(|number| asked(*number));
            asked.is_some_and(|asked| {
                self.snapshot.shard_of(asked.shape.slot) == self.snapshot.shard_of(slot)
            })
        };
        merge::merge(rule, &parts, group.total, &owns, reply);
        match outcome_of(reply) {
            Outcome::Ok if numbers.len() < group.parts.len() => Outcome::Partial,
            outcome => outcome,
        }
    }
}

pub(super) fn keyless(slot: Slot) -> NewPart<'static> {
    NewPart {
        slot,
        key: KeyHash::ALL,
        keyed: false,
        placed: &[],
    }
}

pub(super) fn outcome_of(reply: &[u8]) -> Outcome {
    if reply.starts_with(b"-UNCERTAIN") {
        Outcome::Uncertain
    } else if reply.starts_with(b"-PARTIAL") {
        Outcome::Partial
    } else if reply.starts_with(b"-CLUSTERDOWN") {
        Outcome::Unavailable
    } else if reply.starts_with(b"-") {
        Outcome::NodeError
    } else {
        Outcome::Ok
    }
}

/// One key of a command that is split.
pub(super) struct Placed {
    slot: Slot,
    key: KeyHash,
    /// Among the keys.
    pub(super) position: u32,
    /// Among the arguments.
    pub(super) index: u32,
}

/// The keys of `args` by slot, those of one slot in their order.
pub(super) fn keys_by_slot(args: Args<'_>, keys: &KeyList) -> Vec<Placed> {
    let mut placed: Vec<Placed> = Vec::with_capacity(keys.as_slice().len());
    placed.extend((0..).zip(keys.as_slice()).filter_map(|(position, index)| {
        let (slot, key) = place(args.get(*index as usize)?);
        Some(Placed {
            slot,
            key,
            position,
            index: *index,
        })
    }));
    placed.sort_unstable_by_key(|key| (key.slot, key.position));
    placed
}

/// One part for the keys of each slot, or for each key, in the order of their first keys [P5].
pub(super) fn parts_of(placed: &[Placed], by_slot: bool) -> Vec<NewPart<'_>> {
    let mut parts = Vec::with_capacity(placed.len());
    let chunks = placed.chunk_by(|a, b| by_slot && a.slot == b.slot);
    parts.extend(chunks.filter_map(|chunk| {
        let (first, others) = chunk.split_first()?;
        Some(NewPart {
            slot: first.slot,
            key: others
                .iter()
                .fold(first.key, |keys, other| keys.with(other.key)),
            keyed: true,
            placed: chunk,
        })
    }));
    parts.sort_unstable_by_key(|part| part.placed.first().map(|key| key.position));
    parts
}

/// The command `spec` with these keys of all `keys` only, what belongs to each, and what belongs to all: the arguments before the first
/// key and behind the last one.
fn write_request(spec: &Spec, args: Args<'_>, keys: &KeyList, chunk: &[Placed], out: &mut Vec<u8>) {
    let step = usize::from(spec.key_step);
    let (first, behind) = match keys.as_slice() {
        [first, .., last] => (*first as usize, *last as usize + step),
        _ => (1, args.len()),
    };
    write::array(
        out,
        first + chunk.len() * step + args.len().saturating_sub(behind),
    );
    write::bulk(out, args.name());
    let mut put = |indexes: Range<usize>| {
        for index in indexes {
            write::bulk(out, args.get(index).unwrap_or_default());
        }
    };
    put(1..first);
    for key in chunk {
        put(key.index as usize..key.index as usize + step);
    }
    put(behind..args.len());
}

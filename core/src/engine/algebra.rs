//! Set algebra with keys in several slots, if the listener has it: parts as those of MGET, and how much of them is held.

use super::group::{Assembly, Group, NewPart, keys_by_slot, outcome_of, parts_of};
use super::request::Launch;
use super::{Engine, GroupKey, SessionKey};
use crate::command::{KeyList, Spec, id};
use crate::merge::Part;
use crate::merge::algebra::{Algebra, DoubleFormat, is_algebra, memory_of};
use crate::metrics::Outcome;
use crate::resp::{Args, write};
use crate::router::Reject;

/// Stands for the reply of a part that is not kept.
const DROPPED: &[u8] = b"-ERR proxy: dropped\r\n";

/// A command on its way, and how much memory the replies of its parts take.
#[derive(Debug)]
pub(super) struct Held {
    algebra: Algebra,
    bytes: usize,
}

impl Engine {
    /// Whether a command whose keys are in several slots is made of parts though it is not split.
    pub(super) fn reads_across_slots(&self, session: SessionKey, spec: &Spec) -> bool {
        let listener = self.sessions[session.index()].env.listener();
        listener.cross_slot_reads && is_algebra(spec)
    }

    /// One part for each slot, or for each key.
    pub(super) fn read_across_slots(
        &mut self,
        session: SessionKey,
        spec: &'static Spec,
        args: Args<'_>,
        keys: &KeyList,
    ) {
        let count = keys.as_slice().len();
        if count > self.limits.split_max_keys {
            return self.reject(session, spec, Reject::TooManyKeys, args);
        }
        let last = keys.as_slice().last().map_or(0, |last| *last as usize);
        let words: Vec<&[u8]> = args.iter().skip(last + 1).collect();
        let Some(algebra) = Algebra::new(spec, count, &words) else {
            return self.reject(session, spec, Reject::CrossSlot, args);
        };
        self.metrics.split += 1;
        let parent = self.queue_parent(session, spec, Launch::Direct);
        let placed = keys_by_slot(args, keys);
        let parts = parts_of(&placed, algebra.is_by_slot());
        let mut raw = Vec::with_capacity(parts.len());
        raw.extend(parts.iter().map(|part| {
            let position = part.placed.first().map_or(0, |key| key.position as usize);
            let keys = part.placed.iter();
            let keys: Vec<&[u8]> = keys
                .filter_map(|key| args.get(key.index as usize))
                .collect();
            let mut raw = Vec::new();
            algebra.write_part(position, &keys, &mut raw);
            (position, raw)
        }));
        let write = |part: &NewPart<'_>, out: &mut Vec<u8>| {
            let position = part.placed.first().map_or(0, |key| key.position as usize);
            let own = raw.binary_search_by_key(&position, |(position, _)| *position);
            if let Some((_, own)) = own.ok().and_then(|own| raw.get(own)) {
                out.extend_from_slice(own);
            }
        };
        let assembly = Assembly::Algebra(Box::new(Held { algebra, bytes: 0 }));
        let group = self.make_group(parent, parts, &write, count, assembly);
        if spec.id == id::PFCOUNT {
            self.ask_for_strings(group);
        }
        self.start_parts(session, group);
    }

    /// PFCOUNT may write the count it has found, its parts do not.
    fn ask_for_strings(&mut self, group: GroupKey) {
        for part in self.groups[group.index()].parts.clone() {
            self.requests[part].shape.spec = id::GET.spec();
        }
    }

    /// The reply of a part as it is kept: as long as those of one command are within their bound.
    pub(super) fn hold_part_of_algebra<'a>(
        &mut self,
        group: GroupKey,
        reply: &'a [u8],
    ) -> &'a [u8] {
        let group = &mut self.groups[group.index()];
        let Assembly::Algebra(held) = &mut group.assembly else {
            return reply;
        };
        let limit = self.limits.cross_slot_bytes;
        let was_within = held.bytes <= limit;
        held.bytes = held.bytes.saturating_add(memory_of(reply));
        if held.bytes <= limit {
            return reply;
        }
        if was_within {
            for other in group.parts.clone() {
                if self.requests[other].is_done() {
                    self.requests[other].reply = DROPPED.to_vec();
                    self.recount_reply(other, DROPPED.len());
                }
            }
        }
        DROPPED
    }

    /// Merges the parts into `reply`; the outcome of the whole.
    pub(super) fn merge_algebra(&self, held: &Held, group: &Group, reply: &mut Vec<u8>) -> Outcome {
        let limit = self.limits.cross_slot_bytes;
        if held.bytes > limit {
            let text = format!(
                "ERR proxy: the sets in several slots take more than the {limit} bytes of limits.cross_slot_bytes: \
                 raise it, ask for fewer or smaller sets, or keep them in one slot with a hash tag"
            );
            write::error(reply, text.as_bytes());
            return Outcome::NodeError;
        }
        let parent = &self.requests[group.parent];
        let version = parent.session.and_then(|session| {
            let upstream = self.sessions[session.index()].env.upstream();
            upstream.redis_version
        });
        let format = DoubleFormat::of_version(version.as_deref());
        let mut parts: Vec<Part<'_>> = Vec::with_capacity(group.parts.len());
        parts.extend((0..group.parts.len()).filter_map(|number| self.part(group, number)));
        held.algebra
            .merge(&parts, format, parent.shape.protocol, reply);
        outcome_of(reply)
    }
}

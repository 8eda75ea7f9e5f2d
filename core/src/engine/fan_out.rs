//! Commands that concern every primary: who is asked, and what is answered when some cannot be [Q1]-[Q7] [Q12] [T12].

use std::time::Duration;

use super::group::{Assembly, Group, NewPart, keyless};
use super::park::NO_MASTER;
use super::request::Launch;
use super::{Engine, RequestKey};
use crate::command::id;
use crate::local::write_not_yet;
use crate::merge::Rule;
use crate::metrics::Outcome;
use crate::resp::write;
use crate::slot::Slot;
use crate::topology::{Hint, RefreshReason};

/// How long a command waits to know the whole of a failover, and how long between looks.
const FAILOVER_PATIENCE: Duration = Duration::from_secs(1);
const FAILOVER_PAUSE: Duration = Duration::from_millis(20);

/// Digits of a node id that tell the nodes of a cluster apart.
const SHORT_ID: usize = 8;

impl Engine {
    /// Whether `parent` has to wait: of a failover only some slots are known, so the old primary would be asked besides the new one,
    /// which counts keys twice, and deletes or loads twice what is there once.
    pub(super) fn waits_for_failover(&mut self, parent: RequestKey, raw: Option<&[u8]>) -> bool {
        let request = &self.requests[parent];
        let waits = !self.snapshot.promotions.is_empty()
            && request.shape.launch == Launch::FanOut
            && self.now.since(request.arrival) < FAILOVER_PATIENCE;
        if waits {
            self.hint(Hint::Refresh {
                reason: RefreshReason::Moved,
                node: None,
            });
            self.requests[parent].blocked_by = None;
            self.park(parent, raw, self.now.after(FAILOVER_PAUSE));
        }
        waits
    }

    /// The command unchanged to every primary that owns a slot, ascending by its lowest slot [Q1] [Q12].
    pub(super) fn fan_out(&mut self, parent: RequestKey, raw: &[u8]) {
        let spec = self.requests[parent].shape.spec;
        let Some(rule) = Rule::for_spec(spec) else {
            return self.fail_parent(parent, |out| write_not_yet(spec, out));
        };
        let mut slots: Vec<Slot> = self
            .snapshot
            .shards()
            .iter()
            .map(|shard| shard.lowest_slot)
            .collect();
        let uncovered = self.snapshot.uncovered_slots();
        if uncovered > 0 && (slots.is_empty() || self.requires_full_coverage(parent)) {
            // A count or a flush of a part would pass for one of the whole [T12].
            let text = format!("CLUSTERDOWN proxy: {uncovered} slots not covered");
            return self.fail_parent(parent, |out| write::error(out, text.as_bytes()));
        }
        self.note_script_command(spec, raw);
        if spec.id == id::RANDOMKEY {
            let first = self.rng.usize(..slots.len());
            slots.rotate_left(first);
        }
        let parts = slots.into_iter().map(keyless).collect();
        let write = |_: &NewPart<'_>, out: &mut Vec<u8>| out.extend_from_slice(raw);
        let group = self.make_group(parent, parts, &write, 0, Assembly::Merge(rule));
        self.dispatch_parts(group);
    }

    /// The numbers of the parts that make the whole: all of them; of a reading of every shard those that were answered, if the
    /// client is content with that, else an error that names the first shard that is missing [Q2].
    pub(super) fn parts_to_merge(&self, rule: Rule, group: &Group) -> Result<Vec<usize>, String> {
        let all = 0..group.parts.len();
        let whole = &self.requests[group.parent];
        if whole.shape.launch != Launch::FanOut || !rule.reads_every_part() {
            return Ok(all.collect());
        }
        let is_missing = |part: &RequestKey| {
            matches!(
                self.requests[*part].outcome,
                Outcome::Unavailable | Outcome::Uncertain
            )
        };
        let Some(missing) = group.parts.iter().find(|part| is_missing(part)) else {
            return Ok(all.collect());
        };
        let answered: Vec<usize> = all
            .clone()
            .zip(&group.parts)
            .filter(|(_, part)| !is_missing(part))
            .map(|(number, _)| number)
            .collect();
        if !answered.is_empty() && self.is_content_with_part(group.parent) {
            return Ok(answered);
        }
        let missing = &self.requests[*missing];
        let waited = self.now.since(missing.arrival) >= self.limits.park_timeout;
        let lost = missing.outcome == Outcome::Uncertain && waited;
        if !lost && !missing.reply.starts_with(NO_MASTER.as_bytes()) {
            // It was reached: what it said says more.
            return Ok(all.collect());
        }
        let shard = self
            .snapshot
            .primary_of(missing.shape.slot)
            .map_or("", |primary| primary.id.as_str());
        let shard = shard.get(..SHORT_ID).unwrap_or(shard);
        Err(format!(
            "CLUSTERDOWN proxy: shard {shard} unreachable, reply incomplete"
        ))
    }

    fn requires_full_coverage(&self, request: RequestKey) -> bool {
        let session = self.requests[request].session;
        session.is_none_or(|session| {
            self.sessions[session.index()]
                .env
                .listener()
                .fanout_requires_full_coverage
        })
    }

    fn is_content_with_part(&self, request: RequestKey) -> bool {
        let session = self.requests[request].session;
        session.is_some_and(|session| self.sessions[session.index()].env.listener().fanout_partial)
    }
}

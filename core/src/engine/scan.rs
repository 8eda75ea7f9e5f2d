//! SCAN: one step at one node at a time [S3] [S5]. What it asks and what follows from the reply is [`crate::merge::scan`]'s business.

use super::group::{Assembly, NewPart, keyless, outcome_of};
use super::request::{Launch, State};
use super::{Engine, RequestKey};
use crate::merge::scan::{self, Finish, Step};
use crate::resp::{Args, DecodeStep, RequestDecoder, RequestLimits, write};
use crate::topology::{Hint, RefreshReason};

impl Engine {
    /// The step that the cursor names.
    pub(super) fn scan(&mut self, parent: RequestKey, raw: &[u8]) {
        let mut decoder = RequestDecoder::default();
        if !matches!(
            decoder.decode(raw, &RequestLimits::DEFAULT),
            Ok(DecodeStep::Command { .. })
        ) {
            return self.fail_parent(parent, |out| {
                write::error(out, b"ERR proxy: unreadable request");
            });
        }
        let args = Args::new(raw, decoder.ranges());
        match scan::plan(args, &self.snapshot) {
            Ok(step) => self.take_step(parent, step),
            Err(error) => self.fail_parent(parent, |out| error.write_reply(out)),
        }
    }

    fn take_step(&mut self, parent: RequestKey, step: Step) {
        let detour = match step.node().map(|id| self.snapshot.node_by_id(id)) {
            Some(Some(node)) => Some((self.nodes.at(&node.address), false)),
            Some(None) => {
                // A node that is new: the client asks again, and it is known by then.
                self.hint_not_owner();
                return self.fail_parent(parent, |out| step.postpone(out));
            }
            None => None,
        };
        let request = step.request().to_vec();
        let write = |_: &NewPart<'_>, out: &mut Vec<u8>| out.extend_from_slice(&request);
        let parts = vec![keyless(step.slot())];
        let is_unit = step.is_unit();
        let group = self.make_group(parent, parts, &write, 0, Assembly::Scan(step));
        for part in self.groups[group.index()].parts.clone() {
            let part = &mut self.requests[part];
            part.detour = detour;
            if is_unit {
                part.shape.launch = Launch::Unit;
            }
        }
        self.dispatch_parts(group);
    }

    /// The node has replied.
    pub(super) fn finish_step(&mut self, parent: RequestKey, part: RequestKey, step: &Step) {
        let reply = std::mem::take(&mut self.requests[part].reply);
        let executed = matches!(self.requests[part].state, State::Done { executed: true });
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let finish = step.finish(&reply, &self.snapshot, &mut out);
        self.requests.keep_spare_reply(reply);
        self.note_overtaken(parent, &[part]);
        self.recount_reply(part, 0);
        self.requests.remove(part);
        match finish {
            Finish::Then(step) => self.take_step(parent, step),
            Finish::NotOwner => {
                self.hint_not_owner();
                self.complete(parent, &out, outcome_of(&out), executed);
            }
            Finish::Replied => self.complete(parent, &out, outcome_of(&out), executed),
        }
        self.keep_scratch(out);
    }

    fn hint_not_owner(&mut self) {
        self.hint(Hint::Refresh {
            reason: RefreshReason::Moved,
            node: None,
        });
    }
}

//! What is sent again although a node may have executed it: its connection was lost after it was written [D3] [D5].
//!
//! Reads, and on request writes that are the same run twice as run once. Such a write is in doubt from then on: an answer of the
//! proxy or an error of a node says what became of the second time, not of the first.

use super::request::Request;
use super::{Engine, RequestKey};
use crate::command::is_idempotent;
use crate::metrics::{Outcome, RetryReason};
use crate::resp::{Args, DecodeStep, RequestDecoder, RequestLimits};

/// The fate of the request is unknown [D4].
pub(super) const UNCERTAIN: &[u8] =
    b"-UNCERTAIN proxy: backend connection lost after the command was sent, it may or may not have been executed\r\n";

impl Engine {
    /// Why the request, which has its own copy of its bytes, may be sent once more; `None` if it may not.
    pub(super) fn may_run_twice(&self, key: RequestKey) -> Option<RetryReason> {
        let request = &self.requests[key];
        if request.resends >= self.limits.max_resends {
            None
        } else if !request.is_write() {
            Some(RetryReason::Read)
        } else if self.limits.resend_idempotent_writes && is_repeatable(request) {
            Some(RetryReason::Idempotent)
        } else {
            None
        }
    }

    pub(super) fn send_again(&mut self, key: RequestKey, reason: RetryReason) {
        let request = &mut self.requests[key];
        request.resends += 1;
        // Shown if a later write of the session may have overtaken this request, so that it must not be sent again [O4].
        request.reply.clear();
        request.reply.extend_from_slice(UNCERTAIN);
        request.outcome = Outcome::Uncertain;
        self.metrics.retries[reason.index()] += 1;
        self.reroute(key);
    }
}

/// The same run twice as run once, as far as the one who sent it can see.
fn is_repeatable(request: &Request) -> bool {
    let mut decoder = RequestDecoder::default();
    let step = decoder.decode(&request.body, &RequestLimits::DEFAULT);
    matches!(step, Ok(DecodeStep::Command { .. }))
        && is_idempotent(
            request.shape.spec,
            Args::new(&request.body, decoder.ranges()),
        )
}

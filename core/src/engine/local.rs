//! Commands the proxy answers itself, at their turn in the session.

use super::{Engine, SessionKey};
use crate::command::Spec;
use crate::local::{self, LocalOutcome};
use crate::metrics::{CloseReason, Outcome};
use crate::resp::Args;
use crate::session::Session;

impl Engine {
    /// Answers `spec` here. State of the session changes now: what is outstanding was sent under the old state, and its replies
    /// come first.
    pub(super) fn local(&mut self, session: SessionKey, spec: &'static Spec, args: Args<'_>) {
        let mut reply = std::mem::take(&mut self.scratch);
        reply.clear();
        let state = &mut self.sessions[session.index()];
        let protocol = state.client.protocol;
        let env = std::rc::Rc::clone(&state.env);
        let outcome = local::answer(spec, args, &mut state.client, &*env, &mut reply);
        if state.client.protocol != protocol {
            // From here on other links are used: the order of outstanding requests needs a look [O1].
            state.sent_generation = Session::MIXED;
        }
        let counted = if reply.first() == Some(&b'-') {
            Outcome::Refused
        } else {
            Outcome::Ok
        };
        self.count_immediate(spec, counted);
        self.answer_at_turn(session, &reply);
        self.keep_scratch(reply);
        if matches!(outcome, LocalOutcome::ResetSession) {
            self.drop_transaction(session);
        }
        if matches!(outcome, LocalOutcome::ReplyThenClose) {
            self.end_session(session, CloseReason::Quit);
        }
    }
}

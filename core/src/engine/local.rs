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
        let before = (state.client.protocol, state.client.database);
        let readonly = state.client.readonly;
        let env = std::rc::Rc::clone(&state.env);
        let outcome = local::answer(spec, args, &mut state.client, &*env, &mut reply);
        let is_tracking = state.client.tracking.is_some();
        if (state.client.protocol, state.client.database) != before {
            // From here on other links are used: the order of outstanding requests needs a look [O1].
            state.sent_generation = Session::MIXED;
            if is_tracking {
                self.change_links(session);
            }
        }
        if is_tracking {
            self.end_caching(session, spec);
        }
        if self.sessions[session.index()].client.readonly != readonly {
            self.adopt_read_policy(session);
        }
        if matches!(outcome, LocalOutcome::Monitor) {
            self.ask_for_monitoring(session, spec);
        } else if matches!(outcome, LocalOutcome::ResetSession) {
            self.end_monitoring(session);
            self.drop_transaction(session);
            self.drop_subscriptions(session);
            self.end_tracking(session);
            self.discard(session, spec, &reply);
        } else {
            let counted = if reply.first() == Some(&b'-') {
                Outcome::Refused
            } else {
                Outcome::Ok
            };
            self.count_immediate(spec, counted);
            self.answer_at_turn(session, &reply);
        }
        self.keep_scratch(reply);
        if matches!(outcome, LocalOutcome::PauseChanged) {
            self.adopt_pause(&*env);
        }
        if matches!(outcome, LocalOutcome::ReplyThenClose) {
            self.end_session(session, CloseReason::Quit);
        }
    }
}

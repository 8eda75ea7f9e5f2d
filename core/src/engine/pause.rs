//! CLIENT PAUSE: no session of this worker takes commands, or none takes one that writes, until a time or CLIENT UNPAUSE [U15]. Writes wait
//! in the same way while another server is made the primary: nobody sees an error, and nothing is kept that is not in the session anyway.
//!
//! What was taken before goes on, and clients that wait at nodes wait no longer than they said. A session that has met a command that
//! waits takes nothing behind it, and is read no further.

use super::input::HandOver;
use super::{Engine, SessionKey};
use crate::command::{Spec, id};
use crate::local::{Environment, Pause};
use crate::time::Timestamp;

impl Engine {
    /// Adopts the pause of clients in force, or its end. A worker that is to stop knows none.
    pub fn set_pause(&mut self, pause: Option<Pause>) {
        self.client_pause = pause;
        self.adopt_pauses();
    }

    /// Has what writes wait until then, or not any more, whatever clients have asked for: another server is made the primary. A worker
    /// that is to stop waits for that, too: the former primary would acknowledge what it is about to lose.
    pub fn hold_writes(&mut self, until: Option<Timestamp>) {
        self.writes_held = until;
        self.adopt_pauses();
        self.run_pending();
    }

    /// Has sessions wait for what is in force now, until the first of it ends.
    fn adopt_pauses(&mut self) {
        let now = self.now;
        let wanted = self.client_pause.filter(|_| !self.draining);
        let held = self.writes_held.map(|until| Pause {
            until,
            writes_only: true,
        });
        let pauses = [wanted, held].map(|pause| pause.filter(|pause| pause.until > now));
        let pause = match pauses {
            [Some(one), Some(other)] => Some(Pause {
                until: one.until.min(other.until),
                writes_only: one.writes_only && other.writes_only,
            }),
            [one, other] => one.or(other),
        };
        if self.paused == pause {
            return;
        }
        self.paused = pause;
        let holds_all = pause.is_some_and(|pause| !pause.writes_only);
        self.in_flight_cap = match holds_all {
            true => 0,
            false => self.limits.session_in_flight,
        };
        self.note_inspection();
        // Each that must wait still finds that out by itself.
        self.postponed.clear();
        let sessions = self.sessions.iter();
        let keys: Vec<SessionKey> = sessions
            .map(|(index, _)| SessionKey::from_index(index))
            .collect();
        for key in keys {
            if self.sessions[key.index()].input.is_some() {
                self.mark_unsettled(key);
            }
            self.mark_session_dirty(key);
        }
    }

    /// A client of this worker has changed the pause. What it has sent behind that is looked at from there on.
    pub(super) fn adopt_pause(&mut self, env: &dyn Environment) {
        let was_inspected = self.inspects;
        self.set_pause(env.pause());
        if self.inspects && !was_inspected && self.hand_over == HandOver::None {
            self.hand_over = HandOver::Interrupted;
        }
    }

    /// As [`Self::set_pause`], and has go on who may.
    pub fn change_pause(&mut self, pause: Option<Pause>) {
        self.set_pause(pause);
        self.run_pending();
    }

    /// When the pause in force ends by itself, or becomes another one.
    #[must_use]
    pub fn paused_until(&self) -> Option<Timestamp> {
        self.paused.map(|pause| pause.until)
    }

    /// Ends a pause the time of which is over.
    pub(super) fn end_due_pause(&mut self) {
        if self.paused_until().is_some_and(|until| until <= self.now) {
            self.adopt_pauses();
        }
    }

    /// Whether the command, which is not looked at unless what writes waits, waits. What is queued for a transaction waits as well, and
    /// so does EXEC of one that writes.
    pub(super) fn is_held(&self, key: SessionKey, spec: &Spec) -> bool {
        let writes =
            spec.is_held_by_write_pause() || spec.id == id::EXEC && self.has_queued_write(key);
        writes && self.paused.is_some_and(|pause| pause.writes_only)
    }

    fn has_queued_write(&self, key: SessionKey) -> bool {
        let mut writes = false;
        self.for_each_queued(key, |spec, _| writes |= spec.is_held_by_write_pause());
        writes
    }

    /// Whether the session has met a command that waits.
    pub(super) fn is_postponed(&self, key: SessionKey) -> bool {
        !self.postponed.is_empty() && self.postponed.contains(&key)
    }
}

//! A look at every command before it is taken: while somebody monitors, and while what writes waits. At other times
//! [`Engine::take`] goes the shorter way, which it decides once for all that was read.

use super::input::HandOver;
use super::{Engine, SessionKey};
use crate::command::{Lookup, Spec, lookup};
use crate::local::allowed_unauthenticated;
use crate::resp::{Args, RequestDecoder};

/// What becomes of a command that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inspected {
    /// It is taken.
    Taken,
    /// It is taken, and was answered.
    Refused,
    /// It waits, and with it all behind it.
    Held,
}

impl Engine {
    /// Takes whole requests off the front of `bytes`, see [`Self::take_commands`].
    #[inline]
    pub(super) fn take(
        &mut self,
        key: SessionKey,
        bytes: &[u8],
        decoder: &mut RequestDecoder,
        owned: bool,
    ) -> usize {
        // Said by a command that was carried out between two reads: nothing is interrupted by it now.
        if self.hand_over == HandOver::Interrupted {
            self.hand_over = HandOver::None;
        }
        if self.inspects {
            return self.take_inspected(key, bytes, decoder, owned);
        }
        let used = self.take_commands::<false>(key, bytes, decoder, owned);
        if self.hand_over == HandOver::Interrupted {
            self.hand_over = HandOver::None;
            let rest = bytes.get(used..).unwrap_or_default();
            return used + self.take_inspected(key, rest, decoder, owned);
        }
        used
    }

    #[cold]
    fn take_inspected(
        &mut self,
        key: SessionKey,
        bytes: &[u8],
        decoder: &mut RequestDecoder,
        owned: bool,
    ) -> usize {
        let used = self.take_commands::<true>(key, bytes, decoder, owned);
        self.spread_monitor_lines(key);
        used
    }

    /// Says whether commands are to be looked at from now on.
    pub(super) fn note_inspection(&mut self) {
        let holds_writes = self.paused.is_some_and(|pause| pause.writes_only);
        self.inspects = holds_writes || self.monitor.on;
    }

    /// Looks at a command that is to be taken next.
    #[cold]
    pub(super) fn inspect(&mut self, key: SessionKey, args: Args<'_>) -> Inspected {
        let Some(spec) = self.inspected_spec(key, args) else {
            return Inspected::Taken;
        };
        if self.is_held(key, spec) {
            self.postponed.insert(key);
            return Inspected::Held;
        }
        if !self.monitor.on {
            return Inspected::Taken;
        }
        if self.refuses_monitor(key, spec) {
            return Inspected::Refused;
        }
        self.note_monitor_lines(key, spec, args);
        Inspected::Taken
    }

    /// Which command it is, if it is one that is not refused at once.
    fn inspected_spec(&self, key: SessionKey, args: Args<'_>) -> Option<&'static Spec> {
        let session = &self.sessions[key.index()];
        let spec = match lookup(args) {
            Lookup::Known(spec) => spec,
            Lookup::UnknownCommand => match session.env.learned().lookup(args) {
                Lookup::Known(spec) => spec,
                _ => return None,
            },
            _ => return None,
        };
        let is_let_in = session.client.authenticated || allowed_unauthenticated(spec);
        (is_let_in && spec.arity_ok(args.len())).then_some(spec)
    }
}

//! CLIENT PAUSE of an upstream: what all its workers are to do.
#![expect(
    clippy::disallowed_types,
    reason = "read when somebody changes it and for INFO, never for a request"
)]

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use slotway_core::local::Pause;
use slotway_core::time::Timestamp;

/// The pause of clients. Workers load it when they are told that it has changed, so all end with the same.
#[derive(Debug, Default)]
pub struct SharedPause(Mutex<Option<Pause>>);

impl SharedPause {
    /// Clients wait for so long from `now`. As on the servers a pause in force becomes no shorter, and none of all clients one of some.
    pub fn extend(&self, now: Timestamp, time: Duration, writes_only: bool) {
        let mut pause = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = now.after(time);
        let in_force = pause.filter(|pause| pause.until > now);
        *pause = Some(match in_force {
            Some(old) => Pause {
                until: old.until.max(until),
                writes_only: old.writes_only && writes_only,
            },
            None => Pause { until, writes_only },
        });
    }

    /// No client waits any more.
    pub fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The pause in force.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Option<Pause> {
        let pause = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pause.filter(|pause| pause.until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u15_a_pause_becomes_no_shorter_and_no_weaker() {
        let pause = SharedPause::default();
        let at = |millis| Timestamp::ZERO.after(Duration::from_millis(millis));
        let until = |millis, writes_only| {
            let until = at(millis);
            Some(Pause { until, writes_only })
        };
        pause.extend(at(0), Duration::from_millis(100), true);
        assert_eq!(pause.at(at(0)), until(100, true));
        pause.extend(at(10), Duration::from_millis(20), false);
        assert_eq!(pause.at(at(10)), until(100, false));
        pause.extend(at(10), Duration::from_millis(200), true);
        assert_eq!(pause.at(at(10)), until(210, false));
        assert_eq!(pause.at(at(210)), None);
        pause.extend(at(300), Duration::from_millis(50), true);
        assert_eq!(pause.at(at(300)), until(350, true));
        pause.end();
        assert_eq!(pause.at(at(300)), None);
    }
}

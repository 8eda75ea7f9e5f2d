//! Keeps repeated log lines apart: an outage is worth a line when it begins and one now and then, not one per attempt.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Time between two lines of the same kind.
const QUIET_FOR: Duration = Duration::from_secs(10);

/// When each kind of line was last written, and how many were held back since.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    lines: HashMap<&'static str, (Instant, u64)>,
}

impl Throttle {
    /// Whether a line of this kind may be written now; then, how many were held back since the last one.
    pub(super) fn pass(&mut self, kind: &'static str, now: Instant) -> Option<u64> {
        let Some((last, held_back)) = self.lines.get_mut(kind) else {
            self.lines.insert(kind, (now, 0));
            return Some(0);
        };
        if now.saturating_duration_since(*last) < QUIET_FOR {
            *held_back += 1;
            return None;
        }
        *last = now;
        Some(std::mem::take(held_back))
    }

    /// The next line of this kind passes: the trouble it told of is over.
    pub(super) fn reset(&mut self, kind: &'static str) {
        self.lines.remove(kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_passes_then_one_per_period_with_the_number_held_back() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.pass("a", now), Some(0));
        assert_eq!(throttle.pass("a", now), None);
        assert_eq!(throttle.pass("b", now), Some(0));
        assert_eq!(throttle.pass("a", now + QUIET_FOR), Some(1));
        assert_eq!(throttle.pass("a", now + QUIET_FOR), None);
        throttle.reset("a");
        assert_eq!(throttle.pass("a", now + QUIET_FOR), Some(0));
    }
}

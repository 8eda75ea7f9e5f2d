//! Moments by which all that had been answered was over, so that it can be said what a replica has that was seen to have everything up to
//! some time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Timestamp;

/// So far apart are the latest moments, and so many: more time than a replica that is read from is behind as a rule.
const APART: Duration = Duration::from_millis(50);
const LATEST: usize = 256;

/// The same of earlier ones: `upstream.replica_max_lag` is an hour at most.
const FAR_APART: Duration = Duration::from_secs(5);
const EARLIER: usize = 720;

/// The moments that one worker remembers, in order.
#[derive(Debug, Default)]
pub(super) struct Moments {
    earlier: VecDeque<Timestamp>,
    latest: VecDeque<Timestamp>,
}

impl Moments {
    /// Everything up to `now` is over.
    pub(super) fn note(&mut self, now: Timestamp) {
        let last = self.latest.back().copied().unwrap_or_default();
        if now.since(last) < APART {
            return;
        }
        if self.latest.len() == LATEST
            && let Some(moment) = self.latest.pop_front()
        {
            self.keep(moment);
        }
        self.latest.push_back(now);
    }

    fn keep(&mut self, moment: Timestamp) {
        let last = self.earlier.back().copied().unwrap_or_default();
        if moment.since(last) < FAR_APART {
            return;
        }
        if self.earlier.len() == EARLIER {
            self.earlier.pop_front();
        }
        self.earlier.push_back(moment);
    }

    /// A moment by which the turn that began then was over; [`Timestamp::NEVER`] if none is known. What was answered in it may have been
    /// executed after it began. Nothing was answered at [`Timestamp::ZERO`].
    pub(super) fn after(&self, turn: Timestamp) -> Timestamp {
        if turn == Timestamp::ZERO {
            return turn;
        }
        let first = |moments: &VecDeque<Timestamp>| {
            let later = moments.partition_point(|moment| *moment <= turn);
            moments.get(later).copied()
        };
        let earlier = first(&self.earlier);
        earlier
            .or_else(|| first(&self.latest))
            .unwrap_or(Timestamp::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn what_was_answered_was_over_soon_after_or_later_if_it_is_long_ago() {
        let mut moments = Moments::default();
        let at = |millis: u64| Timestamp::from_micros(millis * 1_000);
        assert_eq!(moments.after(at(0)), Timestamp::ZERO, "nothing was");
        assert_eq!(moments.after(at(5)), Timestamp::NEVER);
        let mut now = at(0);
        for _ in 0..3_600_000 / 10 * 2 {
            now = now.after(10 * MILLISECOND);
            moments.note(now);
        }
        let wait = |ago: u64| {
            let then = Timestamp::from_micros(now.as_micros() - ago * 1_000);
            assert!(moments.after(then) > then);
            moments.after(then).since(then)
        };
        for (ago, longest) in [(60, 60), (12_000, 60), (13_000, 6_000), (3_500_000, 6_000)] {
            assert!(wait(ago) <= longest * MILLISECOND, "{ago} ms ago");
        }
        assert_eq!(moments.after(now), Timestamp::NEVER, "it goes on");
        let long = moments.after(at(5));
        assert!(long < now && long > at(5), "the first that is remembered");
        assert_eq!(
            moments.latest.len() + moments.earlier.len(),
            LATEST + EARLIER
        );
    }
}

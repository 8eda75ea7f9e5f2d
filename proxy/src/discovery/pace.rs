//! When the next round of questions is due: pure scheduling, no timers of its own [T7] [T8].

use std::time::Duration;

use slotway_core::topology::{CONFIRM_AFTER, RefreshReason};
use tokio::time::Instant;

use super::settings::{
    NODE_SPACING, POLL_INTERVAL, POLL_INTERVAL_SLOW, POLL_SLOW_AFTER, REFRESH_MIN,
    REFRESH_MIN_SLOW, UNSETTLED_INTERVAL,
};
use super::status::RefreshResult;

/// Why a round is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// An event asked for it; the first of them since the last such round.
    Requested(RefreshReason),
    /// A shard has no usable primary, or the last round has to be repeated.
    Poll,
    /// Nothing happened for a while.
    Timer,
}

/// What a finished round found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Findings {
    pub(super) result: RefreshResult,
    /// Some shard has no usable primary.
    pub(super) trouble: bool,
    /// Slots are uncovered, or the views differ: the cluster is being put together, or is agreeing on something.
    pub(super) forming: bool,
    /// Anything of that, or slots are open.
    pub(super) unsettled: bool,
}

/// The three clocks: events, trouble, routine.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// Time between the last round and one that events ask for; grows while rounds change nothing.
    spacing: Duration,
    last_end: Option<Instant>,
    requested: Option<RefreshReason>,
    poll_at: Option<Instant>,
    trouble_since: Option<Instant>,
    timer_at: Instant,
}

impl Pace {
    /// A first round is due at once.
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            spacing: REFRESH_MIN,
            last_end: None,
            requested: Some(RefreshReason::Start),
            poll_at: None,
            trouble_since: None,
            timer_at: now + interval,
        }
    }

    /// An event asks for a round. Many of them, also while a round runs, make one.
    pub(super) fn request(&mut self, reason: RefreshReason) {
        self.requested.get_or_insert(reason);
    }

    /// When the next round is due.
    pub(super) fn next(&self) -> Instant {
        let requested = self.requested.map(|_| {
            self.last_end
                .map_or(self.timer_at - self.interval, |end| end + self.spacing)
        });
        [requested, self.poll_at]
            .into_iter()
            .flatten()
            .fold(self.timer_at, Instant::min)
    }

    /// Why a round is due at `now`, if one is.
    pub(super) fn due(&self, now: Instant) -> Option<Due> {
        let spaced = self.last_end.is_none_or(|end| now >= end + self.spacing);
        match self.requested {
            Some(reason) if spaced => Some(Due::Requested(reason)),
            _ if self.poll_at.is_some_and(|at| now >= at) => Some(Due::Poll),
            _ if now >= self.timer_at => Some(Due::Timer),
            _ => None,
        }
    }

    /// A round was started for `due`; only a full round serves the events.
    pub(super) fn started(&mut self, due: Due) {
        self.poll_at = None;
        if due != Due::Poll {
            self.requested = None;
        }
    }

    /// A round ended; `jitter` in 0..1 varies the routine interval by a fifth either way, so that many proxies spread out.
    pub(super) fn finished(&mut self, now: Instant, findings: Findings, jitter: f64) {
        self.last_end = Some(now);
        let changed = findings.result == RefreshResult::Changed;
        self.spacing = if changed {
            REFRESH_MIN
        } else {
            (self.spacing * 2).min(REFRESH_MIN_SLOW)
        };
        let interval = if findings.unsettled {
            self.interval.min(UNSETTLED_INTERVAL)
        } else {
            self.interval
        };
        self.timer_at = now + interval.mul_f64(0.8 + 0.4 * jitter);
        let no_answer = matches!(
            findings.result,
            RefreshResult::Failed | RefreshResult::Unfit
        );
        if !findings.trouble && !findings.forming && !no_answer {
            self.trouble_since = None;
        } else if changed || self.trouble_since.is_none() {
            self.trouble_since = Some(now);
        }
        self.poll_at = match findings.result {
            RefreshResult::Held => Some(now + CONFIRM_AFTER),
            // Everybody was asked: nobody can be asked again earlier.
            RefreshResult::Failed => Some(now + NODE_SPACING),
            RefreshResult::Changed | RefreshResult::Unchanged | RefreshResult::Unfit => {
                let lasts = self
                    .trouble_since
                    .map(|since| now.saturating_duration_since(since));
                match lasts {
                    None => None,
                    Some(lasts) if lasts < POLL_SLOW_AFTER => Some(now + POLL_INTERVAL),
                    // A cluster that stays incomplete or at odds is as it is.
                    Some(_) if findings.forming && !findings.trouble && !no_answer => None,
                    Some(_) => Some(now + POLL_INTERVAL_SLOW),
                }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Findings = Findings {
        result: RefreshResult::Unchanged,
        trouble: false,
        forming: false,
        unsettled: false,
    };
    const INTERVAL: Duration = Duration::from_secs(30);

    fn millis(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// A pace whose first round ended at the returned time with `findings`.
    fn after_first(findings: Findings) -> (Pace, Instant) {
        let now = Instant::now();
        let mut pace = Pace::new(INTERVAL, now);
        assert_eq!(pace.due(now), Some(Due::Requested(RefreshReason::Start)));
        assert!(pace.next() <= now);
        pace.started(Due::Requested(RefreshReason::Start));
        assert_eq!(pace.due(now), None);
        pace.finished(now, findings, 0.5);
        (pace, now)
    }

    #[test]
    fn routine_rounds_come_at_the_interval_varied_by_a_fifth() {
        for (jitter, factor) in [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)] {
            let (mut pace, now) = after_first(QUIET);
            pace.finished(now, QUIET, jitter);
            assert_eq!(pace.next(), now + INTERVAL.mul_f64(factor));
            assert_eq!(pace.due(pace.next()), Some(Due::Timer));
        }
        let (pace, now) = after_first(Findings {
            unsettled: true,
            ..QUIET
        });
        assert_eq!(pace.next(), now + UNSETTLED_INTERVAL);
    }

    #[test]
    fn many_events_make_one_round_and_fruitless_rounds_space_them_out() {
        let (mut pace, mut now) = after_first(Findings {
            result: RefreshResult::Changed,
            ..QUIET
        });
        for spacing in [100, 200, 400, 800, 1600, 2000, 2000] {
            pace.request(RefreshReason::Moved);
            pace.request(RefreshReason::ClusterDown);
            assert_eq!(pace.due(now + millis(spacing - 1)), None, "{spacing}");
            assert_eq!(pace.next(), now + millis(spacing));
            now += millis(spacing);
            let due = pace.due(now).unwrap();
            assert_eq!(due, Due::Requested(RefreshReason::Moved));
            pace.started(due);
            pace.finished(now, QUIET, 0.5);
        }
        pace.request(RefreshReason::Moved);
        pace.finished(
            now,
            Findings {
                result: RefreshResult::Changed,
                ..QUIET
            },
            0.5,
        );
        assert_eq!(
            pace.next(),
            now + millis(100),
            "a change resets the spacing"
        );
    }

    #[test]
    fn an_event_during_a_round_leads_to_exactly_one_more() {
        let (mut pace, now) = after_first(QUIET);
        pace.started(Due::Timer);
        pace.request(RefreshReason::Moved);
        pace.request(RefreshReason::Moved);
        pace.finished(now, QUIET, 0.5);
        let due = pace.due(pace.next()).unwrap();
        assert_eq!(due, Due::Requested(RefreshReason::Moved));
        pace.started(due);
        assert_eq!(pace.due(pace.next()), Some(Due::Timer));
    }

    #[test]
    fn a_shard_without_primary_is_polled_fast_then_slower_until_it_is_over() {
        let trouble = Findings {
            trouble: true,
            ..QUIET
        };
        let (mut pace, start) = after_first(trouble);
        assert_eq!(pace.next(), start + POLL_INTERVAL);
        assert_eq!(pace.due(pace.next()), Some(Due::Poll));
        let later = start + POLL_SLOW_AFTER;
        pace.finished(later, trouble, 0.5);
        assert_eq!(pace.next(), later + POLL_INTERVAL_SLOW);
        pace.finished(
            later,
            Findings {
                result: RefreshResult::Changed,
                ..trouble
            },
            0.5,
        );
        assert_eq!(
            pace.next(),
            later + POLL_INTERVAL,
            "something moved: fast again"
        );
        pace.finished(later, QUIET, 0.5);
        assert_eq!(pace.due(later + POLL_INTERVAL_SLOW), None);
    }

    #[test]
    fn a_cluster_that_forms_is_polled_for_a_while_only() {
        let forming = Findings {
            forming: true,
            unsettled: true,
            ..QUIET
        };
        let (mut pace, start) = after_first(forming);
        assert_eq!(pace.due(start + POLL_INTERVAL), Some(Due::Poll));
        let later = start + POLL_SLOW_AFTER;
        pace.finished(later, forming, 0.5);
        assert_eq!(pace.next(), later + UNSETTLED_INTERVAL);
    }

    #[test]
    fn a_poll_does_not_serve_the_events() {
        let (mut pace, now) = after_first(Findings {
            trouble: true,
            ..QUIET
        });
        pace.request(RefreshReason::LinkLost);
        assert_eq!(
            pace.due(now + POLL_INTERVAL),
            Some(Due::Poll),
            "the spacing has doubled to 200 ms"
        );
        pace.started(Due::Poll);
        assert_eq!(
            pace.due(now + millis(200)),
            Some(Due::Requested(RefreshReason::LinkLost))
        );
    }

    #[test]
    fn rounds_without_a_usable_answer_are_repeated() {
        for (result, pause) in [
            (RefreshResult::Failed, NODE_SPACING),
            (RefreshResult::Unfit, POLL_INTERVAL),
            (RefreshResult::Held, CONFIRM_AFTER),
        ] {
            let (pace, now) = after_first(Findings { result, ..QUIET });
            assert_eq!(pace.next(), now + pause, "{result:?}");
        }
    }
}

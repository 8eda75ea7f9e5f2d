//! Who may come in: how many clients in all, of one address, and in a second.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::facts::Facts;
use crate::places::{Place, Places};
use crate::sentinel_listener::SentinelHandle;
use crate::supervisor::{Rejection, Status, Workers};

/// Connections of this much time may come at once.
const BURST: Duration = Duration::from_secs(1);

/// The gate of all listeners.
pub(crate) struct Gate {
    facts: Arc<Facts>,
    workers: Vec<Rc<Workers>>,
    sentinel: Option<SentinelHandle>,
    status: Rc<Status>,
    places: Arc<Places>,
    pace: Cell<Pace>,
}

impl Gate {
    /// A gate that nobody has come through, to the workers of all upstreams and to the Sentinel. The limits are those of `facts`.
    pub(crate) fn new(
        facts: Arc<Facts>,
        workers: Vec<Rc<Workers>>,
        sentinel: Option<SentinelHandle>,
        status: Rc<Status>,
    ) -> Self {
        Self {
            facts,
            workers,
            sentinel,
            status,
            places: Arc::default(),
            pace: Cell::new(Pace {
                rested: Instant::now(),
            }),
        }
    }

    /// Waits until one more connection may be accepted. Until then they wait in the kernel's queue, and are not refused: a client
    /// that is refused comes again at once.
    pub(super) async fn wait(&self) {
        let is_off = || self.facts.limits().accepts_per_second == 0;
        let mut paused = false;
        while let Some(pause) = self.pace.get().pause(Instant::now())
            && !is_off()
        {
            if !std::mem::replace(&mut paused, true) {
                self.status.count_accept_pause();
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Counts a connection that was accepted, from `remote`: its place, or why it is refused.
    pub(super) fn enter(&self, remote: SocketAddr) -> Result<Place, Rejection> {
        let limits = self.facts.limits();
        let mut pace = self.pace.get();
        pace.count(limits.accepts_per_second, Instant::now());
        self.pace.set(pace);
        if self.connected() >= limits.max_clients {
            return Err(Rejection::MaxClients);
        }
        self.places
            .take(remote, limits.max_clients_per_ip)
            .ok_or(Rejection::MaxClientsPerIp)
    }

    /// Clients at all listeners.
    fn connected(&self) -> usize {
        let workers = self.workers.iter().map(|of| of.connections());
        let sentinel = self.sentinel.iter().map(SentinelHandle::connections);
        workers.chain(sentinel).sum()
    }

    /// Counts a connection that was not served.
    pub(super) fn count_rejected(&self, why: Rejection) {
        self.status.count_rejected(why);
    }
}

/// A leaky bucket: when it is empty again, for what was poured into it so far.
#[derive(Debug, Clone, Copy)]
struct Pace {
    rested: Instant,
}

impl Pace {
    /// Counts one connection at `rate` a second; 0 is no limit.
    fn count(&mut self, rate: usize, now: Instant) {
        let share = u32::try_from(rate).ok().filter(|rate| *rate > 0);
        if let Some(rate) = share {
            self.rested = self.rested.max(now) + Duration::from_secs(1) / rate;
        }
    }

    /// How long the next connection has to wait, if it has to.
    fn pause(self, now: Instant) -> Option<Duration> {
        let full = now + BURST;
        Some(self.rested.saturating_duration_since(full)).filter(|pause| !pause.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_worth_may_come_at_once_and_the_rest_at_the_rate() {
        let start = Instant::now();
        let mut pace = Pace { rested: start };
        let mut now = start;
        let mut accepted = 0;
        while now < start + Duration::from_secs(10) {
            match pace.pause(now) {
                Some(pause) => now += pause,
                None => {
                    pace.count(100, now);
                    accepted += 1;
                }
            }
        }
        assert!((1100..=1101).contains(&accepted), "{accepted}");
    }

    #[test]
    fn unused_time_is_not_saved_up_beyond_a_second() {
        let start = Instant::now();
        let mut pace = Pace { rested: start };
        let later = start + Duration::from_secs(3600);
        let burst = (0..1000).take_while(|_| {
            let free = pace.pause(later).is_none();
            pace.count(100, later);
            free
        });
        assert_eq!(burst.count(), 101);
    }

    #[test]
    fn a_rate_of_nothing_is_no_limit() {
        let now = Instant::now();
        let mut pace = Pace { rested: now };
        for _ in 0..1_000_000 {
            pace.count(0, now);
        }
        assert_eq!(pace.pause(now), None);
    }
}

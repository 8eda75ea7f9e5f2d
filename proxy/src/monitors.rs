//! MONITOR of an upstream: which of its workers have clients that monitor, and how many lines are on their way to each.
#![expect(
    clippy::disallowed_types,
    reason = "used while somebody monitors, which costs more than this"
)]

use std::sync::{Mutex, PoisonError};

/// Bytes of lines that may be on their way to a worker. One that takes longer has its monitoring clients disconnected.
const MOST_BYTES: usize = 8 << 20;

/// The monitoring clients of one worker.
#[derive(Debug, Default, Clone, Copy)]
struct Watchers {
    clients: usize,
    /// Of lines sent to it that it has not had.
    bytes: usize,
    /// Lines were lost.
    behind: bool,
}

/// Who monitors.
#[derive(Debug, Default)]
pub struct Monitors(Mutex<Vec<Watchers>>);

impl Monitors {
    /// So many clients of `worker` monitor. Whether that changes the answer of [`Self::is_any`].
    pub fn set(&self, worker: usize, clients: usize) -> bool {
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if workers.len() <= worker {
            workers.resize(worker + 1, Watchers::default());
        }
        let before = workers.iter().any(|worker| worker.clients > 0);
        if let Some(entry) = workers.get_mut(worker) {
            entry.clients = clients;
        }
        before != workers.iter().any(|worker| worker.clients > 0)
    }

    /// Whether any client does.
    #[must_use]
    pub fn is_any(&self) -> bool {
        let workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().any(|worker| worker.clients > 0)
    }

    /// The workers that so many bytes of lines of worker `from` are to be sent to: the others with clients that monitor, but those that
    /// have much on its way already.
    #[must_use]
    pub fn send(&self, from: usize, bytes: usize) -> Vec<usize> {
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut takers = Vec::new();
        for (number, worker) in workers.iter_mut().enumerate() {
            if worker.clients == 0 || number == from {
                continue;
            }
            if worker.bytes > 0 && worker.bytes + bytes > MOST_BYTES {
                worker.behind = true;
            } else {
                worker.bytes += bytes;
                takers.push(number);
            }
        }
        takers
    }

    /// So many bytes have come to `worker`. False if others have not, before or behind them.
    #[must_use]
    pub fn receive(&self, worker: usize, bytes: usize) -> bool {
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = workers.get_mut(worker) else {
            return true;
        };
        entry.bytes -= bytes.min(entry.bytes);
        !std::mem::take(&mut entry.behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_to_the_others_that_have_monitors() {
        let monitors = Monitors::default();
        assert!(monitors.send(0, 10).is_empty() && !monitors.is_any());
        assert!(monitors.set(2, 1) && !monitors.set(0, 2));
        assert_eq!(monitors.send(1, 10), [0, 2]);
        assert_eq!(monitors.send(0, 10), [2]);
        assert!(!monitors.set(2, 0) && monitors.set(0, 0));
        assert!(monitors.send(1, 10).is_empty());
    }

    #[test]
    fn a_worker_that_does_not_keep_up_is_sent_no_more_and_told_so_once() {
        let monitors = Monitors::default();
        monitors.set(1, 1);
        assert_eq!(monitors.send(0, MOST_BYTES), [1]);
        assert!(monitors.send(0, 1).is_empty());
        assert!(!monitors.receive(1, MOST_BYTES));
        assert_eq!(
            monitors.send(0, MOST_BYTES * 2),
            [1],
            "one is always on its way"
        );
        assert!(monitors.receive(1, MOST_BYTES * 2));
    }
}

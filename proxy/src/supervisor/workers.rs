//! The workers as the control thread sees them: where to send a connection, and what they have counted.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use slotway_core::metrics::WorkerReport;
use tokio::sync::oneshot;

use crate::worker::{WorkerHandle, WorkerMessage};

/// A worker whose loop turns answers within a tick; one that takes this long is stuck.
const COLLECT_TIMEOUT: Duration = Duration::from_secs(1);

/// All workers.
pub(crate) struct Workers {
    handles: Vec<WorkerHandle>,
    /// Where the search for the least loaded one begins, so that equals take turns.
    turn: Cell<usize>,
    /// What each worker reported last.
    reported: RefCell<Vec<Option<Box<WorkerReport>>>>,
}

impl Workers {
    /// Wraps the handles; there is at least one.
    pub(crate) fn new(handles: Vec<WorkerHandle>) -> Self {
        Self {
            reported: RefCell::new(vec![None; handles.len()]),
            handles,
            turn: Cell::new(0),
        }
    }

    /// Number of workers.
    pub(crate) fn len(&self) -> usize {
        self.handles.len()
    }

    /// Connections of clients, of all workers.
    pub(crate) fn connections(&self) -> usize {
        self.handles.iter().map(WorkerHandle::connections).sum()
    }

    /// The worker with the fewest connections; among equals the next in turn.
    pub(crate) fn least_loaded(&self) -> Option<&WorkerHandle> {
        let first = self.turn.get();
        self.turn.set(first.wrapping_add(1));
        let (before, after) = self.handles.split_at(first % self.handles.len().max(1));
        after
            .iter()
            .chain(before)
            .min_by_key(|handle| handle.connections())
    }

    /// Sends each worker a message made for it.
    pub(crate) fn broadcast(&self, message: impl Fn() -> WorkerMessage) {
        for handle in &self.handles {
            handle.send(message());
        }
    }

    /// The report of every worker, by its number; of one that does not answer in time, the last one it gave: counters that lose
    /// a worker's share look like a restart to Prometheus, and its return like an enormous rate.
    pub(crate) async fn collect(&self) -> Vec<(usize, Box<WorkerReport>)> {
        let answers = self.ask().await;
        let mut reported = self.reported.borrow_mut();
        for (last, answer) in reported.iter_mut().zip(answers) {
            if let Ok(report) = answer {
                *last = Some(report);
            }
        }
        let known = reported.iter().enumerate();
        known
            .filter_map(|(number, report)| Some((number, report.clone()?)))
            .collect()
    }

    /// Numbers of the workers that do not answer in time, and of those that have ended.
    pub(crate) async fn missing(&self) -> (Vec<usize>, Vec<usize>) {
        let answers = self.ask().await;
        let numbers = |wanted: Missing| {
            let found = answers
                .iter()
                .enumerate()
                .filter(|(_, answer)| answer.as_ref().err() == Some(&wanted));
            found.map(|(number, _)| number).collect()
        };
        (numbers(Missing::Stuck), numbers(Missing::Ended))
    }

    /// Asks every worker for its report.
    async fn ask(&self) -> Vec<Result<Box<WorkerReport>, Missing>> {
        let ask = |handle: &WorkerHandle| {
            let (sender, receiver) = oneshot::channel();
            handle.send(WorkerMessage::Collect(sender));
            receiver
        };
        let waiting: Vec<_> = self.handles.iter().map(ask).collect();
        let deadline = tokio::time::Instant::now() + COLLECT_TIMEOUT;
        let mut answers = Vec::with_capacity(waiting.len());
        for receiver in waiting {
            answers.push(match tokio::time::timeout_at(deadline, receiver).await {
                Ok(Ok(report)) => Ok(report),
                Ok(Err(_)) => Err(Missing::Ended),
                Err(_) => Err(Missing::Stuck),
            });
        }
        answers
    }
}

/// Why a worker gives no report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// Its thread has ended, as all do in a shutdown.
    Ended,
    /// It does not answer.
    Stuck,
}

#[cfg(test)]
mod tests {
    use slotway_core::engine::{Limits, Upstream};
    use slotway_core::slowlog::SlowLog;
    use slotway_core::topology::Snapshot;

    use super::*;
    use crate::worker::{self, WorkerSettings};

    #[tokio::test(flavor = "current_thread")]
    async fn counters_do_not_go_back_when_a_worker_is_silent() {
        let (hints, _keep) = tokio::sync::mpsc::unbounded_channel();
        let settings = WorkerSettings {
            id: 0,
            limits: Limits::default(),
            upstream: Upstream::default(),
            connect_timeout: COLLECT_TIMEOUT,
            snapshot: std::sync::Arc::new(arc_swap::ArcSwap::from_pointee(Snapshot::empty())),
            hints,
            registry: std::sync::Arc::new(crate::registry::ClientRegistry::new()),
            facts: std::sync::Arc::new(crate::facts::Facts::new(1, SlowLog::default())),
            reaper: crate::reaper::Reaper::start().unwrap(),
            scripts: std::sync::Arc::default(),
        };
        let (handle, thread) = worker::spawn(settings).unwrap();
        let workers = Workers::new(vec![handle]);
        assert_eq!(workers.collect().await.len(), 1);
        workers.broadcast(|| WorkerMessage::Drain);
        thread.join().unwrap();
        assert_eq!(workers.missing().await, (Vec::new(), vec![0]));
        assert_eq!(workers.collect().await.len(), 1, "its last report stays");
    }
}

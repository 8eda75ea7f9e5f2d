//! The workers as the control thread sees them: where to send a connection, and what they have counted.

use std::cell::Cell;
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
}

impl Workers {
    /// Wraps the handles; there is at least one.
    pub(crate) fn new(handles: Vec<WorkerHandle>) -> Self {
        Self {
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

    /// The report of every worker that answers in time, by its number.
    pub(crate) async fn collect(&self) -> Vec<(usize, Box<WorkerReport>)> {
        let mut waiting = Vec::with_capacity(self.handles.len());
        for (number, handle) in self.handles.iter().enumerate() {
            let (sender, receiver) = oneshot::channel();
            handle.send(WorkerMessage::Collect(sender));
            waiting.push((number, receiver));
        }
        let deadline = tokio::time::Instant::now() + COLLECT_TIMEOUT;
        let mut reports = Vec::with_capacity(waiting.len());
        for (number, receiver) in waiting {
            match tokio::time::timeout_at(deadline, receiver).await {
                Ok(Ok(report)) => reports.push((number, report)),
                Ok(Err(_)) => tracing::warn!(worker = number, "worker has ended"),
                Err(_) => tracing::warn!(worker = number, "worker does not answer"),
            }
        }
        reports
    }
}

//! What one worker has seen of scripts is told to the others [X1].

use std::sync::OnceLock;

use slotway_core::engine::ScriptNews;

use crate::worker::{WorkerHandle, WorkerMessage};

/// The way to the other workers.
#[derive(Default)]
pub struct ScriptRelay {
    workers: OnceLock<Vec<WorkerHandle>>,
}

impl ScriptRelay {
    /// Says who the workers are, in the order of their numbers. Once, when they are there; until then nobody is told anything.
    pub fn set_workers(&self, workers: Vec<WorkerHandle>) {
        // They are the same each time.
        let _ = self.workers.set(workers);
    }

    /// Tells all workers but the one with the number `from`.
    pub fn tell(&self, from: usize, news: &ScriptNews) {
        let workers = self.workers.get().into_iter().flatten().enumerate();
        for (_, worker) in workers.filter(|(number, _)| *number != from) {
            worker.send(WorkerMessage::Script(news.clone()));
        }
    }
}

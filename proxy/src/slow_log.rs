//! The slow log of an upstream, which all its workers write and every client of it may read.
#![expect(
    clippy::disallowed_types,
    reason = "only slow requests are noted, of each worker no more than 128 between two ticks"
)]

use std::sync::{Mutex, PoisonError};

use slotway_core::slowlog::SlowLog;

/// One slow log for all threads. Whoever sees it keeps others from it for the time it takes to note or to copy entries.
#[derive(Debug, Default)]
pub struct SharedSlowLog(Mutex<SlowLog>);

impl SharedSlowLog {
    /// Shares `log`.
    #[must_use]
    pub const fn new(log: SlowLog) -> Self {
        Self(Mutex::new(log))
    }

    /// Shows it.
    pub fn visit(&self, visit: &mut dyn FnMut(&mut SlowLog)) {
        visit(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

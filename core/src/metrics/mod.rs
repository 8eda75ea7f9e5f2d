//! What one worker counts: plain integers without locks or atomics, copied out whole when the metrics are scraped.

pub mod counters;
pub mod histogram;
pub mod names;

pub use counters::{
    CloseReason, CommandCounters, LinkReport, Outcome, RedirectKind, RetryReason, WorkerMetrics,
    WorkerReport,
};
pub use histogram::Histogram;

//! Metric names and per-worker plain counters.

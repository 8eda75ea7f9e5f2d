//! Benchmarks of slotway.
#![forbid(unsafe_code)]

pub mod load;

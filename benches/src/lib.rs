//! Shared code of the benchmarks.
#![forbid(unsafe_code)]

pub mod in_process;
pub mod micro;

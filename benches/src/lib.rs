//! Benchmarks of slotway, and what they share.
#![forbid(unsafe_code)]

pub mod in_process;
pub mod load;
pub mod micro;

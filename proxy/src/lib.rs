//! The tokio shell around `slotway-core`: sockets, threads, discovery, admin HTTP and the command line.
#![forbid(unsafe_code)]

pub mod registry;

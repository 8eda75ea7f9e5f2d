//! The tokio shell around `slotway-core`: sockets, threads, discovery, admin HTTP and the command line.
#![deny(unsafe_code)]

mod admin;
mod allocator;
pub mod cli;
mod demo;
pub mod discovery;
mod explain;
pub mod facts;
pub mod learning;
pub mod limits;
pub mod listener;
pub mod monitors;
pub mod pause;
pub mod places;
mod question;
pub mod reaper;
pub mod registry;
mod replicas;
pub mod scripts;
mod sentinel_listener;
mod sentinels;
pub mod shutdown;
pub mod slow_log;
pub mod supervisor;
pub mod telemetry;
pub mod wish;
pub mod worker;

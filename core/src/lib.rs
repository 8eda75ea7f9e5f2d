//! The sans-I/O core of slotway.
//!
//! Everything that decides is here: protocol scanning, the command table, key extraction, slots, topology, routing, merging,
//! and the state machines of a client session and of a connection to a node. Nothing here opens a socket, reads a clock, draws
//! a random number it was not given a seed for, or keeps a global: bytes and the time go in, bytes and actions come out. So the
//! whole request path runs in a deterministic simulation.
#![forbid(unsafe_code)]

pub mod backend;
pub mod command;
pub mod config;
pub mod engine;
pub mod latency;
pub mod local;
pub mod merge;
pub mod metrics;
pub mod monitor;
pub mod pubsub;
pub mod reply;
pub mod resp;
pub mod router;
pub mod session;
pub mod slot;
pub mod slowlog;
pub mod time;
pub mod topology;

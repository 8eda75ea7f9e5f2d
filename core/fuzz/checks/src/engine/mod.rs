//! The engine between any bytes on one side and played clients and nodes on the other.
//!
//! ```text
//!   script (the input) -> session_input: bytes of a client   -> World: Engine, connections, time <- cluster: honest answers
//!                      -> backend_input: bytes of a node     ->
//! ```

pub mod backend_input;
pub mod session_input;

pub(crate) mod cluster;

mod client;
mod owed;
mod script;
mod world;

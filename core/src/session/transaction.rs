//! What a client has asked for since MULTI [M1].

use crate::command::Spec;
use crate::slot::Slot;

/// A transaction that is being put together. Nothing of it goes to a node before EXEC.
#[derive(Debug, Default)]
pub struct Transaction {
    /// The commands for the node, in RESP; EXEC sends them in one piece between MULTI and itself.
    pub commands: Vec<u8>,
    /// The slot of all keys, once there is one.
    pub slot: Option<Slot>,
    /// Number of commands, the proxy's own included.
    pub count: usize,
    /// Commands that the proxy answers itself, when the transaction has been executed [M4].
    pub local: Vec<LocalCommand>,
    /// SELECT among the commands for the node.
    pub selects: Vec<Selected>,
    /// Number of the commands for the node.
    pub sent: usize,
    /// What all of it takes.
    pub bytes: usize,
    /// A command was refused, so EXEC will be [M2].
    pub broken: bool,
}

/// A SELECT of a transaction, which is in effect once it is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selected {
    /// Its place among the commands for the node, from 0.
    pub position: usize,
    /// The database.
    pub database: u16,
}

/// A command of a transaction that the proxy answers itself.
#[derive(Debug)]
pub struct LocalCommand {
    /// Its place among the commands of the transaction, from 0.
    pub position: usize,
    /// Which.
    pub spec: &'static Spec,
    /// It, in RESP.
    pub request: Box<[u8]>,
}

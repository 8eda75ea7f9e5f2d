//! What the control thread's tasks know of each other: is the proxy listening, is it shutting down, what was turned away.

use std::cell::Cell;

/// Why a connection was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// As many clients as allowed are connected.
    MaxClients,
    /// The system would not accept it.
    AcceptError,
}

/// Shared by the tasks of the control thread, hence cells.
#[derive(Debug, Default)]
pub(crate) struct Status {
    listening: Cell<bool>,
    draining: Cell<bool>,
    rejected: [Cell<u64>; 2],
}

impl Status {
    /// Every listener is bound and accepts.
    pub(crate) fn listening(&self) -> bool {
        self.listening.get()
    }

    /// Notes that every listener is bound.
    pub(crate) fn set_listening(&self) {
        self.listening.set(true);
    }

    /// The proxy is shutting down.
    pub(crate) fn draining(&self) -> bool {
        self.draining.get()
    }

    /// Notes that the proxy is shutting down.
    pub(crate) fn set_draining(&self) {
        self.draining.set(true);
    }

    /// Counts a connection that was not served.
    pub(crate) fn count_rejected(&self, why: Rejection) {
        let counter = &self.rejected[why as usize];
        counter.set(counter.get() + 1);
    }

    /// Connections not served, by the label of the reason.
    pub(crate) fn rejected(&self) -> [(&'static str, u64); 2] {
        [
            (
                "max_clients",
                self.rejected[Rejection::MaxClients as usize].get(),
            ),
            (
                "accept_error",
                self.rejected[Rejection::AcceptError as usize].get(),
            ),
        ]
    }
}

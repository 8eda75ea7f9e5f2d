//! What the control thread's tasks know of each other: is the proxy listening, is it shutting down, what was turned away.

use std::cell::Cell;

/// Why a connection was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// As many clients as allowed are connected.
    MaxClients,
    /// As many clients as allowed are connected from its address.
    MaxClientsPerIp,
    /// The system would not accept it.
    AcceptError,
}

impl Rejection {
    const ALL: [Self; 3] = [Self::MaxClients, Self::MaxClientsPerIp, Self::AcceptError];

    /// The metric label of this reason.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::MaxClients => "max_clients",
            Self::MaxClientsPerIp => "max_clients_per_ip",
            Self::AcceptError => "accept_error",
        }
    }
}

/// Shared by the tasks of the control thread, hence cells.
#[derive(Debug, Default)]
pub(crate) struct Status {
    listening: Cell<bool>,
    draining: Cell<bool>,
    rejected: [Cell<u64>; Rejection::ALL.len()],
    accept_pauses: Cell<u64>,
    /// Applied, failed.
    reloads: [Cell<u64>; 2],
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
    pub(crate) fn rejected(&self) -> [(&'static str, u64); Rejection::ALL.len()] {
        Rejection::ALL.map(|why| (why.label(), self.rejected[why as usize].get()))
    }

    /// Counts a time that connections had to wait for the rate.
    pub(crate) fn count_accept_pause(&self) {
        self.accept_pauses.set(self.accept_pauses.get() + 1);
    }

    /// Times that connections had to wait for the rate.
    pub(crate) fn accept_pauses(&self) -> u64 {
        self.accept_pauses.get()
    }

    /// Counts a configuration that was read anew.
    pub(crate) fn count_reload(&self, applied: bool) {
        let counter = &self.reloads[usize::from(!applied)];
        counter.set(counter.get() + 1);
    }

    /// Configurations read anew, by the label of the result.
    pub(crate) fn reloads(&self) -> [(&'static str, u64); 2] {
        let [applied, failed] = &self.reloads;
        [("applied", applied.get()), ("failed", failed.get())]
    }
}

/// How many commands were learned from the servers of one upstream.
#[derive(Debug, Default)]
pub(crate) struct LearnedCount {
    commands: Cell<usize>,
    conflicts: Cell<u64>,
}

impl LearnedCount {
    /// Notes how many commands are learned, and how many more of them the servers disagree about than before.
    pub(super) fn set(&self, commands: usize, new_conflicts: u64) {
        self.commands.set(commands);
        self.conflicts.set(self.conflicts.get() + new_conflicts);
    }

    /// Commands learned.
    pub(crate) fn commands(&self) -> usize {
        self.commands.get()
    }

    /// Times that primaries were found to disagree about one.
    pub(crate) fn conflicts(&self) -> u64 {
        self.conflicts.get()
    }
}

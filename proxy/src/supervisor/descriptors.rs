//! File descriptors: every connection needs one, and the system gives only so many.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::admin;
use crate::limits::LiveLimits;

/// Descriptors that are not clients, for each upstream: standard streams, logs, listeners, admin connections, control connections.
const RESERVED: u64 = 128;

/// `limits`, with as many clients as there are descriptors for: a client that is refused with a clear error is better off than one
/// that waits in the kernel's queue for a descriptor.
pub(super) fn affordable(limits: LiveLimits, upstreams: usize) -> LiveLimits {
    let (wanted, reserved) = (limits.max_clients, RESERVED * upstreams as u64);
    raise_limit(wanted, reserved);
    let Some(descriptors) = admin::max_fds() else {
        return limits;
    };
    let affordable = usize::try_from(descriptors.saturating_sub(reserved))
        .unwrap_or(usize::MAX)
        .max(1);
    if affordable < wanted {
        tracing::info!(
            max_clients = affordable,
            wanted,
            descriptors,
            "fewer clients than wanted: the limit of open files is low"
        );
    }
    LiveLimits {
        max_clients: wanted.min(affordable),
        ..limits
    }
}

/// Raises the limit of open files as far as needed for `clients`, each of which may wait over a connection of its own to a node, and
/// allowed: shells and service managers often start processes with 1024.
fn raise_limit(clients: usize, reserved: u64) {
    let limit = getrlimit(Resource::Nofile);
    let needed = 2 * clients as u64 + reserved;
    let Some(current) = limit.current.filter(|current| *current < needed) else {
        return;
    };
    let raised = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    let wanted = Rlimit {
        current: Some(raised),
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, current, wanted = raised, "the limit of open files could not be raised");
    }
}

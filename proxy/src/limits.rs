//! The limits that can be changed while the proxy runs.

use std::time::Duration;

use slotway_core::config::LimitsConfig;
use slotway_core::engine::Limits;
use slotway_core::local::OutputLimits;

/// Those limits as they are now. Whoever needs them looks them up; nobody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveLimits {
    /// Connections of clients at a time, of all listeners.
    pub max_clients: usize,
    /// The same from one address; 0 is no limit.
    pub max_clients_per_ip: usize,
    /// Connections of clients accepted in a second; 0 is no limit.
    pub accepts_per_second: usize,
    /// How long a client may be idle; zero is for ever.
    pub idle_timeout: Duration,
    /// How much a client may leave unread.
    pub output: OutputLimits,
}

impl Default for LiveLimits {
    /// Only those that every engine has.
    fn default() -> Self {
        let engine = Limits::default();
        Self {
            max_clients: usize::MAX,
            max_clients_per_ip: 0,
            accepts_per_second: 0,
            idle_timeout: Duration::ZERO,
            output: OutputLimits {
                hard_bytes: engine.output_max_bytes,
                soft_bytes: engine.output_soft_bytes,
                soft_time: engine.output_soft_time,
                pause_bytes: engine.output_pause_bytes,
                pubsub_hard_bytes: engine.pubsub_output_bytes,
                pubsub_soft_bytes: engine.pubsub_output_soft_bytes,
            },
        }
    }
}

impl From<&LimitsConfig> for LiveLimits {
    fn from(given: &LimitsConfig) -> Self {
        Self {
            max_clients: given.max_clients,
            max_clients_per_ip: given.max_clients_per_ip,
            accepts_per_second: given.accepts_per_second,
            idle_timeout: given.idle_timeout,
            output: OutputLimits {
                hard_bytes: given.client_output_bytes,
                soft_bytes: given.client_output_soft_bytes,
                soft_time: given.client_output_soft_time,
                pause_bytes: given.client_output_pause_bytes,
                pubsub_hard_bytes: given.pubsub_output_bytes,
                pubsub_soft_bytes: given.pubsub_output_soft_bytes,
            },
        }
    }
}

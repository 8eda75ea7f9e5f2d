//! What local answers see of the process: one value per worker and listener.

use std::sync::Arc;
use std::time::SystemTime;

use slotway_core::local::{ClientRow, Environment, ListenerSettings, ProcessFacts, UpstreamFacts};
use slotway_core::session::client_state::ClientState;

use crate::facts::Facts;
use crate::registry::ClientRegistry;

/// The environment of clients of one listener.
pub(super) struct WorkerEnvironment {
    listener: Arc<ListenerSettings>,
    registry: Arc<ClientRegistry>,
    facts: Arc<Facts>,
}

impl WorkerEnvironment {
    pub(super) fn new(
        listener: Arc<ListenerSettings>,
        registry: Arc<ClientRegistry>,
        facts: Arc<Facts>,
    ) -> Self {
        Self {
            listener,
            registry,
            facts,
        }
    }
}

impl Environment for WorkerEnvironment {
    fn unix_micros(&self) -> u64 {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
    }

    fn fill_random(&self, bytes: &mut [u8]) -> bool {
        self.facts.fill_random(bytes)
    }

    fn listener(&self) -> &ListenerSettings {
        &self.listener
    }

    fn upstream(&self) -> UpstreamFacts {
        self.facts.upstream()
    }

    fn process(&self) -> ProcessFacts {
        self.facts.process(self.registry.len())
    }

    fn for_each_client(&self, visit: &mut dyn FnMut(&ClientRow<'_>)) {
        self.registry.for_each(visit);
    }

    fn with_client(&self, id: u64, visit: &mut dyn FnMut(&ClientRow<'_>)) -> bool {
        self.registry.with(id, visit)
    }

    fn kill_client(&self, id: u64) -> bool {
        self.registry.kill(id)
    }

    fn client_changed(&self, client: &ClientState) {
        self.registry.update(client);
    }
}

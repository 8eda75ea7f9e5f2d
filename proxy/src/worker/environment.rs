//! What local answers see of the process: one value per worker and listener.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use slotway_core::command::learned::LearnedTable;
use slotway_core::local::{
    ClientRow, Environment, ListenerSettings, Pause, ProcessFacts, UpstreamFacts,
};
use slotway_core::session::client_state::ClientState;
use slotway_core::slowlog::SlowLog;

use crate::facts::Facts;
use crate::registry::ClientRegistry;

/// The environment of clients of one listener.
pub(crate) struct WorkerEnvironment {
    listener: Arc<ListenerSettings>,
    registry: Arc<ClientRegistry>,
    facts: Arc<Facts>,
    worker: usize,
}

impl WorkerEnvironment {
    pub(crate) fn new(
        listener: Arc<ListenerSettings>,
        registry: Arc<ClientRegistry>,
        facts: Arc<Facts>,
        worker: usize,
    ) -> Self {
        Self {
            listener,
            registry,
            facts,
            worker,
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
        ProcessFacts {
            pause: self.registry.pause_left(),
            ..self.facts.process(self.registry.len())
        }
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

    fn client_waits(&self, id: u64, waits: bool) {
        self.registry.note_waits(id, waits);
    }

    fn unblock_client(&self, id: u64, is_error: bool) -> bool {
        self.registry.unblock(id, is_error)
    }

    fn pause_clients(&self, time: Duration, writes_only: bool) {
        self.registry.pause_clients(time, writes_only);
    }

    fn unpause_clients(&self) {
        self.registry.unpause_clients();
    }

    fn pause(&self) -> Option<Pause> {
        self.registry.pause()
    }

    fn client_monitors(&self, id: u64, on: bool, monitors: usize) {
        self.registry.note_monitor(id, on, self.worker, monitors);
    }

    fn is_monitored(&self) -> bool {
        self.registry.is_monitored()
    }

    fn monitor_lines(&self, lines: &[u8]) {
        self.registry.send_monitor_lines(self.worker, lines);
    }

    fn redirect_invalidation(&self, id: u64, keys: &[u8]) -> bool {
        self.registry.invalidate(id, keys)
    }

    fn client_subscribed(&self, id: u64, subscriptions: [usize; 3]) {
        self.registry.note_subscriptions(id, subscriptions);
    }

    fn client_changed(&self, client: &ClientState) {
        self.registry.update(client);
    }

    fn learned(&self) -> Arc<LearnedTable> {
        self.facts.learning().table()
    }

    fn want_commands(&self) {
        self.facts.learning().want();
    }

    fn want_replicas(&self) {
        self.facts.replicas().want();
    }

    fn slow_log(&self, visit: &mut dyn FnMut(&mut SlowLog)) {
        self.facts.slow_log().visit(visit);
    }
}

//! The environment of tests, of the simulation and of the fuzz targets: settings and figures are fields, clients are kept as they
//! were last announced. For other crates behind the feature `testing`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{
    ClientRow, Databases, Environment, ListenerSettings, Pause, ProcessFacts, TrackingRow,
    UpstreamFacts,
};
use crate::command::learned::LearnedTable;
use crate::session::client_state::ClientState;
use crate::slowlog::SlowLog;
use crate::time::Timestamp;

/// The double: what it is asked for is the same in every run.
#[derive(Debug)]
pub struct TestEnvironment {
    /// What [`Environment::listener`] gives.
    pub listener: ListenerSettings,
    /// What [`Environment::upstream`] gives.
    pub upstream: UpstreamFacts,
    /// The databases in it; no more than one unless told.
    pub databases: RefCell<Option<Databases>>,
    /// What [`Environment::process`] gives.
    pub process: ProcessFacts,
    /// What [`Environment::unix_micros`] gives.
    pub unix_micros: u64,
    /// There is a source of random numbers.
    pub random: bool,
    /// Age and idle seconds of every client.
    pub ages: (u64, u64),
    /// Clients by their ids, as they were last announced.
    pub clients: RefCell<BTreeMap<u64, ClientState>>,
    /// What they have subscribed to, as far as that was said.
    pub subscriptions: RefCell<BTreeMap<u64, [usize; 3]>>,
    /// Ids of the clients that were to be closed.
    pub killed: RefCell<Vec<u64>>,
    /// What [`Environment::slow_log`] shows.
    pub slow_log: RefCell<SlowLog>,
    /// Ids of the clients that wait.
    pub waiting: RefCell<BTreeSet<u64>>,
    /// Ids of the clients that were to wait no longer, and whether with an error.
    pub unblocked: RefCell<Vec<(u64, bool)>>,
    /// What [`Environment::pause`] gives.
    pub paused: Cell<Option<Pause>>,
    /// Ids of the clients that see the requests of all.
    pub monitors: RefCell<BTreeSet<u64>>,
    /// Lines that clients of other workers are shown.
    pub monitor_lines: RefCell<Vec<u8>>,
    /// What was to be told to other clients of keys.
    pub redirected: RefCell<Vec<(u64, Vec<u8>)>>,
    /// What [`Environment::learned`] gives.
    pub learned: RefCell<Arc<LearnedTable>>,
    /// How often [`Environment::want_commands`] was called.
    pub commands_wanted: Cell<usize>,
    /// Whether [`Environment::want_replicas`] was called.
    pub replicas_wanted: Cell<bool>,
}

impl Default for TestEnvironment {
    fn default() -> Self {
        Self {
            listener: ListenerSettings::default(),
            upstream: UpstreamFacts::default(),
            databases: RefCell::new(Some(Databases::default())),
            process: ProcessFacts {
                version: "1.2.3",
                ..ProcessFacts::default()
            },
            random: true,
            unix_micros: 1_700_000_000_000_042,
            ages: (9, 4),
            clients: RefCell::default(),
            subscriptions: RefCell::default(),
            killed: RefCell::default(),
            slow_log: RefCell::new(SlowLog::new(Duration::from_millis(10), 128)),
            waiting: RefCell::default(),
            unblocked: RefCell::default(),
            paused: Cell::default(),
            monitors: RefCell::default(),
            monitor_lines: RefCell::default(),
            redirected: RefCell::default(),
            learned: RefCell::default(),
            commands_wanted: Cell::new(0),
            replicas_wanted: Cell::new(false),
        }
    }
}

impl TestEnvironment {
    /// That of the clients of such a listener.
    #[must_use]
    pub fn of(listener: ListenerSettings) -> Self {
        Self {
            listener,
            ..Self::default()
        }
    }

    fn row_of<'a>(&self, client: &'a ClientState) -> ClientRow<'a> {
        row_of(
            client,
            self.waiting.borrow().contains(&client.id),
            self.ages,
            self.subscriptions_of(client.id),
        )
    }
}

impl TestEnvironment {
    fn subscriptions_of(&self, id: u64) -> [usize; 3] {
        let known = self.subscriptions.borrow();
        known.get(&id).copied().unwrap_or_default()
    }
}

fn row_of(
    client: &ClientState,
    waits: bool,
    (age_seconds, idle_seconds): (u64, u64),
    subscriptions: [usize; 3],
) -> ClientRow<'_> {
    ClientRow {
        waits,
        monitors: false,
        tracking: TrackingRow::of(client),
        id: client.id,
        remote: client.remote,
        local: client.local,
        descriptor: 8,
        name: &client.name,
        user: client.user(),
        lib_name: &client.lib_name,
        lib_version: &client.lib_version,
        protocol: client.protocol,
        database: client.database,
        age_seconds,
        idle_seconds,
        command: "get",
        no_evict: client.no_evict,
        no_touch: client.no_touch,
        readonly: client.readonly == Some(true),
        subscriptions,
        input_bytes: 0,
        output_bytes: 0,
    }
}

impl Environment for TestEnvironment {
    fn unix_micros(&self) -> u64 {
        self.unix_micros
    }

    fn fill_random(&self, bytes: &mut [u8]) -> bool {
        bytes
            .iter_mut()
            .zip((0xa0_u8..=0xff).cycle())
            .for_each(|(byte, value)| *byte = value);
        self.random
    }

    fn listener(&self) -> &ListenerSettings {
        &self.listener
    }

    fn upstream(&self) -> UpstreamFacts {
        UpstreamFacts {
            databases: self.databases.borrow().clone(),
            ..self.upstream.clone()
        }
    }

    fn process(&self) -> ProcessFacts {
        self.process.clone()
    }

    fn for_each_client(&self, visit: &mut dyn FnMut(&ClientRow<'_>)) {
        // Backwards: the order must not matter.
        self.clients
            .borrow()
            .values()
            .rev()
            .for_each(|client| visit(&self.row_of(client)));
    }

    fn with_client(&self, id: u64, visit: &mut dyn FnMut(&ClientRow<'_>)) -> bool {
        let clients = self.clients.borrow();
        let client = clients.get(&id);
        if let Some(client) = client {
            visit(&self.row_of(client));
        }
        client.is_some()
    }

    fn kill_client(&self, id: u64) -> bool {
        self.killed.borrow_mut().push(id);
        self.clients.borrow_mut().remove(&id).is_some()
    }

    fn client_waits(&self, id: u64, waits: bool) {
        let mut waiting = self.waiting.borrow_mut();
        if waits {
            waiting.insert(id);
        } else {
            waiting.remove(&id);
        }
    }

    fn unblock_client(&self, id: u64, is_error: bool) -> bool {
        self.unblocked.borrow_mut().push((id, is_error));
        self.waiting.borrow_mut().remove(&id)
    }

    fn pause_clients(&self, time: Duration, writes_only: bool) {
        let until = Timestamp::ZERO.after(time);
        self.paused.set(Some(Pause { until, writes_only }));
    }

    fn unpause_clients(&self) {
        self.paused.set(None);
    }

    fn pause(&self) -> Option<Pause> {
        self.paused.get()
    }

    fn client_monitors(&self, id: u64, on: bool, _monitors: usize) {
        let mut monitors = self.monitors.borrow_mut();
        if on {
            monitors.insert(id);
        } else {
            monitors.remove(&id);
        }
    }

    fn is_monitored(&self) -> bool {
        !self.monitors.borrow().is_empty()
    }

    fn monitor_lines(&self, lines: &[u8]) {
        self.monitor_lines.borrow_mut().extend_from_slice(lines);
    }

    fn redirect_invalidation(&self, id: u64, keys: &[u8]) -> bool {
        let is_there = self.clients.borrow().contains_key(&id);
        if is_there {
            self.redirected.borrow_mut().push((id, keys.to_vec()));
        }
        is_there
    }

    fn client_subscribed(&self, id: u64, subscriptions: [usize; 3]) {
        self.subscriptions.borrow_mut().insert(id, subscriptions);
    }

    fn client_changed(&self, client: &ClientState) {
        self.clients.borrow_mut().insert(client.id, client.clone());
    }

    fn learned(&self) -> Arc<LearnedTable> {
        Arc::clone(&self.learned.borrow())
    }

    fn want_commands(&self) {
        self.commands_wanted.set(self.commands_wanted.get() + 1);
    }

    fn want_replicas(&self) {
        self.replicas_wanted.set(true);
    }

    fn slow_log(&self, visit: &mut dyn FnMut(&mut SlowLog)) {
        visit(&mut self.slow_log.borrow_mut());
    }
}

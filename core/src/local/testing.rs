//! The environment of tests, of the simulation and of the fuzz targets: settings and figures are fields, clients are kept as they
//! were last announced. For other crates behind the feature `testing`.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::{ClientRow, Environment, ListenerSettings, ProcessFacts, UpstreamFacts};
use crate::session::client_state::ClientState;

/// The double: what it is asked for is the same in every run.
#[derive(Debug)]
pub struct TestEnvironment {
    /// What [`Environment::listener`] gives.
    pub listener: ListenerSettings,
    /// What [`Environment::upstream`] gives.
    pub upstream: UpstreamFacts,
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
    /// Ids of the clients that were to be closed.
    pub killed: RefCell<Vec<u64>>,
}

impl Default for TestEnvironment {
    fn default() -> Self {
        Self {
            listener: ListenerSettings::default(),
            upstream: UpstreamFacts::default(),
            process: ProcessFacts {
                version: "1.2.3",
                ..ProcessFacts::default()
            },
            random: true,
            unix_micros: 1_700_000_000_000_042,
            ages: (9, 4),
            clients: RefCell::default(),
            killed: RefCell::default(),
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
}

fn row_of(client: &ClientState, (age_seconds, idle_seconds): (u64, u64)) -> ClientRow<'_> {
    ClientRow {
        id: client.id,
        remote: client.remote,
        local: client.local,
        descriptor: 8,
        name: &client.name,
        user: client.user(),
        lib_name: &client.lib_name,
        lib_version: &client.lib_version,
        protocol: client.protocol,
        age_seconds,
        idle_seconds,
        command: "get",
        no_evict: client.no_evict,
        no_touch: client.no_touch,
        readonly: client.readonly,
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
        self.upstream.clone()
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
            .for_each(|client| visit(&row_of(client, self.ages)));
    }

    fn with_client(&self, id: u64, visit: &mut dyn FnMut(&ClientRow<'_>)) -> bool {
        let clients = self.clients.borrow();
        let client = clients.get(&id);
        if let Some(client) = client {
            visit(&row_of(client, self.ages));
        }
        client.is_some()
    }

    fn kill_client(&self, id: u64) -> bool {
        self.killed.borrow_mut().push(id);
        self.clients.borrow_mut().remove(&id).is_some()
    }

    fn client_changed(&self, client: &ClientState) {
        self.clients.borrow_mut().insert(client.id, client.clone());
    }
}

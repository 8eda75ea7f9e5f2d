//! An environment for tests: settings and figures are fields, clients are kept as they were last announced.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{
    ClientRow, Environment, ListenerSettings, LocalOutcome, ProcessFacts, UpstreamFacts, answer,
};
use crate::command::{Lookup, lookup, write_arity_error, write_unknown_subcommand};
use crate::resp::{Args, DecodeStep, RequestDecoder, RequestLimits, write};
use crate::session::client_state::ClientState;

/// The double.
pub(crate) struct TestEnvironment {
    pub(crate) listener: ListenerSettings,
    pub(crate) upstream: UpstreamFacts,
    pub(crate) process: ProcessFacts,
    pub(crate) unix_micros: u64,
    /// There is a source of random numbers.
    pub(crate) random: bool,
    /// Age and idle seconds of every client.
    pub(crate) ages: (u64, u64),
    pub(crate) clients: RefCell<BTreeMap<u64, ClientState>>,
    pub(crate) killed: RefCell<Vec<u64>>,
}

impl TestEnvironment {
    pub(crate) fn new() -> Self {
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

/// A client of a listener, and the command it sends.
pub(crate) struct Fixture {
    pub(crate) env: TestEnvironment,
    pub(crate) client: ClientState,
    pub(crate) outcome: LocalOutcome,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    /// With an environment that `change` has set up.
    pub(crate) fn with(change: impl FnOnce(&mut TestEnvironment)) -> Self {
        let mut env = TestEnvironment::new();
        change(&mut env);
        let client = new_client(5, env.listener.password_required());
        env.client_changed(&client);
        Self {
            env,
            client,
            outcome: LocalOutcome::Reply,
        }
    }

    /// The reply to a command line whose words are separated by single blanks.
    #[track_caller]
    pub(crate) fn run(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.run_words(&words)
    }

    /// The reply to these words, after the checks that the engine makes before.
    #[track_caller]
    pub(crate) fn run_words(&mut self, words: &[&[u8]]) -> String {
        let (mut request, mut decoder, mut out) = (Vec::new(), RequestDecoder::new(), Vec::new());
        write::command(&mut request, words);
        let step = decoder.decode(&request, &RequestLimits::DEFAULT).unwrap();
        assert!(matches!(step, DecodeStep::Command { .. }));
        let args = Args::new(&request, decoder.ranges());
        match lookup(args) {
            Lookup::Known(spec) if spec.arity_ok(args.len()) => {
                self.outcome = answer(spec, args, &mut self.client, &self.env, &mut out);
            }
            Lookup::Known(spec) | Lookup::MissingSubcommand(spec) => {
                write_arity_error(spec, &mut out);
            }
            Lookup::UnknownSubcommand(_) => write_unknown_subcommand(args, &mut out),
            Lookup::UnknownCommand => panic!("{words:?} is no command"),
        }
        String::from_utf8(out).unwrap()
    }
}

/// A client that came from port 40000 + `id` to port 6379.
pub(crate) fn new_client(id: u64, password_required: bool) -> ClientState {
    let port = 40_000 + u16::try_from(id).unwrap();
    let remote = SocketAddr::from(([10, 0, 0, 9], port));
    ClientState::new(
        id,
        remote,
        SocketAddr::from(([10, 0, 0, 1], 6379)),
        password_required,
    )
}

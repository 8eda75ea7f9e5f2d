//! A client in a played environment, and what it is answered.

use std::net::SocketAddr;

use crate::command::{Lookup, lookup, write_arity_error, write_unknown_subcommand};
use crate::local::testing::TestEnvironment;
use crate::local::{Environment, LocalOutcome, answer};
use crate::resp::{Args, DecodeStep, RequestDecoder, RequestLimits, write};
use crate::session::client_state::ClientState;

/// A client of a listener, and the command it sends.
pub(super) struct Fixture {
    pub(super) env: TestEnvironment,
    pub(super) client: ClientState,
    pub(super) outcome: LocalOutcome,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(|_| ())
    }

    /// With an environment that `change` has set up.
    pub(super) fn with(change: impl FnOnce(&mut TestEnvironment)) -> Self {
        let mut env = TestEnvironment::default();
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
    pub(super) fn run(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.run_words(&words)
    }

    /// The reply to these words, after the checks that the engine makes before.
    #[track_caller]
    pub(super) fn run_words(&mut self, words: &[&[u8]]) -> String {
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
pub(super) fn new_client(id: u64, password_required: bool) -> ClientState {
    let port = 40_000 + u16::try_from(id).unwrap();
    let remote = SocketAddr::from(([10, 0, 0, 9], port));
    ClientState::new(
        id,
        remote,
        SocketAddr::from(([10, 0, 0, 1], 6379)),
        password_required,
    )
}

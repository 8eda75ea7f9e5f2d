//! The commands the proxy answers itself, so that a plain client sees one server that holds every key [I1].
//!
//! Everything here is a pure function of the request, the client's state and the [`Environment`]: nothing is sent to a node.
//! The engine calls [`answer`] when the request is at its turn in the session's order [I7], and only for commands of
//! `Class::Local` whose number of arguments fits. Texts are those of the servers (redis 7.0 to 8.2, valkey 9.1); texts of the
//! proxy's own begin with `proxy:`.

mod acl;
mod client;
mod client_filter;
mod client_line;
mod cluster;
mod config_get;
mod connection;
mod environment;
mod help;
mod info;
mod pause;
mod read_policy;
mod records;
mod secret;
mod sentinel;
pub(crate) mod sha1;
mod tracking;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use cluster::refuse_disabled as refuse_cluster_disabled;
pub use connection::choose_database;
pub use environment::{
    Announce, ClientRow, ClusterEmulation, Databases, Environment, ListenerSettings, OnUncertain,
    OutputLimits, Pause, ProcessFacts, PubSubGap, ShardMove, TrackingRow, UpstreamFacts,
};
pub use read_policy::ReadPolicy;
pub use secret::Secret;
pub use sentinel::{SentinelClient, SentinelService, answer_as_sentinel};

use crate::command::{Spec, id, reply_command};
use crate::resp::{Args, write};
use crate::session::client_state::ClientState;

/// Most bytes of an argument that an error repeats.
const QUOTED_BYTES: usize = 128;

/// What the session has to do besides sending the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalOutcome {
    /// Nothing.
    Reply,
    /// Send everything up to and with this reply, then close the connection (QUIT, CLIENT KILL of oneself).
    ReplyThenClose,
    /// RESET: the client's state has been reset; whatever else the session keeps (transaction, subscriptions) must be too.
    ResetSession,
    /// CLIENT PAUSE or UNPAUSE: [`Environment::pause`] has changed.
    PauseChanged,
    /// MONITOR: nothing is written; the session is to acknowledge it at its turn, or to ignore it if it monitors already.
    Monitor,
}

/// One call: what every answer needs.
struct Call<'a> {
    args: Args<'a>,
    client: &'a mut ClientState,
    env: &'a dyn Environment,
    out: &'a mut Vec<u8>,
}

impl<'a> Call<'a> {
    /// Argument `index`, counted from the command name; empty if there is none.
    fn arg(&self, index: usize) -> &'a [u8] {
        self.args.get(index).unwrap_or_default()
    }

    fn ok(&mut self) {
        write::simple(self.out, b"OK");
    }

    fn error(&mut self, text: impl AsRef<[u8]>) {
        write::error(self.out, text.as_ref());
    }

    /// An error that repeats bytes of the client.
    fn error_about(&mut self, before: &str, bytes: &[u8], after: &str) {
        self.error(quote(before, bytes, after));
    }

    fn syntax_error(&mut self) {
        self.error("ERR syntax error");
    }

    /// Text as the servers send it: bulk string in RESP2, verbatim `txt` in RESP3.
    fn text(&mut self, text: &[u8]) {
        write::verbatim(self.out, "txt", text, self.client.protocol);
    }
}

/// Answers a command of `Class::Local`.
///
/// The reply, if there is one, is appended to `out` (CLIENT REPLY OFF and SKIP have none). Whether it may be sent is for
/// [`ClientState::permit_reply`] to say, asked after this call. A client that is not authenticated must not get here except
/// by [`allowed_unauthenticated`].
pub fn answer(
    spec: &Spec,
    args: Args<'_>,
    client: &mut ClientState,
    env: &dyn Environment,
    out: &mut Vec<u8>,
) -> LocalOutcome {
    let mut call = Call {
        args,
        client,
        env,
        out,
    };
    match spec.id {
        id::PING => connection::ping(&mut call),
        id::ECHO => connection::echo(&mut call),
        id::QUIT => return connection::quit(&mut call),
        id::RESET => return connection::reset(&mut call),
        id::TIME => connection::time(&mut call),
        id::SELECT => connection::select(&mut call),
        id::AUTH => connection::auth(&mut call),
        id::HELLO => connection::hello(&mut call),
        id::ASKING => call.ok(),
        id::READONLY => connection::readonly(&mut call, true),
        id::READWRITE => connection::readonly(&mut call, false),
        id::ROLE => connection::role(&mut call),
        id::LOLWUT => connection::lolwut(&mut call),
        id::INFO => info::info(&mut call),
        id::CONFIG_GET => config_get::config_get(&mut call),
        id::CLIENT_KILL => return client::kill(&mut call),
        id::CLIENT_PAUSE => return pause::pause(&mut call),
        id::CLIENT_UNPAUSE => return pause::unpause(&mut call),
        id::MONITOR => return monitor(&mut call),
        _ => answer_container(spec, &mut call),
    }
    LocalOutcome::Reply
}

/// [U15].
fn monitor(call: &mut Call<'_>) -> LocalOutcome {
    if call.env.listener().monitor {
        return LocalOutcome::Monitor;
    }
    call.error("NOPERM proxy: MONITOR is disabled on this listener");
    LocalOutcome::Reply
}

/// The subcommands of the containers.
fn answer_container(spec: &Spec, call: &mut Call<'_>) {
    let (container, subcommand) = spec.name.split_once('|').unwrap_or((spec.name, ""));
    match container {
        "cluster" => cluster::cluster(spec, call),
        "command" => reply_command(
            call.args,
            &call.env.learned(),
            call.client.protocol,
            call.out,
        ),
        _ if subcommand == "help" => help::help(container, spec, call),
        "client" => client::client(spec, call),
        "acl" => acl::acl(spec, call),
        "slowlog" => records::slowlog(spec, call),
        "commandlog" => records::commandlog(spec, call),
        "latency" => records::latency(spec, call),
        _ => write_not_yet(spec, call.out),
    }
}

/// May a client that has not given the password use this command? As on the servers: only to authenticate, reset or leave.
/// The others get `NOAUTH Authentication required.`
#[must_use]
pub fn allowed_unauthenticated(spec: &Spec) -> bool {
    matches!(spec.id, id::AUTH | id::HELLO | id::QUIT | id::RESET)
}

/// The error for a command that the proxy knows but cannot do yet.
pub fn write_not_yet(spec: &Spec, out: &mut Vec<u8>) {
    let text = format!(
        "ERR proxy: command '{}' is not supported by this version of the proxy",
        spec.name
    );
    write::error(out, text.as_bytes());
}

/// Error text around bytes of the client, shortened so that a huge argument makes no huge error; like a C string they end at a NUL.
fn quote(before: &str, bytes: &[u8], after: &str) -> Vec<u8> {
    let shown = bytes.get(..QUOTED_BYTES).unwrap_or(bytes);
    let shown = shown.split(|byte| *byte == 0).next().unwrap_or_default();
    [before.as_bytes(), shown, after.as_bytes()].concat()
}

/// A decimal integer as the servers read one: no blanks, no plus sign, no leading zeros, no minus zero.
fn parse_integer(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let canonical = match digits {
        [] => false,
        [b'0'] => digits.len() == bytes.len(),
        [first, ..] => *first != b'0' && digits.iter().all(u8::is_ascii_digit),
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;

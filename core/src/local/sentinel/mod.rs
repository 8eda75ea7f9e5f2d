//! The proxy as a Sentinel [N27]: clients that ask Sentinels where the primary of a service is are told the proxy's own address, so that
//! they work unchanged. It never changes, so there is no event to tell of, and subscriptions are taken for ever in vain.
//!
//! The words are those of a Sentinel that watches one primary without replicas alone. There are no replicas to name: libraries that
//! want to read from one take the primary then, but for those that check the role of what they connect to, and the proxy is none.

mod instance;
mod subscriptions;

use std::sync::Arc;

use super::{Call, Environment, LocalOutcome, client, connection, help, info};
use crate::command::{
    Lookup, Spec, id, lookup, write_arity_error, write_unknown_command, write_unknown_subcommand,
};
use crate::resp::{Args, write};
use crate::session::client_state::ClientState;
use subscriptions::Subscriptions;

/// What HELLO and INFO say of the kind of server.
const MODE: &str = "sentinel";
const NO_SUCH_SERVICE: &str = "ERR No such master with that name";

/// One service that clients ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentinelService {
    /// Its name.
    pub name: Arc<str>,
    /// Where its clients connect to; `None` is the address at which they have reached this Sentinel.
    pub host: Option<Arc<str>>,
    /// The port there.
    pub port: u16,
    /// The run id that INFO shows there.
    pub run_id: Arc<str>,
}

impl SentinelService {
    /// The host as this client is told.
    fn host(&self, client: &ClientState) -> Arc<str> {
        match &self.host {
            Some(host) => Arc::clone(host),
            // An IPv4 client of an IPv6 socket knows the address as IPv4.
            None => Arc::from(client.local.ip().to_canonical().to_string()),
        }
    }
}

/// A connection of a client.
#[derive(Debug)]
pub struct SentinelClient {
    /// What is kept of every client.
    pub state: ClientState,
    subscriptions: Subscriptions,
}

impl SentinelClient {
    /// One that has just come.
    #[must_use]
    pub fn new(state: ClientState) -> Self {
        Self {
            state,
            subscriptions: Subscriptions::default(),
        }
    }

    /// Whether it waits for events, which may be for ever.
    #[must_use]
    pub fn is_subscribed(&self) -> bool {
        self.subscriptions.count() > 0
    }
}

/// Answers any command as a Sentinel. The reply, if there is one, is appended to `out`.
pub fn answer_as_sentinel(
    args: Args<'_>,
    client: &mut SentinelClient,
    env: &dyn Environment,
    services: &[SentinelService],
    out: &mut Vec<u8>,
) -> LocalOutcome {
    let start = out.len();
    let SentinelClient {
        state,
        subscriptions,
    } = client;
    let call = Call {
        args,
        client: state,
        env,
        out,
    };
    let mut sentinel = Sentinel {
        call,
        subscriptions,
        services,
    };
    let outcome = sentinel.answer();
    if !state.permit_reply() {
        out.truncate(start);
    }
    outcome
}

/// One call.
struct Sentinel<'a> {
    call: Call<'a>,
    subscriptions: &'a mut Subscriptions,
    services: &'a [SentinelService],
}

impl Sentinel<'_> {
    /// What is not here, a Sentinel does not know; then the number of arguments, the password, and whether the client is one that only
    /// listens, in the order of the servers.
    fn answer(&mut self) -> LocalOutcome {
        let args = self.call.args;
        let spec = match lookup(args) {
            Lookup::Known(spec) if is_offered(spec) => spec,
            Lookup::UnknownSubcommand(container) | Lookup::Known(container)
                if is_container(container) =>
            {
                write_unknown_subcommand(args, self.call.out);
                return LocalOutcome::Reply;
            }
            Lookup::MissingSubcommand(container) if is_container(container) => {
                write_arity_error(container, self.call.out);
                return LocalOutcome::Reply;
            }
            _ => {
                write_unknown_command(args, self.call.out);
                return LocalOutcome::Reply;
            }
        };
        if !is_sentinel(spec) && !spec.arity_ok(args.len()) {
            write_arity_error(spec, self.call.out);
        } else if !self.call.client.authenticated && !super::allowed_unauthenticated(spec) {
            self.call.error("NOAUTH Authentication required.");
        } else if self.subscriptions.forbid(spec, self.call.client.protocol) {
            self.call.error(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                spec.name
            ));
        } else {
            return self.carry_out(spec);
        }
        LocalOutcome::Reply
    }

    fn carry_out(&mut self, spec: &Spec) -> LocalOutcome {
        let call = &mut self.call;
        match spec.id {
            id::PING if self.subscriptions.is_listening(call.client.protocol) => {
                write::array(call.out, 2);
                write::bulk(call.out, b"pong");
                write::bulk(call.out, call.args.get(1).unwrap_or_default());
            }
            id::PING => connection::ping(call),
            id::AUTH => connection::auth(call),
            id::HELLO => connection::hello_as(call, MODE, None),
            id::QUIT => return connection::quit(call),
            id::RESET => {
                self.subscriptions.clear();
                return connection::reset(call);
            }
            id::ROLE => self.role(),
            id::INFO => self.info(),
            id::SUBSCRIBE | id::PSUBSCRIBE | id::UNSUBSCRIBE | id::PUNSUBSCRIBE => {
                self.subscriptions.change(spec, call);
            }
            id::COMMAND => write::array(call.out, 0),
            id::COMMAND_COUNT => write::integer(call.out, 0),
            id::COMMAND_DOCS => write::map(call.out, 0, call.client.protocol),
            id::CLIENT_HELP => help::help("client", spec, call),
            _ if is_sentinel(spec) => self.sentinel(),
            _ => client::client(spec, call),
        }
        LocalOutcome::Reply
    }

    fn role(&mut self) {
        let out = &mut *self.call.out;
        write::array(out, 2);
        write::bulk(out, b"sentinel");
        write::array(out, self.services.len());
        for service in self.services {
            write::bulk(out, service.name.as_bytes());
        }
    }

    fn info(&mut self) {
        let call = &mut self.call;
        let (upstream, process) = (call.env.upstream(), call.env.process());
        let mut text = info::Text(String::new());
        if info::is_wanted("server", call) {
            text.section("Server");
            info::server(&mut text, call, (&upstream, &process), MODE);
        }
        if info::is_wanted("clients", call) {
            text.section("Clients");
            text.line("connected_clients", process.connected_clients);
        }
        if info::is_wanted("sentinel", call) {
            text.section("Sentinel");
            text.line("sentinel_masters", self.services.len());
            text.line("sentinel_tilt", 0);
            text.line("sentinel_tilt_since_seconds", -1);
            text.line("sentinel_running_scripts", 0);
            text.line("sentinel_scripts_queue_length", 0);
            text.line("sentinel_simulate_failure_flags", 0);
            for (number, service) in self.services.iter().enumerate() {
                let (name, port) = (&service.name, service.port);
                let host = service.host(call.client);
                text.line(
                    &format!("master{number}"),
                    format_args!(
                        "name={name},status=ok,address={host}:{port},slaves=0,sentinels=1"
                    ),
                );
            }
        }
        call.text(text.0.as_bytes());
    }

    /// SENTINEL, by its subcommand: each has a fixed number of arguments.
    fn sentinel(&mut self) {
        let word = self.call.arg(1).to_ascii_lowercase();
        let wanted = match word.as_slice() {
            b"masters" | b"primaries" | b"myid" | b"help" => 2,
            b"master"
            | b"primary"
            | b"replicas"
            | b"slaves"
            | b"sentinels"
            | b"ckquorum"
            | b"get-master-addr-by-name"
            | b"get-primary-addr-by-name" => 3,
            b"" => {
                return self
                    .call
                    .error("ERR wrong number of arguments for 'sentinel' command");
            }
            _ => return self.refuse(),
        };
        if self.call.args.len() != wanted {
            let word = String::from_utf8_lossy(&word);
            let text = format!("ERR wrong number of arguments for 'sentinel|{word}' command");
            return self.call.error(text);
        }
        let name = self.call.arg(2);
        let service = self.services.iter().find(|it| it.name.as_bytes() == name);
        let call = &mut self.call;
        match (word.as_slice(), service) {
            (b"masters" | b"primaries", _) => {
                write::array(call.out, self.services.len());
                for service in self.services {
                    instance::write(service, call);
                }
            }
            (b"myid", _) => write::bulk(call.out, call.env.process().run_id.as_bytes()),
            (b"help", _) => help::sentinel_help(call),
            (b"get-master-addr-by-name" | b"get-primary-addr-by-name", Some(service)) => {
                write::array(call.out, 2);
                write::bulk(call.out, service.host(call.client).as_bytes());
                write::bulk(call.out, service.port.to_string().as_bytes());
            }
            (b"get-master-addr-by-name" | b"get-primary-addr-by-name", None) => {
                write::null_array(call.out, call.client.protocol);
            }
            (_, None) => call.error(NO_SUCH_SERVICE),
            (b"master" | b"primary", Some(service)) => instance::write(service, call),
            (b"ckquorum", Some(_)) => write::simple(
                call.out,
                b"OK 1 usable Sentinels. Quorum and failover authorization can be reached",
            ),
            // Replicas and other Sentinels: none.
            (_, Some(_)) => write::array(call.out, 0),
        }
    }

    /// What changes or asks for more than a Sentinel without a failover to make can say.
    fn refuse(&mut self) {
        let args = self.call.args;
        if matches!(lookup(args), Lookup::Known(_)) {
            let word = self.call.arg(1).to_ascii_uppercase();
            let after =
                " is not offered: this Sentinel is a proxy, which tells clients its own address";
            self.call.error_about("ERR proxy: SENTINEL ", &word, after);
        } else {
            write_unknown_subcommand(args, self.call.out);
        }
    }
}

fn is_sentinel(spec: &Spec) -> bool {
    spec.name.starts_with("sentinel")
}

fn is_container(spec: &Spec) -> bool {
    let container = spec.name.split('|').next();
    matches!(container, Some("client" | "command" | "sentinel"))
}

/// The commands of a Sentinel that make sense here; of CLIENT those that concern the client itself.
fn is_offered(spec: &Spec) -> bool {
    is_sentinel(spec)
        || matches!(
            spec.id,
            id::PING
                | id::AUTH
                | id::HELLO
                | id::QUIT
                | id::RESET
                | id::ROLE
                | id::INFO
                | id::SUBSCRIBE
                | id::PSUBSCRIBE
                | id::UNSUBSCRIBE
                | id::PUNSUBSCRIBE
                | id::COMMAND
                | id::COMMAND_COUNT
                | id::COMMAND_DOCS
                | id::CLIENT_ID
                | id::CLIENT_INFO
                | id::CLIENT_LIST
                | id::CLIENT_GETNAME
                | id::CLIENT_SETNAME
                | id::CLIENT_SETINFO
                | id::CLIENT_REPLY
                | id::CLIENT_NO_EVICT
                | id::CLIENT_CAPA
                | id::CLIENT_HELP
        )
}

//! Commands about the connection itself: PING, ECHO, QUIT, RESET, TIME, SELECT, AUTH, HELLO, READONLY, ROLE, LOLWUT.

use std::sync::Arc;

use super::{Call, ClusterEmulation, Databases, LocalOutcome, UpstreamFacts, parse_integer, quote};
use crate::resp::{PONG, Protocol, write};
use crate::session::client_state::{ClientState, DEFAULT_USER};

/// What HELLO and INFO say before any server has been met: the oldest release the proxy supports, so that no client relies
/// on more than is there.
pub(super) const UNKNOWN_VERSION: &str = "6.2.0";

const WRONGPASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";
const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const NO_INDEX: &str = "ERR value is out of range, value must between -2147483648 and 2147483647";
/// The servers' words from 7.2 on; 7.0 leaves out `<proto>`.
const HELLO_NOAUTH: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> \
                            AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol \
                            version at the same time";

pub(super) fn ping(call: &mut Call<'_>) {
    match call.args.len() {
        0 | 1 => call.out.extend_from_slice(PONG),
        2 => write::bulk(call.out, call.arg(1)),
        // The arity of PING is open; the servers check its upper bound in the command itself.
        _ => call.error("ERR wrong number of arguments for 'ping' command"),
    }
}

pub(super) fn echo(call: &mut Call<'_>) {
    write::bulk(call.out, call.arg(1));
}

pub(super) fn quit(call: &mut Call<'_>) -> LocalOutcome {
    call.ok();
    LocalOutcome::ReplyThenClose
}

/// [Y11].
pub(super) fn reset(call: &mut Call<'_>) -> LocalOutcome {
    call.client.reset(call.env.listener().password_required());
    call.env.client_changed(call.client);
    write::simple(call.out, b"RESET");
    LocalOutcome::ResetSession
}

pub(super) fn time(call: &mut Call<'_>) {
    let now = call.env.unix_micros();
    write::array(call.out, 2);
    for part in [now / 1_000_000, now % 1_000_000] {
        write::bulk(call.out, itoa::Buffer::new().format(part).as_bytes());
    }
}

/// [N21] [N22]: another database, if the servers have it.
pub(super) fn select(call: &mut Call<'_>) {
    let databases = call.env.upstream().databases.unwrap_or_default();
    match choose_database(call.arg(1), Some(&databases)) {
        Ok(database) => {
            call.client.database = database;
            call.env.client_changed(call.client);
            call.ok();
        }
        Err(text) => call.error(&*text),
    }
}

/// The database that `index`, the argument of SELECT, names, or the servers' error. Without knowledge of how many there are, any that
/// the proxy has a number for.
///
/// # Errors
/// If it names none.
pub fn choose_database(index: &[u8], databases: Option<&Databases>) -> Result<u16, Arc<str>> {
    let index = parse_integer(index).ok_or(NOT_AN_INTEGER)?;
    let index = i32::try_from(index).ok().ok_or(NO_INDEX)?;
    let count = databases.map_or(Databases::MOST, |known| known.count);
    u16::try_from(index)
        .ok()
        .filter(|index| *index == 0 || u32::from(*index) < count)
        .ok_or_else(|| databases.cloned().unwrap_or_default().refusal)
}

/// [Y10]: a flag of the session.
pub(super) fn readonly(call: &mut Call<'_>, on: bool) {
    call.client.readonly = Some(on);
    call.env.client_changed(call.client);
    call.ok();
}

/// A primary at offset 0 without replicas, as the proxy has none to show.
pub(super) fn role(call: &mut Call<'_>) {
    write::array(call.out, 3);
    write::bulk(call.out, b"master");
    write::integer(call.out, 0);
    write::array(call.out, 0);
}

pub(super) fn lolwut(call: &mut Call<'_>) {
    let line = format!("slotway ver. {}\n", call.env.process().version);
    call.text(line.as_bytes());
}

/// What a user name and a password are worth on this listener.
#[derive(PartialEq, Eq)]
enum Credentials {
    Right,
    Wrong,
}

/// The default user without a password accepts any, as on a server (`nopass`).
fn check(call: &Call<'_>, user: &[u8], password: &[u8]) -> Credentials {
    let passwords = &call.env.listener().passwords;
    // Every password is compared, whichever matches: the time must not tell which one did.
    let known = passwords
        .iter()
        .fold(false, |found, secret| found | secret.matches(password));
    if user == DEFAULT_USER && (known || passwords.is_empty()) {
        Credentials::Right
    } else {
        Credentials::Wrong
    }
}

/// A failed AUTH leaves the client as it was.
pub(super) fn auth(call: &mut Call<'_>) {
    let (user, password) = match call.args.len() {
        2 if !call.env.listener().password_required() => {
            return call.error(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            );
        }
        2 => (DEFAULT_USER, call.arg(1)),
        3 => (call.arg(1), call.arg(2)),
        _ => return call.syntax_error(),
    };
    match check(call, user, password) {
        Credentials::Right => {
            authenticate(call.client);
            call.env.client_changed(call.client);
            call.ok();
        }
        Credentials::Wrong => call.error(WRONGPASS),
    }
}

fn authenticate(client: &mut ClientState) {
    client.authenticated = true;
    client.user = None;
}

/// What a HELLO asks for.
#[derive(Default)]
struct Hello<'a> {
    protocol: Option<Protocol>,
    credentials: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

pub(super) fn hello(call: &mut Call<'_>) {
    let mode = mode(call.env.listener().cluster);
    hello_as(call, mode, Some("master"));
}

/// [Y1] [Y2]: everything is checked before anything is changed, so a HELLO is never half applied. A Sentinel has no role.
pub(super) fn hello_as(call: &mut Call<'_>, mode: &str, role: Option<&str>) {
    let upstream = call.env.upstream();
    let wanted = match parse_hello(call, &upstream) {
        Ok(wanted) => wanted,
        Err(text) => return call.error(text),
    };
    match wanted.credentials {
        Some((user, password)) if check(call, user, password) == Credentials::Wrong => {
            return call.error(WRONGPASS);
        }
        Some(_) => authenticate(call.client),
        None if !call.client.authenticated => return call.error(HELLO_NOAUTH),
        None => {}
    }
    if let Some(protocol) = wanted.protocol {
        call.client.protocol = protocol;
    }
    if let Some(name) = wanted.name {
        call.client.name = name.to_vec();
    }
    call.env.client_changed(call.client);
    write_hello(call, &upstream, mode, role);
}

fn parse_hello<'a>(call: &Call<'a>, upstream: &UpstreamFacts) -> Result<Hello<'a>, Vec<u8>> {
    let mut wanted = Hello::default();
    if call.args.len() < 2 {
        return Ok(wanted);
    }
    wanted.protocol = match parse_integer(call.arg(1)) {
        Some(2) => Some(Protocol::Resp2),
        Some(3) if upstream.resp3 => Some(Protocol::Resp3),
        Some(_) => return Err(b"NOPROTO unsupported protocol version".to_vec()),
        None => return Err(b"ERR Protocol version is not an integer or out of range".to_vec()),
    };
    let mut options = call.args.iter().skip(2);
    while let Some(option) = options.next() {
        let mut value = || options.next().ok_or_else(|| hello_option_error(option));
        if option.eq_ignore_ascii_case(b"AUTH") {
            wanted.credentials = Some((value()?, value()?));
        } else if option.eq_ignore_ascii_case(b"SETNAME") {
            let name = value()?;
            if !is_plain(name) {
                return Err(BAD_NAME.into());
            }
            wanted.name = Some(name);
        } else {
            return Err(hello_option_error(option));
        }
    }
    Ok(wanted)
}

/// Names only the option's word, so that a password in the wrong place is not repeated [Z7].
fn hello_option_error(option: &[u8]) -> Vec<u8> {
    quote("ERR Syntax error in HELLO option '", option, "'")
}

fn write_hello(call: &mut Call<'_>, upstream: &UpstreamFacts, mode: &str, role: Option<&str>) {
    let protocol = call.client.protocol;
    let (server, version) = match (&upstream.valkey_version, &upstream.redis_version) {
        (Some(version), _) => ("valkey", version.as_ref()),
        (None, Some(version)) => ("redis", version.as_ref()),
        (None, None) => ("redis", UNKNOWN_VERSION),
    };
    let out = &mut *call.out;
    write::map(out, 6 + usize::from(role.is_some()), protocol);
    write::bulk(out, b"server");
    write::bulk(out, server.as_bytes());
    write::bulk(out, b"version");
    write::bulk(out, version.as_bytes());
    write::bulk(out, b"proto");
    write::integer(out, i64::from(protocol.version()));
    write::bulk(out, b"id");
    write::integer(out, i64::try_from(call.client.id).unwrap_or(i64::MAX));
    write::bulk(out, b"mode");
    write::bulk(out, mode.as_bytes());
    if let Some(role) = role {
        write::bulk(out, b"role");
        write::bulk(out, role.as_bytes());
    }
    write::bulk(out, b"modules");
    write::array(out, 0);
}

/// What HELLO and INFO say of the kind of server [I1].
pub(super) fn mode(emulation: ClusterEmulation) -> &'static str {
    match emulation {
        ClusterEmulation::Off | ClusterEmulation::Commands => "standalone",
        ClusterEmulation::Full => "cluster",
    }
}

/// The rule for client names and library attributes: printable ASCII without blanks.
pub(super) fn is_plain(name: &[u8]) -> bool {
    name.iter().all(u8::is_ascii_graphic)
}

/// CLIENT SETNAME and the SETNAME option of HELLO.
pub(super) fn set_name(call: &mut Call<'_>) {
    let name = call.arg(2);
    if !is_plain(name) {
        return call.error(BAD_NAME);
    }
    call.client.name = name.to_vec();
    call.env.client_changed(call.client);
    call.ok();
}

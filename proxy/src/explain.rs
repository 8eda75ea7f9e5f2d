//! `slotway explain`: how a command is routed, without running it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args as ClapArgs;
use serde_json::Value;
use slotway_core::command::{
    Class, KeyList, KeyOutcome, Lookup, Spec, effective_class, extract_keys, lookup,
    write_arity_error, write_unknown_command, write_unknown_subcommand,
};
use slotway_core::resp::{ArgRange, Args};
use slotway_core::slot::Slot;

use crate::cli::UsageError;

/// Time allowed for each step of asking a running proxy.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(3);
/// A topology of some thousand nodes is a few MiB.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// Arguments of `slotway explain`.
#[derive(Debug, ClapArgs)]
pub(crate) struct ExplainArgs {
    /// Ask the proxy with this admin endpoint to which nodes the command would go.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) admin: Option<String>,
    /// The command and its arguments, as for redis-cli. --admin may also be given at the end.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub(crate) command: Vec<String>,
}

/// Writes how the command is routed.
pub(crate) fn explain(mut arguments: ExplainArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    take_trailing_admin(&mut arguments);
    let (buffer, ranges) = encode(&arguments.command)?;
    let args = Args::new(&buffer, &ranges);
    let spec = find(args)?;
    let class = effective_class(spec, args);
    let nodes = arguments.admin.as_deref().map(Topology::ask).transpose()?;
    writeln!(
        out,
        "command  {}{}",
        spec.name.replace('|', " "),
        if spec.readonly { " (only reads)" } else { "" }
    )?;
    writeln!(out, "class    {}", describe(class))?;
    let (outcome, keys) = keys(spec, args);
    if outcome == KeyOutcome::OddArguments {
        return Err(refused(|error| write_arity_error(spec, error)));
    }
    for key in &keys {
        let slot = Slot::of_key(key);
        write!(
            out,
            "key      \"{}\"  slot {}",
            key.escape_ascii(),
            slot.get()
        )?;
        match &nodes {
            Some(topology) => writeln!(out, "  {}", topology.owner(slot))?,
            None => writeln!(out)?,
        }
    }
    if let Some(verdict) = verdict(class, outcome, &keys) {
        writeln!(out, "so       {verdict}")?;
    }
    Ok(0)
}

/// `--admin ADDR` after the command is meant for us: no command ends like that.
fn take_trailing_admin(arguments: &mut ExplainArgs) {
    let words = &mut arguments.command;
    if arguments.admin.is_some() {
        return;
    }
    if let Some(address) = words
        .last()
        .and_then(|last| last.strip_prefix("--admin="))
        .map(str::to_owned)
    {
        words.pop();
        arguments.admin = Some(address);
    } else if words.len() > 2 && words[words.len() - 2] == "--admin" {
        arguments.admin = words.pop();
        words.pop();
    }
}

/// The words one after another, with the place of each.
fn encode(words: &[String]) -> anyhow::Result<(Vec<u8>, Vec<ArgRange>)> {
    let mut buffer = Vec::new();
    let mut ranges = Vec::new();
    for word in words {
        ranges.push(ArgRange {
            start: u32::try_from(buffer.len())?,
            len: u32::try_from(word.len())?,
        });
        buffer.extend_from_slice(word.as_bytes());
    }
    Ok((buffer, ranges))
}

fn find(args: Args<'_>) -> anyhow::Result<&'static Spec> {
    match lookup(args) {
        Lookup::Known(spec) if spec.arity_ok(args.len()) => Ok(spec),
        Lookup::Known(spec) | Lookup::MissingSubcommand(spec) => {
            Err(refused(|error| write_arity_error(spec, error)))
        }
        // What the proxy learns from its servers is not known here.
        Lookup::UnknownCommand => {
            let refused = refused(|error| write_unknown_command(args, error));
            let text = format!("{refused} (unless its servers tell of such a command)");
            Err(UsageError::Other(text).into())
        }
        Lookup::UnknownSubcommand(_) => Err(refused(|error| write_unknown_subcommand(args, error))),
    }
}

/// The command is one that the proxy answers with this error.
fn refused(write: impl FnOnce(&mut Vec<u8>)) -> anyhow::Error {
    let mut error = Vec::new();
    write(&mut error);
    let text = String::from_utf8_lossy(&error);
    let text = text.trim_start_matches('-').trim_end();
    UsageError::Other(format!("the proxy would answer: {text}")).into()
}

fn keys<'a>(spec: &Spec, args: Args<'a>) -> (KeyOutcome, Vec<&'a [u8]>) {
    let mut list = KeyList::new();
    let outcome = extract_keys(spec, args, &mut list);
    let places = match outcome {
        KeyOutcome::Keys => list.as_slice(),
        KeyOutcome::NoKeys
        | KeyOutcome::Verbatim
        | KeyOutcome::AskServer
        | KeyOutcome::OddArguments => &[],
    };
    let key = |index: &u32| args.get(usize::try_from(*index).ok()?);
    (outcome, places.iter().filter_map(key).collect())
}

const fn describe(class: Class) -> &'static str {
    match class {
        Class::Single => "one key: goes to the owner of its slot",
        Class::SameSlot => "several keys that must share a slot",
        Class::Split => {
            "several keys: split by slot, the parts run at the same time, the replies are merged"
        }
        Class::FanMasters => "goes to every primary, the replies are merged",
        Class::FanOne => "goes to any one primary",
        Class::Scan => "goes to the primary that its cursor leads to",
        Class::Transaction => {
            "transaction: put together by the proxy, sent to one node at EXEC; WATCH keeps a connection to that node until then"
        }
        Class::Blocking => {
            "may wait at the server: goes to the owner of its slot over a connection of its own"
        }
        Class::PubSub | Class::ShardedPubSub => {
            "subscribed to once for all clients, at a primary or at the owner of the slot"
        }
        Class::Local => "answered by the proxy",
        Class::Container => "only its subcommands do something",
        Class::Forbidden => "refused by the proxy",
    }
}

/// What the keys come to for this class, where that is not plain.
fn verdict(class: Class, outcome: KeyOutcome, keys: &[&[u8]]) -> Option<String> {
    if matches!(
        class,
        Class::Single | Class::SameSlot | Class::Split | Class::Blocking
    ) {
        match outcome {
            KeyOutcome::NoKeys => return Some("it has no key: goes to any one primary".to_owned()),
            KeyOutcome::Verbatim => {
                return Some(
                    "its keys cannot be found: goes to any one primary, which says what is wrong"
                        .to_owned(),
                );
            }
            KeyOutcome::Keys | KeyOutcome::AskServer | KeyOutcome::OddArguments => {}
        }
    }
    let mut slots: Vec<_> = keys.iter().map(|key| Slot::of_key(key)).collect();
    slots.sort_unstable();
    slots.dedup();
    match (class, slots.len()) {
        (Class::Split, 0 | 1) if !keys.is_empty() => Some("all keys share a slot: sent whole, to one node".to_owned()),
        (Class::Split, slots) if slots > 1 => Some(format!("split into {slots} parts, one per slot; not atomic as a whole (CROSSSLOT where the listener has split = false)")),
        (Class::SameSlot | Class::Blocking | Class::Transaction, slots) if slots > 1 => {
            Some("refused with CROSSSLOT: the keys have different slots. Give them a common {tag}, as in {user1}:a {user1}:b".to_owned())
        }
        _ => None,
    }
}

/// The `/topology` of a running proxy.
struct Topology(Value);

impl Topology {
    fn ask(admin: &str) -> anyhow::Result<Self> {
        let body = get(admin, "/topology")
            .with_context(|| format!("cannot ask the admin endpoint {admin}"))?;
        Ok(Self(serde_json::from_slice(&body).with_context(|| {
            format!("{admin} does not answer as an admin endpoint of slotway")
        })?))
    }

    /// Address and id of the slot's primary; in each upstream, if they have names.
    fn owner(&self, slot: Slot) -> String {
        let Some(upstreams) = self.0["upstreams"].as_array() else {
            return Self::owner_in(&self.0, slot);
        };
        let owners = upstreams.iter().map(|upstream| {
            let name = upstream["name"].as_str().unwrap_or("?");
            format!("{name}: {}", Self::owner_in(upstream, slot))
        });
        owners.collect::<Vec<_>>().join("; ")
    }

    fn owner_in(upstream: &Value, slot: Slot) -> String {
        let slot = u64::from(slot.get());
        let owns = |shard: &&Value| {
            let ranges = shard["slots"].as_array().into_iter().flatten();
            ranges
                .filter_map(|range| Some(range[0].as_u64()?..=range[1].as_u64()?))
                .any(|range| range.contains(&slot))
        };
        let shard = upstream["shards"]
            .as_array()
            .and_then(|shards| shards.iter().find(owns));
        let Some(primary) = shard.map(|shard| &shard["primary"]) else {
            return "no node owns the slot".to_owned();
        };
        let text = |field: &str| primary[field].as_str().unwrap_or("?").to_owned();
        format!(
            "node {} ({}, {})",
            text("address"),
            text("id"),
            text("state")
        )
    }
}

/// The body of a GET, by the smallest HTTP client that will do: HTTP/1.0, so that the end of the body is the end of the stream.
fn get(authority: &str, path: &str) -> anyhow::Result<Vec<u8>> {
    let authority = authority
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let addresses: Vec<SocketAddr> = authority.to_socket_addrs()?.collect();
    let mut failure = anyhow::anyhow!("the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, ADMIN_TIMEOUT) {
            Ok(stream) => return exchange(stream, authority, path),
            Err(error) => failure = error.into(),
        }
    }
    Err(failure)
}

fn exchange(mut stream: TcpStream, authority: &str, path: &str) -> anyhow::Result<Vec<u8>> {
    stream.set_read_timeout(Some(ADMIN_TIMEOUT))?;
    stream.set_write_timeout(Some(ADMIN_TIMEOUT))?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    let end_of_head = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("not an HTTP answer")?;
    let body = answer.split_off(end_of_head + 4);
    let status = answer
        .split(|byte| *byte == b' ')
        .nth(1)
        .unwrap_or_default();
    if status != b"200" {
        bail!(
            "status {}: {}",
            String::from_utf8_lossy(status),
            String::from_utf8_lossy(&body).trim()
        );
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn explained(line: &str) -> String {
        let command = line.split(' ').map(str::to_owned).collect();
        let mut out = Vec::new();
        explain(
            ExplainArgs {
                admin: None,
                command,
            },
            &mut out,
        )
        .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn keys_and_slots_are_shown() {
        assert_eq!(
            explained("get foo"),
            "command  get (only reads)\nclass    one key: goes to the owner of its slot\nkey      \"foo\"  slot 12182\n"
        );
        let split = explained("MGET foo bar {foo}x");
        assert!(
            split.contains("\"bar\"  slot 5061\n") && split.contains("\"{foo}x\"  slot 12182\n"),
            "{split}"
        );
        assert!(
            split.ends_with("so       split into 2 parts, one per slot; not atomic as a whole (CROSSSLOT where the listener has split = false)\n"),
            "{split}"
        );
        assert!(explained("MGET {foo}a {foo}b").contains("sent whole, to one node"));
        assert!(explained("SINTER foo bar").contains("refused with CROSSSLOT"));
        assert!(explained("DBSIZE").contains("every primary"));
        assert!(
            explained("EVAL return_1 0")
                .ends_with("so       it has no key: goes to any one primary\n")
        );
        assert!(explained("EVAL return_1 x k").contains("its keys cannot be found"));
        assert!(
            explained("CLIENT ID")
                .starts_with("command  client id\nclass    answered by the proxy\n")
        );
    }

    #[test]
    fn what_the_proxy_would_refuse_is_a_usage_error() {
        for (line, text) in [
            (
                "GET",
                "the proxy would answer: ERR wrong number of arguments for 'get' command",
            ),
            (
                "MSET a 1 b",
                "the proxy would answer: ERR wrong number of arguments for 'mset' command",
            ),
            (
                "NOSUCH x",
                "the proxy would answer: ERR unknown command 'NOSUCH'",
            ),
        ] {
            let command = line.split(' ').map(str::to_owned).collect();
            let error = explain(
                ExplainArgs {
                    admin: None,
                    command,
                },
                &mut Vec::new(),
            )
            .unwrap_err();
            assert!(
                error.is::<UsageError>() && error.to_string().starts_with(text),
                "{error}"
            );
        }
    }

    #[test]
    fn admin_may_come_last() {
        for words in [
            ["GET", "k", "--admin=h:1", ""],
            ["GET", "k", "--admin", "h:1"],
        ] {
            let command = words
                .iter()
                .filter(|word| !word.is_empty())
                .map(|word| (*word).to_owned())
                .collect();
            let mut arguments = ExplainArgs {
                admin: None,
                command,
            };
            take_trailing_admin(&mut arguments);
            assert_eq!(arguments.admin.as_deref(), Some("h:1"));
            assert_eq!(arguments.command, ["GET", "k"]);
        }
    }

    #[test]
    fn the_node_comes_from_a_running_proxy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            assert!(request.starts_with(b"GET /topology HTTP/1.0\r\n"));
            let body = r#"{"shards":[{"slots":[[0,100],[12000,13000]],"primary":{"id":"aa","address":"h:7","state":"ok"}}]}"#;
            stream
                .write_all(format!("HTTP/1.0 200 OK\r\n\r\n{body}").as_bytes())
                .unwrap();
        });
        let mut out = Vec::new();
        let command = ["MGET", "foo", "bar"].map(str::to_owned).to_vec();
        explain(
            ExplainArgs {
                admin: Some(admin),
                command,
            },
            &mut out,
        )
        .unwrap();
        server.join().unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(
            out.contains("\"foo\"  slot 12182  node h:7 (aa, ok)\n"),
            "{out}"
        );
        assert!(
            out.contains("\"bar\"  slot 5061  no node owns the slot\n"),
            "{out}"
        );
    }

    #[test]
    fn the_owner_in_each_upstream_is_told_by_its_name() {
        let shard = r#"{"slots":[[0,16383]],"primary":{"id":"aa","address":"h:7","state":"ok"}}"#;
        let page = format!(
            r#"{{"upstreams":[{{"name":"a","shards":[{shard}]}},{{"name":"b","shards":[]}}]}}"#
        );
        let topology = Topology(serde_json::from_str(&page).unwrap());
        assert_eq!(
            topology.owner(Slot::of_key(b"foo")),
            "a: node h:7 (aa, ok); b: no node owns the slot"
        );
    }
}

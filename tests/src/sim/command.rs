//! What a played node is sent, and what it makes of it.

use super::profile::{KEYS, KEYS_PER_SLOT};
use super::topics::Kind;
use super::wire::number;

/// A command as a node received it.
#[derive(Debug, Clone)]
pub(super) enum Command {
    Hello,
    Ping,
    SetName,
    MyId,
    /// CLIENT ID.
    Number,
    /// CLIENT INFO.
    Address,
    /// CLIENT KILL ID, with an address or without.
    Kill(Named),
    Asking,
    ReadOnly,
    /// What the node is and owns, which comes with a SCAN.
    Facts,
    Multi,
    Exec,
    Unwatch,
    Select(usize),
    /// A subscription begins or ends.
    Subscription(Kind, bool, String),
    Data(Data),
    Unknown(String),
}

/// The number of a connection, and the process that gave it, as its address tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    pub(super) number: usize,
    pub(super) process: Option<usize>,
}

/// A command of a client, or a part of one.
#[derive(Debug, Clone)]
pub(super) struct Data {
    pub(super) name: Name,
    /// Key numbers; [`KEYS`] stands for the key that only carries the mark.
    pub(super) keys: Vec<usize>,
    pub(super) request: Option<usize>,
    /// How long it may wait at the node, in microseconds; [`FOR_EVER`] for as long as it takes.
    pub(super) wait: u64,
    /// What it publishes to.
    pub(super) channel: Option<String>,
}

/// A command that waits until something comes.
pub(super) const FOR_EVER: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Write,
    Read,
    Script,
    Mset,
    Delete,
    Count,
    Mget,
    Get,
    Publish,
    /// To a sharded channel.
    PublishThere,
    Flush,
    Size,
    Keys,
    Scan,
    Watch,
    /// Takes an element, or waits for one.
    Pop,
    /// Shows an element, or waits for one.
    Await,
}

impl Data {
    /// Which part of its request this is.
    pub(super) fn part(&self) -> usize {
        self.keys.first().map_or(0, |key| key / KEYS_PER_SLOT)
    }

    pub(super) const fn is_write(&self) -> bool {
        matches!(
            self.name,
            Name::Write | Name::Script | Name::Mset | Name::Delete | Name::Flush | Name::Pop
        )
    }

    /// Whether any node with the data may answer it.
    pub(super) fn is_plain_read(&self) -> bool {
        let reads = matches!(self.name, Name::Read | Name::Get | Name::Mget | Name::Count);
        reads && !self.keys.is_empty()
    }

    /// Whether it may wait at the node.
    pub(super) const fn may_wait(&self) -> bool {
        matches!(self.name, Name::Pop | Name::Await)
    }

    /// Whether only the connection of one client may carry it.
    pub(super) const fn is_private(&self) -> bool {
        self.may_wait() || matches!(self.name, Name::Watch)
    }
}

/// The key number behind the tag of `name`, and the request it marks if it is a key that only does that.
fn key(name: &[u8]) -> Option<(usize, Option<usize>)> {
    let end = name.iter().position(|byte| *byte == b'}')?;
    match name.get(end + 1..)? {
        [b'u', mark @ ..] => Some((KEYS, Some(number(mark)?))),
        key => Some((number(key)?, None)),
    }
}

impl Command {
    pub(super) fn parse(arguments: &[&[u8]]) -> Self {
        Self::known(arguments).unwrap_or_else(|| {
            Self::Unknown(format!(
                "{:?}",
                arguments.first().map(|name| String::from_utf8_lossy(name))
            ))
        })
    }

    /// What a connection says of itself, or has done to another one.
    fn client(arguments: &[&[u8]]) -> Option<Self> {
        let at = |index: usize| arguments.get(index).copied();
        Some(match at(1)? {
            b"SETNAME" => Self::SetName,
            b"ID" => Self::Number,
            b"INFO" => Self::Address,
            b"KILL" => {
                let address = at(5).map(|address| address.strip_prefix(b"process:"));
                Self::Kill(Named {
                    number: number(at(3)?)?,
                    process: match address {
                        Some(process) => Some(number(process?)?),
                        None => None,
                    },
                })
            }
            _ => return None,
        })
    }

    fn known(arguments: &[&[u8]]) -> Option<Self> {
        let at = |index: usize| arguments.get(index).copied();
        let data = |name, keys: &[&[u8]], request: Option<usize>| {
            let keys: Option<Vec<_>> = keys.iter().map(|name| key(name)).collect();
            let keys = keys?;
            let request = request.or_else(|| keys.iter().find_map(|(_, mark)| *mark));
            Some(Self::Data(Data {
                name,
                keys: keys.into_iter().map(|(key, _)| key).collect(),
                request,
                wait: FOR_EVER,
                channel: None,
            }))
        };
        let waiting = |name, keys: &[&[u8]], wait: u64| {
            let Some(Self::Data(waiting)) = data(name, keys, None) else {
                return None;
            };
            let wait = if wait == 0 { FOR_EVER } else { wait };
            Some(Self::Data(Data { wait, ..waiting }))
        };
        let mark = |index: usize| number(at(index)?);
        match at(0)? {
            b"HELLO" => Some(Self::Hello),
            b"PING" => Some(Self::Ping),
            b"CLIENT" => Self::client(arguments),
            b"CLUSTER" if at(1)? == b"NODES" => Some(Self::Facts),
            b"INFO" => Some(Self::Facts),
            b"CLUSTER" => Some(Self::MyId),
            b"ASKING" => Some(Self::Asking),
            b"READONLY" => Some(Self::ReadOnly),
            b"MULTI" => Some(Self::Multi),
            b"EXEC" => Some(Self::Exec),
            b"UNWATCH" => Some(Self::Unwatch),
            b"SELECT" => Some(Self::Select(mark(1)?)),
            b"WATCH" => data(Name::Watch, arguments.get(1..)?, None),
            b"BLPOP" => waiting(Name::Pop, arguments.get(1..3)?, seconds(at(3)?)?),
            b"BLMOVE" => waiting(Name::Pop, arguments.get(1..3)?, seconds(at(5)?)?),
            b"BLMPOP" => waiting(Name::Pop, arguments.get(3..5)?, seconds(at(1)?)?),
            b"XREAD" => {
                let milliseconds: u64 = number(at(2)?)?;
                waiting(Name::Await, arguments.get(4..6)?, milliseconds * 1000)
            }
            b"SET" | b"APPEND" | b"INCRBY" => data(Name::Write, &[at(1)?], mark(2)),
            b"GETRANGE" => data(Name::Read, &[at(1)?], mark(2)),
            b"GET" => data(Name::Get, &[at(1)?], None),
            b"EVAL" => {
                let keys: usize = mark(2)?;
                data(Name::Script, arguments.get(3..3 + keys)?, mark(3 + keys))
            }
            b"MSET" => {
                let keys: Vec<&[u8]> = arguments.get(1..)?.iter().copied().step_by(2).collect();
                data(Name::Mset, &keys, mark(2))
            }
            b"MGET" => data(Name::Mget, arguments.get(1..)?, None),
            b"DEL" | b"UNLINK" => data(Name::Delete, arguments.get(1..)?, None),
            b"EXISTS" | b"TOUCH" => data(Name::Count, arguments.get(1..)?, None),
            b"PUBLISH" => to_channel(data(Name::Publish, &[], mark(2))?, at(1)?),
            b"SPUBLISH" => to_channel(data(Name::PublishThere, &[at(1)?], mark(2))?, at(1)?),
            b"FLUSHALL" => data(Name::Flush, &[], mark(1)),
            b"DBSIZE" => data(Name::Size, &[], None),
            b"KEYS" => data(Name::Keys, &[], mark(1)),
            b"SCAN" => data(Name::Scan, &[], mark(3)),
            word => {
                let (kind, begins) = Kind::of_command(word)?;
                let name = String::from_utf8(at(1)?.to_vec()).ok()?;
                let is_one = arguments.len() == 2;
                is_one.then_some(Self::Subscription(kind, begins, name))
            }
        }
    }
}

fn to_channel(command: Command, channel: &[u8]) -> Option<Command> {
    let Command::Data(data) = command else {
        return None;
    };
    let channel = String::from_utf8(channel.to_vec()).ok();
    Some(Command::Data(Data { channel, ..data }))
}

/// A number of seconds, whole or not, in microseconds.
fn seconds(text: &[u8]) -> Option<u64> {
    let seconds: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let time = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    u64::try_from(time.as_micros()).ok()
}

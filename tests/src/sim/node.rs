//! How a played node answers a command: as a cluster node would, in its own view of the cluster.

use fastrand::Rng;

use super::cluster::Cluster;
use super::model::{Model, Violation};
use super::profile::{HOT_SLOTS, KEYS, KEYS_PER_SLOT, TAGS};
use super::wire::{Mark, number};

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
    Multi,
    Exec,
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
    name: Name,
    /// Key numbers; [`KEYS`] stands for the key that only carries the mark.
    keys: Vec<usize>,
    pub(super) request: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Write,
    Read,
    Script,
    Mset,
    Delete,
    Count,
    Mget,
    Get,
    Publish,
    Flush,
    Size,
    Keys,
    Scan,
}

impl Data {
    /// Which part of its request this is.
    pub(super) fn part(&self) -> usize {
        self.keys.first().map_or(0, |key| key / KEYS_PER_SLOT)
    }

    const fn is_write(&self) -> bool {
        matches!(
            self.name,
            Name::Write | Name::Script | Name::Mset | Name::Delete | Name::Flush
        )
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
            }))
        };
        let mark = |index: usize| number(at(index)?);
        match at(0)? {
            b"HELLO" => Some(Self::Hello),
            b"PING" => Some(Self::Ping),
            b"CLIENT" => match at(1)? {
                b"SETNAME" => Some(Self::SetName),
                b"ID" => Some(Self::Number),
                b"INFO" => Some(Self::Address),
                b"KILL" => {
                    let address = at(5).map(|address| address.strip_prefix(b"process:"));
                    Some(Self::Kill(Named {
                        number: mark(3)?,
                        process: match address {
                            Some(process) => Some(number(process?)?),
                            None => None,
                        },
                    }))
                }
                _ => None,
            },
            b"CLUSTER" => Some(Self::MyId),
            b"ASKING" => Some(Self::Asking),
            b"MULTI" => Some(Self::Multi),
            b"EXEC" => Some(Self::Exec),
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
            b"PUBLISH" => data(Name::Publish, &[], mark(2)),
            b"FLUSHALL" => data(Name::Flush, &[], mark(1)),
            b"DBSIZE" => data(Name::Size, &[], None),
            b"KEYS" => data(Name::Keys, &[], mark(1)),
            b"SCAN" => data(Name::Scan, &[], mark(3)),
            _ => None,
        }
    }
}

/// What else decides about an answer.
pub(super) struct Context<'a> {
    pub(super) cluster: &'a mut Cluster,
    pub(super) model: &'a mut Model,
    pub(super) rng: &'a mut Rng,
    pub(super) now: u64,
    pub(super) node: usize,
    pub(super) resp3: bool,
    /// The engine has given the connection up; the slots that the node ceased to own since then.
    pub(super) late: Option<[bool; HOT_SLOTS]>,
}

impl Context<'_> {
    /// Executes or refuses `data`; appends the reply.
    pub(super) fn serve(
        &mut self,
        data: &Data,
        asking: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        if let Some(refusal) = self.admission(data, asking) {
            self.note_redirection(data, asking, &refusal)?;
            out.extend_from_slice(format!("-{refusal}\r\n").as_bytes());
            return Ok(());
        }
        if self.late.is_some_and(|lost| self.has_no_effect(data, lost)) {
            return Ok(());
        }
        let execution = self.execute(data)?;
        self.note_keys(data);
        self.reply(data, execution, out);
        Ok(())
    }

    /// A command of a transaction: refused now, or executed with it.
    pub(super) fn queue(
        &mut self,
        data: &Data,
        asking: bool,
        out: &mut Vec<u8>,
    ) -> Result<bool, Violation> {
        let Some(refusal) = self.admission(data, asking) else {
            out.extend_from_slice(b"+QUEUED\r\n");
            return Ok(true);
        };
        self.note_redirection(data, asking, &refusal)?;
        out.extend_from_slice(format!("-{refusal}\r\n").as_bytes());
        Ok(false)
    }

    /// Executes a transaction as one, or refuses it; appends the reply to EXEC.
    pub(super) fn serve_transaction(
        &mut self,
        commands: &[Data],
        asking: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        let writes = commands.iter().any(Data::is_write);
        let whole = Data {
            name: if writes { Name::Write } else { Name::Read },
            keys: commands.iter().flat_map(|data| data.keys.clone()).collect(),
            request: commands.first().and_then(|data| data.request),
        };
        if let Some(refusal) = self.admission(&whole, asking) {
            self.note_redirection(&whole, asking, &refusal)?;
            out.extend_from_slice(format!("-{refusal}\r\n").as_bytes());
            return Ok(());
        }
        if self
            .late
            .is_some_and(|lost| self.has_no_effect(&whole, lost))
        {
            return Ok(());
        }
        let execution = self.execute(&whole)?;
        out.extend_from_slice(format!("*{}\r\n", commands.len()).as_bytes());
        for data in commands {
            self.note_keys(data);
            self.reply(data, execution, out);
        }
        Ok(())
    }

    /// The number of the execution.
    fn execute(&mut self, data: &Data) -> Result<u64, Violation> {
        match data.request {
            Some(request) if self.late.is_some() => {
                self.model.execute_late(request, data.part(), &data.keys)
            }
            Some(request) => self.model.execute(request, data.part(), &data.keys),
            None => Ok(0),
        }
    }

    /// Which keys are there now.
    fn note_keys(&mut self, data: &Data) {
        let peer = &mut self.cluster.peers[self.node];
        for key in data.keys.iter().filter(|key| **key < KEYS) {
            match data.name {
                Name::Write | Name::Script | Name::Mset => peer.holds[*key] = true,
                Name::Delete => peer.holds[*key] = false,
                _ => {}
            }
        }
    }

    /// What a node that is no owner any more executes is lost when it follows the new one. Keyless commands are let off: no fence can
    /// order them against other nodes.
    fn has_no_effect(&self, data: &Data, lost: [bool; HOT_SLOTS]) -> bool {
        let hot = data
            .keys
            .iter()
            .find(|key| **key < KEYS)
            .map(|key| key / KEYS_PER_SLOT);
        hot.is_none_or(|hot| lost[hot] || self.cluster.owner_of_hot(hot) != Some(self.node))
    }

    /// Whether a node that has paused writes holds `data` now. What it would refuse, it refuses at once.
    pub(super) fn is_held(&self, data: &Data, asking: bool) -> bool {
        let may_write = data.is_write() || data.name == Name::Publish;
        self.cluster.peers[self.node].paused > self.now
            && may_write
            && self.admission(data, asking).is_none()
    }

    /// The checks before a command runs: `getNodeByQuery` and `processCommand` of the servers.
    fn admission(&self, data: &Data, asking: bool) -> Option<String> {
        let peer = &self.cluster.peers[self.node];
        if peer.loading > self.now {
            return Some("LOADING Redis is loading the dataset in memory".to_owned());
        }
        if let Some(refusal) = self.redirection(data, asking) {
            return Some(refusal);
        }
        if peer.orphaned > self.now {
            return Some(
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
                    .to_owned(),
            );
        }
        let replica =
            peer.demoted > self.now || (data.keys.is_empty() && peer.replica_of.is_some());
        (replica && data.is_write())
            .then(|| "READONLY You can't write against a read only replica.".to_owned())
    }

    fn redirection(&self, data: &Data, asking: bool) -> Option<String> {
        let first = *data.keys.iter().find(|key| **key < KEYS)?;
        let peer = &self.cluster.peers[self.node];
        let hot = first / KEYS_PER_SLOT;
        let slot = self.cluster.hot[hot];
        if peer.down > self.now {
            return Some("CLUSTERDOWN The cluster is down".to_owned());
        }
        let owner = self.cluster.owner_by(self.node, slot);
        let real = || data.keys.iter().filter(|key| **key < KEYS);
        let absent = real().filter(|key| !peer.holds[**key]).count();
        let several = real().any(|key| *key != first);
        let address = |node: usize| {
            let target = &self.cluster.peers[node];
            match self.now % 5 {
                0 if target.old_port != target.port => target.old_port,
                _ => target.port,
            }
        };
        match owner {
            None => Some("CLUSTERDOWN Hash slot not served".to_owned()),
            Some(owner) if owner == self.node => match peer.migrating[hot] {
                Some(target) if absent == real().count() => {
                    Some(format!("ASK {slot} 127.0.0.1:{}", address(target)))
                }
                Some(_) if absent > 0 => {
                    Some("TRYAGAIN Multiple keys request during rehashing of slot".to_owned())
                }
                _ => None,
            },
            Some(_) if peer.importing[hot].is_some() && asking => (several && absent > 0)
                .then(|| "TRYAGAIN Multiple keys request during rehashing of slot".to_owned()),
            Some(owner) => Some(match self.now % 7 {
                0 if self.now.is_multiple_of(5) => format!("MOVED {slot} ?:{}", address(owner)),
                0 => format!("MOVED {slot} :{}", address(owner)),
                _ => format!("MOVED {slot} 127.0.0.1:{}", address(owner)),
            }),
        }
    }

    /// Remembers where a request was pointed to, and checks that it came from where it was pointed as it was told.
    fn note_redirection(
        &mut self,
        data: &Data,
        asking: bool,
        refusal: &str,
    ) -> Result<(), Violation> {
        let mut words = refusal.split(' ');
        let kind = words.next();
        let (Some(slot), Some(port)) = (
            words.next().and_then(|slot| slot.parse().ok()),
            words
                .next()
                .and_then(|to| to.rsplit(':').next()?.parse().ok()),
        ) else {
            return Ok(());
        };
        match kind {
            Some("MOVED") => self.model.note_moved(self.node, slot, port),
            Some("ASK") => {
                let target = self.cluster.at_port(port);
                self.model.note_ask(data.request, target, slot);
                return Ok(());
            }
            _ => return Ok(()),
        }
        let importing = self.cluster.hot.iter().position(|hot| *hot == slot);
        let importing =
            importing.is_some_and(|hot| self.cluster.peers[self.node].importing[hot].is_some());
        self.model
            .check_asking(data.request, self.node, slot, asking || !importing)
    }

    fn reply(&mut self, data: &Data, execution: u64, out: &mut Vec<u8>) {
        let request = data.request.unwrap_or(usize::MAX);
        let mark = |key: usize| {
            Mark {
                request,
                execution,
                key,
            }
            .text()
        };
        let own_key = data.keys.first().copied().unwrap_or(KEYS);
        let text = match data.name {
            Name::Mset | Name::Flush => "+OK\r\n".to_owned(),
            Name::Count | Name::Delete => format!(":{}\r\n", data.keys.len()),
            Name::Mget => {
                let items: String = data.keys.iter().map(|key| bulk(&mark(*key))).collect();
                format!("*{}\r\n{items}", data.keys.len())
            }
            Name::Get if self.resp3 => "_\r\n".to_owned(),
            Name::Get => "$-1\r\n".to_owned(),
            Name::Size => format!(":{}\r\n", self.node + 1),
            Name::Keys => format!(
                "*1\r\n{}",
                bulk(&format!(
                    "{{{}}}{}",
                    TAGS[self.rng.usize(..HOT_SLOTS)],
                    mark(KEYS)
                ))
            ),
            Name::Scan => format!(
                "*2\r\n$1\r\n{}\r\n*1\r\n{}",
                self.rng.u32(..2),
                bulk(&mark(KEYS))
            ),
            Name::Write | Name::Read | Name::Script | Name::Publish => self.plain(&mark(own_key)),
        };
        out.extend_from_slice(text.as_bytes());
    }

    /// A reply with one mark, of any shape.
    fn plain(&mut self, mark: &str) -> String {
        match self.rng.u32(..if self.resp3 { 10 } else { 7 }) {
            0 | 1 => format!("+{mark}\r\n"),
            2 | 3 => bulk(mark),
            4 => bulk(&format!("{mark}{}", "x".repeat(self.rng.usize(..3000)))),
            5 => format!("*3\r\n{}$-1\r\n*0\r\n", bulk(mark)),
            6 => format!(
                "-WRONGTYPE {mark} Operation against a key holding the wrong kind of value\r\n"
            ),
            7 => format!("%1\r\n+field\r\n{}", bulk(mark)),
            8 => format!("|1\r\n+ttl\r\n:3\r\n{}", bulk(mark)),
            _ => format!("!{}\r\n{mark}\r\n", mark.len()),
        }
    }
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

//! What clients send: the same in every turn.

use slotway_core::resp::{OK, write};

/// Commands that are run for one figure, of all clients together: whole turns of every workload.
pub const COMMANDS: usize = 16_000;

/// Clients of the ordinary workloads. [`COMMANDS`] is a multiple of all that they send in a turn.
const CLIENTS: usize = 40;

/// What is said to a command of a transaction before EXEC.
pub(super) const QUEUED: &[u8] = b"+QUEUED\r\n";

/// Bytes of an ordinary value.
const VALUE_BYTES: usize = 64;

/// The commands of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandKind {
    /// `GET`.
    Get,
    /// `SET`.
    Set,
    /// `GET` and `SET` in turn.
    Mixed,
    /// `MGET` of so many keys, each in a slot of its own.
    Mget(usize),
    /// `MSET` of so many keys, each in a slot of its own.
    Mset(usize),
    /// `DEL` of so many keys, each in a slot of its own.
    Del(usize),
    /// `GET`, `SET`, `GET` of one key, which count as one command.
    Three,
    /// The same three between `MULTI` and `EXEC`, which count as one, too. One at a time: the next one waits for the nodes.
    Transaction,
}

/// What every client does in every turn.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// The commands.
    pub kind: CommandKind,
    /// Commands a client sends at once.
    pub pipeline: usize,
    /// Number of clients.
    pub clients: usize,
    /// Size of the values.
    pub value_bytes: usize,
}

impl Workload {
    /// 40 clients that send `pipeline` commands at once; values of 64 bytes.
    #[must_use]
    pub const fn new(kind: CommandKind, pipeline: usize) -> Self {
        Self {
            kind,
            pipeline,
            clients: CLIENTS,
            value_bytes: VALUE_BYTES,
        }
    }

    /// The same with values of this size.
    #[must_use]
    pub const fn with_values_of(self, value_bytes: usize) -> Self {
        Self {
            value_bytes,
            ..self
        }
    }

    /// Commands of a turn, of all clients together.
    #[must_use]
    pub const fn commands_per_turn(&self) -> usize {
        self.clients * self.pipeline
    }

    /// The turns in which [`COMMANDS`] commands are run.
    #[must_use]
    pub const fn turns(&self) -> usize {
        COMMANDS / self.commands_per_turn()
    }

    /// What client `client` sends in a turn.
    pub(super) fn requests(&self, client: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for position in 0..self.pipeline {
            let keys = self.keys(client, position);
            if self.kind == CommandKind::Transaction {
                write::command(&mut out, &[b"MULTI"]);
            }
            for name in self.names(position) {
                self.request(name, &keys, &mut out);
            }
            if self.kind == CommandKind::Transaction {
                write::command(&mut out, &[b"EXEC"]);
            }
        }
        out
    }

    fn request(&self, name: &str, keys: &[Vec<u8>], out: &mut Vec<u8>) {
        let values: Vec<Vec<u8>> = keys
            .iter()
            .map(|key| value_of(key, self.value_bytes))
            .collect();
        let mut words = vec![name.as_bytes()];
        for (key, value) in keys.iter().zip(&values) {
            words.push(key);
            if matches!(name, "SET" | "MSET") {
                words.push(value);
            }
        }
        write::command(out, &words);
    }

    /// What client `client` gets for that.
    pub(super) fn replies(&self, client: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for position in 0..self.pipeline {
            let keys = self.keys(client, position);
            let names = self.names(position);
            if self.kind == CommandKind::Transaction {
                out.extend_from_slice(OK);
                names.iter().for_each(|_| out.extend_from_slice(QUEUED));
                write::array(&mut out, names.len());
            }
            for name in names {
                self.reply(name, &keys, &mut out);
            }
        }
        out
    }

    fn reply(&self, name: &str, keys: &[Vec<u8>], out: &mut Vec<u8>) {
        if name == "MGET" {
            write::array(out, keys.len());
        }
        match name {
            "GET" | "MGET" => {
                for key in keys {
                    write::bulk(out, &value_of(key, self.value_bytes));
                }
            }
            "DEL" => write::integer(out, i64::try_from(keys.len()).unwrap_or(0)),
            _ => out.extend_from_slice(OK),
        }
    }

    /// What is asked at this place of the pipeline.
    fn names(&self, position: usize) -> &'static [&'static str] {
        match self.kind {
            CommandKind::Mixed if position.is_multiple_of(2) => &["GET"],
            CommandKind::Get => &["GET"],
            CommandKind::Set | CommandKind::Mixed => &["SET"],
            CommandKind::Mget(_) => &["MGET"],
            CommandKind::Mset(_) => &["MSET"],
            CommandKind::Del(_) => &["DEL"],
            CommandKind::Three | CommandKind::Transaction => &["GET", "SET", "GET"],
        }
    }

    /// The keys of one command: 16 bytes each, as many load generators make them.
    fn keys(&self, client: usize, position: usize) -> Vec<Vec<u8>> {
        let count = match self.kind {
            CommandKind::Mget(count) | CommandKind::Mset(count) | CommandKind::Del(count) => count,
            CommandKind::Get
            | CommandKind::Set
            | CommandKind::Mixed
            | CommandKind::Three
            | CommandKind::Transaction => 1,
        };
        let first = (client * self.pipeline + position) * count;
        (first..first + count)
            .map(|number| format!("key:{number:012}").into_bytes())
            .collect()
    }
}

/// The value of a key: one that no other key has.
pub(super) fn value_of(key: &[u8], bytes: usize) -> Vec<u8> {
    key.iter().copied().cycle().take(bytes).collect()
}

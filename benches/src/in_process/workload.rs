//! What clients send: the same in every turn.

use slotway_core::resp::{OK, write};

/// Commands that are run for one figure, of all clients together: whole turns of every workload.
pub const COMMANDS: usize = 16_000;

/// Clients of the ordinary workloads. [`COMMANDS`] is a multiple of all that they send in a turn.
const CLIENTS: usize = 40;

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
            let values: Vec<Vec<u8>> = keys
                .iter()
                .map(|key| value_of(key, self.value_bytes))
                .collect();
            let mut words = vec![self.name(position).as_bytes()];
            for (key, value) in keys.iter().zip(&values) {
                words.push(key);
                if matches!(self.name(position), "SET" | "MSET") {
                    words.push(value);
                }
            }
            write::command(&mut out, &words);
        }
        out
    }

    /// What client `client` gets for that.
    pub(super) fn replies(&self, client: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for position in 0..self.pipeline {
            let keys = self.keys(client, position);
            if matches!(self.kind, CommandKind::Mget(_)) {
                write::array(&mut out, keys.len());
            }
            match self.name(position) {
                "GET" | "MGET" => {
                    for key in &keys {
                        write::bulk(&mut out, &value_of(key, self.value_bytes));
                    }
                }
                "DEL" => write::integer(&mut out, i64::try_from(keys.len()).unwrap_or(0)),
                _ => out.extend_from_slice(OK),
            }
        }
        out
    }

    fn name(&self, position: usize) -> &'static str {
        match self.kind {
            CommandKind::Mixed if position.is_multiple_of(2) => "GET",
            CommandKind::Get => "GET",
            CommandKind::Set | CommandKind::Mixed => "SET",
            CommandKind::Mget(_) => "MGET",
            CommandKind::Mset(_) => "MSET",
            CommandKind::Del(_) => "DEL",
        }
    }

    /// The keys of one command: 16 bytes each, as many load generators make them.
    fn keys(&self, client: usize, position: usize) -> Vec<Vec<u8>> {
        let count = match self.kind {
            CommandKind::Mget(count) | CommandKind::Mset(count) | CommandKind::Del(count) => count,
            CommandKind::Get | CommandKind::Set | CommandKind::Mixed => 1,
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

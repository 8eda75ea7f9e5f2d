//! What must hold, whatever happens: the record of every request, where and when it was executed, and what its client was told.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use slotway_core::local::ReadPolicy;

use super::blocking::Waiting;
use super::bus::Published;
use super::history::ClientHistory;
use super::profile::{HOT_SLOTS, Profile};
use super::reads::Reads;
use super::subscriber::Asking;
use super::watch::{Changes, Optimism};

/// A rule that was broken, in words.
pub(super) type Violation = String;

/// What a request does, as far as the rules are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One reply of one node, passed through with its mark.
    Plain,
    /// `+OK` of every part.
    Mset,
    /// The sum of the numbers of keys.
    Count,
    /// One marked element for every key, in order.
    Mget,
    /// GET: any string or nil, no mark.
    Unmarked,
    /// Over all primaries: `+OK`.
    Flush,
    /// Over all primaries: a sum.
    Size,
    /// Over all primaries: marked keys.
    Keys,
    /// SCAN: a cursor and marked keys.
    Scan,
    /// EXEC: one marked element for every command of its transaction, in order, all of one execution.
    Exec,
    /// `+OK`; the next EXEC may be answered with nil.
    Watch,
    /// One reply of one node with its mark, or nil when its time is over.
    Blocking,
    /// Answered by the proxy with this reply.
    Local,
    /// Answered by the proxy with a map or an array.
    Hello,
    /// Ends the session with a protocol error.
    Nonsense,
    /// Acknowledged for each thing it names.
    Subscription,
    Ping,
}

/// What the client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    Executed,
    NotExecuted,
    Unknown,
}

/// One request of a client.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) client: usize,
    pub(super) kind: Kind,
    pub(super) write: bool,
    /// Ordered against everything of its session.
    pub(super) barrier: bool,
    /// Its keys, in order; those beyond [`KEYS`](super::profile::KEYS) are only marks.
    pub(super) keys: Vec<usize>,
    /// For [`Kind::Local`].
    pub(super) reply: Vec<u8>,
    /// Parts it is made of, if that is known beforehand.
    pub(super) parts: usize,
    /// When its client made it, in microseconds.
    pub(super) asked: u64,
    /// Parts that the kernel took as a whole, at some time.
    pub(super) written: usize,
    /// Where it was last pointed to by ASK, and for which slot.
    pub(super) asked_at: Option<(usize, u16)>,
    /// Part and number of each execution.
    pub(super) executions: Vec<(usize, u64)>,
    pub(super) told: Told,
    pub(super) optimism: Optimism,
    pub(super) waiting: Waiting,
    /// The database that its client had selected.
    database: usize,
    /// For [`Kind::Subscription`].
    pub(super) asking: Option<Asking>,
    /// It is RESET.
    pub(super) ends_subscriptions: bool,
    /// For [`Kind::Hello`]: the version it asks for.
    pub(super) resp3: bool,
    /// What its client wanted of reads when it made it, and whether a replica answered any part of it.
    pub(super) reads: ReadPolicy,
    pub(super) at_replica: bool,
    /// The WATCHes before it that no EXEC, and nothing else, has ended.
    pub(super) behind_watches: Vec<usize>,
    /// Replicas that did not answer it, or a part of it, and when.
    pub(super) refused_by: Vec<(usize, usize, u64)>,
}

impl Record {
    pub(super) fn new(client: usize, kind: Kind) -> Self {
        Self {
            client,
            kind,
            write: false,
            barrier: false,
            keys: Vec::new(),
            reply: Vec::new(),
            parts: 1,
            asked: 0,
            written: 0,
            asked_at: None,
            executions: Vec::new(),
            told: Told::Nothing,
            optimism: Optimism::default(),
            waiting: Waiting::default(),
            database: 0,
            asking: None,
            ends_subscriptions: false,
            resp3: false,
            reads: ReadPolicy::Primary,
            at_replica: false,
            behind_watches: Vec::new(),
            refused_by: Vec::new(),
        }
    }

    pub(super) fn executed_parts(&self) -> usize {
        let mut parts: Vec<usize> = self.executions.iter().map(|(part, _)| *part).collect();
        parts.sort_unstable();
        parts.dedup();
        parts.len()
    }
}

/// What the run is like, as far as the rules depend on it; times in microseconds.
#[derive(Debug)]
pub(super) struct Rules {
    /// No client may see an error that a node would not have given it.
    pub(super) gentle: bool,
    /// The engine may refuse requests for want of memory.
    pub(super) overload: bool,
    /// There may not be enough connections for those who need one of their own.
    pub(super) few_private_links: bool,
    pub(super) reads: Reads,
    /// What a client says of its reads is never refused.
    pub(super) policies_are_known: bool,
    /// Nodes keep their addresses, and nobody watches keys.
    pub(super) only_reads_vary: bool,
    pub(super) park_timeout: u64,
    pub(super) request_timeout: u64,
    pub(super) tryagain_budget: u64,
}

impl Rules {
    fn of(profile: &Profile) -> Self {
        let limits = &profile.limits;
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(0);
        Self {
            gentle: profile.gentle,
            overload: limits.park_max_requests < 1_000 || limits.park_max_bytes < 1_000,
            few_private_links: limits.private_links < 1_000,
            reads: profile.reads,
            policies_are_known: profile.pubsub == 0,
            only_reads_vary: profile.watches + profile.blocking + profile.pubsub == 0,
            park_timeout: micros(limits.park_timeout),
            request_timeout: micros(limits.request_timeout),
            tryagain_budget: micros(limits.tryagain_budget),
        }
    }
}

/// The rules and all that is needed to check them.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) rules: Rules,
    pub(super) now: u64,
    pub(super) records: Vec<Record>,
    pub(super) clients: Vec<ClientHistory>,
    executions: u64,
    /// What nodes have said with MOVED: by whom, of which slot, to which port.
    moved: BTreeSet<(usize, u16, u16)>,
    pub(super) changes: Changes,
    pub(super) published: Published,
    pub(super) uncertain: u64,
    pub(super) refused: u64,
    pub(super) partial: u64,
    pub(super) answered: u64,
    pub(super) nil_execs: u64,
    pub(super) waited_in_vain: u64,
    pub(super) read_at_replicas: u64,
    /// Hot slots that have ever been on their way.
    pub(super) ever_moved: [bool; HOT_SLOTS],
    /// When each execution was.
    pub(super) executed_at: Vec<u64>,
}

impl Model {
    pub(super) fn new(profile: &Profile) -> Self {
        Self {
            rules: Rules::of(profile),
            now: 0,
            records: Vec::new(),
            clients: Vec::new(),
            executions: 0,
            moved: BTreeSet::new(),
            changes: Changes::new(),
            published: Published::new(profile.pubsub > 0, profile.stale > 0),
            uncertain: 0,
            refused: 0,
            partial: 0,
            answered: 0,
            nil_execs: 0,
            waited_in_vain: 0,
            read_at_replicas: 0,
            ever_moved: [false; HOT_SLOTS],
            executed_at: Vec::new(),
        }
    }

    /// Node `node` says that `slot` is served at `port`.
    pub(super) fn note_moved(&mut self, node: usize, slot: u16, port: u16) {
        self.moved.insert((node, slot, port));
    }

    /// Request `request` was pointed to node `target` by ASK.
    pub(super) fn note_ask(&mut self, request: Option<usize>, target: Option<usize>, slot: u16) {
        if let Some(record) = request.and_then(|request| self.records.get_mut(request)) {
            record.asked_at = target.map(|target| (target, slot));
        }
    }

    /// Request `request` met MOVED at node `node`. If it was pointed there by ASK, ASKING should have been before it. Only where
    /// topologies are true, or it may have come by one.
    pub(super) fn check_asking(
        &mut self,
        request: Option<usize>,
        node: usize,
        slot: u16,
        asking: bool,
    ) -> Result<(), Violation> {
        let record = request.and_then(|request| self.records.get_mut(request));
        let asked_at = record.and_then(|record| record.asked_at.take());
        if self.rules.gentle && !asking && asked_at == Some((node, slot)) {
            return Err(format!(
                "request {request:?} comes to node {node} without ASKING [E6]"
            ));
        }
        Ok(())
    }

    /// Whether it said so at any time.
    pub(super) fn was_moved(&self, node: usize, slot: u16, port: u16) -> bool {
        self.moved.contains(&(node, slot, port))
    }

    pub(super) fn add_client(&mut self) -> usize {
        self.clients.push(ClientHistory::new());
        self.clients.len() - 1
    }

    pub(super) fn add(&mut self, mut record: Record) -> usize {
        record.asked = self.now;
        record.database = self.clients[record.client].database;
        let request = self.records.len();
        if record.kind == Kind::Unmarked {
            // Nobody will tell whether it was sent.
            self.clients[record.client].note_sent(request, &record);
        }
        if record.kind == Kind::Watch {
            self.clients[record.client].open_watches.push(request);
        }
        if matches!(record.kind, Kind::Plain | Kind::Mget | Kind::Count) && !record.write {
            self.clients[record.client].note_asked(request, &record.keys);
        }
        self.records.push(record);
        request
    }

    /// Request `request` is executed over a connection that is in `database` [N21].
    pub(super) fn check_database(&self, request: usize, database: usize) -> Result<(), Violation> {
        match self.records.get(request) {
            Some(record) if record.database != database => Err(format!(
                "request {request}, for database {}, is executed in {database} [N21]",
                record.database
            )),
            _ => Ok(()),
        }
    }

    pub(super) const fn executions(&self) -> u64 {
        self.executions
    }

    /// The kernel took the last byte of a request or part.
    pub(super) fn written(&mut self, request: usize) -> Result<(), Violation> {
        let Some(record) = self.records.get_mut(request) else {
            return Ok(());
        };
        record.written += 1;
        self.clients[record.client].note_sent(request, record);
        if record.kind == Kind::Blocking {
            self.note_wait_written(request)?;
        }
        Ok(())
    }

    /// A node executes a request or one part of it: the number of the execution.
    pub(super) fn execute(
        &mut self,
        request: usize,
        part: usize,
        keys: &[usize],
    ) -> Result<u64, Violation> {
        self.execute_one(request, part, keys, false)
    }

    /// As [`Self::execute`], by way of a connection that the engine gave up: other nodes do not wait for that.
    pub(super) fn execute_late(
        &mut self,
        request: usize,
        part: usize,
        keys: &[usize],
    ) -> Result<u64, Violation> {
        self.execute_one(request, part, keys, true)
    }

    fn execute_one(
        &mut self,
        request: usize,
        part: usize,
        keys: &[usize],
        late: bool,
    ) -> Result<u64, Violation> {
        self.executions += 1;
        self.executed_at.push(self.now);
        let execution = self.executions;
        let Some(record) = self.records.get_mut(request) else {
            return Err(format!("nobody sent request {request}"));
        };
        let fanned_out = matches!(record.kind, Kind::Flush | Kind::Size | Kind::Keys);
        if record.write {
            if record.told == Told::NotExecuted {
                return Err(format!(
                    "request {request} is executed after its client was told that it was not"
                ));
            }
            if record.told == Told::Executed && !fanned_out {
                return Err(format!(
                    "request {request} is executed after it was answered"
                ));
            }
            if !fanned_out && record.executions.iter().any(|(other, _)| *other == part) {
                return Err(format!(
                    "request {request} part {part} is executed twice [G5]"
                ));
            }
        }
        record.executions.push((part, execution));
        if self.rules.reads.spread {
            self.check_spread(request, keys)?;
        }
        let record = &self.records[request];
        let (write, barrier, asked) = (record.write, record.barrier, record.asked);
        let has_no_limit = record.kind == Kind::Blocking;
        let number = record.client;
        self.note_watching_since(number, request, execution);
        let client = &mut self.clients[number];
        if write {
            // What is late may be under way to another node than later requests, which do not wait for it [D8]. Nor do they wait for
            // a transaction whose connection was lost: its client was told, and only its own keys are protected from it [D9].
            let takes_too_long = self.now - asked >= self.rules.request_timeout;
            let is_late = late || (takes_too_long && !has_no_limit);
            let ordered = barrier && !is_late;
            if late && self.rules.reads.spread {
                client.forget_reads(keys);
            }
            client.check_write(request, ordered, late, keys)?;
            client.note_write(request, execution, barrier, keys);
        }
        Ok(execution)
    }
}

/// `bytes` for a message.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes.iter().take(400) {
        let _ = write!(text, "{}", std::ascii::escape_default(*byte));
    }
    text
}

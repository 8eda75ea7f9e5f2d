//! What must hold, whatever happens: the record of every request, where and when it was executed, and what its client was told.

use std::fmt::Write as _;

use super::profile::KEYS;
use super::wire::Mark;

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
    /// Answered by the proxy with this reply.
    Local,
    /// Answered by the proxy with a map or an array.
    Hello,
    /// Ends the session with a protocol error.
    Nonsense,
}

/// What the client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Executed,
    NotExecuted,
    Unknown,
}

/// One request of a client.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) client: usize,
    pub(super) kind: Kind,
    pub(super) write: bool,
    /// Ordered against everything of its session.
    pub(super) barrier: bool,
    /// Its keys, in order; those beyond [`KEYS`] are only marks.
    pub(super) keys: Vec<usize>,
    /// For [`Kind::Local`].
    pub(super) reply: Vec<u8>,
    /// Parts it is made of, if that is known beforehand.
    pub(super) parts: usize,
    /// Parts that the kernel took as a whole, at some time.
    written: usize,
    /// Part and number of each execution.
    executions: Vec<(usize, u64)>,
    told: Told,
}

impl Record {
    pub(super) const fn new(client: usize, kind: Kind) -> Self {
        Self {
            client,
            kind,
            write: false,
            barrier: false,
            keys: Vec::new(),
            reply: Vec::new(),
            parts: 1,
            written: 0,
            executions: Vec::new(),
            told: Told::Nothing,
        }
    }

    fn executed_parts(&self) -> usize {
        let mut parts: Vec<usize> = self.executions.iter().map(|(part, _)| *part).collect();
        parts.sort_unstable();
        parts.dedup();
        parts.len()
    }
}

/// What was executed on one key for one client.
#[derive(Debug, Default, Clone)]
struct KeyHistory {
    /// Request and execution, both ascending.
    writes: Vec<(usize, u64)>,
    /// The newest read whose result the client saw.
    newest_read: Option<usize>,
}

#[derive(Debug)]
struct ClientHistory {
    keys: Vec<KeyHistory>,
    newest_barrier: Option<usize>,
    newest_write: Option<usize>,
}

/// The rules and all that is needed to check them.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) records: Vec<Record>,
    clients: Vec<ClientHistory>,
    executions: u64,
    /// No client may see an error that a node would not have given it.
    pub(super) gentle: bool,
    pub(super) uncertain: u64,
    pub(super) refused: u64,
    pub(super) partial: u64,
    pub(super) answered: u64,
}

impl Model {
    pub(super) fn add_client(&mut self) -> usize {
        self.clients.push(ClientHistory {
            keys: vec![KeyHistory::default(); KEYS],
            newest_barrier: None,
            newest_write: None,
        });
        self.clients.len() - 1
    }

    pub(super) fn add(&mut self, record: Record) -> usize {
        self.records.push(record);
        self.records.len() - 1
    }

    pub(super) const fn executions(&self) -> u64 {
        self.executions
    }

    /// The kernel took the last byte of a request or part.
    pub(super) fn written(&mut self, request: usize) {
        if let Some(record) = self.records.get_mut(request) {
            record.written += 1;
        }
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
        let (write, barrier) = (record.write, record.barrier);
        let client = &mut self.clients[record.client];
        if write {
            client.check_write(request, barrier, late, keys)?;
            client.note_write(request, execution, barrier, keys);
        }
        Ok(execution)
    }

    /// Checks a reply that `client` got where that of `request` is due.
    pub(super) fn answer(&mut self, request: usize, reply: &[u8]) -> Result<(), Violation> {
        self.answered += 1;
        let record = &self.records[request];
        let kind = record.kind;
        if reply.first() == Some(&b'-') && !matches!(kind, Kind::Local | Kind::Nonsense) {
            return self.answer_error(request, reply);
        }
        let fault = |what: &str| {
            Err(format!(
                "request {request} ({kind:?}) {what}: {}",
                printable(reply)
            ))
        };
        let marks = Mark::find(reply);
        if marks.iter().any(|mark| mark.request != request) {
            return fault("got the reply of another request");
        }
        match kind {
            Kind::Plain if marks.len() != 1 => return fault("got no reply of its own"),
            Kind::Mset | Kind::Flush if reply != b"+OK\r\n" => return fault("got no OK"),
            Kind::Count if reply != format!(":{}\r\n", record.keys.len()).as_bytes() => {
                return fault("got the wrong sum");
            }
            Kind::Mget
                if marks
                    .iter()
                    .map(|mark| mark.key)
                    .ne(record.keys.iter().copied()) =>
            {
                return fault("got other elements");
            }
            Kind::Unmarked if !matches!(reply.first(), Some(b'$' | b'_')) => {
                return fault("got no string");
            }
            Kind::Size if reply.first() != Some(&b':') => return fault("got no number"),
            Kind::Keys | Kind::Scan if reply.first() != Some(&b'*') => {
                return fault("got no array");
            }
            Kind::Local if reply != record.reply => {
                return fault("got another answer of the proxy");
            }
            Kind::Hello if !matches!(reply.first(), Some(b'*' | b'%')) => {
                return fault("got no map");
            }
            Kind::Nonsense if !reply.starts_with(b"-ERR Protocol error") => {
                return fault("got no protocol error");
            }
            _ => {}
        }
        if matches!(kind, Kind::Mset | Kind::Count | Kind::Mget)
            && record.executed_parts() != record.parts
        {
            return fault("was answered before all parts were executed");
        }
        if matches!(
            kind,
            Kind::Plain
                | Kind::Mset
                | Kind::Count
                | Kind::Mget
                | Kind::Flush
                | Kind::Keys
                | Kind::Scan
        ) && record.executions.is_empty()
        {
            return fault("was answered but not executed");
        }
        self.records[request].told = Told::Executed;
        let record = &self.records[request];
        if !record.write {
            let client = &mut self.clients[record.client];
            for mark in marks {
                client.check_read(request, record.barrier, mark)?;
            }
        }
        Ok(())
    }

    fn answer_error(&mut self, request: usize, reply: &[u8]) -> Result<(), Violation> {
        let record = &mut self.records[request];
        let fault = |what: &str| Err(format!("request {request} {what}: {}", printable(reply)));
        let marks = Mark::find(reply);
        if !marks.is_empty() {
            // An error of the command itself.
            if marks[0].request != request {
                return fault("got the error of another request");
            }
            record.told = Told::Executed;
            return Ok(());
        }
        let try_again = reply.windows(9).any(|word| word == b"TRYAGAIN ");
        if self.gentle && !try_again {
            return fault("fails although nothing but migrations happens");
        }
        if reply.starts_with(b"-UNCERTAIN ") {
            let unmarked = matches!(record.kind, Kind::Unmarked | Kind::Size);
            if record.written == 0 && !unmarked {
                return fault("is said to be uncertain but was never written");
            }
            self.uncertain += 1;
            record.told = Told::Unknown;
            return Ok(());
        }
        if reply.starts_with(b"-PARTIAL ") {
            let applied: Option<usize> = reply
                .split(|byte| *byte == b' ')
                .find_map(super::wire::number);
            if applied.is_none_or(|applied| {
                record.write && record.kind != Kind::Flush && applied != record.executed_parts()
            }) {
                return fault("was executed in another number of parts");
            }
            self.partial += 1;
            record.told = if record.kind == Kind::Flush {
                Told::Unknown
            } else {
                Told::NotExecuted
            };
            return Ok(());
        }
        const REFUSALS: [&[u8]; 6] = [
            b"-CLUSTERDOWN ",
            b"-TRYAGAIN ",
            b"-LOADING ",
            b"-READONLY ",
            b"-MASTERDOWN ",
            b"-ERR proxy: overloaded, command not executed",
        ];
        if !REFUSALS.iter().any(|refusal| reply.starts_with(refusal)) {
            return fault("got an error it should not see");
        }
        if record.write && !record.executions.is_empty() {
            return fault("was executed but its client is told that it was not");
        }
        self.refused += 1;
        record.told = Told::NotExecuted;
        Ok(())
    }
}

impl ClientHistory {
    /// [G2] [G6]: nothing that was sent later and conflicts has been executed already.
    fn check_write(
        &self,
        request: usize,
        barrier: bool,
        late: bool,
        keys: &[usize],
    ) -> Result<(), Violation> {
        let overtaken = |other: Option<usize>, by: &str| match other {
            Some(other) if other > request => Err(format!(
                "request {request} is executed after the later {by} {other}"
            )),
            _ => Ok(()),
        };
        if !late {
            overtaken(self.newest_barrier, "barrier")?;
        }
        if barrier {
            overtaken(self.newest_write, "write")?;
        }
        for key in keys.iter().filter_map(|key| self.keys.get(*key)) {
            overtaken(
                key.writes.last().map(|(request, _)| *request),
                "write of its key",
            )?;
            overtaken(key.newest_read, "read of its key")?;
        }
        Ok(())
    }

    fn note_write(&mut self, request: usize, execution: u64, barrier: bool, keys: &[usize]) {
        self.newest_write = self.newest_write.max(Some(request));
        if barrier {
            self.newest_barrier = self.newest_barrier.max(Some(request));
        }
        for key in keys {
            if let Some(key) = self.keys.get_mut(*key) {
                key.writes.push((request, execution));
            }
        }
    }

    /// [G2] for a read: what the client saw is from after all its earlier writes and from before all its later ones.
    fn check_read(&mut self, request: usize, barrier: bool, mark: Mark) -> Result<(), Violation> {
        if barrier {
            return Ok(());
        }
        let Some(key) = self.keys.get_mut(mark.key) else {
            return Ok(());
        };
        let later = key.writes.partition_point(|(write, _)| *write < request);
        if let Some((write, execution)) = later
            .checked_sub(1)
            .and_then(|earlier| key.writes.get(earlier))
            && *execution > mark.execution
        {
            return Err(format!(
                "read {request} does not see the earlier write {write} of its key"
            ));
        }
        if let Some((write, execution)) = key.writes.get(later)
            && *execution < mark.execution
        {
            return Err(format!(
                "read {request} sees the later write {write} of its key"
            ));
        }
        key.newest_read = key.newest_read.max(Some(request));
        Ok(())
    }
}

/// `bytes` for a message.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes.iter().take(200) {
        let _ = write!(text, "{}", std::ascii::escape_default(*byte));
    }
    text
}

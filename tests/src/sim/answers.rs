//! What a client may be told: the replies it gets, checked against what happened to its requests.

use super::model::{Kind, Model, Told, Violation, printable};
use super::wire::{Mark, number};

/// A refusal that a node may give, or the proxy in its place.
pub(super) const REFUSALS: [&[u8]; 5] = [
    b"-CLUSTERDOWN ",
    b"-TRYAGAIN ",
    b"-LOADING ",
    b"-READONLY ",
    b"-MASTERDOWN ",
];

impl Model {
    /// Checks a reply that the client got where that of `request` is due.
    pub(super) fn answer(&mut self, request: usize, reply: &[u8]) -> Result<(), Violation> {
        self.answered += 1;
        let kind = self.records[request].kind;
        if reply.first() == Some(&b'-') && !matches!(kind, Kind::Local | Kind::Nonsense) {
            return self.answer_error(request, reply);
        }
        if matches!(kind, Kind::Exec | Kind::Blocking) && is_nil(reply) {
            let told = match kind {
                Kind::Exec => self.answer_nil_exec(request),
                _ => self.answer_nothing_came(request),
            };
            return told.map_err(|what| format!("request {request} ({kind:?}) {what}"));
        }
        let marks = Mark::find(reply);
        self.wrong_shape(request, reply, &marks)
            .or_else(|| self.not_executed(request))
            .map_or(Ok(()), |what| {
                Err(format!(
                    "request {request} ({kind:?}) {what}: {}",
                    printable(reply)
                ))
            })?;
        self.records[request].told = Told::Executed;
        if kind == Kind::Watch {
            self.note_watching(request);
        }
        if let Some(what) = self.check_watched(request) {
            return Err(format!("request {request} ({kind:?}) {what} [W5]"));
        }
        let record = &self.records[request];
        if !record.write {
            let (client, barrier) = (record.client, record.barrier);
            for mark in marks {
                let is_strict = self.sees_own_writes(request, mark.key);
                self.clients[client].check_read(request, barrier, is_strict, mark)?;
            }
        }
        Ok(())
    }

    /// What is wrong about the bytes of a reply.
    fn wrong_shape(&self, request: usize, reply: &[u8], marks: &[Mark]) -> Option<&'static str> {
        let record = &self.records[request];
        if marks.iter().any(|mark| mark.request != request) {
            return Some("got the reply of another request");
        }
        let keys = || record.keys.iter().copied();
        let first = reply.first();
        let (right, what) = match record.kind {
            Kind::Plain | Kind::Blocking => (marks.len() == 1, "got no reply of its own"),
            Kind::Mset | Kind::Flush | Kind::Watch => (reply == b"+OK\r\n", "got no OK"),
            Kind::Count => (
                reply == format!(":{}\r\n", keys().len()).as_bytes(),
                "got the wrong sum",
            ),
            Kind::Mget => (
                marks.iter().map(|mark| mark.key).eq(keys()),
                "got other elements",
            ),
            Kind::Exec => (
                reply.starts_with(format!("*{}\r\n", keys().len()).as_bytes())
                    && marks.iter().map(|mark| mark.key).eq(keys())
                    && marks
                        .iter()
                        .all(|mark| mark.execution == marks[0].execution),
                "got other elements",
            ),
            Kind::Unmarked => (matches!(first, Some(b'$' | b'_')), "got no string"),
            Kind::Size => (first == Some(&b':'), "got no number"),
            Kind::Keys | Kind::Scan => (first == Some(&b'*'), "got no array"),
            Kind::Local => (reply == record.reply, "got another answer of the proxy"),
            Kind::Hello => (matches!(first, Some(b'*' | b'%')), "got no map"),
            Kind::Subscription | Kind::Ping => (false, "is not for this"),
            Kind::Nonsense => (
                reply.starts_with(b"-ERR Protocol error"),
                "got no protocol error",
            ),
        };
        (!right).then_some(what)
    }

    /// An answer of something that did not happen.
    fn not_executed(&self, request: usize) -> Option<&'static str> {
        let record = &self.records[request];
        match record.kind {
            Kind::Mset | Kind::Count | Kind::Mget if record.executed_parts() != record.parts => {
                Some("was answered before all parts were executed")
            }
            Kind::Plain | Kind::Exec | Kind::Blocking | Kind::Flush | Kind::Keys | Kind::Scan
                if record.executions.is_empty() =>
            {
                Some("was answered but not executed")
            }
            _ => None,
        }
    }

    fn answer_error(&mut self, request: usize, reply: &[u8]) -> Result<(), Violation> {
        let fault = |what: &str| Err(format!("request {request} {what}: {}", printable(reply)));
        let is_for_time = reply.windows(7).any(|word| word == b"timeout");
        if self.records[request].kind == Kind::Blocking && is_for_time {
            return fault("waits as long as it says, whatever others may take [B12]");
        }
        if let Some(mark) = Mark::find(reply).first() {
            // An error of the command itself.
            if mark.request != request {
                return fault("got the error of another request");
            }
            self.records[request].told = Told::Executed;
            return Ok(());
        }
        let may_fail = self.may_lack_replicas(request)
            || reply.starts_with(b"-TRYAGAIN ")
            || is_partial_retry(reply);
        if self.rules.gentle && !may_fail {
            return fault("fails although nothing but migrations happens");
        }
        let told = if reply.starts_with(b"-UNCERTAIN ") {
            self.uncertain += 1;
            self.uncertain(request)
        } else if reply.starts_with(b"-PARTIAL ") {
            self.partial += 1;
            self.partial(request, reply)
        } else {
            self.refused += 1;
            self.refused(request, reply)
        };
        match told {
            Ok(told) => {
                self.records[request].told = told;
                Ok(())
            }
            Err(what) => fault(what),
        }
    }

    fn uncertain(&self, request: usize) -> Result<Told, &'static str> {
        let record = &self.records[request];
        let unmarked = matches!(record.kind, Kind::Unmarked | Kind::Size);
        let has_limit = record.kind != Kind::Blocking;
        let may_be_late = has_limit && self.now - record.asked >= self.rules.request_timeout;
        if record.written == 0 && !unmarked && !may_be_late {
            return Err("is said to be uncertain but was never written");
        }
        Ok(Told::Unknown)
    }

    fn partial(&self, request: usize, reply: &[u8]) -> Result<Told, &'static str> {
        let record = &self.records[request];
        let applied: Option<usize> = reply.split(|byte| *byte == b' ').find_map(number);
        if applied.is_none_or(|applied| {
            record.write && record.kind != Kind::Flush && applied != record.executed_parts()
        }) {
            return Err("was executed in another number of parts");
        }
        Ok(if record.kind == Kind::Flush {
            Told::Unknown
        } else {
            Told::NotExecuted
        })
    }

    /// A refusal must be true, and not be shown while there is hope: before the time for it is over, unless sending the request
    /// again might reorder it [O4].
    fn refused(&self, request: usize, reply: &[u8]) -> Result<Told, &'static str> {
        let record = &self.records[request];
        if record.write && !record.executions.is_empty() {
            return Err("was executed but its client is told that it was not");
        }
        let rules = &self.rules;
        let overloaded = reply.starts_with(b"-ERR proxy: overloaded, command not executed");
        if (overloaded && rules.overload)
            || reply.starts_with(b"-CLUSTERDOWN proxy: too many redirections")
        {
            return Ok(Told::NotExecuted);
        }
        if self.is_told_of_bounds(request, reply) {
            return Ok(Told::NotExecuted);
        }
        let is_lost = b"-ERR proxy: backend connection lost, command not executed";
        if record.kind == Kind::Watch && reply.starts_with(is_lost) {
            return Ok(Told::NotExecuted);
        }
        if record.kind == Kind::Blocking {
            return self.refused_wait(request, reply);
        }
        let may_be_late = self.now - record.asked >= rules.request_timeout;
        if !record.write && reply.starts_with(b"-ERR proxy: timeout") {
            return if may_be_late {
                Ok(Told::Unknown)
            } else {
                Err("is said to be late but is not")
            };
        }
        // One behind it may have been late, and be executed yet: this one must not be any more [O4].
        if may_be_late && reply.starts_with(b"-ERR proxy: backend connection lost, command not") {
            return Ok(Told::NotExecuted);
        }
        if !REFUSALS.iter().any(|refusal| reply.starts_with(refusal)) {
            return Err("got an error it should not see");
        }
        // With it the keys are watched no longer: there is nothing to be sent again [W5].
        if record.kind == Kind::Exec && !record.optimism.watches.is_empty() {
            return Ok(Told::NotExecuted);
        }
        let patience = if reply.starts_with(b"-TRYAGAIN M") {
            rules.tryagain_budget.min(rules.park_timeout)
        } else {
            rules.park_timeout
        };
        let hopeless = may_be_late || self.now - record.asked >= patience;
        if hopeless || self.clients[record.client].may_be_overtaken(request, record) {
            Ok(Told::NotExecuted)
        } else {
            Err("is refused while there is hope")
        }
    }
}

fn is_nil(reply: &[u8]) -> bool {
    matches!(reply, b"*-1\r\n" | b"$-1\r\n" | b"_\r\n")
}

/// Parts of a split command may be refused while others were executed.
fn is_partial_retry(reply: &[u8]) -> bool {
    reply.starts_with(b"-PARTIAL ") && reply.windows(9).any(|word| word == b"TRYAGAIN ")
}

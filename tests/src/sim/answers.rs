//! What a client may be told: the replies it gets, checked against what happened to its requests.

use super::model::{Kind, Model, Told, Violation, printable};
use super::wire::{Mark, number};

/// A refusal that a node may give, or the proxy in its place.
const REFUSALS: [&[u8]; 5] = [
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
        let record = &self.records[request];
        if !record.write {
            let client = &mut self.clients[record.client];
            for mark in marks {
                client.check_read(request, record.barrier, mark)?;
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
            Kind::Plain => (marks.len() == 1, "got no reply of its own"),
            Kind::Mset | Kind::Flush => (reply == b"+OK\r\n", "got no OK"),
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
            Kind::Plain | Kind::Exec | Kind::Flush | Kind::Keys | Kind::Scan
                if record.executions.is_empty() =>
            {
                Some("was answered but not executed")
            }
            _ => None,
        }
    }

    fn answer_error(&mut self, request: usize, reply: &[u8]) -> Result<(), Violation> {
        let fault = |what: &str| Err(format!("request {request} {what}: {}", printable(reply)));
        if let Some(mark) = Mark::find(reply).first() {
            // An error of the command itself.
            if mark.request != request {
                return fault("got the error of another request");
            }
            self.records[request].told = Told::Executed;
            return Ok(());
        }
        if self.rules.gentle && !reply.starts_with(b"-TRYAGAIN ") && !is_partial_retry(reply) {
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
        let may_be_late = self.now - record.asked >= self.rules.request_timeout;
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

/// Parts of a split command may be refused while others were executed.
fn is_partial_retry(reply: &[u8]) -> bool {
    reply.starts_with(b"-PARTIAL ") && reply.windows(9).any(|word| word == b"TRYAGAIN ")
}

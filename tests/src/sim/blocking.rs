//! Commands that may wait at the node, in the simulation: nodes that let them wait until an element comes, their time is over or the
//! node is no place to wait at any more, and what must hold for them whatever happens [B1]-[B8] [B11]-[B13].

use fastrand::Rng;

use super::answers::REFUSALS;
use super::clients::Client;
use super::cluster::Cluster;
use super::command::{Data, FOR_EVER, Name};
use super::model::{Kind, Model, Record, Told, Violation};
use super::net::{Connection, Place};
use super::node::Context;
use super::profile::{KEYS, KEYS_PER_SLOT, Profile, TAGS, pick};

/// What the engine may lose of the time of a call when it says how much is left of it: what it neglects, and a whole millisecond.
const INACCURACY: u64 = 11_000;

/// For so long a call that would wait at its node is kept for one [B5].
const PATIENCE: u64 = 60_000_000;

/// How long WATCH waits for a connection of its own [W7].
const PINNED_PATIENCE: u64 = 100_000;

/// A command that waits at a node.
#[derive(Debug, Clone)]
pub(super) struct Waiter {
    pub(super) data: Data,
    until: u64,
}

/// What becomes of it now.
enum Fate {
    Waits,
    /// An element has come.
    Served,
    TimeIsOver,
    /// It is to wait elsewhere.
    Refused(String),
    /// The node is no primary any more, and says so before it closes the connection.
    Unblocked,
}

/// What is to be known of a request that may wait.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting {
    /// For so long, in microseconds.
    pub(super) limit: u64,
    /// When the kernel first took the whole of it.
    written_at: Option<u64>,
    /// How often a node said that it is not to wait there, and when it last did.
    refusals: usize,
    refused_at: Option<u64>,
}

// === Clients ===

impl Client {
    pub(super) fn blocking(
        &self,
        id: usize,
        profile: &Profile,
        cluster: &Cluster,
        rng: &mut Rng,
    ) -> (Record, Vec<String>) {
        let key = self.key(profile, rng);
        let milliseconds = *pick(rng, &[0, 0, 50, 300, 2_000, 20_000]);
        let seconds = match milliseconds {
            0 => "0".to_owned(),
            _ => format!("{}.{:03}", milliseconds / 1_000, milliseconds % 1_000),
        };
        let mut record = Record::new(self.number, Kind::Blocking);
        record.barrier = true;
        record.keys = vec![key, KEYS];
        record.waiting.limit = match milliseconds {
            0 => FOR_EVER,
            _ => milliseconds * 1_000,
        };
        let name = cluster.names[key].as_str();
        let mark = format!("{{{}}}u{id}", TAGS[key / KEYS_PER_SLOT]);
        let milliseconds = milliseconds.to_string();
        let words: &[&str] = match rng.u32(..6) {
            0 => &["BLMOVE", name, &mark, "LEFT", "LEFT", &seconds],
            1 => &["BLMPOP", &seconds, "2", name, &mark, "LEFT"],
            2 => &[
                "XREAD",
                "BLOCK",
                &milliseconds,
                "STREAMS",
                name,
                &mark,
                "$",
                "$",
            ],
            _ => &["BLPOP", name, &mark, &seconds],
        };
        record.write = words[0] != "XREAD";
        (
            record,
            words.iter().map(|word| (*word).to_owned()).collect(),
        )
    }
}

// === Nodes ===

impl Context<'_> {
    /// Answers a command that may wait at once, or has it wait.
    pub(super) fn begin_wait(
        &mut self,
        data: &Data,
        asking: bool,
        out: &mut Vec<u8>,
    ) -> Result<Option<Waiter>, Violation> {
        if self.refuse(data, asking, out)? {
            self.model.note_refused_wait(data.request);
            return Ok(None);
        }
        self.model.check_wait(data)?;
        if self.late.is_some_and(|lost| self.has_no_effect(data, lost)) {
            return Ok(None);
        }
        if self.late.is_some() || self.rng.u32(..3) == 0 {
            self.give_element(data, out)?;
            return Ok(None);
        }
        let until = self.now.saturating_add(data.wait);
        Ok(Some(Waiter {
            data: data.clone(),
            until,
        }))
    }

    fn give_element(&mut self, data: &Data, out: &mut Vec<u8>) -> Result<(), Violation> {
        if self.late.is_none() && data.name == Name::Pop {
            self.model.check_somebody_waits(data)?;
        }
        let execution = self.execute(data)?;
        self.note_keys(data, execution);
        self.reply(data, execution, out);
        Ok(())
    }

    /// `generous`: somebody pushes an element, if that can be done here now.
    fn fate(&self, waiter: &Waiter, generous: bool) -> Fate {
        let peer = &self.cluster.peers[self.node];
        let redirection = self.redirection(&waiter.data, true);
        let is_here = redirection.is_none();
        match redirection {
            _ if peer.demoted > self.now => Fate::Unblocked,
            Some(text) if text.starts_with("MOVED") && peer.replica_of.is_some() => Fate::Unblocked,
            Some(text) if text.starts_with("MOVED") || text.starts_with("CLUSTERDOWN") => {
                Fate::Refused(text)
            }
            _ if waiter.until <= self.now => Fate::TimeIsOver,
            _ => {
                let takes_writes = [peer.loading, peer.paused, peer.orphaned]
                    .iter()
                    .all(|until| *until <= self.now);
                if is_here && takes_writes && generous {
                    Fate::Served
                } else {
                    Fate::Waits
                }
            }
        }
    }
}

impl Connection {
    /// Whether it carries a request of `client` that waits, or is about to.
    pub(super) fn holds_waiter_of(&self, client: usize, model: &Model) -> bool {
        let is_of_client = |data: &Data| {
            let record = data.request.and_then(|request| model.records.get(request));
            data.may_wait() && record.is_some_and(|record| record.client == client)
        };
        let waits = self.waiting.as_ref();
        waits.is_some_and(|waiter| is_of_client(&waiter.data)) || self.unserved().any(is_of_client)
    }

    /// Whether what it is for at the moment may take as long as it takes.
    pub(super) fn is_for_waiting(&self) -> bool {
        self.waiting.is_some() || self.unserved().any(Data::may_wait)
    }

    /// What is decided about the one who waits.
    pub(super) fn serve_waiter(
        &mut self,
        generous: bool,
        place: &mut Place<'_>,
    ) -> Result<(), Violation> {
        let Some(waiter) = self.waiting.take() else {
            return Ok(());
        };
        let mut context = self.context(place);
        match context.fate(&waiter, generous) {
            Fate::Waits => self.waiting = Some(waiter),
            Fate::Served => context.give_element(&waiter.data, &mut self.replies)?,
            Fate::TimeIsOver => {
                let nil = context.nil();
                self.replies.extend_from_slice(nil);
            }
            Fate::Refused(text) => {
                context.note_redirection(&waiter.data, true, &text)?;
                context.model.note_refused_wait(waiter.data.request);
                self.replies
                    .extend_from_slice(format!("-{text}\r\n").as_bytes());
            }
            Fate::Unblocked => {
                context.model.note_refused_wait(waiter.data.request);
                self.replies.extend_from_slice(
                    b"-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n",
                );
                self.ended = true;
            }
        }
        Ok(())
    }
}

// === Rules ===

impl Model {
    fn waiting(&mut self, request: Option<usize>) -> Option<&mut Waiting> {
        let record = self.records.get_mut(request?)?;
        Some(&mut record.waiting)
    }

    fn note_refused_wait(&mut self, request: Option<usize>) {
        let now = self.now;
        if let Some(waiting) = self.waiting(request) {
            waiting.refusals += 1;
            waiting.refused_at = Some(now);
        }
    }

    /// Whether the client of `request` has left, or is about to.
    pub(super) fn is_gone(&self, request: Option<usize>) -> bool {
        let record = request.and_then(|request| self.records.get(request));
        record.is_some_and(|record| self.clients[record.client].gone)
    }

    /// The kernel has taken the whole of a request that may wait: again only if it certainly has not been executed [B8].
    pub(super) fn note_wait_written(&mut self, request: usize) -> Result<(), Violation> {
        let now = self.now;
        let record = &mut self.records[request];
        record.waiting.written_at.get_or_insert(now);
        if record.write && record.written > record.waiting.refusals + 1 {
            return Err(format!(
                "request {request} is sent again though it may have been executed [B8]"
            ));
        }
        Ok(())
    }

    /// The time that a request says it may wait is what is left of it [B4].
    fn check_wait(&self, data: &Data) -> Result<(), Violation> {
        let Some(record) = data.request.and_then(|request| self.records.get(request)) else {
            return Err(format!("nobody sent {data:?}"));
        };
        let (waiting, says) = (&record.waiting, data.wait);
        let gone = self.now - record.asked;
        let least = waiting.limit.saturating_sub(gone);
        let spent = match (waiting.refused_at, waiting.written_at) {
            (Some(refused), Some(written)) => refused.saturating_sub(written),
            _ => 0,
        };
        let left = waiting.limit.saturating_sub(spent);
        let most = left.saturating_add(INACCURACY);
        let is_right = match waiting.limit {
            FOR_EVER => says == FOR_EVER,
            limit => says <= limit && (least..=most).contains(&says),
        };
        if is_right {
            return Ok(());
        }
        Err(format!(
            "request {:?} says that it waits for {says} us, of {} us and not more than {most} us left [B4]",
            data.request, waiting.limit
        ))
    }

    /// Nothing is popped for a client that is gone, over a connection that is not [B6].
    fn check_somebody_waits(&self, data: &Data) -> Result<(), Violation> {
        if self.is_gone(data.request) {
            return Err(format!(
                "request {:?} gets an element though its client is gone [B6]",
                data.request
            ));
        }
        Ok(())
    }

    /// Nothing came in time.
    pub(super) fn answer_nothing_came(&mut self, request: usize) -> Result<(), &'static str> {
        self.waited_in_vain += 1;
        let record = &self.records[request];
        if record.write && !record.executions.is_empty() {
            return Err("was given an element that its client does not get");
        }
        if self.now - record.asked < record.waiting.limit {
            return Err("is over before its time [B4]");
        }
        self.records[request].told = Told::NotExecuted;
        Ok(())
    }

    /// As for other requests; but what a request that waits is refused for is only said when it would not wait longer anyway [B5].
    pub(super) fn refused_wait(&self, request: usize, reply: &[u8]) -> Result<Told, &'static str> {
        let record = &self.records[request];
        let waited = self.now - record.asked;
        let is_short = record.waiting.limit <= PATIENCE;
        let is_known = REFUSALS.iter().any(|refusal| reply.starts_with(refusal));
        if !is_known {
            return Err("got an error it should not see");
        }
        if reply.starts_with(b"-TRYAGAIN M") && waited >= self.rules.tryagain_budget {
            return Ok(Told::NotExecuted);
        }
        if is_short {
            return Err("is refused instead of being told that its time is over [B4]");
        }
        if waited < PATIENCE {
            return Err("is refused while there is hope [B5]");
        }
        Ok(Told::NotExecuted)
    }

    /// Whether a request is refused because there are too many connections that carry the requests of one client [B3] [W7].
    pub(super) fn is_told_of_bounds(&self, request: usize, reply: &[u8]) -> bool {
        let record = &self.records[request];
        let has_waited = self.now - record.asked >= PINNED_PATIENCE;
        self.rules.few_private_links
            && match record.kind {
                Kind::Blocking => reply.starts_with(b"-ERR proxy: too many blocked clients"),
                Kind::Watch => {
                    has_waited && reply.starts_with(b"-ERR proxy: too many pinned sessions")
                }
                _ => false,
            }
    }
}

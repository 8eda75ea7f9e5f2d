//! The played clients: what they ask, in which state their session is, and what they wait for.

use std::collections::VecDeque;

use fastrand::Rng;
use slotway_core::engine::SessionKey;
use slotway_core::local::ReadPolicy;

use super::cluster::Cluster;
use super::model::{Kind, Model, Record, Violation};
use super::profile::{HOT_SLOTS, KEYS, KEYS_PER_SLOT, Profile, TAGS, pick};
use super::reads;
use super::subscriber::Subscriber;
use super::watch::Watching;
use super::wire::reply_length;
use crate::encode;

/// One played client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) session: SessionKey,
    /// Its number in the model.
    pub(super) number: usize,
    /// Bytes not sent yet.
    pub(super) output: Vec<u8>,
    /// Most bytes that the engine read at once.
    pub(super) largest_batch: usize,
    /// Bytes of a reply that has begun to arrive.
    input: Vec<u8>,
    /// Requests whose replies it waits for.
    pub(super) expected: VecDeque<usize>,
    /// Requests made, whether it waits for a reply or not.
    pub(super) made: usize,
    pub(super) resp3: bool,
    /// What it watches.
    pub(super) watching: Watching,
    /// What it has subscribed to.
    pub(super) subscriber: Subscriber,
    /// After CLIENT REPLY OFF.
    silent: bool,
    /// The next reply is dropped, after CLIENT REPLY SKIP.
    skip: bool,
    /// It sent what is no request: the session ends.
    pub(super) ended: bool,
    /// It sends nothing more than what it has sent.
    pub(super) hung_up: bool,
    /// Where its reads are to go, without what it says of that and with it.
    usual_reads: ReadPolicy,
    reads: ReadPolicy,
}

impl Client {
    pub(super) fn new(session: SessionKey, reads: ReadPolicy, model: &mut Model) -> Self {
        Self {
            session,
            number: model.add_client(),
            output: Vec::new(),
            largest_batch: 0,
            input: Vec::new(),
            expected: VecDeque::new(),
            made: 0,
            resp3: false,
            watching: Watching::default(),
            subscriber: Subscriber::default(),
            silent: false,
            skip: false,
            ended: false,
            hung_up: false,
            usual_reads: reads,
            reads,
        }
    }

    /// Adds one more request to what is to be sent.
    pub(super) fn ask(
        &mut self,
        profile: &Profile,
        cluster: &Cluster,
        model: &mut Model,
        rng: &mut Rng,
    ) {
        let id = model.records.len();
        let mut percent = rng.u32(..100);
        let mut is_drawn = |share: u32| {
            let here = percent < share;
            percent = percent.saturating_sub(share);
            here
        };
        let (record, arguments) = if is_drawn(profile.pubsub) {
            return self.pubsub(model, rng);
        } else if is_drawn(profile.session) {
            return self.ask_for_state(profile, model, rng);
        } else if is_drawn(profile.keyless) {
            self.keyless(id, rng)
        } else if is_drawn(profile.split) {
            self.several(id, profile, cluster, rng)
        } else if is_drawn(profile.transactions) {
            return self.transaction(profile, cluster, model, rng);
        } else if is_drawn(profile.watches) {
            return self.optimistic(profile, cluster, model, rng);
        } else if is_drawn(profile.blocking) {
            self.blocking(id, profile, cluster, rng)
        } else {
            self.single(id, profile, cluster, rng)
        };
        self.send(record, &arguments, model);
    }

    pub(super) fn send(&mut self, mut record: Record, arguments: &[String], model: &mut Model) {
        self.made += 1;
        let reads = reads::said(&arguments[0], self.usual_reads, self.reads);
        if reads != self.reads {
            self.reads = reads;
            model.clients[self.number].last_said = model.records.len();
        }
        record.reads = reads;
        record.behind_watches = self.watching.requests.clone();
        let id = model.add(record);
        self.output.extend_from_slice(&encode(arguments));
        if !std::mem::take(&mut self.skip) && !self.silent {
            self.expected.push_back(id);
        }
    }

    fn single(
        &self,
        id: usize,
        profile: &Profile,
        cluster: &Cluster,
        rng: &mut Rng,
    ) -> (Record, Vec<String>) {
        let mut record = Record::new(self.number, Kind::Plain);
        let key = self.key(profile, rng);
        let name = cluster.names[key].clone();
        record.keys = vec![key];
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        let mark = id.to_string();
        match rng.u32(..12) {
            0..=2 => {
                let long = "v".repeat(if rng.u32(..20) == 0 {
                    rng.usize(..4000)
                } else {
                    0
                });
                record.write = true;
                (
                    record,
                    [
                        words(&["SET", &name, &mark]),
                        if long.is_empty() {
                            Vec::new()
                        } else {
                            vec![long]
                        },
                    ]
                    .concat(),
                )
            }
            3 => {
                record.write = true;
                (record, words(&["APPEND", &name, &mark]))
            }
            4 => {
                record.write = true;
                (record, words(&["INCRBY", &name, &mark]))
            }
            5 => {
                let other = key / KEYS_PER_SLOT * KEYS_PER_SLOT + rng.usize(..KEYS_PER_SLOT);
                record.write = true;
                record.keys.push(other);
                (
                    record,
                    words(&["EVAL", "return 1", "2", &name, &cluster.names[other], &mark]),
                )
            }
            6 => {
                record.kind = Kind::Unmarked;
                (record, words(&["GET", &name]))
            }
            _ => (record, words(&["GETRANGE", &name, &mark, "-1"])),
        }
    }

    #[expect(clippy::unused_self, reason = "beside the other generators")]
    pub(super) fn key(&self, profile: &Profile, rng: &mut Rng) -> usize {
        // Keys of one slot are neighbours; take them from all slots.
        let number = rng.usize(..profile.keys);
        number % HOT_SLOTS * KEYS_PER_SLOT + number / HOT_SLOTS
    }

    /// Commands with keys of several slots, or with several of one.
    fn several(
        &self,
        id: usize,
        profile: &Profile,
        cluster: &Cluster,
        rng: &mut Rng,
    ) -> (Record, Vec<String>) {
        let keys: Vec<usize> = (0..rng.usize(1..=4))
            .map(|_| self.key(profile, rng))
            .collect();
        let mut slots: Vec<usize> = keys.iter().map(|key| key / KEYS_PER_SLOT).collect();
        slots.sort_unstable();
        slots.dedup();
        let name = *pick(rng, &["MSET", "MGET", "DEL", "UNLINK", "EXISTS", "TOUCH"]);
        let kind = match name {
            "MSET" => Kind::Mset,
            "MGET" => Kind::Mget,
            _ => Kind::Count,
        };
        let mut record = Record::new(self.number, kind);
        record.write = matches!(name, "MSET" | "DEL" | "UNLINK");
        record.parts = slots.len();
        let mut arguments = vec![name.to_owned()];
        for key in &keys {
            arguments.push(cluster.names[*key].clone());
            if kind == Kind::Mset {
                arguments.push(id.to_string());
            }
        }
        record.keys = keys;
        if kind != Kind::Mset {
            for slot in slots {
                arguments.push(format!("{{{}}}u{id}", TAGS[slot]));
                record.keys.push(KEYS);
            }
        }
        (record, arguments)
    }

    /// MULTI, commands with keys of one slot, and EXEC. The commands have the mark of EXEC: with it they are executed.
    pub(super) fn transaction(
        &mut self,
        profile: &Profile,
        cluster: &Cluster,
        model: &mut Model,
        rng: &mut Rng,
    ) {
        let watching = std::mem::take(&mut self.watching);
        let slot = match watching.slot {
            Some(slot) => slot,
            None => self.key(profile, rng) / KEYS_PER_SLOT,
        };
        let count = rng.usize(1..=4);
        let mark = (model.records.len() + 1 + count).to_string();
        let number = self.number;
        let local = |reply: &str| {
            let mut record = Record::new(number, Kind::Local);
            record.reply = reply.as_bytes().to_vec();
            record
        };
        let (multi, queued) = (local("+OK\r\n"), local("+QUEUED\r\n"));
        let mut exec = Record::new(self.number, Kind::Exec);
        exec.barrier = true;
        exec.optimism.watches = watching.requests;
        exec.optimism.is_excused = watching.is_excused;
        self.send(multi, &["MULTI".to_owned()], model);
        for _ in 0..count {
            let key = slot * KEYS_PER_SLOT + rng.usize(..KEYS_PER_SLOT);
            let name = *pick(rng, &["SET", "INCRBY", "GETRANGE"]);
            exec.write |= name != "GETRANGE";
            exec.keys.push(key);
            let mut words = vec![name.to_owned(), cluster.names[key].clone(), mark.clone()];
            if name == "GETRANGE" {
                words.push("-1".to_owned());
            }
            self.send(queued.clone(), &words, model);
        }
        self.send(exec, &["EXEC".to_owned()], model);
    }

    fn keyless(&self, id: usize, rng: &mut Rng) -> (Record, Vec<String>) {
        let mark = id.to_string();
        let channel = *pick(rng, &TAGS);
        let (kind, write, arguments): (Kind, bool, &[&str]) = match rng.u32(..7) {
            0 => (Kind::Flush, true, &["FLUSHALL", &mark]),
            1 => (Kind::Size, false, &["DBSIZE"]),
            2 => (Kind::Keys, false, &["KEYS", &mark]),
            3 => (Kind::Scan, false, &["SCAN", "0", "MATCH", &mark]),
            4 => (Kind::Plain, true, &["EVAL", "return 1", "0", &mark]),
            _ => (Kind::Plain, true, &["PUBLISH", channel, &mark]),
        };
        let mut record = Record::new(self.number, kind);
        record.write = write;
        record.barrier = true;
        (
            record,
            arguments.iter().map(|word| (*word).to_owned()).collect(),
        )
    }

    /// Commands the proxy answers itself.
    fn ask_for_state(&mut self, profile: &Profile, model: &mut Model, rng: &mut Rng) {
        let id = model.records.len();
        let mut record = Record::new(self.number, Kind::Local);
        match rng.u32(..8) {
            0 => {
                record.kind = Kind::Hello;
                self.resp3 = !self.resp3;
                self.watching.is_excused = true;
                let version = if self.resp3 { "3" } else { "2" };
                record.resp3 = self.resp3;
                self.send(record, &["HELLO".to_owned(), version.to_owned()], model);
            }
            1 if !model.published.enabled => {
                record.reply = b"+OK\r\n".to_vec();
                let mode = *pick(rng, &["ON", "OFF", "SKIP"]);
                self.reply_mode(record, mode, model);
            }
            2..=5 if profile.databases > 1 => {
                record.reply = b"+OK\r\n".to_vec();
                let database = rng.usize(..profile.databases);
                let words = ["SELECT".to_owned(), database.to_string()];
                self.send(record, &words, model);
                // From here on, even if it is answered later.
                model.clients[self.number].database = database;
            }
            5 if profile.may_reset() && !self.is_silent() => {
                record.reply = b"+RESET\r\n".to_vec();
                self.resp3 = false;
                self.send(record, &["RESET".to_owned()], model);
                model.clients[self.number].database = 0;
            }
            6 | 7 if profile.reads.spread => {
                record.reply = b"+OK\r\n".to_vec();
                let word = *pick(rng, &["READONLY", "READONLY", "READWRITE"]);
                self.send(record, &[word.to_owned()], model);
            }
            _ => {
                record.reply = format!("${}\r\n{id}\r\n", id.to_string().len()).into_bytes();
                self.send(record, &["ECHO".to_owned(), id.to_string()], model);
            }
        }
    }

    fn reply_mode(&mut self, record: Record, mode: &str, model: &mut Model) {
        let command = encode(&["CLIENT", "REPLY", mode]);
        if mode == "ON" {
            self.silent = false;
            self.skip = false;
            self.made += 1;
            let id = model.add(record);
            self.expected.push_back(id);
        } else {
            self.silent |= mode == "OFF";
            self.skip = mode == "SKIP" && !self.silent;
        }
        self.output.extend_from_slice(&command);
    }

    /// Whether it does not get the reply to its next request.
    pub(super) const fn is_silent(&self) -> bool {
        self.silent || self.skip
    }

    /// Sends something that no request begins with.
    pub(super) fn talk_nonsense(&mut self, model: &mut Model, rng: &mut Rng) {
        const NONSENSE: [&[u8]; 4] = [
            b"*2\r\n$3\r\nGET\r\nx\r\n",
            b"*1\r\n$-7\r\n",
            b"*x\r\n",
            b"*3\r\n$3\r\nSET\r\n:1\r\n",
        ];
        let nonsense = *pick(rng, &NONSENSE);
        self.output.extend_from_slice(nonsense);
        if !self.silent && !self.skip {
            let id = model.add(Record::new(self.number, Kind::Nonsense));
            self.expected.push_back(id);
        }
        self.ended = true;
    }

    /// Takes bytes of the proxy and checks the replies in them.
    pub(super) fn receive(&mut self, bytes: &[u8], model: &mut Model) -> Result<(), Violation> {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut used = 0;
        while used < input.len() {
            let Some(length) = reply_length(&input[used..])? else {
                break;
            };
            let reply = &input[used..used + length];
            used += length;
            if model.published.enabled && self.take_pubsub(reply, model)? {
                continue;
            }
            let Some(request) = self.expected.pop_front() else {
                return Err(format!(
                    "client {} got a reply to nothing: {}",
                    self.number,
                    super::model::printable(reply)
                ));
            };
            model.answer(request, reply)?;
        }
        self.input = input[used..].to_vec();
        Ok(())
    }

    /// Whether a reply has begun to arrive.
    pub(super) fn has_part_of_a_reply(&self) -> bool {
        !self.input.is_empty()
    }
}

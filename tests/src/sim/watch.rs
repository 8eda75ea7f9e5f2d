//! WATCH in the simulation: clients that watch keys before a transaction, nodes that remember in which state they were, and what an
//! executed or refused EXEC says about the time between [W1]-[W7].

use fastrand::Rng;

use super::clients::Client;
use super::cluster::Cluster;
use super::command::{Data, Name};
use super::model::{Kind, Model, Record, Told, Violation};
use super::net::Connection;
use super::node::Context;
use super::profile::{HOT_SLOTS, KEYS, KEYS_PER_SLOT, Profile, TAGS};

/// A connection over which keys were watched is closed when nothing was asked for this long [W7].
const PINNED_IDLE: u64 = 300_000_000;

/// A key that a node watches for a connection, as it was then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched {
    key: usize,
    version: u64,
    /// The WATCH.
    request: usize,
}

/// What a client has watched since its last transaction.
#[derive(Debug, Default)]
pub(super) struct Watching {
    pub(super) slot: Option<usize>,
    pub(super) requests: Vec<usize>,
    /// It has changed its RESP version since: its next EXEC goes nowhere.
    pub(super) is_excused: bool,
}

/// What is to be known of a WATCH or EXEC.
#[derive(Debug, Clone, Default)]
pub(super) struct Optimism {
    /// EXEC: the requests that watched keys for it.
    pub(super) watches: Vec<usize>,
    pub(super) is_excused: bool,
    /// WATCH: the first execution that certainly came after it. Nothing is known to have been watched if there is none.
    since: Option<u64>,
    /// EXEC: its last execution.
    exec: Option<Exec>,
    /// EXEC: a node did not execute it because a watched key had changed.
    changed: bool,
}

/// A transaction as a node executed it.
#[derive(Debug, Clone)]
struct Exec {
    execution: u64,
    node: usize,
    /// The requests whose keys the node watched for its connection.
    watches: Vec<usize>,
    /// The node owned the slot: what it did was not lost.
    is_effective: bool,
}

/// A key has changed.
#[derive(Debug)]
struct Change {
    execution: u64,
    node: usize,
    /// That node owns the slot. Otherwise it is about to, and who watches a key at the owner that is not there does not notice: neither
    /// would a client of the cluster.
    is_owner: bool,
}

/// What the rules about watched keys need to know of the whole run.
#[derive(Debug)]
pub(super) struct Changes {
    /// Of each key, everything that changed it, in order.
    keys: Vec<Vec<Change>>,
    /// When something last happened to where each hot slot is, and whether it is on its way since.
    slots: [(u64, bool); HOT_SLOTS],
}

impl Changes {
    pub(super) fn new() -> Self {
        Self {
            keys: (0..KEYS).map(|_| Vec::new()).collect(),
            slots: [(0, false); HOT_SLOTS],
        }
    }
}

// === Clients ===

impl Client {
    /// One more step of a client that watches keys, or begins to: up to its transaction, or to another end.
    pub(super) fn optimistic(
        &mut self,
        profile: &Profile,
        cluster: &Cluster,
        model: &mut Model,
        rng: &mut Rng,
    ) {
        let Some(slot) = self.watching.slot else {
            let slot = self.key(profile, rng) / KEYS_PER_SLOT;
            return self.watch(slot, cluster, model, rng);
        };
        match rng.u32(..12) {
            0 => self.watch(slot, cluster, model, rng),
            1..=2 => self.touch("GETRANGE", slot, cluster, model, rng),
            3 => self.touch("APPEND", slot, cluster, model, rng),
            4 => self.stop_watching(slot, cluster, model, rng),
            _ => self.transaction(profile, cluster, model, rng),
        }
    }

    fn watch(&mut self, slot: usize, cluster: &Cluster, model: &mut Model, rng: &mut Rng) {
        let id = model.records.len();
        let mut record = Record::new(self.number, Kind::Watch);
        record.barrier = true;
        let mut words = vec!["WATCH".to_owned()];
        for _ in 0..rng.usize(1..=2) {
            let key = slot * KEYS_PER_SLOT + rng.usize(..KEYS_PER_SLOT);
            words.push(cluster.names[key].clone());
            record.keys.push(key);
        }
        words.push(format!("{{{}}}u{id}", TAGS[slot]));
        self.watching.slot = Some(slot);
        self.watching.requests.push(id);
        self.send(record, &words, model);
    }

    /// Reads or writes a key of the slot whose keys are watched.
    fn touch(
        &mut self,
        name: &str,
        slot: usize,
        cluster: &Cluster,
        model: &mut Model,
        rng: &mut Rng,
    ) {
        let key = slot * KEYS_PER_SLOT + rng.usize(..KEYS_PER_SLOT);
        let mut record = Record::new(self.number, Kind::Plain);
        record.write = name == "APPEND";
        record.keys = vec![key];
        let mark = model.records.len().to_string();
        let mut words = vec![name.to_owned(), cluster.names[key].clone(), mark];
        if !record.write {
            words.push("-1".to_owned());
        }
        self.send(record, &words, model);
    }

    /// Ends the watching without a transaction that is executed.
    fn stop_watching(&mut self, slot: usize, cluster: &Cluster, model: &mut Model, rng: &mut Rng) {
        self.watching = Watching::default();
        let number = self.number;
        let local = |reply: &str| {
            let mut record = Record::new(number, Kind::Local);
            record.reply = reply.as_bytes().to_vec();
            record
        };
        match rng.u32(..3) {
            0 if !self.resp3 && !self.is_silent() => {
                self.send(local("+RESET\r\n"), &["RESET".to_owned()], model);
                model.clients[self.number].database = 0;
            }
            1 => {
                let key = &cluster.names[slot * KEYS_PER_SLOT];
                let set = ["SET", key, "0"].map(str::to_owned);
                self.send(local("+OK\r\n"), &["MULTI".to_owned()], model);
                self.send(local("+QUEUED\r\n"), &set, model);
                self.send(local("+OK\r\n"), &["DISCARD".to_owned()], model);
            }
            _ => self.send(local("+OK\r\n"), &["UNWATCH".to_owned()], model),
        }
    }
}

// === Nodes ===

impl Connection {
    /// Has the keys of a WATCH that was executed watched.
    pub(super) fn note_watched(&mut self, data: &Data, versions: &[u64; KEYS]) {
        let Some(request) = data.request.filter(|_| data.name == Name::Watch) else {
            return;
        };
        let keys = data.keys.iter().copied().filter(|key| *key < KEYS);
        self.watched.extend(keys.map(|key| Watched {
            key,
            version: versions[key],
            request,
        }));
    }

    /// Nothing but the requests of one client goes over a connection with watched keys [W4], and nothing that others could meet
    /// over one that is for all [O12].
    pub(super) fn check_use(&mut self, data: &Data, model: &Model) -> Result<(), Violation> {
        let client = |request: usize| model.records.get(request).map(|record| record.client);
        let Some(request) = data.request else {
            return Ok(());
        };
        let stranger = self
            .watched
            .iter()
            .find(|watched| client(watched.request) != client(request));
        if let Some(watched) = stranger {
            return Err(format!(
                "request {request} goes over the connection over which request {} watches keys [W4]",
                watched.request
            ));
        }
        self.is_shared |= !data.is_private() && !self.is_in_transaction();
        if self.is_private && self.is_shared {
            return Err(format!(
                "request {request} goes over a connection that carries what only one client may send [O12]"
            ));
        }
        Ok(())
    }
}

impl Context<'_> {
    /// Answers EXEC if a watched key has changed.
    pub(super) fn has_changed(
        &mut self,
        exec: &Data,
        watched: &[Watched],
        out: &mut Vec<u8>,
    ) -> bool {
        let versions = &self.cluster.peers[self.node].versions;
        let has_changed = watched
            .iter()
            .any(|watched| versions[watched.key] != watched.version);
        if has_changed {
            out.extend_from_slice(self.nil());
            self.model
                .note_optimism(exec.request, |exec| exec.changed = true);
        }
        has_changed
    }

    pub(super) const fn nil(&self) -> &'static [u8] {
        if self.resp3 { b"_\r\n" } else { b"*-1\r\n" }
    }

    pub(super) fn note_exec(&mut self, exec: &Data, execution: u64, watched: &[Watched]) {
        let hot = exec.part();
        let is_effective = self.late.is_none() && self.cluster.is_effective(self.node, hot);
        let node = self.node;
        let watches = watched.iter().map(|watched| watched.request).collect();
        self.model.note_optimism(exec.request, |noted| {
            noted.exec = Some(Exec {
                execution,
                node,
                watches,
                is_effective,
            });
        });
    }

    /// Which keys `data` has changed: for those who watch them here, and for the rules, if it counts.
    pub(super) fn note_changes(&mut self, data: &Data, execution: u64) {
        if !data.is_write() {
            return;
        }
        let is_flush = data.name == Name::Flush;
        for key in 0..KEYS {
            if !is_flush && !data.keys.contains(&key) {
                continue;
            }
            let peer = &mut self.cluster.peers[self.node];
            peer.versions[key] += 1;
            let is_there = !is_flush || peer.holds[key];
            if is_there && self.cluster.is_effective(self.node, key / KEYS_PER_SLOT) {
                let owner = self.cluster.owner_of_hot(key / KEYS_PER_SLOT);
                let has_it = |owner: usize| self.cluster.peers[owner].holds[key];
                assert!(
                    !self.model.rules.gentle
                        || is_flush
                        || owner == Some(self.node)
                        || !owner.is_some_and(has_it),
                    "request {:?} changes key {key} where it is not [W3]",
                    data.request
                );
                self.model.changes.keys[key].push(Change {
                    execution,
                    node: self.node,
                    is_owner: owner == Some(self.node),
                });
            }
        }
    }
}

// === Rules ===

impl Model {
    fn note_optimism(&mut self, request: Option<usize>, note: impl FnOnce(&mut Optimism)) {
        if let Some(record) = request.and_then(|request| self.records.get_mut(request)) {
            note(&mut record.optimism);
        }
    }

    /// Something has happened to where a hot slot is.
    pub(super) fn note_move(&mut self, hot: usize, is_moving: bool) {
        self.changes.slots[hot] = (self.now, is_moving);
    }

    /// From `execution` on, everything comes after the WATCHes of `client` that are older than `request`: barriers that are over.
    pub(super) fn note_watching_since(&mut self, client: usize, request: usize, execution: u64) {
        let open = &mut self.clients[client].open_watches;
        let records = &mut self.records;
        open.retain(|watch| {
            let is_over = *watch < request;
            if is_over {
                records[*watch].optimism.since = Some(execution);
            }
            !is_over
        });
    }

    /// The client was told that its keys are watched.
    pub(super) fn note_watching(&mut self, request: usize) {
        let client = self.records[request].client;
        self.note_watching_since(client, request + 1, self.executions() + 1);
    }

    /// EXEC was answered as executed: nobody has changed a watched key meanwhile.
    pub(super) fn check_watched(&self, request: usize) -> Option<String> {
        let optimism = &self.records[request].optimism;
        let exec = optimism.exec.as_ref()?;
        for watch in &optimism.watches {
            let watched = &self.records[*watch];
            if watched.told != Told::Executed {
                continue;
            }
            if !exec.watches.contains(watch) {
                return Some(format!(
                    "was executed where the keys of request {watch} were not watched"
                ));
            }
            let Some(since) = watched.optimism.since.filter(|_| exec.is_effective) else {
                continue;
            };
            for key in &watched.keys {
                let changes = &self.changes.keys[*key];
                let first = changes.partition_point(|change| change.execution < since);
                let change = changes[first..]
                    .iter()
                    .take_while(|change| change.execution < exec.execution)
                    .find(|change| change.is_owner || change.node == exec.node);
                if let Some(Change { execution, .. }) = change {
                    return Some(format!(
                        "was executed by {} though key {key}, watched by request {watch} before {since}, changed with {execution}",
                        exec.execution
                    ));
                }
            }
        }
        None
    }

    /// EXEC was answered with nil: it was not executed, and where nothing but migrations happens there is a cause.
    pub(super) fn answer_nil_exec(&mut self, request: usize) -> Result<(), &'static str> {
        self.nil_execs += 1;
        let record = &self.records[request];
        let optimism = &record.optimism;
        if !record.executions.is_empty() {
            return Err("was executed but its client is told that a watched key had changed");
        }
        let Some(first) = optimism.watches.first() else {
            return Err("had no watched keys, of which none can have changed");
        };
        let asked = self.records[*first].asked;
        let (moved, is_moving) = self.changes.slots[record.keys[0] / KEYS_PER_SLOT];
        // A former owner that does not know of the move yet points to the new one as if it were still under way; then EXEC may only have
        // the keys that were asked for there.
        let was_pointed = |watch: &usize| self.records[*watch].asked_at.is_some();
        let is_moving = is_moving || optimism.watches.iter().any(was_pointed);
        let has_moved = is_moving || moved >= asked;
        let was_idle = self.now - asked >= PINNED_IDLE;
        if self.rules.gentle && !(optimism.changed || optimism.is_excused || has_moved || was_idle)
        {
            return Err("is refused as if a watched key had changed though nothing has happened");
        }
        self.records[request].told = Told::NotExecuted;
        Ok(())
    }
}

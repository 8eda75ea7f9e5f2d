//! Replicas that lag, and those who watch them: what the engine is told of them, late or wrong as it may be, and what it may make of it.

use std::time::Duration;

use fastrand::Rng;
use slotway_core::local::{ListenerSettings, ReadPolicy};
use slotway_core::time::Timestamp;
use slotway_core::topology::{Address, NodeId, ReadPrimary, Reader, Readers, Snapshot};

use super::cluster::{Peer, STILL};
use super::model::{Kind, Model, Told, Violation};
use super::profile::{KEYS, KEYS_PER_SLOT, Profile, pick};
use super::world::{World, note};

/// Lists that may still reach the engine, late.
const KEPT_LISTS: usize = 4;

/// Longest time for which a replica gets nothing from its primary, in microseconds.
const LONGEST_LAG: u64 = 3_000_000;

/// A replica that refuses reads gets no more for so long, in microseconds; what it says may be lost on its way, but not so often.
const LEFT_OUT: u64 = 1_000_000;
const MOST_REFUSALS: usize = 3;

/// Which nodes answer reads in a run, and what becomes of replicas.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reads {
    /// The engine is told of replicas, and clients say READONLY and READWRITE.
    pub(super) spread: bool,
    /// What the listener says, and whether a client is to see what it wrote.
    pub(super) policy: ReadPolicy,
    pub(super) own_writes: bool,
    /// Replicas of each primary.
    pub(super) replicas: usize,
    /// In a gentle run: replicas are in trouble, and primaries are not. No client may notice.
    pub(super) replicas_fail: bool,
}

impl Reads {
    /// In a third of the runs replicas may answer. Not drawn from `rng` itself, so that the seeds of the others keep their meaning.
    pub(super) fn draw(rng: &Rng) -> Self {
        let mut rng = Rng::with_seed(rng.clone().u64(..) ^ 8);
        if rng.u32(..3) > 0 {
            return Self {
                spread: false,
                policy: ReadPolicy::Primary,
                own_writes: false,
                replicas: 1,
                replicas_fail: false,
            };
        }
        let (policy, _) = *pick(&mut rng, &ReadPolicy::ALL);
        Self {
            spread: true,
            policy,
            own_writes: rng.bool(),
            replicas: rng.usize(1..=2),
            replicas_fail: rng.bool(),
        }
    }

    /// The same for a run that is gentle or not.
    pub(super) const fn with(self, gentle: bool) -> Self {
        Self {
            replicas_fail: self.replicas_fail && self.spread && gentle,
            ..self
        }
    }
}

/// The settings of the listener that all clients of a run come in by.
pub(super) fn listener(profile: &Profile) -> ListenerSettings {
    ListenerSettings {
        reads: profile.reads.policy,
        read_your_writes: profile.reads.own_writes,
        ..ListenerSettings::default()
    }
}

/// Where the reads of a client go once it has said `word`; before that, they went where `now` says.
pub(super) fn said(word: &str, usual: ReadPolicy, now: ReadPolicy) -> ReadPolicy {
    match (word, usual) {
        ("READWRITE", _) => ReadPolicy::Primary,
        ("READONLY", ReadPolicy::Primary | ReadPolicy::PreferPrimary) => ReadPolicy::PreferReplica,
        ("READONLY" | "RESET", _) => usual,
        _ => now,
    }
}

// === The cluster and those who watch it ===

impl World {
    /// A replica catches up or ceases to, or the engine is told of the replicas.
    pub(super) fn replicas_event(&mut self) {
        let node = self.rng.usize(..self.cluster.peers.len());
        match self.rng.u32(..12) {
            0..=5 => self.replicate(node),
            6 if self.rng.u32(..4) == 0 => {
                let lag = self.rng.u64(..LONGEST_LAG);
                note!(self, "node {node} gets nothing for {lag} us");
                self.cluster.peers[node].lagging = self.now + lag;
            }
            7 if !self.late_readers.is_empty() => {
                let (seen, readers) = pick(&mut self.rng, &self.late_readers).clone();
                note!(self, "replicas as of {}", seen.as_micros());
                self.tell_of(&readers, seen);
            }
            _ => self.tell_of_replicas(self.profile.gentle),
        }
    }

    /// Some of what the primary of the node has executed reaches it, most often all.
    pub(super) fn replicate(&mut self, node: usize) {
        if !self.cluster.replicates(node, self.now) {
            return;
        }
        let executed = self.model.executions();
        let peer = &mut self.cluster.peers[node];
        peer.applied = match self.rng.u32(..3) {
            0 => self.rng.u64(peer.applied..=executed),
            _ => executed,
        };
        peer.applied_at = self.model.complete_until(peer.applied);
    }

    /// The engine is told the truth: all of it, or most.
    fn tell_of_replicas(&mut self, all: bool) {
        let mut readers = Readers::default();
        for peer in &self.cluster.peers {
            let id = NodeId::new(&peer.id);
            let latency = Duration::from_micros(self.rng.u64(..2_000));
            let near = self.rng.u32(..3) == 0;
            let is_seen = all || self.rng.u32(..8) > 0;
            match peer.replica_of {
                Some(primary) if peer.alive && is_seen => readers.replicas.push(Reader {
                    id,
                    address: Address::new("127.0.0.1", peer.port),
                    primary: NodeId::new(&self.cluster.peers[primary].id),
                    near,
                    latency,
                    behind: Duration::from_micros(self.now - peer.applied_at),
                }),
                Some(_) => {}
                None => readers.primaries.push(ReadPrimary { id, near, latency }),
            }
        }
        let seen = Timestamp::from_micros(self.now);
        note!(self, "replicas: {}", readers.replicas.len());
        self.tell_of(&readers, seen);
        if self.late_readers.len() < KEPT_LISTS {
            self.late_readers.push((seen, readers));
        } else {
            let place = self.rng.usize(..KEPT_LISTS);
            self.late_readers[place] = (seen, readers);
        }
    }

    fn tell_of(&mut self, readers: &Readers, seen: Timestamp) {
        self.engine.set_readers(readers, seen);
        for peer in &mut self.cluster.peers {
            let mut listed = readers.replicas.iter();
            if listed.any(|reader| reader.id.as_str() == peer.id) {
                peer.listed = STILL;
            } else if peer.listed == STILL {
                peer.listed = self.now;
            }
        }
    }

    /// In runs with replicas: all have caught up, and the engine knows them.
    pub(super) fn settle_replicas(&mut self) {
        if !self.profile.reads.spread {
            return;
        }
        for node in 0..self.cluster.peers.len() {
            if self.cluster.replicates(node, self.now) {
                let peer = &mut self.cluster.peers[node];
                (peer.applied, peer.applied_at) = (self.model.executions(), self.now);
            }
        }
        self.tell_of_replicas(true);
    }

    /// The engine is about to be told which slots are on their way.
    pub(super) fn note_open_slots(&mut self, snapshot: &Snapshot) {
        for (hot, slot) in self.cluster.hot.iter().enumerate() {
            let mut open = snapshot.open_slots().iter();
            let is_open = open.any(|open| open.slot.get() == *slot);
            let since = &mut self.cluster.told_moving[hot];
            *since = is_open.then(|| since.unwrap_or(self.now));
        }
    }
}

// === What must hold ===

impl Model {
    /// Until when whoever knows of all executions up to this one knows all that happened.
    fn complete_until(&self, execution: u64) -> u64 {
        let next = usize::try_from(execution).unwrap_or(usize::MAX);
        self.executed_at.get(next).copied().unwrap_or(self.now)
    }

    /// Whether a client that reads `key` with `request` must see what it wrote before. A replica knows nothing of what was on its way
    /// to its primary or away.
    pub(super) fn sees_own_writes(&self, request: usize, key: usize) -> bool {
        let hot = key / KEYS_PER_SLOT;
        let has_moved = self.ever_moved.get(hot).is_some_and(|moved| *moved);
        !self.records[request].at_replica || self.rules.reads.own_writes && !has_moved
    }

    /// Whether `request` may be refused in a gentle run: where only replicas may answer, and they are in trouble.
    pub(super) fn may_lack_replicas(&self, request: usize) -> bool {
        self.rules.reads.replicas_fail
            && self.rules.reads.policy == ReadPolicy::Replica
            && self.records[request].reads == ReadPolicy::Replica
    }

    /// Whether its client has not said anything else of its reads since it made `request`: one that is held goes where that says.
    fn means_what_it_said(&self, request: usize) -> bool {
        let client = self.records.get(request).map(|record| record.client);
        client.is_some_and(|client| self.clients[client].last_said <= request)
    }

    /// Whether its client was told that it watches keys, when it made `request`.
    fn watches(&self, request: usize) -> bool {
        let behind = self
            .records
            .get(request)
            .map(|record| &record.behind_watches);
        let is_told = |watch: &usize| self.records[*watch].told == Told::Executed;
        behind.is_some_and(|behind| behind.iter().any(is_told))
    }

    /// Replica `peer` answers a read, or one part of it, as of an earlier execution: the number of that. Since `moving` the engine knows
    /// that the slot is on its way.
    pub(super) fn execute_at_replica(
        &mut self,
        request: usize,
        part: usize,
        peer: &Peer,
        moving: Option<u64>,
    ) -> Result<u64, Violation> {
        let knows_policies = self.rules.policies_are_known;
        let gentle = self.rules.gentle && self.means_what_it_said(request);
        let watches = self.watches(request);
        let Some(record) = self.records.get_mut(request) else {
            return Err(format!("nobody sent request {request}"));
        };
        let fault = |what: &str| Err(format!("request {request} {what}"));
        if record.write {
            return fault("is a write, and executed at a replica");
        }
        if knows_policies && record.reads == ReadPolicy::Primary {
            return fault("is for a primary, and executed at a replica");
        }
        if knows_policies && gentle && record.reads == ReadPolicy::PreferPrimary {
            return fault("is executed at a replica though no primary is in trouble");
        }
        if watches {
            return fault("comes behind a WATCH, and is executed at a replica [W2]");
        }
        if peer.listed < record.asked {
            return fault("is executed at a replica that was not to be read from any more");
        }
        if moving.is_some_and(|since| since < record.asked) {
            return fault("is executed at a replica though its slot is on its way");
        }
        record.at_replica = true;
        record.executions.push((part, peer.applied));
        self.read_at_replicas += 1;
        Ok(peer.applied)
    }

    /// A replica refuses a part of `request`, and not for its slot: it gets no reads for a while. What it says may not arrive.
    pub(super) fn refuse_at_replica(
        &mut self,
        request: usize,
        part: usize,
        node: usize,
    ) -> Result<(), Violation> {
        let now = self.now;
        let Some(record) = self.records.get_mut(request) else {
            return Ok(());
        };
        record.refused_by.push((node, part, now));
        let is_recent =
            |(by, of, at): &&(usize, usize, u64)| (*by, *of) == (node, part) && now - at < LEFT_OUT;
        let times = record.refused_by.iter().filter(is_recent).count();
        if times > MOST_REFUSALS {
            return Err(format!(
                "request {request} goes to node {node} again and again, which refuses it [E10]"
            ));
        }
        Ok(())
    }

    /// A primary executes `request`: where all is well, no read that is for replicas, and no write ahead of reads of the same keys.
    pub(super) fn check_spread(&mut self, request: usize, keys: &[usize]) -> Result<(), Violation> {
        let means_it = self.means_what_it_said(request);
        let record = &self.records[request];
        if !(self.rules.gentle && self.rules.policies_are_known) || self.clients[record.client].gone
        {
            return Ok(());
        }
        let is_read = matches!(record.kind, Kind::Plain | Kind::Mget | Kind::Count);
        // A primary that got slots answers in place of its replicas until they have the keys.
        let any_moved = self.ever_moved.contains(&true);
        let has_moved = |key: &usize| *key < KEYS && self.ever_moved[*key / KEYS_PER_SLOT];
        let is_for_replicas = match record.reads {
            ReadPolicy::Replica => !any_moved,
            // One that has refused any read is left out for a while.
            ReadPolicy::PreferReplica => !any_moved && !self.rules.reads.replicas_fail,
            _ => false,
        };
        if is_read
            && !record.write
            && is_for_replicas
            && means_it
            && !self.rules.reads.own_writes
            && self.rules.only_reads_vary
        {
            return Err(format!(
                "request {request} is for replicas, and executed at a primary"
            ));
        }
        let (number, is_write) = (record.client, record.write);
        let is_looked_at = |key: &usize| is_write && *key < KEYS && !has_moved(key);
        let keys: Vec<usize> = keys.iter().copied().filter(is_looked_at).collect();
        for key in &keys {
            for read in self.clients[number].reads_before(request, *key) {
                let part = key / KEYS_PER_SLOT;
                let mut executions = self.records[read].executions.iter();
                if !executions.any(|(executed, _)| *executed == part) {
                    return Err(format!(
                        "request {request} is executed before the earlier read {read} of its key"
                    ));
                }
            }
        }
        Ok(())
    }
}

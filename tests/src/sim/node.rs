//! How a played node answers a command: as a cluster node would, in its own view of the cluster.

use fastrand::Rng;

use super::bus::Reach;
use super::cluster::Cluster;
use super::command::{Data, FOR_EVER, Name};
use super::model::{Model, Violation};
use super::profile::{HOT_SLOTS, KEYS, KEYS_PER_SLOT, TAGS};
use super::watch::Watched;
use super::wire::Mark;

/// What else decides about an answer.
pub(super) struct Context<'a> {
    pub(super) cluster: &'a mut Cluster,
    pub(super) model: &'a mut Model,
    pub(super) rng: &'a mut Rng,
    pub(super) now: u64,
    pub(super) node: usize,
    pub(super) resp3: bool,
    /// The database that the connection is in.
    pub(super) database: usize,
    /// The connection said READONLY.
    pub(super) reads: bool,
    /// The engine has given the connection up; the slots that the node ceased to own since then.
    pub(super) late: Option<[bool; HOT_SLOTS]>,
}

impl Context<'_> {
    /// Executes or refuses `data`, and appends the reply; whether it is executed.
    pub(super) fn serve(
        &mut self,
        data: &Data,
        asking: bool,
        out: &mut Vec<u8>,
    ) -> Result<bool, Violation> {
        if self.refuse(data, asking, out)? {
            return Ok(false);
        }
        if self.late.is_some_and(|lost| self.has_no_effect(data, lost)) {
            return Ok(false);
        }
        let execution = self.execute(data)?;
        self.note_keys(data, execution);
        self.publish(data);
        self.reply(data, execution, out);
        Ok(true)
    }

    /// Appends a refusal if `data` is not to be executed here and now.
    pub(super) fn refuse(
        &mut self,
        data: &Data,
        asking: bool,
        out: &mut Vec<u8>,
    ) -> Result<bool, Violation> {
        let Some(refusal) = self.admission(data, asking) else {
            return Ok(false);
        };
        self.note_redirection(data, asking, &refusal)?;
        let is_redirection = refusal.starts_with("MOVED ") || refusal.starts_with("ASK ");
        if let Some(request) = data.request
            && self.reads
            && !is_redirection
            && !refusal.starts_with("TRYAGAIN ")
        {
            self.model
                .refuse_at_replica(request, data.part(), self.node)?;
        }
        out.extend_from_slice(format!("-{refusal}\r\n").as_bytes());
        Ok(true)
    }

    /// A command of a transaction: refused now, or executed with it.
    pub(super) fn queue(
        &mut self,
        data: &Data,
        asking: bool,
        out: &mut Vec<u8>,
    ) -> Result<bool, Violation> {
        let is_refused = self.refuse(data, asking, out)?;
        if !is_refused {
            out.extend_from_slice(b"+QUEUED\r\n");
        }
        Ok(!is_refused)
    }

    /// Executes a transaction as one, or refuses it; appends the reply to EXEC.
    pub(super) fn serve_transaction(
        &mut self,
        commands: &[Data],
        facts: usize,
        asking: bool,
        watched: &[Watched],
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        let writes = commands.iter().any(Data::is_write);
        let whole = Data {
            name: if writes { Name::Write } else { Name::Read },
            keys: commands.iter().flat_map(|data| data.keys.clone()).collect(),
            request: commands.first().and_then(|data| data.request),
            wait: FOR_EVER,
            channel: None,
        };
        if self.refuse(&whole, asking, out)? || self.has_changed(&whole, watched, out) {
            return Ok(());
        }
        if self
            .late
            .is_some_and(|lost| self.has_no_effect(&whole, lost))
        {
            return Ok(());
        }
        let execution = self.execute(&whole)?;
        self.note_exec(&whole, execution, watched);
        out.extend_from_slice(format!("*{}\r\n", commands.len() + facts).as_bytes());
        for data in commands {
            self.note_keys(data, execution);
            self.reply(data, execution, out);
        }
        // Nothing that could be understood: the scan goes node by node from then on.
        out.extend_from_slice("$0\r\n\r\n".repeat(facts).as_bytes());
        Ok(())
    }

    /// The number of the execution.
    pub(super) fn execute(&mut self, data: &Data) -> Result<u64, Violation> {
        if let Some(request) = data.request {
            self.model.check_database(request, self.database)?;
        }
        match data.request {
            Some(request) if self.reads && self.is_replica_for(data) => {
                let hot = data.part();
                let moving = self.cluster.told_moving.get(hot).copied().flatten();
                let peer = &self.cluster.peers[self.node];
                self.model.execute_at_replica(request, hot, peer, moving)
            }
            Some(request) if self.late.is_some() => {
                self.model.execute_late(request, data.part(), &data.keys)
            }
            Some(request) => self.model.execute(request, data.part(), &data.keys),
            None => Ok(0),
        }
    }

    /// Whether it answers `data` with what its primary had some time ago.
    fn is_replica_for(&self, data: &Data) -> bool {
        let first = data.keys.iter().find(|key| **key < KEYS);
        let slot = first.map(|key| self.cluster.hot[key / KEYS_PER_SLOT]);
        let owner = slot.and_then(|slot| self.cluster.owner_by(self.node, slot));
        let primary = self.cluster.peers[self.node].replica_of;
        primary.is_some() && owner == primary
    }

    /// Which keys are there now, and which have changed.
    pub(super) fn note_keys(&mut self, data: &Data, execution: u64) {
        self.note_changes(data, execution);
        if data.name == Name::Write && self.model.published.enabled {
            self.tell_of_keys(data);
        }
        let peer = &mut self.cluster.peers[self.node];
        for key in data.keys.iter().filter(|key| **key < KEYS) {
            match data.name {
                Name::Write | Name::Script | Name::Mset => peer.holds[*key] = true,
                Name::Delete => peer.holds[*key] = false,
                _ => {}
            }
        }
    }

    /// The message that `data` publishes.
    fn publish(&mut self, data: &Data) {
        let reach = match data.name {
            Name::Publish => Reach::Cluster,
            Name::PublishThere => Reach::Node,
            _ => return,
        };
        let is_in_charge = reach == Reach::Cluster || self.is_in_charge(data);
        if let Some(channel) = &data.channel
            && self.model.published.enabled
        {
            let published = &mut self.model.published;
            published.publish(self.node, channel.clone(), reach, is_in_charge, self.now);
        }
    }

    /// Tells of the keys that `data` has changed.
    fn tell_of_keys(&mut self, data: &Data) {
        let is_in_charge = self.is_in_charge(data);
        for key in data.keys.iter().filter(|key| **key < KEYS) {
            let name = &self.cluster.names[*key];
            let published = &mut self.model.published;
            published.note_key(self.node, name, is_in_charge, self.now);
        }
    }

    /// Whether the node owns the slot of `data`, whatever others think.
    fn is_in_charge(&self, data: &Data) -> bool {
        let hot = data.keys.first().map(|key| key / KEYS_PER_SLOT);
        self.late.is_none()
            && hot.is_some_and(|hot| {
                hot < HOT_SLOTS && self.cluster.owner_of_hot(hot) == Some(self.node)
            })
    }

    /// What a node that is no owner any more executes is lost when it follows the new one. Keyless commands are let off: no fence can
    /// order them against other nodes.
    pub(super) fn has_no_effect(&self, data: &Data, lost: [bool; HOT_SLOTS]) -> bool {
        let hot = data
            .keys
            .iter()
            .find(|key| **key < KEYS)
            .map(|key| key / KEYS_PER_SLOT);
        hot.is_none_or(|hot| lost[hot] || self.cluster.owner_of_hot(hot) != Some(self.node))
    }

    /// Whether a node that has paused writes holds `data` now. What it would refuse, it refuses at once.
    pub(super) fn is_held(&self, data: &Data, asking: bool) -> bool {
        let may_write = data.is_write() || matches!(data.name, Name::Publish | Name::PublishThere);
        self.cluster.peers[self.node].paused > self.now
            && may_write
            && self.admission(data, asking).is_none()
    }

    /// The checks before a command runs: `getNodeByQuery` and `processCommand` of the servers.
    fn admission(&self, data: &Data, asking: bool) -> Option<String> {
        let peer = &self.cluster.peers[self.node];
        if peer.loading > self.now {
            return Some("LOADING Redis is loading the dataset in memory".to_owned());
        }
        if let Some(refusal) = self.redirection(data, asking) {
            return Some(refusal);
        }
        if peer.orphaned > self.now {
            return Some(
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
                    .to_owned(),
            );
        }
        let replica =
            peer.demoted > self.now || (data.keys.is_empty() && peer.replica_of.is_some());
        (replica && data.is_write())
            .then(|| "READONLY You can't write against a read only replica.".to_owned())
    }

    pub(super) fn redirection(&self, data: &Data, asking: bool) -> Option<String> {
        let first = *data.keys.iter().find(|key| **key < KEYS)?;
        let peer = &self.cluster.peers[self.node];
        let hot = first / KEYS_PER_SLOT;
        let slot = self.cluster.hot[hot];
        if peer.down > self.now {
            return Some("CLUSTERDOWN The cluster is down".to_owned());
        }
        let owner = self.cluster.owner_by(self.node, slot);
        let real = || data.keys.iter().filter(|key| **key < KEYS);
        let absent = real().filter(|key| !peer.holds[**key]).count();
        let several = real().any(|key| *key != first);
        let address = |node: usize| {
            let target = &self.cluster.peers[node];
            match self.now % 5 {
                0 if target.old_port != target.port => target.old_port,
                _ => target.port,
            }
        };
        match owner {
            None => Some("CLUSTERDOWN Hash slot not served".to_owned()),
            // Channels do not move key by key.
            Some(owner) if owner == self.node && data.name == Name::PublishThere => None,
            Some(owner) if owner == self.node => match peer.migrating[hot] {
                Some(target) if absent == real().count() => {
                    Some(format!("ASK {slot} 127.0.0.1:{}", address(target)))
                }
                Some(_) if absent > 0 => {
                    Some("TRYAGAIN Multiple keys request during rehashing of slot".to_owned())
                }
                _ => None,
            },
            Some(_)
                if peer.importing[hot].is_some() && asking && data.name != Name::PublishThere =>
            {
                (several && absent > 0)
                    .then(|| "TRYAGAIN Multiple keys request during rehashing of slot".to_owned())
            }
            // What is on its way, it knows nothing of.
            Some(owner) if self.reads && peer.replica_of == Some(owner) => None,
            Some(owner) => Some(match self.now % 7 {
                0 if self.now.is_multiple_of(5) => format!("MOVED {slot} ?:{}", address(owner)),
                0 => format!("MOVED {slot} :{}", address(owner)),
                _ => format!("MOVED {slot} 127.0.0.1:{}", address(owner)),
            }),
        }
    }

    /// Remembers where a request was pointed to, and checks that it came from where it was pointed as it was told.
    pub(super) fn note_redirection(
        &mut self,
        data: &Data,
        asking: bool,
        refusal: &str,
    ) -> Result<(), Violation> {
        let mut words = refusal.split(' ');
        let kind = words.next();
        let (Some(slot), Some(port)) = (
            words.next().and_then(|slot| slot.parse().ok()),
            words
                .next()
                .and_then(|to| to.rsplit(':').next()?.parse().ok()),
        ) else {
            return Ok(());
        };
        match kind {
            Some("MOVED") => self.model.note_moved(self.node, slot, port),
            Some("ASK") => {
                let target = self.cluster.at_port(port);
                self.model.note_ask(data.request, target, slot);
                return Ok(());
            }
            _ => return Ok(()),
        }
        let importing = self.cluster.hot.iter().position(|hot| *hot == slot);
        let importing =
            importing.is_some_and(|hot| self.cluster.peers[self.node].importing[hot].is_some());
        self.model
            .check_asking(data.request, self.node, slot, asking || !importing)
    }

    pub(super) fn reply(&mut self, data: &Data, execution: u64, out: &mut Vec<u8>) {
        let request = data.request.unwrap_or(usize::MAX);
        let mark = |key: usize| {
            Mark {
                request,
                execution,
                key,
            }
            .text()
        };
        let own_key = data.keys.first().copied().unwrap_or(KEYS);
        let text = match data.name {
            Name::Mset | Name::Flush | Name::Watch => "+OK\r\n".to_owned(),
            Name::Count | Name::Delete => format!(":{}\r\n", data.keys.len()),
            Name::Mget => {
                let items: String = data.keys.iter().map(|key| bulk(&mark(*key))).collect();
                format!("*{}\r\n{items}", data.keys.len())
            }
            Name::Get if self.resp3 => "_\r\n".to_owned(),
            Name::Get => "$-1\r\n".to_owned(),
            Name::Size => format!(":{}\r\n", self.node + 1),
            Name::Keys => format!(
                "*1\r\n{}",
                bulk(&format!(
                    "{{{}}}{}",
                    TAGS[self.rng.usize(..HOT_SLOTS)],
                    mark(KEYS)
                ))
            ),
            Name::Scan => format!(
                "*2\r\n$1\r\n{}\r\n*1\r\n{}",
                self.rng.u32(..2),
                bulk(&mark(KEYS))
            ),
            Name::Pop | Name::Await => format!("*2\r\n$1\r\nk\r\n{}", bulk(&mark(own_key))),
            Name::Write | Name::Read | Name::Script | Name::Publish | Name::PublishThere => {
                self.plain(&mark(own_key))
            }
        };
        out.extend_from_slice(text.as_bytes());
    }

    /// A reply with one mark, of any shape.
    fn plain(&mut self, mark: &str) -> String {
        match self.rng.u32(..if self.resp3 { 10 } else { 7 }) {
            0 | 1 => format!("+{mark}\r\n"),
            2 | 3 => bulk(mark),
            4 => bulk(&format!("{mark}{}", "x".repeat(self.rng.usize(..3000)))),
            5 => format!("*3\r\n{}$-1\r\n*0\r\n", bulk(mark)),
            6 => format!(
                "-WRONGTYPE {mark} Operation against a key holding the wrong kind of value\r\n"
            ),
            7 => format!("%1\r\n+field\r\n{}", bulk(mark)),
            8 => format!("|1\r\n+ttl\r\n:3\r\n{}", bulk(mark)),
            _ => format!("!{}\r\n{mark}\r\n", mark.len()),
        }
    }
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

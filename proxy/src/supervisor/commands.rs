//! The commands of the servers that the table does not have: who is asked for them when, and what comes of the answers [K14] [K15].

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slotway_core::command::learned::{Learned, LearnedTable, Learner, Told};
use slotway_core::topology::NodeId;
use tokio::time::{Instant, sleep_until};

use super::status::LearnedCount;
use crate::facts::Facts;

/// Time between two times that all servers are asked because clients use unknown names.
const REFRESH_SPACING: Duration = Duration::from_secs(10);
/// Names shown in one log line.
const NAMES_SHOWN: usize = 12;

/// What the primaries told.
pub(super) struct Commands {
    facts: Arc<Facts>,
    count: Rc<LearnedCount>,
    learner: Learner,
    /// By primary, those that told last behind the others.
    told: Vec<(NodeId, Vec<Learned>)>,
    /// Of which start of which primary the answer is known.
    asked: HashMap<NodeId, String>,
    refreshed: Option<Instant>,
    conflicts: Vec<&'static str>,
}

impl Commands {
    pub(super) fn new(facts: Arc<Facts>, count: Rc<LearnedCount>) -> Self {
        Self {
            facts,
            count,
            learner: Learner::default(),
            told: Vec::new(),
            asked: HashMap::new(),
            refreshed: None,
            conflicts: Vec::new(),
        }
    }

    /// Begins a round over these primaries.
    pub(super) fn begin<'a>(&mut self, primaries: impl Iterator<Item = &'a NodeId>) {
        if self.refresh_at() <= Instant::now() && self.facts.learning().take_wish() {
            self.refreshed = Some(Instant::now());
            self.asked.clear();
        }
        let primaries: HashSet<&NodeId> = primaries.collect();
        self.asked.retain(|id, _| primaries.contains(id));
        // As long as a new primary has not told, what the old one did is all there is.
        if self.asked.len() == primaries.len() {
            self.told.retain(|(id, _)| primaries.contains(id));
        }
    }

    /// Whether the primary is to be asked, after its start with this run id.
    pub(super) fn wants(&self, id: &NodeId, run_id: &str) -> bool {
        self.asked.get(id).is_none_or(|known| known != run_id)
    }

    /// Takes the reply of the primary to `COMMAND`.
    pub(super) fn take(&mut self, id: &NodeId, run_id: &str, reply: &[u8]) {
        self.asked.insert(id.clone(), run_id.to_owned());
        let told = match Told::parse(reply) {
            Ok(told) => told,
            Err(error) => {
                let node = id.as_str();
                tracing::info!(node, %error, "a node does not tell its commands: only those that the proxy knows anyway can be used");
                return;
            }
        };
        let malformed = told.malformed;
        let (learned, left_out) = self.learner.learn(told.entries);
        if malformed + left_out > 0 {
            let node = id.as_str();
            tracing::warn!(
                node,
                malformed,
                left_out,
                "some commands of a node are not understood, or are too many, and cannot be used"
            );
        }
        self.told.retain(|(known, _)| known != id);
        self.told.push((id.clone(), learned));
        self.publish();
    }

    fn publish(&mut self) {
        let servers = self.told.iter().map(|(_, learned)| learned.as_slice());
        let (table, conflicts) = LearnedTable::union(servers);
        let is_new = |name: &&&str| !self.conflicts.contains(*name);
        let new = conflicts.iter().filter(is_new).count();
        if new > 0 {
            tracing::warn!(
                commands = shown(conflicts.iter().copied()),
                "the primaries disagree about these commands: what the last one said counts"
            );
        }
        self.conflicts = conflicts;
        self.count.set(table.iter().count(), new as u64);
        self.log_new(&table);
        self.facts.learning().publish(table);
    }

    fn log_new(&self, table: &LearnedTable) {
        let before = self.facts.learning().table();
        let is_new = |learned: &&Learned| before.find(learned.spec.name.as_bytes()).is_none();
        let new = table.iter().filter(is_new);
        if new.clone().next().is_some() {
            tracing::info!(
                commands = shown(new.map(|learned| learned.spec.name)),
                "commands learned from the servers"
            );
        }
    }

    /// Waits until a client has used an unknown name and the servers may be asked for it.
    pub(super) async fn wish(&self) {
        self.facts.learning().wish().await;
        sleep_until(self.refresh_at()).await;
    }

    fn refresh_at(&self) -> Instant {
        self.refreshed
            .map_or_else(Instant::now, |last| last + REFRESH_SPACING)
    }
}

fn shown(mut names: impl Iterator<Item = &'static str>) -> String {
    let mut shown: Vec<&str> = names.by_ref().take(NAMES_SHOWN).collect();
    if names.next().is_some() {
        shown.push("...");
    }
    shown.join(" ")
}

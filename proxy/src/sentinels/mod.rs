//! Asks Sentinels where the primary of a service is [N10]-[N14].
//!
//! All of them are asked at the same time, over new connections: that is rare, and nothing can be left over from a question before.
//! Their events are heard over one connection to each, and are never more than a reason to ask [N14].

mod ask;
mod events;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use slotway_core::config::Secret;
use slotway_core::topology::Address;
use slotway_core::topology::sentinel::{Choice, NoChoice, Terms, choose};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use crate::discovery::look_up;

/// Most Sentinels asked, those learned from others included.
const SENTINELS_MAX: usize = 32;
/// A look-up of names is not waited for longer than this; it goes on, and counts the next time.
const LOOK_UP_PATIENCE: Duration = Duration::from_millis(500);

/// Which service, and how its Sentinels are reached.
#[derive(Debug, Clone)]
pub(crate) struct SentinelSettings {
    /// The name under which they watch the primary.
    pub(crate) service: String,
    /// Those that the operator has named.
    pub(crate) seeds: Vec<Address>,
    /// User to log in as; `None` is the default user.
    pub(crate) user: Option<String>,
    /// Password; `None`: no login.
    pub(crate) password: Option<Secret>,
    /// How many have to agree; `None`: more than half of those there are.
    pub(crate) quorum: Option<usize>,
}

/// What the Sentinels said, when enough of them agreed.
#[derive(Debug)]
pub(crate) struct Found {
    /// The primary they agree on.
    pub(crate) choice: Choice,
    /// How many answered, and how many were asked.
    pub(crate) answered: usize,
    pub(crate) asked: usize,
}

/// Why there is no primary to be had.
#[derive(Debug, thiserror::Error)]
#[error("{reason}; {answered} of {asked} answered{}", shown(.trouble.as_deref()))]
pub(crate) struct NotFound {
    reason: NoChoice,
    answered: usize,
    asked: usize,
    /// What was wrong with one that did not.
    trouble: Option<String>,
}

impl NotFound {
    /// Whether some answered, but not enough agreed.
    pub(crate) fn is_disagreement(&self) -> bool {
        matches!(self.reason, NoChoice::NoQuorum { .. })
    }
}

fn shown(trouble: Option<&str>) -> String {
    trouble.map(|text| format!(": {text}")).unwrap_or_default()
}

/// The Sentinels of a service.
#[derive(Debug)]
pub(crate) struct Sentinels {
    settings: Arc<SentinelSettings>,
    /// Those that others have named which were believed at last.
    learned: Vec<Address>,
    /// What names of `settings.seeds` meant at the last successful look-up.
    resolved: HashMap<Address, Vec<Address>>,
    look_ups: JoinSet<(Address, io::Result<Vec<Address>>)>,
    /// The tasks that hear events, by address.
    listeners: HashMap<Address, AbortHandle>,
    tasks: JoinSet<()>,
    event: Arc<Notify>,
}

impl Sentinels {
    pub(crate) fn new(settings: SentinelSettings) -> Self {
        Self {
            settings: Arc::new(settings),
            learned: Vec::new(),
            resolved: HashMap::new(),
            look_ups: JoinSet::new(),
            listeners: HashMap::new(),
            tasks: JoinSet::new(),
            event: Arc::new(Notify::new()),
        }
    }

    /// Ends when a Sentinel has published something about the service, or has come back, since the last call.
    pub(crate) async fn event(&self) {
        self.event.notified().await;
    }

    /// Asks all Sentinels for the primary. `current_epoch` is that of the configuration in use, 0 if there is none.
    ///
    /// Dropping the future is safe.
    pub(crate) async fn find(&mut self, current_epoch: u64) -> Result<Found, NotFound> {
        self.look_up().await;
        let addresses = self.addresses();
        self.listen(&addresses);
        let mut questions = JoinSet::new();
        for address in &addresses {
            let question = ask::ask(address.clone(), Arc::clone(&self.settings));
            questions.spawn(question);
        }
        let mut said = Vec::new();
        let mut trouble = None;
        while let Some(answer) = questions.join_next().await {
            match answer {
                Ok(Ok(answer)) => said.push(answer),
                Ok(Err(error)) => trouble = Some(error.to_string()),
                Err(error) => trouble = Some(error.to_string()),
            }
        }
        // Which of them is first is not left to who is the fastest.
        said.sort_by_key(|said| addresses.iter().position(|at| *at == said.from));
        let reports: Vec<_> = said.iter().map(|said| said.report.clone()).collect();
        let terms = Terms {
            configured: self.settings.seeds.len(),
            quorum: self.settings.quorum,
            current_epoch,
        };
        let (answered, asked) = (said.len(), addresses.len());
        let choice = choose(&reports, terms).map_err(|reason| NotFound {
            reason,
            answered,
            asked,
            trouble,
        })?;
        let is_believed = |said: &&ask::Said| said.report.primary == choice.primary;
        self.learned.clear();
        for said in said.iter().filter(is_believed) {
            self.learn(&said.sentinels);
        }
        Ok(Found {
            choice,
            answered,
            asked,
        })
    }

    /// Who is asked: those named by the operator, and those learned.
    fn addresses(&self) -> Vec<Address> {
        let seeds = self.settings.seeds.iter().flat_map(|seed| {
            let meant = self.resolved.get(seed);
            meant.map_or_else(|| vec![seed.clone()], Clone::clone)
        });
        let mut addresses: Vec<Address> = Vec::new();
        for address in seeds.chain(self.learned.iter().cloned()) {
            if !addresses.contains(&address) && addresses.len() < SENTINELS_MAX {
                addresses.push(address);
            }
        }
        addresses
    }

    fn learn(&mut self, sentinels: &[Address]) {
        for address in sentinels {
            if !self.learned.contains(address) && self.learned.len() < SENTINELS_MAX {
                self.learned.push(address.clone());
            }
        }
    }

    /// Looks up the names among the seeds anew, each at most once at a time.
    async fn look_up(&mut self) {
        if self.look_ups.is_empty() {
            for seed in &self.settings.seeds {
                if seed.host.parse::<IpAddr>().is_err() {
                    let seed = seed.clone();
                    self.look_ups.spawn_blocking(move || {
                        let found = look_up(&seed);
                        (seed, found)
                    });
                }
            }
        }
        let finish = async {
            while let Some(outcome) = self.look_ups.join_next().await {
                match outcome {
                    Ok((seed, Ok(found))) if !found.is_empty() => {
                        self.resolved.insert(seed, found);
                    }
                    Ok((seed, outcome)) => {
                        let error = outcome.err();
                        tracing::debug!(%seed, ?error, "name of a Sentinel cannot be looked up");
                    }
                    Err(error) => tracing::debug!(%error, "look-up lost"),
                }
            }
        };
        // Name servers fail in the same moments as other things do: what was known goes on to count.
        let _ = tokio::time::timeout(LOOK_UP_PATIENCE, finish).await;
    }

    /// Hears the events of these, and of no others.
    fn listen(&mut self, addresses: &[Address]) {
        self.listeners.retain(|address, listener| {
            let stays = addresses.contains(address);
            if !stays {
                listener.abort();
            }
            stays
        });
        for address in addresses {
            if !self.listeners.contains_key(address) {
                let listener = events::listen(
                    address.clone(),
                    Arc::clone(&self.settings),
                    Arc::clone(&self.event),
                );
                let handle = self.tasks.spawn(listener);
                self.listeners.insert(address.clone(), handle);
            }
        }
        while self.tasks.try_join_next().is_some() {}
    }
}

//! Asks Sentinels where the primary of a service is [N10]-[N14].
//!
//! All of them are asked at the same time, over new connections: that is rare, and nothing can be left over from a question before.
//! Their events are heard over one connection to each, and are never more than a reason to ask [N14], or to hold writes for a moment.

mod ask;
mod events;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use slotway_core::config::Secret;
use slotway_core::topology::Address;
use slotway_core::topology::sentinel::{Announcement, Choice, NoChoice, Report, Terms, choose};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

use self::ask::{AskError, Said};
use self::events::Told;
use crate::discovery::look_up;

/// Most Sentinels asked, those learned from others included.
const SENTINELS_MAX: usize = 32;
/// A look-up of names is not waited for longer than this, and only once; it goes on, and counts when it has ended.
const LOOK_UP_PATIENCE: Duration = Duration::from_millis(500);
/// When enough Sentinels agree, the others are heard for so long.
const GRACE: Duration = Duration::from_millis(150);
/// So often they are asked anew because one of them has news.
const RESTARTS_MAX: usize = 5;
/// Announcements of promotions that wait to be looked at.
const ANNOUNCEMENTS_MAX: usize = 8;

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
    /// How many of those that answered count.
    pub(crate) counted: usize,
    /// How many were asked.
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
    told: Told,
}

impl Sentinels {
    /// The Sentinels of a service, and what they announce.
    pub(crate) fn new(settings: SentinelSettings) -> (Self, mpsc::Receiver<Announcement>) {
        let (announcements, announced) = mpsc::channel(ANNOUNCEMENTS_MAX);
        let sentinels = Self {
            settings: Arc::new(settings),
            learned: Vec::new(),
            resolved: HashMap::new(),
            look_ups: JoinSet::new(),
            listeners: HashMap::new(),
            tasks: JoinSet::new(),
            told: Told {
                event: Arc::new(Notify::new()),
                announcements,
            },
        };
        (sentinels, announced)
    }

    /// Ends when a Sentinel has published something about the service, or has come back, since the last call.
    pub(crate) async fn event(&self) {
        self.told.event.notified().await;
    }

    /// Asks all Sentinels for the primary. `current` is what they said before.
    ///
    /// Dropping the future is safe.
    pub(crate) async fn find(&mut self, current: Option<&Choice>) -> Result<Found, NotFound> {
        self.look_up().await;
        let addresses = self.addresses();
        self.listen(&addresses);
        let mut terms = Terms {
            configured: self.settings.seeds.len(),
            quorum: self.settings.quorum,
            current,
        };
        let (said, trouble) = self.ask(&addresses, &mut terms).await;
        let reports = reports(&said);
        let (answered, asked) = (said.len(), addresses.len());
        let choice = choose(&reports, terms).map_err(|reason| NotFound {
            reason,
            answered,
            asked,
            trouble,
        })?;
        let is_believed = |said: &&Said| said.report.names(&choice);
        self.learned.clear();
        for said in said.iter().filter(is_believed) {
            self.learn(&said.sentinels);
        }
        // Those in TILT do not, and are there for minutes.
        let sound = said.iter().filter(|said| !said.report.tilted).count();
        Ok(Found {
            choice,
            counted: sound,
            asked,
        })
    }

    /// Asks these, and asks again if one of them has news while others are waited for: what it said before is old then.
    async fn ask(
        &self,
        addresses: &[Address],
        terms: &mut Terms<'_>,
    ) -> (Vec<Said>, Option<String>) {
        let configured = terms.configured;
        let seeds = self.seeds();
        for _ in 0..RESTARTS_MAX {
            terms.configured = configured;
            tokio::select! {
                heard = hear(self.questions(addresses), addresses, &seeds, terms) => return heard,
                () = self.event() => {}
            }
        }
        terms.configured = configured;
        hear(self.questions(addresses), addresses, &seeds, terms).await
    }

    fn questions(&self, addresses: &[Address]) -> JoinSet<Result<Said, AskError>> {
        let questions = addresses
            .iter()
            .map(|address| ask::ask(address.clone(), Arc::clone(&self.settings)));
        questions.collect()
    }

    /// Where those are that the operator has named.
    fn seeds(&self) -> Vec<Address> {
        let meant = |seed| match self.resolved.get(seed) {
            Some(addresses) => addresses.clone(),
            None => vec![seed.clone()],
        };
        self.settings.seeds.iter().flat_map(meant).collect()
    }

    /// Who is asked: those named by the operator, and those learned.
    fn addresses(&self) -> Vec<Address> {
        let seeds = self.seeds().into_iter();
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
        let mut patience = Duration::ZERO;
        if self.look_ups.is_empty() {
            patience = LOOK_UP_PATIENCE;
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
        let _ = tokio::time::timeout(patience, finish).await;
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
                    self.told.clone(),
                );
                let handle = self.tasks.spawn(listener);
                self.listeners.insert(address.clone(), handle);
            }
        }
        while self.tasks.try_join_next().is_some() {}
    }
}

/// The answers, each Sentinel's once, in the order of the addresses; and what was wrong with one that did not answer. The slow ones are not
/// waited for when enough others agree: one on a host that is dead would cost a second of each switch.
async fn hear(
    mut questions: JoinSet<Result<Said, AskError>>,
    addresses: &[Address],
    seeds: &[Address],
    terms: &mut Terms<'_>,
) -> (Vec<Said>, Option<String>) {
    let mut said: Vec<Said> = Vec::new();
    let mut trouble = None;
    let mut patience = None;
    loop {
        let next = async {
            match patience {
                Some(until) => timeout_at(until, questions.join_next())
                    .await
                    .unwrap_or_default(),
                None => questions.join_next().await,
            }
        };
        match next.await {
            Some(Ok(Ok(answer))) => {
                let is_known = |other: &&Said| other.run_id == answer.run_id;
                let known = said.iter().find(is_known);
                if let (Some(known), true) = (known, answer.run_id.is_some()) {
                    // Named twice by the operator there are fewer than it seemed; not so if others have another name for it [N19].
                    if seeds.contains(&known.from) && seeds.contains(&answer.from) {
                        terms.configured = terms.configured.saturating_sub(1);
                    }
                } else {
                    said.push(answer);
                }
            }
            Some(Ok(Err(error))) => trouble = Some(error.to_string()),
            Some(Err(error)) => trouble = Some(error.to_string()),
            None => break,
        }
        let agree = choose(&reports(&said), *terms).is_ok_and(|choice| choice.is_quorum);
        if agree && patience.is_none() {
            patience = Some(Instant::now() + GRACE);
        }
    }
    // Which of them is first is not left to who is the fastest.
    said.sort_by_key(|said| addresses.iter().position(|at| *at == said.from));
    (said, trouble)
}

fn reports(said: &[Said]) -> Vec<Report> {
    said.iter().map(|said| said.report.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    /// Three that the operator has named, the first of which has another name among the Sentinels: there are three nevertheless.
    #[tokio::test]
    async fn a_second_name_makes_the_sentinels_no_fewer_n19() {
        let at = |text: &str| text.parse::<Address>().unwrap();
        let seeds = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(at);
        for (second, fewer) in [("sentinel-1:1", 0), ("10.0.0.2:1", 1)] {
            let said = |from| Said {
                from,
                run_id: Some(b"x".to_vec()),
                report: Report {
                    primary: at("10.0.0.9:1"),
                    run_id: None,
                    config_epoch: 1,
                    sentinels: 1,
                    tilted: false,
                },
                sentinels: Vec::new(),
            };
            let mut terms = Terms {
                configured: seeds.len(),
                ..Terms::default()
            };
            let addresses = [seeds[0].clone(), at(second)];
            let mut questions = JoinSet::new();
            for address in addresses.clone() {
                questions.spawn(ready(Ok(said(address))));
            }
            let (heard, _) = hear(questions, &addresses, &seeds, &mut terms).await;
            assert_eq!(heard.len(), 1);
            assert_eq!(terms.configured, seeds.len() - fewer);
        }
    }

    /// The look-up of a round before hangs: this one does not wait for it, as it would in every round of a switch.
    #[tokio::test]
    async fn a_look_up_that_hangs_is_waited_for_once() {
        let (mut sentinels, _announced) = Sentinels::new(SentinelSettings {
            service: "front".to_owned(),
            seeds: Vec::new(),
            user: None,
            password: None,
            quorum: None,
        });
        sentinels.look_ups.spawn(pending());
        let started = Instant::now();
        sentinels.look_up().await;
        assert!(started.elapsed() < LOOK_UP_PATIENCE);
        assert_eq!(sentinels.look_ups.len(), 1);
    }
}

//! Where the server may be that has all keys: what its name means, or what Sentinels say.

use std::fmt;
use std::future::pending;
use std::time::Duration;

use slotway_core::config::UpstreamConfig;
use slotway_core::topology::Address;
use slotway_core::topology::sentinel::{Announcement, Choice, is_out_of_reach};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::throttle::Throttle;
use super::Answer;
use super::name::Name;
use super::probe::Standing;
use crate::sentinels::{SentinelSettings, Sentinels};

/// Sentinels are asked this often when there is no reason to [N14].
const SENTINEL_INTERVAL: Duration = Duration::from_secs(10);
/// While they disagree they are asked more often, but not for longer than this.
const UNSETTLED_MAX: Duration = Duration::from_secs(10);

/// How the server is found.
#[derive(Debug)]
pub struct Whereabouts(Kind);

#[derive(Debug)]
enum Kind {
    Name(Name),
    Sentinels(Box<Watched>),
}

/// A server that Sentinels watch.
#[derive(Debug)]
struct Watched {
    service: String,
    sentinels: Sentinels,
    /// What they announce, until somebody hears it.
    announced: Option<mpsc::Receiver<Announcement>>,
    /// What enough of them agreed on last.
    choice: Option<Choice>,
    /// Since when they have not all said the same, or not enough did.
    unsettled_since: Option<Instant>,
    /// Why they could not tell, when they were asked last.
    trouble: Option<String>,
    asked: Option<Instant>,
}

impl Whereabouts {
    /// Where the one server of `upstream` is looked for; `None` if that is a cluster.
    #[must_use]
    pub fn new(upstream: &UpstreamConfig) -> Option<Self> {
        if let Some(server) = &upstream.server {
            return Some(Self(Kind::Name(Name::new(server.clone()))));
        }
        let sentinel = upstream.sentinel.as_ref()?;
        let settings = SentinelSettings {
            service: sentinel.service.clone(),
            seeds: sentinel.addresses.clone(),
            user: sentinel.user.clone(),
            password: sentinel.password.clone(),
            quorum: sentinel.quorum,
        };
        let (sentinels, announced) = Sentinels::new(settings);
        Some(Self(Kind::Sentinels(Box::new(Watched {
            service: sentinel.service.clone(),
            sentinels,
            announced: Some(announced),
            choice: None,
            unsettled_since: None,
            trouble: None,
            asked: None,
        }))))
    }

    /// Promotions that Sentinels announce, if there are any; for one to hear them.
    pub(super) fn take_announced(&mut self) -> Option<mpsc::Receiver<Announcement>> {
        match &mut self.0 {
            Kind::Name(_) => None,
            Kind::Sentinels(watched) => watched.announced.take(),
        }
    }

    /// Ends when there is a reason to look again.
    pub(super) async fn news(&self) {
        match &self.0 {
            Kind::Name(_) => pending().await,
            Kind::Sentinels(watched) => watched.sentinels.event().await,
        }
    }

    /// Whether another answer is to be expected soon.
    pub(super) fn is_unsettled(&self) -> bool {
        match &self.0 {
            Kind::Name(_) => false,
            Kind::Sentinels(watched) => watched.is_unsettled(Instant::now()),
        }
    }

    /// Where the server may be. What was known stands for what cannot be learned: an outage of those who are asked must not become one
    /// of the server [N16].
    pub(super) async fn find(&mut self, in_trouble: bool, throttle: &mut Throttle) -> Vec<Address> {
        match &mut self.0 {
            Kind::Name(name) => name.find(throttle).await,
            Kind::Sentinels(watched) => watched.find(in_trouble, throttle).await,
        }
    }

    /// The primary that a quorum of Sentinels names: none but that one may be written to [N17].
    pub(super) fn choice(&self) -> Option<&Choice> {
        match &self.0 {
            Kind::Name(_) => None,
            Kind::Sentinels(watched) => {
                let choice = watched.choice.as_ref()?;
                choice.is_quorum.then_some(choice)
            }
        }
    }

    /// Why it is not known where the server is.
    pub(super) fn trouble(&self) -> Option<String> {
        match &self.0 {
            Kind::Name(_) => None,
            Kind::Sentinels(watched) => watched.trouble.clone(),
        }
    }

    /// Whom else to ask: if all that answered are replicas, the servers that they follow [N24]; if nobody did, the one `last_used`, which
    /// was found in this way. Where there are Sentinels nobody else says who it is.
    pub(super) fn followed(&self, answers: &[Answer], last_used: Option<&Address>) -> Vec<Address> {
        if matches!(self.0, Kind::Sentinels(_)) {
            return Vec::new();
        }
        let mut followed = Vec::new();
        if answers.iter().all(|(.., answer)| answer.is_err()) {
            followed.extend(last_used.cloned());
        }
        for (address, _, answer) in answers {
            let Ok((_, probe)) = answer else { continue };
            match &probe.standing {
                Standing::Primary => return Vec::new(),
                Standing::ReplicaOf(primary) => {
                    let primary = primary.parse().ok();
                    followed.extend(primary.filter(|primary| !is_out_of_reach(primary, address)));
                }
                Standing::Member => {}
            }
        }
        followed.sort_unstable();
        followed.dedup();
        followed.retain(|primary| answers.iter().all(|(address, ..)| address != primary));
        followed
    }

    /// Why the server that answers at `address` is not taken.
    pub(super) fn objection(&self, address: &Address, standing: &Standing) -> Option<String> {
        Some(match (standing, &self.0) {
            (Standing::Primary, _) => return None,
            (Standing::ReplicaOf(primary), Kind::Name(_)) => format!(
                "the server at {address} is a replica of {primary}, where no primary answers: start that one, make this one a primary (REPLICAOF NO ONE), or point upstream.server at a server that takes writes"
            ),
            (Standing::ReplicaOf(primary), Kind::Sentinels(_)) => format!(
                "the Sentinels name {address}, which is a replica of {primary}: a failover is under way, or they watch the wrong server"
            ),
            (Standing::Member, Kind::Name(_)) => format!(
                "the server at {address} is a node of a cluster: set upstream.cluster instead of upstream.server"
            ),
            (Standing::Member, Kind::Sentinels(_)) => format!(
                "the server at {address} is a node of a cluster: set upstream.cluster instead of upstream.sentinels"
            ),
        })
    }
}

impl Watched {
    async fn find(&mut self, in_trouble: bool, throttle: &mut Throttle) -> Vec<Address> {
        let now = Instant::now();
        let is_due = self.asked.is_none_or(|at| now >= at + SENTINEL_INTERVAL);
        if is_due || in_trouble || self.is_unsettled(now) {
            self.asked = Some(now);
            self.ask(throttle, now).await;
        }
        let primary = self.choice.as_ref().map(|choice| choice.primary.clone());
        primary.into_iter().collect()
    }

    fn note_unsettled(&mut self, is_unsettled: bool, now: Instant) {
        self.unsettled_since = is_unsettled.then(|| self.unsettled_since.unwrap_or(now));
    }

    /// One that goes on to say something else, because it watches another server or is cut off, is no reason to ask all of them all the time.
    fn is_unsettled(&self, now: Instant) -> bool {
        self.unsettled_since
            .is_some_and(|since| now < since + UNSETTLED_MAX)
    }

    async fn ask(&mut self, throttle: &mut Throttle, now: Instant) {
        match self.sentinels.find(self.choice.as_ref()).await {
            Ok(found) => {
                self.note_unsettled(found.choice.votes < found.counted, now);
                self.trouble = None;
                let is_other = |known: &Choice| known.primary != found.choice.primary;
                if self.choice.as_ref().is_none_or(is_other) {
                    tracing::info!(
                        service = self.service,
                        primary = %found.choice.primary,
                        config_epoch = found.choice.config_epoch,
                        votes = found.choice.votes,
                        sentinels = found.asked,
                        "the Sentinels name a primary"
                    );
                }
                self.choice = Some(found.choice);
            }
            Err(error) => {
                self.note_unsettled(error.is_disagreement(), now);
                self.trouble = Some(format!(
                    "the Sentinels do not tell where the primary of service {} is: {error}",
                    self.service
                ));
                if let Some(held_back) = throttle.pass("sentinels", now) {
                    tracing::warn!(service = self.service, %error, held_back, "the Sentinels do not tell where the primary is: what is known stands");
                }
            }
        }
    }
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Name(name) => name.server.fmt(f),
            Kind::Sentinels(watched) => write!(f, "service {}", watched.service),
        }
    }
}

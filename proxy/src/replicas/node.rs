//! One server that is asked how far its replication is.

use std::sync::Arc;
use std::time::Duration;

use slotway_core::config::UpstreamConfig;
use slotway_core::topology::replication::{Lag, Replication, Unreadable};
use slotway_core::topology::{Address, NodeId, Reader};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, timeout};

use crate::question::Questioner;

/// Connect, log in and answer: a server has this long in all. Less than the period, so that each round knows how the last one ended.
const PATIENCE: Duration = Duration::from_millis(900);

/// The part of the last measurement in the average.
const WEIGHT: f64 = 0.3;

/// What is known of a replica.
#[derive(Debug, Clone)]
pub(crate) struct ReplicaStatus {
    /// Its node id; outside of clusters its run id, once it has told that.
    pub(crate) id: Option<NodeId>,
    /// Where it is.
    pub(crate) address: Address,
    /// Its primary.
    pub(crate) primary: NodeId,
    /// The zone it is in, if that is known.
    pub(crate) zone: Option<String>,
    /// That is the proxy's own.
    pub(crate) near: bool,
    /// How long a question takes there.
    pub(crate) latency: Duration,
    /// How far it is behind, and why it is not to be read from.
    pub(crate) lag: Lag,
    /// Why it gave no answer, if it gave none.
    pub(crate) trouble: Option<String>,
}

impl ReplicaStatus {
    /// For the workers, if it may be read from. It was found so this long ago.
    pub(super) fn as_reader(&self, age: Duration) -> Option<Reader> {
        let lag = self.lag.time.filter(|_| self.lag.unreadable.is_none())?;
        Some(Reader {
            id: self.id.clone()?,
            address: self.address.clone(),
            primary: self.primary.clone(),
            near: self.near,
            latency: self.latency,
            behind: lag + age,
        })
    }

    /// Why it is not to be read from, for people; `None` if it may be.
    pub(crate) fn why_not(&self) -> Option<String> {
        let reason = self.lag.unreadable?;
        Some(describe(reason, self.trouble.as_deref()))
    }
}

fn describe(reason: Unreadable, trouble: Option<&str>) -> String {
    match trouble {
        Some(trouble) if reason == Unreadable::Silent => format!("{reason}: {trouble}"),
        _ => reason.to_string(),
    }
}

/// One server.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: Address,
    /// By the topology.
    pub(super) id: Option<NodeId>,
    /// By the topology.
    pub(super) has_failed: bool,
    /// What it answered last; `None` if it did not answer the last question, or none yet.
    pub(super) said: Option<Replication>,
    /// When it was asked that.
    pub(super) asked: Instant,
    /// Why it did not answer the last question.
    pub(super) trouble: Option<String>,
    /// How it was judged last; what was told of that is not said again.
    lag: Option<Lag>,
    latency: Option<Duration>,
    /// Of the process that answered last.
    process: Option<Process>,
    link: Option<Questioner>,
    /// The question that it has not answered yet.
    asking: Option<JoinHandle<Result<Answer, String>>>,
}

/// What stays the same as long as a connection.
#[derive(Debug)]
struct Process {
    run_id: String,
    zone: Option<String>,
}

/// An answer to a question.
#[derive(Debug)]
struct Answer {
    link: Questioner,
    /// Of a connection that was opened for it.
    process: Option<Process>,
    asked: Instant,
    took: Duration,
    said: Replication,
}

impl Node {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            id: None,
            has_failed: false,
            said: None,
            asked: Instant::now(),
            trouble: None,
            lag: None,
            latency: None,
            process: None,
            link: None,
            asking: None,
        }
    }

    /// Begins to ask it how far it is, unless it still owes the last answer.
    pub(super) async fn begin(&mut self, upstream: &Arc<UpstreamConfig>) {
        if self.asking.as_ref().is_some_and(JoinHandle::is_finished) {
            self.answered().await;
        }
        if self.asking.is_none() {
            let (address, link) = (self.address.clone(), self.link.take());
            let upstream = Arc::clone(upstream);
            self.asking = Some(spawn_local(ask_in_time(address, link, upstream)));
        }
    }

    /// Waits until the question is answered, or was given up. May itself be given up: nothing is lost.
    pub(super) async fn answered(&mut self) {
        let Some(asking) = &mut self.asking else {
            return;
        };
        let answer = asking.await;
        self.asking = None;
        match answer {
            Ok(Ok(answer)) => {
                self.note_latency(answer.took);
                self.link = Some(answer.link);
                if answer.process.is_some() {
                    self.process = answer.process;
                }
                self.asked = answer.asked;
                self.said = Some(answer.said);
                self.trouble = None;
            }
            Ok(Err(trouble)) => {
                tracing::debug!(node = %self.address, trouble, "a node does not say how far its replication is");
                self.said = None;
                self.trouble = Some(trouble);
            }
            Err(ended) => {
                self.said = None;
                self.trouble = Some(ended.to_string());
            }
        }
    }

    fn note_latency(&mut self, latency: Duration) {
        self.latency = Some(match self.latency {
            Some(average) => average.mul_f64(1.0 - WEIGHT) + latency.mul_f64(WEIGHT),
            None => latency,
        });
    }

    /// How long a question takes, on the average of the last ones.
    pub(super) fn latency(&self) -> Duration {
        self.latency.unwrap_or_default()
    }

    /// Its id by the topology, or of its process.
    pub(super) fn known_id(&self) -> Option<NodeId> {
        let run_id = self.process.as_ref().map(|it| NodeId::new(&it.run_id));
        self.id.clone().or(run_id)
    }

    /// The zone it says it is in, or else is in by the configuration.
    pub(super) fn zone<'n>(&'n self, upstream: &'n UpstreamConfig) -> Option<&'n str> {
        let told = self.process.as_ref().and_then(|it| it.zone.as_deref());
        told.or_else(|| upstream.zones.of(&self.address))
    }

    /// It is in the proxy's own zone.
    pub(super) fn is_near(&self, upstream: &UpstreamConfig) -> bool {
        let own = upstream.zone.as_deref();
        own.is_some() && self.zone(upstream) == own
    }

    /// Notes how it is judged as a replica; says so if that is news.
    pub(super) fn note_lag(&mut self, lag: Lag) {
        // Before its primary was asked twice, that is so of every replica.
        if self.lag.is_none() && lag.unreadable == Some(Unreadable::Behind(None)) {
            return;
        }
        let before = self.lag.replace(lag);
        let was_readable = before.map(|before| before.unreadable.is_none());
        match lag.unreadable {
            None if was_readable != Some(true) => {
                tracing::info!(replica = %self.address, "a replica may be read from");
            }
            Some(reason) if was_readable != Some(false) => {
                let reason = describe(reason, self.trouble.as_deref());
                tracing::warn!(replica = %self.address, reason, "a replica is not read from");
            }
            _ => {}
        }
    }
}

/// Asks, over a new connection if there is none. An error says why there is no answer; the connection is given up then.
async fn ask_in_time(
    address: Address,
    link: Option<Questioner>,
    upstream: Arc<UpstreamConfig>,
) -> Result<Answer, String> {
    let answer = async {
        let (mut link, process) = match link {
            Some(link) => (link, None),
            None => {
                let (link, process) = connect(&address, &upstream).await?;
                (link, Some(process))
            }
        };
        let asked = Instant::now();
        let said = link.ask(&["INFO", "replication"]).await?;
        let said = said.map_err(std::io::Error::other)?;
        let said = Replication::parse(&said).ok_or_else(|| {
            std::io::Error::other("INFO replication does not say whether it is a replica")
        })?;
        Ok::<_, std::io::Error>(Answer {
            link,
            process,
            asked,
            took: asked.elapsed(),
            said,
        })
    };
    match timeout(PATIENCE, answer).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_elapsed) => Err(format!("nothing within {} ms", PATIENCE.as_millis())),
    }
}

async fn connect(
    address: &Address,
    upstream: &UpstreamConfig,
) -> std::io::Result<(Questioner, Process)> {
    let mut link = Questioner::connect(address).await?;
    link.log_in(upstream.user.as_deref(), upstream.password.as_ref())
        .await?
        .map_err(std::io::Error::other)?;
    let info = link.ask(&["INFO", "server"]).await?;
    let info = info.map_err(std::io::Error::other)?;
    let field = |wanted: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(name, _)| *name == wanted);
        found.map(|(_, value)| value.trim().to_owned())
    };
    let process = Process {
        run_id: field("run_id").unwrap_or_else(|| address.to_string()),
        zone: field("availability_zone").filter(|zone| !zone.is_empty()),
    };
    Ok((link, process))
}

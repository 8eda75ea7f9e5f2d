//! One server that is asked how far its replication is.

use std::sync::Arc;
use std::time::Duration;

use slotway_core::config::UpstreamConfig;
use slotway_core::topology::replication::{Lag, Replication, Unreadable};
use slotway_core::topology::{Address, NodeId, Reader};
use tokio::time::{Instant, timeout};

use crate::question::Questioner;

/// Connect, log in and answer: a server has this long in all.
const PATIENCE: Duration = Duration::from_secs(1);

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
}

/// One server.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: Address,
    /// By the topology.
    pub(super) id: Option<NodeId>,
    /// What it answered last; `None` if it did not.
    pub(super) said: Option<Replication>,
    /// When it was asked that.
    pub(super) asked: Instant,
    /// How it was judged last; what was told of that is not said again.
    pub(super) lag: Option<Lag>,
    latency: Option<Duration>,
    link: Option<Link>,
}

#[derive(Debug)]
struct Link {
    questioner: Questioner,
    run_id: String,
    zone: Option<String>,
}

impl Node {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            id: None,
            said: None,
            asked: Instant::now(),
            lag: None,
            latency: None,
            link: None,
        }
    }

    /// Asks it how far it is.
    pub(super) async fn ask(mut self, upstream: Arc<UpstreamConfig>) -> Self {
        self.asked = Instant::now();
        let link = self.link.take();
        let address = &self.address;
        let answer = async {
            let mut link = match link {
                Some(link) => link,
                None => connect(address, &upstream).await?,
            };
            let asked = Instant::now();
            let said = link.questioner.ask(&["INFO", "replication"]).await?;
            Ok::<_, std::io::Error>((link, asked, said.map_err(std::io::Error::other)?))
        };
        match timeout(PATIENCE, answer).await {
            Ok(Ok((link, asked, said))) => {
                self.asked = asked;
                self.note_latency(asked.elapsed());
                self.link = Some(link);
                self.said = Replication::parse(&said);
            }
            Ok(Err(error)) => {
                tracing::debug!(node = %self.address, %error, "a node does not say how far its replication is");
                self.said = None;
            }
            Err(_) => {
                tracing::debug!(node = %self.address, "a node does not say in time how far its replication is");
                self.said = None;
            }
        }
        self
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
        let run_id = self.link.as_ref().map(|link| NodeId::new(&link.run_id));
        self.id.clone().or(run_id)
    }

    /// The zone it says it is in, or else is in by the configuration.
    pub(super) fn zone<'n>(&'n self, upstream: &'n UpstreamConfig) -> Option<&'n str> {
        let told = self.link.as_ref().and_then(|link| link.zone.as_deref());
        told.or_else(|| upstream.zones.of(&self.address))
    }

    /// It is in the proxy's own zone.
    pub(super) fn is_near(&self, upstream: &UpstreamConfig) -> bool {
        let own = upstream.zone.as_deref();
        own.is_some() && self.zone(upstream) == own
    }

    /// Notes how it is judged as a replica; says so if that is news.
    pub(super) fn note_lag(&mut self, lag: Lag) {
        let before = self.lag.replace(lag);
        let was_readable = before.is_some_and(|before| before.unreadable.is_none());
        let is_first = before.is_none();
        match lag.unreadable {
            None if !was_readable => {
                tracing::info!(replica = %self.address, "a replica may be read from");
            }
            // Before its primary was asked twice, that is so of every replica.
            Some(Unreadable::Behind(None)) if is_first => {}
            Some(reason) if was_readable || is_first => {
                tracing::warn!(replica = %self.address, %reason, "a replica is not read from");
            }
            _ => {}
        }
    }
}

async fn connect(address: &Address, upstream: &UpstreamConfig) -> std::io::Result<Link> {
    let mut questioner = Questioner::connect(address).await?;
    questioner
        .log_in(upstream.user.as_deref(), upstream.password.as_ref())
        .await?
        .map_err(std::io::Error::other)?;
    let info = questioner.ask(&["INFO", "server"]).await?;
    let info = info.unwrap_or_default();
    let field = |wanted: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(name, _)| *name == wanted);
        found.map(|(_, value)| value.trim().to_owned())
    };
    Ok(Link {
        questioner,
        run_id: field("run_id").unwrap_or_else(|| address.to_string()),
        zone: field("availability_zone").filter(|zone| !zone.is_empty()),
    })
}

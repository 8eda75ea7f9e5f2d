//! What clients may want to know of the servers (version, memory policy, number of keys), asked from the primaries by INFO; and their
//! commands, asked by COMMAND.
//!
//! Client libraries decide by the version whether they work at all, so it is asked as soon as the topology is known and after
//! every change of it; the rest is for people and may be older. A node that does not answer leaves what it said last.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use slotway_core::config::UpstreamConfig;
use slotway_core::local::{Databases, UpstreamFacts};
use slotway_core::topology::{Address, NodeId, Snapshot};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::commands::Commands;
use super::databases::{self, fewest};
use super::status::LearnedCount;
use crate::facts::Facts;
use crate::question::Questioner;

/// Age up to which the number of keys is good enough.
const PERIOD: Duration = Duration::from_secs(10);
/// A node that takes longer is left for the next time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// The same for COMMAND, whose answer is some hundred KiB.
const COMMANDS_TIMEOUT: Duration = Duration::from_secs(3);

/// Publishes until the task is dropped; at once when `changed` is notified.
pub(super) async fn publish(
    facts: Arc<Facts>,
    learned: Rc<LearnedCount>,
    upstream: UpstreamConfig,
    snapshot: Arc<ArcSwap<Snapshot>>,
    changed: Rc<Notify>,
) {
    let mut servers: HashMap<NodeId, Server> = HashMap::new();
    let mut commands = Commands::new(Arc::clone(&facts), learned);
    loop {
        let current = snapshot.load_full();
        let primaries: Vec<_> = current
            .shards()
            .iter()
            .map(|shard| current.node(shard.primary))
            .collect();
        servers.retain(|id, _| primaries.iter().any(|primary| primary.id == *id));
        commands.begin(primaries.iter().map(|primary| &primary.id));
        // What the snapshot says holds at once, what nodes say of themselves when they have said it.
        facts.set_upstream(sum_of(&current, &servers));
        for primary in primaries {
            let server = servers.entry(primary.id.clone()).or_default();
            server.ask(&primary.address, &upstream).await;
            server.ask_databases().await;
            server.ask_commands(&primary.id, &mut commands).await;
        }
        facts.set_upstream(sum_of(&current, &servers));
        // Whatever comes first, it is time for another look.
        tokio::select! {
            () = sleep(PERIOD) => {}
            () = changed.notified() => {}
            () = commands.wish() => {}
        }
    }
}

/// All that the servers have said.
fn sum_of(current: &Snapshot, servers: &HashMap<NodeId, Server>) -> UpstreamFacts {
    let said = servers.values().filter_map(|server| server.said.as_ref());
    let databases = servers.values().filter_map(|server| {
        let (_, databases) = server.databases.as_ref()?;
        Some(databases)
    });
    UpstreamFacts {
        databases: fewest(databases),
        ..summarize(current, said)
    }
}

/// One primary.
#[derive(Default)]
struct Server {
    link: Option<(Address, Questioner)>,
    said: Option<Said>,
    /// What it has, and the run id it had then.
    databases: Option<(String, Databases)>,
}

impl Server {
    /// Asks the node, by the connection there is or a new one.
    async fn ask(&mut self, address: &Address, upstream: &UpstreamConfig) {
        let link = self
            .link
            .take()
            .filter(|(known, _)| known == address)
            .map(|(_, link)| link);
        let answer = async {
            let mut link = match link {
                Some(link) => link,
                None => connect(address, upstream).await?,
            };
            let said = link.ask(&["INFO"]).await?;
            Ok::<_, std::io::Error>((link, said))
        };
        match timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok((link, said))) => {
                match said {
                    Ok(said) => self.said = Some(Said::parse(&said)),
                    Err(error) => {
                        tracing::debug!(node = %address, error, "the node does not say what it is");
                    }
                }
                self.link = Some((address.clone(), link));
            }
            Ok(Err(error)) => {
                tracing::debug!(node = %address, %error, "the node does not say what it is");
            }
            Err(_) => tracing::debug!(node = %address, "the node does not say what it is in time"),
        }
    }
}

impl Server {
    /// Asks the node how many databases it has, if it has not told since it was started.
    async fn ask_databases(&mut self) {
        let run = self.said.as_ref().map_or("", |said| &said.run_id);
        let known = self.databases.as_ref();
        let Some((address, link)) = &mut self.link else {
            return;
        };
        if known.is_some_and(|(then, _)| then == run) {
            return;
        }
        match timeout(ANSWER_TIMEOUT, databases::count(link)).await {
            Ok(Ok(Some(databases))) => self.databases = Some((run.to_owned(), databases)),
            Ok(Ok(None)) => {}
            Ok(Err(_)) | Err(_) => {
                tracing::debug!(node = %address, "the node does not tell how many databases it has");
                self.link = None;
            }
        }
    }

    /// Asks the node for its commands, if it has not told them yet or is wanted to again.
    async fn ask_commands(&mut self, id: &NodeId, commands: &mut Commands) {
        let version = self.said.as_ref().map_or("", |said| &said.run_id);
        let Some((address, link)) = &mut self.link else {
            return;
        };
        if !commands.wants(id, version) {
            return;
        }
        match timeout(COMMANDS_TIMEOUT, link.ask_anything(&["COMMAND"])).await {
            Ok(Ok(reply)) => commands.take(id, version, reply),
            Ok(Err(error)) => {
                tracing::debug!(node = %address, %error, "the node does not tell its commands");
                self.link = None;
            }
            Err(_) => {
                tracing::debug!(node = %address, "the node does not tell its commands in time");
                self.link = None;
            }
        }
    }
}

async fn connect(address: &Address, upstream: &UpstreamConfig) -> std::io::Result<Questioner> {
    let mut link = Questioner::connect(address).await?;
    link.log_in(upstream.user.as_deref(), upstream.password.as_ref())
        .await?
        .map_err(std::io::Error::other)?;
    Ok(link)
}

/// What a node says of itself.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Said {
    redis_version: Option<Version>,
    valkey_version: Option<Version>,
    maxmemory: Option<u64>,
    maxmemory_policy: Option<String>,
    keys: u64,
    /// The same of other databases than 0.
    keys_elsewhere: BTreeMap<u32, u64>,
    /// New with every start of the server, so that it stands for its version and its modules, too [K15].
    run_id: String,
}

impl Said {
    fn parse(info: &str) -> Self {
        let mut said = Self::default();
        for (name, value) in info.lines().filter_map(|line| line.split_once(':')) {
            match name {
                "redis_version" => said.redis_version = Version::parse(value),
                "valkey_version" => said.valkey_version = Version::parse(value),
                "maxmemory" => said.maxmemory = value.parse().ok(),
                "run_id" => value.clone_into(&mut said.run_id),
                "maxmemory_policy" => said.maxmemory_policy = Some(value.to_owned()),
                _ => said.note_keys(name, value),
            }
        }
        said
    }

    /// A line such as `db0:keys=7,expires=0`.
    fn note_keys(&mut self, name: &str, value: &str) {
        let database = name
            .strip_prefix("db")
            .and_then(|digits| digits.parse().ok());
        let mut fields = value.split(',');
        let keys = fields.find_map(|field| field.strip_prefix("keys=")?.parse().ok());
        match (database, keys) {
            (Some(0), Some(keys)) => self.keys = keys,
            (Some(database), Some(keys)) => {
                self.keys_elsewhere.insert(database, keys);
            }
            _ => {}
        }
    }
}

/// A version as text that compares by its numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    numbers: Vec<u32>,
    text: String,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let numbers = text
            .split('.')
            .map(|number| number.parse().ok())
            .collect::<Option<Vec<u32>>>()?;
        Some(Self {
            numbers,
            text: text.to_owned(),
        })
    }
}

/// The whole as one server: the oldest version [Y1], the sum of the rest.
fn summarize<'s>(snapshot: &Snapshot, said: impl Iterator<Item = &'s Said>) -> UpstreamFacts {
    let said: Vec<&Said> = said.collect();
    let oldest = said
        .iter()
        .filter_map(|said| said.redis_version.as_ref())
        .min();
    let all_valkey = !said.is_empty() && said.iter().all(|said| said.valkey_version.is_some());
    let oldest_valkey = said
        .iter()
        .filter_map(|said| said.valkey_version.as_ref())
        .min()
        .filter(|_| all_valkey);
    let policy = said
        .first()
        .and_then(|first| first.maxmemory_policy.as_deref());
    let one_policy = said
        .iter()
        .all(|said| said.maxmemory_policy.as_deref() == policy);
    let mut keys_elsewhere: BTreeMap<u32, u64> = BTreeMap::new();
    for (database, keys) in said.iter().flat_map(|said| &said.keys_elsewhere) {
        *keys_elsewhere.entry(*database).or_default() += keys;
    }
    let text = |version: &Version| Arc::from(version.text.as_str());
    // RESP3 came with 6.0.
    let resp3 = oldest.is_none_or(|oldest| oldest.numbers.first().is_none_or(|major| *major >= 6));
    UpstreamFacts {
        redis_version: oldest.map(text),
        valkey_version: oldest_valkey.map(text),
        resp3,
        maxmemory_policy: policy.filter(|_| one_policy).map(Arc::from),
        maxmemory: (!said.is_empty()).then(|| said.iter().filter_map(|said| said.maxmemory).sum()),
        keys: (!said.is_empty()).then(|| said.iter().map(|said| said.keys).sum()),
        keys_elsewhere: keys_elsewhere.into_iter().collect(),
        databases: None,
        nodes: snapshot.nodes().len(),
        primaries: snapshot.shards().len(),
        generation: snapshot.generation,
        uncovered_slots: snapshot.uncovered_slots(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REDIS: &str = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory:100\r\nmaxmemory_policy:noeviction\r\n\
                         # Keyspace\r\ndb0:keys=7,expires=0,avg_ttl=0\r\ndb1:keys=9,expires=0,avg_ttl=0\r\n";
    const VALKEY: &str = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n";
    const OLD: &str = "redis_version:5.0.14\r\nmaxmemory_policy:allkeys-lru\r\n";

    fn summary(infos: &[&str]) -> UpstreamFacts {
        let said: Vec<_> = infos.iter().map(|info| Said::parse(info)).collect();
        summarize(&Snapshot::empty(), said.iter())
    }

    #[test]
    fn the_lowest_version_counts_and_figures_add_up() {
        let facts = summary(&[VALKEY, REDIS]);
        assert_eq!(facts.redis_version.as_deref(), Some("7.0.15"));
        assert_eq!(facts.valkey_version, None, "not every server is a Valkey");
        assert_eq!((facts.keys, facts.maxmemory), (Some(7), Some(100)));
        assert_eq!(*facts.keys_elsewhere, [(1, 9)]);
        assert_eq!(*summary(&[REDIS, REDIS]).keys_elsewhere, [(1, 18)]);
        assert_eq!(facts.maxmemory_policy.as_deref(), Some("noeviction"));
        assert!(facts.resp3);
        assert_eq!(
            summary(&[VALKEY, VALKEY]).valkey_version.as_deref(),
            Some("9.1.2")
        );
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(Version::parse("7.0.15") > Version::parse("7.0.9"));
        assert!(Version::parse("10.0.0") > Version::parse("9.1.2"));
        assert_eq!(Version::parse("7.x"), None);
    }

    #[test]
    fn an_old_server_takes_resp3_away_and_policies_must_agree() {
        let facts = summary(&[OLD, REDIS]);
        assert!(!facts.resp3);
        assert_eq!(facts.maxmemory_policy, None);
    }

    #[test]
    fn nothing_known_promises_nothing() {
        let facts = summary(&[]);
        assert_eq!(
            (facts.redis_version, facts.keys, facts.maxmemory),
            (None, None, None)
        );
        assert!(facts.resp3);
    }
}

//! What is behind the proxy: one upstream or several, and which one each listener's clients use.

use super::UpstreamConfig;
use super::fault::Fault;
use super::keys::{self, Key};
use super::source::{Raw, Setting, nearest};
use super::typed::{Reader, as_text};
use crate::topology::{Address, AddressMap, AddressPattern, AddressRule, Zones};
use std::sync::Arc;

/// Longest name of an upstream: it is a label of metrics.
const MAX_NAME_LEN: usize = 64;

/// What to do where the only upstream has no servers, and where one of several has none.
const NO_SERVERS: &str = "Give --cluster HOST:PORT,..., set SLOTWAY_CLUSTER, or write cluster = [\"HOST:PORT\"] under [upstream]. For a server that is no cluster: --server HOST:PORT, SLOTWAY_UPSTREAM_SERVER, or server = \"HOST:PORT\"; for one that Sentinels watch: sentinels = [\"HOST:PORT\"].";
const NO_SERVERS_HERE: &str = "Write cluster = [\"HOST:PORT\"], server = \"HOST:PORT\" or sentinels = [\"HOST:PORT\"] below this [[upstream]].";

impl Reader<'_> {
    /// Every upstream. Where there are several, each has a name of its own, or there is a fault.
    pub(super) fn upstreams(&mut self) -> Vec<UpstreamConfig> {
        let tables = self.settings.tables("upstream");
        self.refuse_ambiguous("upstream", tables);
        let upstreams: Vec<_> = (0..tables).map(|table| self.upstream(table)).collect();
        if tables > 1 {
            self.check_names(&upstreams);
        }
        upstreams
    }

    fn check_names(&mut self, upstreams: &[UpstreamConfig]) {
        for (table, upstream) in upstreams.iter().enumerate() {
            let Some(setting) = self.settings.get(&keys::UPSTREAM_NAME, table) else {
                if !self.settings.broken_file {
                    self.faults.push(Fault {
                        origin: self.settings.origin("upstream", table),
                        key: keys::UPSTREAM_NAME.path.to_owned(),
                        value: None,
                        problem: "is missing: of several upstreams each needs a name".to_owned(),
                        remedy: "Write name = \"NAME\" below this [[upstream]], and upstream = \"NAME\" below the [[listener]] whose clients use it.".to_owned(),
                    });
                }
                continue;
            };
            let mut before = upstreams.iter().take(table);
            let same = before.position(|other| other.name.is_some() && other.name == upstream.name);
            if let Some(other) = same {
                let place = self.settings.origin("upstream", other);
                let problem = format!("is the name of another upstream, too ({place})");
                self.fault(setting, problem, "Give each its own name.".to_owned());
            }
        }
    }

    fn upstream_name(&mut self, table: usize) -> Option<String> {
        let key = &keys::UPSTREAM_NAME;
        let (setting, name) = self.text(key, table)?;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.len() > MAX_NAME_LEN || !name.bytes().all(is_allowed) {
            self.fault(setting, "is not such a name".to_owned(), key.allowed());
        }
        Some(name.to_owned())
    }

    /// For each of the listeners its upstream.
    pub(super) fn used_upstreams(
        &mut self,
        upstreams: &[UpstreamConfig],
        listeners: usize,
    ) -> Vec<usize> {
        let faults = self.faults.len();
        let used: Vec<usize> = (0..listeners)
            .map(|table| self.used_upstream(upstreams, table))
            .collect();
        // What a listener with a fault was meant to use, nobody knows.
        if self.faults.len() == faults && upstreams.len() > 1 && !self.settings.broken_file {
            self.check_all_used(upstreams, &used);
        }
        used
    }

    fn used_upstream(&mut self, upstreams: &[UpstreamConfig], table: usize) -> usize {
        let key = &keys::LISTENER_UPSTREAM;
        let names: Vec<&str> = upstreams
            .iter()
            .filter_map(|upstream| upstream.name.as_deref())
            .collect();
        if self.settings.get(key, table).is_none() {
            if upstreams.len() > 1 && !self.settings.broken_file {
                self.faults.push(Fault {
                    origin: self.settings.origin("listener", table),
                    key: key.path.to_owned(),
                    value: None,
                    problem: format!(
                        "is missing: which of the {} upstreams do the clients of this listener use?",
                        upstreams.len()
                    ),
                    remedy: format!("Write upstream = \"NAME\" below this [[listener]]. {}", those(&names)),
                });
            }
            return 0;
        }
        let Some((setting, wanted)) = self.text(key, table) else {
            return 0;
        };
        let is_it = |upstream: &UpstreamConfig| upstream.name.as_deref() == Some(wanted);
        if let Some(index) = upstreams.iter().position(is_it) {
            return index;
        }
        // The name may be in the part that cannot be read.
        if !self.settings.broken_file {
            let remedy = match nearest(wanted, names.iter().copied()) {
                Some(near) => format!("Did you mean {near:?}?"),
                None if names.is_empty() => {
                    format!("Write name = {wanted:?} below [upstream], or leave this out.")
                }
                None => those(&names),
            };
            self.fault(setting, "is the name of no upstream".to_owned(), remedy);
        }
        0
    }

    fn check_all_used(&mut self, upstreams: &[UpstreamConfig], used: &[usize]) {
        let is_used = |table: usize| {
            // By its name, since two may have the same by mistake.
            used.iter()
                .any(|used| upstreams[*used].name == upstreams[table].name)
        };
        for table in (0..upstreams.len()).filter(|table| !is_used(*table)) {
            if let Some(setting) = self.settings.get(&keys::UPSTREAM_NAME, table) {
                let shown = setting.raw.show();
                let remedy = format!(
                    "Write upstream = {shown} below the [[listener]] whose clients use it, or leave this upstream out."
                );
                self.fault(setting, "is used by no listener".to_owned(), remedy);
            }
        }
    }

    fn upstream(&mut self, table: usize) -> UpstreamConfig {
        let upstream = UpstreamConfig {
            name: self.upstream_name(table),
            seeds: self.seeds(table),
            server: self.server(table),
            sentinel: self.sentinel(table),
            user: self
                .text(&keys::UPSTREAM_USER, table)
                .map(|(_, user)| user.to_owned()),
            password: self.password(
                &keys::UPSTREAM_PASSWORD,
                &keys::UPSTREAM_PASSWORD_FILE,
                table,
            ),
            connections_per_node: self.count(&keys::UPSTREAM_CONNECTIONS_PER_NODE, table),
            connect_timeout: self.time(&keys::UPSTREAM_CONNECT_TIMEOUT, table),
            node_timeout: self.time(&keys::UPSTREAM_NODE_TIMEOUT, table),
            refresh_interval: self.time(&keys::UPSTREAM_REFRESH_INTERVAL, table),
            fast_fail_uncovered: self.switch(&keys::UPSTREAM_FAST_FAIL_UNCOVERED, table),
            resend_idempotent_writes: self.switch(&keys::UPSTREAM_RESEND_IDEMPOTENT_WRITES, table),
            address_map: self.address_map(table),
            replica_max_lag: self.time(&keys::UPSTREAM_REPLICA_MAX_LAG, table),
            replica_max_lag_bytes: self.size(&keys::UPSTREAM_REPLICA_MAX_LAG_BYTES, table),
            zone: self.zone(table),
            zones: self.zones(table),
        };
        let password_given = [&keys::UPSTREAM_PASSWORD, &keys::UPSTREAM_PASSWORD_FILE]
            .iter()
            .any(|key| self.settings.get(key, table).is_some());
        if let Some(user) = self
            .settings
            .get(&keys::UPSTREAM_USER, table)
            .filter(|_| !password_given)
        {
            let remedy =
                "Set upstream.password or upstream.password_file too, or leave the user out.";
            self.fault(user, "has no password".to_owned(), remedy.to_owned());
        }
        upstream
    }

    fn seeds(&mut self, table: usize) -> Vec<Address> {
        let key = &keys::UPSTREAM_CLUSTER;
        let Some(setting) = self.settings.get(key, table) else {
            let is_given = |key| self.settings.get(key, table).is_some();
            let others = [&keys::UPSTREAM_SERVER, &keys::UPSTREAM_SENTINELS];
            if !self.settings.broken_file && !others.into_iter().any(is_given) {
                let only = self.settings.tables("upstream") == 1;
                let remedy = if only { NO_SERVERS } else { NO_SERVERS_HERE };
                self.faults.push(Fault {
                    origin: self.settings.origin("upstream", table),
                    key: key.path.to_owned(),
                    value: None,
                    problem: "is missing: the proxy has no servers to talk to".to_owned(),
                    remedy: remedy.to_owned(),
                });
            }
            return Vec::new();
        };
        self.address_list(setting)
    }

    pub(super) fn address_list(&mut self, setting: &Setting) -> Vec<Address> {
        let texts: Option<Vec<&str>> = match &setting.raw {
            Raw::Text(text) => Some(
                text.split(',')
                    .map(str::trim)
                    .filter(|seed| !seed.is_empty())
                    .collect(),
            ),
            Raw::List(items) => items.iter().map(as_text).collect(),
            _ => None,
        };
        let Some(texts) = texts.filter(|texts| !texts.is_empty()) else {
            self.fault(
                setting,
                "is not a list of addresses".to_owned(),
                setting.key.allowed(),
            );
            return Vec::new();
        };
        texts
            .into_iter()
            .filter_map(|text| self.address(setting, text))
            .collect()
    }

    fn server(&mut self, table: usize) -> Option<Address> {
        let key = &keys::UPSTREAM_SERVER;
        let setting = self.settings.get(key, table)?;
        if let Some(cluster) = self.settings.get(&keys::UPSTREAM_CLUSTER, table) {
            let problem = format!(
                "is set, and so is upstream.cluster ({}): the proxy talks to one of them",
                cluster.origin
            );
            let remedy = "Leave upstream.cluster out for a server that is no node of a cluster, or upstream.server for a cluster.";
            self.fault(setting, problem, remedy.to_owned());
        }
        self.optional_address(key, table)
    }

    fn address_map(&mut self, table: usize) -> AddressMap {
        let rules = self.rules(
            &keys::UPSTREAM_ADDRESS_MAP,
            table,
            "a list of pairs of addresses",
            |from, to| AddressRule::parse(from, to).map_err(|error| error.to_string()),
        );
        AddressMap::new(rules)
    }

    fn zones(&mut self, table: usize) -> Zones {
        let rules = self.rules(
            &keys::UPSTREAM_ZONES,
            table,
            "a list of pairs",
            |from, to| {
                let pattern = AddressPattern::parse(from).map_err(|error| error.to_string())?;
                match to.is_empty() || to.contains(char::is_whitespace) {
                    true => Err("`to` must be a name without blanks".to_owned()),
                    false => Ok((pattern, Arc::from(to))),
                }
            },
        );
        Zones::new(rules)
    }

    fn zone(&mut self, table: usize) -> Option<String> {
        let key = &keys::UPSTREAM_ZONE;
        let (setting, zone) = self.text(key, table)?;
        if zone.contains(char::is_whitespace) {
            self.fault(setting, "is not such a name".to_owned(), key.allowed());
        }
        Some(zone.to_owned())
    }

    /// The rules of a key that takes pairs, each made by `parse`.
    fn rules<T>(
        &mut self,
        key: &'static Key,
        table: usize,
        what: &str,
        parse: impl Fn(&str, &str) -> Result<T, String>,
    ) -> Vec<T> {
        let Some(setting) = self.settings.get(key, table) else {
            return Vec::new();
        };
        let Some(pairs) = pairs(&setting.raw) else {
            self.fault(setting, format!("is not {what}"), key.allowed());
            return Vec::new();
        };
        let mut rules = Vec::new();
        for (from, to) in pairs {
            match parse(from, to) {
                Ok(rule) => rules.push(rule),
                Err(error) => {
                    let problem = format!("holds {from:?} to {to:?}, which is not a rule: {error}");
                    self.fault(setting, problem, key.allowed());
                }
            }
        }
        rules
    }
}

/// The names there are, as a sentence.
fn those(names: &[&str]) -> String {
    format!("Upstreams here: {}.", names.join(", "))
}

/// `{ from, to }` tables of the file, or `FROM=TO,FROM=TO` from outside.
fn pairs(raw: &Raw) -> Option<Vec<(&str, &str)>> {
    match raw {
        Raw::Text(text) => text
            .split(',')
            .map(|pair| pair.trim().split_once('='))
            .collect(),
        Raw::List(items) => items.iter().map(pair).collect(),
        _ => None,
    }
}

fn pair(raw: &Raw) -> Option<(&str, &str)> {
    let Raw::Table(fields) = raw else { return None };
    let field = |wanted: &str| {
        fields
            .iter()
            .find(|(name, _)| name == wanted)
            .and_then(|(_, value)| as_text(value))
    };
    if fields.len() == 2 {
        Some((field("from")?, field("to")?))
    } else {
        None
    }
}

#[cfg(test)]
mod tests;

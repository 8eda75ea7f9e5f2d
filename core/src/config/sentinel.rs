//! The settings of an upstream that Sentinels watch.

use super::SentinelConfig;
use super::keys;
use super::typed::Reader;

/// As the servers' own example configuration has it.
pub(super) const SERVICE: &str = "mymaster";

impl Default for SentinelConfig {
    /// No Sentinels, and what holds for some if nothing is said.
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            service: SERVICE.to_owned(),
            quorum: None,
            user: None,
            password: None,
        }
    }
}

impl Reader<'_> {
    pub(super) fn sentinel(&mut self, table: usize) -> Option<SentinelConfig> {
        let Some(setting) = self.settings.get(&keys::UPSTREAM_SENTINELS, table) else {
            self.refuse_sentinel_keys(table);
            return None;
        };
        for other in [&keys::UPSTREAM_CLUSTER, &keys::UPSTREAM_SERVER] {
            if let Some(other) = self.settings.get(other, table) {
                let problem = format!(
                    "is set, and so is {} ({}): the proxy talks to one of them",
                    other.key.path, other.origin
                );
                let remedy =
                    "Leave one of upstream.cluster, upstream.server and upstream.sentinels.";
                self.fault(setting, problem, remedy.to_owned());
            }
        }
        let service = self.text(&keys::UPSTREAM_SENTINEL_SERVICE, table);
        if let Some((setting, text)) = service
            && text.contains(char::is_whitespace)
        {
            let remedy = keys::UPSTREAM_SENTINEL_SERVICE.allowed();
            self.fault(setting, "has a blank".to_owned(), remedy);
        }
        let user = self.text(&keys::UPSTREAM_SENTINEL_USER, table);
        let password = self.password(
            &keys::UPSTREAM_SENTINEL_PASSWORD,
            &keys::UPSTREAM_SENTINEL_PASSWORD_FILE,
            table,
        );
        if let (Some((setting, _)), None) = (user, &password) {
            let remedy = "Set upstream.sentinel_password or upstream.sentinel_password_file too, or leave the user out.";
            self.fault(setting, "has no password".to_owned(), remedy.to_owned());
        }
        let quorum = self.settings.get(&keys::UPSTREAM_SENTINEL_QUORUM, table);
        Some(SentinelConfig {
            addresses: self.address_list(setting),
            service: service.map_or(SERVICE, |(_, text)| text).to_owned(),
            quorum: quorum.map(|_| self.count_or(&keys::UPSTREAM_SENTINEL_QUORUM, table, 1)),
            user: user.map(|(_, user)| user.to_owned()),
            password,
        })
    }

    /// Without Sentinels, what else is said of them would have no effect.
    fn refuse_sentinel_keys(&mut self, table: usize) {
        for key in [
            &keys::UPSTREAM_SENTINEL_SERVICE,
            &keys::UPSTREAM_SENTINEL_QUORUM,
            &keys::UPSTREAM_SENTINEL_USER,
            &keys::UPSTREAM_SENTINEL_PASSWORD,
            &keys::UPSTREAM_SENTINEL_PASSWORD_FILE,
        ] {
            if let Some(setting) = self.settings.get(key, table) {
                let remedy = "Set upstream.sentinels too, or leave it out.";
                let problem = "has no effect without upstream.sentinels";
                self.fault(setting, problem.to_owned(), remedy.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::build;

    #[test]
    fn sentinels_take_the_place_of_a_cluster_with_all_that_belongs_to_them_n10() {
        let file = "upstream.sentinels = ['a:1', '[::1]:2']\nupstream.sentinel_service = 'web'\n\
                    upstream.sentinel_quorum = 2\nupstream.sentinel_password = 'x'\n";
        let config = build(file, &[], &[]).unwrap();
        assert!(config.upstreams[0].is_undivided());
        let sentinel = config.upstreams[0].sentinel.clone().unwrap();
        assert_eq!(sentinel.addresses.len(), 2);
        assert_eq!(
            (sentinel.service.as_str(), sentinel.quorum),
            ("web", Some(2))
        );
        let by_variable = build("", &[("SLOTWAY_UPSTREAM_SENTINELS", "a:1, b:2")], &[]).unwrap();
        assert_eq!(
            by_variable.upstreams[0].sentinel.as_ref().unwrap().service,
            "mymaster"
        );
        for (file, part) in [
            (
                "upstream.sentinels = ['a:1']\nupstream.server = 'b:1'\n",
                "so is upstream.server",
            ),
            (
                "upstream.sentinels = ['a:1']\nupstream.cluster = ['b:1']\n",
                "so is upstream.cluster",
            ),
            (
                "upstream.sentinels = ['a:1']\nupstream.sentinel_service = 'a b'\n",
                "has a blank",
            ),
            (
                "upstream.sentinels = ['a:1']\nupstream.sentinel_user = 'u'\n",
                "has no password",
            ),
            ("upstream.sentinels = ['a']\n", "HOST:PORT"),
            (
                "upstream.cluster = ['a:1']\nupstream.sentinel_quorum = 2\n",
                "without upstream.sentinels",
            ),
        ] {
            let text = build(file, &[], &[]).unwrap_err().to_string();
            assert!(text.contains(part), "{part} is not in\n{text}");
            assert!(text.contains("1 fault"), "{text}");
        }
    }
}

//! The settings of the proxy as a Sentinel [N27]: where it is one, and which listeners it names to clients.

use super::fault::Fault;
use super::keys;
use super::sentinel::SERVICE;
use super::source::Raw;
use super::typed::Reader;
use super::{ListenerConfig, SentinelListenerConfig};

impl Reader<'_> {
    /// Where the proxy is a Sentinel. `listeners` get the names of their services.
    pub(super) fn sentinel_listener(
        &mut self,
        listeners: &mut [ListenerConfig],
    ) -> Option<SentinelListenerConfig> {
        let listen = self.settings.get(&keys::SENTINEL_LISTEN, 0);
        if listen.is_none_or(|setting| setting.raw == Raw::Text("off".to_owned())) {
            self.refuse_without_sentinel(listeners.len());
            return None;
        }
        let given = |table| self.settings.get(&keys::LISTENER_SERVICE, table).is_some();
        let any_given = (0..listeners.len()).any(given);
        for (table, listener) in listeners.iter_mut().enumerate() {
            listener.service = self.service(table);
        }
        if let [only] = listeners
            && !any_given
        {
            only.service = Some(SERVICE.to_owned());
        }
        self.check_services(listeners, any_given);
        Some(SentinelListenerConfig {
            listen: self.socket_address(&keys::SENTINEL_LISTEN, 0),
            requirepass: self.password(
                &keys::SENTINEL_REQUIREPASS,
                &keys::SENTINEL_REQUIREPASS_FILE,
                0,
            ),
        })
    }

    fn service(&mut self, table: usize) -> Option<String> {
        let key = &keys::LISTENER_SERVICE;
        let (setting, name) = self.text(key, table)?;
        if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.fault(setting, "is not such a name".to_owned(), key.allowed());
        }
        Some(name.to_owned())
    }

    fn check_services(&mut self, listeners: &[ListenerConfig], any_given: bool) {
        if listeners.len() > 1 && !any_given && !self.settings.broken_file {
            self.faults.push(Fault {
                origin: self.settings.origin("listener", 0),
                key: keys::LISTENER_SERVICE.path.to_owned(),
                value: None,
                problem: "is missing: which of the listeners are Sentinel clients told of?".to_owned(),
                remedy: "Write service = \"NAME\" below each [[listener]] that clients ask sentinel.listen for.".to_owned(),
            });
        }
        for (table, listener) in listeners.iter().enumerate() {
            let mut before = listeners.iter().take(table);
            let is_same = |other: &ListenerConfig| other.service == listener.service;
            let setting = self.settings.get(&keys::LISTENER_SERVICE, table);
            if let Some(setting) = setting
                && before.any(is_same)
            {
                let problem = "is the service of another listener, too";
                let remedy = "Give each its own name, or leave it out of all but one.";
                self.fault(setting, problem.to_owned(), remedy.to_owned());
            }
        }
    }

    /// Without a Sentinel, what else is said of it would have no effect.
    fn refuse_without_sentinel(&mut self, listeners: usize) {
        let own = [
            &keys::SENTINEL_REQUIREPASS,
            &keys::SENTINEL_REQUIREPASS_FILE,
        ];
        let services = (0..listeners).map(|table| (&keys::LISTENER_SERVICE, table));
        for (key, table) in own.into_iter().map(|key| (key, 0)).chain(services) {
            if let Some(setting) = self.settings.get(key, table) {
                let problem = "has no effect without sentinel.listen";
                let remedy = "Set sentinel.listen too, or leave it out.";
                self.fault(setting, problem.to_owned(), remedy.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MINIMAL, build};

    const ON: &str = "sentinel.listen = '0.0.0.0:26379'\n";

    fn services(file: &str) -> Vec<Option<String>> {
        let config = build(&format!("{MINIMAL}{file}"), &[], &[]).unwrap();
        config.listeners.into_iter().map(|it| it.service).collect()
    }

    #[test]
    fn a_sentinel_names_the_only_listener_or_those_with_a_service_n27() {
        assert_eq!(services(""), [None]);
        assert_eq!(services("sentinel.listen = 'off'\n"), [None]);
        assert_eq!(services(ON), [Some("mymaster".to_owned())]);
        let named = format!("{ON}listener.service = 'orders'\n");
        assert_eq!(services(&named), [Some("orders".to_owned())]);
        let two = format!(
            "{ON}[[listener]]\nlisten = '127.0.0.1:1'\n[[listener]]\nlisten = '127.0.0.1:2'\nservice = 'orders'\n"
        );
        assert_eq!(services(&two), [None, Some("orders".to_owned())]);
        let file = format!("{MINIMAL}{ON}sentinel.requirepass = 'x'\n");
        let config = build(&file, &[], &[]).unwrap();
        let sentinel = config.sentinel.unwrap();
        assert_eq!(sentinel.listen.port(), 26379);
        assert!(sentinel.requirepass.is_some());
    }

    #[test]
    fn faults_of_the_sentinel_say_what_to_do_n27() {
        let listener =
            |port, service: &str| format!("[[listener]]\nlisten = '127.0.0.1:{port}'\n{service}");
        for (file, part) in [
            (
                format!("{MINIMAL}listener.service = 'a'\n"),
                "without sentinel.listen",
            ),
            (
                format!("{MINIMAL}sentinel.requirepass = 'a'\n"),
                "without sentinel.listen",
            ),
            (
                format!("{MINIMAL}sentinel.listen = 'here'\n"),
                "is not an IP address with a port",
            ),
            (
                format!("{MINIMAL}{ON}listener.service = 'a b'\n"),
                "is not such a name",
            ),
            (
                format!("{MINIMAL}{ON}{}{}", listener(1, ""), listener(2, "")),
                "test.toml:3: listener.service is missing: which of the listeners",
            ),
            (
                format!(
                    "{MINIMAL}{ON}{0}{1}",
                    listener(1, "service = 'a'\n"),
                    listener(2, "service = 'a'\n")
                ),
                "test.toml:8: listener.service = \"a\" is the service of another listener, too",
            ),
            (
                format!("{MINIMAL}sentinel.listen = '127.0.0.1:6379'\n"),
                "is taken by sentinel.listen",
            ),
        ] {
            let text = build(&file, &[], &[]).unwrap_err().to_string();
            assert!(text.contains(part), "{part} is not in\n{text}");
            assert!(text.contains("1 fault"), "{text}");
        }
    }
}

//! From the configuration to what each part is given.

use std::sync::Arc;

use slotway_core::backend::Credentials;
use slotway_core::config::{Config, ListenerConfig};
use slotway_core::engine::{Limits, Upstream};
use slotway_core::local::{Announce, ClusterEmulation, ListenerSettings, Secret};
use slotway_core::resp::RequestLimits;

/// Bounds of one worker. What the configuration gives to the process is shared evenly by the workers.
pub(super) fn limits(config: &Config) -> Limits {
    let (given, workers) = (&config.limits, config.workers.max(1));
    Limits {
        session_in_flight: given.pipeline_count,
        request: RequestLimits {
            max_args: given.max_args_count,
            max_bulk_bytes: given.max_bulk_bytes,
            max_inline_bytes: given.max_inline_bytes,
            max_request_bytes: given.max_request_bytes,
            ..RequestLimits::DEFAULT
        },
        park_timeout: given.park_timeout,
        park_max_requests: given.park_count.div_ceil(workers),
        park_max_bytes: given.park_bytes.div_ceil(workers),
        request_bytes: given.client_input_total_bytes.div_ceil(workers),
        node_timeout: config.upstream.node_timeout,
        output_pause_bytes: given.client_output_pause_bytes,
        output_max_bytes: given.client_output_bytes,
        output_soft_bytes: given.client_output_soft_bytes,
        output_soft_time: given.client_output_soft_time,
        links_per_node: config.upstream.connections_per_node,
        ..Limits::default()
    }
}

/// How workers talk to the nodes.
pub(super) fn upstream(config: &Config) -> Upstream {
    let given = &config.upstream;
    Upstream {
        credentials: Credentials {
            user: given.user.as_deref().map(Arc::from),
            password: given
                .password
                .as_ref()
                .map(|password| Arc::clone(password.expose())),
        },
        address_map: given.address_map.clone(),
    }
}

/// What clients of a listener meet.
pub(super) fn listener(given: &ListenerConfig) -> ListenerSettings {
    ListenerSettings {
        passwords: given
            .requirepass
            .iter()
            .map(|password| Secret::new(password.expose().as_bytes()))
            .collect(),
        cluster: if given.cluster_emulation {
            ClusterEmulation::Commands
        } else {
            ClusterEmulation::Off
        },
        announce: given.announce.as_ref().map(|address| Announce {
            host: Arc::clone(&address.host),
            port: address.port,
        }),
        admin_commands: given.admin_commands,
        ..ListenerSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use slotway_core::config::Sources;

    use super::*;
    use crate::limits::LiveLimits;

    fn config(file: &str) -> Config {
        let file = format!("workers = 1\nupstream.cluster = ['a:1']\n{file}");
        Config::build(Sources {
            file: Some(("test", &file)),
            environment: &[],
            flags: Vec::new(),
            cores: 1,
            read_secret: &|_| Err(String::new()),
        })
        .unwrap()
    }

    #[test]
    fn defaults_of_the_configuration_are_those_of_the_engine() {
        let (ours, engine) = (limits(&config("")), Limits::default());
        assert_eq!(format!("{ours:?}"), format!("{engine:?}"));
        let live = LiveLimits::from(&config("").limits);
        assert_eq!(live.output, LiveLimits::default().output);
    }

    #[test]
    fn bounds_of_the_process_are_shared_by_the_workers() {
        let mut config = config("limits.park_count = 10\nlimits.park_bytes = '1KiB'");
        config.workers = 4;
        let limits = limits(&config);
        assert_eq!((limits.park_max_requests, limits.park_max_bytes), (3, 256));
    }

    #[test]
    fn a_listener_gets_its_password_and_address() {
        let config = config(
            "listener.requirepass = 'secret'\nlistener.announce = 'h:1'\nlistener.cluster_emulation = false",
        );
        let settings = listener(&config.listeners[0]);
        assert!(settings.password_required() && settings.passwords[0].matches(b"secret"));
        assert_eq!(
            settings.announce,
            Some(Announce {
                host: Arc::from("h"),
                port: 1
            })
        );
        assert_eq!(settings.cluster, ClusterEmulation::Off);
    }
}

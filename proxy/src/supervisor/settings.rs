//! From the configuration to what each part is given.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use slotway_core::backend::Credentials;
use slotway_core::config::{self, Config, ListenerConfig, SentinelListenerConfig, UpstreamConfig};
use slotway_core::engine::{Limits, Upstream};
use slotway_core::local::{Announce, ClusterEmulation, ListenerSettings, Secret, SentinelService};
use slotway_core::resp::RequestLimits;
use slotway_core::slowlog::SlowLog;

/// Bounds of one worker of `upstream`. What the configuration gives to the process is shared evenly by the workers of all upstreams.
pub(super) fn limits(config: &Config, upstream: &UpstreamConfig) -> Limits {
    let given = &config.limits;
    let workers = (config.workers * config.upstreams.len()).max(1);
    Limits {
        session_in_flight: given.pipeline_count,
        request: RequestLimits {
            max_args: given.max_args_count,
            max_bulk_bytes: given.max_bulk_bytes,
            max_inline_bytes: given.max_inline_bytes,
            max_request_bytes: given.max_request_bytes,
            ..RequestLimits::DEFAULT
        },
        cross_slot_bytes: given.cross_slot_bytes,
        park_timeout: given.park_timeout,
        request_timeout: if given.request_timeout.is_zero() {
            Duration::MAX
        } else {
            given.request_timeout
        },
        park_max_requests: given.park_count.div_ceil(workers),
        park_max_bytes: given.park_bytes.div_ceil(workers),
        request_bytes: given.client_input_total_bytes.div_ceil(workers),
        node_timeout: upstream.node_timeout,
        output_pause_bytes: given.client_output_pause_bytes,
        output_max_bytes: given.client_output_bytes,
        output_soft_bytes: given.client_output_soft_bytes,
        output_soft_time: given.client_output_soft_time,
        pubsub_output_bytes: given.pubsub_output_bytes,
        pubsub_output_soft_bytes: given.pubsub_output_soft_bytes,
        links_per_node: upstream.connections_per_node,
        slow_micros: slow_log(config).slower_than().map_or(u64::MAX, |time| {
            u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
        }),
        private_links: Limits::default().private_links.div_ceil(workers),
        watching_links: Limits::default().watching_links.div_ceil(workers),
        fast_fail_uncovered: upstream.fast_fail_uncovered,
        resend_idempotent_writes: upstream.resend_idempotent_writes,
        ..Limits::default()
    }
}

/// The slow log of an upstream, before anything was slow.
pub(super) fn slow_log(config: &Config) -> SlowLog {
    SlowLog::new(config.log.slow_time, config.log.slow_count)
}

/// How workers talk to the nodes.
pub(super) fn upstream(given: &UpstreamConfig) -> Upstream {
    Upstream {
        credentials: Credentials {
            user: given.user.as_deref().map(Arc::from),
            password: given
                .password
                .as_ref()
                .map(|password| Arc::clone(password.expose())),
        },
        address_map: given.address_map.clone(),
        undivided: given.is_undivided(),
    }
}

/// What clients of the Sentinel meet: of what a listener has, only the password.
pub(super) fn sentinel_listener(given: &SentinelListenerConfig) -> ListenerSettings {
    ListenerSettings {
        passwords: passwords(given.requirepass.as_ref()),
        ..ListenerSettings::default()
    }
}

/// What the Sentinel says of a listener that is bound to `bound`; nothing if it has no service.
pub(super) fn sentinel_service(
    given: &ListenerConfig,
    bound: SocketAddr,
    run_id: Arc<str>,
) -> Option<SentinelService> {
    let name = Arc::from(given.service.as_deref()?);
    let (host, port) = match &given.announce {
        Some(announce) => (Some(Arc::clone(&announce.host)), announce.port),
        // One that listens everywhere is where the client found the Sentinel.
        None if bound.ip().is_unspecified() => (None, bound.port()),
        None => (Some(Arc::from(bound.ip().to_string())), bound.port()),
    };
    Some(SentinelService {
        name,
        host,
        port,
        run_id,
    })
}

fn passwords(given: Option<&config::Secret>) -> Vec<Secret> {
    given
        .map(|password| Secret::new(password.expose().as_bytes()))
        .into_iter()
        .collect()
}

/// What clients of a listener meet.
pub(super) fn listener(given: &ListenerConfig) -> ListenerSettings {
    ListenerSettings {
        passwords: passwords(given.requirepass.as_ref()),
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
        monitor: given.monitor,
        split: given.split,
        cross_slot_reads: given.cross_slot_reads,
        fanout_requires_full_coverage: given.fanout_requires_full_coverage,
        fanout_partial: given.fanout_partial,
        on_uncertain: given.on_uncertain,
        ssubscribe_cross_slot: given.ssubscribe_cross_slot,
        pubsub_gap: given.pubsub_gap,
        ssub_move: given.ssub_move,
        tracking: given.tracking,
        reads: given.reads,
        read_your_writes: given.read_your_writes,
        ..ListenerSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;
    use crate::limits::LiveLimits;
    use slotway_core::local::OnUncertain;

    /// The bounds of a worker of the first upstream.
    fn limits_of(config: &Config) -> Limits {
        limits(config, &config.upstreams[0])
    }

    #[test]
    fn defaults_of_the_configuration_are_those_of_the_engine() {
        let (ours, engine) = (limits_of(&config("")), Limits::default());
        assert_eq!(format!("{ours:?}"), format!("{engine:?}"));
        let live = LiveLimits::from(&config("").limits);
        assert_eq!(live.output, LiveLimits::default().output);
    }

    #[test]
    fn defaults_of_a_listener_are_those_of_the_core() {
        let ours = listener(&config("").listeners[0]);
        let core = ListenerSettings {
            admin_commands: true,
            ..ListenerSettings::default()
        };
        assert_eq!(format!("{ours:?}"), format!("{core:?}"));
    }

    #[test]
    fn choices_reach_the_engine() {
        let config = config(
            "listener.split = false\nlistener.fanout_requires_full_coverage = false\nlistener.fanout_partial = true\n\
             listener.on_uncertain = 'close'\nupstream.fast_fail_uncovered = false\nupstream.resend_idempotent_writes = true",
        );
        let settings = listener(&config.listeners[0]);
        assert!(!settings.split && !settings.fanout_requires_full_coverage);
        assert!(settings.fanout_partial && settings.on_uncertain == OnUncertain::Close);
        let limits = limits_of(&config);
        assert!(limits.resend_idempotent_writes && !limits.fast_fail_uncovered);
    }

    #[test]
    fn bounds_of_the_process_are_shared_by_the_workers() {
        let mut config = config("limits.park_count = 10\nlimits.park_bytes = '1KiB'");
        config.workers = 4;
        let limits = limits_of(&config);
        assert_eq!((limits.park_max_requests, limits.park_max_bytes), (3, 256));
        assert_eq!((limits.private_links, limits.watching_links), (1_250, 128));
        config.upstreams.push(config.upstreams[0].clone());
        let limits = limits_of(&config);
        assert_eq!((limits.park_max_requests, limits.park_max_bytes), (2, 128));
    }

    #[test]
    fn sentinel_clients_are_told_what_is_announced_or_where_the_listener_is_n27() {
        let told = |file: &str, bound: &str| {
            let config = config(&format!("sentinel.listen = '127.0.0.1:0'\n{file}"));
            let id = Arc::from("id");
            let service = sentinel_service(&config.listeners[0], bound.parse().unwrap(), id);
            let service = service.unwrap();
            (service.host.as_deref().map(str::to_owned), service.port)
        };
        let announced = "listener.announce = 'redis.example.com:7000'";
        assert_eq!(
            told(announced, "0.0.0.0:6379"),
            (Some("redis.example.com".to_owned()), 7000)
        );
        assert_eq!(told("", "0.0.0.0:6379"), (None, 6379));
        assert_eq!(told("", "[::]:6379"), (None, 6379));
        assert_eq!(
            told("", "10.0.0.7:6380"),
            (Some("10.0.0.7".to_owned()), 6380)
        );
        let without = config("");
        let bound = "0.0.0.0:1".parse().unwrap();
        assert!(sentinel_service(&without.listeners[0], bound, Arc::from("id")).is_none());
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

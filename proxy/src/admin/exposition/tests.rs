//! Tests of the metrics page.

use std::time::Duration;

use arc_swap::ArcSwap;
use slotway_core::command::find;
use slotway_core::metrics::LinkReport;
use slotway_core::topology::replication::{Lag, Unreadable};
use slotway_core::topology::{Address, AddressMap, NodeId};

use super::histogram::seconds;
use super::*;
use crate::discovery::{Discovery, DiscoverySettings};
use crate::replicas::ReplicaStatus;

fn report(node: &str, up: bool) -> Box<WorkerReport> {
    let mut metrics = WorkerMetrics::default();
    let get = find(b"get").unwrap().id.index();
    metrics.commands[get].outcomes[Outcome::Ok.index()] = 3;
    metrics.unknown_commands = 2;
    metrics.redirects[RedirectKind::Moved.index()] = 1;
    metrics.closed[CloseReason::Killed.index()] = 5;
    for micros in [10, 100, 1000, 100_000_000] {
        metrics.total.record(micros);
    }
    let mut latency = Histogram::default();
    latency.record(700);
    let link = LinkReport {
        node: NodeId::new(node),
        address: Address::new("::1", 7000),
        up,
        in_flight: 4,
        answered: 9,
        latency,
    };
    let (connections, in_flight) = (7, 6);
    Box::new(WorkerReport {
        metrics,
        connections,
        in_flight,
        parked_now: 1,
        topics: 2,
        parked_bytes: 20,
        blocked: 50,
        private_links: 60,
        reply_bytes: 30,
        request_bytes: 40,
        generation: 3,
        links: vec![link],
    })
}

/// What discovery counts before it has begun.
fn discovery_status() -> std::sync::Arc<DiscoveryStatus> {
    let settings = DiscoverySettings {
        seeds: Vec::new(),
        user: None,
        password: None,
        address_map: AddressMap::default(),
        refresh_interval: Duration::from_secs(30),
    };
    let (_, hints) = tokio::sync::mpsc::unbounded_channel();
    Discovery::new(
        settings,
        std::sync::Arc::new(ArcSwap::from_pointee(Snapshot::empty())),
        hints,
        |_: &Snapshot| {},
    )
    .status()
}

/// Reports of the workers of an upstream.
type Reports = [(usize, Box<WorkerReport>)];

fn page(workers: &Reports) -> String {
    page_of(&[(None, workers)])
}

/// The page of upstreams with these names and workers.
fn page_of(upstreams: &[(Option<&str>, &Reports)]) -> String {
    let (snapshot, discovery) = (Snapshot::empty(), discovery_status());
    let replicas = Known {
        replicas: vec![
            replica("127.0.0.1:1", None),
            replica("127.0.0.1:2", Some(Unreadable::Silent)),
        ],
        primaries: vec![NodeId::new("aa"), NodeId::new("cc")],
    };
    let upstreams = upstreams.iter().map(|(name, workers)| Upstream {
        name: *name,
        workers,
        snapshot: &snapshot,
        replicas: &replicas,
        discovery: &discovery,
        learned_commands: 5,
        command_conflicts: 1,
        ready: false,
        worker_count: workers.len(),
    });
    render(&Scrape {
        upstreams: &upstreams.collect::<Vec<_>>(),
        rejected: &[("max_clients", 11)],
        accept_pauses: 4,
        sentinel_connections: 3,
        reloads: &[("applied", 2), ("failed", 1)],
        started: SystemTime::now(),
        process: crate::admin::process::read_all(),
    })
}

/// A replica that may be read from, or not for this reason.
fn replica(address: &str, unreadable: Option<Unreadable>) -> ReplicaStatus {
    ReplicaStatus {
        id: Some(NodeId::new("bb")),
        address: address.parse().unwrap(),
        primary: NodeId::new("aa"),
        zone: None,
        near: false,
        latency: Duration::from_millis(1),
        lag: Lag {
            time: unreadable.is_none().then(|| Duration::from_millis(1500)),
            bytes: 12,
            unreadable,
        },
        trouble: None,
    }
}

/// The value of a series, by its name and labels as written.
fn value<'p>(page: &'p str, series: &str) -> &'p str {
    let mut found = page
        .lines()
        .filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = found
        .next()
        .unwrap_or_else(|| panic!("{series} is not in\n{page}"));
    assert_eq!(found.next(), None, "{series} is there twice");
    value
}

#[test]
fn workers_are_summed() {
    let page = page(&[(0, report("aa", true)), (1, report("aa", false))]);
    for (series, expected) in [
        (
            "slotway_commands_total{command=\"get\",outcome=\"ok\"}",
            "6",
        ),
        (
            "slotway_commands_total{command=\"unknown\",outcome=\"refused\"}",
            "4",
        ),
        ("slotway_redirects_total{kind=\"moved\"}", "2"),
        ("slotway_redirects_total{kind=\"ask\"}", "0"),
        ("slotway_downstream_connections{worker=\"1\"}", "7"),
        (
            "slotway_downstream_connections_closed_total{reason=\"killed\"}",
            "10",
        ),
        (
            "slotway_downstream_connections_rejected_total{reason=\"max_clients\"}",
            "11",
        ),
        ("slotway_downstream_accept_pauses_total", "4"),
        ("slotway_config_reloads_total{result=\"failed\"}", "1"),
        ("slotway_learned_commands", "5"),
        ("slotway_learned_command_conflicts_total", "1"),
        ("slotway_requests_in_flight", "12"),
        ("slotway_parked_bytes", "40"),
        ("slotway_downstream_reply_bytes", "60"),
        ("slotway_downstream_request_bytes", "80"),
        ("slotway_node_up{node=\"aa\",address=\"[::1]:7000\"}", "1"),
        (
            "slotway_node_connections{node=\"aa\",address=\"[::1]:7000\"}",
            "1",
        ),
        (
            "slotway_node_requests_total{node=\"aa\",address=\"[::1]:7000\"}",
            "18",
        ),
        ("slotway_topology_uncovered_slots", "16384"),
        ("slotway_topology_refreshes_total{result=\"changed\"}", "0"),
        ("slotway_ready", "0"),
        ("slotway_workers", "2"),
    ] {
        assert_eq!(value(&page, series), expected, "{series}");
    }
    assert!(
        !page.contains("command=\"set\""),
        "commands nobody used are not shown"
    );
}

#[test]
fn histograms_are_cumulative_and_agree_with_sum_and_count() {
    let page = page(&[(0, report("aa", true)), (1, report("bb", true))]);
    let bucket = |bound: &str| {
        value(
            &page,
            &format!("slotway_request_duration_seconds_bucket{{le=\"{bound}\"}}"),
        )
        .to_owned()
    };
    assert_eq!(bucket("0.000016"), "2");
    assert_eq!(bucket("0.000128"), "4");
    assert_eq!(bucket("0.001024"), "6");
    assert_eq!(bucket("16.777216"), "6");
    assert_eq!(bucket("+Inf"), "8");
    assert_eq!(value(&page, "slotway_request_duration_seconds_count"), "8");
    assert_eq!(
        value(&page, "slotway_request_duration_seconds_sum"),
        "200.00222"
    );
    assert_eq!(
        value(
            &page,
            "slotway_node_duration_seconds_count{node=\"bb\",address=\"[::1]:7000\"}"
        ),
        "1"
    );
}

#[test]
fn a_node_is_down_if_requests_wait_for_a_connection() {
    let waiting = page(&[(0, report("aa", false))]);
    assert_eq!(
        value(
            &waiting,
            "slotway_node_up{node=\"aa\",address=\"[::1]:7000\"}"
        ),
        "0"
    );
    let mut unused = report("aa", false);
    unused.links[0].in_flight = 0;
    assert_eq!(
        value(
            &page(&[(0, unused)]),
            "slotway_node_up{node=\"aa\",address=\"[::1]:7000\"}"
        ),
        "1"
    );
}

#[test]
fn every_metric_has_help_and_type_once() {
    let page = page(&[(0, report("aa", true))]);
    // Without an answer of the nodes there is no age to tell.
    for metric in names::ALL
        .iter()
        .filter(|metric| **metric != names::TOPOLOGY_AGE)
    {
        for what in ["HELP", "TYPE"] {
            let head = format!("# {what} {} ", metric.name);
            assert_eq!(
                page.lines().filter(|line| line.starts_with(&head)).count(),
                1,
                "{head} in\n{page}"
            );
        }
    }
}

#[test]
fn a_page_without_workers_or_nodes_is_well_formed() {
    let page = page(&[]);
    assert_eq!(value(&page, "slotway_request_duration_seconds_count"), "0");
    assert!(
        !page.contains("slotway_node_duration_seconds"),
        "no head without series"
    );
}

#[test]
fn series_of_upstreams_with_names_are_told_apart_and_those_of_the_process_are_not() {
    let one = [(0, report("aa", true))];
    let two = [(0, report("aa", true)), (1, report("bb", true))];
    let page = page_of(&[(Some("orders"), &one), (Some("cache"), &two)]);
    for (series, expected) in [
        (
            "slotway_commands_total{upstream=\"orders\",command=\"get\",outcome=\"ok\"}",
            "3",
        ),
        (
            "slotway_commands_total{upstream=\"cache\",command=\"get\",outcome=\"ok\"}",
            "6",
        ),
        ("slotway_workers{upstream=\"cache\"}", "2"),
        (
            "slotway_downstream_connections{upstream=\"cache\",worker=\"1\"}",
            "7",
        ),
        (
            "slotway_node_requests_total{upstream=\"orders\",node=\"aa\",address=\"[::1]:7000\"}",
            "9",
        ),
        (
            "slotway_request_duration_seconds_count{upstream=\"orders\"}",
            "4",
        ),
        (
            "slotway_request_duration_seconds_bucket{upstream=\"cache\",le=\"+Inf\"}",
            "8",
        ),
        (
            "slotway_node_duration_seconds_count{upstream=\"cache\",node=\"bb\",address=\"[::1]:7000\"}",
            "1",
        ),
        ("slotway_config_reloads_total{result=\"failed\"}", "1"),
        ("slotway_sentinel_connections", "3"),
        (
            "slotway_downstream_connections_rejected_total{reason=\"max_clients\"}",
            "11",
        ),
    ] {
        assert_eq!(value(&page, series), expected, "{series}");
    }
    let of_process = [
        "slotway_build_info",
        "slotway_config_reloads_total",
        "slotway_process_",
        "slotway_downstream_connections_rejected_total",
        "slotway_downstream_accept_pauses_total",
        "slotway_sentinel_connections",
    ];
    for line in page.lines().filter(|line| line.starts_with("slotway_")) {
        let is_of_process = of_process.iter().any(|name| line.starts_with(name));
        assert_ne!(is_of_process, line.contains("{upstream="), "{line}");
    }
    let heads = page
        .lines()
        .filter(|line| line.starts_with("# TYPE slotway_commands_total"));
    assert_eq!(heads.count(), 1);
}

#[test]
fn seconds_are_exact() {
    for (micros, text) in [
        (0, "0"),
        (1, "0.000001"),
        (16, "0.000016"),
        (1_000_000, "1"),
        (16_777_216, "16.777216"),
    ] {
        assert_eq!(seconds(micros), text);
    }
}

#[test]
fn replicas_show_whether_they_may_be_read_from() {
    let page = page(&[(0, report("aa", true))]);
    let of = |name: &str, port: u16| format!("{name}{{node=\"bb\",address=\"127.0.0.1:{port}\"}}");
    let readable = |port: u16| {
        let series = of("slotway_replica_readable", port);
        value(&page, &series.replace('}', ",primary=\"aa\"}")).to_owned()
    };
    assert_eq!((readable(1), readable(2)), ("1".to_owned(), "0".to_owned()));
    assert_eq!(
        value(&page, &of("slotway_replica_behind_seconds", 1)),
        "1.5"
    );
    assert!(!page.contains(&of("slotway_replica_behind_seconds", 2)));
    assert_eq!(value(&page, &of("slotway_replica_behind_bytes", 1)), "12");
    let count = |primary| {
        let series = format!("slotway_primary_readable_replicas{{primary=\"{primary}\"}}");
        value(&page, &series).to_owned()
    };
    // An alert needs the zero: the one without a replica has no other series.
    assert_eq!((count("aa"), count("cc")), ("1".to_owned(), "0".to_owned()));
}

//! The text of `/metrics`: the reports of all workers summed and written in the Prometheus format.
//!
//! Counters and gauges go through the `metrics` registry and its Prometheus exporter. The registry is made anew for every
//! scrape: workers keep the counts, so it only has to name them, and series of nodes that are gone vanish with it. Histograms
//! are written by `histogram`.

mod histogram;

use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Label, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use slotway_core::command::{CommandId, TABLE};
use slotway_core::metrics::names::{self, Metric, MetricKind};
use slotway_core::metrics::{
    CloseReason, Histogram, Outcome, RedirectKind, RetryReason, WorkerMetrics, WorkerReport,
};
use slotway_core::topology::{NodeId, Role, Snapshot};

use crate::discovery::DiscoveryStatus;
use crate::replicas::Known;

use super::nodes::{NodeFigures, by_node};
use super::process::ProcessFigures;
use histogram::{Row, write_cpu, write_histogram};

/// Everything one scrape shows.
pub(super) struct Scrape<'a> {
    /// Every upstream.
    pub(super) upstreams: &'a [Upstream<'a>],
    /// Connections of clients not served, by reason.
    pub(super) rejected: &'a [(&'static str, u64)],
    /// Times that connections had to wait for the rate.
    pub(super) accept_pauses: u64,
    /// Connections of clients to the Sentinel that the proxy is.
    pub(super) sentinel_connections: usize,
    /// Configurations read anew, by result.
    pub(super) reloads: &'a [(&'static str, u64)],
    /// Start of the process.
    pub(super) started: SystemTime,
    /// What the system says of the process.
    pub(super) process: ProcessFigures,
}

/// One upstream. If it has a name, its series have it as the label `upstream`.
pub(super) struct Upstream<'a> {
    /// What it is called.
    pub(super) name: Option<&'a str>,
    /// Report of each worker, by its number.
    pub(super) workers: &'a [(usize, Box<WorkerReport>)],
    /// The topology in use.
    pub(super) snapshot: &'a Snapshot,
    /// The replicas that are watched.
    pub(super) replicas: &'a Known,
    /// What discovery counts.
    pub(super) discovery: &'a DiscoveryStatus,
    /// Commands learned from the servers.
    pub(super) learned_commands: usize,
    /// Times that primaries were found to disagree about one of them.
    pub(super) command_conflicts: u64,
    /// Its part in the answer of `/readyz`.
    pub(super) ready: bool,
    /// Threads that serve clients.
    pub(super) worker_count: usize,
}

/// Writes the whole page.
pub(super) fn render(scrape: &Scrape<'_>) -> String {
    let recorder = recorder();
    Page::of(&recorder, None).process(scrape);
    let figures = scrape.upstreams.iter().map(|upstream| {
        let nodes = by_node(upstream.workers, upstream.snapshot);
        (upstream, sum(upstream.workers), nodes)
    });
    let figures: Vec<Figures<'_>> = figures.collect();
    for (upstream, total, nodes) in &figures {
        let page = Page::of(&recorder, upstream.name);
        page.state(upstream);
        page.requests(upstream, total);
        page.connections(upstream, total);
        page.nodes(nodes);
        page.replicas(upstream.replicas);
        page.topology(upstream);
    }
    let mut out = recorder.handle().render();
    write_cpu(&mut out, &scrape.process);
    write_histograms(&mut out, &figures);
    out
}

/// An upstream, what its workers counted, and its nodes.
type Figures<'a> = (&'a Upstream<'a>, WorkerMetrics, Vec<NodeFigures>);

fn write_histograms(out: &mut String, figures: &[Figures<'_>]) {
    let rows = |histogram: fn(&WorkerMetrics) -> &Histogram| -> Vec<Row<'_>> {
        let rows = figures.iter().map(|(upstream, total, _)| Row {
            upstream: upstream.name,
            values: Vec::new(),
            histogram: histogram(total),
        });
        rows.collect()
    };
    write_histogram(out, &names::REQUEST_DURATION, &rows(|total| &total.total));
    write_histogram(
        out,
        &names::UPSTREAM_DURATION,
        &rows(|total| &total.backend),
    );
    write_histogram(out, &names::PROXY_DURATION, &rows(|total| &total.proxy));
    let of_nodes = figures.iter().flat_map(|(upstream, _, nodes)| {
        nodes.iter().map(|node| Row {
            upstream: upstream.name,
            values: vec![&node.id, &node.address],
            histogram: &node.latency,
        })
    });
    write_histogram(out, &names::NODE_DURATION, &of_nodes.collect::<Vec<_>>());
}

/// Adds up the counters of all workers.
fn sum(workers: &[(usize, Box<WorkerReport>)]) -> WorkerMetrics {
    let mut total = WorkerMetrics::default();
    for (_, report) in workers {
        let part = &report.metrics;
        for (mine, theirs) in total.commands.iter_mut().zip(&part.commands) {
            add_all(&mut mine.outcomes, &theirs.outcomes);
        }
        add_all(&mut total.closed, &part.closed);
        add_all(&mut total.redirects, &part.redirects);
        add_all(&mut total.retries, &part.retries);
        for (mine, theirs) in [
            (&mut total.unknown_commands, part.unknown_commands),
            (&mut total.downstream_read_bytes, part.downstream_read_bytes),
            (
                &mut total.downstream_written_bytes,
                part.downstream_written_bytes,
            ),
            (&mut total.upstream_read_bytes, part.upstream_read_bytes),
            (
                &mut total.upstream_written_bytes,
                part.upstream_written_bytes,
            ),
            (&mut total.accepted, part.accepted),
            (&mut total.parked, part.parked),
            (&mut total.held, part.held),
            (&mut total.timed_out, part.timed_out),
            (&mut total.split, part.split),
            (&mut total.messages, part.messages),
            (&mut total.links_opened, part.links_opened),
            (&mut total.links_lost, part.links_lost),
        ] {
            *mine += theirs;
        }
        total.total.add(&part.total);
        total.backend.add(&part.backend);
        total.proxy.add(&part.proxy);
    }
    total
}

fn add_all(mine: &mut [u64], theirs: &[u64]) {
    for (mine, theirs) in mine.iter_mut().zip(theirs) {
        *mine += theirs;
    }
}

/// The registry of one scrape.
fn recorder() -> PrometheusRecorder {
    let recorder = PrometheusBuilder::new().build_recorder();
    for metric in names::ALL {
        let (name, help) = (metric.name.into(), metric.help.into());
        match metric.kind {
            MetricKind::Counter => recorder.describe_counter(name, None, help),
            MetricKind::Gauge => recorder.describe_gauge(name, None, help),
            MetricKind::Histogram => {}
        }
    }
    recorder
}

/// What of the registry is of one upstream, or of the process.
struct Page<'a> {
    recorder: &'a PrometheusRecorder,
    upstream: Option<&'a str>,
}

impl<'a> Page<'a> {
    const fn of(recorder: &'a PrometheusRecorder, upstream: Option<&'a str>) -> Self {
        Self { recorder, upstream }
    }

    fn counter(&self, metric: &Metric, labels: &[&str], value: u64) {
        self.recorder
            .register_counter(&key(metric, self.upstream, labels), &METADATA)
            .absolute(value);
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "gauges are floating-point numbers in Prometheus, exact up to 2^53"
    )]
    fn gauge(&self, metric: &Metric, labels: &[&str], value: u64) {
        self.recorder
            .register_gauge(&key(metric, self.upstream, labels), &METADATA)
            .set(value as f64);
    }

    fn fraction(&self, metric: &Metric, labels: &[&str], value: f64) {
        self.recorder
            .register_gauge(&key(metric, self.upstream, labels), &METADATA)
            .set(value);
    }

    fn process(&self, scrape: &Scrape<'_>) {
        let process = &scrape.process;
        self.gauge(&names::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
        for (reason, count) in scrape.rejected {
            self.counter(&names::DOWNSTREAM_REJECTED, &[reason], *count);
        }
        self.counter(&names::DOWNSTREAM_ACCEPT_PAUSES, &[], scrape.accept_pauses);
        self.gauge(
            &names::SENTINEL_CONNECTIONS,
            &[],
            scrape.sentinel_connections as u64,
        );
        for (result, count) in scrape.reloads {
            self.counter(&names::CONFIG_RELOADS, &[result], *count);
        }
        let started = scrape
            .started
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.gauge(&names::PROCESS_START_TIME, &[], started.as_secs());
        for (metric, value) in [
            (&names::PROCESS_RESIDENT, process.resident_bytes),
            (&names::PROCESS_OPEN_FDS, process.open_fds),
            (&names::PROCESS_MAX_FDS, process.max_fds),
        ] {
            if let Some(value) = value {
                self.gauge(metric, &[], value);
            }
        }
    }

    fn state(&self, upstream: &Upstream<'_>) {
        self.gauge(&names::READY, &[], u64::from(upstream.ready));
        self.gauge(&names::WORKERS, &[], upstream.worker_count as u64);
        self.gauge(
            &names::LEARNED_COMMANDS,
            &[],
            upstream.learned_commands as u64,
        );
        self.counter(
            &names::LEARNED_COMMAND_CONFLICTS,
            &[],
            upstream.command_conflicts,
        );
    }

    fn requests(&self, upstream: &Upstream<'_>, total: &WorkerMetrics) {
        // Only commands that were used: some 400 names times six outcomes of zeros help nobody.
        let names = TABLE.iter().map(|spec| spec.name);
        let names = names.chain([CommandId::LEARNED_LABEL]);
        for (name, counters) in names.zip(&total.commands) {
            for outcome in Outcome::ALL {
                let count = counters.outcomes[outcome.index()];
                if count > 0 {
                    self.counter(&names::COMMANDS, &[name, outcome.label()], count);
                }
            }
        }
        self.counter(
            &names::COMMANDS,
            &["unknown", Outcome::Refused.label()],
            total.unknown_commands,
        );
        self.counter(&names::REQUESTS_HELD, &[], total.held);
        self.counter(&names::REQUESTS_SPLIT, &[], total.split);
        self.counter(&names::PUBSUB_MESSAGES, &[], total.messages);
        self.counter(&names::REQUESTS_PARKED, &[], total.parked);
        self.counter(&names::REQUEST_TIMEOUTS, &[], total.timed_out);
        for kind in RedirectKind::ALL {
            self.counter(
                &names::REDIRECTS,
                &[kind.label()],
                total.redirects[kind.index()],
            );
        }
        for reason in RetryReason::ALL {
            self.counter(
                &names::RETRIES,
                &[reason.label()],
                total.retries[reason.index()],
            );
        }
        let now = |figure: fn(&WorkerReport) -> usize| {
            upstream
                .workers
                .iter()
                .map(|(_, report)| figure(report) as u64)
                .sum()
        };
        self.gauge(
            &names::REQUESTS_IN_FLIGHT,
            &[],
            now(|report| report.in_flight),
        );
        self.gauge(&names::BLOCKED_CLIENTS, &[], now(|report| report.blocked));
        self.gauge(
            &names::UPSTREAM_PRIVATE,
            &[],
            now(|report| report.private_links),
        );
        self.gauge(
            &names::PARKED_REQUESTS,
            &[],
            now(|report| report.parked_now),
        );
        self.gauge(&names::PARKED_BYTES, &[], now(|report| report.parked_bytes));
        self.gauge(&names::PUBSUB_TOPICS, &[], now(|report| report.topics));
        self.gauge(
            &names::DOWNSTREAM_REPLY_BYTES,
            &[],
            now(|report| report.reply_bytes),
        );
        self.gauge(
            &names::DOWNSTREAM_REQUEST_BYTES,
            &[],
            now(|report| report.request_bytes),
        );
    }

    fn connections(&self, upstream: &Upstream<'_>, total: &WorkerMetrics) {
        for (worker, report) in upstream.workers {
            self.gauge(
                &names::DOWNSTREAM_CONNECTIONS,
                &[&worker.to_string()],
                report.connections as u64,
            );
        }
        self.counter(&names::DOWNSTREAM_ACCEPTED, &[], total.accepted);
        for reason in CloseReason::ALL {
            self.counter(
                &names::DOWNSTREAM_CLOSED,
                &[reason.label()],
                total.closed[reason.index()],
            );
        }
        self.counter(&names::DOWNSTREAM_READ, &[], total.downstream_read_bytes);
        self.counter(
            &names::DOWNSTREAM_WRITTEN,
            &[],
            total.downstream_written_bytes,
        );
        self.counter(&names::UPSTREAM_OPENED, &[], total.links_opened);
        self.counter(&names::UPSTREAM_LOST, &[], total.links_lost);
        self.counter(&names::UPSTREAM_READ, &[], total.upstream_read_bytes);
        self.counter(&names::UPSTREAM_WRITTEN, &[], total.upstream_written_bytes);
    }

    fn nodes(&self, nodes: &[NodeFigures]) {
        for node in nodes {
            let labels = [node.id.as_str(), node.address.as_str()];
            self.gauge(&names::NODE_CONNECTIONS, &labels, node.connections);
            self.gauge(&names::NODE_UP, &labels, u64::from(node.up()));
            self.gauge(&names::NODE_IN_FLIGHT, &labels, node.in_flight);
            self.counter(&names::NODE_ANSWERED, &labels, node.answered);
        }
    }

    fn replicas(&self, known: &Known) {
        for primary in &known.primaries {
            let own = known.replicas.iter().filter(|it| it.primary == *primary);
            let readable = own.filter(|it| it.lag.unreadable.is_none()).count();
            self.gauge(
                &names::PRIMARY_READABLE_REPLICAS,
                &[primary.as_str()],
                readable as u64,
            );
        }
        for replica in &known.replicas {
            let id = replica.id.as_ref().map_or("", NodeId::as_str);
            let address = replica.address.to_string();
            let labels = [id, address.as_str()];
            let is_readable = replica.lag.unreadable.is_none();
            let of_shard = [id, address.as_str(), replica.primary.as_str()];
            self.gauge(&names::REPLICA_READABLE, &of_shard, u64::from(is_readable));
            self.gauge(&names::REPLICA_BEHIND_BYTES, &labels, replica.lag.bytes);
            if let Some(time) = replica.lag.time {
                self.fraction(&names::REPLICA_BEHIND, &labels, time.as_secs_f64());
            }
        }
    }

    fn topology(&self, upstream: &Upstream<'_>) {
        let snapshot = upstream.snapshot;
        self.gauge(&names::TOPOLOGY_GENERATION, &[], snapshot.generation);
        if let Some(age) = upstream.discovery.age() {
            self.gauge(&names::TOPOLOGY_AGE, &[], age.as_secs());
        }
        self.gauge(
            &names::TOPOLOGY_UNCOVERED,
            &[],
            snapshot.uncovered_slots().into(),
        );
        for (role, label) in [(Role::Primary, "primary"), (Role::Replica, "replica")] {
            let count = snapshot
                .nodes()
                .iter()
                .filter(|node| node.role == role)
                .count();
            self.gauge(&names::TOPOLOGY_NODES, &[label], count as u64);
        }
        let discovery = upstream.discovery;
        for (metric, counts) in [
            (&names::TOPOLOGY_REFRESHES, discovery.refreshes()),
            (&names::TOPOLOGY_REFRESH_REQUESTS, discovery.requests()),
            (&names::TOPOLOGY_QUERY_FAILURES, discovery.query_failures()),
            (&names::TOPOLOGY_UNFIT_VIEWS, discovery.unfit_views()),
        ] {
            for (label, count) in counts {
                self.counter(metric, &[label], count);
            }
        }
        self.counter(&names::TOPOLOGY_PATCHES, &[], discovery.patches());
    }
}

const METADATA: metrics::Metadata<'static> =
    metrics::Metadata::new(module_path!(), metrics::Level::INFO, Some(module_path!()));

fn key(metric: &Metric, upstream: Option<&str>, values: &[&str]) -> metrics::Key {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    let values = upstream.into_iter().chain(values.iter().copied());
    let labels: Vec<Label> = label_names(metric, upstream)
        .zip(values)
        .map(|(name, value)| Label::new(name, value.to_owned()))
        .collect();
    metrics::Key::from_parts(metric.name, labels)
}

/// The names of the labels of a series; that of an upstream with a name has one more.
fn label_names(metric: &Metric, upstream: Option<&str>) -> impl Iterator<Item = &'static str> {
    let first = upstream.map(|_| "upstream");
    first.into_iter().chain(metric.labels.iter().copied())
}

#[cfg(test)]
mod tests;

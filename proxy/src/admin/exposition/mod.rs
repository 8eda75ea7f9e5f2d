//! The text of `/metrics`: the reports of all workers summed and written in the Prometheus format.
//!
//! Counters and gauges go through the `metrics` registry and its Prometheus exporter. The registry is made anew for every
//! scrape: workers keep the counts, so it only has to name them, and series of nodes that are gone vanish with it. Histograms
//! are written here, because the exporter takes single observations and the workers have whole buckets.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Label, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use slotway_core::command::{CommandId, TABLE};
use slotway_core::metrics::names::{self, Metric, MetricKind};
use slotway_core::metrics::{
    CloseReason, Histogram, Outcome, RedirectKind, RetryReason, WorkerMetrics, WorkerReport,
};
use slotway_core::topology::{Role, Snapshot};

use crate::discovery::DiscoveryStatus;

use super::nodes::{NodeFigures, by_node};
use super::process::ProcessFigures;

/// Upper bounds of the buckets are powers of two of a microsecond, from 16 us to 16.8 s: those the workers count exactly.
const BOUND_EXPONENTS: std::ops::RangeInclusive<u32> = 4..=24;

/// Everything one scrape shows.
pub(super) struct Scrape<'a> {
    /// Report of each worker, by its number.
    pub(super) workers: &'a [(usize, Box<WorkerReport>)],
    /// The topology in use.
    pub(super) snapshot: &'a Snapshot,
    /// What discovery counts.
    pub(super) discovery: &'a DiscoveryStatus,
    /// Connections of clients not served, by reason.
    pub(super) rejected: &'a [(&'static str, u64)],
    /// Times that connections had to wait for the rate.
    pub(super) accept_pauses: u64,
    /// Configurations read anew, by result.
    pub(super) reloads: &'a [(&'static str, u64)],
    /// Commands learned from the servers.
    pub(super) learned_commands: usize,
    /// Times that primaries were found to disagree about one of them.
    pub(super) command_conflicts: u64,
    /// The answer of `/readyz`.
    pub(super) ready: bool,
    /// Threads that serve clients.
    pub(super) worker_count: usize,
    /// Start of the process.
    pub(super) started: SystemTime,
    /// What the system says of the process.
    pub(super) process: ProcessFigures,
}

/// Writes the whole page.
pub(super) fn render(scrape: &Scrape<'_>) -> String {
    let total = sum(scrape.workers);
    let nodes = by_node(scrape.workers, scrape.snapshot);
    let page = Page::new();
    page.process(scrape);
    page.requests(scrape, &total);
    page.connections(scrape, &total);
    page.nodes(&nodes);
    page.topology(scrape);
    let mut out = page.recorder.handle().render();
    write_cpu(&mut out, &scrape.process);
    write_histogram(&mut out, &names::REQUEST_DURATION, &[(&[], &total.total)]);
    write_histogram(
        &mut out,
        &names::UPSTREAM_DURATION,
        &[(&[], &total.backend)],
    );
    write_histogram(&mut out, &names::PROXY_DURATION, &[(&[], &total.proxy)]);
    let rows: Vec<_> = nodes
        .iter()
        .map(|node| ([node.id.as_str(), node.address.as_str()], &node.latency))
        .collect();
    let rows: Vec<(&[&str], &Histogram)> = rows
        .iter()
        .map(|(labels, histogram)| (labels.as_slice(), *histogram))
        .collect();
    write_histogram(&mut out, &names::NODE_DURATION, &rows);
    out
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
struct Page {
    recorder: PrometheusRecorder,
}

impl Page {
    fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        for metric in names::ALL {
            let (name, help) = (metric.name.into(), metric.help.into());
            match metric.kind {
                MetricKind::Counter => recorder.describe_counter(name, None, help),
                MetricKind::Gauge => recorder.describe_gauge(name, None, help),
                MetricKind::Histogram => {}
            }
        }
        Self { recorder }
    }

    fn counter(&self, metric: &Metric, labels: &[&str], value: u64) {
        self.recorder
            .register_counter(&key(metric, labels), &METADATA)
            .absolute(value);
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "gauges are floating-point numbers in Prometheus, exact up to 2^53"
    )]
    fn gauge(&self, metric: &Metric, labels: &[&str], value: u64) {
        self.recorder
            .register_gauge(&key(metric, labels), &METADATA)
            .set(value as f64);
    }

    fn process(&self, scrape: &Scrape<'_>) {
        let process = &scrape.process;
        self.gauge(&names::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
        self.gauge(&names::READY, &[], u64::from(scrape.ready));
        self.gauge(&names::WORKERS, &[], scrape.worker_count as u64);
        self.gauge(
            &names::LEARNED_COMMANDS,
            &[],
            scrape.learned_commands as u64,
        );
        self.counter(
            &names::LEARNED_COMMAND_CONFLICTS,
            &[],
            scrape.command_conflicts,
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

    fn requests(&self, scrape: &Scrape<'_>, total: &WorkerMetrics) {
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
            scrape
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

    fn connections(&self, scrape: &Scrape<'_>, total: &WorkerMetrics) {
        for (worker, report) in scrape.workers {
            self.gauge(
                &names::DOWNSTREAM_CONNECTIONS,
                &[&worker.to_string()],
                report.connections as u64,
            );
        }
        self.counter(&names::DOWNSTREAM_ACCEPTED, &[], total.accepted);
        for (reason, count) in scrape.rejected {
            self.counter(&names::DOWNSTREAM_REJECTED, &[reason], *count);
        }
        self.counter(&names::DOWNSTREAM_ACCEPT_PAUSES, &[], scrape.accept_pauses);
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

    fn topology(&self, scrape: &Scrape<'_>) {
        let snapshot = scrape.snapshot;
        self.gauge(&names::TOPOLOGY_GENERATION, &[], snapshot.generation);
        if let Some(age) = scrape.discovery.age() {
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
        let discovery = scrape.discovery;
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

fn key(metric: &Metric, values: &[&str]) -> metrics::Key {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    let labels: Vec<Label> = metric
        .labels
        .iter()
        .zip(values)
        .map(|(name, value)| Label::new(*name, (*value).to_owned()))
        .collect();
    metrics::Key::from_parts(metric.name, labels)
}

// === what the exporter cannot write; writing to a String cannot fail, so results are dropped ===

fn write_head(out: &mut String, metric: &Metric, kind: &str) {
    let name = metric.name;
    let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", metric.help);
}

/// Its counters are whole numbers, and this is seconds.
fn write_cpu(out: &mut String, process: &ProcessFigures) {
    if let (Some(user), Some(system)) = (process.cpu_user, process.cpu_system) {
        write_head(out, &names::PROCESS_CPU, "counter");
        let _ = writeln!(
            out,
            "{} {}\n",
            names::PROCESS_CPU.name,
            (user + system).as_secs_f64()
        );
    }
}

fn write_histogram(out: &mut String, metric: &Metric, rows: &[(&[&str], &Histogram)]) {
    if rows.is_empty() {
        return;
    }
    write_head(out, metric, "histogram");
    for (values, histogram) in rows {
        let mut labels = String::new();
        for (name, value) in metric.labels.iter().zip(*values) {
            let _ = write!(labels, "{name}=\"{}\",", escape(value));
        }
        let name = metric.name;
        for exponent in BOUND_EXPONENTS {
            let bound = 1_u64 << exponent;
            let _ = writeln!(
                out,
                "{name}_bucket{{{labels}le=\"{}\"}} {}",
                seconds(bound),
                histogram.count_below(bound)
            );
        }
        let count = histogram.count();
        let _ = writeln!(out, "{name}_bucket{{{labels}le=\"+Inf\"}} {count}");
        let braced = labels
            .strip_suffix(',')
            .map_or_else(String::new, |labels| format!("{{{labels}}}"));
        let _ = writeln!(
            out,
            "{name}_sum{braced} {}\n{name}_count{braced} {count}",
            seconds(histogram.sum_micros())
        );
    }
    out.push('\n');
}

/// Microseconds as seconds, exactly.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests;

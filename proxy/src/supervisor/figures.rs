//! The figures of INFO that are counted by all workers of an upstream, summed and published now and then.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slotway_core::local::ProcessFacts;
use slotway_core::metrics::{Outcome, WorkerReport};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Status, Workers};
use crate::admin::{ProcessFigures, read_process};
use crate::discovery::{DiscoveryStatus, QueryFailure};
use crate::facts::Facts;

/// INFO may be this old. A report of a worker is some 40 KiB, so this costs nothing that counts.
const PERIOD: Duration = Duration::from_secs(1);

/// Publishes until the task is dropped.
pub(super) async fn publish(
    facts: Arc<Facts>,
    workers: Rc<Workers>,
    status: Rc<Status>,
    discovery: Arc<DiscoveryStatus>,
) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut earlier: Option<(Instant, u64)> = None;
    let mut refusals = 0;
    loop {
        ticks.tick().await;
        refusals = note_refused_login(&facts, &discovery, refusals);
        let reports = workers.collect().await;
        let mut sums = sum(&reports);
        sums.connections_rejected = Some(status.rejected().iter().map(|(_, count)| count).sum());
        sums.refreshes = Some(discovery.refreshes().iter().map(|(_, count)| count).sum());
        add_process(&mut sums, &read_process());
        let (now, commands) = (Instant::now(), sums.commands_processed.unwrap_or_default());
        if let Some((then, before)) = earlier {
            sums.commands_per_second =
                Some(per_second(commands.saturating_sub(before), now - then));
        }
        earlier = Some((now, commands));
        facts.set_process(sums);
    }
}

/// Tells the workers whether the nodes refuse the proxy's credentials: no round succeeds and logins were refused since the last
/// look, when there had been `before` refusals. The number of refusals now.
fn note_refused_login(facts: &Facts, discovery: &DiscoveryStatus, before: u64) -> u64 {
    let failures = discovery.query_failures();
    let label = QueryFailure::Auth.label();
    let refusals = failures
        .iter()
        .find(|(reason, _)| *reason == label)
        .map_or(0, |(_, count)| *count);
    if discovery.consecutive_failures() == 0 {
        facts.set_login_refused(false);
    } else if refusals > before {
        facts.set_login_refused(true);
    }
    refusals
}

/// Adds up what the workers counted.
fn sum(reports: &[(usize, Box<WorkerReport>)]) -> ProcessFacts {
    let total = |figure: &dyn Fn(&WorkerReport) -> u64| {
        Some(reports.iter().map(|(_, report)| figure(report)).sum())
    };
    let ended = |report: &WorkerReport, outcome: Outcome| {
        let commands = report.metrics.commands.iter();
        commands
            .map(|counters| counters.outcomes[outcome.index()])
            .sum::<u64>()
    };
    let all = |report: &WorkerReport| {
        Outcome::ALL
            .iter()
            .map(|outcome| ended(report, *outcome))
            .sum::<u64>()
    };
    ProcessFacts {
        connections_received: total(&|report| report.metrics.accepted),
        commands_processed: total(&|report| all(report) + report.metrics.unknown_commands),
        input_bytes: total(&|report| report.metrics.downstream_read_bytes),
        output_bytes: total(&|report| report.metrics.downstream_written_bytes),
        error_replies: total(&|report| {
            all(report) - ended(report, Outcome::Ok) + report.metrics.unknown_commands
        }),
        parked_requests: total(&|report| report.parked_now as u64),
        blocked_clients: total(&|report| report.blocked as u64),
        uncertain_replies: total(&|report| ended(report, Outcome::Uncertain)),
        ..ProcessFacts::default()
    }
}

fn add_process(facts: &mut ProcessFacts, process: &ProcessFigures) {
    let micros =
        |time: Option<Duration>| time.and_then(|time| u64::try_from(time.as_micros()).ok());
    facts.resident_bytes = process.resident_bytes;
    facts.cpu_user_micros = micros(process.cpu_user);
    facts.cpu_system_micros = micros(process.cpu_system);
}

fn per_second(count: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    count.saturating_mul(1000) / millis
}

#[cfg(test)]
mod tests {
    use slotway_core::metrics::WorkerMetrics;

    use super::*;

    #[test]
    fn outcomes_add_up_over_commands_and_workers() {
        let mut metrics = WorkerMetrics::default();
        metrics.commands[0].outcomes[Outcome::Ok.index()] = 5;
        metrics.commands[1].outcomes[Outcome::Uncertain.index()] = 2;
        metrics.unknown_commands = 1;
        let report = WorkerReport {
            metrics,
            connections: 0,
            in_flight: 0,
            parked_now: 3,
            topics: 0,
            parked_bytes: 0,
            blocked: 2,
            private_links: 0,
            reply_bytes: 0,
            request_bytes: 0,
            generation: 0,
            links: Vec::new(),
        };
        let sums = sum(&[(0, Box::new(report.clone())), (1, Box::new(report))]);
        assert_eq!(sums.commands_processed, Some(16));
        assert_eq!(sums.error_replies, Some(6));
        assert_eq!(sums.uncertain_replies, Some(4));
        assert_eq!(sums.parked_requests, Some(6));
        assert_eq!(sums.blocked_clients, Some(4));
    }

    #[test]
    fn rates_count_the_time_that_passed() {
        assert_eq!(per_second(500, Duration::from_millis(250)), 2000);
        assert_eq!(per_second(1, Duration::ZERO), 1000);
    }
}

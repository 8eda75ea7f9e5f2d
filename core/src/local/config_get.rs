//! CONFIG GET: the settings clients ask for when they connect, as they are for a client of the proxy.

use std::time::Duration;

use super::{Call, ClusterEmulation, OutputLimits};
use crate::command::glob::glob_match;
use crate::resp::{RequestLimits, write};

/// Every setting the proxy knows, sorted by name. Passwords are none of them [Z7].
fn settings(call: &Call<'_>) -> Vec<(&'static str, String)> {
    let listener = call.env.listener();
    let upstream = call.env.upstream();
    let process = call.env.process();
    let on_off = |on: bool| if on { "yes" } else { "no" }.to_owned();
    let (mut slower_than, mut kept) = (String::new(), 0);
    call.env.slow_log(&mut |log| {
        // -1 is off.
        slower_than = log
            .slower_than()
            .map_or_else(|| "-1".to_owned(), |time| time.as_micros().to_string());
        kept = log.capacity();
    });
    let mut settings = vec![
        // The proxy writes nothing to disk.
        ("appendonly", on_off(false)),
        (
            "cluster-enabled",
            on_off(listener.cluster == ClusterEmulation::Full),
        ),
        (
            "databases",
            upstream
                .databases
                .as_ref()
                .map_or(1, |databases| databases.count)
                .to_string(),
        ),
        ("latency-monitor-threshold", "0".to_owned()),
        ("latency-tracking", on_off(false)),
        // No keyspace event reaches a client.
        ("notify-keyspace-events", String::new()),
        ("port", call.client.local.port().to_string()),
        (
            "proto-max-bulk-len",
            RequestLimits::DEFAULT.max_bulk_bytes.to_string(),
        ),
        ("proxy.version", process.version.to_owned()),
        ("proxy.workers", process.workers.to_string()),
        // Both names are probed; there is no replica to write to.
        ("replica-read-only", on_off(true)),
        ("save", String::new()),
        ("slave-read-only", on_off(true)),
        ("slowlog-log-slower-than", slower_than),
        ("slowlog-max-len", kept.to_string()),
        ("timeout", whole_seconds(process.idle_timeout).to_string()),
    ];
    // What belongs to the servers is shown if it is known, never guessed.
    settings.extend(
        process
            .max_clients
            .map(|clients| ("maxclients", clients.to_string())),
    );
    settings.extend(
        process
            .output_limits
            .map(|limits| ("client-output-buffer-limit", output_limits(limits))),
    );
    settings.extend(
        upstream
            .maxmemory
            .map(|bytes| ("maxmemory", bytes.to_string())),
    );
    settings.extend(
        upstream
            .maxmemory_policy
            .map(|policy| ("maxmemory-policy", policy.to_string())),
    );
    settings.sort_unstable();
    settings
}

/// As the servers have it: a class of clients, its hard limit, its soft limit and the seconds it may last. No replica of anybody
/// connects to the proxy, so that class has none.
fn output_limits(limits: OutputLimits) -> String {
    let seconds = whole_seconds(limits.soft_time);
    let (hard, soft) = (limits.hard_bytes, limits.soft_bytes);
    // The bound of all clients holds for those with subscriptions, too.
    let (pubsub_hard, pubsub_soft) = (limits.pubsub_hard_bytes.min(hard), limits.pubsub_soft_bytes);
    format!(
        "normal {hard} {soft} {seconds} slave 0 0 0 pubsub {pubsub_hard} {pubsub_soft} {seconds}"
    )
}

/// In whole seconds, as the servers have them; less than one is not none.
const fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + (time.subsec_nanos() > 0) as u64
}

/// Every setting whose name matches one of the patterns, once, whatever the case. A name asked for in full is repeated as
/// written, as the servers do.
pub(super) fn config_get(call: &mut Call<'_>) {
    let settings = settings(call);
    let mut matches: Vec<(&[u8], &str)> = Vec::new();
    for (name, value) in &settings {
        let pattern = call
            .args
            .iter()
            .skip(2)
            .find(|pattern| glob_match(pattern, name.as_bytes(), true));
        if let Some(pattern) = pattern {
            let in_full = pattern.eq_ignore_ascii_case(name.as_bytes());
            matches.push((if in_full { pattern } else { name.as_bytes() }, value));
        }
    }
    write::map(call.out, matches.len(), call.client.protocol);
    for (name, value) in matches {
        write::bulk(call.out, name);
        write::bulk(call.out, value.as_bytes());
    }
}

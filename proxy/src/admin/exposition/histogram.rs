//! What the exporter cannot write: histograms, because it takes single observations and the workers have whole buckets, and processor
//! time, because its counters are whole numbers. Writing to a String cannot fail, so results are dropped.

use std::fmt::Write;

use slotway_core::metrics::Histogram;
use slotway_core::metrics::names::{self, Metric};

use super::label_names;
use crate::admin::process::ProcessFigures;

/// Upper bounds of the buckets are powers of two of a microsecond, from 16 us to 16.8 s: those the workers count exactly.
const BOUND_EXPONENTS: std::ops::RangeInclusive<u32> = 4..=24;

/// One series.
pub(super) struct Row<'a> {
    /// The name of its upstream, if it has one.
    pub(super) upstream: Option<&'a str>,
    /// Values of the labels.
    pub(super) values: Vec<&'a str>,
    /// What it shows.
    pub(super) histogram: &'a Histogram,
}

fn write_head(out: &mut String, metric: &Metric, kind: &str) {
    let name = metric.name;
    let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", metric.help);
}

/// Its counters are whole numbers, and this is seconds.
pub(super) fn write_cpu(out: &mut String, process: &ProcessFigures) {
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

/// Writes a histogram of each upstream, or of each of their nodes.
pub(super) fn write_histogram(out: &mut String, metric: &Metric, rows: &[Row<'_>]) {
    if rows.is_empty() {
        return;
    }
    write_head(out, metric, "histogram");
    for row in rows {
        let mut labels = String::new();
        let values = row.upstream.into_iter().chain(row.values.iter().copied());
        for (name, value) in label_names(metric, row.upstream).zip(values) {
            let _ = write!(labels, "{name}=\"{}\",", escape(value));
        }
        write_row(out, metric.name, &labels, row.histogram);
    }
    out.push('\n');
}

fn write_row(out: &mut String, name: &str, labels: &str, histogram: &Histogram) {
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

/// Microseconds as seconds, exactly.
pub(super) fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

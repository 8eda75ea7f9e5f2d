//! One line per disturbance while it runs, and the table at the end.

use super::{Pair, Record, Times};
use anyhow::Result;
use std::io::Write;
use std::time::Duration;

/// The other clients' p99 must stay below this many times that of before.
const ALLOWED_RATIO: f64 = 2.0;

/// What is to be said of a disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything as promised
    Kept,
    /// The p99 is worse than promised, but so it is straight to the nodes: this machine cannot do it
    AsDirect,
    /// The p99 is worse than promised
    Slow,
    /// More memory than documented
    Memory,
}

impl Verdict {
    const fn text(self) -> &'static str {
        match self {
            Self::Kept => "ok",
            Self::AsDirect => "as direct",
            Self::Slow => "SLOW",
            Self::Memory => "MEMORY",
        }
    }
}

impl Record {
    /// Judges memory first, then time.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.peak_bytes > self.bound_bytes {
            return Verdict::Memory;
        }
        if self.proxy.ratio() < ALLOWED_RATIO {
            return Verdict::Kept;
        }
        let (disturbed, ratio) = (self.proxy.disturbed.p99, ALLOWED_RATIO);
        let no_better = |control: &Pair| {
            let alone = control.disturbed.p99;
            disturbed <= alone
                || (control.ratio() >= ratio
                    && disturbed.as_secs_f64() < ratio * alone.as_secs_f64())
        };
        if self.control.as_ref().is_some_and(no_better) {
            Verdict::AsDirect
        } else {
            Verdict::Slow
        }
    }
}

impl Pair {
    /// How many times the p99 of before.
    fn ratio(&self) -> f64 {
        self.disturbed.p99.as_secs_f64() / self.quiet.p99.as_secs_f64()
    }
}

/// Everything about one disturbance.
pub(super) fn line(record: &Record, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "{}: {}", record.disturbance.name(), record.detail)?;
    let pairs = [
        ("proxy", Some(&record.proxy)),
        ("direct", record.control.as_ref()),
    ];
    for (name, pair) in pairs {
        if let Some(pair) = pair {
            writeln!(
                out,
                "    {name:6} quiet {}; disturbed {}",
                times(&pair.quiet),
                times(&pair.disturbed)
            )?;
        }
    }
    let figures = [record.before_bytes, record.peak_bytes, record.bound_bytes].map(mebibytes);
    writeln!(
        out,
        "    memory {} MiB before, {} at most, {} allowed",
        figures[0], figures[1], figures[2]
    )?;
    Ok(out.flush()?)
}

fn times(times: &Times) -> String {
    let [p50, p99, max] = [times.p50, times.p99, times.max].map(milliseconds);
    format!("p50 {p50} p99 {p99} max {max} ms of {}", times.count)
}

const HEAD: [&str; 10] = [
    "disturbance",
    "p99 quiet",
    "disturbed",
    "ratio",
    "direct quiet",
    "disturbed",
    "ratio",
    "peak MiB",
    "bound MiB",
    "verdict",
];

/// The table.
pub(super) fn print(records: &[Record], out: &mut dyn Write) -> Result<()> {
    let mut table = vec![HEAD.map(str::to_owned)];
    table.extend(records.iter().map(cells));
    let width = |column: usize| table.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = std::array::from_fn::<usize, { HEAD.len() }, _>(width);
    for row in &table {
        let padded: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:>width$}"))
            .collect();
        writeln!(out, "{}", padded.join("  "))?;
    }
    Ok(writeln!(out, "{LEGEND}")?)
}

fn cells(record: &Record) -> [String; HEAD.len()] {
    let pair = |pair: Option<&Pair>| match pair {
        Some(pair) => [
            milliseconds(pair.quiet.p99),
            milliseconds(pair.disturbed.p99),
            format!("{:.1}", pair.ratio()),
        ],
        None => std::array::from_fn(|_| "-".to_owned()),
    };
    let [quiet, disturbed, ratio] = pair(Some(&record.proxy));
    let [direct_quiet, direct_disturbed, direct_ratio] = pair(record.control.as_ref());
    [
        record.disturbance.name().to_owned(),
        quiet,
        disturbed,
        ratio,
        direct_quiet,
        direct_disturbed,
        direct_ratio,
        mebibytes(record.peak_bytes),
        mebibytes(record.bound_bytes),
        record.verdict().text().to_owned(),
    ]
}

const LEGEND: &str = "\
p99 in ms, of 50 clients with 2,000 requests a second in all, from the moment a request was due; direct: the same straight to the\n\
nodes. ok: below 2 times the quiet one. as direct: not so, but no more than beside the same disturbance straight to the nodes, or\n\
less than twice that where the nodes alone are 2 times as slow as well: what the machine and the servers cost.";

fn milliseconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

fn mebibytes(bytes: u64) -> String {
    (bytes >> 20).to_string()
}

//! The table at the end: one line per kind of fault, then the errors by text and what was found.

use super::faults::Fault;
use super::record::Record;
use crate::load::Broken;
use anyhow::Result;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

/// Sums of all faults of one kind.
#[derive(Debug, Default)]
struct Row {
    count: usize,
    requests: u64,
    errors: BTreeMap<String, u64>,
    /// Of the fault whose gap is the longest compared to what it may be
    worst_gap: Option<(Duration, Duration, Duration)>,
    acknowledged: u64,
    lost: usize,
    unexplained: usize,
    control_acknowledged: u64,
    control_lost: usize,
    control_errors: u64,
    control_gap: Duration,
    reordered: usize,
    misdelivered: usize,
    twice: usize,
    other: usize,
    peak_bytes: u64,
}

impl Row {
    fn add(&mut self, record: &Record) {
        self.count += 1;
        self.requests += record.load.requests;
        for (text, count) in record.errors() {
            *self.errors.entry(text).or_default() += count;
        }
        let gap = (record.longest_gap(), record.outage(), record.allowed_gap());
        let room = |gap: &(Duration, Duration, Duration)| gap.2.saturating_sub(gap.0);
        let over = |gap: &(Duration, Duration, Duration)| gap.0.saturating_sub(gap.2);
        let worse = |known: &(Duration, Duration, Duration)| {
            (over(&gap), room(known)) > (over(known), room(&gap))
        };
        if self.worst_gap.as_ref().is_none_or(worse) {
            self.worst_gap = Some(gap);
        }
        self.acknowledged += record.load.acknowledged.values().sum::<u64>();
        self.lost += record.load.lost.len();
        self.unexplained += record.unexplained.len();
        self.control_acknowledged += record.control.acknowledged;
        self.control_lost += record.control.lost.len();
        self.control_errors += record.control.uncertain + record.control.refused;
        self.control_gap = self.control_gap.max(record.control.longest_gap);
        self.reordered += record.count(Broken::Reordered);
        self.misdelivered += record.count(Broken::Misdelivered);
        self.twice += record.count(Broken::RanTwice);
        self.other += record.count(Broken::RanThoughRefused) + record.count(Broken::Unanswered);
        self.peak_bytes = self.peak_bytes.max(record.peak_bytes);
    }

    fn cells(&self, name: &str) -> Vec<String> {
        let (gap, outage, _) = self.worst_gap.unwrap_or_default();
        vec![
            name.to_owned(),
            self.count.to_string(),
            self.requests.to_string(),
            self.errors.values().sum::<u64>().to_string(),
            milliseconds(gap),
            milliseconds(outage),
            milliseconds(self.control_gap),
            format!("{}/{}", self.lost, self.acknowledged),
            self.unexplained.to_string(),
            format!("{}/{}", self.control_lost, self.control_acknowledged),
            self.control_errors.to_string(),
            self.reordered.to_string(),
            self.misdelivered.to_string(),
            self.twice.to_string(),
            self.other.to_string(),
            mebibytes(self.peak_bytes),
        ]
    }
}

const HEAD: [&str; 16] = [
    "fault",
    "times",
    "requests",
    "errors",
    "gap ms",
    "outage ms",
    "control gap",
    "lost/acked",
    "unexplained",
    "control lost/acked",
    "control errors",
    "reordered",
    "misdelivered",
    "twice",
    "other",
    "peak MiB",
];

/// Prints everything about these faults.
pub(super) fn print(records: &[Record], out: &mut dyn Write) -> Result<()> {
    let mut rows: BTreeMap<Fault, Row> = BTreeMap::new();
    for record in records {
        rows.entry(record.fault).or_default().add(record);
    }
    let mut table = vec![HEAD.map(str::to_owned).to_vec()];
    table.extend(rows.iter().map(|(fault, row)| row.cells(fault.name())));
    let width = |column: usize| table.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    for row in &table {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:>width$}"))
            .collect();
        writeln!(out, "{}", cells.join("  "))?;
    }
    writeln!(out, "{LEGEND}")?;
    for (fault, row) in &rows {
        for (text, count) in &row.errors {
            writeln!(out, "errors, {}: {count} x {text}", fault.name())?;
        }
    }
    Ok(())
}

const LEGEND: &str = "\
gap: the longest a client was not served, of the fault that came closest to its limit. outage: until the cluster itself could serve\n\
(promotion, thaw, ok after a restart); the limit is 500 ms more. lost: acknowledged writes that are gone;\n\
unexplained: of them, those that the former primary has not in its log, or the promoted replica has. control: plain connections\n\
straight to the primaries.";

/// Whole milliseconds.
pub(super) fn milliseconds(time: Duration) -> String {
    time.as_millis().to_string()
}

fn mebibytes(bytes: u64) -> String {
    let tenths = (bytes * 10) >> 20;
    format!("{}.{}", tenths / 10, tenths % 10)
}

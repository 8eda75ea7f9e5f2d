//! The tables at the end, and the same with every round as JSON.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::contenders::Who;
use super::results::{Figure, Results, Series};
use super::targets::{Bound, Measure, TARGETS, Target, Verdict};

/// Where nothing was measured.
const NONE: &str = "-";

/// All tables.
pub(super) fn print(results: &Results, missing: &[Who], out: &mut dyn Write) -> Result<()> {
    writeln!(out)?;
    table(figures(results, missing), out)?;
    if !results.idle.is_empty() {
        writeln!(out)?;
        table(idle(results, missing), out)?;
    }
    writeln!(out)?;
    table(targets(results), out)?;
    Ok(writeln!(out, "\n{LEGEND}")?)
}

const LEGEND: &str = "\
Medians of all rounds. spread: from the slowest round to the fastest, as a part of the median; smaller differences say nothing.\n\
slotway is: its requests a second, divided by that row's. proxy us: processor time of the proxy for one request; servers us: that of\n\
all servers behind. generator: the part of a processor that the load generator took; near 1 it is the limit, and the ratio to direct\n\
says little: proxy us, and the ratio to peers, say more.";

/// One row for each workload and contender.
fn figures(results: &Results, missing: &[Who]) -> Vec<Vec<String>> {
    let head = [
        "workload",
        "through",
        "per second",
        "spread",
        "slotway is",
        "p50 ms",
        "p99 ms",
        "proxy us",
        "user",
        "system",
        "servers us",
        "generator",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut series = results.series.iter().peekable();
    while let Some(one) = series.next() {
        rows.push(figures_of(results, one));
        if series
            .peek()
            .is_none_or(|next| next.workload != one.workload)
        {
            rows.extend(missing.iter().map(|who| not_installed(one.workload, *who)));
        }
    }
    rows
}

fn figures_of(results: &Results, series: &Series) -> Vec<String> {
    let ours = results.median(series.workload, Who::Slotway, Figure::PerSecond);
    let theirs = series.median(Figure::PerSecond);
    let ratio = ours.zip(theirs).map(|(ours, theirs)| ours / theirs);
    let cell = |figure, digits| number(series.median(figure), digits);
    vec![
        series.workload.to_owned(),
        series.who.name().to_owned(),
        cell(Figure::PerSecond, 0),
        number(series.spread(Figure::PerSecond), 2),
        number(ratio.filter(|_| series.who != Who::Slotway), 2),
        cell(Figure::P50, 3),
        cell(Figure::P99, 3),
        cell(Figure::Proxy, 2),
        cell(Figure::User, 2),
        cell(Figure::System, 2),
        cell(Figure::Servers, 2),
        cell(Figure::Generator, 2),
    ]
}

fn not_installed(workload: &str, who: Who) -> Vec<String> {
    vec![
        workload.to_owned(),
        who.name().to_owned(),
        "not installed".to_owned(),
    ]
}

fn idle(results: &Results, missing: &[Who]) -> Vec<Vec<String>> {
    let head = [
        "idle connections of",
        "bytes each, untouched",
        "after one GET",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(results.idle.iter().map(|idle| {
        let bytes = |bytes| number(Some(bytes), 0);
        vec![
            idle.who.name().to_owned(),
            bytes(idle.fresh),
            bytes(idle.used),
        ]
    }));
    let absent = missing
        .iter()
        .map(|who| vec![who.name().to_owned(), "not installed".to_owned()]);
    rows.extend(absent);
    rows
}

/// One row for each target of a workload that was measured.
fn targets(results: &Results) -> Vec<Vec<String>> {
    let head = [
        "target of",
        "slotway's",
        "is",
        "to be",
        "",
        "then",
        "set by",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let has_run = |target: &&Target| {
        let mut names = results.series.iter().map(|series| series.workload);
        names.any(|name| name == target.workload) || target.measured(results).is_some()
    };
    rows.extend(TARGETS.iter().filter(has_run).map(|target| {
        let measured = target.measured(results);
        let (text, digits) = measure(target.measure);
        let (sign, bound) = match target.bound {
            Bound::AtLeast(bound) => (">=", bound),
            Bound::AtMost(bound) => ("<=", bound),
        };
        vec![
            target.workload.to_owned(),
            text,
            number(measured, digits),
            format!("{sign} {bound:.digits$}"),
            verdict(target.verdict(measured)).to_owned(),
            number(target.then, digits),
            target.source.to_owned(),
        ]
    }));
    rows
}

/// What is measured, and how many digits of it matter.
fn measure(measure: Measure) -> (String, usize) {
    match measure {
        Measure::Rate(who) => (format!("rate, of {}", who.name()), 2),
        Measure::P99(who) => (format!("p99, of {}", who.name()), 2),
        Measure::AddedP50(who) => (format!("added p50, of {}'s", who.name()), 2),
        Measure::Cpu => ("proxy us".to_owned(), 2),
        Measure::User => ("proxy us, user".to_owned(), 2),
        Measure::CpuOf(other) => (format!("proxy us, of {other}"), 2),
        Measure::Untouched => ("bytes, untouched".to_owned(), 0),
        Measure::Used => ("bytes, after one GET".to_owned(), 0),
    }
}

const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Missed => "MISSED",
        Verdict::NotMeasured => NONE,
    }
}

fn number(number: Option<f64>, digits: usize) -> String {
    number.map_or_else(|| NONE.to_owned(), |number| format!("{number:.digits$}"))
}

/// Cells below each other: numbers to the right, text to the left. A row may be short.
fn table(rows: Vec<Vec<String>>, out: &mut dyn Write) -> Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let is_number = |cell: &str| cell == NONE || cell.parse::<f64>().is_ok();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate().take(columns) {
            let below = || rows.iter().filter_map(|row| row.get(column));
            let width = below().map(String::len).max().unwrap_or(0);
            let to_the_right = below().skip(1).any(|cell| is_number(cell));
            line += &if to_the_right {
                format!("{cell:>width$}  ")
            } else {
                format!("{cell:width$}  ")
            };
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Everything, for programs.
pub(super) fn write(results: &Results, conditions: &[String], file: &Path) -> Result<()> {
    let series: Vec<Value> = results.series.iter().map(series_json).collect();
    let idle = results.idle.iter().map(|idle| {
        json!({
            "through": idle.who.name(),
            "untouched_bytes": idle.fresh,
            "used_bytes": idle.used,
        })
    });
    let all = json!({
        "conditions": conditions,
        "workloads": series,
        "idle_connections": idle.collect::<Vec<_>>(),
        "targets": TARGETS.iter().map(|target| target_json(target, results)).collect::<Vec<_>>(),
    });
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(file, serde_json::to_vec_pretty(&all)?)
        .with_context(|| format!("cannot write {}", file.display()))
}

fn series_json(series: &Series) -> Value {
    let by_figure = |value: &dyn Fn(Figure) -> Value| {
        let named = Figure::ALL.map(|figure| (figure.name().to_owned(), value(figure)));
        Value::Object(Map::from_iter(named))
    };
    json!({
        "workload": series.workload,
        "through": series.who.name(),
        "medians": by_figure(&|figure| json!(series.median(figure))),
        "rounds": by_figure(&|figure| json!(series.rounds(figure))),
    })
}

fn target_json(target: &Target, results: &Results) -> Value {
    let measured = target.measured(results);
    let (name, _) = measure(target.measure);
    let (least, most) = match target.bound {
        Bound::AtLeast(bound) => (Some(bound), None),
        Bound::AtMost(bound) => (None, Some(bound)),
    };
    json!({
        "workload": target.workload,
        "measure": name,
        "measured": measured,
        "at_least": least,
        "at_most": most,
        "then": target.then,
        "verdict": verdict(target.verdict(measured)),
        "set_by": target.source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::results::Sample;

    fn results() -> Results {
        let mut results = Results::default();
        for (who, per_second) in [(Who::Direct, 1000.0), (Who::Slotway, 900.0)] {
            let sample = Sample {
                per_second,
                ..Sample::default()
            };
            results.add("50-clients", who, sample);
        }
        results
    }

    #[test]
    fn rows_tell_what_slotway_is_of_them_and_who_is_missing() {
        let rows = figures(&results(), &[Who::Haproxy]);
        assert_eq!(
            rows[1][..5],
            ["50-clients", "direct", "1000", "0.00", "0.90"]
        );
        assert_eq!(rows[2][..5], ["50-clients", "slotway", "900", "0.00", "-"]);
        assert_eq!(rows[3], ["50-clients", "haproxy", "not installed"]);
        assert_eq!(rows.len(), 4);
    }

    #[test]
    fn targets_of_workloads_that_did_not_run_are_left_out() {
        let rows = targets(&results());
        assert_eq!(
            rows[1][..5],
            ["50-clients", "rate, of direct", "0.90", ">= 0.85", "ok"]
        );
        assert_eq!(
            rows[2][..5],
            ["50-clients", "rate, of haproxy", "-", ">= 1.70", "-"]
        );
        assert!(rows.iter().skip(1).all(|row| row[0] == "50-clients"));
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "n"], ["bcd", "10"], ["e", "-"]];
        let rows = rows.iter().map(|row| row.map(str::to_owned).to_vec());
        let mut out = Vec::new();
        table(rows.collect(), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "a     n\nbcd  10\ne     -\n"
        );
    }
}

//! LATENCY: when requests took long, as the servers' latency monitor keeps it of their event `command` (doc: LATENCY LATEST).

use std::collections::VecDeque;
use std::fmt::Write as _;

use crate::resp::write;

/// The event that there is: a request took as long as the slow log says, or longer.
pub const EVENT: &str = "command";

/// Samples kept, as by the servers.
const MOST_SAMPLES: usize = 160;

/// Columns and rows of a graph.
const COLUMNS: usize = 80;
const ROWS: u64 = 4;

/// What a row of a graph shows of a column that ends in it, and of one that is higher.
const TOPS: [char; 3] = ['_', 'o', '#'];
const BELOW: char = '|';

/// A second in which requests took long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    unix_seconds: u64,
    /// The longest time.
    millis: u64,
}

/// The last seconds in which requests took long.
#[derive(Debug, Default)]
pub struct LatencySamples {
    /// Oldest first.
    samples: VecDeque<Sample>,
    worst_millis: u64,
}

impl LatencySamples {
    /// Without any.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            samples: VecDeque::new(),
            worst_millis: 0,
        }
    }

    /// Notes a request that took so long. Of all that were answered in one second the longest time counts.
    pub fn note(&mut self, unix_seconds: u64, millis: u64) {
        self.worst_millis = self.worst_millis.max(millis);
        match self.samples.back_mut() {
            // The clock may be set back.
            Some(last) if last.unix_seconds >= unix_seconds => {
                last.millis = last.millis.max(millis);
            }
            _ => {
                if self.samples.len() == MOST_SAMPLES {
                    self.samples.pop_front();
                }
                self.samples.push_back(Sample {
                    unix_seconds,
                    millis,
                });
            }
        }
    }

    /// Forgets all; whether there was something.
    pub fn clear(&mut self) -> bool {
        let had_some = !self.samples.is_empty();
        *self = Self::new();
        had_some
    }

    /// Appends the reply to LATENCY LATEST: the last sample, and the longest time of all.
    pub fn write_latest(&self, out: &mut Vec<u8>) {
        let Some(last) = self.samples.back() else {
            return write::array(out, 0);
        };
        write::array(out, 1);
        write::array(out, 4);
        write::bulk(out, EVENT.as_bytes());
        for number in [last.unix_seconds, last.millis, self.worst_millis] {
            write_number(out, number);
        }
    }

    /// Appends the reply to LATENCY HISTORY of the event, oldest first.
    pub fn write_history(&self, out: &mut Vec<u8>) {
        write::array(out, self.samples.len());
        for sample in &self.samples {
            write::array(out, 2);
            write_number(out, sample.unix_seconds);
            write_number(out, sample.millis);
        }
    }

    /// The text of LATENCY GRAPH; `None` if there is nothing to show. Below each column stands how long ago it was.
    #[must_use]
    pub fn graph(&self, now_seconds: u64) -> Option<String> {
        let (low, high) = self.bounds()?;
        let mut text = format!(
            "{EVENT} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
            self.worst_millis,
            "-".repeat(COLUMNS)
        );
        let samples: Vec<Sample> = self.samples.iter().copied().collect();
        for (number, part) in samples.chunks(COLUMNS).enumerate() {
            if number > 0 {
                text.push('\n');
            }
            draw(&mut text, part, (low, high), now_seconds);
        }
        Some(text)
    }

    /// The text of LATENCY DOCTOR.
    #[must_use]
    pub fn report(&self, now_seconds: u64) -> String {
        let (Some(oldest), count) = (self.samples.front(), self.samples.len() as u64) else {
            return "No request has been slow enough for the slow log of this proxy (log.slow_time).\n"
                .to_owned();
        };
        let sum: u64 = self.samples.iter().map(|sample| sample.millis).sum();
        let average = sum / count;
        let deviations = self.samples.iter();
        let deviation: u64 = deviations
            .map(|sample| sample.millis.abs_diff(average))
            .sum();
        let span = now_seconds.saturating_sub(oldest.unix_seconds);
        let hundredths = span.saturating_mul(100) / count;
        let mut text = String::from("Requests through this proxy were slow.\n\n");
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "1. {EVENT}: {count} latency spikes (average {average}ms, mean deviation {}ms, period {}.{:02} sec). \
             Worst all time event {}ms.\n\n",
            deviation / count,
            hundredths / 100,
            hundredths % 100,
            self.worst_millis
        );
        text.push_str(
            "SLOWLOG GET says of each how much of the time was its node's; the metrics have the times of all requests.\n",
        );
        text
    }

    /// The shortest and the longest time of the samples.
    fn bounds(&self) -> Option<(u64, u64)> {
        let times = || self.samples.iter().map(|sample| sample.millis);
        times().min().zip(times().max())
    }
}

/// Appends one part of a graph, in the form of the servers.
fn draw(text: &mut String, part: &[Sample], (low, high): (u64, u64), now_seconds: u64) {
    let steps = TOPS.len() as u64 * ROWS;
    let range = (high - low).max(1);
    for row in (0..ROWS).rev() {
        let below = row * TOPS.len() as u64;
        text.extend(part.iter().map(|sample| {
            let step = ((sample.millis - low).saturating_mul(steps) / range).min(steps - 1);
            let top = step.checked_sub(below).map(usize::try_from);
            match top {
                None => ' ',
                Some(top) => top
                    .ok()
                    .and_then(|top| TOPS.get(top))
                    .map_or(BELOW, |it| *it),
            }
        }));
        text.push('\n');
    }
    text.extend(std::iter::repeat_n(' ', part.len()));
    text.push('\n');
    let ages = part
        .iter()
        .map(|sample| age(now_seconds.saturating_sub(sample.unix_seconds)));
    let ages: Vec<Vec<char>> = ages.map(|age| age.chars().collect()).collect();
    let rows = ages.iter().map(Vec::len).max().unwrap_or_default();
    for row in 0..rows {
        text.extend(ages.iter().map(|age| age.get(row).copied().unwrap_or(' ')));
        text.push('\n');
    }
}

/// How long ago something was, as `21s` or `3h`.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    write::integer(out, i64::try_from(number).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(samples: &[(u64, u64)]) -> LatencySamples {
        let mut latency = LatencySamples::new();
        for (unix_seconds, millis) in samples {
            latency.note(*unix_seconds, *millis);
        }
        latency
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn of_a_second_the_longest_time_is_kept() {
        let latency = of(&[(9, 20), (9, 30), (9, 10), (10, 10)]);
        let history = "*2\r\n*2\r\n:9\r\n:30\r\n*2\r\n:10\r\n:10\r\n";
        assert_eq!(written(|out| latency.write_history(out)), history);
        let latest = "*1\r\n*4\r\n$7\r\ncommand\r\n:10\r\n:10\r\n:30\r\n";
        assert_eq!(written(|out| latency.write_latest(out)), latest);
    }

    #[test]
    fn the_last_160_seconds_are_kept() {
        let all: Vec<(u64, u64)> = (0..200).map(|second| (second, 1000 - second)).collect();
        let mut latency = of(&all);
        let history = written(|out| latency.write_history(out));
        assert!(history.starts_with("*160\r\n*2\r\n:40\r\n:960\r\n"));
        assert!(written(|out| latency.write_latest(out)).ends_with(":199\r\n:801\r\n:1000\r\n"));
        assert!(latency.clear() && !latency.clear());
        assert_eq!(written(|out| latency.write_latest(out)), "*0\r\n");
        assert_eq!(latency.graph(0), None);
    }

    /// What valkey 9.1 drew of the same samples.
    #[test]
    fn a_graph_is_that_of_the_servers() {
        let graph = of(&[(9, 30), (10, 10)]).graph(11).unwrap();
        let line = "-".repeat(80);
        let head = format!("command - high 30 ms, low 10 ms (all time high 30 ms)\n{line}\n");
        assert_eq!(graph, head + "# \n| \n| \n|_\n  \n21\nss\n");
        let wide: Vec<(u64, u64)> = (0..100).map(|second| (second, 5)).collect();
        let graph = of(&wide).graph(100_000).unwrap();
        assert_eq!(graph.matches(&"_".repeat(80)).count(), 1);
        assert!(graph.contains(&format!("\n{}\n", "_".repeat(20))));
    }

    #[test]
    fn the_doctor_counts_as_those_of_the_servers_do() {
        let report = of(&[(9, 30), (10, 10)]).report(11);
        let line = "1. command: 2 latency spikes (average 20ms, mean deviation 10ms, period 1.00 sec). Worst all time event 30ms.\n";
        assert!(report.contains(line), "{report}");
        assert!(of(&[]).report(11).starts_with("No request"));
    }

    #[test]
    fn ages_are_short() {
        let ages = [59, 60, 3599, 3600, 86_399, 86_400].map(age);
        assert_eq!(ages, ["59s", "1m", "59m", "1h", "23h", "1d"]);
    }
}

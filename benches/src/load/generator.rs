//! redis-benchmark: its arguments, and what it says.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Process, case_dir, tool};

use super::contenders::Contender;
use super::workloads::{Asks, BIG, Workload};

/// A run takes some seconds.
const DEADLINE: Duration = Duration::from_secs(120);
/// What redis-benchmark replaces by the number of a random key, each time anew.
const ANY_KEY: &str = "__rand_int__";
/// Keys of one `MGET`.
const MGET_KEYS: usize = 10;

/// What clients saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl Seen {
    /// As many requests of each kind, one kind after the other: the mean p50, and the worse p99.
    fn one_after_the_other(self, other: Self) -> Self {
        Self {
            per_second: 2.0 / (1.0 / self.per_second + 1.0 / other.per_second),
            p50_ms: f64::midpoint(self.p50_ms, other.p50_ms),
            p99_ms: self.p99_ms.max(other.p99_ms),
        }
    }
}

/// The program.
#[derive(Debug)]
pub(super) struct Generator {
    program: PathBuf,
    directory: PathBuf,
}

impl Generator {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            program: tool("redis-benchmark")?,
            directory: case_dir("redis-benchmark")?,
        })
    }

    /// Asks so many times in all.
    pub(super) fn run(
        &self,
        workload: &Workload,
        clients: usize,
        contender: &Contender,
        requests: usize,
    ) -> Result<Seen> {
        let mut seen: Option<Seen> = None;
        let commands = commands(workload);
        for command in &commands {
            let requests = (requests / commands.len()).max(1);
            let options = [
                ("-h", contender.address.ip().to_string()),
                ("-p", contender.address.port().to_string()),
                ("-c", clients.to_string()),
                ("-P", workload.pipeline.to_string()),
                ("-n", requests.to_string()),
                ("-r", workload.values.keys.to_string()),
            ];
            let options = options.map(|(name, value)| [name.to_owned(), value]);
            let mut arguments = vec!["--csv".to_owned()];
            arguments.extend(options.into_iter().flatten());
            arguments.extend(command.iter().cloned());
            let now = self.call(&arguments)?;
            seen = Some(seen.map_or(now, |before| before.one_after_the_other(now)));
        }
        seen.context("a workload asks something")
    }

    fn call(&self, arguments: &[String]) -> Result<Seen> {
        // The log is appended to. There is none before the first call.
        let _ = std::fs::remove_file(self.directory.join("log"));
        let mut process = Process::start(&self.program, arguments, &[], &self.directory)?;
        let ended = process.wait_for_exit(DEADLINE);
        let said = process.log();
        let status = ended.with_context(|| said.clone())?;
        ensure!(status.success(), "redis-benchmark: {status}: {said}");
        parse(&said).with_context(|| format!("redis-benchmark said: {said}"))
    }
}

/// What to ask, in the words of redis-benchmark.
fn commands(workload: &Workload) -> Vec<Vec<String>> {
    let values = &workload.values;
    let key = format!("{}{ANY_KEY}", values.prefix);
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    match workload.asks {
        Asks::Mget => {
            let mut mget = vec!["MGET".to_owned()];
            mget.resize(1 + MGET_KEYS, key);
            vec![mget]
        }
        Asks::SetThenGet if *values == BIG => {
            let bytes = values.bytes.to_string();
            vec![words(&["-t", "set", "-d", &bytes]), words(&["-t", "get"])]
        }
        Asks::SetThenGet => vec![
            words(&["SET", &key, &values.value()]),
            words(&["GET", &key]),
        ],
    }
}

/// The one line of figures below the line of their names.
fn parse(said: &str) -> Result<Seen> {
    ensure!(!said.contains("Error from server"), "a request was refused");
    let mut lines = said
        .lines()
        .skip_while(|line| !line.starts_with("\"test\""));
    let names = lines.next().context("no names of figures")?;
    let figures = lines.next().context("no figures")?;
    // The test's name is the command, which may hold anything; the figures after it do not, so both are counted from the end.
    let names: Vec<&str> = names.rsplit(',').map(unquoted).collect();
    let figures: Vec<&str> = figures.rsplit(',').map(unquoted).collect();
    let figure = |name: &str| -> Result<f64> {
        let place = names.iter().position(|other| *other == name);
        let text = place.and_then(|place| figures.get(place));
        let text = text.with_context(|| format!("no {name}"))?;
        text.parse().with_context(|| format!("{name} is {text}"))
    };
    Ok(Seen {
        per_second: figure("rps")?,
        p50_ms: figure("p50_latency_ms")?,
        p99_ms: figure("p99_latency_ms")?,
    })
}

fn unquoted(field: &str) -> &str {
    field.trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::workloads::WORKLOADS;

    const NAMES: &str = r#""test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms""#;

    #[test]
    fn figures_are_found_by_name_after_any_command() {
        let said = format!(
            "WARNING: Could not fetch server CONFIG\n{NAMES}\n\"SET a,\"b\",1 xx\",\"13080.44\",\"0.072\",\"0.016\",\"0.031\",\"0.039\",\"2.503\",\"8.727\"\n"
        );
        let seen = parse(&said).unwrap();
        let expected = Seen {
            per_second: 13_080.44,
            p50_ms: 0.031,
            p99_ms: 2.503,
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn refused_requests_and_missing_figures_are_errors() {
        let line = "\"GET\",\"1.0\",\"0.1\",\"0.1\",\"0.1\",\"0.1\",\"0.1\",\"0.1\"";
        assert!(parse(&format!("{NAMES}\n{line}\n")).is_ok());
        let refused = format!("Error from server: ERR no\n{NAMES}\n{line}\n");
        assert!(parse(&refused).is_err());
        assert!(parse(NAMES).is_err());
        assert!(parse("").is_err());
        assert!(parse(&format!("{NAMES}\n\"GET\",\"nan?\"\n")).is_err());
    }

    #[test]
    fn rates_of_two_halves_are_those_of_their_time_together() {
        let half = |per_second, p50_ms, p99_ms| Seen {
            per_second,
            p50_ms,
            p99_ms,
        };
        // 600 requests in 3 s, then 600 in 1 s.
        let both = half(200.0, 1.0, 5.0).one_after_the_other(half(600.0, 3.0, 4.0));
        assert_eq!(both, half(300.0, 2.0, 5.0));
    }

    #[test]
    fn no_argument_is_too_long_for_a_program() {
        let arguments = WORKLOADS.iter().flat_map(commands).flatten();
        assert!(arguments.map(|argument| argument.len()).max() <= Some(100_000));
    }

    #[test]
    fn mget_asks_for_ten_random_keys() {
        let mget = WORKLOADS
            .iter()
            .find(|workload| workload.asks == Asks::Mget);
        let commands = commands(mget.unwrap());
        assert_eq!(commands.len(), 1);
        let is_random = |word: &&String| word.as_str() == "small:__rand_int__";
        assert_eq!(commands[0].iter().filter(is_random).count(), MGET_KEYS);
    }
}

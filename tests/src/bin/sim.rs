//! Runs the simulation of the request path for given or fresh seeds, on all cores. See `harness::sim`.

use std::io::Write as _;
use std::panic::resume_unwind;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use harness::sim::{Failure, Summary, run};

/// What to run.
struct Options {
    seed: u64,
    steps: u64,
    runs: u64,
    threads: u64,
    /// No run is begun after that time.
    seconds: u64,
    /// Not 0: shows all events before a violation.
    events: u64,
}

fn options() -> Result<Options> {
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let mut options = Options {
        seed: u64::try_from(fresh)? * 1_000,
        steps: 3_000,
        runs: 1,
        threads: cores,
        seconds: u64::from(u32::MAX),
        events: 0,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{name} needs a value"))?;
        let value = value
            .parse()
            .with_context(|| format!("{name} {value} is no number"))?;
        match name.as_str() {
            "--seed" => options.seed = value,
            "--steps" => options.steps = value,
            "--runs" => options.runs = value,
            "--threads" => options.threads = value,
            "--seconds" => options.seconds = value,
            "--events" => options.events = value,
            _ => bail!(
                "usage: sim [--seed N] [--steps N] [--runs N] [--threads N] [--seconds N] [--events 1]"
            ),
        }
    }
    Ok(options)
}

/// Takes seeds until there are none left, the time is over or a rule is broken.
fn work(options: &Options, next: &AtomicU64) -> Result<Summary, Box<Failure>> {
    let end = options.seed + options.runs;
    let start = Instant::now();
    let mut total = Summary::default();
    while start.elapsed() < Duration::from_secs(options.seconds) {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            break;
        }
        match run(seed, options.steps) {
            Ok(summary) => total.add(&summary),
            Err(failure) => {
                next.store(end, Ordering::Relaxed);
                return Err(failure);
            }
        }
    }
    Ok(total)
}

/// One thread per core, or as many as were asked for; the first violation ends all of them.
fn work_on_all_cores(options: &Options, next: &AtomicU64) -> Result<Summary, Box<Failure>> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..options.threads.min(options.runs).max(1))
            .map(|_| scope.spawn(|| work(options, next)))
            .collect();
        let mut total = Summary::default();
        for thread in threads {
            // A thread only panics where the simulation itself is at fault.
            let outcome = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            total.add(&outcome?);
        }
        Ok(total)
    })
}

fn main() -> Result<ExitCode> {
    let options = options()?;
    let start = Instant::now();
    let next = AtomicU64::new(options.seed);
    let outcome = work_on_all_cores(&options, &next);
    let mut out = std::io::stdout().lock();
    match outcome {
        Ok(total) => {
            let seconds = start.elapsed().as_secs_f64();
            let last = next.into_inner().min(options.seed + options.runs) - 1;
            let first = options.seed;
            writeln!(
                out,
                "seeds {first} to {last}: no violation in {seconds:.1} s\n{total:#?}"
            )?;
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            if options.events > 0 {
                for event in &failure.trace {
                    writeln!(out, "  {event}")?;
                }
            }
            writeln!(out, "{failure}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

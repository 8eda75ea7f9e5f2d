//! Runs the simulation of the request path for given or fresh seeds. See `harness::sim`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use harness::sim::{Summary, run};

/// What to run.
struct Options {
    seed: u64,
    steps: u64,
    runs: u64,
}

fn options() -> Result<Options> {
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
    let mut options = Options {
        seed: u64::from(fresh) * 1_000_000,
        steps: 3_000,
        runs: 1,
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
            _ => bail!("usage: sim [--seed N] [--steps N] [--runs N]"),
        }
    }
    Ok(options)
}

fn main() -> Result<ExitCode> {
    let options = options()?;
    let mut out = std::io::stdout().lock();
    let mut total = Summary::default();
    let start = Instant::now();
    for seed in options.seed..options.seed + options.runs {
        match run(seed, options.steps) {
            Ok(summary) => total.add(&summary),
            Err(failure) => {
                writeln!(out, "{failure}")?;
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    writeln!(
        out,
        "seeds {} to {}: no violation in {seconds:.1} s\n{total:#?}",
        options.seed,
        options.seed + options.runs - 1
    )?;
    Ok(ExitCode::SUCCESS)
}

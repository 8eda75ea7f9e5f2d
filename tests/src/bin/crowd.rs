//! Clients that take more than their share, beside ordinary ones. See `harness::crowd`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use harness::crowd::{Disturbance, Options, Sizes, Verdict, run};
use harness::{Version, case};

const USAGE: &str =
    "usage: crowd [--server redis-7.0] [--only DISTURBANCE] [--short yes] [--control no]";

fn options() -> Result<Options> {
    let mut options = Options {
        version: Version::Valkey91,
        sizes: Sizes::FULL,
        control: true,
        only: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().context(USAGE)?;
        match name.as_str() {
            "--server" => {
                let version = Version::ALL.into_iter().find(|v| v.folder() == value);
                options.version = version.with_context(|| format!("unknown server {value}"))?;
            }
            "--only" => {
                options.only = Some(Disturbance::named(&value).with_context(|| {
                    let names = Disturbance::ALL.map(Disturbance::name).join(" ");
                    format!("no disturbance {value}; there are: {names}")
                })?);
            }
            "--short" if value == "yes" => options.sizes = Sizes::SHORT,
            "--control" => options.control = value != "no",
            _ => bail!(USAGE),
        }
    }
    Ok(options)
}

fn main() -> Result<ExitCode> {
    let options = options()?;
    let mut broken = false;
    case(|| {
        let mut out = std::io::stdout().lock();
        let records = run(&options, &mut out)?;
        let is_kept = |verdict| matches!(verdict, Verdict::Kept | Verdict::AsDirect);
        broken = !records.iter().all(|record| is_kept(record.verdict()));
        Ok(out.flush()?)
    })?;
    Ok(if broken {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

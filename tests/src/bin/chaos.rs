//! Chaos on real servers, for some minutes. See `harness::chaos`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use harness::chaos::{Fault, Options, run};
use harness::{Version, case};

const USAGE: &str = "usage: chaos [--minutes N] [--seed N] [--server redis-7.0] [--only FAULT]
--minutes 0: each fault once";

fn options() -> Result<Options> {
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut options = Options {
        version: Version::Valkey91,
        time: Some(Duration::from_secs(600)),
        seed: fresh,
        only: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().context(USAGE)?;
        match name.as_str() {
            "--minutes" => {
                let minutes: u64 = value.parse().context(USAGE)?;
                options.time = (minutes > 0).then(|| Duration::from_secs(60 * minutes));
            }
            "--seed" => options.seed = value.parse().context(USAGE)?,
            "--server" => {
                let version = Version::ALL.into_iter().find(|v| v.folder() == value);
                options.version = version.with_context(|| format!("unknown server {value}"))?;
            }
            "--only" => {
                options.only = Some(Fault::named(&value).with_context(|| {
                    let names = Fault::ALL.map(Fault::name).join(" ");
                    format!("no fault {value}; there are: {names}")
                })?);
            }
            _ => bail!(USAGE),
        }
    }
    Ok(options)
}

fn main() -> Result<ExitCode> {
    let options = options()?;
    let mut broken = 0;
    case(|| {
        let mut out = std::io::stdout().lock();
        broken = run(&options, &mut out)?;
        Ok(out.flush()?)
    })?;
    Ok(if broken == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

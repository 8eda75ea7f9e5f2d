//! `make bench`: slotway beside one server and beside other proxies. See `slotway_benches::load`.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::{Version, case, repository_root};
use slotway_benches::load::{Options, names, run};

const USAGE: &str = "usage: load [--rounds 5] [--seconds 2] [--minutes 12] [--only WORKLOAD,...] [--server redis-7.0] [--json FILE]
--seconds: of one run; --minutes: of all, for which rounds are left out
SLOTWAY_BIN: the proxy to measure; without it the one of this profile is built";

/// Nothing if help was asked for.
fn options() -> Result<Option<Options>> {
    let mut options = Options {
        version: Version::Redis70,
        rounds: 5,
        limit: Duration::from_secs(720),
        time: Duration::from_secs(2),
        only: Vec::new(),
        json: repository_root().join("target/bench.json"),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--help" {
            return Ok(None);
        }
        let value = arguments.next().context(USAGE)?;
        let bad = || format!("{name} {value}: {USAGE}");
        match name.as_str() {
            "--rounds" => options.rounds = value.parse().with_context(bad)?,
            "--seconds" => options.time = seconds(&value, 1.0).with_context(bad)?,
            "--minutes" => options.limit = seconds(&value, 60.0).with_context(bad)?,
            "--only" => options.only = value.split(',').map(str::to_owned).collect(),
            "--server" => {
                let version = Version::ALL.into_iter().find(|v| v.folder() == value);
                options.version = version.with_context(|| format!("unknown server {value}"))?;
            }
            "--json" => options.json = PathBuf::from(value),
            _ => bail!(USAGE),
        }
    }
    ensure!(options.rounds > 0, "no rounds: {USAGE}");
    for name in &options.only {
        let known = names().any(|known| known == name);
        ensure!(known, "no workload {name}; there are: {}", all_names());
    }
    Ok(Some(options))
}

/// So many units of some seconds.
fn seconds(count: &str, unit: f64) -> Result<Duration> {
    let count: f64 = count.parse()?;
    Ok(Duration::try_from_secs_f64(count * unit)?)
}

fn all_names() -> String {
    names().collect::<Vec<_>>().join(" ")
}

fn main() -> Result<()> {
    let mut out = std::io::stdout().lock();
    let Some(options) = options()? else {
        return Ok(writeln!(out, "{USAGE}\nworkloads: {}", all_names())?);
    };
    case(|| run(&options, &mut out))
}

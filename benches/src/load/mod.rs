//! Load: the same requests straight to one server, through slotway and through its peers, in turn, in several rounds. Machines are
//! noisy, so what counts are ratios within one run.

mod contenders;
mod cpu;
mod generator;
mod hogs;
mod idle;
mod peers;
mod probe;
mod report;
mod results;
mod run;
mod statistics;
mod targets;
mod units;
mod workloads;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::{Version, slotway_binary};

use contenders::{Contender, Setup, Who};
use generator::Generator;
use results::Results;
use workloads::{Values, WORKLOADS, Workload};

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Release of the servers
    pub version: Version,
    /// How often everything is run
    pub rounds: usize,
    /// No round is begun that would end later after the start
    pub limit: Duration,
    /// How long one run is about to take
    pub time: Duration,
    /// Only workloads of these names; all if there are none
    pub only: Vec<String>,
    /// Where the figures go as JSON
    pub json: PathBuf,
}

/// Names of all workloads.
pub fn names() -> impl Iterator<Item = &'static str> {
    let loads = WORKLOADS.iter().map(|workload| workload.name);
    loads.chain([idle::NAME])
}

/// Runs everything on the thread of a [`harness::case`]; progress and the tables go to `out`.
///
/// # Errors
/// If a server, a proxy or the load generator cannot be run, or a request is refused.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<()> {
    let began = Instant::now();
    idle::raise_descriptors()?;
    let conditions = conditions(options)?;
    for condition in &conditions {
        writeln!(out, "{condition}")?;
    }
    let setup = Setup::start(options.version)?;
    let bench = Bench {
        began,
        options,
        setup: &setup,
        generator: Generator::new()?,
    };
    let mut results = bench.rounds(out)?;
    if options.includes(idle::NAME) {
        progress(out, format_args!("idle connections"))?;
        results.idle = idle::measure(&setup)?;
        writeln!(out)?;
    }
    setup.check_nothing_missed()?;
    let missing: Vec<Who> = setup.missing().collect();
    report::print(&results, &missing, out)?;
    report::write(&results, &conditions, &options.json)?;
    let (file, seconds) = (options.json.display(), began.elapsed().as_secs());
    Ok(writeln!(out, "\n{seconds} s; every round is in {file}")?)
}

impl Options {
    fn includes(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

/// What the figures depend on besides the proxy.
fn conditions(options: &Options) -> Result<Vec<String>> {
    let processors = std::thread::available_parallelism()?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    let mut all = vec![
        format!("proxy: {}, 1 worker", slotway_binary()?.display()),
        format!("servers: {}", options.version.folder()),
    ];
    for who in Who::ALL {
        let version = peers::version(who)?;
        all.extend(version.map(|version| format!("peer: {version}")));
    }
    all.push(format!(
        "{processors} processors, load average before {load}; {} rounds of about {:?}",
        options.rounds, options.time
    ));
    Ok(all)
}

fn progress(out: &mut dyn Write, what: std::fmt::Arguments<'_>) -> Result<()> {
    out.write_fmt(what)?;
    Ok(out.flush()?)
}

struct Bench<'a> {
    began: Instant,
    options: &'a Options,
    setup: &'a Setup,
    generator: Generator,
}

impl Bench<'_> {
    fn chosen(&self) -> Vec<&'static Workload> {
        let all = WORKLOADS.iter();
        all.filter(|workload| self.options.includes(workload.name))
            .collect()
    }

    /// Those that a workload goes through.
    fn asked(&self, workload: &Workload) -> impl Iterator<Item = &Contender> {
        let all = self.setup.contenders().iter();
        let clients = workload.clients;
        all.filter(move |contender| clients.may_ask(contender.who))
    }

    /// Everything but idle connections.
    fn rounds(&self, out: &mut dyn Write) -> Result<Results> {
        let workloads = self.chosen();
        self.fill(&workloads, out)?;
        let sizes = self.calibrate(&workloads, out)?;
        let mut results = Results::default();
        for round in 1..=self.options.rounds {
            let began = Instant::now();
            for (workload, sizes) in workloads.iter().zip(&sizes) {
                progress(out, format_args!("round {round}  {:14}", workload.name))?;
                self.turn(workload, sizes, &mut results, out)?;
            }
            let next_ends = self.began.elapsed() + began.elapsed();
            if round < self.options.rounds && next_ends > self.options.limit {
                writeln!(out, "no time for more than {round} rounds")?;
                break;
            }
        }
        Ok(results)
    }

    /// One workload through all contenders, with as many requests for each.
    fn turn(
        &self,
        workload: &Workload,
        sizes: &[usize],
        results: &mut Results,
        out: &mut dyn Write,
    ) -> Result<()> {
        for (contender, requests) in self.asked(workload).zip(sizes) {
            let sample = run::run(&self.generator, workload, contender, *requests);
            let (name, who) = (workload.name, contender.who);
            let sample = sample.with_context(|| format!("{name}, {}", who.name()))?;
            progress(
                out,
                format_args!("  {} {:.0}/s", who.name(), sample.per_second),
            )?;
            results.add(name, who, sample);
        }
        Ok(writeln!(out)?)
    }

    /// Writes every value that is read.
    fn fill(&self, workloads: &[&Workload], out: &mut dyn Write) -> Result<()> {
        let mut filled: Vec<&Values> = Vec::new();
        for values in workloads.iter().flat_map(|workload| workload.reads()) {
            if !filled.contains(&values) {
                let (count, bytes) = (values.keys, values.bytes);
                writeln!(out, "writing {count} values of {bytes} B")?;
                self.setup.fill(values)?;
                filled.push(values);
            }
        }
        Ok(())
    }

    /// How many requests each contender gets in one run of each workload.
    fn calibrate(&self, workloads: &[&Workload], out: &mut dyn Write) -> Result<Vec<Vec<usize>>> {
        let time = self.options.time;
        let mut all = Vec::new();
        for workload in workloads {
            writeln!(out, "warming up {}", workload.name)?;
            let sizes = self.asked(workload).map(|contender| {
                run::calibrate(&self.generator, workload, contender, time)
                    .with_context(|| format!("{}, {}", workload.name, contender.who.name()))
            });
            all.push(sizes.collect::<Result<_>>()?);
        }
        Ok(all)
    }
}

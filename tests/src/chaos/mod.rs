//! Chaos on real servers: faults of every kind, one after the other, under a load that checks every reply.
//!
//! Two proxies behind a balancer serve the clients. Before each fault the cluster is whole; after it everything is healed and
//! checked, so every error, every gap and every lost write belongs to one fault. The order and the choices come from a seed; the
//! servers' timing does not, so a run with the same seed is alike, not equal.

mod balancer;
mod churn;
mod control;
mod evidence;
mod faults;
mod inject;
mod record;
mod report;
mod scene;

pub use faults::Fault;

use crate::case::tail;
use crate::servers::Version;
use anyhow::{Context, Result};
use fastrand::Rng;
use record::Record;
use report::milliseconds;
use scene::Scene;
use std::io::Write;
use std::time::{Duration, Instant};

/// Replies that each load gets before a fault.
const REPLIES_BEFORE: u64 = 500;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Release of the servers
    pub version: Version,
    /// Faults are begun for this long; `None`: each kind once, in a fixed order
    pub time: Option<Duration>,
    /// What the choices are made from
    pub seed: u64,
    /// Only this kind of fault
    pub only: Option<Fault>,
}

/// Runs the suite on the thread of a [`crate::case`] and writes what happens; gives the number of broken promises.
///
/// # Errors
/// If the servers or the proxy cannot be run, or do not recover from a fault.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<usize> {
    let started = Instant::now();
    let mut rng = Rng::with_seed(options.seed);
    let mut scene = Scene::start(options.version)?;
    writeln!(
        out,
        "chaos on {}, seed {}",
        options.version.folder(),
        options.seed
    )?;
    let mut records = Vec::new();
    let mut broken = 0;
    let mut end = Ok(());
    for fault in plan(options, &mut rng, started) {
        match one(fault, &mut scene, &mut rng) {
            Ok((record, logs)) => {
                broken += show(&record, &logs, started, out)?;
                records.push(record);
            }
            Err(error) => {
                let at = seconds(started);
                writeln!(out, "{}, given up after {at}: {error:#}", fault.name())?;
                end = Err(error.context(format!("{}, after {at}", fault.name())));
                break;
            }
        }
    }
    report::print(&records, out)?;
    end?;
    let last = scene.finish()?;
    if let Err(error) = last.ensure_flawless() {
        writeln!(out, "BROKEN at the end: {error:#}")?;
        broken += 1;
    }
    let faults = records.len();
    let verdict = if broken == 0 { "ok" } else { "BROKEN" };
    writeln!(
        out,
        "{verdict}: {faults} faults in {}, {broken} broken promises",
        seconds(started)
    )?;
    Ok(broken)
}

/// The faults, drawn as they are asked for.
fn plan(options: &Options, rng: &mut Rng, started: Instant) -> impl Iterator<Item = Fault> + use<> {
    let mut rng = rng.fork();
    let (time, only) = (options.time, options.only);
    let mut waiting: Vec<Fault> = Vec::new();
    let mut rounds = 0;
    std::iter::from_fn(move || {
        if waiting.is_empty() {
            rounds += 1;
            let over = time.map_or(rounds > 1, |time| started.elapsed() >= time);
            // A node that joined has to leave, whatever the time: it does so in the same round.
            waiting = match (over, time) {
                (true, _) => return None,
                (false, None) => Fault::ALL.to_vec(),
                (false, Some(_)) => faults::draw_round(&mut rng),
            };
            waiting.retain(|fault| only.is_none_or(|only| faults::belongs(*fault, only)));
            waiting.reverse();
        }
        let over = time.is_some_and(|time| started.elapsed() >= time);
        let next = waiting.pop()?;
        (!over || next == Fault::NodeRemove).then_some(next)
    })
}

/// One fault, from a whole cluster to a whole cluster; with what the proxies logged meanwhile.
fn one(fault: Fault, scene: &mut Scene, rng: &mut Rng) -> Result<(Record, Vec<String>)> {
    scene.calm()?;
    scene.go_on(REPLIES_BEFORE)?;
    let evidence = scene.keep_evidence()?;
    scene.forget_peaks()?;
    let logged: Vec<usize> = scene
        .proxies
        .iter()
        .map(|proxy| proxy.log().len())
        .collect();
    let outcome = inject::inject(fault, scene, rng)?;
    scene.calm().context("the cluster does not recover")?;
    let (load, control) = scene.check()?;
    let peak_bytes = scene.peak_bytes()?;
    let unexplained = evidence.unexplained(&scene.cluster, &load.lost)?;
    let control_unexplained = evidence.unexplained(&scene.cluster, &control.lost)?;
    let log_since = |(n, from): (usize, &usize)| {
        let log = scene.proxies[n].log();
        format!("proxy {n}:\n{}", tail(log.get(*from..).unwrap_or(&log)))
    };
    let logs = logged.iter().enumerate().map(log_since).collect();
    let record = Record {
        fault,
        outcome,
        load,
        control,
        unexplained,
        control_unexplained,
        peak_bytes,
    };
    Ok((record, logs))
}

/// One line per fault, and everything that was wrong with it; gives the number of broken promises.
fn show(record: &Record, logs: &[String], started: Instant, out: &mut dyn Write) -> Result<usize> {
    let at = record.outcome.began.duration_since(started).as_secs_f64();
    writeln!(
        out,
        "{at:>6.1} s  {}: {}; errors {}, gap {} ms of {} allowed, lost {} (control {}, its gap {} ms), closed {}",
        record.fault.name(),
        record.outcome.detail,
        record.load.errors.len(),
        milliseconds(record.longest_gap()),
        milliseconds(record.allowed_gap()),
        record.load.lost.len(),
        record.control.lost.len(),
        milliseconds(record.control.longest_gap),
        record.load.reconnects,
    )?;
    for write in &record.control.wrong {
        writeln!(out, "          the control saw: {write}")?;
    }
    let findings = record.findings();
    for finding in &findings {
        writeln!(out, "          BROKEN: {finding}")?;
    }
    if !findings.is_empty() {
        for (text, count) in record.errors() {
            writeln!(out, "          {count} x {text}")?;
        }
        for log in logs {
            writeln!(out, "          log of {log}")?;
        }
    }
    out.flush()?;
    Ok(findings.len())
}

fn seconds(started: Instant) -> String {
    format!("{:.0} s", started.elapsed().as_secs_f64())
}

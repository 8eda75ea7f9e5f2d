//! One run of one workload through one contender.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::contenders::Contender;
use super::cpu::Cpu;
use super::generator::{Generator, Seen};
use super::hogs::Hogs;
use super::probe;
use super::results::{CpuEach, ProxyCpu, Sample};
use super::units;
use super::workloads::{Clients, Workload};

/// Requests of the very first run: so many of every client and place in its pipeline, ...
const FIRST_EACH: usize = 20;
/// ... and this many at least.
const FIRST: usize = 500;
/// The second run, which tells how many requests fit into the time, takes one of so many parts of it.
const PARTS: u32 = 4;

/// Finds out how many requests take about so long, and warms everything up.
pub(super) fn calibrate(
    generator: &Generator,
    workload: &Workload,
    contender: &Contender,
    time: Duration,
) -> Result<usize> {
    let clients = match workload.clients {
        Clients::Many(clients) | Clients::BesideHogs(clients) => clients,
        Clients::One => 1,
        Clients::Units(_) => units::CLIENTS,
    };
    let at_once = clients * workload.pipeline;
    let first = (FIRST_EACH * at_once).max(FIRST);
    let rate = |requests| Ok(run(generator, workload, contender, requests)?.per_second);
    let requests_in = |time, per_second| requests_in(time, per_second).max(at_once);
    let second = requests_in(time / PARTS, rate(first)?);
    rate(second).map(|per_second| requests_in(time, per_second))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive, and no machine has so many requests in some seconds"
)]
fn requests_in(time: Duration, per_second: f64) -> usize {
    (per_second * time.as_secs_f64()) as usize
}

/// Asks so many times.
pub(super) fn run(
    generator: &Generator,
    workload: &Workload,
    contender: &Contender,
    requests: usize,
) -> Result<Sample> {
    let (began, before) = (Instant::now(), Used::until_now(contender)?);
    let seen = ask(generator, workload, contender, requests)?;
    let used = Used::until_now(contender)?.since(&before);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / requests as f64;
    let cpu = CpuEach {
        proxy: contender.proxy.map(|_| ProxyCpu {
            user: each(used.proxy.user),
            system: each(used.proxy.system),
        }),
        servers: each(used.servers.total()),
    };
    let beside_hogs = matches!(workload.clients, Clients::BesideHogs(_));
    let generated = used.generator.total().as_secs_f64() / began.elapsed().as_secs_f64();
    Ok(Sample {
        per_second: seen.per_second,
        p50_ms: seen.p50_ms,
        p99_ms: seen.p99_ms,
        cpu: (!beside_hogs).then_some(cpu),
        generator: workload
            .clients
            .are_of_redis_benchmark()
            .then_some(generated),
    })
}

fn ask(
    generator: &Generator,
    workload: &Workload,
    contender: &Contender,
    requests: usize,
) -> Result<Seen> {
    match workload.clients {
        Clients::Many(clients) => generator.run(workload, clients, contender, requests),
        Clients::One => probe::run(contender.address, &workload.values, requests),
        Clients::Units(unit) => units::run(contender.address, &workload.values, unit, requests),
        Clients::BesideHogs(clients) => {
            let hogs = Hogs::start(contender.address)?;
            let seen = generator.run(workload, clients, contender, requests);
            // A hog that failed says more than the load that failed with it.
            hogs.end()?;
            seen
        }
    }
}

/// Processor time.
struct Used {
    proxy: Cpu,
    servers: Cpu,
    generator: Cpu,
}

impl Used {
    fn until_now(contender: &Contender) -> Result<Self> {
        Ok(Self {
            proxy: contender
                .proxy
                .map_or_else(|| Ok(Cpu::default()), Cpu::of)?,
            servers: Cpu::of_all(&contender.servers)?,
            generator: Cpu::of_ended_children()?,
        })
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            proxy: self.proxy - earlier.proxy,
            servers: self.servers - earlier.servers,
            generator: self.generator - earlier.generator,
        }
    }
}

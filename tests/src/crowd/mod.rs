//! Crowds: clients that take more than their share, beside ordinary ones that must hardly notice.
//!
//! Each disturbance has a new cluster of 3 primaries and a new proxy. 50 ordinary clients are served for a while, then the
//! disturbance comes on top. The same is done without the proxy, straight to the nodes: on a small machine the clients, the servers
//! and the proxy share the processors, and the control shows what that alone costs.

mod bounds;
mod clients;
mod disturbance;
mod ordinary;
mod pipeline;
mod report;
mod target;
mod values;

pub use disturbance::Disturbance;
pub use report::Verdict;

use crate::cluster::Cluster;
use crate::proxy::Proxy;
use crate::servers::Version;
use crate::wait::pause;
use anyhow::{Context, Result, ensure};
use ordinary::{Ordinary, Sample};
use std::io::Write;
use std::time::{Duration, Instant};
use target::Target;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Release of the servers
    pub version: Version,
    /// How much of everything
    pub sizes: Sizes,
    /// The same straight to the nodes, for comparison
    pub control: bool,
    /// Only this disturbance
    pub only: Option<Disturbance>,
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Clients that do not read
    pub deaf_clients: usize,
    /// What each of them asks for
    pub deaf_requests: usize,
    /// Bytes of each reply
    pub deaf_reply_bytes: usize,
    /// The one huge value
    pub huge_bytes: usize,
    /// Clients with a big value
    pub big_clients: usize,
    /// The value of each
    pub big_bytes: usize,
    /// What all clients with such values together send or get in a second if they come over a network
    pub network_bytes: usize,
    /// Clients that do nothing
    pub idle_clients: usize,
    /// Clients that come and go
    pub new_clients: usize,
    /// How many of them in a second
    pub new_per_second: usize,
    /// Commands of the pipeline
    pub pipelined: usize,
    /// How long the ordinary clients are alone
    pub quiet: Duration,
    /// How long a disturbance lasts at least
    pub disturbed: Duration,
    /// The same of one that lasts: clients that are there and do nothing, or read nothing
    pub lasting: Duration,
}

impl Sizes {
    /// What the proxy is meant to stand.
    pub const FULL: Self = Self {
        deaf_clients: 50,
        deaf_requests: 200,
        deaf_reply_bytes: 1 << 20,
        huge_bytes: 512 << 20,
        big_clients: 20,
        big_bytes: 64 << 20,
        network_bytes: GIGABIT,
        idle_clients: 10_000,
        new_clients: 10_000,
        new_per_second: 1_000,
        pipelined: 1_000_000,
        quiet: Duration::from_secs(6),
        disturbed: Duration::from_secs(10),
        lasting: Duration::from_secs(60),
    };
    /// Less of it, for machines with something else to do.
    pub const SHORT: Self = Self {
        deaf_clients: 50,
        deaf_requests: 50,
        deaf_reply_bytes: 1 << 20,
        huge_bytes: 128 << 20,
        big_clients: 10,
        big_bytes: 8 << 20,
        network_bytes: GIGABIT,
        idle_clients: 1_000,
        new_clients: 600,
        new_per_second: 300,
        pipelined: 100_000,
        quiet: Duration::from_millis(300),
        disturbed: Duration::from_secs(2),
        lasting: Duration::from_secs(2),
    };
}

/// A network of 1 Gbit/s, in bytes a second.
const GIGABIT: usize = 125_000_000;
/// Connections of the proxy besides those of the idle clients.
const OTHER_CLIENTS: usize = 200;
/// The ordinary clients are not judged before they have run for this long: links open, memory is touched for the first time.
const WARM_UP: Duration = Duration::from_secs(1);
/// How far behind the others the threads of a disturbance stand in the scheduler's queue. They take all they can get; what they
/// take from the servers and the proxy is to be seen, not what they take from the clients that measure.
const NICENESS: i32 = 10;
/// The servers' own default: a node that copies a huge value is not dead.
const NODE_TIMEOUT_MILLIS: &str = "15000";
/// What a node keeps for a client that does not read, in the control: without a limit, all it asked for.
const NODE_OUTPUT_LIMIT: &str = "normal 67108864 0 0 replica 0 0 0 pubsub 0 0 0";

/// Times of ordinary requests.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Half of them were answered within
    pub p50: Duration,
    /// 99 % of them were answered within
    pub p99: Duration,
    /// All of them were answered within
    pub max: Duration,
    /// How many there were
    pub count: usize,
}

/// Ordinary clients alone, and beside a disturbance.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Alone
    pub quiet: Times,
    /// Beside it
    pub disturbed: Times,
}

/// What came of one disturbance.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which
    pub disturbance: Disturbance,
    /// What was done, in numbers
    pub detail: String,
    /// Through the proxy
    pub proxy: Pair,
    /// Straight to the nodes
    pub control: Option<Pair>,
    /// Memory of the proxy before
    pub before_bytes: u64,
    /// The most memory of the proxy during it
    pub peak_bytes: u64,
    /// What that may be
    pub bound_bytes: u64,
}

/// Runs the suite on the thread of a [`crate::case`] and writes what happens.
///
/// # Errors
/// If a server or the proxy cannot be run, or a client gets a reply that is wrong or none.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<Vec<Record>> {
    let all = Disturbance::ALL.into_iter();
    let chosen = all.filter(|disturbance| options.only.is_none_or(|only| only == *disturbance));
    let mut records = Vec::new();
    for disturbance in chosen {
        let record = one(disturbance, options).with_context(|| disturbance.name())?;
        report::line(&record, out)?;
        records.push(record);
    }
    report::print(&records, out)?;
    Ok(records)
}

fn one(disturbance: Disturbance, options: &Options) -> Result<Record> {
    let sizes = &options.sizes;
    clients::raise_descriptors(sizes.idle_clients)?;
    let cluster = start_cluster(options.version)?;
    let limits = format!(
        "limits.max_clients = {}\n",
        sizes.idle_clients + OTHER_CLIENTS
    );
    let proxy = Proxy::new(&cluster).config(&limits).start()?;
    let mut before_bytes = 0;
    let watch = || -> Result<()> {
        before_bytes = proxy.resident_bytes()?;
        proxy.forget_peak()
    };
    let target = Target::Proxy(proxy.address());
    let (pair, detail) = measure(disturbance, sizes, &target, watch)?;
    let peak_bytes = proxy.peak_resident_bytes()?;
    drop(proxy);
    drop(cluster);
    let control = options
        .control
        .then(|| control(disturbance, options))
        .transpose()?;
    Ok(Record {
        disturbance,
        detail,
        proxy: pair,
        control,
        before_bytes,
        peak_bytes,
        bound_bytes: before_bytes + bounds::room_for(disturbance, sizes),
    })
}

fn start_cluster(version: Version) -> Result<Cluster> {
    let cluster = Cluster::new(version).replicas(0);
    cluster
        .setting("cluster-node-timeout", NODE_TIMEOUT_MILLIS)
        .start()
}

/// The same without the proxy.
fn control(disturbance: Disturbance, options: &Options) -> Result<Pair> {
    let cluster = start_cluster(options.version)?;
    let deaf = disturbance == Disturbance::Deaf;
    for node in cluster.nodes().iter().filter(|_| deaf) {
        let set = [
            "CONFIG",
            "SET",
            "client-output-buffer-limit",
            NODE_OUTPUT_LIMIT,
        ];
        let reply = node.conn()?.call(&set)?;
        ensure!(reply.is_ok(), "{reply:?}");
    }
    let target = Target::nodes(&cluster)?;
    Ok(measure(disturbance, &options.sizes, &target, || Ok(()))?.0)
}

/// The ordinary clients alone, then with the disturbance; `begins` is called between the two.
fn measure(
    disturbance: Disturbance,
    sizes: &Sizes,
    target: &Target,
    begins: impl FnOnce() -> Result<()>,
) -> Result<(Pair, String)> {
    disturbance.prepare(sizes, target)?;
    let ordinary = Ordinary::start(target)?;
    pause(WARM_UP);
    let alone = Instant::now();
    pause(sizes.quiet);
    begins()?;
    let began = Instant::now();
    let detail = std::thread::scope(|scope| {
        let disturbing = scope.spawn(|| {
            // Refused only to be less nice, not to be nicer.
            let _ = rustix::process::nice(NICENESS);
            disturbance.run(sizes, target, began + disturbance.time(sizes))
        });
        disturbing.join().ok().context("the disturbance panicked")?
    });
    let ended = Instant::now();
    let samples = ordinary.stop()?;
    let pair = Pair {
        quiet: Times::between(&samples, alone, began)?,
        disturbed: Times::between(&samples, began, ended)?,
    };
    Ok((pair, detail?))
}

impl Times {
    /// Of the requests that were due in a span of time.
    fn between(samples: &[Sample], from: Instant, until: Instant) -> Result<Self> {
        let within = samples
            .iter()
            .filter(|sample| (from..until).contains(&sample.due));
        let mut sorted: Vec<Duration> = within.map(|sample| sample.took).collect();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let position = sorted.len() * percent / 100;
            sorted.get(position).or_else(|| sorted.last()).copied()
        };
        let none = "no ordinary request in that time";
        Ok(Self {
            p50: at(50).context(none)?,
            p99: at(99).context(none)?,
            max: at(100).context(none)?,
            count: sorted.len(),
        })
    }
}

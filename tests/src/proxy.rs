//! The built `slotway` binary in front of servers, and its admin listener.

use crate::case::case_dir;
use crate::cluster::Cluster;
use crate::conn::Conn;
use crate::http::{HttpReply, http_get};
use crate::net::next_address;
use crate::process::{Process, forget_peak, peak_resident_bytes, resident_bytes};
use crate::servers::repository_root;
use crate::wait::wait_until;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

/// How long the proxy may take to know the whole cluster.
const READY_DEADLINE: Duration = Duration::from_secs(15);

/// Name of the configuration file in the directory of the proxy.
const CONFIG_FILE: &str = "slotway.toml";

/// How the proxy is started.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    seeds: Vec<SocketAddrV4>,
    server: Option<String>,
    config: Option<String>,
    listen: Option<SocketAddrV4>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    workers: usize,
}

impl ProxyOptions {
    /// Number of workers; the default is 2, so that replies cross from one to another if they ever can.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// Seed nodes, instead of those of the cluster.
    #[must_use]
    pub fn seeds(mut self, seeds: &[SocketAddrV4]) -> Self {
        self.seeds = seeds.to_vec();
        self
    }

    /// A configuration file with this content.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config = Some(toml.to_owned());
        self
    }

    /// The configuration file says where to listen, here for one: nothing is said of it on the command line.
    #[must_use]
    pub fn listening(mut self, address: SocketAddrV4) -> Self {
        self.listen = Some(address);
        self
    }

    /// A further command line argument.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the proxy without waiting until it is ready.
    ///
    /// # Errors
    /// If it cannot be built or started.
    pub fn launch(&self) -> Result<Proxy> {
        let free = next_address()?;
        let listen = self.listen.unwrap_or(free);
        let admin = SocketAddrV4::new(*free.ip(), free.port() + 1);
        let directory = case_dir("slotway")?;
        let seeds: Vec<String> = self.seeds.iter().map(ToString::to_string).collect();
        let mut arguments: Vec<String> = vec!["run".into()];
        if let Some(toml) = &self.config {
            let path = directory.join(CONFIG_FILE);
            std::fs::write(&path, toml)?;
            arguments.extend(["--config".into(), path.to_string_lossy().into_owned()]);
        }
        if self.listen.is_none() {
            arguments.extend(["--listen".into(), listen.to_string()]);
        }
        arguments.extend(["--admin".into(), admin.to_string()]);
        arguments.extend(["--workers".into(), self.workers.to_string()]);
        if !seeds.is_empty() {
            arguments.extend(["--cluster".into(), seeds.join(",")]);
        }
        if let Some(server) = &self.server {
            arguments.extend(["--server".into(), server.clone()]);
        }
        arguments.extend(self.arguments.iter().cloned());
        let process = Process::start(
            &slotway_binary()?,
            &arguments,
            &self.environment,
            &directory,
        )?;
        Ok(Proxy {
            process,
            directory,
            listen,
            admin,
        })
    }

    /// Starts the proxy and waits until it is ready.
    ///
    /// # Errors
    /// If it does not become ready.
    pub fn start(&self) -> Result<Proxy> {
        let mut proxy = self.launch()?;
        proxy.wait_ready(READY_DEADLINE)?;
        Ok(proxy)
    }
}

/// A running proxy; killed on drop.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    directory: PathBuf,
    listen: SocketAddrV4,
    admin: SocketAddrV4,
}

impl Proxy {
    /// A proxy in front of a cluster, to be changed and started.
    #[must_use]
    #[expect(clippy::new_ret_no_self, reason = "a proxy is made by its options")]
    pub fn new(cluster: &Cluster) -> ProxyOptions {
        Self::with_seeds(&cluster.seeds())
    }

    /// A proxy in front of anything, to be changed and started.
    #[must_use]
    pub fn with_seeds(seeds: &[SocketAddrV4]) -> ProxyOptions {
        ProxyOptions {
            seeds: seeds.to_vec(),
            server: None,
            config: None,
            listen: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            workers: 2,
        }
    }

    /// A proxy in front of one server that is no cluster, to be changed and started.
    #[must_use]
    pub fn with_server(server: &str) -> ProxyOptions {
        ProxyOptions {
            server: Some(server.to_owned()),
            ..Self::with_seeds(&[])
        }
    }

    /// Address for clients.
    #[must_use]
    pub fn address(&self) -> SocketAddrV4 {
        self.listen
    }

    /// Address of the admin listener.
    #[must_use]
    pub fn admin(&self) -> SocketAddrV4 {
        self.admin
    }

    /// Waits until `/readyz` says yes.
    ///
    /// # Errors
    /// If it does not in time, or the proxy ends; the text has the end of its log.
    pub fn wait_ready(&mut self, deadline: Duration) -> Result<()> {
        let admin = self.admin;
        let waited = wait_until(deadline, "the proxy is ready", || {
            self.process.check_running()?;
            let reply = http_get(admin, "/readyz")?;
            ensure!(
                reply.status == 200,
                "/readyz: {} {}",
                reply.status,
                reply.body
            );
            Ok(true)
        });
        self.process.check_running()?;
        waited
    }

    /// A new RESP2 connection.
    ///
    /// # Errors
    /// If it is not accepted.
    pub fn conn(&self) -> Result<Conn> {
        Conn::open(self.listen)
    }

    /// A new RESP3 connection.
    ///
    /// # Errors
    /// If it is not accepted.
    pub fn conn_resp3(&self) -> Result<Conn> {
        Conn::open_resp3(self.listen)
    }

    /// `GET` at the admin listener.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn get(&self, path: &str) -> Result<HttpReply> {
        http_get(self.admin, path)
    }

    /// All metrics now.
    ///
    /// # Errors
    /// If the admin listener does not answer.
    pub fn metrics(&self) -> Result<Metrics> {
        let reply = self.get("/metrics")?;
        ensure!(reply.status == 200, "/metrics: {}", reply.status);
        Metrics::parse(&reply.body)
    }

    /// Sum of a metric now, over all of its labels.
    ///
    /// # Errors
    /// If the admin listener does not answer.
    pub fn metric(&self, name: &str) -> Result<f64> {
        Ok(self.metrics()?.sum(name, &[]))
    }

    /// Everything the proxy has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Resident memory.
    ///
    /// # Errors
    /// If the proxy has ended.
    pub fn resident_bytes(&self) -> Result<u64> {
        resident_bytes(self.process.id())
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Replaces the configuration file, which there must be one of, and has the proxy read it: `SIGHUP`.
    ///
    /// # Errors
    /// If the file cannot be written, or the proxy has ended.
    pub fn reload(&self, toml: &str) -> Result<()> {
        std::fs::write(self.directory.join(CONFIG_FILE), toml)?;
        self.process.signal(Signal::HUP)
    }

    /// The most resident memory since the last [`Self::forget_peak`].
    ///
    /// # Errors
    /// If the proxy has ended.
    pub fn peak_resident_bytes(&self) -> Result<u64> {
        peak_resident_bytes(self.process.id())
    }

    /// Starts the peak of resident memory anew.
    ///
    /// # Errors
    /// If the proxy has ended.
    pub fn forget_peak(&self) -> Result<()> {
        forget_peak(self.process.id())
    }

    /// `SIGTERM`.
    ///
    /// # Errors
    /// If the proxy has ended.
    pub fn terminate(&self) -> Result<()> {
        self.process.signal(Signal::TERM)
    }

    /// Waits for the proxy to end.
    ///
    /// # Errors
    /// If it still runs after `deadline`.
    pub fn wait_for_exit(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.process.wait_for_exit(deadline)
    }

    /// True while the proxy runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }
}

/// The built proxy: `SLOTWAY_BIN`, else what `cargo build` makes in the profile of this test.
///
/// # Errors
/// If it does not build.
pub fn slotway_binary() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(path) = std::env::var_os("SLOTWAY_BIN") {
        return Ok(PathBuf::from(path));
    }
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn build() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let profile = executable
        .parent()
        .and_then(Path::parent)
        .context("not run by cargo")?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["build", "--quiet", "--package", "slotway"])
        .current_dir(repository_root());
    if let Some(target) = profile.parent() {
        command.arg("--target-dir").arg(target);
    }
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let output = command.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!(
            "slotway does not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(profile.join("slotway"))
}

/// Samples of a Prometheus text page.
#[derive(Clone, Debug)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    fn parse(text: &str) -> Result<Self> {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples: Result<Vec<Sample>> = lines.map(Sample::parse).collect();
        Ok(Self { samples: samples? })
    }

    /// Sum of all samples of a metric that carry these labels.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&Sample| {
            let same = |(key, value): &(&str, &str)| {
                sample.labels.get(*key).is_some_and(|own| own == value)
            };
            sample.name == name && labels.iter().all(same)
        };
        self.samples
            .iter()
            .filter(fits)
            .map(|sample| sample.value)
            .sum()
    }

    /// True if there is such a metric.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|sample| sample.name == name)
    }

    /// Every value of a label over all samples.
    #[must_use]
    pub fn label_values(&self, label: &str) -> Vec<String> {
        let mut values: Vec<String> = self
            .samples
            .iter()
            .filter_map(|sample| sample.labels.get(label).cloned())
            .collect();
        values.sort();
        values.dedup();
        values
    }
}

impl Sample {
    fn parse(line: &str) -> Result<Self> {
        let bad = || format!("bad metrics line {line:?}");
        let (head, value) = line.rsplit_once(' ').with_context(bad)?;
        let (name, labels) = head.split_once('{').unwrap_or((head, "}"));
        let mut rest = labels.strip_suffix('}').with_context(bad)?;
        let mut labels = BTreeMap::new();
        // Label values of the proxy hold no quotes; commas are allowed.
        while !rest.is_empty() {
            let (key, after) = rest.split_once("=\"").with_context(bad)?;
            let (text, after) = after.split_once('"').with_context(bad)?;
            labels.insert(key.to_owned(), text.to_owned());
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        Ok(Self {
            name: name.to_owned(),
            labels,
            value: value.parse().with_context(bad)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_labels() {
        let text = "# HELP a b\na{x=\"1\",y=\"p,q\"} 2\na{x=\"1\",y=\"r\"} 3\na{x=\"2\"} 4\nb 5\n";
        let metrics = Metrics::parse(text).unwrap();
        assert!((metrics.sum("a", &[("x", "1")]) - 5.0).abs() < f64::EPSILON);
        assert!((metrics.sum("a", &[]) - 9.0).abs() < f64::EPSILON);
        assert!((metrics.sum("b", &[]) - 5.0).abs() < f64::EPSILON);
        assert_eq!(metrics.label_values("y"), ["p,q", "r"]);
        assert!(!metrics.has("c"));
    }
}

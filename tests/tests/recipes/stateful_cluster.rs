//! A cluster of 6 in a StatefulSet: pods are deleted and come back with other IPs while hits are counted.

use crate::files::Recipe;
use crate::server::{Server, ServerOptions, new_host};
use anyhow::{Context, Result, ensure};
use harness::{Hit, HitOptions, Hits, Process, Proxy, Version, case_dir, tool, wait_until};
use std::net::SocketAddrV4;
use std::time::Duration;

const RECIPE: Recipe = Recipe("stateful-cluster");
const PODS: usize = 6;
const PORT: u16 = 6379;

/// How long a pod may take to be ready, and a cluster to be made.
const PATIENCE: Duration = Duration::from_secs(30);

harness::on_release!(
    valkey_8_1,
    Valkey81,
    every_pod_is_replaced_and_no_hit_is_lost_or_counted_twice,
    a_killed_pod_loses_no_hit_that_was_certain
);

struct StatefulSet {
    pods: Vec<Server>,
}

/// What the StatefulSet adds to the command line.
fn arguments(address: SocketAddrV4) -> Result<Vec<String>> {
    let own = ("$(POD_IP)", address.ip().to_string());
    let manifest = RECIPE.filled("kubernetes/valkey.yaml", &[own])?;
    let start = "command: [valkey-server, /etc/valkey/valkey.conf, ";
    let start = manifest
        .lines()
        .find_map(|line| line.trim().strip_prefix(start));
    let arguments = start.and_then(|rest| rest.strip_suffix(']'));
    let arguments = arguments.context("no command as expected")?;
    Ok(arguments.split(", ").map(str::to_owned).collect())
}

impl StatefulSet {
    /// Starts the pods, and makes them a cluster as the README says.
    fn start(version: Version) -> Result<Self> {
        let mut pods = Vec::new();
        for _ in 0..PODS {
            let address = SocketAddrV4::new(new_host()?, PORT);
            pods.push(Server::start(ServerOptions {
                version,
                address,
                // The volume of the pod: where it is started.
                file: RECIPE.filled("kubernetes/valkey.conf", &[("dir /data", "dir .")])?,
                arguments: arguments(address)?,
                password: None,
            })?);
        }
        let set = Self { pods };
        let mut create = vec!["--cluster".to_owned(), "create".to_owned()];
        create.extend(set.pods.iter().map(|pod| pod.address().to_string()));
        create.extend(["--cluster-replicas", "1", "--cluster-yes"].map(str::to_owned));
        let mut client = Process::start(&tool("redis-cli")?, &create, &[], &case_dir("create")?)?;
        let status = client.wait_for_exit(PATIENCE)?;
        ensure!(status.success(), "{}", client.log());
        for pod in 0..PODS {
            set.wait_ready(pod)?;
        }
        Ok(set)
    }

    /// A proxy with the recipe's configuration, which knows the pods by one name.
    fn proxy(&self) -> Result<Proxy> {
        let seeds: Vec<String> = self
            .pods
            .iter()
            .map(|pod| format!("\"{}\"", pod.address()))
            .collect();
        let seeds = [("\"valkey-nodes:6379\"", seeds.join(", "))];
        let file = RECIPE.filled("kubernetes/slotway.toml", &seeds)?;
        Proxy::with_seeds(&[]).config(&file).start()
    }

    /// The pods that run and are primaries.
    fn primaries(&self) -> Result<Vec<usize>> {
        let roles = self
            .pods
            .iter()
            .enumerate()
            .filter(|(_, pod)| pod.is_running());
        let roles = roles.map(|(number, pod)| Ok((number, pod.role()?)));
        let roles = roles.collect::<Result<Vec<(usize, String)>>>()?;
        let primaries = roles.into_iter().filter(|(_, role)| role == "master");
        Ok(primaries.map(|(number, _)| number).collect())
    }

    /// Runs a script in a pod.
    fn run(&self, pod: usize, script: &str) -> Result<()> {
        let address = self.pods[pod].address().ip().to_string();
        RECIPE.run(
            &format!("kubernetes/{script}"),
            &[],
            &[("POD_IP", &address), ("CLI", "redis-cli")],
        )
    }

    fn wait_ready(&self, pod: usize) -> Result<()> {
        let what = format!("pod {pod} is ready");
        wait_until(PATIENCE, &what, || self.run(pod, "ready.sh").map(|()| true))
    }

    /// As the kubelet does it: preStop, SIGTERM, and the same volume with another IP.
    fn delete(&mut self, pod: usize) -> Result<()> {
        self.run(pod, "pre-stop.sh")?;
        self.pods[pod].shut_down()?;
        self.come_back(pod)
    }

    fn come_back(&mut self, pod: usize) -> Result<()> {
        let address = SocketAddrV4::new(new_host()?, PORT);
        self.pods[pod].restart_at(address, arguments(address)?)?;
        self.wait_ready(pod)
    }
}

fn every_pod_is_replaced_and_no_hit_is_lost_or_counted_twice(version: Version) -> Result<()> {
    let mut set = StatefulSet::start(version)?;
    let proxy = set.proxy()?;
    let load = Hits::start(proxy.address(), &HitOptions::default())?;
    load.wait_for(50)?;
    // From the last to the first, as `kubectl rollout restart` does it.
    for pod in (0..PODS).rev() {
        set.delete(pod)?;
        load.wait_for(50)?;
    }
    let report = load.stop()?;
    report.ensure_no_error()?;
    report.ensure_exact(&mut proxy.conn()?)?;
    let gap = report.longest_gap;
    ensure!(gap < Duration::from_secs(3), "a client waited for {gap:?}");
    Ok(())
}

/// `kill -9`, as by a node that is lost: the hits are sent with a token and again until a replica has them.
fn a_killed_pod_loses_no_hit_that_was_certain(version: Version) -> Result<()> {
    let mut set = StatefulSet::start(version)?;
    let proxy = set.proxy()?;
    let script = RECIPE.filled::<&str>("hit.lua", &[])?;
    let hits = HitOptions {
        hit: Hit::Script(script),
        ..HitOptions::default()
    };
    let load = Hits::start(proxy.address(), &hits)?;
    load.wait_for(20)?;
    let primary = set.primaries()?[0];
    set.pods[primary].kill()?;
    wait_until(PATIENCE, "its replica has taken over", || {
        Ok(set.primaries()?.len() == 3)
    })?;
    set.come_back(primary)?;
    load.wait_for(20)?;
    let report = load.stop()?;
    ensure!(
        report.errors.is_empty() && report.uncertain.is_empty(),
        "{report:?}"
    );
    report.ensure_exact(&mut proxy.conn()?)
}

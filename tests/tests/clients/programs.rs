//! Clients in other languages: how their programs are run, through the proxy and straight at servers.

use crate::offer::{Offer, proxy_lacks_any};
use anyhow::{Context, Result, ensure};
use harness::{Cluster, Node, Process, Proxy, Version};
use harness::{case_dir, next_address, repository_root, tool};
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

/// How long a program may take.
const PROGRAM_DEADLINE: Duration = Duration::from_secs(60);

/// A program and what it is called with after the address and the folder of the Node packages.
pub(crate) struct Check {
    script: &'static str,
    variant: &'static [&'static str],
    straight: Straight,
}

/// What the program can use without the proxy.
#[derive(Clone, Copy)]
pub(crate) enum Straight {
    /// A server on its own
    Server,
    /// A cluster, by the library's class for clusters
    Cluster,
}

impl Check {
    pub(crate) const fn new(
        script: &'static str,
        variant: &'static [&'static str],
        straight: Straight,
    ) -> Self {
        Self {
            script,
            variant,
            straight,
        }
    }
}

/// A client library.
pub(crate) struct Library {
    /// Its name in `.tools/clients/missing`
    name: &'static str,
    /// What runs its programs; the program itself if it is compiled
    runtime: Option<&'static str>,
    /// Where the programs are, below `tests/clients`
    folder: &'static str,
}

impl Library {
    pub(crate) const fn python(name: &'static str) -> Self {
        Self::script(name, "python3", "python")
    }

    pub(crate) const fn node(name: &'static str) -> Self {
        Self::script(name, "node", "node")
    }

    pub(crate) const fn php(name: &'static str) -> Self {
        Self::script(name, "php", "php")
    }

    pub(crate) const fn ruby(name: &'static str) -> Self {
        Self::script(name, "ruby", "ruby")
    }

    const fn script(name: &'static str, runtime: &'static str, folder: &'static str) -> Self {
        Self {
            name,
            runtime: Some(runtime),
            folder,
        }
    }

    pub(crate) const fn compiled(name: &'static str) -> Self {
        Self {
            name,
            runtime: None,
            folder: "",
        }
    }

    /// Runs the programs through a proxy in front of one cluster; what the proxy does not offer yet, straight at servers.
    pub(crate) fn run(&self, version: Version, checks: &[Check]) -> Result<()> {
        if !self.is_installed()? {
            return Ok(());
        }
        let cluster = Cluster::new(version).replicas(0).start()?;
        let proxy = Proxy::new(&cluster)
            .config("[[listener]]\ntracking = true\n")
            .start()?;
        for check in checks {
            cluster.flush()?;
            self.program(check.script, proxy.address(), check.variant, Offer::PROXY)?;
        }
        if !proxy_lacks_any() {
            return Ok(());
        }
        let server = Node::standalone(version)?;
        for check in checks {
            cluster.flush()?;
            server.must("FLUSHALL")?;
            let (address, offer) = match check.straight {
                Straight::Server => (server.address(), Offer::SERVER),
                Straight::Cluster => (cluster.nodes()[0].address(), Offer::CLUSTER),
            };
            self.program(check.script, address, check.variant, offer)?;
        }
        Ok(())
    }

    /// Runs the programs through a proxy in front of one cluster, which they find by asking it as a Sentinel.
    pub(crate) fn run_by_sentinel(
        &self,
        version: Version,
        programs: &[(&str, &[&str])],
    ) -> Result<()> {
        if !self.is_installed()? {
            return Ok(());
        }
        let cluster = Cluster::new(version).replicas(0).start()?;
        let sentinel = next_address()?;
        let _proxy = Proxy::new(&cluster)
            .config(&format!("sentinel.listen = '{sentinel}'\n"))
            .start()?;
        for (script, variant) in programs {
            cluster.flush()?;
            self.program(script, sentinel, variant, Offer::PROXY)?;
        }
        Ok(())
    }

    /// False if the library could not be installed on this machine and that is no fault; in CI it is one.
    pub(crate) fn is_installed(&self) -> Result<bool> {
        let path = tools().join("clients/missing");
        let missing =
            std::fs::read_to_string(path).context("run scripts/fetch-clients.sh first")?;
        let line = missing
            .lines()
            .find(|line| line.starts_with(&format!("{}: ", self.name)));
        ensure!(
            line.is_none() || std::env::var_os("SLOTWAY_REQUIRE_ALL").is_none(),
            "{}",
            line.unwrap_or_default()
        );
        Ok(line.is_none())
    }

    /// Runs one program to its end: it must succeed, in time, and say nothing.
    pub(crate) fn program(
        &self,
        script: &str,
        address: SocketAddrV4,
        variant: &[&str],
        offer: Offer,
    ) -> Result<()> {
        let what = || format!("{} {script} {variant:?} at {address}", self.name);
        let mut arguments = Vec::new();
        let program = match self.runtime {
            Some(runtime) => {
                let folder = repository_root().join("tests/clients").join(self.folder);
                arguments.push(folder.join(script).to_string_lossy().into_owned());
                tool(runtime)?
            }
            None => tools().join("clients").join(self.name),
        };
        let packages = tools().join("clients/node").to_string_lossy().into_owned();
        arguments.extend([
            address.ip().to_string(),
            address.port().to_string(),
            packages,
        ]);
        arguments.extend(variant.iter().map(ToString::to_string));
        let environment = self.environment(offer);
        let mut process = Process::start(&program, &arguments, &environment, &case_dir("client")?)?;
        let status = process
            .wait_for_exit(PROGRAM_DEADLINE)
            .with_context(|| format!("{} said: {}", what(), process.log()))?;
        let said = process.log();
        ensure!(
            status.success() && said.is_empty(),
            "{}: {status}: {said}",
            what()
        );
        Ok(())
    }

    fn environment(&self, offer: Offer) -> Vec<(String, String)> {
        let packages = tools().join("clients/python").join(self.name);
        vec![
            offer.variable(),
            (
                "PYTHONPATH".to_owned(),
                packages.to_string_lossy().into_owned(),
            ),
            ("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()),
        ]
    }
}

fn tools() -> PathBuf {
    std::env::var_os("SLOTWAY_TOOLS")
        .map_or_else(|| repository_root().join(".tools"), PathBuf::from)
}

//! Hosts that are network namespaces, on one Ethernet: needs root.

use anyhow::{Context, Result, ensure};
use harness::{Process, case_dir, tool};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Namespaces joined by a bridge, which is in the first one; deleted on drop.
pub(crate) struct Network {
    prefix: String,
    hosts: Vec<String>,
    /// Where this thread was before
    outside: File,
}

impl Network {
    /// A network of this many hosts besides that of the clients: the host `n`, counted from 1, is `10.0.0.n`, the clients' `10.0.0.99`.
    pub(crate) fn new(hosts: usize) -> Result<Self> {
        let prefix = format!("slotway-{}", std::process::id());
        let mut network = Self {
            prefix,
            hosts: Vec::new(),
            outside: File::open("/proc/thread-self/ns/net")?,
        };
        network
            .add_host()
            .context("network namespaces need root (CAP_SYS_ADMIN and CAP_NET_ADMIN)")?;
        network.ip(0, "link add bridge type bridge forward_delay 0")?;
        network.ip(0, "link set bridge up")?;
        network.ip(0, "address add 10.0.0.99/24 dev bridge")?;
        for host in 1..=hosts {
            network.add_host()?;
            let name = network.hosts[host].clone();
            network.ip(
                0,
                &format!("link add port{host} type veth peer name eth0 netns {name}"),
            )?;
            network.ip(0, &format!("link set port{host} master bridge up"))?;
            network.ip(host, &format!("address add 10.0.0.{host}/24 dev eth0"))?;
            network.ip(host, "link set eth0 up")?;
        }
        Ok(network)
    }

    fn add_host(&mut self) -> Result<()> {
        let name = format!("{}-{}", self.prefix, self.hosts.len());
        run(&tool("ip")?, &["netns", "add", &name])?;
        self.hosts.push(name);
        self.ip(self.hosts.len() - 1, "link set lo up")?;
        Ok(())
    }

    /// `ip` in a host.
    pub(crate) fn ip(&self, host: usize, arguments: &str) -> Result<String> {
        let (namespace, ip) = (self.namespace(host), tool("ip")?);
        let (namespace, ip) = (namespace.to_string_lossy(), ip.to_string_lossy());
        let mut all = vec![namespace.as_ref(), ip.as_ref()];
        all.extend(arguments.split(' '));
        run(&tool("nsenter")?, &all)
    }

    fn namespace(&self, host: usize) -> PathBuf {
        PathBuf::from(format!("--net=/run/netns/{}", self.hosts[host]))
    }

    /// Starts a program in a host.
    pub(crate) fn start(
        &self,
        host: usize,
        directory: &Path,
        program: &Path,
        arguments: &[&str],
    ) -> Result<Process> {
        let (namespace, program) = (self.namespace(host), program.to_string_lossy());
        let namespace = namespace.to_string_lossy();
        let mut all = vec![namespace.as_ref(), program.as_ref()];
        all.extend(arguments);
        Process::start(&tool("nsenter")?, &all, &[], directory)
    }

    /// Moves this thread, and what it starts from now on, to the host of the clients.
    pub(crate) fn enter(&self) -> Result<()> {
        move_into(&File::open(format!("/run/netns/{}", self.hosts[0]))?)
    }
}

fn move_into(namespace: &File) -> Result<()> {
    let network = Some(LinkNameSpaceType::Network);
    Ok(move_into_link_name_space(namespace.as_fd(), network)?)
}

impl Drop for Network {
    fn drop(&mut self) {
        // Another test may run on this thread.
        let _ = move_into(&self.outside);
        for host in &self.hosts {
            // Nothing more can be done about one that stays.
            let _ = Command::new("ip").args(["netns", "delete", host]).output();
        }
    }
}

fn run(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("{program:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program:?} {arguments:?}: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A new directory with one file in it.
pub(crate) fn directory_with(file: &str, content: &str) -> Result<PathBuf> {
    let directory = case_dir(file)?;
    std::fs::write(directory.join(file), content)?;
    Ok(directory)
}

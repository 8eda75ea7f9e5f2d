//! One real server process.

use crate::case::case_dir;
use crate::conn::Conn;
use crate::net::next_address;
use crate::process::Process;
use crate::resp::Reply;
use crate::servers::Version;
use crate::wait::wait_until;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

/// How long a server may take to answer after its start.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// How long a server may take to end: it waits up to 10 s for its replicas.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

/// How a server is started.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Release
    pub version: Version,
    /// True for a member of a cluster
    pub cluster: bool,
    /// True if the node tells others the port after its own, where a relay listens
    pub relayed: bool,
    /// Further configuration as `name`, `value`
    pub settings: Vec<(String, String)>,
    /// Where to listen, instead of a loopback IP of its own
    pub address: Option<SocketAddrV4>,
}

/// A running (or killed) server; killed and removed on drop.
#[derive(Debug)]
pub struct Node {
    options: NodeOptions,
    address: SocketAddrV4,
    directory: PathBuf,
    process: Option<Process>,
}

impl Node {
    /// A stand-alone server without cluster support.
    ///
    /// # Errors
    /// If it does not start.
    pub fn standalone(version: Version) -> Result<Self> {
        let options = NodeOptions {
            version,
            cluster: false,
            relayed: false,
            settings: Vec::new(),
            address: None,
        };
        let mut node = Self::launch(options)?;
        node.wait_started()?;
        Ok(node)
    }

    /// Starts a server on an address of its own, without waiting for it.
    ///
    /// # Errors
    /// If the program cannot be run.
    pub fn launch(options: NodeOptions) -> Result<Self> {
        let address = options.address.map_or_else(next_address, Ok)?;
        let directory = case_dir(options.version.folder())?;
        let mut node = Self {
            options,
            address,
            directory,
            process: None,
        };
        node.spawn()?;
        Ok(node)
    }

    fn spawn(&mut self) -> Result<()> {
        let program = self.options.version.find()?;
        self.process = Some(Process::start(
            &program,
            &self.arguments(),
            &[],
            &self.directory,
        )?);
        Ok(())
    }

    fn arguments(&self) -> Vec<String> {
        let host = self.address.ip().to_string();
        let port = self.address.port();
        let mut settings: Vec<(&str, String)> = vec![
            ("port", port.to_string()),
            ("bind", host.clone()),
            ("protected-mode", "no".to_owned()),
            ("save", String::new()),
            ("appendonly", "no".to_owned()),
            ("repl-diskless-sync", "yes".to_owned()),
            ("repl-diskless-sync-delay", "0".to_owned()),
            ("repl-ping-replica-period", "1".to_owned()),
        ];
        if self.options.version.at_least_7() {
            settings.push(("enable-debug-command", "yes".to_owned()));
        }
        if self.options.cluster {
            settings.extend([
                ("cluster-enabled", "yes".to_owned()),
                ("cluster-config-file", "nodes.conf".to_owned()),
                ("cluster-node-timeout", "2000".to_owned()),
                ("cluster-replica-validity-factor", "0".to_owned()),
                ("cluster-announce-ip", host),
            ]);
            if self.options.relayed {
                settings.push(("cluster-announce-port", (port + 1).to_string()));
                let bus = port + crate::net::BUS_OFFSET;
                settings.push(("cluster-announce-bus-port", bus.to_string()));
            }
        }
        let own = settings
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        own.chain(self.options.settings.iter().cloned())
            .flat_map(|(name, value)| [format!("--{name}"), value])
            .collect()
    }

    /// Waits until the server answers PING (one that loads its data or wants a password counts as started).
    ///
    /// # Errors
    /// If it ends or does not answer in time; the text has the end of its log.
    pub fn wait_started(&mut self) -> Result<()> {
        let what = format!("{} answers", self.address);
        let waited = wait_until(START_DEADLINE, &what, || {
            let reply = self.conn()?.line("PING")?;
            Ok(reply
                .error()
                .is_none_or(|text| text.starts_with("LOADING ") || text.starts_with("NOAUTH ")))
        });
        let process = self
            .process
            .as_mut()
            .context("the server was not started")?;
        process.check_running()?;
        waited
    }

    /// How the server was started.
    pub(crate) fn options(&self) -> &NodeOptions {
        &self.options
    }

    /// Files of the server's append-only log, in both layouts (a folder of files since Redis 7.0).
    pub(crate) fn append_only_files(&self) -> Vec<PathBuf> {
        let folders = [self.directory.clone(), self.directory.join("appendonlydir")];
        let entries = folders.iter().filter_map(|folder| folder.read_dir().ok());
        let is_log = |path: &PathBuf| path.is_file() && path.to_string_lossy().contains(".aof");
        entries
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(is_log)
            .collect()
    }

    /// Address the server listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Address the server tells others: that of its relay if it has one.
    #[must_use]
    pub fn announced(&self) -> SocketAddrV4 {
        let relay = u16::from(self.options.relayed);
        SocketAddrV4::new(*self.address.ip(), self.address.port() + relay)
    }

    /// Release of the server.
    #[must_use]
    pub fn version(&self) -> Version {
        self.options.version
    }

    /// A new connection straight to the server.
    ///
    /// # Errors
    /// If it is not accepted.
    pub fn conn(&self) -> Result<Conn> {
        Conn::open(self.address)
    }

    /// One command straight to the server; an error reply is an error.
    ///
    /// # Errors
    /// If the server does not answer, or with an error.
    pub fn must(&self, command: &str) -> Result<Reply> {
        let mut conn = self.conn()?;
        conn.must(command)
            .with_context(|| format!("at {}", self.address))
    }

    /// A field of `INFO`.
    ///
    /// # Errors
    /// If the server does not answer or has no such field.
    pub fn info(&self, section: &str, field: &str) -> Result<String> {
        let text = self.must(&format!("INFO {section}"))?.text()?;
        let prefix = format!("{field}:");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
        Ok(line
            .with_context(|| format!("no {field} in INFO {section}"))?
            .to_owned())
    }

    /// How often a command ran on this server, by `INFO commandstats`.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn calls(&self, command: &str) -> Result<u64> {
        let text = self.must("INFO commandstats")?.text()?;
        let prefix = format!("cmdstat_{command}:calls=");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
        line.and_then(|rest| rest.split(',').next())
            .map_or(Ok(0), |calls| Ok(calls.parse()?))
    }

    /// True if the process runs (a stopped one does).
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// Process id of the running server.
    ///
    /// # Errors
    /// If it was killed.
    pub fn process_id(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the server was killed")?.id())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// If the server was killed before.
    pub fn kill(&mut self) -> Result<()> {
        self.process
            .take()
            .context("the server was killed before")?
            .kill()
    }

    /// `SIGTERM`: an orderly end; waits for it.
    ///
    /// # Errors
    /// If the server was killed before or does not end in time.
    pub fn shut_down(&mut self) -> Result<()> {
        self.terminate()?;
        let mut process = self.process.take().context("the server was killed")?;
        process.wait_for_exit(SHUTDOWN_DEADLINE)?;
        Ok(())
    }

    /// `SIGTERM`, without waiting.
    ///
    /// # Errors
    /// If the server was killed before.
    pub fn terminate(&self) -> Result<()> {
        self.process
            .as_ref()
            .context("the server was killed before")?
            .signal(Signal::TERM)
    }

    /// `kill -STOP`: the process hangs, the kernel still accepts connections for it.
    ///
    /// # Errors
    /// If the server was killed.
    pub fn freeze(&self) -> Result<()> {
        self.process
            .as_ref()
            .context("the server was killed")?
            .signal(Signal::STOP)
    }

    /// `kill -CONT`.
    ///
    /// # Errors
    /// If the server was killed.
    pub fn thaw(&self) -> Result<()> {
        self.process
            .as_ref()
            .context("the server was killed")?
            .signal(Signal::CONT)
    }

    /// Starts a killed server again at its old address, from its old directory.
    ///
    /// # Errors
    /// If it runs, or does not start.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the server still runs");
        self.spawn()?;
        self.wait_started()
    }

    /// Starts a killed server again from its old directory, but on another IP, as Kubernetes does with a pod.
    ///
    /// # Errors
    /// If it runs, or does not start.
    pub fn restart_elsewhere(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the server still runs");
        self.address = next_address()?;
        self.spawn()?;
        self.wait_started()
    }

    /// Changes a setting for later starts.
    pub fn set_option(&mut self, name: &str, value: &str) {
        self.options
            .settings
            .push((name.to_owned(), value.to_owned()));
    }

    /// Fails if the server ended by itself.
    ///
    /// # Errors
    /// If it has ended; the text has the end of its log.
    pub fn check_running(&mut self) -> Result<()> {
        match &mut self.process {
            Some(process) => process.check_running(),
            None => bail!("the server was killed"),
        }
    }
}

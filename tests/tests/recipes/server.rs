//! A server or Sentinel that is started with the configuration of a recipe.

use anyhow::{Context, Result};
use harness::{Conn, Process, Version, case_dir, wait_until};
use rustix::process::Signal;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

/// How long a server may take to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a server is started.
pub(crate) struct ServerOptions {
    pub(crate) version: Version,
    pub(crate) address: SocketAddrV4,
    /// Content of its file
    pub(crate) file: String,
    /// What the recipe gives it on its command line, besides
    pub(crate) arguments: Vec<String>,
    pub(crate) password: Option<&'static str>,
}

/// A running (or killed) server; killed and removed on drop.
pub(crate) struct Server {
    options: ServerOptions,
    directory: PathBuf,
    process: Option<Process>,
}

impl Server {
    pub(crate) fn start(options: ServerOptions) -> Result<Self> {
        let directory = case_dir("server")?;
        std::fs::write(directory.join("server.conf"), &options.file)?;
        let mut server = Self {
            options,
            directory,
            process: None,
        };
        server.spawn()?;
        Ok(server)
    }

    fn spawn(&mut self) -> Result<()> {
        let mut arguments = vec!["server.conf".to_owned()];
        // Many hosts share this one.
        let host = self.address().ip().to_string();
        arguments.extend(["--bind".to_owned(), host.clone()]);
        if !self.options.arguments.contains(&"--sentinel".to_owned()) {
            arguments.extend(["--bind-source-addr".to_owned(), host]);
        }
        arguments.extend(self.options.arguments.iter().cloned());
        let program = self.options.version.find()?;
        self.process = Some(Process::start(&program, &arguments, &[], &self.directory)?);
        let what = format!("{} answers", self.address());
        let waited = wait_until(PATIENCE, &what, || {
            Ok(self.conn()?.line("PING")?.error().is_none())
        });
        waited.with_context(|| self.process.as_ref().map(Process::log).unwrap_or_default())
    }

    pub(crate) fn address(&self) -> SocketAddrV4 {
        self.options.address
    }

    /// A new connection, logged in.
    pub(crate) fn conn(&self) -> Result<Conn> {
        let mut conn = Conn::open(self.address())?;
        if let Some(password) = self.options.password {
            conn.must(&format!("AUTH {password}"))?;
        }
        Ok(conn)
    }

    /// What it says of itself: `master` or `slave`.
    pub(crate) fn role(&self) -> Result<String> {
        let reply = self.conn()?.must("ROLE")?;
        reply.items()?.first().context("no role")?.text()
    }

    pub(crate) fn wait_role(&self, role: &str) -> Result<()> {
        let what = format!("{} is {role}", self.address());
        wait_until(2 * PATIENCE, &what, || Ok(self.role()? == role))
    }

    /// False after it was killed or shut down.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.take().context("it was killed before")?.kill()
    }

    /// `SIGTERM`, and waits for the end.
    pub(crate) fn shut_down(&mut self) -> Result<()> {
        let mut process = self.process.take().context("it was killed before")?;
        process.signal(Signal::TERM)?;
        process.wait_for_exit(PATIENCE)?;
        Ok(())
    }

    /// Starts it again from its directory.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.spawn()
    }

    /// The same at another address, which the recipe gives it on its command line.
    pub(crate) fn restart_at(
        &mut self,
        address: SocketAddrV4,
        arguments: Vec<String>,
    ) -> Result<()> {
        self.options.address = address;
        self.options.arguments = arguments;
        self.spawn()
    }
}

/// A loopback IP for one host of a recipe, with all ports free.
pub(crate) fn new_host() -> Result<Ipv4Addr> {
    Ok(*harness::next_address()?.ip())
}

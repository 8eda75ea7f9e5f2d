//! One child process: its log in a file, signals, and its certain end.

use crate::case::tail;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait::wait_some;

/// A child process that is killed when dropped. Standard output and error go to the file `log` of its directory.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Process {
    /// Starts a program in `directory`. Must be called on the thread of the test: the kernel kills the child when that
    /// thread ends, so nothing survives a test that was itself killed.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: &[A],
        environment: &[(String, String)],
        directory: &Path,
    ) -> Result<Self> {
        let log = directory.join("log");
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = dying_with_parent(program);
        let child = command
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let name = program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(Self { child, log, name })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// True while the process has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Fails with the end of the log if the process has ended.
    ///
    /// # Errors
    /// If it has ended.
    pub fn check_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "{} ended with {status}; its log ends:\n{}",
                self.name,
                tail(&self.log())
            );
        }
        Ok(())
    }

    /// Everything the process has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// `SIGINT`, as Ctrl-C sends it.
    ///
    /// # Errors
    /// If the process does not exist any more.
    pub fn interrupt(&self) -> Result<()> {
        self.signal(Signal::INT)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If the process does not exist any more.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.context("process id out of range")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// `kill -9`, and waits for the end.
    ///
    /// # Errors
    /// If the end cannot be awaited.
    pub fn kill(&mut self) -> Result<()> {
        // An error means that it has ended already, which the wait reports.
        let _ = self.child.kill();
        self.child.wait()?;
        Ok(())
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// If it still runs after `deadline`.
    pub fn wait_for_exit(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        wait_some(deadline, &what, || Ok(self.child.try_wait()?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended before; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program through `setpriv` (util-linux), which asks the kernel to kill it when this process dies; directly where
/// that tool does not exist.
fn dying_with_parent(program: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if !setpriv.exists() {
        return Command::new(program);
    }
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Resident memory of a process, from /proc.
///
/// # Errors
/// If the process does not exist.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// The most resident memory of a process since its start or the last [`forget_peak`], from /proc.
///
/// # Errors
/// If the process does not exist.
pub(crate) fn peak_resident_bytes(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmHWM:")
}

/// Starts the peak of a process's resident memory anew.
///
/// # Errors
/// If the process does not exist, or the kernel does not let us.
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    Ok(std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

fn status_bytes(pid: u32, field: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib: u64 = line
        .and_then(|rest| rest.split_whitespace().next())
        .with_context(|| format!("no {field}"))?
        .parse()?;
    Ok(kib * 1024)
}

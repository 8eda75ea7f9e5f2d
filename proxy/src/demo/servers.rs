//! The server processes of the demonstration: found, started on free ports in a folder of their own, ended when dropped.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

use crate::cli::UsageError;

/// Three primaries and a replica of each.
pub(super) const NODE_COUNT: usize = 6;
/// Programs that can be a node.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
/// Ports of nodes; the cluster bus is 10,000 higher. Both are below the ports the kernel gives to outgoing connections (32768).
const PORTS: std::ops::Range<u16> = 17_000..22_000;
const BUS_OFFSET: u16 = 10_000;
/// Folders below `.tools` that are searched for a server.
const SEARCH_DEPTH: usize = 5;

/// One running server.
pub(super) struct Server {
    /// Where it listens.
    pub(super) address: SocketAddr,
    process: Child,
}

/// The servers and their folder.
pub(super) struct Servers {
    list: Vec<Server>,
    folder: PathBuf,
}

impl Servers {
    /// Starts the servers. They are not a cluster yet, and may not listen yet.
    pub(super) fn start(program: &Path) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("slotway-demo-{}", std::process::id()));
        fs::create_dir(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let mut servers = Self {
            list: Vec::with_capacity(NODE_COUNT),
            folder,
        };
        for port in free_ports()? {
            servers.start_one(program, port)?;
        }
        Ok(servers)
    }

    fn start_one(&mut self, program: &Path, port: u16) -> anyhow::Result<()> {
        let folder = self.folder.join(port.to_string());
        fs::create_dir(&folder)?;
        let log = File::create(folder.join("log"))?;
        let port_text = port.to_string();
        let options: [(&str, &OsStr); 12] = [
            ("--port", port_text.as_ref()),
            ("--bind", "127.0.0.1".as_ref()),
            ("--dir", folder.as_ref()),
            ("--cluster-enabled", "yes".as_ref()),
            ("--cluster-config-file", "nodes.conf".as_ref()),
            ("--cluster-announce-ip", "127.0.0.1".as_ref()),
            // Short, so that a newcomer who ends a primary sees the failover.
            ("--cluster-node-timeout", "1000".as_ref()),
            ("--save", "".as_ref()),
            ("--appendonly", "no".as_ref()),
            ("--repl-diskless-sync-delay", "0".as_ref()),
            ("--repl-diskless-load", "swapdb".as_ref()),
            ("--daemonize", "no".as_ref()),
        ];
        let mut command = Command::new(program);
        for (name, value) in options {
            command.arg(name).arg(value);
        }
        // Ctrl-C reaches every process of the terminal's group; the servers have to outlive the proxy's last requests.
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        self.list.push(Server {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            process,
        });
        Ok(())
    }

    /// Where the servers listen, primaries first.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.list.iter().map(|server| server.address)
    }

    /// Folder of everything the servers write.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Fails, with what the server said last, if a server has ended.
    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        for server in &mut self.list {
            if let Some(status) = server.process.try_wait()? {
                let log = self
                    .folder
                    .join(server.address.port().to_string())
                    .join("log");
                let log = fs::read_to_string(log).unwrap_or_default();
                let last: Vec<_> = log.lines().rev().take(5).collect();
                let last: Vec<_> = last.into_iter().rev().collect();
                bail!(
                    "the server on {} ended at once ({status}):\n{}",
                    server.address,
                    last.join("\n")
                );
            }
        }
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Both may fail only for a process that has ended already.
        for server in &mut self.list {
            let _ = server.process.kill();
        }
        for server in &mut self.list {
            let _ = server.process.wait();
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "the demonstration's folder could not be removed");
        }
    }
}

/// Ports that are free now, as is the bus port of each.
fn free_ports() -> anyhow::Result<Vec<u16>> {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    // Several demonstrations may look at the same time: each begins elsewhere.
    let first = fastrand::u16(PORTS);
    let candidates = (first..PORTS.end).chain(PORTS.start..first);
    let ports: Vec<u16> = candidates
        .filter(|port| is_free(*port) && is_free(*port + BUS_OFFSET))
        .take(NODE_COUNT)
        .collect();
    if ports.len() < NODE_COUNT {
        bail!(
            "no {NODE_COUNT} free ports from {} to {}",
            PORTS.start,
            PORTS.end
        );
    }
    Ok(ports)
}

/// The program given, or the first server that is found.
pub(super) fn find_program(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    for folder in std::env::split_paths(&on_path) {
        if let Some(program) = PROGRAMS
            .iter()
            .map(|name| folder.join(name))
            .find(|program| is_program(program))
        {
            return Ok(program);
        }
    }
    let here = std::env::current_dir().ok();
    let ours = std::env::current_exe().ok();
    let roots = here.iter().chain(&ours).flat_map(|start| start.ancestors());
    roots.map(|root| root.join(".tools")).find_map(|tools| search(&tools, SEARCH_DEPTH)).ok_or_else(|| {
        let text = "the demonstration needs redis-server or valkey-server: install one (apt-get install redis-server), \
                    or run `make demo` in the repository, which fetches one, or name one with --server";
        UsageError::Other(text.to_owned()).into()
    })
}

fn search(folder: &Path, depth: usize) -> Option<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    // The order of a folder is arbitrary; the last name is the newest server.
    entries.sort_unstable_by(|left, right| right.cmp(left));
    let is_server = |path: &&PathBuf| {
        path.file_name()
            .is_some_and(|name| PROGRAMS.iter().any(|known| name == *known))
            && is_program(path)
    };
    if let Some(program) = entries.iter().find(is_server) {
        return Some(program.clone());
    }
    if depth == 0 {
        return None;
    }
    // Links to folders are not followed: they may lead anywhere, in circles too.
    entries
        .iter()
        .filter(|path| path.is_dir() && !path.is_symlink())
        .find_map(|path| search(path, depth - 1))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_below_a_folder_is_found_if_it_can_be_run() {
        let root = std::env::temp_dir().join(format!("slotway-search-{}", std::process::id()));
        let deep = root.join("servers/valkey-9.1");
        fs::create_dir_all(&deep).unwrap();
        let program = deep.join("valkey-server");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        assert_eq!(search(&root, SEARCH_DEPTH), None, "not executable");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(search(&root, SEARCH_DEPTH), Some(program));
        assert_eq!(search(&root, 0), None, "too deep");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn servers_that_cannot_start_leave_nothing_behind() {
        let program = Path::new("/nonexistent/redis-server");
        let folder = std::env::temp_dir().join(format!("slotway-demo-{}", std::process::id()));
        let error = Servers::start(program).map(|_| ()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("cannot start /nonexistent/redis-server"),
            "{error:#}"
        );
        assert!(!folder.exists());
    }

    #[test]
    fn free_ports_are_distinct() {
        let mut ports = free_ports().unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), NODE_COUNT);
    }
}

//! A primary, its replicas, and the Sentinels that watch them: real processes.

use crate::case::case_dir;
use crate::conn::Conn;
use crate::net::next_address;
use crate::node::{Node, NodeOptions};
use crate::process::Process;
use crate::resp::Reply;
use crate::servers::Version;
use crate::wait::{wait_some, wait_until};
use anyhow::{Context, Result};
use rustix::process::Signal;
use std::fmt::Write as _;
use std::net::{SocketAddr, SocketAddrV4, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

/// How long anything may take that Sentinels do.
const DEADLINE: Duration = Duration::from_secs(40);

/// After this silence a Sentinel takes an instance for down.
const DOWN_AFTER_MS: u32 = 1_000;

/// The name under which the Sentinels watch the primary.
pub const SERVICE: &str = "front";

/// A name of the host at this address that no name server is needed for: it has to be looked up like any other, and every C library
/// knows that the number in hexadecimal digits is one.
#[must_use]
pub fn name_of(address: SocketAddrV4) -> String {
    let [first, rest @ ..] = address.ip().octets();
    let rest = rest.map(|part| part.to_string()).join(".");
    format!("0x{first:x}.{rest}")
}

/// How a service is started.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    version: Version,
    replicas: usize,
    sentinels: usize,
    password: Option<String>,
    sentinel_password: Option<String>,
    by_name: bool,
}

impl ServiceOptions {
    /// Number of replicas; the default is 2.
    #[must_use]
    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas = count;
        self
    }

    /// Number of Sentinels; the default is 3, of which a majority decides.
    #[must_use]
    pub fn sentinels(mut self, count: usize) -> Self {
        self.sentinels = count;
        self
    }

    /// A password of the servers.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// A password of the Sentinels.
    #[must_use]
    pub fn sentinel_password(mut self, password: &str) -> Self {
        self.sentinel_password = Some(password.to_owned());
        self
    }

    /// Servers and Sentinels name each other by [`name_of`] their hosts, which the Sentinels look up, and tell others.
    #[must_use]
    pub fn by_name(mut self) -> Self {
        self.by_name = true;
        self
    }

    /// How servers and Sentinels call a host.
    fn host(&self, address: SocketAddrV4) -> String {
        if self.by_name {
            name_of(address)
        } else {
            address.ip().to_string()
        }
    }

    /// Starts everything and waits until every Sentinel knows every other one and every replica, and these have the data.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn start(self) -> Result<Service> {
        let primary = self.node(None)?;
        let mut nodes = vec![primary];
        for _ in 0..self.replicas {
            let replica = self.node(nodes.first().map(Node::address))?;
            nodes.push(replica);
        }
        for node in &mut nodes {
            node.wait_started()?;
        }
        let quorum = self.sentinels / 2 + 1;
        let watched = nodes.first().context("no primary")?.address();
        let mut service = Service {
            nodes,
            sentinels: Vec::new(),
            options: self,
        };
        // A Sentinel asks a replica when it first hears of it, and the next time after ten seconds.
        for replica in 1..service.nodes.len() {
            wait_until(DEADLINE, "the replica has its link", || {
                let info = service.conn(replica)?.must("INFO replication")?;
                Ok(info.text()?.contains("master_link_status:up"))
            })?;
        }
        for _ in 0..service.options.sentinels {
            let sentinel = Sentinel::start(&service.options, watched, quorum)?;
            service.sentinels.push(sentinel);
        }
        service.settle()?;
        Ok(service)
    }

    fn node(&self, primary: Option<SocketAddrV4>) -> Result<Node> {
        let mut settings = Vec::new();
        let mut set = |name: &str, value: &str| settings.push((name.to_owned(), value.to_owned()));
        if let Some(password) = &self.password {
            set("requirepass", password);
            set("masterauth", password);
        }
        // Connections go out from 127.0.0.1, which would be taken for where it is.
        let address = next_address()?;
        set("replica-announce-ip", &self.host(address));
        if let Some(primary) = primary {
            let host = self.host(primary);
            set("replicaof", &format!("{host} {}", primary.port()));
        }
        Node::launch(NodeOptions {
            version: self.version,
            cluster: false,
            relayed: false,
            settings,
            address: Some(address),
        })
    }
}

/// A running service; killed and removed on drop. The primary is node 0 at first.
#[derive(Debug)]
pub struct Service {
    options: ServiceOptions,
    nodes: Vec<Node>,
    sentinels: Vec<Sentinel>,
}

impl Service {
    /// A service of one primary, two replicas and three Sentinels, to be changed and started.
    #[must_use]
    #[expect(clippy::new_ret_no_self, reason = "a service is made by its options")]
    pub fn new(version: Version) -> ServiceOptions {
        ServiceOptions {
            version,
            replicas: 2,
            sentinels: 3,
            password: None,
            sentinel_password: None,
            by_name: false,
        }
    }

    /// The servers.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A server, to be killed or started again.
    ///
    /// # Errors
    /// If there is no such server.
    pub fn node_mut(&mut self, node: usize) -> Result<&mut Node> {
        self.nodes.get_mut(node).context("no such server")
    }

    /// The Sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[Sentinel] {
        &self.sentinels
    }

    /// A Sentinel, to be killed or started again.
    ///
    /// # Errors
    /// If there is no such Sentinel.
    pub fn sentinel_mut(&mut self, sentinel: usize) -> Result<&mut Sentinel> {
        self.sentinels.get_mut(sentinel).context("no such Sentinel")
    }

    /// A new connection straight to a server, logged in.
    ///
    /// # Errors
    /// If it is not accepted.
    pub fn conn(&self, node: usize) -> Result<Conn> {
        let mut conn = self.nodes.get(node).context("no such server")?.conn()?;
        if let Some(password) = &self.options.password {
            conn.must(&format!("AUTH {password}"))?;
        }
        Ok(conn)
    }

    /// The server that a Sentinel names as the primary.
    ///
    /// # Errors
    /// If it does not answer, or names a stranger.
    pub fn primary_by(&self, sentinel: usize) -> Result<usize> {
        let sentinel = self.sentinels.get(sentinel).context("no such Sentinel")?;
        let named = sentinel.primary()?;
        let mut nodes = self.nodes.iter();
        let found = nodes.position(|node| node.address() == named);
        found.with_context(|| format!("{named} is none of these servers"))
    }

    /// Waits until every Sentinel that runs names another primary than server `old`, and that is one; which.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn wait_switched(&self, old: usize) -> Result<usize> {
        wait_some(DEADLINE, "another primary", || {
            let mut named = None;
            for (number, sentinel) in self.sentinels.iter().enumerate() {
                if sentinel.process.is_some() {
                    let primary = self.primary_by(number)?;
                    if primary == old || named.is_some_and(|named| named != primary) {
                        return Ok(None);
                    }
                    named = Some(primary);
                }
            }
            let Some(new) = named else { return Ok(None) };
            Ok((self.role(new)? == "master").then_some(new))
        })
    }

    /// Has the Sentinels ask the servers for their roles, and tell each other what they know, every second instead of every 10 and 2.
    /// A former primary that comes back is told what it is four times the latter later, if asked.
    ///
    /// # Errors
    /// If one refuses.
    pub fn ask_often(&self) -> Result<()> {
        for sentinel in &self.sentinels {
            let mut conn = sentinel.conn()?;
            conn.must("SENTINEL DEBUG INFO-PERIOD 1000 PUBLISH-PERIOD 1000")?;
        }
        Ok(())
    }

    /// Waits until the replicas have what the first server, their primary, was written up to now.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn wait_replicated(&self) -> Result<()> {
        let offset = |node: usize| {
            let reply = self.conn(node)?.must("ROLE")?;
            let items = reply.items()?;
            // Of a primary it is the second item, of a replica the last.
            let place = if node == 0 { 1 } else { 4 };
            items.get(place).context("no offset")?.int()
        };
        let written = offset(0)?;
        for replica in 1..self.nodes.len() {
            wait_until(DEADLINE, "the replica has what was written", || {
                Ok(offset(replica)? >= written)
            })?;
        }
        Ok(())
    }

    /// What a server says of itself: `master` or `slave`.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn role(&self, node: usize) -> Result<String> {
        let reply = self.conn(node)?.must("ROLE")?;
        reply.items()?.first().context("no role")?.text()
    }

    /// Waits until every Sentinel sees every other Sentinel and every replica, and these have their link to the primary.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn settle(&self) -> Result<()> {
        let others = self.sentinels.len() - 1;
        wait_until(DEADLINE, "the Sentinels know everybody", || {
            for sentinel in &self.sentinels {
                let mut conn = sentinel.conn()?;
                let peers = conn.must(&format!("SENTINEL SENTINELS {SERVICE}"))?;
                let replicas = conn.must(&format!("SENTINEL REPLICAS {SERVICE}"))?;
                let is_linked = |replica: &&Reply| {
                    let status = replica.field("master-link-status");
                    status.is_some_and(|status| status.text().is_ok_and(|text| text == "ok"))
                };
                let linked = replicas.items()?.iter().filter(is_linked);
                let (peers, linked) = (peers.items()?.len(), linked.count());
                if peers != others || linked != self.options.replicas {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// What the configuration of a proxy in front of it has to say.
    #[must_use]
    pub fn config(&self) -> String {
        let seeds: Vec<String> = self.seeds().iter().map(|at| format!("'{at}'")).collect();
        let seeds = seeds.join(", ");
        format!("upstream.sentinels = [{seeds}]\nupstream.sentinel_service = '{SERVICE}'\n")
    }

    /// Addresses of the Sentinels as a list for the configuration.
    #[must_use]
    pub fn seeds(&self) -> Vec<SocketAddrV4> {
        self.sentinels.iter().map(Sentinel::address).collect()
    }
}

/// A Sentinel.
#[derive(Debug)]
pub struct Sentinel {
    version: Version,
    address: SocketAddrV4,
    directory: PathBuf,
    password: Option<String>,
    process: Option<Process>,
}

impl Sentinel {
    fn start(options: &ServiceOptions, watched: SocketAddrV4, quorum: usize) -> Result<Self> {
        let mut sentinel = Self {
            version: options.version,
            address: next_address()?,
            directory: case_dir("sentinel")?,
            password: options.sentinel_password.clone(),
            process: None,
        };
        let names = if options.by_name { "yes" } else { "no" };
        let mut file = format!(
            "port {port}\nbind {ip}\nprotected-mode no\n\
             sentinel resolve-hostnames {names}\nsentinel announce-hostnames {names}\n\
             sentinel monitor {SERVICE} {watched_host} {watched_port} {quorum}\n\
             sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n\
             sentinel failover-timeout {SERVICE} 5000\n\
             sentinel announce-ip {host}\n",
            port = sentinel.address.port(),
            ip = sentinel.address.ip(),
            host = options.host(sentinel.address),
            watched_host = options.host(watched),
            watched_port = watched.port(),
        );
        if let Some(password) = &options.password {
            writeln!(file, "sentinel auth-pass {SERVICE} {password}")?;
        }
        if let Some(password) = &options.sentinel_password {
            writeln!(
                file,
                "requirepass {password}\nsentinel sentinel-pass {password}"
            )?;
        }
        std::fs::write(sentinel.directory.join("sentinel.conf"), file)?;
        sentinel.spawn()?;
        Ok(sentinel)
    }

    fn spawn(&mut self) -> Result<()> {
        let arguments = ["sentinel.conf", "--sentinel"];
        let program = self.version.find()?;
        self.process = Some(Process::start(&program, &arguments, &[], &self.directory)?);
        wait_until(DEADLINE, "a Sentinel answers", || {
            Ok(self.conn()?.line("PING")?.error().is_none())
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// A new connection, logged in.
    ///
    /// # Errors
    /// If it is not accepted.
    pub fn conn(&self) -> Result<Conn> {
        let mut conn = Conn::open(self.address)?;
        if let Some(password) = &self.password {
            conn.must(&format!("AUTH {password}"))?;
        }
        Ok(conn)
    }

    /// Where it says the primary is.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn primary(&self) -> Result<SocketAddrV4> {
        let question = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {SERVICE}");
        let named = self.conn()?.must(&question)?.texts()?.join(":");
        let found = named.to_socket_addrs()?.find_map(|address| match address {
            SocketAddr::V4(address) => Some(address),
            SocketAddr::V6(_) => None,
        });
        found.with_context(|| format!("{named} has no address"))
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// If it was killed before.
    pub fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("it was killed before")?;
        process.kill()
    }

    /// Starts a killed one again, at another address if `elsewhere`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn restart(&mut self, elsewhere: bool) -> Result<()> {
        if elsewhere {
            let old = self.address;
            self.address = next_address()?;
            let path = self.directory.join("sentinel.conf");
            let file = std::fs::read_to_string(&path)?;
            let file = file
                .replace(
                    &format!("port {}", old.port()),
                    &format!("port {}", self.address.port()),
                )
                .replace(
                    &format!("bind {}", old.ip()),
                    &format!("bind {}", self.address.ip()),
                );
            std::fs::write(path, file)?;
        }
        self.spawn()
    }

    /// `kill -STOP`, and `kill -CONT`.
    ///
    /// # Errors
    /// If it was killed.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let process = self.process.as_ref().context("it was killed")?;
        process.signal(if frozen { Signal::STOP } else { Signal::CONT })
    }
}

//! Upstreams where one server has all keys.

use crate::node::Node;
use crate::proxy::Proxy;
use crate::servers::Version;
use crate::service::{SERVICE, Service};
use crate::wait::wait_until;
use anyhow::{Context, Result, bail};
use std::time::Duration;

/// So long may the proxy take to follow.
const SWITCH: Duration = Duration::from_secs(5);

/// One server, or a primary that Sentinels watch, and a proxy in front of it.
#[derive(Debug)]
pub struct Unsplit {
    servers: Servers,
    /// In front of them, with default settings
    pub proxy: Proxy,
}

#[derive(Debug)]
enum Servers {
    One(Node),
    Watched(Service),
}

impl Unsplit {
    /// One server that nobody watches.
    ///
    /// # Errors
    /// If something does not start.
    pub fn server(version: Version) -> Result<Self> {
        let server = Node::standalone(version)?;
        let proxy = Proxy::with_server(&server.address().to_string()).start()?;
        let servers = Servers::One(server);
        Ok(Self { servers, proxy })
    }

    /// A primary, a replica and three Sentinels.
    ///
    /// # Errors
    /// If something does not start.
    pub fn sentinels(version: Version) -> Result<Self> {
        let service = Service::new(version).replicas(1).start()?;
        let proxy = Proxy::with_seeds(&[]).config(&service.config()).start()?;
        let servers = Servers::Watched(service);
        Ok(Self { servers, proxy })
    }

    /// The server that had all keys at first.
    ///
    /// # Errors
    /// Never.
    pub fn primary(&self) -> Result<&Node> {
        match &self.servers {
            Servers::One(server) => Ok(server),
            Servers::Watched(service) => service.nodes().first().context("no server"),
        }
    }

    /// `SENTINEL FAILOVER`, when the replica has all that the primary has; until the proxy writes to that one.
    ///
    /// # Errors
    /// If nobody watches the server, or that does not happen in time.
    pub fn fail_over(&self) -> Result<()> {
        let Servers::Watched(service) = &self.servers else {
            bail!("nobody watches it");
        };
        // The former primary does not hand over: what it takes between the promotion and the moment when the proxy hears of that is lost
        // [N16]; not what is written before.
        service.wait_replicated()?;
        let sentinel = service.sentinels().first().context("no Sentinel")?;
        let mut sentinel = sentinel.conn()?;
        sentinel.must(&format!("SENTINEL FAILOVER {SERVICE}"))?;
        let new = service.wait_switched(0)?;
        let new = service.nodes().get(new).context("no server")?.address();
        wait_until(SWITCH, "the proxy writes to the new primary", || {
            Ok(self.proxy.get("/topology")?.body.contains(&new.to_string()))
        })
    }
}

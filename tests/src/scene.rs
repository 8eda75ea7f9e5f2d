//! What most cases need: a cluster and the proxy in front of it.

use crate::cluster::Cluster;
use crate::proxy::Proxy;
use crate::servers::Version;
use anyhow::Result;

/// A cluster of 3 primaries without replicas, and a proxy with default settings.
#[derive(Debug)]
pub struct Scene {
    /// The servers
    pub cluster: Cluster,
    /// In front of them
    pub proxy: Proxy,
}

impl Scene {
    /// Starts both.
    ///
    /// # Errors
    /// If a server or the proxy does not start.
    pub fn start(version: Version) -> Result<Self> {
        let cluster = Cluster::new(version).replicas(0).start()?;
        let proxy = Proxy::new(&cluster).start()?;
        Ok(Self { cluster, proxy })
    }
}

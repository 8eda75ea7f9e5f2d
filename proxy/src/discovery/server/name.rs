//! Where a server is that is configured by its address or name.

use std::net::IpAddr;

use slotway_core::topology::Address;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout};

use super::super::seeds;
use super::super::settings::{NODE_SPACING, QUERY_TIMEOUT};
use super::super::throttle::Throttle;

/// Addresses of a name that are asked.
const ADDRESSES_MAX: usize = 8;

/// A configured address, and what its name last meant.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) server: Address,
    addresses: Vec<Address>,
    /// A look-up that has not ended yet. One that hangs is not joined by others: each of them would hold a thread.
    look_up: Option<JoinHandle<std::io::Result<Vec<Address>>>>,
    looked_up: Option<Instant>,
}

impl Name {
    pub(super) fn new(server: Address) -> Self {
        Self {
            server,
            addresses: Vec::new(),
            look_up: None,
            looked_up: None,
        }
    }

    /// What the name means now; if that is not to be learned, what it meant last time holds.
    pub(super) async fn find(&mut self, throttle: &mut Throttle) -> Vec<Address> {
        if self.server.host.parse::<IpAddr>().is_ok() {
            return vec![self.server.clone()];
        }
        let now = Instant::now();
        let is_rested = self.looked_up.is_none_or(|at| now >= at + NODE_SPACING);
        if self.look_up.is_none() && is_rested {
            let server = self.server.clone();
            self.looked_up = Some(now);
            self.look_up = Some(spawn_blocking(move || seeds::look_up(&server)));
        }
        let Some(look_up) = &mut self.look_up else {
            return self.addresses.clone();
        };
        if let Ok(found) = timeout(QUERY_TIMEOUT, look_up).await {
            self.look_up = None;
            match found {
                Ok(Ok(mut found)) if !found.is_empty() => {
                    found.truncate(ADDRESSES_MAX);
                    self.addresses = found;
                }
                _ => {
                    if let Some(held_back) = throttle.pass("name", now) {
                        tracing::warn!(server = %self.server, held_back, "the name cannot be resolved");
                    }
                }
            }
        }
        self.addresses.clone()
    }
}

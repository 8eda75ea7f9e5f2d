//! What discovery is configured with, and the fixed intervals it works by.

use std::time::Duration;

use slotway_core::config::{Secret, UpstreamConfig};
use slotway_core::topology::{Address, AddressMap};

/// Views asked for in an ordinary round [T5].
pub(super) const VIEWS_PER_ROUND: usize = 3;
/// Most nodes asked in a round that looks for the cluster because the known nodes gave no usable answer.
pub(super) const SEARCH_WIDTH: usize = 16;
/// After this time without an answer a node is taken for slow, and another one is asked as well. Well above the round trip of a
/// healthy node, well below what a client notices.
pub(super) const HEDGE_AFTER: Duration = Duration::from_millis(200);
/// Connect, authenticate and answer: a control connection has this long in all [T9].
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(1);
/// A round ends after this time with whatever is there.
pub(super) const ROUND_TIMEOUT: Duration = Duration::from_millis(1200);
/// A node gets at most two topology queries per second from this process [T8].
pub(super) const NODE_SPACING: Duration = Duration::from_millis(500);
/// Shortest time between two rounds that events asked for [T8].
pub(super) const REFRESH_MIN: Duration = Duration::from_millis(100);
/// The same after rounds that changed nothing.
pub(super) const REFRESH_MIN_SLOW: Duration = Duration::from_secs(2);
/// Period of rounds while some slot is uncovered or open, or the views differ [T7].
pub(super) const UNSETTLED_INTERVAL: Duration = Duration::from_secs(5);
/// Period of questions while some shard has no usable primary: clients wait for its successor.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(150);
/// The same once the trouble has lasted [`POLL_SLOW_AFTER`].
pub(super) const POLL_INTERVAL_SLOW: Duration = Duration::from_millis(500);
/// Longer than any usual failover: what is not over by then needs an operator.
pub(super) const POLL_SLOW_AFTER: Duration = Duration::from_secs(30);
/// An unused control connection is closed after this time [T9].
pub(super) const LINK_IDLE: Duration = Duration::from_secs(60);
/// At most one swap of a patched snapshot in this time [T6].
pub(super) const PATCH_INTERVAL: Duration = Duration::from_millis(1);
/// A slot that answered `-ASK` is taken for open this long.
pub(super) const OPEN_SLOT_MEMORY: Duration = Duration::from_secs(10);

/// Where the cluster is and how to log in.
#[derive(Debug, Clone)]
pub struct DiscoverySettings {
    /// Configured addresses; names are resolved at every use [T10].
    pub seeds: Vec<Address>,
    /// User to log in as; `None` is the default user.
    pub user: Option<String>,
    /// Password to log in with; `None`: no login.
    pub password: Option<Secret>,
    /// Translation of announced addresses [T19].
    pub address_map: AddressMap,
    /// Period of rounds when nothing happens, varied by a fifth either way.
    pub refresh_interval: Duration,
}

impl DiscoverySettings {
    /// The part of the configuration that discovery needs.
    #[must_use]
    pub fn new(upstream: &UpstreamConfig) -> Self {
        Self {
            seeds: upstream.seeds.clone(),
            user: upstream.user.clone(),
            password: upstream.password.clone(),
            address_map: upstream.address_map.clone(),
            refresh_interval: upstream.refresh_interval,
        }
    }
}

//! Starts real servers, the proxy and every kind of trouble for the integration tests, and stops them again.
//!
//! Nothing here uses the code under test: RESP parsing, slot hashing and HTTP are written independently, so a fault in
//! `slotway-core` cannot hide itself. Everything runs on blocking threads; everything that is started is stopped on drop.
//!
//! A test looks like this:
//!
//! ```no_run
//! use harness::{Cluster, Proxy, Version, case};
//!
//! fn set_then_get() -> anyhow::Result<()> {
//!     case(|| {
//!         let cluster = Cluster::new(Version::Redis70).start()?;
//!         let proxy = Proxy::new(&cluster).start()?;
//!         let mut conn = proxy.conn()?;
//!         assert_eq!(conn.line("SET foo bar")?.text()?, "OK");
//!         Ok(())
//!     })
//! }
//! ```
#![forbid(unsafe_code)]

mod case;
pub mod chaos;
mod cluster;
mod conn;
pub mod corpus;
pub mod crowd;
mod fault;
mod hits;
mod http;
mod load;
mod matrix;
mod net;
mod node;
mod process;
mod proxy;
mod resp;
mod scene;
mod scripted;
mod servers;
mod service;
mod shared;
pub mod sim;
mod unsplit;
mod wait;

pub use case::{case, case_dir};
pub use cluster::{Cluster, ClusterOptions, Migration};
pub use conn::Conn;
pub use fault::{Direction, FaultProxy};
pub use hits::{Hit, HitOptions, HitReport, Hits};
pub use http::{HttpReply, http_get};
pub use load::{
    Broken, Gap, Load, LoadError, LoadOptions, LoadReport, LostWrite, SlotRange, Times, Violation,
};
pub use net::next_address;
pub use node::{Node, NodeOptions};
pub use process::{Process, resident_bytes};
pub use proxy::{Metrics, Proxy, ProxyOptions, slotway_binary};
pub use resp::{Parsed, Reply, encode, parse_reply};
pub use scene::Scene;
pub use scripted::{Action, NodeView, Request, ScriptedCluster};
pub use servers::{Version, repository_root, tool};
pub use service::{SERVICE, Sentinel, Service, ServiceOptions, name_of};
pub use unsplit::Unsplit;
pub use wait::{wait_some, wait_until};

use std::cell::RefCell;
use std::collections::BTreeMap;

/// Number of hash slots of a cluster.
pub const SLOT_COUNT: u16 = 16_384;

/// Slot of a key by the rule of the Redis Cluster specification (hash tags included), computed with the `crc16` crate.
#[must_use]
pub fn slot_of(key: &[u8]) -> u16 {
    let tagged = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let length = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..length).filter(|tag| !tag.is_empty())
    });
    crc16::State::<crc16::XMODEM>::calculate(tagged.unwrap_or(key)) % SLOT_COUNT
}

/// A key of the given slot, distinct for each `n`: `{tag}:n` with a tag found by search.
#[must_use]
pub fn key_in_slot(slot: u16, n: usize) -> String {
    let tag = TAGS.with_borrow_mut(|tags| tags.of(slot));
    format!("{{{tag}}}:{n}")
}

thread_local! {
    static TAGS: RefCell<Tags> = RefCell::default();
}

/// The first number in each slot, as far as any was looked for: a search takes milliseconds.
#[derive(Default)]
struct Tags {
    tried: u32,
    found: BTreeMap<u16, u32>,
}

impl Tags {
    fn of(&mut self, slot: u16) -> u32 {
        loop {
            if let Some(tag) = self.found.get(&slot) {
                return *tag;
            }
            let tag = self.tried;
            self.found
                .entry(slot_of(tag.to_string().as_bytes()))
                .or_insert(tag);
            self.tried += 1;
        }
    }
}

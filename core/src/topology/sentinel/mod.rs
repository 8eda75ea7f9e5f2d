//! What Sentinels say about the primary they watch, and which of them is believed [N11] [N12] [N26].
//!
//! A Sentinel alone proves nothing: it may be cut off and name a primary of the past, or have been told to watch another one. The
//! primary is the address that enough of them name in the newest configuration, and even then only if it says itself that it is
//! one [N13].

mod choice;
mod event;
mod hold;
mod reply;
#[cfg(test)]
mod tests;

pub use choice::{Choice, NoChoice, Terms, choose};
pub use event::{ANNOUNCED_ON, announcement, concerns};
pub use hold::{Announcement, HoldEnd, WriteHold};
pub use reply::{ReplyProblem, is_out_of_reach, is_tilted, parse_primary, parse_sentinels, run_id};

use super::Address;

/// What one Sentinel says about the primary of a service (`SENTINEL MASTER`, `SENTINEL GET-MASTER-ADDR-BY-NAME`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The primary, as its clients are told. While a failover is under way that may be the node that is being promoted.
    pub primary: Address,
    /// Its `run_id`, 40 hexadecimal digits; `None` while that is not known to the Sentinel, or if `primary` is being promoted.
    pub run_id: Option<String>,
    /// The version of the configuration: a failover raises it.
    pub config_epoch: u64,
    /// How many Sentinels watch the service, as far as this one knows, itself included.
    pub sentinels: usize,
    /// The Sentinel trusts neither its clock nor what it knows [N26].
    pub tilted: bool,
}

/// Whether two words of Sentinels are about one server. One that has a name and an address may be called by either: it is the same
/// process [N19].
fn is_one_server(a: (&Address, Option<&str>), b: (&Address, Option<&str>)) -> bool {
    a.0 == b.0 || (a.1.is_some() && a.1 == b.1)
}

impl Report {
    /// Whether this is about the server that was chosen.
    #[must_use]
    pub fn names(&self, choice: &Choice) -> bool {
        is_one_server(
            (&self.primary, self.run_id.as_deref()),
            (&choice.primary, choice.run_id.as_deref()),
        )
    }
}

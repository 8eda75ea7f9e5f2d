//! State of one connection to a node.
//!
//! ```text
//!   requests --> log: | answered | written, unanswered | not written yet |      in_flight: one entry per reply owed
//!                     ^ released   ^ head                ^ written         ^ end
//!   replies  --> scanner --> the oldest in_flight entry
//! ```
//!
//! A request is copied once, into the log, and stays there until it is answered, so that a refused or unwritten request can be sent
//! again without a copy made for the case. Who drives it: the engine; bytes reach the socket through the shell.

mod buffer;
mod credentials;
mod fence;
mod handshake;
mod link;
mod owed;
mod private;
mod tracks;

pub use buffer::{give_back, take_off};
pub use credentials::Credentials;
pub use fence::{ClientId, Fence};
pub use handshake::{Handshake, HandshakeFailure, Identity};
pub use link::{HANDED_OVER, Link, LinkPhase};
pub use owed::{InFlight, Owed, Passage};
pub use private::Private;
pub use tracks::Tracks;

pub(crate) use handshake::HandshakeStep;

//! Publish and subscribe: who is subscribed to what, at the proxy and at the nodes.
//!
//! ```text
//!   sessions  a b c     b c      c
//!              \|/      |/       |
//!   topics    news     mail.*   {t}chat      channel, pattern, sharded channel: each once, however many sessions have it
//!               \       |        |
//!   places      home node     owner of the slot        and every primary, for what may be keyspace notifications
//! ```
//!
//! A session never has a subscription of its own at a node [U1]: a topic has, at the nodes it is placed at, over one connection of
//! this worker to each, its feed. Here is what is known of that, and what the bytes of a feed mean. The engine decides where topics
//! are placed, talks to the nodes, and hands on the messages.

mod frame;
mod handover;
mod registry;

pub use frame::{Frame, read_frame, write_ack};
pub use handover::{Handover, Source, Stage};
pub use registry::{Place, PlaceState, Registry, Topic};

/// What a subscription is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The messages of a channel.
    Channel,
    /// The messages of all channels that match a pattern.
    Pattern,
    /// The messages of a sharded channel: of the shard that owns its slot.
    Shard,
}

impl Kind {
    /// Every kind, in the order of [`Self::index`].
    pub const ALL: [Self; 3] = [Self::Channel, Self::Pattern, Self::Shard];

    /// Its place in a table with one entry for each.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name of the command that subscribes, as acknowledgements say it.
    #[must_use]
    pub const fn subscribe(self) -> &'static str {
        match self {
            Self::Channel => "subscribe",
            Self::Pattern => "psubscribe",
            Self::Shard => "ssubscribe",
        }
    }

    /// The same of the one that ends it.
    #[must_use]
    pub const fn unsubscribe(self) -> &'static str {
        match self {
            Self::Channel => "unsubscribe",
            Self::Pattern => "punsubscribe",
            Self::Shard => "sunsubscribe",
        }
    }
}

/// What the names of the channels begin with that tell of changes of keys. Only the node that has the key publishes there; the
/// cluster does not pass it on [U9].
pub const KEYSPACE: &[u8] = b"__key";

/// Whether a subscription concerns channels that every primary has its own messages for: so it has to be made at each.
#[must_use]
pub fn concerns_keyspace(kind: Kind, name: &[u8]) -> bool {
    match kind {
        Kind::Channel => name.starts_with(KEYSPACE),
        Kind::Pattern => may_match_keyspace(name),
        Kind::Shard => false,
    }
}

/// Whether a pattern could match a name that begins with [`KEYSPACE`]. True for some that do not: a set `[...]` is taken for one that
/// has the right byte in it.
fn may_match_keyspace(pattern: &[u8]) -> bool {
    let mut bytes = pattern.iter();
    for expected in KEYSPACE {
        let matches = match bytes.next() {
            Some(b'*' | b'[') => return true,
            Some(b'?') => true,
            Some(b'\\') => bytes.next().is_none_or(|escaped| escaped == expected),
            Some(literal) => literal == expected,
            None => false,
        };
        if !matches {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_and_patterns_of_keyspace_notifications_are_told_u9() {
        for name in ["__keyspace@0__:k", "__keyevent@0__:set", "__key"] {
            assert!(concerns_keyspace(Kind::Channel, name.as_bytes()), "{name}");
            assert!(!concerns_keyspace(Kind::Shard, name.as_bytes()), "{name}");
        }
        for name in ["__ke", "_keyspace", "news", ""] {
            assert!(!concerns_keyspace(Kind::Channel, name.as_bytes()), "{name}");
        }
        for pattern in [
            "*",
            "_*",
            "__key*",
            "__keyspace@0__:*",
            "?_key*",
            "??????",
            "[_a]*",
            r"\_\_key*",
            "__k[e]y*",
            "*x",
        ] {
            assert!(
                concerns_keyspace(Kind::Pattern, pattern.as_bytes()),
                "{pattern}"
            );
        }
        for pattern in ["a*", "", "?", "????", "__kex*", r"\*", r"_\a*", "news.*"] {
            assert!(
                !concerns_keyspace(Kind::Pattern, pattern.as_bytes()),
                "{pattern}"
            );
        }
    }
}

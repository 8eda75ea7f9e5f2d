//! Command flags and ACL categories as bit sets, with the names servers use for them.

/// Flags of a command: one bit for each name of [`Flags::NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flags(pub(super) u32);

impl Flags {
    /// The servers' names in bit order; `FLAGS` of scripts/generate_commands.py is the same list.
    pub const NAMES: [&'static str; 22] = [
        "write",
        "readonly",
        "denyoom",
        "module",
        "admin",
        "pubsub",
        "noscript",
        "blocking",
        "loading",
        "stale",
        "skip_monitor",
        "skip_slowlog",
        "asking",
        "fast",
        "no_auth",
        "may_replicate",
        "no_mandatory_keys",
        "no_async_loading",
        "protected",
        "no_multi",
        "movablekeys",
        "allow_busy",
    ];
    /// May change data.
    pub const WRITE: Self = Self(1);
    /// Only reads data.
    pub const READONLY: Self = Self(1 << 1);
    /// Comes from a module.
    pub const MODULE: Self = Self(1 << 3);
    /// For administrators.
    pub const ADMIN: Self = Self(1 << 4);
    /// About channels.
    pub const PUBSUB: Self = Self(1 << 5);
    /// Refused in scripts.
    pub const NOSCRIPT: Self = Self(1 << 6);
    /// May wait at the server.
    pub const BLOCKING: Self = Self(1 << 7);
    /// Allowed before authentication.
    pub const NO_AUTH: Self = Self(1 << 14);
    /// May reach replicas though it is no write.
    pub const MAY_REPLICATE: Self = Self(1 << 15);
    /// A call without keys is not an error.
    pub const NO_MANDATORY_KEYS: Self = Self(1 << 16);
    /// Refused inside `MULTI`.
    pub const NO_MULTI: Self = Self(1 << 19);
    /// First key, last key and step do not say where the keys are.
    pub const MOVABLE_KEYS: Self = Self(1 << 20);

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names of the flags set, in bit order.
    pub fn names(self) -> impl Iterator<Item = &'static str> + Clone {
        names(&Self::NAMES, self.0)
    }
}

/// ACL categories of a command: one bit for each name of [`Categories::NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Categories(pub(super) u32);

impl Categories {
    /// The servers' names in bit order, without the `@`; `CATEGORIES` of scripts/generate_commands.py is the same list.
    pub const NAMES: [&'static str; 22] = [
        "keyspace",
        "read",
        "write",
        "set",
        "sortedset",
        "list",
        "hash",
        "string",
        "bitmap",
        "hyperloglog",
        "geo",
        "stream",
        "pubsub",
        "admin",
        "fast",
        "slow",
        "blocking",
        "dangerous",
        "connection",
        "transaction",
        "scripting",
        "array",
    ];

    /// For administrators.
    pub const ADMIN: Self = Self(1 << 13);

    /// The category of that name, without case; none if servers have no such category.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        let bit = Self::NAMES
            .iter()
            .position(|known| known.as_bytes().eq_ignore_ascii_case(name))?;
        Some(Self(1 << bit))
    }

    /// Whether all categories of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names of the categories set, in bit order.
    pub fn names(self) -> impl Iterator<Item = &'static str> + Clone {
        names(&Self::NAMES, self.0)
    }
}

fn names(all: &'static [&'static str], bits: u32) -> impl Iterator<Item = &'static str> + Clone {
    all.iter()
        .enumerate()
        .filter(move |(bit, _)| bits & 1 << bit != 0)
        .map(|(_, name)| *name)
}

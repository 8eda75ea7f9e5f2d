//! What can be subscribed to in a run, and how nodes say it. Written independently of the code under test.

use super::profile::{HOT_SLOTS, KEYS_PER_SLOT, TAGS};
use crate::encode;

/// What a subscription is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Channel,
    Pattern,
    Shard,
}

/// A subscription: to what, and its name.
pub(super) type Topic = (Kind, String);

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Channel, Self::Pattern, Self::Shard];

    pub(super) const fn subscribe(self) -> &'static str {
        match self {
            Self::Channel => "subscribe",
            Self::Pattern => "psubscribe",
            Self::Shard => "ssubscribe",
        }
    }

    pub(super) const fn unsubscribe(self) -> &'static str {
        match self {
            Self::Channel => "unsubscribe",
            Self::Pattern => "punsubscribe",
            Self::Shard => "sunsubscribe",
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Channel => "message",
            Self::Pattern => "pmessage",
            Self::Shard => "smessage",
        }
    }

    /// The kind whose message `word` is.
    pub(super) fn of_message(word: &[u8]) -> Option<Self> {
        let mut kinds = Self::ALL.into_iter();
        kinds.find(|kind| kind.message().as_bytes() == word)
    }

    /// The kind that the command `word` is for, in either case, and whether it subscribes.
    pub(super) fn of_command(word: &[u8]) -> Option<(Self, bool)> {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        Self::ALL.into_iter().find_map(|kind| match () {
            () if is(kind.subscribe()) => Some((kind, true)),
            () if is(kind.unsubscribe()) => Some((kind, false)),
            () => None,
        })
    }
}

/// Channels that are published to.
pub(super) const CHANNELS: [&str; 3] = ["ca", "cb", "cab"];
const PATTERNS: [&str; 5] = ["c*", "ca", "*", "__key*", "cb*"];
/// Of these keys notifications are subscribed to by name.
const NOTED_KEYS: [usize; 2] = [0, 1];

/// The channel that tells of changes of all keys, and that of those of one.
pub(super) const KEYEVENT: &str = "__keyevent@0__:set";

pub(super) fn keyspace(name: &str) -> String {
    format!("__keyspace@0__:{name}")
}

/// The name of the sharded channel of a slot: that of its first key.
pub(super) fn sharded(hot: usize) -> String {
    format!("{{{}}}{}", TAGS[hot], hot * KEYS_PER_SLOT)
}

/// All that may be subscribed to of a kind.
pub(super) fn names(kind: Kind) -> Vec<String> {
    match kind {
        Kind::Channel => {
            let noted = NOTED_KEYS.map(|hot| keyspace(&sharded(hot)));
            let fixed = CHANNELS.iter().chain([&KEYEVENT]).map(ToString::to_string);
            fixed.chain(noted).collect()
        }
        Kind::Pattern => PATTERNS.map(str::to_owned).to_vec(),
        Kind::Shard => (0..HOT_SLOTS).map(sharded).collect(),
    }
}

/// Whether a message of `channel` is for those that have `topic`.
pub(super) fn is_for(topic: &Topic, channel: &str, is_sharded: bool) -> bool {
    match topic.0 {
        Kind::Shard => is_sharded && topic.1 == channel,
        Kind::Channel => !is_sharded && topic.1 == channel,
        Kind::Pattern if is_sharded => false,
        Kind::Pattern => match topic.1.strip_suffix('*') {
            Some(prefix) => channel.starts_with(prefix),
            None => topic.1 == channel,
        },
    }
}

/// A message as a node says it in RESP2; its number is all its content.
pub(super) fn message(topic: &Topic, channel: &str, number: usize) -> Vec<u8> {
    let payload = format!("m{number}");
    let mut words = vec![topic.0.message(), topic.1.as_str()];
    if topic.0 == Kind::Pattern {
        words.push(channel);
    }
    words.push(&payload);
    encode(&words)
}

/// What tells a subscriber that a subscription begins or ends, in RESP2.
pub(super) fn ack(word: &str, name: Option<&str>, count: usize) -> Vec<u8> {
    let name = match name {
        Some(name) => format!("${}\r\n{name}\r\n", name.len()),
        None => "$-1\r\n".to_owned(),
    };
    format!("*3\r\n${}\r\n{word}\r\n{name}:{count}\r\n", word.len()).into_bytes()
}

//! What a client has subscribed to.

use std::collections::BTreeSet;

use bytes::BytesMut;

use crate::engine::TopicKey;
use crate::pubsub::Kind;

/// A client with at least one subscription.
#[derive(Debug, Default)]
pub struct Subscriber {
    /// By kind. Sets, because a client may leave hundreds of thousands at once, in any order.
    topics: [BTreeSet<TopicKey>; 3],
    /// Messages that came in the middle of a reply that is being passed on, as they are to be sent behind it.
    pub held: BytesMut,
}

impl Subscriber {
    /// What of this kind it has.
    #[must_use]
    pub const fn topics(&self, kind: Kind) -> &BTreeSet<TopicKey> {
        &self.topics[kind.index()]
    }

    /// Everything it has.
    pub fn all(&self) -> impl Iterator<Item = TopicKey> {
        self.topics.iter().flatten().copied()
    }

    /// Notes a subscription.
    pub fn join(&mut self, kind: Kind, topic: TopicKey) {
        self.topics[kind.index()].insert(topic);
    }

    /// Notes the end of one; false if it had none.
    pub fn leave(&mut self, kind: Kind, topic: TopicKey) -> bool {
        self.topics[kind.index()].remove(&topic)
    }

    /// How many it has, as acknowledgements count: sharded channels apart from channels and patterns [U3].
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Shard => self.topics(Kind::Shard).len(),
            Kind::Channel | Kind::Pattern => {
                self.topics(Kind::Channel).len() + self.topics(Kind::Pattern).len()
            }
        }
    }

    /// How many channels, patterns and sharded channels it has.
    #[must_use]
    pub fn counts(&self) -> [usize; 3] {
        Kind::ALL.map(|kind| self.topics(kind).len())
    }

    /// Whether it has nothing any more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.iter().all(BTreeSet::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharded_channels_are_counted_apart_u3() {
        let mut subscriber = Subscriber::default();
        let topics = [0, 1, 2, 3].map(TopicKey::new);
        for (topic, kind) in
            topics
                .into_iter()
                .zip([Kind::Channel, Kind::Pattern, Kind::Shard, Kind::Channel])
        {
            subscriber.join(kind, topic);
            subscriber.join(kind, topic);
        }
        let counts = Kind::ALL.map(|kind| subscriber.count(kind));
        assert_eq!(counts, [3, 3, 1]);
        assert!(subscriber.leave(Kind::Channel, topics[0]));
        assert!(!subscriber.leave(Kind::Channel, topics[0]));
        assert_eq!(subscriber.count(Kind::Pattern), 2);
        assert_eq!(subscriber.all().count(), 3);
    }

    #[test]
    fn a_client_leaves_very_many_in_whatever_order() {
        let mut subscriber = Subscriber::default();
        let topics = || (0..300_000).map(TopicKey::new);
        topics()
            .rev()
            .for_each(|topic| subscriber.join(Kind::Channel, topic));
        assert!(
            subscriber
                .topics(Kind::Channel)
                .iter()
                .copied()
                .eq(topics())
        );
        for topic in topics() {
            assert!(subscriber.leave(Kind::Channel, topic));
        }
        assert!(subscriber.is_empty());
    }
}

//! What must hold between sessions, topics, requests and feeds, for [`Engine::check_invariants`].

use super::{Engine, TopicKey};
use crate::backend::Owed;
use crate::pubsub::{Kind, PlaceState, Topic};
use crate::time::Timestamp;

impl Engine {
    /// Checks that sessions, topics, requests and feeds agree about who is subscribed to what; for `check_invariants`.
    pub(super) fn check_subscriptions(&self) {
        let registry = &self.subscriptions.registry;
        registry.check();
        let mut subscriptions = 0;
        for (index, session) in &self.sessions {
            let Some(subscriber) = &session.subscriber else {
                continue;
            };
            let has_something = !subscriber.is_empty() || !subscriber.held.is_empty();
            assert!(has_something, "a subscriber has something");
            for kind in Kind::ALL {
                for key in subscriber.topics(kind) {
                    let topic = &registry[*key];
                    assert_eq!(topic.kind, kind);
                    let session = super::SessionKey::from_index(index);
                    assert!(
                        topic.subscribers().binary_search(&session).is_ok(),
                        "both know of it"
                    );
                    subscriptions += 1;
                }
            }
        }
        let known: usize = registry
            .iter()
            .map(|(_, topic)| topic.subscribers().len())
            .sum();
        assert_eq!(
            known, subscriptions,
            "nobody is subscribed who does not know it"
        );
        self.check_subscribing();
        for (key, topic) in registry.iter() {
            self.check_places(key, topic);
        }
    }

    /// Checks the requests that subscribe.
    fn check_subscribing(&self) {
        let registry = &self.subscriptions.registry;
        let mut holds = 0;
        for (key, pending) in &self.subscriptions.pending {
            let request = &self.requests[*key];
            assert_eq!(request.state, super::request::State::Subscribing);
            assert!(
                request.session.is_some(),
                "it is forgotten with its session"
            );
            holds += pending.topics.len();
            let waits = |topic: &&TopicKey| registry[**topic].waiters.contains(key);
            let mut awaited: Vec<&TopicKey> = pending.topics.iter().filter(waits).collect();
            awaited.sort_unstable();
            awaited.dedup();
            assert_eq!(
                awaited.len(),
                pending.missing,
                "it waits for what is missing"
            );
            assert!(pending.missing > 0, "what has all is answered");
        }
        let held: u32 = registry.iter().map(|(_, topic)| topic.holds()).sum();
        assert_eq!(held as usize, holds, "holds are counted");
        for (key, topic) in registry.iter() {
            assert!(
                topic.waiters.is_empty() || !self.is_served(key),
                "nobody waits for what is there"
            );
            for request in &topic.waiters {
                assert!(self.subscriptions.pending.contains_key(request), "it waits");
            }
        }
    }

    /// Checks the places of one topic.
    fn check_places(&self, key: TopicKey, topic: &Topic) {
        let is_restless = self.subscriptions.restless.contains(&key);
        if !topic.subscribers().is_empty() && !self.is_served(key) {
            assert!(
                is_restless && topic.unserved_since != Timestamp::NEVER,
                "it is noticed if they get nothing for long"
            );
        }
        let preferred = match topic.kind {
            Kind::Shard => self.nodes.owner(&self.snapshot, topic.slot),
            Kind::Channel | Kind::Pattern => self.subscriptions.home,
        };
        let is_handed_over = topic
            .source
            .is_some_and(|source| topic.is_handed_over_by(source));
        if preferred.is_some_and(|node| topic.is_on(node)) && !is_handed_over {
            let is_home_new = self.subscriptions.placed_by.0 != self.subscriptions.home;
            let is_noticed = is_home_new && !self.subscriptions.restless.is_empty();
            let is_right = topic.source == preferred || is_noticed;
            assert!(is_right, "it comes from where it belongs");
        }
        for place in topic.places() {
            let node = &self.nodes[place.node];
            let feed = node.feed.map(|feed| &self.links[feed.index()]);
            let feed = feed.filter(|feed| feed.is_feeding());
            let about = |owed: Owed| matches!(owed, Owed::Subscribe(topic) | Owed::Unsubscribe(topic) if topic == key);
            let owed = feed.map_or(0, |feed| {
                feed.in_flight().filter(|entry| about(entry.owed)).count()
            });
            assert_eq!(owed, place.owed as usize, "what a node owes is counted");
            match place.state {
                PlaceState::Wanted(_) => {
                    assert!(node.known || node.has_links(), "it may be placed");
                    let is_left = place.owed > 0;
                    assert!(is_restless || is_left, "it is tried again");
                }
                PlaceState::Asked | PlaceState::Leaving => assert!(owed > 0, "an answer is owed"),
                PlaceState::On => assert!(feed.is_some(), "it holds over a feed"),
            }
        }
    }
}

//! Topics that pass from one node to another while both are there: nothing is lost, and nothing comes twice [U6] [U9].

use std::time::Duration;

use super::{Engine, NodeKey, TopicKey};
use crate::backend::Owed;
use crate::local::PubSubGap;
use crate::pubsub::{Handover, KEYSPACE, Kind, Place, PlaceState, Source, Stage, Topic};
use crate::resp::write;
use crate::topology::NodeId;

/// As long as the cluster may take to pass a message on from one node to all.
const OVERLAP: Duration = Duration::from_millis(100);

/// What is kept and remembered meanwhile in one worker; who has a topic that takes it beyond that may have missed messages.
const MOST_BYTES: usize = 16 << 20;

impl Engine {
    /// Begins to pass the topic on to where it is to be, as far as it is to be elsewhere than it is.
    pub(super) fn begin_handovers(&mut self, key: TopicKey) {
        let home = self.choose_home();
        if self.subscriptions.registry[key].subscribers().is_empty() {
            return self.cancel_handovers(key, |_, _| true);
        }
        self.leave_overtaken(key);
        self.part_primaries(key);
        self.cancel_handovers(key, |topic, handover| {
            let is_other = handover.source == Source::Cluster && Some(handover.to) != home;
            let is_coming = |place: &Place| place.state != PlaceState::Leaving;
            let has_both =
                topic.is_on(handover.from) && topic.place(handover.to).is_some_and(is_coming);
            // The new node counts: what is left is to know what has been handed on already.
            let is_past = handover.is_over() && topic.is_on(handover.to);
            !is_past && (is_other || !has_both)
        });
        let topic = &self.subscriptions.registry[key];
        if let (Some(from), Some(to)) = (topic.source, home)
            && topic.kind != Kind::Shard
            && from != to
            && topic.is_on(from)
            && topic.handover(Source::Cluster, from).is_none()
        {
            self.begin_handover(key, Source::Cluster, from, to);
        }
        let topic = &self.subscriptions.registry[key];
        let is_moving = topic.kind == Kind::Shard
            || (topic.everywhere
                && (topic.places().len() > self.nodes.primaries().len()
                    || !self.snapshot.promotions.is_empty()));
        if !is_moving {
            return;
        }
        let leaving = topic.places().iter().map(|place| place.node);
        let leaving = leaving.filter(|node| topic.is_on(*node) && !self.is_in_charge(*node));
        let successors: Vec<_> = leaving
            .filter(|from| topic.handover(Source::Own, *from).is_none())
            .filter_map(|from| Some((from, self.successor(from)?)))
            .filter(|(from, to)| {
                let has_same = topic.everywhere || self.is_same(*from, *to);
                let is_coming = topic.place(*to).is_some() && !topic.is_on(*to);
                has_same && is_coming
            })
            .collect();
        for (from, to) in successors {
            self.begin_handover(key, Source::Own, from, to);
        }
    }

    /// Ends handovers of the topic to nodes that are to lose it again before they count: `from` still does, and what they have said it
    /// will bring. They are not heard any more, so that their own messages do not pass to yet another node at the same time.
    fn leave_overtaken(&mut self, key: TopicKey) {
        let is_overtaken = |handover: &&Handover| {
            let to = handover.to;
            handover.source == Source::Own && !handover.is_over() && !self.is_in_charge(to)
        };
        let handovers = self.subscriptions.registry[key].handovers.iter();
        let overtaken: Vec<NodeKey> = handovers.filter(is_overtaken).map(|it| it.to).collect();
        for to in overtaken {
            let place = self.subscriptions.registry[key].place(to);
            match place.map(|place| (place.state, place.owed)) {
                Some((PlaceState::Wanted(_), 0)) => {
                    self.subscriptions.registry.remove_place(key, to);
                }
                Some((PlaceState::Leaving, _)) | None => {}
                Some(_) => self.end_at(key, to),
            }
        }
    }

    /// Ends handovers between two nodes of which the topology, known as a whole now, says that both are primaries: what each says about
    /// its keys is its own.
    fn part_primaries(&mut self, key: TopicKey) {
        let mut index = 0;
        while let Some(handover) = self.subscriptions.registry[key].handovers.get(index) {
            let topic = &self.subscriptions.registry[key];
            let is_own = |node| topic.place(node).is_some() && self.is_in_charge(node);
            let are_two = is_own(handover.from) && is_own(handover.to);
            if handover.source != Source::Own || !are_two {
                index += 1;
                continue;
            }
            let kept = self.forget_handover(key, index).into_kept();
            for frame in kept {
                self.hand_to_all(key, &frame);
            }
        }
    }

    fn begin_handover(&mut self, key: TopicKey, source: Source, from: NodeKey, to: NodeKey) {
        let topic = &mut self.subscriptions.registry[key];
        let is_there = topic.is_on(to);
        topic.handovers.push(Handover::new(source, from, to));
        if is_there {
            self.mark(key, to);
        }
    }

    /// Ends those that have come to nothing: what `from` brings counts, as before.
    fn cancel_handovers(&mut self, key: TopicKey, is_over: impl Fn(&Topic, &Handover) -> bool) {
        let registry = &mut self.subscriptions.registry;
        if registry[key].handovers.is_empty() {
            return;
        }
        let handovers = std::mem::take(&mut registry[key].handovers);
        let (over, kept) = handovers
            .into_iter()
            .partition(|handover| is_over(&registry[key], handover));
        let over: Vec<Handover> = over;
        registry[key].handovers = kept;
        self.subscriptions.handover_bytes -= over.iter().map(Handover::bytes).sum::<usize>();
    }

    /// Has the node say once more that it has the topic: what it says before that it has said by now.
    fn mark(&mut self, key: TopicKey, node: NodeKey) {
        let Some(feed) = self.feed_of(node) else {
            return;
        };
        let topic = &mut self.subscriptions.registry[key];
        let mut command = Vec::new();
        let word = topic.kind.subscribe().as_bytes();
        write::command(&mut command, &[word, &topic.name]);
        if let Some(place) = topic.place_mut(node) {
            place.owed += 1;
        }
        self.links[feed.index()].push(Owed::Subscribe(key), &command, self.now);
        self.mark_link_dirty(feed);
    }

    /// Takes every step that is due.
    pub(super) fn advance_handovers(&mut self, key: TopicKey) {
        let mut index = 0;
        while let Some(handover) = self.subscriptions.registry[key].handovers.get(index) {
            let (from, to) = (handover.from, handover.to);
            let topic = &self.subscriptions.registry[key];
            let has_said = |node| {
                let place = topic.place(node);
                topic.is_on(node) && place.is_some_and(|place| place.owed == 0)
            };
            let later = self.now.after(OVERLAP);
            let next = match (handover.stage, handover.source) {
                (Stage::Joining, Source::Cluster) if has_said(to) => Stage::Early(later),
                (Stage::Early(until), _) if until <= self.now => Stage::Marking,
                // Of its own messages nobody had any before it; `from` has them as soon as it has what was written.
                (Stage::Joining, Source::Own) | (Stage::Marking, _) if has_said(to) => {
                    Stage::Late(later)
                }
                (Stage::Late(until), _) if until <= self.now => Stage::Closing,
                (Stage::Closing, _) if has_said(from) => Stage::Tail(later),
                (Stage::Tail(until), _) if until <= self.now => Stage::Ending,
                (Stage::Ending, _) if has_said(to) => {
                    self.forget_handover(key, index);
                    continue;
                }
                (stage, _) => stage,
            };
            if next == handover.stage {
                self.subscriptions.restless.insert(key);
                index += 1;
                continue;
            }
            let handover = &mut self.subscriptions.registry[key].handovers[index];
            handover.stage = next;
            match next {
                Stage::Marking | Stage::Ending => self.mark(key, to),
                Stage::Late(_) => handover.note_mark(),
                Stage::Closing => self.mark(key, from),
                Stage::Tail(_) => self.switch(key, index),
                _ => {}
            }
        }
    }

    /// From now on the new node counts.
    fn switch(&mut self, key: TopicKey, index: usize) {
        let topic = &mut self.subscriptions.registry[key];
        let handover = &mut topic.handovers[index];
        if handover.source == Source::Cluster {
            topic.source = Some(handover.to);
        }
        let bytes = handover.bytes();
        let rest = handover.take_rest();
        self.subscriptions.handover_bytes += handover.bytes();
        self.subscriptions.handover_bytes -= bytes;
        for frame in rest {
            self.hand_to_all(key, &frame);
        }
    }

    fn forget_handover(&mut self, key: TopicKey, index: usize) -> Handover {
        let topic = &mut self.subscriptions.registry[key];
        let handover = topic.handovers.remove(index);
        self.subscriptions.handover_bytes -= handover.bytes();
        handover
    }

    /// A message of a topic that is being passed on: whether it is dealt with.
    #[cold]
    pub(super) fn take_message_of_two(
        &mut self,
        key: TopicKey,
        node: NodeKey,
        frame: &[u8],
        channel: &[u8],
    ) -> bool {
        let topic = &mut self.subscriptions.registry[key];
        let is_notification = topic.everywhere && channel.starts_with(KEYSPACE);
        let source = match is_notification || topic.kind == Kind::Shard {
            true => Source::Own,
            false => Source::Cluster,
        };
        let concerned = |handover: &&mut Handover| {
            handover.source == source && [handover.from, handover.to].contains(&node)
        };
        let (mut is_concerned, mut is_told) = (false, true);
        let mut told = Vec::new();
        // A node may be about to pass on what it has just taken over: that comes first.
        for is_first in [true, false] {
            let handovers = topic.handovers.iter_mut().filter(concerned);
            for handover in handovers.filter(|it| (it.to == node) == is_first) {
                is_concerned = true;
                let bytes = handover.bytes();
                if handover.to == node {
                    is_told &= !handover.take(frame);
                    if is_told && !handover.is_over() {
                        handover.keep(frame);
                        is_told = false;
                    }
                } else if handover.is_over() {
                    is_told = false;
                } else {
                    told = handover.bring(frame);
                }
                self.subscriptions.handover_bytes += handover.bytes();
                self.subscriptions.handover_bytes -= bytes;
            }
        }
        if !is_concerned {
            return false;
        }
        for frame in told {
            self.hand_to_all(key, &frame);
        }
        if is_told {
            self.hand_to_all(key, frame);
        }
        if self.subscriptions.handover_bytes > MOST_BYTES {
            self.give_up_handovers(key);
        }
        true
    }

    /// The topic takes too much memory while it passes on: whatever counts next, what is forgotten now may be missed or come twice.
    fn give_up_handovers(&mut self, key: TopicKey) {
        self.end_subscribers(key, |gap| gap == PubSubGap::Close);
        if !self.subscriptions.registry.contains(key) {
            return;
        }
        let topic = &self.subscriptions.registry[key];
        for index in 0..topic.handovers.len() {
            let topic = &self.subscriptions.registry[key];
            let handover = &topic.handovers[index];
            if !handover.is_over() && topic.is_on(handover.to) {
                self.switch(key, index);
            }
        }
        self.cancel_handovers(key, |_, _| true);
        self.place(key);
    }

    /// Whether both are one node, at two addresses.
    fn is_same(&self, one: NodeKey, other: NodeKey) -> bool {
        self.nodes[one].id == self.nodes[other].id
    }

    /// Whether `node` is a primary as far as is known: of one whose replica was promoted, `MOVED` may tell before the topology.
    pub(super) fn is_in_charge(&self, node: NodeKey) -> bool {
        self.nodes[node].primary
            && (self.snapshot.promotions.is_empty() || self.promoted_for(node).is_none())
    }

    /// The node that was promoted in place of this one, as only `MOVED` has told.
    fn promoted_for(&self, node: NodeKey) -> Option<&NodeId> {
        let id = self.nodes[node].id.as_ref()?;
        let mut promotions = self.snapshot.promotions.iter();
        let promotion = promotions.find(|promotion| promotion.from == *id)?;
        Some(&promotion.to)
    }

    /// The primary that has the messages about keys that `node` has, which is none any more: it follows that, or is it, at another
    /// address.
    pub(super) fn successor(&self, node: NodeKey) -> Option<NodeKey> {
        let id = self.nodes[node].id.as_ref()?;
        let entry = self.snapshot.node_by_id(id)?;
        let promoted = self.promoted_for(node);
        let id = promoted.or(entry.primary_id.as_ref()).unwrap_or(id);
        let is_it = |key: &&NodeKey| **key != node && self.nodes[**key].id.as_ref() == Some(id);
        self.nodes.primaries().iter().find(is_it).copied()
    }
}

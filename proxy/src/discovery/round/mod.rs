//! One round of questions: whom to ask next and when it is over. Pure; the time is an argument.
//!
//! ```text
//! start: ask `wanted` nodes --- all answered ----------------------------> done
//!   | one fails: ask the next      | 200 ms without enough answers: ask as many more
//!   | nobody left, no answer yet: ask the seeds
//!   +--- 400 ms and one answer, or 1.2 s, or nobody left and nothing outstanding ---> done
//! ```
//! A node that accepts connections but hangs costs a round 200 ms, not its time-out.

use std::collections::{HashSet, VecDeque};

use slotway_core::topology::{Address, NodeId, View};
use tokio::time::Instant;

use super::pace::Due;
use super::settings::{HEDGE_AFTER, ROUND_TIMEOUT};

/// Somebody to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) address: Address,
    /// The node expected there; `None` for seeds.
    pub(super) id: Option<NodeId>,
}

/// What a round wants next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask this one.
    Ask(Candidate),
    /// Bring in the seeds, by [`Round::add`].
    AskSeeds,
    /// Nothing to do until then, or until an answer comes.
    Wait(Instant),
    /// It is over.
    Done,
}

/// A round that is under way.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) due: Due,
    pub(super) views: Vec<View>,
    /// Views after which no more nodes are asked.
    wanted: usize,
    queue: VecDeque<Candidate>,
    met: HashSet<Address>,
    seeds: SeedUse,
    /// Questions asked and not answered.
    outstanding: usize,
    /// The part of `outstanding` that is not slow yet.
    prompt: usize,
    /// Names being looked up.
    look_ups: usize,
    /// Every view is of a node that was asked then or later.
    pub(super) started: Instant,
    hedge_at: Instant,
}

/// Whether the seeds are asked in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SeedUse {
    /// Not in this round: they were asked a moment ago.
    Never,
    /// If no other node answers.
    LastResort,
    /// From the start: the known nodes gave no usable answer lately, or none is known.
    AtOnce,
    /// They were.
    Done,
}

impl Round {
    pub(super) fn new(
        due: Due,
        wanted: usize,
        queue: Vec<Candidate>,
        seeds: SeedUse,
        now: Instant,
    ) -> Self {
        let mut round = Self {
            due,
            views: Vec::new(),
            wanted,
            queue: VecDeque::new(),
            met: HashSet::new(),
            seeds,
            outstanding: 0,
            prompt: 0,
            look_ups: 0,
            started: now,
            hedge_at: now + HEDGE_AFTER,
        };
        queue.into_iter().for_each(|candidate| round.add(candidate));
        round
    }

    /// Adds somebody to ask, unless already asked in this round.
    pub(super) fn add(&mut self, candidate: Candidate) {
        if self.met.insert(candidate.address.clone()) {
            self.queue.push_back(candidate);
        }
    }

    /// A name is being looked up for this round.
    pub(super) fn look_up_started(&mut self) {
        self.look_ups += 1;
    }

    /// The name is known; what it means was added before.
    pub(super) fn look_up_done(&mut self) {
        self.look_ups = self.look_ups.saturating_sub(1);
    }

    /// A question of this round was answered, with a view or not. A second view of the same node has no second vote.
    pub(super) fn answered(&mut self, view: Option<View>) {
        self.outstanding = self.outstanding.saturating_sub(1);
        // If it was a slow one, one question too many may be asked: cheaper than keeping account of each.
        self.prompt = self.prompt.saturating_sub(1);
        let Some(view) = view else {
            return;
        };
        let again =
            view.myself.is_some() && self.views.iter().any(|other| other.myself == view.myself);
        if !again {
            self.views.push(view);
        }
    }

    /// The next thing to do at `now`.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        let enough = self.views.len() >= self.wanted;
        let patient = now < self.started + HEDGE_AFTER * 2;
        let expired = now >= self.started + ROUND_TIMEOUT;
        if enough || expired || (!patient && !self.views.is_empty()) {
            return Step::Done;
        }
        if self.seeds == SeedUse::AtOnce {
            self.seeds = SeedUse::Done;
            return Step::AskSeeds;
        }
        if now >= self.hedge_at {
            self.prompt = 0;
            self.hedge_at = now + HEDGE_AFTER;
        }
        if self.views.len() + self.prompt < self.wanted {
            if let Some(candidate) = self.queue.pop_front() {
                self.outstanding += 1;
                self.prompt += 1;
                return Step::Ask(candidate);
            }
            if self.seeds == SeedUse::LastResort && self.views.is_empty() {
                self.seeds = SeedUse::Done;
                return Step::AskSeeds;
            }
        }
        if self.outstanding == 0 && self.look_ups == 0 && self.queue.is_empty() {
            return Step::Done;
        }
        Step::Wait(self.hedge_at.min(self.started + ROUND_TIMEOUT))
    }
}

#[cfg(test)]
mod tests;

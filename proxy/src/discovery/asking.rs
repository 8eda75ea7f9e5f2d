//! The asking half of discovery: whom a round asks, and what to make of each answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use slotway_core::topology::{Address, NodeState, Snapshot, View};
use tokio::task::JoinError;
use tokio::time::Instant;

use super::link::{self, ControlLink, QueryError};
use super::pace::Due;
use super::round::{Candidate, Round, SeedUse, Step};
use super::seeds;
use super::settings::{NODE_SPACING, QUERY_TIMEOUT, SEARCH_WIDTH, VIEWS_PER_ROUND};
use super::status::QueryFailure;
use super::{Discovery, Search};

/// While no node may be asked, look again after this time.
const BUDGET_RECHECK: Duration = Duration::from_millis(50);
/// A question is over after its time-out; one whose task was lost does not block its address for longer than this.
const IN_FLIGHT_MAX: Duration = QUERY_TIMEOUT.saturating_mul(2);

/// What a task of discovery ends with.
pub(super) enum Event {
    /// An answer to a question of the round with this number.
    Answer {
        round: u64,
        candidate: Candidate,
        result: Box<Result<(ControlLink, View), QueryError>>,
    },
    /// What the name of a seed means.
    Resolved {
        round: u64,
        seed: usize,
        found: io::Result<Vec<Address>>,
    },
}

impl<F: Fn(&Snapshot)> Discovery<F> {
    /// Starts a round if one is due and somebody may be asked.
    pub(super) fn start_round_when_due(&mut self, now: Instant) {
        let Some(due) = self.pace.due(now) else {
            return;
        };
        self.asked.retain(|_, asked| now < *asked + NODE_SPACING);
        self.in_flight
            .retain(|_, asked| now < *asked + IN_FLIGHT_MAX);
        let mut queue = self.candidates(due, now);
        let seeds_rested = self
            .seeds_asked
            .is_none_or(|asked| now >= asked + NODE_SPACING);
        let seeds = match self.search {
            _ if !seeds_rested => SeedUse::Never,
            Search::No => SeedUse::LastResort,
            Search::Seeds | Search::Wide => SeedUse::AtOnce,
        };
        if queue.is_empty() && seeds != SeedUse::AtOnce {
            return;
        }
        let wanted = match (due, self.search) {
            (_, Search::Wide) => SEARCH_WIDTH,
            (_, Search::Seeds) => {
                queue.truncate(1);
                SEARCH_WIDTH
            }
            // Whoever reports the successor first has the greater epoch: one view at a time, but often.
            (Due::Poll, Search::No) if !self.guard.is_waiting() => 1,
            (Due::Poll | Due::Requested(_) | Due::Timer, Search::No) => VIEWS_PER_ROUND,
        };
        self.pace.started(due);
        self.round_number += 1;
        self.patched_in_round.clear();
        if due != Due::Poll {
            self.causes.clear();
        }
        self.round = Some(Round::new(due, wanted, queue, seeds, now));
    }

    /// The known nodes that may be asked: first those that gave the evidence, then the others at random, those in bad health
    /// last. Polls go round: longest unasked first, and a primary that does not answer its clients comes last.
    fn candidates(&mut self, due: Due, now: Instant) -> Vec<Candidate> {
        let snapshot = self.snapshot.load_full();
        let mut nodes: Vec<_> = snapshot
            .nodes()
            .iter()
            .filter(|node| self.may_ask(&node.address, now))
            .collect();
        self.random.shuffle(&mut nodes);
        nodes.sort_by_key(|node| {
            let cause = due != Due::Poll && self.causes.contains(&node.id);
            let well = node.state == NodeState::Ok && !self.suspects.contains(&node.id);
            (!cause, !well, self.asked.get(&node.address).copied())
        });
        let candidate = |node: &slotway_core::topology::Node| Candidate {
            address: node.address.clone(),
            id: Some(node.id.clone()),
        };
        nodes.into_iter().map(candidate).collect()
    }

    /// Lets the round that is under way take its next steps; when something is due again.
    pub(super) fn drive_round(&mut self, now: Instant) -> Instant {
        while let Some(round) = &mut self.round {
            match round.step(now) {
                Step::Ask(candidate) => self.ask(candidate, now),
                Step::AskSeeds => self.ask_seeds(now),
                Step::Wait(until) => return until,
                Step::Done => self.finish_round(now),
            }
        }
        let due_at = self.pace.next();
        if due_at <= now {
            now + BUDGET_RECHECK
        } else {
            due_at
        }
    }

    fn ask(&mut self, candidate: Candidate, now: Instant) {
        let address = candidate.address.clone();
        self.asked.insert(address.clone(), now);
        self.in_flight.insert(address.clone(), now);
        let idle = self.idle.remove(&address);
        let (settings, round) = (Arc::clone(&self.settings), self.round_number);
        self.tasks.spawn(async move {
            let result = Box::new(link::ask(address, idle, settings).await);
            Event::Answer {
                round,
                candidate,
                result,
            }
        });
    }

    fn ask_seeds(&mut self, now: Instant) {
        self.seeds_asked = Some(now);
        self.add_seeds(self.seeds.ready(), now);
        let round_number = self.round_number;
        for (seed, address) in self.seeds.start_look_ups() {
            if let Some(round) = &mut self.round {
                round.look_up_started();
            }
            self.tasks.spawn_blocking(move || {
                let found = seeds::look_up(&address);
                Event::Resolved {
                    round: round_number,
                    seed,
                    found,
                }
            });
        }
    }

    fn add_seeds(&mut self, addresses: Vec<Address>, now: Instant) {
        for address in addresses {
            if self.may_ask(&address, now)
                && let Some(round) = &mut self.round
            {
                round.add(Candidate { address, id: None });
            }
        }
    }

    pub(super) fn take_event(&mut self, event: Result<Event, JoinError>) {
        let now = Instant::now();
        match event {
            Ok(Event::Answer {
                round,
                candidate,
                result,
            }) => {
                self.in_flight.remove(&candidate.address);
                let view = match *result {
                    Ok((link, view)) => self.take_view(&candidate, link, view),
                    Err(error) => {
                        self.note_failure(&candidate, &error, now);
                        None
                    }
                };
                // An answer to an earlier round is older than what that round ended with: it only shows that the node lives.
                if round == self.round_number
                    && let Some(round) = &mut self.round
                {
                    round.answered(view);
                }
            }
            Ok(Event::Resolved { round, seed, found }) => {
                let addresses = self.seeds.finish_look_up(seed, found);
                if addresses.is_empty() {
                    self.trouble = self.seeds.trouble(seed);
                }
                if round == self.round_number {
                    self.add_seeds(addresses, now);
                    if let Some(round) = &mut self.round {
                        round.look_up_done();
                    }
                }
            }
            Err(error) => tracing::error!(%error, "topology task failed"),
        }
    }

    /// The view, unless it comes from a stranger: the node at an address taken from the snapshot must be the one the snapshot
    /// names, or at least one of the same cluster that took the address over [T13].
    fn take_view(&mut self, candidate: &Candidate, link: ControlLink, view: View) -> Option<View> {
        if let (Some(expected), Some(found)) = (&candidate.id, &view.myself)
            && expected != found
        {
            let member = self.snapshot.load().index_of(found).is_some();
            if let Some(held_back) = self.throttle.pass("identity", Instant::now()) {
                let address = &candidate.address;
                tracing::warn!(%address, %expected, %found, member, held_back, "another node answers at this address");
            }
            if !member {
                self.status.count_failure(QueryFailure::Identity);
                return None;
            }
        }
        if let Some(myself) = &view.myself {
            self.suspects.remove(myself);
        }
        self.throttle.reset("auth");
        self.idle.insert(candidate.address.clone(), link);
        Some(view)
    }

    fn note_failure(&mut self, candidate: &Candidate, error: &QueryError, now: Instant) {
        self.status.count_failure(error.failure());
        let address = &candidate.address;
        tracing::debug!(%address, %error, "node gave no view");
        self.trouble = Some(format!("{address}: {error}; {}", error.advice()));
        let kind = match error {
            QueryError::Auth(_) => "auth",
            QueryError::Refused(_) => "refused",
            QueryError::Protocol => "protocol",
            QueryError::View(_) => "bad_view",
            // The rounds and the cluster's own failure detection tell of these.
            QueryError::Connect(_) | QueryError::Lost(_) | QueryError::Timeout => return,
        };
        if let Some(held_back) = self.throttle.pass(kind, now) {
            let advice = error.advice();
            tracing::warn!(%address, %error, advice, held_back, "node gave no usable view");
        }
    }
}

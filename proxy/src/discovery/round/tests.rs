//! Tests of the course of a round with a virtual clock.

use std::time::Duration;

use slotway_core::topology::{Address, AddressMap, View, cluster_nodes};

use super::*;

fn at(number: u16) -> Address {
    Address::new("10.0.0.1", number)
}

fn candidate(number: u16) -> Candidate {
    Candidate {
        address: at(number),
        id: None,
    }
}

fn queue(numbers: std::ops::RangeInclusive<u16>) -> Vec<Candidate> {
    numbers.map(candidate).collect()
}

fn view(number: u16) -> Option<View> {
    let text =
        format!("node{number} 10.0.0.1:{number}@1 myself,master - 0 0 1 connected 0-16383\n");
    Some(cluster_nodes::parse(text.as_bytes(), &at(number), &AddressMap::default()).unwrap())
}

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// The nodes the round asks at `now` before it waits or ends, and that last step.
fn asked(round: &mut Round, now: Instant) -> (Vec<u16>, Step) {
    let mut asked = Vec::new();
    loop {
        match round.step(now) {
            Step::Ask(candidate) => asked.push(candidate.address.port),
            step => return (asked, step),
        }
    }
}

#[test]
fn asks_as_many_as_wanted_and_ends_with_their_answers() {
    let now = Instant::now();
    let mut round = Round::new(Due::Timer, 3, queue(1..=6), SeedUse::LastResort, now);
    assert_eq!(
        asked(&mut round, now),
        (vec![1, 2, 3], Step::Wait(now + HEDGE_AFTER))
    );
    for number in 1..=2 {
        round.answered(view(number));
        assert_eq!(
            asked(&mut round, now + millis(1)),
            (vec![], Step::Wait(now + HEDGE_AFTER))
        );
    }
    round.answered(view(3));
    assert_eq!(round.step(now + millis(1)), Step::Done);
    assert_eq!(round.views.len(), 3);
}

#[test]
fn a_failed_answer_is_replaced_at_once() {
    let now = Instant::now();
    let mut round = Round::new(Due::Timer, 3, queue(1..=6), SeedUse::LastResort, now);
    asked(&mut round, now);
    round.answered(None);
    assert_eq!(asked(&mut round, now + millis(1)).0, [4]);
}

#[test]
fn hung_nodes_cost_a_hedge_and_not_their_time_out() {
    let now = Instant::now();
    let mut round = Round::new(Due::Timer, 3, queue(1..=6), SeedUse::LastResort, now);
    asked(&mut round, now);
    round.answered(view(1));
    assert_eq!(asked(&mut round, now + millis(199)).0, Vec::<u16>::new());
    assert_eq!(
        asked(&mut round, now + millis(200)),
        (vec![4, 5], Step::Wait(now + millis(400)))
    );
    round.answered(view(4));
    assert_eq!(asked(&mut round, now + millis(201)).0, Vec::<u16>::new());
    assert_eq!(
        round.step(now + millis(400)),
        Step::Done,
        "two views are enough by now"
    );
}

#[test]
fn without_any_answer_the_seeds_are_asked_and_the_round_expires() {
    let now = Instant::now();
    let mut round = Round::new(Due::Timer, 3, queue(1..=2), SeedUse::LastResort, now);
    assert_eq!(asked(&mut round, now), (vec![1, 2], Step::AskSeeds));
    round.add(candidate(9));
    round.add(candidate(1));
    assert_eq!(
        asked(&mut round, now),
        (vec![9], Step::Wait(now + HEDGE_AFTER)),
        "nobody is asked twice"
    );
    assert!(matches!(round.step(now + millis(1199)), Step::Wait(_)));
    assert_eq!(round.step(now + ROUND_TIMEOUT), Step::Done);
}

#[test]
fn seeds_are_left_alone_once_somebody_answered() {
    let now = Instant::now();
    let mut round = Round::new(Due::Timer, 3, queue(1..=2), SeedUse::LastResort, now);
    assert_eq!(round.step(now), Step::Ask(candidate(1)));
    round.answered(view(1));
    assert_eq!(asked(&mut round, now).0, [2]);
    round.answered(None);
    assert_eq!(round.step(now), Step::Done);
}

#[test]
fn a_search_begins_with_the_seeds_and_waits_for_their_names() {
    let now = Instant::now();
    let mut round = Round::new(Due::Timer, 16, Vec::new(), SeedUse::AtOnce, now);
    assert_eq!(round.step(now), Step::AskSeeds);
    round.look_up_started();
    assert_eq!(round.step(now), Step::Wait(now + HEDGE_AFTER));
    round.add(candidate(7));
    round.look_up_done();
    assert_eq!(asked(&mut round, now).0, [7]);
    round.answered(None);
    assert_eq!(round.step(now), Step::Done);
    let mut nobody = Round::new(Due::Timer, 16, Vec::new(), SeedUse::AtOnce, now);
    assert_eq!(nobody.step(now), Step::AskSeeds);
    assert_eq!(nobody.step(now), Step::Done, "no seed could be asked");
}

#[test]
fn a_node_reached_at_two_addresses_has_one_vote() {
    let now = Instant::now();
    let mut round = Round::new(Due::Timer, 3, queue(1..=3), SeedUse::Never, now);
    asked(&mut round, now);
    round.answered(view(1));
    round.answered(view(1));
    assert_eq!(round.views.len(), 1);
}

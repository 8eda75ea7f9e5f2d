//! Tests of the routing plans.

use super::*;
use crate::command::{Lookup, lookup};
use crate::resp::{DecodeStep, RequestDecoder, RequestLimits, write};

fn plan_of(words: &[&str]) -> Plan {
    let bytes: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let mut buffer = Vec::new();
    write::command(&mut buffer, &bytes);
    let mut decoder = RequestDecoder::default();
    assert!(matches!(
        decoder.decode(&buffer, &RequestLimits::DEFAULT),
        Ok(DecodeStep::Command { .. })
    ));
    let args = Args::new(&buffer, decoder.ranges());
    let Lookup::Known(spec) = lookup(args) else {
        panic!("{words:?} is in the table")
    };
    plan(spec, args, &mut KeyList::default(), 4)
}

#[test]
fn one_slot_goes_to_its_owner_unchanged_p1() {
    let (slot, key) = place(b"foo");
    assert_eq!(plan_of(&["GET", "foo"]), Plan::Single { slot, key });
    assert_eq!(plan_of(&["set", "foo", "bar"]), Plan::Single { slot, key });
    assert_eq!(plan_of(&["MGET", "foo"]), Plan::Single { slot, key });
    assert_eq!(
        plan_of(&["MGET", "{t}a", "{t}b"]),
        Plan::Single {
            slot: Slot::of_key(b"t"),
            key: KeyHash::of(b"{t}a").with(KeyHash::of(b"{t}b"))
        }
    );
    assert_eq!(
        plan_of(&["EVAL", "return 1", "1", "foo"]),
        Plan::Single { slot, key }
    );
}

#[test]
fn several_slots_split_or_are_refused_k7() {
    assert_eq!(plan_of(&["MGET", "a", "b", "c"]), Plan::Split);
    assert_eq!(plan_of(&["MSET", "a", "1", "b", "2"]), Plan::Split);
    assert_eq!(plan_of(&["DEL", "a", "b"]), Plan::Split);
    assert_eq!(
        plan_of(&["SINTER", "a", "b"]),
        Plan::Reject(Reject::CrossSlot)
    );
    assert_eq!(
        plan_of(&["RENAME", "a", "b"]),
        Plan::Reject(Reject::CrossSlot)
    );
    assert_eq!(
        plan_of(&["MSETNX", "a", "1", "b", "2"]),
        Plan::Reject(Reject::CrossSlot)
    );
    assert_eq!(
        plan_of(&["EVAL", "return 1", "2", "a", "b"]),
        Plan::Reject(Reject::CrossSlot)
    );
    assert_eq!(
        plan_of(&["MGET", "a", "b", "c", "d", "e"]),
        Plan::Reject(Reject::TooManyKeys)
    );
    assert_eq!(
        plan_of(&["MSET", "a", "1", "b"]),
        Plan::Reject(Reject::Arity)
    );
}

#[test]
fn keyless_commands() {
    assert_eq!(plan_of(&["DBSIZE"]), Plan::FanOut);
    assert_eq!(plan_of(&["KEYS", "*"]), Plan::FanOut);
    assert_eq!(plan_of(&["SCRIPT", "LOAD", "return 1"]), Plan::FanOut);
    assert_eq!(plan_of(&["SCAN", "0"]), Plan::Scan);
    assert_eq!(plan_of(&["EVAL", "return 1", "0"]), Plan::AnyPrimary);
    assert_eq!(plan_of(&["EVAL", "return 1", "x"]), Plan::AnyPrimary);
    assert_eq!(
        plan_of(&["PUBLISH", "foo", "m"]),
        Plan::Keyless {
            slot: Slot::of_key(b"foo")
        }
    );
    assert_eq!(plan_of(&["PING"]), Plan::Local);
}

#[test]
fn slot_numbers_are_not_keys_h6() {
    assert_eq!(
        plan_of(&["CLUSTER", "COUNTKEYSINSLOT", "12182"]),
        Plan::Keyless {
            slot: Slot::new(12182).unwrap()
        }
    );
    assert_eq!(
        plan_of(&["CLUSTER", "COUNTKEYSINSLOT", "16384"]),
        Plan::Reject(Reject::InvalidSlot)
    );
    assert_eq!(
        plan_of(&["CLUSTER", "GETKEYSINSLOT", "x", "1"]),
        Plan::Reject(Reject::InvalidSlot)
    );
}

#[test]
fn state_on_a_connection_is_refused_for_now() {
    for words in [
        &["MULTI"][..],
        &["WATCH", "a"],
        &["SUBSCRIBE", "c"],
        &["BLPOP", "a", "0"],
        &["WAIT", "1", "0"],
    ] {
        assert_eq!(plan_of(words), Plan::Reject(Reject::NotYet), "{words:?}");
    }
    assert_eq!(
        plan_of(&["XREAD", "BLOCK", "0", "STREAMS", "s", "0"]),
        Plan::Reject(Reject::NotYet)
    );
    assert!(matches!(
        plan_of(&["XREAD", "STREAMS", "s", "0"]),
        Plan::Single { .. }
    ));
    assert_eq!(plan_of(&["SHUTDOWN"]), Plan::Reject(Reject::NotSupported));
}

#[test]
fn key_hashes_tell_keys_apart() {
    assert!(KeyHash::of(b"a").may_share_key(KeyHash::of(b"a")));
    assert!(!KeyHash::of(b"{t}a").may_share_key(KeyHash::of(b"{t}b")));
    assert!(!KeyHash::of(b"{tag}long-key-1").may_share_key(KeyHash::of(b"{tag}long-key-2")));
    assert!(KeyHash::ALL.may_share_key(KeyHash::of(b"a")));
    assert!(KeyHash::ALL.may_share_key(KeyHash::ALL));
}

#[test]
fn several_keys_conflict_with_each_of_them_and_few_others() {
    let name = |number: u32| KeyHash::of(format!("{{tag}}key-{number}").as_bytes());
    let three = name(1).with(name(2)).with(name(3));
    assert!(
        (1..=3)
            .all(|number| three.may_share_key(name(number)) && name(number).may_share_key(three))
    );
    assert!(three.may_share_key(name(3).with(name(9))));
    assert_eq!(
        name(1).with(name(1)),
        name(1),
        "the same key twice is one key"
    );
    let strangers = (100..1100)
        .filter(|number| three.may_share_key(name(*number)))
        .count();
    assert!(strangers < 120, "{strangers} of 1000 other keys conflict");
}

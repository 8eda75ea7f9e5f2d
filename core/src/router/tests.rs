//! Tests of the routing plans.

use super::*;
use crate::command::{Lookup, lookup};
use crate::resp::{DecodeStep, RequestDecoder, RequestLimits, write};

const SLOTS: Keyspace = Keyspace {
    split_max_keys: 4,
    undivided: false,
};

const UNDIVIDED: Keyspace = Keyspace {
    undivided: true,
    ..SLOTS
};

fn plan_of(words: &[&str]) -> Plan {
    plan_by(plan, words, &SLOTS)
}

type Planner = fn(&Spec, Args<'_>, &mut KeyList, &Keyspace) -> Plan;

fn plan_by(plan: Planner, words: &[&str], space: &Keyspace) -> Plan {
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
    plan(spec, args, &mut KeyList::default(), space)
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
        Plan::Script { slot, key }
    );
    assert_eq!(
        plan_of(&["EVALSHA", "0", "1", "foo"]),
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
    for words in [&["MULTI"][..], &["WATCH", "a"]] {
        assert_eq!(plan_of(words), Plan::Reject(Reject::NotYet), "{words:?}");
    }
    assert_eq!(plan_of(&["SHUTDOWN"]), Plan::Reject(Reject::NotSupported));
    assert_eq!(plan_of(&["WAIT", "1", "0"]), Plan::Acks);
}

#[test]
fn what_may_wait_gets_a_connection_of_its_own_b1() {
    let slot = Some(Slot::of_key(b"{t}a"));
    for call in [
        "BLPOP {t}a 0",
        "BRPOP {t}a {t}b 1",
        "BRPOPLPUSH {t}a {t}b 1",
        "BLMOVE {t}a {t}b LEFT RIGHT 1",
        "BLMPOP 1 2 {t}a {t}b LEFT",
        "BZMPOP 1 1 {t}a MIN",
        "BZPOPMIN {t}a 1",
        "BZPOPMAX {t}a 1",
        "XREAD BLOCK 0 STREAMS {t}a 0",
        "XREADGROUP GROUP g c COUNT 1 BLOCK 0 STREAMS {t}a >",
    ] {
        let words: Vec<&str> = call.split(' ').collect();
        assert_eq!(plan_of(&words), Plan::Blocking { slot }, "{call}");
    }
    assert!(matches!(
        plan_of(&["XREAD", "STREAMS", "s", "0"]),
        Plan::Single { .. }
    ));
    for words in [
        &["BLPOP", "a", "b", "0"][..],
        &["XREAD", "BLOCK", "0", "STREAMS", "a", "b", "0", "0"],
    ] {
        assert_eq!(plan_of(words), Plan::Reject(Reject::CrossSlot), "{words:?}");
    }
    // What no server takes is refused by one, in its own words [K4]. Should it wait after all, nobody waits behind it.
    assert_eq!(
        plan_of(&["BLMPOP", "1", "many", "a", "LEFT"]),
        Plan::Blocking { slot: None }
    );
    assert_eq!(plan_of(&["BLPOP", "a"]), Plan::Reject(Reject::Arity));
}

#[test]
fn subscriptions_are_the_proxys_own_and_counted_at_all_nodes() {
    for words in [
        &["SUBSCRIBE", "c"][..],
        &["PSUBSCRIBE", "p*", "q"],
        &["SSUBSCRIBE", "a", "b"],
        &["UNSUBSCRIBE"],
        &["SUNSUBSCRIBE"],
    ] {
        assert_eq!(plan_of(words), Plan::Subscription, "{words:?}");
    }
    assert_eq!(plan_of(&["SUBSCRIBE"]), Plan::Reject(Reject::Arity));
    for words in [
        &["PUBSUB", "CHANNELS"][..],
        &["PUBSUB", "NUMSUB", "a"],
        &["PUBSUB", "SHARDNUMSUB"],
        &["PUBSUB", "SHARDNUMSUB", "a", "b"],
    ] {
        assert_eq!(plan_of(words), Plan::FanOut, "{words:?}");
    }
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

#[test]
fn pairs_without_the_last_value_fail_at_exec_like_on_a_server() {
    for command in ["MSET", "MSETNX"] {
        let words = [command, "{t}a", "1", "{t}b"];
        assert_eq!(plan_of(&words), Plan::Reject(Reject::Arity));
        let (slot, key) = place(b"{t}a");
        assert_eq!(
            plan_by(plan_queued, &words, &SLOTS),
            Plan::Single { slot, key }
        );
        assert_eq!(
            plan_by(plan_queued, &[command, "a", "1", "b"], &SLOTS),
            Plan::Reject(Reject::CrossSlot)
        );
        assert_eq!(
            plan_by(plan_queued, &[command, "a"], &SLOTS),
            Plan::Reject(Reject::Arity)
        );
    }
}

#[test]
fn nothing_is_split_or_refused_where_one_server_has_all_keys_h7() {
    let of = |call: &str| {
        let words: Vec<&str> = call.split(' ').collect();
        plan_by(plan, &words, &UNDIVIDED)
    };
    let both = KeyHash::of(b"a").with(KeyHash::of(b"b"));
    let slot = Slot::of_key(b"a");
    for call in [
        "MGET a b",
        "MSET a 1 b 2",
        "MSETNX a 1 b 2",
        "DEL a b",
        "SUNIONSTORE a b",
        "RENAME a b",
    ] {
        assert_eq!(of(call), Plan::Single { slot, key: both }, "{call}");
    }
    assert_eq!(of("EVAL return 2 a b"), Plan::Script { slot, key: both });
    assert!(matches!(of("MGET a b c d e f"), Plan::Single { .. }));
    for call in [
        "DBSIZE",
        "KEYS *",
        "FLUSHALL",
        "SCRIPT FLUSH",
        "RANDOMKEY",
        "SCAN 0",
        "PUBSUB SHARDNUMSUB a b",
    ] {
        assert_eq!(of(call), Plan::AnyPrimary, "{call}");
    }
    let slot = Some(slot);
    assert_eq!(of("BLPOP a b 0"), Plan::Blocking { slot });
    let watch = plan_by(plan_watch, &["WATCH", "a", "b"], &UNDIVIDED);
    assert!(matches!(watch, Plan::Single { .. }));
    let odd = plan_by(plan_queued, &["MSET", "a", "1", "b"], &UNDIVIDED);
    assert!(matches!(odd, Plan::Single { .. }));
}

//! Key positions, rule by rule.

use super::super::key_spec::{after_keyword, parse_integer};
use super::super::*;
use super::KeyOutcome::{Keys, NoKeys, OddArguments, Verbatim};
use super::{Request, keys_of, known};
use proptest::prelude::*;

/// Each line: a request, then the argument indexes that are keys.
fn assert_keys(cases: &[(&str, &[u32])]) {
    for (line, expected) in cases {
        let outcome = if expected.is_empty() { NoKeys } else { Keys };
        assert_eq!(keys_of(line), (outcome, expected.to_vec()), "{line}");
    }
}

fn assert_outcome(expected: KeyOutcome, lines: &[&str]) {
    for line in lines {
        assert_eq!(keys_of(line), (expected, vec![]), "{line}");
    }
}

#[test]
fn k3_ranges_count_from_the_begin_and_from_the_end() {
    assert_keys(&[
        ("get a", &[1]),
        ("del a b c", &[1, 2, 3]),
        ("blpop a b 0", &[1, 2]),
        ("bzpopmin a 0", &[1]),
        ("bitop AND d a b", &[2, 3, 4]),
        ("lcs a b LEN", &[1, 2]),
        ("object encoding a", &[2]),
        ("xgroup create a g $", &[2]),
        ("memory usage a", &[2]),
        ("sdiffstore d a b", &[1, 2, 3]),
        ("copy a b", &[1, 2]),
        ("rename a b", &[1, 2]),
        ("blmove a b LEFT RIGHT 0", &[1, 2]),
        ("watch a b", &[1, 2]),
        ("ping", &[]),
        ("publish c m", &[]),
    ]);
}

#[test]
fn k3_the_rest_may_be_empty() {
    assert_keys(&[
        ("pfmerge d", &[1]),
        ("pfmerge d a b", &[1, 2, 3]),
        ("sunsubscribe", &[]),
    ]);
}

#[test]
fn k3_keynum_counts_keys() {
    assert_keys(&[
        ("eval x 2 a b c", &[3, 4]),
        ("eval x 0 a", &[]),
        ("fcall_ro f 1 a", &[3]),
        ("zunionstore d 2 a b WEIGHTS 1 2", &[1, 3, 4]),
        ("zinter 1 a WITHSCORES", &[2]),
        ("sintercard 2 a b LIMIT 1", &[2, 3]),
        ("lmpop 1 a LEFT", &[2]),
        ("blmpop 0 2 a b LEFT", &[3, 4]),
        ("bzmpop 0 1 a MIN", &[3]),
        ("msetex 2 a 1 b 2 EX 5", &[2, 4]),
    ]);
}

#[test]
fn k4_a_count_that_is_no_count_goes_to_the_server() {
    let max = i64::MAX.to_string();
    for count in [
        "x",
        "-1",
        "9",
        "+1",
        "01",
        "''",
        "99999999999999999999",
        &max,
    ] {
        for line in [
            format!("eval s {count} a"),
            format!("zunionstore d {count} a"),
            format!("lmpop {count} a LEFT"),
            format!("msetex {count} a 1 EX 5"),
        ] {
            assert_outcome(Verbatim, &[&line]);
        }
    }
    assert_outcome(Verbatim, &["msetex 2 a 1", "zunionstore d 2 a", "eval s 1"]);
    let blank = Request::new(["eval", "s", "1 ", "a"]);
    let mut keys = KeyList::new();
    assert_eq!(
        extract_keys(id::EVAL.spec(), blank.args(), &mut keys),
        Verbatim
    );
}

#[test]
fn k4_integers_are_those_of_the_servers() {
    for (text, value) in [
        ("0", 0),
        ("1", 1),
        ("-1", -1),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
    ] {
        assert_eq!(parse_integer(text.as_bytes()), Some(value));
    }
    for text in [
        "",
        "-",
        "+1",
        "01",
        "-0",
        "-01",
        "00",
        " 1",
        "1 ",
        "1a",
        "9223372036854775808",
        "-9223372036854775809",
        "１",
    ] {
        assert_eq!(parse_integer(text.as_bytes()), None, "{text:?}");
    }
}

#[test]
fn k5_channels_of_sharded_pubsub_route_like_keys() {
    assert_keys(&[
        ("spublish c m", &[1]),
        ("ssubscribe a b", &[1, 2]),
        ("clusterscan 0", &[1]),
        ("subscribe a b", &[]),
    ]);
}

#[test]
fn k6_keyless_calls_of_commands_with_keys() {
    assert_keys(&[
        ("eval x 0", &[]),
        ("sintercard 0 a", &[]),
        ("stralgo LCS STRINGS a b", &[]),
    ]);
}

#[test]
fn k3_streams_follow_the_options() {
    assert_keys(&[
        ("xread STREAMS a b 0 0", &[2, 3]),
        ("xread COUNT 2 BLOCK 0 streams a 0", &[6]),
        ("xread COUNT STREAMS STREAMS a 0", &[4]),
        ("xreadgroup GROUP STREAMS STREAMS STREAMS a >", &[5]),
        (
            "xreadgroup COUNT 1 GROUP g c NOACK BLOCK 5 CLAIM 9 STREAMS a b > >",
            &[12, 13],
        ),
        ("xreadgroup GROUP BLOCK COUNT STREAMS STREAMS STREAMS", &[5]),
    ]);
    assert_outcome(
        Verbatim,
        &[
            "xread STREAMS a b 0",
            "xread STREAMS",
            "xread a b c",
            "xread COUNT 1",
            "xread BLOCK STREAMS a 0",
            "xreadgroup GROUP g STREAMS a >",
        ],
    );
}

#[test]
fn blocking_is_decided_by_the_option_not_by_the_word() {
    let class = |line: &str| effective_class(known(line), Request::of(line).args());
    assert_eq!(class("xread BLOCK 0 STREAMS a 0"), Class::Blocking);
    assert_eq!(class("xread COUNT 1 block 5 STREAMS a 0"), Class::Blocking);
    assert_eq!(class("xread STREAMS BLOCK 0"), Class::SameSlot);
    assert_eq!(class("xread COUNT BLOCK STREAMS a 0"), Class::SameSlot);
    assert_eq!(
        class("xreadgroup GROUP BLOCK BLOCK STREAMS a >"),
        Class::SameSlot
    );
    assert_eq!(
        class("xreadgroup GROUP g c BLOCK 1 STREAMS a >"),
        Class::Blocking
    );
    assert_eq!(class("get BLOCK"), Class::Single);
    assert_eq!(class("blpop a 0"), Class::Blocking);
}

#[test]
fn k3_sort_takes_the_last_store() {
    assert_keys(&[
        ("sort a", &[1]),
        ("sort a BY STORE GET STORE LIMIT 0 STORE STORE d", &[1, 10]),
        ("sort a STORE d STORE e", &[1, 5]),
        ("sort a STORE STORE", &[1, 3]),
        ("sort a DESC STORE", &[1]),
        ("sort_ro a BY STORE", &[1]),
    ]);
}

#[test]
fn k3_georadius_takes_the_last_destination() {
    assert_keys(&[
        ("georadius a 1 2 3 m", &[1]),
        ("georadius a 1 2 3 m STORE b STOREDIST c", &[1, 9]),
        ("georadius a 1 2 3 m STORE STORE", &[1, 7]),
        ("georadius a 1 2 3 m STORE", &[1]),
        ("georadiusbymember a m 3 m storedist b", &[1, 6]),
        ("georadiusbymember a STORE 3 m", &[1]),
        ("georadius_ro a 1 2 3 m", &[1]),
    ]);
}

#[test]
fn k3_migrate_and_stralgo() {
    assert_keys(&[
        ("migrate h 1 a 0 5", &[3]),
        ("migrate h 1 '' 0 5 COPY KEYS a b", &[8, 9]),
        ("migrate h 1 '' 0 5 AUTH KEYS KEYS a", &[9]),
        ("migrate h 1 '' 0 5 AUTH2 KEYS KEYS KEYS a", &[10]),
        ("migrate h 1 '' 0 5", &[]),
        ("stralgo LCS KEYS a b IDX", &[3, 4]),
        ("stralgo LCS STRINGS KEYS b", &[]),
    ]);
    assert_outcome(
        Verbatim,
        &[
            "migrate h 1 a 0 5 KEYS b",
            "migrate h 1 '' 0 5 KEYS",
            "stralgo LCS KEYS a",
        ],
    );
}

#[test]
fn k3_pairs_must_be_pairs() {
    assert_keys(&[
        ("mset a 1", &[1]),
        ("mset a 1 b 2", &[1, 3]),
        ("msetnx a 1 b 2 a 3", &[1, 3, 5]),
    ]);
    assert_outcome(
        OddArguments,
        &["mset a", "mset a 1 b", "msetnx a 1 b", "mset"],
    );
}

#[test]
fn k3_a_keyword_search_may_run_downwards() {
    let request = Request::of("x KEYS a KEYS b");
    assert_eq!(after_keyword(request.args(), "keys", 1), Some(2));
    assert_eq!(after_keyword(request.args(), "keys", -2), Some(4));
    assert_eq!(after_keyword(request.args(), "keys", -3), Some(2));
    assert_eq!(after_keyword(request.args(), "none", -2), None);
    assert_eq!(after_keyword(request.args(), "keys", -9), None);
}

#[test]
fn the_list_is_reused_without_allocating() {
    let request = Request::of("mget a b c d");
    let mut keys = KeyList::new();
    extract_keys(id::MGET.spec(), request.args(), &mut keys);
    let before = keys.as_slice().as_ptr();
    for _ in 0..3 {
        assert_eq!(
            extract_keys(id::MGET.spec(), request.args(), &mut keys),
            Keys
        );
        assert_eq!(
            (keys.as_slice(), keys.as_slice().as_ptr()),
            (&[1, 2, 3, 4][..], before)
        );
    }
    keys.clear();
    assert!(keys.as_slice().is_empty());
}

/// Words that mean something to some hand rule, among others.
fn word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec![
            "STREAMS",
            "BLOCK",
            "COUNT",
            "GROUP",
            "NOACK",
            "CLAIM",
            "STORE",
            "STOREDIST",
            "LIMIT",
            "GET",
            "BY",
            "KEYS",
            "STRINGS",
            "AUTH",
            "AUTH2",
            "0",
            "1",
            "2",
            "3",
            "-1",
            "9223372036854775807",
            "",
            "k",
        ])
        .prop_map(|word| word.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn k9_extraction_is_total(command in 0..COMMAND_COUNT, words in prop::collection::vec(word(), 0..14)) {
        let spec = &TABLE[command];
        let names = spec.name.split('|').map(|name| name.as_bytes().to_vec());
        let request = Request::new(names.chain(words));
        let args = request.args();
        let mut keys = KeyList::new();
        let outcome = extract_keys(spec, args, &mut keys);
        prop_assert_eq!(outcome == Keys, !keys.as_slice().is_empty());
        for &index in keys.as_slice() {
            prop_assert!(index > 0 && (index as usize) < args.len());
        }
        // No key is named twice: an argument is a key once.
        let mut sorted = keys.as_slice().to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        prop_assert_eq!(sorted.len(), keys.as_slice().len());
        if spec.fixed_key != 0 && outcome == Keys {
            prop_assert_eq!(keys.as_slice(), &[u32::from(spec.fixed_key)]);
        }
        prop_assert!(!spec.keys.is_empty() || outcome == NoKeys);
        let class = effective_class(spec, args);
        prop_assert!(class == spec.class || (spec.blocks_if_block && class == Class::Blocking));
    }

    #[test]
    fn k9_values_do_not_move_the_keys_of_fixed_positions(words in prop::collection::vec(word(), 3..9)) {
        let request = Request::new([b"mget".to_vec()].into_iter().chain(words.clone()));
        let mut keys = KeyList::new();
        prop_assert_eq!(extract_keys(id::MGET.spec(), request.args(), &mut keys), Keys);
        let expected: Vec<u32> = (1..=u32::try_from(words.len()).unwrap()).collect();
        prop_assert_eq!(keys.as_slice(), expected.as_slice());
    }

    #[test]
    fn k3_xread_gives_the_first_half_after_streams(streams in 1..6_usize, tail in prop::collection::vec(word(), 12)) {
        let words = [b"xread".to_vec(), b"count".to_vec(), b"1".to_vec(), b"streams".to_vec()];
        let request = Request::new(words.into_iter().chain(tail.into_iter().take(2 * streams)));
        let mut keys = KeyList::new();
        prop_assert_eq!(extract_keys(id::XREAD.spec(), request.args(), &mut keys), Keys);
        let expected: Vec<u32> = (4..4 + u32::try_from(streams).unwrap()).collect();
        prop_assert_eq!(keys.as_slice(), expected.as_slice());
    }
}

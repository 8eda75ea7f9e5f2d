//! The numbers and texts here are those of Redis 7.0, 8.2 and Valkey 9.1.

use super::double::DoubleFormat;
use super::hyperloglog::{Fault, Registers};
use super::*;
use crate::merge::PartOutcome;

fn merged(
    name: &str,
    keys: usize,
    tail: &[&[u8]],
    replies: &[&[u8]],
    protocol: Protocol,
) -> String {
    let spec = crate::command::find(name.as_bytes()).expect("a command");
    let algebra = Algebra::new(spec, keys, tail).expect("algebra");
    let positions: Vec<[u32; 1]> = (0..).take(replies.len()).map(|it| [it]).collect();
    let parts: Vec<Part<'_>> = replies
        .iter()
        .zip(&positions)
        .map(|(reply, positions)| Part {
            reply,
            positions,
            outcome: PartOutcome::Answered,
        })
        .collect();
    let mut out = Vec::new();
    algebra.merge(&parts, DoubleFormat::Shortest, protocol, &mut out);
    String::from_utf8(out).expect("text").replace("\r\n", " ")
}

#[test]
fn scores_are_printed_as_by_each_version() {
    for (value, old, new) in [
        (0.0, "0", "0"),
        (-0.0, "-0", "-0"),
        (1.5, "1.5", "1.5"),
        (0.1 + 0.2, "0.30000000000000004", "0.30000000000000004"),
        (0.1, "0.10000000000000001", "0.1"),
        (1e-7, "9.9999999999999995e-08", "1e-7"),
        (1e15, "1000000000000000", "1000000000000000"),
        (
            1_000_000_000_000_002.0,
            "1000000000000002",
            "1000000000000002",
        ),
        (
            123_456_789_012_345_678.0,
            "1.2345678901234568e+17",
            "123456789012345680",
        ),
        (-1e16, "-10000000000000000", "-10000000000000000"),
        (1e20, "1e+20", "1e+20"),
        (-2.5e300, "-2.5000000000000001e+300", "-2.5e+300"),
        (f64::NEG_INFINITY, "-inf", "-inf"),
    ] {
        assert_eq!(DoubleFormat::SeventeenDigits.text(value), old);
        assert_eq!(DoubleFormat::Shortest.text(value), new);
    }
    assert_eq!(
        DoubleFormat::of_version(Some("7.0.15")),
        DoubleFormat::SeventeenDigits
    );
    assert_eq!(
        DoubleFormat::of_version(Some("7.2.4")),
        DoubleFormat::Shortest
    );
    assert_eq!(DoubleFormat::of_version(None), DoubleFormat::Shortest);
}

proptest::proptest! {
    #[test]
    fn printed_scores_read_back_as_the_same_number(bits: u64) {
        let value = f64::from_bits(bits);
        if value.is_finite() {
            for format in [DoubleFormat::SeventeenDigits, DoubleFormat::Shortest] {
                let text = format.text(value);
                proptest::prop_assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(bits), "{}", text);
            }
        }
    }

    #[test]
    fn sketches_of_any_bytes_do_not_panic(bytes: Vec<u8>) {
        let string = [b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0", bytes.as_slice()].concat();
        let mut registers = Registers::default();
        let _ = registers.merge(&string);
        let _ = registers.count();
    }
}

#[test]
fn sets_are_joined_in_both_protocols() {
    let (ab, bc): (&[u8], &[u8]) = (
        b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
        b"*2\r\n$1\r\nb\r\n$1\r\nc\r\n",
    );
    let both = [ab, bc];
    let resp2 = |name, tail: &[&[u8]]| merged(name, 2, tail, &both, Protocol::Resp2);
    assert_eq!(resp2("sunion", &[]), "*3 $1 a $1 b $1 c ");
    assert_eq!(resp2("sinter", &[]), "*1 $1 b ");
    assert_eq!(resp2("sdiff", &[]), "*1 $1 a ");
    assert_eq!(resp2("sintercard", &[]), ":1 ");
    let same = [ab, ab];
    let limited = merged("sintercard", 2, &[b"LIMIT", b"1"], &same, Protocol::Resp2);
    assert_eq!(limited, ":1 ");
    let resp3: [&[u8]; 2] = [b"~1\r\n$1\r\na\r\n", b"~0\r\n"];
    assert_eq!(merged("sinter", 2, &[], &resp3, Protocol::Resp3), "~0 ");
}

#[test]
fn infinities_of_both_signs_give_zero() {
    let replies: [&[u8]; 2] = [
        b"*2\r\n$1\r\na\r\n$3\r\ninf\r\n",
        b"*2\r\n$1\r\na\r\n$4\r\n-inf\r\n",
    ];
    for name in ["zunion", "zinter"] {
        let whole = merged(name, 2, &[b"WITHSCORES"], &replies, Protocol::Resp2);
        assert_eq!(whole, "*2 $1 a $1 0 ");
        let least = merged(
            name,
            2,
            &[b"aggregate", b"MIN", b"WITHSCORES"],
            &replies,
            Protocol::Resp2,
        );
        assert_eq!(least, "*2 $1 a $4 -inf ");
    }
}

#[test]
fn the_type_of_any_key_comes_before_syntax() {
    let replies: [&[u8]; 2] = [b"-ERR syntax error\r\n", b"-WRONGTYPE x\r\n"];
    assert_eq!(
        merged("zunion", 2, &[b"?"], &replies, Protocol::Resp2),
        "-WRONGTYPE x "
    );
}

#[test]
fn only_plain_zeros_and_infinities_are_multiplied_here() {
    for (weight, value) in [
        ("0", Some(0.0)),
        ("-0.00e7", Some(0.0)),
        ("inf", Some(f64::INFINITY)),
        ("-Infinity", Some(f64::NEG_INFINITY)),
        ("1e-400", None),
        ("1e400", None),
        ("nan", None),
        ("2", None),
    ] {
        assert_eq!(extreme(weight.as_bytes()), value, "{weight}");
    }
}

#[test]
fn what_is_no_sketch_is_told_apart() {
    let mut registers = Registers::default();
    assert_eq!(registers.merge(b"x"), Err(Fault::NotOne));
    assert_eq!(
        registers.merge(b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\0"),
        Err(Fault::Corrupt)
    );
    assert_eq!(
        registers.merge(b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff"),
        Ok(())
    );
    assert_eq!(registers.count(), 0);
}

// === Against a naive model ===

type Naive = std::collections::BTreeMap<String, i32>;

fn zset() -> impl proptest::strategy::Strategy<Value = Naive> {
    proptest::collection::btree_map("[a-f]", -5..5, 0..6)
}

fn array(words: &[String]) -> String {
    let words = words
        .iter()
        .map(|word| format!("${}\r\n{word}\r\n", word.len()));
    let words: Vec<String> = words.collect();
    format!("*{}\r\n{}", words.len(), words.concat())
}

fn flat(entries: &[(String, i32)]) -> Vec<String> {
    let pairs = entries
        .iter()
        .map(|(member, score)| [member.clone(), score.to_string()]);
    pairs.flatten().collect()
}

proptest::proptest! {
    #[test]
    fn sorted_sets_are_joined_as_by_a_naive_model(
        sets in proptest::collection::vec(zset(), 1..5),
        is_union: bool,
        how in 0_usize..3,
    ) {
        let replies: Vec<String> = sets
            .iter()
            .map(|set| array(&flat(&set.clone().into_iter().collect::<Vec<_>>())))
            .collect();
        let replies: Vec<&[u8]> = replies.iter().map(String::as_bytes).collect();
        let word: &[u8] = [&b"SUM"[..], b"MIN", b"MAX"][how];
        let name = if is_union { "zunion" } else { "zinter" };
        let ours = merged(name, sets.len(), &[b"AGGREGATE", word, b"WITHSCORES"], &replies, Protocol::Resp2);

        let mut expected: Vec<(String, i32)> = Vec::new();
        for member in sets.iter().flat_map(|set| set.keys()).collect::<std::collections::BTreeSet<_>>() {
            let scores: Vec<i32> = sets.iter().filter_map(|set| set.get(member).copied()).collect();
            let score = match how {
                0 => Some(scores.iter().sum()),
                1 => scores.iter().min().copied(),
                _ => scores.iter().max().copied(),
            };
            if is_union || scores.len() == sets.len() {
                expected.push((member.clone(), score.unwrap_or_default()));
            }
        }
        expected.sort_by_key(|(member, score)| (*score, member.clone()));
        proptest::prop_assert_eq!(ours, array(&flat(&expected)).replace("\r\n", " "));
    }

    #[test]
    fn sets_are_joined_as_by_a_naive_model(sets in proptest::collection::vec(zset(), 1..5), which in 0_usize..4) {
        let sets: Vec<Vec<String>> = sets.iter().map(|set| set.keys().cloned().collect()).collect();
        let replies: Vec<String> = sets.iter().map(|set| array(set)).collect();
        let replies: Vec<&[u8]> = replies.iter().map(String::as_bytes).collect();
        let name = ["sunion", "sinter", "sdiff", "sintercard"][which];
        let ours = merged(name, sets.len(), &[], &replies, Protocol::Resp2);
        let all: std::collections::BTreeSet<&String> = sets.iter().flatten().collect();
        let wanted = |member: &String| match which {
            0 => true,
            2 => sets[0].contains(member) && !sets[1..].iter().any(|set| set.contains(member)),
            _ => sets.iter().all(|set| set.contains(member)),
        };
        let expected: Vec<String> = all.into_iter().filter(|member| wanted(member)).cloned().collect();
        if which == 3 {
            proptest::prop_assert_eq!(ours, format!(":{} ", expected.len()));
        } else {
            let mut words: Vec<&str> = ours.split(' ').skip(1).filter(|word| !word.starts_with('$') && !word.is_empty()).collect();
            words.sort_unstable();
            proptest::prop_assert_eq!(words, expected);
        }
    }
}

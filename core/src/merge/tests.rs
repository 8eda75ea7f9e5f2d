//! The merge rules, with the bytes that nodes send.

use proptest::prelude::*;

use super::{Part, PartOutcome, Rule, merge};
use crate::command::learned::{Learner, Told};
use crate::command::{Class, TABLE};
use crate::slot::Slot;

fn rule(name: &str) -> Rule {
    Rule::for_name(name).unwrap()
}

fn answered(reply: &[u8]) -> Part<'_> {
    Part {
        reply,
        positions: &[],
        outcome: PartOutcome::Answered,
    }
}

fn not_executed(reply: &[u8]) -> Part<'_> {
    Part {
        outcome: PartOutcome::NotExecuted,
        ..answered(reply)
    }
}

fn uncertain() -> Part<'static> {
    Part {
        outcome: PartOutcome::Uncertain,
        ..answered(b"-UNCERTAIN proxy: lost\r\n")
    }
}

fn run(name: &str, parts: &[Part<'_>], total: usize) -> String {
    let mut out = b"before".to_vec();
    merge(rule(name), parts, total, &|_, _| true, &mut out);
    let out = String::from_utf8(out).unwrap();
    out.strip_prefix("before").unwrap().to_owned()
}

#[track_caller]
fn check(name: &str, replies: &[&str], merged: &str) {
    let parts: Vec<Part<'_>> = replies
        .iter()
        .map(|reply| answered(reply.as_bytes()))
        .collect();
    assert_eq!(run(name, &parts, 0), merged, "{name} of {replies:?}");
}

const UNEXPECTED: &str = "-ERR proxy: unexpected reply of a node\r\n";
const UNEXPECTED_WRITE: &str = "-UNCERTAIN proxy: unexpected reply of a node, the command may or may not have been executed\r\n";

#[test]
fn every_split_and_fanned_out_command_has_a_rule() {
    let classes = [Class::Split, Class::FanMasters];
    let without: Vec<&str> = TABLE
        .iter()
        .filter(|spec| {
            classes.contains(&spec.class) && spec.subcommands == 0 && Rule::for_spec(spec).is_none()
        })
        .map(|spec| spec.name)
        .collect();
    assert_eq!(without, [""; 0]);
}

#[test]
fn a4_the_least_number_of_all_is_what_is_certain() {
    check("wait", &[":2\r\n", ":0\r\n", ":1\r\n"], ":0\r\n");
    check(
        "waitaof",
        &["*2\r\n:1\r\n:0\r\n", "*2\r\n:0\r\n:2\r\n"],
        "*2\r\n:0\r\n:0\r\n",
    );
    check(
        "waitaof",
        &["*2\r\n:1\r\n:0\r\n", "*1\r\n:0\r\n"],
        UNEXPECTED,
    );
    check(
        "wait",
        &[":2\r\n", "-ERR timeout is negative\r\n"],
        "-ERR timeout is negative\r\n",
    );
}

#[test]
fn q10_channels_are_a_union_and_their_subscribers_a_sum() {
    let parts = [
        "*2\r\n$1\r\na\r\n$1\r\nb\r\n",
        "*0\r\n",
        "*2\r\n$1\r\nb\r\n$1\r\nc\r\n",
    ];
    let all = "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n";
    check("pubsub|channels", &parts, all);
    check("pubsub|shardchannels", &["*0\r\n", "*0\r\n"], "*0\r\n");
    let parts = [
        "*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:0\r\n",
        "*4\r\n$1\r\na\r\n:2\r\n$1\r\nb\r\n:0\r\n",
    ];
    let sums = "*4\r\n$1\r\na\r\n:3\r\n$1\r\nb\r\n:0\r\n";
    check("pubsub|numsub", &parts, sums);
    check("pubsub|shardnumsub", &["*0\r\n", "*0\r\n"], "*0\r\n");
    check("pubsub|numpat", &[":1\r\n", ":3\r\n", ":2\r\n"], ":3\r\n");
    let unexpected = "-ERR proxy: unexpected reply of a node\r\n";
    for name in ["pubsub|channels", "pubsub|numsub", "pubsub|numpat"] {
        check(name, &["*1\r\n:1\r\n", "*1\r\n:1\r\n"], unexpected);
    }
    let others = ["*2\r\n$1\r\na\r\n:1\r\n", "*2\r\n$1\r\nb\r\n:1\r\n"];
    check("pubsub|numsub", &others, unexpected);
}

#[test]
fn p4_counts_are_summed() {
    for name in ["del", "unlink", "exists", "touch", "dbsize"] {
        check(name, &[":1\r\n", ":0\r\n", ":41\r\n"], ":42\r\n");
    }
    check(
        "dbsize",
        &[":9223372036854775807\r\n", ":1\r\n"],
        UNEXPECTED,
    );
}

#[test]
fn p5_mset_is_ok_if_all_are() {
    check("mset", &["+OK\r\n", "+OK\r\n"], "+OK\r\n");
    check("mset", &["+OK\r\n", "+Fine\r\n"], UNEXPECTED_WRITE);
}

#[test]
fn p3_mget_keeps_argument_order_and_bytes() {
    let parts = [
        Part {
            positions: &[0, 3, 4],
            ..answered(b"*3\r\n$1\r\na\r\n$-1\r\n$4\r\n\r\n\r\n\r\n")
        },
        Part {
            positions: &[2, 1],
            ..answered(b"*2\r\n$1\r\nc\r\n$0\r\n\r\n")
        },
    ];
    assert_eq!(
        run("mget", &parts, 5),
        "*5\r\n$1\r\na\r\n$0\r\n\r\n$1\r\nc\r\n$-1\r\n$4\r\n\r\n\r\n\r\n"
    );
}

#[test]
fn y4_mget_copies_the_null_of_each_version() {
    let parts = [
        Part {
            positions: &[1],
            ..answered(b"*1\r\n_\r\n")
        },
        Part {
            positions: &[0],
            ..answered(b"|1\r\n+ttl\r\n:3\r\n*1\r\n$1\r\na\r\n")
        },
    ];
    assert_eq!(
        run("mget", &parts, 2),
        "*2\r\n$1\r\na\r\n_\r\n",
        "the attributes of a part are dropped"
    );
}

#[test]
fn p3_a_part_of_the_wrong_size_is_no_answer() {
    for (reply, positions, total) in [
        (b"*2\r\n$1\r\na\r\n$1\r\nb\r\n".as_slice(), &[0_u32][..], 2),
        (b"*1\r\n$1\r\na\r\n", &[0, 1], 2),
        (b"*1\r\n$1\r\na\r\n", &[0], 2),
        (b"*1\r\n$1\r\na\r\n", &[7], 1),
        (b"*2\r\n$1\r\na\r\n", &[0, 1], 2),
        (b"*1\r\n$1\r\na\r\n+x\r\n", &[0], 1),
        (b"*-1\r\n", &[0], 1),
        (b"+OK\r\n", &[0], 1),
        (b"", &[0], 1),
    ] {
        let parts = [Part {
            positions,
            ..answered(reply)
        }];
        assert_eq!(run("mget", &parts, total), UNEXPECTED, "{reply:?}");
    }
}

#[test]
fn p7_a_read_shows_the_first_error_alone() {
    let parts = [
        answered(b"*1\r\n$1\r\na\r\n"),
        not_executed(b"-CLUSTERDOWN proxy: no master for slot 7 within 10000 ms\r\n"),
        answered(b"-NOPERM no\r\n"),
    ];
    assert_eq!(
        run("mget", &parts, 3),
        "-CLUSTERDOWN proxy: no master for slot 7 within 10000 ms\r\n"
    );
    assert_eq!(
        run("exists", &parts, 0),
        "-CLUSTERDOWN proxy: no master for slot 7 within 10000 ms\r\n"
    );
}

#[test]
fn p7_a_write_says_how_many_parts_were_applied() {
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    let parts = [
        answered(b"+OK\r\n"),
        answered(oom.as_bytes()),
        answered(b"+OK\r\n"),
    ];
    assert_eq!(
        run("mset", &parts, 0),
        "-PARTIAL proxy: 2 of 3 parts applied, first error: OOM command not allowed when used memory > 'maxmemory'.\r\n"
    );
    let count = [
        answered(b":1\r\n"),
        not_executed(b"-CLUSTERDOWN gone\r\n"),
        answered(b"-NOPERM no\r\n"),
    ];
    assert_eq!(
        run("del", &count, 0),
        "-PARTIAL proxy: 1 of 3 parts applied, first error: CLUSTERDOWN gone\r\n"
    );
    let none = [
        answered(oom.as_bytes()),
        not_executed(b"-CLUSTERDOWN gone\r\n"),
    ];
    assert_eq!(
        run("mset", &none, 0),
        oom,
        "nothing was applied: the bare error"
    );
}

#[test]
fn p7_an_uncertain_part_makes_the_whole_uncertain() {
    let parts = [
        answered(b"-NOPERM no\r\n"),
        uncertain(),
        answered(b":1\r\n"),
    ];
    assert_eq!(
        run("unlink", &parts, 0),
        "-UNCERTAIN proxy: 1 of 3 parts applied, 1 may or may not have been executed, first error: NOPERM no\r\n"
    );
    assert_eq!(
        run("mset", &[uncertain(), uncertain()], 0),
        "-UNCERTAIN proxy: 0 of 2 parts applied, 2 may or may not have been executed, first error: UNCERTAIN proxy: lost\r\n"
    );
    assert_eq!(run("mset", &[uncertain()], 0), "-UNCERTAIN proxy: lost\r\n");
}

#[test]
fn q4_a_flush_names_the_masters() {
    check("flushall", &["+OK\r\n", "+OK\r\n"], "+OK\r\n");
    check(
        "flushdb",
        &[
            "+OK\r\n",
            "-READONLY You can't write against a read only replica.\r\n",
            "+OK\r\n",
        ],
        "-PARTIAL proxy: flushed 2 of 3 masters, first error: READONLY You can't write against a read only replica.\r\n",
    );
}

#[test]
fn q3_keys_leaves_out_what_the_node_does_not_own() {
    // foo is in slot 12182, bar in 5061: part 0 owns the lower half.
    let parts = [
        answered(b"*2\r\n$3\r\nfoo\r\n$3\r\nbar\r\n"),
        answered(b"*0\r\n"),
        answered(b"*3\r\n$3\r\nfoo\r\n$3\r\nbar\r\n$5\r\n{foo}\r\n"),
    ];
    let mut out = Vec::new();
    let owns = |part: usize, slot: Slot| (slot.get() < 8192) == (part == 0);
    merge(rule("keys"), &parts, 0, &owns, &mut out);
    assert_eq!(out, b"*3\r\n$3\r\nbar\r\n$3\r\nfoo\r\n$5\r\n{foo}\r\n");
    check("keys", &["*0\r\n", "*0\r\n"], "*0\r\n");
    check("keys", &["*1\r\n:1\r\n"], UNEXPECTED);
}

#[test]
fn q6_script_exists_is_true_where_all_say_so() {
    check(
        "script|exists",
        &["*3\r\n:1\r\n:1\r\n:0\r\n", "*3\r\n:1\r\n:0\r\n:0\r\n"],
        "*3\r\n:1\r\n:0\r\n:0\r\n",
    );
    check(
        "script|exists",
        &["*2\r\n:1\r\n:1\r\n", "*1\r\n:1\r\n"],
        UNEXPECTED,
    );
}

#[test]
fn q6_q7_loads_must_agree() {
    check(
        "script|load",
        &["$3\r\nabc\r\n", "$3\r\nabc\r\n"],
        "$3\r\nabc\r\n",
    );
    check(
        "function|load",
        &["$3\r\nabc\r\n", "$3\r\nabd\r\n"],
        UNEXPECTED_WRITE,
    );
    check(
        "function|load",
        &["$3\r\nlib\r\n", "-ERR Library 'lib' already exists\r\n"],
        "-PARTIAL proxy: 1 of 2 parts applied, first error: ERR Library 'lib' already exists\r\n",
    );
}

#[test]
fn q6_a_kill_succeeds_if_one_node_killed() {
    let idle = "-NOTBUSY No scripts in execution right now.\r\n";
    let unkillable = "-UNKILLABLE Sorry the script already executed write commands\r\n";
    for name in ["script|kill", "function|kill"] {
        check(name, &[idle, "+OK\r\n", unkillable], "+OK\r\n");
        check(
            name,
            &[idle, "-ERR proxy: timeout\r\n", unkillable],
            unkillable,
        );
        check(
            name,
            &[idle, "-ERR proxy: timeout\r\n", idle],
            "-ERR proxy: timeout\r\n",
        );
        check(name, &[idle, idle], idle);
    }
}

#[test]
fn q5_randomkey_is_nil_only_if_all_are() {
    check(
        "randomkey",
        &["$-1\r\n", "$1\r\nk\r\n", "$1\r\nl\r\n"],
        "$1\r\nk\r\n",
    );
    check(
        "randomkey",
        &["-ERR down\r\n", "$1\r\nk\r\n"],
        "$1\r\nk\r\n",
    );
    check("randomkey", &["$-1\r\n", "-ERR down\r\n"], "-ERR down\r\n");
    check("randomkey", &["$-1\r\n", "$-1\r\n"], "$-1\r\n");
    check("randomkey", &["_\r\n", "_\r\n"], "_\r\n");
}

#[test]
fn q7_function_stats_shows_the_busy_node() {
    let idle = "*4\r\n$14\r\nrunning_script\r\n$-1\r\n$7\r\nengines\r\n*0\r\n";
    let busy =
        "*4\r\n$14\r\nrunning_script\r\n*2\r\n$4\r\nname\r\n$1\r\nf\r\n$7\r\nengines\r\n*0\r\n";
    check("function|stats", &[idle, busy, idle], busy);
    check("function|stats", &[idle, idle], idle);
    let idle = "%2\r\n$14\r\nrunning_script\r\n_\r\n$7\r\nengines\r\n%0\r\n";
    let busy =
        "%2\r\n$14\r\nrunning_script\r\n%1\r\n$4\r\nname\r\n$1\r\nf\r\n$7\r\nengines\r\n%0\r\n";
    check("function|stats", &[idle, busy], busy);
}

/// The rule of a command with these tips, which reads.
fn learned(policy: &str) -> Rule {
    let tips = ["request_policy:all_shards", policy];
    let tips: String = tips
        .iter()
        .map(|tip| format!("${}\r\n{tip}\r\n", tip.len()))
        .collect();
    let reply = format!(
        "*1\r\n*8\r\n+m.x\r\n:1\r\n*1\r\n+readonly\r\n:0\r\n:0\r\n:0\r\n*0\r\n*2\r\n{tips}"
    );
    let entries = Told::parse(reply.as_bytes()).unwrap().entries;
    let (learned, _) = Learner::default().learn(entries);
    Rule::for_spec(learned[0].spec).unwrap()
}

#[test]
fn k16_learned_commands_are_merged_by_their_response_policy() {
    let (x, y) = (":2\r\n", ":-3\r\n");
    let error = "-ERR x\r\n";
    for (policy, replies, merged) in [
        ("agg_sum", [x, y], ":-1\r\n"),
        ("agg_min", [x, y], y),
        ("agg_max", [y, x], x),
        ("agg_max", [x, "+OK\r\n"], UNEXPECTED),
        ("agg_max", [x, error], error),
        ("agg_logical_and", [x, ":0\r\n"], ":0\r\n"),
        ("agg_logical_or", [x, ":0\r\n"], ":1\r\n"),
        (
            "agg_logical_or",
            ["*2\r\n:0\r\n:0\r\n", "*2\r\n:0\r\n:1\r\n"],
            "*2\r\n:0\r\n:1\r\n",
        ),
        ("agg_logical_and", [x, "*1\r\n:1\r\n"], UNEXPECTED),
        ("all_succeeded", ["+A\r\n", "+B\r\n"], "+A\r\n"),
        ("all_succeeded", ["+A\r\n", error], error),
        ("one_succeeded", [error, "+B\r\n"], "+B\r\n"),
        ("one_succeeded", [error, "-ERR y\r\n"], error),
    ] {
        let parts = replies.map(|reply| answered(reply.as_bytes()));
        let mut out = Vec::new();
        let rule = learned(&format!("response_policy:{policy}"));
        merge(rule, &parts, 0, &|_, _| true, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), merged, "{policy}");
    }
}

#[test]
fn no_part_at_all_is_an_error() {
    for name in ["randomkey", "script|kill", "script|exists", "script|load"] {
        assert!(run(name, &[], 0).starts_with('-'), "{name}");
    }
}

#[test]
fn long_errors_of_resp3_are_errors() {
    let parts = [answered(b":1\r\n"), answered(b"!8\r\nERR a\r\nb\r\n")];
    assert_eq!(run("exists", &parts, 0), "-ERR a  b\r\n");
}

proptest! {
    /// Whatever the nodes send, the client gets exactly one reply.
    #[test]
    fn any_bytes_merge_into_one_reply(
        replies in prop::collection::vec(reply_bytes(), 0..4),
        positions in prop::collection::vec(0_u32..6, 0..6),
        total in 0_usize..6,
    ) {
        let policies = ["all_succeeded", "one_succeeded", "agg_min", "agg_max", "agg_logical_or"];
        let learned = policies.map(|policy| (policy, learned(&format!("response_policy:{policy}"))));
        let rules = TABLE.iter().filter_map(|spec| Some((spec.name, Rule::for_spec(spec)?)));
        for (name, rule) in rules.chain(learned) {
            let parts: Vec<Part<'_>> =
                replies.iter().map(|reply| Part { positions: &positions, ..answered(reply) }).collect();
            let mut out = Vec::new();
            merge(rule, &parts, total, &|part, _| part == 0, &mut out);
            let end = crate::resp::ReplyScanner::new().scan(&out);
            prop_assert_eq!(end, Ok(Some(out.len())), "{}: {:?}", name, out);
        }
    }
}

/// Random bytes, and bytes that are nearly replies.
fn reply_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "*2\r\n",
        "*0\r\n",
        "*-1\r\n",
        "$1\r\na\r\n",
        "$-1\r\n",
        ":1\r\n",
        "+OK\r\n",
        "-ERR x\r\n",
        "_\r\n",
        "%1\r\n",
        "|1\r\n",
        "$3\r\nab",
        "*99999999\r\n",
        "!3\r\nERR\r\n",
        "~1\r\n",
        "\r\n",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12),
        prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat().into_bytes()),
    ]
}

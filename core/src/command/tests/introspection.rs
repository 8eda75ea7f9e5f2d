//! The answers of the `COMMAND` family. Expected bytes were recorded from redis 7.0.15 where nothing else is said.

use super::super::glob::glob_match;
use super::super::*;
use super::{Request, written};
use crate::command::learned::LearnedTable;
use crate::resp::{Protocol, Value, parse_value};

fn reply(line: &str, protocol: Protocol) -> String {
    let (request, learned) = (Request::of(line), LearnedTable::default());
    written(|out| reply_command(request.args(), &learned, protocol, out))
}

fn resp2(line: &str) -> String {
    reply(line, Protocol::Resp2)
}

fn elements(reply: &str) -> Vec<String> {
    let (value, end) = parse_value(reply.as_bytes()).unwrap().unwrap();
    assert_eq!(end, reply.len());
    let (Value::Array(items) | Value::Set(items)) = value else {
        panic!("{reply:?}")
    };
    items
        .into_iter()
        .map(|item| match item {
            Value::Bulk(text) | Value::Simple(text) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn info_of_get_is_byte_for_byte_that_of_a_server() {
    assert_eq!(
        resp2("COMMAND INFO get"),
        "*1\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*3\r\n+@read\r\n+@string\r\n+@fast\r\n\
         *0\r\n*1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n\
         $4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n*6\r\n\
         $7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n"
    );
    assert_eq!(
        reply("COMMAND INFO get", Protocol::Resp3),
        "*1\r\n*10\r\n$3\r\nget\r\n:2\r\n~2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n~3\r\n+@read\r\n+@string\r\n+@fast\r\n\
         ~0\r\n~1\r\n%3\r\n$5\r\nflags\r\n~2\r\n+RO\r\n+access\r\n$12\r\nbegin_search\r\n%2\r\n$4\r\ntype\r\n$5\r\nindex\r\n\
         $4\r\nspec\r\n%1\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n%2\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n%3\r\n\
         $7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n~0\r\n"
    );
}

#[test]
fn every_reply_is_one_well_formed_value() {
    for line in [
        "COMMAND",
        "COMMAND INFO",
        "COMMAND DOCS",
        "COMMAND LIST",
        "COMMAND COUNT",
        "COMMAND HELP",
    ] {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let text = reply(line, protocol);
            let (_, end) = parse_value(text.as_bytes()).unwrap().unwrap();
            assert_eq!(end, text.len(), "{line}");
        }
    }
}

#[test]
fn refused_commands_are_left_out_everywhere() {
    for line in [
        "COMMAND",
        "COMMAND DOCS",
        "COMMAND LIST",
        "COMMAND LIST FILTERBY PATTERN *",
    ] {
        let text = resp2(line);
        for name in [
            "bgsave",
            "config|set",
            "debug",
            "migrate",
            "sentinel",
            "host:",
        ] {
            assert!(!text.contains(&format!("\r\n{name}\r\n")), "{line}: {name}");
        }
        assert!(text.contains("\r\nget\r\n"), "{line}");
    }
    assert_eq!(
        resp2("COMMAND INFO debug config|set config|get|x"),
        "*3\r\n$-1\r\n$-1\r\n$-1\r\n"
    );
    assert_eq!(
        resp2("COMMAND GETKEYS migrate h 1 k 0 5"),
        "-ERR Invalid command specified\r\n"
    );
}

#[test]
fn count_list_and_table_agree() {
    let listed = elements(&resp2("COMMAND LIST"));
    assert_eq!(resp2("COMMAND COUNT"), format!(":{}\r\n", listed.len()));
    assert_eq!(resp2("COMMAND"), resp2("COMMAND INFO"));
    assert!(resp2("COMMAND").starts_with(&format!("*{}\r\n", listed.len())));
    assert!(reply("COMMAND DOCS", Protocol::Resp3).starts_with(&format!("%{}\r\n", listed.len())));
}

#[test]
fn list_filters() {
    let listed = |filter: &str| elements(&resp2(&format!("COMMAND LIST FILTERBY {filter}")));
    assert_eq!(
        listed("PATTERN XInfo*"),
        [
            "xinfo",
            "xinfo|consumers",
            "xinfo|groups",
            "xinfo|help",
            "xinfo|stream"
        ]
    );
    let expected = ["unwatch", "watch", "multi", "exec", "discard"];
    let mut found = listed("aclcat Transaction");
    found.sort();
    assert_eq!(found.len(), expected.len());
    assert!(
        expected
            .iter()
            .all(|name| found.iter().any(|other| other == name))
    );
    assert!(listed("ACLCAT nonesuch").is_empty() && listed("MODULE nonesuch").is_empty());
    assert!(listed("MODULE vectorset").contains(&"vsim".to_owned()));
    for wrong in [
        "FILTERBY",
        "FILTERBY PATTERN",
        "FILTERBY x y",
        "x",
        "FILTERBY PATTERN a b",
    ] {
        assert_eq!(
            resp2(&format!("COMMAND LIST {wrong}")),
            "-ERR syntax error\r\n",
            "{wrong}"
        );
    }
}

#[test]
fn info_and_docs_of_unknown_names() {
    assert_eq!(resp2("COMMAND INFO nosuch"), "*1\r\n$-1\r\n");
    assert_eq!(reply("COMMAND INFO nosuch", Protocol::Resp3), "*1\r\n_\r\n");
    assert_eq!(resp2("COMMAND DOCS nosuch"), "*0\r\n");
    assert_eq!(reply("COMMAND DOCS nosuch", Protocol::Resp3), "%0\r\n");
    assert!(
        resp2("COMMAND INFO CONFIG|Get").starts_with("*1\r\n*10\r\n$10\r\nconfig|get\r\n:-3\r\n")
    );
}

#[test]
fn docs_describe_arguments_and_subcommands() {
    let text = reply("COMMAND DOCS getex", Protocol::Resp3);
    assert!(
        text.starts_with("%1\r\n$5\r\ngetex\r\n%5\r\n$7\r\nsummary\r\n$"),
        "{text}"
    );
    assert!(text.contains(
        "$9\r\narguments\r\n*2\r\n%4\r\n$4\r\nname\r\n$3\r\nkey\r\n$4\r\ntype\r\n$3\r\nkey\r\n"
    ));
    assert!(text.contains("$14\r\nkey_spec_index\r\n:0\r\n"));
    assert!(text.contains("$5\r\nflags\r\n~1\r\n+optional\r\n"));
    let text = reply("COMMAND DOCS object", Protocol::Resp3);
    assert!(
        text.contains("$11\r\nsubcommands\r\n%5\r\n$15\r\nobject|encoding\r\n%5\r\n"),
        "{text}"
    );
    let text = resp2("COMMAND DOCS cluster|slaves");
    assert!(text.contains("$9\r\ndoc_flags\r\n*1\r\n+deprecated\r\n"));
}

#[test]
fn every_offered_command_has_a_summary() {
    let text = resp2("COMMAND DOCS");
    assert_eq!(
        text.matches("$7\r\nsummary\r\n").count(),
        TABLE
            .iter()
            .filter(|spec| spec.class != Class::Forbidden)
            .count()
    );
}

#[test]
fn getkeys_answers_like_a_server() {
    assert_eq!(
        resp2("COMMAND GETKEYS mset a 1 b 2"),
        "*2\r\n$1\r\na\r\n$1\r\nb\r\n"
    );
    assert_eq!(
        resp2("COMMAND GETKEYS mset a 1 b"),
        "*2\r\n$1\r\na\r\n$1\r\nb\r\n"
    );
    assert_eq!(resp2("COMMAND GETKEYS eval x 0"), "*0\r\n");
    assert_eq!(resp2("COMMAND GETKEYS eval x 5 a"), "*0\r\n");
    assert_eq!(
        resp2("COMMAND GETKEYS nosuch a"),
        "-ERR Invalid command specified\r\n"
    );
    assert_eq!(
        resp2("COMMAND GETKEYS config nosuch"),
        "-ERR Invalid command specified\r\n"
    );
    assert_eq!(
        resp2("COMMAND GETKEYS ping a"),
        "-ERR The command has no key arguments\r\n"
    );
    assert_eq!(
        resp2("COMMAND GETKEYS spublish a b"),
        "-ERR The command has no key arguments\r\n"
    );
    assert_eq!(
        resp2("COMMAND GETKEYS get a b"),
        "-ERR Invalid number of arguments specified for command\r\n"
    );
    assert_eq!(
        resp2("COMMAND GETKEYS lmpop x a LEFT"),
        "-ERR Invalid arguments specified for command\r\n"
    );
    assert_eq!(
        resp2("COMMAND GETKEYS"),
        "-ERR wrong number of arguments for 'command|getkeys' command\r\n"
    );
    assert_eq!(
        resp2("COMMAND nosuch"),
        "-ERR unknown subcommand 'nosuch'. Try COMMAND HELP.\r\n"
    );
}

#[test]
fn getkeysandflags_looks_at_the_options() {
    let flags = |call: &str| resp2(&format!("COMMAND GETKEYSANDFLAGS {call}"));
    assert_eq!(
        flags("set a b"),
        "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+OW\r\n+update\r\n"
    );
    assert_eq!(
        flags("set a b GET"),
        "*1\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+update\r\n"
    );
    assert_eq!(
        flags("set GET GET"),
        "*1\r\n*2\r\n$3\r\nGET\r\n*2\r\n+OW\r\n+update\r\n"
    );
    assert_eq!(
        flags("bitfield a GET u8 0 OVERFLOW SAT"),
        "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+RO\r\n+access\r\n"
    );
    assert_eq!(
        flags("bitfield a GET u8 0 SET u8 0 1"),
        "*1\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+update\r\n"
    );
    assert_eq!(
        flags("sort a STORE b"),
        "*2\r\n*2\r\n$1\r\na\r\n*2\r\n+RO\r\n+access\r\n*2\r\n$1\r\nb\r\n*2\r\n+OW\r\n+update\r\n"
    );
    assert_eq!(
        reply("COMMAND GETKEYSANDFLAGS copy a b", Protocol::Resp3),
        "*2\r\n*2\r\n$1\r\na\r\n~2\r\n+RO\r\n+access\r\n*2\r\n$1\r\nb\r\n~2\r\n+OW\r\n+update\r\n"
    );
}

#[test]
fn globs_match_as_servers_match() {
    let cases: &[(&str, &str, bool)] = &[
        ("*", "", true),
        ("", "", true),
        ("", "a", false),
        ("a*c", "abbc", true),
        ("a*c*e", "abcde", true),
        ("a*b", "acbd", false),
        ("?", "", false),
        ("h[ae]llo", "hello", true),
        ("h[^e]llo", "hello", false),
        ("h[^e]llo", "hallo", true),
        ("[z-a]", "m", true),
        ("[a-c]x", "dx", false),
        ("[\\]]", "]", true),
        ("\\*", "*", true),
        ("\\*", "a", false),
        ("a\\", "a\\", true),
        ("[ab", "b", true),
        ("**a", "ba", true),
    ];
    for (pattern, text, expected) in cases {
        assert_eq!(
            glob_match(pattern.as_bytes(), text.as_bytes(), false),
            *expected,
            "{pattern} {text}"
        );
    }
    assert!(glob_match(b"GeT[A-C]", b"getb", true) && !glob_match(b"GET", b"get", false));
}

#[test]
fn globs_with_many_stars_end() {
    let pattern = "a*".repeat(500) + "b";
    assert!(!glob_match(
        pattern.as_bytes(),
        "a".repeat(2000).as_bytes(),
        false
    ));
}

//! Lookup, arity, classes and the errors of a command's name.

use super::super::key_spec::{BeginSearch, FindKeys};
use super::super::*;
use super::{Request, is, known, written};
use crate::resp::RequestDecoder;
use proptest::prelude::*;

#[test]
fn the_table_is_sorted_and_numbered() {
    assert_eq!(TABLE.len(), COMMAND_COUNT);
    for (index, spec) in TABLE.iter().enumerate() {
        assert_eq!(spec.id.index(), index, "{}", spec.name);
        assert_eq!(spec.id.spec().name, spec.name);
    }
    let words: Vec<Vec<&str>> = TABLE
        .iter()
        .map(|spec| spec.name.split('|').collect())
        .collect();
    assert!(words.is_sorted());
}

#[test]
fn k2_every_name_is_found_in_any_case_and_only_in_full() {
    for spec in &TABLE {
        let words: Vec<&str> = spec.name.split('|').collect();
        for change in [str::to_ascii_lowercase, str::to_ascii_uppercase] {
            let line = words
                .iter()
                .map(|word| change(word))
                .collect::<Vec<_>>()
                .join(" ");
            match lookup(Request::of(&line).args()) {
                Lookup::Known(found) => assert_eq!(found.id, spec.id, "{line}"),
                Lookup::MissingSubcommand(found) => {
                    assert!(found.id == spec.id && spec.subcommands > 0, "{line}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
        for wrong in [
            format!("{}x", words[0]),
            format!("x{}", words[0]),
            words[0][1..].to_owned(),
        ] {
            if TABLE.iter().all(|other| other.name != wrong) {
                assert!(
                    matches!(lookup(Request::of(&wrong).args()), Lookup::UnknownCommand),
                    "{wrong}"
                );
            }
        }
    }
}

#[test]
fn k2_bytes_that_only_look_alike_when_folded_are_not_the_name() {
    // Setting the case bit turns CR into '-', DLE into '0', ESC and 0x1A into ';' and ':', '_' and DEL into DEL.
    for name in [
        &b"RESTORE\rASKING"[..],
        b"EVAL\x7fRO",
        b"HOST\x1a",
        b"GE\x14",
        b"sort\x7fro",
    ] {
        assert!(find(name).is_none(), "{name:?}");
    }
    assert!(find(b"restore-ASKING").is_some() && find(b"Eval_Ro").is_some());
    assert!(find(b"").is_none() && find(&[b'a'; 300]).is_none());
    assert!(find("gеt".as_bytes()).is_none(), "a Cyrillic letter");
}

proptest! {
    #[test]
    fn k2_what_is_found_has_that_name(name in "[a-zA-Z_|:-]{0,20}") {
        if let Some(spec) = find(name.as_bytes()) {
            prop_assert_eq!(spec.name, name.to_ascii_lowercase());
        }
    }
}

#[test]
fn k2_a_full_name_in_one_word_is_no_command() {
    assert!(matches!(
        lookup(Request::of("config|get x").args()),
        Lookup::UnknownCommand
    ));
}

#[test]
fn k20_containers_need_a_subcommand_they_know() {
    for name in [
        "acl", "client", "CLUSTER", "config", "function", "memory", "object", "pubsub", "script",
        "xgroup", "xinfo",
    ] {
        let alone = Request::of(name);
        assert!(
            matches!(lookup(alone.args()), Lookup::MissingSubcommand(_)),
            "{name}"
        );
        let line = format!("{name} nonesuch");
        assert!(
            matches!(
                lookup(Request::of(&line).args()),
                Lookup::UnknownSubcommand(_)
            ),
            "{name}"
        );
        assert!(is(
            &format!("{name} help"),
            known(&format!("{name} HELP")).id
        ));
    }
    assert!(is("COMMAND", id::COMMAND), "COMMAND alone is a command");
    assert!(is("Command Docs get", id::COMMAND_DOCS));
    assert_eq!(id::XINFO.spec().subcommand_specs().len(), 4);
    assert!(id::GET.spec().subcommand_specs().is_empty());
}

#[test]
fn k20_class_is_decided_per_pair() {
    let class = |line: &str| known(line).class;
    assert_eq!(class("config get"), Class::Local);
    assert_eq!(class("config set"), Class::Forbidden);
    assert_eq!(class("memory usage"), Class::Single);
    assert_eq!(class("memory doctor"), Class::Forbidden);
    assert_eq!(class("script load"), Class::FanMasters);
    assert_eq!(class("script show"), Class::FanOne);
    assert_eq!(class("pubsub shardnumsub"), Class::Split);
}

#[test]
fn k8_arity_is_exact_or_a_minimum() {
    let get = id::GET.spec();
    assert!(get.arity_ok(2) && !get.arity_ok(1) && !get.arity_ok(3));
    let set = id::SET.spec();
    assert!(set.arity_ok(3) && set.arity_ok(9) && !set.arity_ok(2));
    assert!(id::COMMAND.spec().arity_ok(1));
    assert_eq!(
        id::CONFIG_GET.spec().arity,
        -3,
        "subcommands count both words"
    );
    assert_eq!(
        id::ZRANK.spec().arity,
        -3,
        "WITHSCORE is newer than 7.0: the widest server wins"
    );
}

#[test]
fn k8_no_key_specification_can_miss_below_the_arity() {
    // A fixed key position must be inside every call the arity admits; module commands alone have no arity to speak of.
    for spec in TABLE
        .iter()
        .filter(|spec| !spec.flags.contains(Flags::MODULE) && spec.class != Class::Forbidden)
    {
        let fewest = usize::from(spec.arity.unsigned_abs());
        assert!(usize::from(spec.fixed_key) < fewest, "{}", spec.name);
    }
}

#[test]
fn k10_writes_are_what_must_not_be_sent_twice() {
    for line in [
        "set k v",
        "incr k",
        "eval x 0",
        "publish c m",
        "flushall",
        "spublish c m",
        "sort k",
        "wait 1 1",
    ] {
        assert!(known(line).is_write(), "{line}");
    }
    for line in [
        "get k",
        "touch k",
        "eval_ro x 0",
        "pfcount k",
        "script load x",
        "pubsub channels",
        "cluster countkeysinslot 1",
    ] {
        assert!(!known(line).is_write(), "{line}");
    }
    for spec in &TABLE {
        assert!(
            !(spec.readonly && spec.flags.contains(Flags::WRITE)),
            "{}",
            spec.name
        );
    }
}

#[test]
fn the_fast_path_is_exactly_the_single_fixed_position() {
    assert_eq!(id::GET.spec().fixed_key, 1);
    assert_eq!(id::OBJECT_ENCODING.spec().fixed_key, 2);
    assert_eq!(id::SORT_RO.spec().fixed_key, 1);
    for spec in [
        id::SORT,
        id::MGET,
        id::LCS,
        id::COPY,
        id::EVAL,
        id::PING,
        id::GEORADIUS,
        id::XREAD,
        id::MIGRATE,
    ] {
        assert_eq!(spec.spec().fixed_key, 0, "{}", spec.spec().name);
    }
    for spec in TABLE
        .iter()
        .filter(|spec| spec.fixed_key != 0 && spec.rule == KeyRule::Specs)
    {
        let [key_spec] = spec.keys else {
            panic!("{}", spec.name)
        };
        assert_eq!(key_spec.begin, BeginSearch::Index(spec.fixed_key));
        assert_eq!(
            key_spec.find,
            FindKeys::Range {
                last: 0,
                step: 1,
                limit: 0
            }
        );
    }
    assert_eq!(
        (
            id::MSET.spec().key_step,
            id::MSETEX.spec().key_step,
            id::DEL.spec().key_step
        ),
        (2, 2, 1)
    );
}

#[test]
fn cross_protocol_names_are_marked() {
    assert!(id::HOST.spec().is_cross_protocol() && id::POST.spec().is_cross_protocol());
    assert_eq!(
        TABLE.iter().filter(|spec| spec.is_cross_protocol()).count(),
        2
    );
    assert!(
        matches!(lookup(Request::of("Host: example.org").args()), Lookup::Known(spec) if spec.id == id::HOST)
    );
}

#[test]
fn k8_arity_errors_name_the_command_as_servers_do() {
    let error = |spec: &Spec| written(|out| write_arity_error(spec, out));
    assert_eq!(
        error(id::GET.spec()),
        "-ERR wrong number of arguments for 'get' command\r\n"
    );
    assert_eq!(
        error(id::CONFIG_GET.spec()),
        "-ERR wrong number of arguments for 'config|get' command\r\n"
    );
    assert_eq!(
        error(id::CONFIG.spec()),
        "-ERR wrong number of arguments for 'config' command\r\n"
    );
}

#[test]
fn refusals_name_the_command_in_full() {
    let text = written(|out| write_not_supported(id::CONFIG_SET.spec(), out));
    assert_eq!(
        text,
        "-ERR proxy: command 'config|set' is not supported through this proxy\r\n"
    );
}

/// Replies of redis 7.0.15, redis 8.2.3 and valkey 9.1.2 to these requests.
#[test]
fn k18_unknown_commands_are_quoted_as_servers_do() {
    let error =
        |words: &[&[u8]]| written(|out| write_unknown_command(Request::new(words).args(), out));
    let head = "-ERR unknown command '";
    let middle = "', with args beginning with: ";
    assert_eq!(
        error(&[b"NoSuch", b"a", b"b"]),
        format!("{head}NoSuch{middle}'a' 'b' \r\n")
    );
    assert_eq!(error(&[b"nosuch"]), format!("{head}nosuch{middle}\r\n"));
    let long = "x".repeat(300);
    let cut = "x".repeat(128);
    assert_eq!(
        error(&[long.as_bytes()]),
        format!("{head}{cut}{middle}\r\n"),
        "name cut at 128 bytes"
    );
    assert_eq!(
        error(&[b"n", long.as_bytes(), b"b"]),
        format!("{head}n{middle}'{cut}' \r\n")
    );
    assert_eq!(
        error(&[b"n", &[b'a'; 100], &[b'b'; 100]]),
        format!(
            "{head}n{middle}'{}' '{}' \r\n",
            "a".repeat(100),
            "b".repeat(25)
        )
    );
    assert_eq!(
        error(&[b"no\r\nsuch", b"a\nb", b"x\0y"]),
        format!("{head}no  such{middle}'a b' 'x' \r\n")
    );
}

#[test]
fn k18_unknown_subcommands_keep_their_case_and_the_container_shouts() {
    let error =
        |words: &[&[u8]]| written(|out| write_unknown_subcommand(Request::new(words).args(), out));
    assert_eq!(
        error(&[b"cOnFig", b"fOO", b"x"]),
        "-ERR unknown subcommand 'fOO'. Try CONFIG HELP.\r\n"
    );
    let long = [b'y'; 300];
    assert_eq!(
        error(&[b"config", &long]),
        format!(
            "-ERR unknown subcommand '{}'. Try CONFIG HELP.\r\n",
            "y".repeat(128)
        )
    );
    assert_eq!(
        error(&[b"config", b"fo\0o\r\n"]),
        "-ERR unknown subcommand 'fo'. Try CONFIG HELP.\r\n"
    );
}

#[test]
fn flag_lists_match_the_generator() {
    let script = include_str!("../../../../scripts/generate_commands.py");
    let list = |name: &str| {
        let (_, rest) = script.split_once(&format!("\n{name} = (")).unwrap();
        let (list, _) = rest.split_once(").split()").unwrap();
        list.split(|c: char| c == '"' || c.is_whitespace())
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(list("FLAGS"), Flags::NAMES);
    assert_eq!(list("CATEGORIES"), Categories::NAMES);
    let key_flags = format!("KEY_FLAGS = \"{}\".split()", KeyFlags::NAMES.join(" "));
    assert!(script.contains(&key_flags), "{key_flags}");
}

#[test]
fn names_survive_the_decoder() {
    let mut decoder = RequestDecoder::new();
    let bytes = b"*2\r\n$3\r\ngEt\r\n$1\r\nk\r\n";
    decoder
        .decode(bytes, &crate::resp::RequestLimits::DEFAULT)
        .unwrap();
    let args = crate::resp::Args::new(bytes, decoder.ranges());
    assert!(matches!(lookup(args), Lookup::Known(spec) if spec.id == id::GET));
}

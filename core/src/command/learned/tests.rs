//! What servers with the module of `tests/data/module` answered to `COMMAND INFO`, and what is made of it. The `.resp2` and `.resp3`
//! files are captured replies.

use proptest::prelude::*;

use super::*;
use crate::command::tests::{Request, written};
use crate::command::{
    Class, KeyList, KeyOutcome, KeyRule, TABLE, extract_keys, reply_command, write_not_supported,
};
use crate::resp::{Protocol, parse_value};

const REDIS_6: &[u8] = include_bytes!("testdata/redis-6.2.resp2");
const REDIS_7: &[u8] = include_bytes!("testdata/redis-7.0.resp2");
const REDIS_7_RESP3: &[u8] = include_bytes!("testdata/redis-7.0.resp3");
const VALKEY_9: &[u8] = include_bytes!("testdata/valkey-9.1.resp2");
const VALKEY_9_RESP3: &[u8] = include_bytes!("testdata/valkey-9.1.resp3");

fn learn(reply: &[u8]) -> Vec<Learned> {
    let told = Told::parse(reply).unwrap();
    assert_eq!(told.malformed, 0);
    let (learned, left_out) = Learner::default().learn(told.entries);
    assert_eq!(left_out, 0);
    learned
}

fn table(reply: &[u8]) -> LearnedTable {
    LearnedTable::union([learn(reply).as_slice()]).0
}

fn known(table: &LearnedTable, line: &str) -> &'static Spec {
    match table.lookup(Request::of(line).args()) {
        Lookup::Known(spec) => spec,
        other => panic!("{line}: {other:?}"),
    }
}

fn keys(table: &LearnedTable, line: &str) -> (KeyOutcome, Vec<u32>) {
    let mut keys = KeyList::new();
    let outcome = extract_keys(known(table, line), Request::of(line).args(), &mut keys);
    (outcome, keys.as_slice().to_vec())
}

/// An entry of the shape before 6.0, with as many elements as there are `more`.
fn entry(name: &str, flags: &str, triple: [i64; 3], more: &str) -> String {
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let flags_text: String = flags.iter().map(|flag| format!("+{flag}\r\n")).collect();
    let [first, last, step] = triple;
    let count = 6 + more.matches('\n').count();
    format!(
        "*{count}\r\n${}\r\n{name}\r\n:-1\r\n*{}\r\n{flags_text}:{first}\r\n:{last}\r\n:{step}\r\n{}",
        name.len(),
        flags.len(),
        more.replace('\n', "\r\n")
    )
}

fn reply_of(entries: &[String]) -> Vec<u8> {
    format!("*{}\r\n{}", entries.len(), entries.concat()).into_bytes()
}

#[test]
fn k13_both_encodings_say_the_same() {
    for (resp2, resp3) in [(REDIS_7, REDIS_7_RESP3), (VALKEY_9, VALKEY_9_RESP3)] {
        assert_ne!(resp2, resp3);
        let (resp2, resp3) = (Told::parse(resp2).unwrap(), Told::parse(resp3).unwrap());
        assert_eq!(resp2.entries, resp3.entries);
        assert_eq!(resp2.entries.len(), 10, "GET is in the table");
    }
}

#[test]
fn k12_classes_follow_from_specifications_flags_and_tips() {
    for reply in [REDIS_7, VALKEY_9] {
        let table = table(reply);
        for (line, class) in [
            ("slot.get k", Class::Single),
            ("slot.mset k v", Class::Split),
            ("slot.mget k w", Class::Split),
            ("slot.count k", Class::SameSlot),
            ("slot.total", Class::FanMasters),
            ("slot.here", Class::Forbidden),
            ("slot.movable w k", Class::SameSlot),
            ("slot.counted x keys 1 k", Class::SameSlot),
            ("slot.wait k", Class::Forbidden),
            ("slot.box put k v", Class::Single),
        ] {
            assert_eq!(known(&table, line).class, class, "{line}");
        }
        assert!(known(&table, "slot.get k").readonly);
        assert!(!known(&table, "slot.get k").is_write());
        assert!(known(&table, "slot.mset k v").is_write());
        assert!(known(&table, "slot.box put k v").is_write());
        assert_eq!(known(&table, "slot.mset k v").key_step, 2);
    }
}

#[test]
fn k11_entries_of_older_servers_are_read_by_their_triple() {
    let table = table(REDIS_6);
    assert_eq!(known(&table, "SLOT.GET k").class, Class::Single);
    assert_eq!(
        known(&table, "slot.mset k v").class,
        Class::SameSlot,
        "there are no tips"
    );
    assert_eq!(
        keys(&table, "slot.mset a 1 b 2"),
        (KeyOutcome::Keys, vec![1, 3])
    );
    assert_eq!(
        keys(&table, "slot.mget a b w"),
        (KeyOutcome::Keys, vec![1, 2])
    );
    assert_eq!(known(&table, "slot.total").class, Class::Forbidden);
    assert_eq!(
        keys(&table, "slot.movable w k"),
        (KeyOutcome::AskServer, vec![])
    );
    // 6 elements: 5.0 has no categories. A step of 0 is 1.
    let old = reply_of(&[
        entry("old.a", "readonly", [2, 4, 0], ""),
        entry("old.b", "write", [1, -1, 300], ""),
    ]);
    let table = LearnedTable::union([learn(&old).as_slice()]).0;
    assert_eq!(
        keys(&table, "old.a x k1 k2 k3 y"),
        (KeyOutcome::Keys, vec![2, 3, 4])
    );
    // There is no form for such a step.
    assert_eq!(keys(&table, "old.b k"), (KeyOutcome::AskServer, vec![]));
}

#[test]
fn key_specifications_find_keys_k3() {
    let table = table(REDIS_7);
    assert_eq!(keys(&table, "slot.get k"), (KeyOutcome::Keys, vec![1]));
    assert_eq!(keys(&table, "slot.get"), (KeyOutcome::Verbatim, vec![]));
    assert_eq!(
        keys(&table, "slot.counted x KEYS 2 a b c"),
        (KeyOutcome::Keys, vec![4, 5])
    );
    assert_eq!(
        keys(&table, "slot.counted x KEYS 0 a"),
        (KeyOutcome::NoKeys, vec![])
    );
    assert_eq!(keys(&table, "slot.box LOOK k"), (KeyOutcome::Keys, vec![2]));
}

#[test]
fn only_servers_know_where_some_keys_are_k17() {
    let table = table(REDIS_7);
    assert_eq!(
        keys(&table, "slot.movable w k"),
        (KeyOutcome::AskServer, vec![])
    );
    // What specifications say counts, unless the module's code says more.
    assert_eq!(
        known(&table, "slot.counted x KEYS 1 k").rule,
        KeyRule::Specs
    );
    assert_eq!(
        classed("readonly module movablekeys", [1, 1, 1], "").0,
        Class::SameSlot
    );
    assert_eq!(
        classed("readonly module movablekeys blocking", [1, 1, 1], "").0,
        Class::Forbidden
    );
}

#[test]
fn containers_are_those_of_a_server_k20() {
    let table = table(REDIS_7);
    let lookup = |line: &str| table.lookup(Request::of(line).args());
    assert!(
        matches!(lookup("SLOT.box"), Lookup::MissingSubcommand(spec) if spec.name == "slot.box")
    );
    assert!(matches!(
        lookup("slot.box none"),
        Lookup::UnknownSubcommand(_)
    ));
    assert!(matches!(lookup("slot.box|put k"), Lookup::UnknownCommand));
    assert!(matches!(lookup("slot.none"), Lookup::UnknownCommand));
    assert!(matches!(
        table.lookup(Request::new([&[b'x'; 300][..]]).args()),
        Lookup::UnknownCommand
    ));
}

#[test]
fn refusals_say_why_o13() {
    let table = table(REDIS_7);
    let told = |line| written(|out| write_not_supported(known(&table, line), out));
    let begin =
        |name| format!("-ERR proxy: command '{name}' is not supported through this proxy: ");
    assert_eq!(told("slot.wait k"), begin("slot.wait") + "it may block\r\n");
    assert!(
        told("slot.here")
            .starts_with(&(begin("slot.here") + "it has no key, and no request_policy"))
    );
}

/// One command by its flags, keys and tips.
fn classed(flags: &str, triple: [i64; 3], tips: &str) -> (Class, Option<Policy>) {
    let tips: Vec<&str> = tips.split_whitespace().collect();
    let tips_text: String = tips
        .iter()
        .map(|tip| format!("${}\r\n{tip}\r\n", tip.len()))
        .collect();
    let text = entry("m.x", flags, triple, "").replacen("*6", "*8", 1)
        + &format!("*0\r\n*{}\r\n{tips_text}", tips.len());
    let spec = learn(&reply_of(&[text]))[0].spec;
    (spec.class, response_policy(spec))
}

#[test]
fn what_a_shared_connection_cannot_have_is_refused_o13() {
    let none = [0, 0, 0];
    for (flags, triple) in [
        ("readonly module blocking", [1, 1, 1]),
        ("readonly pubsub", [1, 1, 1]),
        // A renamed WATCH.
        ("noscript loading stale fast", [1, -1, 1]),
    ] {
        assert_eq!(classed(flags, triple, "").0, Class::Forbidden, "{flags}");
    }
    let fan_out = "request_policy:all_shards response_policy:all_succeeded";
    assert_eq!(classed("module", none, fan_out).0, Class::FanMasters);
    for flags in ["module admin", "module noscript no_multi"] {
        assert_eq!(classed(flags, none, fan_out).0, Class::Forbidden, "{flags}");
    }
    assert_eq!(classed("module", [1, 1, 1], "").0, Class::Single);
}

#[test]
fn tips_say_how_replies_are_merged_k16() {
    let none = [0, 0, 0];
    for (response, policy) in [
        ("response_policy:all_succeeded", Some(Policy::AllSucceeded)),
        ("response_policy:one_succeeded", Some(Policy::OneSucceeded)),
        ("response_policy:agg_sum", Some(Policy::Sum)),
        ("response_policy:agg_min", Some(Policy::Min)),
        ("response_policy:agg_max", Some(Policy::Max)),
        ("response_policy:agg_logical_and", Some(Policy::And)),
        ("response_policy:agg_logical_or", Some(Policy::Or)),
        ("response_policy:special", None),
        ("nondeterministic_output", None),
    ] {
        let tips = format!("request_policy:all_nodes {response}");
        let class = if policy.is_some() {
            Class::FanMasters
        } else {
            Class::Forbidden
        };
        assert_eq!(classed("readonly", none, &tips), (class, policy), "{tips}");
    }
    let split = |triple, tips| classed("readonly", triple, tips).0;
    let multi = "request_policy:multi_shard";
    assert_eq!(split([1, -1, 3], multi), Class::Split);
    assert_eq!(split([2, -3, 1], multi), Class::Split);
    assert_eq!(
        split([1, -2, 2], multi),
        Class::SameSlot,
        "what belongs to whom is not plain"
    );
    assert_eq!(split([1, 2, 1], multi), Class::SameSlot);
    assert_eq!(
        split(
            [1, -1, 1],
            "request_policy:multi_shard response_policy:special"
        ),
        Class::SameSlot
    );
}

#[test]
fn the_newest_answer_counts_k14() {
    let mut learner = Learner::default();
    let mut learn = |flags, triple| {
        let reply = reply_of(&[
            entry("m.a", flags, triple, ""),
            entry("m.b", "write", [1, 1, 1], ""),
        ]);
        learner.learn(Told::parse(&reply).unwrap().entries).0
    };
    let old = learn("readonly", [1, 1, 1]);
    let new = learn("write", [2, 2, 1]);
    assert!(std::ptr::eq(old[1].spec, new[1].spec), "learned once");
    let again = learn("readonly", [1, 1, 1]);
    assert!(std::ptr::eq(old[0].spec, again[0].spec));
    let (table, conflicts) = LearnedTable::union([old.as_slice(), &new]);
    assert_eq!(conflicts, ["m.a"]);
    assert_eq!(known(&table, "m.a x k").fixed_key, 2);
    let (table, conflicts) = LearnedTable::union([old.as_slice(), &again]);
    assert!(conflicts.is_empty());
    assert_eq!(table.iter().count(), 2);
}

#[test]
fn what_is_learned_is_bounded() {
    let entries: Vec<String> = (0..=MAX_LEARNED)
        .map(|number| entry(&format!("m.{number}"), "write", [1, 1, 1], ""))
        .collect();
    let told = Told::parse(&reply_of(&entries)).unwrap();
    let mut learner = Learner::default();
    let (learned, left_out) = learner.learn(told.entries);
    assert_eq!((learned.len(), left_out), (MAX_LEARNED, 1));
    let told = Told::parse(&reply_of(&entries[..2])).unwrap();
    assert_eq!(learner.learn(told.entries).1, 0, "known ones stay known");
}

#[test]
fn commands_of_the_table_are_never_learned() {
    let entries: Vec<String> = TABLE
        .iter()
        .map(|spec| entry(&spec.name.to_uppercase(), "write", [1, 1, 1], ""))
        .collect();
    let told = Told::parse(&reply_of(&entries)).unwrap();
    assert_eq!(told.entries.len(), 0);
    let bars = TABLE.iter().filter(|spec| spec.name.contains('|')).count();
    assert_eq!(told.malformed, bars, "only containers have subcommands");
}

#[test]
fn malformed_entries_spoil_no_others() {
    let good = entry("m.good", "write", [1, 1, 1], "");
    for bad in [
        ":1\r\n".to_owned(),
        "*0\r\n".to_owned(),
        "*6\r\n".to_owned() + &":1\r\n".repeat(6),
        entry("m bad", "write", [1, 1, 1], ""),
        entry("", "write", [1, 1, 1], ""),
        entry("m.\r\nx", "write", [1, 1, 1], ""),
        entry(&"x".repeat(129), "write", [1, 1, 1], ""),
        good.replacen(":-1", ":99999", 1),
        good.replacen(":-1", "+x", 1),
        good.replacen("*6", "*7", 1) + ":1\r\n",
    ] {
        let told = Told::parse(&reply_of(&[bad.clone(), good.clone()])).unwrap();
        assert_eq!((told.entries.len(), told.malformed), (1, 1), "{bad}");
    }
    assert_eq!(
        Told::parse(b"-NOPERM no\r\n").unwrap_err(),
        TellError::Refused("NOPERM no".to_owned())
    );
    for bytes in [&b"+OK\r\n"[..], b"*1\r\n", b"", b"*0\r\n+OK\r\n"] {
        assert_eq!(Told::parse(bytes).unwrap_err(), TellError::Shape);
    }
}

#[test]
fn command_info_shows_what_the_server_showed() {
    let names = "slot.get SLOT.MSET slot.mget slot.count slot.total";
    // Valkey sends an empty list of subcommands as an array.
    for (server, protocol) in [
        (REDIS_7, Protocol::Resp2),
        (VALKEY_9, Protocol::Resp2),
        (REDIS_7_RESP3, Protocol::Resp3),
    ] {
        let line = format!("COMMAND INFO get {names}");
        let shown = written(|out| {
            reply_command(Request::of(&line).args(), &table(server), protocol, out);
        });
        let of_slot_get = |text: &str| text.find("$8\r\nSlot.Get").unwrap();
        let server = String::from_utf8(server.to_vec()).unwrap();
        let shown = &shown[of_slot_get(&shown)..];
        assert_eq!(shown, &server[of_slot_get(&server)..][..shown.len()]);
    }
}

#[test]
fn the_command_family_has_learned_commands() {
    let (table, none) = (table(REDIS_7), LearnedTable::default());
    let reply = |line: &str, table: &LearnedTable| {
        written(|out| reply_command(Request::of(line).args(), table, Protocol::Resp2, out))
    };
    let count = |table: &LearnedTable| -> usize {
        reply("COMMAND COUNT", table)[1..].trim().parse().unwrap()
    };
    assert_eq!(count(&table), count(&none) + 8, "without those refused");
    let whole = reply("COMMAND", &table);
    let (value, end) = parse_value(whole.as_bytes()).unwrap().unwrap();
    assert_eq!(end, whole.len());
    assert!(matches!(value, crate::resp::Value::Array(items) if items.len() == count(&table)));
    assert_eq!(
        reply("COMMAND LIST FILTERBY PATTERN slot.*", &table)
            .matches('$')
            .count(),
        10,
        "subcommands too"
    );
    assert!(reply("COMMAND INFO slot.box|put", &table).contains("slot.box|put"));
    assert_eq!(reply("COMMAND INFO slot.here", &table), "*1\r\n$-1\r\n");
    assert_eq!(reply("COMMAND INFO slot.box|none", &table), "*1\r\n$-1\r\n");
    assert_eq!(
        reply("COMMAND GETKEYS slot.mset a 1 b 2", &table),
        "*2\r\n$1\r\na\r\n$1\r\nb\r\n"
    );
    assert_eq!(
        reply("COMMAND GETKEYS slot.total", &table),
        "-ERR The command has no key arguments\r\n"
    );
    assert_eq!(reply("COMMAND DOCS slot.get", &table), "*0\r\n");
}

/// A reply like that of a server, with anything in it.
fn any_value() -> impl Strategy<Value = String> {
    let bulk = |text: String| format!("${}\r\n{text}\r\n", text.len());
    let word = prop_oneof![
        "[a-z.|@]{0,9}",
        Just("flags".to_owned()),
        Just("begin_search".to_owned()),
        Just("find_keys".to_owned()),
        Just("type".to_owned()),
        Just("spec".to_owned()),
        Just("index".to_owned()),
        Just("keyword".to_owned()),
        Just("range".to_owned()),
        Just("request_policy:multi_shard".to_owned()),
        Just("movablekeys".to_owned()),
    ];
    let leaf = prop_oneof![
        word.clone().prop_map(bulk),
        word.prop_map(|word| format!("+{word}\r\n")),
        prop_oneof![-3_i64..300, any::<i64>()].prop_map(|number| format!(":{number}\r\n")),
        Just("$-1\r\n".to_owned()),
        Just("_\r\n".to_owned()),
    ];
    leaf.prop_recursive(5, 200, 12, |inner| {
        prop::collection::vec(inner, 0..12).prop_flat_map(|items| {
            let (count, text) = (items.len(), items.concat());
            let array = format!("*{count}\r\n{text}");
            let set = format!("~{count}\r\n{text}");
            let map = if count % 2 == 0 {
                format!("%{}\r\n{text}", count / 2)
            } else {
                array.clone()
            };
            prop_oneof![Just(array), Just(set), Just(map)]
        })
    })
}

/// Whatever is learned can be looked up, has its keys found in any call, and is shown.
fn check(reply: &[u8]) {
    let Ok(told) = Told::parse(reply) else {
        return;
    };
    let (learned, _) = Learner::default().learn(told.entries);
    let (table, _) = LearnedTable::union([learned.as_slice()]);
    let mut keys = KeyList::new();
    for command in table.iter() {
        for spec in command.subcommands.iter().chain([&command.spec]) {
            for argc in [1, 2, 3, 7] {
                let call = Request::new((0..argc).map(|_| spec.name));
                extract_keys(spec, call.args(), &mut keys);
                assert!(keys.as_slice().iter().all(|&key| 0 < key && key < argc));
            }
            written(|out| write_not_supported(spec, out));
        }
    }
    for line in ["COMMAND", "COMMAND LIST"] {
        let mut out = Vec::new();
        reply_command(Request::of(line).args(), &table, Protocol::Resp3, &mut out);
        assert_eq!(
            parse_value(&out).unwrap().map(|(_, end)| end),
            Some(out.len())
        );
    }
}

proptest! {
    #[test]
    fn any_reply_is_survived(entries in prop::collection::vec(prop::collection::vec(any_value(), 0..11), 1..4)) {
        let text: String = entries.iter().map(|items| format!("*{}\r\n{}", items.len(), items.concat())).collect();
        check(format!("*{}\r\n{text}", entries.len()).as_bytes());
    }

    #[test]
    fn any_change_of_a_real_reply_is_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        resp3: bool,
    ) {
        let mut reply = if resp3 { REDIS_7_RESP3 } else { REDIS_7 }.to_vec();
        for (index, byte) in changes {
            let at = index.index(reply.len());
            reply[at] = byte;
        }
        check(&reply);
    }

    #[test]
    fn any_words_in_place_of_words_are_survived(from in 0usize..120, value in any_value()) {
        // One value of a real reply is another one.
        let lines: Vec<&[u8]> = REDIS_7.split_inclusive(|byte| *byte == b'\n').collect();
        let mut reply = lines[..from].concat();
        reply.extend_from_slice(value.as_bytes());
        reply.extend_from_slice(&lines[from + 1..].concat());
        check(&reply);
    }
}

//! SLOWLOG, COMMANDLOG, LATENCY, ACL.

use super::fixture::Fixture;

const BAD_COUNT: &str = "-ERR count should be greater than or equal to -1\r\n";
const BAD_TYPE: &str =
    "-ERR type should be one of the following: slow, large-request, large-reply\r\n";

#[test]
fn the_slow_log_is_empty() {
    let mut client = Fixture::new();
    for (line, reply) in [
        ("SLOWLOG GET", "*0\r\n"),
        ("SLOWLOG GET -1", "*0\r\n"),
        ("SLOWLOG GET x", BAD_COUNT),
        ("SLOWLOG GET -2", BAD_COUNT),
        (
            "SLOWLOG GET 1 2",
            "-ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.\r\n",
        ),
        ("SLOWLOG LEN", ":0\r\n"),
        ("SLOWLOG RESET", "+OK\r\n"),
    ] {
        assert_eq!(client.run(line), reply, "{line}");
    }
}

#[test]
fn the_command_log_is_empty() {
    let mut client = Fixture::new();
    for (line, reply) in [
        ("COMMANDLOG GET 1 slow", "*0\r\n"),
        ("COMMANDLOG GET -1 Large-Reply", "*0\r\n"),
        (
            "COMMANDLOG GET 1",
            "-ERR wrong number of arguments for 'commandlog|get' command\r\n",
        ),
        ("COMMANDLOG GET x slow", BAD_COUNT),
        ("COMMANDLOG GET 1 foo", BAD_TYPE),
        ("COMMANDLOG LEN slow", ":0\r\n"),
        ("COMMANDLOG LEN foo", BAD_TYPE),
        ("COMMANDLOG RESET large-request", "+OK\r\n"),
        ("COMMANDLOG RESET foo", BAD_TYPE),
    ] {
        assert_eq!(client.run(line), reply, "{line}");
    }
}

#[test]
fn no_latency_event_has_samples() {
    let mut client = Fixture::new();
    for (line, reply) in [
        ("LATENCY LATEST", "*0\r\n"),
        ("LATENCY HISTORY foo", "*0\r\n"),
        (
            "LATENCY GRAPH foo",
            "-ERR No samples available for event 'foo'\r\n",
        ),
        ("LATENCY RESET", ":0\r\n"),
        ("LATENCY RESET foo bar", ":0\r\n"),
        ("LATENCY HISTOGRAM get", "*0\r\n"),
    ] {
        assert_eq!(client.run(line), reply, "{line}");
    }
    assert!(client.run("LATENCY DOCTOR").starts_with("$"));
    client.run("HELLO 3");
    assert_eq!(client.run("LATENCY HISTOGRAM"), "%0\r\n");
    assert!(client.run("LATENCY DOCTOR").starts_with("="));
}

#[test]
fn a_huge_argument_makes_no_huge_error() {
    let reply = Fixture::new().run_words(&[b"LATENCY", b"GRAPH", &b"x".repeat(100_000)]);
    assert_eq!(
        reply,
        format!(
            "-ERR No samples available for event '{}'\r\n",
            "x".repeat(128)
        )
    );
}

#[test]
fn acl_whoami_and_genpass() {
    let mut client = Fixture::new();
    assert_eq!(client.run("ACL WHOAMI"), "$7\r\ndefault\r\n");
    assert_eq!(
        client.run("ACL GENPASS 5"),
        "$2\r\na0\r\n",
        "the double fills in a0, a1, ..."
    );
    assert_eq!(client.run("ACL GENPASS 1"), "$1\r\na\r\n");
    assert!(client.run("ACL GENPASS").starts_with("$64\r\na0a1a2"));
    assert!(client.run("ACL GENPASS 4096").starts_with("$1024\r\n"));
    let bounds = "-ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096\r\n";
    for bits in ["0", "4097", "-1"] {
        assert_eq!(client.run(&format!("ACL GENPASS {bits}")), bounds);
    }
    assert_eq!(
        client.run("ACL GENPASS x"),
        "-ERR value is not an integer or out of range\r\n"
    );
    assert_eq!(
        client.run("ACL GENPASS 1 2"),
        "-ERR unknown subcommand or wrong number of arguments for 'GENPASS'. Try ACL HELP.\r\n"
    );
}

#[test]
fn a_password_is_never_made_without_randomness() {
    let mut client = Fixture::with(|env| env.random = false);
    assert_eq!(
        client.run("ACL GENPASS"),
        "-ERR proxy: no source of random numbers\r\n"
    );
}

#[test]
fn acl_cat_lists_categories_and_what_the_proxy_offers_of_them() {
    let mut client = Fixture::new();
    assert!(client.run("ACL CAT").contains("\r\n$9\r\nsortedset\r\n"));
    assert_eq!(
        client.run("ACL CAT nosuch"),
        "-ERR Unknown category 'nosuch'\r\n"
    );
    assert_eq!(
        client.run("ACL CAT no\0such"),
        "-ERR Unknown category 'no'\r\n"
    );
    let transactions = client.run("ACL CAT transaction");
    assert!(transactions.contains("$5\r\nwatch\r\n"));
    let dangerous = client.run("ACL CAT DANGEROUS");
    assert!(dangerous.contains("$11\r\nclient|list\r\n") && !dangerous.contains("shutdown"));
    assert_eq!(
        client.run("ACL CAT a b"),
        "-ERR unknown subcommand or wrong number of arguments for 'CAT'. Try ACL HELP.\r\n"
    );
}

#[test]
fn slow_requests_are_the_samples_of_the_one_event() {
    use crate::slowlog::SlowRequest;
    let mut client = Fixture::new();
    for (unix_seconds, micros) in [(1_699_999_997, 30_900), (1_699_999_998, 12_000)] {
        client.env.slow_log.borrow_mut().note(SlowRequest {
            unix_seconds,
            micros,
            args: Vec::new(),
            client: client.client.remote,
            client_name: Vec::new(),
            course: String::new(),
        });
    }
    let history = "*2\r\n*2\r\n:1699999997\r\n:30\r\n*2\r\n:1699999998\r\n:12\r\n";
    assert_eq!(client.run("LATENCY HISTORY command"), history);
    assert_eq!(client.run("LATENCY HISTORY Command"), "*0\r\n");
    let latest = "*1\r\n*4\r\n$7\r\ncommand\r\n:1699999998\r\n:12\r\n:30\r\n";
    assert_eq!(client.run("LATENCY LATEST"), latest);
    assert!(client.run("LATENCY GRAPH command").contains("\n32\nss\n"));
    let report = client.run("LATENCY DOCTOR");
    assert!(report.contains("1. command: 2 latency spikes"), "{report}");
    assert_eq!(client.run("SLOWLOG RESET"), "+OK\r\n");
    assert_eq!(client.run("LATENCY RESET other"), ":0\r\n");
    assert_eq!(client.run("LATENCY RESET command command"), ":1\r\n");
    assert_eq!(client.run("LATENCY LATEST"), "*0\r\n");
}

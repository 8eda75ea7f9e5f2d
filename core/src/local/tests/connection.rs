//! PING to HELLO.

use std::cell::RefCell;

use super::fixture::Fixture;
use crate::local::testing::TestEnvironment;
use crate::local::{ClusterEmulation, Databases, LocalOutcome, Secret};
use crate::resp::Protocol;
use crate::session::client_state::ReplyMode;

const WRONGPASS: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
const BAD_NAME: &str =
    "-ERR Client names cannot contain spaces, newlines or special characters.\r\n";
const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range\r\n";

fn with_password(env: &mut TestEnvironment) {
    env.listener.passwords = vec![Secret::new(b"old"), Secret::new(b"pw")];
}

fn version(env: &mut TestEnvironment) {
    env.upstream.redis_version = Some("7.0.15".into());
}

#[test]
fn ping_and_echo() {
    let mut client = Fixture::new();
    assert_eq!(client.run("PING"), "+PONG\r\n");
    assert_eq!(client.run("ping hi"), "$2\r\nhi\r\n");
    assert_eq!(
        client.run("PING a b"),
        "-ERR wrong number of arguments for 'ping' command\r\n"
    );
    assert_eq!(client.run("ECHO x"), "$1\r\nx\r\n");
    assert_eq!(client.run_words(&[b"ECHO", b"a\r\nb"]), "$4\r\na\r\nb\r\n");
    assert_eq!(client.outcome, LocalOutcome::Reply);
}

#[test]
fn y12_quit_closes_after_its_reply() {
    let mut client = Fixture::new();
    assert_eq!(client.run("QUIT"), "+OK\r\n");
    assert_eq!(client.outcome, LocalOutcome::ReplyThenClose);
}

#[test]
fn time_is_seconds_and_microseconds() {
    assert_eq!(
        Fixture::new().run("TIME"),
        "*2\r\n$10\r\n1700000000\r\n$2\r\n42\r\n"
    );
}

#[test]
fn n22_select_knows_database_0_only() {
    let mut client = Fixture::new();
    assert_eq!(client.run("SELECT 0"), "+OK\r\n");
    for index in ["1", "-1", "99"] {
        assert_eq!(
            client.run(&format!("SELECT {index}")),
            "-ERR SELECT is not allowed in cluster mode\r\n"
        );
    }
    assert_eq!(
        client.run("SELECT 4294967296"),
        "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n"
    );
    for index in ["x", "99999999999999999999", "+1", ""] {
        assert_eq!(
            client.run(&format!("SELECT {index}")),
            NOT_AN_INTEGER,
            "{index:?}"
        );
    }
}

#[test]
fn n21_select_chooses_one_of_the_databases_the_servers_have() {
    let mut client = Fixture::new();
    client.env.databases = RefCell::new(Some(Databases {
        count: 4,
        refusal: "ERR DB index is out of range".into(),
    }));
    for (index, reply) in [
        ("3", "+OK\r\n"),
        ("4", "-ERR DB index is out of range\r\n"),
        ("-1", "-ERR DB index is out of range\r\n"),
        ("70000", "-ERR DB index is out of range\r\n"),
        ("x", NOT_AN_INTEGER),
    ] {
        assert_eq!(client.run(&format!("SELECT {index}")), reply, "{index}");
        assert_eq!(client.client.database, 3, "an error changes nothing");
    }
    assert!(client.run("CLIENT INFO").contains(" db=3 "));
    assert!(client.run("CONFIG GET databases").ends_with("$1\r\n4\r\n"));
    assert_eq!(client.run("RESET"), "+RESET\r\n");
    assert!(client.run("CLIENT INFO").contains(" db=0 "));
}

#[test]
fn auth_without_a_password_configured() {
    let mut client = Fixture::new();
    assert_eq!(
        client.run("AUTH x"),
        "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration \
         is correct?\r\n"
    );
    assert_eq!(client.run("AUTH default x"), "+OK\r\n");
    assert_eq!(client.run("AUTH bob x"), WRONGPASS);
    assert_eq!(client.run("AUTH a b c"), "-ERR syntax error\r\n");
}

#[test]
fn auth_with_a_password() {
    for right in ["AUTH pw", "AUTH old", "AUTH default pw"] {
        let mut client = Fixture::with(with_password);
        assert!(!client.client.authenticated);
        assert_eq!(client.run(right), "+OK\r\n");
        assert!(client.client.authenticated);
        // A later mistake does not log out.
        assert_eq!(client.run("AUTH bad"), WRONGPASS);
        assert!(client.client.authenticated);
    }
    for wrong in [
        "AUTH bad",
        "AUTH p",
        "AUTH pwd",
        "AUTH default bad",
        "AUTH bob pw",
        "AUTH Default pw",
    ] {
        let mut client = Fixture::with(with_password);
        assert_eq!(client.run(wrong), WRONGPASS, "{wrong}");
        assert!(!client.client.authenticated);
    }
}

#[test]
fn y1_hello_in_both_versions() {
    let mut client = Fixture::with(version);
    let fields = |proto: u8| {
        format!(
            "$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:{proto}\r\n$2\r\nid\r\n:5\r\n\
             $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
        )
    };
    assert_eq!(client.run("HELLO"), format!("*14\r\n{}", fields(2)));
    assert_eq!(client.run("HELLO 3"), format!("%7\r\n{}", fields(3)));
    assert_eq!(
        client.run("HELLO"),
        format!("%7\r\n{}", fields(3)),
        "no version keeps the version"
    );
    assert_eq!(client.run("HELLO 2"), format!("*14\r\n{}", fields(2)));
    assert_eq!(client.client.protocol, Protocol::Resp2);
}

#[test]
fn y1_hello_names_valkey_and_the_emulated_cluster() {
    let mut client = Fixture::with(|env| {
        env.upstream.redis_version = Some("7.2.4".into());
        env.upstream.valkey_version = Some("9.1.2".into());
        env.listener.cluster = ClusterEmulation::Full;
    });
    assert_eq!(
        client.run("HELLO 3"),
        "%7\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nversion\r\n$5\r\n9.1.2\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:5\r\n$4\r\nmode\
         \r\n$7\r\ncluster\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
    );
    assert!(
        Fixture::new().run("HELLO").contains("$5\r\n6.2.0\r\n"),
        "before any server was met"
    );
}

#[test]
fn hello_options_in_any_order() {
    let mut client = Fixture::with(with_password);
    assert!(
        client
            .run("hello 3 setname bb auth default pw")
            .starts_with("%7\r\n")
    );
    assert_eq!(
        (client.client.name.as_slice(), client.client.authenticated),
        (b"bb".as_slice(), true)
    );
    let mut client = Fixture::with(with_password);
    assert!(
        client
            .run("HELLO 2 AUTH default pw SETNAME cc")
            .starts_with("*14\r\n")
    );
    assert_eq!(client.run("CLIENT GETNAME"), "$2\r\ncc\r\n");
}

#[test]
fn hello_refuses_in_the_servers_words() {
    let mut client = Fixture::new();
    for (line, error) in [
        (
            "HELLO x",
            "-ERR Protocol version is not an integer or out of range\r\n",
        ),
        ("HELLO 1", "-NOPROTO unsupported protocol version\r\n"),
        (
            "HELLO 4 AUTH a",
            "-NOPROTO unsupported protocol version\r\n",
        ),
        ("HELLO 3 FOO", "-ERR Syntax error in HELLO option 'FOO'\r\n"),
        (
            "HELLO 3 AUTH a",
            "-ERR Syntax error in HELLO option 'AUTH'\r\n",
        ),
        (
            "HELLO 3 SETNAME",
            "-ERR Syntax error in HELLO option 'SETNAME'\r\n",
        ),
        ("HELLO 2 AUTH bob y", WRONGPASS),
    ] {
        assert_eq!(client.run(line), error, "{line}");
    }
    assert_eq!(
        client.run_words(&[b"HELLO", b"2", b"SETNAME", b"a b"]),
        BAD_NAME
    );
}

#[test]
fn a_refused_hello_changes_nothing() {
    let mut client = Fixture::with(with_password);
    for words in [
        &[
            b"HELLO".as_slice(),
            b"3",
            b"SETNAME",
            b"a b",
            b"AUTH",
            b"default",
            b"pw",
        ][..],
        &[
            b"HELLO", b"3", b"AUTH", b"default", b"pw", b"SETNAME", b"a b",
        ],
        &[
            b"HELLO", b"3", b"AUTH", b"default", b"bad", b"SETNAME", b"n",
        ],
        &[b"HELLO", b"3", b"SETNAME", b"n"],
        &[b"HELLO", b"3", b"AUTH", b"default", b"pw", b"FOO"],
    ] {
        assert!(client.run_words(words).starts_with('-'));
        assert!(!client.client.authenticated && client.client.name.is_empty());
        assert_eq!(client.client.protocol, Protocol::Resp2);
    }
}

#[test]
fn hello_needs_authentication() {
    let error = "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
                 <pass> option can be used to authenticate the client and select the RESP protocol version at the same \
                 time\r\n";
    let mut client = Fixture::with(with_password);
    assert_eq!(client.run("HELLO"), error);
    assert_eq!(client.run("HELLO 3"), error);
    assert_eq!(
        client.run("HELLO 9"),
        "-NOPROTO unsupported protocol version\r\n"
    );
}

#[test]
fn y2_resp3_only_if_every_primary_speaks_it() {
    let mut client = Fixture::with(|env| env.upstream.resp3 = false);
    assert_eq!(
        client.run("HELLO 3"),
        "-NOPROTO unsupported protocol version\r\n"
    );
    assert!(client.run("HELLO 2").starts_with("*14\r\n"));
}

#[test]
fn z7_no_error_repeats_a_password() {
    let mut client = Fixture::with(with_password);
    for line in [
        "AUTH hunter2",
        "AUTH bob hunter2",
        "HELLO 3 AUTH bob hunter2",
        "HELLO 3 AUTH bob hunter2 FOO",
        "AUTH a b hunter2",
    ] {
        let reply = client.run(line);
        assert!(
            reply.starts_with('-') && !reply.contains("hunter2"),
            "{reply}"
        );
    }
}

#[test]
fn y11_reset_starts_over() {
    let mut client = Fixture::with(with_password);
    client.run("HELLO 3 AUTH default pw SETNAME n");
    client.run("CLIENT REPLY OFF");
    assert_eq!(client.run("RESET"), "+RESET\r\n");
    assert_eq!(client.outcome, LocalOutcome::ResetSession);
    assert!(
        !client.client.authenticated,
        "the listener wants a password"
    );
    assert_eq!(
        (client.client.protocol, client.client.reply_mode),
        (Protocol::Resp2, ReplyMode::On)
    );
    assert_eq!(client.run("CLIENT GETNAME"), "$-1\r\n");
}

#[test]
fn y10_readonly_is_a_flag_of_the_session() {
    let mut client = Fixture::new();
    assert_eq!(client.run("READONLY"), "+OK\r\n");
    assert_eq!(client.client.readonly, Some(true));
    assert_eq!(client.run("READWRITE"), "+OK\r\n");
    assert_eq!(client.client.readonly, Some(false));
    assert_eq!(client.run("ASKING"), "+OK\r\n");
}

#[test]
fn role_is_a_primary_without_replicas() {
    let mut client = Fixture::new();
    assert_eq!(client.run("ROLE"), "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n");
}

#[test]
fn lolwut_names_the_proxy() {
    let mut client = Fixture::new();
    assert_eq!(
        client.run("LOLWUT VERSION 5"),
        "$19\r\nslotway ver. 1.2.3\n\r\n"
    );
    client.run("HELLO 3");
    assert_eq!(client.run("LOLWUT"), "=23\r\ntxt:slotway ver. 1.2.3\n\r\n");
}

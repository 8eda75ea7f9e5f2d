//! CLIENT.

use super::fixture::{Fixture, new_client};
use crate::local::Environment as _;
use crate::local::LocalOutcome;
use crate::local::testing::TestEnvironment;
use crate::session::client_state::ReplyMode;

const SYNTAX: &str = "-ERR syntax error\r\n";
const BAD_NAME: &str =
    "-ERR Client names cannot contain spaces, newlines or special characters.\r\n";

/// Line of the client the fixture is, up to its flags and from there on.
fn line(id: u64, name: &str, flags: &str, resp: u8) -> String {
    format!(
        "id={id} addr=10.0.0.9:{} laddr=10.0.0.1:6379 fd=8 name={name} age=9 idle=4 flags={flags} db=0 sub=0 psub=0 ssub=0 \
         multi=-1 watch=0 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r \
         cmd=client|info user=default redir=-1 resp={resp} lib-name= lib-ver=\n",
        40_000 + id
    )
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// Clients 1 and 8 besides the fixture's client 5; admin commands allowed.
fn three_clients(env: &mut TestEnvironment) {
    env.listener.admin_commands = true;
    env.client_changed(&new_client(1, false));
    let mut other = new_client(8, false);
    other.user = Some(b"app".as_slice().into());
    env.client_changed(&other);
}

fn ids(reply: &str) -> Vec<&str> {
    let lines = reply.lines().filter_map(|line| line.strip_prefix("id="));
    lines.filter_map(|line| line.split(' ').next()).collect()
}

#[test]
fn identity() {
    let mut client = Fixture::new();
    assert_eq!(client.run("CLIENT ID"), ":5\r\n");
    assert_eq!(client.run("CLIENT GETREDIR"), ":-1\r\n");
}

#[test]
fn names() {
    let mut client = Fixture::new();
    assert_eq!(client.run("CLIENT GETNAME"), "$-1\r\n");
    for bad in [b"a b".as_slice(), b"a\nb", b"a\xffb", b"\x7f", b" "] {
        assert_eq!(
            client.run_words(&[b"CLIENT", b"SETNAME", bad]),
            BAD_NAME,
            "{bad:?}"
        );
    }
    assert_eq!(client.run("CLIENT SETNAME ok~!"), "+OK\r\n");
    assert_eq!(client.run("CLIENT GETNAME"), "$4\r\nok~!\r\n");
    assert_eq!(client.run_words(&[b"CLIENT", b"SETNAME", b""]), "+OK\r\n");
    client.run("HELLO 3");
    assert_eq!(client.run("CLIENT GETNAME"), "_\r\n");
}

#[test]
fn library() {
    let mut client = Fixture::new();
    assert_eq!(client.run("CLIENT SETINFO LIB-NAME x"), "+OK\r\n");
    assert_eq!(client.run("CLIENT SETINFO lib-ver 1.0"), "+OK\r\n");
    assert_eq!(
        client.run_words(&[b"CLIENT", b"SETINFO", b"lib-ver", b"1 2"]),
        "-ERR lib-ver cannot contain spaces, newlines or special characters.\r\n"
    );
    assert_eq!(
        client.run("CLIENT SETINFO FOO x"),
        "-ERR Unrecognized option 'FOO'\r\n"
    );
    assert!(
        client
            .run("CLIENT INFO")
            .ends_with(" lib-name=x lib-ver=1.0\n\r\n")
    );
}

#[test]
fn info_is_the_own_line() {
    let mut client = Fixture::with(three_clients);
    assert_eq!(client.run("CLIENT INFO"), bulk(&line(5, "", "N", 2)));
    client.run("HELLO 3 SETNAME n");
    client.run("READONLY");
    client.run("CLIENT NO-EVICT ON");
    client.run("CLIENT NO-TOUCH on");
    let text = line(5, "n", "reT", 3);
    assert_eq!(
        client.run("CLIENT INFO"),
        format!("={}\r\ntxt:{text}\r\n", text.len() + 4)
    );
}

#[test]
fn list_shows_the_clients_of_the_process_oldest_first() {
    let mut client = Fixture::with(three_clients);
    assert_eq!(ids(&client.run("CLIENT LIST")), ["1", "5", "8"]);
    assert_eq!(ids(&client.run("CLIENT LIST TYPE normal")), ["1", "5", "8"]);
    let commands = client.run("CLIENT LIST ID 1 5");
    let commands: Vec<&str> = commands
        .split(" cmd=")
        .skip(1)
        .map(|rest| rest.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        commands,
        ["get", "client|list"],
        "the caller's last command is this one"
    );
    for none in [
        "TYPE master",
        "TYPE replica",
        "TYPE pubsub",
        "ID 999",
        "ID 0",
        "ID -1",
        "MAXAGE 10",
        "USER nobody",
    ] {
        assert_eq!(
            client.run(&format!("CLIENT LIST {none}")),
            "$0\r\n\r\n",
            "{none}"
        );
    }
    assert_eq!(ids(&client.run("CLIENT LIST ID 8 2 1")), ["1", "8"]);
    assert_eq!(
        ids(&client.run("CLIENT LIST ID 8 1 SKIPME yes USER app")),
        ["8"]
    );
    assert_eq!(ids(&client.run("CLIENT LIST SKIPME yes")), ["1", "8"]);
    assert_eq!(ids(&client.run("CLIENT LIST ADDR 10.0.0.9:40008")), ["8"]);
    assert_eq!(
        ids(&client.run("CLIENT LIST LADDR 10.0.0.1:6379 MAXAGE 9")),
        ["1", "5", "8"]
    );
}

#[test]
fn list_refuses_in_the_servers_words() {
    let mut client = Fixture::new();
    for (filter, error) in [
        ("TYPE foo", "-ERR Unknown client type 'foo'\r\n"),
        ("FOO", SYNTAX),
        ("FOO bar", SYNTAX),
        ("ID", SYNTAX),
        ("ID x", "-ERR Invalid client ID\r\n"),
        ("ID 1 2x", "-ERR Invalid client ID\r\n"),
        ("TYPE", SYNTAX),
    ] {
        assert_eq!(
            client.run(&format!("CLIENT LIST {filter}")),
            error,
            "{filter}"
        );
    }
}

#[test]
fn kill_needs_admin_commands() {
    let mut client = Fixture::with(|env| {
        three_clients(env);
        env.listener.admin_commands = false;
    });
    for line in ["CLIENT KILL ID 1", "CLIENT KILL 10.0.0.9:40001"] {
        assert_eq!(
            client.run(line),
            "-NOPERM proxy: admin commands are disabled\r\n"
        );
    }
    assert!(client.env.killed.borrow().is_empty());
}

#[test]
fn kill_by_address() {
    let mut client = Fixture::with(three_clients);
    assert_eq!(
        client.run("CLIENT KILL 1.2.3.4:5"),
        "-ERR No such client\r\n"
    );
    assert_eq!(client.run("CLIENT KILL 10.0.0.9:40001"), "+OK\r\n");
    assert_eq!(
        (client.env.killed.borrow().as_slice(), client.outcome),
        ([1].as_slice(), LocalOutcome::Reply)
    );
    assert_eq!(
        client.run("CLIENT KILL 10.0.0.9:40005"),
        "+OK\r\n",
        "the old form does not spare the caller"
    );
    assert_eq!(
        (client.env.killed.borrow().as_slice(), client.outcome),
        ([1].as_slice(), LocalOutcome::ReplyThenClose)
    );
}

#[test]
fn subscribers_are_clients_of_their_own_kind() {
    let mut client = Fixture::with(three_clients);
    let known = &client.env.subscriptions;
    known.borrow_mut().extend([(1, [2, 1, 3]), (8, [0; 3])]);
    assert_eq!(ids(&client.run("CLIENT LIST TYPE pubsub")), ["1"]);
    assert_eq!(ids(&client.run("CLIENT LIST TYPE normal")), ["5", "8"]);
    let line = client.run("CLIENT LIST ID 1");
    assert!(line.contains(" flags=P"), "{line}");
    assert!(line.contains(" sub=2 psub=1 ssub=3 "), "{line}");
    assert_eq!(client.run("CLIENT KILL TYPE pubsub"), ":1\r\n");
}

#[test]
fn kill_by_filters_spares_the_caller_unless_told() {
    for (filters, reply, killed, suicide) in [
        ("ID 99", ":0\r\n", &[][..], false),
        ("ID 8", ":1\r\n", &[8], false),
        ("ID 5", ":0\r\n", &[], false),
        ("ID 5 SKIPME no", ":1\r\n", &[], true),
        ("TYPE normal", ":2\r\n", &[1, 8], false),
        ("TYPE normal SKIPME NO", ":3\r\n", &[1, 8], true),
        ("TYPE pubsub SKIPME no", ":0\r\n", &[], false),
        ("USER app", ":1\r\n", &[8], false),
        ("USER default", ":1\r\n", &[1], false),
        ("LADDR 10.0.0.1:6379 MAXAGE 9", ":2\r\n", &[1, 8], false),
        ("MAXAGE 10", ":0\r\n", &[], false),
        ("ADDR 10.0.0.9:40001 USER app", ":0\r\n", &[], false),
    ] {
        let mut client = Fixture::with(three_clients);
        assert_eq!(
            client.run(&format!("CLIENT KILL {filters}")),
            reply,
            "{filters}"
        );
        let mut ids = client.env.killed.borrow().clone();
        ids.sort_unstable();
        assert_eq!(ids, killed, "{filters}");
        assert_eq!(
            client.outcome == LocalOutcome::ReplyThenClose,
            suicide,
            "{filters}"
        );
    }
}

#[test]
fn kill_refuses_in_the_servers_words() {
    let mut client = Fixture::with(three_clients);
    for (filters, error) in [
        ("ID x", "-ERR client-id should be greater than 0\r\n"),
        ("ID 0", "-ERR client-id should be greater than 0\r\n"),
        ("TYPE foo", "-ERR Unknown client type 'foo'\r\n"),
        ("USER foo", "-ERR No such user 'foo'\r\n"),
        ("USER default SKIPME foo", SYNTAX),
        ("FOO bar", SYNTAX),
        ("ID 1 ADDR", SYNTAX),
        (
            "MAXAGE x",
            "-ERR maxage is not an integer or out of range\r\n",
        ),
    ] {
        assert_eq!(
            client.run(&format!("CLIENT KILL {filters}")),
            error,
            "{filters}"
        );
    }
    assert_eq!(
        client.run("CLIENT KILL"),
        "-ERR wrong number of arguments for 'client|kill' command\r\n"
    );
    assert!(client.env.killed.borrow().is_empty());
}

#[test]
fn l1_reply_modes() {
    let mut client = Fixture::new();
    assert_eq!(client.run("CLIENT REPLY ON"), "+OK\r\n");
    assert_eq!(client.run("CLIENT REPLY SKIP"), "");
    assert_eq!(client.client.reply_mode, ReplyMode::SkipThisAndNext);
    assert_eq!(client.run("CLIENT REPLY OFF"), "");
    assert_eq!(client.run("CLIENT REPLY SKIP"), "");
    assert_eq!(
        client.client.reply_mode,
        ReplyMode::Off,
        "SKIP does not end OFF"
    );
    assert_eq!(client.run("CLIENT REPLY foo"), SYNTAX);
    assert!(!client.client.permit_reply(), "not even the error is sent");
    assert_eq!(client.run("CLIENT REPLY on"), "+OK\r\n");
    assert!(client.client.permit_reply());
}

#[test]
fn switches() {
    let mut client = Fixture::new();
    for (command, bad) in [("NO-EVICT", "foo"), ("NO-TOUCH", "1")] {
        assert_eq!(client.run(&format!("CLIENT {command} ON")), "+OK\r\n");
        assert_eq!(client.run(&format!("CLIENT {command} {bad}")), SYNTAX);
    }
    assert!(client.client.no_evict && client.client.no_touch);
    assert_eq!(client.run("CLIENT NO-EVICT off"), "+OK\r\n");
    assert!(!client.client.no_evict);
    assert_eq!(client.run("CLIENT CAPA redirect"), "+OK\r\n");
}

#[test]
fn n1_tracking_is_off() {
    let mut client = Fixture::new();
    let refused = "-ERR proxy: client side caching is not enabled on this proxy\r\n";
    assert_eq!(client.run("CLIENT TRACKING off"), "+OK\r\n");
    assert_eq!(client.run("CLIENT TRACKING OFF NOLOOP"), "+OK\r\n");
    assert_eq!(client.run("CLIENT TRACKING on"), refused);
    assert_eq!(
        client.run("CLIENT TRACKING ON REDIRECT 7 BCAST PREFIX a PREFIX b"),
        refused
    );
    for bad in ["foo", "off foo", "off REDIRECT", "on PREFIX"] {
        assert_eq!(
            client.run(&format!("CLIENT TRACKING {bad}")),
            SYNTAX,
            "{bad}"
        );
    }
    assert_eq!(
        client.run("CLIENT CACHING yes"),
        "-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled\r\n"
    );
    let info = |head: &str, flags: &str| {
        format!(
            "{head}\r\n$5\r\nflags\r\n{flags}\r\n$3\r\noff\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n"
        )
    };
    assert_eq!(client.run("CLIENT TRACKINGINFO"), info("*6", "*1"));
    client.run("HELLO 3");
    assert_eq!(client.run("CLIENT TRACKINGINFO"), info("%3", "~1"));
}

/// redis-py, go-redis and others take an error here as "no maintenance notices" and OK as a promise to send them.
#[test]
fn maintenance_notices_are_an_unknown_subcommand() {
    assert_eq!(
        Fixture::new().run("CLIENT MAINT_NOTIFICATIONS ON"),
        "-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.\r\n"
    );
}

/// [B9]
#[test]
fn unblock_tells_whether_the_client_waited() {
    let mut client = Fixture::new();
    let refused = "-NOPERM proxy: admin commands are disabled\r\n";
    assert_eq!(client.run("CLIENT UNBLOCK 8"), refused);
    client.env.listener.admin_commands = true;
    client.env.client_waits(8, true);
    for (command, reply) in [
        (
            "CLIENT UNBLOCK 8 SOON",
            "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR\r\n",
        ),
        (
            "CLIENT UNBLOCK x",
            "-ERR value is not an integer or out of range\r\n",
        ),
        (
            "CLIENT UNBLOCK 8 ERROR more",
            "-ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.\r\n",
        ),
        ("CLIENT UNBLOCK -8", ":0\r\n"),
        ("CLIENT UNBLOCK 9", ":0\r\n"),
        ("CLIENT UNBLOCK 8 error", ":1\r\n"),
        ("CLIENT UNBLOCK 8 TIMEOUT", ":0\r\n"),
    ] {
        assert_eq!(client.run(command), reply, "{command}");
    }
    let unblocked = [(9, false), (8, true), (8, false)];
    assert_eq!(client.env.unblocked.borrow().as_slice(), unblocked);
}

#[test]
fn a_client_that_waits_has_a_flag() {
    let mut client = Fixture::new();
    client.env.client_changed(&new_client(5, false));
    client.env.client_waits(5, true);
    assert_eq!(client.run("CLIENT INFO"), bulk(&line(5, "", "b", 2)));
}

#[test]
fn u15_pause_is_checked_as_by_the_servers() {
    let mut client = Fixture::with(|env| env.listener.admin_commands = true);
    for (arguments, error) in [
        ("abc", "-ERR timeout is not an integer or out of range\r\n"),
        ("-1", "-ERR timeout is negative\r\n"),
        ("9223372036854775807", "-ERR timeout is out of range\r\n"),
        ("x y", "-ERR CLIENT PAUSE mode must be WRITE or ALL\r\n"),
    ] {
        assert_eq!(client.run(&format!("CLIENT PAUSE {arguments}")), error);
    }
    assert!(client.run("CLIENT PAUSE 1 ALL x").starts_with("-ERR "));
    assert_eq!(client.outcome, LocalOutcome::Reply);
    for (arguments, writes_only) in [("20", false), ("20 all", false), ("20 write", true)] {
        assert_eq!(client.run(&format!("CLIENT PAUSE {arguments}")), "+OK\r\n");
        assert_eq!(client.outcome, LocalOutcome::PauseChanged);
        let pause = client.env.paused.get().unwrap();
        assert_eq!(pause.writes_only, writes_only);
        assert_eq!(pause.until.as_micros(), 20_000);
    }
    assert_eq!(client.run("CLIENT UNPAUSE"), "+OK\r\n");
    assert_eq!(client.env.paused.get(), None);
    client.env.listener.admin_commands = false;
    for command in ["CLIENT PAUSE 1", "CLIENT UNPAUSE"] {
        let refusal = "-NOPERM proxy: admin commands are disabled\r\n";
        assert_eq!(client.run(command), refusal);
    }
}

//! The proxy as a Sentinel [N27]: compared by hand with Sentinels of Redis 7.0 and Valkey 9.1.

use std::sync::Arc;

use super::fixture::new_client;
use crate::local::testing::TestEnvironment;
use crate::local::{LocalOutcome, Secret, SentinelClient, SentinelService, answer_as_sentinel};
use crate::resp::{Args, DecodeStep, RequestDecoder, RequestLimits, write};

/// A client of a Sentinel that has two services.
struct Asked {
    env: TestEnvironment,
    client: SentinelClient,
    services: Vec<SentinelService>,
    outcome: LocalOutcome,
}

impl Asked {
    fn new(password: Option<&str>) -> Self {
        let mut env = TestEnvironment::default();
        env.listener.passwords = password
            .iter()
            .map(|it| Secret::new(it.as_bytes()))
            .collect();
        env.process.run_id = Arc::from("me");
        env.process.uptime_seconds = 7;
        let service = |name, host: Option<&str>, port| SentinelService {
            name: Arc::from(name),
            host: host.map(Arc::from),
            port,
            run_id: Arc::from("0123abcd"),
        };
        Self {
            client: SentinelClient::new(new_client(5, password.is_some())),
            env,
            services: vec![
                service("mymaster", None, 6379),
                service("orders", Some("redis.example.com"), 6380),
            ],
            outcome: LocalOutcome::Reply,
        }
    }

    /// The reply to a command line whose words are separated by single blanks.
    #[track_caller]
    fn run(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let (mut request, mut decoder, mut out) = (Vec::new(), RequestDecoder::new(), Vec::new());
        write::command(&mut request, &words);
        let step = decoder.decode(&request, &RequestLimits::DEFAULT).unwrap();
        assert!(matches!(step, DecodeStep::Command { .. }));
        let args = Args::new(&request, decoder.ranges());
        self.outcome =
            answer_as_sentinel(args, &mut self.client, &self.env, &self.services, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// The words of a reply in RESP2, without its lengths.
    #[track_caller]
    fn words(&mut self, line: &str) -> Vec<String> {
        let reply = self.run(line);
        let lines = reply.split("\r\n");
        lines
            .filter(|line| !line.starts_with(['*', '$', '%']) && !line.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

#[test]
fn a_service_is_at_the_address_the_client_came_to_or_the_one_announced_n27() {
    let mut asked = Asked::new(None);
    for word in ["get-master-addr-by-name", "GET-PRIMARY-ADDR-BY-NAME"] {
        let local = asked.client.state.local.ip().to_string();
        let words = asked.words(&format!("SENTINEL {word} mymaster"));
        assert_eq!(words, [local.as_str(), "6379"]);
        let words = asked.words(&format!("sentinel {word} orders"));
        assert_eq!(words, ["redis.example.com", "6380"]);
        assert_eq!(asked.run(&format!("SENTINEL {word} MYMASTER")), "*-1\r\n");
    }
    asked.client.state.local = "[::ffff:10.0.0.7]:26379".parse().unwrap();
    let words = asked.words("SENTINEL GET-MASTER-ADDR-BY-NAME mymaster");
    assert_eq!(words, ["10.0.0.7", "6379"]);
    asked.run("HELLO 3");
    assert_eq!(
        asked.run("SENTINEL GET-MASTER-ADDR-BY-NAME nobody"),
        "_\r\n"
    );
}

#[test]
fn a_service_has_the_fields_of_a_primary_that_is_well_n27() {
    let mut asked = Asked::new(None);
    let words = asked.words("SENTINEL MASTER orders");
    assert_eq!(words.len(), 40);
    for (name, value) in [
        ("name", "orders"),
        ("ip", "redis.example.com"),
        ("port", "6380"),
        ("runid", "0123abcd"),
        ("flags", "master"),
        ("role-reported", "master"),
        ("role-reported-time", "7000"),
        ("num-slaves", "0"),
        ("num-other-sentinels", "0"),
        ("quorum", "1"),
    ] {
        let place = words.iter().position(|word| word == name).unwrap();
        assert_eq!(words[place + 1], value, "{name}");
    }
    assert!(
        asked
            .run("SENTINEL MASTERS")
            .starts_with("*2\r\n*40\r\n$4\r\nname\r\n")
    );
    assert_eq!(
        asked.run("SENTINEL PRIMARIES"),
        asked.run("SENTINEL MASTERS")
    );
    assert_eq!(
        asked.run("SENTINEL PRIMARY orders"),
        asked.run("SENTINEL MASTER orders")
    );
    for word in ["REPLICAS", "SLAVES", "SENTINELS"] {
        assert_eq!(
            asked.run(&format!("SENTINEL {word} orders")),
            "*0\r\n",
            "none"
        );
        let nobody = asked.run(&format!("SENTINEL {word} nobody"));
        assert_eq!(nobody, "-ERR No such master with that name\r\n");
    }
    assert!(
        asked
            .run("SENTINEL CKQUORUM orders")
            .starts_with("+OK 1 usable Sentinels.")
    );
    assert_eq!(asked.words("SENTINEL MYID"), ["me"]);
    asked.run("HELLO 3");
    assert!(asked.run("SENTINEL MASTERS").starts_with("*2\r\n%20\r\n"));
}

#[test]
fn it_says_that_it_is_a_sentinel_n27() {
    let mut asked = Asked::new(None);
    assert_eq!(asked.words("ROLE"), ["sentinel", "mymaster", "orders"]);
    let info = asked.run("INFO");
    for line in [
        "redis_mode:sentinel",
        "run_id:me",
        "sentinel_masters:2",
        "master0:name=mymaster,status=ok,address=",
        "master1:name=orders,status=ok,address=redis.example.com:6380,slaves=0,sentinels=1",
    ] {
        assert!(info.contains(line), "{line} is not in\n{info}");
    }
    assert!(!asked.run("INFO sentinel").contains("redis_mode"));
    let hello = asked.words("HELLO 2");
    assert!(hello.contains(&"sentinel".to_owned()) && !hello.contains(&"role".to_owned()));
}

#[test]
fn what_no_sentinel_has_and_what_the_proxy_does_not_offer_is_refused_n27() {
    let mut asked = Asked::new(None);
    for (line, start) in [
        (
            "GET a",
            "-ERR unknown command 'GET', with args beginning with: 'a' ",
        ),
        ("CONFIG GET a", "-ERR unknown command 'CONFIG'"),
        (
            "CLIENT KILL a",
            "-ERR unknown subcommand 'KILL'. Try CLIENT HELP.",
        ),
        (
            "CLIENT FOO",
            "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.",
        ),
        (
            "SENTINEL",
            "-ERR wrong number of arguments for 'sentinel' command",
        ),
        (
            "SENTINEL foo",
            "-ERR unknown subcommand 'foo'. Try SENTINEL HELP.",
        ),
        (
            "SENTINEL MASTER",
            "-ERR wrong number of arguments for 'sentinel|master' command",
        ),
        (
            "SENTINEL MASTERS x",
            "-ERR wrong number of arguments for 'sentinel|masters' command",
        ),
        (
            "SENTINEL failover mymaster",
            "-ERR proxy: SENTINEL FAILOVER is not offered: this Sentinel is a proxy",
        ),
        (
            "SENTINEL SET mymaster quorum 2",
            "-ERR proxy: SENTINEL SET is not offered",
        ),
    ] {
        let reply = asked.run(line);
        assert!(reply.starts_with(start), "{line}: {reply}");
        assert!(
            reply.ends_with("\r\n") && reply.matches("\r\n").count() == 1,
            "{reply}"
        );
    }
    assert!(
        asked
            .run("SENTINEL HELP")
            .contains("GET-MASTER-ADDR-BY-NAME <master-name>")
    );
    assert_eq!(asked.run("CLIENT SETNAME me"), "+OK\r\n");
    assert_eq!(asked.run("CLIENT SETINFO LIB-NAME x"), "+OK\r\n");
    assert_eq!(asked.words("CLIENT GETNAME"), ["me"]);
    assert_eq!(asked.run("CLIENT ID"), ":5\r\n");
    assert_eq!(asked.run("COMMAND"), "*0\r\n");
    assert_eq!(asked.run("CLIENT REPLY SKIP"), "");
    assert_eq!(asked.run("PING"), "");
    assert_eq!(asked.run("PING"), "+PONG\r\n");
    asked.run("QUIT");
    assert_eq!(asked.outcome, LocalOutcome::ReplyThenClose);
}

#[test]
fn subscriptions_are_acknowledged_and_bounded_n27() {
    let mut asked = Asked::new(None);
    assert_eq!(
        asked.run("SUBSCRIBE +switch-master +sdown"),
        "*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$6\r\n+sdown\r\n:2\r\n"
    );
    assert_eq!(asked.words("PSUBSCRIBE *"), ["psubscribe", ":3"]);
    assert!(
        asked
            .run("SENTINEL MASTERS")
            .starts_with("-ERR Can't execute 'sentinel|masters': only")
    );
    assert_eq!(asked.words("PING"), ["pong"]);
    assert_eq!(
        asked.words("UNSUBSCRIBE"),
        [
            "unsubscribe",
            "+switch-master",
            ":2",
            "unsubscribe",
            "+sdown",
            ":1"
        ]
    );
    assert_eq!(asked.words("PUNSUBSCRIBE *"), ["punsubscribe", ":0"]);
    assert_eq!(
        asked.run("UNSUBSCRIBE"),
        "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"
    );
    let many: String = (0..129).map(|number| format!(" {number}")).collect();
    let long = format!(" {}", "x".repeat(257));
    for names in [many, long] {
        let reply = asked.run(&format!("SUBSCRIBE{names}"));
        assert_eq!(reply, "-ERR proxy: too many subscriptions\r\n");
    }
    asked.run("HELLO 3");
    assert!(asked.run("SUBSCRIBE a").starts_with(">3\r\n"));
    assert!(
        asked.run("SENTINEL MASTERS").starts_with("*2\r\n"),
        "RESP3 goes on"
    );
    assert_eq!(asked.run("RESET"), "+RESET\r\n");
    assert!(
        asked.run("ROLE").starts_with("*2\r\n"),
        "no subscription is left"
    );
}

#[test]
fn a_password_comes_before_anything_else_n27() {
    let mut asked = Asked::new(Some("secret"));
    for line in [
        "PING",
        "SENTINEL MASTERS",
        "ROLE",
        "SUBSCRIBE a",
        "CLIENT ID",
    ] {
        assert_eq!(
            asked.run(line),
            "-NOAUTH Authentication required.\r\n",
            "{line}"
        );
    }
    assert!(asked.run("AUTH wrong").starts_with("-WRONGPASS"));
    assert_eq!(asked.run("AUTH secret"), "+OK\r\n");
    assert_eq!(asked.run("PING"), "+PONG\r\n");
    let mut other = Asked::new(Some("secret"));
    assert!(
        other
            .run("HELLO 3 AUTH default secret SETNAME x")
            .starts_with("%6\r\n")
    );
    assert_eq!(other.run("PING"), "+PONG\r\n");
}

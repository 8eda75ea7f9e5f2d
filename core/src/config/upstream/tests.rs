//! Tests of the upstreams.

use super::super::Flag;
use super::super::tests::{MINIMAL, build};

/// A cluster, a server and a Sentinel service, each with a listener.
const THREE: &str = "\
[[upstream]]
name = 'sessions'
cluster = ['a:1']
[[upstream]]
name = 'cache'
server = 'b:1'
node_timeout = '9s'
[[upstream]]
name = 'orders'
sentinels = ['c:1']
password = 'x'
[[listener]]
listen = '127.0.0.1:1'
upstream = 'orders'
[[listener]]
listen = '127.0.0.1:2'
upstream = 'sessions'
[[listener]]
listen = '127.0.0.1:3'
upstream = 'cache'
[[listener]]
listen = '127.0.0.1:4'
upstream = 'cache'
";

fn faults(file: &str) -> Vec<String> {
    let error = build(file, &[], &[]).unwrap_err();
    error.faults.iter().map(ToString::to_string).collect()
}

#[test]
fn each_listener_has_the_upstream_it_names_n23() {
    let config = build(THREE, &[], &[]).unwrap();
    let names: Vec<_> = config
        .upstreams
        .iter()
        .map(|upstream| upstream.name.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["sessions", "cache", "orders"]);
    let used: Vec<_> = config.listeners.iter().map(|it| it.upstream).collect();
    assert_eq!(used, [2, 0, 1, 1]);
    let timeouts: Vec<_> = config
        .upstreams
        .iter()
        .map(|upstream| upstream.node_timeout.as_secs())
        .collect();
    assert_eq!(timeouts, [6, 9, 6], "each has its own settings");
    assert!(config.upstreams[2].password.is_some() && config.upstreams[0].password.is_none());
}

#[test]
fn faults_of_several_upstreams_say_where_they_are_and_what_to_do() {
    let cases: [(String, &[&str]); 6] = [
        (
            THREE.replace("upstream = 'sessions'", "upstream = 'session'"),
            &[
                "test.toml:17: listener.upstream = \"session\" is the name of no upstream\n      Did you mean \"sessions\"?",
            ],
        ),
        (
            THREE.replace("upstream = 'sessions'", "upstream = 'customers'"),
            &[
                "test.toml:17: listener.upstream = \"customers\" is the name of no upstream\n      Upstreams here: sessions, cache, orders.",
            ],
        ),
        (
            THREE.replace("upstream = 'sessions'\n", ""),
            &[
                "test.toml:15: listener.upstream is missing: which of the 3 upstreams do the clients of this listener use?",
            ],
        ),
        (
            THREE
                .replace("name = 'orders'", "name = 'cache'")
                .replace("'orders'", "'cache'"),
            &[
                "test.toml:9: upstream.name = \"cache\" is the name of another upstream, too (test.toml:4)",
            ],
        ),
        (
            THREE.replace("upstream = 'sessions'", "upstream = 'cache'"),
            &[
                "test.toml:2: upstream.name = \"sessions\" is used by no listener\n      Write upstream = \"sessions\"",
            ],
        ),
        (
            THREE.replace("name = 'cache'\nserver = 'b:1'\n", ""),
            &[
                "test.toml:4: upstream.cluster is missing: the proxy has no servers to talk to\n      Write cluster",
                "test.toml:4: upstream.name is missing: of several upstreams each needs a name",
                "test.toml:18: listener.upstream = \"cache\" is the name of no upstream",
                "test.toml:21: listener.upstream = \"cache\" is the name of no upstream",
            ],
        ),
    ];
    for (file, starts) in cases {
        let found = faults(&file);
        let fits = |(fault, start): (&String, &&str)| fault.starts_with(start);
        let all_fit = found.len() == starts.len() && found.iter().zip(starts).all(fits);
        assert!(all_fit, "{found:#?}\n{starts:#?}");
    }
}

#[test]
fn the_only_upstream_may_have_a_name_and_listeners_may_say_it() {
    let config = build(MINIMAL, &[], &[]).unwrap();
    assert_eq!(
        (
            config.upstreams[0].name.as_ref(),
            config.listeners[0].upstream
        ),
        (None, 0)
    );
    let named = format!("{MINIMAL}upstream.name = 'orders'\n");
    for file in [
        named.clone(),
        format!("{named}listener.upstream = 'orders'\n"),
    ] {
        let config = build(&file, &[], &[]).unwrap();
        assert_eq!(config.upstreams[0].name.as_deref(), Some("orders"));
    }
    let as_array = "[[upstream]]\ncluster = ['a:1']\n";
    let by_variable = [("SLOTWAY_UPSTREAM_NODE_TIMEOUT", "9s")];
    let config = build(as_array, &by_variable, &[]).unwrap();
    assert_eq!(config.upstreams[0].node_timeout.as_secs(), 9);
    let unnamed = faults(&format!("{MINIMAL}listener.upstream = 'orders'\n"));
    assert!(
        unnamed[0].contains("Write name = \"orders\" below [upstream]"),
        "{unnamed:?}"
    );
    for name in ["a b", "a\\\"b", "\u{e9}", &"n".repeat(65)] {
        let faults = faults(&format!("{MINIMAL}upstream.name = \"{name}\"\n"));
        assert!(faults[0].contains("is not such a name"), "{faults:?}");
    }
}

#[test]
fn variables_and_flags_do_not_say_which_upstream_they_are_for() {
    let variables = [("SLOTWAY_UPSTREAM_PASSWORD", "hunter2")];
    let error = build(THREE, &variables, &[(Flag::Cluster, "d:1")]).unwrap_err();
    let text = error.to_string();
    let told = text.matches("does not say which of the 3 [[upstream]] tables it is for");
    assert_eq!(told.count(), 2, "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_server_takes_the_place_of_a_cluster_and_both_are_a_fault_n24() {
    let config = build("upstream.server = 'redis-1:6379'\n", &[], &[]).unwrap();
    let server = config.upstreams[0]
        .server
        .as_ref()
        .map(|server| server.to_string());
    assert_eq!(server.as_deref(), Some("redis-1:6379"));
    assert!(config.upstreams[0].seeds.is_empty());
    let by_variable = build("", &[("SLOTWAY_UPSTREAM_SERVER", "[::1]:1")], &[]).unwrap();
    let by_flag = build("", &[], &[(Flag::Server, "[::1]:1")]).unwrap();
    assert_eq!(by_variable, by_flag);
    let error = build(MINIMAL, &[], &[(Flag::Server, "redis-1:6379")]).unwrap_err();
    let text = error.to_string();
    for part in [
        "1 fault",
        "flag --server: upstream.server",
        "so is upstream.cluster (test.toml:1)",
        "Leave upstream.cluster out",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let text = build("upstream.server = 'nowhere'\n", &[], &[])
        .unwrap_err()
        .to_string();
    assert!(text.contains("HOST:PORT"), "{text}");
}

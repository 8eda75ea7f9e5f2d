//! CLUSTER.

use std::net::SocketAddr;

use super::fixture::Fixture;
use crate::command::id;
use crate::local::{Announce, ClusterEmulation, ListenerSettings, refuse_cluster_disabled};

/// SHA-1 of `10.0.0.1:6379 `.
const NODE_ID: &str = "e30378a1a7d9e9970d9190ce384dcd7d20a18239";

#[test]
fn i1_slots_is_one_node_with_every_slot() {
    let mut client = Fixture::new();
    let reply = |tail: &str| {
        format!(
            "*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n$8\r\n10.0.0.1\r\n:6379\r\n$40\r\n{NODE_ID}\r\n{tail}\r\n"
        )
    };
    assert_eq!(client.run("CLUSTER SLOTS"), reply("*0"));
    client.run("HELLO 3");
    assert_eq!(client.run("CLUSTER SLOTS"), reply("%0"));
}

#[test]
fn i1_shards_in_both_versions() {
    let mut client = Fixture::new();
    let reply = |shard: &str, node: &str| {
        format!(
            "*1\r\n{shard}\r\n$5\r\nslots\r\n*2\r\n:0\r\n:16383\r\n$5\r\nnodes\r\n*1\r\n{node}\r\n$2\r\nid\r\n$40\r\n{NODE_ID}\r\n\
             $4\r\nport\r\n:6379\r\n$2\r\nip\r\n$8\r\n10.0.0.1\r\n$8\r\nendpoint\r\n$8\r\n10.0.0.1\r\n$4\r\nrole\r\n$6\r\nmaster\
             \r\n$18\r\nreplication-offset\r\n:0\r\n$6\r\nhealth\r\n$6\r\nonline\r\n"
        )
    };
    assert_eq!(client.run("CLUSTER SHARDS"), reply("*4", "*14"));
    client.run("HELLO 3");
    assert_eq!(client.run("CLUSTER SHARDS"), reply("%2", "%7"));
}

#[test]
fn i1_nodes_is_one_line_of_myself() {
    let mut client = Fixture::new();
    let text = format!("{NODE_ID} 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-16383\n");
    assert_eq!(
        client.run("CLUSTER NODES"),
        format!("${}\r\n{text}\r\n", text.len())
    );
    client.run("HELLO 3");
    assert_eq!(
        client.run("CLUSTER NODES"),
        format!("={}\r\ntxt:{text}\r\n", text.len() + 4)
    );
}

#[test]
fn info_is_a_healthy_cluster_of_one() {
    let text = "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\ncluster_slots_pfail:0\r\n\
                cluster_slots_fail:0\r\ncluster_known_nodes:1\r\ncluster_size:1\r\ncluster_current_epoch:1\r\n\
                cluster_my_epoch:1\r\ncluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n\
                total_cluster_links_buffer_limit_exceeded:0\r\n";
    assert_eq!(
        Fixture::new().run("CLUSTER INFO"),
        format!("${}\r\n{text}\r\n", text.len())
    );
}

#[test]
fn i4_ids_are_stable_and_tell_proxies_apart() {
    let my_id = |change: &dyn Fn(&mut ListenerSettings)| {
        let mut client = Fixture::with(|env| change(&mut env.listener));
        (client.run("CLUSTER MYID"), client.run("CLUSTER MYSHARDID"))
    };
    let plain = my_id(&|_| ());
    assert_eq!(plain.0, format!("$40\r\n{NODE_ID}\r\n"));
    assert_eq!(plain, my_id(&|_| ()));
    assert_ne!(plain.0, plain.1, "the shard has an id of its own");
    let named = my_id(&|listener| listener.instance_name = "b".into());
    let announced = my_id(&|listener| {
        listener.announce = Some(Announce {
            host: "10.0.0.1".into(),
            port: 6380,
        });
    });
    assert!(plain.0 != named.0 && plain.0 != announced.0 && plain.1 != named.1);
}

#[test]
fn questions_about_the_node() {
    let mut client = Fixture::new();
    for command in ["REPLICAS", "SLAVES"] {
        assert_eq!(
            client.run(&format!("CLUSTER {command} {NODE_ID}")),
            "*0\r\n"
        );
        assert_eq!(
            client.run(&format!("CLUSTER {command} abc")),
            "-ERR Unknown node abc\r\n"
        );
    }
    assert_eq!(
        client.run(&format!("CLUSTER COUNT-FAILURE-REPORTS {NODE_ID}")),
        ":0\r\n"
    );
    assert_eq!(
        client.run("CLUSTER COUNT-FAILURE-REPORTS abc"),
        "-ERR Unknown node abc\r\n"
    );
    assert_eq!(client.run("CLUSTER LINKS"), "*0\r\n");
    assert_eq!(client.run("CLUSTER KEYSLOT foo"), ":12182\r\n");
    assert_eq!(client.run("CLUSTER KEYSLOT {foo}x"), ":12182\r\n");
    assert_eq!(
        client.run("CLUSTER FOO"),
        "-ERR unknown subcommand 'FOO'. Try CLUSTER HELP.\r\n"
    );
}

#[test]
fn i2_the_announced_address_is_shown() {
    let mut client = Fixture::with(|env| {
        env.listener.announce = Some(Announce {
            host: "redis.example".into(),
            port: 60_000,
        });
    });
    assert!(
        client
            .run("CLUSTER SLOTS")
            .contains("*4\r\n$13\r\nredis.example\r\n:60000\r\n")
    );
    assert!(
        client
            .run("CLUSTER NODES")
            .contains(" redis.example:60000@0 myself,master "),
        "no bus port fits"
    );
    let shards = client.run("CLUSTER SHARDS");
    assert!(shards.contains("*16\r\n"), "one field more: the hostname");
    assert!(
        shards.contains("$2\r\nip\r\n$8\r\n10.0.0.1\r\n$8\r\nendpoint\r\n$13\r\nredis.example\r\n")
    );
    assert!(shards.contains("$8\r\nhostname\r\n$13\r\nredis.example\r\n"));
}

#[test]
fn i2_without_one_the_address_the_client_came_to() {
    let slots = |local: &str| {
        let mut client = Fixture::new();
        client.client.local = local.parse::<SocketAddr>().unwrap();
        client.run("CLUSTER SLOTS")
    };
    assert!(slots("127.0.0.7:7000").contains("$9\r\n127.0.0.7\r\n:7000\r\n"));
    assert!(slots("[2001:db8::1]:7000").contains("$11\r\n2001:db8::1\r\n:7000\r\n"));
    assert!(
        slots("[::ffff:10.1.2.3]:7000").contains("$8\r\n10.1.2.3\r\n"),
        "a mapped address is an IPv4 address"
    );
}

#[test]
fn a_listener_without_emulation_answers_as_a_standalone_server() {
    let disabled = "-ERR This instance has cluster support disabled\r\n";
    let mut client = Fixture::with(|env| env.listener.cluster = ClusterEmulation::Off);
    for command in [
        "SLOTS",
        "SHARDS",
        "NODES",
        "INFO",
        "MYID",
        "HELP",
        "KEYSLOT a",
        "REPLICAS x",
    ] {
        assert_eq!(
            client.run(&format!("CLUSTER {command}")),
            disabled,
            "{command}"
        );
    }
    let mut out = Vec::new();
    assert!(refuse_cluster_disabled(
        id::CLUSTER_COUNTKEYSINSLOT.spec(),
        &client.env.listener,
        &mut out
    ));
    assert_eq!(out, disabled.as_bytes());
    assert!(!refuse_cluster_disabled(
        id::GET.spec(),
        &client.env.listener,
        &mut out
    ));
    assert!(!refuse_cluster_disabled(
        id::CLUSTERSCAN.spec(),
        &client.env.listener,
        &mut out
    ));
    assert!(!refuse_cluster_disabled(
        id::CLUSTER_SLOTS.spec(),
        &Fixture::new().env.listener,
        &mut out
    ));
    assert_eq!(out, disabled.as_bytes(), "nothing was added");
}

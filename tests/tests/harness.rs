//! The harness against real servers, without the proxy: what every other test stands on.

use anyhow::{Result, ensure};
use harness::{
    Action, Cluster, Conn, Direction, FaultProxy, Load, LoadOptions, Node, NodeOptions, Reply,
    SLOT_COUNT, ScriptedCluster, Version, case, key_in_slot, slot_of,
};
use std::time::Duration;

#[test]
fn a_cluster_of_every_release_forms_and_fails_over() -> Result<()> {
    for version in Version::ALL {
        case(|| {
            let cluster = Cluster::new(version).start()?;
            let key = key_in_slot(0, 1);
            let primary = cluster.primary_of(slot_of(key.as_bytes()))?;
            ensure!(primary == 0, "slot 0 is at node {primary}");
            let replica = cluster.replica_of(primary)?;
            cluster.failover(replica)?;
            ensure!(
                cluster.primary_of(0)? == replica,
                "the replica does not own slot 0"
            );
            cluster.move_slots(replica, 1, &(0..200).collect::<Vec<u16>>())?;
            cluster.wait_ok()?;
            ensure!(cluster.primary_of(199)? == 1);
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn load_straight_to_one_server_is_flawless() -> Result<()> {
    case(|| {
        let node = Node::standalone(Version::Redis70)?;
        let relay = FaultProxy::start(node.address())?;
        relay.split(Direction::ToClient, 7);
        let options = LoadOptions {
            groups: vec![0..=16383],
            interval: Duration::from_millis(5),
            ..LoadOptions::default()
        };
        let load = Load::start(relay.address(), &options)?;
        load.wait_for(20_000)?;
        let report = load.stop()?;
        report.ensure_flawless()?;
        Ok(())
    })
}

#[test]
fn load_sees_a_server_that_forgets() -> Result<()> {
    case(|| {
        let node = Node::standalone(Version::Redis70)?;
        let load = Load::start(node.address(), &LoadOptions::default())?;
        load.wait_for(5_000)?;
        node.must("FLUSHALL")?;
        load.wait_for(5_000)?;
        let report = load.stop()?;
        ensure!(!report.lost.is_empty(), "FLUSHALL was not seen");
        report.ensure_no_violations()?;
        Ok(())
    })
}

#[test]
fn a_node_comes_back_on_another_ip() -> Result<()> {
    case(|| {
        let mut cluster = Cluster::new(Version::Redis70).start()?;
        let replica = cluster.replica_of(0)?;
        let before = cluster.node(replica)?.address();
        cluster.node_mut(replica)?.kill()?;
        cluster.node_mut(replica)?.restart_elsewhere()?;
        cluster.wait_ok()?;
        ensure!(cluster.node(replica)?.address() != before);
        let (killed, replica) = cluster.kill_primary_of(0)?;
        cluster.wait_promoted(replica)?;
        cluster.wait_ok()?;
        cluster.node_mut(killed)?.restart_elsewhere()?;
        cluster.wait_ok()?;
        cluster.wait_synced(killed)?;
        let mut conn = cluster.node(replica)?.conn()?;
        assert_eq!(
            conn.call(&["SET", &key_in_slot(0, 1), "x"])?,
            Reply::Simple("OK".to_owned())
        );
        Ok(())
    })
}

#[test]
fn all_nodes_come_back_on_other_ips_at_once() -> Result<()> {
    for version in Version::FULL {
        case(|| {
            let mut cluster = Cluster::new(version).start()?;
            for node in 0..cluster.nodes().len() {
                cluster.node_mut(node)?.kill()?;
            }
            for node in 0..cluster.nodes().len() {
                cluster.node_mut(node)?.restart_elsewhere()?;
            }
            cluster.meet_all()?;
            cluster.wait_ok()?;
            cluster.wait_replicas_synced()
        })?;
    }
    Ok(())
}

#[test]
fn the_relay_cuts_stalls_and_refuses() -> Result<()> {
    case(|| {
        let node = Node::standalone(Version::Redis70)?;
        let relay = FaultProxy::start(node.address())?;
        let mut conn = Conn::open(relay.address())?;
        assert_eq!(conn.line("PING")?.text()?, "PONG");
        relay.stall(Direction::ToClient, true);
        conn.send(&["PING"])?;
        ensure!(
            !conn.has_reply_within(Duration::from_millis(50))?,
            "a stalled relay passed bytes"
        );
        relay.stall(Direction::ToClient, false);
        assert_eq!(conn.read()?.text()?, "PONG");
        relay.cut_after(Direction::ToClient, Some(10));
        conn.send(&["ECHO", "0123456789"])?;
        assert_eq!(conn.read_to_close()?, b"$10\r\n01234");
        relay.cut_after(Direction::ToClient, None);
        relay.refuse(true);
        let refused = Conn::open(relay.address())?.read_to_close()?;
        ensure!(refused.is_empty());
        assert_eq!(relay.accepted(), 2);
        Ok(())
    })
}

#[test]
fn scripted_nodes_redirect_and_count() -> Result<()> {
    case(|| {
        let cluster = ScriptedCluster::start(2, |request| match request.text(1).as_str() {
            "half" => Action::ReplyThenClose(b"$5\r\nab".to_vec()),
            _ => Action::Default,
        })?;
        let mut first = Conn::open(cluster.addresses()[0])?;
        let mut second = Conn::open(cluster.addresses()[1])?;
        let key = key_in_slot(16_000, 1);
        let moved = format!("MOVED 16000 {}", cluster.addresses()[1]);
        assert_eq!(
            first.call(&["SET", &key, "v"])?.error(),
            Some(moved.as_str())
        );
        ensure!(second.call(&["SET", &key, "v"])?.is_ok());
        ensure!(first.line("ASKING")?.is_ok());
        assert_eq!(first.call(&["GET", &key])?.text()?, "v");
        assert_eq!(first.call(&["GET", &key])?.error(), Some(moved.as_str()));
        ensure!(
            first
                .line("CLUSTER NODES")?
                .text()?
                .contains("myself,master - 0 0 1 connected 0-8191")
        );
        ensure!(
            second.line("GET half").is_err(),
            "half a reply was taken for a whole one"
        );
        assert_eq!((cluster.count("SET"), cluster.count("GET")), (2, 3));
        Ok(())
    })
}

#[test]
fn slots_of_the_harness_are_those_of_the_servers() -> Result<()> {
    case(|| {
        let node = Node::launch(NodeOptions {
            version: Version::Redis70,
            cluster: true,
            relayed: false,
            settings: Vec::new(),
            address: None,
        });
        let mut node = node?;
        node.wait_started()?;
        let mut conn = node.conn()?;
        for key in [
            "foo",
            "{user1000}.following",
            "foo{}{bar}",
            "foo{{bar}}zap",
            "foo{bar}{zap}",
            "",
        ] {
            let slot = conn.call(&["CLUSTER", "KEYSLOT", key])?.int()?;
            assert_eq!(slot, i64::from(slot_of(key.as_bytes())), "{key}");
        }
        for slot in [0, 1, 8191, SLOT_COUNT - 1] {
            assert_eq!(slot_of(key_in_slot(slot, 3).as_bytes()), slot);
        }
        Ok(())
    })
}

//! The harness against real servers, without the proxy: what every other test stands on.

use anyhow::{Result, ensure};
use harness::{
    Cluster, Direction, FaultProxy, Load, LoadOptions, Node, Reply, Version, case, key_in_slot,
    slot_of,
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
        ensure!(report.lost_writes > 0, "FLUSHALL was not seen");
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

//! How each fault is made, and how everything is brought back to what it was.

use super::churn;
use super::faults::Fault;
use super::scene::Scene;
use crate::case::tail;
use crate::load::SlotRange;
use crate::proxy::Proxy;
use crate::wait::pause;
use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use std::time::{Duration, Instant};

/// Slots that are moved by one fault.
const MOVED_SLOTS: u16 = 200;
/// Replies that each load must get while the fault is there, and afterwards.
const REPLIES: u64 = 500;
/// A drained proxy ends by itself.
const DRAIN_DEADLINE: Duration = Duration::from_secs(12);

/// What was done.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Which of the nodes, how long: for the log
    pub(super) detail: String,
    pub(super) began: Instant,
    /// When the cluster itself could serve all slots again; `None` if it always could
    pub(super) restored: Option<Instant>,
    /// Slots whose primary was hit
    pub(super) hit: Vec<SlotRange>,
    /// What the fault itself found wrong
    pub(super) findings: Vec<String>,
}

impl Outcome {
    fn harmless(detail: String, began: Instant) -> Self {
        Self {
            detail,
            began,
            restored: None,
            hit: Vec::new(),
            findings: Vec::new(),
        }
    }
}

/// Makes a fault and heals what it broke.
pub(super) fn inject(fault: Fault, scene: &mut Scene, rng: &mut Rng) -> Result<Outcome> {
    match fault {
        Fault::Failover => failover(scene, rng),
        Fault::Reshard => reshard(scene, rng),
        Fault::NodeAdd => node_add(scene),
        Fault::NodeRemove => node_remove(scene),
        Fault::ReplicaRestart => replica_restart(scene, rng),
        Fault::Drain => drain(scene),
        Fault::Churn => client_churn(scene, rng),
        Fault::Kill => kill(scene, rng),
        Fault::ShortFreeze => short_freeze(scene, rng),
        Fault::LongFreeze => long_freeze(scene, rng),
        Fault::AddressChange => address_change(scene, rng),
        Fault::FullRestart => full_restart(scene),
    }
}

fn any_shard(scene: &Scene, rng: &mut Rng) -> usize {
    rng.usize(..scene.cluster.primaries())
}

/// A primary of some shard and its replica.
fn any_pair(scene: &Scene, rng: &mut Rng) -> Result<(usize, usize, usize)> {
    let shard = any_shard(scene, rng);
    let primary = scene.primary(shard)?;
    let replica = scene.cluster.replica_of(primary)?;
    scene.cluster.wait_synced(replica)?;
    Ok((shard, primary, replica))
}

fn failover(scene: &Scene, rng: &mut Rng) -> Result<Outcome> {
    let (shard, primary, replica) = any_pair(scene, rng)?;
    let began = Instant::now();
    let promoted = scene.cluster.failover(replica)?;
    let detail = format!("shard {shard}: node {primary} -> node {replica}");
    Ok(Outcome {
        restored: Some(promoted),
        ..Outcome::harmless(detail, began)
    })
}

fn reshard(scene: &Scene, rng: &mut Rng) -> Result<Outcome> {
    let source_shard = any_shard(scene, rng);
    let target_shard = (source_shard + 1) % scene.cluster.primaries();
    let source = scene.primary(source_shard)?;
    let target = scene.primary(target_shard)?;
    let range = scene.cluster.initial_slots(source_shard);
    let first = rng.u16(*range.start() + 1..*range.end() - MOVED_SLOTS);
    let slots: Vec<u16> = (first..first + MOVED_SLOTS).collect();
    let began = Instant::now();
    for (from, to) in [(source, target), (target, source)] {
        scene.cluster.move_slots(from, to, &slots)?;
        scene.cluster.settle()?;
        scene.go_on(REPLIES)?;
    }
    let detail = format!("{MOVED_SLOTS} slots from {first}: node {source} -> {target} -> {source}");
    Ok(Outcome::harmless(detail, began))
}

/// The slots of a shard that a node gets which joins.
fn slots_for_new_node(scene: &Scene, shard: usize) -> Vec<u16> {
    let range = scene.cluster.initial_slots(shard);
    let first = *range.end() - MOVED_SLOTS / 2;
    (first..*range.end()).collect()
}

fn node_add(scene: &mut Scene) -> Result<Outcome> {
    let began = Instant::now();
    let node = scene.cluster.add_primary()?;
    for shard in 0..scene.cluster.primaries() {
        let slots = slots_for_new_node(scene, shard);
        scene
            .cluster
            .move_slots(scene.primary(shard)?, node, &slots)?;
    }
    scene.cluster.settle()?;
    scene.addresses_changed();
    scene.go_on(REPLIES)?;
    let detail = format!("node {node} with {} slots of each shard", MOVED_SLOTS / 2);
    Ok(Outcome::harmless(detail, began))
}

fn node_remove(scene: &mut Scene) -> Result<Outcome> {
    scene.cluster.settle()?;
    let node = scene.cluster.nodes().len() - 1;
    ensure!(
        node >= 2 * scene.cluster.primaries(),
        "no node was added before"
    );
    let began = Instant::now();
    for shard in 0..scene.cluster.primaries() {
        let slots = slots_for_new_node(scene, shard);
        scene
            .cluster
            .move_slots(node, scene.primary(shard)?, &slots)?;
    }
    scene.cluster.settle()?;
    scene.cluster.remove_last()?;
    scene.addresses_changed();
    scene.go_on(REPLIES)?;
    Ok(Outcome::harmless(format!("node {node}"), began))
}

fn replica_restart(scene: &mut Scene, rng: &mut Rng) -> Result<Outcome> {
    let (shard, _, replica) = any_pair(scene, rng)?;
    let began = Instant::now();
    scene.cluster.node_mut(replica)?.shut_down()?;
    scene.go_on(REPLIES)?;
    scene.cluster.node_mut(replica)?.restart()?;
    scene.cluster.wait_ok()?;
    scene.cluster.wait_synced(replica)?;
    let detail = format!("node {replica} of shard {shard}");
    Ok(Outcome::harmless(detail, began))
}

fn drain(scene: &mut Scene) -> Result<Outcome> {
    let victim = scene.busiest_proxy()?;
    let clients = scene.proxies[victim].metric("slotway_downstream_connections")?;
    let mut findings = Vec::new();
    let began = Instant::now();
    scene.proxies[victim].terminate()?;
    match scene.proxies[victim].wait_for_exit(DRAIN_DEADLINE) {
        Ok(status) if status.success() => {}
        Ok(status) => findings.push(format!("the drained proxy ended with {status}")),
        Err(error) => findings.push(format!("{error:#}")),
    }
    let took = began.elapsed();
    if !findings.is_empty() {
        findings.push(format!(
            "its log ends: {}",
            tail(&scene.proxies[victim].log())
        ));
    }
    scene.go_on(REPLIES)?;
    scene.proxies[victim] = Proxy::new(&scene.cluster).start()?;
    scene.proxies_changed();
    Ok(Outcome {
        findings,
        ..Outcome::harmless(format!("{clients} clients, ended after {took:.0?}"), began)
    })
}

fn client_churn(scene: &Scene, rng: &mut Rng) -> Result<Outcome> {
    let began = Instant::now();
    let findings = churn::run(&scene.proxy_addresses(), rng)?;
    let detail = format!("{} clients", churn::COUNT);
    Ok(Outcome {
        findings,
        ..Outcome::harmless(detail, began)
    })
}

fn kill(scene: &mut Scene, rng: &mut Rng) -> Result<Outcome> {
    let (shard, primary, replica) = any_pair(scene, rng)?;
    let began = Instant::now();
    scene.cluster.node_mut(primary)?.kill()?;
    let promoted = scene.cluster.wait_promoted(replica)?;
    scene.go_on(REPLIES)?;
    scene.cluster.node_mut(primary)?.restart()?;
    scene.cluster.wait_ok()?;
    scene.cluster.wait_synced(primary)?;
    Ok(Outcome {
        restored: Some(promoted),
        hit: vec![scene.cluster.initial_slots(shard)],
        ..Outcome::harmless(format!("shard {shard}: node {primary}"), began)
    })
}

fn short_freeze(scene: &Scene, rng: &mut Rng) -> Result<Outcome> {
    let (shard, primary, _) = any_pair(scene, rng)?;
    let time = Duration::from_millis(rng.u64(200..1_000));
    let began = Instant::now();
    scene.cluster.node(primary)?.freeze()?;
    pause(time);
    scene.cluster.node(primary)?.thaw()?;
    let thawed = Instant::now();
    scene.go_on(REPLIES)?;
    let detail = format!("shard {shard}: node {primary} for {time:.0?}");
    Ok(Outcome {
        restored: Some(thawed),
        ..Outcome::harmless(detail, began)
    })
}

fn long_freeze(scene: &Scene, rng: &mut Rng) -> Result<Outcome> {
    let (shard, primary, replica) = any_pair(scene, rng)?;
    // At once, while clients may still wait for it; or much later.
    let more = Duration::from_millis(if rng.bool() { 0 } else { rng.u64(500..4_000) });
    let began = Instant::now();
    scene.cluster.node(primary)?.freeze()?;
    let promoted = scene.cluster.wait_promoted(replica);
    if promoted.is_ok() {
        pause(more);
    }
    scene.cluster.node(primary)?.thaw()?;
    let promoted = promoted?;
    scene.go_on(REPLIES)?;
    scene.cluster.wait_ok()?;
    scene.cluster.wait_synced(primary)?;
    let detail = format!("shard {shard}: node {primary} until {more:.0?} after the promotion");
    Ok(Outcome {
        restored: Some(promoted),
        hit: vec![scene.cluster.initial_slots(shard)],
        ..Outcome::harmless(detail, began)
    })
}

fn address_change(scene: &mut Scene, rng: &mut Rng) -> Result<Outcome> {
    let (shard, primary, _) = any_pair(scene, rng)?;
    let old = scene.cluster.node(primary)?.address();
    let began = Instant::now();
    scene.cluster.node_mut(primary)?.kill()?;
    scene.cluster.node_mut(primary)?.restart_elsewhere()?;
    scene.addresses_changed();
    let ok = scene.cluster.wait_ok()?;
    let known = scene.cluster.wait_address_known(primary)?;
    let new = scene.cluster.node(primary)?.address();
    scene.go_on(REPLIES)?;
    Ok(Outcome {
        restored: Some(ok.max(known)),
        hit: vec![scene.cluster.initial_slots(shard)],
        ..Outcome::harmless(
            format!("shard {shard}: node {primary}: {old} -> {new}"),
            began,
        )
    })
}

fn full_restart(scene: &mut Scene) -> Result<Outcome> {
    let count = scene.cluster.nodes().len();
    let began = Instant::now();
    for node in scene.cluster.nodes() {
        node.terminate()?;
    }
    for node in 0..count {
        scene.cluster.node_mut(node)?.shut_down()?;
    }
    for node in 0..count {
        scene.cluster.node_mut(node)?.restart()?;
    }
    let ok = scene.cluster.wait_ok()?;
    scene
        .go_on(REPLIES)
        .context("after all servers restarted")?;
    Ok(Outcome {
        restored: Some(ok),
        hit: scene.shards(),
        ..Outcome::harmless(format!("{count} nodes"), began)
    })
}

//! The topology as JSON, for people and for `slotway explain`.

use std::time::Duration;

use serde_json::{Value, json};
use slotway_core::slot::{SLOT_COUNT, Slot};
use slotway_core::topology::{Node, NodeId, NodeState, Role, ShardIndex, Snapshot};

use crate::replicas::ReplicaStatus;

/// The page: the topology of the only upstream, or of each by its name if they have names.
pub(super) fn page<'n>(upstreams: impl Iterator<Item = (Option<&'n str>, Value)>) -> String {
    let mut named = Vec::new();
    for (name, mut value) in upstreams {
        let Some(name) = name else {
            return format!("{value:#}\n");
        };
        value["name"] = Value::from(name);
        named.push(value);
    }
    format!("{:#}\n", json!({ "upstreams": named }))
}

/// `snapshot`, which the nodes last confirmed `age` ago.
pub(super) fn to_json(snapshot: &Snapshot, age: Option<Duration>) -> Value {
    let ranges = ranges(snapshot);
    let shards: Vec<Value> = snapshot
        .shards()
        .iter()
        .zip(&ranges)
        .map(|(shard, slots)| {
            let replicas: Vec<Value> = shard
                .replicas
                .iter()
                .map(|replica| node(snapshot.node(*replica)))
                .collect();
            json!({
                "slots": slots,
                "epoch": shard.epoch,
                "primary": node(snapshot.node(shard.primary)),
                "replicas": replicas,
            })
        })
        .collect();
    json!({
        "generation": snapshot.generation,
        "age_seconds": age.map(|age| age.as_secs_f64()),
        "uncovered_slots": snapshot.uncovered_slots(),
        "shards": shards,
        "nodes": snapshot.nodes().iter().map(node).collect::<Vec<_>>(),
    })
}

/// A replica that is watched, since some clients read from replicas.
pub(super) fn replica(replica: &ReplicaStatus) -> Value {
    json!({
        "id": replica.id.as_ref().map(NodeId::as_str),
        "address": replica.address.to_string(),
        "primary": replica.primary.as_str(),
        "readable": replica.lag.unreadable.is_none(),
        "why_not": replica.why_not(),
        "behind_seconds": replica.lag.time.map(|time| time.as_secs_f64()),
        "behind_bytes": replica.lag.bytes,
        "zone": replica.zone,
        "near": replica.near,
        "answers_in_seconds": replica.latency.as_secs_f64(),
    })
}

fn node(node: &Node) -> Value {
    json!({
        "id": node.id.as_str(),
        "address": node.address.to_string(),
        "hostname": node.hostname.as_deref(),
        "role": match node.role { Role::Primary => "primary", Role::Replica => "replica" },
        "state": match node.state { NodeState::Ok => "ok", NodeState::Suspect => "suspect", NodeState::Failed => "failed" },
        "linked": node.link_connected,
        "epoch": node.config_epoch,
    })
}

/// First and last slot of every run of slots, by shard.
fn ranges(snapshot: &Snapshot) -> Vec<Vec<[u16; 2]>> {
    let mut ranges: Vec<Vec<[u16; 2]>> = vec![Vec::new(); snapshot.shards().len()];
    let mut previous: Option<ShardIndex> = None;
    for slot in (0..SLOT_COUNT).filter_map(Slot::new) {
        let shard = snapshot.shard_of(slot);
        if let Some(index) = shard {
            let runs = &mut ranges[index.index()];
            match runs.last_mut() {
                Some(run) if previous == shard => run[1] = slot.get(),
                _ => runs.push([slot.get(), slot.get()]),
            }
        }
        previous = shard;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use slotway_core::topology::{Address, SnapshotBuilder};

    use super::*;

    fn primary(id: &str, port: u16) -> Node {
        Node {
            id: NodeId::new(id),
            address: Address::new("127.0.0.1", port),
            hostname: None,
            role: Role::Primary,
            primary_id: None,
            state: NodeState::Ok,
            link_connected: true,
            config_epoch: 4,
        }
    }

    #[test]
    fn slots_are_shown_as_runs_and_gaps_are_left_out() {
        let mut builder = SnapshotBuilder::new();
        let first = builder.add_node(primary("aa", 1)).unwrap();
        let second = builder.add_node(primary("bb", 2)).unwrap();
        for slot in [0, 1, 2, 10, 11].into_iter().filter_map(Slot::new) {
            builder.assign(slot, first);
        }
        for slot in [3, 16383].into_iter().filter_map(Slot::new) {
            builder.assign(slot, second);
        }
        let value = to_json(&builder.build(7), Some(Duration::from_millis(1500)));
        assert_eq!(value["generation"], 7);
        assert_eq!(value["age_seconds"], 1.5);
        assert_eq!(value["uncovered_slots"], 16384 - 7);
        assert_eq!(value["shards"][0]["slots"], json!([[0, 2], [10, 11]]));
        assert_eq!(value["shards"][0]["primary"]["address"], "127.0.0.1:1");
        assert_eq!(value["shards"][1]["slots"], json!([[3, 3], [16383, 16383]]));
        assert_eq!(value["nodes"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn an_unknown_topology_is_shown_as_empty() {
        let value = to_json(&Snapshot::empty(), None);
        assert_eq!(value["age_seconds"], Value::Null);
        assert_eq!(value["shards"], json!([]));
    }

    #[test]
    fn upstreams_with_names_are_listed_and_one_without_stands_alone() {
        let page = |names: &[Option<&str>]| -> Value {
            let values = names
                .iter()
                .map(|name| (*name, to_json(&Snapshot::empty(), None)));
            serde_json::from_str(&page(values)).unwrap()
        };
        assert_eq!(page(&[None])["generation"], 0);
        assert_eq!(page(&[Some("a")])["upstreams"][0]["name"], "a");
        let two = page(&[Some("a"), Some("b")]);
        assert_eq!(two["upstreams"][1]["name"], "b");
        assert_eq!(two["upstreams"][1]["uncovered_slots"], 16384);
    }
}

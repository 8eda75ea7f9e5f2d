//! The played cluster: three primaries, and how an honest node answers.

use std::sync::{Arc, OnceLock};

use slotway_core::resp::{Protocol, write};
use slotway_core::slot::{SLOT_COUNT, Slot};
use slotway_core::topology::{Address, Node, NodeId, NodeState, Role, Snapshot, SnapshotBuilder};

/// Ports of the nodes, all on [`HOST`].
pub(crate) const PORTS: [u16; 3] = [7000, 7001, 7002];

pub(crate) const HOST: &str = "127.0.0.1";

/// The slots in three equal runs, beginning `shift` slots behind slot 0.
pub(crate) fn snapshot(generation: u64, shift: u16) -> Snapshot {
    let mut builder = SnapshotBuilder::new();
    let nodes = PORTS.map(|port| {
        let node = Node {
            id: NodeId::new(&node_id(port)),
            address: Address::new(HOST, port),
            hostname: None,
            role: Role::Primary,
            primary_id: None,
            state: NodeState::Ok,
            link_connected: true,
            config_epoch: u64::from(port),
        };
        builder.add_node(node).expect("three nodes fit")
    });
    for slot in (0..SLOT_COUNT).filter_map(Slot::new) {
        builder.assign(slot, nodes[run_of(slot, shift)]);
    }
    builder.build(generation)
}

/// The layout every run starts with, built once.
pub(crate) fn first_snapshot() -> Arc<Snapshot> {
    static FIRST: OnceLock<Arc<Snapshot>> = OnceLock::new();
    Arc::clone(FIRST.get_or_init(|| Arc::new(snapshot(1, 0))))
}

/// Another layout of the same nodes.
pub(crate) fn next_snapshot(generation: u64) -> Arc<Snapshot> {
    static LAYOUTS: OnceLock<[Snapshot; 2]> = OnceLock::new();
    let layouts = LAYOUTS.get_or_init(|| [snapshot(1, 0), snapshot(1, 5000)]);
    let mut next = layouts[usize::from(generation.is_multiple_of(2))].clone();
    next.generation = generation;
    Arc::new(next)
}

fn run_of(slot: Slot, shift: u16) -> usize {
    let place = (slot.index() + usize::from(shift)) % usize::from(SLOT_COUNT);
    place / (usize::from(SLOT_COUNT) / PORTS.len() + 1)
}

/// The owner of a key by the first layout.
pub(crate) fn owner(key: &[u8]) -> u16 {
    PORTS[run_of(Slot::of_key(key), 0)]
}

pub(crate) fn node_id(port: u16) -> String {
    format!("{port:040}")
}

/// Key number `number` of those that the node at `port` has by the first layout.
pub(crate) fn key_of(port: u16, number: usize) -> String {
    (0..)
        .map(|attempt| format!("k{number}.{attempt}"))
        .find(|key| owner(key.as_bytes()) == port)
        .expect("every node owns slots")
}

/// What an honest node answers to a command on a fresh connection, or to one that asks whether it is there; `None` to the
/// requests of clients. `number` is the node's number of the connection.
pub(crate) fn introduction(args: &[Vec<u8>], port: u16, number: i64) -> Option<Vec<u8>> {
    let words: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    let mut reply = Vec::new();
    match words[..] {
        [b"HELLO", b"3"] => {
            write::map(&mut reply, 1, Protocol::Resp3);
            write::simple(&mut reply, b"proto");
            write::integer(&mut reply, 3);
        }
        [b"PING"] => write::simple(&mut reply, b"PONG"),
        [b"CLIENT", b"ID"] => write::integer(&mut reply, number),
        [b"CLIENT", b"KILL", ..] => write::integer(&mut reply, 1),
        [b"CLIENT", ..] | [b"AUTH", ..] => write::simple(&mut reply, b"OK"),
        [b"CLUSTER", b"MYID"] => write::bulk(&mut reply, node_id(port).as_bytes()),
        _ => return None,
    }
    Some(reply)
}

/// What an honest node answers to a request: what the merge of that command needs, else an echo of the request.
pub(crate) fn answer(args: &[Vec<u8>]) -> Vec<u8> {
    let mut reply = Vec::new();
    let name = args.first().map(|name| name.to_ascii_uppercase());
    let keys = args.get(1..).unwrap_or_default();
    match name.as_deref().unwrap_or_default() {
        b"ASKING" | b"MSET" | b"FLUSHALL" | b"FLUSHDB" => write::simple(&mut reply, b"OK"),
        b"DEL" | b"UNLINK" | b"EXISTS" | b"TOUCH" | b"DBSIZE" => {
            write::integer(&mut reply, i64::try_from(keys.len()).unwrap_or(i64::MAX));
        }
        b"MGET" => {
            write::array(&mut reply, keys.len());
            keys.iter().for_each(|key| write::bulk(&mut reply, key));
        }
        b"KEYS" => {
            write::array(&mut reply, 1);
            write::bulk(&mut reply, b"key");
        }
        b"SCAN" => {
            write::array(&mut reply, 2);
            write::bulk(&mut reply, b"0");
            write::array(&mut reply, 0);
        }
        b"RANDOMKEY" => write::null(&mut reply, Protocol::Resp2),
        // The count at the end is of no interest to the engine.
        kind if kind.ends_with(b"SUBSCRIBE") => {
            for topic in keys {
                write::array(&mut reply, 3);
                write::bulk(&mut reply, &kind.to_ascii_lowercase());
                write::bulk(&mut reply, topic);
                write::integer(&mut reply, 1);
            }
        }
        _ => return echo(args),
    }
    reply
}

/// A reply that shows which request it is for.
pub(crate) fn echo(args: &[Vec<u8>]) -> Vec<u8> {
    let mut reply = Vec::new();
    write::bulk(&mut reply, &args.join(&b' '));
    reply
}

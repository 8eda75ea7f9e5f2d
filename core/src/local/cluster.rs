//! CLUSTER: a cluster of one node that owns every slot, at the address the client already uses [I1] [I2] [I4].
//!
//! The real nodes are never shown: a client that knew them would leave the proxy [I6]. Every proxy serves every slot, so no
//! client is ever redirected.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{Call, ClusterEmulation, ListenerSettings, help, sha1, write_not_yet};
use crate::command::{Spec, id};
use crate::resp::write;
use crate::slot::{SLOT_COUNT, Slot};

const DISABLED: &[u8] = b"ERR This instance has cluster support disabled";
const LAST_SLOT: u16 = SLOT_COUNT - 1;

/// Refuses a CLUSTER subcommand on a listener that shows no cluster, in the words of a standalone server. For the engine, which
/// routes some of them (COUNTKEYSINSLOT, GETKEYSINSLOT) to nodes.
///
/// True if the error was written.
pub fn refuse_disabled(spec: &Spec, listener: &ListenerSettings, out: &mut Vec<u8>) -> bool {
    let refused = listener.cluster == ClusterEmulation::Off && spec.name.starts_with("cluster|");
    if refused {
        write::error(out, DISABLED);
    }
    refused
}

/// Where the one node is.
struct SelfNode {
    host: String,
    port: u16,
    /// The host if it is an address, else the address the client connected to.
    ip: IpAddr,
    id: String,
}

impl SelfNode {
    /// As this client sees it: the announced address of its listener, else the address it connected to, never a node's [I2].
    fn of(call: &Call<'_>) -> Self {
        let listener = call.env.listener();
        let local_ip = call.client.local.ip().to_canonical();
        let (host, port) = match &listener.announce {
            Some(announce) => (announce.host.to_string(), announce.port),
            None => (local_ip.to_string(), call.client.local.port()),
        };
        let ip = host.parse().unwrap_or(local_ip);
        // Stable over restarts: it depends on nothing but what the proxy is told to be [I4].
        let id = sha1::hex_digest(format!("{host}:{port} {}", listener.instance_name).as_bytes());
        Self { host, port, ip, id }
    }

    /// The name, if the host is not an address.
    fn hostname(&self) -> Option<&str> {
        self.host
            .parse::<IpAddr>()
            .is_err()
            .then_some(self.host.as_str())
    }

    fn shard_id(&self) -> String {
        sha1::hex_digest(format!("{} shard", self.id).as_bytes())
    }
}

pub(super) fn cluster(spec: &Spec, call: &mut Call<'_>) {
    if refuse_disabled(spec, call.env.listener(), call.out) {
        return;
    }
    match spec.id {
        id::CLUSTER_SLOTS => slots(call),
        id::CLUSTER_SHARDS => shards(call),
        id::CLUSTER_NODES => nodes(call),
        id::CLUSTER_INFO => info(call),
        id::CLUSTER_MYID => {
            let node = SelfNode::of(call);
            write::bulk(call.out, node.id.as_bytes());
        }
        id::CLUSTER_MYSHARDID => {
            let node = SelfNode::of(call);
            write::bulk(call.out, node.shard_id().as_bytes());
        }
        id::CLUSTER_REPLICAS | id::CLUSTER_SLAVES => {
            if is_self(call) {
                write::array(call.out, 0);
            }
        }
        id::CLUSTER_COUNT_FAILURE_REPORTS => {
            if is_self(call) {
                write::integer(call.out, 0);
            }
        }
        id::CLUSTER_KEYSLOT => write::integer(call.out, i64::from(Slot::of_key(call.arg(2)).get())),
        id::CLUSTER_LINKS => write::array(call.out, 0),
        id::CLUSTER_HELP => help::help("cluster", spec, call),
        _ => write_not_yet(spec, call.out),
    }
}

/// Does the argument name the one node? If not the error is written.
fn is_self(call: &mut Call<'_>) -> bool {
    let given = call.arg(2);
    let known = SelfNode::of(call).id.as_bytes() == given;
    if !known {
        call.error_about("ERR Unknown node ", given, "");
    }
    known
}

/// The node's entry ends with an empty map of further endpoints, as from redis 7.0 on.
fn slots(call: &mut Call<'_>) {
    let node = SelfNode::of(call);
    let out = &mut *call.out;
    write::array(out, 1);
    write::array(out, 3);
    write::integer(out, 0);
    write::integer(out, i64::from(LAST_SLOT));
    write::array(out, 4);
    write::bulk(out, node.host.as_bytes());
    write::integer(out, i64::from(node.port));
    write::bulk(out, node.id.as_bytes());
    write::map(out, 0, call.client.protocol);
}

fn shards(call: &mut Call<'_>) {
    let node = SelfNode::of(call);
    let protocol = call.client.protocol;
    let out = &mut *call.out;
    write::array(out, 1);
    write::map(out, 2, protocol);
    write::bulk(out, b"slots");
    write::array(out, 2);
    write::integer(out, 0);
    write::integer(out, i64::from(LAST_SLOT));
    write::bulk(out, b"nodes");
    write::array(out, 1);
    let hostname = node.hostname();
    write::map(out, 7 + usize::from(hostname.is_some()), protocol);
    write::bulk(out, b"id");
    write::bulk(out, node.id.as_bytes());
    write::bulk(out, b"port");
    write::integer(out, i64::from(node.port));
    write::bulk(out, b"ip");
    write::bulk(out, node.ip.to_string().as_bytes());
    write::bulk(out, b"endpoint");
    write::bulk(out, node.host.as_bytes());
    if let Some(hostname) = hostname {
        write::bulk(out, b"hostname");
        write::bulk(out, hostname.as_bytes());
    }
    write::bulk(out, b"role");
    write::bulk(out, b"master");
    write::bulk(out, b"replication-offset");
    write::integer(out, 0);
    write::bulk(out, b"health");
    write::bulk(out, b"online");
}

/// The host stands first even if it is a name, so that every client, also one that knows no `,hostname`, uses it.
fn nodes(call: &mut Call<'_>) {
    let node = SelfNode::of(call);
    let bus_port = node.port.checked_add(10_000).unwrap_or(0);
    let line = format!(
        "{} {}:{}@{bus_port} myself,master - 0 0 1 connected 0-{LAST_SLOT}\n",
        node.id, node.host, node.port
    );
    call.text(line.as_bytes());
}

fn info(call: &mut Call<'_>) {
    let figures: [(&str, u16); 11] = [
        ("cluster_slots_assigned", SLOT_COUNT),
        ("cluster_slots_ok", SLOT_COUNT),
        ("cluster_slots_pfail", 0),
        ("cluster_slots_fail", 0),
        ("cluster_known_nodes", 1),
        ("cluster_size", 1),
        ("cluster_current_epoch", 1),
        ("cluster_my_epoch", 1),
        ("cluster_stats_messages_sent", 0),
        ("cluster_stats_messages_received", 0),
        ("total_cluster_links_buffer_limit_exceeded", 0),
    ];
    let mut text = "cluster_state:ok\r\n".to_owned();
    for (name, value) in figures {
        // Writing to a String cannot fail.
        let _ = write!(text, "{name}:{value}\r\n");
    }
    call.text(text.as_bytes());
}

//! What a healthy scripted node answers.

use super::{NodeView, Request, words};
use crate::{Reply, slot_of};
use anyhow::Result;
use std::collections::HashMap;
use std::fmt::Write as _;

/// State of one connection.
#[derive(Default)]
pub(super) struct Session {
    asking: bool,
    resp3: bool,
}

type Store = HashMap<Vec<u8>, Vec<u8>>;

impl Session {
    /// Makes a request of parsed bytes.
    pub(super) fn request(
        &mut self,
        node: usize,
        connection: u64,
        reply: &Reply,
    ) -> Result<Request> {
        let mut arguments = words(reply)?;
        if let Some(name) = arguments.first_mut() {
            name.make_ascii_uppercase();
        }
        let asking = std::mem::take(&mut self.asking);
        Ok(Request {
            node,
            connection,
            arguments,
            asking,
            resp3: self.resp3,
        })
    }

    /// Answers as a healthy cluster node does; keys of other nodes' slots are redirected unless `ASKING` came before.
    pub(super) fn answer(
        &mut self,
        request: &Request,
        nodes: &[NodeView],
        store: &mut Store,
    ) -> Vec<u8> {
        match request.name().as_str() {
            "ASKING" => {
                self.asking = true;
                ok()
            }
            "HELLO" => self.hello(request),
            "PING" => b"+PONG\r\n".to_vec(),
            "CLUSTER" => cluster(request, nodes),
            "INFO" => {
                bulk("redis_version:7.0.15\r\nredis_mode:cluster\r\nloading:0\r\nrole:master\r\n")
            }
            "ROLE" => b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".to_vec(),
            "CLIENT" if request.text(1).eq_ignore_ascii_case("ID") => b":7\r\n".to_vec(),
            "CLIENT" if request.text(1).eq_ignore_ascii_case("KILL") => b":0\r\n".to_vec(),
            "AUTH" | "CLIENT" | "SELECT" | "READONLY" => ok(),
            _ => data(request, nodes, store),
        }
    }

    fn hello(&mut self, request: &Request) -> Vec<u8> {
        self.resp3 = request.text(1) == "3";
        let (head, proto) = if self.resp3 { ("%7", 3) } else { ("*14", 2) };
        format!(
            "{head}\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:{proto}\r\n\
             $2\r\nid\r\n:7\r\n$4\r\nmode\r\n$7\r\ncluster\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
        )
        .into_bytes()
    }
}

fn ok() -> Vec<u8> {
    b"+OK\r\n".to_vec()
}

fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

fn cluster(request: &Request, nodes: &[NodeView]) -> Vec<u8> {
    match request.text(1).to_ascii_uppercase().as_str() {
        "NODES" => bulk(&nodes_text(request.node, nodes)),
        "MYID" => bulk(&nodes[request.node].id),
        "SLOTS" => slots(nodes),
        "INFO" => bulk(&format!(
            "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\n\
             cluster_known_nodes:{}\r\ncluster_size:{}\r\n",
            nodes.len(),
            nodes.len()
        )),
        other => format!("-ERR unknown subcommand '{other}'. Try CLUSTER HELP.\r\n").into_bytes(),
    }
}

fn nodes_text(own: usize, nodes: &[NodeView]) -> String {
    let mut text = String::new();
    for (n, node) in nodes.iter().enumerate().filter(|(_, node)| !node.hidden) {
        let flags = if n == own { "myself,master" } else { "master" };
        let _ = write!(
            text,
            "{} {}:{}@{} {flags} - 0 0 {} connected",
            node.id,
            node.address.ip(),
            node.address.port(),
            node.address.port() + 10_000,
            node.epoch
        );
        for (from, to) in &node.slots {
            let _ = if from == to {
                write!(text, " {from}")
            } else {
                write!(text, " {from}-{to}")
            };
        }
        text.push('\n');
    }
    text
}

fn slots(nodes: &[NodeView]) -> Vec<u8> {
    let mut body = String::new();
    let mut count = 0;
    for node in nodes.iter().filter(|node| !node.hidden) {
        let host = node.address.ip().to_string();
        for (from, to) in &node.slots {
            count += 1;
            let _ = write!(
                body,
                "*3\r\n:{from}\r\n:{to}\r\n*3\r\n${}\r\n{host}\r\n:{}\r\n$40\r\n{}\r\n",
                host.len(),
                node.address.port(),
                node.id
            );
        }
    }
    format!("*{count}\r\n{body}").into_bytes()
}

/// Commands on keys, with one memory behind all nodes.
fn data(request: &Request, nodes: &[NodeView], store: &mut Store) -> Vec<u8> {
    let Some(key) = request.arguments.get(1) else {
        return b"-ERR wrong number of arguments\r\n".to_vec();
    };
    let slot = slot_of(key);
    let owns = |node: &NodeView| {
        node.slots
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&slot))
    };
    if !request.asking && !owns(&nodes[request.node]) {
        return match nodes.iter().find(|node| owns(node)) {
            Some(owner) => format!("-MOVED {slot} {}\r\n", owner.address).into_bytes(),
            None => b"-CLUSTERDOWN Hash slot not served\r\n".to_vec(),
        };
    }
    let value = request.arguments.get(2).cloned().unwrap_or_default();
    match request.name().as_str() {
        "GET" => value_of(store.get(key)),
        "SET" => {
            store.insert(key.clone(), value);
            ok()
        }
        "APPEND" => {
            let entry = store.entry(key.clone()).or_default();
            entry.extend_from_slice(&value);
            format!(":{}\r\n", entry.len()).into_bytes()
        }
        "INCR" => increment(store, key),
        "DEL" => {
            let gone = request.arguments[1..]
                .iter()
                .filter(|key| store.remove(*key).is_some())
                .count();
            format!(":{gone}\r\n").into_bytes()
        }
        "MGET" => {
            let keys = &request.arguments[1..];
            let mut bytes = format!("*{}\r\n", keys.len()).into_bytes();
            keys.iter()
                .for_each(|key| bytes.extend(value_of(store.get(key))));
            bytes
        }
        "MSET" => {
            for pair in request.arguments[1..].chunks_exact(2) {
                store.insert(pair[0].clone(), pair[1].clone());
            }
            ok()
        }
        other => format!("-ERR unknown command '{other}'\r\n").into_bytes(),
    }
}

fn increment(store: &mut Store, key: &[u8]) -> Vec<u8> {
    let old = store
        .get(key)
        .and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    let new = old.unwrap_or(0_i64) + 1;
    store.insert(key.to_vec(), new.to_string().into_bytes());
    format!(":{new}\r\n").into_bytes()
}

fn value_of(value: Option<&Vec<u8>>) -> Vec<u8> {
    let Some(value) = value else {
        return b"$-1\r\n".to_vec();
    };
    let mut bytes = format!("${}\r\n", value.len()).into_bytes();
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

//! Parser of `CLUSTER NODES`, the primary source: the only reply with configuration epochs [T2] [T3].
//!
//! One line per node, as the command page and the servers' `clusterGenNodeDescription` have it:
//! `id addr flags primary-id ping-sent pong-recv config-epoch link-state slot...`, where `addr` is `ip:port` (3.2),
//! `ip:port@busport` (4.0), `ip:port@busport,hostname` (7.0) or the same with further `,key=value` fields, and a slot is `n`,
//! `n-m`, `[n->-id]` (migrating) or `[n-<-id]` (importing).

use std::collections::HashSet;
use std::sync::Arc;

use super::address::{checked_host, parse_port, strip_brackets};
use super::view::{checked_id, checked_slot};
use super::{
    Address, AddressMap, NodeState, OpenSlot, Role, RowProblem, View, ViewError, ViewNode,
};

/// Parses the text of a `CLUSTER NODES` reply that came from `answered_by`. Rows of nodes in handshake or without a known
/// address are left out: such nodes are not (or no longer) reachable members.
///
/// # Errors
/// When any row is malformed, a node or slot appears twice, or not exactly one row is marked `myself`.
pub fn parse(text: &[u8], answered_by: &Address, map: &AddressMap) -> Result<View, ViewError> {
    let mut view = View::new(answered_by);
    let mut seen = HashSet::new();
    for (row, line) in (1u32..).zip(text.split(|&byte| byte == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let bad = |problem| ViewError::Row { row, problem };
        let line = std::str::from_utf8(line).map_err(|_not_utf8| bad(RowProblem::NotText))?;
        let Some(parsed) = parse_row(line, answered_by, map).map_err(bad)? else {
            continue;
        };
        if !seen.insert(parsed.node.id.clone()) {
            return Err(bad(RowProblem::DuplicateNode));
        }
        if parsed.myself && view.myself.replace(parsed.node.id.clone()).is_some() {
            return Err(ViewError::Myself);
        }
        add_row(&mut view, parsed, bad)?;
    }
    if view.myself.is_none() {
        return Err(ViewError::Myself);
    }
    Ok(view)
}

/// A line without its slots.
struct Row<'a> {
    node: ViewNode,
    myself: bool,
    slots: std::str::Split<'a, char>,
}

fn add_row(
    view: &mut View,
    row: Row<'_>,
    bad: impl Fn(RowProblem) -> ViewError,
) -> Result<(), ViewError> {
    let (role, id) = (row.node.role, row.node.id.clone());
    let position = view.push_node(row.node)?;
    for token in row.slots.filter(|token| !token.is_empty()) {
        if let Some(open) = token.strip_prefix('[') {
            let body = open
                .strip_suffix(']')
                .ok_or_else(|| bad(RowProblem::Slot))?;
            let open = open_slot(body, &id).map_err(&bad)?;
            view.push_open_slot(open);
            continue;
        }
        if role == Role::Replica {
            return Err(bad(RowProblem::ReplicaWithSlots));
        }
        let (first, last) = token.split_once('-').unwrap_or((token, token));
        let (first, last) = (
            checked_slot(first).map_err(&bad)?,
            checked_slot(last).map_err(&bad)?,
        );
        if first > last {
            return Err(bad(RowProblem::Slot));
        }
        view.assign(position, first, last).map_err(&bad)?;
    }
    Ok(())
}

/// `n->-id` or `n-<-id` on the line of `myself`.
fn open_slot(body: &str, myself: &super::NodeId) -> Result<OpenSlot, RowProblem> {
    if let Some((slot, target)) = body.split_once("->-") {
        let target = Some(checked_id(target)?);
        return Ok(OpenSlot {
            slot: checked_slot(slot)?,
            source: Some(myself.clone()),
            target,
        });
    }
    let (slot, source) = body.split_once("-<-").ok_or(RowProblem::Slot)?;
    let source = Some(checked_id(source)?);
    Ok(OpenSlot {
        slot: checked_slot(slot)?,
        source,
        target: Some(myself.clone()),
    })
}

/// The fields of one line; `None` for a node that is left out.
fn parse_row<'a>(
    line: &'a str,
    answered_by: &Address,
    map: &AddressMap,
) -> Result<Option<Row<'a>>, RowProblem> {
    let mut fields = line.split(' ');
    let mut field = || fields.next().ok_or(RowProblem::TooFewFields);
    let (id, endpoint, flags, primary) = (field()?, field()?, field()?, field()?);
    let (_ping, pong, epoch, link) = (field()?, field()?, field()?, field()?);
    let id = checked_id(id)?;
    let flags = Flags::parse(flags);
    if flags.absent {
        return Ok(None);
    }
    let (address, hostname) = parse_endpoint(endpoint, flags.myself, answered_by, map)?;
    let role = match (flags.primary, flags.replica) {
        (true, false) => Role::Primary,
        (false, true) => Role::Replica,
        _ => return Err(RowProblem::Role),
    };
    let primary_id = match primary {
        "-" => None,
        id => Some(checked_id(id)?),
    };
    let link_connected = match link {
        "connected" => true,
        "disconnected" => false,
        _ => return Err(RowProblem::LinkState),
    };
    let node = ViewNode {
        id,
        address,
        hostname,
        role,
        primary_id: primary_id.filter(|_| role == Role::Replica),
        state: flags.state,
        // A node has no bus link to itself and says "connected".
        link_connected,
        heard: pong != "0",
        config_epoch: Some(parse_epoch(epoch)?),
    };
    Ok(Some(Row {
        node,
        myself: flags.myself,
        slots: fields,
    }))
}

fn parse_epoch(text: &str) -> Result<u64, RowProblem> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(RowProblem::Epoch);
    }
    text.parse().map_err(|_not_a_number| RowProblem::Epoch)
}

/// The flags that matter; unknown ones (`nofailover`, those of future servers) are no obstacle.
struct Flags {
    myself: bool,
    primary: bool,
    replica: bool,
    /// In handshake, or without address.
    absent: bool,
    state: NodeState,
}

impl Flags {
    fn parse(text: &str) -> Self {
        let mut flags = Self {
            myself: false,
            primary: false,
            replica: false,
            absent: false,
            state: NodeState::Ok,
        };
        for flag in text.split(',') {
            match flag {
                "myself" => flags.myself = true,
                "master" | "primary" => flags.primary = true,
                "slave" | "replica" => flags.replica = true,
                "handshake" | "noaddr" => flags.absent = true,
                "fail?" if flags.state == NodeState::Ok => flags.state = NodeState::Suspect,
                "fail" => flags.state = NodeState::Failed,
                _ => {}
            }
        }
        flags
    }
}

/// Address and host name of `ip:port@busport,hostname,key=value...`. An empty ip on the answering node's own row means that it
/// does not know itself: it is where the answer came from. On another row it is unknown.
fn parse_endpoint(
    text: &str,
    myself: bool,
    answered_by: &Address,
    map: &AddressMap,
) -> Result<(Option<Address>, Option<Arc<str>>), RowProblem> {
    let mut parts = text.split(',');
    let endpoint = parts.next().unwrap_or_default();
    let hostname = parts
        .next()
        .filter(|name| !name.is_empty() && !name.contains('='));
    let hostname = match hostname {
        Some(name) => Some(Arc::from(
            checked_host(name).map_err(|_malformed| RowProblem::Address)?,
        )),
        None => None,
    };
    let client_side = endpoint
        .rsplit_once('@')
        .map_or(endpoint, |(client_side, _bus_port)| client_side);
    let (host, port) = client_side.rsplit_once(':').ok_or(RowProblem::Address)?;
    let port = parse_port(port).map_err(|_malformed| RowProblem::Address)?;
    let address = match strip_brackets(host) {
        "" if myself => Some(answered_by.clone()),
        "" => None,
        host => {
            let host = checked_host(host).map_err(|_malformed| RowProblem::Address)?;
            Some(map.apply(Address::new(host, port)))
        }
    };
    Ok((address, hostname))
}

#[cfg(test)]
mod tests;

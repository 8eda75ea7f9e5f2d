//! Parser of `CLUSTER SLOTS`, the fall-back where `CLUSTER NODES` is not permitted [T4].
//!
//! An array of `[start, end, [host, port, id, metadata], ...]`, the first node of an entry being the primary. The host is an
//! address or name, null or empty (the host that was asked), or `?` (name not configured). Metadata (7.0) is a map or a flat
//! array with `ip` and `hostname`. The reply has no epochs and leaves out failed replicas and primaries without slots.

use std::collections::HashMap;
use std::sync::Arc;

use super::address::{checked_host, strip_brackets};
use super::view::checked_id;
use super::{Address, AddressMap, NodeId, NodeState, Role, RowProblem, View, ViewError, ViewNode};
use crate::resp::Value;
use crate::slot::Slot;

/// Parses a `CLUSTER SLOTS` reply that came from `answered_by`, a node whose id is `myself` if that is known.
///
/// # Errors
/// When the reply or any row has an unexpected shape, a slot appears twice, or a node is both primary and replica.
pub fn parse(
    reply: &Value<'_>,
    answered_by: &Address,
    myself: Option<&NodeId>,
    map: &AddressMap,
) -> Result<View, ViewError> {
    let Value::Array(entries) = reply else {
        return Err(ViewError::Shape);
    };
    let mut view = View::new(answered_by);
    view.myself = myself.cloned();
    let mut reader = Reader {
        answered_by,
        myself,
        map,
        positions: HashMap::new(),
    };
    for (row, entry) in (1u32..).zip(entries) {
        reader
            .add_entry(&mut view, entry)
            .map_err(|problem| match problem {
                Problem::Row(problem) => ViewError::Row { row, problem },
                Problem::View(error) => error,
            })?;
    }
    Ok(view)
}

/// A problem of the row at hand, or of the view as a whole.
enum Problem {
    Row(RowProblem),
    View(ViewError),
}

impl From<RowProblem> for Problem {
    fn from(problem: RowProblem) -> Self {
        Self::Row(problem)
    }
}

impl From<ViewError> for Problem {
    fn from(error: ViewError) -> Self {
        Self::View(error)
    }
}

struct Reader<'a> {
    answered_by: &'a Address,
    myself: Option<&'a NodeId>,
    map: &'a AddressMap,
    /// Position in the view of every node met so far.
    positions: HashMap<NodeId, usize>,
}

impl Reader<'_> {
    fn add_entry(&mut self, view: &mut View, entry: &Value<'_>) -> Result<(), Problem> {
        let Value::Array(fields) = entry else {
            return Err(ViewError::Shape.into());
        };
        let [
            Value::Integer(first),
            Value::Integer(last),
            primary,
            replicas @ ..,
        ] = fields.as_slice()
        else {
            return Err(RowProblem::TooFewFields.into());
        };
        let slot = |number: &i64| {
            u16::try_from(*number)
                .ok()
                .and_then(Slot::new)
                .ok_or(RowProblem::Slot)
        };
        let (first, last) = (slot(first)?, slot(last)?);
        if first > last {
            return Err(RowProblem::Slot.into());
        }
        let position = self.add_node(view, primary, None)?;
        view.assign(position, first, last)?;
        let primary_id = view.nodes().get(position).map(|node| node.id.clone());
        for replica in replicas {
            self.add_node(view, replica, primary_id.as_ref())?;
        }
        Ok(())
    }

    /// Adds a node, a replica of `followed` if that is given, unless an earlier entry had it; its position.
    fn add_node(
        &mut self,
        view: &mut View,
        node: &Value<'_>,
        followed: Option<&NodeId>,
    ) -> Result<usize, Problem> {
        let Value::Array(fields) = node else {
            return Err(ViewError::Shape.into());
        };
        let [host, Value::Integer(port), id, metadata @ ..] = fields.as_slice() else {
            return Err(RowProblem::TooFewFields.into());
        };
        let id = checked_id(text(id)?.ok_or(RowProblem::Id)?)?;
        let role = if followed.is_some() {
            Role::Replica
        } else {
            Role::Primary
        };
        let port = u16::try_from(*port)
            .ok()
            .filter(|port| *port != 0)
            .ok_or(RowProblem::Address)?;
        let metadata = metadata.first();
        let address = self.address(text(host)?, port, &id, lookup(metadata, "ip")?)?;
        if let Some(&position) = self.positions.get(&id) {
            let same_role = view
                .nodes()
                .get(position)
                .is_some_and(|node| node.role == role);
            return if same_role {
                Ok(position)
            } else {
                Err(RowProblem::Role.into())
            };
        }
        let position = view.push_node(ViewNode {
            address,
            hostname: match lookup(metadata, "hostname")?.filter(|name| !name.is_empty()) {
                Some(name) => Some(Arc::from(host_of(name)?)),
                None => None,
            },
            id: id.clone(),
            role,
            primary_id: followed.cloned(),
            // A node the answering node holds for dead is left out, or is a primary that it cannot mark here.
            state: NodeState::Ok,
            link_connected: true,
            heard: true,
            config_epoch: None,
        })?;
        self.positions.insert(id, position);
        Ok(position)
    }

    fn address(
        &self,
        host: Option<&str>,
        port: u16,
        id: &NodeId,
        ip: Option<&str>,
    ) -> Result<Option<Address>, RowProblem> {
        let host = match host {
            None | Some("") => &self.answered_by.host,
            Some("?") => match ip.filter(|ip| !ip.is_empty() && *ip != "?") {
                Some(ip) => ip,
                None if self.myself == Some(id) => &self.answered_by.host,
                None => return Ok(None),
            },
            Some(host) => host,
        };
        Ok(Some(self.map.apply(Address::new(host_of(host)?, port))))
    }
}

fn host_of(host: &str) -> Result<&str, RowProblem> {
    checked_host(strip_brackets(host)).map_err(|_malformed| RowProblem::Address)
}

/// A string, or `None` for null.
fn text<'a>(value: &Value<'a>) -> Result<Option<&'a str>, RowProblem> {
    match value {
        Value::Bulk(bytes) | Value::Simple(bytes) => std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_not_utf8| RowProblem::NotText),
        Value::Null => Ok(None),
        _ => Err(RowProblem::NotText),
    }
}

/// The value of `key` in the metadata of a node: a map (RESP3) or a flat array (RESP2). Unknown keys are no obstacle.
fn lookup<'a>(metadata: Option<&Value<'a>>, key: &str) -> Result<Option<&'a str>, RowProblem> {
    let is_key = |value: &Value<'_>| matches!(value, Value::Bulk(name) | Value::Simple(name) if *name == key.as_bytes());
    let found = match metadata {
        Some(Value::Map(pairs)) => pairs
            .iter()
            .find(|(name, _)| is_key(name))
            .map(|(_, value)| value),
        Some(Value::Array(flat)) => flat.chunks_exact(2).find_map(|pair| match pair {
            [name, value] if is_key(name) => Some(value),
            _ => None,
        }),
        _ => None,
    };
    found.map_or(Ok(None), text)
}

#[cfg(test)]
mod tests;

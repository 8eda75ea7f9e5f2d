//! Merging what several views say about one node.

use super::Round;
use crate::topology::view::ViewNode;
use crate::topology::{Address, Node, NodeId, NodeState, Role, Snapshot, View};

/// The node as the round has it; `None` if nobody knows its address.
pub(super) fn merge_rows(id: &NodeId, round: &Round<'_>, current: &Snapshot) -> Option<Node> {
    let rows: Vec<(&View, &ViewNode)> = round.rows(id).collect();
    let own = rows
        .iter()
        .find(|(view, _)| view.myself.as_ref() == Some(id))
        .copied();
    let main = main_row(&rows, own)?;
    Some(Node {
        id: id.clone(),
        address: address(id, &rows, own, current)?,
        hostname: main.hostname.clone(),
        role: main.role,
        primary_id: main.primary_id.clone(),
        state: state(id, &rows, own.is_some(), current),
        link_connected: own.is_some() || link_connected(id, &rows, current),
        config_epoch: main.config_epoch.unwrap_or_default(),
    })
}

/// The row that says role, primary and name: a replica knows best whom it follows; otherwise the row with the greatest epoch is
/// the newest (a replica shows the epoch of its primary).
fn main_row<'a>(
    rows: &[(&View, &'a ViewNode)],
    own: Option<(&View, &'a ViewNode)>,
) -> Option<&'a ViewNode> {
    if let Some((_, own)) = own
        && own.role == Role::Replica
    {
        return Some(own);
    }
    let own = own.map(|(_, row)| row);
    let newest = rows.iter().map(|(_, row)| row.config_epoch).max()?;
    match own {
        Some(own) if own.config_epoch == newest => Some(own),
        _ => rows
            .iter()
            .map(|(_, row)| *row)
            .find(|row| row.config_epoch == newest),
    }
}

/// Whether most nodes have a bus link to this one; one node alone does not outweigh that the table says otherwise.
fn link_connected(id: &NodeId, rows: &[(&View, &ViewNode)], current: &Snapshot) -> bool {
    let connected = rows.iter().filter(|(_, row)| row.link_connected).count() * 2 > rows.len();
    match current.node_by_id(id) {
        Some(before) if rows.len() < 2 => connected && before.link_connected,
        _ => connected,
    }
}

/// A node never calls itself failed, so its own row has no vote; but a node that answered is not dead. One other node alone does
/// not clear it of an earlier complaint: nodes learn of a failure at different times, and the state would flap.
fn state(
    id: &NodeId,
    rows: &[(&View, &ViewNode)],
    answered: bool,
    current: &Snapshot,
) -> NodeState {
    let others = rows
        .iter()
        .filter(|(view, _)| view.myself.as_ref() != Some(id));
    let (mut voters, mut failed, mut complaints) = (0, 0, 0);
    for (_, row) in others {
        voters += 1;
        failed += usize::from(row.state == NodeState::Failed);
        complaints += usize::from(row.state != NodeState::Ok);
    }
    let told = if complaints == 0 {
        NodeState::Ok
    } else if failed * 2 >= voters && failed > 0 && !answered {
        NodeState::Failed
    } else {
        NodeState::Suspect
    };
    match current.node_by_id(id) {
        Some(before) if !answered && voters < 2 => told.max(before.state),
        _ => told,
    }
}

/// Where the node is. An address at which it just answered is certain. Next come the nodes that hear it over a bus link: they
/// are connected to the address they show. They know better than the node itself: one that restarts elsewhere without
/// `cluster-announce-ip` shows the address of its old `nodes.conf`. A node that does not hear it may show an address of long
/// ago: its word counts only if there is no other.
fn address(
    id: &NodeId,
    rows: &[(&View, &ViewNode)],
    own: Option<(&View, &ViewNode)>,
    current: &Snapshot,
) -> Option<Address> {
    if let Some((view, _)) = own
        && rows
            .iter()
            .any(|(_, row)| row.address.as_ref() == Some(&view.answered_by))
    {
        return Some(view.answered_by.clone());
    }
    let own_address = own.and_then(|(_, row)| row.address.as_ref());
    let before = current.node_by_id(id).map(|node| &node.address);
    let others = || {
        rows.iter()
            .filter(|(view, _)| view.myself.as_ref() != Some(id))
            .map(|(_, row)| *row)
    };
    let hearing =
        others().filter(|row| row.link_connected && row.heard && row.state == NodeState::Ok);
    let told: Vec<&Address> = hearing.filter_map(|row| row.address.as_ref()).collect();
    let most_told = told.iter().copied().max_by_key(|address| {
        let votes = told.iter().filter(|other| *other == address).count();
        (
            votes,
            own_address == Some(*address),
            before == Some(*address),
        )
    });
    let rumour = || others().find_map(|row| row.address.as_ref());
    most_told
        .or(own_address)
        .or(before)
        .or_else(rumour)
        .cloned()
}

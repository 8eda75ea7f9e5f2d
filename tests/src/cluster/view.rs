//! What one node says about its cluster: `CLUSTER NODES`, read independently of the code under test.

use crate::node::Node;
use anyhow::{Context, Result};

/// Node ids with their config epochs and slots.
pub(super) type Owners = Vec<(String, u64, Vec<(u16, u16)>)>;

/// One line of `CLUSTER NODES`.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: String,
    /// `ip:port`, without the bus port
    pub(super) address: String,
    pub(super) flags: Vec<String>,
    /// Id of the primary of a replica; empty for a primary
    pub(super) primary: String,
    pub(super) epoch: u64,
    pub(super) connected: bool,
    /// When the last PONG came, in milliseconds since 1970; 0 for the node itself
    pub(super) pong_millis: u128,
    pub(super) slots: Vec<(u16, u16)>,
}

impl Member {
    fn parse(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [
            id,
            address,
            flags,
            primary,
            _ping,
            pong,
            epoch,
            link,
            slots @ ..,
        ] = fields.as_slice()
        else {
            anyhow::bail!("short line in CLUSTER NODES: {line:?}");
        };
        let slots: Result<Vec<(u16, u16)>> = slots
            .iter()
            .filter(|slot| !slot.starts_with('['))
            .map(|slot| range(slot))
            .collect();
        Ok(Self {
            id: (*id).to_owned(),
            address: address.split('@').next().unwrap_or_default().to_owned(),
            flags: flags.split(',').map(str::to_owned).collect(),
            primary: primary.trim_matches('-').to_owned(),
            epoch: epoch.parse()?,
            connected: *link == "connected",
            pong_millis: pong.parse()?,
            slots: slots?,
        })
    }

    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|own| own == flag)
    }

    pub(super) fn failed(&self) -> bool {
        self.has("fail") || self.has("fail?")
    }
}

fn range(text: &str) -> Result<(u16, u16)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    Ok((from.parse()?, to.parse()?))
}

/// All lines of one node.
#[derive(Debug)]
pub(super) struct View {
    pub(super) members: Vec<Member>,
}

impl View {
    pub(super) fn of(node: &Node) -> Result<Self> {
        let text = node.must("CLUSTER NODES")?.text()?;
        let members: Result<Vec<Member>> = text.lines().map(Member::parse).collect();
        Ok(Self {
            members: members.context("CLUSTER NODES")?,
        })
    }

    pub(super) fn owner_of(&self, slot: u16) -> Option<&Member> {
        let owns = |member: &&Member| {
            member
                .slots
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&slot))
        };
        self.members.iter().find(owns)
    }

    pub(super) fn newest_epoch(&self) -> u64 {
        self.members
            .iter()
            .map(|member| member.epoch)
            .max()
            .unwrap_or(0)
    }

    /// Who owns which slots, failed nodes left out, in a fixed order.
    pub(super) fn owners(&self) -> Owners {
        let serving = self
            .members
            .iter()
            .filter(|member| !member.slots.is_empty() && !member.failed());
        let mut owners: Owners = serving
            .map(|member| (member.id.clone(), member.epoch, member.slots.clone()))
            .collect();
        owners.sort();
        owners
    }
}

//! Moving slots with their data, as `redis-cli --cluster reshard` does it.

use super::Cluster;
use crate::conn::Conn;
use crate::resp::Reply;
use anyhow::{Result, bail};
use std::net::SocketAddrV4;

/// Slots that are open (migrating) at the same time.
const OPEN_AT_ONCE: usize = 20;
/// Keys of one MIGRATE.
const KEYS_AT_ONCE: &str = "100";
/// Milliseconds a MIGRATE may block its source.
const MIGRATE_TIMEOUT: &str = "5000";

/// What a replica says to CLUSTER SETSLOT, before "masters" or "primaries".
const NO_PRIMARY: &str = "ERR Please use SETSLOT only with";

/// The steps of moving slots from one primary to another, for tests that need to look in between.
#[derive(Debug)]
pub struct Migration {
    source: Conn,
    target: Conn,
    others: Vec<Conn>,
    source_id: String,
    target_id: String,
    target_address: SocketAddrV4,
}

impl Migration {
    /// Opens slots: the source migrates, the target imports.
    ///
    /// # Errors
    /// If a node refuses.
    pub fn open(&mut self, slots: &[u16]) -> Result<()> {
        let source_id = self.source_id.clone();
        set_slots(&mut self.target, slots, &["IMPORTING", &source_id])?;
        let target_id = self.target_id.clone();
        set_slots(&mut self.source, slots, &["MIGRATING", &target_id])
    }

    /// Moves these keys, all of one open slot.
    ///
    /// # Errors
    /// If a node refuses.
    pub fn move_keys<K: AsRef<[u8]>>(&mut self, keys: &[K]) -> Result<()> {
        let host = self.target_address.ip().to_string();
        let port = self.target_address.port().to_string();
        let mut command: Vec<&[u8]> = vec![
            b"MIGRATE",
            host.as_bytes(),
            port.as_bytes(),
            b"",
            b"0",
            MIGRATE_TIMEOUT.as_bytes(),
            b"KEYS",
        ];
        command.extend(keys.iter().map(AsRef::as_ref));
        match self.source.call(&command)? {
            // NOKEY: they expired or were deleted meanwhile.
            Reply::Simple(text) if text == "OK" || text == "NOKEY" => Ok(()),
            other => bail!("MIGRATE: {other:?}"),
        }
    }

    /// Moves all keys of open slots.
    ///
    /// # Errors
    /// If a node refuses.
    pub fn move_all_keys(&mut self, slots: &[u16]) -> Result<()> {
        for slot in slots {
            loop {
                let slot = slot.to_string();
                let keys = self
                    .source
                    .call(&["CLUSTER", "GETKEYSINSLOT", &slot, KEYS_AT_ONCE])?;
                let keys: Vec<&[u8]> = keys.items()?.iter().filter_map(bytes).collect();
                if keys.is_empty() {
                    break;
                }
                self.move_keys(&keys)?;
            }
        }
        Ok(())
    }

    /// Gives empty open slots to the target, which learns it first, as the servers' documentation asks for.
    ///
    /// # Errors
    /// If a node refuses.
    pub fn close(&mut self, slots: &[u16]) -> Result<()> {
        let target_id = self.target_id.clone();
        for slot in slots.chunks(1) {
            set_slots(&mut self.target, slot, &["NODE", &target_id])?;
            match set_slots(&mut self.source, slot, &["NODE", &target_id]) {
                // Its last slot: it has heard of it from the target already, and follows that one now.
                Err(error) if error.to_string().contains(NO_PRIMARY) => {}
                told => told?,
            }
            for other in &mut self.others {
                set_slots(other, slot, &["NODE", &target_id])?;
            }
        }
        Ok(())
    }
}

fn bytes(reply: &Reply) -> Option<&[u8]> {
    match reply {
        Reply::Bulk(bytes) => Some(bytes),
        _ => None,
    }
}

fn set_slots(conn: &mut Conn, slots: &[u16], rest: &[&str]) -> Result<()> {
    let commands: Vec<Vec<String>> = slots
        .iter()
        .map(|slot| {
            let mut command = vec!["CLUSTER".to_owned(), "SETSLOT".to_owned(), slot.to_string()];
            command.extend(rest.iter().map(|word| (*word).to_owned()));
            command
        })
        .collect();
    for reply in conn.pipeline(&commands)? {
        if !reply.is_ok() {
            bail!("CLUSTER SETSLOT .. {rest:?}: {reply:?}");
        }
    }
    Ok(())
}

impl Cluster {
    /// Prepares a migration between two primaries.
    ///
    /// # Errors
    /// If a primary does not answer.
    pub fn migration(&self, source: usize, target: usize) -> Result<Migration> {
        let view = self.view(source)?;
        let mut others = Vec::new();
        for (id, _, _) in view.owners() {
            let number = self.number_of(&id)?;
            if number != source && number != target {
                others.push(self.node(number)?.conn()?);
            }
        }
        Ok(Migration {
            source: self.node(source)?.conn()?,
            target: self.node(target)?.conn()?,
            others,
            source_id: self.id(source)?.to_owned(),
            target_id: self.id(target)?.to_owned(),
            target_address: self.node(target)?.address(),
        })
    }

    /// Moves slots with their data from one primary to another, a few at a time. The cluster must have
    /// settled ([`Self::settle`]) before they move again.
    ///
    /// # Errors
    /// If a node refuses.
    pub fn move_slots(&self, source: usize, target: usize, slots: &[u16]) -> Result<()> {
        let mut migration = self.migration(source, target)?;
        for slots in slots.chunks(OPEN_AT_ONCE) {
            migration.open(slots)?;
            migration.move_all_keys(slots)?;
            migration.close(slots)?;
        }
        Ok(())
    }
}

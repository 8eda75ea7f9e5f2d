//! Proof of who lost an acknowledged write: the servers' append-only logs.
//!
//! A server writes a command to its log before it replies, and what a killed process has written stays. So a write that the former
//! primary has in its log, and the promoted replica has not, was executed where it belonged and lost by the replication between
//! them. One that the former primary never had, or that its successor had, was lost by somebody else.

use crate::case::case_dir;
use crate::cluster::Cluster;
use crate::load::LostWrite;
use crate::slot_of;
use anyhow::Result;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

/// The logs as they were when the fault began; what is appended later is seen, too, but no replacement.
#[derive(Debug)]
pub(super) struct Evidence {
    /// By node number
    logs: Vec<Vec<PathBuf>>,
    /// Owner of each shard's first slot, by node number
    primaries: Vec<usize>,
    folder: PathBuf,
}

impl Evidence {
    /// Keeps the logs of all nodes by further links to the files.
    pub(super) fn keep(cluster: &Cluster) -> Result<Self> {
        let folder = case_dir("evidence")?;
        let mut logs = Vec::new();
        for (n, node) in cluster.nodes().iter().enumerate() {
            let mut links = Vec::new();
            for (m, file) in node.append_only_files().iter().enumerate() {
                let link = folder.join(format!("{n}-{m}"));
                // A file that was just replaced is none of the logs.
                if std::fs::hard_link(file, &link).is_ok() {
                    links.push(link);
                }
            }
            logs.push(links);
        }
        Ok(Self {
            logs,
            primaries: primaries(cluster)?,
            folder,
        })
    }

    /// The lost writes that replication did not lose, with what is known of them.
    pub(super) fn unexplained(&self, cluster: &Cluster, lost: &[LostWrite]) -> Result<Vec<String>> {
        let mut by_shard: BTreeMap<usize, Vec<&LostWrite>> = BTreeMap::new();
        for write in lost {
            let slot = slot_of(write.key.as_bytes());
            let shard = (0..cluster.primaries())
                .find(|shard| cluster.initial_slots(*shard).contains(&slot))
                .unwrap_or_default();
            by_shard.entry(shard).or_default().push(write);
        }
        let now = primaries(cluster)?;
        let mut unexplained = Vec::new();
        for (shard, writes) in by_shard {
            let (before, after) = (self.primaries[shard], now[shard]);
            let tokens: HashSet<&str> = writes.iter().map(|write| write.token.as_str()).collect();
            let had = self.found(before, &tokens);
            let got = self.found(after, &tokens);
            for write in writes {
                let (had, got) = (had.contains(&write.token), got.contains(&write.token));
                if before == after || !had || got {
                    unexplained.push(format!(
                        "{}: primary before the fault: node {before}, has it in its log: {had}; now: node {after}, {got}",
                        write.token
                    ));
                }
            }
        }
        Ok(unexplained)
    }

    /// Those of the tokens that the log of a node holds.
    fn found(&self, node: usize, tokens: &HashSet<&str>) -> HashSet<String> {
        let mut found = HashSet::new();
        let logs = self.logs.get(node).into_iter().flatten();
        for file in logs.filter_map(|path| File::open(path).ok()) {
            let lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
            for line in lines {
                let line = line.strip_suffix(b"\r").unwrap_or(&line);
                if let Some(token) = std::str::from_utf8(line)
                    .ok()
                    .filter(|t| tokens.contains(t))
                {
                    found.insert(token.to_owned());
                }
            }
        }
        found
    }
}

impl Drop for Evidence {
    fn drop(&mut self) {
        // What is left goes with the directory of the case.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn primaries(cluster: &Cluster) -> Result<Vec<usize>> {
    (0..cluster.primaries())
        .map(|shard| cluster.primary_of(*cluster.initial_slots(shard).start()))
        .collect()
}

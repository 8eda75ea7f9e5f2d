//! What was executed for one client, and the order that demands [G2] [G6].

use super::model::{Record, Violation};
use super::profile::KEYS;
use super::wire::Mark;

/// What was executed on one key for one client.
#[derive(Debug, Default, Clone)]
struct KeyHistory {
    /// Request and execution, both ascending.
    writes: Vec<(usize, u64)>,
    /// The newest read whose result the client saw.
    newest_read: Option<usize>,
    /// The newest request, and the newest write, that the kernel took as a whole.
    newest_sent: Option<usize>,
    newest_sent_write: Option<usize>,
    /// Reads since the last write.
    asked: Vec<usize>,
}

/// All that happened to one client's requests.
#[derive(Debug)]
pub(super) struct ClientHistory {
    keys: Vec<KeyHistory>,
    newest_barrier: Option<usize>,
    newest_write: Option<usize>,
    /// Every WATCH of which it is not known that it is over.
    pub(super) open_watches: Vec<usize>,
    /// What it has selected.
    pub(super) database: usize,
    /// The last request by which it said where its reads are to go.
    pub(super) last_said: usize,
    /// It has left, or sends nothing more.
    pub(super) gone: bool,
}

impl ClientHistory {
    pub(super) fn new() -> Self {
        Self {
            keys: vec![KeyHistory::default(); KEYS],
            newest_barrier: None,
            newest_write: None,
            open_watches: Vec::new(),
            database: 0,
            last_said: 0,
            gone: false,
        }
    }

    /// The kernel took `request`, or a part of it.
    pub(super) fn note_sent(&mut self, request: usize, record: &Record) {
        for key in &record.keys {
            if let Some(key) = self.keys.get_mut(*key) {
                key.newest_sent = key.newest_sent.max(Some(request));
                if record.write {
                    key.newest_sent_write = key.newest_sent_write.max(Some(request));
                }
            }
        }
    }

    /// Whether a later request that conflicts with this one may have been executed [O4].
    pub(super) fn may_be_overtaken(&self, request: usize, record: &Record) -> bool {
        record
            .keys
            .iter()
            .filter_map(|key| self.keys.get(*key))
            .any(|key| {
                let newest = if record.write {
                    key.newest_sent
                } else {
                    key.newest_sent_write
                };
                newest > Some(request)
            })
    }

    /// The client has asked for `keys`.
    pub(super) fn note_asked(&mut self, request: usize, keys: &[usize]) {
        for key in keys {
            if let Some(key) = self.keys.get_mut(*key) {
                key.asked.push(request);
            }
        }
    }

    /// The reads of `key` that were asked before `request`, which are not looked at again.
    pub(super) fn reads_before(&mut self, request: usize, key: usize) -> Vec<usize> {
        let Some(key) = self.keys.get_mut(key) else {
            return Vec::new();
        };
        let later = key.asked.partition_point(|asked| *asked < request);
        key.asked.drain(..later).collect()
    }

    /// Forgets reads: a replica has answered one without waiting for what its primary does late.
    pub(super) fn forget_reads(&mut self, keys: &[usize]) {
        for key in keys {
            if let Some(key) = self.keys.get_mut(*key) {
                key.newest_read = None;
            }
        }
    }

    /// [G2] [G6]: nothing that was sent later and conflicts has been executed already.
    pub(super) fn check_write(
        &self,
        request: usize,
        barrier: bool,
        late: bool,
        keys: &[usize],
    ) -> Result<(), Violation> {
        let overtaken = |other: Option<usize>, by: &str| match other {
            Some(other) if other > request => Err(format!(
                "request {request} is executed after the later {by} {other}"
            )),
            _ => Ok(()),
        };
        if !late {
            overtaken(self.newest_barrier, "barrier")?;
        }
        if barrier {
            overtaken(self.newest_write, "write")?;
        }
        for key in keys.iter().filter_map(|key| self.keys.get(*key)) {
            overtaken(
                key.writes.last().map(|(request, _)| *request),
                "write of its key",
            )?;
            overtaken(key.newest_read, "read of its key")?;
        }
        Ok(())
    }

    pub(super) fn note_write(
        &mut self,
        request: usize,
        execution: u64,
        barrier: bool,
        keys: &[usize],
    ) {
        self.newest_write = self.newest_write.max(Some(request));
        if barrier {
            self.newest_barrier = self.newest_barrier.max(Some(request));
        }
        for key in keys {
            if let Some(key) = self.keys.get_mut(*key) {
                key.writes.push((request, execution));
            }
        }
    }

    /// [G2] for a read: what the client saw is from after all its earlier writes, unless a replica that lags may have answered, and
    /// from before all its later ones.
    pub(super) fn check_read(
        &mut self,
        request: usize,
        barrier: bool,
        sees_own_writes: bool,
        mark: Mark,
    ) -> Result<(), Violation> {
        if barrier {
            return Ok(());
        }
        let Some(key) = self.keys.get_mut(mark.key) else {
            return Ok(());
        };
        let later = key.writes.partition_point(|(write, _)| *write < request);
        if let Some((write, execution)) = later
            .checked_sub(1)
            .and_then(|earlier| key.writes.get(earlier))
            && *execution > mark.execution
            && sees_own_writes
        {
            return Err(format!(
                "read {request} does not see the earlier write {write} of its key"
            ));
        }
        if let Some((write, execution)) = key.writes.get(later)
            && *execution < mark.execution
        {
            return Err(format!(
                "read {request} sees the later write {write} of its key"
            ));
        }
        key.newest_read = key.newest_read.max(Some(request));
        Ok(())
    }
}

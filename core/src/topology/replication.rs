//! How far replicas are behind their primary, by what both say of their replication stream [T21].
//!
//! The primary is asked again and again how far its stream is. A replica that is as far as the primary was at some time has all that was
//! written before: what it shows is no older than that. So the bound is one in time, though the servers count bytes.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::Address;
use crate::time::Timestamp;

/// What a server says of its replication: the answer to `INFO replication`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replication {
    /// It follows another server.
    pub is_replica: bool,
    /// Which history of writes it has; `None` before Redis 4.
    pub history: Option<String>,
    /// How far it is in that history, in bytes.
    pub offset: u64,
    /// Of a replica: the connection to its primary is there.
    pub is_linked: bool,
    /// Of a replica: it is getting all data anew.
    pub is_loading: bool,
    /// Of a primary: its replicas that have all data, where they say that they are.
    pub replicas: Vec<Address>,
}

impl Replication {
    /// Reads the answer; `None` if it does not tell what the server is.
    #[must_use]
    pub fn parse(info: &str) -> Option<Self> {
        let lines = || info.lines().filter_map(|line| line.split_once(':'));
        let field = |wanted: &str| {
            let mut found = lines().filter(|(name, _)| *name == wanted);
            found.next().map(|(_, value)| value.trim())
        };
        let is_replica = match field("role")? {
            "master" | "primary" => false,
            "slave" | "replica" => true,
            _ => return None,
        };
        let offset = match is_replica {
            true => field("slave_repl_offset").or_else(|| field("replica_repl_offset"))?,
            false => field("master_repl_offset").or_else(|| field("primary_repl_offset"))?,
        };
        let link = field("master_link_status").or_else(|| field("primary_link_status"));
        let sync = field("master_sync_in_progress").or_else(|| field("primary_sync_in_progress"));
        let history = field("master_replid").or_else(|| field("primary_replid"));
        Some(Self {
            is_replica,
            history: history.map(str::to_owned),
            // A replica that has never had a primary says -1.
            offset: offset.parse().unwrap_or(0),
            is_linked: link == Some("up"),
            is_loading: sync == Some("1"),
            replicas: lines().filter_map(replica).collect(),
        })
    }
}

/// A line such as `slave0:ip=10.0.0.2,port=6379,state=online,offset=28,lag=0`.
fn replica((name, value): (&str, &str)) -> Option<Address> {
    let number = name
        .strip_prefix("slave")
        .or_else(|| name.strip_prefix("replica"))?;
    number.parse::<u32>().ok()?;
    let field = |wanted: &str| {
        let mut fields = value
            .trim()
            .split(',')
            .filter_map(|field| field.split_once('='));
        fields
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value)
    };
    (field("state")? == "online").then_some(())?;
    Some(Address::new(field("ip")?, field("port")?.parse().ok()?))
}

/// How old the data of a replica may be.
#[derive(Debug, Clone, Copy)]
pub struct LagLimits {
    /// It has all that was written this long ago.
    pub time: Duration,
    /// Bytes of the stream.
    pub bytes: u64,
}

/// Why a replica is not to be read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It gave no answer.
    Silent,
    /// The nodes of the cluster say that it has failed.
    Failed,
    /// It does not follow any server.
    NoReplica,
    /// It has another history than the primary.
    OtherHistory,
    /// It is getting all data anew.
    Loading,
    /// The connection to its primary is down.
    LinkDown,
    /// By more time than it may; `None`: nobody knows by how much.
    Behind(Option<Duration>),
    /// By more time than it may: more than that.
    BehindMore(Duration),
    /// By more bytes than it may.
    BehindBytes(u64),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("does not answer"),
            Self::Failed => f.write_str("has failed, as the nodes of the cluster say"),
            Self::NoReplica => f.write_str("is no replica"),
            Self::OtherHistory => f.write_str("has other data than the primary"),
            Self::Loading => f.write_str("is loading its data"),
            Self::LinkDown => f.write_str("its link to the primary is down"),
            Self::Behind(None) => f.write_str("is behind, not known how far yet"),
            Self::Behind(Some(time)) => write!(f, "is {:.1} s behind", time.as_secs_f64()),
            Self::BehindMore(time) => write!(f, "is more than {:.0} s behind", time.as_secs_f64()),
            Self::BehindBytes(bytes) => write!(f, "is {bytes} bytes behind"),
        }
    }
}

/// What is known of a replica's lag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// It has all that was written this long ago; `None`: not known.
    pub time: Option<Duration>,
    /// Bytes between where the primary was last and where it is.
    pub bytes: u64,
    /// Why it is not to be read from; `None`: it may be.
    pub unreadable: Option<Unreadable>,
}

/// How far the stream of one primary was when.
#[derive(Debug, Default)]
pub struct Progress {
    history: Option<String>,
    /// When it was asked, and how far it was then; both ascending.
    samples: VecDeque<(Timestamp, u64)>,
    /// It did not answer the last question.
    is_silent: bool,
}

impl Progress {
    /// The primary, asked at `asked`, has said this.
    pub fn on_answer(&mut self, asked: Timestamp, said: &Replication) {
        self.is_silent = said.is_replica;
        if said.is_replica {
            return;
        }
        let is_earlier = self
            .samples
            .back()
            .is_some_and(|(_, last)| said.offset < *last);
        if said.history != self.history || is_earlier {
            self.history.clone_from(&said.history);
            self.samples.clear();
        }
        match self.samples.back_mut() {
            // Nothing was written since: who is there has all up to now.
            Some((time, last)) if *last == said.offset => *time = asked,
            _ => self.samples.push_back((asked, said.offset)),
        }
    }

    /// The primary gave no answer.
    pub const fn on_silence(&mut self) {
        self.is_silent = true;
    }

    /// What is known now of a replica that has said `said`. Forgets what is too old to matter.
    pub fn judge(&mut self, now: Timestamp, said: Option<&Replication>, limits: LagLimits) -> Lag {
        // The oldest that may matter is kept, for what is behind by more is said to be so.
        while self
            .samples
            .get(1)
            .is_some_and(|(time, _)| now.since(*time) > limits.time * 2)
        {
            self.samples.pop_front();
        }
        let Some(said) = said else {
            return Lag {
                time: None,
                bytes: 0,
                unreadable: Some(Unreadable::Silent),
            };
        };
        let reached = self
            .samples
            .iter()
            .rev()
            .find(|(_, offset)| *offset <= said.offset);
        let time = reached.map(|(time, _)| now.since(*time));
        let oldest = self.samples.front();
        let known_for = oldest.map_or(Duration::ZERO, |(time, _)| now.since(*time));
        let last = self.samples.back().map_or(0, |(_, offset)| *offset);
        let bytes = last.saturating_sub(said.offset);
        let unreadable = if !said.is_replica {
            Some(Unreadable::NoReplica)
        } else if said.is_loading {
            Some(Unreadable::Loading)
        } else if !self.samples.is_empty() && said.history != self.history {
            Some(Unreadable::OtherHistory)
        // Without its primary, what it has may be the newest there is.
        } else if !said.is_linked && !self.is_silent {
            Some(Unreadable::LinkDown)
        } else if time.is_none() && known_for > limits.time {
            Some(Unreadable::BehindMore(known_for))
        } else if time.is_none_or(|time| time > limits.time) {
            Some(Unreadable::Behind(time))
        } else if bytes > limits.bytes {
            Some(Unreadable::BehindBytes(bytes))
        } else {
            None
        };
        Lag {
            time,
            bytes,
            unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: LagLimits = LagLimits {
        time: Duration::from_secs(10),
        bytes: 1000,
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn primary(offset: u64) -> Replication {
        Replication {
            history: Some("a".to_owned()),
            offset,
            ..Replication::default()
        }
    }

    fn replica(offset: u64) -> Replication {
        Replication {
            is_replica: true,
            is_linked: true,
            ..primary(offset)
        }
    }

    fn judge(progress: &mut Progress, now: u64, said: &Replication) -> Lag {
        progress.judge(at(now), Some(said), LIMITS)
    }

    #[test]
    fn the_answers_of_servers_are_read() {
        let primary = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
            slave0:ip=10.0.0.2,port=6380,state=online,offset=28,lag=0\r\n\
            slave1:ip=fd00::2,port=6381,state=wait_bgsave,offset=0,lag=0,type=replica\r\n\
            slave2:ip=redis-2,port=6382,state=online,offset=0,lag=1\r\n\
            slave_expires_tracked_keys:0\r\nmaster_replid:abc\r\nmaster_repl_offset:42\r\n";
        assert_eq!(
            Replication::parse(primary).unwrap(),
            Replication {
                history: Some("abc".to_owned()),
                offset: 42,
                replicas: vec![
                    Address::new("10.0.0.2", 6380),
                    Address::new("redis-2", 6382)
                ],
                ..Replication::default()
            }
        );
        let replica = "role:slave\r\nmaster_host:10.0.0.1\r\nmaster_link_status:up\r\nmaster_sync_in_progress:0\r\n\
            slave_read_repl_offset:45\r\nslave_repl_offset:40\r\nmaster_replid:abc\r\nmaster_repl_offset:40\r\n";
        let read = Replication::parse(replica).unwrap();
        assert!(read.is_replica && read.is_linked && !read.is_loading);
        assert_eq!((read.offset, read.history.as_deref()), (40, Some("abc")));
        let loading = replica
            .replace("progress:0", "progress:1")
            .replace("status:up", "status:down");
        let read = Replication::parse(&loading).unwrap();
        assert!(!read.is_linked && read.is_loading);
        let old = "role:slave\r\nmaster_link_status:up\r\nslave_repl_offset:40\r\n";
        assert_eq!(Replication::parse(old).unwrap().history, None);
        assert_eq!(Replication::parse("role:sentinel\r\n"), None);
        assert_eq!(Replication::parse(""), None);
    }

    #[test]
    fn a_replica_is_as_old_as_the_last_question_whose_answer_it_has_reached() {
        let mut progress = Progress::default();
        progress.on_answer(at(1), &primary(100));
        assert_eq!(
            judge(&mut progress, 1, &replica(99)).unreadable,
            Some(Unreadable::Behind(None)),
            "it may be behind by hours"
        );
        progress.on_answer(at(2), &primary(200));
        progress.on_answer(at(3), &primary(300));
        let lag = judge(&mut progress, 4, &replica(299));
        assert_eq!(lag.time, Some(Duration::from_secs(2)));
        assert_eq!((lag.bytes, lag.unreadable), (1, None));
        assert_eq!(
            judge(&mut progress, 4, &replica(350)).time,
            Some(Duration::from_secs(1))
        );
    }

    #[test]
    fn while_nothing_is_written_a_replica_stays_fresh() {
        let mut progress = Progress::default();
        for second in 0..100 {
            progress.on_answer(at(second), &primary(100));
        }
        assert_eq!(
            judge(&mut progress, 99, &replica(100)).time,
            Some(Duration::ZERO)
        );
        assert_eq!(progress.samples.len(), 1);
    }

    #[test]
    fn a_replica_that_stands_still_is_left_in_time_and_nothing_is_kept_for_ever() {
        let mut progress = Progress::default();
        let mut left_at = None;
        for second in 0..100 {
            progress.on_answer(at(second), &primary(100 + second));
            let lag = judge(&mut progress, second, &replica(105));
            if second >= 5 && lag.unreadable.is_some() {
                left_at.get_or_insert(second);
            }
        }
        assert_eq!(left_at, Some(16));
        assert!(progress.samples.len() <= 22);
        let lag = judge(&mut progress, 99, &replica(105));
        assert_eq!(
            lag.unreadable.unwrap().to_string(),
            "is more than 21 s behind",
            "which is known, though not how much more"
        );
    }

    #[test]
    fn too_many_bytes_are_too_much_though_they_were_written_just_now() {
        let mut progress = Progress::default();
        progress.on_answer(at(1), &primary(100));
        progress.on_answer(at(2), &primary(1101));
        assert_eq!(
            judge(&mut progress, 2, &replica(100)).unreadable,
            Some(Unreadable::BehindBytes(1001))
        );
    }

    #[test]
    fn without_its_primary_a_replica_is_used_within_the_bound() {
        let mut progress = Progress::default();
        progress.on_answer(at(1), &primary(100));
        let alone = Replication {
            is_linked: false,
            ..replica(100)
        };
        assert_eq!(
            judge(&mut progress, 2, &alone).unreadable,
            Some(Unreadable::LinkDown)
        );
        progress.on_silence();
        assert_eq!(judge(&mut progress, 11, &alone).unreadable, None);
        assert_eq!(
            judge(&mut progress, 12, &alone).unreadable,
            Some(Unreadable::Behind(Some(Duration::from_secs(11))))
        );
    }

    #[test]
    fn what_is_no_replica_of_this_primary_is_not_read() {
        let mut progress = Progress::default();
        progress.on_answer(at(1), &primary(100));
        let unreadable = |said: &Replication| {
            let mut progress = Progress::default();
            progress.on_answer(at(1), &primary(100));
            progress.judge(at(1), Some(said), LIMITS).unreadable
        };
        assert_eq!(unreadable(&primary(100)), Some(Unreadable::NoReplica));
        let other = Replication {
            history: Some("b".to_owned()),
            ..replica(100)
        };
        assert_eq!(unreadable(&other), Some(Unreadable::OtherHistory));
        let loading = Replication {
            is_loading: true,
            ..replica(100)
        };
        assert_eq!(unreadable(&loading), Some(Unreadable::Loading));
        assert_eq!(
            progress.judge(at(1), None, LIMITS).unreadable,
            Some(Unreadable::Silent)
        );
        // Started anew, it is in a history of its own, even where it does not say so.
        progress.on_answer(at(2), &primary(7));
        assert_eq!(progress.samples.len(), 1);
    }
}

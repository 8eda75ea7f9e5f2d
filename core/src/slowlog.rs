//! The slow log: requests that took long, from their arrival to their answer, as SLOWLOG shows them. The entries are those of the
//! servers (doc: SLOWLOG GET), and one thing more, for a proxy is asked where the time went.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::latency::LatencySamples;
use crate::resp::{Args, write};

/// Arguments kept of a request, and bytes of each: the servers' own bounds.
const MOST_ARGS: usize = 32;
const MOST_BYTES: usize = 128;

/// A request that was slow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowRequest {
    /// When it was answered, in seconds since 1970.
    pub unix_seconds: u64,
    /// From its arrival to its answer.
    pub micros: u64,
    /// Its arguments, see [`shortened`].
    pub args: Vec<Vec<u8>>,
    /// Address of the client.
    pub client: SocketAddr,
    /// Name of the client.
    pub client_name: Vec<u8>,
    /// Where it was and how long, as `node=10.0.0.1:6379 redirects=0 resends=0 node_us=12000 proxy_us=31`.
    pub course: String,
}

/// The last slow requests of a process. The default one keeps none.
#[derive(Debug, Default)]
pub struct SlowLog {
    slower_than: Duration,
    capacity: usize,
    next_id: u64,
    /// Newest first.
    entries: VecDeque<(u64, SlowRequest)>,
    latency: LatencySamples,
}

impl SlowLog {
    /// An empty log of requests that take as long as this, or longer, for the last `capacity` of them; of none with 0.
    #[must_use]
    pub const fn new(slower_than: Duration, capacity: usize) -> Self {
        Self {
            slower_than,
            capacity,
            next_id: 0,
            entries: VecDeque::new(),
            latency: LatencySamples::new(),
        }
    }

    /// What takes as long as this is slow; `None` if nothing is noted.
    #[must_use]
    pub fn slower_than(&self) -> Option<Duration> {
        (self.capacity > 0).then_some(self.slower_than)
    }

    /// How many are kept.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Notes a request; the oldest one is forgotten for it.
    pub fn note(&mut self, request: SlowRequest) {
        if self.capacity > 0 {
            self.latency
                .note(request.unix_seconds, request.micros / 1000);
        }
        self.entries.truncate(self.capacity.saturating_sub(1));
        if self.capacity > 0 {
            self.entries.push_front((self.next_id, request));
            self.next_id += 1;
        }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When requests were slow: of the entries, and of many that are forgotten.
    pub const fn latency(&mut self) -> &mut LatencySamples {
        &mut self.latency
    }

    /// Forgets all entries. Their numbers are not used again.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Appends the reply to SLOWLOG GET: the newest `count` entries.
    pub fn write(&self, count: usize, out: &mut Vec<u8>) {
        let count = count.min(self.entries.len());
        write::array(out, count);
        for (id, request) in self.entries.iter().take(count) {
            write::array(out, 7);
            for number in [*id, request.unix_seconds, request.micros] {
                write::integer(out, i64::try_from(number).unwrap_or(i64::MAX));
            }
            write::array(out, request.args.len());
            for argument in &request.args {
                write::bulk(out, argument);
            }
            write::bulk(out, request.client.to_string().as_bytes());
            write::bulk(out, &request.client_name);
            // Clients read the six that servers give, by their places.
            write::bulk(out, request.course.as_bytes());
        }
    }
}

/// The arguments of a command as the servers keep them: no more than 32, the last of them saying how many there are, and 128 bytes
/// of each.
#[must_use]
pub fn shortened(args: Args<'_>) -> Vec<Vec<u8>> {
    let kept = if args.len() > MOST_ARGS {
        MOST_ARGS - 1
    } else {
        args.len()
    };
    let mut shown: Vec<Vec<u8>> = args.iter().take(kept).map(shortened_argument).collect();
    if args.len() > kept {
        shown.push(format!("... ({} more arguments)", args.len() - kept).into_bytes());
    }
    shown
}

fn shortened_argument(argument: &[u8]) -> Vec<u8> {
    match argument.split_at_checked(MOST_BYTES) {
        Some((shown, rest)) if !rest.is_empty() => {
            let mut text = shown.to_vec();
            text.extend_from_slice(format!("... ({} more bytes)", rest.len()).as_bytes());
            text
        }
        _ => argument.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{DecodeStep, RequestDecoder, RequestLimits};

    fn request(micros: u64) -> SlowRequest {
        SlowRequest {
            unix_seconds: 1_700_000_000,
            micros,
            args: vec![b"GET".to_vec(), b"k".to_vec()],
            client: SocketAddr::from(([10, 0, 0, 9], 40_005)),
            client_name: b"web".to_vec(),
            course: "node=n:1".to_owned(),
        }
    }

    fn shown(log: &SlowLog, count: usize) -> String {
        let mut out = Vec::new();
        log.write(count, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn shortened_words(words: &[&[u8]]) -> Vec<String> {
        let (mut raw, mut decoder) = (Vec::new(), RequestDecoder::new());
        write::command(&mut raw, words);
        let step = decoder.decode(&raw, &RequestLimits::DEFAULT).unwrap();
        assert_eq!(step, DecodeStep::Command { len: raw.len() });
        let args = shortened(Args::new(&raw, decoder.ranges()));
        args.into_iter()
            .map(|argument| String::from_utf8(argument).unwrap())
            .collect()
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_are_forgotten() {
        let mut log = SlowLog::new(Duration::from_millis(10), 2);
        for micros in [11_000, 12_000, 13_000] {
            log.note(request(micros));
        }
        assert_eq!(log.len(), 2);
        let entry = |id: u64, micros: u64| {
            format!(
                "*7\r\n:{id}\r\n:1700000000\r\n:{micros}\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n\
                 $14\r\n10.0.0.9:40005\r\n$3\r\nweb\r\n$8\r\nnode=n:1\r\n"
            )
        };
        let all = format!("*2\r\n{}{}", entry(2, 13_000), entry(1, 12_000));
        assert_eq!(shown(&log, usize::MAX), all);
        assert_eq!(shown(&log, 1), format!("*1\r\n{}", entry(2, 13_000)));
        log.clear();
        assert!(log.is_empty());
        log.note(request(14_000));
        assert!(shown(&log, 1).contains(":3\r\n"), "numbers go on");
    }

    #[test]
    fn a_log_for_none_keeps_none() {
        let mut log = SlowLog::new(Duration::ZERO, 0);
        log.note(request(1));
        assert!(log.is_empty());
        assert_eq!(log.slower_than(), None);
    }

    #[test]
    fn long_requests_are_shortened_as_on_the_servers() {
        let long = vec![b'x'; 130];
        let shown = shortened_words(&[b"SET", b"k", &long, &long[..128]]);
        assert_eq!(shown[2], format!("{}... (2 more bytes)", "x".repeat(128)));
        assert_eq!(shown[3], "x".repeat(128));
        let many: Vec<&[u8]> = vec![b"a"; 33];
        assert_eq!(shortened_words(&many[..32]).len(), 32);
        let shown = shortened_words(&many);
        assert_eq!(shown.len(), 32);
        assert_eq!(shown[31], "... (2 more arguments)");
    }
}

//! A node, played: it has every key, and answers what the workloads and a handshake ask.

use slotway_core::resp::{Args, DecodeStep, OK, RequestDecoder, RequestLimits, write};
use slotway_core::topology::Address;

use super::cluster::id_at;
use super::workload::{QUEUED, value_of};

/// One connection as its node sees it.
pub(super) struct Node {
    id: String,
    value_bytes: usize,
    /// The beginning of a request.
    partial: Vec<u8>,
    /// Within a transaction: how many commands there are, and their replies.
    queued: Option<(usize, Vec<u8>)>,
}

impl Node {
    /// The node at `address`; every key has a value of this size.
    pub(super) fn at(address: &Address, value_bytes: usize) -> Self {
        Self {
            id: id_at(address.port),
            value_bytes,
            partial: Vec::new(),
            queued: None,
        }
    }

    /// Reads `bytes` and appends the replies to the requests that are whole now.
    pub(super) fn take(&mut self, bytes: &[u8], replies: &mut Vec<u8>) {
        self.partial.extend_from_slice(bytes);
        let mut decoder = RequestDecoder::new();
        let mut used = 0;
        while let Some(rest) = self.partial.get(used..)
            && let Ok(DecodeStep::Command { len }) = decoder.decode(rest, &RequestLimits::DEFAULT)
        {
            let args = Args::new(rest, decoder.ranges());
            match (args.name(), self.queued.take()) {
                (b"MULTI", None) => {
                    self.queued = Some((0, Vec::new()));
                    replies.extend_from_slice(OK);
                }
                (b"EXEC", Some((count, queued))) => {
                    write::array(replies, count);
                    replies.extend_from_slice(&queued);
                }
                (_, Some((count, mut queued))) => {
                    self.answer(args, &mut queued);
                    self.queued = Some((count + 1, queued));
                    replies.extend_from_slice(QUEUED);
                }
                (_, None) => self.answer(args, replies),
            }
            used += len;
        }
        self.partial.drain(..used);
    }

    fn answer(&self, args: Args<'_>, replies: &mut Vec<u8>) {
        let key = args.get(1).unwrap_or_default();
        match (args.name(), key) {
            (b"GET", _) => write::bulk(replies, &value_of(key, self.value_bytes)),
            (b"MGET", _) => {
                write::array(replies, args.len() - 1);
                for key in args.iter().skip(1) {
                    write::bulk(replies, &value_of(key, self.value_bytes));
                }
            }
            (b"DEL", _) => write::integer(replies, i64::try_from(args.len()).unwrap_or(0) - 1),
            (b"CLUSTER", b"MYID") => write::bulk(replies, self.id.as_bytes()),
            (b"CLIENT", b"ID") => write::integer(replies, 1),
            _ => replies.extend_from_slice(OK),
        }
    }
}

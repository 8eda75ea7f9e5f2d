//! Connections that were given up though their node may yet execute something of them: they are killed before it gets anything
//! newer [D9].

use std::sync::Arc;

use crate::resp::{Value, write};
use crate::time::Timestamp;

/// What a node calls a connection.
///
/// A process numbers its connections from one. Where a node was started anew without a word, the number of an old connection may be
/// a stranger's by now; together with an address of its own it is nobody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientId {
    /// `CLIENT ID`, from Redis 5.0 on.
    pub number: i64,
    /// `addr` of `CLIENT INFO`, from Redis 6.2 on.
    pub address: Option<Arc<str>>,
}

/// A connection to be killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    target: ClientId,
    /// When it was ready for requests.
    since: Timestamp,
}

impl Fence {
    pub(crate) const fn new(target: ClientId, since: Timestamp) -> Self {
        Self { target, since }
    }

    /// Appends the command that kills the connection and no other.
    pub(crate) fn kill(&self, out: &mut Vec<u8>) {
        let number = self.target.number.to_string();
        let by_number: [&[u8]; 4] = [b"CLIENT", b"KILL", b"ID", number.as_bytes()];
        match &self.target.address {
            Some(address) => {
                let and_address: [&[u8]; 2] = [b"ADDR", address.as_bytes()];
                write::command(out, &[&by_number[..], &and_address].concat());
            }
            None => write::command(out, &by_number),
        }
    }

    /// Whether to send the command on connection `own`, which was asked for at `opened`. Where there is only the number to go by, a
    /// lower one of a connection opened later tells that the process has ended, and the connection with it.
    pub(crate) fn is_for(&self, own: &ClientId, opened: Timestamp) -> bool {
        self.target.address.is_some()
            || self.target.number < own.number
            || (opened <= self.since && self.target.number != own.number)
    }
}

/// The address in a reply to `CLIENT INFO`.
pub(crate) fn address_in(reply: &Value<'_>) -> Option<Arc<str>> {
    let (Value::Bulk(line) | Value::Verbatim(line)) = reply else {
        return None;
    };
    let line = std::str::from_utf8(line).ok()?;
    let address = line
        .split_ascii_whitespace()
        .find_map(|field| field.strip_prefix("addr="))?;
    // Over a unix socket all have the same.
    let is_own = !address.is_empty() && !address.ends_with(":0");
    is_own.then(|| Arc::from(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::ZERO.after(std::time::Duration::from_secs(seconds))
    }

    fn numbered(number: i64) -> ClientId {
        ClientId {
            number,
            address: None,
        }
    }

    #[test]
    fn the_number_of_a_process_that_has_ended_is_not_used_d9() {
        let fence = Fence::new(numbered(12), at(5));
        assert!(fence.is_for(&numbered(13), at(9)), "of the same process");
        assert!(fence.is_for(&numbered(3), at(1)), "older: the same process");
        assert!(!fence.is_for(&numbered(3), at(9)), "a new process");
        assert!(!fence.is_for(&numbered(12), at(9)), "itself");
        assert!(!fence.is_for(&numbered(12), at(1)), "itself");
    }

    #[test]
    fn number_and_address_together_are_nobody_elses_d9() {
        let line = b"id=12 addr=10.1.2.3:40001 laddr=10.9.9.9:6379 fd=8 name=slotway age=0";
        for reply in [Value::Bulk(line), Value::Verbatim(line)] {
            let address = address_in(&reply);
            assert_eq!(address.as_deref(), Some("10.1.2.3:40001"));
            let target = ClientId {
                number: 12,
                address,
            };
            let fence = Fence::new(target, at(5));
            assert!(fence.is_for(&numbered(3), at(9)));
            let mut out = Vec::new();
            fence.kill(&mut out);
            let mut expected = Vec::new();
            let words: [&[u8]; 6] = [b"CLIENT", b"KILL", b"ID", b"12", b"ADDR", b"10.1.2.3:40001"];
            write::command(&mut expected, &words);
            assert_eq!(out, expected);
        }
        for reply in [
            Value::Error(b"ERR Unknown subcommand"),
            Value::Simple(b"OK"),
            Value::Bulk(b"id=12 laddr=1.1.1.1:1 addr= name=x"),
            Value::Bulk(b"\xff"),
            Value::Bulk(b"id=12 addr=/run/redis.sock:0 name=x"),
            Value::Bulk(b"id=12 addr=?:0 name=x"),
        ] {
            assert_eq!(address_in(&reply), None);
        }
    }
}

//! Parsing of redirecting error replies: `MOVED slot host:port` and `ASK slot host:port`.
//!
//! The forms are those of the cluster specification ("MOVED Redirection", "ASK redirection") plus what newer servers write when
//! they do not know a host: an empty host means the host that was asked, `?` means unknown.

use super::Address;
use super::address::{checked_host, parse_port, strip_brackets};
use crate::slot::Slot;

/// Which of the two redirections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RedirectKind {
    /// The slot belongs to the target from now on.
    Moved,
    /// This one request belongs to the target, after `ASKING`; the table does not change [E6].
    Ask,
}

/// Where a redirection points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectTarget {
    /// A host and a port, before `address_map`.
    Address(Address),
    /// Empty host: the host of the link that answered, with this port.
    SameHost(u16),
    /// Host `?`: the server does not know; ask the table.
    Unknown,
}

/// A parsed redirection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// `MOVED` or `ASK`.
    pub kind: RedirectKind,
    /// The slot of the request.
    pub slot: Slot,
    /// Where to send it.
    pub target: RedirectTarget,
}

/// Parses the text of an error reply, with or without the leading `-` and the closing CR LF. `None` if it is not a well-formed
/// redirection, whatever its first word.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Redirect> {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let text = std::str::from_utf8(text.strip_suffix(b"\r\n").unwrap_or(text)).ok()?;
    let (word, rest) = text.split_once(' ')?;
    let kind = match word {
        "MOVED" => RedirectKind::Moved,
        "ASK" => RedirectKind::Ask,
        _ => return None,
    };
    let (slot, endpoint) = rest.split_once(' ')?;
    if !slot.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let slot = Slot::new(slot.parse().ok()?)?;
    let (host, port) = endpoint.rsplit_once(':')?;
    let port = parse_port(port).ok()?;
    let target = match host {
        "" => RedirectTarget::SameHost(port),
        "?" => RedirectTarget::Unknown,
        host => {
            RedirectTarget::Address(Address::new(checked_host(strip_brackets(host)).ok()?, port))
        }
    };
    Some(Redirect { kind, slot, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    #[test]
    fn parses_every_form_of_target() {
        let to = |host: &str, port| RedirectTarget::Address(Address::new(host, port));
        for (text, kind, number, target) in [
            (
                "MOVED 3999 127.0.0.1:6381",
                RedirectKind::Moved,
                3999,
                to("127.0.0.1", 6381),
            ),
            (
                "-MOVED 0 10.0.0.1:1\r\n",
                RedirectKind::Moved,
                0,
                to("10.0.0.1", 1),
            ),
            (
                "ASK 16383 ::1:7001",
                RedirectKind::Ask,
                16383,
                to("::1", 7001),
            ),
            (
                "MOVED 5 2001:db8::8:6379",
                RedirectKind::Moved,
                5,
                to("2001:db8::8", 6379),
            ),
            (
                "MOVED 5 [2001:db8::8]:6379",
                RedirectKind::Moved,
                5,
                to("2001:db8::8", 6379),
            ),
            (
                "ASK 5 node-a.example:6379",
                RedirectKind::Ask,
                5,
                to("node-a.example", 6379),
            ),
            (
                "MOVED 3999 :6380",
                RedirectKind::Moved,
                3999,
                RedirectTarget::SameHost(6380),
            ),
            (
                "MOVED 3999 ?:6380",
                RedirectKind::Moved,
                3999,
                RedirectTarget::Unknown,
            ),
        ] {
            let redirect = parse(text.as_bytes()).unwrap_or_else(|| panic!("{text:?}"));
            assert_eq!(
                redirect,
                Redirect {
                    kind,
                    slot: slot(number),
                    target
                },
                "{text:?}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_redirection() {
        for text in [
            "",
            "-",
            "MOVED",
            "MOVED 1",
            "MOVED 1 ",
            "MOVED 1 host",
            "MOVED 1 host:0",
            "MOVED 1 host:65536",
            "MOVED 16384 127.0.0.1:1",
            "MOVED -1 127.0.0.1:1",
            "MOVED +1 127.0.0.1:1",
            "MOVED 1  127.0.0.1:1",
            "MOVED 1 127.0.0.1:1 ",
            "moved 1 127.0.0.1:1",
            "MOVEDX 1 127.0.0.1:1",
            "ASKING 1 127.0.0.1:1",
            "ERR MOVED 1 127.0.0.1:1",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse(b"MOVED 1 \xff:1"), None);
    }
}

//! The address of a node: a host as the servers (or the configuration) write it, and a port.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest host name accepted: the limit of DNS (RFC 1035), which also bounds what a broken reply can make us keep.
const MAX_HOST_BYTES: usize = 255;

/// Host and port of a node. The host is an IP literal (IPv6 without brackets) or a name, never empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// IP literal or host name.
    pub host: Arc<str>,
    /// TCP port, never 0.
    pub port: u16,
}

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no colon before a port.
    #[error("no port")]
    NoPort,
    /// The port is not a number from 1 to 65535.
    #[error("bad port")]
    BadPort,
    /// The host is empty, too long, or holds blanks or control characters.
    #[error("bad host")]
    BadHost,
}

impl Address {
    /// An address of a host (IPv6 without brackets) and a port.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self {
            host: Arc::from(host),
            port,
        }
    }

    /// Parses `host:port`, split at the last colon as servers write `MOVED` targets; `[v6]:port` is understood too.
    ///
    /// # Errors
    /// When the host is empty or malformed, or the port is missing, 0 or no number.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
        let port = parse_port(port)?;
        let host = checked_host(strip_brackets(host))?;
        Ok(Self::new(host, port))
    }
}

/// A port as a decimal number from 1 to 65535 without sign.
pub(super) fn parse_port(text: &str) -> Result<u16, AddressError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AddressError::BadPort);
    }
    match text.parse::<u16>() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(AddressError::BadPort),
    }
}

/// `host` if it can be an IP literal or a name.
pub(super) fn checked_host(host: &str) -> Result<&str, AddressError> {
    let printable = host
        .bytes()
        .all(|byte| byte.is_ascii_graphic() || byte >= 0x80);
    let bracketed = host.contains(['[', ']']);
    if host.is_empty() || host.len() > MAX_HOST_BYTES || !printable || bracketed {
        return Err(AddressError::BadHost);
    }
    Ok(host)
}

/// `::1` for `[::1]`, anything else unchanged.
pub(super) fn strip_brackets(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_at_the_last_colon_and_displays_so_that_it_parses_again() {
        for (text, host, port, shown) in [
            ("10.0.0.5:6379", "10.0.0.5", 6379, "10.0.0.5:6379"),
            ("::1:7000", "::1", 7000, "[::1]:7000"),
            (
                "[2001:db8::5]:7000",
                "2001:db8::5",
                7000,
                "[2001:db8::5]:7000",
            ),
            (
                "node-a.example:65535",
                "node-a.example",
                65535,
                "node-a.example:65535",
            ),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((&*address.host, address.port), (host, port), "{text}");
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        for (text, error) in [
            ("", AddressError::NoPort),
            ("host", AddressError::NoPort),
            ("host:", AddressError::BadPort),
            ("host:0", AddressError::BadPort),
            ("host:65536", AddressError::BadPort),
            ("host:+1", AddressError::BadPort),
            ("host:99999999999999999999", AddressError::BadPort),
            (":6379", AddressError::BadHost),
            ("a b:6379", AddressError::BadHost),
            ("a\r:6379", AddressError::BadHost),
            ("[]:6379", AddressError::BadHost),
            ("[::1:6379", AddressError::BadHost),
        ] {
            assert_eq!(Address::parse(text), Err(error), "{text:?}");
        }
        let long = format!("{}:1", "a".repeat(256));
        assert_eq!(Address::parse(&long), Err(AddressError::BadHost));
    }
}

//! Parsers of the replies of a Sentinel: a map of texts for each instance, a flat array in RESP2.

use std::net::IpAddr;

use super::super::Address;
use super::super::address::{AddressError, checked_host, parse_port, strip_brackets};
use super::Report;
use crate::resp::Value;

/// Length of a `run_id`.
const RUN_ID_DIGITS: usize = 40;

/// What is wrong with a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyProblem {
    /// The Sentinel does not watch a service of this name.
    #[error(
        "this Sentinel does not know the service; is upstream.sentinel_service spelled as in its configuration?"
    )]
    UnknownService,
    /// Not the shape that the servers document.
    #[error("not the reply of a Sentinel")]
    Shape,
    /// An address that nobody can connect to [N20].
    #[error("an address that cannot be used: {0}")]
    Address(#[from] AddressError),
}

/// Reads the replies to `SENTINEL MASTER name` and `SENTINEL GET-MASTER-ADDR-BY-NAME name`.
///
/// # Errors
/// If the service is not known to the Sentinel, or a reply has an unexpected shape.
pub fn parse_primary(
    state: &Value<'_>,
    address: &Value<'_>,
    tilted: bool,
) -> Result<Report, ReplyProblem> {
    let primary = match address {
        Value::Null => return Err(ReplyProblem::UnknownService),
        Value::Array(parts) => match parts.as_slice() {
            [host, port] => address_of(text(host), text(port))?,
            _ => return Err(ReplyProblem::Shape),
        },
        _ => return Err(ReplyProblem::Shape),
    };
    let state = Fields::new(state).ok_or(ReplyProblem::Shape)?;
    let number = |name| {
        let text = state.get(name)?;
        text.parse::<u64>().ok()
    };
    let epoch = number("config-epoch").ok_or(ReplyProblem::Shape)?;
    let others = number("num-other-sentinels").ok_or(ReplyProblem::Shape)?;
    // The state is that of the former primary until the failover is over.
    let is_of_primary = state.address() == Ok(primary.clone());
    Ok(Report {
        run_id: is_of_primary.then(|| state.run_id()).flatten(),
        primary,
        config_epoch: epoch,
        sentinels: usize::try_from(others).map_or(usize::MAX, |others| others.saturating_add(1)),
        tilted,
    })
}

/// Reads the reply to `SENTINEL SENTINELS name`: where the other Sentinels are.
///
/// # Errors
/// If the reply has an unexpected shape.
pub fn parse_sentinels(reply: &Value<'_>) -> Result<Vec<Address>, ReplyProblem> {
    let rows = rows(reply)?;
    Ok(rows.filter_map(|row| row.address().ok()).collect())
}

/// Whether the text of `INFO` says that the Sentinel is in TILT mode.
#[must_use]
pub fn is_tilted(info: &[u8]) -> bool {
    field(info, b"sentinel_tilt:") == Some(b"1")
}

/// The `run_id` in the text of `INFO`: a Sentinel that is reached at two addresses has one.
#[must_use]
pub fn run_id(info: &[u8]) -> Option<&[u8]> {
    field(info, b"run_id:")
}

fn field<'a>(info: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = info.split(|byte| *byte == b'\n');
    lines.find_map(|line| Some(line.strip_prefix(name)?.trim_ascii()))
}

/// Whether only programs of the host that says so can connect to `named`, and this one, which reaches it at `from`, is not there [N20].
#[must_use]
pub fn is_out_of_reach(named: &Address, from: &Address) -> bool {
    let is_loopback = |address: &Address| match address.host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => &*address.host == "localhost",
    };
    is_loopback(named) && !is_loopback(from)
}

fn rows<'a>(reply: &'a Value<'a>) -> Result<impl Iterator<Item = Fields<'a>>, ReplyProblem> {
    let Value::Array(rows) = reply else {
        return Err(match reply {
            Value::Error(error) if error.starts_with(b"ERR No such master") => {
                ReplyProblem::UnknownService
            }
            _ => ReplyProblem::Shape,
        });
    };
    Ok(rows.iter().filter_map(Fields::new))
}

/// Names and texts.
struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    fn new(value: &'a Value<'a>) -> Option<Self> {
        let pair = |name, value| Some((text(name)?, text(value)?));
        match value {
            Value::Map(pairs) => pairs
                .iter()
                .map(|(name, value)| pair(name, value))
                .collect(),
            Value::Array(fields) => {
                let (pairs, rest) = fields.as_chunks::<2>();
                let pairs = pairs.iter().map(|[name, value]| pair(name, value));
                rest.is_empty().then(|| pairs.collect()).flatten()
            }
            _ => None,
        }
        .map(Self)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let (_, text) = self.0.iter().find(|(field, _)| *field == name)?;
        Some(text)
    }

    fn address(&self) -> Result<Address, ReplyProblem> {
        address_of(self.get("ip"), self.get("port"))
    }

    /// A Sentinel that has not yet reached the instance gives an empty text.
    fn run_id(&self) -> Option<String> {
        let text = self.get("runid")?;
        let is_id =
            text.len() == RUN_ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| text.to_owned())
    }
}

fn address_of(host: Option<&str>, port: Option<&str>) -> Result<Address, ReplyProblem> {
    let (Some(host), Some(port)) = (host, port) else {
        return Err(ReplyProblem::Shape);
    };
    let host = checked_host(strip_brackets(host))?;
    if host == "?" {
        return Err(AddressError::BadHost.into());
    }
    let port = parse_port(port)?;
    Ok(Address::new(host, port))
}

fn text<'a>(value: &Value<'a>) -> Option<&'a str> {
    match value {
        Value::Bulk(text) | Value::Simple(text) => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

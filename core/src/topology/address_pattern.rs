//! Which addresses a rule is for.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use super::address::{AddressError, checked_host, parse_port, strip_brackets};
use super::{Address, AddressRuleError};

/// Some addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressPattern {
    /// `host:port`: exactly this address.
    Exact(Address),
    /// `host`: any port of this host.
    Host(Arc<str>),
    /// `network/prefix`: any port of any IP literal in the network.
    Network(IpAddr, u8),
}

impl AddressPattern {
    /// Parses `host:port`, `host` or `network/prefix`. IPv6 with a port is written in brackets.
    ///
    /// # Errors
    /// When it has none of these forms.
    pub fn parse(text: &str) -> Result<Self, AddressRuleError> {
        match text.split_once('/') {
            Some((network, prefix)) => parse_network(network, prefix),
            None => Ok(
                match parse_host_or_address(text).map_err(AddressRuleError::From)? {
                    HostOrAddress::Address(address) => Self::Exact(address),
                    HostOrAddress::Host(host) => Self::Host(host),
                },
            ),
        }
    }

    /// Whether `address` is one of them.
    #[must_use]
    pub fn matches(&self, address: &Address) -> bool {
        match self {
            Self::Exact(exact) => exact == address,
            Self::Host(host) => *host == address.host,
            Self::Network(network, prefix) => {
                IpAddr::from_str(&address.host).is_ok_and(|ip| in_network(ip, *network, *prefix))
            }
        }
    }
}

pub(super) enum HostOrAddress {
    Host(Arc<str>),
    Address(Address),
}

/// `host:port` or `host`. An IPv6 literal without brackets is a host: its last group is not taken for a port.
pub(super) fn parse_host_or_address(text: &str) -> Result<HostOrAddress, AddressError> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(HostOrAddress::Host(Arc::from(text)));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => {
            let port = parse_port(port)?;
            Ok(HostOrAddress::Address(Address::new(
                checked_host(strip_brackets(host))?,
                port,
            )))
        }
        _ => Ok(HostOrAddress::Host(Arc::from(checked_host(
            strip_brackets(text),
        )?))),
    }
}

fn parse_network(network: &str, prefix: &str) -> Result<AddressPattern, AddressRuleError> {
    let network = IpAddr::from_str(strip_brackets(network))
        .map_err(|_not_an_ip| AddressRuleError::From(AddressError::BadHost))?;
    let longest = if network.is_ipv4() { 32 } else { 128 };
    match prefix.parse::<u8>() {
        Ok(prefix) if prefix <= longest => Ok(AddressPattern::Network(network, prefix)),
        _ => Err(AddressRuleError::Prefix),
    }
}

fn in_network(ip: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let (ip, network, width) = match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            (u128::from(ip.to_bits()), u128::from(network.to_bits()), 32)
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => (ip.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    let host_bits = width - u32::from(prefix);
    // A shift by all 128 bits is not defined; a prefix of 0 matches everything.
    ip.checked_shr(host_bits).unwrap_or(0) == network.checked_shr(host_bits).unwrap_or(0)
}

//! Translation of the addresses servers announce into those the proxy can reach, for port forwarding and NAT [T19].

use std::sync::Arc;

use super::address::AddressError;
use super::address_pattern::{HostOrAddress, parse_host_or_address};
use super::{Address, AddressPattern};

/// One rule: announced addresses that match `from` are replaced by `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRule {
    from: AddressPattern,
    to: Target,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// `host:port`: this address.
    Exact(Address),
    /// `host`: this host, the port stays.
    Host(Arc<str>),
}

/// Why a rule is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressRuleError {
    /// `from` is neither `host:port`, `host` nor `network/prefix`.
    #[error("`from` must be host:port, host or network/prefix: {0}")]
    From(AddressError),
    /// The prefix is no number or longer than the address.
    #[error("`from` has a bad network prefix")]
    Prefix,
    /// `to` is neither `host:port` nor `host`.
    #[error("`to` must be host:port or host: {0}")]
    To(AddressError),
}

impl AddressRule {
    /// Parses a rule. `from` is `host:port` (exactly this address), `host` (any of its ports) or `network/prefix` (any port of any
    /// address in it); `to` is `host:port` or `host` (the port stays). IPv6 with a port is written in brackets.
    ///
    /// # Errors
    /// When one of the two has none of these forms.
    pub fn parse(from: &str, to: &str) -> Result<Self, AddressRuleError> {
        let to = match parse_host_or_address(to).map_err(AddressRuleError::To)? {
            HostOrAddress::Address(address) => Target::Exact(address),
            HostOrAddress::Host(host) => Target::Host(host),
        };
        let from = AddressPattern::parse(from)?;
        Ok(Self { from, to })
    }

    fn matches(&self, address: &Address) -> bool {
        self.from.matches(address)
    }
}

/// The configured rules; the first that matches counts. Empty: addresses are used as announced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressMap {
    rules: Vec<AddressRule>,
}

impl AddressMap {
    /// A map of these rules, in this order.
    #[must_use]
    pub fn new(rules: Vec<AddressRule>) -> Self {
        Self { rules }
    }

    /// No rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The address to connect to for an announced one. Apply it to what servers announce, once; never to configured seeds.
    #[must_use]
    pub fn apply(&self, announced: Address) -> Address {
        match self
            .rules
            .iter()
            .find(|rule| rule.matches(&announced))
            .map(|rule| &rule.to)
        {
            None => announced,
            Some(Target::Exact(address)) => address.clone(),
            Some(Target::Host(host)) => Address {
                host: Arc::clone(host),
                port: announced.port,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(rules: &[(&str, &str)]) -> AddressMap {
        AddressMap::new(
            rules
                .iter()
                .map(|(from, to)| AddressRule::parse(from, to).unwrap())
                .collect(),
        )
    }

    #[test]
    fn first_matching_rule_counts_and_hosts_keep_the_port() {
        let map = map(&[
            ("10.0.0.5:6379", "203.0.113.7:30001"),
            ("10.0.0.5", "203.0.113.8"),
            ("10.0.0.0/24", "gateway.example"),
            ("[::1]:7000", "[2001:db8::1]:7100"),
            ("2001:db8:1::/48", "gateway6.example:9"),
        ]);
        for (announced, reached) in [
            ("10.0.0.5:6379", "203.0.113.7:30001"),
            ("10.0.0.5:6380", "203.0.113.8:6380"),
            ("10.0.0.77:6379", "gateway.example:6379"),
            ("10.0.1.1:6379", "10.0.1.1:6379"),
            ("[::1]:7000", "[2001:db8::1]:7100"),
            ("[2001:db8:1::99]:7000", "gateway6.example:9"),
            ("[2001:db8:2::99]:7000", "[2001:db8:2::99]:7000"),
            ("node-a:6379", "node-a:6379"),
        ] {
            assert_eq!(map.apply(announced.parse().unwrap()).to_string(), reached);
        }
    }

    #[test]
    fn a_prefix_of_zero_matches_its_family_only() {
        let map = map(&[("::/0", "six"), ("0.0.0.0/0", "four")]);
        assert_eq!(
            map.apply("[fe80::1]:1".parse().unwrap()).to_string(),
            "six:1"
        );
        assert_eq!(
            map.apply("192.0.2.1:1".parse().unwrap()).to_string(),
            "four:1"
        );
        assert_eq!(map.apply("name:1".parse().unwrap()).to_string(), "name:1");
    }

    #[test]
    fn malformed_rules_are_refused_with_the_side_at_fault() {
        for (from, to, error) in [
            ("", "a", AddressRuleError::From(AddressError::BadHost)),
            ("a:0", "a", AddressRuleError::From(AddressError::BadPort)),
            ("a/8", "a", AddressRuleError::From(AddressError::BadHost)),
            ("10.0.0.0/33", "a", AddressRuleError::Prefix),
            ("::/129", "a", AddressRuleError::Prefix),
            ("10.0.0.0/x", "a", AddressRuleError::Prefix),
            ("a", "", AddressRuleError::To(AddressError::BadHost)),
            ("a", "b:", AddressRuleError::To(AddressError::BadPort)),
        ] {
            assert_eq!(AddressRule::parse(from, to), Err(error), "{from} -> {to}");
        }
    }
}

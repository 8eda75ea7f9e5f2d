//! In which zone a node is, where it does not tell itself.

use std::sync::Arc;

use super::{Address, AddressPattern};

/// The configured zones; the first rule that fits an address counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zones {
    rules: Vec<(AddressPattern, Arc<str>)>,
}

impl Zones {
    /// Zones by these rules.
    #[must_use]
    pub const fn new(rules: Vec<(AddressPattern, Arc<str>)>) -> Self {
        Self { rules }
    }

    /// The zone of the node at `address`, if a rule says it.
    #[must_use]
    pub fn of(&self, address: &Address) -> Option<&str> {
        let mut rules = self.rules.iter();
        rules
            .find(|(pattern, _)| pattern.matches(address))
            .map(|(_, zone)| &**zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_says_the_zone() {
        let rule = |from: &str, to: &str| (AddressPattern::parse(from).unwrap(), Arc::from(to));
        let zones = Zones::new(vec![
            rule("10.0.0.7:6379", "c"),
            rule("10.0.0.0/24", "a"),
            rule("redis-1", "b"),
        ]);
        let of = |host: &str| zones.of(&Address::new(host, 6379));
        assert_eq!(of("10.0.0.7"), Some("c"));
        assert_eq!(of("10.0.0.8"), Some("a"));
        assert_eq!(of("redis-1"), Some("b"));
        assert_eq!(of("redis-2"), None);
    }
}

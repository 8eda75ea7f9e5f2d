//! The configured seeds: names are resolved anew at every use, one look-up per name at a time [T10].

use std::io;
use std::net::{IpAddr, ToSocketAddrs};

use slotway_core::topology::Address;

/// The configured seeds and what their names last meant.
#[derive(Debug)]
pub(super) struct Seeds {
    seeds: Vec<Seed>,
}

#[derive(Debug)]
struct Seed {
    address: Address,
    /// Whether the host is an IP literal.
    literal: bool,
    /// What the name meant at the last successful look-up.
    known: Vec<Address>,
    /// A look-up is under way. One that hangs is not joined by others: each of them would hold a thread.
    resolving: bool,
}

impl Seeds {
    pub(super) fn new(seeds: &[Address]) -> Self {
        let seeds = seeds.iter().map(|address| Seed {
            literal: address.host.parse::<IpAddr>().is_ok(),
            address: address.clone(),
            known: Vec::new(),
            resolving: false,
        });
        Self {
            seeds: seeds.collect(),
        }
    }

    /// What can be asked without a look-up: IP literals, and what the names meant last time. The resolver may hang.
    pub(super) fn ready(&self) -> Vec<Address> {
        let mut ready = Vec::new();
        for seed in &self.seeds {
            if seed.literal {
                ready.push(seed.address.clone());
            } else {
                ready.extend_from_slice(&seed.known);
            }
        }
        ready
    }

    /// The seeds to look up now, marked as being looked up: number and address.
    pub(super) fn start_look_ups(&mut self) -> Vec<(usize, Address)> {
        let idle = self
            .seeds
            .iter_mut()
            .enumerate()
            .filter(|(_, seed)| !seed.literal && !seed.resolving);
        idle.map(|(number, seed)| {
            seed.resolving = true;
            (number, seed.address.clone())
        })
        .collect()
    }

    /// Notes the outcome of a look-up; what the name means now. An error or an empty answer never unlearns what was known: name
    /// servers fail in the same moments as clusters do.
    pub(super) fn finish_look_up(
        &mut self,
        number: usize,
        found: io::Result<Vec<Address>>,
    ) -> Vec<Address> {
        let Some(seed) = self.seeds.get_mut(number) else {
            return Vec::new();
        };
        seed.resolving = false;
        match found {
            Ok(found) if !found.is_empty() => seed.known = found,
            Ok(_) => tracing::debug!(seed = %seed.address, "seed name has no address"),
            Err(error) => {
                tracing::debug!(seed = %seed.address, %error, "seed name cannot be resolved");
            }
        }
        seed.known.clone()
    }

    /// What to say of a seed whose name has no address.
    pub(super) fn trouble(&self, number: usize) -> Option<String> {
        let seed = self.seeds.get(number)?;
        Some(format!(
            "{}: the name cannot be resolved; is it spelled right?",
            seed.address
        ))
    }
}

/// Every address of a name, by the system's resolver. Blocks, possibly for seconds.
pub(crate) fn look_up(seed: &Address) -> io::Result<Vec<Address>> {
    let found = (&*seed.host, seed.port).to_socket_addrs()?;
    let mut addresses: Vec<Address> = Vec::new();
    for address in found.map(|socket| Address::new(&socket.ip().to_string(), socket.port())) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn literals_are_ready_and_names_are_looked_up_at_every_use() {
        let mut seeds = Seeds::new(&[
            at("127.0.0.1:7000"),
            at("[::1]:7000"),
            at("redis.test:7000"),
        ]);
        assert_eq!(seeds.ready(), [at("127.0.0.1:7000"), at("[::1]:7000")]);
        for address in ["10.0.0.1:7000", "10.0.0.2:7000"] {
            assert_eq!(seeds.start_look_ups(), [(2, at("redis.test:7000"))]);
            assert_eq!(
                seeds.finish_look_up(2, Ok(vec![at(address)])),
                [at(address)]
            );
            assert_eq!(
                seeds.ready(),
                [at("127.0.0.1:7000"), at("[::1]:7000"), at(address)]
            );
        }
    }

    #[test]
    fn a_hanging_look_up_is_not_joined_by_others_and_the_old_answer_serves() {
        let mut seeds = Seeds::new(&[at("redis.test:7000")]);
        seeds.start_look_ups();
        assert!(seeds.ready().is_empty());
        seeds.finish_look_up(0, Ok(vec![at("10.0.0.1:7000")]));
        assert_eq!(seeds.start_look_ups().len(), 1);
        assert!(seeds.start_look_ups().is_empty());
        assert_eq!(seeds.ready(), [at("10.0.0.1:7000")]);
    }

    #[test]
    fn a_failed_or_empty_look_up_keeps_the_old_answer() {
        let mut seeds = Seeds::new(&[at("redis.test:7000")]);
        seeds.start_look_ups();
        seeds.finish_look_up(0, Ok(vec![at("10.0.0.1:7000")]));
        for outcome in [Ok(Vec::new()), Err(io::ErrorKind::NotFound.into())] {
            seeds.start_look_ups();
            assert_eq!(seeds.finish_look_up(0, outcome), [at("10.0.0.1:7000")]);
        }
    }

    #[test]
    fn local_names_resolve() {
        let found = look_up(&at("localhost:7000")).unwrap();
        assert!(
            found.contains(&at("127.0.0.1:7000")) || found.contains(&at("[::1]:7000")),
            "{found:?}"
        );
    }
}

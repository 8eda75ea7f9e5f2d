//! How many clients come from each address.
//!
//! The control thread takes a place before it hands a client to a worker. It is given back when the value is dropped, wherever that
//! happens: at the end of the connection, in a worker that could not serve it, in a message that nobody received.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

/// Clients by address. Addresses without clients take no memory.
#[derive(Debug, Default)]
pub struct Places {
    taken: DashMap<IpAddr, usize>,
}

/// One client's place.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    /// A place for a client from `remote`, unless `limit` clients have its address already; a limit of 0 is none.
    #[must_use]
    pub fn take(self: &Arc<Self>, remote: SocketAddr, limit: usize) -> Option<Place> {
        // An IPv4 client of an IPv6 socket is the same client.
        let address = remote.ip().to_canonical();
        let mut taken = self.taken.entry(address).or_insert(0);
        if limit > 0 && *taken >= limit {
            return None;
        }
        *taken += 1;
        drop(taken);
        Some(Place {
            places: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.places.taken.entry(self.address) {
            if *entry.get() <= 1 {
                entry.remove();
            } else {
                *entry.get_mut() -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 1000)
    }

    #[test]
    fn each_address_has_its_own_places() {
        let places = Arc::new(Places::default());
        let first = places.take(client("10.0.0.1"), 2).unwrap();
        let _second = places.take(client("10.0.0.1"), 2).unwrap();
        assert!(places.take(client("10.0.0.1"), 2).is_none());
        assert!(
            places.take(client("::ffff:10.0.0.1"), 2).is_none(),
            "the same address"
        );
        let _other = places.take(client("10.0.0.2"), 2).unwrap();
        drop(first);
        assert!(places.take(client("10.0.0.1"), 2).is_some());
    }

    #[test]
    fn clients_that_came_without_a_limit_count_when_there_is_one() {
        let places = Arc::new(Places::default());
        let taken: Vec<_> = (0..3)
            .map(|_| places.take(client("::1"), 0).unwrap())
            .collect();
        assert!(places.take(client("::1"), 3).is_none());
        assert!(places.take(client("::1"), 4).is_some());
        drop(taken);
        assert!(places.taken.is_empty(), "nothing is left of an address");
    }

    #[test]
    fn places_taken_and_given_back_by_several_threads_add_up() {
        let places = Arc::new(Places::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let one = places.take(client("10.0.0.1"), 0);
                        let two = places.take(client("10.0.0.1"), 0);
                        drop((one, two));
                    }
                });
            }
        });
        assert!(places.taken.is_empty());
    }
}

//! What is asked.

use super::contenders::Who;

/// Values of one size, under keys of their own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Values {
    /// Keys are this and a number of twelve digits
    pub(super) prefix: &'static str,
    pub(super) bytes: usize,
    pub(super) keys: usize,
}

/// As many keys as it takes to have some in every slot.
const KEYS: usize = 200_000;

pub(super) const SMALL: Values = Values {
    prefix: "small:",
    bytes: 64,
    keys: KEYS,
};
pub(super) const MEDIUM: Values = Values {
    prefix: "medium:",
    bytes: 1 << 10,
    keys: KEYS,
};
/// The prefix is that of redis-benchmark's own tests: values of this size fit into no argument of a program.
pub(super) const BIG: Values = Values {
    prefix: "key:",
    bytes: 1 << 20,
    keys: 64,
};

/// What one client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// `SET`, then `GET`, of random keys, each half of the requests
    SetThenGet,
    /// `MGET` of ten random keys
    Mget,
}

/// What is asked for at once where a transaction is compared with its commands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// `GET`, `SET`, `GET` of one key
    Commands,
    /// The same between `MULTI` and `EXEC`
    Transaction,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clients {
    /// redis-benchmark
    Many(usize),
    /// One in this process, since redis-benchmark counts time in steps of 8 us
    One,
    /// redis-benchmark, while [`super::hogs::Hogs`] take what they can get
    BesideHogs(usize),
    /// Some in this process: [`super::units`]
    Units(Unit),
}

impl Clients {
    /// Not every peer has transactions, and what they cost is compared with what else slotway does.
    pub(super) fn may_ask(self, who: Who) -> bool {
        !matches!(self, Self::Units(_)) || matches!(who, Who::Direct | Who::Slotway)
    }

    /// Whether redis-benchmark asks.
    pub(super) const fn are_of_redis_benchmark(self) -> bool {
        matches!(self, Self::Many(_) | Self::BesideHogs(_))
    }
}

/// One kind of load.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) clients: Clients,
    /// Requests that a client writes at once
    pub(super) pipeline: usize,
    pub(super) asks: Asks,
    pub(super) values: Values,
}

impl Workload {
    const fn new(name: &'static str, clients: Clients, values: Values) -> Self {
        Self {
            name,
            clients,
            pipeline: 1,
            asks: Asks::SetThenGet,
            values,
        }
    }

    const fn pipelined(self, pipeline: usize) -> Self {
        Self { pipeline, ..self }
    }

    const fn asking(self, asks: Asks) -> Self {
        Self { asks, ..self }
    }

    /// Every value that is read.
    pub(super) fn reads(&self) -> Vec<&Values> {
        let mut all = vec![&self.values];
        if matches!(self.clients, Clients::BesideHogs(_)) {
            all.push(&BIG);
        }
        all
    }
}

pub(super) const WORKLOADS: &[Workload] = &[
    Workload::new("50-clients", Clients::Many(50), SMALL),
    Workload::new("50-clients-1k", Clients::Many(50), MEDIUM),
    Workload::new("pipeline-16", Clients::Many(50), SMALL).pipelined(16),
    Workload::new("pipeline-100", Clients::Many(50), SMALL).pipelined(100),
    Workload::new("500-clients", Clients::Many(500), SMALL),
    Workload::new("mget-10", Clients::Many(50), SMALL).asking(Asks::Mget),
    Workload::new("one-client", Clients::One, SMALL),
    Workload::new("three-commands", Clients::Units(Unit::Commands), SMALL),
    Workload::new("transactions", Clients::Units(Unit::Transaction), SMALL),
    Workload::new("1-mib", Clients::Many(10), BIG),
    Workload::new("hogs", Clients::BesideHogs(50), SMALL),
];

impl Values {
    /// Key number `n`.
    pub(super) fn key(&self, n: usize) -> String {
        format!("{}{n:012}", self.prefix)
    }

    /// What is stored under every key.
    pub(super) fn value(&self) -> String {
        "v".repeat(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness::{SLOT_COUNT, slot_of};
    use std::collections::BTreeSet;

    fn slots(values: &Values) -> BTreeSet<u16> {
        let keys = (0..values.keys).map(|n| values.key(n));
        keys.map(|key| slot_of(key.as_bytes())).collect()
    }

    #[test]
    fn small_and_medium_values_are_in_every_slot() {
        assert_eq!(slots(&SMALL).len(), usize::from(SLOT_COUNT));
        assert_eq!(slots(&MEDIUM).len(), usize::from(SLOT_COUNT));
    }

    #[test]
    fn big_values_are_on_all_three_primaries_evenly() {
        let thirds = slots(&BIG)
            .into_iter()
            .map(|slot| u32::from(slot) * 3 / u32::from(SLOT_COUNT));
        let mut counts = [0_usize; 3];
        for third in thirds {
            counts[third as usize] += 1;
        }
        assert!(counts.iter().all(|count| *count >= 15), "{counts:?}");
    }

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
        assert_eq!(names.len(), WORKLOADS.len());
    }
}

//! What a node says of itself in the unit of a SCAN: which process it is, what it owns and gives away at that instant [S3].

use super::hash::Hash;
use crate::slot::{SLOT_COUNT, Slot};

const WORDS: usize = SLOT_COUNT as usize / 64;

/// Fields of a line of CLUSTER NODES before the slots.
const FLAGS: usize = 2;
const EPOCH: usize = 6;
const FIRST_SLOT: usize = 8;

/// One node, as it sees itself.
#[derive(Debug)]
pub(super) struct Said<'a> {
    id: &'a str,
    run_id: &'a str,
    epoch: u64,
    /// Its scans walk slot after slot, and the low 14 bits of its cursors are the slot.
    pub(super) walks_by_slot: bool,
    owned: Box<[u64; WORDS]>,
    /// The slots it gives away and to whom, ascending.
    migrating: Vec<(Slot, &'a str)>,
}

/// Which process a node is and at which epoch it owns what it owns. While both are the same nothing was taken from it that came
/// back: who takes a slot has the greatest epoch then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Incarnation {
    id: String,
    run_id: String,
    epoch: u64,
}

impl Incarnation {
    pub(super) fn feed(&self, hash: &mut Hash) {
        hash.feed(self.id.as_bytes());
        hash.feed(self.run_id.as_bytes());
        hash.feed(&self.epoch.to_le_bytes());
    }
}

impl<'a> Said<'a> {
    /// From the texts of CLUSTER NODES and INFO server; `None` if they do not tell.
    pub(super) fn parse(nodes: &'a [u8], info: &'a [u8]) -> Option<Self> {
        let nodes = std::str::from_utf8(nodes).ok()?;
        let info = std::str::from_utf8(info).ok()?;
        let line = nodes.lines().find(|line| is_myself(line))?;
        let mut fields = line.split(' ');
        let id = fields.next().filter(|id| !id.is_empty())?;
        let epoch = fields.nth(EPOCH - 1)?.parse().ok()?;
        let mut said = Self {
            id,
            run_id: field(info, "run_id").filter(|run_id| !run_id.is_empty())?,
            epoch,
            walks_by_slot: walks_by_slot(info),
            owned: Box::new([0; WORDS]),
            migrating: Vec::new(),
        };
        for token in fields.skip(FIRST_SLOT - EPOCH - 1) {
            said.take_slots(token)?;
        }
        said.migrating.sort_unstable();
        Some(said)
    }

    fn take_slots(&mut self, token: &'a str) -> Option<()> {
        if let Some(open) = token.strip_prefix('[') {
            // The other mark, `n-<-id`, is of a slot that it is being given.
            if let Some((slot, target)) = open.strip_suffix(']')?.split_once("->-") {
                self.migrating.push((slot_of(slot)?, target));
            }
            return Some(());
        }
        if token.is_empty() {
            return Some(());
        }
        let (first, last) = token.split_once('-').unwrap_or((token, token));
        for slot in slot_of(first)?.get()..=slot_of(last)?.get() {
            *self.owned.get_mut(usize::from(slot / 64))? |= 1 << (slot % 64);
        }
        Some(())
    }

    pub(super) fn is(&self, id: &str) -> bool {
        self.id == id
    }

    pub(super) fn owns(&self, slot: Slot) -> bool {
        let word = self.owned.get(slot.index() / 64);
        word.is_some_and(|word| word >> (slot.index() % 64) & 1 == 1)
    }

    /// The lowest slot in `first..=last` that it does not own.
    pub(super) fn first_not_owned(&self, first: u16, last: u16) -> Option<Slot> {
        let mut slots = (first..=last).filter_map(Slot::new);
        slots.find(|slot| !self.owns(*slot))
    }

    /// The lowest slot in `first..end` that it owns and gives away.
    pub(super) fn first_migrating(&self, first: u16, end: u16) -> Option<Slot> {
        let mut slots = self.migrating.iter().map(|(slot, _)| *slot);
        slots.find(|slot| (first..end).contains(&slot.get()) && self.owns(*slot))
    }

    /// Whom it gives `slot`.
    pub(super) fn target_of(&self, slot: Slot) -> Option<&'a str> {
        let found = self.migrating.iter().find(|(open, _)| *open == slot);
        found.filter(|_| self.owns(slot)).map(|(_, target)| *target)
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        Incarnation {
            id: self.id.to_owned(),
            run_id: self.run_id.to_owned(),
            epoch: self.epoch,
        }
    }
}

fn is_myself(line: &str) -> bool {
    let flags = line.split(' ').nth(FLAGS);
    flags.is_some_and(|flags| flags.split(',').any(|flag| flag == "myself"))
}

fn slot_of(number: &str) -> Option<Slot> {
    number.parse().ok().and_then(Slot::new)
}

/// Redis since 7.4 and Valkey since 8.0, as members of a cluster, keep a table per slot.
fn walks_by_slot(info: &str) -> bool {
    let mode = field(info, "redis_mode").or_else(|| field(info, "server_mode"));
    let is_new = match field(info, "valkey_version") {
        Some(version) => is_since(version, (8, 0)),
        None => field(info, "redis_version").is_some_and(|version| is_since(version, (7, 4))),
    };
    mode == Some("cluster") && is_new
}

fn is_since(version: &str, since: (u32, u32)) -> bool {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= since,
        _ => false,
    }
}

/// A line `name:value` of INFO.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let values = info
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    values.map(str::trim_end).next()
}

#[cfg(test)]
mod tests {
    use super::Said;
    use crate::slot::Slot;

    const INFO: &str = "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.8\r\nserver_mode:cluster\r\nrun_id:abc\r\n";
    const NODES: &str = "b1 127.0.0.1:2@3 master - 0 9 7 connected 8192-16383\n\
         a1 127.0.0.1:1@2,host myself,master - 0 0 5 connected 0-99 200 300-8191 [866->-b1] [9000-<-b1]\n";

    fn slot(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    #[test]
    fn a_node_says_what_it_owns_and_gives_away() {
        let said = Said::parse(NODES.as_bytes(), INFO.as_bytes()).unwrap();
        assert!(said.is("a1") && said.walks_by_slot);
        assert!(
            [0, 99, 200, 300, 8191]
                .map(slot)
                .iter()
                .all(|s| said.owns(*s))
        );
        assert!(
            [100, 199, 201, 8192, 9000]
                .map(slot)
                .iter()
                .all(|s| !said.owns(*s))
        );
        assert_eq!(said.first_not_owned(0, 8191), Some(slot(100)));
        assert_eq!(said.first_not_owned(300, 8191), None);
        assert_eq!(said.first_migrating(0, 867), Some(slot(866)));
        assert_eq!(said.first_migrating(867, 16_384), None);
        assert_eq!(said.target_of(slot(866)), Some("b1"));
        assert_eq!(said.target_of(slot(9000)), None);
        let epoch = |nodes: &str| {
            Said::parse(nodes.as_bytes(), INFO.as_bytes())
                .unwrap()
                .incarnation()
        };
        assert_eq!(epoch(NODES), said.incarnation());
        assert_ne!(epoch(&NODES.replace("0 0 5", "0 0 6")), said.incarnation());
    }

    #[test]
    fn who_walks_by_slot() {
        let with = |info: &str| {
            Said::parse(NODES.as_bytes(), info.as_bytes()).map(|said| said.walks_by_slot)
        };
        let redis = |version: &str| {
            with(&format!(
                "redis_version:{version}\r\nredis_mode:cluster\r\nrun_id:a\r\n"
            ))
        };
        assert_eq!(redis("7.0.15"), Some(false));
        assert_eq!(redis("7.2.4"), Some(false));
        assert_eq!(redis("7.4.0"), Some(true));
        assert_eq!(redis("8.2.3"), Some(true));
        assert_eq!(redis("255.255.255"), Some(true), "a development version");
        assert_eq!(redis("x"), Some(false));
        assert_eq!(with(&INFO.replace("8.1.8", "7.2.9")), Some(false));
        assert_eq!(with(&INFO.replace("cluster", "standalone")), Some(false));
        assert_eq!(
            with("redis_version:8.2.3\r\nredis_mode:cluster\r\n"),
            None,
            "no run_id"
        );
    }

    #[test]
    fn what_does_not_tell_is_nothing() {
        for nodes in [
            "",
            "a1 127.0.0.1:1@2 master - 0 0 5 connected 0-99\n",
            "a1 127.0.0.1:1@2 myself,master - 0 0\n",
            "a1 127.0.0.1:1@2 myself,master - 0 0 x connected\n",
            "a1 127.0.0.1:1@2 myself,master - 0 0 5 connected 0-16384\n",
            "a1 127.0.0.1:1@2 myself,master - 0 0 5 connected [1->-b\n",
        ] {
            assert!(
                Said::parse(nodes.as_bytes(), INFO.as_bytes()).is_none(),
                "{nodes}"
            );
        }
    }
}

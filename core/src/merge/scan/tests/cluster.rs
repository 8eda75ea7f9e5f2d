//! Whole scans slot by slot over a simulated cluster in which slots move, keys by keys or at once, and processes are replaced.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use proptest::prelude::*;

use super::{Finish, Step, cursor_of, keys_of, node_id, plan_words};
use crate::resp::write;
use crate::slot::{SLOT_COUNT, Slot};
use crate::topology::{Address, Node, NodeId, NodeState, Role, Snapshot, SnapshotBuilder};

/// Buckets of the table of one slot.
const BUCKETS: u64 = 8;
const PAGE: usize = 3;
/// The slots that have keys.
const USED: [u16; 6] = [0, 1, 866, 5461, 9000, 16_383];
const KEYS: usize = 12;

struct Server {
    id: usize,
    /// The seed of its tables, too.
    run: u64,
    epoch: u64,
    keys: BTreeMap<u16, BTreeSet<String>>,
}

/// A slot that is being given away: from and to which server, and whether keys were taken back.
struct Open {
    from: usize,
    to: usize,
}

struct Cluster {
    servers: Vec<Server>,
    /// By slot, an index of `servers`.
    owners: Vec<usize>,
    open: HashMap<u16, Open>,
    /// Slots whose migration was rolled back: begun again the same way, that is not noticed, and not promised.
    rolled_back: BTreeSet<u16>,
    count: usize,
    epoch: u64,
    /// As the proxy knows it.
    snapshot: Snapshot,
}

fn tag_of(slot: u16) -> &'static str {
    static TAGS: LazyLock<Vec<(u16, String)>> = LazyLock::new(|| {
        let find = |slot: u16| {
            let mut names = (0..).map(|number| format!("tag:{number}"));
            names.find(|name| Slot::of_key(name.as_bytes()).get() == slot)
        };
        USED.map(|slot| (slot, find(slot).unwrap())).to_vec()
    });
    let found = TAGS.iter().find(|(of, _)| *of == slot);
    &found.unwrap().1
}

fn bucket(key: &str, run: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, run).hash(&mut hasher);
    hasher.finish() % BUCKETS
}

impl Cluster {
    fn new() -> Self {
        let servers = (0..3)
            .map(|id| Server {
                id,
                run: id as u64,
                epoch: id as u64,
                keys: BTreeMap::new(),
            })
            .collect();
        let owners = (0..usize::from(SLOT_COUNT))
            .map(|slot| slot / 5462)
            .collect();
        let mut cluster = Self {
            servers,
            owners,
            open: HashMap::new(),
            rolled_back: BTreeSet::new(),
            count: 3,
            epoch: 3,
            snapshot: Snapshot::empty(),
        };
        for slot in USED {
            let owner = cluster.owners[usize::from(slot)];
            let keys = (0..KEYS).map(|number| format!("{{{}}}{number}", tag_of(slot)));
            cluster.servers[owner].keys.insert(slot, keys.collect());
        }
        cluster.refresh();
        cluster
    }

    fn all_keys(&self) -> BTreeSet<String> {
        let all = self.servers.iter().flat_map(|server| server.keys.values());
        all.flatten().cloned().collect()
    }

    fn refresh(&mut self) {
        let mut builder = SnapshotBuilder::new();
        let mut nodes = Vec::new();
        for server in &self.servers {
            let node = Node {
                id: NodeId::new(&node_id(server.id)),
                address: Address::new("10.0.0.1", u16::try_from(server.id).unwrap() + 1),
                hostname: None,
                role: Role::Primary,
                primary_id: None,
                state: NodeState::Ok,
                link_connected: true,
                config_epoch: server.epoch,
            };
            nodes.push(builder.add_node(node).unwrap());
        }
        for (slot, owner) in (0..).zip(&self.owners) {
            builder.assign(Slot::new(slot).unwrap(), nodes[*owner]);
        }
        self.snapshot = builder.build(self.snapshot.generation + 1);
    }

    fn change(&mut self, kind: u8, slot: u16, other: usize) {
        let owner = self.owners[usize::from(slot)];
        let to = (owner + 1 + other % 2) % 3;
        match kind {
            // Keys go one by one.
            0 if !self.open.contains_key(&slot) && !self.rolled_back.contains(&slot) => {
                self.open.insert(slot, Open { from: owner, to });
            }
            0 | 1 => self.move_keys(slot, KEYS / 3),
            2 => {
                if let Some(Open { to, .. }) = self.open.get(&slot) {
                    let to = *to;
                    self.move_keys(slot, KEYS);
                    self.own(slot, to);
                }
            }
            3 => self.roll_back(slot),
            // At once, there or back.
            4 | 5 if !self.open.contains_key(&slot) => {
                self.take(slot, owner, to, KEYS);
                self.own(slot, to);
            }
            // A restart of the owner or of whom it gives the slot to, and a failover.
            6 => {
                self.count += 1;
                let target = self.open.get(&slot).map_or(to, |open| open.to);
                let server = if other == 0 { owner } else { target };
                self.servers[server].run = 100 + self.count as u64;
            }
            7 => self.fail_over(owner),
            _ => self.refresh(),
        }
    }

    fn move_keys(&mut self, slot: u16, count: usize) {
        if let Some(Open { from, to }) = self.open.get(&slot) {
            let (from, to) = (*from, *to);
            self.take(slot, from, to, count);
        }
    }

    fn take(&mut self, slot: u16, from: usize, to: usize, count: usize) {
        let keys = self.servers[from].keys.entry(slot).or_default();
        let taken: Vec<String> = keys.iter().rev().take(count).cloned().collect();
        keys.retain(|key| !taken.contains(key));
        self.servers[to].keys.entry(slot).or_default().extend(taken);
    }

    fn own(&mut self, slot: u16, to: usize) {
        self.epoch += 1;
        self.owners[usize::from(slot)] = to;
        self.servers[to].epoch = self.epoch;
        self.open.remove(&slot);
    }

    fn roll_back(&mut self, slot: u16) {
        if let Some(Open { from, to }) = self.open.remove(&slot) {
            self.take(slot, to, from, KEYS);
            self.rolled_back.insert(slot);
        }
    }

    /// A replica takes over, which may know of no slot that is being given away.
    fn fail_over(&mut self, server: usize) {
        self.count += 1;
        self.epoch += 1;
        self.servers[server].id = self.count;
        self.servers[server].run = 100 + self.count as u64;
        self.servers[server].epoch = self.epoch;
        let ends = |open: &Open| open.from == server || open.to == server;
        let lost: Vec<u16> = USED
            .into_iter()
            .filter(|slot| self.open.get(slot).is_some_and(ends))
            .collect();
        lost.into_iter().for_each(|slot| self.roll_back(slot));
    }

    /// The server that the step goes to: whom it names, or whom the proxy takes for the owner.
    fn asked(&mut self, step: &Step) -> usize {
        let find = |cluster: &Self, id: &str| {
            cluster
                .servers
                .iter()
                .position(|server| node_id(server.id) == id)
        };
        if let Some(found) = step.node().and_then(|id| find(self, id.as_str())) {
            return found;
        }
        let owner = self.snapshot.primary_of(step.slot()).unwrap().id.clone();
        find(self, owner.as_str()).unwrap_or_else(|| {
            self.refresh();
            self.owners[step.slot().index()]
        })
    }

    fn serve(&mut self, step: &Step) -> Vec<u8> {
        let request = String::from_utf8(step.request.clone()).unwrap();
        let mut words = request
            .split("\r\n")
            .filter(|word| !word.starts_with(['*', '$']));
        let cursor = words
            .find(|word| *word == "SCAN")
            .map(|_| words.next().unwrap().parse().unwrap());
        let pinned = words.find(|word| *word == "MATCH");
        let pinned = pinned.and_then(|_| Slot::of_pattern(words.next().unwrap().as_bytes()));
        let asked = self.asked(step);
        let mut out = Vec::new();
        write::array(&mut out, 2 + usize::from(cursor.is_some()));
        if let Some(cursor) = cursor {
            self.scan(asked, cursor, pinned, &mut out);
        }
        let server = &self.servers[asked];
        let mut line = format!(
            "{} 127.0.0.1:1@2 myself,master - 0 0 {} connected",
            node_id(server.id),
            server.epoch
        );
        let slots: Vec<u16> = (0..SLOT_COUNT)
            .filter(|slot| self.owners[usize::from(*slot)] == asked)
            .collect();
        for range in slots.chunk_by(|a, b| a + 1 == *b) {
            line.push_str(&format!(" {}-{}", range[0], range[range.len() - 1]));
        }
        for (slot, open) in self.open.iter().filter(|(_, open)| open.from == asked) {
            line.push_str(&format!(
                " [{slot}->-{}]",
                node_id(self.servers[open.to].id)
            ));
        }
        write::bulk(&mut out, line.as_bytes());
        let info = format!(
            "valkey_version:9.1.2\r\nserver_mode:cluster\r\nrun_id:{}\r\n",
            server.run
        );
        write::bulk(&mut out, info.as_bytes());
        out
    }

    /// As the servers do: slot by slot, from a bucket on, until there are enough keys.
    fn scan(&self, asked: usize, cursor: u64, pinned: Option<Slot>, out: &mut Vec<u8>) {
        let server = &self.servers[asked];
        let (mut slot, mut from) = (u16::try_from(cursor & 0x3fff).unwrap(), cursor >> 14);
        if let Some(pinned) = pinned.map(Slot::get).filter(|pinned| slot < *pinned) {
            (slot, from) = (pinned, 0);
        }
        let mut page: Vec<&String> = Vec::new();
        let next = loop {
            let keys = server.keys.get(&slot);
            while from < BUCKETS && page.len() < PAGE {
                let here = keys.into_iter().flatten();
                page.extend(here.filter(|key| bucket(key, server.run) == from));
                from += 1;
            }
            if from < BUCKETS {
                break from << 14 | u64::from(slot);
            }
            let following = server
                .keys
                .range(slot + 1..)
                .find(|(_, keys)| !keys.is_empty());
            match following {
                Some((next, _)) if pinned.is_none() => (slot, from) = (*next, 0),
                _ => break 0,
            }
            if page.len() >= PAGE {
                break u64::from(slot);
            }
        };
        write::array(out, 2);
        write::bulk(out, next.to_string().as_bytes());
        write::array(out, page.len());
        page.iter().for_each(|key| write::bulk(out, key.as_bytes()));
    }
}

type Change = (u8, u8, usize, usize);

/// A whole scan with changes between and within its calls: the keys seen.
fn scan(cluster: &mut Cluster, options: &[&[u8]], changes: Vec<Change>) -> BTreeSet<String> {
    let (mut changes, mut wait) = (changes.into_iter().peekable(), 0);
    let mut tick = |cluster: &mut Cluster| {
        while let Some((_, kind, slot, other)) = changes.next_if(|(after, ..)| wait >= *after) {
            wait = 0;
            cluster.change(kind, USED[slot], other);
        }
        wait += 1;
    };
    let (mut cursor, mut seen) = ("0".to_owned(), BTreeSet::new());
    for _ in 0..2000 {
        let mut words: Vec<&[u8]> = vec![b"SCAN", cursor.as_bytes()];
        words.extend(options);
        let mut step = plan_words(&words, &cluster.snapshot).unwrap();
        let mut out = Vec::new();
        loop {
            tick(cluster);
            let reply = cluster.serve(&step);
            match step.finish(&reply, &cluster.snapshot, &mut out) {
                Finish::Then(next) => step = next,
                Finish::NotOwner => break cluster.refresh(),
                Finish::Replied => break,
            }
        }
        let page = String::from_utf8(out).unwrap();
        seen.extend(keys_of(&page));
        cursor = cursor_of(&page);
        if cursor == "0" {
            return seen;
        }
        let bits: u64 = cursor.parse().unwrap();
        assert_eq!(bits & 3, 1, "by slots");
        assert!(
            bits < 1 << 53,
            "too big for clients that keep it in a double"
        );
    }
    panic!("the scan does not end")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn s3_no_key_is_lost_whatever_changes(
        changes in prop::collection::vec((0_u8..6, 0_u8..9, 0..USED.len(), 0_usize..2), 0..40),
    ) {
        let mut cluster = Cluster::new();
        let keys = cluster.all_keys();
        let seen = scan(&mut cluster, &[], changes);
        prop_assert_eq!(seen, keys);
    }

    #[test]
    fn s9_no_key_of_a_pinned_slot_is_lost_whatever_changes(
        changes in prop::collection::vec((0_u8..2, 0_u8..9, Just(2_usize), 0_usize..2), 0..20),
    ) {
        let mut cluster = Cluster::new();
        let keys: BTreeSet<String> = cluster.servers[0].keys[&USED[2]].clone();
        let pattern = format!("{}*", keys.first().unwrap().split_inclusive('}').next().unwrap());
        let seen = scan(&mut cluster, &[b"MATCH", pattern.as_bytes()], changes);
        prop_assert_eq!(seen, keys);
    }
}

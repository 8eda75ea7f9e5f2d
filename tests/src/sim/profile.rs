//! What one run is like: sizes, limits and which kinds of trouble there are, drawn from the seed.

use std::time::Duration;

use fastrand::Rng;
use slotway_core::engine::Limits;
use slotway_core::resp::RequestLimits;

use super::checks::LARGEST_REQUEST;
use super::reads::Reads;

/// Slots that requests use; the others only make the topology whole.
pub(super) const HOT_SLOTS: usize = 6;
/// Hash tags of their keys. The first one is slot 0: whatever has no slot is entered there, too, and must not get in the way.
pub(super) const TAGS: [&str; HOT_SLOTS] = ["3560", "1", "2", "3", "4", "5"];
/// Keys in each of them.
pub(super) const KEYS_PER_SLOT: usize = 3;
/// All keys of a run.
pub(super) const KEYS: usize = HOT_SLOTS * KEYS_PER_SLOT;

/// More than there ever is.
const LOTS: usize = 64 << 20;

/// How often each kind of trouble happens, in relation to the others; 0 for never.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// A slot begins to move, a key moves, a slot has moved.
    pub(super) migration: u32,
    pub(super) failover: u32,
    pub(super) kill: u32,
    /// A node cannot be reached for a while.
    pub(super) hang: u32,
    /// A node's process stands still: its kernel takes connections and bytes, and it goes on later or dies.
    pub(super) freeze: u32,
    /// A node holds writes, and what is behind them on their connections [HL2].
    pub(super) pause: u32,
    /// A node starts anew, and its old connections end without a word.
    pub(super) restart: u32,
    /// A connection to a node breaks.
    pub(super) cut: u32,
    /// LOADING, CLUSTERDOWN, READONLY or MASTERDOWN for a while.
    pub(super) refusals: u32,
    /// Bytes that are no reply.
    pub(super) garbage: u32,
    /// A node gets another address.
    pub(super) address: u32,
    /// Clients leave and others come.
    pub(super) churn: u32,
    /// Clients send what is no request.
    pub(super) nonsense: u32,
}

impl Faults {
    /// What is left of them in a run that is gentle or not.
    fn of_run(self, gentle: bool, reads: Reads) -> Self {
        match gentle {
            true if reads.replicas_fail => self.of_replicas(),
            true => self.gentle(),
            false => self,
        }
    }

    /// Slots move, and clients come and go.
    fn gentle(self) -> Self {
        Self {
            migration: 10,
            churn: self.churn,
            ..Self::default()
        }
    }

    /// As [`Self::gentle`], and replicas come and go, and refuse.
    fn of_replicas(self) -> Self {
        Self {
            kill: 3,
            hang: 3,
            freeze: 3,
            restart: 3,
            cut: 5,
            refusals: 10,
            ..self.gentle()
        }
    }

    /// Each with its weight, in the order of the fields.
    pub(super) const fn weights(&self) -> [u32; 13] {
        [
            self.migration,
            self.failover,
            self.kill,
            self.hang,
            self.freeze,
            self.pause,
            self.restart,
            self.cut,
            self.refusals,
            self.garbage,
            self.address,
            self.churn,
            self.nonsense,
        ]
    }
}

/// What one run is like.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    pub(super) clients: usize,
    /// Primaries at the start, each with a replica.
    pub(super) shards: usize,
    /// Most requests a client has outstanding.
    pub(super) pipeline: usize,
    /// Clients send a few bytes at a time, so that requests are sent on while they arrive.
    pub(super) dribble: bool,
    /// In a thousand steps, how many are trouble.
    pub(super) trouble: u32,
    pub(super) faults: Faults,
    /// In a hundred topologies given to the engine, how many are old or one node's view.
    pub(super) stale: u32,
    /// In a hundred MOVED hints, how many are patched in at once.
    pub(super) patched: u32,
    /// In a hundred requests, how many concern more than one slot, and how many are keyless.
    pub(super) split: u32,
    pub(super) keyless: u32,
    /// In a hundred requests, how many change the state of the session.
    pub(super) session: u32,
    /// Slots move and clients come and go, and nothing else happens: no client may notice.
    pub(super) gentle: bool,
    /// Nodes go on with connections that the engine gave up, until it has them killed [D9].
    pub(super) late: bool,
    /// How many databases clients choose from.
    pub(super) databases: usize,
    /// In a hundred requests, how many are transactions.
    pub(super) transactions: u32,
    /// In a hundred requests, how many have to do with keys that are watched, and how many may wait at the node.
    pub(super) watches: u32,
    pub(super) blocking: u32,
    /// In a hundred requests, how many subscribe, end subscriptions or publish.
    pub(super) pubsub: u32,
    /// Which nodes answer reads, and what becomes of replicas.
    pub(super) reads: Reads,
    /// The nodes are too old for CLIENT INFO.
    pub(super) old: bool,
    /// In a thousand steps, how many begin a spell in which time passes in ticks and the network keeps up: silence counts.
    pub(super) spells: u32,
    /// A node that seldom gets to work.
    pub(super) slow: Option<usize>,
    /// Keys the clients use: few mean many conflicts.
    pub(super) keys: usize,
    /// Bytes the kernel keeps for a slow node.
    pub(super) kernel: usize,
    pub(super) limits: Limits,
}

impl Profile {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let (watches, blocking, private_links) = private_use(rng);
        let (pubsub, pubsub_output_bytes) = subscriptions(rng, watches);
        let databases = databases(rng, pubsub);
        let reads = Reads::draw(rng);
        let mut weight = |most: u32| if rng.bool() { rng.u32(1..=most) } else { 0 };
        let faults = Faults {
            migration: weight(30),
            failover: weight(3),
            kill: weight(2),
            hang: weight(4),
            freeze: weight(4),
            pause: weight(4),
            restart: weight(2),
            cut: weight(8),
            refusals: weight(6),
            garbage: weight(2),
            address: weight(2),
            churn: weight(6),
            nonsense: weight(1),
        };
        let gentle = rng.u32(..5) == 0;
        let reads = reads.with(gentle);
        let faults = faults.of_run(gentle, reads);
        let tight = tight_limits(rng);
        let limits = if gentle {
            gentle_limits(&tight, reads)
        } else {
            Limits {
                private_links,
                pubsub_output_bytes,
                ..tight
            }
        };
        // A fence holds at one node under one address, for one protocol version.
        let late = rng.u32(..3) == 0;
        let stale = *pick(rng, &[0, 20, 60]);
        let session = if late { 0 } else { *pick(rng, &[0, 1, 5]) };
        let address = if late { 0 } else { faults.address };
        let faults = Faults { address, ..faults };
        let shards = rng.usize(1..=4);
        let dribble = limits.upload_bytes < 1 << 10;
        Self {
            clients: rng.usize(1..=8),
            shards,
            spells: if gentle { 0 } else { *pick(rng, &[0, 1, 4]) },
            slow: (!gentle && rng.u32(..4) == 0).then(|| rng.usize(..shards)),
            pipeline: match *pick(rng, &[1, 4, 12, 40]) {
                4 | 12 if dribble => 1,
                most => most,
            },
            dribble,
            trouble: *pick(rng, &[0, 2, 5, 10, 20, 60, 150]),
            faults,
            // A stale view may lead to a former primary that does not know it yet: it does not wait for what its successor does late.
            stale: if gentle || late { 0 } else { stale },
            patched: *pick(rng, &[0, 50, 100]),
            split: *pick(rng, &[0, 10, 40]),
            keyless: *pick(rng, &[0, 3, 10]),
            session: session.max(if (databases > 1 || reads.spread) && !late {
                10
            } else {
                0
            }),
            late,
            gentle,
            keys: *pick(rng, &[1, 2, 5, KEYS]),
            kernel: *pick(rng, &[60, 300, 1 << 20]),
            limits,
            old: rng.u32(..4) == 0,
            transactions: *pick(rng, &[0, 5, 30]),
            databases,
            watches,
            blocking,
            pubsub,
            reads,
        }
    }
}

impl Profile {
    /// Whether clients may say RESET at any time: it would end what they watch, wait for or have subscribed to.
    pub(super) const fn may_reset(&self) -> bool {
        self.reads.spread && self.watches + self.blocking + self.pubsub == 0
    }
}

/// Limits that are not met.
fn gentle_limits(tight: &Limits, reads: Reads) -> Limits {
    let usual = Limits::default();
    Limits {
        links_per_node: tight.links_per_node,
        pubsub_output_bytes: LOTS,
        // However often the connection of a read is cut.
        max_resends: if reads.replicas_fail {
            u8::MAX
        } else {
            usual.max_resends
        },
        ..usual
    }
}

/// Limits that are met all the time.
fn tight_limits(rng: &mut Rng) -> Limits {
    Limits {
        session_in_flight: *pick(rng, &[2, 4, 16, 256]),
        park_max_requests: *pick(rng, &[4, 100_000, 100_000, 100_000, 100_000, 100_000]),
        park_max_bytes: *pick(rng, &[400, LOTS, LOTS, LOTS, LOTS, LOTS]),
        park_timeout: Duration::from_millis(*pick(rng, &[300, 2_000, 10_000])),
        request_timeout: Duration::from_millis(*pick(rng, &[100, 1_000, 15_000, 3_600_000])),
        node_timeout: Duration::from_millis(*pick(rng, &[200, 1_000, 6_000])),
        busy_timeout: Duration::from_millis(*pick(rng, &[1_000, 8_000, 60_000])),
        demoted_timeout: Duration::from_millis(*pick(rng, &[200, 2_000])),
        output_pause_bytes: *pick(rng, &[200, LOTS, LOTS]),
        pass_on_bytes: *pick(rng, &[10, 128 << 10, 128 << 10]),
        upload_bytes: *pick(rng, &[10, 4 << 20, 4 << 20]),
        reply_bytes: *pick(rng, &[1_000, 256 << 20, 256 << 20]),
        input_ahead_bytes: *pick(rng, &[300, LOTS]),
        max_redirects: *pick(rng, &[1, 6, 6]),
        max_resends: *pick(rng, &[0, 2, 2]),
        links_per_node: *pick(rng, &[1, 1, 2, 3]),
        ..sizes_of_requests(rng)
    }
}

/// How much is done in a hundred requests that takes connections of their own, by WATCH and by commands that may wait; and how many
/// of those there are. Not drawn from `rng` itself: where there is nothing of the kind, its seeds keep their meaning.
fn private_use(rng: &Rng) -> (u32, u32, usize) {
    let mut rng = Rng::with_seed(rng.clone().u64(..) ^ 1);
    const SHARES: [(u32, u32); 8] = [
        (0, 0),
        (0, 0),
        (0, 0),
        (0, 0),
        (30, 0),
        (0, 20),
        (10, 10),
        (40, 30),
    ];
    let (watches, blocking) = *pick(&mut rng, &SHARES);
    (watches, blocking, *pick(&mut rng, &[1, 3, 10_000, 10_000]))
}

/// In some of the runs there are several. Not drawn from `rng` itself, so that the seeds of the others keep their meaning. Nobody
/// subscribes meanwhile: the notifications of the model do not tell databases apart.
fn databases(rng: &Rng, pubsub: u32) -> usize {
    let mut rng = Rng::with_seed(rng.clone().u64(..) ^ 4);
    let several = *pick(&mut rng, &[1, 1, 1, 1, 1, 3]);
    if pubsub > 0 { 1 } else { several }
}

/// How much is done in a hundred requests that has to do with subscriptions, and what a subscriber may have unread. Not drawn from
/// `rng` itself either. Nobody watches keys meanwhile: what of a transaction a subscriber is refused, the model does not tell.
fn subscriptions(rng: &Rng, watches: u32) -> (u32, usize) {
    let mut rng = Rng::with_seed(rng.clone().u64(..) ^ 2);
    let share = *pick(&mut rng, &[0, 0, 15, 50]);
    let unread = *pick(&mut rng, &[500, LOTS, LOTS, LOTS]);
    (if watches > 0 { 0 } else { share }, unread)
}

/// Not drawn from `rng` itself, so that its seeds keep their meaning.
fn sizes_of_requests(rng: &Rng) -> Limits {
    let mut rng = Rng::with_seed(rng.clone().u64(..));
    Limits {
        request: RequestLimits {
            max_request_bytes: LARGEST_REQUEST,
            ..RequestLimits::DEFAULT
        },
        request_bytes: *pick(&mut rng, &[0, 500, 5_000, 1 << 30, 1 << 30]),
        request_share: 100,
        // Half of the requests are, so that sessions change their links all the time.
        big_bytes: *pick(&mut rng, &[45, 64 << 10, 64 << 10]),
        ..Limits::default()
    }
}

/// One of `choices`.
pub(super) fn pick<'a, T>(rng: &mut Rng, choices: &'a [T]) -> &'a T {
    &choices[rng.usize(..choices.len())]
}

//! The counters of one worker and the report it hands to the metrics endpoint.

use super::Histogram;
use crate::command::COMMAND_COUNT;
use crate::topology::{Address, NodeId};

macro_rules! labelled {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident => $label:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// Every variant, in the order of its index.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// Number of variants.
            pub const COUNT: usize = Self::ALL.len();

            /// The metric label of this variant.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }

            /// Position in [`Self::ALL`].
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

labelled! {
    /// How a command of a client ended.
    Outcome {
        /// Answered without an error.
        Ok => "ok",
        /// The node answered with an error that was passed on.
        NodeError => "node_error",
        /// The proxy refused it: it was not executed.
        Refused => "refused",
        /// It got no answer for want of a usable node within the time allowed: it was not executed, or only reads.
        Unavailable => "unavailable",
        /// The connection was lost after it was sent, or no reply came in time: it may have been executed.
        Uncertain => "uncertain",
        /// A split or fanned-out command of which only some parts were applied.
        Partial => "partial",
    }
}

labelled! {
    /// Why a node did not execute a request that it received.
    RedirectKind {
        /// The slot has moved for good.
        Moved => "moved",
        /// The slot is being moved and the key is already at the target.
        Ask => "ask",
        /// Several keys of a slot that is being moved are in two places.
        TryAgain => "tryagain",
        /// The cluster, or this slot, is down.
        ClusterDown => "clusterdown",
        /// The node is loading its data.
        Loading => "loading",
        /// The node is a replica.
        ReadOnly => "readonly",
        /// The node is a replica that lost its primary.
        MasterDown => "masterdown",
    }
}

labelled! {
    /// Why a request was sent again.
    RetryReason {
        /// The node refused it without executing it.
        Refused => "refused",
        /// The connection was lost before it was written.
        Unwritten => "unwritten",
        /// The connection was lost and the command only reads.
        Read => "read",
        /// The connection was lost, and the command may run twice.
        Idempotent => "idempotent",
        /// The node did not know the script, whose body was sent then.
        Script => "script",
    }
}

labelled! {
    /// Why a client connection ended.
    CloseReason {
        /// The client closed it.
        Client => "client",
        /// The client sent QUIT.
        Quit => "quit",
        /// The client sent bytes that are not RESP.
        Protocol => "protocol",
        /// The client did not read its replies.
        OutputLimit => "output_limit",
        /// The client had many replies unread for too long.
        OutputSoftLimit => "output_soft_limit",
        /// The client kept others waiting with a request that did not become whole, when there was no memory for theirs.
        InputLimit => "input_limit",
        /// The client did nothing for too long.
        Idle => "idle",
        /// CLIENT KILL.
        Killed => "killed",
        /// The proxy is shutting down.
        Shutdown => "shutdown",
        /// One of its requests may or may not have been executed, and its listener tells that so.
        Uncertain => "uncertain",
        /// Messages for it may have been lost: it is to subscribe again and to look what has changed meanwhile.
        SubscriptionLost => "subscription_lost",
        /// The socket failed.
        Error => "error",
    }
}

/// Commands of one name, by outcome.
#[derive(Debug, Clone, Copy, Default)]
pub struct CommandCounters {
    /// Indexed by [`Outcome::index`].
    pub outcomes: [u64; Outcome::COUNT],
}

/// Everything one worker counts.
#[derive(Debug, Clone)]
pub struct WorkerMetrics {
    /// Indexed by command id; the last one is that of all learned commands.
    pub commands: Vec<CommandCounters>,
    /// Commands whose name is in no table.
    pub unknown_commands: u64,
    /// Bytes read from clients.
    pub downstream_read_bytes: u64,
    /// Bytes written to clients.
    pub downstream_written_bytes: u64,
    /// Bytes read from nodes.
    pub upstream_read_bytes: u64,
    /// Bytes written to nodes.
    pub upstream_written_bytes: u64,
    /// Client connections accepted.
    pub accepted: u64,
    /// Client connections ended, indexed by [`CloseReason::index`].
    pub closed: [u64; CloseReason::COUNT],
    /// Requests refused by nodes, indexed by [`RedirectKind::index`].
    pub redirects: [u64; RedirectKind::COUNT],
    /// Requests sent again, indexed by [`RetryReason::index`].
    pub retries: [u64; RetryReason::COUNT],
    /// Requests that had to wait for a usable node.
    pub parked: u64,
    /// Requests that had to wait for an earlier request of their session.
    pub held: u64,
    /// Requests that a node did not answer in time.
    pub timed_out: u64,
    /// Messages of channels given to clients, each once for every client that got it.
    pub messages: u64,
    /// Commands split over several slots.
    pub split: u64,
    /// Connections to nodes opened.
    pub links_opened: u64,
    /// Connections to nodes lost or closed for a fault.
    pub links_lost: u64,
    /// From reading a command to its reply being ready for the client, in microseconds.
    pub total: Histogram,
    /// From sending a request to a node to its reply, in microseconds; the sum of all nodes, made for a report.
    pub backend: Histogram,
    /// The difference of both: time spent in the proxy, in microseconds.
    pub proxy: Histogram,
}

impl Default for WorkerMetrics {
    fn default() -> Self {
        Self {
            commands: vec![CommandCounters::default(); COMMAND_COUNT + 1],
            unknown_commands: 0,
            downstream_read_bytes: 0,
            downstream_written_bytes: 0,
            upstream_read_bytes: 0,
            upstream_written_bytes: 0,
            accepted: 0,
            closed: [0; CloseReason::COUNT],
            redirects: [0; RedirectKind::COUNT],
            retries: [0; RetryReason::COUNT],
            parked: 0,
            held: 0,
            timed_out: 0,
            messages: 0,
            split: 0,
            links_opened: 0,
            links_lost: 0,
            total: Histogram::default(),
            backend: Histogram::default(),
            proxy: Histogram::default(),
        }
    }
}

/// One connection of a worker to a node.
#[derive(Debug, Clone)]
pub struct LinkReport {
    /// The node, if its id is known.
    pub node: NodeId,
    /// Where the node is.
    pub address: Address,
    /// Connected and past its handshake.
    pub up: bool,
    /// Requests written or queued and not yet answered.
    pub in_flight: usize,
    /// Requests answered since the connection's node was first used.
    pub answered: u64,
    /// Time from sending to reply, in microseconds.
    pub latency: Histogram,
}

/// What a worker tells when the metrics are scraped.
#[derive(Debug, Clone)]
pub struct WorkerReport {
    /// Counters since the worker started.
    pub metrics: WorkerMetrics,
    /// Client connections now open.
    pub connections: usize,
    /// Requests of clients that are not answered yet.
    pub in_flight: usize,
    /// Requests waiting for a usable node now.
    pub parked_now: usize,
    /// Bytes of those requests.
    pub parked_bytes: usize,
    /// Clients that wait at a node now.
    pub blocked: usize,
    /// Connections to nodes that are lent to one client at a time, idle ones included.
    pub private_links: usize,
    /// Channels and patterns subscribed to.
    pub topics: usize,
    /// Bytes of replies that clients have not read, and of those expected.
    pub reply_bytes: usize,
    /// Bytes of requests that are not answered, in part or whole, and of buffers of big ones that are still being dropped.
    pub request_bytes: usize,
    /// Generation of the snapshot in use.
    pub generation: u64,
    /// Connections to nodes.
    pub links: Vec<LinkReport>,
}

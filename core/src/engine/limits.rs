//! Every bound of the request path, with its default.

use std::time::Duration;

use crate::resp::RequestLimits;

/// Bounds of one worker's engine. Times are counted from the arrival of a request unless said otherwise.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Outstanding requests of one session; beyond it the session's bytes wait unread. More would not raise throughput but let
    /// one client's pipeline delay the others.
    pub session_in_flight: usize,
    /// Bounds of one request.
    pub request: RequestLimits,
    /// Keys of one split command [P8].
    pub split_max_keys: usize,
    /// Replies of the parts of one command of set algebra over slots.
    pub cross_slot_bytes: usize,
    /// How long a request waits for a usable node [PK1].
    pub park_timeout: Duration,
    /// How long a request that was sent waits for its reply; scripts wait as long as they take [D8].
    pub request_timeout: Duration,
    /// It does not wait for a slot of which the nodes have said that nobody owns it [T11].
    pub fast_fail_uncovered: bool,
    /// Requests waiting for a usable node, in one worker [PK1].
    pub park_max_requests: usize,
    /// Bytes of those requests, in one worker [PK1].
    pub park_max_bytes: usize,
    /// Silence of a node that owes replies after which its connection is given up [HL1].
    pub node_timeout: Duration,
    /// The same if the node answers on another connection: it is busy, or has paused writes [HL2].
    pub busy_timeout: Duration,
    /// As `node_timeout`, for a node that the topology no longer names as a primary.
    pub demoted_timeout: Duration,
    /// MOVED and ASK answers one request follows [E4].
    pub max_redirects: u8,
    /// How long TRYAGAIN is retried.
    pub tryagain_budget: Duration,
    /// Times a read is sent again after its connection was lost [D3].
    pub max_resends: u8,
    /// Writes that are the same run twice as run once are sent again too [D5].
    pub resend_idempotent_writes: bool,
    /// Replies of one session, unread, waiting for their turn or expected, above which its further requests wait [D13].
    pub output_pause_bytes: usize,
    /// The same for all sessions of one worker; beyond it a session gets 64 KiB or one request.
    pub reply_bytes: usize,
    /// From this size on a request or reply is big: the session that has it gets links that small ones do not share.
    pub big_bytes: usize,
    /// Strings of this size are passed on while they arrive.
    pub pass_on_bytes: usize,
    /// Requests with an argument that ends at this many bytes or later are sent on while they arrive.
    pub upload_bytes: usize,
    /// Bytes taken in from a client that does not read its replies, while its requests wait.
    pub input_ahead_bytes: usize,
    /// Requests of all sessions of one worker, in part or not answered yet, above which only sessions with few are read on.
    pub request_bytes: usize,
    /// How much a session with few has.
    pub request_share: usize,
    /// Reply bytes a client has not read above which it is disconnected [D13].
    pub output_max_bytes: usize,
    /// The same, as much as which it may have for `output_soft_time` [D13]; 0 is no limit.
    pub output_soft_bytes: usize,
    /// See `output_soft_bytes`.
    pub output_soft_time: Duration,
    /// As `output_max_bytes`, for a client with subscriptions [U8].
    pub pubsub_output_bytes: usize,
    /// As `output_soft_bytes`, for a client with subscriptions [U8].
    pub pubsub_output_soft_bytes: usize,
    /// What all subscriptions of one worker may take.
    pub subscription_bytes: usize,
    /// Requests answered no sooner than so many microseconds after they came are noted in the slow log.
    pub slow_micros: u64,
    /// Connections of one worker to one node and protocol version.
    pub links_per_node: usize,
    /// Connections of one worker to one node that are lent to one session at a time [B3] [W7].
    pub private_links: usize,
    /// How many of them are for sessions that watch keys [W7].
    pub watching_links: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            session_in_flight: 256,
            request: RequestLimits::DEFAULT,
            split_max_keys: 65_536,
            cross_slot_bytes: 64 << 20,
            park_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(15),
            fast_fail_uncovered: true,
            park_max_requests: 100_000,
            park_max_bytes: 64 << 20,
            node_timeout: Duration::from_secs(6),
            busy_timeout: Duration::from_secs(60),
            demoted_timeout: Duration::from_secs(2),
            max_redirects: 6,
            tryagain_budget: Duration::from_secs(2),
            max_resends: 2,
            resend_idempotent_writes: false,
            output_pause_bytes: 4 << 20,
            reply_bytes: 256 << 20,
            big_bytes: 64 << 10,
            pass_on_bytes: 128 << 10,
            upload_bytes: 4 << 20,
            input_ahead_bytes: 64 << 20,
            request_bytes: 1 << 30,
            request_share: 64 << 10,
            output_max_bytes: 256 << 20,
            output_soft_bytes: 64 << 20,
            output_soft_time: Duration::from_secs(60),
            pubsub_output_bytes: 32 << 20,
            pubsub_output_soft_bytes: 8 << 20,
            subscription_bytes: 64 << 20,
            slow_micros: 10_000,
            links_per_node: 1,
            private_links: 5_000,
            watching_links: 512,
        }
    }
}

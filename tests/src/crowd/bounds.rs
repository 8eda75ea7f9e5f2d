//! The most memory a disturbance may cost the proxy: "Bounds" in ARCHITECTURE.md, for what the disturbance does.

use super::{Disturbance, Sizes};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Workers of the proxy.
const WORKERS: usize = 2;
/// "replies of all sessions of a worker".
const REPLIES_OF_WORKER: usize = 256 * MIB;
/// "replies of a session".
const REPLIES_OF_SESSION: usize = 4 * MIB;
/// "beyond that 64 KiB or one request".
const LEAST_REPLIES: usize = 64 * KIB;
/// "bytes taken in from a client that reads no replies".
const INPUT_AHEAD: usize = 64 * MIB;
/// "requests of all clients".
const REQUESTS: usize = 1 << 30;
/// How far a big reply is ahead of its client.
const REPLY_AHEAD: usize = MIB;
/// A connection that does nothing, its place in all tables included; see `tests/tests/storm.rs`.
const IDLE_CLIENT: usize = 8 * KIB;
/// The bounds count bytes; the rooms of buffers that grow by doubling, the old ones included, take up to twice as much.
const GROWTH: usize = 2;
/// What comes with any load: links, their buffers, the tables, and what the allocator has not given back yet.
const OTHER: usize = 64 * MIB;

/// Bytes the proxy may have more than before.
pub(super) fn room_for(disturbance: Disturbance, sizes: &Sizes) -> u64 {
    let huge = |clients: usize, bytes: usize| {
        // One more for each worker when there is no more memory for requests.
        let requests = (clients * bytes).min(REQUESTS + WORKERS * bytes);
        GROWTH * requests + clients * REPLY_AHEAD
    };
    let room = match disturbance {
        Disturbance::Deaf => {
            let least = LEAST_REPLIES.max(sizes.deaf_reply_bytes);
            let shares = sizes.deaf_clients * REPLIES_OF_SESSION;
            GROWTH * (shares.min(WORKERS * REPLIES_OF_WORKER) + sizes.deaf_clients * least)
        }
        Disturbance::HugeValue | Disturbance::HugeValueNetwork => huge(1, sizes.huge_bytes),
        Disturbance::BigValues | Disturbance::BigValuesNetwork => {
            huge(sizes.big_clients, sizes.big_bytes)
        }
        Disturbance::Idle => sizes.idle_clients * IDLE_CLIENT,
        // Never many at the same time.
        Disturbance::New => 0,
        Disturbance::PipelineUnread | Disturbance::PipelineRead => {
            GROWTH * (INPUT_AHEAD + REPLIES_OF_SESSION)
        }
    };
    (room + OTHER) as u64
}

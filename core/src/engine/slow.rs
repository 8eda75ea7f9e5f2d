//! Which requests go into the slow log: those that a node answers long after they came, or not in time. The time is all that the client waited,
//! for its turn, for a node and for the reply. Of a split command its parts are noted, for each had a node of its own.

use super::request::Launch;
use super::{Engine, LinkKey, RequestKey};
use crate::backend::{InFlight, Owed};
use crate::resp::{Args, DecodeStep, RequestDecoder, RequestLimits};
use crate::slowlog::{SlowRequest, shortened};

/// So many of a worker are noted from one tick to the next. When a node that hung answers at last thousands are slow at once, and
/// the log would forget the first of them for the last.
const MOST_IN_A_TICK: u32 = 128;

const MICROS_PER_SECOND: u64 = 1_000_000;

impl Engine {
    /// Notes a request that was sent as `entry` of `link`, when its reply has come, or as it is given up.
    #[cold]
    pub(super) fn note_slow(&mut self, link: LinkKey, key: RequestKey, entry: &InFlight) {
        let request = &self.requests[key];
        let Some(session) = request.session else {
            return;
        };
        // An orphan was noted when it became one.
        let is_orphan = matches!(entry.owed, Owed::Orphan(_));
        if is_orphan || self.slow_noted >= MOST_IN_A_TICK {
            return;
        }
        self.slow_noted += 1;
        let link = &self.links[link.index()];
        let total = self.now.micros_since(request.arrival);
        let session = &self.sessions[session.index()];
        let raw = link.request(entry);
        let slow = SlowRequest {
            unix_seconds: session.env.unix_micros() / MICROS_PER_SECOND,
            micros: total,
            args: if matches!(
                request.shape.launch,
                Launch::Unit | Launch::Watched | Launch::Apart
            ) {
                let bytes = format!("... ({} bytes from MULTI to EXEC)", raw.len());
                vec![b"EXEC".to_vec(), bytes.into_bytes()]
            } else {
                arguments(raw, &self.limits.request)
                    .unwrap_or_else(|| vec![request.shape.spec.name.into()])
            },
            client: session.client.remote,
            client_name: session.client.name.clone(),
            course: format!(
                "node={} redirects={} resends={} node_us={} proxy_us={}",
                self.nodes[link.node].address,
                request.redirects,
                request.resends,
                request.backend_micros,
                total.saturating_sub(request.backend_micros)
            ),
        };
        session.env.slow_log(&mut |log| log.note(slow.clone()));
    }
}

/// The arguments of one whole request.
fn arguments(raw: &[u8], limits: &RequestLimits) -> Option<Vec<Vec<u8>>> {
    let mut decoder = RequestDecoder::new();
    match decoder.decode(raw, limits) {
        Ok(DecodeStep::Command { len }) if len == raw.len() => {
            Some(shortened(Args::new(raw, decoder.ranges())))
        }
        _ => None,
    }
}

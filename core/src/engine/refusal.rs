//! What is done about a reply that says "not executed" [E1]-[E12].

use std::time::Duration;

use super::request::{Launch, Retry, State};
use super::{Engine, NodeKey, RequestKey, outage};
use crate::metrics::{Outcome, RetryReason};
use crate::reply::Refusal;
use crate::slot::Slot;
use crate::topology::redirect::RedirectTarget;
use crate::topology::{Address, Hint, RefreshReason};

/// Redirections of one request that are followed at once.
const PROMPT_REDIRECTS: u8 = 2;
/// Pause before a further one, or before a node that points at itself is asked again; doubled each time.
const CIRCLE_PAUSE: Duration = Duration::from_millis(10);
/// First pause after TRYAGAIN, doubled up to the second value.
const TRYAGAIN_PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(128));
/// First pause when no node is known that serves the slot, doubled up to the second value.
const UNSERVED_PAUSE: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_millis(100));
/// TRYAGAIN for this long means that the topology deserves a look.
const TRYAGAIN_SUSPECT: Duration = Duration::from_secs(1);

impl Engine {
    /// Node `node` refused request `key`, which has its own copy of its bytes, with `reply`.
    ///
    /// Outcomes: sent again at once elsewhere; sent again after a pause; answered with the refusal when the budget is spent. All
    /// of them subject to what happened to the requests behind it [O4].
    pub(super) fn on_refusal(
        &mut self,
        node: NodeKey,
        key: RequestKey,
        refusal: &Refusal,
        reply: &[u8],
    ) {
        self.metrics.redirects[refusal.kind().index()] += 1;
        let request = &mut self.requests[key];
        request.reply.clear();
        request.reply.extend_from_slice(reply);
        let Some(session) = request.session else {
            return self.requests.remove(key);
        };
        self.disturb(key);
        let retry = match refusal {
            _ if self.nodes[node].is_reader() => self.on_refused_by_replica(node, key, refusal),
            Refusal::Moved { slot, target } => self.on_moved(node, key, *slot, target),
            Refusal::Ask { slot, target } => self.on_ask(node, key, *slot, target),
            Refusal::TryAgain => self.on_try_again(key),
            Refusal::ClusterDown
            | Refusal::Loading
            | Refusal::MasterDown
            | Refusal::ReadOnly
            | Refusal::Demoted => self.on_unavailable(node, key, refusal, reply),
        };
        self.requests[key].blocked_by = Some(node);
        match retry {
            Some(retry) => {
                self.metrics.retries[RetryReason::Refused.index()] += 1;
                self.requests[key].state = State::Refused(retry);
                self.mark_unsettled(session);
            }
            // One that would have waited is told what the node would have told it [B4].
            None if self.is_waited_out(key) => self.time_out(key),
            None => self.show_refusal(key),
        }
    }

    /// Node `node` refused a transaction with watched keys, which cannot be sent again: they are watched no longer. Where the slot has
    /// another owner, they may have changed there [W5] [W6]. That a node is not available is said, or the client would try again at once,
    /// as often as it can.
    pub(super) fn on_watched_refused(
        &mut self,
        node: NodeKey,
        key: RequestKey,
        refusal: &Refusal,
        reply: &[u8],
    ) {
        self.metrics.redirects[refusal.kind().index()] += 1;
        match refusal {
            Refusal::Moved { slot, target } => match self.target_address(node, target) {
                Some(address) => self.hint_moved(node, *slot, &address),
                None => self.ask_for_topology(node, RefreshReason::Moved),
            },
            Refusal::Ask { slot, target } => {
                if let Some(target) = self.target_address(node, target) {
                    self.hint(Hint::Ask {
                        slot: *slot,
                        target,
                    });
                }
            }
            Refusal::TryAgain => {}
            Refusal::ClusterDown
            | Refusal::Loading
            | Refusal::MasterDown
            | Refusal::ReadOnly
            | Refusal::Demoted => {
                self.on_unavailable(node, key, refusal, reply);
            }
        }
        if matches!(
            refusal,
            Refusal::ClusterDown | Refusal::Loading | Refusal::MasterDown
        ) {
            let shown = &mut self.requests[key].reply;
            shown.clear();
            shown.extend_from_slice(reply);
            self.show_refusal(key);
        } else {
            self.refuse_watched(key);
        }
    }

    fn on_moved(
        &mut self,
        node: NodeKey,
        key: RequestKey,
        slot: Slot,
        target: &RedirectTarget,
    ) -> Option<Retry> {
        let Some(address) = self.target_address(node, target) else {
            // The host is unknown to the server: only a new table can tell [T4].
            return self.on_unserved(node, key, RefreshReason::Moved);
        };
        self.count_redirect(key, slot)?;
        self.hint_moved(node, slot, &address);
        // Two nodes that point at each other agree soon: one of them has not heard of the move yet.
        let redirects = self.requests[key].redirects;
        if redirects > PROMPT_REDIRECTS || self.nodes[node].address == address {
            return Some(Retry::After(CIRCLE_PAUSE.saturating_mul(
                1 << redirects.saturating_sub(PROMPT_REDIRECTS).min(8),
            )));
        }
        Some(Retry::At {
            node: self.nodes.at(&address),
            asking: false,
        })
    }

    fn hint_moved(&mut self, node: NodeKey, slot: Slot, target: &Address) {
        if let Some(from) = self.nodes[node].id.clone() {
            let target = target.clone();
            self.hint(Hint::Moved { slot, target, from });
        }
    }

    fn on_ask(
        &mut self,
        node: NodeKey,
        key: RequestKey,
        slot: Slot,
        target: &RedirectTarget,
    ) -> Option<Retry> {
        let Some(address) = self.target_address(node, target) else {
            return self.on_unserved(node, key, RefreshReason::Moved);
        };
        self.count_redirect(key, slot)?;
        self.hint(Hint::Ask {
            slot,
            target: address.clone(),
        });
        Some(Retry::At {
            node: self.nodes.at(&address),
            asking: true,
        })
    }

    /// Counts a redirection; past the limit the request gets the text for that and `None` is returned.
    fn count_redirect(&mut self, key: RequestKey, slot: Slot) -> Option<()> {
        let request = &mut self.requests[key];
        request.redirects += 1;
        if request.redirects <= self.limits.max_redirects {
            return Some(());
        }
        request.reply.clear();
        let text = format!(
            "-CLUSTERDOWN proxy: too many redirections for slot {}\r\n",
            slot.get()
        );
        request.reply.extend_from_slice(text.as_bytes());
        None
    }

    pub(super) fn target_address(&self, node: NodeKey, target: &RedirectTarget) -> Option<Address> {
        let address = match target {
            RedirectTarget::Address(address) => address.clone(),
            RedirectTarget::SameHost(port) => Address {
                host: self.nodes[node].address.host.clone(),
                port: *port,
            },
            RedirectTarget::Unknown => return None,
        };
        Some(self.upstream.address_map.apply(address))
    }

    fn on_try_again(&mut self, key: RequestKey) -> Option<Retry> {
        let waited = self.now.since(self.requests[key].arrival);
        if waited >= self.limits.tryagain_budget {
            return None;
        }
        if waited >= TRYAGAIN_SUSPECT {
            self.hint(Hint::Refresh {
                reason: RefreshReason::TryAgain,
                node: None,
            });
        }
        Some(Retry::After(self.pause(key, TRYAGAIN_PAUSE)))
    }

    /// The node takes no such requests now, or does not serve the slot.
    fn on_unavailable(
        &mut self,
        node: NodeKey,
        key: RequestKey,
        refusal: &Refusal,
        reply: &[u8],
    ) -> Option<Retry> {
        let reason = match refusal {
            Refusal::Loading | Refusal::MasterDown => RefreshReason::MasterDown,
            Refusal::ReadOnly | Refusal::Demoted => RefreshReason::Readonly,
            _ => RefreshReason::ClusterDown,
        };
        if !outage::concerns_node(refusal, reply) {
            return self.on_unserved(node, key, reason);
        }
        self.ask_for_topology(node, reason);
        let pause = self.note_outage(node, key, refusal, reply);
        let request = &mut self.requests[key];
        request.redirects = 0;
        let retry = match request.shape.launch {
            // A replica may answer it meanwhile; if not, it waits as long.
            Launch::Read => Retry::Route,
            _ => Retry::After(pause),
        };
        self.may_wait(key).then_some(retry)
    }

    /// The node does not serve the slot and does not know who does.
    fn on_unserved(
        &mut self,
        node: NodeKey,
        key: RequestKey,
        reason: RefreshReason,
    ) -> Option<Retry> {
        self.ask_for_topology(node, reason);
        self.may_wait(key)
            .then(|| Retry::After(self.pause(key, UNSERVED_PAUSE)))
    }

    pub(super) fn ask_for_topology(&mut self, node: NodeKey, reason: RefreshReason) {
        let node = self.nodes[node].id.clone();
        self.hint(Hint::Refresh { reason, node });
    }

    pub(super) fn may_wait(&self, key: RequestKey) -> bool {
        self.now < self.park_deadline(key)
    }

    /// The next pause of a request: doubling, with a quarter of jitter either way. Then it starts over at the owner, and
    /// redirections count anew: the time is bounded, and a slot that is moving may point away and back many times [E8].
    fn pause(&mut self, key: RequestKey, (first, last): (Duration, Duration)) -> Duration {
        let request = &mut self.requests[key];
        request.redirects = 0;
        let pause = first.saturating_mul(1 << request.waits.min(16)).min(last);
        request.waits = request.waits.saturating_add(1);
        pause.mul_f64(0.75 + self.rng.f64() / 2.0)
    }

    /// Ends a request with the last refusal of a node: true, since it was not executed. A redirection is never shown: the client
    /// has no cluster to follow it in. A read that was to be sent again, but had an answer, gets that.
    pub(super) fn show_refusal(&mut self, key: RequestKey) {
        let request = &mut self.requests[key];
        let mut reply = std::mem::take(&mut request.reply);
        if !matches!(reply.first(), None | Some(b'-')) {
            return self.complete(key, &reply, Outcome::Ok, true);
        }
        if reply.is_empty() {
            // No node refused it: its connection was lost before it was written, and one behind it was executed meanwhile.
            reply.extend_from_slice(
                b"-ERR proxy: backend connection lost, command not executed\r\n",
            );
        } else if is_redirection(&reply) {
            let slot = request.shape.slot.get();
            reply = format!("-TRYAGAIN proxy: slot {slot} is moving, command not executed\r\n")
                .into_bytes();
        }
        let outcome = if request.outcome == Outcome::Uncertain {
            Outcome::Uncertain
        } else {
            Outcome::Unavailable
        };
        self.fail(key, &reply, outcome, false);
    }
}

/// Whether the error reply points to another node.
pub(super) fn is_redirection(reply: &[u8]) -> bool {
    reply.starts_with(b"-MOVED ") || reply.starts_with(b"-ASK ")
}

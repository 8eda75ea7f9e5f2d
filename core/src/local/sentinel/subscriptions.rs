//! What a client of the Sentinel has subscribed to. Nothing ever comes of it; the acknowledgements count.

use super::Call;
use crate::command::{Spec, id};
use crate::pubsub::write_ack;
use crate::resp::Protocol;

/// Channels and patterns of one client; a Sentinel has some forty kinds of events.
const MOST: usize = 128;
/// Longest name of one, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// Names of channels, and patterns.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    channels: Vec<Box<[u8]>>,
    patterns: Vec<Box<[u8]>>,
}

impl Subscriptions {
    /// Whether the client has subscriptions in RESP2, in which only some commands are taken then.
    pub(super) fn is_listening(&self, protocol: Protocol) -> bool {
        self.count() > 0 && protocol == Protocol::Resp2
    }

    /// Whether the command is none of those.
    pub(super) fn forbid(&self, spec: &Spec, protocol: Protocol) -> bool {
        let is_free = matches!(
            spec.id,
            id::SUBSCRIBE
                | id::PSUBSCRIBE
                | id::UNSUBSCRIBE
                | id::PUNSUBSCRIBE
                | id::PING
                | id::QUIT
                | id::RESET
        );
        self.is_listening(protocol) && !is_free
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// SUBSCRIBE, UNSUBSCRIBE and the same of patterns: an acknowledgement for each name.
    pub(super) fn change(&mut self, spec: &Spec, call: &mut Call<'_>) {
        let is_pattern = matches!(spec.id, id::PSUBSCRIBE | id::PUNSUBSCRIBE);
        let begins = matches!(spec.id, id::SUBSCRIBE | id::PSUBSCRIBE);
        let mut names: Vec<Box<[u8]>> = call.args.iter().skip(1).map(Box::from).collect();
        if begins {
            let is_long = names.iter().any(|name| name.len() > MAX_NAME_BYTES);
            if self.count() + names.len() > MOST || is_long {
                return call.error("ERR proxy: too many subscriptions");
            }
        } else if names.is_empty() {
            names.clone_from(self.of(is_pattern));
        }
        if names.is_empty() {
            let count = self.count();
            write_ack(call.out, spec.name, None, count, call.client.protocol);
        }
        for name in names {
            let known = self.of(is_pattern);
            known.retain(|other| *other != name);
            if begins {
                known.push(name.clone());
            }
            let count = self.count();
            write_ack(
                call.out,
                spec.name,
                Some(&name),
                count,
                call.client.protocol,
            );
        }
    }

    fn of(&mut self, is_pattern: bool) -> &mut Vec<Box<[u8]>> {
        if is_pattern {
            &mut self.patterns
        } else {
            &mut self.channels
        }
    }
}

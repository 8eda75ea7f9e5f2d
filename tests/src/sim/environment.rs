//! What local answers need, as little as a simulation has.

use slotway_core::local::{ClientRow, Environment, ListenerSettings, ProcessFacts, UpstreamFacts};
use slotway_core::session::client_state::ClientState;

/// An environment without other clients.
#[derive(Debug, Default)]
pub(super) struct Nowhere {
    listener: ListenerSettings,
}

impl Environment for Nowhere {
    fn unix_micros(&self) -> u64 {
        0
    }

    fn fill_random(&self, bytes: &mut [u8]) -> bool {
        bytes.fill(0);
        true
    }

    fn listener(&self) -> &ListenerSettings {
        &self.listener
    }

    fn upstream(&self) -> UpstreamFacts {
        UpstreamFacts::default()
    }

    fn process(&self) -> ProcessFacts {
        ProcessFacts::default()
    }

    fn for_each_client(&self, _: &mut dyn FnMut(&ClientRow<'_>)) {}

    fn with_client(&self, _: u64, _: &mut dyn FnMut(&ClientRow<'_>)) -> bool {
        false
    }

    fn kill_client(&self, _: u64) -> bool {
        false
    }

    fn client_changed(&self, _: &ClientState) {}
}

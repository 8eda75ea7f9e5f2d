//! The Sentinel that the proxy is [N27], as the control thread sees it.

use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use slotway_core::config::{Config, SentinelListenerConfig};
use slotway_core::slowlog::SlowLog;

use super::{Bound, Service, settings};
use crate::facts::Facts;
use crate::sentinel_listener::{self, SentinelHandle, SentinelSettings};

/// Its thread and the way to it.
pub(super) struct Sentinel {
    /// Where clients go.
    pub(super) handle: SentinelHandle,
    /// The limits that hold for them.
    pub(super) facts: Arc<Facts>,
    thread: JoinHandle<()>,
}

impl Sentinel {
    /// Starts the thread, for the listeners that have a service.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(
        config: &Config,
        given: &SentinelListenerConfig,
        bound: &Bound,
        services: &[Rc<Service>],
    ) -> anyhow::Result<Self> {
        let facts = Arc::new(Facts::new(0, SlowLog::default()));
        facts.set_limits(services[0].facts.limits());
        let listeners = config.listeners.iter().zip(&bound.listeners);
        let named = listeners.filter_map(|(listener, bound)| {
            let run_id = services[listener.upstream].facts.process(0).run_id;
            settings::sentinel_service(listener, *bound, run_id)
        });
        let (handle, thread) = sentinel_listener::spawn(SentinelSettings {
            services: named.collect(),
            listener: Arc::new(settings::sentinel_listener(given)),
            facts: Arc::clone(&facts),
        })
        .context("cannot start the thread of the Sentinel")?;
        Ok(Self {
            handle,
            facts,
            thread,
        })
    }

    /// Its thread has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

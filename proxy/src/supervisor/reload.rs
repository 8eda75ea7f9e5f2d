//! SIGHUP: the configuration is read anew. Limits of clients take effect at once; of the rest it is said that it needs a restart. A
//! configuration with faults changes nothing.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use slotway_core::config::Config;
use tokio::signal::unix::{self, SignalKind};

use super::{Status, descriptors};
use crate::cli::UsageError;
use crate::facts::Facts;
use crate::limits::LiveLimits;

/// How the configuration is read anew, and when.
pub struct Reload {
    asked: unix::Signal,
    load: Box<dyn Fn() -> Result<Config, UsageError>>,
}

impl Reload {
    /// Calls `load` at every SIGHUP from now on; the signal no longer ends the process.
    ///
    /// # Errors
    /// When the system does not let us.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    pub(crate) fn on_hangup(
        load: impl Fn() -> Result<Config, UsageError> + 'static,
    ) -> io::Result<Self> {
        Ok(Self {
            asked: unix::signal(SignalKind::hangup())?,
            load: Box::new(load),
        })
    }

    /// Applies changes of the configuration `running`, until the task is dropped. Reading a file holds this thread up for a moment:
    /// no client is served here.
    pub(super) async fn run(
        mut self,
        mut running: Config,
        facts: Vec<Arc<Facts>>,
        status: Rc<Status>,
    ) {
        while self.asked.recv().await.is_some() {
            match (self.load)() {
                Ok(newer) => {
                    apply(&mut running, &newer, &facts);
                    status.count_reload(true);
                }
                Err(error) => {
                    log_faults(&error);
                    status.count_reload(false);
                }
            }
        }
        // The system gives no more signals.
        std::future::pending::<()>().await;
    }
}

/// Applies what can be applied of `newer`, and notes it in `running`; the rest is found changed again the next time.
fn apply(running: &mut Config, newer: &Config, facts: &[Arc<Facts>]) {
    let changes = running.changes(newer);
    let names = |live: bool| {
        let wanted = changes.iter().filter(|change| change.live == live);
        wanted
            .map(|change| change.key)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (applied, waiting) = (names(true), names(false));
    take_live(running, newer);
    let limits = descriptors::affordable(LiveLimits::from(&running.limits), facts.len());
    for facts in facts {
        facts.set_limits(limits);
    }
    tracing::info!(%applied, "configuration read anew");
    if !waiting.is_empty() {
        tracing::warn!(keys = %waiting, "changed keys take effect at the next start only");
    }
}

/// Copies the values of the live keys.
fn take_live(running: &mut Config, newer: &Config) {
    let (limits, newer) = (&mut running.limits, &newer.limits);
    limits.max_clients = newer.max_clients;
    limits.max_clients_per_ip = newer.max_clients_per_ip;
    limits.accepts_per_second = newer.accepts_per_second;
    limits.idle_timeout = newer.idle_timeout;
    limits.client_output_bytes = newer.client_output_bytes;
    limits.client_output_soft_bytes = newer.client_output_soft_bytes;
    limits.client_output_soft_time = newer.client_output_soft_time;
    limits.client_output_pause_bytes = newer.client_output_pause_bytes;
    limits.pubsub_output_bytes = newer.pubsub_output_bytes;
    limits.pubsub_output_soft_bytes = newer.pubsub_output_soft_bytes;
}

/// One line for each fault, since a line is what log collectors take apart.
fn log_faults(error: &UsageError) {
    let UsageError::Config(faults) = error else {
        return tracing::error!(%error, "configuration not read anew, the old one stays");
    };
    tracing::error!(
        faults = faults.faults.len(),
        "configuration not read anew, the old one stays"
    );
    for fault in &faults.faults {
        let value = fault.value.as_deref().unwrap_or_default();
        let (key, problem, remedy) = (&fault.key, &fault.problem, &fault.remedy);
        tracing::error!(place = %fault.origin, key, value, problem, remedy, "fault of the configuration");
    }
}

#[cfg(test)]
mod tests {
    use slotway_core::slowlog::SlowLog;

    use super::super::tests::config;
    use super::*;

    /// Every live key, and one that is not.
    const CHANGED: &str = "\
        limits.max_clients = 7\nlimits.max_clients_per_ip = 3\nlimits.accepts_per_second = 5\nlimits.idle_timeout = '9s'\n\
        limits.client_output_bytes = '100MiB'\nlimits.client_output_soft_bytes = '80MiB'\n\
        limits.client_output_soft_time = '5s'\nlimits.client_output_pause_bytes = '9MiB'\n\
        limits.pubsub_output_bytes = '20MiB'\nlimits.pubsub_output_soft_bytes = '2MiB'\nlimits.pipeline_count = 9\n";

    /// Those of two upstreams.
    fn facts() -> [Arc<Facts>; 2] {
        [(), ()].map(|()| Arc::new(Facts::new(1, SlowLog::default())))
    }

    #[test]
    fn live_keys_are_applied_and_the_others_stay_changed() {
        let (mut running, newer) = (config(""), config(CHANGED));
        assert_eq!(running.changes(&newer).len(), 11);
        let facts = facts();
        apply(&mut running, &newer, &facts);
        for facts in &facts {
            assert_eq!(facts.limits(), LiveLimits::from(&newer.limits));
        }
        let left = running.changes(&newer);
        assert!(
            left.len() == 1 && left[0].key == "limits.pipeline_count",
            "{left:?}"
        );
        assert!(!left[0].live);
    }

    #[test]
    fn what_was_removed_from_the_file_has_its_default_again() {
        let mut running = config(CHANGED);
        let facts = facts();
        let mut usual = config("");
        usual.limits.max_clients = 10;
        apply(&mut running, &usual, &facts);
        assert_eq!(facts[0].limits().max_clients, 10);
        assert_eq!(facts[0].limits().idle_timeout, std::time::Duration::ZERO);
    }
}

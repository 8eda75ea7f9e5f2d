//! Figures of the process and of the servers of one upstream that clients can ask for (INFO, HELLO, CONFIG GET), shared by all threads.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use slotway_core::local::{ProcessFacts, UpstreamFacts};
use slotway_core::slowlog::SlowLog;

use crate::learning::Learning;
use crate::limits::LiveLimits;
use crate::slow_log::SharedSlowLog;
use crate::wish::Wish;

/// Shared figures. Readers take a snapshot; the control thread replaces what it learns.
#[derive(Debug)]
pub struct Facts {
    run_id: Arc<str>,
    start: Instant,
    workers: usize,
    upstream: ArcSwap<UpstreamFacts>,
    process: ArcSwap<ProcessFacts>,
    login_refused: AtomicBool,
    limits: ArcSwap<LiveLimits>,
    slow_log: SharedSlowLog,
    learning: Learning,
    replicas: Wish,
}

impl Facts {
    /// Figures of a process that starts now with this many workers, and its slow log.
    #[must_use]
    pub fn new(workers: usize, slow_log: SlowLog) -> Self {
        let mut id = [0; 20];
        // Without random bytes the id is still 40 digits, only not unique; the failure is logged.
        let _ = read_random(&mut id);
        Self {
            run_id: id
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
                .into(),
            start: Instant::now(),
            workers,
            upstream: ArcSwap::from_pointee(UpstreamFacts::default()),
            process: ArcSwap::from_pointee(ProcessFacts::default()),
            login_refused: AtomicBool::new(false),
            limits: ArcSwap::default(),
            slow_log: SharedSlowLog::new(slow_log),
            learning: Learning::default(),
            replicas: Wish::default(),
        }
    }

    /// Whether the nodes refuse the proxy's credentials, as far as discovery knows.
    #[must_use]
    pub fn login_refused(&self) -> bool {
        self.login_refused.load(Ordering::Relaxed)
    }

    /// Says whether the nodes refuse the proxy's credentials.
    pub fn set_login_refused(&self, refused: bool) {
        self.login_refused.store(refused, Ordering::Relaxed);
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> LiveLimits {
        **self.limits.load()
    }

    /// Changes them. What looks at them now and then follows within a second.
    pub fn set_limits(&self, limits: LiveLimits) {
        self.limits.store(Arc::new(limits));
    }

    /// What is known of the servers.
    #[must_use]
    pub fn upstream(&self) -> UpstreamFacts {
        UpstreamFacts::clone(&self.upstream.load())
    }

    /// Replaces what is known of the servers.
    pub fn set_upstream(&self, facts: UpstreamFacts) {
        self.upstream.store(Arc::new(facts));
    }

    /// Figures of this process, with this many clients connected now.
    #[must_use]
    pub fn process(&self, connected_clients: usize) -> ProcessFacts {
        let limits = self.limits();
        ProcessFacts {
            version: env!("CARGO_PKG_VERSION"),
            run_id: Arc::clone(&self.run_id),
            process_id: std::process::id(),
            uptime_seconds: self.start.elapsed().as_secs(),
            workers: self.workers,
            connected_clients: connected_clients as u64,
            max_clients: Some(limits.max_clients as u64),
            idle_timeout: limits.idle_timeout,
            output_limits: Some(limits.output),
            ..ProcessFacts::clone(&self.process.load())
        }
    }

    /// Replaces the figures that are counted elsewhere and published from time to time.
    pub fn set_process(&self, facts: ProcessFacts) {
        self.process.store(Arc::new(facts));
    }

    /// The commands learned from the servers.
    #[must_use]
    pub const fn learning(&self) -> &Learning {
        &self.learning
    }

    /// The wish of clients to be answered by replicas.
    #[must_use]
    pub const fn replicas(&self) -> &Wish {
        &self.replicas
    }

    /// The slow log.
    #[must_use]
    pub const fn slow_log(&self) -> &SharedSlowLog {
        &self.slow_log
    }

    /// Fills `bytes` from the kernel's source of random bytes; false if there is none.
    #[must_use]
    pub fn fill_random(&self, bytes: &mut [u8]) -> bool {
        read_random(bytes)
    }
}

fn read_random(bytes: &mut [u8]) -> bool {
    let read = std::fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(bytes));
    if let Err(error) = &read {
        tracing::error!(%error, "no random bytes from /dev/urandom");
    }
    read.is_ok()
}

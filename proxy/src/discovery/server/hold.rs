//! Has writes wait while Sentinels make another server the primary; `topology::sentinel` decides when.
//!
//! Beside the rounds, since it must be in time though one hangs. That writes go on, workers are told after they were told of the new primary.

use std::sync::Arc;
use std::time::Duration;

use slotway_core::time::Timestamp;
use slotway_core::topology::Address;
use slotway_core::topology::sentinel::{Announcement, HoldEnd, WriteHold};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::super::link::ControlLink;
use super::super::settings::DiscoverySettings;
use super::probe::{self, Standing};

/// Between two questions to the server that is promoted.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

/// What is known of the server in use.
#[derive(Debug, Default)]
pub(super) struct InUse {
    /// Where it is; `None` while there is none.
    pub(super) primary: Option<Address>,
    /// Where it said last that its replicas are.
    pub(super) replicas: Vec<Address>,
}

/// Hears what Sentinels announce, and has workers hold writes.
pub(super) struct Holder {
    announced: mpsc::Receiver<Announcement>,
    in_use: watch::Receiver<InUse>,
    settings: Arc<DiscoverySettings>,
    tell: Box<dyn Fn(Option<std::time::Instant>)>,
    hold: WriteHold,
    started: Instant,
}

impl Holder {
    pub(super) fn new(
        announced: mpsc::Receiver<Announcement>,
        in_use: watch::Receiver<InUse>,
        settings: Arc<DiscoverySettings>,
        tell: impl Fn(Option<std::time::Instant>) + 'static,
    ) -> Self {
        Self {
            announced,
            in_use,
            settings,
            tell: Box::new(tell),
            hold: WriteHold::default(),
            started: Instant::now(),
        }
    }

    /// Works until nothing can be announced any more.
    pub(super) async fn run(mut self) {
        while let Some(announced) = self.announced.recv().await {
            let map = &self.settings.address_map;
            let announced = Announcement {
                promoted: map.apply(announced.promoted),
                primary: map.apply(announced.primary),
            };
            let (former, promoted) = (announced.primary.clone(), announced.promoted.clone());
            if self.begin(announced) {
                let begun = Instant::now();
                tracing::info!(%former, %promoted, "a Sentinel promotes a replica: writes wait until enough Sentinels name it");
                let end = self.hold(&promoted).await;
                let waited = begun.elapsed().as_millis();
                log_end(end, &promoted, waited);
            } else {
                tracing::debug!(%former, %promoted, "a Sentinel announces a promotion that writes do not wait for: these are not the primary in use and a replica of it, or there was one in vain before");
            }
        }
    }

    fn begin(&mut self, announced: Announcement) -> bool {
        let now = self.now();
        let in_use = self.in_use.borrow_and_update();
        let begins = self
            .hold
            .begin(announced, in_use.primary.as_ref(), &in_use.replicas, now);
        drop(in_use);
        begins
    }

    /// Until the hold is over.
    async fn hold(&mut self, promoted: &Address) -> HoldEnd {
        let mut link = None;
        let mut told = None;
        loop {
            let until = self.hold.until().map(|until| self.instant(until));
            if told != until {
                told = until;
                (self.tell)(until.map(Instant::into_std));
            }
            let end = tokio::select! {
                (asked, is_primary) = ask(promoted, link.take(), &self.settings) => {
                    link = asked;
                    let now = self.now();
                    is_primary.and_then(|is_primary| self.hold.note_role(is_primary, now))
                }
                _ = self.in_use.changed() => None,
                () = sleep_until(until.unwrap_or(self.started)) => None,
            };
            let now = self.now();
            let primary = self.in_use.borrow_and_update().primary.clone();
            if let Some(end) = end.or_else(|| self.hold.look(primary.as_ref(), now)) {
                (self.tell)(None);
                return end;
            }
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::ZERO.after(self.started.elapsed())
    }

    fn instant(&self, time: Timestamp) -> Instant {
        self.started + time.since(Timestamp::ZERO)
    }
}

/// Whether the server says that it is a primary, if it says anything, after a while if it was asked before.
async fn ask(
    server: &Address,
    link: Option<ControlLink>,
    settings: &Arc<DiscoverySettings>,
) -> (Option<ControlLink>, Option<bool>) {
    if link.is_some() {
        sleep(ASK_INTERVAL).await;
    }
    match probe::probe(server.clone(), link, Arc::clone(settings)).await {
        Ok((link, probe)) => (Some(link), Some(probe.standing == Standing::Primary)),
        Err(error) => {
            tracing::debug!(%server, %error, "the server that is promoted does not answer");
            sleep(ASK_INTERVAL).await;
            (None, None)
        }
    }
}

fn log_end(end: HoldEnd, promoted: &Address, waited_ms: u128) {
    match end {
        HoldEnd::Switched => {
            tracing::info!(%promoted, waited_ms, "another primary is used, writes go on");
        }
        HoldEnd::NotPromoted => {
            tracing::warn!(%promoted, waited_ms, "the server was not promoted, writes go on where they went");
        }
        HoldEnd::Demoted => {
            tracing::warn!(%promoted, waited_ms, "the server was promoted and is a replica again, writes go on where they went");
        }
        HoldEnd::NotNamed => {
            tracing::warn!(%promoted, waited_ms, "the server was promoted, but not enough Sentinels name it: writes go on where they went, and are lost if they name it later");
        }
    }
}

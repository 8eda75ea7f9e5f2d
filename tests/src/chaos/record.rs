//! One fault with all that was seen of it, and what of that must not be.

use super::control::ControlReport;
use super::faults::{Allowed, Fault};
use super::inject::Outcome;
use super::scene::OUTSTANDING;
use crate::load::{Broken, Gap, LoadError, LoadReport};
use std::collections::BTreeMap;
use std::time::Duration;

/// How much later than the cluster itself every client must be served again.
const SLACK: Duration = Duration::from_millis(500);
/// A request waits this long for a primary, by default; then its client is told.
const PARK_TIMEOUT: Duration = Duration::from_secs(10);

/// All that was seen of one fault.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) fault: Fault,
    pub(super) outcome: Outcome,
    pub(super) load: LoadReport,
    pub(super) control: ControlReport,
    /// Lost writes that replication did not lose
    pub(super) unexplained: Vec<String>,
    /// The same of the control: there must be none, or the proof is none
    pub(super) control_unexplained: Vec<String>,
    pub(super) peak_bytes: u64,
}

impl Record {
    /// How long the cluster itself could not serve all slots.
    pub(super) fn outage(&self) -> Duration {
        self.outcome
            .restored
            .map_or(Duration::ZERO, |at| at.duration_since(self.outcome.began))
    }

    /// How long a client may have waited.
    pub(super) fn allowed_gap(&self) -> Duration {
        self.outage() + SLACK
    }

    /// How long a client did wait, from the fault on.
    pub(super) fn longest_gap(&self) -> Duration {
        let length = |gap: &Gap| {
            gap.until
                .saturating_duration_since(gap.from.max(self.outcome.began))
        };
        self.load.gaps.iter().map(length).max().unwrap_or_default()
    }

    /// Number of violations of one kind.
    pub(super) fn count(&self, broken: Broken) -> usize {
        let same = |violation: &&crate::load::Violation| violation.broken == broken;
        self.load.violations.iter().filter(same).count()
    }

    /// Errors by command and text.
    pub(super) fn errors(&self) -> BTreeMap<String, u64> {
        let mut errors = BTreeMap::new();
        for error in &self.load.errors {
            let text = format!("{} -> {}", error.command, error.text);
            *errors.entry(text).or_default() += 1;
        }
        errors
    }

    /// Everything that must not be.
    pub(super) fn findings(&self) -> Vec<String> {
        let mut findings = self.outcome.findings.clone();
        findings.extend(self.load.violations.iter().map(ToString::to_string));
        self.judge_errors(&mut findings);
        self.judge_connections(&mut findings);
        self.judge_losses(&mut findings);
        if self.longest_gap() > self.allowed_gap() {
            findings.push(format!(
                "a client waited {:?}, the cluster was back after {:?}",
                self.longest_gap(),
                self.outage()
            ));
        }
        findings
    }

    fn judge_errors(&self, findings: &mut Vec<String>) {
        let errors = &self.load.errors;
        let unexplained: Vec<&LoadError> = errors
            .iter()
            .filter(|error| !self.explains(error))
            .collect();
        if let Some(first) = unexplained.first() {
            findings.push(format!(
                "{} unexplained errors, the first at +{:?}: {} in slot {} -> {}",
                unexplained.len(),
                first.at.saturating_duration_since(self.outcome.began),
                first.command,
                first.slot,
                first.text
            ));
        }
        if errors.len() > OUTSTANDING && self.outage() < PARK_TIMEOUT {
            findings.push(format!(
                "{} errors, but only {OUTSTANDING} requests can have been under way",
                errors.len()
            ));
        }
    }

    /// Whether an error is one that the fault accounts for: the fate of a write was unknown when its primary was gone, or of a read
    /// that such a write may have overtaken; or there was no primary for longer than requests wait.
    fn explains(&self, error: &LoadError) -> bool {
        let hit = self
            .outcome
            .hit
            .iter()
            .any(|slots| slots.contains(&error.slot));
        if self.fault.allowed() == Allowed::Nothing || !hit {
            return false;
        }
        let written = !["GET", "MGET", "LRANGE"].contains(&error.command.as_str());
        let uncertain = error.text.starts_with("UNCERTAIN proxy: ");
        (uncertain && (written || error.overtaken)) || (!uncertain && self.outage() >= PARK_TIMEOUT)
    }

    fn judge_connections(&self, findings: &mut Vec<String>) {
        let reconnects = self.load.reconnects;
        match self.fault {
            Fault::Drain if reconnects == 0 => {
                findings.push("no client of the drained proxy had to connect again".to_owned());
            }
            Fault::Drain => {}
            _ if reconnects > 0 => {
                findings.push(format!("{reconnects} connections were closed by the proxy"));
            }
            _ => {}
        }
    }

    /// Asynchronous replication loses what the former primary executed and did not pass on before it was replaced.
    fn judge_losses(&self, findings: &mut Vec<String>) {
        for write in self.unexplained.iter().take(5) {
            findings.push(format!("lost, but not by replication: {write}"));
        }
        for write in self.control_unexplained.iter().take(5) {
            findings.push(format!(
                "the control's loss is not explained, so no loss is: {write}"
            ));
        }
        let Some(restored) = self.outcome.restored else {
            return;
        };
        let late = |sent| sent > restored + SLACK;
        let lost = &self.load.lost;
        for write in lost.iter().filter(|write| late(write.times.sent)).take(5) {
            findings.push(format!(
                "{} was sent {:?} after the promotion, and lost",
                write.token,
                write.times.sent.duration_since(restored)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{LostWrite, Times, Violation};
    use std::time::Instant;

    fn record(fault: Fault) -> Record {
        let began = Instant::now();
        Record {
            fault,
            outcome: Outcome {
                detail: String::new(),
                began,
                restored: Some(began + Duration::from_secs(3)),
                hit: vec![0..=100],
                findings: Vec::new(),
            },
            load: LoadReport::default(),
            control: ControlReport::default(),
            unexplained: Vec::new(),
            control_unexplained: Vec::new(),
            peak_bytes: 0,
        }
    }

    fn error(text: &str, command: &str, slot: u16) -> LoadError {
        LoadError {
            at: Instant::now(),
            text: text.to_owned(),
            command: command.to_owned(),
            slot,
            overtaken: false,
        }
    }

    fn with_error(fault: Fault, error: LoadError) -> usize {
        let mut record = record(fault);
        record.load.errors.push(error);
        record.findings().len()
    }

    #[test]
    fn only_uncertain_writes_to_what_was_hit_are_explained() {
        let text = "UNCERTAIN proxy: gone";
        assert_eq!(with_error(Fault::Kill, error(text, "SET", 7)), 0);
        assert_eq!(with_error(Fault::Kill, error(text, "SET", 101)), 1);
        assert_eq!(with_error(Fault::Kill, error(text, "GET", 7)), 1);
        assert_eq!(with_error(Fault::Failover, error(text, "SET", 7)), 1);
        let refused = error("CLUSTERDOWN The cluster is down", "SET", 7);
        assert_eq!(with_error(Fault::Kill, refused), 1);
    }

    #[test]
    fn a_gap_counts_from_the_fault_and_may_last_as_long_as_the_outage_and_some() {
        for (millis, findings) in [(3_400, 0), (3_600, 1)] {
            let mut record = record(Fault::Kill);
            let began = record.outcome.began;
            record.load.gaps.push(Gap {
                client: 0,
                group: 0,
                from: began.checked_sub(Duration::from_millis(200)).unwrap(),
                until: began + Duration::from_millis(millis),
            });
            assert_eq!(record.findings().len(), findings);
        }
    }

    #[test]
    fn violations_losses_and_closed_connections_are_found() {
        let mut record = record(Fault::Kill);
        let violation = |broken| Violation {
            broken,
            text: String::new(),
        };
        record.load.violations = vec![violation(Broken::Reordered), violation(Broken::RanTwice)];
        record.unexplained.push("k=1".to_owned());
        let sent = record.outcome.began + Duration::from_secs(4);
        record.load.lost.push(LostWrite {
            key: "k".to_owned(),
            token: "k=1".to_owned(),
            times: Times {
                sent,
                answered: sent,
            },
        });
        record.load.reconnects = 1;
        assert_eq!(record.findings().len(), 5);
    }
}

//! Which primary enough Sentinels agree on [N12].

use super::super::Address;
use super::{Report, is_one_server};

/// The primary that the Sentinels name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Where it is.
    pub primary: Address,
    /// Its `run_id`, if any of them knows it.
    pub run_id: Option<String>,
    /// Of the configuration that names it.
    pub config_epoch: u64,
    /// How many of them name it in that configuration.
    pub votes: usize,
    /// Whether these are as many as have to agree; else all that answer are fewer than that.
    pub is_quorum: bool,
}

/// Why no primary is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoChoice {
    /// No Sentinel has answered with a primary.
    #[error("no Sentinel names a primary")]
    NoReport,
    /// They do not agree, or too few of them answer.
    #[error("{agreed} of {needed} Sentinels agree on the primary")]
    NoQuorum {
        /// So many name the same one, at most.
        agreed: usize,
        /// So many have to.
        needed: usize,
    },
}

/// What a choice is made by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms<'a> {
    /// How many Sentinels the operator has named.
    pub configured: usize,
    /// How many have to agree; more than half of those there are, if that is not given.
    pub quorum: Option<usize>,
    /// What was chosen before.
    pub current: Option<&'a Choice>,
}

/// The server that enough of `reports`, one of each Sentinel that answered, name in the newest configuration for which that is so; of
/// several names and addresses of it [N19] the one that most of them give.
///
/// While fewer answer than have to agree, all of them are enough for what is newer than the configuration in use, or says the same of it: no
/// more than a failover does an outage of the Sentinels stop the service. That the same configuration has another primary, as each has
/// that was never failed over, is an error of the one that says so.
///
/// Sentinels in TILT count only if no other one answers [N26].
///
/// # Errors
/// If nobody answered, or not enough agree.
pub fn choose(reports: &[Report], terms: Terms<'_>) -> Result<Choice, NoChoice> {
    let sound = reports.iter().filter(|report| !report.tilted);
    let mut counted: Vec<&Report> = sound.collect();
    if counted.is_empty() {
        counted = reports.iter().collect();
    }
    if counted.is_empty() {
        return Err(NoChoice::NoReport);
    }
    let wanted = terms
        .quorum
        .unwrap_or_else(|| majority(&counted, terms.configured));
    let needed = wanted.min(counted.len());
    let votes_of = |report: &Report| {
        let same = |other: &&&Report| {
            other.config_epoch == report.config_epoch
                && is_one_server(
                    (&other.primary, other.run_id.as_deref()),
                    (&report.primary, report.run_id.as_deref()),
                )
        };
        counted.iter().filter(same).count()
    };
    let called_so = |report: &Report| {
        let same = |other: &&&Report| other.primary == report.primary;
        counted.iter().filter(same).count()
    };
    let agreed = counted.iter().map(|report| votes_of(report)).max();
    let newest = counted
        .iter()
        .filter(|report| match votes_of(report) {
            votes if votes >= wanted => true,
            votes => {
                votes >= needed
                    && terms
                        .current
                        .is_none_or(|known| is_no_step_back(report, known))
            }
        })
        .max_by_key(|report| {
            (
                report.config_epoch,
                votes_of(report),
                called_so(report),
                report.run_id.is_some(),
            )
        });
    let Some(newest) = newest else {
        return Err(NoChoice::NoQuorum {
            agreed: agreed.unwrap_or_default(),
            needed: wanted,
        });
    };
    let votes = votes_of(newest);
    Ok(Choice {
        primary: newest.primary.clone(),
        run_id: newest.run_id.clone(),
        config_epoch: newest.config_epoch,
        votes,
        is_quorum: votes >= wanted,
    })
}

fn is_no_step_back(report: &Report, known: &Choice) -> bool {
    let is_same = || report.config_epoch == known.config_epoch && report.names(known);
    report.config_epoch > known.config_epoch || is_same()
}

/// More than half of the Sentinels there are. A Sentinel that was set up anew and knows nobody does not make them fewer, and one that
/// claims to know thousands does not make a choice impossible: what the most of them claim counts.
fn majority(reports: &[&Report], configured: usize) -> usize {
    let mut claimed: Vec<usize> = reports.iter().map(|report| report.sentinels).collect();
    claimed.sort_unstable();
    let median = claimed.get(claimed.len() / 2).copied();
    median.unwrap_or_default().max(configured) / 2 + 1
}

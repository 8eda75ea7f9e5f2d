//! When writes wait for a failover that a Sentinel announces [N16].
//!
//! ```text
//!   announced ---> waits for the promotion ---> waits for a quorum ---> over: another primary is in use
//!                        | ANNOUNCED_MAX              | PROMOTED_MAX, or it is a replica again
//!                        \----------------------------\--> over in vain: writes go on where they went
//! ```
//!
//! From the promotion of a replica until enough Sentinels name it, about a second, the former primary goes on to take writes, all of which
//! are thrown away when it follows the new one. So none is sent to it from the moment at which the Sentinel that leads the failover says that
//! it is about to promote a replica: what was written before has 60 to 100 ms to reach the replica.
//!
//! That is one Sentinel's word, so it moves nothing, and it is believed only of what the primary itself says is its replica, not for long, and
//! after a hold in vain not again for a while.

use std::time::Duration;

use super::super::Address;
use crate::time::Timestamp;

/// The Sentinel does what it has announced at its next tick, a tenth of a second later, or not at all. With `SENTINEL FAILOVER name COORDINATED`
/// the primary then waits for the replica to have everything, which may take a second.
const ANNOUNCED_MAX: Duration = Duration::from_millis(1_500);
/// The Sentinel asks the promoted server for its role every second, then tells the others at its next tick.
const PROMOTED_MAX: Duration = Duration::from_millis(2_500);
/// After a hold in vain no other begins for the first time, doubled each time up to the second.
const SPACING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3_600));

/// A Sentinel is about to make a replica the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The replica.
    pub promoted: Address,
    /// The primary that it is a replica of.
    pub primary: Address,
}

/// How a hold ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldEnd {
    /// Another primary is in use.
    Switched,
    /// The replica was not seen to become a primary.
    NotPromoted,
    /// It was made a replica again.
    Demoted,
    /// It was promoted, but not enough Sentinels have named it.
    NotNamed,
}

/// Whether writes wait, and for whom.
#[derive(Debug, Default)]
pub struct WriteHold {
    held: Option<Held>,
    /// No hold begins before.
    not_before: Timestamp,
    /// Holds in vain since the last switch.
    in_vain: u32,
}

#[derive(Debug)]
struct Held {
    announced: Announcement,
    is_promoted: bool,
    until: Timestamp,
}

impl WriteHold {
    /// Begins if `announced` concerns the primary `in_use`, names one of the `replicas` that this one says it has, and no hold is on or was
    /// in vain shortly before. Whether it did.
    pub fn begin(
        &mut self,
        announced: Announcement,
        in_use: Option<&Address>,
        replicas: &[Address],
        now: Timestamp,
    ) -> bool {
        let is_credible =
            in_use == Some(&announced.primary) && replicas.contains(&announced.promoted);
        if self.held.is_some() || now < self.not_before || !is_credible {
            return false;
        }
        self.held = Some(Held {
            announced,
            is_promoted: false,
            until: now.after(ANNOUNCED_MAX),
        });
        true
    }

    /// Until when writes wait.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        self.held.as_ref().map(|held| held.until)
    }

    /// Who is to be asked for its role.
    #[must_use]
    pub fn promoted(&self) -> Option<&Address> {
        self.held.as_ref().map(|held| &held.announced.promoted)
    }

    /// What the server that is to be promoted says of itself.
    pub fn note_role(&mut self, is_primary: bool, now: Timestamp) -> Option<HoldEnd> {
        let held = self.held.as_mut()?;
        match (held.is_promoted, is_primary) {
            (false, true) => {
                held.is_promoted = true;
                held.until = now.after(PROMOTED_MAX);
            }
            (true, false) => return self.end(HoldEnd::Demoted, now),
            _ => {}
        }
        None
    }

    /// Ends the hold if another primary than that of the announcement is in use, or its time is over.
    pub fn look(&mut self, in_use: Option<&Address>, now: Timestamp) -> Option<HoldEnd> {
        let held = self.held.as_ref()?;
        if in_use.is_some_and(|in_use| *in_use != held.announced.primary) {
            self.held = None;
            self.in_vain = 0;
            return Some(HoldEnd::Switched);
        }
        if now < held.until {
            return None;
        }
        let reason = match held.is_promoted {
            true => HoldEnd::NotNamed,
            false => HoldEnd::NotPromoted,
        };
        self.end(reason, now)
    }

    fn end(&mut self, reason: HoldEnd, now: Timestamp) -> Option<HoldEnd> {
        let (first, most) = SPACING;
        let spacing = first.saturating_mul(1 << self.in_vain.min(16)).min(most);
        self.held = None;
        self.not_before = now.after(spacing);
        self.in_vain = self.in_vain.saturating_add(1);
        Some(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Address {
        address.parse().unwrap()
    }

    fn millis(millis: u64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    fn announcement(promoted: &str) -> Announcement {
        Announcement {
            promoted: at(promoted),
            primary: at("a:1"),
        }
    }

    /// The server at `a:1` with the replica `b:1` is in use.
    fn begins(hold: &mut WriteHold, promoted: &str, now: Timestamp) -> bool {
        hold.begin(announcement(promoted), Some(&at("a:1")), &[at("b:1")], now)
    }

    #[test]
    fn lasts_until_the_promoted_server_is_in_use() {
        let mut hold = WriteHold::default();
        assert!(begins(&mut hold, "b:1", millis(0)));
        assert_eq!(hold.promoted(), Some(&at("b:1")));
        assert_eq!(hold.note_role(false, millis(50)), None);
        assert_eq!(hold.until(), Some(millis(1500)));
        assert_eq!(hold.note_role(true, millis(70)), None);
        assert_eq!(hold.note_role(true, millis(1000)), None);
        assert_eq!(hold.until(), Some(millis(2570)), "from the first time");
        assert_eq!(hold.look(Some(&at("a:1")), millis(1100)), None);
        assert_eq!(hold.look(None, millis(1100)), None, "the former was left");
        let end = hold.look(Some(&at("b:1")), millis(1200));
        assert_eq!(end, Some(HoldEnd::Switched));
        assert_eq!(hold.until(), None);
    }

    #[test]
    fn begins_for_a_replica_of_the_primary_in_use_only() {
        let mut hold = WriteHold::default();
        assert!(!begins(&mut hold, "c:1", millis(0)), "no replica of it");
        let replicas = [at("b:1")];
        for in_use in [None, Some(at("d:1"))] {
            let announced = announcement("b:1");
            assert!(!hold.begin(announced, in_use.as_ref(), &replicas, millis(0)));
        }
        assert!(begins(&mut hold, "b:1", millis(0)));
    }

    /// A Sentinel that lies all the time holds writes for one and a half seconds, again a minute later, then two minutes later.
    #[test]
    fn one_that_was_in_vain_is_followed_by_none_for_a_while() {
        let mut hold = WriteHold::default();
        let mut held = 0;
        for tick in 0..36_000 {
            let now = millis(tick * 100);
            held += u64::from(hold.until().is_some());
            hold.look(Some(&at("a:1")), now);
            begins(&mut hold, "b:1", now);
        }
        let seconds = held / 10;
        assert!((8..=9).contains(&seconds), "{seconds} s of an hour");
    }

    #[test]
    fn is_not_made_longer_by_another_announcement() {
        let mut hold = WriteHold::default();
        assert!(begins(&mut hold, "b:1", millis(0)));
        assert!(!begins(&mut hold, "b:1", millis(1_400)));
        let end = hold.look(Some(&at("a:1")), millis(1_500));
        assert_eq!(end, Some(HoldEnd::NotPromoted));
    }

    #[test]
    fn ends_when_the_promotion_is_taken_back_or_no_quorum_names_it() {
        let mut hold = WriteHold::default();
        assert!(begins(&mut hold, "b:1", millis(0)));
        assert_eq!(hold.note_role(true, millis(100)), None);
        assert_eq!(hold.note_role(false, millis(200)), Some(HoldEnd::Demoted));
        assert!(!begins(&mut hold, "b:1", millis(60_199)));
        assert!(begins(&mut hold, "b:1", millis(60_200)));
        hold.note_role(true, millis(60_300));
        let end = hold.look(Some(&at("a:1")), millis(62_800));
        assert_eq!(end, Some(HoldEnd::NotNamed));
        assert_eq!(hold.note_role(true, millis(62_900)), None);
    }

    #[test]
    fn a_switch_makes_up_for_holds_in_vain() {
        let mut hold = WriteHold::default();
        assert!(begins(&mut hold, "b:1", millis(0)));
        hold.look(Some(&at("a:1")), millis(1_500));
        assert!(begins(&mut hold, "b:1", millis(61_500)));
        hold.look(Some(&at("b:1")), millis(62_000));
        assert!(begins(&mut hold, "b:1", millis(63_000)));
        hold.look(Some(&at("a:1")), millis(64_500));
        assert!(begins(&mut hold, "b:1", millis(124_500)));
    }
}

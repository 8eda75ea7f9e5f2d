//! Processor time of processes, from `/proc`.

use std::ops::{Add, Sub};
use std::time::Duration;

use anyhow::{Context, Result};

/// `/proc/PID/stat` counts in hundredths of a second on every Linux, whatever the kernel's own clock is.
const TICK: Duration = Duration::from_millis(10);
/// Fields between the name in parentheses and the user time.
const FIELDS_BEFORE: usize = 11;

/// Processor time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cpu {
    pub(super) user: Duration,
    pub(super) system: Duration,
}

impl Cpu {
    /// Of all threads of a process since its start.
    pub(super) fn of(process: u32) -> Result<Self> {
        Ok(Stat::read(&process.to_string())?.own)
    }

    /// Of several.
    pub(super) fn of_all(processes: &[u32]) -> Result<Self> {
        let mut each = processes.iter().map(|process| Self::of(*process));
        each.try_fold(Self::default(), |sum, cpu| Ok(sum + cpu?))
    }

    /// Of all children of this process that have ended.
    pub(super) fn of_ended_children() -> Result<Self> {
        Ok(Stat::read("self")?.children)
    }

    pub(super) fn total(self) -> Duration {
        self.user + self.system
    }
}

impl Add for Cpu {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            user: self.user + other.user,
            system: self.system + other.system,
        }
    }
}

impl Sub for Cpu {
    type Output = Self;

    /// The kernel derives both parts from samples of a precise sum, so that one of them may go back by a tick.
    fn sub(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

/// What is of interest in `/proc/PID/stat`; see proc_pid_stat(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    own: Cpu,
    children: Cpu,
}

impl Stat {
    fn read(process: &str) -> Result<Self> {
        let file = format!("/proc/{process}/stat");
        let text = std::fs::read_to_string(&file).with_context(|| file.clone())?;
        Self::parse(&text).with_context(|| format!("{file}: {text}"))
    }

    fn parse(text: &str) -> Result<Self> {
        // The name may hold anything, parentheses too, but ends with the last one.
        let (_, fields) = text.rsplit_once(')').context("no name")?;
        let mut fields = fields.split_ascii_whitespace().skip(FIELDS_BEFORE);
        let mut next = || -> Result<Duration> {
            let ticks: u32 = fields.next().context("too few fields")?.parse()?;
            Ok(TICK * ticks)
        };
        let mut cpu = || -> Result<Cpu> {
            Ok(Cpu {
                user: next()?,
                system: next()?,
            })
        };
        Ok(Self {
            own: cpu()?,
            children: cpu()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(user: u64, system: u64) -> Cpu {
        Cpu {
            user: Duration::from_millis(user),
            system: Duration::from_millis(system),
        }
    }

    #[test]
    fn stat_is_read_after_the_last_parenthesis() {
        let text = "42 (a) b (c) S 1 2 3 0 -1 4194560 9 8 7 6 125 31 5 2 20 0 4 0 99 100 200";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(stat.own, cpu(1_250, 310));
        assert_eq!(stat.children, cpu(50, 20));
        assert_eq!(stat.own.total(), Duration::from_millis(1_560));
    }

    #[test]
    fn stat_that_is_cut_is_an_error() {
        assert!(Stat::parse("42 (a) S 1 2 3 0 -1 4194560 9 8 7 6 125").is_err());
        assert!(Stat::parse("").is_err());
    }

    #[test]
    fn a_part_that_goes_back_by_a_tick_counts_as_none() {
        assert_eq!(cpu(30, 10) - cpu(10, 20), cpu(20, 0));
    }

    #[test]
    fn this_process_has_a_stat() {
        assert!(Cpu::of(std::process::id()).is_ok());
        assert!(Cpu::of_ended_children().is_ok());
    }
}

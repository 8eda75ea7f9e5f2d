//! What the system says of this process, from `/proc/self`. A figure that cannot be read is left out.

use std::time::Duration;

/// Clock ticks a second in `/proc/self/stat`: fixed by the Linux ABI (USER_HZ) on every architecture Rust runs on.
const TICKS_PER_SECOND: u64 = 100;

/// Figures of the process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProcessFigures {
    /// Processor time in user mode.
    pub(crate) cpu_user: Option<Duration>,
    /// Processor time in the kernel.
    pub(crate) cpu_system: Option<Duration>,
    /// Memory in RAM.
    pub(crate) resident_bytes: Option<u64>,
    /// Open descriptors, if they were counted.
    pub(super) open_fds: Option<u64>,
    /// Descriptors allowed.
    pub(super) max_fds: Option<u64>,
}

/// As [`read`], with the number of open descriptors. That takes a microsecond for each, and of everybody's time: the kernel holds the
/// table of them meanwhile.
pub(super) fn read_all() -> ProcessFigures {
    let open = std::fs::read_dir("/proc/self/fd");
    ProcessFigures {
        open_fds: open.ok().map(|entries| entries.count() as u64),
        ..read()
    }
}

/// Reads the figures of this process that cost little.
pub(crate) fn read() -> ProcessFigures {
    let text =
        |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let (cpu_user, cpu_system) = cpu(&text("stat")).unzip();
    ProcessFigures {
        cpu_user,
        cpu_system,
        resident_bytes: resident(&text("status")),
        open_fds: None,
        max_fds: max_fds(),
    }
}

/// Descriptors this process may open; `None` if unlimited or unknown.
pub(crate) fn max_fds() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
}

/// Fields 14 and 15 of proc(5) `stat`: user and system time. The second field may hold blanks, so count from its parenthesis.
fn cpu(stat: &str) -> Option<(Duration, Duration)> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut time = || {
        Some(Duration::from_millis(
            fields.next()?.parse::<u64>().ok()? * 1000 / TICKS_PER_SECOND,
        ))
    };
    Some((time()?, time()?))
}

fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_there_on_linux() {
        let figures = read_all();
        assert!(figures.cpu_user.is_some() && figures.cpu_system.is_some());
        assert!(figures.resident_bytes.unwrap() > 1 << 20);
        assert!(figures.open_fds.unwrap() >= 3);
        assert!(figures.max_fds.is_none_or(|max| max >= 3));
    }

    #[test]
    fn process_names_with_blanks_and_parentheses_do_not_shift_the_fields() {
        let stat = "42 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0";
        assert_eq!(
            cpu(stat),
            Some((Duration::from_millis(2500), Duration::from_millis(1500)))
        );
        assert_eq!(cpu("nonsense"), None);
    }
}

//! One test case: a directory for its files, removed at the end, with the logs shown when the case fails.

use anyhow::{Context, Result};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Lines shown of each log when a case fails.
const LOG_LINES: usize = 30;

/// Bytes that must be free in memory for the files of the tests to go there.
const ROOM: u64 = 2 << 30;

static NEXT: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static DIRECTORY: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Runs one test case in a directory of its own. If it fails, the end of every log in it goes to standard error.
///
/// # Errors
/// Those of the body, or if the directory cannot be made.
pub fn case(body: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut guard = Guard {
        directory: new_directory()?,
        passed: false,
    };
    DIRECTORY.with_borrow_mut(|current| *current = Some(guard.directory.clone()));
    let result = body();
    guard.passed = result.is_ok();
    result
}

/// A new directory below that of the running case.
///
/// # Errors
/// Outside of [`case`], or if it cannot be made.
pub fn case_dir(name: &str) -> Result<PathBuf> {
    let parent = DIRECTORY
        .with_borrow(Clone::clone)
        .context("servers and proxies are started inside of harness::case, on its thread")?;
    let directory = parent.join(format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn new_directory() -> Result<PathBuf> {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory = parent().join(format!("slotway-tests-{}-{n}", std::process::id()));
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

/// Where the directories are: in memory if there is room and nothing else was asked for. Servers write the state of their cluster
/// through to the disk, and one that waits for a slow disk looks dead to the others.
fn parent() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let has_room = rustix::fs::statvfs(&memory)
        .is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) >= ROOM);
    if has_room && std::env::var_os("TMPDIR").is_none() {
        memory
    } else {
        std::env::temp_dir()
    }
}

/// Cleans up after a case, also when it panics.
struct Guard {
    directory: PathBuf,
    passed: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        DIRECTORY.with_borrow_mut(|current| *current = None);
        if !self.passed {
            let logs = collect_logs(&self.directory);
            // Nothing more can be done if standard error is closed.
            let _ = std::io::stderr().write_all(logs.as_bytes());
        }
        // A leftover directory in the temporary folder is no reason to fail a case.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn collect_logs(directory: &Path) -> String {
    let mut text = String::new();
    let Ok(entries) = std::fs::read_dir(directory) else {
        return text;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if let Ok(log) = std::fs::read(path.join("log")) {
            let _ = writeln!(text, "--- end of the log of {}", path.display());
            let _ = writeln!(text, "{}", tail(&String::from_utf8_lossy(&log)));
        }
    }
    text
}

/// The last lines of a log.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines
        .get(lines.len().saturating_sub(LOG_LINES)..)
        .unwrap_or_default()
        .join("\n")
}

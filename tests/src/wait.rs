//! Waiting on conditions with a deadline: the only place in the tests where time is allowed to pass.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(5);

/// Lets time pass. Used by the polling below and to play a slow network, never to hope that something has happened.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the harness waits; no worker runs here"
)]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Looks again and again until `probe` gives a value; an error of the probe counts as "not yet".
///
/// # Errors
/// After `deadline`: what was waited for, and the last error of the probe if it had one.
pub fn wait_some<T>(
    deadline: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        let last = match probe() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if started.elapsed() >= deadline {
            match last {
                Some(error) => bail!("not within {deadline:?}: {what}; last error: {error:#}"),
                None => bail!("not within {deadline:?}: {what}"),
            }
        }
        pause(POLL);
    }
}

/// Looks again and again until `probe` says yes; an error of the probe counts as "not yet".
///
/// # Errors
/// After `deadline`: what was waited for, and the last error of the probe if it had one.
pub fn wait_until(
    deadline: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<bool>,
) -> Result<()> {
    wait_some(deadline, what, || Ok(probe()?.then_some(())))
}

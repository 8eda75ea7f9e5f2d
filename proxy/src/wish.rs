//! A wish that workers have and the control thread fulfils.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Made by any number of threads, as often as they like; heard once.
#[derive(Debug, Default)]
pub struct Wish {
    wanted: AtomicBool,
    wake: Notify,
}

impl Wish {
    /// Makes it, or makes it again: one that is known is not told again.
    pub fn want(&self) {
        if !self.wanted.load(Ordering::Relaxed) && !self.wanted.swap(true, Ordering::Relaxed) {
            self.wake.notify_one();
        }
    }

    /// Waits until it was made; it stays until [`Self::take`].
    pub async fn wanted(&self) {
        while !self.wanted.load(Ordering::Relaxed) {
            self.wake.notified().await;
        }
    }

    /// Whether it was made. From here on it is not.
    pub fn take(&self) -> bool {
        self.wanted.swap(false, Ordering::Relaxed)
    }
}

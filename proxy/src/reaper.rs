//! The thread on which big buffers are dropped, so that no worker waits until the system has taken their memory back.

use std::sync::mpsc;

use bytes::BytesMut;
use tokio::sync::oneshot;

use crate::allocator;

/// A buffer, and whom to tell that it is gone.
type Job = (BytesMut, oneshot::Sender<()>);

/// The way to the thread, which ends with the last of these.
#[derive(Clone)]
pub struct Reaper {
    jobs: mpsc::Sender<Job>,
}

impl Reaper {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has none left.
    pub fn start() -> std::io::Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("reaper".into())
            .spawn(move || {
                for (buffer, done) in inbox {
                    drop(buffer);
                    allocator::give_back_unused();
                    // A worker that has ended meanwhile does not care.
                    let _ = done.send(());
                }
            })?;
        Ok(Self { jobs })
    }

    /// Drops a buffer; returns when its memory has been given back.
    pub async fn drop(&self, buffer: BytesMut) {
        let (done, is_done) = oneshot::channel();
        if self.jobs.send((buffer, done)).is_ok() {
            let _ = is_done.await;
        }
    }
}
